//! An approval, asked again: two authors of the version that is replaced have signed what an invariant loses by the one
//! that replaces it.

use crate::erasure::signed;
use crate::outcome::{Again, differs, lacks};
use crate::pack::{Pack, SUPERSEDED_S};
use estate::ApprovalSubject;
use ledger::EstateRef;
use ledger::body::InvariantApproval;
use ledger::pack::PackRecord;

pub(crate) fn again(pack: &Pack<'_>, item: &PackRecord) -> Again {
    let Ok(approval) = item.record.expect_body::<InvariantApproval>() else {
        return lacks("the record is of another form than this version reads");
    };
    of_what_rests_on_it(pack, item, &approval)?;
    let Some(version) = approval.base else {
        return differs("it names no version that is replaced, and so no authors");
    };
    let index = approval.base_index.0;
    let Some(bytes) = pack.bytes(&approval.subject.sha256) else {
        return pack.lacking(&approval.subject.sha256, "what two authors signed");
    };
    let Ok(subject) = serde_json::from_slice::<ApprovalSubject>(bytes) else {
        return differs("what is said to be signed is no list of changes");
    };
    if subject.to_bytes().ok().as_deref() != Some(bytes) {
        return differs("what is said to be signed is not as it is signed");
    }
    if subject.trust_domain != pack.trust.trust_domain
        || subject.version != approval.version.to_string()
        || subject.base != version.to_string()
        || subject.base_index != index
    {
        return differs("what two authors signed is of another estate than the record says");
    }
    if u32::try_from(subject.changes.len()).ok() != Some(approval.changes) {
        return differs("two authors signed more or fewer changes than the record says");
    }
    let estate = pack.in_place(item, &EstateRef { version, index })?;
    let wall = item.record.stamp().wall;
    signed(
        &approval.signatures,
        &subject,
        &estate,
        (wall, SUPERSEDED_S * 1_000),
    )
}

/// The proof that names it, and the version that names that, are of the version that was signed.
fn of_what_rests_on_it(pack: &Pack<'_>, item: &PackRecord, approval: &InvariantApproval) -> Again {
    let mut versions = pack.approved(item.index);
    match versions.find(|version| *version != approval.version) {
        None => Ok(()),
        Some(version) => differs(format!(
            "it is of another version than {version}, which rests on it"
        )),
    }
}
