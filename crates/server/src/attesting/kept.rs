//! What standing machines booted, judged again by rules (`[[boot]]`) that came into force after they joined: by
//! the log that was kept of each, because none is sent again. What cannot be read is not taken for good.

use crate::core::Core;
use crate::refusal::Refusal;
use appraise::{Blobs, Demands, Kept};
use facts::Finding;
use ledger::body;
use references::{At, References};
use std::sync::Arc;
use store::NodeRow;

/// What a boot is judged by, of all that a verdict rests on.
const KINDS: [&str; 5] = [
    "tpm-ak-public",
    "tpm-quote",
    "tpm-quote-signature",
    "tpm-pcr-values",
    "tpm-event-log",
];

/// Why the boot of `node` fits no rule of `demands`; nothing where there are none. Reads from the disk.
pub(super) fn outgrown(
    core: &Core,
    node: &NodeRow,
    demands: &Demands,
    values: &References,
    at: At<'_>,
) -> Vec<Finding> {
    if demands.rules.is_empty() {
        return Vec::new();
    }
    match booted(core, node) {
        Ok(kept) => demands.outgrown(values, kept.booted(), at),
        Err(findings) => findings,
    }
}

/// As [`outgrown`], by the version that is in force, for a machine that this server knows only by its records.
///
/// # Errors
/// When its facts cannot be read.
pub(super) async fn since_it_joined(
    core: &Arc<Core>,
    node: &NodeRow,
) -> Result<Vec<Finding>, Refusal> {
    let Some(current) = core.current.load_full() else {
        return Ok(Vec::new());
    };
    let facts = core.machine_facts(node)?;
    let (judging, node) = (Arc::clone(core), node.clone());
    let judged = core.pool.run(move || {
        let ring = current.ring(&facts);
        let now = judging.now();
        let values = &current.estate.references().values;
        let demands = current.demands(&ring);
        outgrown(&judging, &node, &demands, values, At { now, ring: &ring })
    });
    let judged = judged.await;
    judged.map_err(|error| Refusal::internal("judging a boot again", &error))
}

fn booted(core: &Core, node: &NodeRow) -> Result<Kept, Vec<Finding>> {
    let lacking = |observed: String| {
        vec![
            Finding::new(
                "ATTEST-EVIDENCE",
                "what the machine booted cannot be judged by the rules that came since",
            )
            .expected(format!("the evidence of record {}", node.verdict))
            .observed(observed)
            .next("restore the blobs of the ledger; the machine joins again by itself"),
        ]
    };
    let record = core.journal.reader().record(node.verdict);
    let record = record.map_err(|error| lacking(error.to_string()))?;
    let verdict: Result<body::Verdict, _> = record.expect_body();
    let verdict = verdict.map_err(|error| lacking(error.to_string()))?;
    let mut blobs = Blobs::default();
    let named = verdict.evidence.iter();
    for named in named.filter(|one| KINDS.contains(&one.kind.as_str())) {
        let bytes = core.blobs.get(&named.sha256);
        let bytes = bytes.map_err(|error| lacking(error.to_string()))?;
        let bytes = bytes.ok_or_else(|| lacking(format!("no {} {}", named.kind, named.sha256)))?;
        blobs.add(&named.kind, &bytes);
    }
    Kept::read(&blobs)
}
