//! What a name leads to when the server reads the message that uses it, and what policy says of a
//! statement together with what it runs by name.
//!
//! The server works in order. Within a segment, which ends with a Sync or a Query, it reads a message
//! only if everything before it has succeeded: so the last definition there is what a name leads to.
//! A definition in an earlier segment that is not answered yet may have failed, or been skipped:
//! whoever uses its name waits until the server has said.

use super::{Expect, Relay, Run};
use crate::sql::{Definition, Effect, NamedEffect, Resolved};
use crate::statement::{Statement, Verdict};
use facts::Finding;
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Statement,
    /// Portals and cursors are one.
    Portal,
}

/// What a name leads to.
pub(super) enum Lookup {
    Statement(Arc<Statement>),
    Nothing,
    /// Nobody knows before the server has answered.
    Wait,
}

/// What a message in flight does to a name.
enum Change {
    Defines(Arc<Statement>),
    Drops,
}

/// What policy says of one statement that is to run.
pub(super) enum Judgement {
    Allowed(Allowed),
    Denied(Arc<Verdict>),
    Refused(Finding),
    Wait,
}

/// Whether a name leads to what the catalogue says, considering what is defined but not known yet.
pub(super) enum Clash {
    None,
    /// Nobody knows before the server has answered.
    Wait,
    With(Finding),
}

/// What a statement does together with what it runs by name.
pub(super) struct Allowed {
    pub(super) verdict: Arc<Verdict>,
    pub(super) effect: Effect,
    /// Of what the server says at its end: EXECUTE answers as what it runs.
    pub(super) verb: &'static str,
}

impl Expect {
    /// What follows is read even if this failed.
    pub(super) const fn ends_segment(&self) -> bool {
        matches!(
            self,
            Self::Sync | Self::Query(_) | Self::Denied { query: true, .. }
        )
    }
}

impl Relay {
    /// `text` holds the runs before this one in the same Query.
    pub(super) async fn judge_run<'a>(
        &self,
        statement: &Arc<Statement>,
        text: impl DoubleEndedIterator<Item = &'a Run> + Clone,
    ) -> Judgement {
        let own = match self.judge.verdict(statement).await {
            Ok(own) if own.allow => own,
            Ok(own) => return Judgement::Denied(own),
            Err(finding) => return Judgement::Refused(finding),
        };
        let resolved = statement.resolved();
        match self.clash(&resolved, text.clone()) {
            Clash::None => {}
            Clash::Wait => return Judgement::Wait,
            Clash::With(finding) => return Judgement::Refused(finding),
        }
        let (name, kind) = match &resolved.named {
            Some(NamedEffect::Execute { name }) => (name, Kind::Statement),
            Some(NamedEffect::Fetch { name }) => (name, Kind::Portal),
            _ => {
                return Judgement::Allowed(Allowed {
                    verdict: own,
                    effect: resolved.effect,
                    verb: resolved.verb,
                });
            }
        };
        let inner = match self.lookup_after(text.clone(), name, kind) {
            Ok(Lookup::Statement(inner)) => inner,
            Ok(Lookup::Wait) => return Judgement::Wait,
            Ok(Lookup::Nothing) => {
                return Judgement::Refused(
                    Finding::new("SQL-NAME", "nothing that was decided on has this name")
                        .next("prepare the statement or declare the cursor in this session"),
                );
            }
            Err(finding) => return Judgement::Refused(finding),
        };
        match self.judge.verdict(&inner).await {
            Ok(verdict) if verdict.allow => {
                let led = inner.resolved();
                match self.clash(&led, text) {
                    Clash::None => {}
                    Clash::Wait => return Judgement::Wait,
                    Clash::With(finding) => return Judgement::Refused(finding),
                }
                // The protocol prepares what PREPARE does not, and EXECUTE runs it: then what becomes
                // of names and transactions would be hidden.
                if !led.is_query() {
                    return Judgement::Refused(
                        Finding::new("SQL-NAME", "EXECUTE and FETCH run queries only")
                            .observed(led.verb)
                            .next("run the statement by itself"),
                    );
                }
                Judgement::Allowed(Allowed {
                    verdict: own.with(&verdict),
                    effect: resolved.effect.max(led.effect),
                    verb: match kind {
                        Kind::Statement => led.verb,
                        Kind::Portal => resolved.verb,
                    },
                })
            }
            Ok(verdict) => Judgement::Denied(verdict),
            Err(finding) => Judgement::Refused(finding),
        }
    }

    /// PostgreSQL looks names up when it comes to a statement, after all that the session has defined
    /// before it; the catalogue knows of that once it is committed and read again.
    ///
    /// INVARIANT: a name that an unfinished transaction may have changed is not decided by the catalogue.
    pub(super) fn clash<'a>(
        &self,
        resolved: &Resolved,
        text: impl Iterator<Item = &'a Run>,
    ) -> Clash {
        let earlier: Vec<_> = text.map(|run| run.statement.resolved()).collect();
        let here: Vec<&Definition> = earlier
            .iter()
            .flat_map(|resolved| &resolved.definitions)
            .collect();
        let before: Vec<&Definition> = self.defined.iter().collect();
        let name = match (resolved.clash(&here), resolved.clash(&before)) {
            (None, None) => return Clash::None,
            // The transaction may be over once the server has answered.
            (None, Some(_)) if self.expected.iter().any(Expect::ends_segment) => {
                return Clash::Wait;
            }
            (Some(name), _) | (None, Some(name)) => name,
        };
        Clash::With(
            Finding::new(
                "SQL-DEFINED",
                "a name that was defined, changed or dropped before in the same transaction or message",
            )
            .expected("nothing that leads to what the transaction itself changes, but tables that it makes")
            .observed(if name.oid.is_some() {
                format!("{}.{}", name.schema, name.name)
            } else {
                "a name that the catalogue does not know".to_owned()
            })
            .next("commit what was defined first, and send what uses it afterwards"),
        )
    }

    fn lookup_after<'a>(
        &self,
        text: impl DoubleEndedIterator<Item = &'a Run>,
        name: &str,
        kind: Kind,
    ) -> Result<Lookup, Finding> {
        for run in text.rev() {
            if let Some(change) = self.change_by_run(run, name, kind)? {
                return Ok(change.into());
            }
        }
        self.lookup(name, kind)
    }

    pub(super) fn lookup(&self, name: &str, kind: Kind) -> Result<Lookup, Finding> {
        let mut same_segment = true;
        for expect in self.expected.iter().rev() {
            same_segment &= !expect.ends_segment();
            if let Some(change) = self.change(expect, name, kind)? {
                return Ok(if same_segment {
                    change.into()
                } else {
                    Lookup::Wait
                });
            }
        }
        let names = match kind {
            Kind::Statement => &self.statements,
            Kind::Portal => &self.portals,
        };
        Ok(names.confirmed(name).map_or(Lookup::Nothing, |statement| {
            Lookup::Statement(Arc::clone(statement))
        }))
    }

    fn change(&self, expect: &Expect, name: &str, kind: Kind) -> Result<Option<Change>, Finding> {
        Ok(match (expect, kind) {
            (
                Expect::Parse {
                    name: known,
                    statement,
                },
                Kind::Statement,
            )
            | (
                Expect::Bind {
                    portal: known,
                    statement,
                },
                Kind::Portal,
            ) if **known == *name => Some(Change::Defines(Arc::clone(statement))),
            (Expect::CloseStatement(known), Kind::Statement)
            | (Expect::ClosePortal(known), Kind::Portal)
                if **known == *name =>
            {
                Some(Change::Drops)
            }
            (Expect::Execute(run), _) => self.change_by_run(run, name, kind)?,
            (Expect::Query(runs), _) => {
                for run in runs.iter().rev() {
                    if let Some(change) = self.change_by_run(run, name, kind)? {
                        return Ok(Some(change));
                    }
                }
                None
            }
            _ => None,
        })
    }

    fn change_by_run(&self, run: &Run, name: &str, kind: Kind) -> Result<Option<Change>, Finding> {
        if !run.names {
            return Ok(None);
        }
        let resolved = run.statement.resolved();
        let Some(named) = &resolved.named else {
            return Ok(None);
        };
        Ok(match (named, kind) {
            (NamedEffect::Prepare { name: known, .. }, Kind::Statement)
            | (NamedEffect::Declare { name: known, .. }, Kind::Portal)
                if known == name =>
            {
                Some(Change::Defines(self.judge.inner(&run.statement)?))
            }
            (NamedEffect::Deallocate { name: known }, Kind::Statement)
            | (NamedEffect::Close { name: known }, Kind::Portal)
                if known.as_ref().is_none_or(|known| known == name) =>
            {
                Some(Change::Drops)
            }
            (NamedEffect::DiscardAll, _) => Some(Change::Drops),
            _ => None,
        })
    }
}

impl From<Change> for Lookup {
    fn from(change: Change) -> Self {
        match change {
            Change::Defines(statement) => Self::Statement(statement),
            Change::Drops => Self::Nothing,
        }
    }
}
