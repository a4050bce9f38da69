//! A machine's attestation result, for relying parties that are not Trilith.

use crate::arguments::{EarArguments, Global};
use crate::{Failure, admin, output};
use proto::v1;
use serde_json::Value;

/// The token alone, so that it can be handed on; with `--json` what else is known of it.
pub(super) async fn ear(arguments: EarArguments, global: &Global) -> Result<(), Failure> {
    let EarArguments { node, nonce } = arguments;
    let nonce = nonce.map(|nonce| nonce.0).unwrap_or_default();
    let answer = admin::connect(global)
        .await?
        .ear(v1::EarRequest { node, nonce })
        .await
        .map_err(|status| admin::refusal(&status))?;
    let document = admin::document(answer)?;
    if global.json {
        output::json(&document);
    } else {
        let token = document.get("token").and_then(Value::as_str);
        output::line(token.unwrap_or_default());
    }
    Ok(())
}
