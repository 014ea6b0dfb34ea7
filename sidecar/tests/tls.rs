//! TLS: a peer with a bad certificate is refused, as a server and as a client.

#![allow(clippy::unwrap_used)]

mod domain;

use std::{io, sync::Arc};

use domain::{Domain, Shown, id, params, today, valid};
use hermesh_mesh::{
    UnixMillis,
    identity::{CertificateError, Purpose},
};
use hermesh_sidecar::tls::{self, Refused, Revoked};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use rustls::{
    ClientConfig, Error, HandshakeKind, RootCertStore, ServerConfig, pki_types::ServerName,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const EVALUATION: &str = "spiffe://hermesh.local/service/evaluation";

fn nobody_revoked() -> Revoked {
    Arc::new(|_| false)
}

fn our_client(domain: &Domain) -> Arc<ClientConfig> {
    let credentials = domain.credentials("service/evaluation");
    let expected = id("service/evaluation");
    tls::client(&credentials, &domain.trust(), &expected, nobody_revoked()).unwrap()
}

fn our_server(domain: &Domain) -> Arc<ServerConfig> {
    let credentials = domain.credentials("service/evaluation");
    tls::server(&credentials, &domain.trust(), nobody_revoked()).unwrap()
}

/// A client of the library, without our checks, that shows `shown`.
fn plain_client(domain: &Domain, shown: Option<Shown>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(domain.trust().roots()[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shown {
        Some(shown) => builder.with_client_auth_cert(shown.chain, shown.key).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// A server of the library, without our checks, that shows `shown` and asks for no certificate.
fn plain_server(shown: Shown) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(shown.chain, shown.key);
    Arc::new(config.unwrap())
}

async fn ping(
    config: Arc<ClientConfig>,
    stream: DuplexStream,
) -> io::Result<Option<HandshakeKind>> {
    let host = ServerName::try_from("localhost").unwrap();
    let mut stream = TlsConnector::from(config).connect(host, stream).await?;
    stream.write_all(b"ping").await?;
    // In TLS 1.3 only the server's next message tells whether it accepted our certificate.
    let mut pong = [0; 4];
    stream.read_exact(&mut pong).await?;
    assert_eq!(&pong, b"pong");
    Ok(stream.get_ref().1.handshake_kind())
}

async fn pong(config: Arc<ServerConfig>, stream: DuplexStream) -> io::Result<Option<String>> {
    let mut stream = TlsAcceptor::from(config).accept(stream).await?;
    let peer = tls::peer(stream.get_ref().1).ok().map(|peer| peer.id.to_string());
    let mut ping = [0; 4];
    stream.read_exact(&mut ping).await?;
    stream.write_all(b"pong").await?;
    stream.flush().await?;
    Ok(peer)
}

/// The result of each side: the client's kind of handshake, and the server's peer.
async fn meet(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> (io::Result<Option<HandshakeKind>>, io::Result<Option<String>>) {
    let (near, far) = duplex(1 << 16);
    tokio::join!(ping(client, near), pong(server, far))
}

/// Our reason; the other side must have failed too.
fn reason<T, U>(ours: io::Result<T>, theirs: io::Result<U>, name: &str) -> Refused {
    assert!(theirs.is_err(), "{name}: the other side went on");
    let error = ours.err().unwrap_or_else(|| panic!("{name}: accepted"));
    tls::refused(&error).unwrap_or_else(|| panic!("{name}: {error}")).clone()
}

/// Every kind of bad certificate, and a check of the reason given.
type Bad = (&'static str, Shown, fn(&Refused) -> bool);

fn bad(domain: &Domain, purpose: Purpose) -> Vec<Bad> {
    let (yesterday, tomorrow) = today();
    let one_day = tomorrow.0 - yesterday.0;
    let good = || params(&[EVALUATION]);
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = good();
        change(&mut params);
        domain.certificate(&params)
    };
    let before = UnixMillis(yesterday.0 - one_day);
    let after = UnixMillis(tomorrow.0 + one_day);
    let other_purpose = match purpose {
        Purpose::Client => ExtendedKeyUsagePurpose::ServerAuth,
        Purpose::Server => ExtendedKeyUsagePurpose::ClientAuth,
    };
    macro_rules! reason {
        ($($pattern:tt)+) => {
            |refused| matches!(refused, Refused::Certificate(CertificateError::$($pattern)+))
        };
    }
    let named = |uris: &[&str]| domain.certificate(&params(uris));
    let elsewhere = "spiffe://elsewhere.local/service/evaluation";
    vec![
        ("another root", Domain::new().certificate(&good()), reason!(Untrusted(_))),
        ("another trust domain", named(&[elsewhere]), reason!(TrustDomain { .. })),
        ("expired", with(&|params| valid(params, before, yesterday)), reason!(Expired(_))),
        ("not yet valid", with(&|params| valid(params, tomorrow, after)), reason!(NotYetValid(_))),
        ("self-signed", Shown::self_signed(&good()), reason!(Untrusted(_))),
        (
            "another purpose",
            with(&|params| params.extended_key_usages = vec![other_purpose.clone()]),
            reason!(Purpose(_)),
        ),
        ("no SPIFFE ID", named(&[]), reason!(NoName(_))),
        ("another kind of URI", named(&["https://hermesh.local/a/b"]), reason!(NoName(_))),
        ("no workload", named(&["spiffe://hermesh.local"]), reason!(NoName(_))),
        (
            "two URIs",
            named(&[EVALUATION, "spiffe://hermesh.local/service/aggregation"]),
            reason!(NoName(_)),
        ),
        ("too long", with(&|params| add_names(params, 500)), reason!(Malformed(_))),
        ("too many", many(domain, &good()), reason!(Malformed(_))),
    ]
}

fn add_names(params: &mut CertificateParams, count: usize) {
    let names = (0..count).map(|n| format!("{n}.a-name-of-some-length.example"));
    let more = CertificateParams::new(names.collect::<Vec<_>>()).unwrap();
    params.subject_alt_names.extend(more.subject_alt_names);
}

fn many(domain: &Domain, params: &CertificateParams) -> Shown {
    let mut shown = domain.certificate(params);
    shown.chain = vec![shown.chain[0].clone(); 5];
    shown
}

#[tokio::test]
async fn workloads_of_one_domain_meet() {
    let domain = Domain::new();
    let (client, server) = meet(our_client(&domain), our_server(&domain)).await;
    assert_eq!(client.unwrap(), Some(HandshakeKind::Full));
    assert_eq!(server.unwrap().as_deref(), Some(EVALUATION));
    // Show that these clients and servers work, so that the cases below fail only because of the
    // certificates.
    let good = || domain.certificate(&params(&[EVALUATION]));
    let (client, server) = meet(plain_client(&domain, Some(good())), our_server(&domain)).await;
    assert!(client.is_ok() && server.unwrap().as_deref() == Some(EVALUATION));
    let (client, server) = meet(our_client(&domain), plain_server(good())).await;
    assert!(client.is_ok() && server.is_ok());
}

#[tokio::test]
async fn a_server_with_a_bad_certificate_is_refused() {
    let domain = Domain::new();
    for (name, shown, is_reason) in bad(&domain, Purpose::Server) {
        let (ours, theirs) = meet(our_client(&domain), plain_server(shown)).await;
        let reason = reason(ours, theirs, name);
        assert!(is_reason(&reason), "{name}: {reason}");
    }
}

#[tokio::test]
async fn a_client_with_a_bad_certificate_is_refused() {
    let domain = Domain::new();
    for (name, shown, is_reason) in bad(&domain, Purpose::Client) {
        let client = plain_client(&domain, Some(shown));
        let (theirs, ours) = meet(client, our_server(&domain)).await;
        let reason = reason(ours, theirs, name);
        assert!(is_reason(&reason), "{name}: {reason}");
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let domain = Domain::new();
    let (theirs, ours) = meet(plain_client(&domain, None), our_server(&domain)).await;
    assert!(theirs.is_err());
    assert_eq!(told(&ours.unwrap_err()), &Error::NoCertificatesPresented);
}

#[tokio::test]
async fn another_server_than_expected_is_refused() {
    let domain = Domain::new();
    let credentials = domain.credentials("tenant/acme");
    let expected = id("broker/nats");
    let client = tls::client(&credentials, &domain.trust(), &expected, nobody_revoked()).unwrap();
    let (ours, theirs) = meet(client, our_server(&domain)).await;
    let got = id("service/evaluation");
    assert_eq!(reason(ours, theirs, "another"), Refused::Identity { got, expected });
}

#[tokio::test]
async fn the_revoked_are_refused() {
    let domain = Domain::new();
    let credentials = domain.credentials("service/evaluation");
    let (trust, expected) = (domain.trust(), id("service/evaluation"));
    let fingerprint = credentials.peer().fingerprint;
    let revoked: Revoked = Arc::new(move |peer| peer.fingerprint == fingerprint);
    let gone = Refused::Certificate(CertificateError::Revoked);

    // The certificate of `credentials` is revoked, which one side shows in each case.
    let suspicious = tls::server(&credentials, &trust, revoked.clone()).unwrap();
    let client = tls::client(&credentials, &trust, &expected, nobody_revoked()).unwrap();
    let (theirs, ours) = meet(client, suspicious.clone()).await;
    assert_eq!(reason(ours, theirs, "client"), gone);

    let suspicious_client = tls::client(&credentials, &trust, &expected, revoked).unwrap();
    let server = tls::server(&credentials, &trust, nobody_revoked()).unwrap();
    let (ours, theirs) = meet(suspicious_client, server).await;
    assert_eq!(reason(ours, theirs, "server"), gone);

    // Another certificate of the same workload.
    let (client, server) = meet(our_client(&domain), suspicious).await;
    assert!(client.is_ok() && server.is_ok());
}

/// Every connection shows its certificates, so a revoked or expired peer is noticed.
#[tokio::test]
async fn sessions_are_not_resumed() {
    let domain = Domain::new();
    let shown = domain.certificate(&params(&[EVALUATION]));
    let (client, server) = (plain_client(&domain, Some(shown)), our_server(&domain));
    for _ in 0..3 {
        let (kind, peer) = meet(client.clone(), server.clone()).await;
        assert_eq!(
            (kind.unwrap(), peer.unwrap()),
            (Some(HandshakeKind::Full), Some(EVALUATION.into()))
        );
    }
    let server = plain_server(domain.certificate(&params(&[EVALUATION])));
    let client = our_client(&domain);
    for _ in 0..3 {
        let (kind, _) = meet(client.clone(), server.clone()).await;
        assert_eq!(kind.unwrap(), Some(HandshakeKind::Full));
    }
}

fn told(error: &io::Error) -> &Error {
    error.get_ref().and_then(|error| error.downcast_ref()).unwrap_or_else(|| panic!("{error}"))
}

fn record(handshake: u8, body: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| (bytes as u16).to_be_bytes();
    let mut record = vec![22, 3, 3];
    record.extend(length(body.len() + 4));
    record.extend([handshake, 0]);
    record.extend(length(body.len()));
    record.extend(body);
    record
}

/// A ClientHello without the extension `supported_versions`, in which a client offers TLS 1.3.
#[tokio::test]
async fn a_client_of_version_1_2_is_refused() {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    // No session; TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256; no compression; 16 bytes of extensions:
    // the group X25519, and signatures by ECDSA.
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 16]);
    hello.extend([0, 10, 0, 4, 0, 2, 0, 29, 0, 13, 0, 4, 0, 2, 4, 3]);
    let (mut near, far) = duplex(1 << 16);
    near.write_all(&record(1, &hello)).await.unwrap();
    let error = pong(our_server(&Domain::new()), far).await.unwrap_err();
    assert!(matches!(told(&error), Error::PeerIncompatible(_)), "{error}");
    let mut answer = vec![];
    near.read_to_end(&mut answer).await.unwrap();
    // A fatal alert, protocol_version.
    assert_eq!(answer, [21, 3, 3, 0, 2, 2, 70]);
}

#[tokio::test]
async fn a_server_of_version_1_2_is_refused() {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x2b, 0]);
    let (near, mut far) = duplex(1 << 16);
    far.write_all(&record(2, &hello)).await.unwrap();
    let error = ping(our_client(&Domain::new()), near).await.unwrap_err();
    assert!(matches!(told(&error), Error::PeerIncompatible(_)), "{error}");
}

#[tokio::test]
async fn plain_text_is_refused() {
    let domain = Domain::new();
    for text in
        ["GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n", "CONNECT {}\r\nPING\r\n", "\0\0\0\0\0\0\0\0"]
    {
        let (mut near, far) = duplex(1 << 16);
        near.write_all(text.as_bytes()).await.unwrap();
        let error = pong(our_server(&domain), far).await.unwrap_err();
        assert!(matches!(told(&error), Error::InvalidMessage(_)), "{error}");
    }
    for text in ["HTTP/1.1 200 OK\r\n\r\n", "INFO {\"tls_required\":false}\r\n"] {
        let (near, mut far) = duplex(1 << 16);
        far.write_all(text.as_bytes()).await.unwrap();
        let error = ping(our_client(&domain), near).await.unwrap_err();
        assert!(matches!(told(&error), Error::InvalidMessage(_)), "{error}");
    }
}
