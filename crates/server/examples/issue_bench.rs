//! `identity.issue_x509`: X.509-SVIDs a second through the function that a node's stream calls —
//! assume, record, fsync, checkpoint, receipt, signature, projection — with 64 callers at once, beside
//! raw P-256 signatures a second on the same cores in the same run. Prints one JSON line.
//!
//! `--quick` runs for a second instead of ten. `--keep-none` keeps no certificates for packs, which says what it costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark stops at the first surprise"
)]

#[path = "shared/start.rs"]
mod start;

use crypto::{Algorithm, KeyPair, PublicKey, Signer};
use facts::{FactSet, Source, Timestamp, Verdict, Warrant, names};
use prost::Message as _;
use proto::v1::node_update::Update;
use proto::v1::{WorkloadRequest, X509Svid};
use server::bench::Node;
use start::{DOMAIN, config};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// As in the `trilith` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CALLERS: usize = 64;

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let time = Duration::from_secs(if quick { 1 } else { 10 });
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(bench(time));
}

async fn bench(time: Duration) {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let mut config_of_it = config(dir.path(), "");
    config_of_it.keep_certificates = !std::env::args().any(|argument| argument == "--keep-none");
    let server = server::start(config_of_it).await.unwrap();
    let ledger_key = apply(dir.path()).await;
    // Keys are made by agents, before and elsewhere.
    let keys = keys(time);
    let before = raw(time / 4);

    let mut machine = FactSet::new();
    let now = Timestamp::now();
    machine.state(names::MACHINE_POOL, "bench", Source::Verified, now);
    machine.state(names::MACHINE_NAME, "m1", Source::Verified, now);
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let machine = Verdict::affirmed(&Warrant::of(Source::Verified, &[""]), machine, Vec::new());
    let node = Node::admit(&server, "m1", key.public_key().clone(), machine)
        .await
        .unwrap();
    let mut facts = FactSet::new();
    facts.state(names::WORKLOAD_UID, 1000_u32, Source::Asserted, now);
    let facts = serde_json::to_vec(&facts).unwrap();

    let kept: Vec<Kept> = keys.iter().map(|keys| Kept::room_for(keys.len())).collect();
    let (begun, busy) = (Instant::now(), cpu());
    let callers: Vec<_> = keys
        .into_iter()
        .zip(kept)
        .enumerate()
        .map(|(number, (keys, kept))| {
            let caller = call(
                node.clone(),
                number,
                keys,
                facts.clone(),
                begun + time,
                kept,
            );
            tokio::spawn(caller)
        })
        .collect();
    let mut kept = Vec::new();
    for caller in callers {
        kept.push(caller.await.unwrap());
    }
    let elapsed = begun.elapsed();
    let busy = cpu() - busy;
    let issued: Vec<X509Svid> = kept.iter().flat_map(Kept::svids).collect();
    eprintln!(
        "{:.1} us of processor time an SVID",
        busy * 1e6 / issued.len() as f64
    );
    let after = raw(time / 4);
    let ours = issued.len() as f64 / elapsed.as_secs_f64();
    let reference = f64::midpoint(before, after);

    let bundle = bundle(&server).await;
    let checked = verify(&issued, &bundle, &ledger_key);
    assert_eq!(
        checked,
        issued.len(),
        "every certificate and receipt verifies"
    );
    let state = server.state();
    server.stop().await.unwrap();
    let rebuilt = server::rebuild_state(&config(dir.path(), "")).unwrap();
    assert!(rebuilt.records >= state.records);
    println!(
        "{}",
        serde_json::json!({
            "id": "identity.issue_x509",
            "ours": ours.round(),
            "unit": "1/s",
            "reference": reference.round(),
            "reference_is": "raw P-256 signatures, 2 threads",
            "ratio": (ours / reference * 1000.0).round() / 1000.0,
        })
    );
}

async fn call(
    node: Node,
    number: usize,
    keys: Vec<PublicKey>,
    facts: Vec<u8>,
    until: Instant,
    mut kept: Kept,
) -> Kept {
    for key in keys {
        if Instant::now() >= until {
            return kept;
        }
        let request = WorkloadRequest {
            request: 1,
            workload: format!("w{number}"),
            facts: facts.clone(),
            public_keys: vec![key.spki_der().to_vec()],
            held: Vec::new(),
        };
        for update in node.ask(request).await.unwrap() {
            if let Update::Issued(answer) = update {
                assert_eq!(answer.svids.len(), 1);
                answer.svids.iter().for_each(|svid| kept.keep(svid));
            }
        }
    }
    eprintln!("caller {number} ran out of keys: the result is too low");
    kept
}

/// What one caller was issued, in memory that was there before: a node would pass it on and let it go.
struct Kept(Vec<u8>);

impl Kept {
    /// An SVID with its chain and receipt takes less.
    const EACH: usize = 4_096;

    fn room_for(count: usize) -> Self {
        let mut bytes = vec![1; count * Self::EACH];
        bytes.clear();
        Self(bytes)
    }

    fn keep(&mut self, svid: &X509Svid) {
        svid.encode_length_delimited(&mut self.0).unwrap();
    }

    fn svids(&self) -> impl Iterator<Item = X509Svid> {
        let mut left = self.0.as_slice();
        std::iter::from_fn(move || {
            (!left.is_empty()).then(|| X509Svid::decode_length_delimited(&mut left).unwrap())
        })
    }
}

/// Distinct keys for each caller: points on the curve cost nothing but the making.
fn keys(time: Duration) -> Vec<Vec<PublicKey>> {
    let each = 1_200 * usize::try_from(time.as_secs()).unwrap().max(1);
    let making: Vec<_> = (0..CALLERS)
        .map(|_| {
            std::thread::spawn(move || {
                (0..each)
                    .map(|_| {
                        KeyPair::generate(Algorithm::EcdsaP256)
                            .unwrap()
                            .public_key()
                            .clone()
                    })
                    .collect()
            })
        })
        .collect();
    making
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}

/// Processor time of all threads so far, in seconds.
fn cpu() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn raw(time: Duration) -> f64 {
    let busy = cpu();
    let count = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let (count, stop) = (Arc::clone(&count), Arc::clone(&stop));
            std::thread::spawn(move || {
                let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    key.sign(&[7; 900]).unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    std::thread::sleep(time);
    stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().unwrap();
    }
    let signed = count.load(Ordering::Relaxed) as f64;
    eprintln!(
        "{:.1} us of processor time a raw signature",
        (cpu() - busy) * 1e6 / signed
    );
    signed / begun.elapsed().as_secs_f64()
}

fn verify(issued: &[X509Svid], bundle: &spiffe_core::Bundle, key: &ledger::LedgerKey) -> usize {
    let now = Timestamp::now();
    let check = |svid: &X509Svid| {
        let parsed = spiffe_core::X509Svid::parse(&svid.certificate_chain).unwrap();
        let valid = parsed.validate(bundle, now).unwrap();
        spiffe_core::receipt::check(&valid, key).unwrap();
    };
    std::thread::scope(|scope| {
        for part in issued.chunks(issued.len() / 2 + 1) {
            scope.spawn(move || part.iter().for_each(check));
        }
    });
    issued.len()
}

/// One identity behind one policy; returns the ledger's key.
async fn apply(dir: &std::path::Path) -> ledger::LedgerKey {
    let mut files = start::estate();
    files.insert(
        "identities/all.toml",
        "[[identity]]\npath = \"payments/api\"\nkind = \"service\"\nowner = \"bench\"\n\
         visible = [\"machine.name\"]\n",
    );
    files.insert("references/all.toml", "[[pool]]\nname = \"bench\"\n");
    files.insert(
        "policies/assume.cedar",
        "@id(\"bench\") permit (principal in Pool::\"bench\", action == Action::\"assume\", \
         resource == Identity::\"payments/api\") when { principal has uid && principal.uid == 1000 };",
    );
    let mut admin = start::apply(dir, &files).await;
    let status = start::status(&mut admin).await;
    status["ledger"]["key"].as_str().unwrap().parse().unwrap()
}

async fn bundle(server: &server::Running) -> spiffe_core::Bundle {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(server.http_listen)
        .await
        .unwrap();
    let request = "GET /bundle.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let domain = spiffe_core::TrustDomain::new(DOMAIN).unwrap();
    spiffe_core::Bundle::from_jwks(domain, body.as_bytes()).unwrap()
}
