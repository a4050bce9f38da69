//! A process that is killed at any moment loses nothing. The test starts itself as the process that exports.

use crate::world::{World, index, lines};
use export::{Cursor, Format, Options, Patience, Secrets, Sink};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const FOLDER: &str = "TRILITH_TEST_EXPORT";
const SINK: &str = "TRILITH_TEST_SINK";

/// What runs in the process that is killed; nothing in the one that kills.
#[tokio::test]
async fn exporting_process() {
    let (Some(folder), Ok(to)) = (std::env::var_os(FOLDER), std::env::var(SINK)) else {
        return;
    };
    let folder = PathBuf::from(folder);
    let cursor = Cursor::open(&folder.join("cursor"), "cloudevents", &to).unwrap();
    let sink = Sink::open(&to, Format::CloudEvents, &Secrets::default()).unwrap();
    let options = Options {
        folders: vec![folder],
        ledgers: Vec::new(),
        format: Format::CloudEvents,
        follow: false,
        patience: Patience::default(),
    };
    let stop = CancellationToken::new();
    export::run(&options, cursor, sink, &stop).await.unwrap();
}

fn start(world: &World, to: &str, out: Stdio) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["killed::exporting_process", "--exact", "--nocapture"])
        .env(FOLDER, world.path())
        .env(SINK, to)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_process_that_is_killed_at_any_moment_loses_nothing() {
    let world = World::with(20_000);
    let out = world.beside("out");
    let to = format!("file:{}", out.display());
    let mut killed = 0;
    for attempt in 1..200_u64 {
        let mut child = start(&world, &to, Stdio::null());
        // Longer each time, so that the kills fall everywhere from the start to the end.
        std::thread::sleep(Duration::from_millis(attempt * 3));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        killed += 1;
    }
    assert!(killed > 3, "{killed} kills");
    assert!(start(&world, &to, Stdio::null()).wait().unwrap().success());
    let bytes = std::fs::read(&out).unwrap();
    let events = lines(&bytes);
    let mut once = BTreeSet::new();
    let mut next = 0;
    for event in &events {
        let index = index(event);
        // What comes twice comes again from a batch's beginning; nothing is ever passed over.
        assert!(index <= next, "{index} came before {next}");
        next = next.max(index + 1);
        once.insert(index);
    }
    assert_eq!(once.len() as u64, world.size());
    assert_eq!(next, world.size());
}

#[test]
fn standard_output_has_the_events_and_a_reader_that_goes_away_is_told() {
    let world = World::with(2_000);
    let child = start(&world, "stdout", Stdio::piped());
    let done = child.wait_with_output().unwrap();
    assert!(done.status.success());
    // The test harness says its own lines before and after.
    let events: Vec<u8> = done
        .stdout
        .split_inclusive(|byte| *byte == b'\n')
        .filter(|line| line.starts_with(b"{"))
        .flatten()
        .copied()
        .collect();
    let indices: Vec<u64> = lines(&events).iter().map(index).collect();
    assert!(indices.ends_with(&[1_998, 1_999, 2_000]));
    std::fs::remove_file(world.beside("cursor")).unwrap();
    let mut child = start(&world, "stdout", Stdio::piped());
    // More than the harness says, and less than a batch.
    let mut out = child.stdout.take().unwrap();
    out.read_exact(&mut [0; 4_096]).unwrap();
    drop(out);
    assert!(!child.wait().unwrap().success());
    // The ledger's first record is a batch of its own; the one that nobody read to its end was not taken.
    let cursor = std::fs::read(world.beside("cursor")).unwrap();
    let cursor: serde_json::Value = serde_json::from_slice(&cursor).unwrap();
    assert_eq!(cursor["ledgers"][crate::world::ORIGIN]["next"], 1);
}
