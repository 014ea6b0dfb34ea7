//! The issuer over HTTPS.

use super::*;

#[tokio::test]
async fn a_workload_joins_and_renews_over_https() {
    let world = World::start().await;
    let first = world.join("service/evaluation").await;
    assert_eq!(*first.id(), id("service/evaluation"));
    world.clock.advance(30 * MINUTE);
    let renewed = world.renew(&first, "service/evaluation").await.expect("renews");
    assert_eq!(renewed, id("service/evaluation"));
    let error = world.renew(&first, "service/aggregation").await.expect_err("it lies");
    assert!(matches!(error, ClientError::Refused { status: 403, .. }), "{error}");
}

#[tokio::test]
async fn a_source_enrols_over_https() {
    let world = World::start().await;
    let token = world.place.path().join("token");
    let text = world.token("service/evaluation").reveal();
    files::write_secret(&token, text.as_bytes(), Existing::Keep).expect("writes");
    let source = Source::Issuer(Enrolment {
        address: world.address.to_string(),
        roots: world.place.path().join("roots.pem"),
        identity: id("service/evaluation"),
        token: Some(token),
        directory: world.place.path().join("identity"),
    });
    let handle = timeout(MINUTE, source.start(world.clock.clone())).await.expect("starts");
    assert_eq!(*handle.current().id(), id("service/evaluation"));
    assert!(world.place.path().join("identity/identity.pem").exists());
}

#[tokio::test]
async fn the_issuers_own_certificate_is_renewed() {
    let world = World::start().await;
    let peer = async || {
        let stream = world.tls(&[&TLS13]).await.expect("a handshake");
        let (_, session) = stream.get_ref();
        let certificates = session.peer_certificates().expect("has one");
        Chain::new(certificates.to_vec()).expect("a chain").peer().expect("a name")
    };
    let first = peer().await;
    assert_eq!(first.id, id("issuer/hermesh"));
    assert_eq!(peer().await, first);
    world.clock.advance(30 * MINUTE);
    let second = peer().await;
    assert_ne!(second.fingerprint, first.fingerprint);
    assert!(second.not_after > first.not_after);
}

#[tokio::test]
async fn an_expired_certificate_renews_nothing() {
    let world = World::start().await;
    let old = world.join("service/evaluation").await;
    world.clock.advance(HOUR + MINUTE);
    let error = world.renew(&old, "service/evaluation").await.expect_err("it is too old");
    assert!(!matches!(error, ClientError::Refused { .. }), "it ends with TLS: {error}");
}

#[tokio::test]
async fn a_certificate_of_another_root_renews_nothing() {
    let (world, other) = (World::start().await, World::start().await);
    let theirs = other.join("service/evaluation").await;
    let error = world.renew(&theirs, "service/evaluation").await.expect_err("an unknown root");
    assert!(!matches!(error, ClientError::Refused { .. }), "it ends with TLS: {error}");
}

#[tokio::test]
async fn who_is_not_the_issuer_is_told_no_token() {
    let world = World::start().await;
    let now = world.clock.now();
    // A workload of our domain that is not the issuer, and the issuer of another domain.
    let other = Authority::create(DOMAIN, now, now.plus(HOUR)).expect("creates");
    for (authority, workload) in [(&world.root, "service/evaluation"), (&other, "issuer/hermesh")] {
        let grant = grant(authority, id(workload), Vec::new(), now, HOUR).expect("grants");
        let credentials = authority.credentials(&grant).expect("issues");
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(credentials.certified_key())));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("an address").to_string();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("accepts");
            acceptor.accept(stream).await.is_err()
        });
        let ask = Ask {
            trust: world.trust(),
            credentials: None,
            csr: String::new(),
            token: Some(world.token("service/evaluation")),
        };
        let client = Client::new(address, world.clock.clone());
        let error = client.certificate(ask).await.expect_err("it is not the issuer");
        assert!(matches!(error, ClientError::Connect { .. }), "{error}");
        assert!(server.await.expect("ends"), "the handshake is broken off");
    }
}

#[tokio::test]
async fn tls_is_of_version_1_3() {
    let world = World::start().await;
    world.tls(&[&TLS13]).await.expect("a handshake");
    let error = world.tls(&[&TLS12]).await.expect_err("too old");
    let alert = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion);
    assert_eq!(alert, Some(&expected));
}

#[tokio::test]
async fn long_bodies_are_refused() {
    let world = World::start().await;
    let long = "x".repeat((64 << 10) + 1);
    assert_eq!(status(&world.post(&long).await), "413");
    // Without a content length.
    let head = "POST /v1/certificate HTTP/1.1\r\nhost: issuer\r\ntransfer-encoding: chunked";
    let chunked = format!("{head}\r\n\r\n{:x}\r\n{long}\r\n0\r\n\r\n", long.len());
    assert_eq!(status(&world.send(chunked.as_bytes()).await), "413");
    let head = format!("GET /healthz HTTP/1.1\r\nhost: issuer\r\nx: {long}\r\n\r\n");
    assert_eq!(status(&world.send(head.as_bytes()).await), "431");
    assert_eq!(status(&world.get("/healthz").await), "200");
}

#[tokio::test]
async fn what_is_not_asked_as_it_should_be_is_refused() {
    let world = World::start().await;
    let csr = escaped(&KeyAndRequest::generate(&id("tenant/acme")).expect("a request").request);
    let token = world.token("tenant/acme").reveal();
    for (expected, body) in [
        ("400", "".to_owned()),
        ("400", "{}".to_owned()),
        ("400", r#"{"csr": 1}"#.to_owned()),
        ("400", format!(r#"{{"csr": "{csr}", "identity": "service/evaluation"}}"#)),
        ("401", format!(r#"{{"csr": "{csr}"}}"#)),
        ("400", format!(r#"{{"csr": "nothing", "token": "{}"}}"#, *token)),
        ("403", format!(r#"{{"csr": "{csr}", "token": "nothing"}}"#)),
        ("200", format!(r#"{{"csr": "{csr}", "token": "{}"}}"#, *token)),
        ("403", format!(r#"{{"csr": "{csr}", "token": "{}"}}"#, *token)),
    ] {
        let answer = world.post(&body).await;
        assert_eq!(status(&answer), expected, "{body}: {answer}");
    }
    assert_eq!(status(&world.get("/v1/certificate").await), "405");
    assert_eq!(status(&world.get("/").await), "404");
}

#[tokio::test]
async fn an_address_may_guess_ten_times_a_minute() {
    let world = World::start().await;
    let csr = escaped(&KeyAndRequest::generate(&id("tenant/acme")).expect("a request").request);
    let ask = |token: &str| format!(r#"{{"csr": "{csr}", "token": "{token}"}}"#);
    for attempt in 0..10 {
        assert_eq!(status(&world.post(&ask(&"A".repeat(43))).await), "403", "{attempt}");
    }
    let good = ask(&world.token("tenant/acme").reveal());
    let answer = world.post(&good).await;
    assert_eq!(status(&answer), "429");
    assert!(answer.contains("retry-after: 60"), "{answer}");
    world.clock.advance(MINUTE);
    assert_eq!(status(&world.post(&good).await), "200");
}

#[tokio::test]
async fn roots_and_health_need_no_certificate() {
    let world = World::start().await;
    let answer = world.get("/v1/roots").await;
    assert_eq!(status(&answer), "200");
    let roots = Trust::from_pem(DOMAIN, body(&answer).as_bytes()).expect("roots");
    assert_eq!(roots.roots(), world.trust().roots());
    assert_eq!(status(&world.get("/healthz").await), "200");
}

#[tokio::test]
async fn silent_connections_do_not_block_others() {
    let world = World::start().await;
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(TcpStream::connect(world.address).await.expect("connects"));
    }
    assert_eq!(status(&world.get("/healthz").await), "200");
}
