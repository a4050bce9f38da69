//! One statement of a session: what it touches and what policy says of it, decided again whenever the
//! estate or the catalogue has changed.

mod decide;
mod errors;
mod operation;

use self::operation::{UNPARSED, fingerprint};
use crate::database::{Database, Snapshot};
use crate::sql::{self, Coverage, Environment, NamedEffect, Refusal, Resolved, Views};
use estate::{Action, ChainFacts, Prepared, ResourceRef};
use facts::{Finding, Timestamp};
use gateway::{Current, Following, Operation, Principal, Told};
use ledger::{Salt, body};
use std::sync::{Arc, Mutex, PoisonError};

/// In the place of a column's name: any of the table's.
const ANY: &str = "*";

/// Code of a finding: drivers prepare again at its SQLSTATE, as when the server says that what a plan
/// returns has changed.
pub(crate) const PREPARE_AGAIN: &str = "SQL-PREPARE-AGAIN";

/// What a statement was decided under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch {
    estate: u64,
    catalog: u64,
}

/// What policy says of one statement, and what its records hold.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) epoch: Epoch,
    pub(crate) allow: bool,
    /// The first access that is denied.
    pub(crate) denied: Option<(Action, ResourceRef)>,
    pub(crate) findings: Vec<Finding>,
    /// Recorded before it happens and before its result is released.
    pub(crate) strict: bool,
    /// Neither touches data nor makes writes last: not recorded.
    pub(crate) silent: bool,
    /// What the server says of its errors may quote columns that policy does not let the principal read.
    pub(crate) withholds: bool,
    pub(crate) operation: Operation,
}

/// Where in a text a statement stands: the text's statement `index`, or what it prepares.
#[derive(Debug, Clone)]
struct Origin {
    text: Arc<str>,
    index: usize,
    inner: bool,
    /// Types that the client gives its parameters, by OID; only those that are not the system's own.
    parameters: Arc<[u32]>,
}

#[derive(Debug)]
struct Judged {
    resolved: Arc<Resolved>,
    verdict: Arc<Verdict>,
}

impl Origin {
    /// What runs for the values of its parameters no text shows.
    fn with_parameters(&self, mut resolved: Resolved, snapshot: &Snapshot) -> Resolved {
        let mut parameters = self.parameters.iter();
        if parameters.any(|oid| snapshot.catalog.is_opaque_oid(*oid)) {
            resolved.coverage = Coverage::Opaque;
            resolved.writes();
        }
        resolved
    }
}

/// Shared between the names that lead to it and the runs in flight.
#[derive(Debug)]
pub(crate) struct Statement {
    origin: Origin,
    fingerprint: String,
    /// What it prepares or declares a cursor for.
    inner: Option<Arc<Self>>,
    judged: Mutex<Judged>,
}

/// Why a text is not read.
#[derive(Debug)]
pub(crate) enum Unread {
    /// PostgreSQL's grammar does not accept it.
    Syntax(String),
    /// The operation is what a record can say of it.
    Denied(Box<(Operation, Finding)>),
}

/// Everything that a session's decisions rest on.
pub(crate) struct Judge {
    pub(crate) following: Following,
    pub(crate) database: Arc<Database>,
    pub(crate) principal: Principal,
    /// On whose behalf it acts.
    ///
    /// INVARIANT: never changes, so that a verdict which a statement of the session keeps is its chain's.
    told: Option<Told>,
    pub(crate) search_path: Vec<String>,
    /// As whom the session is logged in.
    role: String,
    /// Of the session: stands before every name that is recorded by digest.
    salt: Salt,
    /// Facts of the principal, and of those who delegated to it, as the estate of this index takes them.
    prepared: Mutex<Option<(u64, Known)>>,
}

/// Facts by which a session is decided, as the estate of one index takes them.
#[derive(Clone)]
struct Known {
    own: Arc<Prepared>,
    /// Of one who acts for others: these, and what is known of them.
    chain: Arc<ChainFacts>,
}

impl Verdict {
    /// This verdict, of a statement that runs another by name, and `inner`, that of the other.
    pub(crate) fn with(self: Arc<Self>, inner: &Arc<Self>) -> Arc<Self> {
        if self.operation.actions.is_empty() {
            return Arc::clone(inner);
        }
        let mut operation = inner.operation.clone();
        for mine in &self.operation.actions {
            let same = operation
                .actions
                .iter_mut()
                .find(|theirs| theirs.action == mine.action);
            match same {
                Some(theirs) => {
                    theirs.resources.extend(mine.resources.iter().cloned());
                    theirs.resources.sort_unstable();
                    theirs.resources.dedup();
                    theirs.columns.extend(mine.columns.iter().cloned());
                    theirs.columns.sort_unstable();
                    theirs.columns.dedup();
                }
                None => operation.actions.push(mine.clone()),
            }
        }
        for policy in &self.operation.policies {
            if !operation.policies.contains(policy) {
                operation.policies.push(policy.clone());
            }
        }
        if operation.coverage == body::Coverage::Complete {
            operation.coverage = self.operation.coverage;
        }
        Arc::new(Self {
            epoch: inner.epoch,
            allow: self.allow && inner.allow,
            denied: None,
            findings: Vec::new(),
            strict: self.strict || inner.strict,
            silent: false,
            withholds: self.withholds || inner.withholds,
            operation,
        })
    }
}

impl Statement {
    pub(crate) fn resolved(&self) -> Arc<Resolved> {
        Arc::clone(&self.lock().resolved)
    }

    /// Bytes that it keeps, about.
    pub(crate) fn size(&self) -> usize {
        let inner = self.inner.as_ref().map_or(0, |inner| inner.size());
        self.origin.text.len() + size_of::<Self>() + size_of::<Verdict>() + inner
    }

    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    fn verdict_of(&self, epoch: Epoch) -> Option<Arc<Verdict>> {
        let judged = self.lock();
        (judged.verdict.epoch == epoch).then(|| Arc::clone(&judged.verdict))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Judged> {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Judge {
    pub(crate) fn new(
        following: Following,
        database: Arc<Database>,
        principal: Principal,
        told: Option<Told>,
        search_path: Vec<String>,
    ) -> Self {
        let role = database.roles.name(&following.declared_path(&principal));
        Self {
            role,
            following,
            database,
            principal,
            told,
            search_path,
            salt: Salt(crypto::random()),
            prepared: Mutex::new(None),
        }
    }

    /// Reads every statement of `text`. One that cannot be decided on is a refusal of all. What takes long is
    /// read by the pool: meanwhile this waits, and nobody else.
    ///
    /// # Errors
    /// [`Unread`].
    pub(crate) async fn read(
        self: &Arc<Self>,
        text: &str,
        parameters: &[u32],
    ) -> Result<Vec<Arc<Statement>>, Unread> {
        let parameters: Arc<[u32]> = parameters.into();
        if let Some(read) = self.read_quickly(text, &parameters) {
            return read;
        }
        let (judge, text) = (Arc::clone(self), text.to_owned());
        let reading = move || {
            let (current, snapshot) = judge.now().map_err(|stale| judge.denied("", stale))?;
            let views = snapshot.views(&current.estate);
            let environment = judge.environment(&current, &snapshot, &views);
            let resolved = sql::resolve(&text, environment, judge.database.limits);
            judge.statements(&text, &parameters, resolved, &current, &snapshot)
        };
        let pool = &self.database.pool;
        match pool.run(&self.principal.path, reading).await {
            Ok(read) => read,
            Err(finding) => Err(self.denied("", finding)),
        }
    }

    fn read_quickly(
        &self,
        text: &str,
        parameters: &Arc<[u32]>,
    ) -> Option<Result<Vec<Arc<Statement>>, Unread>> {
        let (current, snapshot) = match self.now() {
            Ok(now) => now,
            Err(stale) => return Some(Err(self.denied("", stale))),
        };
        let views = snapshot.views(&current.estate);
        let environment = self.environment(&current, &snapshot, &views);
        let resolved = sql::resolve_quickly(text, environment, self.database.limits)?;
        Some(self.statements(text, parameters, resolved, &current, &snapshot))
    }

    /// What decisions rest on now.
    fn now(&self) -> Result<(Arc<Current>, Arc<Snapshot>), Finding> {
        let now = Timestamp::now();
        let current = self.following.fresh(now)?;
        // INVARIANT 7: a delegation that has ended or was revoked decides nothing more, whatever cuts the session.
        if let Some(told) = &self.told {
            told.holds(&self.following, now)?;
        }
        Ok((current, self.database.snapshot()))
    }

    fn denied(&self, text: &str, finding: Finding) -> Unread {
        let operation = self.unresolved(Some(&fingerprint(text)));
        Unread::Denied(Box::new((operation, finding)))
    }

    fn statements(
        &self,
        text: &str,
        parameters: &Arc<[u32]>,
        resolved: Result<Vec<Resolved>, Refusal>,
        current: &Current,
        snapshot: &Snapshot,
    ) -> Result<Vec<Arc<Statement>>, Unread> {
        let resolved = match resolved {
            Ok(resolved) => resolved,
            Err(Refusal::Syntax(message)) => return Err(Unread::Syntax(message)),
            Err(Refusal::Oversized(finding)) => {
                let operation = self.unresolved(Some(UNPARSED));
                return Err(Unread::Denied(Box::new((operation, finding))));
            }
            Err(Refusal::Denied(finding)) => return Err(self.denied(text, finding)),
        };
        let whole: Arc<str> = text.into();
        let fingerprint = fingerprint(text);
        let statements = resolved.into_iter().enumerate().map(|(index, resolved)| {
            let origin = Origin {
                text: Arc::clone(&whole),
                index,
                inner: false,
                parameters: Arc::clone(parameters),
            };
            let resolved = origin.with_parameters(resolved, snapshot);
            let label = if index == 0 {
                fingerprint.clone()
            } else {
                format!("{fingerprint}.{index}")
            };
            self.statement(origin, label, Arc::new(resolved), current, snapshot)
        });
        Ok(statements.collect())
    }

    /// The statement that `statement` prepares or declares a cursor for.
    ///
    /// # Errors
    /// When it does neither.
    pub(crate) fn inner(&self, statement: &Statement) -> Result<Arc<Statement>, Finding> {
        statement
            .inner
            .clone()
            .ok_or_else(|| Finding::new("SQL-STATEMENT", "the statement prepares nothing"))
    }

    fn statement(
        &self,
        origin: Origin,
        fingerprint: String,
        resolved: Arc<Resolved>,
        current: &Current,
        snapshot: &Snapshot,
    ) -> Arc<Statement> {
        let inner = match &resolved.named {
            Some(NamedEffect::Prepare { inner, .. } | NamedEffect::Declare { inner, .. }) => {
                let origin = Origin {
                    inner: true,
                    ..origin.clone()
                };
                let inner = Arc::clone(inner);
                Some(self.statement(origin, fingerprint.clone(), inner, current, snapshot))
            }
            _ => None,
        };
        let verdict = Arc::new(self.decide(&fingerprint, &resolved, current, snapshot));
        Arc::new(Statement {
            origin,
            fingerprint,
            inner,
            judged: Mutex::new(Judged { resolved, verdict }),
        })
    }

    /// What policy says now. Costs a comparison while nothing has changed. Otherwise the statement is read
    /// again, by the pool if that takes long.
    ///
    /// # Errors
    /// When nothing may be decided, or the statement means something else that cannot be decided on.
    pub(crate) async fn verdict(
        self: &Arc<Self>,
        statement: &Arc<Statement>,
    ) -> Result<Arc<Verdict>, Finding> {
        let (current, snapshot) = self.now()?;
        let epoch = Epoch {
            estate: current.index,
            catalog: snapshot.generation,
        };
        if let Some(verdict) = statement.verdict_of(epoch) {
            return Ok(verdict);
        }
        let views = snapshot.views(&current.estate);
        let environment = self.environment(&current, &snapshot, &views);
        let limits = self.database.limits;
        if let Some(again) = sql::resolve_quickly(&statement.origin.text, environment, limits) {
            return self.judge_again(statement, again, &current, &snapshot);
        }
        let (judge, statement) = (Arc::clone(self), Arc::clone(statement));
        let judging = move || {
            let (current, snapshot) = judge.now()?;
            let views = snapshot.views(&current.estate);
            let environment = judge.environment(&current, &snapshot, &views);
            let again = sql::resolve(&statement.origin.text, environment, limits);
            judge.judge_again(&statement, again, &current, &snapshot)
        };
        let pool = &self.database.pool;
        pool.run(&self.principal.path, judging).await?
    }

    fn judge_again(
        &self,
        statement: &Statement,
        again: Result<Vec<Resolved>, Refusal>,
        current: &Current,
        snapshot: &Snapshot,
    ) -> Result<Arc<Verdict>, Finding> {
        let again = again.map_err(|refusal| match refusal {
            Refusal::Denied(finding) | Refusal::Oversized(finding) => finding,
            Refusal::Syntax(message) => Finding::new("SQL-SYNTAX", message),
        })?;
        let gone = || Finding::new("SQL-STATEMENT", "the statement cannot be read any more");
        let outer = again.into_iter().nth(statement.origin.index);
        let outer = outer.ok_or_else(gone)?;
        let outer = Arc::new(statement.origin.with_parameters(outer, snapshot));
        let resolved = match (&outer.named, statement.origin.inner) {
            (_, false) => outer,
            (
                Some(NamedEffect::Prepare { inner, .. } | NamedEffect::Declare { inner, .. }),
                true,
            ) => Arc::clone(inner),
            _ => return Err(gone()),
        };
        // The server may keep what the names led to when it prepared the statement, or look them up again.
        if !statement.resolved().means_the_same(&resolved) {
            return Err(Finding::new(
                "SQL-PREPARE-AGAIN",
                "a name in the prepared statement now leads to something else than when it was prepared",
            )
            .next("prepare the statement again"));
        }
        let verdict = Arc::new(self.decide(&statement.fingerprint, &resolved, current, snapshot));
        *statement.lock() = Judged {
            resolved,
            verdict: Arc::clone(&verdict),
        };
        Ok(verdict)
    }

    fn environment<'a>(
        &'a self,
        current: &'a Current,
        snapshot: &'a Snapshot,
        views: &'a Views,
    ) -> Environment<'a> {
        Environment {
            catalog: &snapshot.catalog,
            search_path: &self.search_path,
            declared: &current.estate,
            role: Some(&self.role),
            views,
        }
    }

    fn prepared(&self, current: &Current) -> Known {
        let mut held = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((index, known)) = held.as_ref()
            && *index == current.index
        {
            return known.clone();
        }
        let own = Arc::new(current.estate.prepare(&self.principal.facts));
        let session = ChainFacts::of(Arc::clone(&own));
        let chain = match &self.told {
            None => session,
            Some(told) => told.facts(current, session),
        };
        let known = Known {
            own,
            chain: Arc::new(chain),
        };
        *held = Some((current.index, known.clone()));
        known
    }

    /// The question about this access that whoever is denied may ask.
    pub(crate) fn question(&self, action: &str, resource: &str) -> String {
        let path = &self.principal.path;
        let Some(told) = &self.told else {
            return format!("trilith why {path} {action} '{resource}'");
        };
        let others = told.others().join(",");
        format!("trilith why {path} {action} '{resource}' --on-behalf-of {others}")
    }
}
