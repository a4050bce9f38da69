//! What the tests share: a ledger, a store with a bucket, and what stands in it.

use crypto::{Algorithm, KeyPair};
use ledger::body::{Body as _, Stop};
use ledger::lineage::{self, Link};
use ledger::tile::check::{Fault, check};
use ledger::{Checkpoint, Draft, LedgerKey, LedgerSigner};
use ledger_store::{Ledger, Options};
use objects::{Event, Failure, Publisher, Settings, Style, Target};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::s3::{ID, S3, SECRET};

pub(crate) const ORIGIN: &str = "example.org/server";
pub(crate) const BUCKET: &str = "ledger";
pub(crate) const PREFIX: &str = "example.org/server";

/// The store, or why the test is skipped.
pub(crate) fn store() -> Option<S3> {
    match S3::start() {
        Ok(store) => {
            store.bucket(BUCKET, false).expect("a bucket");
            Some(store)
        }
        Err(why) => {
            testkit::skip("objects::versitygw", &why);
            None
        }
    }
}

/// What a client that is not ours (Tessera's `fsck`, by tests/peers/tlog) says of a bucket that everybody may read.
pub(crate) fn fsck(store: &S3, bucket: &str, key: &LedgerKey) -> String {
    let program = match testkit::go_peer("tlog") {
        Ok(program) => program,
        Err(why) => {
            testkit::skip("objects::versitygw", &why);
            return String::new();
        }
    };
    let output = std::process::Command::new(program)
        .arg("fsck")
        .arg(format!("{}/{bucket}/{PREFIX}/", store.endpoint()))
        .arg(key.to_string())
        .output()
        .expect("it runs");
    let said = if output.status.success() {
        output.stdout
    } else {
        output.stderr
    };
    String::from_utf8_lossy(&said).trim().to_owned()
}

/// A ledger in a folder of its own, and the events of its publishers.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) signer: LedgerSigner,
    pub(crate) ledger: Ledger,
    pub(crate) events: Arc<Mutex<Vec<Event>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = testkit::temp_dir().expect("a folder");
        let signer = signer(ORIGIN);
        let ledger = open(&folder.path().join("ledger"), &signer);
        Self {
            folder,
            signer,
            ledger,
            events: Arc::default(),
        }
    }

    /// The same ledger somewhere else, as it is now.
    pub(crate) fn copy(&self) -> Self {
        let folder = testkit::temp_dir().expect("a folder");
        let to = folder.path().join("ledger");
        copy(&self.folder.path().join("ledger"), &to);
        let ledger = open(&to, &self.signer);
        Self {
            folder,
            signer: self.signer.clone(),
            ledger,
            events: Arc::default(),
        }
    }

    /// Its next records are in segments of so many bytes, or of one commit.
    pub(crate) fn in_segments(self, bytes: u64) -> Self {
        self.ledger.close().expect("closed");
        let options = Options {
            segment_bytes: bytes,
            reserve_bytes: 0,
            ..Options::default()
        };
        let dir = self.folder.path().join("ledger");
        let ledger = Ledger::open_signed(&dir, self.signer.clone(), &options);
        Self {
            ledger: ledger.expect("a ledger"),
            ..self
        }
    }

    /// As after `trilith server new-log`.
    pub(crate) fn goes_on(self) -> Self {
        let head = self.ledger.reader().head().checkpoint.clone();
        self.ledger.close().expect("closed");
        let second = signer("example.org/server@2");
        let shared = (head.size, head.root);
        let link = Link::sign(&self.signer, &second, shared, "for a test").unwrap();
        let key = lineage::follow(self.signer.key(), std::slice::from_ref(&link)).unwrap();
        let signer = second.with_lineage(key).unwrap();
        let ledger = open(&self.folder.path().join("ledger"), &signer);
        let told = link.record().actor("test", "self").draft().unwrap();
        ledger.handle().append_many(vec![told]).wait().unwrap();
        Self {
            folder: self.folder,
            signer,
            ledger,
            events: self.events,
        }
    }

    pub(crate) fn append(&self, count: u64, text: &str) {
        let handle = self.ledger.handle();
        let drafts: Vec<Draft> = (0..count).map(|n| draft(&format!("{text} {n}"))).collect();
        for drafts in drafts.chunks(1_000) {
            handle
                .append_many(drafts.to_vec())
                .wait()
                .expect("appended");
        }
    }

    pub(crate) fn key(&self) -> LedgerKey {
        self.signer.key().clone()
    }

    pub(crate) fn head(&self) -> Target {
        let head = self.ledger.reader().head();
        Target {
            size: head.checkpoint.size,
            note: Arc::clone(&head.note),
        }
    }

    pub(crate) fn settings(&self, endpoint: &str) -> Settings {
        let credentials = self.folder.path().join("credentials");
        secret(&credentials, SECRET);
        Settings {
            endpoint: endpoint.to_owned(),
            bucket: BUCKET.to_owned(),
            prefix: PREFIX.to_owned(),
            region: "us-east-1".to_owned(),
            style: Style::Path,
            ca: None,
            credentials: Some(credentials),
            timeout: Duration::from_secs(10),
            entries: true,
        }
    }

    pub(crate) fn publisher(&self, settings: &Settings) -> Publisher {
        let events = Arc::clone(&self.events);
        let kept = self.folder.path().join("published");
        let reader = self.ledger.reader().clone();
        let tell = move |event| events.lock().unwrap().push(event);
        Publisher::open(settings, &kept, reader, self.key(), tell).expect("a publisher")
    }

    /// How often `wanted` was told of since the last time.
    pub(crate) fn told(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        let events = std::mem::take(&mut *self.events.lock().unwrap());
        events.iter().filter(|event| wanted(event)).count()
    }

    /// The whole bucket against this ledger's key: as a reader would who has nothing else.
    pub(crate) fn check(&self, objects: &BTreeMap<String, Vec<u8>>) -> Result<u64, Fault> {
        let note = String::from_utf8(objects["checkpoint"].clone()).unwrap();
        let checkpoint = Checkpoint::open(&note, &self.key()).expect("our checkpoint");
        check(&checkpoint, true, |path| {
            objects.get(&path.to_string()).cloned()
        })?;
        Ok(checkpoint.size)
    }
}

fn signer(origin: &str) -> LedgerSigner {
    let key = KeyPair::generate(Algorithm::Ed25519).unwrap();
    LedgerSigner::new(origin, Arc::new(key)).unwrap()
}

fn open(dir: &Path, signer: &LedgerSigner) -> Ledger {
    let options = Options {
        reserve_bytes: 0,
        ..Options::default()
    };
    Ledger::open_signed(dir, signer.clone(), &options).expect("a ledger")
}

fn draft(reason: &str) -> Draft {
    let reason = reason.to_owned();
    Stop { reason }
        .record()
        .actor("test", "self")
        .draft()
        .unwrap()
}

pub(crate) fn secret(path: &Path, secret: &str) {
    let text = format!("[default]\naws_access_key_id = {ID}\naws_secret_access_key = {secret}\n");
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The ledger's objects in the store, by their names below the prefix.
pub(crate) fn objects(store: &S3) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let root = root(store);
    collect(&root, &root, &mut found);
    found
}

pub(crate) fn root(store: &S3) -> PathBuf {
    store.folder(BUCKET).join(PREFIX)
}

fn collect(root: &Path, at: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(at).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap();
            found.insert(name.to_owned(), std::fs::read(&path).unwrap());
        }
    }
}

/// Runs a round on an executor of one thread: nothing may rely on more.
pub(crate) fn round(publisher: &mut Publisher, target: &Target) -> Result<u64, Failure> {
    runtime().block_on(publisher.round(target))
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

pub(crate) fn refused(round: &Result<u64, Failure>) -> &str {
    match round {
        Err(Failure::Refused(finding)) => &finding.code,
        other => panic!("not refused: {other:?}"),
    }
}
