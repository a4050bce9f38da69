//! An erasure, asked again whether it was let: where the estate in force has two authors, two of them have signed its
//! reason and each content that goes. Where it has not, the server's word is all that there is, and that is told.

use crate::outcome::{Again, differs, lacks};
use crate::pack::Pack;
use estate::{Approval, ApprovalSubject, Estate, GovernedChange, GovernedKind, approved};
use ledger::EstateRef;
use ledger::body::{AuthorSignature, Erasure, EstateVersion};
use ledger::pack::PackRecord;

/// From here on who signs estates signs erasures too.
const AUTHORS: usize = 2;
/// What a version of the estate is called among what was erased.
const ESTATE: &str = "estate";
/// From when signatures are looked at to when the record is made, at most.
const RECORDED_MS: u64 = 60_000;

pub(crate) fn again(pack: &Pack<'_>, item: &PackRecord) -> Again {
    let Ok(erasure) = item.record.expect_body::<Erasure>() else {
        return lacks("the record is of another form than this version reads");
    };
    not_in_force(pack, item, &erasure)?;
    let (reference, estate) = pack.estate(item)?;
    if estate.authors().len() < AUTHORS {
        return lacks(
            "the estate in force has no two authors: that it was let is the server's word",
        );
    }
    let Some(blob) = erasure.subject else {
        return differs("the estate in force has two authors, and none has signed it");
    };
    let Some(bytes) = pack.bytes(&blob.sha256) else {
        return pack.lacking(&blob.sha256, "what two authors signed");
    };
    let Ok(subject) = serde_json::from_slice::<ApprovalSubject>(bytes) else {
        return differs("what is said to be signed is no list of changes");
    };
    if subject.to_bytes().ok().as_deref() != Some(bytes) {
        return differs("what is said to be signed is not as it is signed");
    }
    of_this(pack, &erasure, &subject, reference)?;
    let wall = item.record.stamp().wall;
    signed(&erasure.signatures, &subject, &estate, (wall, RECORDED_MS))
}

/// INVARIANT: the version in force is not erased: by it stands who has to sign.
fn not_in_force(pack: &Pack<'_>, item: &PackRecord, erasure: &Erasure) -> Again {
    let named = item.record.estate();
    let newest = pack.newest_before(item.index);
    if let (None, Some(newest)) = (&named, newest) {
        return differs(format!(
            "it names no version of the estate, and the server's record {newest} had put one in force"
        ));
    }
    let digest = newest.and_then(|newest| pack.body::<EstateVersion>(newest));
    let digest = digest.map(|version| version.blob.sha256);
    let in_force = erasure.erased.iter().find(|one| {
        let of = Some(one.record.0);
        let place = one.kind == ESTATE && (of == newest || of == named.map(|named| named.index));
        let sha256 = Some(one.sha256);
        place || sha256 == digest || sha256 == named.map(|named| named.version)
    });
    in_force.map_or(Ok(()), |one| {
        differs(format!(
            "it erases the version of the estate that was in force, of record {}",
            one.record.0
        ))
    })
}

/// What was signed is this trust domain, this version, this reason and these contents.
fn of_this(
    pack: &Pack<'_>,
    erasure: &Erasure,
    subject: &ApprovalSubject,
    reference: EstateRef,
) -> Again {
    let version = reference.version.to_string();
    if subject.trust_domain != pack.trust.trust_domain
        || subject.version != version
        || subject.base != version
        || subject.base_index != reference.index
    {
        return differs("what two authors signed is of another estate than was in force");
    }
    let has = |of: String, before: Option<String>| {
        subject.changes.contains(&GovernedChange {
            kind: GovernedKind::Erased,
            of,
            before,
            after: None,
        })
    };
    if !has(format!("reason: {}", erasure.reason), None) {
        return differs("two authors signed another reason");
    }
    let unsigned = erasure.erased.iter().find(|one| {
        let of = format!("{} of record {}", one.kind, one.record.0);
        !has(of, Some(one.sha256.to_string()))
    });
    unsigned.map_or(Ok(()), |one| {
        differs(format!(
            "no two authors have signed that {} goes",
            one.sha256
        ))
    })
}

/// Two authors of `estate` have signed this, good when it was recorded or as long before as it takes.
pub(crate) fn signed(
    signatures: &[AuthorSignature],
    subject: &ApprovalSubject,
    estate: &Estate,
    (wall, takes): (u64, u64),
) -> Again {
    let approval = |one: &AuthorSignature| Approval {
        author: one.author.clone(),
        expires: one.expires,
        subject: subject.clone(),
        signature: crypto::base64::encode(&one.signature.0),
    };
    let approvals: Vec<Approval> = signatures.iter().map(approval).collect();
    let at = |now| approved(subject, &approvals, estate.authors(), now).map(drop);
    // The server looked at them before it recorded this, when one may still have been good, or not too long yet.
    at(wall)
        .or_else(|finding| at(wall.saturating_sub(takes)).map_err(|_| finding))
        .or_else(|finding| differs(finding.to_string()))
}
