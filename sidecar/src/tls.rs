//! TLS 1.3 between workloads: both sides show a certificate, whose SPIFFE ID identifies them. Host names
//! are ignored. Sessions are never resumed, so every connection shows its certificates anew.

use std::{io, sync::Arc};

use hermesh_mesh::{
    UnixMillis,
    identity::{CertificateError, Chain, Credentials, Peer, Purpose, SpiffeId, Trust},
};
use rustls::{
    ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::SingleCertAndKey,
    version::TLS13,
};

/// Whether a certificate was revoked.
pub type Revoked = Arc<dyn Fn(&Peer) -> bool + Send + Sync>;

/// Why a peer is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its certificate is invalid.
    #[error("the peer's certificate is refused: {0}")]
    Certificate(#[from] CertificateError),
    /// It is another workload.
    #[error("the peer is {got}, expected {expected}; compare the address with the identity")]
    Identity {
        /// The workload that the certificate names.
        got: SpiffeId,
        /// The workload that was expected.
        expected: SpiffeId,
    },
}

/// The configuration of a client that connects to `expected` only.
///
/// # Errors
/// The TLS library lacks a feature that it is known to have.
pub fn client(
    credentials: &Credentials,
    trust: &Trust,
    expected: &SpiffeId,
    revoked: Revoked,
) -> Result<Arc<ClientConfig>, Error> {
    let verifier = Verifier::new(trust, Purpose::Server, Some(expected.clone()), revoked);
    let mut config = ClientConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified_key())));
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

/// The configuration of a server for workloads of the trust domain; each must show a certificate.
///
/// # Errors
/// As [`client`].
pub fn server(
    credentials: &Credentials,
    trust: &Trust,
    revoked: Revoked,
) -> Result<Arc<ServerConfig>, Error> {
    let verifier = Verifier::new(trust, Purpose::Client, None, revoked);
    let mut config = ServerConfig::builder_with_provider(verifier.provider.clone())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified_key())));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// A placeholder for the host name that TLS requires; the name is not checked.
pub fn no_host() -> ServerName<'static> {
    ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// The workload at the other end, after the handshake.
///
/// # Errors
/// [`CertificateError::Malformed`] before the end of the handshake.
pub fn peer(connection: &CommonState) -> Result<Peer, CertificateError> {
    Chain::new(connection.peer_certificates().unwrap_or_default().to_vec())?.peer()
}

/// Our reason to refuse the peer, if that made the handshake fail. The library's own error does not include
/// it.
pub fn refused(error: &io::Error) -> Option<&Refused> {
    match error.get_ref()?.downcast_ref()? {
        Error::InvalidCertificate(rustls::CertificateError::Other(OtherError(refused))) => {
            refused.downcast_ref()
        }
        _ => None,
    }
}

struct Verifier {
    provider: Arc<CryptoProvider>,
    trust: Trust,
    purpose: Purpose,
    expected: Option<SpiffeId>,
    revoked: Revoked,
}

impl Verifier {
    fn new(trust: &Trust, purpose: Purpose, expected: Option<SpiffeId>, revoked: Revoked) -> Self {
        let provider = Arc::new(ring::default_provider());
        Self { provider, trust: trust.clone(), purpose, expected, revoked }
    }

    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    fn check(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        self.verify(leaf, intermediates, now).map_err(|refused| {
            let refused = OtherError(Arc::new(refused));
            Error::InvalidCertificate(rustls::CertificateError::Other(refused))
        })
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Refused> {
        let chain = [leaf].into_iter().chain(intermediates);
        let chain =
            Chain::new(chain.map(|certificate| certificate.clone().into_owned()).collect())?;
        let now = UnixMillis(now.as_secs().saturating_mul(1000));
        let peer = self.trust.verify(&chain, self.purpose, now)?;
        if (self.revoked)(&peer) {
            return Err(CertificateError::Revoked.into());
        }
        match &self.expected {
            Some(expected) if *expected != peer.id => {
                Err(Refused::Identity { got: peer.id, expected: expected.clone() })
            }
            _ => Ok(()),
        }
    }

    fn signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, self.algorithms())
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { trust, purpose, expected, .. } = self;
        write!(f, "Verifier({trust:?}, {purpose:?}, {expected:?})")
    }
}

const NO_TLS12: Error = Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(leaf, intermediates, now).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for Verifier {
    // Send no hints: a client that has shown no certificate does not learn our roots.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(leaf, intermediates, now).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms().supported_schemes()
    }
}
