//! A policy, a NUL, and a requested action: all places that enforce the policy agree on what is allowed.
#![no_main]

use hermesh_mesh::{
    matches,
    policy::{
        Policy, Verb, covers,
        nats::{ServerOptions, classify, permissions, render},
    },
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    let (text, what) = data.rsplit_once('\0').unwrap_or((data, "hermesh.job.acme"));
    let Ok(policy) = Policy::parse(text) else { return };
    for id in policy.identities() {
        assert_eq!(id.trust_domain(), policy.trust_domain());
        assert!(!policy.is_revoked_id(id), "{id} is revoked and listed");
        let rules = policy.rules(id).expect("who is listed has rules");
        for verb in Verb::ALL {
            let allowed = rules.allows(verb, what);
            assert_eq!(policy.explain(id, verb, what).allowed, allowed);
            assert_eq!(policy.check(id, verb, what).is_ok(), allowed);
        }
        let granted = permissions(rules, id);
        if classify(rules, id, what, b"").is_ok() {
            // Replies are allowed by the request, not by a rule.
            let answer = what.starts_with("_INBOX.");
            let granted = granted.publish.iter().any(|filter| matches(filter, what));
            assert!(answer || granted, "{id} may publish to {what} here and not at the server");
        }
        // No identity can subscribe to another's replies.
        let own = format!("{}.>", id.inbox());
        for filter in &granted.subscribe {
            let filter = filter.split(' ').next().unwrap_or_default();
            assert!(filter == own || !covers(filter, "_INBOX.tenant.acme.1"), "{id}: {filter}");
        }
    }
    let path = || "/x".into();
    let options = ServerOptions {
        listen: ([127, 0, 0, 1], 4222).into(),
        monitoring: None,
        certificate: path(),
        key: path(),
        roots: path(),
        store: path(),
        log: None,
        max_payload: 1 << 20,
        handshake_first: false,
        sync_always: false,
    };
    let rendered = render(&policy, &options);
    assert!(rendered.contains("verify_and_map: true") && !rendered.contains("no_auth_user"));
});
