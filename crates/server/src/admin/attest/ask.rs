//! What came of asking a machine now.

use crate::attesting::{Outcome, demand};
use crate::core::Core;
use crate::refusal::Refusal;
use serde_json::{Value, json};
use std::sync::Arc;

pub(in crate::admin) async fn ask(core: &Arc<Core>, node: &str) -> Result<Value, Refusal> {
    Ok(match demand(core, node).await? {
        Outcome::Passed { entries } => json!({
            "node": node,
            "outcome": "passed",
            "ima_entries": entries,
        }),
        Outcome::Evicted => json!({
            "node": node,
            "outcome": "evicted",
            "next": format!("trilith attest explain {node}"),
        }),
    })
}
