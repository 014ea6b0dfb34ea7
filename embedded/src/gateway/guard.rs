//! What every request has to pass, and its line in the log.

use std::time::Instant;

use actix_web::{
    Error, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
};

use super::refusal::Refused;

/// Keeps web pages out: a browser on this machine reaches loopback too, but it says from which page
/// it comes (`Origin`), or, after the name of that page was pointed at loopback, by which name it was
/// sent here (`Host`).
pub(super) async fn check(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let start = Instant::now();
    let response = match refuse(&request) {
        Some(refused) => request.into_response(refused.error_response()),
        None => next.call(request).await?.map_into_boxed_body(),
    };
    let (method, status) = (response.request().method(), response.status().as_u16());
    // Never the path as it came: it may hold anything.
    let path = response.request().match_pattern();
    let path = path.as_deref().unwrap_or("unknown");
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    if method == Method::GET && response.status().is_success() {
        // Polls come many times a second.
        tracing::debug!(%method, path, status, milliseconds, "request");
    } else {
        tracing::info!(%method, path, status, milliseconds, "request");
    }
    Ok(response)
}

fn refuse(request: &ServiceRequest) -> Option<Refused> {
    let forbidden = |message: &str| Some(Refused::http(StatusCode::FORBIDDEN, message));
    if request.headers().contains_key(header::ORIGIN) {
        return forbidden("expected a program of this machine, got a web page's request (Origin)");
    }
    let mut hosts = request.headers().get_all(header::HOST);
    let host = hosts.next().and_then(|host| host.to_str().ok());
    // A target in absolute form would count for more than the header.
    let target = request.uri().authority().map(|authority| authority.as_str());
    let local = host.is_some_and(is_loopback) && target.is_none_or(is_loopback);
    if !local || hosts.next().is_some() {
        return forbidden("expected one Host header of localhost, 127.0.0.1 or [::1]");
    }
    None
}

fn is_loopback(authority: &str) -> bool {
    let port = |text: &str| {
        text.is_empty()
            || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
    };
    ["127.0.0.1", "[::1]", "localhost"].iter().any(|name| {
        let (start, rest) = authority.split_at_checked(name.len()).unwrap_or_default();
        start.eq_ignore_ascii_case(name) && port(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn only_names_of_this_machine_pass() {
        for name in ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8080", "[::1]:1"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in [
            "",
            "localhost.example",
            "localhost:80.example",
            "127.0.0.1.example",
            "user@localhost",
            "0.0.0.0",
            "[::2]",
            "example.com:8080",
        ] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
