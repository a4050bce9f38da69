//! The one binary. Everything it does lives in `cli` and the planes below.

fn main() -> std::process::ExitCode {
    cli::main()
}
