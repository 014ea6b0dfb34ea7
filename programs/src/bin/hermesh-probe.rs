//! `hermesh-probe`: see `--help`.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    time::Duration,
};

use clap::Parser;

/// Checks over HTTP whether a program on this machine is ready: the health check of container images that
/// have no shell and no curl.
///
/// Exit codes: 0 the status is 200, 1 it is another or there is none, 2 wrong usage.
#[derive(Parser)]
#[command(name = "hermesh-probe", version)]
struct Cli {
    /// Where the program serves its health, for example 127.0.0.1:9403
    address: SocketAddr,
    /// The path to request
    #[arg(default_value = "/readyz")]
    path: String,
    /// How long the program may take to answer, in seconds
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=60))]
    seconds: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match ask(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Ignored: if standard error is closed, the error cannot be reported anyway.
            let _ = writeln!(io::stderr(), "{}{}: {error}", cli.address, cli.path);
            ExitCode::FAILURE
        }
    }
}

/// Whether the program is ready; if not, prints its answer.
fn ask(Cli { address, path, seconds }: &Cli) -> io::Result<bool> {
    let patience = Some(Duration::from_secs(*seconds));
    let mut stream = TcpStream::connect_timeout(address, Duration::from_secs(*seconds))?;
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(64 << 10).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    // The status of a line such as HTTP/1.1 200 OK.
    if answer.split_ascii_whitespace().nth(1) == Some("200") {
        return Ok(true);
    }
    let _ = writeln!(io::stderr(), "{address}{path}: {answer}");
    Ok(false)
}
