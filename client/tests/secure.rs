//! A secure mesh started by `hermesh up --secure`, and a Prometheus that collects its metrics.

// Helpers are part of tests, where clippy allows it, but are not recognised as such.
#![allow(clippy::unwrap_used)]

mod common;
#[path = "common/prometheus.rs"]
mod prometheus;
#[path = "common/up.rs"]
mod up;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use common::*;
use hermesh_mesh::Message;
use hermesh_mesh::bus::Bus as _;
use hermesh_mesh::bus::nats::{NatsBus, NatsOptions};
use prometheus::Prometheus;
use serde_json::Value;
use tokio::runtime::Runtime;
use up::Mesh;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// The address of a tenant's sidecar.
fn of_tenant(mesh: &Mesh, tenant: &str) -> String {
    let sidecars = mesh.document["sidecars"].as_array().unwrap();
    let sidecar = sidecars.iter().find(|sidecar| sidecar["tenant"] == tenant).unwrap();
    text(&sidecar["mesh"]).to_owned()
}

#[test]
fn a_secure_mesh_answers_and_is_watched() {
    let fixture = perceptron();
    let directory = scratch("secure-up");
    let mut mesh =
        Mesh::start_with(&directory, &["--secure", "--tenant", "acme", "--tenant", "other"]);
    let prometheus = Prometheus::start(&directory);
    let (acme, other) = (of_tenant(&mesh, "acme"), of_tenant(&mesh, "other"));

    // Other users must not be able to read any key.
    let secret = |path: &str| {
        let mode = fs::metadata(directory.join(path)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path}");
    };
    secret("domain/root-key.pem");
    secret("identities/service/evaluation/key.pem");
    secret("identities/tenant/acme/key.pem");

    // Two jobs with a scrape in between, because rates need two samples.
    let (model, keys) = (&fixture.model, fixture.path("secure-keys"));
    let keys = &keys;
    assert_eq!(ok(&["keygen", "--model", model, "--out", keys, "--tenant", "acme"]), "");
    let (input, labels) = sure_rows(fixture, 2, "secure-rows.csv");
    let registered = json(&["tenant", "register", "--keys", keys, "--mesh", &acme, "--json"]);
    assert_eq!(text(&registered["mesh"]), acme);
    json(&["key", "upload", "--keys", keys, "--json"]);
    ok(&["model", "register", model, "--keys", keys]);
    if let Some(prometheus) = &prometheus {
        mesh.until("all targets are up", || prometheus.all_up(5 + 7));
    }
    let submit = ["submit", "--model", model, "--keys", keys, "--input", &input, "--wait"];
    for jobs in [1.0, 2.0] {
        assert_eq!(ok(&submit), lines(&labels));
        if let Some(prometheus) = &prometheus {
            let ended = || prometheus.value("sum(hermesh_job_seconds_count)") == Some(jobs);
            mesh.until("the job is counted", ended);
        }
    }

    // Another tenant's sidecar accepts neither acme's requests nor acme's jobs.
    let options = NatsOptions {
        url: other.clone(),
        inbox: Some("_INBOX.tenant.other".into()),
        direct: true,
        publish_patience: Duration::ZERO,
        ..NatsOptions::default()
    };
    RUNTIME.block_on(async {
        let bus = NatsBus::connect(options).await.unwrap();
        let job = Message::new("hermesh.job.acme", &b"forged"[..]);
        assert!(bus.publish(job).await.is_err());
        let request = Message::new("hermesh.keys.list-keys.acme", &b""[..]);
        assert!(bus.request(request, Duration::from_secs(1)).await.is_err());
        assert!(bus.subjects("hermesh.answer.acme.*").await.is_err());
    });
    if let Some(prometheus) = &prometheus {
        let refused = r#"hermesh_sidecar_rejections_total{workload="tenant/other", direction="out", reason="denied"}"#;
        mesh.until("the refusals are counted", || prometheus.value(refused) >= Some(3.0));
        prometheus.all_of_the_dashboard(&mesh);
    }

    // A change of the policy reaches all processes, and does not disturb the tenants that it does not concern.
    let policy = directory.join("policy.toml");
    let changed = fs::read_to_string(&policy)
        .unwrap()
        .replace("revoked = []", "revoked = [\"spiffe://hermesh.local/tenant/other\"]");
    fs::write(&policy, changed).unwrap();
    let known = || fs::read_to_string(directory.join("nats/nats.conf")).unwrap();
    mesh.until("the broker knows other no more", || !known().contains("tenant/other"));
    assert_eq!(ok(&submit), lines(&labels));
    assert_eq!(mesh.said(), "");

    assert_eq!(mesh.stop(), Some(0));
    assert_eq!(mesh.alive(), Vec::<i32>::new());
    drop(prometheus);

    // Root and policy are kept, and a name that the policy does not admit cannot be a tenant.
    let root = fs::read(directory.join("domain/root.pem")).unwrap();
    let stranger = ["up", "--secure", "--tenant", "new", "--dir", directory.to_str().unwrap()];
    assert!(fails(&stranger).contains("does not admit new"));
    let mesh = Mesh::start_with(&directory, &["--secure", "--tenant", "acme"]);
    assert_eq!(fs::read(directory.join("domain/root.pem")).unwrap(), root);
    let listed =
        json(&["key", "list", "--keys", keys, "--mesh", &of_tenant(&mesh, "acme"), "--json"]);
    assert_eq!(listed.as_array().map(Vec::len), Some(1));
}

#[test]
fn tenants_are_those_of_a_secure_mesh() {
    let output = run(&["up", "--tenant", "acme"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--secure"));
    let directory = scratch("secure-nobody");
    let nobody = ["up", "--secure", "--port", "0", "--dir", directory.to_str().unwrap()];
    assert!(fails(&nobody).contains("--tenant"));
}

/// The queries of the dashboard's panels; true for those that may be empty in a healthy mesh.
fn queries(path: &Path) -> Vec<(String, String, bool)> {
    let dashboard: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = text(&panel["title"]);
        // Grafana shows this text if there is no data.
        let may_be_empty = panel["fieldConfig"]["defaults"]["noValue"].is_string();
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push((title.to_owned(), text(&target["expr"]).to_owned(), may_be_empty));
        }
    }
    queries
}
