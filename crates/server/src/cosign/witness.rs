//! One witness: a request at a time, from the size that it has cosigned last, and what became of it.

use super::{ATTEMPTS, Asked, Witnessed, contradicted, mirror, verified};
use crate::core::Core;
use crate::metrics::WitnessOutcome;
use facts::Timestamp;
use ledger::witness::{AddCheckpoint, Answer};
use ledger::{CosignerKey, Note, NoteSignature};
use ledger_store::Reader;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// What a round shows.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) number: u64,
    pub(super) size: u64,
    /// With the ledger's own line.
    pub(super) note: Note,
}

/// What came of it from one witness: verified lines of its keys.
pub(super) struct Lines {
    pub(super) number: u64,
    pub(super) lines: Vec<NoteSignature>,
}

/// Why there is no line of a witness.
pub(super) struct Refused {
    pub(super) what: String,
    /// It says that it has seen more, or another ledger.
    pub(super) contradicts: bool,
}

impl From<String> for Refused {
    fn from(what: String) -> Self {
        Self {
            what,
            contradicts: false,
        }
    }
}

/// What is known of a witness.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// Of the checkpoint that it has cosigned last, as far as is known. It says itself where that is not so.
    size: u64,
    /// When it cosigned last.
    at: Option<Timestamp>,
    /// Why it has not cosigned what it was shown last.
    failed: Option<String>,
}

impl Standing {
    /// As what an earlier run kept says.
    pub(super) fn begin(asked: &Asked, kept: Option<&Witnessed>) -> Self {
        let note = kept.and_then(|kept| Note::parse(&kept.note).ok());
        let signed = note.is_some_and(|note| {
            let by = |line: &NoteSignature| {
                asked
                    .keys
                    .iter()
                    .any(|key| line.is_by(key.name(), key.id()))
            };
            note.signatures.iter().any(by)
        });
        Self {
            size: kept.filter(|_| signed).map_or(0, |kept| kept.size),
            at: None,
            failed: None,
        }
    }

    pub(super) fn shown(&self, asked: &Asked) -> Value {
        let names: Vec<String> = asked.keys.iter().map(ToString::to_string).collect();
        json!({
            "url": asked.url, "keys": names, "size": self.size,
            "cosigned": self.at.map(|at| at.to_string()), "failed": self.failed,
        })
    }
}

/// Seconds since 1970, for people.
pub(super) fn time(seconds: u64) -> String {
    Timestamp::from_millis(seconds.saturating_mul(1_000)).to_string()
}

/// Shows every target to the witness at `at`, the newest where it was slower than the rounds.
pub(super) async fn each(
    core: Arc<Core>,
    at: usize,
    mut targets: watch::Receiver<Option<Target>>,
    lines: mpsc::Sender<Lines>,
) {
    let Some(witnesses) = &core.witnesses else {
        return;
    };
    let Some(asked) = witnesses.asked.get(at) else {
        return;
    };
    let mut old = 0;
    witnesses.standing(at, |standing| old = standing.size);
    while targets.changed().await.is_ok() {
        let Some(target) = targets.borrow_and_update().clone() else {
            continue;
        };
        let within = witnesses.settings.timeout();
        let reader = core.journal.reader();
        let cosigned = match cosign(reader, asked, &target, &mut old, within).await {
            Ok(lines) => Ok(lines),
            Err(refused) => {
                if refused.contradicts {
                    contradicted(&core, asked, within).await;
                }
                Err(refused.what)
            }
        };
        let outcome = if cosigned.is_ok() {
            "cosigned"
        } else {
            "failed"
        };
        let label = WitnessOutcome {
            witness: asked.url.clone(),
            outcome,
        };
        core.metrics.witness_rounds.get_or_create(&label).inc();
        witnesses.standing(at, |standing| {
            standing.size = old;
            match &cosigned {
                Ok(_) => (standing.at, standing.failed) = (Some(core.now()), None),
                Err(what) => {
                    // Said once for as long as it is the same.
                    if standing.failed.as_ref() != Some(what) {
                        tracing::warn!(url = asked.url, %what, "a witness has not cosigned");
                    }
                    standing.failed = Some(what.clone());
                }
            }
        });
        // None, where it has not: the round is over once all have answered.
        let came = Lines {
            number: target.number,
            lines: cosigned.unwrap_or_default(),
        };
        if lines.send(came).await.is_err() {
            return;
        }
    }
}

/// The lines of the witness over `target`. `old` becomes what it has cosigned last.
pub(super) async fn cosign(
    reader: &Reader,
    asked: &Asked,
    target: &Target,
    old: &mut u64,
    within: Duration,
) -> Result<Vec<NoteSignature>, Refused> {
    for _ in 0..ATTEMPTS {
        if *old > target.size {
            let (seen, ours) = (*old, reader.size());
            if seen > ours {
                // It is asked again, should it have said so wrongly.
                *old = 0;
                return Err(Refused {
                    what: format!("it has cosigned {seen} records, and there are {ours} here"),
                    contradicts: true,
                });
            }
            return Err(format!("it has cosigned {seen} records already").into());
        }
        let (from, size) = (*old, target.size);
        let reading = reader.clone();
        let proof = tokio::task::spawn_blocking(move || reading.consistency(from, size));
        let proof = proof
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let request = AddCheckpoint::new(from, proof, target.note.clone())
            .map_err(|error| facts::with_causes(&error))?;
        match asked
            .address
            .add_checkpoint(request.to_string(), !asked.mirrors.is_empty(), within)
            .await?
        {
            Answer::Cosigned(answered) => {
                *old = target.size;
                let mut lines = Vec::new();
                let witness = |key: &CosignerKey| !asked.mirrors.contains(key);
                let keys: Vec<CosignerKey> = asked
                    .keys
                    .iter()
                    .filter(|key| witness(key))
                    .cloned()
                    .collect();
                if !keys.is_empty() {
                    lines = verified(&keys, &target.note.text, &answered)?;
                }
                if asked.mirrors.is_empty() {
                    return Ok(lines);
                }
                return match mirror::upload(reader, asked, target, within).await {
                    Ok(more) => Ok([lines, more].concat()),
                    // What the witness beside it says counts nevertheless.
                    Err(what) if !lines.is_empty() => {
                        tracing::warn!(url = asked.url, %what, "a mirror is behind");
                        Ok(lines)
                    }
                    Err(what) => Err(what.into()),
                };
            }
            // "The client … SHOULD retry … with the updated tree size".
            Answer::Conflict { size } if size != from => *old = size,
            Answer::Conflict { size } => {
                let what = format!("it was shown a proof from {size}, and says that it has {size}");
                return Err(what.into());
            }
            Answer::Refused { status } => {
                return Err(Refused {
                    what: format!("it answered {status}"),
                    contradicts: status == 422,
                });
            }
        }
    }
    Err("it says another size each time".to_owned().into())
}
