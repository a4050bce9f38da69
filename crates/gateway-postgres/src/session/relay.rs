//! The conversation: what the client sends is decided and passed on, what the server answers is
//! matched with what it answers to. Reads and writes no socket.
//!
//! A denied message is replaced by one that the server itself refuses (a syntax error), so that order,
//! skipping until Sync and the state of the transaction stay the server's business; its error is then
//! replaced by ours. So a denial inside a transaction leaves both sides in state `E`.

mod answers;
mod lookup;
mod tags;
mod transaction;

use super::names::{MAX_NAME, Names};
use crate::sql::catalog::FIRST_OWN;
use crate::sql::{Definition, Effect, Resolved};
use crate::statement::{Judge, PREPARE_AGAIN, Statement, Unread, Verdict};
use crate::wire::{self, Notice, WireError};
use bytes::{Buf as _, BytesMut};
use facts::Finding;
use gateway::{Ending, IntentId, Operation, RecordingStopped, SessionRecorder};
use lookup::{Allowed, Clash, Judgement, Kind, Lookup};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use transaction::Transaction;

/// What PostgreSQL's grammar refuses in every version.
const REFUSED: &str = "denied by trilith";
/// Messages in flight that a client may pipeline.
const MAX_IN_FLIGHT: usize = 10_000;
/// Intents of one Query that wait for the disk together.
const TOGETHER: usize = 64;
/// Of a strict result, this much is held until its outcome is durable; of a longer one the rest, the
/// intent being durable already.
const HOLD: usize = 256 * 1024;
/// Names that one transaction may define.
const MAX_DEFINED: usize = 10_000;
/// What the catalogue may take to be read again after a definition.
const RENEWAL: Duration = Duration::from_secs(5);
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
    #[error("the database answered {said} to {expected}: the gateway is out of step with it")]
    OutOfStep {
        expected: &'static str,
        said: String,
    },
    #[error("the client {0}")]
    Misuse(&'static str),
    #[error(transparent)]
    Recording(#[from] RecordingStopped),
}

/// One statement that runs, or will.
struct Run {
    statement: Arc<Statement>,
    verdict: Arc<Verdict>,
    /// Of the statement, or of what it runs by name.
    effect: Effect,
    /// What the server calls it; of EXECUTE what it runs.
    verb: &'static str,
    /// It defines or drops names.
    names: bool,
    intent: Option<IntentId>,
    rows: u64,
    /// It is a COPY: what it came to is known at its end only.
    copies: bool,
}

impl Run {
    fn new(statement: Arc<Statement>, allowed: Allowed) -> Self {
        let names = statement.resolved().changes_names();
        Self {
            statement,
            verdict: allowed.verdict,
            effect: allowed.effect,
            verb: allowed.verb,
            names,
            intent: None,
            rows: 0,
            copies: false,
        }
    }
}

/// What became of a message of the client.
enum Taken {
    Done,
    /// Left where it is until the server has answered more.
    Wait,
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
}

/// What was finished by the bytes just read.
type Finished = Vec<(IntentId, Ending)>;

pub(crate) struct Relay {
    judge: Arc<Judge>,
    recorder: SessionRecorder,
    max_message: usize,
    statements: Names,
    portals: Names,
    expected: VecDeque<Expect>,
    transaction: Transaction,
    /// What statements define whose transaction is not known to be over: the catalogue does not know it.
    defined: BTreeSet<Definition>,
    /// Definitions have been committed since the catalogue was read.
    stale: bool,
    copying_in: bool,
    /// A statement of the transaction has ended that withholds what the server says of errors: what it broke may
    /// be told later, when the transaction commits.
    withholds: bool,
    /// The server has said an error and skips what comes until Sync, which has not come yet.
    skipping: bool,
    /// A message of the client waits, and this many answers were owed when it began to.
    waiting: Option<usize>,
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
            judge: Arc::new(judge),
            recorder,
            max_message,
            statements: Names::default(),
            portals: Names::default(),
            expected: VecDeque::new(),
            transaction: Transaction::default(),
            defined: BTreeSet::new(),
            stale: false,
            copying_in: false,
            withholds: false,
            skipping: false,
            waiting: None,
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

    pub(crate) fn judge(&self) -> &Judge {
        &self.judge
    }

    // ------------------------------------------------------------ from the client
    /// Takes every whole message in `input`, up to one that has to wait. When this returns, the intents
    /// of all that is in `to_upstream` are durable, as far as they have to be.
    pub(crate) async fn take_client(&mut self, input: &mut BytesMut) -> Result<(), End> {
        self.waiting = None;
        while let Some((head, _)) = wire::frame(input, self.max_message).map_err(End::Client)? {
            if self.expected.len() > MAX_IN_FLIGHT {
                return Err(End::Misuse("pipelines too much"));
            }
            let message = input.get(..head.length).unwrap_or_default();
            if let Taken::Wait = self.take_message(head.tag, message).await? {
                self.waiting = Some(self.expected.len());
                return Ok(());
            }
            input.advance(head.length);
        }
        Ok(())
    }

    /// Whether a message of the client waits: until it is taken nothing more is read.
    pub(crate) const fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Whether the server has said more since a message began to wait.
    pub(crate) fn may_go_on(&self) -> bool {
        self.waiting
            .is_some_and(|owed| self.copying_in || owed != self.expected.len())
    }

    async fn take_message(&mut self, tag: u8, message: &[u8]) -> Result<Taken, End> {
        let body = message.get(5..).unwrap_or_default();
        if self.skipping {
            return self.skip(tag, message);
        }
        // How many answers what follows a COPY gets depends on its data, until the server has said what
        // it came to.
        if !self.copying_in && self.copy_in_flight() && tag != b'X' {
            return Ok(Taken::Wait);
        }
        if self.copying_in && !matches!(tag, b'd' | b'c' | b'f' | b'H' | b'S' | b'X') {
            return Err(End::Misuse("sends something else than data in a COPY"));
        }
        let names = names_of(tag, body)?;
        if names.iter().any(|name| name.len() > MAX_NAME) {
            let finding = Finding::new(
                "SQL-NAME-LENGTH",
                "the name of a prepared statement or portal is too long to be told apart",
            )
            .expected(format!("at most {MAX_NAME} bytes"))
            .next("shorten the name");
            let notice = self.denied_by(finding, None).await?;
            self.refuse_extended(notice)?;
            return Ok(Taken::Done);
        }
        if self.stale
            && matches!(tag, b'Q' | b'P' | b'B' | b'E')
            && let Some(finding) = self.renew().await
        {
            let notice = self.denied_by(finding, None).await?;
            if tag == b'Q' {
                self.refuse_query(notice)?;
            } else {
                self.refuse_extended(notice)?;
            }
            return Ok(Taken::Done);
        }
        match tag {
            b'Q' => return self.query(message, body).await,
            b'P' => return self.parse(message, body).await,
            b'B' => return self.bind(message, names).await,
            b'E' => return self.execute(message, names).await,
            b'D' => {
                self.expected.push_back(Expect::Describe);
                self.forward(message)?;
            }
            b'C' => {
                let [name, _] = names;
                self.expected.push_back(match body.first() {
                    Some(b'S') => Expect::CloseStatement(name.into()),
                    Some(b'P') => Expect::ClosePortal(name.into()),
                    _ => return Err(malformed("Close")),
                });
                self.forward(message)?;
            }
            // While a COPY reads data the server ignores both (55.2.2.3). One that has failed meanwhile
            // would not, so they stay here.
            b'S' | b'H' if self.copying_in => {}
            b'S' => {
                self.expected.push_back(Expect::Sync);
                self.forward(message)?;
            }
            b'H' => self.forward(message)?,
            b'd' if self.copying_in => self.forward(message)?,
            b'c' | b'f' if self.copying_in => {
                self.copying_in = false;
                self.forward(message)?;
                // What the COPY came to is waited for, and a server may keep it until it is asked.
                wire::flush(&mut self.to_upstream);
            }
            // The server ignores what comes after a COPY has failed, or without one.
            b'd' | b'c' | b'f' => {}
            b'F' => {
                let finding = Finding::new(
                    "SQL-FUNCTION-CALL",
                    "the function call message is not available",
                )
                .next("call the function in a query");
                let notice = self.denied_by(finding, None).await?;
                self.refuse_query(notice)?;
            }
            b'X' => return Err(End::Terminate),
            other => return Err(End::Client(WireError::UnknownTag(char::from(other)))),
        }
        Ok(Taken::Done)
    }

    /// The server would skip it. Only Sync and Terminate are no longer skipped.
    fn skip(&mut self, tag: u8, message: &[u8]) -> Result<Taken, End> {
        match tag {
            b'S' => {
                self.skipping = false;
                self.expected.push_back(Expect::Sync);
                self.forward(message)?;
                Ok(Taken::Done)
            }
            b'X' => Err(End::Terminate),
            _ => Ok(Taken::Done),
        }
    }

    /// Reads the catalogue again after definitions of this session: nothing is decided by the old one. Why
    /// that cannot be done.
    async fn renew(&mut self) -> Option<Finding> {
        let Judge {
            database,
            following,
            ..
        } = &*self.judge;
        let reading = tokio::time::timeout(RENEWAL, database.bring_up_to_date(following));
        let failed = match reading.await {
            Ok(Ok(())) => {
                self.stale = false;
                return None;
            }
            Ok(Err(error)) => error.to_string(),
            // What is being defined right now, here or elsewhere, may be locked until its transaction ends.
            Err(_) => "it takes too long".to_owned(),
        };
        Some(
            Finding::new(
                "GATEWAY-CATALOG",
                "what this session defined is not known yet: the catalogue cannot be read",
            )
            .observed(failed)
            .next("try again; the gateway's log says why the database is not maintained"),
        )
    }

    /// Whether a COPY that reads data is not over.
    fn copy_in_flight(&self) -> bool {
        let reads = |run: &Run| run.statement.resolved().verb == "COPY FROM";
        self.expected.iter().any(|expect| match expect {
            Expect::Execute(run) => reads(run),
            Expect::Query(runs) => runs.iter().any(reads),
            _ => false,
        })
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

    async fn query(&mut self, message: &[u8], body: &[u8]) -> Result<Taken, End> {
        let Some((text, [])) = wire::text_at(body) else {
            return Err(malformed("Query"));
        };
        let statements = match self.judge.read(text, &[]).await {
            Ok(statements) => statements,
            Err(unread) => {
                let notice = self.unread(unread).await?;
                self.refuse_query(notice)?;
                return Ok(Taken::Done);
            }
        };
        let mut runs: VecDeque<Run> = VecDeque::with_capacity(statements.len());
        for statement in statements {
            let notice = match self.judge_run(&statement, runs.iter()).await {
                Judgement::Allowed(allowed) => {
                    runs.push_back(Run::new(statement, allowed));
                    continue;
                }
                Judgement::Wait => return Ok(Taken::Wait),
                Judgement::Denied(verdict) => self.denied(&verdict).await?,
                Judgement::Refused(finding) => {
                    self.denied_by(finding, Some(statement.fingerprint()))
                        .await?
                }
            };
            self.refuse_query(notice)?;
            return Ok(Taken::Done);
        }
        // INVARIANT: what is expected holds every intent that is on its way, so that a cut finds it.
        self.note_definitions(runs.iter().map(|run| run.statement.resolved()))?;
        self.expected.push_back(Expect::Query(runs));
        self.record_intents().await?;
        self.forward(message)?;
        Ok(Taken::Done)
    }

    async fn parse(&mut self, message: &[u8], body: &[u8]) -> Result<Taken, End> {
        let names = wire::text_at(body)
            .and_then(|(name, rest)| wire::text_at(rest).map(|(text, rest)| (name, text, rest)));
        let Some((name, text, rest)) = names else {
            return Err(malformed("Parse"));
        };
        let parameters = parameters(rest).ok_or_else(|| malformed("Parse"))?;
        let notice = match self.judge.read(text, &parameters).await {
            Ok(statements) => match self.parsed(message, name, statements).await? {
                Ok(taken) => return Ok(taken),
                Err(notice) => notice,
            },
            Err(unread) => self.unread(unread).await?,
        };
        self.refuse_extended(notice)?;
        Ok(Taken::Done)
    }

    /// What was read is passed on, waits, or is refused by what is returned.
    async fn parsed(
        &mut self,
        message: &[u8],
        name: &str,
        statements: Vec<Arc<Statement>>,
    ) -> Result<Result<Taken, Notice>, End> {
        let statement = match <[Arc<Statement>; 1]>::try_from(statements) {
            Ok([statement]) => statement,
            Err(other) if other.is_empty() => {
                // An empty statement runs to EmptyQueryResponse; a comment in place of it decides it.
                self.parse_empty(message, name).await?;
                return Ok(Ok(Taken::Done));
            }
            Err(several) => {
                let first = several.first();
                let first = first.map(|statement| statement.fingerprint());
                let finding = Finding::new(
                    "SQL-SEVERAL",
                    "several statements in one prepared statement",
                );
                return Ok(Err(self.denied_by(finding, first).await?));
            }
        };
        let known = Some(statement.fingerprint());
        match self.judge.verdict(&statement).await {
            Ok(verdict) if verdict.allow => {}
            Ok(verdict) => return Ok(Err(self.denied(&verdict).await?)),
            Err(finding) => return Ok(Err(self.denied_by(finding, known).await?)),
        }
        match self.clash(&statement.resolved(), std::iter::empty()) {
            Clash::None => {}
            Clash::Wait => return Ok(Ok(Taken::Wait)),
            Clash::With(finding) => return Ok(Err(self.denied_by(finding, known).await?)),
        }
        self.expected.push_back(Expect::Parse {
            name: name.into(),
            statement,
        });
        self.forward(message)?;
        Ok(Ok(Taken::Done))
    }

    /// These are about to run.
    fn note_definitions(&mut self, runs: impl Iterator<Item = Arc<Resolved>>) -> Result<(), End> {
        for resolved in runs.filter(|resolved| resolved.defines) {
            self.defined.extend(resolved.definitions.iter().cloned());
        }
        if self.defined.len() > MAX_DEFINED {
            return Err(End::Misuse("defines too much in one transaction"));
        }
        Ok(())
    }

    async fn parse_empty(&mut self, message: &[u8], name: &str) -> Result<(), End> {
        // `SHOW` of a harmless parameter stands for "nothing" among the statements that are known.
        let Ok(mut statements) = self.judge.read("SHOW server_version", &[]).await else {
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

    async fn bind(&mut self, message: &[u8], names: [&str; 2]) -> Result<Taken, End> {
        let [portal, name] = names;
        let statement = match self.lookup(name, Kind::Statement) {
            Ok(Lookup::Statement(statement)) => statement,
            other => return self.not_found(other, name, Kind::Statement).await,
        };
        let notice = match self.judge.verdict(&statement).await {
            Ok(verdict) if verdict.allow => {
                match self.clash(&statement.resolved(), std::iter::empty()) {
                    Clash::None => {
                        self.expected.push_back(Expect::Bind {
                            portal: portal.into(),
                            statement,
                        });
                        self.forward(message)?;
                        return Ok(Taken::Done);
                    }
                    Clash::Wait => return Ok(Taken::Wait),
                    Clash::With(finding) => self.denied_by(finding, None).await?,
                }
            }
            Ok(verdict) => self.denied(&verdict).await?,
            Err(finding) => self.denied_by(finding, None).await?,
        };
        self.refuse_extended(notice)?;
        Ok(Taken::Done)
    }

    async fn execute(&mut self, message: &[u8], names: [&str; 2]) -> Result<Taken, End> {
        let [portal, _] = names;
        let statement = match self.lookup(portal, Kind::Portal) {
            Ok(Lookup::Statement(statement)) => statement,
            other => return self.not_found(other, portal, Kind::Portal).await,
        };
        let notice = match self.judge_run(&statement, std::iter::empty()).await {
            Judgement::Allowed(allowed) => {
                self.note_definitions(std::iter::once(statement.resolved()))?;
                let run = Run::new(statement, allowed);
                // INVARIANT: as in `query`.
                self.expected.push_back(Expect::Execute(run));
                self.record_intents().await?;
                self.forward(message)?;
                return Ok(Taken::Done);
            }
            Judgement::Wait => return Ok(Taken::Wait),
            Judgement::Denied(verdict) => self.denied(&verdict).await?,
            Judgement::Refused(finding) => self.denied_by(finding, None).await?,
        };
        self.refuse_extended(notice)?;
        Ok(Taken::Done)
    }

    /// A name that leads nowhere, or not yet.
    async fn not_found(
        &mut self,
        looked_up: Result<Lookup, Finding>,
        name: &str,
        kind: Kind,
    ) -> Result<Taken, End> {
        let notice = match looked_up {
            Ok(Lookup::Wait) => return Ok(Taken::Wait),
            Ok(_) => {
                let (sqlstate, what) = match kind {
                    Kind::Portal => ("34000", "portal"),
                    Kind::Statement => ("26000", "prepared statement"),
                };
                Notice {
                    sqlstate,
                    message: format!("{what} \"{name}\" does not exist"),
                    ..Notice::default()
                }
            }
            Err(finding) => self.denied_by(finding, None).await?,
        };
        self.refuse_extended(notice)?;
        Ok(Taken::Done)
    }

    async fn denied_by(&self, finding: Finding, known: Option<&str>) -> Result<Notice, End> {
        let operation = self.judge.unresolved(known);
        self.denial(&operation, None, vec![finding]).await
    }

    /// Records that what is expected last is about to run, durably where it has to be.
    async fn record_intents(&mut self) -> Result<(), End> {
        let Self {
            expected,
            transaction,
            recorder,
            ..
        } = self;
        let runs = match expected.back_mut() {
            Some(Expect::Query(runs)) => runs.make_contiguous(),
            Some(Expect::Execute(run)) => std::slice::from_mut(run),
            _ => &mut [],
        };
        for runs in runs.chunks_mut(TOGETHER) {
            for run in &mut *runs {
                // A transaction that wrote nothing commits nothing.
                let ends_nothing = run.effect == Effect::Commit && !transaction.wrote;
                if run.verdict.silent || ends_nothing {
                    continue;
                }
                if run.effect == Effect::Write {
                    transaction.wrote = true;
                }
                let intent = recorder.hand_over(&run.verdict.operation, run.verdict.strict);
                run.intent = Some(intent.await?);
            }
            for run in runs {
                if let Some(intent) = &mut run.intent {
                    intent.settle().await?;
                }
            }
        }
        Ok(())
    }

    async fn unread(&self, unread: Unread) -> Result<Notice, End> {
        match unread {
            Unread::Syntax(message) => Ok(Notice {
                sqlstate: "42601",
                message,
                ..Notice::default()
            }),
            Unread::Denied(denied) => {
                let (operation, finding) = *denied;
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
        access: Option<(&str, String)>,
        findings: Vec<Finding>,
    ) -> Result<Notice, End> {
        let codes = findings
            .iter()
            .map(|finding| finding.code.to_string())
            .collect();
        let id = self.recorder.decided(operation, false, codes).await?;
        let again = findings
            .first()
            .is_some_and(|finding| finding.code == PREPARE_AGAIN);
        let what = match &access {
            Some((action, resource)) => format!("{action} on {resource}"),
            None => "this statement".to_owned(),
        };
        let hint = match &access {
            Some((action, resource)) => self.judge.question(action, resource),
            None => findings
                .first()
                .and_then(|finding| finding.next.clone())
                .unwrap_or_else(|| format!("trilith ledger show {id}")),
        };
        Ok(Notice {
            fatal: false,
            sqlstate: if again { "0A000" } else { "42501" },
            message: format!("permission denied by trilith: {what} (decision {id})"),
            detail: findings.first().map(ToString::to_string),
            hint: Some(hint),
        })
    }
}

fn malformed(what: &'static str) -> End {
    End::Client(WireError::Malformed(what))
}

/// OIDs of the types that a Parse gives its parameters, without the system's own.
fn parameters(rest: &[u8]) -> Option<Vec<u32>> {
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let (types, []) = rest.as_chunks::<4>() else {
        return None;
    };
    if types.len() != usize::from(u16::from_be_bytes(*count)) {
        return None;
    }
    let types = types.iter().map(|bytes| u32::from_be_bytes(*bytes));
    Some(types.filter(|oid| *oid >= FIRST_OWN).collect())
}

/// The names that a message of the extended protocol uses; empty where it has none.
fn names_of(tag: u8, body: &[u8]) -> Result<[&str; 2], End> {
    let first = |bytes, what| wire::text_at(bytes).ok_or_else(|| malformed(what));
    Ok(match tag {
        b'P' => [first(body, "Parse")?.0, ""],
        b'B' => {
            let (portal, rest) = first(body, "Bind")?;
            [portal, first(rest, "Bind")?.0]
        }
        b'E' => [first(body, "Execute")?.0, ""],
        b'D' => [first(body.get(1..).unwrap_or_default(), "Describe")?.0, ""],
        b'C' => [first(body.get(1..).unwrap_or_default(), "Close")?.0, ""],
        _ => ["", ""],
    })
}
