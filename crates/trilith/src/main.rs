//! The one binary. Everything it does lives in `cli` and the planes below.

#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    cli::main()
}
