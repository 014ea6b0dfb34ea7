//! A workload's own certificate and key.

use std::sync::Arc;

use rustls::{
    SignatureScheme,
    pki_types::{PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::{CertificateError, Chain, Peer, SpiffeId};

/// A certificate chain and its private key. `Debug` does not print the key.
#[derive(Clone)]
pub struct Credentials {
    peer: Peer,
    chain: Chain,
    key: Arc<CertifiedKey>,
}

impl Credentials {
    /// Reads a chain, leaf first, and the leaf's key, both in PEM.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`], [`CertificateError::NoName`], or [`CertificateError::Key`] if the key is not
    /// the leaf's. Does not check whether the chain is trusted.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let key = PrivateKeyDer::from_pem_slice(key);
        Self::new(Chain::from_pem(chain)?, key.map_err(|_| CertificateError::Key("no PEM"))?)
    }

    /// Combines a chain with its leaf's key.
    ///
    /// # Errors
    /// As [`Self::from_pem`].
    pub fn new(chain: Chain, key: PrivateKeyDer<'static>) -> Result<Self, CertificateError> {
        let key = rustls::crypto::ring::sign::any_supported_type(&key);
        let key = key.map_err(|_| CertificateError::Key("a key of another kind"))?;
        let key = CertifiedKey::new(chain.certificates().to_vec(), key);
        key.keys_match().map_err(|_| CertificateError::Key("another certificate's key"))?;
        Ok(Self { peer: chain.peer()?, chain, key: Arc::new(key) })
    }

    /// The workload that the certificate names.
    pub fn id(&self) -> &SpiffeId {
        &self.peer.id
    }

    /// The workload and the certificate's validity.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The chain.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The chain and key in the form the TLS library needs.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }

    /// Signs `bytes`; also returns the signature scheme.
    ///
    /// # Errors
    /// [`CertificateError::Key`] if the key cannot sign.
    pub(crate) fn sign(
        &self,
        bytes: &[u8],
    ) -> Result<(SignatureScheme, Vec<u8>), CertificateError> {
        let signer = self.key.key.choose_scheme(SCHEMES);
        let signer = signer.ok_or(CertificateError::Key("a key of another kind"))?;
        let signature = signer.sign(bytes);
        let signature = signature.map_err(|_| CertificateError::Key("a key that cannot sign"))?;
        Ok((signer.scheme(), signature))
    }
}

/// Signature schemes for messages, in order of preference; the first that the key supports is used.
const SCHEMES: &[SignatureScheme] = &[
    SignatureScheme::ED25519,
    SignatureScheme::ECDSA_NISTP256_SHA256,
    SignatureScheme::ECDSA_NISTP384_SHA384,
    SignatureScheme::RSA_PSS_SHA256,
];

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("peer", &self.peer).finish_non_exhaustive()
    }
}
