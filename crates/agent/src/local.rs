//! What this agent knows of local callers, for what else runs in its process.
//!
//! It is what the Workload API acts on: the same attestation, the same entry among the workloads, the same answer of
//! the server. Certificates are handed on, keys are not.

use crate::source::AgentSource;
use device::process::Caller;
use facts::Finding;
use spiffe_core::{SpiffeId, X509Svid};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use workload_api::{Refusal, State};

/// For the server's answer about a process that asks for the first time.
const PATIENCE: Duration = Duration::from_secs(5);

/// Attests local callers. Cheap to clone.
#[derive(Clone)]
pub struct LocalCallers(pub(crate) Arc<AgentSource>);

/// A process as the agent knows it.
pub struct Known {
    /// Identities that it may hold now, the default one first, each with its certificates, the leaf first.
    pub held: Vec<(SpiffeId, Vec<Vec<u8>>)>,
    /// While it is kept, the agent keeps them renewed.
    pub kept: Arc<dyn Any + Send + Sync>,
}

impl LocalCallers {
    /// Attests `caller` as it is now. One that is given no identity is known and holds none.
    ///
    /// # Errors
    /// Why it cannot be attested, or that the server has not answered about it.
    pub async fn known(&self, caller: Arc<Caller>) -> Result<Known, Finding> {
        let mut attached = self.0.attach(caller, None).await.map_err(finding)?;
        let answered = attached
            .states
            .wait_for(|state| !matches!(state, State::Pending));
        let state = match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) => return Err(unanswered("the caller changed")),
            Err(_) => return Err(unanswered("the server has not answered about the caller")),
        };
        let held = match state {
            State::Pending => {
                return Err(unanswered("the server has not answered about the caller"));
            }
            State::Refused(refusal) => match refusal.as_ref() {
                // It was looked at, and is given nothing.
                Refusal::Denied(_) => Vec::new(),
                other => return Err(finding(other.clone())),
            },
            State::Current(view) => {
                let held = view.svids.iter().map(|svid| {
                    let id = svid.spiffe_id.parse::<SpiffeId>();
                    let id = id.map_err(|error| unreadable(error.to_string()))?;
                    let chain = X509Svid::parse_concatenated(&svid.chain)?;
                    Ok((id, chain.chain().map(<[u8]>::to_vec).collect()))
                });
                held.collect::<Result<_, Finding>>()?
            }
        };
        Ok(Known {
            held,
            kept: Arc::new(attached.states),
        })
    }
}

fn finding(refusal: Refusal) -> Finding {
    match refusal {
        Refusal::Unavailable(finding) | Refusal::Invalid(finding) => finding,
        Refusal::Denied(findings) => findings.into_iter().next().unwrap_or_else(|| {
            Finding::new("AGENT-DENIED", "the agent gives this process no identity")
        }),
    }
}

fn unanswered(what: &str) -> Finding {
    Finding::new("AGENT-UNANSWERED", what).next("ask again; look at the agent's log")
}

fn unreadable(what: String) -> Finding {
    Finding::new("AGENT-SVID", "what the server issued cannot be read").observed(what)
}
