//! X.509 certificates of workloads (X.509-SVIDs, SPIFFE's standard "The X.509 SPIFFE Verifiable Identity Document").
//! The workload's name is the only URI among the subject alternative names.

use std::time::Duration;

use rustls::pki_types::{
    CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime, pem::PemObject as _,
};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::SpiffeId;
use crate::{Digest, UnixMillis};

/// Why a certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// There is no certificate, or it cannot be parsed.
    #[error(
        "{0}; expected an X.509 version 3 certificate, followed by its intermediate certificates"
    )]
    Malformed(&'static str),
    /// The key does not belong to the certificate.
    #[error("{0}; expected the private key of the certificate, in PKCS #8")]
    Key(&'static str),
    /// The certificate does not name a workload.
    #[error(
        "it names no workload; expected exactly one URI among its names, and that a SPIFFE ID: {0}"
    )]
    NoName(String),
    /// The workload belongs to another trust domain.
    #[error("it is of trust domain {got}, expected {expected}")]
    TrustDomain {
        /// The certificate's trust domain.
        got: String,
        /// The trusted domain.
        expected: String,
    },
    /// The certificate has expired.
    #[error("it expired at {0} (ms since 1970)")]
    Expired(UnixMillis),
    /// It is not valid yet.
    #[error("it is only valid from {0} (ms since 1970); compare the clocks")]
    NotYetValid(UnixMillis),
    /// The certificate's extended key usage does not allow this purpose.
    #[error("it is not for {0:?}s; its extended key usage says so")]
    Purpose(Purpose),
    /// No trusted root has issued it.
    #[error("no root of the trust bundle has issued it ({0})")]
    Untrusted(String),
    /// The certificate or its workload is revoked.
    #[error("it, or its workload, is on the policy's list of the revoked")]
    Revoked,
}

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To connect as a client, and to sign messages.
    Client,
    /// To accept connections as a server.
    Server,
}

/// A certificate chain up to, but without, the root; leaf first.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain(Vec<CertificateDer<'static>>);

impl Chain {
    /// The most certificates in a chain.
    pub const MAX_COUNT: usize = 4;
    /// The most bytes of one certificate.
    pub const MAX_BYTES: usize = 4096;

    /// Checks only the number and sizes of the certificates.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Result<Self, CertificateError> {
        if !(1..=Self::MAX_COUNT).contains(&certificates.len()) {
            return Err(CertificateError::Malformed("not 1 to 4 certificates"));
        }
        if certificates.iter().any(|certificate| certificate.len() > Self::MAX_BYTES) {
            return Err(CertificateError::Malformed("a certificate of more than 4096 bytes"));
        }
        Ok(Self(certificates))
    }

    /// Reads PEM.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateError> {
        Self::new(read_pem(pem)?)
    }

    /// The certificates, leaf first.
    pub fn certificates(&self) -> &[CertificateDer<'static>] {
        &self.0
    }

    /// The workload that the leaf names, unverified.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`], [`CertificateError::NoName`].
    pub fn peer(&self) -> Result<Peer, CertificateError> {
        let leaf = &self.0[0];
        let parsed = parse(leaf)?;
        let (mut not_before, mut not_after) = validity(&parsed)?;
        for issuer in &self.0[1..] {
            let (from, until) = validity(&parse(issuer)?)?;
            not_before = not_before.max(from);
            not_after = not_after.min(until);
        }
        Ok(Peer { id: name(&parsed)?, fingerprint: Digest::of(leaf), not_before, not_after })
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Chain({} certificates, {:?})", self.0.len(), Digest::of(&self.0[0]))
    }
}

/// The workload that a certificate names, and the certificate's validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The workload.
    pub id: SpiffeId,
    /// The SHA-256 of the leaf.
    pub fingerprint: Digest,
    /// The first instant at which the whole chain is valid.
    pub not_before: UnixMillis,
    /// The last instant at which the whole chain is valid.
    pub not_after: UnixMillis,
}

/// The roots of one trust domain.
#[derive(Clone)]
pub struct Trust {
    domain: String,
    roots: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
}

impl Trust {
    /// The most roots. There is more than one only during a root change, and as long as messages signed under older
    /// roots must be verified.
    pub const MAX_ROOTS: usize = 32;

    /// Reads the roots of `domain`.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn from_pem(domain: &str, pem: &[u8]) -> Result<Self, CertificateError> {
        let roots = read_pem(pem)?;
        if !(1..=Self::MAX_ROOTS).contains(&roots.len()) {
            return Err(CertificateError::Malformed("not 1 to 32 roots"));
        }
        let anchor = |root: &CertificateDer<'static>| {
            let anchor = anchor_from_trusted_cert(root);
            anchor.map(|anchor| anchor.to_owned())
        };
        let anchors = roots.iter().map(anchor).collect::<Result<_, _>>();
        let anchors =
            anchors.map_err(|_| CertificateError::Malformed("a root that is not a certificate"))?;
        Ok(Self { domain: domain.to_owned(), roots, anchors })
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The roots.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Verifies the chain at an instant and returns the workload it names.
    ///
    /// # Errors
    /// Why the chain is rejected.
    pub fn verify(
        &self,
        chain: &Chain,
        purpose: Purpose,
        at: UnixMillis,
    ) -> Result<Peer, CertificateError> {
        let (leaf, intermediates) = chain.0.split_first().ok_or(NONE)?;
        let usage = match purpose {
            Purpose::Client => KeyUsage::client_auth(),
            Purpose::Server => KeyUsage::server_auth(),
        };
        let leaf = EndEntityCert::try_from(leaf)
            .map_err(|_| CertificateError::Malformed("a leaf that is not a certificate"))?;
        let time = UnixTime::since_unix_epoch(Duration::from_millis(at.0));
        leaf.verify_for_usage(algorithms(), &self.anchors, intermediates, time, usage, None, None)
            .map_err(|error| told(error, purpose))?;
        let peer = chain.peer()?;
        if peer.id.trust_domain() != self.domain {
            return Err(CertificateError::TrustDomain {
                got: peer.id.trust_domain().to_owned(),
                expected: self.domain.clone(),
            });
        }
        // Checks all certificates of the chain, including any that are not needed to reach a root.
        match at {
            at if at < peer.not_before => Err(CertificateError::NotYetValid(peer.not_before)),
            at if at > peer.not_after => Err(CertificateError::Expired(peer.not_after)),
            _ => Ok(peer),
        }
    }
}

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Trust({}, {} roots)", self.domain, self.roots.len())
    }
}

const NONE: CertificateError = CertificateError::Malformed("no certificate");

/// The accepted signature algorithms: those of the TLS library.
pub(crate) fn algorithms() -> &'static [&'static dyn SignatureVerificationAlgorithm] {
    rustls::crypto::ring::default_provider().signature_verification_algorithms.all
}

fn told(error: webpki::Error, purpose: Purpose) -> CertificateError {
    use webpki::Error;
    let millis = |time: UnixTime| UnixMillis(time.as_secs().saturating_mul(1000));
    match error {
        Error::CertExpired { not_after, .. } => CertificateError::Expired(millis(not_after)),
        Error::CertNotValidYet { not_before, .. } => {
            CertificateError::NotYetValid(millis(not_before))
        }
        Error::RequiredEkuNotFoundContext(_) => CertificateError::Purpose(purpose),
        other => CertificateError::Untrusted(format!("{other:?}")),
    }
}

fn read_pem(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|_| CertificateError::Malformed("no PEM"))
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    match X509Certificate::from_der(der) {
        Ok(([], parsed)) => Ok(parsed),
        _ => Err(CertificateError::Malformed("a certificate that cannot be read")),
    }
}

fn validity(parsed: &X509Certificate<'_>) -> Result<(UnixMillis, UnixMillis), CertificateError> {
    let millis = |seconds: i64| u64::try_from(seconds).ok()?.checked_mul(1000).map(UnixMillis);
    let validity = parsed.validity();
    millis(validity.not_before.timestamp())
        .zip(millis(validity.not_after.timestamp()))
        .ok_or(CertificateError::Malformed("a certificate valid before 1970"))
}

fn name(parsed: &X509Certificate<'_>) -> Result<SpiffeId, CertificateError> {
    let none = |why: &str| CertificateError::NoName(why.to_owned());
    let names = parsed.subject_alternative_name();
    let names = names.map_err(|_| CertificateError::Malformed("names that cannot be read"))?;
    let names = names.ok_or_else(|| none("it has no names"))?;
    let uris: Vec<&str> = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        })
        .collect();
    match uris[..] {
        [uri] => uri.parse().map_err(|error: crate::Error| none(&error.to_string())),
        _ => Err(none(&format!("it has {} URIs", uris.len()))),
    }
}
