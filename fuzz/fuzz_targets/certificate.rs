//! Certificates in PEM or DER: no input panics, and only certificates issued under the fixed root verify.
#![no_main]

use std::sync::LazyLock;

use hermesh_fuzz::DOMAIN;
use hermesh_mesh::{
    UnixMillis,
    identity::{Chain, Purpose, Trust},
};
use libfuzzer_sys::fuzz_target;
use rustls::pki_types::CertificateDer;

static TRUST: LazyLock<Trust> =
    LazyLock::new(|| Trust::from_pem(DOMAIN, include_bytes!("../fixed/root.pem")).expect("a root"));
static LEAF: LazyLock<Chain> = LazyLock::new(|| {
    let leaf = Chain::from_pem(include_bytes!("../fixed/leaf.pem")).expect("a leaf");
    // Ensures that the assertions below are not vacuous.
    TRUST.verify(&leaf, Purpose::Client, UnixMillis(TIMES[1])).expect("see examples/seeds.rs");
    leaf
});
const TIMES: [u64; 3] = [0, 1_800_000_000_000, u64::MAX];

fuzz_target!(|data: &[u8]| {
    let der = || CertificateDer::from(data.to_vec());
    let leaf = || LEAF.certificates()[0].clone();
    let chains = [
        Chain::from_pem(data),
        Chain::new(vec![der()]),
        Chain::new(vec![leaf(), der()]),
        Chain::new(vec![der(), leaf()]),
    ];
    chains.iter().flatten().for_each(check);
    let _ = Trust::from_pem(DOMAIN, data);
});

fn check(chain: &Chain) {
    assert!((1..=Chain::MAX_COUNT).contains(&chain.certificates().len()));
    assert!(chain.certificates().iter().all(|one| one.len() <= Chain::MAX_BYTES));
    let says = chain.peer();
    for purpose in [Purpose::Client, Purpose::Server] {
        for time in TIMES {
            let Ok(peer) = TRUST.verify(chain, purpose, UnixMillis(time)) else { continue };
            assert_eq!(says.as_ref(), Ok(&peer));
            assert_eq!(chain.certificates()[0], LEAF.certificates()[0], "a forged certificate");
            assert_eq!(peer.id.workload(), "service/evaluation");
            assert!((peer.not_before..=peer.not_after).contains(&UnixMillis(time)));
        }
    }
}
