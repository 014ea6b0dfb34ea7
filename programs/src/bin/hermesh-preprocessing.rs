//! `hermesh-preprocessing`: see `--help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    hermesh_programs::main::<hermesh_programs::Preprocessing>()
}
