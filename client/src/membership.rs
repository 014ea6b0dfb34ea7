//! The stored membership in a mesh (`mesh.json`): its address and the receipt signing keys to trust.

use hermesh_engine::Error as EngineError;
use hermesh_engine::artifact::Format;
use hermesh_mesh::{Digest, TenantId, UnixMillis, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::connection::MeshAddress;
use crate::files::{self, Audience, Existing};
use crate::keys::KeyDirectory;
use crate::{Error, Result};

/// Largest file, in bytes.
const MAX_FILE: u64 = 1 << 16;
/// Version 1 is the same without the digest.
const FORMAT: Format =
    Format { oldest: 1, newest: 2, readers: &[], again: "run `hermesh tenant register` again" };
const WITHOUT_DIGEST: u32 = 1;
/// Name of the file in error messages.
const WHAT: &str = "mesh.json";

/// A tenant's membership in a mesh. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The mesh's address.
    pub mesh: MeshAddress,
    /// The tenant's name.
    pub tenant: TenantId,
    /// The key that verifies the tenant's signatures.
    pub signing_key: VerifyingKey,
    /// The receipt signing keys that the client trusts.
    pub service_keys: Vec<VerifyingKey>,
    /// When the tenant was registered.
    pub registered: UnixMillis,
}

/// The fields of the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    mesh: String,
    tenant: String,
    signing_key: String,
    service_keys: Vec<String>,
    /// Milliseconds since 1970.
    registered: UnixMillis,
    /// Digest of all other fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// The field that every version of the file has.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Form {
    /// SHA-256 of the fields as compact JSON, in their order, without the digest. It does not depend on indentation.
    fn digest(&mut self) -> Result<String> {
        self.digest = None;
        Ok(Digest::of(&serde_json::to_vec(self).map_err(not_ours)?).to_string())
    }
}

impl Membership {
    /// The membership stored in this directory, if any.
    ///
    /// # Errors
    /// The file cannot be read, or hermesh did not write it.
    pub fn read(keys: &KeyDirectory) -> Result<Option<Self>> {
        let path = keys.membership();
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let bytes = files::read(&path, MAX_FILE)?;
        Self::decode(&bytes).map(Some).map_err(Error::in_file(&path))
    }

    /// Stores the membership.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, keys: &KeyDirectory) -> Result<()> {
        // The content is not secret, but an attacker who can alter the file can forge receipts.
        files::write(&keys.membership(), &self.encode()?, Audience::Owner, Existing::Replace)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let mut form = Form {
            version: FORMAT.newest,
            mesh: self.mesh.to_string(),
            tenant: self.tenant.to_string(),
            signing_key: self.signing_key.to_string(),
            service_keys: self.service_keys.iter().map(ToString::to_string).collect(),
            registered: self.registered,
            digest: None,
        };
        form.digest = Some(form.digest()?);
        let mut bytes = serde_json::to_vec_pretty(&form).map_err(not_ours)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        // The version first, because another version may have other fields.
        let Versioned { version } = serde_json::from_slice(bytes).map_err(not_ours)?;
        FORMAT.check(WHAT, version)?;
        let mut form: Form = serde_json::from_slice(bytes).map_err(not_ours)?;
        let stated = form.digest.take();
        if stated.is_some() != (version > WITHOUT_DIGEST)
            || stated.is_some_and(|stated| form.digest().is_ok_and(|digest| digest != stated))
        {
            return Err(EngineError::Damaged { what: WHAT, mend: FORMAT.again }.into());
        }
        let keys = form.service_keys.iter().map(|key| key.parse());
        let keys: std::result::Result<_, hermesh_mesh::Error> = keys.collect();
        Ok(Self {
            mesh: form.mesh.parse().map_err(not_ours)?,
            tenant: form.tenant.parse().map_err(not_ours)?,
            signing_key: form.signing_key.parse().map_err(not_ours)?,
            service_keys: keys.map_err(not_ours)?,
            registered: form.registered,
        })
    }
}

fn not_ours(found: impl ToString) -> Error {
    Error::NotMembership { found: found.to_string() }
}

/// The receipt signing keys to trust from now on: the `pinned` ones; else the `stored` ones; the `stated` ones on first
/// use or if the user accepts the change.
///
/// # Errors
/// [`Error::NoServiceKey`], [`Error::ServiceKeysChanged`], [`Error::PinnedKeyAbsent`].
pub fn trusted(
    stored: &[VerifyingKey],
    stated: &[VerifyingKey],
    pinned: &[VerifyingKey],
    accept_change: bool,
) -> Result<Vec<VerifyingKey>> {
    if stated.is_empty() {
        return Err(Error::NoServiceKey);
    }
    if !pinned.is_empty() {
        return match pinned.iter().any(|key| stated.contains(key)) {
            true => Ok(pinned.to_vec()),
            false => Err(Error::PinnedKeyAbsent { stated: list(stated) }),
        };
    }
    let known = stated.iter().all(|key| stored.contains(key));
    match known {
        true => Ok(stored.to_vec()),
        false if stored.is_empty() || accept_change => Ok(stated.to_vec()),
        false => Err(Error::ServiceKeysChanged { stored: list(stored), stated: list(stated) }),
    }
}

fn list(keys: &[VerifyingKey]) -> String {
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use hermesh_mesh::SigningKey;

    use super::*;

    fn key() -> VerifyingKey {
        SigningKey::generate().verifying_key()
    }

    fn membership() -> Membership {
        Membership {
            mesh: "nats://127.0.0.1:4222".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            signing_key: key(),
            service_keys: vec![key(), key()],
            registered: UnixMillis(1_700_000_000_000),
        }
    }

    #[test]
    fn a_membership_is_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let keys = KeyDirectory::new(directory.path());
        assert_eq!(Membership::read(&keys).unwrap(), None);
        let membership = membership();
        membership.write(&keys).unwrap();
        assert_eq!(Membership::read(&keys).unwrap(), Some(membership));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = keys.membership().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let good = String::from_utf8(membership().encode().unwrap()).unwrap();
        for bad in [
            good.replace("\"mesh\"", "\"mess\""),
            good.replace("\"version\"", "\"versions\""),
            good[..good.len() / 2].to_owned(),
            String::new(),
        ] {
            let refused = Membership::decode(bad.as_bytes());
            assert!(matches!(refused, Err(Error::NotMembership { .. })), "{bad}");
        }
        // A later version may have any field.
        let later = Membership::decode(b"{\"version\": 3, \"more\": []}");
        let Err(Error::Engine(EngineError::WrongVersion { version, .. })) = later else {
            panic!("{later:?}")
        };
        assert_eq!(version.found, 3);
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let membership = membership();
        let good = membership.encode().unwrap();
        for bit in 0..8 * good.len() {
            let mut damaged = good.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Membership::decode(&damaged).is_err(), "bit {bit}");
        }
        let text = String::from_utf8(good).unwrap();
        for bad in [
            text.replace("4222", "4223"),
            text.replace("\"acme\"", "\"acmf\""),
            text.replace("\"version\": 2", "\"version\": 1"),
        ] {
            let refused = Membership::decode(bad.as_bytes());
            assert!(matches!(refused, Err(Error::Engine(EngineError::Damaged { .. }))), "{bad}");
        }
        // A file without a digest is damaged unless it states version 1, which has none.
        let at = text.find(",\n  \"digest\"").unwrap();
        let bare = text[..at].to_owned() + "\n}\n";
        let refused = Membership::decode(bare.as_bytes());
        assert!(matches!(refused, Err(Error::Engine(EngineError::Damaged { .. }))));
        let first = bare.replace("\"version\": 2", "\"version\": 1");
        assert_eq!(Membership::decode(first.as_bytes()).unwrap(), membership);
    }

    #[test]
    fn the_first_keys_are_trusted_and_no_others() {
        let (a, b) = (key(), key());
        assert_eq!(trusted(&[], &[a], &[], false).unwrap(), [a]);
        assert_eq!(trusted(&[a, b], &[a], &[], false).unwrap(), [a, b]);
        let changed = trusted(&[a], &[a, b], &[], false);
        assert!(matches!(changed, Err(Error::ServiceKeysChanged { .. })));
        assert_eq!(trusted(&[a], &[b], &[], true).unwrap(), [b]);
        assert!(matches!(trusted(&[a], &[], &[], true), Err(Error::NoServiceKey)));
    }

    #[test]
    fn pinned_keys_go_before_all_others() {
        let (a, b) = (key(), key());
        assert_eq!(trusted(&[a], &[a, b], &[b], false).unwrap(), [b]);
        let absent = trusted(&[], &[a], &[b], true);
        assert!(matches!(absent, Err(Error::PinnedKeyAbsent { .. })));
    }
}
