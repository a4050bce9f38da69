//! `attest.fleet_10k_detect_to_cut_p99_ms` and `attest.fleet_10k_cpu_cores`: 10,000 machines prove themselves again
//! every 5 s to one server, each with a quote of its own key; some run what is not listed. From that moment, their
//! agents' look at the list every half second included, to the moment that a gateway hears of the cut. Everything
//! that a node's stream calls runs, without TLS and gRPC around it, and the machines' quotes are made on the same
//! cores. The second is how many cores were busy meanwhile: server and machines together, as both are in this
//! process. Prints a JSON line for each; fails when another machine is cut than those.
//!
//! `--quick` takes 500 machines and less time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark stops at the first surprise"
)]

#[path = "shared/start.rs"]
mod start;

use attest_tpm::continuous::Standing;
use crypto::{Algorithm, KeyPair, Signer, sha256};
use facts::{FactSet, Source, Timestamp, Verdict, Warrant, names};
use proto::v1::{AttestRequest, Attestation};
use references::ReferenceFile;
use server::bench::{Node, cuts};
use start::{apply, config, estate};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::bench::{Plan, row};
use testkit::chip::Chip;
use testkit::pinned;
use tokio::sync::Mutex;

/// As in the `trilith` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ID: &str = "attest.fleet_10k_detect_to_cut_p99_ms";
const CORES: &str = "attest.fleet_10k_cpu_cores";
const EVERY: Duration = Duration::from_secs(5);
/// How often an agent looks at its list.
const LOOK_MS: u64 = 500;
const FILES: u32 = 1_000;
const JOINING: usize = 64;

fn main() {
    let plan = Plan::from_arguments().unwrap();
    if plan.wants(ID) || plan.wants(CORES) {
        let (machines, time, evil) = match plan.quick {
            true => (500, Duration::from_secs(12), 20),
            false => (10_000, Duration::from_secs(30), 300),
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(bench(&plan, machines, time, evil));
    }
}

struct Member {
    node: Node,
    machine: Mutex<Chip>,
}

impl Member {
    /// Answers `asked`, and whatever is asked next at once.
    async fn answer(&self, machine: &Chip, asked: AttestRequest) {
        let mut asked = Some(asked);
        while let Some(question) = asked {
            asked = self.node.answer(answer(machine, &question)).await.unwrap();
        }
    }
}

async fn bench(plan: &Plan, count: usize, time: Duration, evil: usize) {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let pace = "[attestation]\ninterval_s = 4\nwindow_s = 600\n";
    let server = server::start(config(dir.path(), pace)).await.unwrap();
    let mut files = estate();
    files.insert("references/files.json", listed().to_json());
    apply(dir.path(), &files).await;
    let begun = Instant::now();
    let members = members(&server, count).await;
    eprintln!("{count} machines joined in {:?}", begun.elapsed());
    let mut heard = cuts(&server);
    let (begun, busy) = (Instant::now(), cpu());
    let until = begun + time;
    let mut tasks = Vec::new();
    for (number, member) in members.iter().enumerate() {
        let member = Arc::clone(member);
        let first = EVERY.mul_f64(number as f64 / count as f64);
        tasks.push(tokio::spawn(async move {
            let mut at = begun + first;
            while at < until {
                tokio::time::sleep_until(at.into()).await;
                let machine = member.machine.lock().await;
                if let Some(asked) = member.node.question() {
                    member.answer(&machine, asked).await;
                }
                drop(machine);
                at += EVERY;
            }
        }));
    }
    let mut bad = Vec::new();
    for number in 0..evil {
        let member = Arc::clone(&members[number * (count / evil)]);
        let after = EVERY + (time - EVERY - EVERY / 2).mul_f64(number as f64 / evil as f64);
        bad.push(tokio::spawn(async move {
            tokio::time::sleep_until((begun + after).into()).await;
            let mut machine = member.machine.lock().await;
            let ran = Instant::now();
            machine.measure("/tmp/evil", [1; 32]);
            let look = u64::from_be_bytes(crypto::random()) % LOOK_MS;
            tokio::time::sleep(Duration::from_millis(look)).await;
            let mut asked = member.node.wanted();
            while asked.is_none() {
                tokio::time::sleep(Duration::from_millis(20)).await;
                asked = member.node.question();
            }
            member.answer(&machine, asked.unwrap()).await;
            ran
        }));
    }
    let mut ran = HashMap::new();
    for (number, task) in bad.into_iter().enumerate() {
        ran.insert(format!("m{}", number * (count / evil)), task.await.unwrap());
    }
    for task in tasks {
        task.await.unwrap();
    }
    let used = (cpu() - busy) / begun.elapsed().as_secs_f64();
    let mut took: Vec<f64> = Vec::new();
    while let Ok((name, at)) = heard.try_recv() {
        let ran = ran.remove(&name).expect("only those that ran it are cut");
        took.push((at - ran).as_secs_f64() * 1e3);
    }
    assert!(ran.is_empty(), "not cut: {ran:?}");
    took.sort_by(f64::total_cmp);
    let p99 = took[took.len() * 99 / 100];
    eprintln!(
        "median {:.0} ms, longest {:.0} ms",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    if plan.wants(ID) {
        row(ID, p99, "ms", None).unwrap();
    }
    if plan.wants(CORES) {
        row(CORES, used, "cores", None).unwrap();
    }
    server.stop().await.unwrap();
}

async fn members(server: &server::Running, count: usize) -> Vec<Arc<Member>> {
    let mut members = Vec::with_capacity(count);
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(JOINING) {
        let joining = some.iter().map(|number| member(server, *number));
        members.extend(futures::future::join_all(joining).await);
    }
    members
}

async fn member(server: &server::Running, number: usize) -> Arc<Member> {
    let (name, now) = (format!("m{number}"), Timestamp::now());
    let mut facts = FactSet::new();
    facts.state(names::MACHINE_NAME, name.as_str(), Source::Verified, now);
    facts.state(names::MACHINE_JOIN, "tpm", Source::Verified, now);
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let every = Warrant::of(Source::Hardware, &[""]);
    let verdict = Verdict::affirmed(&every, facts, Vec::new());
    let node = Node::admit(server, &name, key.public_key().clone(), verdict);
    let node = node.await.unwrap();
    let mut machine = Chip::booted().unwrap();
    for file in 0..20 {
        run(&mut machine, file);
    }
    let member = Member {
        node,
        machine: Mutex::new(machine),
    };
    let machine = member.machine.lock().await;
    let asked = member.node.stands(stands(&machine)).await.unwrap();
    member.answer(&machine, asked.unwrap()).await;
    drop(machine);
    Arc::new(member)
}

/// Processor time of all threads so far, in seconds.
fn cpu() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn listed() -> ReferenceFile {
    let files = (0..FILES).map(|number| pinned::file(&path(number), content(number)));
    let artefact = pinned::files("bench", files.collect());
    pinned::only(pinned::generation(
        "bench",
        &[references::ALL_RINGS],
        artefact,
    ))
}

fn path(number: u32) -> String {
    format!("/usr/lib/x86_64-linux-gnu/lib{number}.so")
}

fn content(number: u32) -> [u8; 32] {
    sha256(&number.to_be_bytes())
}

/// It runs a file that is listed.
fn run(chip: &mut Chip, number: u32) {
    chip.measure(&path(number), content(number));
}

fn stands(chip: &Chip) -> Standing {
    let quote = chip.quote(&[0; 32]).unwrap();
    Standing::kept(&chip.public(), &quote.attested, &quote.values.concat()).unwrap()
}

fn answer(chip: &Chip, asked: &AttestRequest) -> Attestation {
    let quote = chip.quote(&asked.nonce).unwrap();
    Attestation {
        nonce: asked.nonce.clone(),
        quote: quote.attested,
        quote_signature: quote.signature,
        pcr_values: quote.values,
        ima_first: asked.ima_entries,
        ima_list: chip.list_from(usize::try_from(asked.ima_entries).unwrap()),
        enforcement: None,
    }
}
