//! Learning the passphrase that protects a secret key.

use std::ffi::OsString;
use std::io;

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::{Error, Result};

/// A passphrase; zeroized when dropped, redacted when printed.
pub type Passphrase = age::secrecy::SecretString;

/// The environment variable that may carry the passphrase.
pub const VARIABLE: &str = "HERMESH_PASSPHRASE";

/// What the passphrase is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To protect a new secret: asked for twice, since a slip could not be undone.
    Create,
    /// To open an existing secret.
    Open,
}

/// The passphrase from `HERMESH_PASSPHRASE`, else from the terminal, where it is not echoed.
pub fn obtain(purpose: Purpose) -> Result<Passphrase> {
    obtain_from(std::env::var_os(VARIABLE), purpose, |prompt| rpassword::prompt_password(prompt))
}

fn obtain_from(
    variable: Option<OsString>,
    purpose: Purpose,
    mut ask: impl FnMut(&str) -> io::Result<String>,
) -> Result<Passphrase> {
    if let Some(value) = variable {
        let value =
            value.into_string().map_err(|_| Error::PassphraseNotText { variable: VARIABLE })?;
        return not_empty(value.into());
    }
    let mut ask =
        |prompt| ask(prompt).map_err(|source| Error::NoPassphrase { variable: VARIABLE, source });
    match purpose {
        Purpose::Open => not_empty(ask("Passphrase of the secret key: ")?.into()),
        Purpose::Create => {
            let first = not_empty(ask("New passphrase for the secret key: ")?.into())?;
            let second = Zeroizing::new(ask("The same again: ")?);
            if first.expose_secret() != second.as_str() {
                return Err(Error::PassphrasesDiffer);
            }
            Ok(first)
        }
    }
}

fn not_empty(passphrase: Passphrase) -> Result<Passphrase> {
    if passphrase.expose_secret().is_empty() {
        return Err(Error::EmptyPassphrase);
    }
    Ok(passphrase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(list: &[&str]) -> impl FnMut(&str) -> io::Result<String> {
        let mut rest: Vec<String> = list.iter().rev().map(|&s| s.to_owned()).collect();
        move |_| rest.pop().ok_or_else(|| io::Error::other("no terminal"))
    }

    #[test]
    fn the_variable_wins_and_nobody_is_asked() {
        let secret = obtain_from(Some("s3cret".into()), Purpose::Create, answers(&[])).unwrap();
        assert_eq!(secret.expose_secret(), "s3cret");
        assert!(!format!("{secret:?}").contains("s3cret"));
    }

    #[test]
    fn a_new_passphrase_is_asked_for_twice() {
        let same = obtain_from(None, Purpose::Create, answers(&["a", "a"])).unwrap();
        assert_eq!(same.expose_secret(), "a");
        assert!(matches!(
            obtain_from(None, Purpose::Create, answers(&["a", "b"])),
            Err(Error::PassphrasesDiffer)
        ));
        assert!(matches!(
            obtain_from(None, Purpose::Create, answers(&["a"])),
            Err(Error::NoPassphrase { .. })
        ));
        let once = obtain_from(None, Purpose::Open, answers(&["a"])).unwrap();
        assert_eq!(once.expose_secret(), "a");
    }

    #[test]
    fn no_passphrase_and_empty_ones_are_errors() {
        assert!(matches!(
            obtain_from(None, Purpose::Open, answers(&[])),
            Err(Error::NoPassphrase { .. })
        ));
        for variable in [Some("".into()), None] {
            assert!(matches!(
                obtain_from(variable, Purpose::Open, answers(&[""])),
                Err(Error::EmptyPassphrase)
            ));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_text_is_an_error() {
        use std::os::unix::ffi::OsStringExt;
        let variable = Some(OsString::from_vec(vec![0xff]));
        assert!(matches!(
            obtain_from(variable, Purpose::Open, answers(&[])),
            Err(Error::PassphraseNotText { .. })
        ));
    }
}
