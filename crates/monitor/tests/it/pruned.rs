//! A gateway's folder whose oldest records its owner has taken away: whoever has looked at them goes on, and whoever has not
//! is told so by name, and where they still are.

use crate::support::{ORIGIN, at, config, fixed_key, key};
use ledger::body::{Begin, Body as _, Retention, Stop};
use ledger::{Base64, Draft};
use ledger_store::{Ledger, Mirror, Options, Reader};
use monitor::Monitor;
use std::path::Path;

/// Segments of some 40 records.
fn options() -> Options {
    Options {
        segment_bytes: 12_000,
        reserve_bytes: 0,
        ..Options::default()
    }
}

fn fill(ledger: &Ledger, count: u64) {
    let one = |index: u64| -> Draft {
        let record = match index {
            0 => Begin {
                trust_domain: "example.org".to_owned(),
                ledger_key: Base64(ledger.key().public_key().spki_der().to_vec()),
                format: "v1".to_owned(),
            }
            .record(),
            index => Stop {
                reason: index.to_string(),
            }
            .record(),
        };
        record.actor("test", "self").draft().unwrap()
    };
    let from = ledger.reader().size();
    for first in (from..from + count).step_by(16) {
        let drafts = (first..(first + 16).min(from + count)).map(one).collect();
        ledger.append_many(drafts).wait().unwrap();
    }
}

fn prune(ledger: &Ledger, keep: u64) -> u64 {
    let pruned = ledger.prune(keep, |minimum| {
        let body = Retention {
            minimum_index: minimum.into(),
            snapshot: None,
            policy: "a test".to_owned(),
            by: "uid:0".to_owned(),
        };
        body.record().actor("test", "self").draft()
    });
    pruned.unwrap().unwrap().record
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        match path.is_dir() {
            true => copy(&path, &to),
            false => {
                std::fs::copy(path, to).unwrap();
            }
        }
    }
}

fn take(mirror: &mut Mirror, reader: &Reader) {
    let (held, head) = (mirror.reader().size(), reader.head());
    let records = reader.read(held..head.checkpoint.size).unwrap();
    mirror.append(held, &records, &head.note).unwrap();
}

fn watching(state: &Path, folder: &Path, more: &str) -> Monitor {
    let folder = format!("folder = \"{}\"\n{more}", folder.display());
    Monitor::open(config(state, &[], &folder, "")).unwrap()
}

#[tokio::test]
async fn a_folder_whose_oldest_records_are_gone_is_followed_by_who_has_looked_at_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let ledger = Ledger::open(&path("ledger"), fixed_key(1), ORIGIN, &options()).unwrap();
    fill(&ledger, 600);
    let mut mirror = Mirror::open(&path("mirror"), key(), &options()).unwrap();
    take(&mut mirror, ledger.reader());
    let mut early = watching(&path("early"), &path("ledger"), "");
    assert_eq!(early.round(at(0)).await.unwrap().looked, 600);

    copy(&path("ledger"), &path("copy"));
    let record = prune(&ledger, 600);
    take(&mut mirror, ledger.reader());
    assert_eq!(early.round(at(1)).await.unwrap().looked, 601);
    fill(&ledger, 300);
    take(&mut mirror, ledger.reader());
    assert_eq!(early.round(at(2)).await.unwrap().looked, 901);
    drop(early);
    let mut early = watching(&path("early"), &path("ledger"), "");
    assert_eq!(early.round(at(3)).await.unwrap().looked, 901);

    // Who begins now cannot look at what is gone, and is told by which record it is.
    let mut late = watching(&path("late"), &path("ledger"), "");
    let failure = late.round(at(4)).await.unwrap_err();
    let finding = failure.finding();
    assert_eq!(finding.code, "MONITOR-PRUNED");
    let observed = finding.observed.clone().unwrap();
    assert!(
        observed.contains(&format!("pruned by record {record}")),
        "{observed}"
    );
    // As it says: by the mirror, which keeps all of it, from where it is; or with what comes from now on.
    drop(late);
    let mut late = watching(&path("late"), &path("mirror"), "");
    assert_eq!(late.round(at(5)).await.unwrap().looked, 901);
    // Or by the copy of before, which is shorter, and then here again.
    let mut once = watching(&path("once"), &path("copy"), "");
    assert_eq!(once.round(at(5)).await.unwrap().looked, 600);
    drop(once);
    let mut once = watching(&path("once"), &path("ledger"), "");
    assert_eq!(once.round(at(5)).await.unwrap().looked, 901);
    let mut now = watching(&path("now"), &path("ledger"), "begin = \"now\"\n");
    assert_eq!(now.round(at(6)).await.unwrap().looked, 901);
    fill(&ledger, 1);
    assert_eq!(now.round(at(7)).await.unwrap().looked, 902);
}
