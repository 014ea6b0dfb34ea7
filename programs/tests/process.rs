//! Runs the binaries as processes.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    process::{Child, ChildStderr, Command, Output, Stdio},
};

use common::{ready_is, system};
use hermesh_mesh::nats_server::{NatsServer, NatsServerOptions};
use tempfile::TempDir;

const ALL: [(&str, &str); 4] = [
    ("key-management", env!("CARGO_BIN_EXE_hermesh-key-management")),
    ("preprocessing", env!("CARGO_BIN_EXE_hermesh-preprocessing")),
    ("evaluation", env!("CARGO_BIN_EXE_hermesh-evaluation")),
    ("aggregation", env!("CARGO_BIN_EXE_hermesh-aggregation")),
];
const EVALUATION: &str = ALL[2].1;

fn output(binary: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let directory = TempDir::new().unwrap();
    let mut command = Command::new(binary);
    command.args(arguments).envs(variables.iter().copied()).current_dir(&directory);
    let output = command.output().unwrap();
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "{arguments:?} left something");
    output
}

/// A running program, killed when dropped.
struct Program {
    child: Child,
    log: BufReader<ChildStderr>,
    address: SocketAddr,
}

impl Program {
    fn start(binary: &str, url: &str, directory: &TempDir) -> Self {
        let mut command = Command::new(binary);
        command
            .current_dir(directory)
            .envs([("HERMESH_NATS__URL", url), ("HERMESH_HTTP__LISTEN", "127.0.0.1:0")])
            .envs([("HERMESH_LOG__FORMAT", "json"), ("HERMESH_DRAIN_SECONDS", "5")])
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut program = Self { child, log, address: SocketAddr::from(([0; 4], 0)) };
        program.address = program.line("address").parse().unwrap();
        program
    }

    /// The value of `field` in the next log line that has it.
    fn line(&mut self, field: &str) -> String {
        let mark = format!("\"{field}\":\"");
        loop {
            let mut line = String::new();
            assert_ne!(self.log.read_line(&mut line).unwrap(), 0, "ended without {field}");
            if let Some((_, rest)) = line.split_once(&mark) {
                return rest.split('"').next().unwrap().to_owned();
            }
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    fn exit_code(&mut self) -> Option<i32> {
        // Drain the log until the process ends, so that its pipe does not fill up.
        std::io::copy(&mut self.log, &mut std::io::sink()).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn every_program_drains_and_exits_on_sigterm_and_sigint() {
    system(async {
        let directory = TempDir::new().unwrap();
        let nats = NatsServer::start(NatsServerOptions::new(directory.path())).await.unwrap();
        for ((name, binary), signal) in ALL.iter().zip(["-TERM", "-INT", "-TERM", "-INT"]) {
            let mut program = Program::start(binary, &nats.url(), &directory);
            ready_is(program.address, 200, "ready").await;
            program.signal("-HUP");
            ready_is(program.address, 200, "ready").await;
            program.signal(signal);
            assert_eq!(program.exit_code(), Some(0), "{name}");
        }
        assert!(directory.path().join("aggregation.key").exists());
    });
}

#[test]
fn the_probe_says_what_health_says() {
    system(async {
        let directory = TempDir::new().unwrap();
        let mut program = Program::start(EVALUATION, "nats://127.0.0.1:1", &directory);
        ready_is(program.address, 503, "127.0.0.1:1").await;
        let address = program.address.to_string();
        let probe = |path| output(env!("CARGO_BIN_EXE_hermesh-probe"), &[&address, path], &[]);
        assert_eq!(probe("/healthz").status.code(), Some(0));
        let starting = probe("/readyz");
        assert_eq!(starting.status.code(), Some(1));
        let told = String::from_utf8(starting.stderr).unwrap();
        assert!(told.contains("127.0.0.1:1"), "{told}");
        program.signal("-TERM");
        assert_eq!(program.exit_code(), Some(0));
        assert_eq!(probe("/healthz").status.code(), Some(1), "there is no program");
    });
}

#[test]
fn a_program_without_a_broker_is_alive_and_ends_when_told() {
    system(async {
        let directory = TempDir::new().unwrap();
        let mut program = Program::start(EVALUATION, "nats://127.0.0.1:1", &directory);
        ready_is(program.address, 503, "127.0.0.1:1").await;
        assert_eq!(program.line("level"), "WARN");
        program.signal("-TERM");
        assert_eq!(program.exit_code(), Some(0));
    });
}

#[test]
fn the_configuration_is_checked_and_shown_without_starting() {
    for (name, binary) in ALL {
        let checked = output(binary, &["--check"], &[]);
        assert!(checked.status.success(), "{name}: {checked:?}");
        let shown = output(binary, &["--print-config"], &[("HERMESH_LOG__LEVEL", "warn")]);
        let shown: toml::Table = String::from_utf8(shown.stdout).unwrap().parse().unwrap();
        assert_eq!(shown["log"]["level"].as_str(), Some("warn"), "{name}");
        let help = String::from_utf8(output(binary, &["--help"], &[]).stdout).unwrap();
        assert!(help.contains("heartbeat_seconds") || help.contains("max_tenants"), "{help}");
        let version = String::from_utf8(output(binary, &["--version"], &[]).stdout).unwrap();
        assert_eq!(version.trim(), format!("hermesh-{name} {}", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn a_wrong_configuration_ends_with_2_and_says_why() {
    let log = output(EVALUATION, &[], &[("HERMESH_LOG", "hermesh=loud")]);
    let misspelt = output(EVALUATION, &[], &[("HERMESH_HTTP__LISTN", "127.0.0.1:0")]);
    let range = output(EVALUATION, &["--check"], &[("HERMESH_SERVICE__THREADS", "0")]);
    let file = output(EVALUATION, &["--config", "missing.toml"], &[]);
    let usage = output(EVALUATION, &["--confg"], &[]);
    for (output, expected) in [
        (log, "HERMESH_LOG"),
        (misspelt, "HERMESH_HTTP__LISTN"),
        (range, "service.threads: expected 1 to 4096 threads, got 0"),
        (file, "missing.toml"),
        (usage, "--confg"),
    ] {
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}
