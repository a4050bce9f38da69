//! Who may ask what: identities by their SVID, processes of this machine by what they run.

use crate::config::{Config, ProcessConfig};
use crate::local::{Attest, Held};
use device::process::{Caller, Digests, Snapshot};
use facts::Finding;
use schemars::JsonSchema;
use serde::Deserialize;
use spiffe_core::SpiffeId;
use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// What somebody may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// Whether something is allowed.
    Evaluate,
    /// Whether something is allowed to the caller itself.
    EvaluateOwn,
    /// Who may, what may be touched, and how: what the estate says of everybody.
    Search,
    /// What records say that everybody did.
    Records,
    /// State facts of a subject; its answers rest on what it says.
    StateFacts,
}

impl Right {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Evaluate => "evaluate",
            Self::EvaluateOwn => "evaluate-own",
            Self::Search => "search",
            Self::Records => "records",
            Self::StateFacts => "state-facts",
        }
    }
}

impl Right {
    /// Whether a node agent serves what it is for.
    pub(crate) const fn is_local(self) -> bool {
        matches!(self, Self::Evaluate | Self::EvaluateOwn | Self::StateFacts)
    }
}

/// What one caller may, and who it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rights {
    may: BTreeSet<Right>,
    /// What it is shown to be, whatever it says.
    held: Vec<Held>,
}

impl Rights {
    pub(crate) fn has(&self, right: Right) -> bool {
        self.may.contains(&right)
    }

    /// The identity at `path`, if the caller is shown to have it.
    pub(crate) fn held(&self, path: &str) -> Option<&Held> {
        let mut held = self.held.iter();
        held.find(|held| held.spiffe_id.identity_path() == path)
    }

    /// To ask about somebody by AuthZEN; about whom is looked at when that is known.
    ///
    /// # Errors
    /// `PDP-CALLER-RIGHT`.
    pub(crate) fn need_some_evaluation(&self) -> Result<(), Finding> {
        if self.has(Right::EvaluateOwn) {
            return Ok(());
        }
        self.need(Right::Evaluate)
    }

    /// # Errors
    /// `PDP-CALLER-OWN`.
    pub(crate) fn need_about(&self, path: &str) -> Result<(), Finding> {
        // INVARIANT: about others asks whom the configuration lets.
        if self.has(Right::Evaluate) || self.held(path).is_some() {
            return Ok(());
        }
        let held: Vec<&str> = self
            .held
            .iter()
            .map(|held| held.spiffe_id.as_str())
            .collect();
        Err(Finding::new(
            "PDP-CALLER-OWN",
            "the caller may ask about itself, and about nobody else",
        )
        .expected(held.join(", "))
        .observed(crate::names::shown(path))
        .next("name its identity with may = [\"evaluate\"]"))
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
pub(crate) struct Callers {
    members: HashMap<SpiffeId, Rights>,
    processes: Vec<Process>,
    digests: Digests,
    /// In a node agent: who knows what local callers are.
    attest: Option<Arc<dyn Attest>>,
    /// Then: whoever holds an identity may ask about it.
    own: bool,
}

/// A process as `[[process]]` describes it.
#[derive(Debug)]
struct Process {
    uid: u32,
    unit: Option<String>,
    executable: Option<PathBuf>,
    sha256: Option<[u8; 32]>,
    may: BTreeSet<Right>,
}

impl Callers {
    /// # Errors
    /// `PDP-CONFIG`.
    pub(crate) fn new(config: &Config, attest: Option<Arc<dyn Attest>>) -> Result<Self, Finding> {
        let domain = config.trust_domain()?;
        let mut members: HashMap<SpiffeId, Rights> = HashMap::new();
        for caller in &config.callers {
            let id = caller.id(&domain)?;
            let rights = members.entry(id.clone()).or_default();
            rights.may.extend(&caller.may);
            // Over TCP it has shown its SVID to enter.
            let chain = Vec::new();
            rights.held = vec![Held {
                spiffe_id: id,
                chain,
            }];
        }
        let processes: Result<_, Finding> = config.processes.iter().map(Process::new).collect();
        Ok(Self {
            members,
            processes: processes?,
            digests: Digests::new(),
            attest,
            own: config.own,
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

    /// What the process at the other end is now, and what it may. `anonymous` holds no identity, and is not asked
    /// for one again.
    ///
    /// # Errors
    /// `PDP-CALLER`, `PDP-CALLER-UNSEEN`, and those of the agent.
    pub(crate) async fn look(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        anonymous: bool,
    ) -> Result<Local, Finding> {
        let (this, looked_at) = (Arc::clone(self), Arc::clone(caller));
        let seen = tokio::task::spawn_blocking(move || this.observe(&looked_at));
        let (observed, mut rights) = seen.await.map_err(|error| unseen(error.to_string()))??;
        let attested = match &self.attest {
            Some(agent) if !anonymous => Some(agent.attest(Arc::clone(caller)).await?),
            _ => None,
        };
        // INVARIANT: who a caller is, the agent says that attested it, and not the caller.
        for held in attested.iter().flat_map(|attested| &attested.held) {
            if let Some(member) = self.members.get(&held.spiffe_id) {
                rights.may.extend(&member.may);
            }
            if self.own {
                rights.may.insert(Right::EvaluateOwn);
            }
            rights.held.push(held.clone());
        }
        if rights.may.is_empty() {
            let next = match self.attest {
                None => "add a [[process]] to pdp.toml",
                Some(_) => "add a [[decisions.caller]] or a [[decisions.process]] to agent.toml",
            };
            return Err(stranger().observed(observed.auth()).next(next));
        }
        Ok(Local {
            observed,
            rights,
            kept: attested.map(|attested| attested.kept),
        })
    }

    /// Blocks on file I/O.
    fn observe(&self, caller: &Caller) -> Result<(Observed, Rights), Finding> {
        let snapshot = caller
            .observe(&self.digests)
            .map_err(|error| unseen(facts::with_causes(&error)))?;
        let observed = Observed::of(&snapshot);
        let mut rights = Rights::default();
        let fitting = self
            .processes
            .iter()
            .filter(|process| process.fits(&snapshot));
        for process in fitting {
            rights.may.extend(&process.may);
        }
        Ok((observed, rights))
    }
}

/// A local caller as it is now.
pub(crate) struct Local {
    pub(crate) observed: Observed,
    pub(crate) rights: Rights,
    /// For as long as it is kept, the agent keeps what the caller holds renewed.
    pub(crate) kept: Option<Arc<dyn Any + Send + Sync>>,
}

impl Local {
    /// As whom it asks: the first identity that it holds.
    pub(crate) fn identity(&self) -> Option<SpiffeId> {
        self.rights.held.first().map(|held| held.spiffe_id.clone())
    }
}

pub(crate) fn unseen(what: String) -> Finding {
    Finding::new("PDP-CALLER-UNSEEN", "the caller cannot be looked at").observed(what)
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
            may: config.may.iter().copied().collect(),
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
        /// By what the node agent knows of it.
        identity: Option<SpiffeId>,
        #[expect(dead_code, reason = "it is held, and not looked at")]
        kept: Option<Arc<dyn Any + Send + Sync>>,
    },
}

impl Who {
    pub(crate) fn actor(&self) -> String {
        match self {
            Self::Member { id, .. } => id.to_string(),
            Self::Local {
                identity: Some(id), ..
            } => id.to_string(),
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
        let (caller, before, identity) = match self {
            Self::Member { id, .. } => return callers.member(id),
            Self::Local {
                caller,
                observed,
                identity,
                ..
            } => (caller, observed, identity),
        };
        let now = callers.look(caller, identity.is_none()).await?;
        let same = now.observed == *before
            && identity
                .as_ref()
                .is_none_or(|id| now.rights.held(id.identity_path()).is_some());
        if !same {
            return Err(Finding::new(
                "PDP-CALLER-CHANGED",
                "the caller is not what it was when it connected",
            )
            .expected(before.auth())
            .observed(now.observed.auth())
            .next("connect again"));
        }
        Ok(now.rights)
    }
}
