//! What somebody asked, and what the answer was: recorded as of whoever asked, before the answer goes out.

use super::{DecisionId, Operation, Recorder, RecordingStopped, SessionIdentity, SessionRecorder};
use crate::told::Behalf;
use ledger::Draft;
use ledger::body::{self, About};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// An answer that is about to be given.
#[derive(Debug, Clone)]
pub struct Answered {
    /// What was asked. Its statement says by which question.
    pub operation: Operation,
    pub about: About,
    pub allow: bool,
    /// Codes.
    pub findings: Vec<String>,
}

impl Recorder {
    /// Of a connection by which `actor` asks; `auth` says how it was authenticated. `id` is unique.
    #[must_use]
    pub fn asker(&self, id: &str, actor: &str, auth: &str) -> SessionRecorder {
        SessionRecorder {
            recorder: self.clone(),
            identity: Arc::new(SessionIdentity {
                id: id.to_owned(),
                actor: actor.to_owned(),
                auth: auth.to_owned(),
                behalf: Behalf::default(),
            }),
            counter: AtomicU64::new(0),
        }
    }
}

impl SessionRecorder {
    /// As many ids as answers, in their order. Durable when this returns, all by one commit.
    ///
    /// # Errors
    /// [`RecordingStopped`]: then no answer may be given.
    pub async fn answered(
        &self,
        answers: &[Answered],
    ) -> Result<Vec<DecisionId>, RecordingStopped> {
        let drafts: Result<Vec<Draft>, _> =
            answers.iter().map(|answer| self.answer(answer)).collect();
        let committed = self.recorder.ledger.append_many(drafts?).await?;
        let denied = answers.iter().filter(|answer| !answer.allow).count();
        self.recorder.metrics.denials.inc_by(denied as u64);
        Ok(committed
            .iter()
            .map(|committed| DecisionId {
                ledger: Arc::clone(&self.recorder.name),
                index: committed.index(),
            })
            .collect())
    }

    /// A question about the estate as a whole. Durable when this returns.
    ///
    /// # Errors
    /// [`RecordingStopped`]: then no answer may be given.
    pub async fn searched(
        &self,
        action: &str,
        resource: &str,
        estate: &(String, u64),
    ) -> Result<(), RecordingStopped> {
        let search = body::Admin {
            principal: self.identity.actor.clone(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            allow: true,
            policies: Vec::new(),
            detail: String::new(),
        };
        let draft = self.draft(&search, Some(estate))?;
        self.recorder.ledger.append(draft).await?;
        Ok(())
    }

    fn answer(&self, answer: &Answered) -> Result<Draft, RecordingStopped> {
        let Answered {
            operation,
            about,
            allow,
            findings,
        } = answer;
        let decision = body::Decision {
            about: Some(about.clone()),
            // Of an answer `about` says it.
            claimed_on_behalf_of: Vec::new(),
            on_behalf_of: Vec::new(),
            ..self.decision(operation, *allow, findings.clone())
        };
        self.draft(&decision, operation.estate.as_ref())
    }
}
