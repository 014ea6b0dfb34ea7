//! `hermesh-issuer`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hermesh_sidecar::issuer::main()
}
