//! What verification costs: inclusion proofs a second on one core, and one pack of 100,000 records, as `trilith verify`
//! reads it, with the memory that it takes. Each proof is checked, and a changed one has to fail.
//!
//! Usage: `verify_bench [--only ID]… [--quick]`.

#![forbid(unsafe_code)]

use crypto::{Algorithm, KeyPair, Signer};
use ledger::body::{
    ActionOn, Anchor, Begin, Body as _, Coverage, Intent, Issuance, Outcome as Ended, SessionStart,
    SvidKind, Verdict, VerdictOutcome,
};
use ledger::merkle::{Hash, leaf_hash, verify_inclusion};
use ledger::pack::{PackBuilder, Question, Trust, verify};
use ledger::tile::{Kind, LEVELS, TilePath};
use ledger::{Base64, Commitment, Decimal, Digest, Draft, RecordBuilder, Salt};
use ledger_store::{Ledger, Options};
use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;
use testkit::bench::{Plan, row};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const DOMAIN: &str = "example.org";
const WHO: &str = "spiffe://example.org/payments/api";
const PROOFS: &str = "verify.proofs_per_s";
const PACK: &str = "verify.pack_100k_s";
/// First word of the process that verifies a pack and nothing else, so that its memory is the verifier's.
const VERIFIER: &str = "verify-pack";
/// Operations of one session: an intent and its outcome each.
const OPERATIONS: u64 = 50;

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [word, folder] = words.as_slice()
        && word == VERIFIER
    {
        return verifier(Path::new(folder));
    }
    let plan = Plan::from_arguments()?;
    let dir = PathBuf::from("target/bench/verify");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    std::fs::create_dir_all(&dir)?;
    if plan.wants(PROOFS) {
        proofs(&dir, if plan.quick { 20_000 } else { 1_000_000 })?;
    }
    if plan.wants(PACK) {
        pack(&dir, if plan.quick { 10_000 } else { 100_000 })?;
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn open(dir: &Path, origin: &str) -> Outcome<(Ledger, Arc<dyn Signer>)> {
    let signer: Arc<dyn Signer> = Arc::new(KeyPair::generate(Algorithm::Ed25519)?);
    let options = Options::default();
    let ledger = Ledger::open(dir, Arc::clone(&signer), origin, &options)?;
    Ok((ledger, signer))
}

fn draft(record: RecordBuilder) -> Outcome<Draft> {
    Ok(record.actor(WHO, "x509:01").draft()?)
}

/// A session and what is done in it, to so many records in all.
fn accesses(ledger: &Ledger, records: u64) -> Outcome<()> {
    let mut at = 0;
    while at < records {
        let session = format!("s{at}");
        let start = SessionStart {
            session: session.clone(),
            spiffe_id: WHO.to_owned(),
            serial: "a1".to_owned(),
            issuance: Some(Decimal(2)),
            resource: "postgres:shop".to_owned(),
            role: "r".to_owned(),
            application: "psql".to_owned(),
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
        };
        let mut drafts = vec![draft(start.record())?];
        for _ in 0..OPERATIONS {
            let seq = at + drafts.len() as u64;
            let intent = Intent {
                session: session.clone(),
                statement: "0123456789abcdef0123456789abcdef".to_owned(),
                actions: vec![ActionOn {
                    action: "select".to_owned(),
                    resources: vec!["shop/public/cards".to_owned()],
                    more: None,
                    columns: Vec::new(),
                }],
                decision: format!("{session}.1"),
                policies: vec!["payments reads cards".to_owned()],
                coverage: Coverage::Complete,
                more_policies: None,
                claimed_on_behalf_of: Vec::new(),
                on_behalf_of: Vec::new(),
            };
            let ended = Ended {
                intent: Decimal(seq),
                result: "ok".to_owned(),
                sqlstate: None,
                rows: Some(Decimal(1)),
                tag: Some("SELECT 1".to_owned()),
                transaction: None,
            };
            drafts.push(draft(intent.record())?);
            drafts.push(draft(ended.record())?);
        }
        drafts.truncate(usize::try_from(records - at)?);
        at += drafts.len() as u64;
        ledger.append_many(drafts).wait()?;
    }
    Ok(())
}

/// Leaf hash and path of each record, against the root of the checkpoint.
fn proofs(dir: &Path, records: u64) -> Outcome<()> {
    let (ledger, _signer) = open(&dir.join("proofs"), "example.org/gateway/db1")?;
    accesses(&ledger, records)?;
    let reader = ledger.reader();
    let head = reader.head();
    let (size, root) = (head.checkpoint.size, head.checkpoint.root);
    let mut sample: Vec<(u64, Vec<u8>, Vec<Hash>)> = Vec::new();
    for step in 0..10_000 {
        let index = step * (size / 10_000).max(1) % size;
        let record = reader.read(index..index + 1)?;
        let record = record.into_iter().next().ok_or("no record")?;
        sample.push((index, record, reader.inclusion(index, size)?));
    }
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let start = Instant::now();
        for (index, record, path) in &sample {
            verify_inclusion(&leaf_hash(record), *index, size, path, &root)?;
        }
        ours.push(sample.len() as f64 / start.elapsed().as_secs_f64());
        let start = Instant::now();
        for (_index, record, path) in &sample {
            black_box(crypto::sha256(record));
            for hash in path {
                let mut two = [0; 65];
                if let Some(half) = two.get_mut(33..) {
                    half.copy_from_slice(hash);
                }
                black_box(crypto::sha256(&two));
            }
        }
        bare.push(sample.len() as f64 / start.elapsed().as_secs_f64());
    }
    if let Some((index, record, path)) = sample.first() {
        let changed: Vec<u8> = record.iter().map(|byte| byte ^ 1).collect();
        if verify_inclusion(&leaf_hash(&changed), *index, size, path, &root).is_ok() {
            return Err("a changed record has a proof".into());
        }
    }
    let beside = "SHA-256 of the same bytes, nothing compared, 1/s";
    row(PROOFS, median(ours), "1/s", Some((median(bare), beside)))?;
    ledger.close()?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Makes the pack that says what an identity did, with the whole of its gateway's ledger, and has another process
/// verify it.
fn pack(dir: &Path, records: u64) -> Outcome<()> {
    let (gateway, gateway_signer) = open(&dir.join("gateway"), "example.org/gateway/db1")?;
    accesses(&gateway, records)?;
    let (server, signer) = open(&dir.join("server"), "example.org/server")?;
    let begin = Begin {
        trust_domain: DOMAIN.to_owned(),
        ledger_key: Base64(signer.public_key().spki_der().to_vec()),
        format: "v1".to_owned(),
    };
    let head = gateway.reader().head();
    let anchor = Anchor {
        gateway: "spiffe://example.org/gateway/db1".to_owned(),
        origin: "example.org/gateway/db1".to_owned(),
        ledger_key: Base64(gateway_signer.public_key().spki_der().to_vec()),
        size: Decimal(head.checkpoint.size),
        root: Digest(head.checkpoint.root),
        checkpoint: head.note.as_ref().to_owned(),
    };
    let first = vec![
        draft(begin.record())?,
        draft(verdict().record())?,
        draft(issuance().record())?,
        draft(anchor.record())?,
    ];
    let rows = server.append_many(first).wait()?.len() as u64;

    let question = Question::Access {
        identity: WHO.to_owned(),
        resource: None,
        newest: None,
    };
    let mut pack = PackBuilder::new(&question, &server.reader().head().note);
    // All that the server's ledger has but for its beginning, which the answer does not rest on.
    for (ledger, size, first) in [(&server, rows, 1), (&gateway, records, 0)] {
        let reader = ledger.reader();
        let number = pack.checkpoint(&reader.head().note);
        let kinds = (0..LEVELS).map(Kind::Hashes).chain([Kind::Entries]);
        for path in kinds.flat_map(|kind| TilePath::all(kind, size)) {
            let content = reader.tile(&path)?.ok_or("a tile is missing")?;
            pack.tile(number, path, content);
        }
        for index in first..size {
            pack.receipt(&reader.receipt(index)?);
        }
    }
    let bytes = pack.build();
    let key = server.key();
    let trust = format!("{{\"trust_domain\":\"{DOMAIN}\",\"ledger_key\":\"{key}\"}}");
    std::fs::write(dir.join("pack"), &bytes)?;
    std::fs::write(dir.join("trust.json"), trust)?;
    drop((bytes, pack));
    server.close()?;
    gateway.close()?;
    let output = Command::new(std::env::current_exe()?)
        .arg(VERIFIER)
        .arg(dir)
        .output()?;
    let printed = String::from_utf8(output.stdout)?;
    let figures: Vec<f64> = printed
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let [seconds, hashed, size, memory] = figures.as_slice() else {
        let complained = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(format!("the verifier printed {printed:?}: {complained}").into());
    };
    row(
        PACK,
        *seconds,
        "s",
        Some((*hashed, "SHA-256 of the pack's bytes, s")),
    )?;
    let beside = "the pack's bytes, MiB";
    row(
        "verify.pack_100k_rss_mib",
        *memory,
        "MiB",
        Some((*size, beside)),
    )?;
    Ok(())
}

/// Verifies the pack of a folder, and prints seconds, seconds that only hashing takes, MiB of the pack and MiB of
/// memory at most.
fn verifier(folder: &Path) -> Outcome<()> {
    let pack = std::fs::read(folder.join("pack"))?;
    let trust = Trust::from_json(&std::fs::read_to_string(folder.join("trust.json"))?)?;
    let start = Instant::now();
    let report = verify(&pack, &trust).map_err(|failure| format!("{failure:?}"))?;
    let seconds = start.elapsed().as_secs_f64();
    if !report.is_complete() {
        return Err(format!("the pack leaves doubts: {:?}", report.doubts).into());
    }
    let start = Instant::now();
    black_box(crypto::sha256(&pack));
    let hashed = start.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .ok_or("no VmHWM")?;
    let (size, memory) = (
        pack.len() as f64 / 1_048_576.0,
        peak.parse::<f64>()? / 1_024.0,
    );
    let line = format!("{seconds} {hashed} {size} {memory}\n");
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(())
}

fn verdict() -> Verdict {
    Verdict {
        node: "spiffe://example.org/node/m1".to_owned(),
        outcome: VerdictOutcome::Affirmed,
        facts_blob: None,
        evidence: Vec::new(),
        facts: Vec::new(),
        findings: Vec::new(),
        ar4si: None,
    }
}

fn issuance() -> Issuance {
    Issuance {
        kind: SvidKind::X509,
        spiffe_id: WHO.to_owned(),
        serial: "a1".to_owned(),
        tbs: Digest([1; 32]),
        issuer: Digest([2; 32]),
        key: Digest([3; 32]),
        not_before: 1_795_312_909,
        not_after: 1_795_316_569,
        node: "m1".to_owned(),
        verdict: Decimal(1),
        evidence_time: 1_795_312_900_000,
        policies: vec!["payments-api".to_owned()],
        commit: Commitment::new(&Salt([7; 16]), "facts", b"{}"),
        facts: BTreeMap::new(),
        replaces: None,
        ar4si: None,
    }
}
