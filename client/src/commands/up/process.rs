//! Runs a program of the mesh as a process, and restarts it if it dies.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hermesh_mesh::nats_server::free_port;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

use super::say;

/// Bytes of the log to show in an error.
const LAST_WORDS: u64 = 2_000;
/// A service that has run for this long is restarted without an increased pause.
const FORGIVEN: Duration = Duration::from_secs(60);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// Pauses that grow with each restart, and start again after a long run.
#[derive(Default)]
pub(super) struct BackOff {
    deaths: u32,
    last: Option<Instant>,
}

impl BackOff {
    pub(super) fn next(&mut self) -> Duration {
        if self.last.is_none_or(|last| last.elapsed() > FORGIVEN + LONGEST_PAUSE) {
            self.deaths = 0;
        }
        self.last = Some(Instant::now());
        let pause = Duration::from_millis(500).saturating_mul(2_u32.saturating_pow(self.deaths));
        self.deaths += 1;
        pause.min(LONGEST_PAUSE)
    }
}

/// Hands out addresses for processes, none of them twice: a chosen port may not be in use yet when the next is chosen.
#[derive(Default)]
pub(super) struct Ports(BTreeSet<u16>);

impl Ports {
    pub(super) fn take(&mut self, port: u16) {
        self.0.insert(port);
    }

    pub(super) fn free(&mut self) -> Result<SocketAddr> {
        loop {
            let port = free_port()?;
            if self.0.insert(port) {
                return Ok(local(port));
            }
        }
    }
}

pub(super) fn local(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// The path of a program: in the directory of this program, else in the search path.
pub(super) fn find(file: &str, package: &str) -> Result<PathBuf> {
    let paths = super::directories().into_iter().map(|directory| directory.join(file));
    let Some(path) = paths.into_iter().find(|path| path.is_file()) else {
        bail!(
            "expected the program {file} beside hermesh or in the search path, found none: build it \
             with cargo build --release -p {package}"
        );
    };
    Ok(path)
}

/// Description of a process to run.
pub(super) struct Spec {
    pub(super) program: PathBuf,
    /// Name in messages and of the log file.
    pub(super) name: String,
    /// Processes of the same group are stopped together.
    pub(super) group: &'static str,
    /// Configuration file in the mesh's directory; if it is missing, the defaults apply.
    pub(super) configuration: PathBuf,
    pub(super) variables: Vec<(&'static str, String)>,
    /// Address of its health.
    pub(super) address: SocketAddr,
    /// The HTTP path that returns 200 when the process is ready.
    pub(super) ready: &'static str,
}

/// A running program, killed on drop.
pub(super) struct Process {
    spec: Spec,
    directory: PathBuf,
    child: Child,
    back_off: BackOff,
    again: Option<Instant>,
}

impl Process {
    pub(super) fn spawn(spec: Spec, directory: &Path) -> Result<Self> {
        let child = start(&spec, directory)?;
        let directory = directory.to_owned();
        Ok(Self { spec, directory, child, back_off: BackOff::default(), again: None })
    }

    pub(super) fn group(&self) -> &'static str {
        self.spec.group
    }

    pub(super) fn name(&self) -> &str {
        &self.spec.name
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Address of its health.
    pub(super) fn address(&self) -> SocketAddr {
        self.spec.address
    }

    pub(super) fn log(&self) -> PathBuf {
        log(&self.directory, &self.spec.name)
    }

    pub(super) async fn ready(&self) -> bool {
        let url = format!("http://{}{}", self.spec.address, self.spec.ready);
        let ask = move || {
            let agent = ureq::Agent::config_builder().timeout_global(Some(HEALTH_TIMEOUT)).build();
            ureq::Agent::from(agent).get(&url).call().is_ok()
        };
        tokio::task::spawn_blocking(ask).await.unwrap_or(false)
    }

    pub(super) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended ({status}): {}", self.name(), self.last_words());
        }
        Ok(())
    }

    /// The last lines of its log.
    pub(super) fn last_words(&self) -> String {
        let read = || -> std::io::Result<String> {
            let mut file = File::open(self.log())?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))?;
            let mut bytes = Vec::new();
            file.take(LAST_WORDS).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
        };
        match read() {
            Ok(text) if !text.is_empty() => format!("{} ends with\n{text}", self.log().display()),
            _ => format!("{} is empty", self.log().display()),
        }
    }

    /// Restarts the process after a pause if it has ended.
    pub(super) fn keep_alive(&mut self) {
        match self.again {
            None => {
                // An error means that the state could not be queried; the next call tries again.
                let Ok(Some(status)) = self.child.try_wait() else {
                    return;
                };
                let pause = self.back_off.next();
                let log = self.log();
                say(&format!(
                    "{} ended ({status}); restarting it in {pause:?} (see {})",
                    self.name(),
                    log.display()
                ));
                self.again = Some(Instant::now() + pause);
            }
            Some(at) if at <= Instant::now() => match start(&self.spec, &self.directory) {
                Ok(child) => (self.child, self.again) = (child, None),
                Err(error) => {
                    say(&format!("{error:#}"));
                    self.again = Some(Instant::now() + self.back_off.next());
                }
            },
            Some(_) => {}
        }
    }

    /// Asks the process to finish its work and stop (SIGTERM).
    pub(super) fn terminate(&self) {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            // Fails only if the process has ended.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Waits until the process has ended, and prints a message if that takes too long.
    pub(super) async fn ended(&mut self, mentioned: Instant) {
        if timeout_at(mentioned, self.child.wait()).await.is_err() {
            say(&format!("{} is still finishing its work; Ctrl-C stops it at once", self.name()));
            // An error means that there is no process to wait for.
            let _ = self.child.wait().await;
        }
    }
}

fn log(directory: &Path, name: &str) -> PathBuf {
    directory.join("logs").join(format!("{name}.log"))
}

fn start(spec: &Spec, directory: &Path) -> Result<Child> {
    let path_of_log = log(directory, &spec.name);
    let log = OpenOptions::new().create(true).append(true).open(&path_of_log);
    let log = log.with_context(|| format!("cannot write {}", path_of_log.display()))?;
    let mut command = Command::new(&spec.program);
    let configuration = directory.join(&spec.configuration);
    if configuration.is_file() {
        command.arg("--config").arg(&configuration);
    }
    // Services must not see the passphrase, and refuse to start with a variable that they do not know.
    for (variable, _) in std::env::vars_os() {
        let ours = variable.to_string_lossy().starts_with("HERMESH_");
        if ours && variable != "HERMESH_LOG" {
            command.env_remove(variable);
        }
    }
    command
        .envs(spec.variables.iter().map(|(name, value)| (name, value)))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        // Ctrl-C at the terminal must reach only this program, which stops the others in order.
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", spec.program.display()))
}
