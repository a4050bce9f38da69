//! What a vendor is asked for, so that a machine can be judged: outside the verifiers, after the machine's TPM
//! has answered, and no longer than a join may wait.

use super::{Offered, Refused};
use crate::core::Core;
use crate::endorsements::Endorsements;
use crate::refusal::Refusal;
use attest_tee::endorsed::Endorsed;
use attest_tee::snp::Generation;
use attest_tee::{Anchors, Artefact, Bundle};
use endorsements::Want;
use estate::{TeeReference, TeeRoot, TeeTerms};
use facts::{Finding, Timestamp};
use recheck::tee::references;
use std::sync::Arc;

/// What endorses this evidence, as its bytes name it; nothing where nobody may be asked. Nothing is believed:
/// a document of a wrong name endorses nothing.
///
/// # Errors
/// `TEE-ROOT-STRUCTURE`.
pub(super) fn wants(
    offered: &Offered,
    reference: &TeeReference,
    root: Option<&TeeRoot>,
    now: Timestamp,
    endorsements: &Endorsements,
) -> Result<Vec<Want>, Finding> {
    if !endorsements.may_fetch() {
        return Ok(Vec::new());
    }
    let (artefacts, anchors) = match &reference.terms {
        TeeTerms::SevSnp(terms) => {
            let references = references::snp(terms, root)?;
            let accepted = references.generations.iter().map(|(one, _)| *one);
            let accepted: Vec<Generation> = accepted.collect();
            (
                Artefact::of_snp(&offered.report, &accepted),
                Anchors::Amd(references.roots),
            )
        }
        TeeTerms::Tdx(terms) => {
            let roots = references::tdx(terms, root)?.roots;
            (
                Artefact::of_tdx(&offered.report, &roots, now),
                Anchors::Intel(roots),
            )
        }
        // What a paravisor's hardware says decides whether its machine's key counts, before anybody is asked for
        // anything: that is judged by what is at hand. A NitroTPM's document brings what endorses it.
        // Of enclaves strangers may show any: for those, too, nobody is asked.
        TeeTerms::AzureSnp(_)
        | TeeTerms::AzureTdx(_)
        | TeeTerms::NitroTpm(_)
        | TeeTerms::Nitro(_)
        | TeeTerms::Sgx(_) => {
            return Ok(Vec::new());
        }
    };
    let (anchors, root) = (Arc::new(anchors), reference.root.as_deref().map(Arc::from));
    let want = |artefact| Want {
        artefact,
        anchors: Arc::clone(&anchors),
        root: Option::clone(&root),
    };
    Ok(artefacts.into_iter().map(want).collect())
}

/// Those of `wants` that neither came along nor are at hand.
pub(super) fn lacking(
    mut wants: Vec<Want>,
    offered: &Offered,
    bundle: &Bundle,
    now: Timestamp,
) -> Vec<Want> {
    wants.retain(|want| {
        !want.artefact.is_in_table(&offered.auxiliary)
            && bundle.lacks(&want.artefact, &want.anchors, now)
    });
    wants
}

/// The judgement, made again once what was lacking has been asked for. A machine that is refused for want of
/// it is told why it is not there.
///
/// # Errors
/// The server's own failure.
pub(in crate::join) async fn fetched(
    core: &Arc<Core>,
    refused: Refused,
    machine: &str,
    again: impl FnOnce() -> Result<Option<Endorsed>, Refused> + Send + 'static,
) -> Result<Result<Option<Endorsed>, Refused>, Refusal> {
    if refused.wants.is_empty() {
        return Ok(Err(refused));
    }
    let obtained = core.endorsements.obtain(&refused.wants, machine).await;
    let mut judged = Err(refused);
    if obtained.changed {
        judged = core
            .pool
            .run(again)
            .await
            .map_err(|error| Refusal::internal("judging a machine", &error))?;
    }
    if let (Err(refused), Some(problem)) = (&mut judged, obtained.problem)
        && !refused.accuses()
    {
        refused.findings.insert(0, problem);
    }
    Ok(judged)
}
