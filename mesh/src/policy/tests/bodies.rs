use super::{
    super::nats::{Publication, classify},
    *,
};
use crate::bus::nats::streams;

fn asked(workload: &str, subject: &str, body: &str) -> Result<Publication, Denied> {
    let (policy, id) = (default_with(&["acme"]), id(workload));
    let rules = policy.rules(&id).expect("is there");
    classify(rules, &id, &format!("$JS.API.{subject}"), body.as_bytes())
}

fn queue(name: &str) -> &'static QueueOptions {
    queue_named(name).expect("is there")
}

#[test]
fn only_the_last_message_of_one_readable_subject_is_got() {
    let get = |body: &str| asked("service/evaluation", "STREAM.MSG.GET.hermesh-keys", body);
    assert!(get("{\"last_by_subj\": \"hermesh.key.0.1.0\"}").is_ok());
    for body in [
        "",
        "{}",
        "null",
        "{\"seq\":1}",
        "{\"last_by_subj\":null}",
        "{\"last_by_subj\":\"\"}",
        "{\"last_by_subj\":\"hermesh.key.0.1.*\"}",
        "{\"last_by_subj\":\"hermesh.key.>\"}",
        "{\"last_by_subj\":\"hermesh.registry.tenant.acme\"}",
        "{\"last_by_subj\":\"hermesh.key.0.1.0\",\"seq\":1}",
        "{\"last_by_subj\":\"hermesh.key.0.1.0\",\"next_by_subj\":\"hermesh.key.>\"}",
        "{\"last_by_subj\":\"hermesh.key.0.1.0\",\"LAST_BY_SUBJ\":\"hermesh.key.>\"}",
        "{\"last_by_subj\":\"hermesh.key.0.1.0\",\"last_by_subj\":\"hermesh.key.>\"}",
        "{\"last_by_subj\":\"hermesh.key.0.1.0\"} {}",
        "\u{feff}{\"last_by_subj\":\"hermesh.key.0.1.0\"}",
    ] {
        assert!(get(body).is_err(), "{body}");
    }
    let padded = format!("{{\"last_by_subj\":\"hermesh.key.0.1.0\"{}}}", " ".repeat(4096));
    assert!(get(&padded).is_err());
    let tenant = asked(
        "tenant/acme",
        "STREAM.MSG.GET.hermesh-answers",
        "{\"last_by_subj\":\"hermesh.answer.acme.0\"}",
    );
    assert!(tenant.is_err());
}

#[test]
fn a_listing_stays_within_what_may_be_listed() {
    let info = |workload, queue: &str, body: &str| {
        asked(workload, &format!("STREAM.INFO.hermesh-{queue}"), body)
    };
    let page = |filter: &str| format!("{{\"subjects_filter\":\"{filter}\",\"offset\":7}}");
    let evaluation = "service/evaluation";
    assert!(info(evaluation, "keys", &page("hermesh.key.0.*.*")).is_ok());
    assert!(info(evaluation, "keys", "").is_ok());
    // It may create the stream and read its configuration, but not its messages.
    assert!(info(evaluation, "jobs", "").is_ok());
    assert!(info(evaluation, "jobs", &page("hermesh.job.*")).is_err());
    for body in [
        &page(">"),
        &page("hermesh.>"),
        &page("hermesh.key.>.x"),
        "{\"deleted_details\":true}",
        "x",
    ] {
        assert!(info(evaluation, "keys", body).is_err(), "{body}");
    }
    assert!(info("tenant/acme", "services", &page("hermesh.service.*")).is_ok());
    for body in ["", &*page("hermesh.answer.acme.*")] {
        assert!(info("tenant/acme", "answers", body).is_err(), "{body}");
    }
}

#[test]
fn a_purge_has_a_filter_that_may_be_purged() {
    let purge = |queue: &str, body: &str| {
        asked("service/evaluation", &format!("STREAM.PURGE.hermesh-{queue}"), body)
    };
    assert!(purge("partials", "{\"filter\":\"hermesh.partial.acme.0.1.2\"}").is_ok());
    for body in [
        "",
        "{}",
        "{\"filter\":\"\"}",
        "{\"filter\":null}",
        "{\"filter\":\">\"}",
        "{\"filter\":\"hermesh.partial.>\"}",
        "{\"filter\":\"hermesh.partial.acme.>\"}",
        "{\"filter\":\"hermesh.partial.acme.0.1.2\",\"keep\":1}",
        "{\"filter\":\"hermesh.partial.acme.0.1.2\",\"Filter\":\"\"}",
    ] {
        assert!(purge("partials", body).is_err(), "{body}");
    }
    assert!(purge("keys", "{\"filter\":\"hermesh.key.0.1.0\"}").is_err());
}

#[test]
fn streams_and_consumers_are_created_as_the_mesh_has_them() {
    let evaluation = "service/evaluation";
    let tasks = queue("tasks-express");
    let create = |body: &str| asked(evaluation, "STREAM.CREATE.hermesh-tasks-express", body);
    for replicas in [1, 3, 5] {
        assert!(create(&streams::stream_request(tasks, replicas).to_string()).is_ok());
    }
    let good = streams::stream_request(tasks, 1).to_string();
    for body in [
        String::new(),
        streams::stream_request(tasks, 0).to_string(),
        streams::stream_request(queue("jobs"), 1).to_string(),
        good.replace("hermesh.task.express.>", "hermesh.task.>"),
        good.replace("\"storage\":\"file\"", "\"storage\":\"memory\""),
        format!("{{\"republish\":{{\"src\":\">\",\"dest\":\"x.>\"}},{}", &good[1..]),
        format!("{} ", good),
    ] {
        assert!(create(&body).is_err(), "{body}");
    }
    let subject = "CONSUMER.DURABLE.CREATE.hermesh-tasks-express.tasks-express";
    let consumer = |body: &str| asked(evaluation, subject, body);
    let good = streams::consumer_request(tasks).to_string();
    assert!(consumer(&good).is_ok());
    for body in [
        String::new(),
        streams::consumer_request(queue("jobs")).to_string(),
        good.replace("\"ack_policy\":\"explicit\"", "\"ack_policy\":\"none\""),
        good.replace("\"config\":{", "\"config\":{\"deliver_subject\":\"hermesh.answer.acme.0\","),
        // nats-server would merge the repeated fields.
        good.replace("\"config\":{", "\"config\":{\"deliver_subject\":\"x\"},\"config\":{"),
    ] {
        assert!(consumer(&body).is_err(), "{body}");
    }
    // The order of fields does not matter.
    let (config, stream) =
        (good.find("\"config\"").expect("is there"), good.find(",\"stream_name"));
    let stream = stream.expect("comes last");
    let reordered = format!("{{{},{}}}", &good[stream + 1..good.len() - 1], &good[config..stream]);
    assert!(consumer(&reordered).is_ok(), "{reordered}");
    assert!(asked("tenant/acme", "STREAM.CREATE.hermesh-tasks-express", &good).is_err());
}
