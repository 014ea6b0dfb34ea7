//! Tokens with which a workload joins: good once, for one name, for a while.
//!
//! Each is a file that holds its digest and what it is for, and whoever takes the file away has used the
//! token; so several processes share a directory without locks, and a restart forgets nothing.

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

/// A join token: 256 random bits, which are nowhere but here. Not printed by `Debug`.
pub struct Token(Zeroizing<[u8; 32]>);

impl Token {
    /// Text of 43 characters, for whoever is to join.
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

/// Why there is no token, or none that counts.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// It is not one.
    #[error("no join token; expected the 43 characters that `hermesh-issuer token` printed")]
    Malformed,
    /// Nothing is known of it.
    #[error("the join token is unknown, or was used already; make a new one")]
    Unknown,
    /// It is too old.
    #[error("the join token for {id} expired at {at} (ms since 1970); make a new one")]
    Expired {
        /// Whom it was for.
        id: SpiffeId,
        /// When.
        at: UnixMillis,
    },
    /// It would be for something for which there are no tokens.
    #[error("no join token for that: {0}")]
    Refused(String),
    /// The directory or a file in it cannot be read or written.
    #[error("join tokens in {}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What is known of a token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    version: u8,
    digest: String,
    identity: String,
    hosts: Vec<String>,
    expires: UnixMillis,
}

/// What a token is for. It counts as used when [`Tokens::consume`] says so.
#[derive(Debug)]
pub(super) struct Joining {
    pub(super) id: SpiffeId,
    pub(super) hosts: Vec<String>,
    path: PathBuf,
}

/// The tokens that have not been used.
#[derive(Debug)]
pub struct Tokens {
    directory: PathBuf,
}

impl Tokens {
    /// Those in a directory, which is made if there is none.
    ///
    /// # Errors
    /// [`TokenError::File`].
    pub fn open(directory: &Path) -> Result<Self, TokenError> {
        files::create_directory(directory).map_err(at(directory))?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// A new token for a workload and, if it is a server, its host names and addresses.
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
        // The name of the file tells only the first bytes.
        if !bool::from(entry.digest.as_bytes().ct_eq(digest.to_string().as_bytes())) {
            return Err(TokenError::Unknown);
        }
        if now >= entry.expires {
            return Err(TokenError::Expired { id, at: entry.expires });
        }
        Ok(Joining { id, hosts: entry.hosts, path })
    }

    /// Uses a token up. Of several who try at the same time, one succeeds.
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
            // What cannot be read is left for a person to look at.
            if read(&path).is_ok_and(|(entry, _)| now >= entry.expires) {
                // Another may have been first.
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
