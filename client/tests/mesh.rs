//! The commands for a mesh of processes, against a mesh that `hermesh up` has started.

// Helpers are part of tests, where clippy allows it, but are not recognised as such.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/up.rs"]
mod up;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use common::*;
use hermesh_client::connection::{Connection, MeshAddress};
use hermesh_client::keys::KeyDirectory;
use hermesh_client::outbox::State;
use hermesh_mesh::bus::Bus as _;
use hermesh_mesh::bus::nats::{NatsBus, NatsOptions};
use hermesh_mesh::nats_server::{NatsServer, NatsServerOptions};
use hermesh_mesh::objects::{self, Bucket};
use hermesh_mesh::wire::{Answer, Receipt, Wire as _};
use hermesh_mesh::{Digest, JobId, SigningKey, topology};
use rustix::process::Signal;
use serde_json::{Value, json};
use up::Mesh;

/// A tenant's directory of keys.
fn keys(fixture: &Fixture, name: &str) -> String {
    let keys = fixture.path(name);
    assert_eq!(ok(&["keygen", "--model", &fixture.model, "--out", &keys]), "");
    keys
}

fn nats(url: &str) -> NatsBus {
    RUNTIME
        .block_on(NatsBus::connect(NatsOptions { url: url.into(), ..NatsOptions::default() }))
        .unwrap()
}

static RUNTIME: std::sync::LazyLock<tokio::runtime::Runtime> =
    std::sync::LazyLock::new(|| tokio::runtime::Runtime::new().unwrap());

#[test]
fn a_mesh_of_processes_answers() {
    let fixture = perceptron();
    let mut mesh = Mesh::start(&scratch("mesh-up"));
    let url = mesh.url.clone();
    let keys = &keys(fixture, "mesh-keys");
    let (input, labels) = sure_rows(fixture, 2, "mesh-rows.csv");
    let model = &fixture.model;

    let registered = json(&["tenant", "register", "--keys", keys, "--mesh", &url, "--json"]);
    assert_eq!(registered["mesh"], json!(url));
    assert_eq!(registered["service_keys"].as_array().unwrap().len(), 1);
    assert_eq!(json(&["tenant", "show", "--keys", keys, "--json"]), registered);

    // An upload that was interrupted halfway continues there.
    let tenant = text(&registered["tenant"]).parse().unwrap();
    let bytes = fs::read(format!("{keys}/evaluation.key")).unwrap();
    let (size, bus) = (bytes.len(), nats(&url));
    RUNTIME.block_on(async {
        let half = std::sync::Arc::new(tokio::sync::Notify::new());
        let (bucket, reached) = (Bucket::Uploads(tenant), half.clone());
        let put = objects::put(&bus, &bucket, bytes.into(), move |done, of| {
            if done >= of / 2 {
                reached.notify_one();
            }
        });
        tokio::select! {
            biased;
            () = half.notified() => {}
            put = put => panic!("not cut off: {put:?}"),
        }
    });
    let uploaded = json(&["key", "upload", "--keys", keys, "--json"]);
    let resumed = uploaded["resumed_at_bytes"].as_u64().unwrap() as usize;
    assert!(resumed >= size / 2 && resumed < size, "{resumed} of {size}");
    let first = text(&uploaded["evaluation_key_digest"]).to_owned();
    let program = ok(&["model", "register", model, "--keys", keys]);
    assert_eq!(
        text(&json(&["model", "list", "--keys", keys, "--json"])[0]["model"]),
        program.trim()
    );

    // Submitted, followed and fetched by different processes.
    let job = ok(&["submit", "--model", model, "--keys", keys, "--input", &input]);
    let job = job.trim();
    let seen = ok(&["watch", job, "--keys", keys, "--json"]);
    let last: Value = serde_json::from_str(seen.lines().last().unwrap()).unwrap();
    assert_eq!(last, json!({"job": job, "state": "answered"}));
    assert_eq!(json(&["status", job, "--keys", keys, "--json"])["state"], json!("answered"));
    let answer = fixture.path("mesh-answer.ct");
    let result = ["result", job, "--keys", keys, "--model", model, "--answer", &answer];
    assert_eq!(ok(&result), lines(&labels));
    let decryption = ["decrypt", "--model", model, "--keys", keys, "--input", &answer];
    assert_eq!(ok(&decryption), lines(&labels));
    assert_eq!(json(&["status", "--keys", keys, "--json"])[0]["state"], json!("decrypted"));
    assert!(fails(&["cancel", job, "--keys", keys]).contains("ended"));
    assert!(mesh.calls().iter().sum::<f64>() > 0.0);

    // Receipts signed with other keys are refused.
    let other = SigningKey::generate().verifying_key().to_string();
    let message = fails(&[&result[..], &["--service-key", &other]].concat());
    assert!(message.contains("not a key that this client trusts"), "{message}");

    // Another process sends the jobs that a crash left unsent.
    let ciphertext = fixture.path("mesh-job.ct");
    let signed = json(&[
        "encrypt",
        "--model",
        model,
        "--keys",
        keys,
        "--input",
        &input,
        "-o",
        &ciphertext,
        "--sign",
        "--json",
    ]);
    let signed = text(&signed["job"]).to_owned();
    let outbox = KeyDirectory::new(Path::new(keys)).outbox();
    let id: JobId = signed.parse().unwrap();
    assert!(outbox.to_send(id).is_err());
    outbox.set(id, State::Pending, hermesh_mesh::UnixMillis(1)).unwrap();
    assert_eq!(ok(&["submit", "--keys", keys, "--pending"]).trim(), signed);
    assert_eq!(ok(&["submit", "--keys", keys, "--pending"]), "");
    assert_eq!(
        ok(&["result", &signed, "--wait", "--keys", keys, "--model", model]),
        lines(&labels)
    );

    // A job whose workers are stopped is cancelled, and ends as cancelled.
    mesh.signal(&mesh.workers, Signal::STOP);
    let stuck = ok(&["submit", "--model", model, "--keys", keys, "--input", &input]);
    let stuck = stuck.trim();
    assert_eq!(ok(&["cancel", stuck, "--keys", keys]), "");
    mesh.signal(&mesh.workers, Signal::CONT);
    let status = json(&["status", stuck, "--keys", keys, "--json"]);
    assert_eq!((&status["state"], &status["code"]), (&json!("failed"), &json!("cancelled")));
    assert!(fails(&["result", stuck, "--keys", keys, "--model", model]).contains("cancelled"));

    // After a key rotation both keys are valid for a while, and old answers still decrypt.
    let old = ok(&["submit", "--model", model, "--keys", keys, "--input", &input]);
    let rotated = json(&["key", "rotate", "--keys", keys, "--overlap", "1h", "--json"]);
    assert_eq!(text(&rotated["replaces"]), first);
    let second = text(&rotated["evaluation_key_digest"]);
    assert_eq!(
        ok(&["result", old.trim(), "--wait", "--keys", keys, "--model", model]),
        lines(&labels)
    );
    assert_eq!(ok(&decryption), lines(&labels));
    let submit = ["submit", "--model", model, "--keys", keys, "--input", &input, "--wait"];
    assert_eq!(ok(&submit), lines(&labels));
    let listed = json(&["key", "list", "--keys", keys, "--json"]);
    let state = |digest: &str| {
        let mut all = listed.as_array().unwrap().iter();
        let key = all.find(|key| text(&key["key"]) == digest).unwrap();
        (key["version"].as_u64().unwrap(), key["retires"].is_null())
    };
    assert_eq!((state(&first), state(second)), ((1, false), (2, true)));

    // The same by one command, for a tenant that is not registered.
    let others = self::keys(fixture, "mesh-infer-keys");
    let infer = ["infer", "--model", model, "--keys", &others, "--input", &input, "--mesh", &url];
    let document = json(&[&infer[..], &["--json"]].concat());
    assert_eq!(document["labels"], json!(labels));

    // The other tenant does not see the keys and models of the first.
    let private = ok(&["model", "register", &regression().model, "--keys", keys]);
    let listed = |what: &[&str], keys: &str| ok(&[what, &["--keys", keys, "--json"]].concat());
    let foreign = [first.as_str(), second, private.trim()];
    for what in [&["key", "list"][..], &["model", "list"], &["key", "audit"]] {
        let (own, others) = (listed(what, keys), listed(what, &others));
        assert!(foreign.iter().any(|digest| own.contains(digest)), "{what:?}: {own}");
        assert!(!foreign.iter().any(|digest| others.contains(digest)), "{what:?}: {others}");
    }
    assert!(fails(&["result", job, "--keys", &others, "--model", model]).contains("outbox"));
    // It cannot cancel the first tenant's jobs either: the same id names one of its own jobs.
    mesh.signal(&mesh.workers, Signal::STOP);
    let kept = ok(&["submit", "--model", model, "--keys", keys, "--input", &input]);
    let kept = kept.trim();
    ok(&["cancel", kept, "--keys", &others]);
    mesh.signal(&mesh.workers, Signal::CONT);
    let result = ["result", kept, "--wait", "--keys", keys, "--model", model];
    assert_eq!(ok(&result), lines(&labels));

    // Revoked at once.
    assert_eq!(ok(&["key", "revoke", second, "--keys", keys]), "");
    assert!(fails(&submit).contains("revoked"));
    let audit = json(&["key", "audit", "--keys", keys, "--json"]);
    let kinds: Vec<&str> = audit.as_array().unwrap().iter().map(|e| text(&e["kind"])).collect();
    for kind in ["tenant-registered", "key-accepted", "key-replaced", "key-revoked"] {
        assert!(kinds.contains(&kind), "{kind} is not in {kinds:?}");
    }

    assert_eq!(mesh.alive().len(), 6);
    assert_eq!(mesh.stop(), Some(0));
    assert_eq!(mesh.alive(), [0; 0]);
}

/// One worker is stopped while it computes, as in a rolling update.
#[test]
fn a_worker_that_is_ended_loses_no_work() {
    let fixture = perceptron();
    let mesh = Mesh::start(&scratch("mesh-drain"));
    let keys = &keys(fixture, "drain-keys");
    let (input, labels) = sure_rows(fixture, 24, "drain-rows.csv");
    let model = &fixture.model;
    ok(&["tenant", "register", "--keys", keys, "--mesh", &mesh.url]);
    ok(&["key", "upload", "--keys", keys]);
    ok(&["model", "register", model, "--keys", keys]);
    let job = ok(&["submit", "--model", model, "--keys", keys, "--input", &input]);
    let job = job.trim();
    let status = || json(&["status", job, "--keys", keys, "--json"]);
    let both = |calls: &[f64]| calls.iter().all(|&calls| calls > 0.0);
    mesh.until("both workers compute", || both(&mesh.calls()));
    mesh.signal(&mesh.workers[..1], Signal::TERM);
    assert_eq!(status()["state"], json!("running"));
    mesh.until("it has ended in order", || {
        mesh.said().contains("evaluation-1 ended (exit status: 0)")
    });
    let result = ["result", job, "--wait", "--keys", keys, "--model", model];
    assert_eq!(ok(&result), lines(&labels));
}

/// A hostile mesh: it answers with garbage, under a receipt that verifies.
#[test]
fn what_does_not_decrypt_is_never_sent_again() {
    let fixture = regression();
    let keys = &keys(fixture, "undecryptable-keys");
    let (input, _) = sure_rows(fixture, 1, "undecryptable.csv");
    let (model, ciphertext) = (&fixture.model, fixture.path("undecryptable.ct"));
    let encrypt =
        ["encrypt", "--model", model, "--keys", keys, "--input", &input, "-o", &ciphertext];
    let signed = json(&[&encrypt[..], &["--sign", "--json"]].concat());
    let headers = fs::read_to_string(text(&signed["headers"])).unwrap();
    assert!(
        headers.starts_with("Subject: hermesh.job.") && headers.contains("\nHermesh-Signature: ")
    );
    let job = text(&signed["job"]);

    let directory = tempfile::tempdir().unwrap();
    let server = NatsServer::start(NatsServerOptions::new(directory.path()));
    let server = RUNTIME.block_on(server).unwrap();
    let (url, bus) = (server.url(), nats(&server.url()));
    let service = SigningKey::generate();
    let outbox = KeyDirectory::new(Path::new(keys)).outbox();
    let context = outbox.get(job.parse().unwrap()).unwrap().job.context;
    let receipt = Receipt::new(&context, b"garbage", [0; 16], &service);
    let (tenant, body) = (context.tenant.clone(), "garbage".into());
    let answer = Answer { tenant, receipt, trace: None, body };
    RUNTIME.block_on(async {
        topology::declare(&bus).await.unwrap();
        bus.publish(answer.encode("evil")).await.unwrap();
    });

    let service = service.verifying_key().to_string();
    let mesh = ["--mesh", &url, "--service-key", &service];
    let answer = fixture.path("undecryptable-answer.ct");
    let fetch = ["result", job, "--keys", keys, "--answer", &answer];
    assert_eq!(ok(&[&fetch[..], &mesh].concat()), "");
    // Decrypted in a separate step from a file: the job of the answer is known.
    let decrypt = ["decrypt", "--model", model, "--keys", keys, "--input", &answer];
    assert!(fails(&decrypt).contains("ever sent again"));
    let result = ["result", job, "--keys", keys, "--model", model];
    let result = [&result[..], &mesh].concat();
    assert!(fails(&result).contains("ever sent again"));
    // Not under another job id either.
    let submit = ["submit", "--model", model, "--keys", keys, "--job", &ciphertext];
    assert!(fails(&[&submit[..], &mesh].concat()).contains("ever sent again"));
    assert_eq!(ok(&[&["submit", "--keys", keys, "--pending"][..], &mesh].concat()), "");
    let sent = RUNTIME.block_on(bus.subjects("hermesh.job.*")).unwrap();
    assert_eq!(sent, Vec::<String>::new());
    assert_eq!(outbox.get(context.job).unwrap().state, State::Undecryptable);

    // An answer that another program has fetched: the user has to name its job.
    let signed = json(&[&encrypt[..], &["--sign", "--json"]].concat());
    let (job, foreign) = (text(&signed["job"]), fixture.path("undecryptable-foreign.ct"));
    fs::write(&foreign, b"other garbage").unwrap();
    let decrypt = ["decrypt", "--model", model, "--keys", keys, "--input", &foreign];
    assert!(fails(&decrypt).contains("--job"));
    assert!(fails(&[&decrypt[..], &["--job", job]].concat()).contains("ever sent again"));
    assert!(fails(&[&submit[..], &mesh].concat()).contains("ever sent again"));
    // Fetched and decrypted by one command.
    let signed = json(&[&encrypt[..], &["--sign", "--json"]].concat());
    let context = outbox.get(text(&signed["job"]).parse().unwrap()).unwrap().job.context;
    let evil = SigningKey::generate();
    let receipt = Receipt::new(&context, b"garbage", [0; 16], &evil);
    let (tenant, body) = (context.tenant.clone(), "garbage".into());
    let answer = Answer { tenant, receipt, trace: None, body };
    RUNTIME.block_on(bus.publish(answer.encode("evil"))).unwrap();
    let evil = evil.verifying_key().to_string();
    let result = ["result", text(&signed["job"]), "--keys", keys, "--model", model];
    let result = [&result[..], &["--mesh", &url, "--service-key", &evil]].concat();
    assert!(fails(&result).contains("ever sent again"));
    assert_eq!(outbox.get(context.job).unwrap().state, State::Undecryptable);
}

#[test]
fn mistakes_are_explained() {
    let fixture = regression();
    let keys = &keys(fixture, "mistaken-keys");
    assert!(fails(&["key", "list", "--keys", keys]).contains("tenant register"));
    assert!(fails(&["tenant", "show", "--keys", keys]).contains("tenant register"));
    let job = Digest::of(b"x").to_string()[..32].to_owned();
    let nowhere = ["--mesh", "nats://127.0.0.1:1"];
    assert!(
        fails(&[&["key", "list", "--keys", keys][..], &nowhere].concat()).contains("nats-server")
    );
    let remote = ["key", "list", "--keys", keys, "--mesh", "nats://192.0.2.1:4222"];
    assert!(fails(&remote).contains("--insecure-plaintext"));
    assert_eq!(json(&["status", "--keys", keys, "--json"]), json!([]));
    let address: MeshAddress = "nats://192.0.2.1:4222".parse().unwrap();
    assert!(Connection::open(&address, false, None).is_err());
    let mut output = String::new();
    let mut child =
        command(&["cancel", &job, "--keys", keys]).stderr(Stdio::piped()).spawn().unwrap();
    child.stderr.take().unwrap().read_to_string(&mut output).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(output.contains("HERMESH_MESH"), "{output}");
}
