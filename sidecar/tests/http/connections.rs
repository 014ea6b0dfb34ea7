//! How long connections live, and whose certificate they see.

use super::*;

#[tokio::test]
async fn who_takes_long_makes_room() {
    let mut setup = Setup::of(fake(HELLO).await.address);
    setup.limits.connections = 1;
    setup.limits.handshake = Duration::from_secs(1);
    setup.limits.head = Duration::from_secs(1);
    let running = setup.run().await;
    // One client never begins TLS, one never ends its request's head, one never sends a second request.
    let mut silent = TcpStream::connect(running.address).await.unwrap();
    let mut slow = running.connect(MONITOR).await.unwrap();
    slow.write_all(b"GET /metrics HTTP/1.1\r\nA: ").await.unwrap();
    let mut idle = running.connect(MONITOR).await.unwrap();
    idle.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut idle, "hello").await;
    let answer = running.get(MONITOR, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for stream in [&mut slow, &mut idle] {
        assert!(!until_end(stream).await.contains("200"));
    }
    assert_eq!(until_end(&mut silent).await, "");
}

#[tokio::test]
async fn a_connection_does_not_live_for_ever() {
    // The service sends for an unlimited time.
    let mut service = fake("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nhell").await;
    let mut setup = Setup::of(service.address);
    setup.limits.life = Duration::from_secs(1);
    setup.limits.drain = Duration::from_millis(200);
    let running = setup.run().await;
    let mut stream = running.connect(MONITOR).await.unwrap();
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut stream, "hell").await;
    let (_, mut served) = service.requests.recv().await.unwrap();
    let goes_on = tokio::spawn(async move {
        while served.write_all(b"o").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    until_end(&mut stream).await;
    goes_on.await.unwrap();
}

#[tokio::test]
async fn at_the_end_answers_in_hand_are_finished() {
    let mut service = fake("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell").await;
    let running = Setup::of(service.address).run().await;
    let mut idle = running.connect(MONITOR).await.unwrap();
    idle.write_all(METRICS.replace("metrics", "sidecar/x").as_bytes()).await.unwrap();
    until(&mut idle, "/sidecar/\n").await;
    let mut busy = running.connect(MONITOR).await.unwrap();
    busy.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut busy, "hell").await;
    running.stop.send_replace(true);
    assert_eq!(until_end(&mut idle).await, "");
    assert!(!running.done.is_finished());
    assert!(TcpStream::connect(running.address).await.is_err());
    let (_, mut served) = service.requests.recv().await.unwrap();
    served.write_all(b"o").await.unwrap();
    assert_eq!(until_end(&mut busy).await, "o");
    running.done.await.unwrap();
}

#[tokio::test]
async fn the_next_connection_sees_the_new_certificate() {
    let running = Setup::of(fake(HELLO).await.address).run().await;
    let shown = |stream: &TlsStream<TcpStream>| tls::peer(stream.get_ref().1).unwrap().fingerprint;
    let mut old = running.connect(MONITOR).await.unwrap();
    let renewed = running.domain.credentials("service/evaluation");
    let fingerprint = renewed.peer().fingerprint;
    assert_ne!(shown(&old), fingerprint);
    running.credentials.send_replace(renewed);
    let new = running.connect(MONITOR).await.unwrap();
    assert_eq!(shown(&new), fingerprint);
    // The old connection stays open.
    old.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut old, "hello").await;
}

#[tokio::test]
async fn the_sidecar_answers_for_itself() {
    let running = Setup::of(nobody().await).run().await;
    let answer = running.get(MONITOR, "/sidecar/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nnot ready: the broker is away\n"), "{answer}");
    assert!(running.get(MONITOR, "/sidecar/x").await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn probes_on_this_machine_need_no_certificate() {
    let registry = Registry::new();
    let _counts = Metrics::new(&registry).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    let served = serve_local(listener, own(&registry), Limits::default(), stopped.clone());
    let served = tokio::spawn(served);
    for (target, status, end) in [
        ("/sidecar/healthz", 200, "alive\n"),
        ("/sidecar/readyz", 503, "not ready: the broker is away\n"),
        ("/sidecar/metrics", 200, "hermesh_sidecar_http_connections 0\n"),
        ("/sidecar/healthz/", 400, "one way only\n"),
        ("/metrics", 404, "\n"),
        ("/healthz", 404, "\n"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let text = format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        let answer = until_end(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer}");
        assert!(answer.ends_with(end), "{target}: {answer}");
    }
    stop.send_replace(true);
    served.await.unwrap().unwrap();

    let open = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let refused = serve_local(open, own(&registry), Limits::default(), stopped).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
