//! What this machine's kernel enforces (IPE): installs what the server sends, if the configuration lets it, and
//! reads what is active.
//!
//! The kernel takes no policy that no key of its keyrings signed, and none that is older than the one it has.
//! Everything here blocks and runs on blocking threads, one installation at a time.

mod files;
mod kept;
mod kernel;

use crate::config::AgentConfig;
use attest_code::{FsVerityDigest, SignedPolicy};
use device::verity;
use facts::Finding;
use kept::Kept;
use kernel::Kernel;
use proto::v1;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked whether the kernel enforces something else: a few small reads.
const LOOK: Duration = Duration::from_millis(500);
/// What the server may send.
const LARGEST_POLICY: usize = 1 << 20;
const MOST_FILES: usize = 16_384;
/// Findings that are reported, and letters of each text in them.
const MOST_FINDINGS: usize = 16;
const LONGEST_TEXT: usize = 512;

/// Paths, with the digests that their files may have.
pub(super) type Files = BTreeMap<PathBuf, BTreeSet<FsVerityDigest>>;

#[derive(Debug)]
pub(crate) struct Enforcer {
    installs: bool,
    kernel: Kernel,
    kept: Kept,
    agent_sha256: Vec<u8>,
    /// Held while something is installed.
    installing: Mutex<()>,
    /// What went wrong last.
    findings: Mutex<Vec<Finding>>,
}

/// What the server sent, read.
struct Wanted {
    policy: SignedPolicy,
    enforce: bool,
    files: Files,
}

impl Enforcer {
    /// `own` is the SHA-256 of the agent's executable.
    pub(crate) fn new(config: &AgentConfig, own: Option<[u8; 32]>) -> Arc<Self> {
        Arc::new(Self {
            installs: config.enforcement.install,
            kernel: Kernel::new(),
            kept: Kept::at(&config.data_dir),
            agent_sha256: own.map_or_else(Vec::new, |digest| digest.to_vec()),
            installing: Mutex::default(),
            findings: Mutex::default(),
        })
    }

    pub(crate) const fn installs(&self) -> bool {
        self.installs
    }

    /// What is enforced now. Blocks.
    pub(crate) fn report(&self) -> v1::Enforcement {
        let state = self.kernel.state();
        let active = state.active.unwrap_or_default();
        let findings = self.findings.lock();
        let findings = findings.unwrap_or_else(PoisonError::into_inner);
        let tree = verity::of_self()
            .and_then(|tree| FsVerityDigest::measured(tree.algorithm, &tree.digest));
        v1::Enforcement {
            supported: state.supported,
            enforce: state.enforce,
            policy: active.name,
            version: active.version,
            policy_sha256: active
                .sha256
                .map_or_else(Vec::new, |digest| digest.to_vec()),
            agent_sha256: self.agent_sha256.clone(),
            agent_fsverity: tree.map(|tree| tree.to_string()).unwrap_or_default(),
            findings: if findings.is_empty() {
                Vec::new()
            } else {
                serde_json::to_vec(&*findings).unwrap_or_default()
            },
        }
    }

    /// As [`Enforcer::report`], off the async threads.
    pub(crate) async fn reported(self: &Arc<Self>) -> v1::Enforcement {
        let this = Arc::clone(self);
        let reported = tokio::task::spawn_blocking(move || this.report()).await;
        reported.unwrap_or_default()
    }

    /// Tells `reports` what is enforced, whenever that changes. Ends when nobody listens.
    pub(crate) async fn look(self: Arc<Self>, reports: watch::Sender<v1::Enforcement>) {
        loop {
            tokio::time::sleep(LOOK).await;
            let report = self.reported().await;
            reports.send_if_modified(|last| {
                let other = *last != report;
                *last = report;
                other
            });
            if reports.is_closed() {
                return;
            }
        }
    }

    /// Installs what the server sent last, which outlives a boot while the kernel's policies do not. Blocks.
    pub(crate) fn resume(&self) {
        if !self.installs {
            return;
        }
        let _one = self.installing.lock();
        match self.kept.wanted() {
            Ok(Some(wanted)) => self.install(&wanted),
            Ok(None) => {}
            Err(finding) => self.found(vec![finding]),
        }
    }

    /// Keeps and installs what the server sent. Blocks.
    pub(crate) fn take(&self, sent: &v1::Enforce) {
        if !self.installs {
            return;
        }
        let _one = self.installing.lock();
        if let Err(finding) = self.kept.keep(sent) {
            return self.found(vec![finding]);
        }
        if sent.policy.is_empty() {
            return self.found(Vec::new());
        }
        match Wanted::read(sent) {
            Ok(wanted) => self.install(&wanted),
            Err(finding) => self.found(vec![finding]),
        }
    }

    fn install(&self, wanted: &Wanted) {
        let (ready, mut findings) = files::enable(&wanted.files);
        let name = wanted.policy.name();
        let able = findings.iter().all(|one| one.code != files::FAILED);
        // INVARIANT: nothing is enforced under which an approved program, or this agent, could not run.
        let installed = if wanted.enforce && !able {
            Ok(false)
        } else if wanted.enforce {
            self.runs_under(wanted).map(|()| true)
        } else {
            Ok(true)
        };
        let installed = installed.and_then(|may| {
            if may {
                let ours = self.kept.installed();
                self.kernel.install(&wanted.policy, wanted.enforce, &ours)?;
            }
            Ok(may)
        });
        match installed {
            Ok(true) => {
                let version = wanted.policy.version();
                let enforce = wanted.enforce;
                tracing::info!(policy = name, %version, enforce, files = ready, "installed");
            }
            Ok(false) => {}
            Err(finding) => findings.push(finding),
        }
        self.found(findings);
    }

    /// That this agent can be started again.
    fn runs_under(&self, wanted: &Wanted) -> Result<(), Finding> {
        let own = verity::of_self();
        let own = own.and_then(|tree| FsVerityDigest::measured(tree.algorithm, &tree.digest));
        let execution = wanted.policy.execution();
        let listed = execution.as_ref().is_none_or(|execution| {
            execution.boot_verified || own.is_some_and(|own| execution.digests.contains(&own))
        });
        if listed {
            return Ok(());
        }
        Err(Finding::new(
            "IPE-AGENT",
            "under the policy this node agent could not start again: it is not installed",
        )
        .expected("the agent's fs-verity digest in the policy, or `boot_verified=TRUE`")
        .observed(own.map_or_else(|| "no Merkle tree".to_owned(), |own| own.to_string()))
        .next("import the agent's package with its fs-verity digest, and make the policy again"))
    }

    fn found(&self, findings: Vec<Finding>) {
        let cut = |text: String| text.chars().take(LONGEST_TEXT).collect::<String>();
        let findings: Vec<Finding> = findings
            .into_iter()
            .take(MOST_FINDINGS)
            .map(|mut finding| {
                finding.expected = finding.expected.map(cut);
                finding.observed = finding.observed.map(cut);
                finding
            })
            .collect();
        for finding in &findings {
            tracing::warn!(%finding, "enforcement");
        }
        let mut last = self.findings.lock().unwrap_or_else(PoisonError::into_inner);
        *last = findings;
    }
}

impl Wanted {
    fn read(sent: &v1::Enforce) -> Result<Self, Finding> {
        let malformed = |observed: String| {
            Finding::new(
                "IPE-SENT",
                "what the server sent to be enforced is not taken",
            )
            .expected("a policy of at most 1 MiB and at most 16,384 files")
            .observed(observed)
        };
        if sent.policy.len() > LARGEST_POLICY || sent.files.len() > MOST_FILES {
            let (bytes, files) = (sent.policy.len(), sent.files.len());
            return Err(malformed(format!("{bytes} bytes, {files} files")));
        }
        let policy = SignedPolicy::read(&sent.policy)?;
        let mut files = Files::new();
        for file in &sent.files {
            let path = PathBuf::from(&file.path);
            if !path.is_absolute() || file.path.contains('\0') {
                return Err(malformed("a path that is not absolute".to_owned()));
            }
            let digest = FsVerityDigest::parse(&file.digest)?;
            files.entry(path).or_default().insert(digest);
        }
        Ok(Self {
            policy,
            enforce: sent.enforce,
            files,
        })
    }
}
