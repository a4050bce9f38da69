//! Memory of a node agent that serves 100 processes, each with an open X.509 stream, after each of them got
//! two rotations.

use crate::row;
use crate::site::{self, Site};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use testkit::bench::Plan;
use tokio_stream::StreamExt as _;

const RSS: &str = "agent.rss_100_workloads_mib";
pub(crate) const IDS: [&str; 1] = [RSS];
/// The first argument of a process that this program starts of itself.
pub(crate) const WORKLOAD: &str = "--workload";
const WORKLOADS: usize = 100;
/// The first SVID, and two that replaced it.
const UPDATES: usize = 3;

/// Prints a line for each SVID, for as long as somebody reads.
pub(crate) fn workload() {
    crate::block_on(async {
        let client = spiffe_client::WorkloadApiClient::connect_env()
            .await
            .unwrap();
        let mut contexts = client.stream_x509_contexts().await.unwrap();
        while let Some(context) = contexts.next().await {
            let context = context.unwrap();
            let svid = context.default_svid().expect("an SVID");
            let serial = crate::client::serial(&context, svid);
            println!("{} {serial}", svid.spiffe_id());
        }
    });
}

pub(crate) fn run(plan: &Plan) {
    let (workloads, lifetime) = if plan.quick {
        (10, "10s")
    } else {
        (WORKLOADS, "40s")
    };
    let files = site::estate(
        &format!("[lifetimes]\nx509 = \"{lifetime}\"\n"),
        "[[identity]]\npath = \"bench/w\"\nkind = \"service\"\nowner = \"bench\"\n",
        "",
        &site::assume("bench/w", "*/site_bench"),
    );
    let site = Site::start(&files);
    let mut clients: Vec<(Child, BufReader<ChildStdout>)> = (0..workloads)
        .map(|_| {
            let mut client = Command::new(std::env::current_exe().unwrap())
                .arg(WORKLOAD)
                .env("SPIFFE_ENDPOINT_SOCKET", site.workload_api())
                .env("TOKIO_WORKER_THREADS", "1")
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let told = BufReader::new(client.stdout.take().unwrap());
            (client, told)
        })
        .collect();
    for (_, told) in &mut clients {
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < UPDATES {
            let mut line = String::new();
            assert!(told.read_line(&mut line).unwrap() > 0, "a workload ended");
            assert!(
                line.starts_with("spiffe://bench.example/bench/w "),
                "{line}"
            );
            seen.insert(line);
        }
    }
    let status = std::fs::read_to_string(format!("/proc/{}/status", site.agent_pid())).unwrap();
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .unwrap()
        .parse()
        .unwrap();
    for (client, _) in &mut clients {
        client.kill().and_then(|()| client.wait()).unwrap();
    }
    row(RSS, kib / 1024.0, "MiB", None);
}
