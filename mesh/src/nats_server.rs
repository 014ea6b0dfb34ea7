//! Runs nats-server as a child process, for `hermesh up` and for tests.

use std::{
    fs, io,
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use crate::Error;

const INSTALL: &str = "install it (Debian, Ubuntu: apt-get install nats-server)";
/// Range of free ports. It lies below the ports that operating systems assign to outgoing connections; otherwise a
/// client that reconnects while the server is down could take the server's port.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const PORT_TRIES: usize = 100;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Time limit for a server's greeting.
const GREETING: Duration = Duration::from_millis(500);

/// How to start a nats-server.
#[derive(Debug, Clone)]
pub struct NatsServerOptions {
    /// Directory of its configuration, log and streams.
    pub directory: PathBuf,
    /// The port on the loopback address; 0 for any free port.
    pub port: u16,
    /// The largest message in bytes; ignored if `configuration` is given.
    pub max_payload: usize,
    /// The complete configuration, in place of the default (loopback, no TLS). It must listen on `port`.
    pub configuration: Option<String>,
    /// The program; by default `nats-server` in the search path or in `/usr/sbin`.
    pub program: Option<PathBuf>,
    /// How long start-up may take; the server reads its streams first.
    pub patience: Duration,
    /// Whether it runs in a process group of its own, so that Ctrl-C at the terminal does not reach it and its parent
    /// can stop it in order.
    pub own_group: bool,
}

impl NatsServerOptions {
    /// A server that keeps everything in `directory`, on a free port.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            port: 0,
            max_payload: 8 << 20,
            configuration: None,
            program: None,
            patience: Duration::from_secs(60),
            own_group: false,
        }
    }
}

/// A running nats-server with JetStream, on the loopback address only. Killed on drop.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    configuration: PathBuf,
    log: PathBuf,
    port: u16,
    patience: Duration,
    own_group: bool,
    child: Child,
}

impl NatsServer {
    /// Starts a server, and waits until it accepts connections.
    ///
    /// # Errors
    /// [`Error::Start`] with the reason.
    pub async fn start(options: NatsServerOptions) -> Result<Self, Error> {
        let program = find(options.program.as_deref())?;
        let port = match options.port {
            0 => free_port()?,
            port => port,
        };
        // Otherwise the greeting of another server could be mistaken for that of this one.
        if taken(port) {
            let why =
                format!("port {port} of 127.0.0.1 cannot be used: another process listens there");
            return Err(Error::Start { why });
        }
        let directory = &options.directory;
        let (configuration, log) = (directory.join("nats.conf"), directory.join("nats.log"));
        let ours = || configure(&options, port, &log);
        let text = options.configuration.clone().unwrap_or_else(ours);
        fs::create_dir_all(directory)
            .and_then(|()| fs::write(&configuration, text))
            .map_err(failed(format!("cannot write {}", configuration.display())))?;
        let NatsServerOptions { patience, own_group, .. } = options;
        let child = spawn(&program, &configuration, own_group)?;
        let mut server = Self { program, configuration, log, port, patience, own_group, child };
        server.ready().await?;
        Ok(server)
    }

    /// The URL for clients.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills the server at once (SIGKILL), as a crash would.
    pub fn kill(&mut self) {
        // Fails only if the process has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts the server again, with the same port and store, killing it first if it still runs.
    ///
    /// # Errors
    /// [`Error::Start`] with the reason.
    pub async fn restart(&mut self) -> Result<(), Error> {
        self.kill();
        self.child = spawn(&self.program, &self.configuration, self.own_group)?;
        self.ready().await
    }

    /// Makes the server read a new configuration; does not wait for the result.
    ///
    /// # Errors
    /// [`Error::Start`] with the reason.
    pub fn reload(&self, configuration: &str) -> Result<(), Error> {
        fs::write(&self.configuration, configuration)
            .map_err(failed(format!("cannot write {}", self.configuration.display())))?;
        self.signal("reload").then_some(()).ok_or_else(|| Error::Start {
            why: format!("cannot make it reload {}", self.configuration.display()),
        })
    }

    fn signal(&self, signal: &str) -> bool {
        let signal = format!("{signal}={}", self.pid());
        let mut command = Command::new(&self.program);
        command.args(["--signal", &signal]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    }

    /// Asks the server to shut down in order; kills it if it has not ended within `patience`.
    pub async fn stop(mut self, patience: Duration) {
        if self.signal("quit") {
            let deadline = Instant::now() + patience;
            while Instant::now() < deadline && self.exited().is_none() {
                sleep(LOOK_AGAIN).await;
            }
        }
    }

    /// The exit status, if the server has ended by itself.
    pub fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    async fn ready(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + self.patience;
        while !greets(self.port) {
            if let Some(status) = self.exited() {
                let (last, log) = (self.last_complaint(), self.log.display());
                return Err(Error::Start { why: format!("{status}: {last} (see {log})") });
            }
            if Instant::now() >= deadline {
                let (patience, log) = (self.patience, self.log.display());
                let why = format!("it accepts no connections after {patience:?} (see {log})");
                return Err(Error::Start { why });
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn last_complaint(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let complaint = log.lines().rev().find(|line| line.contains("[FTL]"));
        complaint.or(log.lines().last()).unwrap_or("it left no log").to_owned()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn failed(what: String) -> impl FnOnce(io::Error) -> Error {
    move |error| Error::Start { why: format!("{what}: {error}") }
}

fn find(given: Option<&Path>) -> Result<PathBuf, Error> {
    if let Some(program) = given {
        let why = || format!("there is no {}; {INSTALL}", program.display());
        return program
            .is_file()
            .then(|| program.into())
            .ok_or_else(|| Error::Start { why: why() });
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian installs it there, and that directory is not in every search path.
    let mut directories = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    directories
        .find_map(|directory| Some(directory.join("nats-server")).filter(|path| path.is_file()))
        .ok_or_else(|| Error::Start { why: format!("it is not installed; {INSTALL}") })
}

/// A port of the loopback address on which no process listens.
///
/// # Errors
/// [`Error::Start`] if no free port was found.
pub fn free_port() -> Result<u16, Error> {
    let mut ports = std::iter::repeat_with(|| rand::random_range(PORTS)).take(PORT_TRIES);
    ports
        .find(|port| !taken(*port))
        .ok_or_else(|| Error::Start { why: "found no free port; give one".into() })
}

/// Tries to connect to the port. Opening a listener instead would be unsafe: a process that another thread starts at
/// that moment would inherit the listener, and the port would really be taken.
fn taken(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, GREETING).is_ok()
}

fn configure(options: &NatsServerOptions, port: u16, log: &Path) -> String {
    let (store, max_payload) = (options.directory.join("store"), options.max_payload);
    // Streams have their own limits, whose sum may exceed the disk.
    format!(
        "# Written by hermesh whenever it starts the server.\n\
         listen: \"127.0.0.1:{port}\"\n\
         max_payload: {max_payload}\n\
         log_file: {log:?}\n\
         logfile_size_limit: 16777216\n\
         jetstream {{\n  store_dir: {store:?}\n  max_file_store: 1099511627776\n}}\n"
    )
}

fn spawn(program: &Path, configuration: &Path, own_group: bool) -> Result<Child, Error> {
    let mut command = Command::new(program);
    #[cfg(unix)]
    if own_group {
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
    }
    command
        .arg("-c")
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed(format!("cannot run {}", program.display())))
}

/// Whether a NATS server greets on that port.
fn greets(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let greeting = || -> io::Result<String> {
        let stream = TcpStream::connect_timeout(&address, GREETING)?;
        stream.set_read_timeout(Some(GREETING))?;
        let mut line = String::new();
        io::Read::take(BufReader::new(stream), 1 << 16).read_line(&mut line)?;
        Ok(line)
    };
    greeting().is_ok_and(|line| line.starts_with("INFO "))
}
