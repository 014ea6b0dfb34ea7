//! TLS 1.3 between an issuer and its clients; certificates identify both sides.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use hermesh_mesh::{
    Clock, UnixMillis,
    identity::{CertificateError, Chain, Credentials, Purpose, SpiffeId, Trust},
    issuer::{Issuer, IssuerError, OWN, grant},
};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, InvalidMessage, RootCertStore,
    ServerConfig, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
    version::TLS13,
};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsError {
    #[error("TLS: {0}")]
    Library(#[from] Error),
    #[error("the roots: {0}")]
    Roots(#[from] rustls::client::VerifierBuilderError),
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    #[error("the issuer's own certificate: {0}")]
    Own(#[from] CertificateError),
}

/// The configuration of a client of this trust domain's issuer.
pub(super) fn client(
    trust: Trust,
    credentials: Option<&Credentials>,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, Error> {
    let verifier = IsIssuer { trust, provider: provider() };
    let builder = ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match credentials {
        Some(credentials) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(
            credentials.certified_key(),
        ))),
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The configuration of an issuer. Client certificates are optional; those shown must be of this trust
/// domain.
pub(super) fn server(
    issuer: Arc<Issuer>,
    hosts: Vec<String>,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in issuer.trust().roots() {
        roots.add(root.clone())?;
    }
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()?;
    let own = Own { issuer, hosts, clock: clock.clone(), current: Mutex::default() };
    own.current()?;
    let mut config = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(Arc::new(own));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // No resumption: a resumed session shows no certificate, so an expired one would go unnoticed.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// A clock that was passed in, for rustls.
struct Time(Arc<dyn Clock>);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now().0)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

/// Accepts a server if its certificate names the trust domain's issuer, at any address.
#[derive(Debug)]
struct IsIssuer {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl IsIssuer {
    fn verify(&self, chain: Vec<CertificateDer<'static>>, now: UnixTime) -> Result<(), String> {
        let now = UnixMillis(now.as_secs().saturating_mul(1000));
        let chain = Chain::new(chain).map_err(|error| error.to_string())?;
        let peer = self.trust.verify(&chain, Purpose::Server, now);
        let peer = peer.map_err(|error| error.to_string())?;
        let expected = SpiffeId::new(self.trust.domain(), OWN);
        if expected.is_ok_and(|expected| expected == peer.id) {
            return Ok(());
        }
        Err(format!("it is {}; expected {OWN} of {}", peer.id, self.trust.domain()))
    }
}

impl ServerCertVerifier for IsIssuer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain = std::iter::once(end_entity).chain(intermediates);
        let chain = chain.map(|certificate| certificate.clone().into_owned()).collect();
        self.verify(chain, now)
            .map(|()| ServerCertVerified::assertion())
            .map_err(|told| Error::General(format!("the issuer's certificate: {told}")))
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Unreachable: TLS 1.2 is not offered.
        Err(InvalidMessage::UnexpectedMessage("TLS 1.2").into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

/// The issuer's own certificate, renewed by the first connection after half of its life.
struct Own {
    issuer: Arc<Issuer>,
    hosts: Vec<String>,
    clock: Arc<dyn Clock>,
    current: Mutex<Option<(UnixMillis, Arc<CertifiedKey>)>>,
}

impl Own {
    fn current(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let now = self.clock.now();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, key)) = current.as_ref().filter(|(half, _)| now < *half) {
            return Ok(key.clone());
        }
        let authority = self.issuer.authority();
        let id = SpiffeId::new(authority.domain(), OWN)
            .map_err(|_| CertificateError::NoName(OWN.to_owned()))?;
        let grant = grant(authority, id, self.hosts.clone(), now, self.issuer.lifetime())?;
        let credentials = authority.credentials(&grant)?;
        let half = now.plus(now.until(grant.until) / 2);
        let key = credentials.certified_key();
        *current = Some((half, key.clone()));
        Ok(key)
    }
}

impl ResolvesServerCert for Own {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current()
            .inspect_err(|error| tracing::error!(%error, "the issuer has no certificate itself"))
            .ok()
    }
}

impl fmt::Debug for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Own").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}
