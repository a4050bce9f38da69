//! Generates `crates/proto/src/gen` from `proto/`. `cargo xtask codegen` runs it; a test runs it again
//! into another folder and fails on a difference.
//!
//! Usage: `codegen OUT_DIR` from the workspace root.

#![forbid(unsafe_code)]

use std::path::PathBuf;

const FILES: [&str; 6] = [
    "trilith/v1/plane.proto",
    "trilith/v1/admin.proto",
    "trilith/v1/people.proto",
    "trilith/v1/helper.proto",
    "spiffe/workload.proto",
    "envoy/ext_authz.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let out = std::env::args_os()
        .nth(1)
        .map(PathBuf::from)
        .ok_or("usage: codegen OUT_DIR")?;
    std::fs::create_dir_all(&out)?;
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure()
        .out_dir(&out)
        .build_client(true)
        .build_server(true)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
