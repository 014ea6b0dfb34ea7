//! Bad certificates and connections without TLS: nats-server refuses them directly, and sidecars refuse
//! them on the way.

mod world;

use std::{io, time::Duration};

use hermesh_mesh::{
    Clock as _, SystemClock, UnixMillis,
    identity::{Credentials, SpiffeId},
    issuer::{Authority, Grant, Uses},
    policy::Policy,
};
use hermesh_sidecar::{proxy::Handshake, source::Identity, tls};
use rustls::{ClientConfig, RootCertStore};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use world::{
    DOMAIN, Domain, PATIENCE, Sidecar, id, policy,
    server::{Server, Straight},
};

const WHO: &str = "service/evaluation";

fn hours(hours: i64) -> UnixMillis {
    UnixMillis(SystemClock.now().0.saturating_add_signed(hours * 3_600_000))
}

/// The bad certificates, each with its defect.
fn bad(domain: &Domain) -> Vec<(&'static str, Credentials)> {
    let grant = || Domain::grant(WHO);
    let ours = |grant: Grant| domain.authority.credentials(&grant).expect("issues");
    let other = Authority::create(DOMAIN, hours(-1), hours(1)).expect("creates");
    let elsewhere = SpiffeId::new("evil.example", WHO).expect("a name");
    vec![
        ("of a trust domain of others", ours(Grant { id: elsewhere, ..grant() })),
        ("by a root of others", other.credentials(&grant()).expect("issues")),
        ("expired", ours(Grant { from: hours(-3), until: hours(-1), ..grant() })),
        ("not yet valid", ours(Grant { from: hours(1), until: hours(3), ..grant() })),
        ("for servers only", ours(Grant { uses: Uses::ServerOnly, ..grant() })),
        ("self-signed", self_signed()),
    ]
}

fn self_signed() -> Credentials {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose::ClientAuth, KeyPair, SanType};
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    let uri = id(WHO).to_string().try_into().expect("ASCII");
    params.subject_alt_names = vec![SanType::URI(uri)];
    params.extended_key_usages = vec![ClientAuth];
    let certificate = params.self_signed(&key).expect("signs");
    let key = key.serialize_pem();
    Credentials::from_pem(certificate.pem().as_bytes(), key.as_bytes()).expect("belong together")
}

/// What a workload receives from its sidecar.
async fn heard(sidecar: &Sidecar) -> String {
    let mut stream = TcpStream::connect(sidecar.address).await.expect("connects");
    let _ = stream.write_all(b"CONNECT {}\r\nPING\r\n").await;
    let mut heard = vec![0; 4096];
    let mut all = Vec::new();
    while let Ok(Ok(read @ 1..)) = timeout(Duration::from_secs(2), stream.read(&mut heard)).await {
        all.extend_from_slice(&heard[..read]);
        if all.windows(4).any(|four| four == b"PONG") {
            break;
        }
    }
    String::from_utf8(all).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_certificates_are_refused() {
    let (domain, rules) = (Domain::new(), policy(""));
    let server = Server::start(&domain, &rules).await;
    let good = domain.credentials(WHO);
    Straight::connect(server.address, &good, &domain.trust()).await.expect("a good one is let in");
    for (what, credentials) in bad(&domain) {
        let straight = Straight::connect(server.address, &credentials, &domain.trust()).await;
        assert!(straight.is_err(), "{what}: let in by the server");
        let identity = Identity { credentials, trust: domain.trust() }.into();
        let sidecar =
            Sidecar::start(identity, policy(""), server.address, Handshake::AfterInfo).await;
        let heard = heard(&sidecar).await;
        assert!(!heard.contains("PONG"), "{what}: let in through the sidecar: {heard}");
    }
}

/// Revocation also ends open connections.
#[tokio::test(flavor = "multi_thread")]
async fn the_revoked_are_put_out() {
    let (domain, rules) = (Domain::new(), policy(""));
    let server = Server::start(&domain, &rules).await;
    let mut straight = Straight::of(&server, &domain, WHO).await.expect("is let in");
    let other = "service/aggregation";
    let mut unharmed = Straight::of(&server, &domain, other).await.expect("is let in");
    let text =
        Policy::default_text().replace("revoked = []", &format!("revoked = [\"{}\"]", id(WHO)));
    let revoking = Policy::parse(&text).expect("a policy");
    server.reload(&revoking);
    assert!(straight.ends(PATIENCE).await, "it is still there");
    assert!(Straight::of(&server, &domain, WHO).await.is_err(), "it is let in again");
    unharmed.say("PING\r\n").await.expect("writes");
    assert_eq!(unharmed.errors().await.expect("is there"), Vec::<String>::new());
    let sidecar =
        Sidecar::start(domain.identity(WHO), revoking, server.address, Handshake::AfterInfo).await;
    assert!(heard(&sidecar).await.contains("User Authentication Revoked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_less_than_tls_1_3_will_do() {
    let domain = Domain::new();
    let server = Server::start(&domain, &policy("")).await;

    // Without TLS.
    let mut plain = BufReader::new(TcpStream::connect(server.address).await.expect("connects"));
    plain.get_mut().write_all(b"CONNECT {}\r\nPING\r\n").await.expect("writes");
    let mut heard = String::new();
    while timeout(PATIENCE, plain.read_line(&mut heard)).await.expect("an end").unwrap_or(0) > 0 {}
    assert!(!heard.contains("PONG"), "{heard}");

    // With a good certificate: over TLS 1.2; and over 1.3, to show that the version is the only reason.
    let credentials = domain.credentials(WHO);
    let configuration = |version: &'static rustls::SupportedProtocolVersion| -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(domain.trust().roots()[0].clone()).expect("a root");
        let provider = rustls::crypto::ring::default_provider().into();
        let resolver = rustls::sign::SingleCertAndKey::from(credentials.certified_key());
        ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .expect("is supported")
            .with_root_certificates(roots)
            .with_client_cert_resolver(std::sync::Arc::new(resolver))
    };
    let tls13 = configuration(&rustls::version::TLS13).into();
    Straight::with(server.address, tls13).await.expect("is let in");
    let tls12 = configuration(&rustls::version::TLS12).into();
    assert!(Straight::with(server.address, tls12).await.is_err(), "TLS 1.2 is spoken");

    // Without a certificate.
    let mut roots = RootCertStore::empty();
    roots.add(domain.trust().roots()[0].clone()).expect("a root");
    let provider = rustls::crypto::ring::default_provider().into();
    let anonymous = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("is supported")
        .with_root_certificates(roots)
        .with_no_client_auth();
    assert!(Straight::with(server.address, anonymous.into()).await.is_err(), "let in without it");
}

/// A sidecar connects only to its broker, and only over TLS.
#[tokio::test(flavor = "multi_thread")]
async fn sidecars_know_their_broker() {
    let domain = Domain::new();
    let other = Authority::create(DOMAIN, hours(-1), hours(1)).expect("creates");
    let grant = |workload| Domain::grant(workload);
    let ours = |grant: Grant| domain.authority.credentials(&grant).expect("issues");
    let elsewhere = SpiffeId::new("evil.example", "broker/nats").expect("a name");
    let brokers = [
        ("the broker", true, ours(grant("broker/nats"))),
        ("another workload", false, ours(grant("service/evaluation"))),
        ("of others", false, other.credentials(&grant("broker/nats")).expect("issues")),
        ("of another domain", false, ours(Grant { id: elsewhere, ..grant("broker/nats") })),
        (
            "expired",
            false,
            ours(Grant { from: hours(-3), until: hours(-1), ..grant("broker/nats") }),
        ),
    ];
    for (what, good, credentials) in brokers {
        let server = tls::server(&credentials, &domain.trust(), std::sync::Arc::new(|_| false));
        let acceptor = TlsAcceptor::from(server.expect("TLS"));
        let heard = meets(&domain, |stream| async move {
            let mut stream = acceptor.accept(stream).await?;
            stream.write_all(b"PONG\r\n").await?;
            stream.flush().await?;
            tokio::time::sleep(PATIENCE).await;
            Ok(())
        });
        assert_eq!(heard.await.contains("PONG"), good, "{what}");
    }
    let plain = meets(&domain, |mut stream| async move {
        stream.write_all(b"PONG\r\n").await?;
        tokio::time::sleep(PATIENCE).await;
        Ok(())
    });
    assert!(!plain.await.contains("PONG"), "in plain text");
}

/// What a workload receives through a sidecar whose broker sends INFO and then runs `broker`.
async fn meets<F>(domain: &Domain, broker: impl FnOnce(TcpStream) -> F + Send + 'static) -> String
where
    F: Future<Output = io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("is bound");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        stream.write_all(b"INFO {\"headers\":true,\"max_payload\":1048576}\r\n").await?;
        // Send INFO separately, as nats-server does.
        tokio::time::sleep(Duration::from_millis(50)).await;
        broker(stream).await
    });
    let identity = domain.identity(WHO);
    let sidecar = Sidecar::start(identity, policy(""), address, Handshake::AfterInfo).await;
    heard(&sidecar).await
}
