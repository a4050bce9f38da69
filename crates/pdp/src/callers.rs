//! Who may ask what: identities by their SVID, processes of this machine by what they run.

use crate::config::{Config, ProcessConfig};
use device::process::{Caller, Digests, Snapshot};
use facts::Finding;
use schemars::JsonSchema;
use serde::Deserialize;
use spiffe_core::SpiffeId;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// What somebody may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Whether something is allowed.
    Evaluate,
    /// Who may, what may be touched, and how: what the estate says of everybody.
    Search,
    /// What records say that everybody did.
    Records,
    /// State facts of a subject; its answers rest on what it says.
    StateFacts,
}

impl Right {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Evaluate => "evaluate",
            Self::Search => "search",
            Self::Records => "records",
            Self::StateFacts => "state-facts",
        }
    }
}

/// What one caller may.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rights(BTreeSet<Right>);

impl Rights {
    pub(crate) fn has(&self, right: Right) -> bool {
        self.0.contains(&right)
    }

    /// # Errors
    /// `PDP-CALLER-RIGHT`.
    pub(crate) fn need(&self, right: Right) -> Result<(), Finding> {
        if self.has(right) {
            return Ok(());
        }
        Err(
            Finding::new("PDP-CALLER-RIGHT", "the caller may not ask this")
                .expected(right.as_str())
                .next("add it to the caller's `may` in pdp.toml"),
        )
    }
}

/// Everybody who is named in `pdp.toml`.
#[derive(Debug)]
pub(crate) struct Callers {
    members: HashMap<SpiffeId, Rights>,
    processes: Vec<Process>,
    digests: Digests,
}

/// A process as `[[process]]` describes it.
#[derive(Debug)]
struct Process {
    uid: u32,
    unit: Option<String>,
    executable: Option<PathBuf>,
    sha256: Option<[u8; 32]>,
    may: Rights,
}

impl Callers {
    /// # Errors
    /// `PDP-CONFIG`.
    pub(crate) fn new(config: &Config) -> Result<Self, Finding> {
        let domain = config.trust_domain()?;
        let mut members: HashMap<SpiffeId, Rights> = HashMap::new();
        for caller in &config.callers {
            let rights = members.entry(caller.id(&domain)?).or_default();
            rights.0.extend(&caller.may);
        }
        let processes: Result<_, Finding> = config.processes.iter().map(Process::new).collect();
        Ok(Self {
            members,
            processes: processes?,
            digests: Digests::new(),
        })
    }

    /// # Errors
    /// `PDP-CALLER`.
    pub(crate) fn member(&self, id: &SpiffeId) -> Result<Rights, Finding> {
        self.members.get(id).cloned().ok_or_else(|| {
            stranger()
                .observed(id.to_string())
                .next("add a [[caller]] to pdp.toml")
        })
    }

    /// What the process at the other end is now, and what it may. Blocks on file I/O.
    ///
    /// # Errors
    /// `PDP-CALLER`, `PDP-CALLER-UNSEEN`.
    pub(crate) fn observe(&self, caller: &Caller) -> Result<(Observed, Rights), Finding> {
        let snapshot = caller.observe(&self.digests).map_err(|error| {
            Finding::new("PDP-CALLER-UNSEEN", "the caller cannot be looked at")
                .observed(facts::with_causes(&error))
        })?;
        let observed = Observed::of(&snapshot);
        let mut rights = Rights::default();
        let fitting = self
            .processes
            .iter()
            .filter(|process| process.fits(&snapshot));
        for process in fitting {
            rights.0.extend(&process.may.0);
        }
        if rights.0.is_empty() {
            return Err(stranger()
                .observed(observed.auth())
                .next("add a [[process]] to pdp.toml"));
        }
        Ok((observed, rights))
    }
}

fn stranger() -> Finding {
    Finding::new("PDP-CALLER", "the caller is not among those who may ask")
}

impl Process {
    fn new(config: &ProcessConfig) -> Result<Self, Finding> {
        Ok(Self {
            uid: config.uid,
            unit: config.unit.clone(),
            executable: config.executable.clone(),
            sha256: config.digest()?,
            may: Rights(config.may.iter().copied().collect()),
        })
    }

    fn fits(&self, snapshot: &Snapshot) -> bool {
        let executable = &snapshot.executable;
        self.uid == snapshot.uid
            && (self.unit.is_none() || self.unit == snapshot.unit)
            && (self.executable.is_none() || self.executable == executable.path)
            && self
                .sha256
                .is_none_or(|digest| executable.digest.sha256() == Some(&digest))
    }
}

/// A process as records name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Observed {
    uid: u32,
    pid: i32,
    started: u64,
    /// Hex; nothing if the executable could not be read.
    sha256: Option<String>,
    raceable: bool,
}

impl Observed {
    fn of(snapshot: &Snapshot) -> Self {
        Self {
            uid: snapshot.uid,
            pid: snapshot.pid,
            started: snapshot.started,
            sha256: snapshot
                .executable
                .digest
                .sha256()
                .map(|digest| crypto::hex::encode(digest)),
            raceable: snapshot.identification == device::process::Identification::Raceable,
        }
    }

    pub(crate) fn actor(&self) -> String {
        format!("uid:{}", self.uid)
    }

    /// How it was told who asks.
    pub(crate) fn auth(&self) -> String {
        let how = if self.raceable { "peercred" } else { "pidfd" };
        let digest = self.sha256.as_deref().unwrap_or("unread");
        format!(
            "{how}:uid={},pid={},started={},sha256={digest}",
            self.uid, self.pid, self.started
        )
    }
}

/// Who is at the other end of a connection.
#[derive(Clone)]
pub(crate) enum Who {
    Member {
        id: SpiffeId,
        serial: String,
    },
    Local {
        caller: Arc<Caller>,
        observed: Observed,
    },
}

impl Who {
    pub(crate) fn actor(&self) -> String {
        match self {
            Self::Member { id, .. } => id.to_string(),
            Self::Local { observed, .. } => observed.actor(),
        }
    }

    pub(crate) fn auth(&self) -> String {
        match self {
            Self::Member { serial, .. } => format!("x509-svid:{serial}"),
            Self::Local { observed, .. } => observed.auth(),
        }
    }

    /// What it may now. A process that runs something else than when it connected has to connect again: its
    /// connection's records say what it was.
    ///
    /// # Errors
    /// `PDP-CALLER`, `PDP-CALLER-UNSEEN`, `PDP-CALLER-CHANGED`.
    pub(crate) async fn rights(&self, callers: &Arc<Callers>) -> Result<Rights, Finding> {
        let (caller, before) = match self {
            Self::Member { id, .. } => return callers.member(id),
            Self::Local { caller, observed } => (Arc::clone(caller), observed),
        };
        let callers = Arc::clone(callers);
        let seen = tokio::task::spawn_blocking(move || callers.observe(&caller));
        let (observed, rights) = seen.await.map_err(|error| {
            Finding::new("PDP-CALLER-UNSEEN", "the caller cannot be looked at")
                .observed(error.to_string())
        })??;
        if observed != *before {
            return Err(Finding::new(
                "PDP-CALLER-CHANGED",
                "the caller is not what it was when it connected",
            )
            .expected(before.auth())
            .observed(observed.auth())
            .next("connect again"));
        }
        Ok(rights)
    }
}
