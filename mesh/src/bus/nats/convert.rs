//! Conversion between messages of the mesh and NATS messages.

use async_nats::HeaderMap;

use crate::{
    Error, Headers, Message,
    message::{MAX_ID, MESSAGE_ID},
    seal::SEAL,
};

/// Headers with this prefix control the server.
const SERVERS: &str = "nats-";

/// Header that marks an unreadable message: the reason, in place of the headers left out.
const UNREADABLE: &str = "Hermesh-Unreadable";

/// Whether a header is not part of the message itself: it controls the server, or is the message signature, which
/// sidecars add and verify.
fn reserved(name: &str) -> bool {
    let servers =
        name.get(..SERVERS.len()).is_some_and(|start| start.eq_ignore_ascii_case(SERVERS));
    servers || name.eq_ignore_ascii_case(SEAL)
}

/// Converts headers to NATS headers.
pub(super) fn to_nats(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| !reserved(name)) {
        map.insert(name, value);
    }
    map
}

/// Converts a NATS message. On an error, also returns the readable part.
pub(super) fn from_nats(
    subject: &str,
    headers: Option<&HeaderMap>,
    body: bytes::Bytes,
) -> Result<Message, (Message, Error)> {
    let mut message = Message::new(subject, body);
    let mut refused = None;
    let headers = headers.into_iter().flat_map(HeaderMap::iter);
    for (name, values) in headers.filter(|(name, _)| !reserved(name.as_ref())) {
        let name: &str = name.as_ref();
        let inserted = match &values[..] {
            [value] if name == MESSAGE_ID && value.as_str().len() > MAX_ID => {
                let got = value.as_str().len();
                Err(Error::TooLarge { what: "message id", got, limit: MAX_ID })
            }
            [value] => message.headers.insert(name, value.as_str()),
            _ => Err(Error::BadHeader {
                header: name.chars().take(Headers::MAX_NAME).collect(),
                expected: "one value",
            }),
        };
        if let Err(error) = inserted {
            refused = Some(error);
        }
    }
    match refused {
        None => Ok(message),
        Some(error) => {
            // Marks the rest, so that it is not mistaken for another message.
            message.headers.set(UNREADABLE, &error);
            Err((message, error))
        }
    }
}

/// Whether `subject` names one subject, not several.
pub(crate) fn check_subject(subject: &str) -> Result<(), Error> {
    let token = |token: &str| {
        !token.is_empty() && token.bytes().all(|b| b.is_ascii_graphic() && !b"*>".contains(&b))
    };
    if subject.split('.').all(token) {
        return Ok(());
    }
    Err(Error::Malformed {
        what: "subject",
        expected: "printable tokens separated by dots, none of them empty or a wildcard",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_the_messages_own_neither_leaves_nor_enters() {
        let mut headers = Headers::default();
        for name in ["nats-rollup", "Nats-Msg-Id", "Hermesh-Seal", "hermesh-seal"] {
            headers.set(name, "x");
        }
        headers.set("ce-id", "y");
        let mut map = to_nats(&headers);
        assert_eq!(map.len(), 1);
        map.insert("Nats-Msg-Size", "7");
        // Longer than a header may be, and repeated.
        let seal = "x".repeat(4 * Headers::MAX_VALUE);
        map.append("Hermesh-Seal", &*seal);
        map.append("Hermesh-Seal", &*seal);
        map.insert("HERMESH-SEAL", &*seal);
        let message = from_nats("a", Some(&map), "".into()).expect("is readable");
        assert_eq!(message, Message::new("a", "").with_id("y"));
    }

    #[test]
    fn unreadable_headers_leave_what_is_readable() {
        let mut map = HeaderMap::new();
        map.insert("good", "1");
        map.insert("long", "x".repeat(Headers::MAX_VALUE + 1).as_str());
        map.append("twice", "1");
        map.append("twice", "2");
        map.insert("ce-id", "x".repeat(MAX_ID + 1).as_str());
        let (kept, _) = from_nats("a", Some(&map), "body".into()).expect_err("is refused");
        let (good, marked) = (kept.headers.get("good"), kept.headers.get(UNREADABLE));
        assert_eq!((good, marked.is_some(), kept.headers.iter().count()), (Some("1"), true, 2));
        assert_eq!(kept.body, "body");
        let mut many = HeaderMap::new();
        for i in 0..=Headers::MAX_COUNT {
            many.insert(format!("h{i}").as_str(), "x");
        }
        assert!(from_nats("a", Some(&many), "".into()).is_err());
    }

    #[test]
    fn a_subject_is_one_subject() {
        assert!(check_subject("a.b-c.d_e").is_ok());
        for bad in ["", "a..b", "a.", "a.*", "a.>", "a b", "a\r\nPUB x"] {
            assert!(check_subject(bad).is_err(), "{bad:?}");
        }
    }
}
