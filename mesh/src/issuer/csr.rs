//! Certificate signing requests (PKCS #10, RFC 2986).

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PublicKey, PublicKeyData as _,
    SanType,
};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject as _};
use zeroize::Zeroizing;

use super::issue::IssuerError;
use crate::identity::{CertificateError, SpiffeId};

/// The longest request, in bytes.
pub const MAX_REQUEST: usize = 16 << 10;

/// A new key and a certificate signing request for it.
pub struct KeyAndRequest {
    /// The private key (P-256), PKCS #8 in PEM.
    pub key: Zeroizing<String>,
    /// The request, in PEM.
    pub request: String,
}

impl KeyAndRequest {
    /// Generates both for a workload.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`] if the library fails.
    pub fn generate(id: &SpiffeId) -> Result<Self, CertificateError> {
        let refused = |_| CertificateError::Malformed("the library refused to make a request");
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(id.as_str().try_into().map_err(refused)?)];
        let key = KeyPair::generate().map_err(refused)?;
        let request = params.serialize_request(&key).and_then(|request| request.pem());
        let request = request.map_err(refused)?;
        Ok(Self { key: key.serialize_pem().into(), request })
    }
}

impl std::fmt::Debug for KeyAndRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyAndRequest(redacted)")
    }
}

/// The parts of a request that are used: the public key, whose private key the requester holds, and
/// the requested name.
pub(super) struct Csr {
    pub(super) key: PublicKey,
    pub(super) asked: Option<String>,
}

impl Csr {
    /// Reads PEM or DER.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, IssuerError> {
        if bytes.len() > MAX_REQUEST {
            return Err(IssuerError::Request("longer than 16 KiB"));
        }
        let der = if bytes.trim_ascii_start().starts_with(b"-----") {
            CertificateSigningRequestDer::from_pem_slice(bytes)
                .map_err(|_| IssuerError::Request("no PEM"))?
        } else {
            bytes.into()
        };
        let csr = CertificateSigningRequestParams::from_der(&der)
            .map_err(|_| IssuerError::Request("cannot be read, or not signed by its own key"))?;
        let kinds =
            [(&PKCS_ECDSA_P256_SHA256, 65), (&PKCS_ECDSA_P384_SHA384, 97), (&PKCS_ED25519, 32)];
        let key = csr.public_key;
        if !kinds.contains(&(key.algorithm(), key.der_bytes().len())) {
            return Err(IssuerError::Request("a key of another kind"));
        }
        let mut uris = csr.params.subject_alt_names.iter().filter_map(|name| match name {
            SanType::URI(uri) => Some(uri.to_string()),
            _ => None,
        });
        Ok(Self { key, asked: uris.next() })
    }
}
