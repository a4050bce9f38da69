//! What the tests share: logs in memory, a witness over any disk, and a disk that tells what is done to it.

use crypto::{Algorithm, KeyPair, Signer};
use ledger::merkle::{self, Frontier, Hash, Node, NodeReader, consistency_proof};
use ledger::witness::{AddCheckpoint, origin_hash};
use ledger::{Cosigner, ForeignCheckpoint, HexDigest, LedgerKey, LogKey, Note, NoteSignature};
use ledger_store::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use witness::{Cosigned, Limits, Logs, Moment, Rate, Refused, StoreError, Witness};

pub(crate) const ORIGIN: &str = "log.example/a";
pub(crate) const TIME: u64 = 1_795_312_969;
pub(crate) const FOLDER: &str = "/state";

/// More than any test asks for; nothing is answered twice.
pub(crate) const LIMITS: Limits = Limits {
    client: Rate {
        per_second: 1000,
        burst: 1000,
    },
    log: Rate {
        per_second: 1000,
        burst: 1000,
    },
    repeat: Duration::ZERO,
};

/// The Ed25519 key whose seed is `seed` in every byte (RFC 8410, section 7).
pub(crate) fn fixed_key(seed: u8) -> Arc<dyn Signer> {
    let mut pkcs8 = crypto::hex::decode("302e020100300506032b657004220420").unwrap();
    pkcs8.extend_from_slice(&[seed; 32]);
    Arc::new(KeyPair::from_pkcs8(&pkcs8).unwrap())
}

pub(crate) fn cosigner() -> Cosigner {
    Cosigner::new("witness.example/1", fixed_key(90)).unwrap()
}

pub(crate) fn pq_cosigner() -> Cosigner {
    let key = KeyPair::generate(Algorithm::MlDsa44).unwrap();
    Cosigner::new("witness.example/1", Arc::new(key)).unwrap()
}

/// Every size of one log up to the one that it has.
pub(crate) struct Log {
    pub(crate) origin: String,
    signer: Arc<dyn Signer>,
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
    /// Of `size` records that say `what`; two logs of one origin and key fork where these differ.
    pub(crate) fn new(origin: &str, seed: u8, what: &str, size: u64) -> Self {
        let mut log = Self {
            origin: origin.to_owned(),
            signer: fixed_key(seed),
            frontier: Frontier::new(),
            nodes: BTreeMap::new(),
        };
        for n in 0..size {
            let leaf = merkle::leaf_hash(format!("{what} {n}").as_bytes());
            let nodes = &mut log.nodes;
            log.frontier.push_with(leaf, |node, hash| {
                nodes.insert(node, hash);
            });
        }
        log
    }

    pub(crate) fn rekey(&mut self, seed: u8) {
        self.signer = fixed_key(seed);
    }

    pub(crate) fn honest() -> Self {
        Self::new(ORIGIN, 1, "record", 70)
    }

    pub(crate) fn forked() -> Self {
        Self::new(ORIGIN, 1, "another", 70)
    }

    pub(crate) fn key(&self) -> LedgerKey {
        // A key's name has no space, an origin may.
        LedgerKey::new(
            &self.origin.replace(' ', "-"),
            self.signer.public_key().clone(),
        )
        .unwrap()
    }

    pub(crate) fn at(&self, size: u64) -> ForeignCheckpoint {
        let Ok(root) = merkle::root(size, self);
        ForeignCheckpoint {
            origin: self.origin.clone(),
            size,
            root,
            extensions: Vec::new(),
        }
    }

    pub(crate) fn sign(&self, checkpoint: &ForeignCheckpoint) -> Note {
        let (text, key) = (checkpoint.text(), self.key());
        let line = NoteSignature {
            name: key.origin().to_string(),
            id: key.id(),
            bytes: self.signer.sign(text.as_bytes()).unwrap(),
        };
        Note {
            text,
            signatures: vec![line],
        }
    }

    pub(crate) fn note(&self, size: u64) -> Note {
        self.sign(&self.at(size))
    }

    pub(crate) fn prove(&self, old: u64, new: u64) -> Vec<Hash> {
        let Ok(proof) = consistency_proof(old, new, self);
        proof.unwrap_or_default()
    }

    /// What this log sends.
    pub(crate) fn request(&self, old: u64, new: u64) -> String {
        let proof = self.prove(old, new);
        AddCheckpoint::new(old, proof, self.note(new))
            .unwrap()
            .to_string()
    }
}

pub(crate) fn logs(all: &[&Log]) -> Logs {
    let mut logs = Logs::new();
    for log in all {
        logs.add(&log.origin, LogKey::Note(log.key())).unwrap();
    }
    logs
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    folder: &Path,
    keys: bool,
    logs: &Logs,
) -> Result<Witness, StoreError> {
    Witness::open(disk, folder, keys)?.witness(vec![cosigner()], logs, LIMITS)
}

pub(crate) fn moment() -> Moment {
    Moment {
        unix: TIME,
        clock: Instant::now(),
    }
}

pub(crate) fn ask(witness: &Witness, request: &str) -> Result<Cosigned, Refused> {
    witness.add_checkpoint(request.as_bytes(), moment())
}

/// The status, and the size of a conflict.
pub(crate) fn status(witness: &Witness, request: &str) -> (u16, Option<u64>) {
    match ask(witness, request) {
        Ok(_) => (200, None),
        Err(refused) => match refused.answer() {
            ledger::witness::Answer::Conflict { size } => (409, Some(size)),
            answer => (answer.status(), None),
        },
    }
}

pub(crate) fn size(witness: &Witness) -> Option<u64> {
    witness
        .sizes()
        .find(|(origin, _)| *origin == ORIGIN)
        .unwrap()
        .1
}

pub(crate) fn hash() -> HexDigest {
    origin_hash(ORIGIN)
}

/// Told of an operation and the name that it changed.
pub(crate) type Done = Arc<dyn Fn(&'static str, &Path) + Send + Sync>;

/// A disk that calls `done` after each operation that changes it, with what it was and to which name.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) done: Done,
}

struct ToldFile {
    file: Box<dyn DiskFile>,
    path: std::path::PathBuf,
    done: Done,
}

impl ToldFile {
    fn after(&self, what: &'static str, outcome: io::Result<()>) -> io::Result<()> {
        (self.done)(what, &self.path);
        outcome
    }
}

impl DiskFile for ToldFile {
    fn length(&self) -> io::Result<u64> {
        self.file.length()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.after("write", self.file.write_at(bytes, offset))
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.after("truncate", self.file.truncate(length))
    }

    fn sync(&self) -> io::Result<()> {
        self.after("sync", self.file.sync())
    }
}

impl Disk for Told {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.disk.open(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(ToldFile {
            file: self.disk.create(path)?,
            path: path.to_owned(),
            done: Arc::clone(&self.done),
        }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let outcome = self.disk.rename(from, to);
        (self.done)("rename", to);
        outcome
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let outcome = self.disk.sync_dir(dir);
        (self.done)("sync_dir", dir);
        outcome
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
        self.disk.lock(path)
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        self.disk.reserve(path, bytes)
    }
}
