//! `hermesh policy`: the default policy, errors in other policies, and the configuration of nats-server.

// Helpers are part of tests, where clippy allows it, but are not recognised as such.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::process::Command;

use common::*;
use hermesh_mesh::policy::Policy;
use serde_json::json;

/// The default policy with two tenants, in a file.
fn policy() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    let text =
        ok(&["policy", "default"]).replace("tenants = []", "tenants = [\"acme\", \"umbra\"]");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

#[test]
fn the_default_is_printed_and_is_good() {
    assert_eq!(ok(&["policy", "default"]), Policy::default_text());
    let text = ok(&["policy", "check"]);
    assert!(text.starts_with("valid policy of trust domain hermesh.local: 5 workloads, 0 tenants"));
    assert!(text.contains("service/evaluation"), "{text}");
    let (_directory, file) = policy();
    let found = json(&["policy", "check", &file, "--json"]);
    assert_eq!(found["tenants"], json!(["acme", "umbra"]));
    assert_eq!(found["revocations"], json!(0));
    let ids = found["identities"].as_array().unwrap();
    let acme =
        ids.iter().find(|id| id["identity"] == "spiffe://hermesh.local/tenant/acme").unwrap();
    assert_eq!(acme["limits"]["connections"], json!(16));
}

/// The containers' policy is the default policy with a tenant, and their nats-server configuration is rendered from it.
#[test]
fn what_is_deployed_follows_from_the_default() {
    let deployed = |path: &str| format!("{}/../{path}", env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(deployed(path)).unwrap();
    let policy = ok(&["policy", "default"]).replace("tenants = []", "tenants = [\"acme\"]");
    assert_eq!(read("compose/mesh/policy.toml"), policy);
    assert_eq!(read("k8s/base/policy.toml"), policy);
    let file = deployed("compose/mesh/policy.toml");
    for (rendered, certificate, key, roots) in [
        (
            "compose/mesh/nats.conf",
            "/identity/certificate.pem",
            "/identity/key.pem",
            "/identity/roots.pem",
        ),
        ("k8s/base/policy.conf", "/identity/tls.crt", "/identity/tls.key", "/trust/roots.pem"),
    ] {
        let identity = ["--certificate", certificate, "--key", key, "--roots", roots];
        let rest = ["--listen", "0.0.0.0:4223", "--store", "/data", "--monitoring", "8222"];
        let all = [&["policy", "render", &file, "--sync-always"][..], &identity, &rest].concat();
        assert_eq!(read(rendered), ok(&all), "{rendered}: render it again");
    }
}

#[test]
fn a_mistake_is_found_where_it_is() {
    let (_directory, file) = policy();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("pull = [\"jobs\"]", "pull = [\"job\"]")).unwrap();
    let message = fails(&["policy", "check", &file]);
    let line = 1 + text.lines().position(|line| line == "pull = [\"jobs\"]").unwrap();
    assert!(
        message.contains(&file) && message.contains(&format!("line {line}: pull job")),
        "{message}"
    );
    fs::write(&file, b"\xff").unwrap();
    assert!(fails(&["policy", "check", &file]).contains("utf-8"));
    fs::write(&file, vec![b' '; Policy::MAX_BYTES + 1]).unwrap();
    fails(&["policy", "check", &file]);
    fails(&["policy", "check", &format!("{file}.absent")]);
}

#[test]
fn the_line_that_decides_is_told() {
    let (_directory, file) = policy();
    let explain = |identity: &str, verb: &str, what: &str| {
        json(&["policy", "explain", &file, "--identity", identity, "--verb", verb, what, "--json"])
    };
    let may = explain("tenant/acme", "publish", "hermesh.job.acme");
    let text = fs::read_to_string(&file).unwrap();
    let line = 1 + text.lines().position(|line| line.contains("hermesh.job.{tenant}")).unwrap();
    assert_eq!((&may["allowed"], &may["line"]), (&json!(true), &json!(line)));
    let other = explain("spiffe://hermesh.local/tenant/acme", "publish", "hermesh.job.umbra");
    assert_eq!((&other["allowed"], &other["line"]), (&json!(false), &json!(null)));
    let unknown = ok(&[
        "policy",
        "explain",
        "--identity",
        "tenant/acme",
        "--verb",
        "publish",
        "hermesh.job.acme",
    ]);
    assert!(unknown.starts_with("denied: spiffe://hermesh.local/tenant/acme may not"), "{unknown}");
    assert!(unknown.contains("`tenants`"), "{unknown}");
    fails(&["policy", "explain", &file, "--identity", "acme", "--verb", "publish", "x"]);
}

#[test]
fn nats_server_takes_what_is_rendered() {
    let (directory, file) = policy();
    let store = directory.path().join("store");
    let render = |file: &str| {
        let (store, here) = (store.to_str().unwrap(), directory.path().to_str().unwrap());
        let (certificate, key) = (format!("{here}/c.pem"), format!("{here}/k.pem"));
        ok(&[
            "policy",
            "render",
            file,
            "--listen",
            "127.0.0.1:4300",
            "--certificate",
            &certificate,
            "--key",
            &key,
            "--roots",
            &certificate,
            "--store",
            store,
            "--monitoring",
            "8300",
        ])
    };
    let text = render(&file);
    assert!(
        text.contains("listen: \"127.0.0.1:4300\"") && text.contains("http: \"127.0.0.1:8300\"")
    );
    assert!(text.contains("user: \"spiffe://hermesh.local/tenant/umbra\""));
    // Checks the form only; the server checks that the certificates exist.
    let configuration = directory.path().join("nats.conf");
    let plain: Vec<&str> = text.split_inclusive('\n').collect();
    let tls = plain.iter().position(|line| line.starts_with("tls {")).unwrap();
    let end = tls + plain[tls..].iter().position(|line| line.starts_with('}')).unwrap();
    fs::write(&configuration, [&plain[..tls], &plain[end + 1..]].concat().concat()).unwrap();
    let check =
        |program: &str| Command::new(program).args(["-t", "-c"]).arg(&configuration).output();
    let output = check("nats-server").or_else(|_| check("/usr/sbin/nats-server")).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let revoked = fs::read_to_string(&file).unwrap();
    let umbra = "revoked = [\"spiffe://hermesh.local/tenant/umbra\"]";
    fs::write(&file, revoked.replace("revoked = []", umbra)).unwrap();
    assert!(!render(&file).contains("tenant/umbra"));
}
