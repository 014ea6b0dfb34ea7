//! A Python program submits a job, with files made by `hermesh encrypt --sign`, the Python client of NATS, and no code
//! of hermesh.

// Helpers are part of tests, where clippy allows it, but are not recognised as such.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use common::*;
use hermesh_mesh::nats_server::{NatsServer, NatsServerOptions, free_port};
use tokio::runtime::Runtime;

const SERVICES: [&str; 4] = ["key-management", "preprocessing", "evaluation", "aggregation"];
/// Time limit, far longer than a service takes to start.
const PATIENCE: u32 = 120;

/// A nats-server and the four services, one process each; killed when dropped.
struct Mesh {
    server: NatsServer,
    services: Vec<Child>,
    /// URL of the metrics of evaluation.
    evaluation: String,
}

impl Mesh {
    fn start(directory: &Path) -> Self {
        let options = NatsServerOptions::new(directory.join("nats"));
        let server = Runtime::new().unwrap().block_on(NatsServer::start(options)).unwrap();
        let evaluation = format!("127.0.0.1:{}", free_port().unwrap());
        let mut mesh =
            Self { server, services: Vec::new(), evaluation: format!("http://{evaluation}") };
        for service in SERVICES {
            let program = Path::new(env!("CARGO_BIN_EXE_hermesh"))
                .with_file_name(format!("hermesh-{service}"));
            assert!(program.exists(), "no {}: cargo build -p hermesh-programs", program.display());
            let log = fs::File::create(directory.join(format!("{service}.log"))).unwrap();
            let listen = if service == "evaluation" { &evaluation } else { "127.0.0.1:0" };
            let mut command = Command::new(program);
            command
                .current_dir(directory)
                .env("HERMESH_NATS__URL", mesh.server.url())
                .env("HERMESH_HTTP__LISTEN", listen)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log);
            mesh.services.push(command.spawn().unwrap());
        }
        mesh
    }

    /// Runs a command until it succeeds: the services may still be starting.
    fn answers(&self, arguments: &[&str]) {
        let mut error = Vec::new();
        for _ in 0..PATIENCE {
            let output = run(arguments);
            if output.status.success() {
                return;
            }
            error = output.stderr;
            std::thread::park_timeout(Duration::from_secs(1));
        }
        panic!("{arguments:?}: {}", String::from_utf8_lossy(&error));
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for service in &mut self.services {
            let _ = service.kill();
            let _ = service.wait();
        }
    }
}

fn python(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/python").join(file)
}

fn succeeds(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
}

/// A Python interpreter with the NATS client; kept for the next run of the tests.
fn interpreter() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-venv");
    let interpreter = directory.join("bin/python");
    let (wanted, installed) = (python("requirements.txt"), directory.join("installed.txt"));
    if fs::read(&installed).ok() != Some(fs::read(&wanted).unwrap()) {
        succeeds(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory));
        let mut pip = Command::new(&interpreter);
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]);
        succeeds(pip.arg(&wanted));
        fs::copy(&wanted, &installed).unwrap();
    }
    interpreter
}

/// The program's output, and true if it succeeded.
fn submit(
    interpreter: &Path,
    mesh: &Mesh,
    job: &str,
    headers: &str,
    answer: &str,
) -> (bool, String) {
    let mut command = Command::new(interpreter);
    command.arg(python("submit.py")).arg(mesh.server.url()).args([job, headers, answer]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_python_program_publishes_a_job_and_fetches_the_answer() {
    let interpreter = interpreter();
    let fixture = perceptron();
    let (input, expected) = sure_rows(fixture, 1, "python.csv");
    let mesh = Mesh::start(&scratch("python-mesh"));
    let (url, keys) = (mesh.server.url(), &*fixture.keys);
    let (job, answer) = (fixture.path("python.ct"), fixture.path("python-answer.ct"));
    let headers = fixture.path("python.headers");
    let encrypt = [
        "encrypt",
        "--model",
        &fixture.model,
        "--keys",
        keys,
        "--input",
        &input,
        "-o",
        &job,
        "--sign",
    ];

    mesh.answers(&["tenant", "register", "--mesh", &url, "--keys", keys]);

    // Before the key is uploaded, the program prints why it gets no answer.
    ok(&encrypt);
    let (success, said) = submit(&interpreter, &mesh, &job, &headers, &answer);
    assert!(!success && said.contains("error: unknown-key: evaluation key "), "{said}");

    ok(&["key", "upload", "--mesh", &url, "--keys", keys]);
    ok(&["model", "register", &fixture.model, "--mesh", &url, "--keys", keys]);
    ok(&encrypt);
    let (success, said) = submit(&interpreter, &mesh, &job, &headers, &answer);
    assert!(success && said.contains(" lookups"), "{said}");
    assert_eq!(ok(&fixture.decryption(&answer)), lines(&expected));

    // Submitting the same job again gives the same answer without a second computation.
    let again = fixture.path("python-again.ct");
    let computed = operator_calls(&mesh.evaluation);
    assert!(computed > 0.0);
    assert!(submit(&interpreter, &mesh, &job, &headers, &again).0);
    assert_eq!(fs::read(&again).unwrap(), fs::read(&answer).unwrap());

    // A different body under the signed headers is refused.
    ok(&encrypt);
    fs::write(&job, b"another").unwrap();
    let (success, said) = submit(&interpreter, &mesh, &job, &headers, &again);
    assert!(!success && said.starts_with("error: digest-mismatch: "), "{said}");
    // Preprocessing has handled the repetition by now, because it was earlier in the same queue.
    assert_eq!(operator_calls(&mesh.evaluation), computed);
}
