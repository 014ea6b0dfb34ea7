//! Runs `hermesh up` for tests.

// Each test program uses a part of this.
#![allow(dead_code)]
// Helpers are part of tests, where clippy allows it, but are not recognised as such.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::thread::park_timeout;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::common::{command, operator_calls, text};

/// Time limit, far longer than any step here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// `hermesh up` with two workers, stopped in order at the end of a test, even if the test fails.
pub(crate) struct Mesh {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    pub(crate) url: String,
    pids: Vec<i32>,
    pub(crate) workers: Vec<i32>,
    /// URLs of the workers' metrics.
    health: Vec<String>,
    /// Its standard error.
    said: PathBuf,
    /// Its standard output when it is ready.
    pub(crate) document: Value,
}

impl Mesh {
    pub(crate) fn start(directory: &Path) -> Self {
        Self::start_with(directory, &[])
    }

    pub(crate) fn start_with(directory: &Path, options: &[&str]) -> Self {
        let programs =
            Path::new(env!("CARGO_BIN_EXE_hermesh")).with_file_name("hermesh-evaluation");
        assert!(
            programs.exists(),
            "{} is missing: run cargo build --release -p hermesh-programs",
            programs.display()
        );
        let said = directory.join("up.log");
        let directory = directory.to_str().unwrap();
        let mut child =
            command(&["up", "--port", "0", "--workers", "2", "--dir", directory, "--json"])
                .args(options)
                .stdout(Stdio::piped())
                .stderr(fs::File::create(&said).unwrap())
                .spawn()
                .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut printed = String::new();
        while stdout.read_line(&mut printed).unwrap() > 0 && !printed.ends_with("\n}\n") {}
        let ready = serde_json::from_str(&printed);
        let document: Value =
            ready.unwrap_or_else(|_| panic!("{printed}{}", fs::read_to_string(&said).unwrap()));
        let services = document["services"].as_array().unwrap();
        assert_eq!(services.len(), 5);
        let pid = |service: &Value| service["pid"].as_i64().unwrap() as i32;
        let is_worker = |service: &&Value| text(&service["name"]).starts_with("evaluation");
        let workers = services.iter().filter(is_worker);
        let health = workers.clone().map(|worker| text(&worker["health"]).to_owned()).collect();
        let workers = workers.map(pid).collect();
        let sidecars = document["sidecars"].as_array().into_iter().flatten();
        let pids = services.iter().chain(sidecars).map(pid);
        let nats = document["nats_pid"].as_i64().unwrap() as i32;
        let pids = pids.chain([nats]).collect();
        let url = document["mesh"].as_str().unwrap().to_owned();
        Self { child, _stdout: stdout, url, pids, workers, health, said, document }
    }

    pub(crate) fn alive(&self) -> Vec<i32> {
        let alive = |pid: &i32| Path::new(&format!("/proc/{pid}")).exists();
        self.pids.iter().copied().filter(alive).collect()
    }

    pub(crate) fn signal(&self, pids: &[i32], signal: Signal) {
        for &pid in pids {
            kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        }
    }

    /// Number of operators that each worker reports to have run.
    pub(crate) fn calls(&self) -> Vec<f64> {
        self.health.iter().map(|health| operator_calls(health)).collect()
    }

    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let start = Instant::now();
        while !holds() {
            assert!(
                start.elapsed() < PATIENCE,
                "not so after {PATIENCE:?}: {what}; {}",
                self.said()
            );
            park_timeout(Duration::from_millis(20));
        }
    }

    pub(crate) fn stop(&mut self) -> Option<i32> {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        let _ = kill_process(pid, Signal::TERM);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}
