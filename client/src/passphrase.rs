//! Obtains the passphrase that protects a client key, from the environment or the terminal.

use std::ffi::OsString;
use std::io;

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

use crate::{Error, Result};

/// A passphrase; zeroized when dropped, redacted when printed.
pub type Passphrase = age::secrecy::SecretString;

/// The environment variable that may carry the passphrase.
pub const VARIABLE: &str = "HERMESH_PASSPHRASE";

/// log10 of the guesses that a new passphrase must withstand, estimated by zxcvbn (Wheeler, *zxcvbn: Low-Budget
/// Password Strength Estimation*, USENIX Security 2016). zxcvbn models a guessing program that tries leaked passwords,
/// words, names, dates, keyboard patterns and repetitions.
///
/// An attacker with a copy of a key file can guess without limit, but each guess costs about a second of a core and 256
/// MiB (see `vault`). 10¹² guesses take ten thousand cores three years. zxcvbn's highest score begins at 10¹⁰, which
/// would take them twelve days: too little for a key that decrypts everything.
const LEAST_GUESSES_LOG10: u32 = 12;

/// Use of the passphrase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To protect a new secret. The user enters it twice, because a typing error could not be undone; weak ones are
    /// refused.
    Create,
    /// To open an existing secret.
    Open,
}

/// Reads the passphrase from `HERMESH_PASSPHRASE`, else from the terminal, without echo.
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
        let value = not_empty(value.into())?;
        return match purpose {
            Purpose::Open => Ok(value),
            Purpose::Create => strong(value),
        };
    }
    let mut ask =
        |prompt| ask(prompt).map_err(|source| Error::NoPassphrase { variable: VARIABLE, source });
    match purpose {
        Purpose::Open => not_empty(ask("Passphrase of the client key: ")?.into()),
        Purpose::Create => {
            let first = not_empty(ask("New passphrase for the client key: ")?.into())?;
            let first = strong(first)?;
            let second = Zeroizing::new(ask("Repeat the passphrase: ")?);
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

/// Refuses weak passphrases. Only for new secrets: an existing secret must open with the passphrase it has.
fn strong(passphrase: Passphrase) -> Result<Passphrase> {
    let estimate = zxcvbn::zxcvbn(passphrase.expose_secret(), &["hermesh"]);
    if estimate.guesses_log10() >= f64::from(LEAST_GUESSES_LOG10) {
        return Ok(passphrase);
    }
    // A fixed text of zxcvbn, which contains nothing of the passphrase.
    let warning = estimate.feedback().and_then(|feedback| feedback.warning());
    Err(Error::WeakPassphrase {
        found: estimate.guesses_log10().max(0.0) as u32,
        least: LEAST_GUESSES_LOG10,
        why: warning.map_or(String::new(), |warning| {
            format!(" ({})", warning.to_string().trim_end_matches('.'))
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRONG: &str = "lantern-orbit-pickle-meadow";

    fn answers(list: &[&str]) -> impl FnMut(&str) -> io::Result<String> {
        let mut rest: Vec<String> = list.iter().rev().map(|&s| s.to_owned()).collect();
        move |_| rest.pop().ok_or_else(|| io::Error::other("no terminal"))
    }

    #[test]
    fn the_variable_wins_and_nobody_is_asked() {
        for (purpose, text) in [(Purpose::Create, STRONG), (Purpose::Open, "s3cret")] {
            let secret = obtain_from(Some(text.into()), purpose, answers(&[])).unwrap();
            assert_eq!(secret.expose_secret(), text);
            assert!(!format!("{secret:?}").contains(text));
        }
    }

    #[test]
    fn a_new_passphrase_is_asked_for_twice() {
        let same = obtain_from(None, Purpose::Create, answers(&[STRONG, STRONG])).unwrap();
        assert_eq!(same.expose_secret(), STRONG);
        assert!(matches!(
            obtain_from(None, Purpose::Create, answers(&[STRONG, "b"])),
            Err(Error::PassphrasesDiffer)
        ));
        assert!(matches!(
            obtain_from(None, Purpose::Create, answers(&[STRONG])),
            Err(Error::NoPassphrase { .. })
        ));
        let once = obtain_from(None, Purpose::Open, answers(&["a"])).unwrap();
        assert_eq!(once.expose_secret(), "a");
    }

    #[test]
    fn weak_ones_are_refused_for_new_secrets_only() {
        for weak in [
            "a",
            "password",
            "correcthorse",
            "Tr0ub4dor&3",
            "hermesh-hermesh-hermesh",
            "qwertyuiop[]asdfghjkl",
            "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
            "1987-06-05",
            "of-a-test",
            // Eleven random characters.
            "x7Kq!mW2vZe",
        ] {
            let refused = obtain_from(Some(weak.into()), Purpose::Create, answers(&[]));
            let Err(error @ Error::WeakPassphrase { .. }) = refused else { panic!("{weak}") };
            let said = error.to_string();
            assert!(!said.contains(weak) || weak == "a" || weak == "password", "{said}");
            // Before the second prompt.
            let refused = obtain_from(None, Purpose::Create, answers(&[weak]));
            assert!(matches!(refused, Err(Error::WeakPassphrase { .. })), "{weak}");
            obtain_from(Some(weak.into()), Purpose::Open, answers(&[])).unwrap();
            obtain_from(None, Purpose::Open, answers(&[weak])).unwrap();
        }
        for strong in [
            STRONG,
            "quiet harbour seven lanterns",
            // Twelve random characters.
            "x7Kq!mW2vZeP",
            "9f86d081884c7d659a2feaa0c55ad015",
            "Straße über žluťoučký kůň",
            &"long ".repeat(100_000).replace("long long", "x7Kq!mW2 vZeP4r"),
        ] {
            let taken = obtain_from(Some(strong.into()), Purpose::Create, answers(&[]));
            assert!(taken.is_ok(), "{taken:?} {strong:.40}");
        }
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
