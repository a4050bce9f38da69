//! What the node keeps on disk: its key, its SVID and the state that renewal hands from one to the next.
//!
//! One file, replaced whole: written beside, synced, renamed, and the directory synced, so that a crash
//! leaves the old or the new. Mode 0600 in a directory of mode 0700. Who can read it is this node until
//! the next renewal, when the server sees two of them and locks both.

use crate::sealed::{self, Envelope, Seal};
use attest_tpm::seal::ApprovalSet;
use facts::Finding;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

const FILE: &str = "node.json";
/// The key of a token join whose answer has not been stored.
const JOINING: &str = "join.json";
/// More than comes of the longest message: what is in it is base64, and sealed it is so twice.
const MAX_FILE: u64 = 16 << 20;

/// Bytes in base64.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&crypto::base64::encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        crypto::base64::decode(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

impl Drop for Blob {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// The content of `node.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeState {
    pub(crate) v: u32,
    pub(crate) trust_domain: String,
    /// The digest that first contact pinned.
    pub(crate) pin: String,
    /// SPKI of the server ledger's key, pinned with it.
    pub(crate) ledger_key: Blob,
    pub(crate) node_id: String,
    /// PKCS#8 of the key that the SVID certifies. On the disk of a machine with a TPM it is empty, unless the
    /// state is sealed.
    pub(crate) key: Blob,
    /// DER, leaf first.
    pub(crate) chain: Vec<Blob>,
    /// Opaque, signed by the server.
    pub(crate) join_state: Blob,
    pub(crate) generation: u64,
    pub(crate) bundle: StoredBundle,
    /// A renewal, or a new join by TPM, that was begun and whose answer has not been stored. Repeating it
    /// with the same id gives the same place; a renewal takes the same key as well.
    pub(crate) renewal: Option<Renewal>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StoredBundle {
    pub(crate) sequence: u64,
    pub(crate) x509_authorities: Vec<Blob>,
    pub(crate) jwks: Blob,
    pub(crate) crl: Vec<Blob>,
    pub(crate) refresh_hint_s: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renewal {
    pub(crate) id: Blob,
    /// PKCS#8, as that of the state.
    pub(crate) key: Blob,
}

/// The content of `join.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Joining {
    v: u32,
    /// SHA-256 of the token, in hexadecimal.
    token: String,
    /// PKCS#8.
    key: Blob,
}

impl StoredBundle {
    pub(crate) fn of(bundle: &proto::v1::Bundle) -> Self {
        let blobs = |list: &[Vec<u8>]| list.iter().cloned().map(Blob).collect();
        Self {
            sequence: bundle.sequence,
            x509_authorities: blobs(&bundle.x509_authorities),
            jwks: Blob(bundle.jwks.clone()),
            crl: blobs(&bundle.crl),
            refresh_hint_s: bundle.refresh_hint_s,
        }
    }

    pub(crate) fn message(&self, trust_domain: &str) -> proto::v1::Bundle {
        let bytes = |list: &[Blob]| list.iter().map(|blob| blob.0.clone()).collect();
        proto::v1::Bundle {
            trust_domain: trust_domain.to_owned(),
            sequence: self.sequence,
            x509_authorities: bytes(&self.x509_authorities),
            jwks: self.jwks.0.clone(),
            crl: bytes(&self.crl),
            refresh_hint_s: self.refresh_hint_s,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("{action} {path:?}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{path:?} is not a node state of this version")]
    Form {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("a key to join with")]
    Key(#[source] crypto::Error),
    #[error("to encrypt {path:?}")]
    Seal {
        path: PathBuf,
        #[source]
        source: crypto::Error,
    },
    #[error("{0}")]
    Refused(Finding),
}

/// What an earlier start has left.
#[derive(Debug)]
pub(crate) enum Kept {
    /// This machine has not joined yet.
    Nothing,
    Plain(Box<NodeState>),
    Sealed(Box<Envelope>),
}

/// What every version of `node.json` says.
#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// The data directory, locked for this process.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    _lock: File,
    /// Of a machine with a TPM, or an enclave: keys are kept sealed or not at all.
    vouched: bool,
    instance: [u8; 16],
    seal: Mutex<Held>,
}

/// What the state is encrypted by.
#[derive(Debug, Default)]
struct Held {
    by: Option<Seal>,
    /// Whether the file is behind that: a write that fails is made up for.
    unwritten: bool,
}

impl StateDir {
    /// Makes the directory if it is missing, and takes its lock.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |action, source| StateError::Io {
            action,
            path: path.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(|error| failed("make", error))?;
        let mode = fs::metadata(path)
            .map_err(|error| failed("look at", error))?
            .mode();
        if mode & 0o077 != 0 {
            return Err(StateError::Refused(
                Finding::new(
                    "AGENT-STATE-MODE",
                    "others can enter the agent's data directory",
                )
                .expected("mode 0700")
                .observed(format!("{:04o}", mode & 0o7777))
                .next(format!("chmod 700 {}", path.display())),
            ));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(|error| failed("open the lock in", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateError::Refused(
                    Finding::new("AGENT-STATE-LOCK", "another agent uses the data directory")
                        .observed(path.display().to_string())
                        .next("stop the other agent, or give this one a data_dir of its own"),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock", error)),
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            vouched: false,
            instance: crypto::random(),
            seal: Mutex::default(),
        })
    }

    /// As it is of a machine whose TPM, or of an enclave whose hardware, vouches for keys in memory.
    pub(crate) fn vouched(mut self, by_hardware: bool) -> Self {
        self.vouched = by_hardware;
        self
    }

    /// What tells this run of the agent from others; on no disk.
    pub(crate) const fn instance(&self) -> &[u8; 16] {
        &self.instance
    }

    pub(crate) fn load(&self) -> Result<Kept, StateError> {
        let Some(text) = self.read(FILE)? else {
            return Ok(Kept::Nothing);
        };
        let form = |source| StateError::Form {
            path: self.path.join(FILE),
            source,
        };
        let version: Version = serde_json::from_slice(&text).map_err(form)?;
        if version.v == sealed::VERSION {
            return serde_json::from_slice(&text)
                .map(|envelope| Kept::Sealed(Box::new(envelope)))
                .map_err(form);
        }
        serde_json::from_slice(&text)
            .map(|state| Kept::Plain(Box::new(state)))
            .map_err(form)
    }

    /// Durable when it returns: sealed, if there is a seal. Blocks.
    pub(crate) fn store(&self, state: &NodeState) -> Result<(), StateError> {
        let mut held = self.held();
        self.store_by(held.by.as_ref(), state)?;
        held.unwritten = false;
        Ok(())
    }

    fn store_by(&self, seal: Option<&Seal>, state: &NodeState) -> Result<(), StateError> {
        if let Some(seal) = seal {
            let envelope = seal.around(state).map_err(|source| StateError::Seal {
                path: self.path.join(FILE),
                source,
            })?;
            return self.write(FILE, &envelope);
        }
        if !self.vouched {
            return self.write(FILE, state);
        }
        // INVARIANT: a key that a TPM vouches for is on the disk only sealed.
        let mut state = state.clone();
        state.key = Blob::default();
        if let Some(renewal) = &mut state.renewal {
            renewal.key = Blob::default();
        }
        self.write(FILE, &state)
    }

    /// From the next [`StateDir::store`] on. Returns whether it was sealed before.
    pub(crate) fn sealed_by(&self, seal: Option<Seal>) -> bool {
        let mut held = self.held();
        let changes = seal.is_some() || held.by.is_some();
        held.unwritten |= changes;
        std::mem::replace(&mut held.by, seal).is_some()
    }

    /// Keeps the approvals with the next store, if they open what it is sealed by; whether they do.
    pub(crate) fn keep_approvals(&self, set: &ApprovalSet) -> bool {
        let mut held = self.held();
        let Some(seal) = held.by.as_mut().filter(|seal| seal.is_of(set)) else {
            return false;
        };
        let changed = seal.keep(set);
        held.unwritten |= changed;
        true
    }

    /// Whether a store is due: the file is sealed otherwise than it has to be.
    pub(crate) fn is_unwritten(&self) -> bool {
        self.held().unwritten
    }

    /// Gives a state that does not open another name, which it keeps when the next store replaces it; which.
    pub(crate) fn set_aside(&self) -> Result<PathBuf, StateError> {
        let path = self.path.join(FILE);
        let failed = |source| StateError::Io {
            action: "set aside",
            path: path.clone(),
            source,
        };
        let bytes = fs::read(&path).map_err(failed)?;
        let digest = crypto::hex::encode(&crypto::sha256(&bytes));
        let digest = digest.get(..16).unwrap_or_default();
        let aside = self.path.join(format!("node-{digest}.unopened"));
        match fs::hard_link(&path, &aside) {
            // A start before this one came as far.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(error));
            }
            Ok(()) | Err(_) => {}
        }
        self.sync_directory().map_err(failed)?;
        Ok(aside)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.seal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sync_directory(&self) -> io::Result<()> {
        File::open(&self.path).and_then(|directory| directory.sync_all())
    }

    /// PKCS#8 of the key to join with by this token. It is durable before it is used, and the same until
    /// the join's answer is stored: the server gives that answer again for the same token and key. Blocks.
    pub(crate) fn joining(
        &self,
        token_sha256: &[u8; 32],
        fresh: impl FnOnce() -> Result<Blob, crypto::Error>,
    ) -> Result<Blob, StateError> {
        let token = crypto::hex::encode(token_sha256);
        // One that cannot be read was never used.
        let begun = self.read(JOINING).ok().flatten();
        let begun: Option<Joining> = begun.and_then(|text| serde_json::from_slice(&text).ok());
        if let Some(begun) = begun
            && begun.token == token
        {
            return Ok(begun.key);
        }
        let key = fresh().map_err(StateError::Key)?;
        let joining = Joining {
            v: 1,
            token,
            key: key.clone(),
        };
        self.write(JOINING, &joining)?;
        Ok(key)
    }

    /// The join's answer is stored.
    pub(crate) fn joined(&self) {
        // What stays is the key of a token that is spent; the next join replaces it.
        drop(fs::remove_file(self.path.join(JOINING)));
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StateError> {
        let path = self.path.join(name);
        let failed = |source| StateError::Io {
            action: "read",
            path: path.clone(),
            source,
        };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mut text = Zeroizing::new(Vec::new());
        let limit = MAX_FILE.saturating_add(1);
        io::Read::read_to_end(&mut io::Read::take(file, limit), &mut text).map_err(failed)?;
        fits(&path, &text)?;
        Ok(Some(text))
    }

    fn write(&self, name: &str, content: &impl Serialize) -> Result<(), StateError> {
        let path = self.path.join(name);
        let beside = self.path.join(format!("{name}.new"));
        let failed = |action, source| StateError::Io {
            action,
            path: path.clone(),
            source,
        };
        let text = serde_json::to_vec(content)
            .map(Zeroizing::new)
            .map_err(|source| StateError::Form {
                path: path.clone(),
                source,
            })?;
        fits(&path, &text)?;
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&beside)
            .map_err(|error| failed("write", error))?;
        file.write_all(&text)
            .map_err(|error| failed("write", error))?;
        file.sync_all().map_err(|error| failed("sync", error))?;
        fs::rename(&beside, &path).map_err(|error| failed("replace", error))?;
        self.sync_directory()
            .map_err(|error| failed("sync the directory of", error))
    }
}

/// INVARIANT: nothing is written that would not be read: no start would get past it.
fn fits(path: &Path, text: &[u8]) -> Result<(), StateError> {
    if u64::try_from(text.len()).is_ok_and(|length| length <= MAX_FILE) {
        return Ok(());
    }
    Err(StateError::Refused(
        Finding::new("AGENT-STATE-SIZE", "the agent's state is too long to keep")
            .expected(format!("at most {MAX_FILE} bytes"))
            .observed(format!("{} or more, for {}", text.len(), path.display()))
            .next("look at the size of the server's trust bundle and its lists of revocations"),
    ))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    pub(crate) fn state() -> NodeState {
        NodeState {
            v: 1,
            trust_domain: "example.org".to_owned(),
            pin: "00".to_owned(),
            ledger_key: Blob(vec![1]),
            node_id: "spiffe://example.org/node/a".to_owned(),
            key: Blob(vec![2; 32]),
            chain: vec![Blob(vec![3])],
            join_state: Blob(vec![4]),
            generation: 5,
            bundle: StoredBundle::default(),
            renewal: None,
        }
    }

    fn plain(directory: &StateDir) -> NodeState {
        match directory.load().unwrap() {
            Kept::Plain(state) => *state,
            other => panic!("{other:?}"),
        }
    }

    /// Without a seal it would be there for whoever reads the disk.
    #[test]
    fn a_key_that_a_tpm_vouches_for_is_not_on_the_disk_in_the_clear() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("agent");
        let directory = StateDir::open(&path).unwrap().vouched(true);
        let mut with_keys = state();
        with_keys.renewal = Some(Renewal {
            id: Blob(vec![9; 16]),
            key: Blob(vec![8; 32]),
        });
        directory.store(&with_keys).unwrap();
        let kept = plain(&directory);
        assert!(kept.key.0.is_empty());
        let renewal = kept.renewal.unwrap();
        assert!(renewal.key.0.is_empty());
        assert_eq!(renewal.id.0, [9; 16]);
    }

    #[test]
    fn a_state_that_does_not_open_is_set_aside_and_not_deleted() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("agent");
        let directory = StateDir::open(&path).unwrap();
        directory.store(&state()).unwrap();
        let before = fs::read(path.join(FILE)).unwrap();
        let aside = directory.set_aside().unwrap();
        assert_eq!(fs::read(&aside).unwrap(), before);
        // It stays in its place until there is another, and a start that was killed here does the same.
        assert_eq!(plain(&directory), state());
        assert_eq!(directory.set_aside().unwrap(), aside);
        let mut other = state();
        other.generation = 6;
        directory.store(&other).unwrap();
        assert_eq!(plain(&directory), other);
        assert_eq!(fs::read(&aside).unwrap(), before);
    }

    #[test]
    fn what_was_stored_is_loaded_and_only_ours_to_read() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("agent");
        let directory = StateDir::open(&path).unwrap();
        assert!(matches!(directory.load().unwrap(), Kept::Nothing));
        directory.store(&state()).unwrap();
        assert_eq!(plain(&directory), state());
        let mode = fs::metadata(path.join(FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(
            StateDir::open(&path),
            Err(StateError::Refused(finding)) if finding.code == "AGENT-STATE-LOCK"
        ));
    }

    /// A file that was longer than what is read again ended every start.
    #[test]
    fn a_state_too_long_to_be_read_again_is_not_written() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("agent");
        let directory = StateDir::open(&path).unwrap();
        let mut long = state();
        // As long as a message may be.
        long.bundle.crl = vec![Blob(vec![1; link::MAX_MESSAGE])];
        directory.store(&long).unwrap();
        assert_eq!(plain(&directory), long);
        let before = fs::read(path.join(FILE)).unwrap();
        long.bundle.crl = vec![Blob(vec![1; 13 << 20])];
        assert!(matches!(
            directory.store(&long),
            Err(StateError::Refused(finding)) if finding.code == "AGENT-STATE-SIZE"
        ));
        assert_eq!(fs::read(path.join(FILE)).unwrap(), before);
    }

    #[test]
    fn the_key_of_a_join_is_the_same_until_its_answer_is_stored() {
        let parent = tempfile::tempdir().unwrap();
        let directory = StateDir::open(&parent.path().join("agent")).unwrap();
        let key = |byte| move || Ok(Blob(vec![byte]));
        assert_eq!(directory.joining(&[1; 32], key(1)).unwrap().0, [1]);
        assert_eq!(directory.joining(&[1; 32], key(2)).unwrap().0, [1]);
        assert_eq!(
            directory.joining(&[2; 32], key(3)).unwrap().0,
            [3],
            "another token"
        );
        directory.joined();
        assert_eq!(directory.joining(&[2; 32], key(4)).unwrap().0, [4]);
    }

    #[test]
    fn a_half_written_file_beside_does_no_harm() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("agent");
        let directory = StateDir::open(&path).unwrap();
        directory.store(&state()).unwrap();
        fs::write(path.join("node.json.new"), b"{\"v\":").unwrap();
        assert_eq!(plain(&directory), state());
        directory.store(&state()).unwrap();
        assert_eq!(plain(&directory), state());
    }

    #[test]
    fn an_open_directory_and_an_unknown_file_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("agent");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(
            StateDir::open(&path),
            Err(StateError::Refused(finding)) if finding.code == "AGENT-STATE-MODE"
        ));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(path.join(FILE), b"{}").unwrap();
        let directory = StateDir::open(&path).unwrap();
        assert!(matches!(directory.load(), Err(StateError::Form { .. })));
    }
}
