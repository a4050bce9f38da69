//! A log as a folder of static files, the monitor that watches it, and what a command said of it.

use crypto::{KeyPair, Signer};
use ledger::merkle::{self, Frontier, Hash, Node, NodeReader};
use ledger::tile::{Kind, TilePath};
use ledger::{Checkpoint, LedgerKey, LedgerSigner, Origin};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// What a command said, and its exit code.
pub(super) struct Told(pub(super) String, pub(super) Option<i32>);

pub(super) const ORIGIN: &str = "example.org/server";

pub(super) fn signer() -> Arc<dyn Signer> {
    let mut pkcs8 = crypto::hex::decode("302e020100300506032b657004220420").expect("hex");
    pkcs8.extend_from_slice(&[9; 32]);
    Arc::new(KeyPair::from_pkcs8(&pkcs8).expect("a key"))
}

/// A record as the ledger has it, in text.
pub(super) fn record(seq: u64, what: &str) -> Vec<u8> {
    format!(
        "{{\"v\":1,\"type\":\"stop\",\"origin\":\"{ORIGIN}\",\"seq\":\"{seq}\",\"actor\":\"trilith\",\"auth\":\"self\",\
         \"time\":{{\"wall\":\"1795312969123\",\"mono\":\"1\"}},\"body\":{{\"reason\":\"{what}\"}}}}"
    )
    .into_bytes()
}

/// A machine is made to join again: what its owner did not expect.
pub(super) fn theirs(seq: u64) -> Vec<u8> {
    String::from_utf8(record(seq, "x"))
        .expect("text")
        .replace("\"stop\"", "\"revocation\"")
        .replace(
            "{\"reason\":\"x\"}",
            "{\"target\":{\"kind\":\"machine\",\"value\":\"web-1\"},\"reason\":\"x\",\"by\":\"uid:0\"}",
        )
        .into_bytes()
}

/// A log as a folder of static files.
pub(super) struct Log {
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) nodes: BTreeMap<Node, Hash>,
    pub(super) frontier: Frontier,
}

impl NodeReader for Log {
    type Error = Infallible;

    fn node(&self, node: Node) -> Result<Hash, Infallible> {
        Ok(self.nodes.get(&node).copied().unwrap_or_default())
    }
}

impl Log {
    pub(super) fn new(what: &str, size: u64) -> Self {
        let mut log = Self {
            entries: Vec::new(),
            nodes: BTreeMap::new(),
            frontier: Frontier::new(),
        };
        for seq in 0..size {
            log.push(record(seq, what));
        }
        log
    }

    pub(super) fn push(&mut self, entry: Vec<u8>) {
        let nodes = &mut self.nodes;
        self.frontier
            .push_with(merkle::leaf_hash(&entry), |node, hash| {
                nodes.insert(node, hash);
            });
        self.entries.push(entry);
    }

    pub(super) fn note(&self, size: u64) -> String {
        let Ok(root) = merkle::root(size, self);
        let origin = Origin::new(ORIGIN).expect("an origin");
        let signed = LedgerSigner::new(ORIGIN, signer()).expect("a signer");
        signed
            .sign(&Checkpoint { origin, size, root })
            .expect("signed")
    }

    pub(super) fn tile(&self, path: &TilePath) -> Vec<u8> {
        let first = path.index * 256;
        let mut bytes = Vec::new();
        for index in first..first + u64::from(path.width()) {
            match path.kind {
                Kind::Hashes(level) => {
                    let Ok(hash) = self.node(Node {
                        level: level * 8,
                        index,
                    });
                    bytes.extend_from_slice(&hash);
                }
                Kind::Entries => {
                    let entry = usize::try_from(index)
                        .ok()
                        .and_then(|at| self.entries.get(at));
                    let entry = entry.expect("an entry");
                    let length = u16::try_from(entry.len()).expect("a short one");
                    bytes.extend_from_slice(&length.to_be_bytes());
                    bytes.extend_from_slice(entry);
                }
            }
        }
        bytes
    }

    pub(super) fn write(&self, folder: &Path) {
        let kinds = (0..8).map(Kind::Hashes).chain([Kind::Entries]);
        for path in kinds.flat_map(|kind| TilePath::all(kind, self.frontier.size())) {
            put(&folder.join(path.to_string()), &self.tile(&path));
        }
        put(
            &folder.join("checkpoint"),
            self.note(self.frontier.size()).as_bytes(),
        );
    }
}

pub(super) fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    std::fs::write(path, bytes).expect("written");
}

/// A log that somebody watches, and the folder that it is served from.
pub(super) struct World {
    pub(super) folder: tempfile::TempDir,
}

impl World {
    /// Of 256 records that the monitor has seen, and 700 now.
    pub(super) fn watched() -> Self {
        let world = Self::new();
        Log::new("a", 256).write(&world.site());
        assert_eq!(world.monitor("").1, Some(0), "an honest log is followed");
        Log::new("a", 700).write(&world.site());
        world
    }

    pub(super) fn new() -> Self {
        let folder = testkit::temp_dir().expect("a folder");
        Self { folder }
    }

    pub(super) fn site(&self) -> PathBuf {
        self.folder.path().join("site")
    }

    /// The file at `path` of the site, changed.
    pub(super) fn change(&self, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.site().join(path);
        let mut bytes = std::fs::read(&path).expect("it is there");
        change(&mut bytes);
        std::fs::write(&path, bytes).expect("written");
    }

    /// One look, with these keys of `[log]` in the place of the folder, if any.
    pub(super) fn monitor(&self, more: &str) -> Told {
        let key = LedgerKey::new(ORIGIN, signer().public_key().clone()).expect("a key");
        let place = format!("folder = \"{}\"", self.site().display());
        let place = if more.contains("urls") {
            String::new()
        } else {
            place
        };
        let watch = match more.contains("closed") {
            true => "",
            false => "[[watch]]\nname = \"web\"\nmachines = [\"web-*\"]\n",
        };
        let text = format!(
            "[monitor]\nstate_dir = \"{}\"\npatience_s = 0\n[log]\nkey = \"{key}\"\n{place}\n{more}\n{watch}",
            self.folder.path().join("state").display()
        );
        let config = self.folder.path().join("monitor.toml");
        std::fs::write(&config, text).expect("written");
        run(&[
            "monitor",
            "--once",
            "--config",
            &config.display().to_string(),
        ])
    }
}

pub(super) fn run(arguments: &[&str]) -> Told {
    let output = Command::new(env!("CARGO_BIN_EXE_trilith"))
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let both = [output.stdout, output.stderr].concat();
    Told(
        String::from_utf8_lossy(&both).into_owned(),
        output.status.code(),
    )
}

/// Serves a folder as static files until the process ends.
pub(crate) fn serve(folder: PathBuf, place: &str) -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address: SocketAddr = listener.local_addr().expect("an address");
    let place = place.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut asked = Vec::new();
            let mut byte = [0];
            while !asked.ends_with(b"\r\n\r\n")
                && stream.read(&mut byte).is_ok_and(|read| read == 1)
            {
                asked.push(byte.first().copied().unwrap_or_default());
            }
            let head = String::from_utf8_lossy(&asked).into_owned();
            let path = head
                .split(' ')
                .nth(1)
                .unwrap_or_default()
                .trim_start_matches('/')
                .to_owned();
            let path = path
                .strip_prefix(&place)
                .unwrap_or(&path)
                .trim_start_matches('/')
                .to_owned();
            let answer = match std::fs::read(folder.join(&path)) {
                Ok(bytes) => {
                    let mut answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", bytes.len())
                            .into_bytes();
                    answer.extend(bytes);
                    answer
                }
                Err(_) => b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec(),
            };
            let _gone = stream.write_all(&answer);
        }
    });
    format!("http://{address}")
}
