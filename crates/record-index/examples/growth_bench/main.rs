//! What a ledger costs as it grows: bytes on disk, proofs, searches, start, recovery after a kill, memory. Ledgers of
//! 10^5, 10^6 and 10^7 records of a gateway, intents and outcomes as real ones, and of up to 10^8 with 64 bytes to say
//! each, without an index; each step in a process of its own, so that its memory is its own. Proofs are checked, and
//! every search against what was written.
//!
//! Usage: `growth_bench [--only ID]… [--quick]`; `--quick` stops at 10^5. The largest needs some 15 GB of
//! `target/bench/growth` with its index and 40 GB for 10^8, and is not begun with less than 25 and 45 GB free.

#![forbid(unsafe_code)]

mod steps;
mod world;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Arguments;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::bench::{Plan, row};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// What a ledger is made of.
struct World {
    /// Word of the steps.
    name: &'static str,
    rows: &'static [Figure],
    sizes: &'static [u64],
    /// Free bytes that a record asks for.
    room: u64,
    indexed: bool,
}

/// A figure: its id at the largest size, its unit, the key of ours and of what is beside it, and what that is.
type Figure = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const WORLDS: [World; 2] = [
    World {
        name: "gateway",
        rows: ROWS,
        sizes: &[100_000, 1_000_000, 10_000_000],
        room: 2_500,
        indexed: true,
    },
    World {
        name: "small",
        rows: SMALL,
        sizes: &[100_000, 1_000_000, 10_000_000, 100_000_000],
        room: 450,
        indexed: false,
    },
];

const ROWS: &[Figure] = &[
    (
        "ledger.bytes_per_record",
        "B",
        "bytes",
        "raw",
        "the record itself, B",
    ),
    (
        "ledger.index_bytes_per_record",
        "B",
        "index",
        "raw",
        "the record itself, B",
    ),
    (
        "ledger.proof_p99_us",
        "us",
        "proof_p99",
        "read_p99",
        "p99 of reading as many 8 KiB files as there are levels, us",
    ),
    (
        "ledger.search_p99_ms",
        "ms",
        "search_p99",
        "scan",
        "reading every record once, ms",
    ),
    (
        "ledger.start_s",
        "s",
        "start",
        "scan_s",
        "reading every record once, s",
    ),
    (
        "ledger.recovery_s",
        "s",
        "recovery",
        "start",
        "start after a clean end, s",
    ),
    (
        "ledger.index_build_s",
        "s",
        "built",
        "scan_s",
        "reading every record once, s",
    ),
    ("ledger.writer_rss_mib", "MiB", "writer_rss", "", ""),
    ("ledger.reader_rss_mib", "MiB", "reader_rss", "", ""),
];

const SMALL: &[Figure] = &[
    (
        "ledger.small_bytes_per_record",
        "B",
        "bytes",
        "raw",
        "the record itself, B",
    ),
    (
        "ledger.small_proof_p99_us",
        "us",
        "proof_p99",
        "read_p99",
        "p99 of reading as many 8 KiB files as there are levels, us",
    ),
    (
        "ledger.small_start_s",
        "s",
        "start",
        "scan_s",
        "reading every record once, s",
    ),
    (
        "ledger.small_recovery_s",
        "s",
        "recovery",
        "start",
        "start after a clean end, s",
    ),
    ("ledger.small_writer_rss_mib", "MiB", "writer_rss", "", ""),
    ("ledger.small_reader_rss_mib", "MiB", "reader_rss", "", ""),
];

fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["step", "fill", dir, world, records] => {
            return steps::fill(Path::new(dir), world, records.parse()?);
        }
        ["step", "run-on", dir, world] => return steps::run_on(Path::new(dir), world),
        ["step", "start", dir] => return steps::start(Path::new(dir)),
        ["step", "build-index", dir] => return steps::build_index(Path::new(dir)),
        ["step", "prove", dir] => return steps::prove(Path::new(dir)),
        ["step", "ask", dir, records] => return steps::ask(Path::new(dir), records.parse()?),
        _ => {}
    }
    let plan = Plan::from_arguments()?;
    for world in &WORLDS {
        measure(world, &plan)?;
    }
    Ok(())
}

fn measure(world: &World, plan: &Plan) -> Outcome<()> {
    let wanted: Vec<_> = world
        .rows
        .iter()
        .filter(|(id, ..)| plan.wants(id))
        .collect();
    let sizes = world
        .sizes
        .get(..if plan.quick { 1 } else { world.sizes.len() })
        .filter(|_| !wanted.is_empty())
        .unwrap_or_default();
    let dir = PathBuf::from("target/bench/growth");
    for records in sizes {
        if dir.exists() {
            std::fs::remove_dir_all(&dir)?;
        }
        std::fs::create_dir_all(&dir)?;
        let free = steps::free(&dir)?;
        let needed = records * world.room;
        if free < needed {
            return Err(
                format!("{records} records need {needed} bytes of disk, {free} are free").into(),
            );
        }
        let figures = grow(&dir, world, *records)?;
        let largest = sizes.last() == Some(records);
        for (id, unit, ours, beside, is) in &wanted {
            let get = |key: &str| figures.get(key).copied();
            let ours = get(ours).ok_or_else(|| format!("no step measured {ours}"))?;
            let beside = get(beside).map(|value| (value, *is));
            row(&format!("{id}_{records}"), ours, unit, beside)?;
            if largest {
                row(id, ours, unit, beside)?;
            }
        }
        std::fs::remove_dir_all(&dir)?;
    }
    Ok(())
}

fn grow(dir: &Path, world: &World, records: u64) -> Outcome<BTreeMap<String, f64>> {
    let folder = dir.to_str().ok_or("the folder's name is no text")?;
    let count = records.to_string();
    let mut figures = BTreeMap::new();
    run(&["fill", folder, world.name, &count], &mut figures)?;
    run(&["start", folder], &mut figures)?;
    run(&["prove", folder], &mut figures)?;
    if world.indexed {
        run(&["build-index", folder], &mut figures)?;
        run(&["ask", folder, &count], &mut figures)?;
    }
    let clean = figures.get("start").copied();
    kill_a_writer(folder, world)?;
    run(&["start", folder], &mut figures)?;
    if let (Some(recovery), Some(clean)) = (figures.get("start").copied(), clean) {
        figures.insert("recovery".to_owned(), recovery);
        figures.insert("start".to_owned(), clean);
    }
    Ok(figures)
}

/// On stderr, since growing takes minutes.
pub(crate) fn say(what: Arguments<'_>) -> Outcome<()> {
    Ok(writeln!(std::io::stderr(), "growth: {what}")?)
}

fn step(words: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("step").args(words).stdin(Stdio::null());
    Ok(command)
}

/// Runs one step; each line that it prints is `key value`.
fn run(words: &[&str], figures: &mut BTreeMap<String, f64>) -> Outcome<()> {
    say(format_args!("{}", words.join(" ")))?;
    let output = step(words)?.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("the step {} failed", words.join(" ")).into());
    }
    for line in String::from_utf8(output.stdout)?.lines() {
        let (key, value) = line.split_once(' ').ok_or("a step printed no figure")?;
        figures.insert(key.to_owned(), value.parse()?);
    }
    Ok(())
}

/// Kills a process that is appending, some time after its first record was durable.
fn kill_a_writer(folder: &str, world: &World) -> Outcome<()> {
    let mut writer = step(&["run-on", folder, world.name])?
        .stdout(Stdio::piped())
        .spawn()?;
    let output = writer.stdout.take().ok_or("no output")?;
    let mut first = String::new();
    BufReader::new(output).read_line(&mut first)?;
    std::thread::sleep(Duration::from_millis(1_500));
    writer.kill()?;
    writer.wait()?;
    if first.trim() == "appending" {
        Ok(())
    } else {
        Err("the writer did not begin".into())
    }
}
