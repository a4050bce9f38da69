//! A ledger that grows while it is exported.

use crypto::{Algorithm, KeyPair, Signer};
use export::{Cursor, Error, Exported, Format, Options, Patience, Secrets, Sink};
use ledger::body::{Anchor, Begin, Body as _};
use ledger::{Base64, RecordBuilder, Stamp};
use ledger_store::{Ledger, Options as LedgerOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

pub(crate) const ORIGIN: &str = "example.org/pg-1";
pub(crate) const START: u64 = 1_700_000_000_000;

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    origin: &'static str,
    signer: Arc<dyn Signer>,
    ledger: Option<Ledger>,
    clock: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::called(ORIGIN)
    }

    pub(crate) fn called(origin: &'static str) -> Self {
        let signer: Arc<dyn Signer> = Arc::new(KeyPair::generate(Algorithm::Ed25519).unwrap());
        let mut world = Self {
            folder: tempfile::tempdir().unwrap(),
            origin,
            signer,
            ledger: None,
            clock: START,
        };
        world.open();
        let begin = Begin {
            trust_domain: "example.org".to_owned(),
            ledger_key: Base64(world.signer.public_key().spki_der().to_vec()),
            format: "v1".to_owned(),
        };
        world.put(vec![begin.record().actor("test", "self")]);
        world
    }

    fn open(&mut self) {
        let options = LedgerOptions {
            reserve_bytes: 0,
            segment_bytes: 64 << 10,
            ..LedgerOptions::default()
        };
        let dir = self.folder.path().join("ledger");
        let ledger = Ledger::open(&dir, Arc::clone(&self.signer), self.origin, &options);
        self.ledger = Some(ledger.unwrap());
    }

    /// With `count` records, each of which is an outcome of an intent.
    pub(crate) fn with(count: u64) -> Self {
        let mut world = Self::new();
        world.grow(count);
        world
    }

    pub(crate) fn grow(&mut self, count: u64) {
        let records = (0..count).map(|number| {
            let body = ledger::body::Stop {
                reason: format!("number {number}: \u{202e}\"\\ äöü"),
            };
            body.record().actor("spiffe://example.org/shop/api", "self")
        });
        self.put(records.collect());
    }

    pub(crate) fn put(&mut self, records: Vec<RecordBuilder>) {
        let drafts = records.into_iter().map(|record| {
            self.clock += 1_000;
            let stamp = Stamp {
                wall: self.clock,
                mono: self.clock,
            };
            record.at(stamp).draft().unwrap()
        });
        let drafts = drafts.collect();
        let ledger = self.ledger.as_ref().unwrap();
        ledger.append_many(drafts).wait().unwrap();
    }

    pub(crate) fn size(&self) -> u64 {
        self.ledger.as_ref().unwrap().reader().size()
    }

    /// The server's word that so much of this ledger is mirrored.
    pub(crate) fn anchor(&self, size: u64) -> RecordBuilder {
        let reader = self.ledger.as_ref().unwrap().reader();
        let anchor = Anchor {
            gateway: "spiffe://example.org/infra/gateway/pg-1".to_owned(),
            origin: self.origin.to_owned(),
            ledger_key: Base64(self.signer.public_key().spki_der().to_vec()),
            size: size.into(),
            root: reader.root(size).unwrap().into(),
            checkpoint: reader.head().note.to_string(),
        };
        anchor.record().actor("test", "self")
    }

    pub(crate) fn close(&mut self) {
        self.ledger = None;
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The record's bytes as the ledger has them.
    pub(crate) fn bytes(&self, index: u64) -> Vec<u8> {
        let reader = self.ledger.as_ref().unwrap().reader();
        reader.read(index..index + 1).unwrap().remove(0)
    }

    pub(crate) fn options(&self, format: Format) -> Options {
        Options {
            folders: vec![self.path().to_owned()],
            ledgers: Vec::new(),
            format,
            follow: false,
            patience: Patience {
                first: Duration::from_millis(5),
                longest: Duration::from_millis(20),
                in_all: Duration::from_secs(120),
                look: Duration::from_millis(10),
            },
        }
    }

    pub(crate) async fn export(&self, to: &str, format: Format) -> Result<Exported, Error> {
        let cursor = Cursor::open(&self.beside("cursor"), format.as_str(), to)?;
        let sink = Sink::open(to, format, &Secrets::default())?;
        let stop = CancellationToken::new();
        export::run(&self.options(format), cursor, sink, &stop).await
    }
}

/// The records of a ledger's folder, as they lie there.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("segments")).unwrap();
    for entry in std::fs::read_dir(from.join("segments")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join("segments").join(path.file_name().unwrap())).unwrap();
    }
}

pub(crate) fn lines(text: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(text).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "whole lines");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The index that an event's id ends with.
pub(crate) fn index(event: &Value) -> u64 {
    let id = event["id"].as_str().or(event["metadata"]["uid"].as_str());
    let (origin, index) = id.unwrap().rsplit_once(':').unwrap();
    assert_eq!(origin, ORIGIN);
    index.parse().unwrap()
}
