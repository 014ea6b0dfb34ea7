//! `hermesh up`: runs a mesh of processes on this machine.

mod process;
mod report;
mod secure;
mod service;

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hermesh_client::cli::Up;
use hermesh_client::terminal::progress;
use hermesh_mesh::nats_server::{NatsServer, NatsServerOptions};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, interval, sleep};

use self::process::{Ports, Process, Spec};
use self::secure::{Secure, Sidecar};
use self::service::{Instance, Program};
use super::{print, print_json};

/// Time limit for all processes to become ready.
const READY: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Interval of checks of policy and certificates.
const FRESH: Duration = Duration::from_secs(1);
/// Time after which a message names a service that has not ended yet. The service limits that time itself
/// (`drain_seconds` in its configuration), so nothing is killed here unless the user asks for it.
const MENTIONED: Duration = Duration::from_secs(30);
const NATS_DRAIN: Duration = Duration::from_secs(10);

pub(crate) fn run(options: &Up) -> Result<()> {
    // Before any process is started.
    let programs = Program::find_all()?;
    let (directory, temporary) = match &options.dir {
        Some(directory) => (directory.clone(), None),
        None => {
            let temporary = tempfile::Builder::new().prefix("hermesh-").tempdir()?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let logs = directory.join("logs");
    std::fs::create_dir_all(&logs).with_context(|| format!("cannot create {}", logs.display()))?;
    let directory = directory.canonicalize()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::new()?;
        let mut stack = Stack::start(options, &programs, &directory).await?;
        let lived = tokio::select! {
            lived = stack.live(options, &directory, temporary.is_some()) => lived,
            () = signals.next() => Ok(()),
        };
        if lived.is_ok() {
            say("stopping; interrupt again to stop at once");
        }
        tokio::select! {
            () = stack.stop() => {}
            // Dropped processes are killed.
            () = signals.next() => {}
        }
        lived
    })
}

/// Ctrl-C and SIGTERM.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

struct Stack {
    nats: Option<NatsServer>,
    secure: Option<Secure>,
    sidecars: Vec<Sidecar>,
    /// The processes of the sidecars, in the same order.
    beside: Vec<Process>,
    /// Services to start when the sidecars are ready.
    waiting: Vec<Spec>,
    /// Running services, in the order in which they stop: the order in which work passes through them.
    services: Vec<Process>,
}

impl Stack {
    async fn start(options: &Up, programs: &[Program], directory: &Path) -> Result<Self> {
        let mut ports = Ports::default();
        let secure = match options.secure {
            true => {
                let workloads: BTreeSet<String> = programs.iter().map(Program::workload).collect();
                Some(Secure::prepare(options, workloads, directory, &mut ports)?)
            }
            false => None,
        };
        let server = NatsServerOptions {
            port: secure.as_ref().map_or(options.port, Secure::port),
            configuration: secure.as_ref().map(Secure::nats_configuration),
            own_group: true,
            ..NatsServerOptions::new(directory.join("nats"))
        };
        let nats = NatsServer::start(server)
            .await
            .context("the mesh needs a NATS server of its own; --port chooses its port")?;
        let mut instances: Vec<Instance<'_>> = Vec::new();
        for program in programs {
            instances.extend(program.instances(options.workers.get(), &mut ports)?);
        }
        let (mut sidecars, mut beside) = (Vec::new(), Vec::new());
        if let Some(secure) = &secure {
            sidecars = secure.sidecars(options, &instances, directory, &mut ports)?;
            for sidecar in &sidecars {
                beside.push(Process::spawn(sidecar.spec(secure.program()), directory)?);
            }
        }
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let all = options.compute.threads.map_or(cores, NonZeroUsize::get);
        let threads = (all / options.workers).max(1);
        let mut own = sidecars.iter().filter(|sidecar| sidecar.tenant.is_none());
        let url = || own.next().map_or_else(|| nats.url(), Sidecar::url);
        let urls: Vec<String> = std::iter::repeat_with(url).take(instances.len()).collect();
        let waiting = instances
            .iter()
            .zip(urls)
            .map(|(instance, url)| instance.spec(directory, &url, threads));
        let waiting = waiting.collect();
        Ok(Self { nats: Some(nats), secure, sidecars, beside, waiting, services: Vec::new() })
    }

    /// Waits until all processes are ready, prints the report, and restarts processes that die.
    async fn live(&mut self, options: &Up, directory: &Path, temporary: bool) -> Result<()> {
        let spinner = progress::spinner("starting");
        let deadline = Instant::now() + READY;
        ready(&mut self.beside, deadline).await?;
        for spec in self.waiting.drain(..) {
            self.services.push(Process::spawn(spec, directory)?);
        }
        ready(&mut self.services, deadline).await?;
        spinner.finish_and_clear();
        self.report(options, directory, temporary)?;
        let mut tick = interval(LOOK_AGAIN);
        let mut nats_back_off = process::BackOff::default();
        let mut fresh = Instant::now();
        loop {
            tick.tick().await;
            for process in self.beside.iter_mut().chain(&mut self.services) {
                process.keep_alive();
            }
            let Some(nats) = &mut self.nats else {
                continue;
            };
            if let Some(secure) = &mut self.secure
                && fresh.elapsed() >= FRESH
            {
                secure.keep_fresh(nats);
                fresh = Instant::now();
            }
            if let Some(status) = nats.exited() {
                let pause = nats_back_off.next();
                say(&format!("nats-server ended ({status}); restarting it in {pause:?}"));
                sleep(pause).await;
                if let Err(error) = nats.restart().await {
                    say(&error.to_string());
                }
            }
        }
    }

    fn report(&self, options: &Up, directory: &Path, temporary: bool) -> Result<()> {
        let text = match options.report.json {
            true => return print_json(&report::document(self, directory)),
            false => report::text(self, options, directory, temporary),
        };
        print(&text)
    }

    /// Stops the services after they have finished their work, then the sidecars, then NATS.
    async fn stop(&mut self) {
        let services = self.services.drain(..);
        let mut all: Vec<Process> = services.chain(self.beside.drain(..)).collect();
        while let Some(group) = all.first().map(Process::group) {
            let alike = all.iter().take_while(|process| process.group() == group).count();
            let mut ending: Vec<Process> = all.drain(..alike).collect();
            ending.iter().for_each(Process::terminate);
            let mentioned = Instant::now() + MENTIONED;
            for process in &mut ending {
                process.ended(mentioned).await;
            }
        }
        if let Some(nats) = self.nats.take() {
            nats.stop(NATS_DRAIN).await;
        }
    }
}

async fn ready(processes: &mut [Process], deadline: Instant) -> Result<()> {
    for process in processes {
        while !process.ready().await {
            process.check_alive()?;
            if Instant::now() > deadline {
                bail!("{} is not ready after {READY:?}: {}", process.name(), process.last_words());
            }
            sleep(LOOK_AGAIN).await;
        }
    }
    Ok(())
}

/// Prints a message to standard error, also in a pipe.
fn say(text: &str) {
    // If standard error is closed, the message is dropped.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The directories to search for programs.
fn directories() -> Vec<PathBuf> {
    let own = std::env::current_exe().ok();
    let own = own.and_then(|path| path.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.into_iter().chain(std::env::split_paths(&path)).collect()
}
