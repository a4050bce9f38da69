//! What a thief of the authority's keys tries: certificates that no ledger records. An attack tool, not
//! part of `trilith`; it shows on a running system what DESIGN's first invariant refuses.
//!
//! It prints one line of JSON per attack: `{"attack","refused","seen"}`. It ends with success if it
//! could try them all, whatever came of it. A forgery that would not even pass for an SVID is no try, nor
//! is one at a gateway that turns the genuine program away as well.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    reason = "standard output is this program's interface"
)]

mod gate;
mod mint;
mod observe;

use anyhow::{Context as _, bail};
use clap::Parser;
use facts::Timestamp;
use gate::{Gate, Tried};
use mint::{Forged, Genuine, Thief};
use observe::Program;
use serde_json::json;
use spiffe_core::{TrustDomain, receipt};
use std::path::PathBuf;

/// Impersonates an identity with stolen keys, and reports what the gateway says to it.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of the stolen CA keys (issuing-N.pk8).
    #[arg(long)]
    ca_keys: PathBuf,
    /// Folder of the stolen ledger key (ledger.pk8).
    #[arg(long)]
    ledger_keys: PathBuf,
    /// Where the genuine program gets its identity: `unix:///run/trilith/workload.sock`.
    #[arg(long)]
    workload_api: String,
    /// The server's public side: HOST:PORT.
    #[arg(long)]
    server_http: String,
    /// The `PostgreSQL` gateway: HOST:PORT.
    #[arg(long)]
    gateway: String,
    #[arg(long)]
    trust_domain: String,
    /// Path of the identity to impersonate.
    #[arg(long = "as")]
    identity: String,
    /// The program that really has it, whose certificate is observed.
    #[arg(long)]
    genuine: PathBuf,
    /// Path of the gateway's own identity.
    #[arg(long, default_value = "gateway/pg")]
    gateway_identity: String,
    /// A database behind the gateway.
    #[arg(long, default_value = "shop")]
    database: String,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let trust_domain = TrustDomain::new(&arguments.trust_domain)?;
    let victim = trust_domain.identity(&arguments.identity)?;
    let bundle = observe::bundle(&arguments.server_http, &trust_domain)?;
    let mut program = Program::start(&arguments.genuine, &arguments.workload_api)?;
    let server = trust_domain.identity(&arguments.gateway_identity)?;
    program.connect(&arguments.gateway, &arguments.database, &server)?;
    let genuine = Genuine::seen(&program.certificates()?, &bundle, Timestamp::now())?;
    if genuine.svid.spiffe_id != victim {
        bail!("{} is not {victim}", genuine.svid.spiffe_id);
    }
    let thief = Thief::with_keys(
        &arguments.ca_keys,
        &arguments.ledger_keys,
        &trust_domain,
        genuine,
    )?;
    let gate = Gate {
        address: arguments.gateway,
        database: arguments.database,
        bundle,
    };

    let now = Timestamp::now();
    report(&gate, "unrecorded", || {
        Ok(vec![
            ("without a receipt", thief.unrecorded(now)?),
            ("with noise for a receipt", thief.with_noise(now)?),
        ])
    })?;
    report(&gate, "transplanted", || {
        Ok(vec![("with the victim's receipt", thief.transplanted()?)])
    })?;
    report(&gate, "forked", || {
        let head = observe::checkpoint(&arguments.server_http, thief.ledger_key())?;
        let same = thief.forked(head.size, now)?;
        let larger = thief.forked(head.size + 1, now)?;
        for forged in [&same, &larger] {
            let svid = forged.validated(&gate.bundle, now)?;
            receipt::check(&svid, thief.ledger_key())
                .map_err(|finding| anyhow::anyhow!("the fork is flawed: {finding}"))?;
        }
        Ok(vec![
            ("under a checkpoint of the genuine size", same),
            ("under a larger checkpoint", larger),
        ])
    })
}

/// Tries each forgery of one attack and prints what came of all of them.
fn report(
    gate: &Gate,
    attack: &str,
    forge: impl FnOnce() -> anyhow::Result<Vec<(&'static str, Forged)>>,
) -> anyhow::Result<()> {
    let mut refused = true;
    let mut seen = Vec::new();
    for (how, forged) in forge()? {
        // Only what would convince anybody who knows no ledger is worth trying.
        forged
            .validated(&gate.bundle, Timestamp::now())
            .with_context(|| format!("{attack}: the forgery is flawed"))?;
        let tried = gate
            .enter(&forged)
            .with_context(|| format!("{attack} could not be tried"))?;
        refused &= matches!(tried, Tried::Refused(_));
        seen.push(format!("{how}: {tried}"));
    }
    let seen = seen.join("; ");
    println!(
        "{}",
        json!({ "attack": attack, "refused": refused, "seen": seen })
    );
    Ok(())
}
