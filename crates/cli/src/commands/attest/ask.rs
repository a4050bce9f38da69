//! A machine asked now.

use crate::arguments::Global;
use crate::commands::ask::text;
use crate::{Failure, admin, output};
use proto::v1;
use serde_json::Value;
use std::process::ExitCode;

pub(super) async fn ask(node: String, global: &Global) -> Result<ExitCode, Failure> {
    let answer = admin::connect(global)
        .await?
        .attest_ask(v1::AttestAskRequest { node })
        .await
        .map_err(|status| admin::refusal(&status))?;
    let answer = admin::document(answer)?;
    let evicted = text(&answer, "/outcome") == "evicted";
    if global.json {
        output::json(&answer);
    } else if evicted {
        let next = text(&answer, "/next");
        output::line(format_args!(
            "{} is evicted: {next}",
            text(&answer, "/node")
        ));
    } else {
        let verified = answer.get("ima_entries").and_then(Value::as_u64);
        output::line(format_args!(
            "{} proved itself; {} entries of its list are verified",
            text(&answer, "/node"),
            verified.unwrap_or(0)
        ));
    }
    Ok(if evicted {
        ExitCode::from(crate::EXIT_VERIFICATION)
    } else {
        ExitCode::SUCCESS
    })
}
