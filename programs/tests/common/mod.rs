#![allow(dead_code)]

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::time::{Instant, sleep};

/// Far longer than any test here takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Runs a test inside an actix system, as programs run.
pub(crate) fn system<T>(test: impl Future<Output = T>) -> T {
    actix::System::new().block_on(test)
}

/// Status and body of a GET; none if there is no response.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let url = format!("http://{address}{path}");
    let get = move || {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .build()
            .into();
        let mut response = agent.get(url).call().ok()?;
        Some((response.status().as_u16(), response.body_mut().read_to_string().unwrap()))
    };
    tokio::task::spawn_blocking(get).await.unwrap()
}

pub(crate) async fn ready(address: SocketAddr) -> (u16, String) {
    get(address, "/readyz").await.expect("answers")
}

/// Waits until `/readyz` returns this status and reason.
pub(crate) async fn ready_is(address: SocketAddr, status: u16, reason: &str) {
    let start = Instant::now();
    loop {
        let (got, body) = ready(address).await;
        if got == status && body.contains(reason) {
            return;
        }
        assert!(start.elapsed() < LIMIT, "expected {status} {reason:?}, got {got} {body:?}");
        sleep(Duration::from_millis(20)).await;
    }
}
