//! Answers to a server that asks this machine to prove itself again: a quote, and what is new in the IMA list.

use crate::config::{JoinConfig, TeeConfig};
use crate::enforcing::Enforcer;
use crate::hardware;
use crate::measured::List;
use attest_tpm::join::Boot;
use device::tpm;
use proto::v1;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often it is looked whether the list has grown: one small read.
const LOOK: Duration = Duration::from_millis(500);

/// What answers: the chip, and the list.
#[derive(Debug, Clone)]
pub(crate) struct Attesting {
    address: String,
    tee: Option<TeeConfig>,
    list: Option<List>,
    enforcer: Arc<Enforcer>,
}

/// What came of a question.
pub(crate) enum Answered {
    /// To be sent; and how long the list was before it was quoted.
    Answer(Box<v1::Attestation>, Option<u64>),
    /// The chip counts another boot than the server knows: this machine has to renew first.
    OtherBoot,
    /// It stands in the log. The server asks again.
    Failed,
}

impl Attesting {
    /// Absent for a machine without a TPM: it is never asked.
    pub(crate) fn of(join: &JoinConfig, enforcer: &Arc<Enforcer>) -> Option<Self> {
        match join {
            JoinConfig::Tpm {
                tpm, ima_list, tee, ..
            } => Some(Self {
                address: tpm.clone(),
                tee: tee.clone(),
                list: List::of(tpm, ima_list.as_deref()),
                enforcer: Arc::clone(enforcer),
            }),
            JoinConfig::Enclave { .. } | JoinConfig::Token { .. } => None,
        }
    }

    /// A chip takes its time: never on an async thread.
    pub(crate) async fn answer(self, asked: v1::AttestRequest) -> Answered {
        let answered = tokio::task::spawn_blocking(move || self.quote(&asked)).await;
        match answered {
            Ok(Ok(answered)) => answered,
            Ok(Err(error)) => {
                tracing::warn!(error = %facts::with_causes(&error), "the TPM did not quote");
                Answered::Failed
            }
            Err(_) => Answered::Failed,
        }
    }

    fn quote(&self, asked: &v1::AttestRequest) -> Result<Answered, tpm::Error> {
        let Ok(nonce) = <[u8; 32]>::try_from(asked.nonce.as_slice()) else {
            return Ok(Answered::Failed);
        };
        // Before the quote: whatever comes behind is noticed as new.
        let mark = self.list.as_ref().and_then(List::mark);
        let quote = tpm::quote(
            hardware::open(&self.address, self.tee.as_ref())?,
            &nonce,
            &asked.pcrs,
        )?;
        let known = Boot {
            reset_count: asked.reset_count,
            restart_count: asked.restart_count,
        };
        if quote.boot != known {
            return Ok(Answered::OtherBoot);
        }
        let list = self.list.as_ref().map(List::read).unwrap_or_default();
        let (ima_first, new) = match attest_tpm::ima::after(&list, asked.ima_entries) {
            Some(new) => (asked.ima_entries, new),
            None => (0, list.as_slice()),
        };
        let attestation = v1::Attestation {
            nonce: asked.nonce.clone(),
            quote: quote.attested,
            quote_signature: quote.signature,
            pcr_values: quote.values,
            ima_first,
            ima_list: new.to_vec(),
            enforcement: Some(self.enforcer.report()),
        };
        Ok(Answered::Answer(Box::new(attestation), mark))
    }

    /// Tells `marks` how long the list is, whenever that changes. Ends when nobody listens.
    pub(crate) async fn look(self, marks: watch::Sender<Option<u64>>) {
        let Some(list) = self.list else {
            return marks.closed().await;
        };
        loop {
            tokio::time::sleep(LOOK).await;
            let looking = list.clone();
            let Ok(mark) = tokio::task::spawn_blocking(move || looking.mark()).await else {
                return;
            };
            marks.send_if_modified(|last| {
                let grown = *last != mark;
                *last = mark;
                grown
            });
            if marks.is_closed() {
                return;
            }
        }
    }
}
