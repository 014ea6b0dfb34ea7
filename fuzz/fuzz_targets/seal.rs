//! Message signatures: no input panics, and only messages that were signed verify.
#![no_main]

use std::sync::LazyLock;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hermesh_fuzz::{DOMAIN, Message};
use hermesh_mesh::{
    identity::Trust,
    seal::{HeaderBlock, SEAL, Sealed, Verifier},
};
use libfuzzer_sys::fuzz_target;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let trust = Trust::from_pem(DOMAIN, include_bytes!("../fixed/root.pem"));
    Verifier::new(trust.expect("a root"))
});
static SEALED: LazyLock<[Message<'static>; 2]> = LazyLock::new(|| {
    let messages: [&[u8]; 2] =
        [include_bytes!("../fixed/sealed-alone"), include_bytes!("../fixed/sealed-with-others")];
    let messages = messages.map(|message| Message::split(message).expect("a message"));
    // Ensures that the assertions below are not vacuous.
    assert!(messages.iter().all(|message| verify(message).is_some()), "see examples/seeds.rs");
    messages
});

fuzz_target!(|data: &[u8]| {
    // The input as a whole message.
    if let Some(message) = Message::split(data)
        && let Some(sealed) = verify(&message)
    {
        assert_eq!(sealed.peer.id.workload(), "service/evaluation");
        assert!(SEALED.iter().any(|known| known.says_what(&message)), "a forged message");
    }
    // The input as the bytes of a signature, on a signed message and on another one.
    let seal = format!("{SEAL}: {}\r\n\r\n", BASE64_URL_SAFE_NO_PAD.encode(data));
    for known in &*SEALED {
        let place = known.headers.windows(SEAL.len()).position(|part| part == SEAL.as_bytes());
        let headers = [&known.headers[..place.expect("a seal")], seal.as_bytes()].concat();
        let message = known.with_headers(&headers);
        verify(&message);
        assert!(verify(&message.with_body(b"another body")).is_none(), "a forged seal");
    }
});

fn verify(message: &Message<'_>) -> Option<Sealed> {
    let headers = HeaderBlock::parse(message.headers).ok()?;
    VERIFIER.verify(&message.content(&headers)).ok()
}
