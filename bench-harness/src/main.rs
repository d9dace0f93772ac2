//! The `bench-harness` command: parses, calls the library, prints an error once, maps it to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(bench_harness::cmd::main(std::env::args_os().skip(1).collect()))
}
