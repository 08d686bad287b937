//! The command `vmfi`: see the library's [`vmfi::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    vmfi::cli::main()
}
