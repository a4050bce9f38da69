//! The one binary. Everything it does lives in `cli` and the planes below.

#![forbid(unsafe_code)]

/// What one thread allocates another frees, on every way through the planes.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
