//! Ed25519 keys, signatures, and the bytes that signatures cover.

use std::{fmt, str::FromStr};

use ed25519_dalek::Signer as _;
use zeroize::Zeroizing;

use crate::{
    Error,
    ids::{hex, unhex},
};

/// A secret signing key of a tenant or a service; wiped from memory when dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A fresh key from the system's generator.
    pub fn generate() -> Self {
        let seed = Zeroizing::new(rand::random::<[u8; 32]>());
        Self::from_bytes(&seed)
    }

    /// The key with this secret seed.
    pub fn from_bytes(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// The secret seed. It may be stored only encrypted under a passphrase.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs a transcript.
    pub fn sign(&self, transcript: &Transcript) -> Signature {
        Signature(self.0.sign(&transcript.0).to_bytes())
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(redacted)")
    }
}

/// The public half of a [`SigningKey`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Checks `signature` over `transcript`. `what` names the signed object in the error.
    pub fn verify(
        &self,
        what: &'static str,
        transcript: &Transcript,
        signature: &Signature,
    ) -> Result<(), Error> {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        // Strict verification rejects small-order keys, under which one signature could fit many
        // messages.
        self.0.verify_strict(&transcript.0, &signature).map_err(|_| Error::BadSignature { what })
    }

    /// The key's 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0.as_bytes()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for VerifyingKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        unhex(text)
            .and_then(|bytes| ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok())
            .map(Self)
            .ok_or(Error::Malformed {
                what: "verifying key",
                expected: "an ed25519 public key of 64 lower-case hexadecimal digits",
            })
    }
}

/// An ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// The signature's first bytes in hexadecimal: enough to distinguish a tenant's signatures
    /// under one job id.
    pub(crate) fn short(&self) -> String {
        hex(&self.0[..8])
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Signature {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        unhex(text).map(Self).ok_or(Error::Malformed {
            what: "signature",
            expected: "128 lower-case hexadecimal digits",
        })
    }
}

/// The bytes that a signature covers: a domain and fields, each preceded by its length as a
/// big-endian `u64`, so that different lists of fields never give the same bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transcript(Vec<u8>);

impl Transcript {
    /// An empty transcript for one kind of statement; the domain is for example `hermesh job v1`.
    pub fn new(domain: &str) -> Self {
        Self(Vec::new()).field(domain.as_bytes())
    }

    /// Appends a field.
    #[must_use]
    pub fn field(mut self, bytes: &[u8]) -> Self {
        self.0.extend((bytes.len() as u64).to_be_bytes());
        self.0.extend(bytes);
        self
    }

    /// The signed bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Appends a number, as eight big-endian bytes.
    #[must_use]
    pub fn number(self, number: u64) -> Self {
        self.field(&number.to_be_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_transcript_only() {
        let key = SigningKey::generate();
        let signed = Transcript::new("test").field(b"ab").field(b"c");
        let signature = key.sign(&signed);
        let verify = |transcript| key.verifying_key().verify("test", &transcript, &signature);
        assert_eq!(verify(signed), Ok(()));
        let refused = Err(Error::BadSignature { what: "test" });
        assert_eq!(verify(Transcript::new("test").field(b"a").field(b"bc")), refused);
        assert_eq!(verify(Transcript::new("tes").field(b"tab").field(b"c")), refused);
    }

    #[test]
    fn a_secret_is_not_printed() {
        let key = SigningKey::from_bytes(&[7; 32]);
        assert_eq!(format!("{key:?}"), "SigningKey(redacted)");
    }

    #[test]
    fn keys_and_signatures_survive_text() {
        let key = SigningKey::generate();
        let public = key.verifying_key();
        assert_eq!(public.to_string().parse(), Ok(public));
        let signature = key.sign(&Transcript::new("test"));
        assert_eq!(signature.to_string().parse(), Ok(signature));
    }
}
