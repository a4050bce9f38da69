//! From an estate version's record to the new SVID at the workload, in an estate of 1,000 policies: each
//! change grants or withdraws one identity.

use crate::site::{self, Site, apply};
use crate::{percentile, row};
use spiffe_client::WorkloadApiClient;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use testkit::bench::Plan;
use tokio_stream::StreamExt as _;

const TO_SVID: &str = "estate.apply_to_svid_p99_ms";
const PROOF: &str = "estate.apply_proof_p99_ms";
pub(crate) const IDS: [&str; 2] = [TO_SVID, PROOF];
const POLICIES: usize = 1_000;

pub(crate) async fn run(plan: &Plan) {
    let site = tokio::task::spawn_blocking(|| Site::start(&estate(false)))
        .await
        .unwrap();
    let changes = if plan.quick { 6 } else { 200 };
    let client = WorkloadApiClient::connect_to(&site.workload_api())
        .await
        .unwrap();
    let mut contexts = client.stream_x509_contexts().await.unwrap();
    let first = contexts.next().await.unwrap().unwrap();
    assert_eq!(first.svids().len(), 1);
    let mut admin = site.admin().await;
    let mut arrivals = Vec::new();
    for change in 0..changes {
        let granted = change % 2 == 0;
        let files = estate(granted);
        let wanted = if granted { 2 } else { 1 };
        let arrival = async {
            loop {
                let context = contexts.next().await.unwrap().unwrap();
                if context.svids().len() == wanted {
                    return SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
                }
            }
        };
        let (applied, arrived) = tokio::join!(
            apply(&mut admin, &files),
            tokio::time::timeout(Duration::from_secs(60), arrival)
        );
        let arrived = arrived.expect("the workload hears of the change");
        arrivals.push((
            applied["index"].as_u64().unwrap(),
            arrived.as_secs_f64() * 1e3,
        ));
    }
    let versions = site.records("server", "estate-version").await;
    let proofs = site.records("server", "proof").await;
    // The record's own time is when it was handed to the ledger: a little before it was durable.
    let mut millis: Vec<f64> = arrivals
        .iter()
        .zip(versions.iter().skip(versions.len() - changes))
        .map(|((index, arrived), record)| {
            assert!(*index > 0);
            arrived
                - record["time"]["wall"].as_str().map_or_else(
                    || record["time"]["wall"].as_f64().unwrap(),
                    |wall| wall.parse().unwrap(),
                )
        })
        .collect();
    let mut proof: Vec<f64> = proofs
        .iter()
        .skip(proofs.len() - changes)
        .map(|record| {
            assert_eq!(record["body"]["outcome"], "proved");
            record["body"]["millis"].as_f64().unwrap()
        })
        .collect();
    tokio::task::spawn_blocking(move || drop(site))
        .await
        .unwrap();
    if plan.wants(TO_SVID) {
        row(TO_SVID, percentile(&mut millis, 0.99), "ms", None);
    }
    if plan.wants(PROOF) {
        row(PROOF, percentile(&mut proof, 0.99), "ms", None);
    }
}

fn estate(granted: bool) -> estate::EstateFiles {
    let identity = |path: &str| {
        format!("[[identity]]\npath = \"{path}\"\nkind = \"service\"\nowner = \"bench\"\n")
    };
    let mut identities = identity("bench/a") + &identity("bench/b");
    let mut policies = site::assume("bench/a", "*/site_bench");
    if granted {
        policies.push_str(&site::assume("bench/b", "*/site_bench"));
    }
    let mut tables = String::new();
    for number in 0..POLICIES {
        if number % 10 == 0 {
            identities.push_str(&identity(&format!("bench/i{number}")));
            tables.push_str(&format!(
                "[[database.schema.table]]\nname = \"t{number}\"\nclassification = \"internal\"\n"
            ));
        }
        policies.push_str(&format!(
            "@id(\"p{number}\")\npermit (principal == Identity::\"bench/i{}\", action == Action::\"{}\", \
             resource == Table::\"bench/public/t{}\");\n",
            number / 10 * 10,
            ["select", "insert", "update"][number % 3],
            number * 7 % POLICIES / 10 * 10,
        ));
    }
    let mut files = site::estate(
        "classifications = [\"public\", \"internal\", \"restricted\"]\n",
        &identities,
        &format!(
            "[[database]]\nname = \"bench\"\n[[database.schema]]\nname = \"public\"\n{tables}"
        ),
        &policies,
    );
    files.insert(
        "invariants/bench.cedar",
        "@id(\"nobody truncates\")\nnever (principal is Identity, action == Action::\"truncate\", resource);\n",
    );
    files
}
