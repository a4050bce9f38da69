//! The right to delegate, asked before the record of a delegation is made and again once it is in the ledger: what
//! came there between counts as well.

use super::ask::{By, Shown, revoked};
use super::settle::lost;
use super::{chain, stands};
use crate::core::Core;
use crate::current::Current;
use crate::node::withdraw;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::body::TargetKind;
use std::sync::Arc;

/// Whether everybody in `chain` may take part in a delegation now, and `by` is still who asks.
///
/// # Errors
/// `DELEGATION-OVERTAKEN`, and those of a caller whose SVID stands no more.
pub(super) fn holds(
    core: &Core,
    current: &Current,
    by: &By,
    chain: &[String],
) -> Result<(), Refusal> {
    {
        let state = core.state();
        let cut = |one: &&String| core.unrecorded.holds(TargetKind::Identity, one);
        let ahead = chain.iter().find(cut).map(String::as_str).or_else(|| {
            let cut = core.unrecorded.holds(TargetKind::Machine, &by.node);
            cut.then_some(by.node.as_str())
        });
        if let Some(whose) = ahead.or_else(|| state.delegation_barred(chain, &by.node)) {
            return Err(overtaken(whose));
        }
        if let Shown::Svid(svid) = &by.shown {
            core.standing(&state, svid)?;
        }
    }
    if let Shown::Login(login) = &by.shown {
        let known = current.estate.person(&login.issuer, &login.subject);
        let known = known.and_then(|person| core.trust_domain.identity(&person.path).ok());
        if chain.first().map(String::as_str) != known.as_ref().map(|id| id.as_str()) {
            return Err(overtaken("the person has another login now"));
        }
    }
    Ok(())
}

fn overtaken(whose: &str) -> Refusal {
    Refusal::Denied(
        Finding::new(
            "DELEGATION-OVERTAKEN",
            "somebody whom the delegation names may take part in none",
        )
        .expected("identities that are not revoked, and a machine that is not locked")
        .observed(whose.to_owned())
        .next("let an administrator look at it: trilith ledger search --type revocation; then ask again"),
    )
}

/// Asks all of it again for the delegation `jti`, which is recorded, and was decided by `decided`. One that is
/// refused here is revoked: nobody has its token, and nothing that reads the ledger takes it for one that stands.
///
/// # Errors
/// As [`holds`], and those of the estate.
pub(super) async fn confirm(
    core: &Arc<Core>,
    decided: &Current,
    by: &By,
    jti: &str,
) -> Result<(), Refusal> {
    let Err(refusal) = still_right(core, decided, by, jti) else {
        return Ok(());
    };
    let row = {
        let state = core.state();
        let row = state.delegation(jti).cloned();
        row.filter(|_| state.revoked(TargetKind::Serial, jti).is_none())
    };
    if let Some(row) = row {
        let core = Arc::clone(core);
        // INVARIANT: also when whoever asked goes away.
        let taking_back = async move {
            let reason = "the right to it ended before it was recorded";
            withdraw(&core, vec![lost(&row)], reason).await
        };
        match tokio::spawn(taking_back).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, jti, "a refused delegation is not revoked"),
            Err(error) => tracing::error!(%error, jti, "a refused delegation is not revoked"),
        }
    }
    Err(refusal)
}

fn still_right(core: &Core, decided: &Current, by: &By, jti: &str) -> Result<(), Refusal> {
    let row = core.state().delegation(jti).cloned();
    let Some(row) = row.filter(|row| stands(core, row)) else {
        return Err(revoked(jti));
    };
    let now = core.estate()?;
    holds(core, &now, by, &row.chain)?;
    if now.index == decided.index {
        return Ok(());
    }
    let state = core.state();
    let links = state.delegation_links(&row).unwrap_or_default();
    let chain = chain(&links, core.trust_domain.as_str()).map_err(Refusal::Denied)?;
    now.estate.may_delegate(&chain).map_err(Refusal::Denied)?;
    Ok(())
}
