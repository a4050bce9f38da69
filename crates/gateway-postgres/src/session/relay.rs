//! The conversation: what the client sends is decided and passed on, what the server answers is
//! matched with what it answers to. Reads and writes no socket.
//!
//! A denied message is replaced by one that the server itself refuses (a syntax error), so that order,
//! skipping until Sync and the state of the transaction stay the server's business; its error is then
//! replaced by ours. So a denial inside a transaction leaves both sides in state `E`.

mod answers;

use super::names::Names;
use crate::sql::{Effect, NamedEffect, Refusal};
use crate::statement::{Judge, Statement, Verdict};
use crate::wire::{self, Notice, WireError};
use bytes::BytesMut;
use facts::Finding;
use gateway::{Ending, IntentId, Operation, RecordingStopped, SessionRecorder};
use std::collections::VecDeque;
use std::sync::Arc;

/// What PostgreSQL's grammar refuses in every version.
const REFUSED: &str = "denied by trilith";
/// Messages in flight that a client may pipeline.
const MAX_IN_FLIGHT: usize = 10_000;
/// Of a strict result, this much is held until its outcome is durable; of a longer one the rest, the
/// intent being durable already.
const HOLD: usize = 256 * 1024;
/// Longest message of the server that is read whole.
const MAX_READ: usize = 1 << 20;

/// Why a conversation ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum End {
    #[error("the client said goodbye")]
    Terminate,
    #[error("the client broke the protocol")]
    Client(#[source] WireError),
    #[error("the database broke the protocol")]
    Upstream(#[source] WireError),
    #[error("the client {0}")]
    Misuse(&'static str),
    #[error(transparent)]
    Recording(#[from] RecordingStopped),
}

/// One statement that runs, or will.
struct Run {
    statement: Arc<Statement>,
    verdict: Arc<Verdict>,
    intent: Option<IntentId>,
    rows: u64,
}

/// What the server owes an answer to, in order.
enum Expect {
    Parse {
        name: Box<str>,
        statement: Arc<Statement>,
    },
    Bind {
        portal: Box<str>,
        statement: Arc<Statement>,
    },
    Describe,
    Execute(Run),
    CloseStatement(Box<str>),
    ClosePortal(Box<str>),
    Sync,
    Query(VecDeque<Run>),
    /// A replaced message; `query` when ReadyForQuery follows at once.
    Denied {
        notice: Notice,
        query: bool,
    },
    /// The client's CopyDone or CopyFail.
    CopyEnd,
}

/// What was finished by the bytes just read.
type Finished = Vec<(IntentId, Ending)>;

pub(crate) struct Relay {
    judge: Judge,
    recorder: SessionRecorder,
    max_message: usize,
    statements: Names,
    portals: Names,
    expected: VecDeque<Expect>,
    /// `I`, `T` or `E`, as the server last said.
    transaction: u8,
    /// Something in the open transaction was a write.
    wrote: bool,
    copying_in: bool,
    /// Bytes of a message of the server that are passed on as they come.
    passing: usize,
    /// Of the message that is passed, only if it is replaced.
    discarding: bool,
    pub(crate) to_upstream: BytesMut,
    pub(crate) to_client: BytesMut,
    finished: Finished,
}

impl Relay {
    pub(crate) fn new(judge: Judge, recorder: SessionRecorder, max_message: usize) -> Self {
        Self {
            judge,
            recorder,
            max_message,
            statements: Names::default(),
            portals: Names::default(),
            expected: VecDeque::new(),
            transaction: b'I',
            wrote: false,
            copying_in: false,
            passing: 0,
            discarding: false,
            to_upstream: BytesMut::new(),
            to_client: BytesMut::new(),
            finished: Vec::new(),
        }
    }

    pub(crate) const fn recorder(&self) -> &SessionRecorder {
        &self.recorder
    }

    pub(crate) const fn judge(&self) -> &Judge {
        &self.judge
    }

    // ------------------------------------------------------------ from the client
    /// Takes every whole message in `input`. When this returns, the intents of all that is in
    /// `to_upstream` are durable, as far as they have to be.
    pub(crate) async fn take_client(&mut self, input: &mut BytesMut) -> Result<(), End> {
        while let Some((head, _)) = wire::frame(input, self.max_message).map_err(End::Client)? {
            if self.expected.len() > MAX_IN_FLIGHT {
                return Err(End::Misuse("pipelines too much"));
            }
            let message = input.split_to(head.length);
            self.take_message(head.tag, &message).await?;
        }
        Ok(())
    }

    async fn take_message(&mut self, tag: u8, message: &[u8]) -> Result<(), End> {
        let body = message.get(5..).unwrap_or_default();
        if self.copying_in && !matches!(tag, b'd' | b'c' | b'f' | b'H' | b'S' | b'X') {
            return Err(End::Misuse("sends something else than data in a COPY"));
        }
        match tag {
            b'Q' => self.query(message, body).await,
            b'P' => self.parse(message, body).await,
            b'B' => self.bind(message, body).await,
            b'E' => self.execute(message, body).await,
            b'D' => {
                self.expected.push_back(Expect::Describe);
                self.forward(message)
            }
            b'C' => {
                let (kind, name) = kind_and_name(body)?;
                self.expected.push_back(match kind {
                    b'S' => Expect::CloseStatement(name),
                    b'P' => Expect::ClosePortal(name),
                    _ => return Err(malformed("Close")),
                });
                self.forward(message)
            }
            b'S' => {
                // While a COPY reads data the server ignores Sync (55.2.2.3).
                if !self.copying_in {
                    self.expected.push_back(Expect::Sync);
                }
                self.forward(message)
            }
            b'H' | b'd' => self.forward(message),
            b'c' | b'f' => {
                if !std::mem::take(&mut self.copying_in) {
                    self.expected.push_back(Expect::CopyEnd);
                }
                self.forward(message)
            }
            b'F' => {
                let finding = Finding::new(
                    "SQL-FUNCTION-CALL",
                    "the function call message is not available",
                )
                .next("call the function in a query");
                let operation = self.judge.unresolved("");
                let notice = self.denial(&operation, None, vec![finding]).await?;
                self.refuse_query(notice)
            }
            b'X' => Err(End::Terminate),
            other => Err(End::Client(WireError::UnknownTag(char::from(other)))),
        }
    }

    fn forward(&mut self, message: &[u8]) -> Result<(), End> {
        self.to_upstream.extend_from_slice(message);
        Ok(())
    }

    fn refuse_query(&mut self, notice: Notice) -> Result<(), End> {
        wire::query(&mut self.to_upstream, REFUSED);
        self.expected.push_back(Expect::Denied {
            notice,
            query: true,
        });
        Ok(())
    }

    fn refuse_extended(&mut self, notice: Notice) -> Result<(), End> {
        // Named, so that the unnamed statement survives as it would have.
        wire::parse(&mut self.to_upstream, "trilith", REFUSED);
        self.expected.push_back(Expect::Denied {
            notice,
            query: false,
        });
        Ok(())
    }

    async fn query(&mut self, message: &[u8], body: &[u8]) -> Result<(), End> {
        let Some((text, [])) = wire::text_at(body) else {
            return Err(malformed("Query"));
        };
        let statements = match self.judge.read(text) {
            Ok(statements) => statements,
            Err(refusal) => {
                let notice = self.refusal(text, refusal).await?;
                return self.refuse_query(notice);
            }
        };
        let mut runs = VecDeque::with_capacity(statements.len());
        let mut prepared: Vec<(Box<str>, Arc<Statement>)> = Vec::new();
        for statement in statements {
            let verdicts = match self.verdicts(&statement, &prepared) {
                Ok(verdicts) => verdicts,
                Err(finding) => {
                    let operation = self.judge.unresolved(text);
                    let notice = self.denial(&operation, None, vec![finding]).await?;
                    return self.refuse_query(notice);
                }
            };
            if let Some(denied) = verdicts.iter().find(|verdict| !verdict.allow) {
                let notice = self.denied(denied).await?;
                return self.refuse_query(notice);
            }
            if let Some(defined) = self.definition(&statement) {
                prepared.push(defined);
            }
            // The last is the one that runs, if the server takes everything before it.
            if let Some(verdict) = verdicts.into_iter().last() {
                runs.push_back(Run {
                    statement,
                    verdict,
                    intent: None,
                    rows: 0,
                });
            }
        }
        for run in &mut runs {
            run.intent = self.intent(&run.verdict, &run.statement).await?;
        }
        self.expected.push_back(Expect::Query(runs));
        self.forward(message)
    }

    /// The verdict of `statement`, and of all that its name may lead to when it runs another.
    fn verdicts(
        &self,
        statement: &Arc<Statement>,
        prepared: &[(Box<str>, Arc<Statement>)],
    ) -> Result<Vec<Arc<Verdict>>, Finding> {
        let mut verdicts = vec![self.judge.verdict(statement)?];
        let resolved = statement.resolved();
        let (name, cursors) = match &resolved.named {
            Some(NamedEffect::Execute { name }) => (name, false),
            Some(NamedEffect::Fetch { name }) => (name, true),
            _ => return Ok(verdicts),
        };
        let mut candidates = self.candidates(name, cursors);
        candidates.extend(
            prepared
                .iter()
                .filter(|(known, _)| **known == **name)
                .map(|(_, statement)| Arc::clone(statement)),
        );
        if candidates.is_empty() {
            return Err(Finding::new(
                "SQL-NAME",
                format!("nothing that was decided on is called {name:?}"),
            )
            .next("prepare the statement or declare the cursor in this session"));
        }
        for candidate in candidates {
            verdicts.push(self.judge.verdict(&candidate)?);
        }
        Ok(verdicts)
    }

    /// Everything that a name may lead to by the time a message that is sent now is read.
    fn candidates(&self, name: &str, portals: bool) -> Vec<Arc<Statement>> {
        let names = if portals {
            &self.portals
        } else {
            &self.statements
        };
        let mut found: Vec<Arc<Statement>> = names.confirmed(name).cloned().into_iter().collect();
        for expect in &self.expected {
            match expect {
                Expect::Parse {
                    name: known,
                    statement,
                } if !portals && **known == *name => {
                    found.push(Arc::clone(statement));
                }
                Expect::Bind { portal, statement } if portals && **portal == *name => {
                    found.push(Arc::clone(statement));
                }
                Expect::Query(runs) => {
                    let defined = runs
                        .iter()
                        .filter_map(|run| self.definition_of(run, portals));
                    found.extend(
                        defined
                            .filter(|(known, _)| **known == *name)
                            .map(|(_, statement)| statement),
                    );
                }
                _ => {}
            }
        }
        found
    }

    fn definition_of(&self, run: &Run, portals: bool) -> Option<(Box<str>, Arc<Statement>)> {
        let is_portal = matches!(
            run.statement.resolved().named,
            Some(NamedEffect::Declare { .. })
        );
        (is_portal == portals).then(|| self.definition(&run.statement))?
    }

    /// What a PREPARE or DECLARE defines.
    fn definition(&self, statement: &Arc<Statement>) -> Option<(Box<str>, Arc<Statement>)> {
        match &statement.resolved().named {
            Some(NamedEffect::Prepare { name, inner } | NamedEffect::Declare { name, inner }) => {
                let inner = self.judge.inner(statement, inner).ok()?;
                Some((name.as_str().into(), inner))
            }
            _ => None,
        }
    }

    async fn parse(&mut self, message: &[u8], body: &[u8]) -> Result<(), End> {
        let names = wire::text_at(body)
            .and_then(|(name, rest)| wire::text_at(rest).map(|(text, _)| (name, text)));
        let Some((name, text)) = names else {
            return Err(malformed("Parse"));
        };
        let statements = match self.judge.read(text) {
            Ok(statements) => statements,
            Err(refusal) => {
                let notice = self.refusal(text, refusal).await?;
                return self.refuse_extended(notice);
            }
        };
        let statement = match <[Arc<Statement>; 1]>::try_from(statements) {
            Ok([statement]) => statement,
            Err(other) if other.is_empty() => {
                // An empty statement runs to EmptyQueryResponse; a comment in place of it decides it.
                return self.parse_empty(message, name);
            }
            Err(_) => {
                let operation = self.judge.unresolved(text);
                let finding = Finding::new(
                    "SQL-SEVERAL",
                    "several statements in one prepared statement",
                );
                let notice = self.denial(&operation, None, vec![finding]).await?;
                return self.refuse_extended(notice);
            }
        };
        match self.judge.verdict(&statement) {
            Ok(verdict) if verdict.allow => {}
            Ok(verdict) => {
                let notice = self.denied(&verdict).await?;
                return self.refuse_extended(notice);
            }
            Err(finding) => {
                let operation = self.judge.unresolved(text);
                let notice = self.denial(&operation, None, vec![finding]).await?;
                return self.refuse_extended(notice);
            }
        }
        self.expected.push_back(Expect::Parse {
            name: name.into(),
            statement,
        });
        self.forward(message)
    }

    fn parse_empty(&mut self, message: &[u8], name: &str) -> Result<(), End> {
        // `SHOW` of a harmless parameter stands for "nothing" among the statements that are known.
        let Ok(mut statements) = self.judge.read("SHOW server_version") else {
            return Err(End::Misuse("prepares nothing while nothing may be decided"));
        };
        let Some(statement) = statements.pop() else {
            return Err(malformed("Parse"));
        };
        self.expected.push_back(Expect::Parse {
            name: name.into(),
            statement,
        });
        self.forward(message)
    }

    async fn bind(&mut self, message: &[u8], body: &[u8]) -> Result<(), End> {
        let names = wire::text_at(body)
            .and_then(|(portal, rest)| wire::text_at(rest).map(|(name, _)| (portal, name)));
        let Some((portal, name)) = names else {
            return Err(malformed("Bind"));
        };
        let Some(statement) = self.decided(name, false).await? else {
            return Ok(());
        };
        self.expected.push_back(Expect::Bind {
            portal: portal.into(),
            statement,
        });
        self.forward(message)
    }

    async fn execute(&mut self, message: &[u8], body: &[u8]) -> Result<(), End> {
        let Some((portal, _)) = wire::text_at(body) else {
            return Err(malformed("Execute"));
        };
        let Some(statement) = self.decided(portal, true).await? else {
            return Ok(());
        };
        let verdicts = match self.verdicts(&statement, &[]) {
            Ok(verdicts) => verdicts,
            Err(finding) => {
                let operation = self.judge.unresolved("");
                let notice = self.denial(&operation, None, vec![finding]).await?;
                return self.refuse_extended(notice);
            }
        };
        if let Some(denied) = verdicts.iter().find(|verdict| !verdict.allow) {
            let notice = self.denied(denied).await?;
            return self.refuse_extended(notice);
        }
        let Some(verdict) = verdicts.into_iter().last() else {
            return Ok(());
        };
        let intent = self.intent(&verdict, &statement).await?;
        self.expected.push_back(Expect::Execute(Run {
            statement,
            verdict,
            intent,
            rows: 0,
        }));
        self.forward(message)
    }

    /// What `name` leads to, if all that it may lead to is allowed now; else the message is replaced.
    async fn decided(&mut self, name: &str, portals: bool) -> Result<Option<Arc<Statement>>, End> {
        // The hot path: nothing in flight defines the name anew.
        let names = if portals {
            &self.portals
        } else {
            &self.statements
        };
        let in_flight = self.expected.iter().any(|expect| match expect {
            Expect::Parse { .. } | Expect::Query(_) => !portals,
            Expect::Bind { .. } => portals,
            _ => false,
        });
        let candidates = match names.confirmed(name) {
            Some(statement) if !in_flight => vec![Arc::clone(statement)],
            _ => self.candidates(name, portals),
        };
        let mut last = None;
        for statement in candidates {
            match self.judge.verdict(&statement) {
                Ok(verdict) if verdict.allow => last = Some(statement),
                Ok(verdict) => {
                    let notice = self.denied(&verdict).await?;
                    self.refuse_extended(notice)?;
                    return Ok(None);
                }
                Err(finding) => {
                    let operation = self.judge.unresolved("");
                    let notice = self.denial(&operation, None, vec![finding]).await?;
                    self.refuse_extended(notice)?;
                    return Ok(None);
                }
            }
        }
        if last.is_none() {
            let kind = if portals {
                ("34000", "portal")
            } else {
                ("26000", "prepared statement")
            };
            self.refuse_extended(Notice {
                sqlstate: kind.0,
                message: format!("{} \"{name}\" does not exist", kind.1),
                ..Notice::default()
            })?;
        }
        Ok(last)
    }

    /// Records that `verdict`'s operation is about to run, durably where it has to be.
    async fn intent(
        &mut self,
        verdict: &Verdict,
        statement: &Statement,
    ) -> Result<Option<IntentId>, End> {
        let effect = statement.resolved().effect;
        // A transaction that wrote nothing commits nothing.
        let empty_commit = effect == Effect::Commit && !self.wrote;
        if verdict.silent || empty_commit {
            return Ok(None);
        }
        if effect == Effect::Write {
            self.wrote = true;
        }
        Ok(Some(
            self.recorder
                .intent(&verdict.operation, verdict.strict)
                .await?,
        ))
    }

    async fn refusal(&self, text: &str, refusal: Refusal) -> Result<Notice, End> {
        match refusal {
            Refusal::Syntax(message) => Ok(Notice {
                sqlstate: "42601",
                message,
                ..Notice::default()
            }),
            Refusal::Denied(finding) => {
                let operation = self.judge.unresolved(text);
                self.denial(&operation, None, vec![finding]).await
            }
        }
    }

    async fn denied(&self, verdict: &Verdict) -> Result<Notice, End> {
        let access = verdict
            .denied
            .as_ref()
            .map(|(action, resource)| (action.as_str(), resource.to_string()));
        self.denial(&verdict.operation, access, verdict.findings.clone())
            .await
    }

    /// Records a denial, and says it in PostgreSQL's words.
    async fn denial(
        &self,
        operation: &Operation,
        access: Option<(&'static str, String)>,
        findings: Vec<Finding>,
    ) -> Result<Notice, End> {
        let codes = findings
            .iter()
            .map(|finding| finding.code.to_string())
            .collect();
        let id = self.recorder.decided(operation, false, codes).await?;
        let what = match &access {
            Some((action, resource)) => format!("{action} on {resource}"),
            None => "this statement".to_owned(),
        };
        let hint = match &access {
            Some((action, resource)) => {
                format!(
                    "trilith why {} {action} '{resource}'",
                    self.judge.principal.path
                )
            }
            None => findings
                .first()
                .and_then(|finding| finding.next.clone())
                .unwrap_or_else(|| format!("trilith ledger show {id}")),
        };
        Ok(Notice {
            fatal: false,
            sqlstate: "42501",
            message: format!("permission denied by trilith: {what} (decision {id})"),
            detail: findings.first().map(ToString::to_string),
            hint: Some(hint),
        })
    }
}

fn malformed(what: &'static str) -> End {
    End::Client(WireError::Malformed(what))
}

fn kind_and_name(body: &[u8]) -> Result<(u8, Box<str>), End> {
    let (kind, rest) = body.split_first().ok_or_else(|| malformed("Close"))?;
    let (name, _) = wire::text_at(rest).ok_or_else(|| malformed("Close"))?;
    Ok((*kind, name.into()))
}
