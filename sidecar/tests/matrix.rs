//! The permissions of every workload for every kind of subject, through sidecars and bypassing them, on a
//! real nats-server whose configuration comes from the same policy. The expectations here follow the
//! protocol and not the policy, so they reveal mistakes in the policy.

mod world;

use hermesh_sidecar::proxy::Handshake;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    time::timeout,
};
use world::{
    Domain, PATIENCE, Sidecar, id, policy,
    server::{Server, Straight},
};

const KEYS: &str = "service/key-management";
const PRE: &str = "service/preprocessing";
const EVAL: &str = "service/evaluation";
const AGG: &str = "service/aggregation";
const ACME: &str = "tenant/acme";
const UMBRA: &str = "tenant/umbra";

const WORKLOADS: [&str; 6] = [KEYS, PRE, EVAL, AGG, ACME, UMBRA];
const SERVICES: &[&str] = &[KEYS, PRE, EVAL, AGG];
/// Workloads that serve requests.
const SERVING: &[&str] = &[KEYS, PRE, EVAL];
/// Workloads that have certificates and no permissions on the bus.
const OTHERS: [&str; 4] =
    ["monitor/prometheus", "broker/nats", "issuer/hermesh", "service/unknown"];

type Who = &'static [&'static str];

/// A kind of subject, a suitable body, the workloads that may publish to it, and those that may subscribe.
type Row = (&'static str, &'static str, Who, Who);

const NOBODY: Who = &[];

/// Subjects of messages and requests; see section 3 of the protocol.
const MESSAGES: &[Row] = &[
    ("hermesh.job.acme", "", &[ACME], NOBODY),
    ("hermesh.job.umbra", "", &[UMBRA], NOBODY),
    ("hermesh.status.acme.07", "", &[PRE, AGG], &[ACME]),
    ("hermesh.status.umbra.07", "", &[PRE, AGG], &[UMBRA]),
    ("hermesh.answer.acme.07", "", &[PRE, EVAL, AGG], &[ACME]),
    ("hermesh.answer.umbra.07", "", &[PRE, EVAL, AGG], &[UMBRA]),
    ("hermesh.refused.acme.07.1f", "", &[PRE, AGG], &[ACME]),
    ("hermesh.refused.umbra.07.1f", "", &[PRE, AGG], &[UMBRA]),
    ("hermesh.admitted.acme.07", "", &[PRE], NOBODY),
    ("hermesh.cancelled.acme.07", "", &[PRE], NOBODY),
    ("hermesh.open.acme.07.5.9", "", &[PRE], NOBODY),
    ("hermesh.task.express.acme.07.0.0", "", &[PRE, AGG], NOBODY),
    ("hermesh.task.normal.acme.07.0.0", "", &[PRE, AGG], NOBODY),
    ("hermesh.task.bulk.acme.07.0.0", "", &[PRE, AGG], NOBODY),
    ("hermesh.partial.acme.07.0.0", "", &[PRE, EVAL, AGG], NOBODY),
    ("hermesh.arrived.acme.07.0.0", "", &[PRE, EVAL, AGG], NOBODY),
    ("hermesh.joined.acme.07.0", "", &[AGG], NOBODY),
    ("hermesh.dead.jobs", "", &[PRE], NOBODY),
    ("hermesh.dead.tasks-normal", "", &[EVAL], NOBODY),
    ("hermesh.dead.arrivals", "", &[AGG], NOBODY),
    ("hermesh.upload.acme.d1.1.0", "", &[ACME], NOBODY),
    ("hermesh.upload.umbra.d1.1.0", "", &[UMBRA], NOBODY),
    ("hermesh.key.d1.1.0", "", &[KEYS], NOBODY),
    ("hermesh.model.d1.1.0", "", &[KEYS], NOBODY),
    ("hermesh.registry.tenant.acme", "", &[KEYS], NOBODY),
    ("hermesh.registry.key.acme.d1", "", &[KEYS], NOBODY),
    ("hermesh.registry.model.d1", "", &[KEYS], NOBODY),
    ("hermesh.revoked.acme.d1", "", &[KEYS], NOBODY),
    ("hermesh.audit.acme.1.key-accepted.d1", "", &[KEYS], NOBODY),
    ("hermesh.service.d1", "", &[AGG], NOBODY),
    ("hermesh.cancel.acme", "", &[ACME], NOBODY),
    ("hermesh.cancel.umbra", "", &[UMBRA], NOBODY),
    ("hermesh.keys.facts", "", &[PRE], NOBODY),
    ("hermesh.keys.tenant.acme", "", &[ACME], NOBODY),
    ("hermesh.keys.upload.acme", "", &[ACME], NOBODY),
    ("hermesh.keys.revoke.acme", "", &[ACME], NOBODY),
    ("hermesh.keys.model.acme", "", &[ACME], NOBODY),
    ("hermesh.keys.list-keys.acme", "", &[ACME], NOBODY),
    ("hermesh.keys.list-models.acme", "", &[ACME], NOBODY),
    ("hermesh.keys.list-parts.acme", "", &[ACME], NOBODY),
    ("hermesh.keys.read-audit.acme", "", &[ACME], NOBODY),
    ("hermesh.keys.tenant.umbra", "", &[UMBRA], NOBODY),
    ("hermesh.hold.d1", "", &[EVAL], NOBODY),
    ("hermesh.unknown", "", NOBODY, NOBODY),
    ("hermesh", "", NOBODY, NOBODY),
    ("elsewhere", "", NOBODY, NOBODY),
];

/// Inboxes and their owners. Replies to other inboxes need a request, which only a sidecar knows.
const INBOXES: &[Row] = &[
    ("_INBOX.service.evaluation.1", "", &[EVAL], &[EVAL]),
    ("_INBOX.tenant.acme.1", "", &[ACME], &[ACME]),
    ("_INBOX.tenant.umbra.1", "", &[UMBRA], &[UMBRA]),
    ("_INBOX.nobody", "", NOBODY, NOBODY),
];

/// Ambiguous: two queues are named, and the numbers do not tell which is meant. A sidecar refuses it; the
/// server takes the first.
const TWO_QUEUES: &str = "$JS.ACK.hermesh-jobs.jobs.hermesh-tasks-normal.tasks-normal.1.1.1";

/// Requests to the server.
const API: &[Row] = &[
    (
        "$JS.API.STREAM.MSG.GET.hermesh-answers",
        r#"{"last_by_subj":"hermesh.answer.acme.07"}"#,
        &[PRE, EVAL, AGG],
        NOBODY,
    ),
    (
        "$JS.API.STREAM.MSG.GET.hermesh-keys",
        r#"{"last_by_subj":"hermesh.key.d1.1.0"}"#,
        &[KEYS, EVAL, AGG],
        NOBODY,
    ),
    (
        "$JS.API.STREAM.MSG.GET.hermesh-registry",
        r#"{"last_by_subj":"hermesh.registry.tenant.acme"}"#,
        &[KEYS],
        NOBODY,
    ),
    (
        "$JS.API.STREAM.MSG.GET.hermesh-jobs",
        r#"{"last_by_subj":"hermesh.job.acme"}"#,
        NOBODY,
        NOBODY,
    ),
    (
        "$JS.API.STREAM.MSG.GET.hermesh-uploads",
        r#"{"last_by_subj":"hermesh.upload.acme.d1.1.0"}"#,
        &[KEYS],
        NOBODY,
    ),
    (
        "$JS.API.DIRECT.GET.hermesh-answers.hermesh.answer.acme.07",
        "",
        &[PRE, EVAL, AGG, ACME],
        NOBODY,
    ),
    (
        "$JS.API.DIRECT.GET.hermesh-answers.hermesh.answer.umbra.07",
        "",
        &[PRE, EVAL, AGG, UMBRA],
        NOBODY,
    ),
    ("$JS.API.DIRECT.GET.hermesh-refused.hermesh.refused.acme.07.1f", "", &[PRE, ACME], NOBODY),
    ("$JS.API.DIRECT.GET.hermesh-registry.hermesh.registry.tenant.acme", "", &[KEYS], NOBODY),
    (
        "$JS.API.STREAM.PURGE.hermesh-partials",
        r#"{"filter":"hermesh.partial.acme.07.0.0"}"#,
        &[EVAL, AGG],
        NOBODY,
    ),
    (
        "$JS.API.STREAM.PURGE.hermesh-uploads",
        r#"{"filter":"hermesh.upload.acme.d1.1.0"}"#,
        &[KEYS],
        NOBODY,
    ),
    (
        "$JS.API.STREAM.PURGE.hermesh-answers",
        r#"{"filter":"hermesh.answer.acme.07"}"#,
        NOBODY,
        NOBODY,
    ),
    (
        "$JS.API.STREAM.PURGE.hermesh-revoked",
        r#"{"filter":"hermesh.revoked.acme.d1"}"#,
        NOBODY,
        NOBODY,
    ),
    ("$JS.API.STREAM.DELETE.hermesh-jobs", "", NOBODY, NOBODY),
    ("$JS.API.STREAM.UPDATE.hermesh-jobs", "{}", NOBODY, NOBODY),
    ("$JS.API.STREAM.MSG.DELETE.hermesh-jobs", r#"{"seq":1}"#, NOBODY, NOBODY),
    ("$JS.API.STREAM.CREATE.elsewhere", "{}", NOBODY, NOBODY),
    ("$JS.API.STREAM.NAMES", "", NOBODY, NOBODY),
    ("$JS.API.STREAM.LIST", "", NOBODY, NOBODY),
    ("$JS.API.INFO", "", NOBODY, NOBODY),
    ("$JS.API.STREAM.INFO.hermesh-jobs", "", SERVICES, NOBODY),
    (
        "$JS.API.CONSUMER.MSG.NEXT.hermesh-jobs.jobs",
        r#"{"batch":1,"no_wait":true}"#,
        &[PRE],
        NOBODY,
    ),
    (
        "$JS.API.CONSUMER.MSG.NEXT.hermesh-tasks-normal.tasks-normal",
        r#"{"batch":1,"no_wait":true}"#,
        &[EVAL],
        NOBODY,
    ),
    (
        "$JS.API.CONSUMER.MSG.NEXT.hermesh-arrivals.arrivals",
        r#"{"batch":1,"no_wait":true}"#,
        &[AGG],
        NOBODY,
    ),
    ("$JS.API.CONSUMER.INFO.hermesh-jobs.jobs", "", &[PRE], NOBODY),
    ("$JS.API.CONSUMER.DELETE.hermesh-jobs.jobs", "", &[PRE], NOBODY),
    ("$JS.API.CONSUMER.DELETE.hermesh-jobs.other", "", NOBODY, NOBODY),
    ("$JS.API.CONSUMER.CREATE.hermesh-jobs", "{}", NOBODY, NOBODY),
    ("$JS.ACK.hermesh-jobs.jobs.1.1.1.1.0", "+ACK", &[PRE], NOBODY),
    ("$JS.ACK.hermesh-tasks-normal.tasks-normal.1.1.1.1.0", "+ACK", &[EVAL], NOBODY),
    ("$JS.ACK._.acc.hermesh-arrivals.arrivals.1.1.1.1.0.x", "+ACK", &[AGG], NOBODY),
    ("$JS.ACK.hermesh-arrivals.arrivals.1.1.1.1.0", "+ACK", &[AGG], NOBODY),
    (TWO_QUEUES, "+ACK", NOBODY, NOBODY),
    ("$JS.ACK.hermesh-jobs.jobs.1.1.1.1.0.x.y", "+ACK", NOBODY, NOBODY),
    ("$JS.EVENT.ADVISORY.STREAM.CREATED.x", "", NOBODY, NOBODY),
    ("$SYS.REQ.SERVER.PING", "", NOBODY, NOBODY),
    ("$SYS.ACCOUNT.x.CONNECT", "", NOBODY, NOBODY),
];

/// Subscriptions to several subjects, and with queue groups, and the workloads that may make them.
const LISTENING: &[(&str, &str, Who)] = &[
    (">", "", NOBODY),
    ("*", "", NOBODY),
    ("hermesh.>", "", NOBODY),
    ("*.answer.acme.*", "", NOBODY),
    ("hermesh.answer.>", "", NOBODY),
    ("hermesh.answer.acme.*", "", &[ACME]),
    ("hermesh.answer.umbra.*", "", &[UMBRA]),
    ("hermesh.task.>", "", NOBODY),
    ("_INBOX.>", "", NOBODY),
    ("_INBOX.*.*.>", "", NOBODY),
    ("_INBOX.service.evaluation.>", "", &[EVAL]),
    ("_INBOX.tenant.acme.>", "", &[ACME]),
    ("hermesh.keys.facts", "hermesh", &[KEYS]),
    ("hermesh.keys.upload.*", "hermesh", &[KEYS]),
    ("hermesh.keys.upload.*", "", NOBODY),
    ("hermesh.keys.upload.*", "another", NOBODY),
    ("hermesh.keys.>", "hermesh", NOBODY),
    ("hermesh.cancel.*", "hermesh", &[PRE]),
    ("hermesh.hold.d1", "hermesh", &[EVAL]),
    ("hermesh.job.*", "hermesh", NOBODY),
    ("$JS.>", "", NOBODY),
    ("$SYS.>", "", NOBODY),
];

/// One workload's connection, through its sidecar or directly to the server.
enum Way {
    Straight(Box<Straight>),
    Sidecar(BufReader<TcpStream>),
}

impl Way {
    async fn through(sidecar: &Sidecar) -> Self {
        let stream = TcpStream::connect(sidecar.address).await.expect("connects");
        let mut way = Self::Sidecar(BufReader::new(stream));
        way.say("CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n").await;
        assert_eq!(way.errors().await, Vec::<String>::new());
        way
    }

    async fn say(&mut self, bytes: &str) {
        match self {
            Self::Straight(straight) => straight.say(bytes).await.expect("writes"),
            Self::Sidecar(stream) => stream.write_all(bytes.as_bytes()).await.expect("writes"),
        }
    }

    /// The errors received so far.
    async fn errors(&mut self) -> Vec<String> {
        self.say("PING\r\n").await;
        match self {
            Self::Straight(straight) => straight.errors().await.expect("reads"),
            Self::Sidecar(stream) => {
                let mut errors = Vec::new();
                loop {
                    let mut line = String::new();
                    let read = timeout(PATIENCE, stream.read_line(&mut line)).await;
                    assert!(read.expect("an answer").expect("reads") > 0, "it hung up: {errors:?}");
                    match line.trim_end() {
                        "PONG" => return errors,
                        error if error.starts_with("-ERR") => errors.push(error.to_owned()),
                        _ => {}
                    }
                }
            }
        }
    }

    /// Whether it was allowed; any other error is a mistake of the test.
    async fn may(&mut self, said: &str) -> bool {
        self.say(said).await;
        let errors = self.errors().await;
        match &errors[..] {
            [] => true,
            [error] if error.contains("Permissions Violation") => false,
            other => panic!("{said:?}: {other:?}"),
        }
    }
}

/// Everything that one workload tries, and whether it should succeed, directly (`around`) or through its
/// sidecar.
fn trials(workload: &str, around: bool) -> Vec<(String, bool)> {
    let mut trials = Vec::new();
    let mut sid = 0;
    let mut subscribe = |subject: &str, group: &str, may: bool| {
        sid += 1;
        let group = if group.is_empty() { String::new() } else { format!("{group} ") };
        trials.push((format!("SUB {subject} {group}{sid}\r\n"), may));
    };
    for (subject, _, _, subscribers) in [MESSAGES, INBOXES, API].into_iter().flatten() {
        subscribe(subject, "", subscribers.contains(&workload));
    }
    for (filter, group, who) in LISTENING {
        subscribe(filter, group, who.contains(&workload));
    }
    for (subject, _, publishers, _) in MESSAGES {
        // As the real publishers do: most of these subjects store one message only.
        let headers = "NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: 0\r\n\r\n";
        let said = format!("HPUB {subject} {0} {0}\r\n{headers}\r\n", headers.len());
        trials.push((said, publishers.contains(&workload)));
    }
    for (subject, body, publishers, _) in [INBOXES, API].into_iter().flatten() {
        let said = format!("PUB {subject} {}\r\n{body}\r\n", body.len());
        let asks = ["_INBOX.tenant.", "_INBOX.service."].iter().any(|own| subject.starts_with(own));
        let answers = around && asks && SERVING.contains(&workload);
        let first = around && *subject == TWO_QUEUES && workload == PRE;
        trials.push((said, answers || first || publishers.contains(&workload)));
    }
    trials
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_listed_is_denied() {
    let (domain, policy) = (Domain::new(), policy(""));
    let server = Server::start(&domain, &policy).await;
    let mut wrong = Vec::new();
    let mut tried = 0;
    for workload in WORKLOADS {
        let sidecar = Sidecar::start(
            domain.identity(workload),
            world::policy(""),
            server.address,
            Handshake::AfterInfo,
        );
        let sidecar = sidecar.await;
        let straight = Straight::of(&server, &domain, workload).await.expect("connects");
        let ways =
            [("around", Way::Straight(straight.into())), ("through", Way::through(&sidecar).await)];
        for (name, mut way) in ways {
            for (said, expected) in trials(workload, name == "around") {
                tried += 1;
                if way.may(&said).await != expected {
                    let not = if expected { "not " } else { "" };
                    wrong.push(format!("{workload} {name} its sidecar is {not}allowed: {said:?}"));
                }
            }
        }
    }
    println!("{tried} things tried");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_business_on_the_bus_does_not_get_there() {
    let (domain, policy) = (Domain::new(), policy(""));
    let server = Server::start(&domain, &policy).await;
    for workload in OTHERS {
        let straight = Straight::of(&server, &domain, workload).await;
        let refused = straight.err().unwrap_or_else(|| panic!("{workload} is connected"));
        println!("{workload}: {refused}");
        let sidecar = Sidecar::start(
            domain.identity(workload),
            world::policy(""),
            server.address,
            Handshake::AfterInfo,
        );
        let sidecar = sidecar.await;
        let stream = TcpStream::connect(sidecar.address).await.expect("connects");
        let mut heard = String::new();
        let mut reader = BufReader::new(stream);
        let _ = reader.get_mut().write_all(b"CONNECT {}\r\nPING\r\n").await;
        while timeout(PATIENCE, reader.read_line(&mut heard)).await.expect("an end").unwrap_or(0)
            > 0
        {}
        assert!(!heard.contains("PONG"), "{workload}: {heard}");
        assert_eq!(id(workload).trust_domain(), world::DOMAIN);
    }
}
