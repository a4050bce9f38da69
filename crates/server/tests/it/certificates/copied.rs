//! Packs of a copy, without a server: what a pruned server refuses is answered by whoever keeps a copy, as the server
//! answered it before; and a copy that was changed gives nothing.

use super::kept::pack;
use super::{API, Session};
use crate::harness::{config, finding};
use crate::snapshots::prune;
use crate::surviving::copy;
use crypto::Custody as _;
use custody::FileCustody;
use ledger::body::{Admin, Body as _};
use ledger::pack::{Doubt, Question, Report, Trust};
use ledger::tile::{Kind, TilePath};
use ledger_store::{Folder, Ledger, Options};
use proto::v1::{EraseRequest, PackRequest, RevokeRequest};
use record_index::Error;
use record_index::packs::Copied;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const FILLED: u64 = 1_200;
const DETAIL: &str = "said by nobody, and kept in small segments";

/// Records that say nothing, in segments that are small enough to go.
fn fill(dir: &Path) {
    let signer = FileCustody::open(&dir.join("keys/ledger")).unwrap();
    let signer = signer.load("ledger").unwrap().unwrap();
    let options = Options {
        segment_bytes: 30_000,
        reserve_bytes: 0,
        ..Options::default()
    };
    let at = dir.join("data/ledger");
    let ledger = Ledger::open(&at, signer, "example.org/server", &options).unwrap();
    let act = Admin {
        principal: "uid:7".to_owned(),
        action: "status".to_owned(),
        resource: "server".to_owned(),
        allow: false,
        policies: Vec::new(),
        detail: DETAIL.to_owned(),
    };
    for _ in 0..FILLED.div_ceil(16) {
        let draft = || act.clone().record().actor("uid:7", "uid").draft().unwrap();
        let drafts = std::iter::repeat_with(draft).take(16).collect();
        ledger.append_many(drafts).wait().unwrap();
    }
    ledger.close().unwrap();
}

impl Session {
    fn path(&self, name: &str) -> PathBuf {
        self.fixture.dir.path().join(name)
    }

    /// A copy of all that the server has, which stands.
    fn archive(&self, name: &str) -> PathBuf {
        copy(&self.path("data"), &self.path(name));
        self.path(name)
    }

    /// Of a pack that is made of `folders`: whether it is complete, its contents, and its certificates.
    fn opened(&self, folders: &[PathBuf], question: &Value) -> (bool, usize, usize) {
        let pack = of_copy(folders, &self.trust, question).unwrap();
        let report = self.judged(&pack).unwrap();
        let (contents, certificates) = (report.blobs.len(), report.certificates.len());
        (report.is_complete(), contents, certificates)
    }

    /// The code by which the server refuses.
    async fn refused(&self, question: &Value) -> Option<String> {
        let request = PackRequest {
            question: question.to_string(),
            certificates: true,
        };
        let asked = self.fixture.admin().await.pack(request).await;
        asked.err().map(|status| finding(&status).code.into_owned())
    }
}

fn of_copy(folders: &[PathBuf], trust: &Trust, question: &Value) -> Result<Vec<u8>, Error> {
    let question = Question::read(question.to_string().as_bytes()).unwrap();
    Copied::open(folders, trust)?.pack(question, true)
}

#[track_caller]
fn code(folders: &[PathBuf], trust: &Trust, question: &Value) -> String {
    let refused = of_copy(folders, trust, question).map(|pack| pack.len());
    let finding = refused.unwrap_err().finding();
    assert!(finding.next.is_some(), "{finding}");
    finding.code.into_owned()
}

/// The tiles of a ledger and its head, as they are served.
fn tiles(ledger: &Path, to: &Path) {
    let folder = Folder::open(ledger).unwrap();
    let reader = folder.reader();
    let size = reader.size();
    let levels = (0..).map(Kind::Hashes);
    let levels = levels.take_while(|kind| TilePath::at(*kind, 0, size).is_some());
    let kinds = levels.chain([Kind::Entries]);
    for path in kinds.flat_map(|kind| TilePath::all(kind, size)) {
        let at = to.join(path.to_string());
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        std::fs::write(at, reader.tile(&path).unwrap().unwrap()).unwrap();
    }
    std::fs::write(to.join("checkpoint"), reader.head().note.as_bytes()).unwrap();
}

/// What a pack says, whatever the tree was in which it says so.
fn said(report: &Report) -> Value {
    let records = report.records.iter().map(|item| {
        json!([
            item.checkpoint,
            item.index,
            item.answers,
            item.record.body(),
            item.record.kind().as_str()
        ])
    });
    json!({
        "question": report.question.to_json(), "complete": report.is_complete(),
        "records": records.collect::<Vec<_>>(), "blobs": report.blobs.keys().collect::<Vec<_>>(),
        "certificates": report.certificates, "erased": report.erased.len(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_has_pruned_is_answered_from_a_copy_as_the_server_answered_it() {
    let mut session = Session::begun().await;
    session.fixture.stop().await;
    fill(session.fixture.dir.path());
    session.fixture.go_on().await;
    let issued = session.issued().await;
    let version = session.fixture.records(&["estate-version"]).await;
    let version = version[0].1["body"]["version"].as_str().unwrap().to_owned();
    let now = facts::Timestamp::now().as_millis();
    let serial = issued["serial"].as_str().unwrap();
    let verdict: u64 = issued["verdict"].as_str().unwrap().parse().unwrap();
    let questions = [
        json!({"kind": "record", "ledger": "pg", "index": 2}),
        json!({"kind": "record", "ledger": "server", "index": session.issuance}),
        json!({"kind": "range", "ledger": "server", "from": 1, "to": 9}),
        json!({"kind": "session", "ledger": "pg", "session": "s1"}),
        json!({"kind": "access", "identity": API}),
        json!({"kind": "issuance", "serial": serial}),
        json!({"kind": "lifetime", "identity": API}),
        json!({"kind": "verdict", "index": verdict}),
        json!({"kind": "estate", "version": version}),
        json!({"kind": "period", "from": now - 3_600_000, "to": now}),
    ];
    let mut answered = Vec::new();
    for question in &questions {
        let report = session
            .judged(&pack(&session.fixture, question).await)
            .unwrap();
        assert!(report.is_complete(), "{question}: {:?}", report.doubts);
        answered.push(said(&report));
    }
    session.fixture.stop().await;
    let archive = session.archive("archive");
    let plan = prune(&config(session.fixture.dir.path()), Some(&archive), true).unwrap();
    assert!(plan.minimum > 16, "{plan:?}");
    session.fixture.go_on().await;
    // The server has them no more, and says so.
    for gone in [&questions[2], &questions[9]] {
        let refused = session.refused(gone).await;
        assert_eq!(refused.as_deref(), Some("LEDGER-PRUNED"), "{gone}");
    }
    let named = vec![archive.clone()];
    // The copy alone, and beside the pruned folder, whose server runs.
    let both = vec![session.path("data"), archive.clone()];
    // Beside the pruned folder, the tiles that a mirror has.
    tiles(&archive.join("ledger"), &session.path("tiles"));
    let mirrored = vec![session.path("data"), session.path("tiles")];
    for folders in [&named, &both, &mirrored] {
        for (question, answered) in questions.iter().zip(&answered) {
            let pack = of_copy(folders, &session.trust, question).unwrap();
            let report = session.judged(&pack).unwrap();
            assert_eq!(&said(&report), answered, "{question}");
        }
    }
    // The same copy gives the same bytes, and nothing was written there.
    let once = of_copy(&named, &session.trust, &questions[4]).unwrap();
    assert_eq!(
        of_copy(&named, &session.trust, &questions[4]).unwrap(),
        once
    );
    for folder in ["ledger", "."] {
        assert!(!archive.join(folder).join("index.sqlite").exists());
    }
    let pruned = vec![session.path("data")];
    assert_eq!(
        code(&pruned, &session.trust, &questions[0]),
        "RECORDS-PRUNED"
    );
    // What it says to do is about the server's records, and not about what gateways have pruned.
    let refused = of_copy(&pruned, &session.trust, &questions[0]).map(|pack| pack.len());
    let next = refused.unwrap_err().finding().next.unwrap_or_default();
    assert!(
        next.contains("SERVER,COPY") && !next.contains("gateway"),
        "{next}"
    );
    // The folder of the ledger alone has no blobs, no certificates and no gateways.
    copy(&archive.join("ledger"), &session.path("alone"));
    let alone = vec![session.path("alone")];
    let lifetime = of_copy(&alone, &session.trust, &questions[6]).unwrap();
    let report = session.judged(&lifetime).unwrap();
    assert!(report.blobs.is_empty() && report.certificates.is_empty());
    // What lacks is said, and nothing else is missing.
    let lacks = |doubt: &Doubt| matches!(doubt, Doubt::NoBlob { .. });
    assert!(!report.is_complete(), "{:?}", report.doubts);
    assert!(report.doubts.iter().all(lacks), "{:?}", report.doubts);
    assert_eq!(code(&alone, &session.trust, &questions[4]), "LEDGER-MIRROR");
    // What nobody has recorded is told as the server tells it.
    for (unknown, expected) in [
        (json!({"kind": "issuance", "serial": "00ff"}), "PACK-SERIAL"),
        (
            json!({"kind": "lifetime", "identity": "nobody/here"}),
            "PACK-IDENTITY-UNKNOWN",
        ),
        (
            json!({"kind": "record", "ledger": "pg", "index": 99}),
            "PACK-RECORD",
        ),
        (
            json!({"kind": "record", "ledger": "pg-7", "index": 0}),
            "LEDGER-UNKNOWN",
        ),
        (
            json!({"kind": "session", "ledger": "pg", "session": "s9"}),
            "PACK-SESSION",
        ),
    ] {
        assert_eq!(
            code(&named, &session.trust, &unknown),
            expected,
            "{unknown}"
        );
    }
}

/// Changes the byte at the first place of `part` in a file below `dir`.
fn change(dir: &Path, part: &[u8]) {
    let (path, at) = super::kept::holding(dir, part).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

fn mirror(copy: &Path) -> PathBuf {
    let entries = std::fs::read_dir(copy.join("mirrors")).unwrap();
    let mut folders = entries.map(|entry| entry.unwrap().path());
    folders.find(|path| Folder::is_ledger(path)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_changed_is_refused_whatever_is_asked_of_it() {
    let mut session = Session::begun().await;
    session.fixture.stop().await;
    // Segments of before the last one, of which no start reads each byte.
    fill(session.fixture.dir.path());
    let trust = session.trust.clone();
    let access = json!({"kind": "access", "identity": API});
    let whole = session.archive("whole");
    of_copy(&[whole], &trust, &access).unwrap();

    // One byte of a record, which the answer may have nothing to do with.
    let byte = session.archive("byte");
    change(&byte.join("ledger/segments"), DETAIL.as_bytes());
    let refused = code(&[byte], &trust, &access);
    assert!(
        ["RECORDS-LEDGER-ROOT", "RECORDS-LEDGER"].contains(&refused.as_str()),
        "{refused}"
    );
    // One byte of a gateway's record, of which nothing is left then.
    let gateway = session.archive("gateway-byte");
    change(&mirror(&gateway).join("segments"), b"shop/public/cards");
    let refused = code(&[gateway], &trust, &access);
    let told = ["LEDGER-MIRROR", "LEDGER-MIRROR-OTHER", "PACK-COPY-SHORT"];
    assert!(told.contains(&refused.as_str()), "{refused}");
    // One byte of the last commit, which whoever opens the ledger for good would cut off.
    let last = session.archive("last-byte");
    let segments = std::fs::read_dir(last.join("ledger/segments")).unwrap();
    let newest = segments.map(|entry| entry.unwrap().path()).max().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let at = super::kept::places(&bytes, DETAIL.as_bytes())
        .pop()
        .unwrap();
    bytes[at] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    // The ledger's own note of its head is longer, and without that something stands behind the last whole commit.
    let named = std::slice::from_ref(&last);
    assert_eq!(code(named, &trust, &access), "RECORDS-LEDGER");
    std::fs::remove_file(last.join("ledger/checkpoint")).unwrap();
    assert_eq!(code(named, &trust, &access), "PACK-COPY-SHORT");
    // One byte of what a record names: it is as if it were not there.
    let content = session.archive("content");
    change(&content.join("blobs"), b"payments reads cards");
    let pack = of_copy(&[content], &trust, &access).unwrap();
    let doubts = session.judged(&pack).unwrap().doubts;
    let lacks = |doubt: &Doubt| matches!(doubt, Doubt::NoBlob { .. });
    assert!(!doubts.is_empty() && doubts.iter().all(lacks), "{doubts:?}");
    // A gateway's ledger was taken away.
    let dropped = session.archive("dropped");
    std::fs::remove_dir_all(mirror(&dropped)).unwrap();
    let named = std::slice::from_ref(&dropped);
    assert_eq!(code(named, &trust, &access), "LEDGER-MIRROR");
    // Another server's ledger, of the same name and as long.
    let mut other = Session::begun().await;
    other.fixture.stop().await;
    fill(other.fixture.dir.path());
    let foreign = other.archive("foreign");
    let named = std::slice::from_ref(&foreign);
    assert_eq!(code(named, &trust, &access), "PACK-COPY-FOREIGN");
    assert_eq!(code(&[foreign, dropped], &trust, &access), "RECORDS-TWO");
    // A gateway's folder says nothing by itself.
    let alone = session.path("gateway");
    assert_eq!(code(&[alone], &trust, &access), "RECORDS-NEEDS-SERVER");
}

/// Only the first folder was looked in, and what lies in the others was said to lack.
#[tokio::test(flavor = "multi_thread")]
async fn contents_are_those_of_each_folder_that_has_them() {
    let mut session = Session::begun().await;
    session.fixture.stop().await;
    let access = json!({"kind": "access", "identity": API});
    let (whole, empty) = (session.archive("whole"), session.archive("empty"));
    let changed = session.archive("changed");
    std::fs::remove_dir_all(empty.join("blobs")).unwrap();
    std::fs::create_dir(empty.join("blobs")).unwrap();
    change(&changed.join("blobs"), b"payments reads cards");
    let answered = |folders: &[&PathBuf]| {
        let folders: Vec<PathBuf> = folders.iter().map(|&one| one.clone()).collect();
        let pack = of_copy(&folders, &session.trust, &access).unwrap();
        session.judged(&pack).unwrap()
    };
    let expected = answered(&[&whole]);
    assert!(expected.is_complete() && !answered(&[&empty]).is_complete());
    for folders in [[&empty, &whole], [&changed, &whole], [&whole, &empty]] {
        assert_eq!(said(&answered(&folders)), said(&expected));
    }
}

/// An archive has what was erased since it was made. Whoever names the pruned folder beside it has the record of that.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_pruned_folder_says_to_be_erased_since_is_in_no_pack_of_an_older_copy() {
    let mut session = Session::begun().await;
    session.fixture.stop().await;
    let early = session.archive("early");
    fill(session.fixture.dir.path());
    let question = json!({"kind": "record", "ledger": "server", "index": session.issuance});
    let archive = session.archive("archive");
    let (complete, contents, certificates) =
        session.opened(std::slice::from_ref(&archive), &question);
    assert!(complete && contents > 0 && certificates == 1);
    session.fixture.go_on().await;
    let revoke = RevokeRequest {
        kind: "identity".to_owned(),
        value: "payments/api".to_owned(),
        reason: "left".to_owned(),
    };
    let mut admin = session.fixture.admin().await;
    admin.revoke(revoke).await.unwrap();
    let erase = EraseRequest {
        identity: "payments/api".to_owned(),
        reason: "case 1".to_owned(),
        act: true,
        ..EraseRequest::default()
    };
    admin.erase(erase).await.unwrap();
    drop(admin);
    session.fixture.stop().await;
    let plan = prune(&config(session.fixture.dir.path()), Some(&archive), true).unwrap();
    assert!(plan.minimum > session.issuance + 100, "{plan:?}");
    let folders = [archive.clone(), session.path("data")];
    // What it was issued on, and its certificate.
    let (_, left, shown) = session.opened(&folders, &question);
    assert_eq!((left, shown), (contents - 1, 0));
    let copy = Copied::open(&folders, &session.trust).unwrap();
    assert!(
        copy.notes()
            .iter()
            .any(|note| note.contains("erased since"))
    );
    // One that ends before what is gone cannot say what that erased.
    let folders = [early, session.path("data")];
    assert_eq!(code(&folders, &session.trust, &question), "PACK-COPY-OLD");
}

/// One mirror whose last commit is not whole had every pack refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_mirror_is_in_the_way_of_what_asks_for_it_alone() {
    let mut session = Session::begun().await;
    session.fixture.stop().await;
    let (access, own) = (
        json!({"kind": "access", "identity": API}),
        json!({"kind": "record", "ledger": "server", "index": session.issuance}),
    );
    let copy = session.archive("copy");
    let segments = std::fs::read_dir(mirror(&copy).join("segments")).unwrap();
    let newest = segments.map(|entry| entry.unwrap().path()).max().unwrap();
    let whole = std::fs::read(&newest).unwrap();
    let at = super::kept::places(&whole, b"\"intent\"").pop().unwrap();
    let named = std::slice::from_ref(&copy);
    let mut last = whole.clone();
    last[at] ^= 1;
    for bytes in [last, b"garbage".to_vec()] {
        std::fs::write(&newest, bytes).unwrap();
        of_copy(named, &session.trust, &own).unwrap();
        let opened = Copied::open(named, &session.trust).unwrap();
        assert_eq!(opened.notes().len(), 1, "{:?}", opened.notes());
        assert_eq!(code(named, &session.trust, &access), "LEDGER-MIRROR");
    }
    std::fs::write(&newest, whole).unwrap();
    of_copy(named, &session.trust, &access).unwrap();
}

/// Whoever read them waited for a writer that never came.
#[tokio::test(flavor = "multi_thread")]
async fn pipes_in_a_copy_are_read_by_nobody() {
    let mut session = Session::begun().await;
    session.fixture.stop().await;
    let copy = session.archive("copy");
    let mut contents = super::kept::files(&copy.join("blobs"));
    contents.extend(super::kept::files(&copy.join("certificates")));
    contents.push(copy.join("witnessed"));
    assert!(contents.len() > 2);
    for path in contents {
        if path.exists() {
            std::fs::remove_file(&path).unwrap();
        }
        let mode = rustix::fs::Mode::RUSR;
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
    }
    let own = json!({"kind": "record", "ledger": "server", "index": session.issuance});
    let pack = of_copy(&[copy], &session.trust, &own).unwrap();
    let report = session.judged(&pack).unwrap();
    assert!(report.blobs.is_empty() && report.certificates.is_empty());
}
