//! What a person may do with delegations by its own session, and without being an administrator: see those of the
//! chains that it began, and take each of them back.

use super::shown;
use crate::core::Core;
use crate::refusal::Refusal;
use crate::revoke::{Revocation, revoke};
use facts::Finding;
use ledger::body::TargetKind;
use proto::v1;
use serde_json::Value;
use spiffe_core::SpiffeId;
use std::sync::Arc;
use store::DelegationRow;

/// As `trilith delegation list`, of the chains that `person` began.
pub(crate) fn begun_by(core: &Arc<Core>, person: &SpiffeId) -> Value {
    shown(core, |row| began(row, person))
}

/// Takes back a delegation of a chain that `person` began, and with it what rests on it. The index of its record;
/// `None` where the record waits.
///
/// # Errors
/// `DELEGATION-NOT-OWN`: of what is somebody else's as of what is not there, so that nobody learns which.
pub(crate) async fn take_back(
    core: &Arc<Core>,
    person: &SpiffeId,
    request: v1::TakeBackRequest,
) -> Result<Option<u64>, Refusal> {
    let reason = crate::admin::cut(&request.reason);
    if reason.trim().is_empty() {
        return Err(Refusal::Invalid(
            Finding::new("DELEGATION-REASON", "it is not said why")
                .expected("a reason, for the record"),
        ));
    }
    let row = core.state().delegation(&request.jti).cloned();
    // INVARIANT: a session takes away what its own person gave, and nothing else.
    let row = row.filter(|row| began(row, person)).ok_or_else(|| {
        let jti: String = request.jti.chars().take(64).collect();
        Refusal::Denied(
            Finding::new(
                "DELEGATION-NOT-OWN",
                "no delegation of a chain that you began has this jti",
            )
            .observed(jti.escape_default().to_string())
            .next(
                "an administrator takes back any other; yours are: trilith delegation list --own",
            ),
        )
    })?;
    let revocation = Revocation {
        kind: TargetKind::Serial,
        value: row.jti,
        reason,
        by: person.to_string(),
        auth: "oidc",
    };
    revoke(core, revocation).await
}

fn began(row: &DelegationRow, person: &SpiffeId) -> bool {
    row.chain.first().map(String::as_str) == Some(person.as_str())
}
