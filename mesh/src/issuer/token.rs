//! Join tokens: each is valid once, for one workload, for a limited time.
//!
//! Each token is a file that holds the token's digest and its purpose. Removing the file uses the token up. Several
//! processes can therefore share a directory without locks, and tokens survive a restart.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::ServerName;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    files::{self, Existing},
    issue::joins,
};
use crate::{Digest, UnixMillis, identity::SpiffeId};

/// The most host names of one token.
pub const MAX_HOSTS: usize = 16;

const VERSION: u8 = 1;

/// A join token: 256 random bits, of which the issuer stores only the digest. Not printed by `Debug`.
pub struct Token(Zeroizing<[u8; 32]>);

impl Token {
    /// The token as text of 43 characters, to be given to the workload.
    pub fn reveal(&self) -> Zeroizing<String> {
        BASE64_URL_SAFE_NO_PAD.encode(*self.0).into()
    }

    fn random() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    fn digest(&self) -> Digest {
        Digest::of(&*self.0)
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut bytes = Zeroizing::new([0; 32]);
        let read = BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut *bytes);
        if read == Ok(bytes.len()) { Ok(Self(bytes)) } else { Err(TokenError::Malformed) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(redacted)")
    }
}

/// Why there is no valid token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The text is not a token.
    #[error("no join token; expected the 43 characters that `hermesh-issuer token` printed")]
    Malformed,
    /// No such token is stored.
    #[error("the join token is unknown, or was used already; make a new one")]
    Unknown,
    /// The token has expired.
    #[error("the join token for {id} expired at {at} (ms since 1970); make a new one")]
    Expired {
        /// The workload it was for.
        id: SpiffeId,
        /// When it expired.
        at: UnixMillis,
    },
    /// Tokens are not issued for this workload or these hosts.
    #[error("no join token for that: {0}")]
    Refused(String),
    /// The directory or a file in it cannot be read or written.
    #[error("join tokens in {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// The content of a token file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u8,
    digest: String,
    identity: String,
    hosts: Vec<String>,
    expires: UnixMillis,
}

/// The purpose of a token. The token is used up only when [`Tokens::consume`] succeeds.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) id: SpiffeId,
    pub(super) hosts: Vec<String>,
    path: PathBuf,
}

/// The unused tokens.
#[derive(Debug)]
pub struct Tokens {
    directory: PathBuf,
}

impl Tokens {
    /// The tokens in a directory, which is created if necessary.
    ///
    /// # Errors
    /// [`TokenError::File`].
    pub fn open(directory: &Path) -> Result<Self, TokenError> {
        files::create_directory(directory).map_err(at(directory))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// Creates a token for a workload and, if it is a server, its host names and addresses.
    ///
    /// # Errors
    /// [`TokenError::Refused`], [`TokenError::File`].
    pub fn create(
        &self,
        id: &SpiffeId,
        hosts: &[String],
        now: UnixMillis,
        lifetime: Duration,
    ) -> Result<Token, TokenError> {
        joins(id)?;
        if hosts.len() > MAX_HOSTS {
            let told = format!("{} host names; expected at most {MAX_HOSTS}", hosts.len());
            return Err(TokenError::Refused(told));
        }
        if let Some(host) = hosts.iter().find(|host| ServerName::try_from(host.as_str()).is_err()) {
            let told = format!("{host:?} as a host; expected a DNS name or an IP address");
            return Err(TokenError::Refused(told));
        }
        self.forget_expired(now)?;
        let token = Token::random();
        let digest = token.digest();
        let entry = Entry {
            version: VERSION,
            digest: digest.to_string(),
            identity: id.to_string(),
            hosts: hosts.to_vec(),
            expires: now.plus(lifetime),
        };
        let path = self.path(&digest);
        let json = serde_json::to_vec_pretty(&entry).map_err(|error| at(&path)(error.into()))?;
        files::write_secret(&path, &json, Existing::Keep).map_err(at(&path))?;
        Ok(token)
    }

    /// Finds a token.
    pub(super) fn find(&self, token: &Token, now: UnixMillis) -> Result<Joining, TokenError> {
        let digest = token.digest();
        let path = self.path(&digest);
        let (entry, id) = match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(TokenError::Unknown);
            }
            read => read.map_err(at(&path))?,
        };
        // The file name contains only the first bytes of the digest.
        if !bool::from(entry.digest.as_bytes().ct_eq(digest.to_string().as_bytes())) {
            return Err(TokenError::Unknown);
        }
        if now >= entry.expires {
            return Err(TokenError::Expired { id, at: entry.expires });
        }
        Ok(Joining { id, hosts: entry.hosts, path })
    }

    /// Uses a token up. Of several concurrent callers, one succeeds.
    pub(super) fn consume(&self, joining: &Joining) -> Result<(), TokenError> {
        match files::remove(&joining.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(TokenError::Unknown),
            removed => removed.map_err(at(&joining.path)),
        }
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.directory.join(format!("{}.json", digest.short()))
    }

    fn forget_expired(&self, now: UnixMillis) -> Result<(), TokenError> {
        let error = at(&self.directory);
        for file in fs::read_dir(&self.directory).map_err(&error)? {
            let path = file.map_err(&error)?.path();
            // Unreadable files are left for the operator to inspect.
            if read(&path).is_ok_and(|(entry, _)| now >= entry.expires) {
                // Another process may have removed it first.
                let _ = files::remove(&path);
            }
        }
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<(Entry, SpiffeId)> {
    let bad = |told: String| io::Error::new(io::ErrorKind::InvalidData, told);
    let entry: Entry = serde_json::from_slice(&files::read(path)?)?;
    if entry.version != VERSION {
        return Err(bad(format!("version {}; expected {VERSION}", entry.version)));
    }
    let id = entry.identity.parse().map_err(|error: crate::Error| bad(error.to_string()))?;
    Ok((entry, id))
}

fn at(path: &Path) -> impl Fn(io::Error) -> TokenError {
    |source| TokenError::File { path: path.to_owned(), source }
}
