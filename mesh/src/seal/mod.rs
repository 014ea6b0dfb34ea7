//! Message signatures: proof of a message's sender, for any later reader, even if the broker is hostile.
//!
//! A message signature is one header. It covers the subject, the reply subject, all headers except those between a
//! client and the broker, the body, the time and a nonce. It carries the signer's certificate chain, so a message that
//! is read back days later can be verified without any request. Messages sent together share one signature, over the
//! root of a Merkle tree (Merkle, CRYPTO 1987; leaves and nodes are told apart as in RFC 9162, section 2.1.1); each
//! message carries its path to the root. This keeps signatures cheap at high message rates and delays no message at low
//! rates.

mod header;
mod tree;

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::{SignatureScheme, pki_types::CertificateDer};
use serde::{Deserialize, Serialize};
use webpki::EndEntityCert;

use self::tree::Tree;
use crate::{
    Digest, Transcript, UnixMillis,
    identity::{CertificateError, Chain, Credentials, Peer, Purpose, Trust},
};

pub use header::{BadHeaders, HeaderBlock};

/// The header that holds the message signature.
pub const SEAL: &str = "Hermesh-Seal";
/// The longest value of that header, with a chain of the largest certificates.
pub const MAX_SEAL: usize = 24 << 10;
/// The most bytes a message signature adds to a message, with certificates of usual size.
pub const SEAL_ROOM: usize = 4 << 10;
/// The most messages that share one signature.
pub const MAX_BATCH: usize = 256;

const VERSION: u8 = 1;
/// How many verified chains, and how many verified signatures, are remembered. When the limit is reached, all are
/// forgotten.
const REMEMBERED: usize = 4096;

/// Why a message signature is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The message is not signed.
    #[error("it has no {SEAL} header; expected one, from the sender's sidecar")]
    Missing,
    /// The message signature or the headers cannot be parsed.
    #[error("{0}; expected one message signature of version {VERSION} and well-formed headers")]
    Malformed(&'static str),
    /// The signature does not match the message.
    #[error("the message signature does not match: the message was altered")]
    Broken,
    /// The signer's certificate is not accepted.
    #[error("the signer's certificate: {0}")]
    Certificate(#[from] CertificateError),
}

impl From<BadHeaders> for SealError {
    fn from(bad: BadHeaders) -> Self {
        Self::Malformed(bad.0)
    }
}

/// The parts of a message that its signature covers.
#[derive(Debug, Clone, Copy)]
pub struct Content<'a> {
    /// The subject it was published to.
    pub subject: &'a str,
    /// The reply subject; empty if the message is stored, because brokers do not store it.
    pub reply: &'a str,
    /// Its headers.
    pub headers: &'a HeaderBlock<'a>,
    /// The SHA-256 of the body.
    pub body: Digest,
}

/// A random number that makes each message unique.
pub type Nonce = [u8; 16];

#[derive(Serialize, Deserialize)]
struct Form {
    version: u8,
    time: u64,
    nonce: Nonce,
    sides: u16,
    path: Vec<[u8; 32]>,
    scheme: u16,
    signature: Vec<u8>,
    chain: Vec<Vec<u8>>,
}

impl Content<'_> {
    fn transcript(&self, time: UnixMillis, nonce: &Nonce) -> Transcript {
        let headers = self.headers.sealed();
        let transcript = Transcript::new("hermesh message v1")
            .field(self.subject.as_bytes())
            .field(self.reply.as_bytes())
            .number(time.0)
            .field(nonce)
            .field(&self.body.0)
            .number(headers.clone().count() as u64);
        headers.fold(transcript, |transcript, (name, value)| transcript.field(name).field(value))
    }
}

fn statement(root: &[u8; 32]) -> Transcript {
    Transcript::new("hermesh seal v1").field(root)
}

/// Signs messages that are sent together, at most [`MAX_BATCH`]. Returns the header values in order.
///
/// # Errors
/// [`SealError::Certificate`] if the key cannot sign.
pub fn seal(
    credentials: &Credentials,
    contents: &[Content<'_>],
    time: UnixMillis,
) -> Result<Vec<String>, SealError> {
    debug_assert!(contents.len() <= MAX_BATCH, "{} messages", contents.len());
    if contents.is_empty() {
        return Ok(Vec::new());
    }
    let nonces: Vec<Nonce> = contents.iter().map(|_| rand::random()).collect();
    let leaves = contents.iter().zip(&nonces);
    let leaves =
        leaves.map(|(content, nonce)| tree::leaf(content.transcript(time, nonce).as_bytes()));
    let tree = Tree::new(leaves.collect());
    let (scheme, signature) = credentials.sign(statement(&tree.root()).as_bytes())?;
    let chain: Vec<Vec<u8>> =
        credentials.chain().certificates().iter().map(|der| der.to_vec()).collect();
    let value = |(place, nonce)| {
        let (sides, path) = tree.path(place);
        let form = Form {
            version: VERSION,
            time: time.0,
            nonce,
            sides,
            path,
            scheme: scheme.into(),
            signature: signature.clone(),
            chain: chain.clone(),
        };
        let bytes = postcard::to_allocvec(&form).map_err(|_| SealError::Malformed("too long"))?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
    };
    nonces.into_iter().enumerate().map(value).collect()
}

/// The content of a valid message signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The signer.
    pub peer: Peer,
    /// Time of signing by the signer's clock; the certificate was valid then.
    pub time: UnixMillis,
    /// The message's nonce.
    pub nonce: Nonce,
}

/// Verifies message signatures and caches the results.
#[derive(Debug)]
pub struct Verifier {
    trust: Trust,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    chains: HashMap<Digest, Peer>,
    roots: HashMap<Digest, ()>,
}

impl Verifier {
    /// A verifier that trusts the roots in `trust`.
    pub fn new(trust: Trust) -> Self {
        Self { trust, known: Mutex::default() }
    }

    /// The trusted roots.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Verifies the message signature and returns the signer. The caller checks whether the signer may send this
    /// message and whether it is too old.
    ///
    /// # Errors
    /// The signature is missing or malformed, does not match, or its signer is not trusted.
    pub fn verify(&self, content: &Content<'_>) -> Result<Sealed, SealError> {
        let value = content.headers.seal()?.ok_or(SealError::Missing)?;
        if value.len() > MAX_SEAL {
            return Err(SealError::Malformed("a message signature of more than 24 KiB"));
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(value);
        let bytes =
            bytes.map_err(|_| SealError::Malformed("a message signature that is not base64"))?;
        let form: Form = match postcard::take_from_bytes(&bytes) {
            Ok((form, [])) => form,
            _ => return Err(SealError::Malformed("a message signature that cannot be decoded")),
        };
        if form.version != VERSION {
            return Err(SealError::Malformed("a message signature of another version"));
        }
        let time = UnixMillis(form.time);
        let leaf = tree::leaf(content.transcript(time, &form.nonce).as_bytes());
        let root = tree::root(leaf, form.sides, &form.path)
            .ok_or(SealError::Malformed("a path that is too long"))?;
        let (id, chain) = chain(form.chain)?;
        let peer = self.peer(id, &chain, time)?;
        self.signature(id, &chain, &root, form.scheme, &form.signature)?;
        Ok(Sealed { peer, time, nonce: form.nonce })
    }

    fn peer(&self, id: Digest, chain: &Chain, time: UnixMillis) -> Result<Peer, SealError> {
        let known = self.known().chains.get(&id).cloned();
        let valid = |peer: &Peer| (peer.not_before..=peer.not_after).contains(&time);
        if let Some(peer) = known.filter(valid) {
            return Ok(peer);
        }
        let peer = self.trust.verify(chain, Purpose::Client, time)?;
        remember(&mut self.known().chains, id, peer.clone());
        Ok(peer)
    }

    fn signature(
        &self,
        id: Digest,
        chain: &Chain,
        root: &[u8; 32],
        scheme: u16,
        signature: &[u8],
    ) -> Result<(), SealError> {
        let statement = statement(root);
        let all = Transcript::new("known").field(&id.0).field(root).number(scheme.into());
        let all = Digest::of(all.field(signature).as_bytes());
        if self.known().roots.contains_key(&all) {
            return Ok(());
        }
        let leaf = EndEntityCert::try_from(&chain.certificates()[0])
            .map_err(|_| CertificateError::Malformed("a leaf that is not a certificate"))?;
        let scheme = SignatureScheme::from(scheme);
        let mapping = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let algorithms = mapping.mapping.iter().find(|(of, _)| *of == scheme);
        let (_, algorithms) = algorithms.ok_or(SealError::Malformed("an unknown scheme"))?;
        let holds = algorithms.iter().any(|algorithm| {
            leaf.verify_signature(*algorithm, statement.as_bytes(), signature).is_ok()
        });
        if !holds {
            return Err(SealError::Broken);
        }
        remember(&mut self.known().roots, all, ());
        Ok(())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remember<T>(known: &mut HashMap<Digest, T>, id: Digest, what: T) {
    if known.len() >= REMEMBERED {
        known.clear();
    }
    known.insert(id, what);
}

fn chain(chain: Vec<Vec<u8>>) -> Result<(Digest, Chain), SealError> {
    let all = chain.iter().fold(Transcript::new("chain"), |all, one| all.field(one));
    let chain = Chain::new(chain.into_iter().map(CertificateDer::from).collect())?;
    Ok((Digest::of(all.as_bytes()), chain))
}
