//! The demo's `payments-api`: a program of its own, so that its digest is its own.

fn main() -> std::process::ExitCode {
    demo_workloads::run("payments-api")
}
