//! What the server answers, matched with what it answers to.

use super::{End, Expect, Finished, HOLD, MAX_READ, Relay, Run, tags};
use crate::sql::{Effect, NamedEffect};
use crate::wire::{self, WireError};
use bytes::BytesMut;
use facts::Finding;
use gateway::Ending;
use std::borrow::Cow;
use std::collections::VecDeque;

impl Relay {
    /// Takes what the server sent: bytes for the client are in `to_client` afterwards. What has
    /// finished has to be recorded by [`Relay::record`] before any of them is released.
    pub(crate) fn take_upstream(&mut self, input: &mut BytesMut) -> Result<(), End> {
        loop {
            if self.passing > 0 {
                let length = self.passing.min(input.len());
                let piece = input.split_to(length);
                self.passing -= length;
                if !self.discarding {
                    self.to_client.extend_from_slice(&piece);
                }
                if self.passing > 0 {
                    return Ok(());
                }
                self.discarding = false;
            }
            let Some(head) = wire::head(input).map_err(End::Upstream)? else {
                return Ok(());
            };
            // Rows and data are passed on as they come, whatever their length; the rest is short.
            if matches!(
                head.tag,
                b'D' | b'd' | b'T' | b't' | b'N' | b'A' | b'S' | b'c' | b'V'
            ) {
                self.note_passed(head.tag)?;
                self.passing = head.length;
                continue;
            }
            let Some((head, _)) = wire::frame(input, MAX_READ).map_err(End::Upstream)? else {
                return Ok(());
            };
            let message = input.split_to(head.length);
            self.answer(head.tag, &message)?;
        }
    }

    /// INVARIANT: rows go to the client for nothing but a statement that runs by this record of it.
    fn note_passed(&mut self, tag: u8) -> Result<(), End> {
        match tag {
            b'D' | b'd' => match self.running() {
                Some(run) => run.rows += 1,
                None => return Err(unexpected(tag)),
            },
            b'T' if matches!(self.expected.front(), Some(Expect::Describe)) => {
                self.expected.pop_front();
            }
            b'T' if self.running().is_none() => return Err(unexpected(tag)),
            _ => {}
        }
        Ok(())
    }

    fn running(&mut self) -> Option<&mut Run> {
        match self.expected.front_mut() {
            Some(Expect::Execute(run)) => Some(run),
            Some(Expect::Query(runs)) => runs.front_mut(),
            _ => None,
        }
    }

    fn answer(&mut self, tag: u8, message: &[u8]) -> Result<(), End> {
        let body = message.get(5..).unwrap_or_default();
        match tag {
            b'C' | b'I' | b's' => self.finish_run(tag, body)?,
            b'E' => return self.take_error(message, body),
            b'Z' => {
                let state = body.first().copied().unwrap_or(b'E');
                self.transaction.ready(state, &mut self.finished);
                if state == b'I' {
                    self.portals.end_transaction();
                    self.withholds = false;
                }
                // INVARIANT: of a query nothing is left: each statement is done, or none after an error is.
                // Whatever else the server is ready for, it is not what it was asked.
                let asked = match self.expected.front() {
                    Some(Expect::Sync | Expect::Denied { query: true, .. }) => true,
                    Some(Expect::Query(runs)) => runs.is_empty(),
                    _ => false,
                };
                if !asked {
                    return Err(unexpected(tag));
                }
                self.expected.pop_front();
                if state == b'I' {
                    self.settle_definitions();
                }
                // This may answer to what was sent before the writes of a transaction that follows.
                if !self.transaction.is_open() && self.transaction.wrote {
                    self.transaction.wrote = self.writes_in_flight();
                }
            }
            b'1' => match self.expected.pop_front() {
                Some(Expect::Parse { name, statement }) => {
                    if !self.statements.confirm(name, statement, false) {
                        return Err(End::Misuse("prepares too many statements"));
                    }
                }
                _ => return Err(unexpected(tag)),
            },
            b'2' => match self.expected.pop_front() {
                Some(Expect::Bind { portal, statement }) => {
                    if !self.portals.confirm(portal, statement, false) {
                        return Err(End::Misuse("opens too many portals"));
                    }
                }
                _ => return Err(unexpected(tag)),
            },
            b'3' => match self.expected.pop_front() {
                Some(Expect::CloseStatement(name)) => self.statements.remove(&name),
                Some(Expect::ClosePortal(name)) => self.portals.remove(&name),
                _ => return Err(unexpected(tag)),
            },
            b'n' => {
                if let Some(Expect::Describe) = self.expected.front() {
                    self.expected.pop_front();
                }
            }
            b'G' => {
                // Nothing but the statement's own answers is before it: what follows waits.
                if self.running().is_none() {
                    return Err(unexpected(tag));
                }
                self.note_copy();
                self.copying_in = true;
            }
            b'H' => self.note_copy(),
            other => return Err(unexpected(other)),
        }
        self.to_client.extend_from_slice(message);
        Ok(())
    }

    fn note_copy(&mut self) {
        if let Some(run) = self.running() {
            run.copies = true;
        }
    }

    /// No transaction is open: what was defined is in force, or will never be.
    fn settle_definitions(&mut self) {
        if self.defined.is_empty() {
            return;
        }
        self.stale = true;
        self.judge.database.look_again();
        if !self.defines() {
            self.defined.clear();
        }
    }

    fn writes_in_flight(&self) -> bool {
        self.expected.iter().any(|expect| match expect {
            Expect::Execute(run) => run.effect == Effect::Write,
            Expect::Query(runs) => runs.iter().any(|run| run.effect == Effect::Write),
            _ => false,
        })
    }

    /// INVARIANT: what the server says of one statement is never recorded as that of another.
    fn check_step(&mut self, tag: u8, body: &[u8]) -> Result<(), End> {
        // Only a portal is suspended, and never that of a Query.
        if tag == b's' && !matches!(self.expected.front(), Some(Expect::Execute(_))) {
            return Err(unexpected(tag));
        }
        let Some(run) = self.running() else {
            return Ok(());
        };
        let said = wire::text_at(body).map_or("", |(text, _)| text);
        match tag {
            b'C' if !tags::fits(run.verb, said) => Err(tags::out_of_step(run.verb, said)),
            // What is empty stands as SHOW among the statements that are known.
            b'I' if run.verb != "SHOW" => Err(tags::out_of_step(run.verb, "nothing")),
            _ => Ok(()),
        }
    }

    /// CommandComplete, EmptyQueryResponse or PortalSuspended.
    fn finish_run(&mut self, tag: u8, body: &[u8]) -> Result<(), End> {
        self.check_step(tag, body)?;
        let run = match self.expected.front_mut() {
            Some(Expect::Query(runs)) => runs.pop_front(),
            Some(Expect::Execute(_)) => match self.expected.pop_front() {
                Some(Expect::Execute(run)) => Some(run),
                _ => None,
            },
            _ => return Err(unexpected(tag)),
        };
        // An empty query has no run.
        let Some(run) = run else {
            return if tag == b'I' {
                Ok(())
            } else {
                Err(unexpected(tag))
            };
        };
        let command = wire::text_at(body)
            .map(|(text, _)| text.to_owned())
            .unwrap_or_default();
        if tag == b'C' {
            self.apply_names(&run)?;
        }
        self.withholds |= run.verdict.withholds;
        let rows = command
            .rsplit(' ')
            .next()
            .and_then(|count| count.parse().ok());
        let ending = Ending {
            result: "ok",
            sqlstate: None,
            rows: rows.or(Some(run.rows)),
            tag: command
                .split(' ')
                .next()
                .filter(|word| !word.is_empty())
                .map(str::to_owned),
            transaction: None,
        };
        let kind = (run.statement.resolved().verb, run.effect);
        self.transaction
            .finish(kind, run.intent, ending, &mut self.finished);
        Ok(())
    }

    /// What a finished statement has done to names.
    fn apply_names(&mut self, run: &Run) -> Result<(), End> {
        if !run.names {
            return Ok(());
        }
        let resolved = run.statement.resolved();
        let fits = match &resolved.named {
            Some(NamedEffect::Prepare { name, .. }) => {
                // What cannot be decided on now leads nowhere.
                self.statements.remove(name);
                self.judge.inner(&run.statement).map_or(true, |inner| {
                    self.statements.confirm(name.as_str().into(), inner, false)
                })
            }
            Some(NamedEffect::Declare { name, holds, .. }) => {
                self.portals.remove(name);
                self.judge.inner(&run.statement).map_or(true, |inner| {
                    self.portals.confirm(name.as_str().into(), inner, *holds)
                })
            }
            Some(NamedEffect::Deallocate { name: Some(name) }) => {
                self.statements.remove(name);
                true
            }
            Some(NamedEffect::Deallocate { name: None }) => {
                self.statements.clear();
                true
            }
            Some(NamedEffect::Close { name: Some(name) }) => {
                self.portals.remove(name);
                true
            }
            Some(NamedEffect::Close { name: None }) => {
                self.portals.clear();
                true
            }
            Some(NamedEffect::DiscardAll) => {
                self.statements.clear();
                self.portals.clear();
                true
            }
            _ => true,
        };
        if fits {
            Ok(())
        } else {
            Err(End::Misuse("prepares or declares too much"))
        }
    }

    fn take_error(&mut self, message: &[u8], body: &[u8]) -> Result<(), End> {
        self.copying_in = false;
        let (sqlstate, _) = wire::sqlstate(body);
        // Allowed here and refused or unknown there: something was defined past the gateway.
        let denied = matches!(self.expected.front(), Some(Expect::Denied { .. }));
        if !self.expected.is_empty() {
            self.transaction
                .fail(if denied { "42501" } else { &sqlstate });
        }
        if !denied && matches!(sqlstate.as_str(), "42501" | "42P01" | "42883" | "3F000") {
            self.judge.database.look_again();
        }
        let told = self.told(message, body, &sqlstate);
        let in_query = match self.expected.front_mut() {
            // Nothing was asked: the server ends the session.
            None => {
                self.to_client.extend_from_slice(&told);
                return Ok(());
            }
            Some(Expect::Denied { notice, query }) => {
                wire::error(&mut self.to_client, notice);
                let query = *query;
                if !query {
                    self.expected.pop_front();
                    self.skip_until_sync();
                }
                return Ok(());
            }
            Some(Expect::Query(runs)) => {
                for run in std::mem::take(runs) {
                    failed(&mut self.finished, run, &sqlstate);
                }
                true
            }
            Some(_) => false,
        };
        if !in_query {
            if !matches!(self.expected.front(), Some(Expect::Sync))
                && let Some(Expect::Execute(run)) = self.expected.pop_front()
            {
                failed(&mut self.finished, run, &sqlstate);
            }
            self.skip_until_sync();
        }
        self.to_client.extend_from_slice(&told);
        Ok(())
    }

    /// An error as the client may have it: without what quotes rows, where it may not read all of them.
    fn told<'m>(&self, message: &'m [u8], body: &[u8], sqlstate: &str) -> Cow<'m, [u8]> {
        let withholding = |run: &Run| run.verdict.withholds;
        let in_flight = || {
            self.expected.iter().any(|expect| match expect {
                Expect::Execute(run) => withholding(run),
                Expect::Query(runs) => runs.iter().any(withholding),
                _ => false,
            })
        };
        if !self.withholds && !in_flight() {
            return Cow::Borrowed(message);
        }
        let finding = Finding::new(
            "POLICY-COLUMN-WITHHELD",
            "the rest of this error may quote columns that policy does not allow to select",
        )
        .next(
            "look at the values that the statement writes; the table and the constraint are named",
        );
        // A changed type or default is computed of every row, and the error has the value in its first line.
        let computed = sqlstate.starts_with("22") && self.defines();
        let first = computed.then_some("a value that the definition computes is not valid");
        let mut told = BytesMut::new();
        wire::without_data(&mut told, body, &finding.to_string(), first);
        Cow::Owned(told.to_vec())
    }

    /// Whether what runs, or will, defines.
    fn defines(&self) -> bool {
        let defines = |run: &Run| run.statement.resolved().defines;
        self.expected.iter().any(|expect| match expect {
            Expect::Execute(run) => defines(run),
            Expect::Query(runs) => runs.iter().any(defines),
            _ => false,
        })
    }

    /// The server skips everything until Sync: none of it runs.
    fn skip_until_sync(&mut self) {
        while let Some(expect) = self.expected.front() {
            if matches!(expect, Expect::Sync) {
                return;
            }
            match self.expected.pop_front() {
                Some(Expect::Execute(run)) => failed(&mut self.finished, run, "25P02"),
                Some(Expect::Query(runs)) => {
                    for run in runs {
                        failed(&mut self.finished, run, "25P02");
                    }
                }
                _ => {}
            }
        }
        self.skipping = true;
    }

    /// Makes durable what has finished. Nothing in `to_client` is released before this returns.
    pub(crate) async fn record(&mut self) -> Result<(), End> {
        // INVARIANT: nothing leaves the list before all of it is durable: a cut goes on where this was.
        for (intent, ending) in &mut self.finished {
            self.recorder.conclude(intent, ending).await?;
        }
        self.finished.clear();
        if self.transaction.is_untold() && !self.can_wait() {
            for pending in &mut self.transaction.pending {
                if !std::mem::replace(&mut pending.told, true) {
                    self.recorder
                        .pending(&pending.intent, &pending.ending)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Whether `to_client` may wait for the server to be ready again: it is not too much, and nothing
    /// more is needed from the client for it.
    fn can_wait(&self) -> bool {
        let ready_follows = || self.expected.iter().any(Expect::ends_segment);
        !self.copying_in && self.to_client.len() < HOLD && ready_follows()
    }

    /// Whether what is in `to_client` has to wait: a strict operation has not finished.
    pub(crate) fn holds(&self) -> bool {
        if self.copying_in || self.to_client.len() >= HOLD {
            return false;
        }
        if self.transaction.is_untold() {
            return true;
        }
        let run = match self.expected.front() {
            Some(Expect::Execute(run)) => Some(run),
            Some(Expect::Query(runs)) => runs.front(),
            _ => None,
        };
        run.is_some_and(|run| run.verdict.strict && run.intent.is_some() && run.rows > 0)
    }

    /// The conversation is over: what was in flight was cut. False when that could not be recorded.
    pub(crate) async fn cut(&mut self) -> bool {
        if !self.defined.is_empty() {
            self.judge.database.look_again();
        }
        let mut open: Finished = std::mem::take(&mut self.finished);
        self.transaction.cut(&mut open);
        let runs = self.expected.drain(..).flat_map(|expect| match expect {
            Expect::Execute(run) => VecDeque::from([run]),
            Expect::Query(runs) => runs,
            _ => VecDeque::new(),
        });
        for run in runs {
            if let Some(intent) = run.intent {
                open.push((
                    intent,
                    Ending {
                        result: "cut",
                        sqlstate: None,
                        rows: (!run.copies).then_some(run.rows),
                        tag: None,
                        transaction: None,
                    },
                ));
            }
        }
        let mut recorded = true;
        for (intent, ending) in &mut open {
            if let Err(error) = self.recorder.conclude(intent, ending).await {
                tracing::error!(%error, "what became of an operation is not recorded");
                recorded = false;
            }
        }
        recorded
    }

    /// Whether something runs upstream that has to be cancelled.
    pub(crate) fn is_busy(&self) -> bool {
        !self.expected.is_empty()
    }
}

fn failed(finished: &mut Finished, run: Run, sqlstate: &str) {
    if let Some(intent) = run.intent {
        let ending = Ending {
            result: "error",
            sqlstate: Some(sqlstate.to_owned()),
            ..Ending::default()
        };
        finished.push((intent, ending));
    }
}

fn unexpected(tag: u8) -> End {
    End::Upstream(WireError::UnknownTag(char::from(tag)))
}
