//! From a caller to an attested subject: `device::process` looks, `attest-code` judges.
//!
//! Looking reads files that a caller chooses, so it happens on a few blocking threads with a time limit.

use crate::workloads::{FreshKey, Key, Subject};
use attest_code::{Observed, notes, workload_facts};
use crypto::Signer as _;
use device::process::{self, Caller, Digests, Identification, ObserveError, Snapshot};
use facts::{FactSet, Finding, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use workload_api::Refusal;
use zeroize::Zeroizing;

const AT_ONCE: usize = 4;
const PATIENCE: Duration = Duration::from_secs(10);
/// Names by which a build of Trilith of another version is known; the same build is known by its digest.
const HELPERS: [&str; 2] = ["trilith", "trilith-agent"];

/// A process that asks, and the program it asks for if it is a helper.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) caller: Arc<Caller>,
    pub(crate) program: Option<PathBuf>,
}

#[derive(Debug)]
pub(crate) struct Attestor {
    digests: Digests,
    own: Option<[u8; 32]>,
    permits: Semaphore,
}

impl Attestor {
    /// Blocks while the agent's own executable is hashed.
    pub(crate) fn new() -> Self {
        let digests = Digests::new();
        let own = digests
            .of_self()
            .inspect_err(
                |error| tracing::warn!(%error, "the agent's own executable cannot be read"),
            )
            .ok();
        Self {
            digests,
            own,
            permits: Semaphore::new(AT_ONCE),
        }
    }

    /// SHA-256 of the agent's own executable.
    pub(crate) const fn own(&self) -> Option<[u8; 32]> {
        self.own
    }

    /// Looks at `process` now, and makes `keys` fresh keys for it.
    pub(crate) async fn attest(
        self: &Arc<Self>,
        process: Arc<Process>,
        keys: usize,
    ) -> Result<(Subject<Arc<Process>>, Vec<FreshKey>), Refusal> {
        let looked = async {
            let _permit = self.permits.acquire().await;
            let this = Arc::clone(self);
            tokio::task::spawn_blocking(move || {
                let subject = this.look(&process, Timestamp::now())?;
                Ok((subject, fresh_keys(keys)?))
            })
            .await
            .map_err(|_| Refusal::unavailable("AGENT-ATTEST", "attestation was interrupted"))?
        };
        tokio::time::timeout(PATIENCE, looked).await.map_err(|_| {
            Refusal::unavailable(
                "AGENT-ATTEST",
                "the caller's executable cannot be read in time",
            )
        })?
    }

    fn look(
        &self,
        process: &Arc<Process>,
        now: Timestamp,
    ) -> Result<Subject<Arc<Process>>, Refusal> {
        let caller = &process.caller;
        let snapshot = caller.observe(&self.digests).map_err(refusal)?;
        let program = match &process.program {
            None => None,
            Some(path) => Some(
                caller
                    .program(path, &snapshot, &self.digests)
                    .map_err(refusal)?,
            ),
        };
        let observed = self.observed(&snapshot, program.as_ref());
        let facts = workload_facts(&observed, now);
        Ok(Subject {
            key: Key {
                pid: snapshot.pid,
                started: snapshot.started,
                program: process.program.clone(),
            },
            process: Arc::clone(process),
            uid: snapshot.uid,
            fingerprint: fingerprint(&facts),
            facts,
            notes: notes(&observed),
        })
    }

    fn observed(&self, snapshot: &Snapshot, program: Option<&process::Program>) -> Observed {
        let executable = &snapshot.executable;
        let digest = executable.digest.sha256();
        let named_so = executable
            .name
            .as_deref()
            .is_some_and(|name| HELPERS.contains(&name));
        Observed {
            uid: snapshot.uid,
            gid: snapshot.gid,
            groups: snapshot.groups.clone(),
            program: attest_code::Program {
                name: executable.name.clone(),
                path: executable.path.as_deref().and_then(text),
                digest: self::digest(&executable.digest),
                fsverity: executable.verity.as_ref().and_then(fsverity),
            },
            cgroup: snapshot.cgroup.clone(),
            unit: snapshot.unit.clone(),
            caller: match snapshot.identification {
                Identification::Pidfd => attest_code::Caller::Pidfd,
                Identification::Raceable => attest_code::Caller::Raceable,
            },
            is_helper: named_so || digest.is_some() && digest == self.own.as_ref(),
            on_behalf_of: program.map(|program| attest_code::Program {
                name: program.name.clone(),
                path: program.path.as_deref().and_then(text),
                digest: self::digest(&program.digest),
                fsverity: program.verity.as_ref().and_then(fsverity),
            }),
        }
    }
}

fn text(path: &Path) -> Option<String> {
    path.to_str().map(str::to_owned)
}

fn digest(digest: &process::Digest) -> attest_code::Digest {
    let absent = |why: &str| attest_code::Digest::Absent(why.to_owned());
    match digest {
        process::Digest::Sha256(digest) => attest_code::Digest::Sha256(*digest),
        process::Digest::TooLarge => absent("larger than 512 MiB"),
        process::Digest::MadeUp => absent("on a file system that another program makes up (FUSE)"),
        process::Digest::Unreadable(why) => absent(why),
    }
}

fn fsverity(measured: &process::Verity) -> Option<attest_code::FsVerityDigest> {
    attest_code::FsVerityDigest::measured(measured.algorithm, &measured.digest)
}

/// Over names and values; not over their age.
fn fingerprint(facts: &FactSet) -> [u8; 32] {
    let mut hasher = crypto::Sha256::new();
    for fact in facts.iter() {
        let value = fact.value.to_string();
        for part in [fact.name.as_bytes(), value.as_bytes()] {
            hasher.update(&(part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
    }
    hasher.finish()
}

fn refusal(error: ObserveError) -> Refusal {
    match error {
        ObserveError::Gone => {
            Refusal::Denied(vec![Finding::new("WORKLOAD-GONE", "the process has ended")])
        }
        ObserveError::Credentials {
            uid,
            gid,
            connected_uid,
            connected_gid,
        } => Refusal::Denied(vec![
            Finding::new(
                "WORKLOAD-CREDENTIALS",
                "the process has other credentials than when it connected",
            )
            .expected(format!("uid {connected_uid} gid {connected_gid}"))
            .observed(format!("uid {uid} gid {gid}"))
            .next("connect again"),
        ]),
        ObserveError::Program { path, reason } => Refusal::Invalid(
            Finding::new("HELPER-PROGRAM", "the program cannot be attested")
                .expected("an absolute path of a regular file that the caller may execute")
                .observed(format!("{}: {reason}", path.display())),
        ),
        error
        @ (ObserveError::Changing | ObserveError::Proc { .. } | ObserveError::Form { .. }) => {
            Refusal::Unavailable(
                Finding::new("AGENT-ATTEST", "the caller cannot be attested")
                    .observed(with_source(&error))
                    .next("run the agent as root"),
            )
        }
    }
}

fn with_source(error: &dyn std::error::Error) -> String {
    error
        .source()
        .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

fn fresh_keys(count: usize) -> Result<Vec<FreshKey>, Refusal> {
    (0..count)
        .map(|_| {
            let pair = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256)?;
            let public = pair.public_key();
            Ok(FreshKey {
                spki: public.spki_der().to_vec(),
                spki_sha256: public.spki_sha256(),
                pkcs8: Zeroizing::new(pair.to_pkcs8()?.to_vec()),
            })
        })
        .collect::<Result<_, crypto::Error>>()
        .map_err(|error| Refusal::unavailable("AGENT-KEYS", error.to_string()))
}
