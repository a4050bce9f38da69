//! One document, for somebody who waits for it and keeps it elsewhere.

use crate::fetcher::Want;
use crate::get::get;
use crate::source::Source;
use attest_tee::Endorsement;
use facts::{Finding, Timestamp};
use std::time::Duration;

/// Asks one source after the other until one hands over a document that leads to its root.
///
/// # Errors
/// `TEE-ENDORSEMENT-FETCH`, with what each said.
pub async fn fetch_once(
    sources: &[Source],
    want: &Want,
    timeout: Duration,
) -> Result<Endorsement, Finding> {
    let mut problems = Vec::new();
    for source in sources {
        if !source.has(&want.artefact, want.root.as_deref()) {
            continue;
        }
        let checked = match get(source, &want.artefact, timeout).await {
            Ok(answer) => {
                Endorsement::check(&want.artefact, answer, &want.anchors, Timestamp::now())
                    .map_err(|why| format!("not what was asked for: {why}"))
            }
            Err(failure) => Err(failure.to_string()),
        };
        match checked {
            Ok(endorsement) => return Ok(endorsement),
            Err(problem) => problems.push(format!("{}: {problem}", source.host())),
        }
    }
    Err(
        Finding::new("TEE-ENDORSEMENT-FETCH", "an endorsement cannot be fetched")
            .expected(want.artefact.to_string())
            .observed(problems.join("; "))
            .next("look at the address; a chip that its vendor does not know has no endorsement"),
    )
}
