//! What each process does. It prints lines of `key value`.

use crate::Outcome;
use crate::world::{self, IDENTITIES, ORIGIN, PER_SESSION, TABLES};
use crypto::{Algorithm, KeyPair, Signer};
use ledger::merkle::{leaf_hash, verify_inclusion};
use ledger::tile::WIDTH;
use ledger_store::{Ledger, Options};
use record_index::{Filter, Page, Site, search};
use std::fs::File;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records appended at once.
const BATCH: usize = 4_040;
const PROOFS: u64 = 10_000;
const SEARCHES: u64 = 1_000;
/// Answers of one search, at most: what a page of the command shows.
const PAGE: u64 = 100;

fn print(key: &str, value: f64) -> Outcome<()> {
    std::io::stdout().write_all(format!("{key} {value}\n").as_bytes())?;
    Ok(())
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn p99(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get(last * 99 / 100).copied().unwrap_or(f64::NAN)
}

/// Most memory that this process ever had.
fn peak_mib() -> Outcome<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .ok_or("no VmHWM")?;
    Ok(peak.parse::<f64>()? / 1_024.0)
}

/// Bytes free on the disk of a folder.
pub(crate) fn free(dir: &Path) -> Outcome<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail * stat.f_frsize)
}

fn size_of(dir: &Path) -> Outcome<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            size_of(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(sum)
}

fn open(dir: &Path) -> Outcome<Ledger> {
    let path = dir.join("key");
    if !path.exists() {
        let key = KeyPair::generate(Algorithm::Ed25519)?;
        std::fs::write(&path, key.to_pkcs8()?)?;
    }
    let signer: Arc<dyn Signer> = Arc::new(KeyPair::from_pkcs8(&std::fs::read(&path)?)?);
    let options = Options {
        reserve_bytes: 0,
        ..Options::default()
    };
    Ok(Ledger::open(&ledger_dir(dir), signer, ORIGIN, &options)?)
}

fn ledger_dir(dir: &Path) -> PathBuf {
    dir.join("gateway/ledger")
}

fn index_dir(dir: &Path) -> PathBuf {
    dir.join("index")
}

fn site(dir: &Path) -> Outcome<Site> {
    let index = index_dir(dir);
    std::fs::create_dir_all(&index)?;
    Ok(Site::open(&dir.join("gateway"), Some(&index))?)
}

/// Appends until there are so many records, whole sessions of them, and says what they cost on the disk.
pub(crate) fn fill(dir: &Path, world: &str, records: u64) -> Outcome<()> {
    std::fs::create_dir_all(dir.join("gateway"))?;
    let ledger = open(dir)?;
    world::begin(&ledger)?;
    let (mut number, mut at) = (0, 1);
    let begun = Instant::now();
    while at < records {
        let mut drafts = Vec::new();
        while drafts.len() < BATCH && at < records {
            let group = world::group(world, number, at)?;
            number += 1;
            at += group.len() as u64;
            drafts.extend(group);
        }
        ledger.append_many(drafts).wait()?;
    }
    #[expect(clippy::cast_precision_loss, reason = "a hundred million")]
    let count = ledger.reader().size() as f64;
    let rate = count / begun.elapsed().as_secs_f64();
    crate::say(format_args!("{rate:.0} records a second"))?;
    wait_for_tiles(dir, ledger.reader().size())?;
    print("writer_rss", peak_mib()?)?;
    ledger.close()?;
    #[expect(clippy::cast_precision_loss, reason = "some gigabytes")]
    let bytes = size_of(&ledger_dir(dir))? as f64;
    print("bytes", bytes / count)
}

/// Tiles are written when no commit has come for a moment; a ledger that grows has them sooner or later.
fn wait_for_tiles(dir: &Path, size: u64) -> Outcome<()> {
    let marker = ledger_dir(dir).join("tiled");
    let begun = Instant::now();
    loop {
        let tiled = std::fs::read_to_string(&marker).unwrap_or_default();
        if tiled.trim().parse::<u64>().unwrap_or_default() >= size - size % WIDTH {
            return Ok(());
        }
        if begun.elapsed().as_secs() > 1_200 {
            return Err(
                format!("tiles of {size} records are at {tiled:?} after twenty minutes").into(),
            );
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Appends until it is killed.
pub(crate) fn run_on(dir: &Path, world: &str) -> Outcome<()> {
    let ledger = open(dir)?;
    for number in 0.. {
        ledger
            .append_many(world::group(world, number, ledger.reader().size())?)
            .wait()?;
        if number == 0 {
            std::io::stdout().write_all(b"appending\n")?;
        }
    }
    Ok(())
}

/// Opens the ledger as a program's start does.
pub(crate) fn start(dir: &Path) -> Outcome<()> {
    let start = Instant::now();
    let ledger = open(dir)?;
    print("start", start.elapsed().as_secs_f64())?;
    ledger.close()?;
    Ok(())
}

pub(crate) fn build_index(dir: &Path) -> Outcome<()> {
    let start = Instant::now();
    let mut site = site(dir)?;
    site.catch_up()?;
    print("built", start.elapsed().as_secs_f64())?;
    let size = site
        .sources()
        .iter()
        .map(|source| source.head().checkpoint.size)
        .sum::<u64>();
    drop(site);
    #[expect(clippy::cast_precision_loss, reason = "some gigabytes")]
    let bytes = size_of(&index_dir(dir))? as f64;
    #[expect(clippy::cast_precision_loss, reason = "ten million")]
    let count = size as f64;
    print("index", bytes / count)
}

/// Proofs of a process that has just begun, and one reading of everything.
pub(crate) fn prove(dir: &Path) -> Outcome<()> {
    let ledger = open(dir)?;
    let reader = ledger.reader();
    let head = reader.head();
    let (size, root) = (head.checkpoint.size, head.checkpoint.root);
    let mut proofs = Vec::new();
    for step in 0..PROOFS {
        let index = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) % size;
        let start = Instant::now();
        let path = reader.inclusion(index, size)?;
        proofs.push(millis(start) * 1e3);
        if step % 100 == 0 {
            let record = reader.read(index..index + 1)?;
            let record = record.first().ok_or("no record")?;
            verify_inclusion(&leaf_hash(record), index, size, &path, &root)?;
        }
    }
    print("proof_p99", p99(proofs))?;
    print("read_p99", bare_reads(dir, size)?)?;

    let start = Instant::now();
    let (mut at, mut bytes) = (0, 0_usize);
    while at < size {
        let read = reader.read(at..size)?;
        at += read.len() as u64;
        bytes += read.iter().map(Vec::len).sum::<usize>();
    }
    print("scan", millis(start))?;
    print("scan_s", millis(start) / 1e3)?;
    #[expect(clippy::cast_precision_loss, reason = "some gigabytes")]
    print("raw", bytes as f64 / size as f64)?;
    print("reader_rss", peak_mib()?)?;
    ledger.close()?;
    Ok(())
}

/// Searches of a process that has just begun.
pub(crate) fn ask(dir: &Path, records: u64) -> Outcome<()> {
    let mut site = site(dir)?;
    site.catch_up()?;
    let mut searches = Vec::new();
    for step in 0..SEARCHES {
        let filter = filter(step, records);
        let page = Page {
            ledger: "*",
            from: 0,
            cursor: None,
            limit: Some(PAGE),
            receipts: false,
        };
        let start = Instant::now();
        let mut found = 0;
        search(&site, &filter, &page, |_hit| {
            found += 1;
            ControlFlow::Continue(())
        })?;
        searches.push(millis(start));
        if found == 0 {
            return Err(format!("nothing was found by {filter:?}").into());
        }
    }
    print("search_p99", p99(searches))?;
    print("reader_rss", peak_mib()?)
}

/// One identity, one table, updates of one identity, and reads of one table: each matches something.
fn filter(step: u64, records: u64) -> Filter {
    let sessions = (records / PER_SESSION).clamp(1, IDENTITIES);
    let who = Some(world::identity(step % sessions));
    let what = Some(world::table(step % TABLES.min(records / 4)));
    let action = |name: &str| Some(name.to_owned());
    match step % 4 {
        0 => Filter {
            identity: who,
            ..Filter::default()
        },
        1 => Filter {
            resource: what,
            ..Filter::default()
        },
        2 => Filter {
            identity: who,
            action: action("update"),
            ..Filter::default()
        },
        _ => Filter {
            resource: what,
            decision: action("allow"),
            ..Filter::default()
        },
    }
}

/// 99th percentile of reading one file of a tile at each level, from wherever the files lie.
fn bare_reads(dir: &Path, size: u64) -> Outcome<f64> {
    let level = ledger_dir(dir).join("tile/0");
    let mut files = Vec::new();
    collect(&level, &mut files)?;
    files.sort();
    let levels = (1..)
        .find(|levels| 256_u64.pow(*levels) >= size)
        .unwrap_or(1);
    let mut times = Vec::new();
    let mut tile = vec![0; 8_192];
    for step in 0..PROOFS {
        let start = Instant::now();
        for level in 0..u64::from(levels) {
            let at = (step + level).wrapping_mul(0x9e37_79b9_7f4a_7c15) % (files.len() as u64);
            let file = files.get(usize::try_from(at)?).ok_or("no tile")?;
            File::open(file)?.read_exact_at(&mut tile, 0)?;
        }
        times.push(millis(start) * 1e3);
    }
    Ok(p99(times))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
