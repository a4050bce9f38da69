//! `trilith server snapshot`, `rebuild-state` and `prune` as their users run them.

use crate::quorum::{Site, free, said};
use std::process::{Command, Stdio};

fn site() -> Site {
    Site {
        folder: testkit::temp_dir().expect("a folder"),
        http: free(),
    }
}

fn stopped(site: &Site) {
    let mut server = site.server("");
    let pid = server.0.id().to_string();
    let sent = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(sent.expect("kill runs").success());
    assert!(server.0.wait().expect("gone").success());
}

const CONFIG: [&str; 2] = ["--config", "server.toml"];

fn right(site: &Site, words: &[&str]) -> String {
    let output = site.run(&[&["server"][..], words, &CONFIG[..]].concat());
    assert!(output.status.success(), "{words:?}: {}", said(&output));
    said(&output)
}

fn refused(site: &Site, words: &[&str]) -> String {
    let output = site.run(&[&["server"][..], words, &CONFIG[..]].concat());
    assert_eq!(
        output.status.code(),
        Some(1),
        "{words:?}: {}",
        said(&output)
    );
    said(&output)
}

#[test]
fn a_snapshot_is_made_rebuilt_from_and_checked_with_a_copy() {
    let site = site();
    stopped(&site);
    let whole = right(&site, &["rebuild-state"]);
    assert!(
        whole.contains("there is no snapshot that can be used"),
        "{whole}"
    );
    let made = right(&site, &["snapshot"]);
    assert!(made.starts_with("snapshot of the state after "), "{made}");
    assert!(right(&site, &["snapshot"]).contains(": the last record "));
    stopped(&site);
    let digest = |said: &str| {
        let (_, digest) = said.split_once("digest ").expect("a digest");
        digest.chars().take(64).collect::<String>()
    };
    let from = right(&site, &["rebuild-state"]);
    assert!(from.contains("From the snapshot of record "), "{from}");
    let all = right(&site, &["rebuild-state", "--from-first-record"]);
    assert!(all.contains("gives the same"), "{all}");
    assert_eq!(digest(&from), digest(&all));
    let copied = Command::new("cp")
        .args(["-a", "data", "copy"])
        .current_dir(site.path(""))
        .status();
    assert!(copied.expect("cp runs").success());
    let checked = right(&site, &["rebuild-state", "--check", "--copy", "copy"]);
    assert!(
        checked.contains("What the records of the copy give"),
        "{checked}"
    );
    let (blobs, away) = (site.path("data/blobs"), site.path("away"));
    std::fs::rename(&blobs, &away).expect("moved");
    let check = ["server", "rebuild-state", "--check", "--copy", "copy"];
    let lost = site.run(&[&check[..], &CONFIG[..]].concat());
    assert_eq!(lost.status.code(), Some(3), "{}", said(&lost));
    assert!(said(&lost).contains("SNAPSHOT-LOST"), "{}", said(&lost));
    drop(std::fs::remove_dir_all(&blobs));
    std::fs::rename(&away, &blobs).expect("moved back");
    // Nothing here is a day old, or fills a segment.
    let young = ["prune", "--before", "1h", "--reason", "a test"];
    let young = refused(&site, &young);
    assert!(young.contains("PRUNE-YOUNG"), "{young}");
    let words = [
        "prune", "--before", "2d", "--reason", "a test", "--copy", "copy",
    ];
    let nothing = refused(&site, &words);
    assert!(nothing.contains("PRUNE-NOTHING"), "{nothing}");
    let server = site.server("");
    let running = refused(&site, &["snapshot"]);
    assert!(running.contains("SERVER-RUNNING"), "{running}");
    let checked = right(&site, &["rebuild-state", "--check", "--copy", "copy"]);
    assert!(checked.contains("these snapshots say"), "{checked}");
    drop(server);
}

/// Killed after each of its steps, the folder is sound and the next one succeeds.
#[test]
fn a_snapshot_that_is_killed_loses_nothing() {
    const ROUNDS: usize = 3;
    let site = site();
    let mut killed = 0;
    for step in [
        "data/blobs",
        "data/ledger/segments",
        "keys/ledger/highest-head",
    ] {
        for _ in 0..ROUNDS {
            // Each start is recorded: there is something new to be said.
            stopped(&site);
            let mut command = site.command();
            command.args(["server", "snapshot"]).args(CONFIG);
            command.stdout(Stdio::null()).stderr(Stdio::null());
            let cut = testkit::killed::at_change(&mut command, &site.path(step));
            killed += usize::from(cut.expect("it starts"));
            let all = right(&site, &["rebuild-state", "--from-first-record"]);
            assert!(all.contains("From the first record"), "{all}");
        }
    }
    assert!(killed > 0, "each was through before it was killed");
    right(&site, &["snapshot"]);
    stopped(&site);
    right(&site, &["rebuild-state"]);
}
