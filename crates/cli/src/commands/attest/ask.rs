//! A machine asked now.

use crate::arguments::Global;
use crate::commands::ask::text;
use crate::{Failure, admin, output};
use proto::v1;
use std::process::ExitCode;

pub(super) async fn ask(node: String, global: &Global) -> Result<ExitCode, Failure> {
    let answer = admin::connect(&global.admin_socket)
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
        println!("{} is evicted: {next}", text(&answer, "/node"));
    } else {
        println!(
            "{} proved itself; {} entries of its list are verified",
            text(&answer, "/node"),
            answer
                .get("ima_entries")
                .and_then(|count| count.as_u64())
                .unwrap_or(0)
        );
    }
    Ok(if evicted {
        ExitCode::from(crate::EXIT_VERIFICATION)
    } else {
        ExitCode::SUCCESS
    })
}
