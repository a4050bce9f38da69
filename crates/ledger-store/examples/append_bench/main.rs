//! Durable appends, measured beside the bare disk in the same run: records of 100 bytes, 1 KiB and 10 KiB, one at a
//! time, in batches of 32 and 1,000, and by 256 closed-loop writers (tasks, as in the server). An append returns when
//! a signed checkpoint that covers it is durable. Afterwards every record is read back, and each hundredth is proven.
//! One JSON object a line, for `cargo xtask bench`.
//!
//! Usage: `append_bench [--only ID]… [--quick]`; it writes to `target/bench/ledger`.

#![forbid(unsafe_code)]

mod bare;
mod load;
mod tessera;

use ledger::merkle::{leaf_hash, verify_inclusion};
use ledger::{Checkpoint, Origin};
use ledger_store::{Ledger, LedgerHandle, Options};
use load::{Load, Measured};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use testkit::bench::{Plan, row};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

pub(crate) const ORIGIN: &str = "example.org/bench";

/// How the issue of a figure names a size, and the bytes: of a whole record, but for the smallest, which is what a
/// record of 100 bytes says (its envelope is longer than that).
const SIZES: [(&str, usize); 3] = [("100", 100), ("1k", 1_024), ("10k", 10_240)];
const LOADS: [(&str, Load); 4] = [
    ("1", Load::Batches(1)),
    ("32", Load::Batches(32)),
    ("1000", Load::Batches(1_000)),
    ("closed256", Load::Closed(256)),
];
/// Alternating pairs of ours and the bare disk's: disks, most of all virtual ones, change under a measurement.
const PAIRS: u32 = 3;

fn main() -> Outcome<()> {
    let plan = Plan::from_arguments()?;
    let dir = PathBuf::from("target/bench/ledger");
    std::fs::create_dir_all(&dir)?;
    let time = Duration::from_secs(if plan.quick { 1 } else { 6 });
    for (size_name, size) in SIZES {
        let text = load::text(size)?;
        for (load_name, load) in LOADS {
            let id = format!("ledger.append_{size_name}_{load_name}");
            let latency = size == 1_024 && load == Load::Batches(1);
            let batched = size == 1_024 && load == Load::Closed(256);
            let wanted = plan.wants(&id)
                || (latency && plan.wants("ledger.append_1k_single"))
                || (batched && plan.wants("ledger.append_1k_batched"));
            if !wanted {
                continue;
            }
            let (mut ours, mut bare) = (Vec::new(), Vec::new());
            for _ in 0..PAIRS {
                bare.push(bare::measure(
                    &dir,
                    text.record,
                    load.at_once(),
                    time / (2 * PAIRS),
                )?);
                ours.push(fresh(&dir, |handle| {
                    load::measure(handle, &text, load, time / (2 * PAIRS))
                })?);
            }
            let (ours, bare) = (Measured::middle(ours)?, Measured::middle(bare)?);
            let beside = format!(
                "bare write + fdatasync of {} × {} bytes, 1/s",
                load.at_once(),
                text.record
            );
            row(
                &id,
                ours.per_second,
                "1/s",
                Some((bare.per_second, &beside)),
            )?;
            for (name, ours, bare) in [
                ("p50", ours.p50_us, bare.p50_us),
                ("p99", ours.p99_us, bare.p99_us),
            ] {
                let beside = format!("{name} of the bare write + fdatasync, us");
                row(
                    &format!("{id}_{name}_us"),
                    ours,
                    "us",
                    Some((bare, &beside)),
                )?;
            }
            if latency {
                let beside = "bare 1 KiB write + fdatasync, us";
                row(
                    "ledger.append_1k_single",
                    ours.p50_us,
                    "us",
                    Some((bare.p50_us, beside)),
                )?;
            }
            if batched {
                row(
                    "ledger.append_1k_batched",
                    ours.per_second,
                    "1/s",
                    Some((100_000.0, "the aim")),
                )?;
                tessera::rows(&dir, text.record, time / 2, &ours)?;
            }
        }
    }
    Ok(())
}

/// Runs `measure` on a ledger of its own, checks all of it, and removes it.
fn fresh(
    dir: &Path,
    measure: impl FnOnce(&LedgerHandle) -> Outcome<Measured>,
) -> Outcome<Measured> {
    let dir = dir.join("measured");
    if dir.exists() {
        std::fs::remove_dir_all(&dir)?;
    }
    let signer = Arc::new(crypto::KeyPair::generate(crypto::Algorithm::Ed25519)?);
    let ledger = Ledger::open(&dir, signer, ORIGIN, &Options::default())?;
    let measured = measure(&ledger)?;
    if measured.entries != ledger.reader().size() {
        return Err("records were lost".into());
    }
    check(&ledger)?;
    ledger.close()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(measured)
}

fn check(handle: &LedgerHandle) -> Outcome<()> {
    let head = handle.reader().head();
    let checkpoint = Checkpoint::open(&head.note, handle.key())?;
    if checkpoint.origin != Origin::new(ORIGIN)? {
        return Err("the checkpoint is another ledger's".into());
    }
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
