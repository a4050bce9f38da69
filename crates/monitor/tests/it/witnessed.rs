//! Under a policy: a head without its quorum, or with one that is too old, is not taken.

use crate::support::{Log, Site, WALL, WATCH, at, code, config, fixed_key, key};
use ledger::{Cosigner, ForeignCheckpoint, Note};
use monitor::Monitor;

fn cosigner(seed: u8) -> Cosigner {
    Cosigner::new(&format!("witness.example/{seed}"), fixed_key(seed)).unwrap()
}

/// The log's note with lines of these witnesses, each at its time.
fn cosigned(note: &str, lines: &[(u8, u64)]) -> String {
    let mut note = Note::parse(note).unwrap();
    let checkpoint = ForeignCheckpoint::parse(&note.text).unwrap();
    let lines = lines
        .iter()
        .map(|(seed, time)| cosigner(*seed).cosign(&checkpoint, *time).unwrap());
    note.merge(lines.collect()).unwrap();
    note.to_string()
}

#[tokio::test]
async fn a_head_is_taken_under_a_quorum_that_is_recent() {
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("witnesses.policy");
    let names = [50, 51, 52].map(|seed| format!("witness w{seed} {}\n", cosigner(seed).key()));
    let text = format!(
        "log {}\n{}group g 2 w50 w51 w52\nquorum g\n",
        key(),
        names.concat()
    );
    std::fs::write(&policy, text).unwrap();
    let log = Log::new("a", 30);
    let site = Site::new(log.clone()).await;
    let more = format!("policy = \"{}\"\nmax_age_s = 3600", policy.display());
    let mut monitor = Monitor::open(config(folder.path(), &[site.url()], &more, WATCH)).unwrap();
    let now = WALL / 1000;
    for (what, lines, expected) in [
        ("none", vec![], "MONITOR-QUORUM"),
        ("one", vec![(50, now)], "MONITOR-QUORUM"),
        ("a stranger", vec![(50, now), (53, now)], "MONITOR-QUORUM"),
        (
            "two that are old",
            vec![(50, now - 3601), (51, now - 4000)],
            "MONITOR-STALE",
        ),
        (
            "one of them old",
            vec![(50, now - 3601), (51, now)],
            "MONITOR-STALE",
        ),
        (
            "one of them a year ahead",
            vec![(50, now + 400 * 86_400), (51, now)],
            "MONITOR-STALE",
        ),
    ] {
        site.show(Some(cosigned(&log.note(), &lines)));
        assert_eq!(code(&monitor.round(at(0)).await), expected, "{what}");
    }
    // A line that says that it is a witness's and is not.
    let forged = cosigned(&log.note(), &[(50, now), (51, now)]);
    let other = cosigned(&Log::new("b", 30).note(), &[(50, now)]);
    let line = |note: &str| {
        note.lines()
            .find(|line| line.contains("witness.example/50"))
            .unwrap()
            .to_owned()
    };
    site.show(Some(forged.replace(&line(&forged), &line(&other))));
    assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-QUORUM");

    site.show(Some(cosigned(&log.note(), &[(50, now - 3600), (52, now)])));
    assert_eq!(monitor.round(at(0)).await.unwrap().witnesses, 2);
    // A fork is told also where it is not witnessed.
    let mut other = Log::new("b", 40);
    other.grow("b", 50);
    site.change(|log| *log = other);
    site.show(None);
    assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-FORK");
}
