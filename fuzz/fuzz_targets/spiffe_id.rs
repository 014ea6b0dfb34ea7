//! Names of workloads: an accepted name has one spelling only, and its two segments are valid subject tokens.
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
    // No port, user, query or escapes: a URL parser sees only host and path.
    let host = |b: u8| label(b) || matches!(b, b'.' | b'_');
    assert!(!domain.is_empty() && domain.bytes().all(host), "{domain}");
    assert!(text.len() <= SpiffeId::MAX_LEN);
    assert_eq!(id.inbox(), format!("_INBOX.{}.{}", id.kind(), id.name()));
});
