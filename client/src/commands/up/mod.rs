//! A mesh of processes on this machine.

mod service;

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hermesh_client::cli::Up;
use hermesh_client::terminal::progress;
use hermesh_mesh::nats_server::{NatsServer, NatsServerOptions};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, interval, sleep};

use self::service::{Program, Service};
use super::{print, print_json};

/// How long all services may take to be ready.
const READY: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// After how long a service that ends is mentioned. It bounds that itself (`drain_seconds`, of which only
/// its configuration knows), so nothing is killed here unless the user asks for it.
const MENTIONED: Duration = Duration::from_secs(30);
const NATS_DRAIN: Duration = Duration::from_secs(10);

pub(crate) fn run(options: &Up) -> Result<()> {
    // Before anything is started.
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
            say("ending; once more ends at once");
        }
        tokio::select! {
            () = stack.stop() => {}
            // What is dropped is killed.
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
    /// In the order in which they end: that of the work.
    services: Vec<Service>,
}

impl Stack {
    async fn start(options: &Up, programs: &[Program], directory: &Path) -> Result<Self> {
        let server = NatsServerOptions {
            port: options.port,
            own_group: true,
            ..NatsServerOptions::new(directory.join("nats"))
        };
        let nats = NatsServer::start(server)
            .await
            .context("the mesh needs a NATS server of its own; --port chooses its port")?;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let all = options.compute.threads.map_or(cores, NonZeroUsize::get);
        let threads = (all / options.workers).max(1);
        let mut services = Vec::new();
        for program in programs {
            let count = if program.computes() { options.workers.get() } else { 1 };
            for number in 1..=count {
                let number = program.computes().then_some(number);
                let url = nats.url();
                services.push(Service::spawn(program, number, directory, &url, threads)?);
            }
        }
        Ok(Self { nats: Some(nats), services })
    }

    /// Waits until all are ready, says so, and keeps them alive.
    async fn live(&mut self, options: &Up, directory: &Path, temporary: bool) -> Result<()> {
        let spinner = progress::spinner("starting");
        let deadline = Instant::now() + READY;
        for service in &mut self.services {
            while !service.ready().await {
                service.check_alive()?;
                if Instant::now() > deadline {
                    bail!(
                        "{} is not ready after {READY:?}: {}",
                        service.name(),
                        service.last_words()
                    );
                }
                sleep(LOOK_AGAIN).await;
            }
        }
        spinner.finish_and_clear();
        self.report(options, directory, temporary)?;
        let mut tick = interval(LOOK_AGAIN);
        let mut nats_back_off = service::BackOff::default();
        loop {
            tick.tick().await;
            for service in &mut self.services {
                service.keep_alive();
            }
            if let Some(nats) = &mut self.nats
                && let Some(status) = nats.exited()
            {
                let pause = nats_back_off.next();
                say(&format!("nats-server ended ({status}); starting it again in {pause:?}"));
                sleep(pause).await;
                if let Err(error) = nats.restart().await {
                    say(&error.to_string());
                }
            }
        }
    }

    fn report(&self, options: &Up, directory: &Path, temporary: bool) -> Result<()> {
        let url = self.nats.as_ref().map(NatsServer::url).unwrap_or_default();
        if options.report.json {
            let services = self.services.iter().map(|service| {
                json!({
                    "name": service.name(),
                    "pid": service.pid(),
                    "health": format!("http://{}", service.address()),
                    "log": service.log(),
                })
            });
            return print_json(&json!({
                "mesh": url,
                "directory": directory,
                "nats_pid": self.nats.as_ref().map(NatsServer::pid),
                "services": services.collect::<Vec<_>>(),
            }));
        }
        let kept = match temporary {
            true => "removed at the end; --dir keeps it",
            false => "kept",
        };
        let workers = options.workers;
        print(&format!(
            "mesh  {url}, with {workers} evaluation worker{}\n\
             data  {} ({kept}), logs in logs/\n\n\
             export HERMESH_MESH={url}\n\
             hermesh tenant register --keys keys\n\
             hermesh key upload      --keys keys\n\
             hermesh model register model.hmx --keys keys\n\
             hermesh submit --model model.hmx --keys keys --input x.npy --wait\n\n\
             Ctrl-C ends it.\n",
            if workers.get() == 1 { "" } else { "s" },
            directory.display(),
        ))
    }

    /// Lets each finish what it has in hand, then NATS.
    async fn stop(&mut self) {
        while !self.services.is_empty() {
            let same = self.services[0].program().to_owned();
            let alike = self.services.iter().take_while(|service| service.program() == same);
            let mut ending: Vec<Service> = self.services.drain(..alike.count()).collect();
            ending.iter().for_each(Service::terminate);
            let mentioned = Instant::now() + MENTIONED;
            for service in &mut ending {
                service.ended(mentioned).await;
            }
        }
        if let Some(nats) = self.nats.take() {
            nats.stop(NATS_DRAIN).await;
        }
    }
}

/// Says something to whoever started the mesh, also in a pipe.
fn say(text: &str) {
    // If standard error is gone, there is nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

/// The directories in which programs are looked for.
fn directories() -> Vec<PathBuf> {
    let own = std::env::current_exe().ok();
    let own = own.and_then(|path| path.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.into_iter().chain(std::env::split_paths(&path)).collect()
}
