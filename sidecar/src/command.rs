//! The command line of the sidecar. Exit codes: 0 ended in order, 1 failed, 2 wrong usage or configuration.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    app,
    config::{self, Config, DOCUMENTED, Environment, Format},
};

/// Sets the log filter, overriding the configured level.
const LOG: &str = "HERMESH_LOG";

const NOTES: &str = "\
Every option is also an environment variable, which overrides the file:
HERMESH_SIDECAR_UPSTREAM__SERVERS is servers in [upstream].
HERMESH_LOG is a filter for the log, such as hermesh_sidecar=debug,info.
SIGTERM and SIGINT end it: it accepts no more connections, and waits for the open ones.";

/// The sidecar of one workload. To the workload it is a NATS server on loopback; to the broker it is a
/// client over mutual TLS. It enforces a policy in between.
#[derive(Parser)]
#[command(name = "hermesh-sidecar", version, after_help = NOTES)]
struct Cli {
    /// The configuration; every option has a default, see --print-config
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Checks configuration and policy, and exits
    #[arg(long)]
    check: bool,
    /// Prints all options with their meaning and defaults, and exits
    #[arg(long)]
    options: bool,
    /// Prints the configuration as it results from file and environment, and exits
    #[arg(long)]
    print_config: bool,
}

/// Why the program failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Config(#[from] config::Error),
    #[error(transparent)]
    App(#[from] app::Error),
    #[error("{LOG}: {0}; expected a filter such as info or hermesh_sidecar=debug,info")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// The whole program, from its arguments to its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let environment: Environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
        .collect();
    match run(&cli, &environment) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Ignored: if standard error is closed, the error cannot be reported anyway.
            let _ = writeln!(io::stderr(), "error: {error}");
            match error {
                Error::Config(_) | Error::Filter(_) | Error::App(app::Error::Policy(_)) => {
                    ExitCode::from(2)
                }
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(cli: &Cli, environment: &Environment) -> Result<(), Error> {
    if cli.options {
        return Ok(io::stdout().write_all(DOCUMENTED.as_bytes())?);
    }
    let config = config::load(cli.config.as_deref(), environment)?;
    if cli.print_config {
        let text = toml::to_string(&config).map_err(config::Error::from)?;
        return Ok(io::stdout().write_all(text.as_bytes())?);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if cli.check {
        runtime.block_on(crate::policy_file::follow(&config.policy)).map_err(app::Error::from)?;
        return Ok(io::stdout().write_all(b"configuration and policy are in order\n")?);
    }
    log(&config, environment)?;
    runtime.block_on(live(config))
}

async fn live(config: Config) -> Result<(), Error> {
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let drain = config.drain;
    let bound = app::build(config).await?;
    let stopper = bound.stopper();
    let mut ended = std::pin::pin!(bound.ended());
    tokio::select! {
        ended = &mut ended => return Ok(ended?),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!(seconds = drain.as_secs_f64(), "ending; a second signal ends at once");
    stopper.stop();
    tokio::select! {
        ended = &mut ended => ended?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

fn log(config: &Config, environment: &Environment) -> Result<(), Error> {
    let filter = match environment.get(LOG) {
        Some(text) => EnvFilter::try_new(text)?,
        None => EnvFilter::new(tracing::Level::from(config.log.level).to_string()),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Cannot fail: this is the first and only subscriber.
    let _ = match config.log.format {
        Format::Text => {
            let log = log.with_ansi(io::IsTerminal::is_terminal(&io::stderr()));
            tracing::subscriber::set_global_default(log.finish())
        }
        Format::Json => {
            tracing::subscriber::set_global_default(log.json().flatten_event(true).finish())
        }
    };
    Ok(())
}
