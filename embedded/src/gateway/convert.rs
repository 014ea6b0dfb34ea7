//! Messages to and from HTTP.

use actix_web::{
    HttpResponse,
    http::{StatusCode, header::ContentType},
};
use hermesh_mesh::{Bytes, Error, Headers, Message};

/// The message that HTTP headers and a body carry. HTTP's own headers are left out; its names are
/// case-insensitive, a message's are not, so they are brought into the protocol's form.
///
/// # Errors
/// A header twice, or of a form that no message's header has.
pub fn message_from_http<'a>(
    headers: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    body: Bytes,
) -> Result<Message, Error> {
    // The subject is of no use here: it is made anew from the headers of each type.
    let mut message = Message::new("hermesh.http", body);
    for (name, value) in headers {
        let Some(name) = protocol_name(name) else { continue };
        let bad = |expected| Error::BadHeader { header: name.clone(), expected };
        if message.headers.get(&name).is_some() {
            return Err(bad("only one of this name"));
        }
        let value = std::str::from_utf8(value)
            .map_err(|_| bad("at most 1024 printable ASCII characters"))?;
        message.headers.insert(&name, value)?;
    }
    Ok(message)
}

/// A message's headers and body as an HTTP response.
pub(super) fn response(status: StatusCode, message: &Message) -> HttpResponse {
    let mut response = HttpResponse::build(status);
    for header in message.headers.iter() {
        response.insert_header(header);
    }
    if message.body.is_empty() {
        return response.finish();
    }
    response.content_type(ContentType::octet_stream()).body(message.body.clone())
}

/// `hermesh-verifying-key` → `Hermesh-Verifying-Key`; nothing for headers that are HTTP's own.
fn protocol_name(http: &str) -> Option<String> {
    if http.len() > Headers::MAX_NAME {
        return None;
    }
    let name = http.to_ascii_lowercase();
    if name.starts_with("ce-") || name == "traceparent" {
        return Some(name);
    }
    let capitalised = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_ascii_uppercase() + rest
    };
    name.starts_with("hermesh-")
        .then(|| name.split('-').map(capitalised).collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use hermesh_mesh::{
        Digest, JobId, SigningKey, UnixMillis,
        wire::{
            Answer, Context, Failure, FailureCode, Job, Receipt, RegisterModel, RegisterTenant,
            RevokeKey, Status, TraceParent, UploadEvaluationKey, Wire,
        },
    };

    use super::*;

    fn there_and_back(message: &Message) {
        let response = response(StatusCode::OK, message);
        let headers: Vec<(&str, &[u8])> =
            response.headers().iter().map(|(k, v)| (k.as_str(), v.as_bytes())).collect();
        let found = message_from_http(headers, message.body.clone()).unwrap();
        assert_eq!(found.headers, message.headers);
        assert_eq!(found.body, message.body);
    }

    #[test]
    fn every_message_of_a_tenant_survives_http() {
        let key = SigningKey::generate();
        let (tenant, digest) = ("acme".parse::<hermesh_mesh::TenantId>().unwrap(), Digest([7; 32]));
        let context = Context {
            job: JobId::random(),
            tenant: tenant.clone(),
            model: digest,
            key: digest,
            input: digest,
            deadline: UnixMillis(1),
            trace: Some(TraceParent::random()),
        };
        let job = context.job;
        let receipt = Receipt::new(&context, b"answer", [1; 16], &key);
        let answer = Answer { tenant: tenant.clone(), receipt, body: b"answer".as_slice().into() };
        let failure = Failure::new(&context, FailureCode::Expired, "too late");
        there_and_back(&RegisterTenant::new(tenant.clone(), &key).encode("client"));
        there_and_back(&UploadEvaluationKey::new(tenant.clone(), digest, &key).encode("client"));
        there_and_back(&RevokeKey::new(tenant.clone(), digest, &key).encode("client"));
        there_and_back(&RegisterModel { model: digest }.encode("client"));
        there_and_back(&Job::new(context, b"input".as_slice().into(), &key).encode("client"));
        there_and_back(&Status { tenant, job, done: 1, total: 2 }.encode("evaluation"));
        there_and_back(&answer.encode("aggregation"));
        there_and_back(&failure.encode("preprocessing"));
    }

    #[test]
    fn http_keeps_its_own_headers() {
        let headers = [("Host", b"localhost".as_slice()), ("hermesh", b"x"), ("CE-ID", b"a")];
        let message = message_from_http(headers, Bytes::new()).unwrap();
        assert_eq!(message.headers.iter().collect::<Vec<_>>(), [("ce-id", "a")]);
    }

    #[test]
    fn ambiguous_and_unprintable_headers_are_refused() {
        let refused = |headers: [(&str, &[u8]); 2]| {
            let error = message_from_http(headers, Bytes::new()).unwrap_err();
            assert!(matches!(error, Error::BadHeader { .. }), "{error:?}");
        };
        refused([("Hermesh-Job", b"a"), ("hermesh-job", b"b")]);
        refused([("ce-id", b"a"), ("Hermesh-Job", b"\xff")]);
        refused([("ce-id", b"a"), ("Hermesh-Job", &[b'x'; 1025])]);
    }
}
