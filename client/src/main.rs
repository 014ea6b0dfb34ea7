//! The `hermesh` command. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod commands;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use hermesh_client::cli::{Cli, Command};
use hermesh_client::terminal::describe;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Demo(options) => commands::demo::run(&options),
        Command::Compile(options) => commands::compile::run(&options),
        Command::Export(options) => commands::export::run(&options),
        Command::Inspect(options) => commands::inspect::run(&options),
        Command::Keygen(options) => commands::keygen::run(&options),
        Command::Encrypt(options) => commands::encrypt::run(&options),
        Command::Evaluate(options) => commands::evaluate::run(&options),
        Command::Decrypt(options) => commands::decrypt::run(&options),
        Command::Infer(options) => commands::infer::run(&options),
        Command::Eval(options) => commands::eval::run(&options),
        Command::Quote(options) => commands::quote::run(&options),
        Command::Bench(options) => commands::bench::run(&options),
        Command::Up(options) => commands::up::run(&options),
        Command::Tenant(command) => commands::tenant::run(&command),
        Command::Key(command) => commands::key::run(&command),
        Command::Model(command) => commands::model::run(&command),
        Command::Policy(command) => commands::policy::run(&command),
        Command::Submit(options) => commands::submit::run(&options),
        Command::Status(options) => commands::follow::status(&options),
        Command::Watch(options) => commands::follow::watch(&options),
        Command::Result(options) => commands::follow::result(&options),
        Command::Cancel(options) => commands::follow::cancel(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe, as `head` does.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed too, the error cannot be reported.
            let _ = writeln!(io::stderr(), "error: {}", describe(error.chain()));
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}
