//! What the tests share: a log in memory that is served over HTTP as its test wishes, and a monitor of it.

use axum::Router;
use axum::body::Body;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use crypto::{KeyPair, Signer};
use facts::Timestamp;
use ledger::body::{Body as _, ErasedItem, Erasure, Issuance, Stop, SvidKind};
use ledger::label::{self, Epoch, LabelPath, Owners, Rows};
use ledger::merkle::{self, Frontier, Hash, Node, NodeReader};
use ledger::tile::{Kind, TilePath};
use ledger::{
    Checkpoint, Commitment, Decimal, Digest, HexDigest, LedgerKey, LedgerSigner, Origin, Salt,
    Stamp,
};
use monitor::{Config, Failure, Monitor, Seen};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

pub(crate) const ORIGIN: &str = "example.org/server";
/// A Thursday, 22:02 UTC.
pub(crate) const WALL: u64 = 1_795_125_769_123;

/// The Ed25519 key whose seed is `seed` in every byte (RFC 8410, section 7).
pub(crate) fn fixed_key(seed: u8) -> Arc<dyn Signer> {
    let mut pkcs8 = crypto::hex::decode("302e020100300506032b657004220420").unwrap();
    pkcs8.extend_from_slice(&[seed; 32]);
    Arc::new(KeyPair::from_pkcs8(&pkcs8).unwrap())
}

pub(crate) fn key() -> LedgerKey {
    LedgerKey::new(ORIGIN, fixed_key(1).public_key().clone()).unwrap()
}

/// An issuance for that identity on that node.
pub(crate) fn issuance(seq: u64, identity: &str, node: &str) -> Vec<u8> {
    let issuance = Issuance {
        kind: SvidKind::X509,
        spiffe_id: format!("spiffe://example.org/{identity}"),
        serial: format!("{seq:032x}"),
        tbs: Digest::of(b"tbs"),
        issuer: Digest::of(b"issuer"),
        key: Digest::of(b"key"),
        not_before: 1_795_312_909,
        not_after: 1_795_316_569,
        node: node.to_owned(),
        verdict: Decimal(12),
        evidence_time: 1_795_312_900_000,
        policies: vec!["payments-api".to_owned()],
        commit: Commitment::new(&Salt([7; 16]), "facts", b"{}"),
        facts: BTreeMap::new(),
        replaces: None,
        ar4si: None,
    };
    let node = format!("spiffe://example.org/trilith/node/{node}");
    let record = issuance.record().actor(&node, "x509:01");
    let record = record.seal(&Origin::new(ORIGIN).unwrap(), seq, STAMP);
    record.unwrap().into_bytes()
}

pub(crate) const STAMP: Stamp = Stamp {
    wall: WALL,
    mono: 1,
};

/// An erasure of contents of these records.
pub(crate) fn erasure(seq: u64, records: &[u64]) -> Vec<u8> {
    let erased = records.iter().map(|record| ErasedItem {
        kind: "opening".to_owned(),
        sha256: HexDigest::of(&record.to_be_bytes()),
        record: Decimal(*record),
    });
    let erasure = Erasure {
        reason: "case 7".to_owned(),
        by: "uid:0".to_owned(),
        erased: erased.collect(),
        subject: None,
        signatures: Vec::new(),
    };
    let record = erasure.record().actor("uid:0", "peercred");
    let record = record.seal(&Origin::new(ORIGIN).unwrap(), seq, STAMP);
    record.unwrap().into_bytes()
}

/// A record that is nobody's.
pub(crate) fn nobodys(seq: u64, text: &str) -> Vec<u8> {
    let reason = text.to_owned();
    let record = Stop { reason }.record().actor("trilith", "self");
    let record = record.seal(&Origin::new(ORIGIN).unwrap(), seq, STAMP);
    record.unwrap().into_bytes()
}

/// Entries and their tree.
#[derive(Clone, Default)]
pub(crate) struct Log {
    pub(crate) entries: Vec<Vec<u8>>,
    frontier: Frontier,
    nodes: BTreeMap<Node, Hash>,
}

impl NodeReader for Log {
    type Error = Infallible;

    fn node(&self, node: Node) -> Result<Hash, Infallible> {
        Ok(self.nodes[&node])
    }
}

impl Log {
    pub(crate) fn new(what: &str, size: u64) -> Self {
        let mut log = Self::default();
        log.grow(what, size);
        log
    }

    pub(crate) fn push(&mut self, entry: Vec<u8>) {
        let nodes = &mut self.nodes;
        self.frontier
            .push_with(merkle::leaf_hash(&entry), |node, hash| {
                nodes.insert(node, hash);
            });
        self.entries.push(entry);
    }

    /// Records of nobody's up to `size`.
    pub(crate) fn grow(&mut self, what: &str, size: u64) {
        while self.size() < size {
            self.push(nobodys(self.size(), what));
        }
    }

    pub(crate) fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// The note of its first `size` entries.
    pub(crate) fn note_at(&self, size: u64) -> String {
        let checkpoint = Checkpoint {
            origin: Origin::new(ORIGIN).unwrap(),
            size,
            root: merkle::root(size, self).unwrap(),
        };
        LedgerSigner::new(ORIGIN, fixed_key(1))
            .unwrap()
            .sign(&checkpoint)
            .unwrap()
    }

    pub(crate) fn note(&self) -> String {
        self.note_at(self.size())
    }

    pub(crate) fn tile(&self, path: &TilePath) -> Option<Vec<u8>> {
        let first = path.index * 256;
        let widest = TilePath::at(path.kind, path.index, self.size())?;
        if widest.width() < path.width() {
            return None;
        }
        let all = first..first + u64::from(path.width());
        Some(match path.kind {
            Kind::Hashes(level) => {
                let nodes = all.map(|index| {
                    self.nodes[&Node {
                        level: level * 8,
                        index,
                    }]
                });
                nodes.collect::<Vec<_>>().as_flattened().to_vec()
            }
            Kind::Entries => {
                let mut bundle = Vec::new();
                for index in all {
                    let entry = &self.entries[usize::try_from(index).unwrap()];
                    bundle.extend_from_slice(&u16::try_from(entry.len()).unwrap().to_be_bytes());
                    bundle.extend_from_slice(entry);
                }
                bundle
            }
        })
    }
}

/// Signed as the log's.
pub(crate) fn seal(path: &LabelPath, rows: Rows) -> Vec<u8> {
    let signer = LedgerSigner::new(ORIGIN, fixed_key(1)).unwrap();
    label::seal(&signer, path, rows).unwrap()
}

/// The rows of a tile, and their epoch, without the signature.
pub(crate) fn unsealed(mut tile: Vec<u8>) -> Rows {
    tile.truncate(tile.len() - 64);
    let epoch = tile.split_off(tile.len() - 32);
    Rows {
        epoch: Epoch(epoch.try_into().unwrap()),
        bytes: tile,
    }
}

impl Log {
    /// As a server makes them.
    pub(crate) fn labels(&self, owners: &Owners, path: &LabelPath) -> Option<Vec<u8>> {
        let records = path.records();
        let place = |index: u64| usize::try_from(index).unwrap();
        let range = place(records.start)..place(records.end);
        let earlier = |index| self.entries.get(place(index)).cloned();
        let entries = self.entries.get(range)?;
        let rows = owners.rows(ORIGIN, records.start, entries, earlier);
        Some(seal(path, rows))
    }
}

/// What is answered to a path, in the place of the truth.
pub(crate) type Lie = Box<dyn Fn(&str, Option<Vec<u8>>) -> Answer + Send + Sync>;

pub(crate) enum Answer {
    Is(Option<Vec<u8>>),
    Status(u16),
    /// Bytes without an end.
    Endless,
    /// A byte now and then.
    Drip,
}

/// A log over HTTP.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    _server: tokio::task::JoinSet<()>,
}

struct Shared {
    log: Mutex<Log>,
    note: Mutex<Option<String>>,
    lie: Mutex<Option<Lie>>,
    asked: Mutex<Vec<String>>,
    owners: Mutex<Option<Owners>>,
}

impl Site {
    pub(crate) async fn new(log: Log) -> Self {
        let shared = Arc::new(Shared {
            log: Mutex::new(log),
            note: Mutex::new(None),
            lie: Mutex::new(None),
            asked: Mutex::new(Vec::new()),
            owners: Mutex::new(None),
        });
        let router = Router::new()
            .route("/{*path}", get(answer))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            shared,
            _server: server,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Log)) {
        change(&mut self.shared.log.lock().unwrap());
    }

    pub(crate) fn log(&self) -> Log {
        self.shared.log.lock().unwrap().clone()
    }

    /// Shows this checkpoint, whatever the log has.
    pub(crate) fn show(&self, note: Option<String>) {
        *self.shared.note.lock().unwrap() = note;
    }

    pub(crate) fn lie(&self, lie: Option<Lie>) {
        *self.shared.lie.lock().unwrap() = lie;
    }

    /// Whose labels it has.
    pub(crate) fn label(&self, owners: Option<Owners>) {
        *self.shared.owners.lock().unwrap() = owners;
    }

    /// What was asked for since the last time.
    pub(crate) fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.asked.lock().unwrap())
    }
}

async fn answer(State(shared): State<Arc<Shared>>, UrlPath(path): UrlPath<String>) -> Response {
    shared.asked.lock().unwrap().push(path.clone());
    let truth = {
        let log = shared.log.lock().unwrap();
        match path.parse::<TilePath>() {
            Ok(tile) => log.tile(&tile),
            Err(_) if path.starts_with("labels/") => {
                let owners = shared.owners.lock().unwrap();
                let owners = owners.as_ref();
                owners.and_then(|owners| log.labels(owners, &path.parse().unwrap()))
            }
            Err(_) if path.ends_with("checkpoint") => {
                let shown = shared.note.lock().unwrap().clone();
                Some(shown.unwrap_or_else(|| log.note()).into_bytes())
            }
            Err(_) => None,
        }
    };
    let said = match &*shared.lie.lock().unwrap() {
        Some(lie) => lie(&path, truth),
        None => Answer::Is(truth),
    };
    match said {
        Answer::Is(Some(bytes)) => bytes.into_response(),
        Answer::Is(None) => StatusCode::NOT_FOUND.into_response(),
        Answer::Status(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Answer::Endless => Body::new(Stream(false)).into_response(),
        Answer::Drip => Body::new(Stream(true)).into_response(),
    }
}

/// A body without an end, fast or slow.
struct Stream(bool);

impl hyper::body::Body for Stream {
    type Data = hyper::body::Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Self::Data>, Infallible>>> {
        if self.0 {
            // Never woken: the other side has to end it.
            let _silent = context;
            return std::task::Poll::Pending;
        }
        let bytes = hyper::body::Bytes::from_static(&[b'x'; 4096]);
        std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(bytes))))
    }
}

/// A configuration for the log at these addresses; `more` are keys of `[log]`, `rest` follows.
pub(crate) fn config(folder: &Path, urls: &[String], more: &str, rest: &str) -> Config {
    let urls = match urls {
        [] => String::new(),
        some => format!("urls = {some:?}\n"),
    };
    let text = format!(
        "[monitor]\nstate_dir = \"{}\"\ntimeout_s = 2\n[log]\nkey = \"{}\"\n{urls}{more}\n{rest}",
        folder.join("state").display(),
        key(),
    );
    Config::parse(&text).unwrap_or_else(|finding| panic!("{finding}\n{text}"))
}

/// Payments are watched; they may run on m1.
pub(crate) const WATCH: &str = "[[watch]]\nname = \"payments\"\nidentities = [\"spiffe://example.org/payments/*\"]\n\
    [[watch.allow]]\nrecords = [\"issuance\"]\nidentities = [\"spiffe://example.org/payments/*\"]\nmachines = [\"m1\"]\n";

pub(crate) fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(WALL).plus_secs(seconds)
}

pub(crate) fn code(round: &Result<Seen, Failure>) -> String {
    round.as_ref().unwrap_err().finding().code.to_string()
}

/// A monitor of that log, and where its state is.
pub(crate) async fn watching(site: &Site, more: &str, rest: &str) -> (tempfile::TempDir, Monitor) {
    let folder = tempfile::tempdir().unwrap();
    let mut monitor = Monitor::open(config(folder.path(), &[site.url()], more, rest)).unwrap();
    monitor
        .round(at(0))
        .await
        .unwrap_or_else(|failure| panic!("{failure}"));
    (folder, monitor)
}
