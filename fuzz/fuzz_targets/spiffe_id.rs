//! Names of workloads: what is accepted is written in one way only, and is of two segments that may stand
//! in a subject.
#![no_main]

use hermesh_mesh::identity::SpiffeId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(id) = text.parse::<SpiffeId>() else { return };
    assert_eq!((id.as_str(), id.to_string().as_str()), (text, text));
    let (domain, workload) = (id.trust_domain(), id.workload());
    assert_eq!(format!("spiffe://{domain}/{}/{}", id.kind(), id.name()), text);
    assert_eq!(format!("{}/{}", id.kind(), id.name()), workload);
    assert_eq!(SpiffeId::new(domain, workload).as_ref(), Ok(&id));
    let label = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    for segment in [id.kind(), id.name()] {
        assert!((1..=SpiffeId::MAX_SEGMENT).contains(&segment.len()) && segment.bytes().all(label));
    }
    // No port, no user, no query, no escapes: whoever takes it for a URL sees host and path only.
    let host = |b: u8| label(b) || matches!(b, b'.' | b'_');
    assert!(!domain.is_empty() && domain.bytes().all(host), "{domain}");
    assert!(text.len() <= SpiffeId::MAX_LEN);
    assert_eq!(id.inbox(), format!("_INBOX.{}.{}", id.kind(), id.name()));
});
