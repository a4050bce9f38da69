//! Writers, and what they saw.

use crate::{ORIGIN, Outcome};
use ledger::body::{Admin, Body};
use ledger::{Draft, Origin, RecordError};
use ledger_store::LedgerHandle;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Who appends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// One thread, so many records at once, and the next when those are durable.
    Batches(usize),
    /// So many tasks, each of which waits for its record before it makes the next.
    Closed(usize),
}

impl Load {
    /// Records that may share one write to the disk.
    pub(crate) const fn at_once(self) -> usize {
        match self {
            Self::Batches(records) | Self::Closed(records) => records,
        }
    }
}

/// What one run came to. Latencies are those of an append: of a batch, where there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) entries: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Measured {
    pub(crate) fn new(entries: u64, elapsed: Duration, mut latencies: Vec<f64>) -> Outcome<Self> {
        latencies.sort_by(f64::total_cmp);
        let last = latencies
            .len()
            .checked_sub(1)
            .ok_or("nothing was written")?;
        let at = |share: usize| {
            latencies
                .get(last * share / 100)
                .copied()
                .unwrap_or(f64::NAN)
        };
        #[expect(clippy::cast_precision_loss, reason = "a count of a few million")]
        let per_second = entries as f64 / elapsed.as_secs_f64();
        Ok(Self {
            entries,
            per_second,
            p50_us: at(50),
            p99_us: at(99),
        })
    }

    /// The run whose rate is the median's.
    pub(crate) fn middle(mut runs: Vec<Self>) -> Outcome<Self> {
        runs.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
        runs.get(runs.len() / 2)
            .copied()
            .ok_or_else(|| "no run".into())
    }
}

/// What every record says, and how long the record is.
pub(crate) struct Text {
    pub(crate) says: Arc<str>,
    pub(crate) record: usize,
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

/// What makes a record with a number of six digits exactly `size` bytes, or says `size` bytes where its envelope is
/// longer than that.
pub(crate) fn text(size: usize) -> Outcome<Text> {
    let origin = Origin::new(ORIGIN)?;
    let length = |text: &str| -> Outcome<usize> {
        Ok(draft(text)?
            .seal(&origin, 100_000, ledger_store::system_clock())
            .len())
    };
    let says = "x".repeat(size.checked_sub(length("")?).unwrap_or(size));
    Ok(Text {
        record: length(&says)?,
        says: says.into(),
    })
}

pub(crate) fn measure(
    handle: &LedgerHandle,
    text: &Text,
    load: Load,
    time: Duration,
) -> Outcome<Measured> {
    match load {
        Load::Batches(records) => batches(handle, &text.says, records, time),
        Load::Closed(writers) => closed(handle, &text.says, writers, time),
    }
}

fn batches(handle: &LedgerHandle, text: &str, records: usize, time: Duration) -> Outcome<Measured> {
    let (mut latencies, mut appended) = (Vec::new(), 0);
    let begun = Instant::now();
    while begun.elapsed() < time {
        let drafts = (0..records)
            .map(|_| draft(text))
            .collect::<Result<_, _>>()?;
        let start = Instant::now();
        appended += handle.append_many(drafts).wait()?.len() as u64;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
    }
    Measured::new(appended, begun.elapsed(), latencies)
}

fn closed(
    handle: &LedgerHandle,
    text: &Arc<str>,
    writers: usize,
    time: Duration,
) -> Outcome<Measured> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()?;
    let stop = Arc::new(AtomicBool::new(false));
    let begun = Instant::now();
    let latencies = runtime.block_on(async {
        let mut tasks = Vec::new();
        for _ in 0..writers {
            let (handle, stop, text) = (handle.clone(), Arc::clone(&stop), Arc::clone(text));
            tasks.push(tokio::spawn(async move {
                let mut latencies = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    handle.append(draft(&text)?).await?;
                    latencies.push(start.elapsed().as_secs_f64() * 1e6);
                }
                Outcome::Ok(latencies)
            }));
        }
        tokio::time::sleep(time).await;
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await??);
        }
        Outcome::Ok(all)
    })?;
    Measured::new(latencies.len() as u64, begun.elapsed(), latencies)
}
