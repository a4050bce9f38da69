//! Appends of 1 KiB records, measured beside the bare disk in the same run: 256 closed-loop writers
//! (tasks, as in the server), and one thread. Each append returns when a signed checkpoint that covers
//! it is durable. Afterwards every record is read back, each hundredth is proven. One JSON object a
//! line, for `cargo xtask bench`.
//!
//! Usage: `append_bench [--only ID]… [--quick] [--dir DIRECTORY]`; the directory is on the disk to be
//! measured.

use crypto::{Algorithm, KeyPair};
use ledger::body::{Admin, Body};
use ledger::merkle::{leaf_hash, verify_inclusion};
use ledger::{Checkpoint, Draft, Origin, RecordError};
use ledger_store::{Ledger, LedgerHandle, Options};
use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ORIGIN: &str = "example.org/bench";
const WRITERS: usize = 256;
const RECORD: usize = 1024;
const SINGLE: &str = "ledger.append_1k_single";
const BATCHED: &str = "ledger.append_1k_batched";

struct Arguments {
    only: Vec<String>,
    time: Duration,
    dir: PathBuf,
}

impl Arguments {
    fn read() -> Outcome<Self> {
        let mut read = Self {
            only: Vec::new(),
            time: Duration::from_secs(6),
            dir: "target/bench/ledger".into(),
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            match word.as_str() {
                "--quick" => read.time = Duration::from_secs(2),
                "--only" => read.only.extend(words.next()),
                "--dir" => read.dir = words.next().unwrap_or_default().into(),
                other => return Err(format!("unknown argument {other}").into()),
            }
        }
        Ok(read)
    }

    fn wants(&self, id: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| id.starts_with(only.as_str()))
    }
}

fn main() -> Outcome<()> {
    let arguments = Arguments::read()?;
    let (dir, time) = (arguments.dir.as_path(), arguments.time);
    std::fs::create_dir_all(dir)?;
    let text = text()?;
    if arguments.wants(SINGLE) {
        // Three alternating pairs: disks, most of all virtual ones, change under the measurement.
        let (mut bare, mut single) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            bare.push(bare_latency(dir, time / 3)?);
            single.push(fresh(dir, |handle| one(handle, &text, time / 3))?);
        }
        let reference_is = "bare 1 KiB write + fdatasync, us";
        row(SINGLE, median(single), "us", median(bare), reference_is)?;
    }
    if arguments.wants(BATCHED) {
        let batched = fresh(dir, |handle| many(handle, &text, time))?;
        row(BATCHED, batched, "1/s", 100_000.0, "the aim")?;
    }
    Ok(())
}

fn row(id: &str, ours: f64, unit: &str, reference: f64, reference_is: &str) -> Outcome<()> {
    let ratio = ours / reference;
    let line = format!(
        "{{\"id\":\"{id}\",\"ours\":{ours:.1},\"unit\":\"{unit}\",\"reference\":{reference:.1},\
         \"reference_is\":\"{reference_is}\",\"ratio\":{ratio:.3}}}\n"
    );
    std::io::stdout().write_all(line.as_bytes())?;
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn draft(text: &str) -> Result<Draft, RecordError> {
    let body = Admin {
        principal: "uid:0".to_owned(),
        action: "bench".to_owned(),
        resource: "ledger".to_owned(),
        allow: true,
        policies: vec!["bench".to_owned()],
        detail: text.to_owned(),
    };
    let record = body.record().actor("spiffe://example.org/bench", "x509");
    record.draft()
}

/// What makes a record with a number of six digits exactly 1 KiB.
fn text() -> Outcome<String> {
    let origin = Origin::new(ORIGIN)?;
    let empty = draft("")?.seal(&origin, 100_000, ledger_store::system_clock());
    let missing = RECORD.checked_sub(empty.len());
    let missing = missing.ok_or("the envelope alone is larger")?;
    Ok("x".repeat(missing))
}

/// Runs `measure` on a ledger of its own, checks all of it, and removes it.
fn fresh(dir: &Path, measure: impl FnOnce(&LedgerHandle) -> Outcome<f64>) -> Outcome<f64> {
    let dir = dir.join("measured");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let signer = Arc::new(KeyPair::generate(Algorithm::Ed25519)?);
    let ledger = Ledger::open(&dir, signer, ORIGIN, &Options::default())?;
    let measured = measure(&ledger)?;
    check(&ledger)?;
    ledger.close()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(measured)
}

fn check(handle: &LedgerHandle) -> Outcome<()> {
    let head = handle.reader().head();
    let checkpoint = Checkpoint::open(&head.note, handle.key())?;
    if handle.reader().root(checkpoint.size)? != checkpoint.root {
        return Err("the tree is not that of the checkpoint".into());
    }
    let mut index = 0;
    while index < checkpoint.size {
        for record in handle.reader().read(index..checkpoint.size)? {
            if index % 100 == 0 {
                let proof = handle.reader().inclusion(index, checkpoint.size)?;
                let leaf = leaf_hash(&record);
                verify_inclusion(&leaf, index, checkpoint.size, &proof, &checkpoint.root)?;
            }
            index += 1;
        }
    }
    Ok(())
}

/// Median microseconds of one append after the other.
fn one(handle: &LedgerHandle, text: &str, time: Duration) -> Outcome<f64> {
    let mut latencies = Vec::new();
    let end = Instant::now() + time;
    while Instant::now() < end {
        let start = Instant::now();
        handle.append(draft(text)?).wait()?;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(latencies))
}

/// Median microseconds of a bare append to a file and its fdatasync.
fn bare_latency(dir: &Path, time: Duration) -> Outcome<f64> {
    let path = dir.join("bare");
    let file = File::create(&path)?;
    let bytes = [0x5a; RECORD];
    let (mut latencies, mut at) = (Vec::new(), 0);
    let end = Instant::now() + time;
    while Instant::now() < end {
        let start = Instant::now();
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
        at += bytes.len() as u64;
    }
    std::fs::remove_file(&path)?;
    Ok(median(latencies))
}

/// Appends a second by 256 tasks, each of which waits for its record before it makes the next.
fn many(handle: &LedgerHandle, text: &str, time: Duration) -> Outcome<f64> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()?;
    let stop = Arc::new(AtomicBool::new(false));
    let text: Arc<str> = text.into();
    let start = Instant::now();
    let appended = runtime.block_on(async {
        let mut writers = Vec::new();
        for _ in 0..WRITERS {
            let (handle, stop, text) = (handle.clone(), Arc::clone(&stop), Arc::clone(&text));
            writers.push(tokio::spawn(async move {
                let mut appended = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    handle.append(draft(&text)?).await?;
                    appended += 1;
                }
                Outcome::Ok(appended)
            }));
        }
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
        let mut sum = 0;
        for writer in writers {
            sum += writer.await??;
        }
        Outcome::Ok(sum)
    })?;
    let elapsed = start.elapsed().as_secs_f64();
    if appended != handle.reader().size() {
        return Err("records were lost".into());
    }
    #[expect(clippy::cast_precision_loss, reason = "a count of a few million")]
    Ok(appended as f64 / elapsed)
}
