//! A peer: Tessera's POSIX driver, by `tests/peers/tlog`. It answers an append when the entry is sequenced and
//! integrated; its checkpoint is published after that, on an interval, where ours is durable before the answer.

use crate::Outcome;
use crate::load::Measured;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use testkit::bench::row;

const WRITERS: usize = 256;

/// Ours and the peer's, by as many writers and with records as long; nothing where Go is missing.
pub(crate) fn rows(dir: &Path, size: usize, time: Duration, ours: &Measured) -> Outcome<()> {
    let program = match testkit::go_peer("tlog") {
        Ok(program) => program,
        Err(why) => {
            let line = format!("ledger.append_1k_closed256_vs_tessera is left out: {why}\n");
            std::io::stderr().write_all(line.as_bytes())?;
            return Ok(());
        }
    };
    let folder = dir.join("tessera");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let output = Command::new(program)
        .arg("append")
        .arg(&folder)
        .args([
            WRITERS.to_string(),
            size.to_string(),
            time.as_millis().to_string(),
        ])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    std::fs::remove_dir_all(&folder)?;
    let printed = String::from_utf8(output.stdout)?;
    let mut figures = printed.split_whitespace().map(str::parse::<f64>);
    let (Some(Ok(rate)), Some(Ok(p99)), true) =
        (figures.next(), figures.next(), output.status.success())
    else {
        return Err(format!("the peer printed {printed:?}").into());
    };
    let id = "ledger.append_1k_closed256_vs_tessera";
    let beside = "Tessera POSIX, 256 writers, integrated and not yet under a published checkpoint";
    row(id, ours.per_second, "1/s", Some((rate, beside)))?;
    row(
        &format!("{id}_p99_us"),
        ours.p99_us,
        "us",
        Some((p99, beside)),
    )?;
    Ok(())
}
