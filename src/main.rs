//! The `voxseg` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    voxseg::cli::run()
}
