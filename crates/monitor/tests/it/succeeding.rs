//! A log that goes on as another: its monitor is told by its owner, keeps what it has, and holds the new log to it.

use crate::support::{
    Log, ORIGIN, Site, WATCH, at, code, config, fixed_key, issuance, key, watching,
};
use ledger::lineage::Link;
use ledger::{Checkpoint, LedgerSigner, Origin, merkle};
use monitor::{Config, Failure, Misbehaviour, Monitor};
use std::path::Path;

const SECOND: &str = "example.org/server@2";

fn second() -> LedgerSigner {
    LedgerSigner::new(SECOND, fixed_key(9)).unwrap()
}

/// The note of all that `log` has, as the second log's.
fn note(log: &Log) -> String {
    let size = log.size();
    let root = merkle::root(size, log).unwrap();
    let origin = Origin::new(SECOND).unwrap();
    let checkpoint = Checkpoint { origin, size, root };
    second().sign(&checkpoint).unwrap()
}

/// What `trilith trust` prints, as far as a monitor reads it.
fn trust(folder: &Path, size: u64, root: [u8; 32]) -> std::path::PathBuf {
    let first = LedgerSigner::new(ORIGIN, fixed_key(1)).unwrap();
    let link = Link::sign(&first, &second(), (size, root), "each year").unwrap();
    let path = folder.join("trust.json");
    let text = serde_json::json!({ "trust_domain": "example.org", "lineage": [link] });
    std::fs::write(&path, text.to_string()).unwrap();
    path
}

/// As `config`, with the second log's key, and the lineage in that file.
fn told(folder: &Path, site: &Site, lineage: Option<&Path>) -> Config {
    let mut config = config(folder, &[site.url()], "", WATCH);
    config.log.key = second().key().to_string();
    config.log.lineage = lineage.map(Path::to_owned);
    config
}

#[tokio::test]
async fn a_monitor_goes_on_with_the_new_log_from_what_it_keeps() {
    let site = Site::new(Log::new("a", 300)).await;
    let (folder, mut monitor) = watching(&site, "", WATCH).await;
    let (ended, root) = (site.log().size(), merkle::root(300, &site.log()).unwrap());
    site.change(|log| {
        log.push(issuance(300, "payments/api", "m2"));
        log.grow("c", 310);
    });
    site.show(Some(note(&site.log())));
    assert_eq!(
        code(&monitor.round(at(1)).await),
        "MONITOR-CHECKPOINT",
        "nobody told it"
    );
    drop(monitor);
    let lineage = trust(folder.path(), ended, root);
    let mut monitor = Monitor::open(told(folder.path(), &site, Some(&lineage))).unwrap();
    let seen = monitor.round(at(2)).await.unwrap();
    assert_eq!((seen.size, seen.looked), (310, 310));
    assert_eq!(
        monitor.waiting().len(),
        1,
        "what came with the new log is looked at, and nothing twice"
    );
    // What the old key signs beyond its end is no checkpoint.
    site.show(None);
    site.change(|log| log.grow("d", 320));
    assert_eq!(code(&monitor.round(at(3)).await), "MONITOR-CHECKPOINT");
}

#[tokio::test]
async fn a_new_log_that_does_not_go_on_from_what_was_seen_is_a_fork() {
    let site = Site::new(Log::new("a", 300)).await;
    let (folder, monitor) = watching(&site, "", WATCH).await;
    drop(monitor);
    site.change(|log| *log = Log::new("b", 310));
    site.show(Some(note(&site.log())));
    let lineage = trust(folder.path(), 300, merkle::root(300, &site.log()).unwrap());
    let mut monitor = Monitor::open(told(folder.path(), &site, Some(&lineage))).unwrap();
    let Err(Failure::Misbehaved(finding, file)) = monitor.round(at(1)).await else {
        panic!("two histories are not one");
    };
    assert_eq!(
        (finding.code, &*file.origin),
        ("MONITOR-FORK".into(), SECOND)
    );
    // Whoever has the newest key alone has enough to check it.
    let (_, bytes) = file.file();
    let read = Misbehaviour::parse(&bytes).unwrap();
    let (first, last) = read.verify().unwrap();
    assert_eq!((first.size, &*first.origin), (300, ORIGIN));
    assert_eq!((last.size, &*last.origin), (310, SECOND));
    assert!(read.by_a_replaced_key());
    let mut bare = read.clone();
    bare.lineage.clear();
    assert!(
        bare.verify().is_err(),
        "without the links it is another key's"
    );
    let mut before = read;
    before.key = key().to_string();
    assert!(before.verify().is_err(), "the links lead on from that key");
}

/// Both keys have signed for one tree, and the new log begins with another. A monitor that looks for the first time has
/// nothing but the link to hold it to.
#[tokio::test]
async fn a_new_log_that_is_not_what_its_link_names_is_told_at_the_first_look() {
    let site = Site::new(Log::new("b", 15)).await;
    site.show(Some(note(&site.log())));
    let folder = tempfile::tempdir().unwrap();
    let first = Log::new("a", 10);
    let lineage = trust(folder.path(), 10, merkle::root(10, &first).unwrap());
    let open = || Monitor::open(told(folder.path(), &site, Some(&lineage))).unwrap();
    assert_eq!(code(&open().round(at(0)).await), "MONITOR-LINEAGE");
    // Nor may it have less than that.
    site.change(|log| *log = Log::new("a", 9));
    site.show(Some(note(&site.log())));
    assert_eq!(code(&open().round(at(1)).await), "MONITOR-LINEAGE");
    site.change(|log| *log = Log::new("a", 15));
    site.show(Some(note(&site.log())));
    assert_eq!(open().round(at(2)).await.unwrap().size, 15);
}

/// Whoever has the key that was replaced signs a log that is shorter than the old one was.
#[tokio::test]
async fn a_small_head_by_a_replaced_key_is_not_taken_and_is_no_fork() {
    let honest = Site::new(Log::new("a", 10)).await;
    let root = merkle::root(10, &honest.log()).unwrap();
    honest.change(|log| log.grow("c", 15));
    honest.show(Some(note(&honest.log())));
    let forged = Site::new(Log::new("b", 5)).await;
    let folder = tempfile::tempdir().unwrap();
    let lineage = trust(folder.path(), 10, root);
    let open = |site: &Site| Monitor::open(told(folder.path(), site, Some(&lineage))).unwrap();
    // Alone at the log's address, for a monitor that has seen nothing yet.
    let mut fresh = open(&forged);
    let looked = fresh.round(at(0)).await;
    assert_eq!(code(&looked), "MONITOR-FORMER");
    assert!(matches!(looked, Err(Failure::Unreachable(_))));
    drop(fresh);
    // Beside the log's own address it says nothing against the log.
    let mut config = told(folder.path(), &honest, Some(&lineage));
    config.log.urls.push(forged.url());
    let mut monitor = Monitor::open(config).unwrap();
    let seen = monitor.round(at(1)).await.unwrap();
    assert_eq!((seen.size, seen.agree), (15, 0));
    assert_eq!(seen.notes[0].code, "MONITOR-FORMER");
    // A head of before that is of the log's own tree agrees.
    forged.show(Some(honest.log().note_at(7)));
    let seen = monitor.round(at(2)).await.unwrap();
    assert_eq!((seen.agree, seen.notes.len()), (1, 0));
    drop(monitor);
    // In the place of the log's address, once there is a state.
    forged.show(None);
    assert_eq!(code(&open(&forged).round(at(3)).await), "MONITOR-FORMER");
}

#[tokio::test]
async fn what_was_seen_and_given_up_is_told_and_the_monitor_goes_on() {
    let site = Site::new(Log::new("a", 23)).await;
    let (folder, monitor) = watching(&site, "", WATCH).await;
    drop(monitor);
    let gone = site.log().note();
    site.change(|log| {
        *log = Log::new("a", 12);
        log.push(issuance(12, "payments/api", "m2"));
        log.grow("c", 30);
    });
    site.show(Some(note(&site.log())));
    let shared = merkle::root(12, &site.log()).unwrap();

    // Both keys have signed for another tree than the one that is shown.
    let lineage = trust(folder.path(), 12, [7; 32]);
    let mut monitor = Monitor::open(told(folder.path(), &site, Some(&lineage))).unwrap();
    assert_eq!(code(&monitor.round(at(1)).await), "MONITOR-LINEAGE");
    assert_eq!(monitor.waiting().len(), 0);
    drop(monitor);

    let lineage = trust(folder.path(), 12, shared);
    let open = || Monitor::open(told(folder.path(), &site, Some(&lineage))).unwrap();
    let mut monitor = open();
    let seen = monitor.round(at(2)).await.unwrap();
    assert_eq!((seen.size, seen.looked), (30, 30));
    let alerts = |monitor: &Monitor| -> Vec<String> {
        let waiting = monitor.waiting().iter();
        waiting
            .map(|alert| alert.finding.code.to_string())
            .collect()
    };
    let told = ["MONITOR-GIVEN-UP", "MONITOR-UNEXPECTED"];
    assert_eq!(alerts(&monitor), told);
    let finding = monitor.waiting()[0].finding.to_string();
    assert!(
        finding.contains("23") && finding.contains("12"),
        "{finding}"
    );
    // The next start has stepped over, and what the old key had signed is still there.
    drop(monitor);
    let mut monitor = open();
    monitor.round(at(3)).await.unwrap();
    assert_eq!(alerts(&monitor), told);
    let kept = std::fs::read_dir(folder.path().join("state")).unwrap();
    let kept =
        kept.filter(|file| std::fs::read_to_string(file.as_ref().unwrap().path()).unwrap() == gone);
    assert_eq!(kept.count(), 1);
}

/// Whoever gives the new key alone would begin with nothing beside what was seen, and a rewritten past would be taken.
#[tokio::test]
async fn a_state_of_an_earlier_log_is_gone_on_from_and_none_is_begun_beside_it() {
    let site = Site::new(Log::new("a", 300)).await;
    let (folder, monitor) = watching(&site, "", WATCH).await;
    drop(monitor);
    let (ended, root) = (site.log().size(), merkle::root(300, &site.log()).unwrap());
    site.change(|log| log.grow("c", 310));
    site.show(Some(note(&site.log())));
    let states = |folder: &Path| {
        let names = std::fs::read_dir(folder.join("state")).unwrap();
        let names = names.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.len() == 64).count()
    };
    let refused = |folder: &Path, lineage: Option<&Path>| {
        let refused = Monitor::open(told(folder, &site, lineage)).err().unwrap();
        assert!(matches!(refused, Failure::Local(_)));
        let finding = refused.finding();
        assert_eq!(finding.code, "MONITOR-STATE-LINE");
        finding.next.clone().unwrap()
    };
    let next = refused(folder.path(), None);
    assert!(next.contains("log.lineage"), "{next}");
    assert_eq!(states(folder.path()), 1);
    let lineage = trust(folder.path(), ended, root);
    let mut monitor = Monitor::open(told(folder.path(), &site, Some(&lineage))).unwrap();
    assert_eq!(monitor.round(at(1)).await.unwrap().looked, 310);
    assert_eq!(states(folder.path()), 1);

    // Begun with the new log alone, it goes on from that when it is told the links.
    let late = tempfile::tempdir().unwrap();
    let mut monitor = Monitor::open(told(late.path(), &site, None)).unwrap();
    monitor.round(at(2)).await.unwrap();
    drop(monitor);
    site.asked();
    let mut monitor = Monitor::open(told(late.path(), &site, Some(&lineage))).unwrap();
    assert_eq!(monitor.round(at(3)).await.unwrap().looked, 310);
    let records = |path: &String| path.starts_with("tile/entries/");
    assert!(!site.asked().iter().any(records), "nothing twice");
    assert_eq!(states(late.path()), 1);
    drop(monitor);

    // Two of them, as builds before left them.
    let first = ledger::witness::origin_hash(ORIGIN).to_string();
    let from = folder.path().join("state").join(&first);
    std::fs::copy(from, late.path().join("state").join(&first)).unwrap();
    let next = refused(late.path(), Some(&lineage));
    assert!(next.starts_with("move "), "{next}");
}

#[tokio::test]
async fn a_lineage_that_does_not_lead_to_the_key_is_no_configuration() {
    let site = Site::new(Log::new("a", 3)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trust.json");
    let signer = |name: &str, seed| LedgerSigner::new(name, fixed_key(seed)).unwrap();
    let link = |from: &LedgerSigner, to: &LedgerSigner| Link::sign(from, to, (3, [0; 32]), "");
    let link = |from: &LedgerSigner, to: &LedgerSigner| link(from, to).unwrap();
    let right = link(&signer(ORIGIN, 1), &second());
    let other = link(
        &signer("example.org/gateway/pg", 3),
        &signer("example.org/gateway/pg@2", 4),
    );
    // The first key's alone, which ends one log too early.
    let third = signer("example.org/server@3", 8);
    for (key, text) in [
        (second(), "{".to_owned()),
        (second(), "{\"lineage\":[{}]}".to_owned()),
        (second(), "{}".to_owned()),
        (second(), "{\"lineage\":[]}".to_owned()),
        (
            second(),
            serde_json::json!({ "lineage": [other] }).to_string(),
        ),
        (
            second(),
            serde_json::json!({ "lineage": [right, other] }).to_string(),
        ),
        (
            second(),
            serde_json::json!({ "ledgers": [{ "lineage": [right] }] }).to_string(),
        ),
        (
            signer(ORIGIN, 1),
            serde_json::json!({ "ledgers": [] }).to_string(),
        ),
        (
            signer(ORIGIN, 1),
            serde_json::json!({ "lineage": [other] }).to_string(),
        ),
        (third, serde_json::json!({ "lineage": [right] }).to_string()),
    ] {
        std::fs::write(&path, &text).unwrap();
        let mut config = told(folder.path(), &site, Some(&path));
        config.log.key = key.key().to_string();
        let refused = Monitor::open(config).err();
        let refused = refused.unwrap_or_else(|| panic!("{text}"));
        assert_eq!(refused.finding().code, "MONITOR-CONFIG", "{text}");
        let next = refused.finding().next.clone().unwrap();
        assert!(next.contains("trilith trust"), "{text}: {next}");
    }
    assert!(!folder.path().join("state").exists(), "nothing was begun");
    // A thief's second succession beside the owner's.
    let first = LedgerSigner::new(ORIGIN, fixed_key(1)).unwrap();
    let thief = LedgerSigner::new(SECOND, fixed_key(8)).unwrap();
    let links = [&second(), &thief].map(|to| Link::sign(&first, to, (3, [0; 32]), "").unwrap());
    std::fs::write(&path, serde_json::json!({ "lineage": links }).to_string()).unwrap();
    let refused = Monitor::open(told(folder.path(), &site, Some(&path)))
        .err()
        .unwrap();
    assert!(
        refused
            .finding()
            .to_string()
            .contains("LEDGER-LINEAGE-FORKED")
    );
}
