//! `attest.fleet_10k_detect_to_cut_p99_ms`: 10,000 machines prove themselves again every 5 s to one server,
//! each with a quote of its own key; some run what is not listed. From that moment, their agents' look at the
//! list every half second included, to the moment that a gateway hears of the cut. Everything that a node's
//! stream calls runs, without TLS and gRPC around it, and the machines' quotes are made on the same cores.
//! Prints one JSON line; fails when another machine is cut than those.
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

use attest_tpm::continuous::Standing;
use crypto::{Algorithm, Hash, KeyPair, Signer, sha256};
use estate::EstateFiles;
use facts::{FactSet, Source, Timestamp, names};
use proto::v1::{AttestRequest, Attestation};
use references::{
    Artefact, ArtefactKind, Digest, FileValue, Generation, ReferenceFile, SourceKind,
};
use server::bench::{Node, cuts};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use testkit::bench::{Plan, row};
use tokio::sync::Mutex;

/// As in the `trilith` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ID: &str = "attest.fleet_10k_detect_to_cut_p99_ms";
const DOMAIN: &str = "bench.example";
const PCRS: [u32; 15] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14];
const EVERY: Duration = Duration::from_secs(5);
/// How often an agent looks at its list.
const LOOK_MS: u64 = 500;
const FILES: u32 = 1_000;
const JOINING: usize = 64;

fn main() {
    let plan = Plan::from_arguments().unwrap();
    if plan.wants(ID) {
        let (machines, time, evil) = match plan.quick {
            true => (500, Duration::from_secs(12), 20),
            false => (10_000, Duration::from_secs(30), 300),
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(bench(machines, time, evil));
    }
}

struct Member {
    node: Node,
    machine: Mutex<Machine>,
}

impl Member {
    /// Answers `asked`, and whatever is asked next at once.
    async fn answer(&self, machine: &Machine, asked: AttestRequest) {
        let mut asked = Some(asked);
        while let Some(question) = asked {
            asked = self.node.answer(machine.answer(&question)).await.unwrap();
        }
    }
}

async fn bench(count: usize, time: Duration, evil: usize) {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let server = server::start(config(dir.path())).await.unwrap();
    apply(dir.path()).await;
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
        "{used:.2} cores busy, quotes of all machines included; median {:.0} ms, longest {:.0} ms",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    row(ID, p99, "ms", None).unwrap();
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
    let node = Node::admit(server, &name, key.public_key().clone(), facts);
    let node = node.await.unwrap();
    let mut machine = Machine::boot();
    for file in 0..20 {
        machine.run(file);
    }
    let member = Member {
        node,
        machine: Mutex::new(machine),
    };
    let machine = member.machine.lock().await;
    let asked = member.node.stands(machine.stands()).await.unwrap();
    member.answer(&machine, asked.unwrap()).await;
    drop(machine);
    Arc::new(member)
}

/// Processor time of all threads so far, in seconds.
fn cpu() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn config(dir: &std::path::Path) -> server::Config {
    let path = dir.join("server.toml");
    let text = format!(
        "trust_domain = \"{DOMAIN}\"\ndata_dir = \"data\"\nlisten = \"127.0.0.1:0\"\n\
         http_listen = \"127.0.0.1:0\"\n\
         [custody.ca]\nkind = \"file\"\ndir = \"keys/ca\"\n\
         [custody.ledger]\nkind = \"file\"\ndir = \"keys/ledger\"\n\
         [attestation]\ninterval_s = 4\nwindow_s = 600\n"
    );
    std::fs::write(&path, text).unwrap();
    server::Config::load(&path).unwrap()
}

/// An estate that lists what the machines run.
async fn apply(dir: &std::path::Path) {
    let uid = rustix::process::getuid().as_raw();
    let mut files = EstateFiles::bootstrap(DOMAIN, uid);
    files.insert("references/files.json", listed().to_json());
    let socket = dir.join("data/admin.sock");
    let channel = tonic::transport::Endpoint::from_static("http://admin.invalid")
        .connect_with_connector(tower::service_fn(move |_: tonic::transport::Uri| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
            }
        }))
        .await
        .unwrap();
    let mut admin = proto::v1::admin_client::AdminClient::new(channel);
    let request = proto::v1::EstateRequest {
        files: files.to_blob(),
        ..proto::v1::EstateRequest::default()
    };
    admin.estate_apply(request).await.unwrap();
}

fn listed() -> ReferenceFile {
    let at = Timestamp::from_secs(1_700_000_000);
    let files = (0..FILES).map(|number| FileValue {
        path: path(number),
        sha256: Digest(content(number)),
        fsverity: None,
        authenticode: None,
    });
    ReferenceFile {
        generations: vec![Generation {
            name: "bench".to_owned(),
            rings: vec![references::ALL_RINGS.to_owned()],
            valid_from: at,
            valid_until: None,
            imported_at: at,
            sources: vec![references::Source {
                id: "pinned".to_owned(),
                kind: SourceKind::Pinned,
                name: "bench".to_owned(),
                sha256: Digest([7; 32]),
                signed_by: Vec::new(),
                signed_at: None,
            }],
            artefacts: vec![Artefact {
                kind: ArtefactKind::Deb,
                name: "bench".to_owned(),
                version: "1".to_owned(),
                architecture: String::new(),
                sha256: Digest([8; 32]),
                source: "pinned".to_owned(),
                made_of: Vec::new(),
                files: files.collect(),
                pcrs: Vec::new(),
                unpredicted: Vec::new(),
            }],
        }],
        withdrawn: Vec::new(),
    }
}

fn path(number: u32) -> String {
    format!("/usr/lib/x86_64-linux-gnu/lib{number}.so")
}

fn content(number: u32) -> [u8; 32] {
    sha256(&number.to_be_bytes())
}

/// A chip of software, and the list of its kernel.
struct Machine {
    key: KeyPair,
    pcr_10: [u8; 32],
    list: Vec<Vec<u8>>,
}

impl Machine {
    fn boot() -> Self {
        let mut machine = Self {
            key: KeyPair::generate(Algorithm::EcdsaP256).unwrap(),
            pcr_10: [0; 32],
            list: Vec::new(),
        };
        machine.measure("boot_aggregate", sha256(&[0; 320]));
        machine
    }

    fn run(&mut self, number: u32) {
        self.measure(&path(number), content(number));
    }

    fn measure(&mut self, path: &str, digest: [u8; 32]) {
        let mut data = Vec::new();
        for field in [
            [b"sha256:\0".as_slice(), &digest].concat(),
            format!("{path}\0").into_bytes(),
            Vec::new(),
        ] {
            data.extend(u32::try_from(field.len()).unwrap().to_le_bytes());
            data.extend(field);
        }
        let mut entry = 10_u32.to_le_bytes().to_vec();
        entry.extend(Hash::Sha1.digest(&[&data]));
        entry.extend(7_u32.to_le_bytes());
        entry.extend(b"ima-sig");
        entry.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        entry.extend(&data);
        self.pcr_10 = sha256(&[self.pcr_10, sha256(&data)].concat());
        self.list.push(entry);
    }

    fn values(&self) -> Vec<Vec<u8>> {
        let value = |pcr: u32| if pcr == 10 { self.pcr_10 } else { [0; 32] };
        PCRS.iter().map(|pcr| value(*pcr).to_vec()).collect()
    }

    /// `TPMS_ATTEST`
    fn quote(&self, nonce: &[u8; 32]) -> Vec<u8> {
        [
            &0xff54_4347_u32.to_be_bytes()[..],
            &0x8018_u16.to_be_bytes(),
            &sized(b"signer"),
            &sized(nonce),
            &[0; 8],
            &7_u32.to_be_bytes(),
            &0_u32.to_be_bytes(),
            &[1],
            &[0; 8],
            &1_u32.to_be_bytes(),
            &[0, 0x0b, 3, 0xff, 0x7f, 0],
            &sized(&sha256(&self.values().concat())),
        ]
        .concat()
    }

    fn stands(&self) -> Standing {
        let (x, y) = self.key.public_key().xy().unwrap();
        let public = [
            &[0, 0x23, 0, 0x0b][..],
            // fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
            &0x0005_0072_u32.to_be_bytes(),
            &[0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10],
            &sized(x),
            &sized(y),
        ]
        .concat();
        Standing::kept(&public, &self.quote(&[0; 32]), &self.values().concat()).unwrap()
    }

    fn answer(&self, asked: &AttestRequest) -> Attestation {
        let nonce = asked.nonce.as_slice().try_into().unwrap();
        let quote = self.quote(&nonce);
        let der = self.key.sign(&quote).unwrap();
        let r_length = usize::from(der[3]);
        let unsigned = |number: &[u8]| sized(number.strip_prefix(&[0]).unwrap_or(number));
        let first = usize::try_from(asked.ima_entries).unwrap();
        Attestation {
            nonce: asked.nonce.clone(),
            quote_signature: [
                &[0, 0x18, 0, 0x0b][..],
                &unsigned(&der[4..4 + r_length]),
                &unsigned(&der[6 + r_length..]),
            ]
            .concat(),
            quote,
            pcr_values: self.values(),
            ima_first: asked.ima_entries,
            ima_list: self.list[first..].concat(),
            enforcement: None,
        }
    }
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}
