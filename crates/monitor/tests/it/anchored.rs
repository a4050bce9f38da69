//! A gateway's ledger under `[anchor]`: nothing is taken that its server's ledger does not vouch for, whoever holds the
//! gateway's key, and each way to have it otherwise has its name.

use crate::support::{
    Answer, Log, STAMP, Site, at, code, config, fixed_key, issuance, key, unsealed,
};
use ledger::about::Theirs;
use ledger::body::{self, Body as _};
use ledger::label::{self, LabelKey, Owners};
use ledger::merkle::{Hash, leaf_hash};
use ledger::{
    Base64, Checkpoint, Cosigner, Decimal, Digest, ForeignCheckpoint, Frontier, LedgerKey,
    LedgerSigner, Note, Origin, ProofFile,
};
use monitor::{Failure, Monitor};
use std::sync::{Arc, Mutex};

const SERVER: &str = "example.org/root";

fn server(seed: u8) -> LedgerSigner {
    LedgerSigner::new(SERVER, fixed_key(seed)).unwrap()
}

/// An anchor of that log, by the head that `note` is.
fn anchor(log: &LedgerKey, note: &str) -> Vec<u8> {
    let head = Checkpoint::parse(&Note::parse(note).unwrap().text).unwrap();
    let anchor = body::Anchor {
        gateway: "spiffe://example.org/gateway/pg".to_owned(),
        origin: log.origin().as_str().to_owned(),
        ledger_key: Base64(log.public_key().spki_der().to_vec()),
        size: Decimal(head.size),
        root: Digest(head.root),
        checkpoint: note.to_owned(),
    };
    let record = anchor.record().actor(&anchor.gateway, "x509:01");
    let record = record.seal(&Origin::new(SERVER).unwrap(), 1, STAMP);
    record.unwrap().into_bytes()
}

/// As a server shows it, whose ledger has the record second of three.
fn proof(record: Vec<u8>, signer: &LedgerSigner) -> ProofFile {
    let leaves: [Hash; 3] = [leaf_hash(b"one"), leaf_hash(&record), leaf_hash(b"three")];
    let mut tree = Frontier::new();
    leaves.into_iter().for_each(|leaf| tree.push(leaf));
    let checkpoint = Checkpoint {
        origin: signer.key().origin().clone(),
        size: 3,
        root: tree.root(),
    };
    ProofFile {
        extra: Some(record),
        index: 1,
        hashes: vec![leaves[0], leaves[2]],
        checkpoint: signer.sign(&checkpoint).unwrap(),
    }
}

/// A gateway's ledger, whose server shows this as its anchor.
struct Served {
    site: Site,
    shown: Arc<Mutex<Option<String>>>,
}

impl Served {
    async fn new(log: Log) -> Self {
        let site = Site::new(log).await;
        let shown = Arc::new(Mutex::new(None));
        let served = Self { site, shown };
        served.answer();
        served
    }

    fn answer(&self) {
        let shown = Arc::clone(&self.shown);
        self.site.lie(Some(Box::new(move |path, truth| {
            if path == "anchor" {
                let shown = shown.lock().unwrap().clone();
                return Answer::Is(shown.map(String::into_bytes));
            }
            // Its server makes the labels.
            let path = path.parse::<label::LabelPath>();
            match (path, truth) {
                (Ok(path), Some(bytes)) => {
                    let log = key();
                    let origin = log.origin().as_str();
                    let sealed = label::seal_of(&server(9), origin, &path, unsealed(bytes));
                    Answer::Is(Some(sealed.unwrap()))
                }
                (_, truth) => Answer::Is(truth),
            }
        })));
    }

    fn show(&self, proof: &ProofFile) {
        *self.shown.lock().unwrap() = Some(proof.to_string());
    }

    /// What the log has now is anchored.
    fn anchored(&self) {
        let note = self.site.log().note();
        self.show(&proof(anchor(&key(), &note), &server(9)));
    }

    fn monitor(&self, folder: &tempfile::TempDir, more: &str, rest: &str) -> Monitor {
        let section = format!("[anchor]\nkey = \"{}\"\n{rest}", server(9).key());
        Monitor::open(config(folder.path(), &[self.site.url()], more, &section)).unwrap()
    }
}

#[tokio::test]
async fn nothing_is_taken_that_the_servers_ledger_does_not_anchor() {
    let served = Served::new(Log::new("a", 30)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut monitor = served.monitor(&folder, "", "");
    // None yet.
    assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-UNREACHABLE");
    served.anchored();
    let seen = monitor.round(at(0)).await.unwrap();
    assert_eq!((seen.size, seen.looked, seen.agree), (30, 30, 1));

    // The gateway's key has signed more, and nobody has anchored it.
    served.site.change(|log| log.grow("a", 40));
    assert_eq!(code(&monitor.round(at(1)).await), "MONITOR-UNANCHORED");
    served.anchored();
    assert_eq!(monitor.round(at(2)).await.unwrap().looked, 40);
    // What is served may be behind the anchor, not for ever.
    served.anchored();
    served.site.change(|log| log.grow("a", 50));
    let ahead = served.site.log().note();
    served.show(&proof(anchor(&key(), &ahead), &server(9)));
    served.site.show(Some(served.site.log().note_at(40)));
    assert_eq!(monitor.round(at(3)).await.unwrap().size, 40);
    assert_eq!(code(&monitor.round(at(1_000)).await), "MONITOR-BEHIND");
    served.site.show(None);
    assert_eq!(monitor.round(at(1_001)).await.unwrap().size, 50);
}

#[tokio::test]
async fn what_is_no_anchor_of_this_log_is_told_by_name() {
    let served = Served::new(Log::new("a", 30)).await;
    let note = served.site.log().note();
    let good = proof(anchor(&key(), &note), &server(9));
    let other_key = LedgerKey::new(key().origin().as_str(), fixed_key(7).public_key().clone());
    let other_log = LedgerKey::new(
        "example.org/gateway/other",
        fixed_key(1).public_key().clone(),
    );
    let mut unrecorded = good.clone();
    unrecorded.extra = None;
    let mut changed = good.clone();
    if let Some(record) = &mut changed.extra {
        let at = record.len() / 2;
        record[at] ^= 1;
    }
    let mut moved = good.clone();
    moved.index = 0;
    let other_note = Log::new("b", 30);
    let unsigned = note.replace("example.org/server", "example.org/sorver");
    for (what, shown, expected) in [
        (
            "another server's",
            proof(anchor(&key(), &note), &server(8)),
            "MONITOR-ANCHOR",
        ),
        ("without its record", unrecorded, "MONITOR-ANCHOR"),
        ("a changed record", changed, "MONITOR-ANCHOR"),
        ("another place", moved, "MONITOR-ANCHOR"),
        (
            "another record",
            proof(issuance(1, "payments/api", "m1"), &server(9)),
            "MONITOR-ANCHOR",
        ),
        (
            "another log's",
            proof(anchor(&other_log.unwrap(), &note), &server(9)),
            "MONITOR-ANCHOR",
        ),
        (
            "a head that nobody signed",
            proof(anchor(&key(), &unsigned), &server(9)),
            "MONITOR-ANCHOR",
        ),
        (
            "another key",
            proof(anchor(&other_key.unwrap(), &note), &server(9)),
            "MONITOR-ANCHOR-KEY",
        ),
        (
            "another history",
            proof(anchor(&key(), &other_note.note()), &server(9)),
            "MONITOR-FORK",
        ),
    ] {
        served.show(&shown);
        let folder = tempfile::tempdir().unwrap();
        let mut monitor = served.monitor(&folder, "", "");
        let round = monitor.round(at(0)).await;
        assert_eq!(code(&round), expected, "{what}");
        let misbehaved = matches!(round, Err(Failure::Misbehaved(..)));
        assert_eq!(misbehaved, expected == "MONITOR-FORK", "{what}");
    }
    served.show(&good);
    let folder = tempfile::tempdir().unwrap();
    served.monitor(&folder, "", "").round(at(0)).await.unwrap();
}

#[tokio::test]
async fn an_anchor_counts_under_the_quorum_of_its_servers_witnesses() {
    let served = Served::new(Log::new("a", 30)).await;
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("witnesses.policy");
    let witness = Cosigner::new("witness.example/50", fixed_key(50)).unwrap();
    let text = format!("witness w {}\nquorum w\n", witness.key());
    std::fs::write(&policy, format!("log {}\n{text}", server(9).key())).unwrap();
    let mut shown = proof(anchor(&key(), &served.site.log().note()), &server(9));
    served.show(&shown);
    let rest = format!("policy = \"{}\"\n", policy.display());
    let mut monitor = served.monitor(&folder, "", &rest);
    assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-QUORUM");

    let mut note = Note::parse(&shown.checkpoint).unwrap();
    let checkpoint = ForeignCheckpoint::parse(&note.text).unwrap();
    let line = witness.cosign(&checkpoint, 1_795_125_769).unwrap();
    note.merge(vec![line]).unwrap();
    shown.checkpoint = note.to_string();
    served.show(&shown);
    assert_eq!(monitor.round(at(1)).await.unwrap().looked, 30);
}

/// The gateway's own note is as good as ever, and so is the quorum: only its age tells.
#[tokio::test]
async fn an_old_anchor_under_an_old_witnessed_head_is_told() {
    let served = Served::new(Log::new("a", 30)).await;
    let folder = tempfile::tempdir().unwrap();
    let policy = folder.path().join("witnesses.policy");
    let [one, two] = [50, 51]
        .map(|seed| Cosigner::new(&format!("witness.example/{seed}"), fixed_key(seed)).unwrap());
    let text = format!(
        "witness a {}\nwitness b {}\ngroup g all a b\nquorum g\n",
        one.key(),
        two.key()
    );
    std::fs::write(&policy, text).unwrap();
    let anchored = proof(anchor(&key(), &served.site.log().note()), &server(9));
    let now = at(0).as_secs();
    let cosigned = |times: [u64; 2]| {
        let mut shown = anchored.clone();
        let mut note = Note::parse(&shown.checkpoint).unwrap();
        let checkpoint = ForeignCheckpoint::parse(&note.text).unwrap();
        let lines = [(&one, times[0]), (&two, times[1])];
        let lines = lines.map(|(witness, time)| witness.cosign(&checkpoint, time).unwrap());
        note.merge(lines.to_vec()).unwrap();
        shown.checkpoint = note.to_string();
        shown
    };
    let policy = format!("policy = \"{}\"\n", policy.display());
    let mut monitor = served.monitor(&folder, "", &format!("{policy}max_age_s = 3600\n"));
    for times in [[now - 3601, now - 4000], [now - 3601, now]] {
        served.show(&cosigned(times));
        assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-STALE");
    }
    // Young for a year, by a clock that was ahead.
    served.show(&cosigned([now + 400 * 86_400, now]));
    assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-QUORUM");
    served.show(&cosigned([now - 3600, now]));
    assert_eq!(monitor.round(at(0)).await.unwrap().looked, 30);
    // A freeze: everything is shown as it was.
    assert_eq!(code(&monitor.round(at(1)).await), "MONITOR-STALE");
    served.show(&cosigned([now, now + 1]));
    monitor.round(at(1)).await.unwrap();
}

/// Labels of a gateway's ledger are its server's word: the gateway's own key signs none.
#[tokio::test]
async fn an_owner_recognises_his_own_in_a_gateways_ledger_by_its_servers_labels() {
    let mut log = Log::new("a", 3);
    log.push(issuance(3, "payments/api", "m1"));
    log.grow("a", 20);
    let served = Served::new(log).await;
    let names = ["spiffe://example.org/payments/*".to_owned()];
    let theirs = Theirs::new(&names, &[], &[]).unwrap();
    let owners = || Owners::new(vec![(theirs.clone(), LabelKey::new([1; 32]))]).unwrap();
    served.site.label(Some(owners()));
    served.anchored();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("label.key");
    std::fs::write(&file, crypto::hex::encode(&[1; 32])).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, mode).unwrap();
    let labels = format!(
        "[labels]\nname = \"ours\"\nkey_file = \"{}\"\n",
        file.display()
    );
    let mut monitor = served.monitor(&folder, "entries = \"closed\"", &labels);
    monitor.round(at(0)).await.unwrap();
    let told = monitor.waiting().iter();
    let told: Vec<u64> = told
        .map(|alert| alert.record.as_ref().unwrap().index)
        .collect();
    assert_eq!(told, [3]);

    // Signed by the gateway's own key, as the labels of a server's ledger would be.
    let shown = Arc::clone(&served.shown);
    served.site.lie(Some(Box::new(move |path, truth| {
        let anchor = shown.lock().unwrap().clone();
        match path {
            "anchor" => Answer::Is(anchor.map(String::into_bytes)),
            _ => Answer::Is(truth),
        }
    })));
    let folder = tempfile::tempdir().unwrap();
    let mut monitor = served.monitor(&folder, "entries = \"closed\"", &labels);
    assert_eq!(code(&monitor.round(at(0)).await), "MONITOR-LABEL-SIGNATURE");
}
