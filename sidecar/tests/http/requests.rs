//! What a request and its answer may be, and who may ask.

use super::*;

#[tokio::test]
async fn only_the_sidecar_can_name_the_caller() {
    let mut service = fake(HELLO).await;
    let running = Setup::of(service.address).run().await;
    let text = "GET http://elsewhere/metrics?a=%20b HTTP/1.1\r\n\
        Host: elsewhere\r\n\
        Hermesh-Identity: spiffe://hermesh.local/service/key-management\r\n\
        HERMESH-IDENTITY: spiffe://hermesh.local/service/key-management\r\n\
        Hermesh_Identity: spiffe://hermesh.local/service/key-management\r\n\
        X-Forwarded-Client-Cert: URI=spiffe://hermesh.local/service/key-management\r\n\
        X-Forwarded-For: 127.0.0.1\r\n\
        Forwarded: for=127.0.0.1\r\n\
        Authorization: Bearer a\r\n\
        Cookie: a=b\r\n\
        Connection: close, accept, hermesh-identity\r\n\
        Keep-Alive: timeout=5\r\n\
        Upgrade: websocket\r\n\
        TE: trailers\r\n\
        Accept: text/plain\r\n\
        Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    let answer = running.all(MONITOR, text).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhello"),
        "{answer}"
    );
    let (head, _) = service.requests.recv().await.unwrap();
    let mut lines: Vec<&str> = head.trim_end().split("\r\n").collect();
    lines.sort_unstable();
    let host = format!("host: {}", service.address);
    assert_eq!(
        lines,
        [
            "GET /metrics?a=%20b HTTP/1.1",
            "accept: text/plain",
            "connection: close",
            "hermesh-identity: spiffe://hermesh.local/monitor/prometheus",
            &host,
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ]
    );
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_denied() {
    let mut service = fake(HELLO).await;
    let running = Setup::of(service.address).run().await;
    for (workload, target) in [
        ("tenant/acme", "/metrics"),
        ("service/key-management", "/metrics"),
        (MONITOR, "/healthz"),
        (MONITOR, "/metrics.old"),
        (MONITOR, "/sidecar/metrics"),
        ("tenant/acme", "/sidecar/readyz"),
    ] {
        let answer = running.get(workload, target).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{workload} {target}: {answer}");
    }
    // Paths that could be read in two ways.
    for target in ["/%6detrics", "//metrics", "/metrics/", "/./metrics", "/a/../metrics", "/"] {
        let answer = running.get(MONITOR, target).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{target}: {answer}");
    }
    assert!(service.requests.try_recv().is_err());
    // A changed policy applies from the next request on.
    let mut stream = running.connect("tenant/acme").await.unwrap();
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    assert!(until(&mut stream, "/metrics\n").await.starts_with("HTTP/1.1 403 "));
    running.rules.send_replace(rules(&[("tenant/acme", "/metrics")], &[]));
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    assert!(until(&mut stream, "hello").await.starts_with("HTTP/1.1 200 "));
    assert!(running.count("hermesh_sidecar_http_requests_total{code=\"403\"} 7"));
}

#[tokio::test]
async fn who_is_revoked_is_cut_off() {
    let mut service = fake("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell").await;
    let running = Setup::of(service.address).run().await;
    // One connection is idle between requests, one is in the middle of a response.
    let mut idle = running.connect(MONITOR).await.unwrap();
    for _ in 0..2 {
        idle.write_all(METRICS.replace("metrics", "sidecar/x").as_bytes()).await.unwrap();
        until(&mut idle, "/sidecar/\n").await;
    }
    let mut busy = running.connect(MONITOR).await.unwrap();
    busy.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut busy, "hell").await;
    let (_, mut served) = service.requests.recv().await.unwrap();

    // Revoking another peer does not affect them.
    running.rules.send_replace(rules(&[(MONITOR, "/sidecar/x")], &["tenant/acme"]));
    idle.write_all(METRICS.replace("metrics", "sidecar/x").as_bytes()).await.unwrap();
    until(&mut idle, "/sidecar/\n").await;

    running.rules.send_replace(rules(&[(MONITOR, "/sidecar/x")], &[MONITOR]));
    assert_eq!(until_end(&mut idle).await, "");
    assert_eq!(until_end(&mut busy).await, "");
    // The connection to the service is closed too.
    until_end(&mut served).await;
    assert!(running.count("hermesh_sidecar_http_connections_refused_total{reason=\"revoked\"} 2"));

    // In TLS 1.3 the client learns of the refusal only with the first response.
    if let Ok(mut again) = running.connect(MONITOR).await {
        let _ = again.write_all(METRICS.as_bytes()).await;
        assert_eq!(until_end(&mut again).await, "");
    }
}

#[tokio::test]
async fn who_has_expired_is_cut_off() {
    let service = fake(HELLO).await;
    let mut setup = Setup::of(service.address);
    // The tests' certificates are valid for a day.
    let ahead = now().until(domain::today().1) - Duration::from_secs(3);
    setup.clock = Arc::new(Ahead(ahead));
    let running = setup.run().await;
    let mut stream = running.connect(MONITOR).await.unwrap();
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    until(&mut stream, "hello").await;
    assert_eq!(until_end(&mut stream).await, "");
    assert!(running.count("hermesh_sidecar_http_connections_refused_total{reason=\"expired\"} 1"));
}

#[tokio::test]
async fn a_service_that_is_away_is_told() {
    let running = Setup::of(nobody().await).run().await;
    assert!(running.get(MONITOR, "/metrics").await.starts_with("HTTP/1.1 502 "));
    for answer in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    ] {
        let service = fake(answer).await;
        let running = Setup::of(service.address).run().await;
        let told = running.get(MONITOR, "/metrics").await;
        assert!(told.starts_with("HTTP/1.1 502 "), "{answer}: {told}");
    }
    let silent = fake("").await;
    let mut setup = Setup::of(silent.address);
    setup.patience = Duration::from_millis(100);
    let running = setup.run().await;
    assert!(running.get(MONITOR, "/metrics").await.starts_with("HTTP/1.1 504 "));
}

#[tokio::test]
async fn an_answer_is_passed_on_as_it_comes_and_not_waited_for_for_ever() {
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive, x-a\r\n\
        X-A: b\r\nSet-Cookie: a=b\r\nServer: c\r\nContent-Type: text/plain\r\n\r\n4\r\nhell\r\n";
    let mut service = fake(answer).await;
    let mut setup = Setup::of(service.address);
    setup.patience = Duration::from_secs(2);
    let running = setup.run().await;
    for goes_on in [true, false] {
        let mut stream = running.connect(MONITOR).await.unwrap();
        stream.write_all(METRICS.as_bytes()).await.unwrap();
        let head = until(&mut stream, "\r\n\r\n").await;
        assert!(head.contains("content-type: text/plain\r\n"), "{head}");
        for name in ["x-a:", "set-cookie:", "server:", "connection:"] {
            assert!(!head.contains(name), "{head}");
        }
        until(&mut stream, "4\r\nhell\r\n").await;
        let (_, mut served) = service.requests.recv().await.unwrap();
        if goes_on {
            served.write_all(b"1\r\no\r\n0\r\nTrailer: a\r\n\r\n").await.unwrap();
            assert_eq!(until(&mut stream, "0\r\n\r\n").await, "1\r\no\r\n0\r\n\r\n");
        } else {
            // Cut off, so that the client cannot take the part for the whole.
            assert_eq!(until_end(&mut stream).await, "");
        }
    }
}

#[tokio::test]
async fn an_answer_has_an_end() {
    let mut service = fake("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let running = Setup::of(service.address).run().await;
    let mut stream = running.connect(MONITOR).await.unwrap();
    stream.write_all(METRICS.as_bytes()).await.unwrap();
    let (_, mut served) = service.requests.recv().await.unwrap();
    let endless = tokio::spawn(async move {
        let chunk = format!("100000\r\n{}\r\n", "a".repeat(1 << 20));
        while served.write_all(chunk.as_bytes()).await.is_ok() {}
    });
    let answer = until_end(&mut stream).await;
    let letters = answer.bytes().filter(|&byte| byte == b'a').count();
    assert!((63 << 20..=(64 << 20) + 100).contains(&letters), "{letters}");
    endless.await.unwrap();
}

#[tokio::test]
async fn a_head_is_answered_without_a_body() {
    let service = fake("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let running = Setup::of(service.address).run().await;
    let text = METRICS.replace("GET", "HEAD").replace("Host: a", "Host: a\r\nConnection: close");
    let answer = running.all(MONITOR, &text).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_request_of_any_other_form_ends_the_connection() {
    let mut service = fake(HELLO).await;
    let running = Setup::of(service.address).run().await;
    let long = format!("GET /metrics HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(20_000));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100));
    let target = format!("GET /metrics?{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(20_000));
    // Each body contains text that would be a second request if the body's length were read differently.
    for (head, body, status) in [
        (&*long, "", "431"),
        (&*many, "", "431"),
        (&*target, "", "431"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "a", "400"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", "a", "400"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 0, 5\r\n\r\n", "hello", "400"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "", "400"),
        ("GET /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "hello", "400"),
        ("GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", "400"),
        (
            "GET /metrics HTTP/1.1\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
            "0\r\n\r\n",
            "400",
        ),
        (
            "GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            "0\r\n\r\n",
            "400",
        ),
        ("GET /metrics HTTP/1.1\r\nTransfer-Encoding: identity\r\n\r\n", "", "400"),
        ("GET /metrics HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n", "0\r\n\r\n", "400"),
        ("GET /metrics HTTP/1.1\r\nA: b\r\n Content-Length: 5\r\n\r\n", "hello", "400"),
        ("POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\n", "hello", "405"),
        ("PUT /metrics HTTP/1.1\r\n\r\n", "", "405"),
        ("CONNECT 127.0.0.1:22 HTTP/1.1\r\n\r\n", "", "405"),
        ("OPTIONS * HTTP/1.1\r\n\r\n", "", "405"),
    ] {
        let answer = running.all(MONITOR, &format!("{head}{body}{METRICS}")).await;
        let shown = &head[..head.len().min(100)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown}: {answer}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{shown}: {answer}");
    }
    assert!(service.requests.try_recv().is_err());
    // Requests that are not HTTP/1 are refused.
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert!(!running.all(MONITOR, preface).await.contains(" 200 "));
}
