//! The limit: the same bytes, appended to a file and synced, with nothing else done.

use crate::Outcome;
use crate::load::Measured;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

/// One write and one fdatasync of `records` × `size` bytes after the other.
pub(crate) fn measure(
    dir: &Path,
    size: usize,
    records: usize,
    time: Duration,
) -> Outcome<Measured> {
    let path = dir.join("bare");
    let file = File::create(&path)?;
    let bytes = vec![0x5a; size * records];
    let (mut latencies, mut at) = (Vec::new(), 0);
    let begun = Instant::now();
    while begun.elapsed() < time {
        let start = Instant::now();
        file.write_all_at(&bytes, at)?;
        file.sync_data()?;
        latencies.push(start.elapsed().as_secs_f64() * 1e6);
        at += bytes.len() as u64;
    }
    let elapsed = begun.elapsed();
    std::fs::remove_file(&path)?;
    Measured::new((latencies.len() * records) as u64, elapsed, latencies)
}
