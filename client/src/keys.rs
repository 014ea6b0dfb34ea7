//! The directory of a client's keys: `client.key` (secret) and `evaluation.key` (public), with `mesh.json`, `outbox/`,
//! `revealed.json` and, after a key rotation, `old/`.

use std::fs;
use std::path::{Path, PathBuf};

use hermesh_engine::artifact::Format;
use hermesh_engine::{ClientKey, EvaluationKey};
use hermesh_mesh::{SigningKey, TenantId};
use zeroize::Zeroizing;

use crate::files::{self, Audience, Existing};
use crate::outbox::Outbox;
use crate::passphrase::Passphrase;
use crate::revealed::Revealed;
use crate::{Error, Result, vault};

mod rotation;
#[cfg(test)]
mod tests;

const MAGIC: &[u8; 4] = b"HMCK";
const FORMAT: Format =
    Format { oldest: 1, newest: 1, readers: &[], again: "make new keys with `hermesh keygen`" };
/// Magic, version and the length of the tenant's name.
const HEADER_BYTES: usize = 7;
const SEED_BYTES: usize = 32;

/// Largest file of an evaluation key, in bytes. The largest key of the catalogue has 216 MB.
const MAX_EVALUATION_KEY: u64 = 256 << 20;

/// The secrets of a client.
#[derive(Debug)]
pub struct Secret {
    /// Encrypts inputs and decrypts answers.
    pub client: ClientKey,
    /// Signs jobs.
    pub signing: SigningKey,
    /// The name under which a mesh knows the signing key.
    pub tenant: TenantId,
}

impl Secret {
    /// The plain bytes that `vault` encrypts: header, tenant name, seed of the signing key, client key. Each part is
    /// checked when decoded.
    fn encode(&self) -> Zeroizing<Vec<u8>> {
        let (name, client) = (self.tenant.as_str().as_bytes(), self.client.encode());
        // The full capacity at once: a growing vector would leave copies that are not zeroized.
        let length = HEADER_BYTES + name.len() + SEED_BYTES + client.len();
        let mut bytes = Zeroizing::new(Vec::with_capacity(length));
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&(FORMAT.newest as u16).to_le_bytes());
        // Names have at most 64 characters.
        bytes.push(name.len() as u8);
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&*self.signing.to_bytes());
        bytes.extend_from_slice(&client);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self> {
        let other = |found: &str| Error::NotClientKeys { found: found.to_owned() };
        let (header, rest) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or_else(|| other("too few bytes"))?;
        if &header[..4] != MAGIC {
            return Err(other("something else"));
        }
        FORMAT.check("the keys of a client", u16::from_le_bytes([header[4], header[5]]).into())?;
        let (name, rest) =
            rest.split_at_checked(usize::from(header[6])).ok_or_else(|| other("too few bytes"))?;
        let (seed, client) =
            rest.split_first_chunk::<SEED_BYTES>().ok_or_else(|| other("too few bytes"))?;
        let tenant = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        Ok(Self {
            client: ClientKey::decode(client)?,
            signing: SigningKey::from_bytes(seed),
            tenant: tenant.ok_or_else(|| other("a malformed tenant name"))?,
        })
    }
}

/// The directory that `hermesh keygen` makes.
#[derive(Clone, Debug)]
pub struct KeyDirectory(PathBuf);

impl KeyDirectory {
    /// The keys in this directory, which need not exist yet.
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Path of the secret file.
    pub fn client_key(&self) -> PathBuf {
        self.0.join("client.key")
    }

    /// Path of the stored [`Membership`](crate::membership::Membership).
    pub fn membership(&self) -> PathBuf {
        self.0.join("mesh.json")
    }

    /// The jobs that were signed with these keys.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(&self.0.join("outbox"))
    }

    /// The counts of what was shown under these keys and the keys that they have replaced.
    pub fn revealed(&self) -> Revealed {
        Revealed::new(&self.0)
    }

    /// Path of the evaluation key.
    pub fn evaluation_key(&self) -> PathBuf {
        self.0.join("evaluation.key")
    }

    /// Fails if keys exist. Called before the user chooses a passphrase and key generation takes time.
    pub fn check_free(&self) -> Result<()> {
        for path in [self.client_key(), self.evaluation_key()] {
            if path.symlink_metadata().is_ok() {
                return Err(Error::in_file(&path)(Error::AlreadyExists));
            }
        }
        Ok(())
    }

    /// Writes both keys; the secret is encrypted with the passphrase.
    pub fn write(
        &self,
        secret: &Secret,
        evaluation: &EvaluationKey,
        passphrase: &Passphrase,
        existing: Existing,
    ) -> Result<()> {
        fs::create_dir_all(&self.0)
            .map_err(Error::io("create the directory"))
            .map_err(Error::in_file(&self.0))?;
        files::write(&self.evaluation_key(), evaluation.encode(), Audience::Public, existing)?;
        // Last: after a crash in between, the directory has no secret and so does not look complete.
        vault::write(&self.client_key(), &secret.encode(), passphrase, existing)
    }

    /// Reads the secret with the passphrase.
    pub fn read_secret(&self, passphrase: &Passphrase) -> Result<Secret> {
        Self::read_secret_at(&self.client_key(), passphrase)
    }

    fn read_secret_at(path: &Path, passphrase: &Passphrase) -> Result<Secret> {
        let bytes = vault::read(path, passphrase)?;
        Secret::decode(&bytes).map_err(Error::in_file(path))
    }

    /// Reads the evaluation key.
    pub fn read_evaluation_key(&self) -> Result<EvaluationKey> {
        read_evaluation_key(&self.evaluation_key())
    }
}

/// Reads an evaluation key.
pub fn read_evaluation_key(path: &Path) -> Result<EvaluationKey> {
    let bytes = files::read(path, MAX_EVALUATION_KEY)?;
    EvaluationKey::decode(&bytes).map_err(|error| Error::in_file(path)(error.into()))
}

/// The tenant's name if the user chose none. It is derived from the public signing key so that two tenants of one mesh
/// do not get the same name.
pub fn default_tenant(signing: &SigningKey) -> Result<TenantId> {
    let public = signing.verifying_key().to_string();
    let name = format!("tenant-{}", &public[..16]);
    name.parse().map_err(|_| Error::NotClientKeys { found: name })
}
