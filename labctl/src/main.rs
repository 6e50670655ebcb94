//! The `labctl` command; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    labctl::cli::main().into()
}
