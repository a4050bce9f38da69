//! A start on a sealed state: by the approvals that are here, else by those that the server has. Nothing that
//! does not open is deleted.

use super::Envelope;
use crate::config::{AgentConfig, JoinConfig, SealConfig};
use crate::identity::IdentityError;
use crate::join::{self, JoinError};
use crate::node_state::{NodeState, StateDir};
use attest_tpm::PcrSelection;
use attest_tpm::seal::{ApprovalSet, Approver, LONGEST, Scope};
use crypto::SecretBytes;
use device::tpm::seal::UnsealError;
use device::tpm::{self, Tpm};
use facts::Finding;
use rustix::fs::{Mode, OFlags};
use spiffe_core::TrustDomain;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

/// Where a person puts approvals for a machine that reaches no server, below the data directory.
pub(crate) const FOLDER: &str = "approvals";
const MOST_FILES: usize = 16;
/// Names that are looked at there: of more, whichever come first.
const MOST_NAMES: usize = 256;

/// Why a state does not open.
enum Closed {
    /// By what the chip or the server said: it may be given up where that is configured.
    Said(Finding),
    /// Nobody has said that it will not open later.
    Unknown(IdentityError),
}

/// What a chip said to some approvals.
enum Tried {
    Opened(SecretBytes),
    /// This boot is not among them: its PCRs, and what was tried.
    Other(BTreeMap<u32, [u8; 32]>, Vec<ApprovalSet>),
}

/// The state that `envelope` holds; nothing if it does not open and the machine may join anew. Nothing is moved.
///
/// # Errors
/// `AGENT-SEALED` in a boot that nobody has approved, `AGENT-SEALED-CHIP`, `AGENT-SEALED-CHANGED`,
/// `AGENT-SEALED-METHOD`; of the chip.
pub(crate) async fn open(
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    directory: &StateDir,
    envelope: Envelope,
) -> Result<Option<NodeState>, IdentityError> {
    match opened(config, trust_domain, &envelope).await {
        Ok(key) => {
            let (state, seal) = envelope.opened(key).map_err(IdentityError::Refused)?;
            directory.sealed_by(Some(seal));
            Ok(Some(state))
        }
        Err(Closed::Said(finding)) if config.seal == SealConfig::Rejoin => {
            tracing::warn!(%finding, "the sealed state does not open; joining anew");
            Ok(None)
        }
        Err(Closed::Said(finding)) => Err(IdentityError::Refused(finding)),
        Err(Closed::Unknown(error)) => Err(error),
    }
}

async fn opened(
    config: &AgentConfig,
    trust_domain: &TrustDomain,
    envelope: &Envelope,
) -> Result<SecretBytes, Closed> {
    let JoinConfig::Tpm { tpm: address, .. } = &config.join else {
        return Err(Closed::Said(
            Finding::new(
                "AGENT-SEALED-METHOD",
                "the agent's state is sealed to a TPM",
            )
            .expected("join.method = \"tpm\"")
            .observed("another method")
            .next("name the TPM in agent.toml; to join anew, move node.json away"),
        ));
    };
    let (Some(scope), Some(approver)) = (envelope.scope(), envelope.approver()) else {
        return Err(Closed::Said(Finding::new(
            "AGENT-SEALED-CHANGED",
            "the sealed state does not say what it was sealed for",
        )));
    };
    let folder = config.data_dir.join(FOLDER);
    let chip = Chip {
        address: address.clone(),
        envelope: envelope.clone(),
        scope: scope.clone(),
        approver,
    };
    let approvals = envelope.approvals.clone();
    let first = move || ApprovalSet::parse(&approvals.0).into_iter().collect();
    let (mut booted, mut kept) = match chip.clone().tries(first).await? {
        Tried::Opened(key) => return Ok(key),
        Tried::Other(booted, kept) => (booted, kept),
    };
    let there = folder.clone();
    match chip.clone().tries(move || files(&there)).await? {
        Tried::Opened(key) => return Ok(key),
        Tried::Other(now, sets) => {
            booted.extend(now);
            kept.extend(sets);
        }
    }
    // Nothing secret is shown for approvals: they are public.
    let mut answered = true;
    let asked = match join::approvals(config, trust_domain, &scope.ring).await {
        Ok(bytes) => match read(bytes).await? {
            Ok(set) if envelope.takes(&set) => {
                match chip.tries(move || vec![set]).await? {
                    Tried::Opened(key) => return Ok(key),
                    Tried::Other(now, sets) => {
                        booted.extend(now);
                        kept.extend(sets);
                    }
                }
                "the server approves no such boot".to_owned()
            }
            Ok(set) => format!(
                "the server's approvals are of epoch {} by now, or by another key, and this was sealed under \
                 epoch {}",
                set.scope.epoch, scope.epoch
            ),
            Err(finding) => {
                answered = false;
                format!("the server's approvals cannot be read: {finding}")
            }
        },
        Err(error) => {
            answered = false;
            format!("the server was not reached: {}", facts::with_causes(&error))
        }
    };
    let finding = refusal(&kept, &booted, &asked, &folder);
    // INVARIANT: an outage costs no state.
    Err(match answered {
        true => Closed::Said(finding),
        false => Closed::Unknown(IdentityError::Refused(finding)),
    })
}

/// As [`ApprovalSet::parse`]: many signatures.
async fn read(bytes: Vec<u8>) -> Result<Result<ApprovalSet, Finding>, Closed> {
    join::blocking(move || ApprovalSet::parse(&bytes))
        .await
        .map_err(|error| Closed::Unknown(IdentityError::Join(error)))
}

/// In words: the approved boot that is nearest, and which PCR differs.
fn refusal(
    kept: &[ApprovalSet],
    booted: &BTreeMap<u32, [u8; 32]>,
    asked: &str,
    folder: &Path,
) -> Finding {
    let approvals = kept.iter().flat_map(ApprovalSet::approvals);
    let nearest = approvals
        .map(|approval| {
            let pcrs = approval.pcrs.iter();
            let other = pcrs.filter(|(index, value)| booted.get(index) != Some(*value));
            let other: Vec<(u32, [u8; 32])> = other.map(|(index, value)| (index, *value)).collect();
            (other, approval)
        })
        .min_by_key(|(other, _)| other.len());
    let finding = Finding::new(
        "AGENT-SEALED",
        "the agent's state is sealed, and the authority has not approved what this machine has booted",
    );
    let finding = match nearest {
        Some((other, approval)) => {
            let list = |values: Vec<(u32, String)>| {
                let each = values.into_iter();
                let each: Vec<String> = each
                    .map(|(pcr, value)| format!("PCR {pcr} {value}"))
                    .collect();
                each.join(", ")
            };
            let expected = other.iter().map(|(pcr, value)| (*pcr, hex(Some(value))));
            let observed = other.iter().map(|(pcr, _)| (*pcr, hex(booted.get(pcr))));
            let (expected, observed) = (list(expected.collect()), list(observed.collect()));
            finding
                .expected(format!("{expected}, as in the boot of {}", approval.label))
                .observed(format!("{observed}; {asked}"))
        }
        None => finding
            .expected("an approved boot")
            .observed(format!("no approval is here; {asked}")),
    };
    finding.next(format!(
        "boot what is approved; or approve this boot at the server (trilith refs import …, trilith estate \
         apply) and start the agent again; without a network, put what `trilith refs approvals RING --out \
         FILE` writes there into {}; to give the state up and join anew: seal = \"rejoin\" in agent.toml",
        folder.display()
    ))
}

fn hex(value: Option<&[u8; 32]>) -> String {
    value.map_or_else(|| "unread".to_owned(), |value| crypto::hex::encode(value))
}

/// What a person has put there. A file that is none is said so, and passed over. Blocks.
fn files(folder: &Path) -> Vec<ApprovalSet> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let entries = entries.take(MOST_NAMES).flatten();
    let paths: BTreeSet<_> = entries.map(|entry| entry.path()).collect();
    let paths = paths.into_iter().take(MOST_FILES);
    let read = |path: &Path| -> Result<ApprovalSet, Finding> {
        let unread = |error: std::io::Error| {
            Finding::new("SEAL-FILE", "a file of approvals cannot be read")
                .observed(error.to_string())
        };
        let mut bytes = Vec::new();
        let limit = u64::try_from(LONGEST).unwrap_or(u64::MAX).saturating_add(1);
        // A pipe that nobody writes to is opened, and is no file.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty());
        let file = std::fs::File::from(file.map_err(|error| unread(error.into()))?);
        if !file.metadata().map_err(unread)?.is_file() {
            return Err(unread(std::io::Error::other("it is no file")));
        }
        file.take(limit).read_to_end(&mut bytes).map_err(unread)?;
        ApprovalSet::parse(&bytes)
    };
    let mut sets = Vec::new();
    for path in paths {
        match read(&path) {
            Ok(set) => sets.push(set),
            Err(finding) => tracing::warn!(%finding, path = %path.display(), "not taken"),
        }
    }
    sets
}

#[derive(Clone)]
struct Chip {
    address: String,
    envelope: Envelope,
    scope: Scope,
    approver: Approver,
}

impl Chip {
    /// By those of `sets` that the state was sealed for. A chip takes its time, and so do files and signatures:
    /// never on an async thread.
    async fn tries(
        self,
        sets: impl FnOnce() -> Vec<ApprovalSet> + Send + 'static,
    ) -> Result<Tried, Closed> {
        let address = self.address.clone();
        let unknown = |error: JoinError| Closed::Unknown(IdentityError::Join(error));
        let tried = join::blocking(move || {
            let mut sets = sets();
            sets.retain(|set| self.envelope.takes(set));
            self.try_all(sets)
        });
        let tried = tried.await.map_err(unknown)?;
        match tried {
            Ok(tried) => Ok(tried),
            Err(UnsealError::Tpm(source)) => Err(unknown(JoinError::Tpm {
                address,
                source: Box::new(source),
            })),
            Err(error) => Err(Closed::Said(
                Finding::new("AGENT-SEALED-CHIP", "the TPM does not open the agent's state")
                    .expected("the chip, and its owner hierarchy, that it was sealed by")
                    .observed(facts::with_causes(&error))
                    .next(
                        "name the right TPM in join.tpm; a chip that was cleared has lost it: give the state \
                         up and join anew by seal = \"rejoin\" in agent.toml",
                    ),
            )),
        }
    }

    fn try_all(&self, sets: Vec<ApprovalSet>) -> Result<Tried, UnsealError> {
        if sets.is_empty() {
            return Ok(Tried::Other(BTreeMap::new(), sets));
        }
        let mut tpm = Tpm::open(&self.address)?;
        let booted = booted(&mut tpm, &sets)?;
        let value = |index| booted.get(&index).copied();
        for set in &sets {
            let Some(approval) = set.of(value) else {
                continue;
            };
            let sealed = self.envelope.sealed();
            match tpm.unseal(&sealed, &self.approver, &self.scope, approval) {
                Ok(key) => return Ok(Tried::Opened(key)),
                // Something was measured in between.
                Err(UnsealError::Boot(error)) => tracing::warn!(%error, "the boot has changed"),
                Err(error) => return Err(error),
            }
        }
        Ok(Tried::Other(booted, sets))
    }
}

/// The PCRs that `sets` speak of, as they are now.
pub(super) fn booted(
    tpm: &mut Tpm,
    sets: &[ApprovalSet],
) -> Result<BTreeMap<u32, [u8; 32]>, tpm::Error> {
    let approvals = sets.iter().flat_map(ApprovalSet::approvals);
    let indices: BTreeSet<u32> = approvals.flat_map(|one| one.pcrs.indices()).collect();
    let indices: Vec<u32> = indices.into_iter().collect();
    match PcrSelection::new(&indices) {
        Ok(selection) => Ok(tpm.pcr_values(&selection)?.into_iter().collect()),
        Err(_) => Ok(BTreeMap::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;
    use crate::sealed::Seal;
    use crate::sealed::tests::{set, state};
    use crate::shared::Shared;
    use crate::workloads::Workloads;
    use crypto::{Algorithm, KeyPair, aead};
    use device::tpm::seal::Sealed;

    /// A start on a sealed state, with nobody at the server's address: what it says, and whether all in the data
    /// directory is as it was.
    async fn start(join: &str) -> (IdentityError, bool) {
        let parent = tempfile::tempdir().unwrap();
        let data = parent.path().join("agent");
        let server = testkit::port::free().unwrap();
        let pin = "0".repeat(64);
        let text = format!(
            "trust_domain = \"example.org\"\nserver = \"{server}\"\npin = \"tl1:{pin}\"\n\
             data_dir = {data:?}\nseal = \"rejoin\"\n[join]\n{join}\n"
        );
        let config = AgentConfig::parse(&text, Path::new("agent.toml")).unwrap();
        drop(StateDir::open(&data).unwrap());
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let sealed = Sealed {
            private: vec![1],
            public: vec![2],
            parent: vec![3],
        };
        let secret = SecretBytes::new(vec![9; aead::KEY]);
        let envelope = Seal::new(secret, &set(1, &key), sealed).around(&state());
        let before = serde_json::to_vec(&envelope.unwrap()).unwrap();
        std::fs::write(data.join("node.json"), &before).unwrap();
        let trust_domain = TrustDomain::new("example.org").unwrap();
        let shared = Shared::new(Workloads::new(1));
        let error = Identity::establish(&config, &trust_domain, &shared).await;
        let error = error.map(drop).unwrap_err();
        let names = std::fs::read_dir(&data).unwrap().flatten();
        let mut names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        names.sort();
        let same = std::fs::read(data.join("node.json")).is_ok_and(|bytes| bytes == before);
        (error, same && names == ["lock", "node.json"])
    }

    /// It held up each start, the runtime with it.
    #[test]
    fn a_pipe_among_the_approvals_holds_up_no_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, path("a.json"), mode).unwrap();
        std::fs::create_dir(path("b.json")).unwrap();
        let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let good = set(1, &key);
        std::fs::write(path("c.json"), good.to_json()).unwrap();
        let (done, answer) = std::sync::mpsc::channel();
        let there = folder.path().to_owned();
        std::thread::spawn(move || done.send(files(&there)).unwrap());
        let read = answer.recv_timeout(std::time::Duration::from_secs(60));
        let read = read.expect("a pipe was waited for");
        let [read] = read.as_slice() else {
            panic!("{read:?}");
        };
        assert_eq!(read.to_json(), good.to_json());
    }

    /// Another boot, and the server is away: it may approve this boot, and was not heard.
    #[tokio::test]
    async fn an_outage_costs_no_sealed_state() {
        let Some(chip) = testkit::swtpm::Swtpm::for_test("agent.sealed") else {
            return;
        };
        let join = format!("method = \"tpm\"\ntpm = \"{}\"", chip.uri());
        let (error, kept) = start(&join).await;
        assert!(kept, "it was given up: {error}");
        let IdentityError::Refused(finding) = error else {
            panic!("{error}");
        };
        assert_eq!(finding.code, "AGENT-SEALED");
        assert!(finding.observed.unwrap().contains("was not reached"));
    }

    /// It would not open on this machine, and was given up for a join that came to nothing.
    #[tokio::test]
    async fn a_join_that_fails_costs_no_sealed_state() {
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            token.path(),
            "tlj1_0000000000000000000000000000000000000000000",
        )
        .unwrap();
        let join = format!("method = \"token\"\ntoken_file = {:?}", token.path());
        let (error, kept) = start(&join).await;
        assert!(
            matches!(error, IdentityError::Join(JoinError::Link(_))),
            "{error}"
        );
        assert!(kept, "it was given up");
    }
}
