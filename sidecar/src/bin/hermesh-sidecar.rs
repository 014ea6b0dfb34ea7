//! `hermesh-sidecar`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hermesh_sidecar::command::main()
}
