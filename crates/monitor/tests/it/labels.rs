//! Blinded labels: each owner recognises his own in a ledger whose records he is not served, and nothing of anybody
//! else's; what was done to the labels has a name.

use crate::support::{
    Answer, Lie, Log, Site, at, code, config, erasure, issuance, key, nobodys, seal, unsealed,
};
use ledger::about::Theirs;
use ledger::label::{LabelKey, LabelPath, LabelTile, Owners, OwnersError, Said};
use ledger::merkle::leaf_hash;
use ledger::tile::{Kind, TilePath};
use monitor::{Config, Monitor};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const ADA: u8 = 1;
const BOB: u8 = 2;

fn owner(identities: &[&str], machines: &[&str]) -> Theirs {
    let texts =
        |texts: &[&str]| -> Vec<String> { texts.iter().map(|text| (*text).to_owned()).collect() };
    Theirs::new(&texts(identities), &texts(machines), &[]).unwrap()
}

/// Ada has payments, Bob has the machine m9.
fn owners() -> Owners {
    let ada = owner(&["spiffe://example.org/payments/*"], &[]);
    let bob = owner(&[], &["m9"]);
    let keyed = [(ada, ADA), (bob, BOB)].map(|(owner, seed)| (owner, LabelKey::new([seed; 32])));
    Owners::new(keyed.into()).unwrap()
}

fn key_file(folder: &Path, seed: u8) -> PathBuf {
    let path = folder.join(format!("label-{seed}.key"));
    std::fs::write(&path, crypto::hex::encode(&[seed; 32]) + "\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// As a server would sign them that lies.
fn resealed(path: &str, bytes: Vec<u8>, change: impl Fn(&mut Vec<u8>)) -> Answer {
    let mut rows = unsealed(bytes);
    change(&mut rows.bytes);
    Answer::Is(Some(seal(&path.parse().unwrap(), rows)))
}

/// What whoever has that key is told.
struct Owner {
    folder: tempfile::TempDir,
    monitor: Monitor,
}

impl Owner {
    fn of(seed: u8, urls: &[String], more: &str, labels: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = labelled(folder.path(), seed, urls, more, labels);
        let monitor = Monitor::open(config).unwrap();
        Self { folder, monitor }
    }

    fn known(&self) -> PathBuf {
        self.folder.path().join("known")
    }

    fn told(&self) -> Vec<u64> {
        let alerts = self.monitor.waiting().iter();
        let told = alerts.map(|alert| {
            assert_eq!(alert.finding.code, "MONITOR-LABEL-YOURS");
            let record = alert.record.as_ref().unwrap();
            assert_eq!((&record.text, &record.record_type), (&None, &None));
            record.index
        });
        told.collect()
    }
}

fn labelled(folder: &Path, seed: u8, urls: &[String], more: &str, labels: &str) -> Config {
    let rest = format!(
        "[labels]\nname = \"ours\"\nkey_file = \"{}\"\n{}",
        key_file(folder, seed).display(),
        labels.replace("FOLDER", &folder.display().to_string()),
    );
    let more = format!("entries = \"closed\"\n{more}");
    config(folder, urls, &more, &rest)
}

/// Records of Ada at 3 and 300, of Bob at 4, of both at 5, of nobody's else.
fn log() -> Log {
    let mut log = Log::new("a", 3);
    log.push(issuance(3, "payments/api", "m1"));
    log.push(issuance(4, "billing/api", "m9"));
    log.push(issuance(5, "payments/api", "m9"));
    log.grow("a", 300);
    log.push(issuance(300, "payments/job", "m1"));
    log.grow("a", 310);
    log
}

#[tokio::test]
async fn two_owners_recognise_their_own_and_neither_learns_the_others() {
    let site = Site::new(log()).await;
    site.label(Some(owners()));
    let mut ada = Owner::of(ADA, &[site.url()], "", "");
    let mut bob = Owner::of(BOB, &[site.url()], "", "");
    for owner in [&mut ada, &mut bob] {
        let seen = owner.monitor.round(at(0)).await.unwrap();
        assert_eq!((seen.size, seen.looked), (310, 310));
    }
    assert_eq!(ada.told(), [3, 5, 300]);
    assert_eq!(bob.told(), [4, 5]);
    let asked = site.asked();
    let records = |path: &String| path.starts_with("tile/entries/");
    assert!(!asked.iter().any(records), "{asked:?}");

    // It grows, and each record is told once, across the width of the tile.
    site.change(|log| {
        log.push(issuance(310, "billing/api", "m9"));
        log.grow("a", 600);
        log.push(issuance(600, "payments/api", "m1"));
    });
    for owner in [&mut ada, &mut bob] {
        let told = owner.monitor.waiting().len();
        owner.monitor.taken(told).unwrap();
        owner.monitor.round(at(1)).await.unwrap();
    }
    assert_eq!((ada.told(), bob.told()), (vec![600], vec![310]));

    // With a third key, nothing is said at all: neither whose a record is, nor that it is nobody's.
    let mut other = Owner::of(3, &[site.url()], "", "");
    assert_eq!(code(&other.monitor.round(at(0)).await), "MONITOR-LABEL");
    assert!(other.monitor.waiting().is_empty());

    // To everybody, rows of one length, without a label that comes twice.
    let tile = TilePath::full(Kind::Hashes(0), 0);
    let path = LabelPath::beside(&tile).unwrap();
    let bytes = site.log().labels(&owners(), &path).unwrap();
    assert_eq!(bytes.len(), 256 * 2 * 16 + 32 + 64);
    let (labels, _) = bytes[..256 * 2 * 16].as_chunks::<16>();
    let different: std::collections::BTreeSet<_> = labels.iter().collect();
    assert_eq!(different.len(), labels.len());
}

#[tokio::test]
async fn labels_that_do_not_belong_to_their_records_are_caught_by_name() {
    let site = Site::new(log()).await;
    site.label(Some(owners()));
    let mut ada = Owner::of(ADA, &[site.url()], "", "");
    let on_labels = |change: fn(&str, Vec<u8>) -> Answer| -> Lie {
        Box::new(move |path, truth| match truth {
            Some(truth) if path.starts_with("labels/") => change(path, truth),
            truth => Answer::Is(truth),
        })
    };
    type Lied = fn(&str, Vec<u8>) -> Answer;
    let lies: [(&str, Lied); 10] = [
        // The server itself, which signs what it likes.
        ("MONITOR-LABEL", |path, bytes| {
            // Of the records 3 and 4, one has the other's.
            resealed(path, bytes, |rows| rows[3 * 32..5 * 32].rotate_left(32))
        }),
        ("MONITOR-LABEL", |path, bytes| {
            resealed(path, bytes, |rows| rows.copy_within(4 * 32..5 * 32, 3 * 32))
        }),
        ("MONITOR-LABEL", |path, bytes| {
            resealed(path, bytes, |rows| rows.fill(0))
        }),
        ("MONITOR-WIDTH", |path, bytes| {
            resealed(path, bytes, |rows| rows.truncate(rows.len() - 1))
        }),
        // Whoever keeps or carries them.
        ("MONITOR-LABEL-SIGNATURE", |_, mut bytes| {
            bytes[3 * 32..5 * 32].rotate_left(32);
            Answer::Is(Some(bytes))
        }),
        ("MONITOR-LABEL-SIGNATURE", |_, mut bytes| {
            bytes.pop();
            Answer::Is(Some(bytes))
        }),
        ("MONITOR-WIDTH", |_, _| Answer::Is(Some(vec![0; 63]))),
        ("MONITOR-LABEL-MISSING", |_, _| Answer::Is(None)),
        ("MONITOR-TOO-LARGE", |_, _| Answer::Endless),
        ("MONITOR-UNREACHABLE", |_, _| Answer::Status(500)),
    ];
    for (number, (expected, change)) in lies.into_iter().enumerate() {
        site.lie(Some(on_labels(change)));
        assert_eq!(
            code(&ada.monitor.round(at(1)).await),
            expected,
            "lie {number}"
        );
        assert!(ada.monitor.waiting().is_empty(), "lie {number}");
    }
    // A changed hash is told as that, though no label belongs to it.
    site.lie(Some(Box::new(|path, truth| match truth {
        Some(mut bytes) if path.starts_with("tile/0/000") => {
            bytes[3 * 32] ^= 1;
            Answer::Is(Some(bytes))
        }
        truth => Answer::Is(truth),
    })));
    let told = code(&ada.monitor.round(at(1)).await);
    assert!(
        ["MONITOR-TILES", "MONITOR-RECORDS"].contains(&told.as_str()),
        "{told}"
    );
    site.lie(None);
    ada.monitor.round(at(2)).await.unwrap();
    assert_eq!(ada.told(), [3, 5, 300]);
}

/// As docs/operate/labels.md says, the file need not be there before anything is known.
#[tokio::test]
async fn a_file_of_what_is_known_that_is_not_there_yet_knows_nothing() {
    let site = Site::new(log()).await;
    site.label(Some(owners()));
    let mut ada = Owner::of(ADA, &[site.url()], "", "known = \"FOLDER/known\"\n");
    ada.monitor.round(at(0)).await.unwrap();
    assert_eq!(ada.told(), [3, 5, 300]);
}

#[tokio::test]
async fn what_is_known_is_not_told_and_to_deny_it_is_caught() {
    let site = Site::new(log()).await;
    site.label(Some(owners()));
    let leaf = |index: usize| crypto::base64::encode(&leaf_hash(&site.log().entries[index]));
    let mut ada = {
        let folder = tempfile::tempdir().unwrap();
        let known = folder.path().join("known");
        std::fs::write(&known, format!("# ours\n{}\n\n{}\n", leaf(3), leaf(300))).unwrap();
        let labels = "known = \"FOLDER/known\"\n";
        let config = labelled(folder.path(), ADA, &[site.url()], "", labels);
        let monitor = Monitor::open(config).unwrap();
        Owner { folder, monitor }
    };
    ada.monitor.round(at(0)).await.unwrap();
    assert_eq!(ada.told(), [5]);
    ada.monitor.taken(1).unwrap();

    // A server that has forgotten what is Ada's.
    site.change(|log| {
        log.push(issuance(310, "payments/api", "m1"));
        log.grow("a", 320);
    });
    let forgetful = owner(&["spiffe://example.org/other"], &[]);
    let forgetful = Owners::new(vec![(forgetful, LabelKey::new([ADA; 32]))]);
    site.label(Some(forgetful.unwrap()));
    std::fs::write(ada.known(), leaf(310)).unwrap();
    assert_eq!(
        code(&ada.monitor.round(at(1)).await),
        "MONITOR-LABEL-DENIED"
    );
    shows_the_denial(&ada, &site.log());
    site.label(Some(owners()));
    ada.monitor.round(at(2)).await.unwrap();
    assert_eq!(ada.told(), Vec::<u64>::new());

    std::fs::write(ada.known(), "no hash").unwrap();
    site.change(|log| log.grow("a", 330));
    assert_eq!(code(&ada.monitor.round(at(3)).await), "MONITOR-CONFIG");
}

/// It looked once, kept nothing of what was signed, and an owner who was shown an SVID afterwards had nothing in hand.
#[tokio::test]
async fn a_record_that_was_denied_and_that_the_owner_hears_of_later_convicts_the_log() {
    let mut log = log();
    log.push(issuance(310, "payments/api", "m1"));
    let site = Site::new(log).await;
    let forgetful = owner(&["spiffe://example.org/other"], &[]);
    let forgetful = Owners::new(vec![(forgetful, LabelKey::new([ADA; 32]))]);
    site.label(Some(forgetful.unwrap()));
    let mut ada = {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("known"), "").unwrap();
        let labels = "known = \"FOLDER/known\"\n";
        let config = labelled(folder.path(), ADA, &[site.url()], "", labels);
        let monitor = Monitor::open(config).unwrap();
        Owner { folder, monitor }
    };
    ada.monitor.round(at(0)).await.unwrap();
    assert_eq!(ada.told(), Vec::<u64>::new());
    // The server says otherwise now, of wider tiles as well: what it has signed is not forgotten for that.
    site.label(Some(owners()));
    site.change(|log| log.grow("a", 700));
    ada.monitor.round(at(1)).await.unwrap();

    let leaf = crypto::base64::encode(&leaf_hash(&site.log().entries[310]));
    std::fs::write(ada.known(), leaf).unwrap();
    ada.monitor.round(at(2)).await.unwrap();
    let waiting = ada.monitor.waiting();
    let told = waiting.iter().map(|alert| {
        let index = alert.record.as_ref().map(|record| record.index);
        (alert.finding.code.as_ref(), index)
    });
    let told: Vec<_> = told.collect();
    assert_eq!(told, [("MONITOR-LABEL-DENIED", Some(310))]);
    shows_the_denial(&ada, &site.log());
    // Once.
    ada.monitor.taken(1).unwrap();
    std::fs::write(ada.known(), leaf_text(&site, &[310, 3])).unwrap();
    ada.monitor.round(at(3)).await.unwrap();
    let again: Vec<_> = ada.monitor.waiting().iter().collect();
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(again[0].record.as_ref().unwrap().index, 3);
}

/// What a wider tile says as well is kept once.
#[tokio::test]
async fn labels_are_kept_once_for_each_tile_while_it_grows() {
    let site = Site::new(Log::new("a", 3)).await;
    site.label(Some(owners()));
    let mut ada = Owner::of(ADA, &[site.url()], "", "");
    for size in [10_u64, 20, 300, 310] {
        site.change(|log| log.grow("a", size));
        ada.monitor.round(at(size)).await.unwrap();
    }
    let state = std::fs::read_dir(ada.folder.path().join("state")).unwrap();
    let folder = state
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "labels"));
    let kept = std::fs::read_dir(folder.unwrap()).unwrap();
    let mut kept: Vec<_> = kept
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "known.sha256")
        .map(|name| name.get(..16).unwrap().to_owned())
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, ["000000000000-256", "000000000001-054"]);
}

fn leaf_text(site: &Site, indices: &[usize]) -> String {
    let log = site.log();
    let lines = indices.iter().map(|index| {
        let leaf = leaf_hash(&log.entries[*index]);
        crypto::base64::encode(&leaf) + "\n"
    });
    lines.collect()
}

/// Whoever has the log's key, the owner's and the record sees that the log has signed a lie.
fn shows_the_denial(ada: &Owner, log: &Log) {
    let leaf = leaf_hash(&log.entries[310]);
    let name = format!("state/denied-{}.json", crypto::hex::encode(&leaf[..8]));
    let file = ada.folder.path().join(name);
    let denial: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let text = |name: &str| denial[name].as_str().unwrap().to_owned();
    assert_eq!(text("key"), key().to_string());
    assert_eq!(text("leaf_hash"), crypto::base64::encode(&leaf));
    let labels = crypto::base64::decode(&text("labels")).unwrap();
    let tile = LabelTile::open(labels, &text("path").parse().unwrap(), &key()).unwrap();
    let said = tile.said(&LabelKey::new([ADA; 32]), 310 - 256, &leaf);
    assert_eq!(said, Some(Said::NotYours));
}

#[tokio::test]
async fn what_cannot_be_read_is_everybodys_and_an_erasure_is_whose_the_records_are() {
    let mut log = log();
    log.push(b"{\"v\":9}".to_vec());
    log.push(erasure(311, &[300]));
    log.push(erasure(312, &[1]));
    // Of what is not there before it.
    log.push(erasure(313, &[999]));
    let site = Site::new(log).await;
    site.label(Some(owners()));
    let mut ada = Owner::of(ADA, &[site.url()], "", "");
    let mut bob = Owner::of(BOB, &[site.url()], "", "");
    ada.monitor.round(at(0)).await.unwrap();
    bob.monitor.round(at(0)).await.unwrap();
    assert_eq!(ada.told(), [3, 5, 300, 310, 311]);
    assert_eq!(bob.told(), [4, 5, 310]);
}

#[tokio::test]
async fn a_mirror_has_the_history_and_the_labels_come_from_elsewhere() {
    let (site, mirror) = (Site::new(log()).await, Site::new(log()).await);
    site.label(Some(owners()));
    let labels = format!("url = \"{}\"\n", site.url());
    let mut ada = Owner::of(ADA, &[mirror.url()], "", &labels);
    ada.monitor.round(at(0)).await.unwrap();
    assert_eq!(ada.told(), [3, 5, 300]);
    let mut nowhere = Owner::of(ADA, &[mirror.url()], "", "");
    assert_eq!(
        code(&nowhere.monitor.round(at(0)).await),
        "MONITOR-LABEL-MISSING"
    );

    // As a bucket has them, of whose last tile the full one came meanwhile.
    let mut log = site.log();
    let files = tempfile::tempdir().unwrap();
    let write = |name: String, bytes: Vec<u8>| {
        let file = files.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    };
    let kinds = (0..8).map(Kind::Hashes);
    for path in kinds.flat_map(|kind| TilePath::all(kind, log.size())) {
        write(path.to_string(), log.tile(&path).unwrap());
    }
    write("checkpoint".to_owned(), log.note().into_bytes());
    log.grow("a", 512);
    for index in 0..2 {
        let path = LabelPath::beside(&TilePath::full(Kind::Hashes(0), index)).unwrap();
        write(path.to_string(), log.labels(&owners(), &path).unwrap());
    }
    let folder = format!("folder = \"{}\"", files.path().display());
    let mut bob = Owner::of(BOB, &[], &folder, "");
    bob.monitor.round(at(0)).await.unwrap();
    assert_eq!(bob.told(), [4, 5]);
}

#[test]
fn a_key_that_others_read_and_two_owners_with_one_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |seed| {
        let config = labelled(
            folder.path(),
            seed,
            &["http://127.0.0.1:1".to_owned()],
            "",
            "",
        );
        let path = config.labels.as_ref().unwrap().key_file.clone();
        (config, path)
    };
    let (config, path) = open(ADA);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let refused = Monitor::open(config.clone()).map(drop).unwrap_err();
    assert_eq!(refused.finding().code, "LABEL-KEY");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "07").unwrap();
    let refused = Monitor::open(config).map(drop).unwrap_err();
    assert_eq!(refused.finding().code, "LABEL-KEY");

    let theirs = owner(&["spiffe://example.org/a"], &[]);
    let one = LabelKey::new([ADA; 32]);
    let same = vec![(theirs.clone(), one.clone()), (theirs, one)];
    assert_eq!(
        Owners::new(same).map(drop).unwrap_err(),
        OwnersError::OneKey
    );

    // Whoever is served the records reads them.
    let text = format!(
        "[monitor]\nstate_dir = \"/s\"\n[log]\nkey = \"{}\"\nurls = [\"http://127.0.0.1:1\"]\n\
         [labels]\nname = \"ours\"\nkey_file = \"/k\"\n",
        key()
    );
    assert_eq!(Config::parse(&text).unwrap_err().code, "MONITOR-CONFIG");
}

/// Two records that say the same at two places are two leaves, with labels of their own.
#[test]
fn nobody_sees_that_two_records_are_of_one_owner() {
    let tile = |records: &[Vec<u8>]| owners().rows("example.org/server", 0, records, |_| None);
    let records = [
        issuance(0, "payments/api", "m1"),
        issuance(1, "payments/api", "m1"),
        nobodys(2, "x"),
    ];
    let rows = tile(&records);
    let (labels, _) = rows.bytes.as_chunks::<16>();
    let different: std::collections::BTreeSet<_> = labels.iter().collect();
    assert_eq!(different.len(), 6);
}
