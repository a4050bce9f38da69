//! `attest.join_swtpm_ms`: how long a whole agent takes to join by its TPM, from its start with an empty
//! directory to the SVID on its disk: the median of many, one after the other. The chip is swtpm, the server
//! real, with its ledger on this disk, and the way between them loopback.
//! Prints one JSON line; the reference is what the same chip takes alone for what a join asks of it.
//!
//! `--quick` joins a few times.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a benchmark stops at the first surprise"
)]

#[path = "shared/start.rs"]
mod start;

use agent::AgentConfig;
use device::tpm::{Tpm, join::Join};
use start::{DOMAIN, apply, config, estate, status};
use std::path::Path;
use std::time::{Duration, Instant};
use testkit::bench::{Plan, row};
use testkit::swtpm::Swtpm;
use tokio_util::sync::CancellationToken;

/// As in the `trilith` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ID: &str = "attest.join_swtpm_ms";

fn main() {
    let plan = Plan::from_arguments().unwrap();
    if plan.wants(ID) {
        let joins = if plan.quick { 5 } else { 51 };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(bench(joins));
    }
}

async fn bench(joins: usize) {
    let chip = Swtpm::start().expect("swtpm is there");
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let limits = "[limits]\njoins_per_peer = 1000\n";
    let server = server::start(config(dir.path(), limits)).await.unwrap();
    let mut files = estate();
    let pem = [chip.root_pem(), chip.issuer_pem()];
    let pem = pem.map(|path| std::fs::read_to_string(path).unwrap());
    files.insert(
        "references/tpm.toml",
        format!(
            "[[tpm_root]]\nname = \"bench\"\nemulated = true\npem = '''\n{}'''\n",
            pem.concat()
        ),
    );
    let mut admin = apply(dir.path(), &files).await;
    let status = status(&mut admin).await;
    let pin = status["pin"].as_str().unwrap();

    // The first one has the chip make what it keeps.
    let mut took = Vec::new();
    for number in 0..=joins {
        let folder = dir.path().join(format!("agent-{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        let (here, tpm) = (folder.display(), chip.uri());
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"{}\"\npin = \"{pin}\"\n\
             data_dir = \"{here}/data\"\nworkload_socket = \"{here}/api.sock\"\n\
             [join]\nmethod = \"tpm\"\ntpm = \"{tpm}\"\n",
            server.listen
        );
        let config = AgentConfig::parse(&text, Path::new("agent.toml")).unwrap();
        took.push(join(config).await);
    }
    let first = took.remove(0);
    took.sort_by(f64::total_cmp);
    let median = took[took.len() / 2];
    let chip_alone = alone(&chip);
    eprintln!(
        "the first {first:.0} ms, the longest {:.0} ms; the chip alone {chip_alone:.0} ms",
        took[took.len() - 1]
    );
    let what = "ms that the chip takes to open, make its keys and sign once";
    row(ID, median, "ms", Some((chip_alone, what))).unwrap();
    server.stop().await.unwrap();
}

/// Milliseconds until the agent has its SVID.
async fn join(config: AgentConfig) -> f64 {
    let joined = config.data_dir.join("node.json");
    let stop = CancellationToken::new();
    let begun = Instant::now();
    let running = tokio::spawn(agent::run(config, stop.clone()));
    while !joined.exists() {
        assert!(!running.is_finished(), "the agent does not run");
        tokio::time::sleep(Duration::from_micros(500)).await;
    }
    let took = begun.elapsed().as_secs_f64() * 1e3;
    stop.cancel();
    running.await.unwrap().unwrap();
    took
}

/// The median of what every join has the chip do before it hears from the server, and one quote.
fn alone(chip: &Swtpm) -> f64 {
    let mut took: Vec<f64> = (0..5)
        .map(|_| {
            let begun = Instant::now();
            let begun_join = Join::begin(Tpm::open(&chip.uri()).unwrap()).unwrap();
            drop(begun_join);
            let pcrs: Vec<u32> = (0..15).collect();
            device::tpm::quote(Tpm::open(&chip.uri()).unwrap(), &[7; 32], &pcrs).unwrap();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}
