//! The command line, the same for every program. Exit codes: 0 drained, 1 failed, 2 wrong usage or
//! configuration, 130 interrupted by a second signal.

use std::{
    io::{self, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{ArgAction, ArgMatches, Command, arg, value_parser};

use crate::{
    Ended, Error, Program, build,
    config::{self, Config, Environment},
    identity, load, run,
    telemetry::{self, VARIABLE},
};

const NOTES: &str = "\
Every option is also an environment variable, which overrides the file:
HERMESH_NATS__URL is url in [nats], HERMESH_DRAIN_SECONDS is drain_seconds.
HERMESH_LOG is a filter for the log, such as hermesh_mesh=debug,info.
SIGTERM and SIGINT drain and exit; a second one exits at once.";

/// The whole program, from its arguments to its exit code.
pub fn main<P: Program>() -> ExitCode {
    let arguments = command::<P>().get_matches();
    let environment: Environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into(), value.to_string_lossy().into()))
        .collect();
    match start::<P>(&arguments, &environment) {
        Ok(code) => code,
        Err(error) => {
            // Ignored: if standard error is closed, the error cannot be reported anyway.
            let _ = writeln!(io::stderr(), "error: {error}");
            match error {
                Error::Config(_) | Error::Identity(_) | Error::Telemetry(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn command<P: Program>() -> Command {
    Command::new(P::COMMAND)
        .version(env!("CARGO_PKG_VERSION"))
        .about(format!("The {} service of hermesh as a program", P::NAME))
        .arg(arg!(--config <FILE> "The configuration; every option has a default")
            .required(false)
            .value_parser(value_parser!(PathBuf)))
        .arg(arg!(--check "Checks the configuration and exits").action(ArgAction::SetTrue))
        .arg(arg!(--"print-config" "Prints the configuration as it results from file and environment, and exits")
            .action(ArgAction::SetTrue))
        .after_help(format!("{NOTES}\n\n--help prints all options."))
        .after_long_help(format!("{NOTES}\n\nThe options and their defaults:\n\n{}", P::DOCUMENTED))
}

fn start<P: Program>(arguments: &ArgMatches, environment: &Environment) -> Result<ExitCode, Error> {
    let file = arguments.get_one::<PathBuf>("config").map(PathBuf::as_path);
    let config = load::<P>(file, environment)?;
    if arguments.get_flag("print-config") {
        print(&toml::to_string(&config).map_err(config::Error::from)?);
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.get_flag("check") {
        // A missing file is created at the start.
        if let Some(path) = config.identity.as_deref().filter(|path| path.exists()) {
            identity::read(path)?;
        }
        print("the configuration is in order\n");
        return Ok(ExitCode::SUCCESS);
    }
    let filter = environment.get(VARIABLE).map(String::as_str);
    let (subscriber, traces) =
        telemetry::subscriber(P::COMMAND, &config.log, &config.otlp, filter)?;
    // Cannot fail: this is the first and only subscriber.
    let _ = tracing::subscriber::set_global_default(subscriber);
    hermesh_mesh::telemetry::set_span_linker(telemetry::link);
    let ended = actix::System::new().block_on(live::<P>(config));
    traces.flush();
    match ended {
        // Exit instead of returning, which would wait for computations that were returned to their queues.
        Ok(Ended::Drained) => std::process::exit(0),
        Ok(Ended::Interrupted) => std::process::exit(130),
        Err(error) => Err(error),
    }
}

async fn live<P: Program>(config: Config<P::Options>) -> Result<Ended, Error> {
    run(build::<P>(config).await?).await
}

fn print(text: &str) {
    // Ignored: the reader has closed standard output.
    let _ = io::stdout().write_all(text.as_bytes());
}
