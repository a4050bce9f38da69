//! `trilith agent` with `[decisions]`: the node agent, and a decision point for its local callers in one process.
//!
//! The two planes do not know one another; this is where they meet. The agent says who calls, the decision point
//! what they may.

mod unheld;

use super::PDP_THREADS;
use crate::Failure;
use crate::runtime::{block_on, cancelled_by_signal};
use agent::{AgentConfig, LocalCallers};
use device::process::Caller;
use facts::Finding;
use pdp::{Attest, Attested, Held, LocalConfig, OfAgent};
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Until the server can be reached for the first contact.
const RETRY: Duration = Duration::from_secs(2);

/// Runs both until a signal.
pub(super) fn agent(config: AgentConfig, section: toml::Table) -> Result<(), Failure> {
    let decisions = LocalConfig::read(section)?.beside(&OfAgent {
        trust_domain: config.trust_domain.clone(),
        server: config.server.clone(),
        pin: config.pin.clone(),
        workload_socket: config.workload_socket.clone(),
        data_dir: config.data_dir.clone(),
    })?;
    // Estates are compiled and decided by here: threads as a decision point has them.
    block_on(PDP_THREADS, async {
        let beside = |callers, stop| decide(decisions, callers, stop);
        agent::run_beside(config, cancelled_by_signal()?, beside)
            .await
            .map_err(|error| error.finding().into())
    })
}

/// INVARIANT: the machine keeps its identities when decisions end, and nobody is answered without a record: what
/// has failed once is not opened again in this process.
async fn decide(config: pdp::Config, callers: LocalCallers, stop: CancellationToken) {
    let (domain, identity) = (&config.pdp.trust_domain, &config.pdp.identity);
    let own = format!("spiffe://{domain}/{identity}");
    let unheld = unheld::tell(config.pdp.workload_socket.clone(), own);
    let telling = async {
        unheld.await;
        std::future::pending::<()>().await;
    };
    let (ask, stopping) = tokio::sync::watch::channel(false);
    let asking = async {
        stop.cancelled().await;
        ask.send_replace(true);
        std::future::pending::<()>().await;
    };
    let deciding = async {
        loop {
            let attest = Arc::new(ByAgent(callers.clone()));
            match pdp::run_beside(config.clone(), attest, stopping.clone()).await {
                Ok(()) => return,
                Err(error) if error.may_pass() => {
                    let finding = ended(&error);
                    tracing::warn!(%finding, "decisions wait for the server");
                    tokio::time::sleep(RETRY).await;
                }
                Err(error) => {
                    let finding = ended(&error);
                    tracing::error!(%finding, "decisions have ended; identities are served on");
                    return;
                }
            }
            if stop.is_cancelled() {
                return;
            }
        }
    };
    tokio::select! {
        () = deciding => {}
        () = asking => {}
        () = telling => {}
    }
}

fn ended(error: &pdp::RunError) -> Finding {
    match error {
        pdp::RunError::Refused(finding) => finding.clone(),
        other => Finding::new("AGENT-DECISIONS-ENDED", facts::with_causes(other))
            .next("mend it and start the agent again"),
    }
}

/// Who calls, as the agent knows it.
struct ByAgent(LocalCallers);

impl Attest for ByAgent {
    fn attest(
        &self,
        caller: Arc<Caller>,
    ) -> Pin<Box<dyn Future<Output = Result<Attested, Finding>> + Send + '_>> {
        Box::pin(async move {
            let known = self.0.known(caller).await?;
            let held = known.held.into_iter();
            Ok(Attested {
                held: held
                    .map(|(spiffe_id, chain)| Held { spiffe_id, chain })
                    .collect(),
                kept: known.kept,
            })
        })
    }
}

/// The schema of `agent.toml`, with that of its `[decisions]`.
pub(super) fn schema() -> Value {
    let mut whole = AgentConfig::json_schema();
    let mut decisions = pdp::local_json_schema();
    let definitions = decisions
        .as_object_mut()
        .and_then(|section| section.remove("$defs"));
    if let Some(section) = decisions.as_object_mut() {
        section.remove("$schema");
        section.remove("title");
        // The agent's own words say what the section is.
        let said = whole.pointer("/properties/decisions/description").cloned();
        section.extend(said.map(|said| ("description".to_owned(), said)));
    }
    if let Some(place) = whole.pointer_mut("/$defs").and_then(Value::as_object_mut)
        && let Some(Value::Object(definitions)) = definitions
    {
        for (name, definition) in definitions {
            place.entry(name).or_insert(definition);
        }
        place.insert("LocalConfig".to_owned(), decisions);
    }
    if let Some(place) = whole.pointer_mut("/properties/decisions") {
        *place = serde_json::json!({
            "description": place.get("description").cloned().unwrap_or_default(),
            "anyOf": [{ "$ref": "#/$defs/LocalConfig" }, { "type": "null" }],
            "default": null,
        });
    }
    whole
}
