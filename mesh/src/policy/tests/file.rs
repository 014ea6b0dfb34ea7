use proptest::prelude::*;

use super::{super::file::MAX_EXPANDED, *};
use crate::UnixMillis;

/// A policy with these lines for one service, starting at line 3.
fn service(lines: &str) -> String {
    format!("trust_domain = \"hermesh.local\"\n[identities.\"service/x\"]\n{lines}\n")
}

#[test]
fn the_default_names_the_services_and_no_tenant() {
    let policy = default_with(&[]);
    let workloads: Vec<&str> = policy.identities().map(SpiffeId::workload).collect();
    let expected = [
        "monitor/prometheus",
        "service/aggregation",
        "service/evaluation",
        "service/key-management",
        "service/preprocessing",
    ];
    assert_eq!((workloads, policy.tenants().len()), (expected.to_vec(), 0));
}

#[test]
fn who_pulls_may_give_up() {
    let policy = default_with(&["acme"]);
    for id in policy.identities() {
        let rules = policy.rules(id).expect("has rules");
        for queue in rules.entries(Verb::Pull).iter().filter(|queue| queue.allowed != "dead") {
            let dead = format!("hermesh.dead.{}", queue.allowed);
            assert!(rules.allows(Verb::Publish, &dead), "{id} {dead}");
        }
    }
}

#[test]
fn a_tenant_reaches_nothing_of_others() {
    let policy = default_with(&["acme", "umbra"]);
    let acme = policy.rules(&id("tenant/acme")).expect("is admitted");
    for own in ["hermesh.job.acme", "hermesh.keys.list-parts.acme", "hermesh.upload.acme.a.1.0"] {
        assert!(acme.allows(Verb::Publish, own), "{own}");
    }
    assert!(acme.allows(Verb::Read, "hermesh.answer.acme.1"));
    assert!(acme.allows(Verb::Subscribe, "hermesh.status.acme.*"));
    assert!(acme.lists("hermesh.service.*"));
    assert!(!acme.lists("hermesh.answer.acme.*") && !acme.lists("hermesh.upload.acme.*.*.*"));
    let (verbs, filters) = (Verb::ALL, super::super::QUEUES.iter().map(|queue| &*queue.filter));
    for filter in filters.chain(["hermesh.cancel.*", "hermesh.keys.>", "hermesh.hold.*"]) {
        let others = example(filter).replacen('x', "umbra", 1).replace(".a.", ".umbra.");
        let readable = |verb| verb == Verb::Read && filter == "hermesh.service.*";
        for verb in verbs.into_iter().filter(|verb| !readable(*verb)) {
            assert!(!acme.allows(verb, &others), "{verb} {others}");
            assert!(!acme.allows(verb, filter), "{verb} {filter}");
        }
    }
    assert!(policy.rules(&id("tenant/other")).is_none());
}

#[test]
fn only_aggregation_names_service_keys_and_only_key_management_keeps_keys() {
    let policy = default_with(&["acme"]);
    let may = |subject: &str| -> Vec<&str> {
        let rules = |id: &&SpiffeId| policy.rules(id).expect("has").allows(Verb::Publish, subject);
        policy.identities().filter(rules).map(SpiffeId::name).collect()
    };
    assert_eq!(may("hermesh.service.0"), ["aggregation"]);
    assert_eq!(may("hermesh.key.0.1.0"), ["key-management"]);
    assert_eq!(may("hermesh.registry.tenant.acme"), ["key-management"]);
    assert_eq!(may("hermesh.admitted.acme.0"), ["preprocessing"]);
    assert_eq!(may("hermesh.job.acme"), ["acme"]);
    assert_eq!(may("hermesh.job.umbra"), [""; 0]);
}

#[test]
fn what_is_wrong_is_found_where_it_is() {
    for (line, wrong) in [
        (3, "read = [\"hermesh.>\"]"),
        (3, "read = [\"hermesh.key.>\", \"hermesh.hold.*\"]"),
        (4, "publish = [\n\"hermesh..x\"]"),
        (3, "publish = [\"hermesh.>.x\"]"),
        (3, "publish = [\"$JS.API.>\"]"),
        (3, "publish = [\">\"]"),
        (3, "publish = [\"hermesh\"]"),
        (3, "publish = [\"hermesh.job.{tenant}\"]"),
        (3, "publish = [\"hermesh.job.a\\\"b\"]"),
        (3, "subscribe = [\"_INBOX.>\"]"),
        (3, "serve = [\"hermesh.job.*\"]"),
        (3, "pull = [\"job\"]"),
        (3, "purge = [\"hermesh.task.express.>\"]"),
        (4, "pull = [\"answers\"]\npurge = [\"hermesh.answer.a.b\"]"),
        (3, "http = [\"metrics\"]"),
        (3, "http = [\"/metrics?x\"]"),
        (3, "limits.connections = 0"),
        (3, "limits.max_payload_bytes = 67108865"),
        (5, "[identities.\"tenant/*\"]\npublish = [\n\"hermesh.job.*\"]"),
        (4, "[identities.\"tenant/*\"]\npublish = [\"hermesh.job.a{tenant}\"]"),
    ] {
        let error = Policy::parse(&service(wrong)).expect_err(wrong);
        assert!(matches!(error, PolicyError::Invalid { line: l, .. } if l == line), "{error}");
    }
    for (line, wrong) in [
        (3, "pulls = []"),
        (3, "limits.memory = 1"),
        (3, "limits.connections = -1"),
        (3, "declare = 1"),
        (4, "read = []\nread = []"),
        (3, "read = [1]"),
        (3, "read = ["),
    ] {
        let error = Policy::parse(&service(wrong)).expect_err(wrong);
        let near = |found| (line..=line + 1).contains(&found);
        assert!(matches!(error, PolicyError::Syntax { line, .. } if near(line)), "{error}");
    }
}

#[test]
fn names_are_of_one_form() {
    for name in ["evaluation", "service/*", "*/x", "service/X", "service/a/b", "tenant/acme", ""] {
        let text = format!("trust_domain = \"hermesh.local\"\n[identities.\"{name}\"]\n");
        let error = Policy::parse(&text).expect_err(name);
        assert_eq!(error, PolicyError::BadName { name: name.into() });
    }
    for start in [
        "trust_domain = \"Hermesh\"",
        "trust_domain = \"\"",
        "trust_domain = \"d\"\nrevoked = [\"acme\"]",
        "trust_domain = \"d\"\nrevoked = [\"spiffe://e/tenant/acme\"]",
        "trust_domain = \"d\"\nrevoked = [\"sha256:00\"]",
        "trust_domain = \"d\"\ntenants = [\"Acme\"]\n[identities.\"tenant/*\"]",
        "trust_domain = \"d\"\ntenants = [\"a\", \"a\"]\n[identities.\"tenant/*\"]",
    ] {
        let error = Policy::parse(start).expect_err(start);
        assert!(matches!(error, PolicyError::Invalid { .. }), "{error}");
    }
    let nobody = Policy::parse("trust_domain = \"d\"\ntenants = [\"a\"]").expect_err("no rules");
    assert_eq!(nobody, PolicyError::NoTenantRule);
}

#[test]
fn sizes_are_bounded() {
    let long = " ".repeat(Policy::MAX_BYTES + 1);
    assert!(matches!(Policy::parse(&long), Err(PolicyError::TooLarge { .. })));
    let lines = vec!["\"hermesh.x\""; 257].join(",");
    let many = Policy::parse(&service(&format!("publish = [{lines}]")));
    assert!(matches!(many, Err(PolicyError::TooMany { .. })), "{many:?}");
    // Enough lines for each tenant that the maximum number of tenants exceeds the limit.
    let lines = vec!["\"hermesh.x.{tenant}\""; 256].join(",");
    let text = service(&format!("[identities.\"tenant/*\"]\npublish = [{lines}]"));
    let policy = Policy::parse(&text).expect("is good");
    let tenant = |number: usize| format!("t{number}").parse().expect("is a name");
    let fit = MAX_EXPANDED / 256;
    let policy = policy.admitting((0..fit).map(tenant)).expect("these fit");
    let error = policy.admitting([tenant(fit)]).expect_err("one more");
    assert_eq!(error, PolicyError::TooMany { what: "tenants", limit: fit });
}

#[test]
fn limits_are_inherited_one_by_one() {
    let text = "trust_domain = \"d\"\n[limits]\nconnections = 3\nbytes_per_second = 7\n\
                [identities.\"service/x\".limits]\nconnections = 5\n";
    let policy = Policy::parse(text).expect("is good");
    let x = SpiffeId::new("d", "service/x").expect("is one");
    let limits = *policy.rules(&x).expect("is there").limits();
    let expected = Limits {
        max_payload_bytes: 8 << 20,
        messages_per_second: 20_000,
        bytes_per_second: 7,
        connections: 5,
    };
    assert_eq!(limits, expected);
}

#[test]
fn who_is_revoked_may_nothing() {
    let digest = Digest([7; 32]);
    let revoked = format!(
        "revoked = [\"spiffe://hermesh.local/tenant/acme\", \"spiffe://hermesh.local/service/evaluation\", \
         \"sha256:{digest}\"]"
    );
    let text = Policy::default_text().replace("revoked = []", &revoked);
    let policy = Policy::parse(&text).expect("is good");
    let tenants = ["acme", "umbra"].map(|name| name.parse().expect("is a name"));
    let policy = policy.admitting(tenants).expect("has rules");
    for gone in [id("tenant/acme"), id("service/evaluation")] {
        assert!(policy.is_revoked_id(&gone) && policy.rules(&gone).is_none());
        assert!(policy.identities().all(|id| *id != gone));
        let why = policy.check(&gone, Verb::Publish, "hermesh.job.acme").expect_err("is denied");
        assert_eq!(why.why, "it is revoked");
    }
    assert!(policy.rules(&id("tenant/umbra")).is_some());
    let peer = |workload, fingerprint| Peer {
        id: id(workload),
        fingerprint,
        not_before: UnixMillis(0),
        not_after: UnixMillis(1),
    };
    assert!(policy.is_revoked(&peer("tenant/umbra", digest)));
    assert!(policy.is_revoked(&peer("tenant/acme", Digest([0; 32]))));
    assert!(!policy.is_revoked(&peer("tenant/umbra", Digest([0; 32]))));
    assert_eq!(policy.revocations(), 3);
}

#[test]
fn the_line_that_decides_is_named() {
    let policy = default_with(&["acme"]);
    let line = |start: &str| {
        let at = Policy::default_text().lines().position(|line| line.trim().starts_with(start));
        Some(1 + at.expect("is there"))
    };
    let acme = id("tenant/acme");
    let may = policy.explain(&acme, Verb::Publish, "hermesh.job.acme");
    assert_eq!((may.allowed, may.line), (true, line("\"hermesh.job.{tenant}\"")));
    assert!(may.to_string().contains("[identities.\"tenant/*\"] publish"), "{may}");
    let not = |id: &SpiffeId, verb, what, hint: &str| {
        let explanation = policy.explain(id, verb, what);
        assert!(!explanation.allowed && explanation.line.is_none());
        assert!(explanation.to_string().contains(hint), "{explanation}");
    };
    not(&acme, Verb::Publish, "hermesh.job.umbra", "\"hermesh.job.{tenant}\"");
    not(&acme, Verb::Publish, "hermesh.answer.acme.0", "nothing near it");
    not(&acme, Verb::Publish, "$JS.API.STREAM.CREATE.x", "follow from");
    not(&acme, Verb::Read, "hermesh.answer.acme.*", "all of hermesh.answer.>");
    not(&acme, Verb::Purge, "hermesh.answer.acme.1", "has no purge");
    not(&id("tenant/umbra"), Verb::Publish, "hermesh.job.umbra", "`tenants`");
    not(&id("service/x"), Verb::Pull, "jobs", "[identities.\"service/x\"]");
    let stranger = SpiffeId::new("other", "tenant/acme").expect("is one");
    not(&stranger, Verb::Publish, "hermesh.job.acme", "trust domain hermesh.local");
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(at in any::<prop::sample::Index>(), len in 0..40_usize, new in ".{0,8}") {
        let text = Policy::default_text();
        let bound = |at: usize| (at..).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        let start = bound(at.index(text.len()));
        let end = bound((start + len).min(text.len()));
        let _ = Policy::parse(&format!("{}{new}{}", &text[..start], &text[end..]));
    }
}
