//! The command line of `hermesh-issuer`. Exit codes: 0 done, 1 failed, 2 wrong usage.

use std::{
    fs,
    io::{self, IsTerminal as _, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use hermesh_mesh::{
    Clock, SystemClock,
    identity::{CertificateError, Credentials, Purpose, SpiffeId, Trust},
    issuer::{
        Authority, Directory, DirectoryError, Files, Issuer, IssuerError, KeepError, Keeper,
        Lifetime, Renewed, TokenError,
        files::{self, Existing},
        grant,
    },
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{Options, bind};
use crate::policy_file;

const HOUR: Duration = Duration::from_secs(60 * 60);
const MINUTE: Duration = Duration::from_secs(60);
/// Without leap days: the precision is not needed.
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How many years a root is valid.
const YEARS: u32 = 10;
/// How often to check whether certificates are due. A short interval notices a clock that jumps.
const LOOK: Duration = Duration::from_secs(5);

/// Issues the certificates of a hermesh mesh on machines without cert-manager or SPIRE.
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage. HERMESH_LOG is a filter for the log, such as debug.
#[derive(Debug, Parser)]
#[command(name = "hermesh-issuer", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make the root of a trust domain. Never overwrites one.
    Init {
        /// The trust domain, for example hermesh.local.
        #[arg(long)]
        domain: String,
        /// Where root.pem, root-key.pem and roots.pem go. root-key.pem can issue a certificate for any
        /// identity.
        #[arg(long)]
        directory: PathBuf,
        /// How long the root is valid, in years.
        #[arg(long, default_value_t = YEARS, value_parser = clap::value_parser!(u32).range(1..=30))]
        years: u32,
    },
    /// Print a token with which one workload joins once. Only its digest is stored.
    Token {
        /// The workload to certify.
        #[command(flatten)]
        subject: Subject,
        /// How long the token is valid, in minutes.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_080))]
        minutes: u64,
    },
    /// Write key.pem, certificate.pem and roots.pem for a workload that does not ask the issuer itself, for
    /// example nats-server.
    Issue {
        /// The workload to certify.
        #[command(flatten)]
        subject: Subject,
        /// Where the files go; existing ones are replaced.
        #[arg(long)]
        out: PathBuf,
        /// How long the certificate is valid, in hours; at most until the root expires.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760))]
        hours: u64,
    },
    /// Keep the certificates of workloads that do not ask the issuer themselves, for example in containers.
    /// Writes key.pem, certificate.pem and roots.pem for each, and again at half of their life. Makes the
    /// root if there is none.
    Keep {
        /// The directory of `init`.
        #[arg(long)]
        directory: PathBuf,
        /// The trust domain.
        #[arg(long)]
        domain: String,
        /// A workload, for example service/evaluation; may be given several times.
        #[arg(long = "identity", value_name = "KIND/NAME", required = true)]
        identities: Vec<String>,
        /// A host name or address in all certificates; may be given several times.
        #[arg(long = "host")]
        hosts: Vec<String>,
        /// Where the files go: to OUT/KIND/NAME. Existing ones are replaced.
        #[arg(long)]
        out: PathBuf,
        /// How long certificates are valid, in minutes; at most until the root expires.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=525_600))]
        minutes: u64,
        /// Write them once, and exit.
        #[arg(long)]
        once: bool,
        /// Write nothing: check that all of them exist and are valid, and exit.
        #[arg(long, conflicts_with = "once")]
        check: bool,
        /// The form of the log, which goes to standard error.
        #[arg(long, value_enum, default_value_t = Log::Text)]
        log: Log,
    },
    /// Issue certificates over HTTPS (TLS 1.3): POST /v1/certificate, GET /v1/roots, GET /healthz.
    Serve {
        /// The directory of `init`.
        #[arg(long)]
        directory: PathBuf,
        /// Where to listen.
        #[arg(long, default_value = "127.0.0.1:9443")]
        listen: SocketAddr,
        /// The policy: the issuer refuses the workloads and certificates that it revokes. Read again when
        /// it changes; without a policy, none is refused.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// A host name or address in the server's certificate, for clients such as curl; may be given
        /// several times. hermesh's own workloads check the SPIFFE ID only.
        #[arg(long = "host")]
        hosts: Vec<String>,
        /// How long certificates are valid, in minutes.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..=1440))]
        minutes: u64,
        /// The form of the log, which goes to standard error.
        #[arg(long, value_enum, default_value_t = Log::Text)]
        log: Log,
    },
}

/// The workload to certify.
#[derive(Debug, Args)]
pub struct Subject {
    /// The directory of `init`.
    #[arg(long)]
    directory: PathBuf,
    /// The workload, for example service/evaluation or tenant/acme.
    #[arg(long, value_name = "KIND/NAME")]
    identity: String,
    /// A host name or address in the certificate of a server; may be given several times.
    #[arg(long = "host")]
    hosts: Vec<String>,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// For people to read.
    Text,
    /// For programs to read.
    Json,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The issuer's files cannot be read or written.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The policy cannot be read.
    #[error(transparent)]
    Policy(#[from] policy_file::Error),
    /// The name of a workload is invalid.
    #[error("--identity {0:?}: expected KIND/NAME, each of 1 to 64 of a-z, 0-9 and -")]
    Identity(String),
    /// The token cannot be made.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificate cannot be issued.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The certificate cannot be renewed.
    #[error(transparent)]
    Keep(#[from] KeepError),
    /// A workload's certificate is invalid.
    #[error("{workload}: {source}")]
    NotKept {
        /// The workload.
        workload: String,
        /// The reason.
        source: CertificateError,
    },
    /// A certificate is invalid.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A file cannot be written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The log filter is invalid.
    #[error("HERMESH_LOG: {0}; expected a filter such as debug, or hermesh_sidecar=debug,info")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The server cannot listen.
    #[error("cannot serve on {address}: {source}")]
    Serve {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: io::Error,
    },
    /// An error of the operating system.
    #[error("{0}")]
    System(#[from] io::Error),
}

/// The whole program, from its arguments to its exit code.
pub fn main() -> ExitCode {
    match run(Cli::parse(), &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Ignored: if standard error is closed, the error cannot be reported anyway.
            let _ = writeln!(io::stderr(), "error: {error}");
            match error {
                Error::Identity(_) | Error::Log(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs a command; `out` receives what it prints.
///
/// # Errors
/// [`Error`].
pub fn run(cli: Cli, out: &mut impl Write) -> Result<(), Error> {
    let clock = SystemClock;
    match cli.command {
        Command::Init { domain, directory, years } => init(&domain, &directory, years, &clock),
        Command::Token { subject, minutes } => {
            let directory = Directory::new(&subject.directory);
            let id = subject.id(&directory.authority()?)?;
            let lifetime = MINUTE * u32::try_from(minutes).unwrap_or(u32::MAX);
            let token = directory.tokens()?;
            let token = token.create(&id, &subject.hosts, clock.now(), lifetime)?;
            Ok(writeln!(out, "{}", *token.reveal())?)
        }
        Command::Issue { subject, out, hours } => issue(&subject, &out, hours, &clock),
        Command::Keep { directory, domain, identities, hosts, out, minutes, once, check, log } => {
            if check {
                return identities.iter().try_for_each(|it| kept(&domain, &out, it, &clock));
            }
            start_log(log)?;
            let directory = Directory::new(&directory);
            let authority = directory.open(&domain, clock.now(), YEAR * YEARS)?;
            let workloads =
                identities.iter().map(|it| named(&domain, it)).collect::<Result<_, _>>()?;
            let lifetime = MINUTE * u32::try_from(minutes).unwrap_or(u32::MAX);
            let roots = directory.roots()?;
            let mut keeper = Keeper::new(authority, roots, out, workloads, hosts, lifetime);
            if once {
                return Ok(keeper.renew_if_due(clock.now()).failed?);
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(keep(keeper, &clock))
        }
        Command::Serve { directory, listen, policy, hosts, minutes, log } => {
            start_log(log)?;
            let lifetime = Lifetime::new(MINUTE * u32::try_from(minutes).unwrap_or(u32::MAX));
            let directory = Directory::new(&directory);
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            let policy = match &policy {
                Some(file) => Some(runtime.block_on(policy_file::follow(file))?),
                None => None,
            };
            let issuer = Issuer::new(
                directory.authority()?,
                &directory.roots()?,
                directory.tokens()?,
                lifetime.unwrap_or_default(),
                move |peer| policy.as_ref().is_some_and(|policy| policy.borrow().is_revoked(peer)),
            )?;
            runtime.block_on(serve(issuer, Options { listen, hosts }))
        }
    }
}

fn init(domain: &str, directory: &Path, years: u32, clock: &impl Clock) -> Result<(), Error> {
    Directory::new(directory).init(domain, clock.now(), YEAR * years)?;
    Ok(())
}

/// Checks that a workload's files exist and are valid.
fn kept(domain: &str, out: &Path, workload: &str, clock: &impl Clock) -> Result<(), Error> {
    let Files { certificate, key, roots } = Files::of(out, named(domain, workload)?.workload());
    let read = |path: &Path| files::read(path).map_err(at(path));
    let check = |certificate: &[u8], key: &[u8], roots: &[u8]| {
        let found = Credentials::from_pem(certificate, key)?;
        // Verify as a server: brokers have server certificates only, and all other certificates allow it
        // too.
        Trust::from_pem(domain, roots)?.verify(found.chain(), Purpose::Server, clock.now())
    };
    check(&read(&certificate)?, &read(&key)?, &read(&roots)?)
        .map(drop)
        .map_err(|source| Error::NotKept { workload: workload.to_owned(), source })
}

/// Renews certificates until a signal ends it.
async fn keep(mut keeper: Keeper, clock: &impl Clock) -> Result<(), Error> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    loop {
        let Renewed { certificates, failed } = keeper.renew_if_due(clock.now());
        if certificates > 0 {
            tracing::info!(certificates, "renewed");
        }
        // Not fatal: the existing certificate is still valid for half of its life.
        if let Err(error) = failed {
            tracing::warn!(%error, "not renewed; the present certificate stays for now");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
}

fn issue(subject: &Subject, out: &Path, hours: u64, clock: &impl Clock) -> Result<(), Error> {
    let directory = Directory::new(&subject.directory);
    let authority = directory.authority()?;
    let id = subject.id(&authority)?;
    let lifetime = HOUR * u32::try_from(hours).unwrap_or(u32::MAX);
    let hosts = subject.hosts.clone();
    let grant = grant(&authority, id, hosts, clock.now(), lifetime)?;
    let (key, chain) = authority.key_and_chain(&grant)?;
    let (chain, roots) = (files::to_pem(chain.certificates()), directory.roots()?);
    fs::create_dir_all(out).map_err(at(out))?;
    let [key_file, chain_file, roots_file] =
        ["key.pem", "certificate.pem", "roots.pem"].map(|name| out.join(name));
    files::write_secret(&key_file, key.as_bytes(), Existing::Replace).map_err(at(&key_file))?;
    files::write(&chain_file, chain.as_bytes(), Existing::Replace).map_err(at(&chain_file))?;
    files::write(&roots_file, &roots, Existing::Replace).map_err(at(&roots_file))
}

async fn serve(issuer: Issuer, options: Options) -> Result<(), Error> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let address = options.listen;
    let domain = issuer.authority().domain().to_owned();
    let bound = bind(Arc::new(issuer), options, Arc::new(SystemClock)).await;
    let bound = bound.map_err(|source| Error::Serve { address, source })?;
    tracing::info!(address = %bound.address(), domain, "issuing");
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("ending");
    };
    bound.serve(stop).await;
    Ok(())
}

fn start_log(log: Log) -> Result<(), Error> {
    let filter = match std::env::var("HERMESH_LOG") {
        Ok(filter) => EnvFilter::try_new(filter)?,
        Err(_) => EnvFilter::new("info"),
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Cannot fail: this is the first and only subscriber.
    let _ = match log {
        Log::Text => lines.with_ansi(io::stderr().is_terminal()).try_init(),
        Log::Json => lines.json().flatten_event(true).try_init(),
    };
    Ok(())
}

impl Subject {
    fn id(&self, authority: &Authority) -> Result<SpiffeId, Error> {
        named(authority.domain(), &self.identity)
    }
}

fn named(domain: &str, workload: &str) -> Result<SpiffeId, Error> {
    SpiffeId::new(domain, workload).map_err(|_| Error::Identity(workload.to_owned()))
}

fn at(path: &Path) -> impl Fn(io::Error) -> Error {
    |source| Error::File { path: path.to_owned(), source }
}
