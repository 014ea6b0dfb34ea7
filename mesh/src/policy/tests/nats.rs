use proptest::prelude::*;

use super::{
    super::nats::{Listening, Permissions, Publication, classify, listen, permissions, replies_to},
    *,
};
use crate::{bus::nats::streams, matches};

const WORKLOADS: [&str; 6] = [
    "service/key-management",
    "service/preprocessing",
    "service/evaluation",
    "service/aggregation",
    "monitor/prometheus",
    "tenant/acme",
];

fn of(policy: &Policy, workload: &str) -> (SpiffeId, Rules, Permissions) {
    let id = id(workload);
    let rules = policy.rules(&id).expect("is there").clone();
    let permissions = permissions(&rules, &id);
    (id, rules, permissions)
}

fn permitted(permissions: &Permissions, subject: &str) -> bool {
    permissions.publish.iter().any(|filter| matches(filter, subject))
}

/// A random subject, sometimes one of the server's API.
fn subject() -> impl Strategy<Value = String> {
    let api = [
        "STREAM.CREATE",
        "STREAM.INFO",
        "STREAM.MSG.GET",
        "STREAM.PURGE",
        "STREAM.DELETE",
        "STREAM.UPDATE",
        "STREAM.NAMES",
        "STREAM.SNAPSHOT",
        "STREAM.MSG.DELETE",
        "CONSUMER.INFO",
        "CONSUMER.CREATE",
        "CONSUMER.DURABLE.CREATE",
        "CONSUMER.DELETE",
        "CONSUMER.MSG.NEXT",
        "DIRECT.GET",
    ];
    let queues: Vec<String> = QUEUES.iter().map(|queue| queue.name.clone()).collect();
    let queue = prop::sample::select(queues).boxed();
    let known: Vec<String> = QUEUES.iter().map(|queue| example(&queue.filter)).collect();
    let places = ["acme", "umbra"].map(|tenant| {
        known.iter().map(move |known| {
            known.replace(".x", &format!(".{tenant}")).replace(".a.", &format!(".{tenant}."))
        })
    });
    let place = prop::sample::select(places.into_iter().flatten().collect::<Vec<_>>()).boxed();
    let end = prop::sample::select(vec!["", ".1.2.3.4.5", ".x", ".>", ".*"]);
    prop_oneof![
        place.clone(),
        prop::sample::select(vec![
            "hermesh.cancel.acme",
            "hermesh.keys.facts",
            "hermesh.keys.tenant.acme",
            "hermesh.hold.k",
            "_INBOX.tenant.acme.1",
            "_INBOX.service.evaluation.1.2",
            "_INBOX.x",
            "$SYS.REQ.SERVER.PING",
            "$JS.API.INFO",
            "$JS.FC.x",
            "x",
            "hermesh.x",
        ])
        .prop_map(str::to_owned),
        (prop::sample::select(api.to_vec()), queue.clone(), any::<bool>()).prop_map(
            |(call, queue, consumer)| match consumer {
                true => format!("$JS.API.{call}.hermesh-{queue}.{queue}"),
                false => format!("$JS.API.{call}.hermesh-{queue}"),
            }
        ),
        (queue.clone(), place)
            .prop_map(|(q, place)| format!("$JS.API.DIRECT.GET.hermesh-{q}.{place}")),
        (queue.clone(), queue, end, any::<bool>()).prop_map(|(stream, consumer, end, long)| {
            let long = if long { "_.account." } else { "" };
            format!("$JS.ACK.{long}hermesh-{stream}.{consumer}{end}")
        }),
    ]
}

/// The body with which a subject is allowed, if there is one.
fn body_for(rules: &Rules, subject: &str) -> Vec<u8> {
    let queue = QUEUES.iter().find(|queue| {
        let stream = format!(".{}", streams::stream_name(&queue.name));
        subject.ends_with(&stream) || subject.contains(&format!("{stream}."))
    });
    let Some(queue) = queue else { return Vec::new() };
    let call = |name: &str| subject.starts_with(&format!("$JS.API.{name}."));
    if call("STREAM.CREATE") {
        streams::stream_request(queue, 3).to_string().into()
    } else if call("CONSUMER.DURABLE.CREATE") {
        streams::consumer_request(queue).to_string().into()
    } else if call("STREAM.MSG.GET") {
        format!("{{\"last_by_subj\":\"{}\"}}", example(&queue.filter)).into()
    } else if call("STREAM.PURGE") {
        let purged = rules.entries(Verb::Purge).iter().map(|entry| &entry.allowed);
        let filter = purged.into_iter().find(|filter| covers(&queue.filter, filter));
        format!("{{\"filter\":\"{}\"}}", filter.map_or("", |filter| filter)).into()
    } else {
        Vec::new()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_a_sidecar_lets_pass_the_server_permits(
        workload in prop::sample::select(WORKLOADS.to_vec()),
        subject in subject(),
    ) {
        let policy = default_with(&["acme", "umbra"]);
        let (id, rules, permissions) = of(&policy, workload);
        let body = body_for(&rules, &subject);
        let classified = classify(&rules, &id, &subject, &body);
        match &classified {
            Ok(_) => prop_assert!(permitted(&permissions, &subject), "{subject} {classified:?}"),
            // The converse, except for wildcards, which no publish contains.
            Err(denied) => prop_assert!(
                !permitted(&permissions, &subject)
                    || subject.contains(['*', '>'])
                    || denied.why.contains("the reply subject of a delivery"),
                "{denied}"
            ),
        }
    }
}

#[test]
fn the_server_permits_nothing_that_no_sidecar_lets_pass() {
    let policy = default_with(&["acme"]);
    for workload in WORKLOADS {
        let (id, rules, permissions) = of(&policy, workload);
        for filter in &permissions.publish {
            let subject = match filter.strip_prefix("$JS.ACK.") {
                Some(ack) => format!("$JS.ACK.{}", ack.replace('>', "x").replace('*', "1")),
                None => example(filter),
            };
            let body = body_for(&rules, &subject);
            let classified = classify(&rules, &id, &subject, &body);
            assert!(classified.is_ok(), "{classified:?}");
        }
        for filter in &permissions.subscribe {
            let (filter, group) = match filter.split_once(' ') {
                Some((filter, group)) => (filter, Some(group)),
                None => (&**filter, None),
            };
            assert!(listen(&rules, &id, filter, group).is_ok(), "{workload} {filter} {group:?}");
        }
    }
    assert_eq!(of(&policy, "monitor/prometheus").2, Permissions::default());
}

#[test]
fn the_server_lets_nobody_settle_what_others_pull() {
    let policy = default_with(&["acme"]);
    let permissions = of(&policy, "service/evaluation").2;
    let own = "hermesh-tasks-bulk.tasks-bulk";
    for (ack, expected) in [
        (format!("{own}.1.2.3.4.5"), true),
        (format!("_.account.{own}.1.2.3.4.5"), true),
        (format!("_.account.{own}.1.2.3.4.5.x"), true),
        (format!("hermesh-jobs.jobs.{own}.1.2.3"), false),
        (format!("{own}.1.2.3.4"), false),
        ("hermesh-jobs.jobs.1.2.3.4.5".to_owned(), false),
    ] {
        assert_eq!(permitted(&permissions, &format!("$JS.ACK.{ack}")), expected, "{ack}");
    }
}

#[test]
fn a_publish_is_one_of_nine_things() {
    let policy = default_with(&["acme"]);
    let (id, rules, _) = of(&policy, "service/evaluation");
    let classified = |subject: &str, body: &str| classify(&rules, &id, subject, body.as_bytes());
    let tasks = "tasks-express";
    let ack = "$JS.ACK.hermesh-tasks-express.tasks-express.1.100.7.1790230470084404000.42";
    for (subject, body, expected) in [
        ("hermesh.partial.acme.0.1.2", "body", Publication::Stored { queue: "partials" }),
        ("hermesh.hold.0", "body", Publication::Live),
        (
            "$JS.API.CONSUMER.MSG.NEXT.hermesh-tasks-express.tasks-express",
            "{\"batch\":1}",
            Publication::Next { queue: tasks },
        ),
        (
            "$JS.API.STREAM.MSG.GET.hermesh-keys",
            "{\"last_by_subj\":\"hermesh.key.0.1.0\"}",
            Publication::Get { subject: "hermesh.key.0.1.0".into() },
        ),
        (
            "$JS.API.DIRECT.GET.hermesh-keys.hermesh.key.0.1.0",
            "",
            Publication::DirectGet { subject: "hermesh.key.0.1.0".into() },
        ),
        ("$JS.API.STREAM.INFO.hermesh-keys", "", Publication::Api),
        (ack, "+ACK", Publication::Ack { queue: tasks }),
        (&ack.replace("ACK.", "ACK.d.account."), "+WPI", Publication::Ack { queue: tasks }),
        ("_INBOX.service.evaluation.1", "", Publication::OwnInbox),
        ("_INBOX.service.preprocessing.1", "answer", Publication::Answer),
    ] {
        assert_eq!(classified(subject, body), Ok(expected), "{subject}");
    }
    for (subject, body) in [
        ("", ""),
        ("hermesh.partial.acme.0.1.>", ""),
        ("hermesh.partial.acme.0.1.2\r\nPUB", ""),
        ("hermesh.partial.acme.0.1", ""),
        ("_INBOX.*", ""),
        ("$SYS.REQ.SERVER.PING", ""),
        ("$JS.API.INFO", ""),
        ("$JS.API.STREAM.DELETE.hermesh-keys", ""),
        ("$JS.API.STREAM.INFO.keys", ""),
        ("$JS.API.STREAM.INFO.hermesh-jobs.jobs", ""),
        ("$JS.API.CONSUMER.MSG.NEXT.hermesh-tasks-express.other", ""),
        ("$JS.API.CONSUMER.MSG.NEXT.hermesh-jobs.jobs", ""),
        ("$JS.API.CONSUMER.CREATE.hermesh-tasks-express", ""),
        ("$JS.API.DIRECT.GET.hermesh-keys", "{\"last_by_subj\":\"hermesh.key.0.1.0\"}"),
        ("$JS.API.DIRECT.GET.hermesh-keys.hermesh.model.0.1.0", ""),
        ("$JS.API.DIRECT.GET.hermesh-keys.hermesh.key.0.1.0", "{}"),
        ("$JS.API.DIRECT.GET.hermesh-registry.hermesh.registry.tenant.acme", ""),
        ("$JS.ACK.hermesh-tasks-express.other.1.100.7.1.42", "+ACK"),
        ("$JS.ACK.hermesh-tasks-express.tasks-express.1.100.7.1", "+ACK"),
        ("$JS.ACK.hermesh-tasks-express.tasks-express.1.x.7.1.42", "+ACK"),
        ("$JS.ACK.hermesh-jobs.jobs.1.100.7.1.42", "+ACK"),
        ("$JS.ACK.hermesh-jobs.jobs.hermesh-tasks-express.tasks-express.1.2.3", "+ACK"),
        ("$JS.FC.hermesh-keys.x.1", ""),
        ("$JSC.R.x", ""),
    ] {
        assert!(classified(subject, body).is_err(), "{subject} {body}");
    }
    let long = "x".repeat(3000);
    assert!(classified(ack, &long).is_err());
    let next = "$JS.API.CONSUMER.MSG.NEXT.hermesh-tasks-express.tasks-express";
    assert!(classified(next, &long).is_err());
    // An identity that serves nothing may not reply to others.
    let (id, rules, _) = of(&policy, "tenant/acme");
    assert!(classify(&rules, &id, "_INBOX.service.evaluation.1", b"").is_err());
    let (id, rules, _) = of(&policy, "monitor/prometheus");
    assert!(classify(&rules, &id, "_INBOX.monitor.prometheus.1", b"").is_err());
}

#[test]
fn nobody_listens_where_others_get_answers() {
    let policy = default_with(&["acme"]);
    let (id, rules, _) = of(&policy, "service/evaluation");
    let heard = |filter: &str, group| listen(&rules, &id, filter, group);
    assert_eq!(heard("_INBOX.service.evaluation.1.*", None), Ok(Listening::OwnInbox));
    assert_eq!(heard("hermesh.hold.0", Some("hermesh")), Ok(Listening::Requests));
    for (filter, group) in [
        ("hermesh.hold.0", None),
        ("hermesh.hold.0", Some("others")),
        ("hermesh.task.>", None),
        ("_INBOX.>", None),
        ("_INBOX.service.evaluation-2.>", None),
        ("_INBOX.service.*.>", None),
        ("_INBOX.service.evaluation.>.x", None),
        ("_INBOX.service.evaluation", None),
        (">", None),
        ("$JS.>", None),
        ("", None),
    ] {
        assert!(heard(filter, group).is_err(), "{filter} {group:?}");
    }
    let (id, rules, _) = of(&policy, "tenant/acme");
    let heard = |filter: &str| listen(&rules, &id, filter, None);
    assert_eq!(heard("hermesh.answer.acme.1"), Ok(Listening::Live));
    assert!(heard("hermesh.answer.*.1").is_err() && heard("hermesh.answer.umbra.1").is_err());
    assert!(replies_to(&id, "_INBOX.tenant.acme.1"));
    for elsewhere in
        ["hermesh.job.acme", "_INBOX.tenant.acme", "_INBOX.tenant.umbra.1", "$JS.ACK.x"]
    {
        assert!(!replies_to(&id, elsewhere), "{elsewhere}");
    }
}
