//! Appends of 1 KiB records, measured beside the bare disk in the same run: 256 closed-loop writers,
//! and one. Each append returns when a signed checkpoint that covers it is durable. Afterwards every
//! record is read back and proven. One JSON object a line, for `cargo xtask bench`.
//!
//! Usage: `append_bench [--only ID]... [--quick]`, on the disk that holds `target/`.

use crypto::{Algorithm, KeyPair};
use ledger::body::{Admin, Body};
use ledger::merkle::{leaf_hash, verify_inclusion};
use ledger::{Checkpoint, Draft};
use ledger_store::{Ledger, LedgerHandle, Options};
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use testkit::bench::{Plan, row};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const WRITERS: u64 = 256;
/// Stacks of the writers' threads, which do little.
const STACK: usize = 128 << 10;

const SINGLE: &str = "ledger.append_1k_single";
const BATCHED: &str = "ledger.append_1k_batched";

fn main() -> Outcome<()> {
    let plan = Plan::from_arguments()?;
    let dir = testkit::workspace().join("target/bench/ledger");
    std::fs::create_dir_all(&dir)?;
    let time = Duration::from_secs_f64(if plan.quick { 0.6 } else { 5.0 });
    if plan.wants(SINGLE) {
        // Three alternating pairs: disks, most of all virtual ones, change under the measurement.
        let (mut bare, mut single) = (Vec::new(), Vec::new());
        for round in 0..3 {
            bare.push(bare_latency(&dir, time / 3)?);
            single.push(fresh(&dir, &format!("single{round}"), |handle| {
                one(handle, time / 3)
            })?);
        }
        let reference = (median(bare), "bare 1 KiB write + fdatasync");
        row(SINGLE, median(single), "us", Some(reference))?;
    }
    if plan.wants(BATCHED) {
        let batched = fresh(&dir, "batched", |handle| many(handle, time))?;
        row(BATCHED, batched, "1/s", Some((100_000.0, "the aim")))?;
    }
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A record of exactly 1 KiB once it is sealed with a number of five digits, more or less.
fn draft(text: &str) -> Draft {
    let body = Admin {
        principal: "uid:0".to_owned(),
        action: "bench".to_owned(),
        resource: "ledger".to_owned(),
        allow: true,
        policies: vec!["bench".to_owned()],
        detail: text.to_owned(),
    };
    let record = body.record().actor("spiffe://example.org/bench", "x509");
    match record.draft() {
        Ok(draft) => draft,
        Err(error) => fail(&error),
    }
}

fn fail(error: &dyn Error) -> ! {
    // A bench that cannot measure has nothing else to say.
    let said = std::io::stderr().write_all(format!("append_bench: {error}\n").as_bytes());
    std::process::exit(if said.is_ok() { 1 } else { 2 })
}

/// Runs `measure` on a ledger of its own, checks all of it, and removes it.
fn fresh(
    dir: &Path,
    name: &str,
    measure: impl FnOnce(&LedgerHandle) -> Outcome<f64>,
) -> Outcome<f64> {
    let dir = dir.join(name);
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let signer = Arc::new(KeyPair::generate(Algorithm::Ed25519)?);
    let ledger = Ledger::open(&dir, signer, "example.org/bench", &Options::default())?;
    let measured = measure(&ledger)?;
    check(&ledger)?;
    ledger.close()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(measured)
}

fn check(handle: &LedgerHandle) -> Outcome<()> {
    let head = handle.reader().head();
    let checkpoint = Checkpoint::open(&head.note, handle.key())?;
    let mut index = 0;
    while index < checkpoint.size {
        for record in handle.reader().read(index..checkpoint.size)? {
            // Each record is hashed; each hundredth is proven as well.
            let leaf = leaf_hash(&record);
            if index % 100 == 0 {
                let proof = handle.reader().inclusion(index, checkpoint.size)?;
                verify_inclusion(&leaf, index, checkpoint.size, &proof, &checkpoint.root)?;
            }
            index += 1;
        }
    }
    Ok(())
}

/// Median microseconds of one append after the other.
fn one(handle: &LedgerHandle, time: Duration) -> Outcome<f64> {
    let text = "x".repeat(600);
    let mut latencies = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let start = Instant::now();
        handle.append(draft(&text)).wait()?;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(latencies))
}

/// Median microseconds of a bare append to a file and its fdatasync.
fn bare_latency(dir: &Path, time: Duration) -> Outcome<f64> {
    let path = dir.join("bare");
    let file = File::create(&path)?;
    let bytes = [0x5a; 1024];
    let (mut latencies, mut at) = (Vec::new(), 0);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let start = Instant::now();
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
        at += 1024;
    }
    std::fs::remove_file(&path)?;
    Ok(median(latencies))
}

/// Appends a second by 256 writers, each of which waits for its record before it makes the next.
fn many(handle: &LedgerHandle, time: Duration) -> Outcome<f64> {
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let text = "x".repeat(600);
    let start = Instant::now();
    std::thread::scope(|scope| -> Outcome<()> {
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            let writer = std::thread::Builder::new().stack_size(STACK);
            let writer = writer.spawn_scoped(scope, || -> Outcome<()> {
                while !stop.load(Ordering::Relaxed) {
                    handle.append(draft(&text)).wait()?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })?;
            writers.push(writer);
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            writer.join().map_err(|_panic| "a writer panicked")??;
        }
        Ok(())
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    let appended = done.load(Ordering::Relaxed);
    if appended != handle.reader().size() {
        return Err("records were lost".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of a few million")]
    Ok(appended as f64 / elapsed)
}
