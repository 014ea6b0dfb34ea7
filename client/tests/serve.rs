//! One process computes, others ask it.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use common::*;
use hermesh_client::data::{self, Limits};
use hermesh_client::keys::KeyDirectory;
use hermesh_client::passphrase::Passphrase;
use hermesh_client::remote::{MeshUrl, Remote};
use hermesh_client::{Error, model};
use hermesh_compiler::network::Label;
use hermesh_embedded::gateway::{self, Gateway};
use hermesh_embedded::{Embedded, Options};
use hermesh_mesh::wire::FailureCode;
use hermesh_mesh::{Digest, SigningKey};
use serde_json::json;

const WITHIN: Duration = Duration::from_secs(600);

/// A running `hermesh serve`; killed if the test fails before it is stopped.
struct Served {
    process: Child,
    output: BufReader<ChildStdout>,
    url: String,
    key: String,
}

impl Served {
    fn start() -> Self {
        let mut process = command(&["serve", "--listen", "127.0.0.1:0"])
            .env("HERMESH_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut field = |name: &str| {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            line.strip_prefix(name).unwrap_or_else(|| panic!("{line}")).trim().to_owned()
        };
        let (url, key) = (field("listening on"), field("service key"));
        Self { process, output, url, key }
    }

    fn terminate(mut self) -> String {
        let kill = format!("kill -TERM {}", self.process.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert_eq!(self.process.wait().unwrap().code(), Some(0));
        rest
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_served_mesh_answers_another_process() {
    let (fixture, served) = (regression(), Served::start());
    let (input, expected) = sure_rows(fixture, 3, "served.csv");
    let infer = |more: &[&'static str]| {
        let (model, keys, url) = (&*fixture.model, &*fixture.keys, &*served.url);
        let mut arguments =
            vec!["infer", "--model", model, "--keys", keys, "--input", &input, "--mesh", url];
        arguments.extend(more);
        arguments
    };

    let trusting = json(&infer(&["--json"]));
    assert_eq!(trusting["labels"], json!(expected));
    assert_eq!(trusting["service_key"], json!(served.key));
    assert_eq!(trusting["service_key_pinned"], json!(false));
    let pinned = json(&[infer(&["--json", "--service-key"]), vec![&served.key]].concat());
    assert_eq!(pinned["labels"], json!(expected));
    assert_eq!(pinned["service_key_pinned"], json!(true));

    let other = SigningKey::generate().verifying_key().to_string();
    let message = fails(&[infer(&["--service-key"]), vec![&other]].concat());
    assert!(message.contains(&other) && message.contains(&served.key), "{message}");

    assert!(served.terminate().ends_with("stopped\n"));
}

#[test]
fn a_mesh_that_is_not_there_is_said() {
    let fixture = regression();
    let input = digits("test-images.npy");
    let infer = |url: &str| {
        let (model, keys) = (&*fixture.model, &*fixture.keys);
        fails(&[
            "infer", "--model", model, "--keys", keys, "--input", &input, "--limit", "1", "--mesh",
            url,
        ])
    };
    // Taken, so that nobody else takes it, and answering with something else.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").unwrap();
    });
    assert!(infer(&url).contains("expected a mesh"));
    other.join().unwrap();
    assert!(infer(&url).contains("is hermesh serve running there?"));
}

#[test]
fn the_client_and_the_gateway_understand_each_other() {
    let fixture = perceptron();
    let compiled = fixture.read_model();
    let keys = KeyDirectory::new(Path::new(&fixture.keys));
    let passphrase: Passphrase = PASSPHRASE.to_owned().into();
    let secret = keys.read_secret(&passphrase).unwrap();
    let evaluation = keys.read_evaluation_key().unwrap();
    let (path, expected) = sure_rows(fixture, 1, "remote.csv");
    let table = data::read_table(Path::new(&path), Limits::default()).unwrap();

    let mesh = Embedded::start(Options::default()).unwrap();
    let gateway = Gateway::start(&mesh, &gateway::Options::default()).unwrap();
    let url: MeshUrl = format!("http://{}", gateway.address()).parse().unwrap();
    let connect = |signing| {
        Remote::connect(url.clone(), secret.tenant.clone(), signing, Some(mesh.identity()))
    };
    let refused = |error: &Error, expected: FailureCode| {
        let found = match error {
            Error::Mesh(hermesh_mesh::Error::Refused(refusal)) => refusal.code,
            Error::Mesh(hermesh_mesh::Error::Failed(failure)) => failure.code,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected);
    };

    let remote = connect(secret.signing.clone()).unwrap();
    let key = remote.upload_key(evaluation.encode()).unwrap();
    assert_eq!(remote.upload_key(evaluation.encode()).unwrap(), key);
    let program = remote.register_model(compiled.program().encode()).unwrap();
    let input = model::encrypt(&compiled, &secret.client, &table).unwrap();

    // The name is taken, by whoever signs with another key.
    let stranger = connect(SigningKey::generate()).err().unwrap();
    refused(&stranger, FailureCode::TenantRefused);
    let unknown = remote.infer(Digest([0; 32]), key, input.clone(), WITHIN, |_| {}).unwrap_err();
    refused(&unknown, FailureCode::UnknownModel);
    let garbage = remote.infer(program, key, vec![0; 100], WITHIN, |_| {}).unwrap_err();
    refused(&garbage, FailureCode::Malformed);
    refused(&remote.upload_key(b"not a key").unwrap_err(), FailureCode::Malformed);

    let mut done = Vec::new();
    let answer = remote.infer(program, key, input, WITHIN, |status| done.push(status.done));
    let predictions =
        model::decrypt(&compiled, &secret.client, &answer.unwrap(), compiled.resolution()).unwrap();
    assert_eq!(predictions[0].label, Some(Label::Int(expected[0])));
    assert!(!done.is_empty() && done.is_sorted(), "{done:?}");
    assert!(done.iter().all(|done| *done <= compiled.program().lookups_per_row() as u64));
}
