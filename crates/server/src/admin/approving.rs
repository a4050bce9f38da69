//! The second approval: what is to be signed before an invariant of the version in force loses anything, and
//! whether two authors of that version did.

use crate::core::Core;
use crate::current::Current;
use crate::refusal::Refusal;
use crypto::PublicKey;
use estate::{Approval, ApprovalSubject, Estate, approved};
use estate_prove::Governed;
use facts::Finding;
use ledger::body::{AuthorSignature, BlobRef, InvariantApproval};
use ledger::{Base64, Decimal, HexDigest};
use std::collections::BTreeMap;

/// Of one approval: as many changes as an estate has invariants.
const MOST_BYTES: usize = 1 << 20;
const MOST: usize = 64;

/// What two authors have signed.
pub(super) struct Approved {
    pub(super) subject: Vec<u8>,
    changes: u32,
    base_index: u64,
    signatures: Vec<AuthorSignature>,
}

pub(super) fn read(approvals: &[Vec<u8>]) -> Result<Vec<Approval>, Refusal> {
    let wrong = |what: String| {
        Refusal::Invalid(
            Finding::new("ESTATE-APPROVAL-FORM", "this is no approval")
                .expected("what `trilith estate approve` writes")
                .observed(what)
                .next("sign again: trilith estate approve DIR --author NAME --keys KEYS"),
        )
    };
    if approvals.len() > MOST {
        return Err(wrong(format!("{} approvals", approvals.len())));
    }
    let one = |bytes: &Vec<u8>| {
        if bytes.len() > MOST_BYTES {
            return Err(wrong(format!("{} bytes", bytes.len())));
        }
        serde_json::from_slice(bytes).map_err(|error| wrong(error.to_string()))
    };
    approvals.iter().map(one).collect()
}

/// What there is to sign; nothing if nothing is lost.
pub(super) fn subject(
    core: &Core,
    current: Option<&Current>,
    estate: &Estate,
    governed: &[Governed],
) -> Option<ApprovalSubject> {
    let mut changes: Vec<_> = governed.iter().map(|one| one.change.clone()).collect();
    changes.sort();
    changes.dedup();
    (!changes.is_empty()).then(|| ApprovalSubject {
        trust_domain: core.trust_domain.to_string(),
        version: estate.version().to_owned(),
        base: current.map_or_else(String::new, |current| current.estate.version().to_owned()),
        base_index: current.map_or(0, |current| current.index),
        changes,
    })
}

/// INVARIANT: who signs is an author of the version in force, not of the one that is applied.
pub(super) fn judge(
    core: &Core,
    current: Option<&Current>,
    subject: &ApprovalSubject,
    approvals: &[Approval],
) -> Result<Approved, Finding> {
    let none = BTreeMap::new();
    let authors = current.map_or(&none, |current| current.estate.authors());
    let now = core.now().as_millis();
    let signed = approved(subject, approvals, authors, now).map_err(|finding| {
        if !approvals.is_empty() {
            return finding;
        }
        let changes = subject.changes.iter();
        let changes: Vec<String> = changes
            .map(|change| format!("{} {:?}", change.kind.as_str(), change.of))
            .collect();
        let needed = Finding::new(
            "ESTATE-APPROVAL-NEEDED",
            "an invariant loses something: that takes the signatures of two authors",
        )
        .expected("an approval by a second author, of exactly this version and these changes")
        .observed(changes.join(", "));
        match finding.next {
            Some(next) => needed.next(next),
            None => needed,
        }
    })?;
    let unwritten = || Finding::new("ESTATE-APPROVAL-FORM", "what was signed cannot be written");
    Ok(Approved {
        subject: subject.to_bytes().map_err(|_| unwritten())?,
        changes: u32::try_from(subject.changes.len()).unwrap_or(u32::MAX),
        base_index: subject.base_index,
        signatures: signatures(signed).ok_or_else(unwritten)?,
    })
}

/// As records have them; `None` if one cannot be written.
pub(super) fn signatures(signed: Vec<(&Approval, &PublicKey)>) -> Option<Vec<AuthorSignature>> {
    let signatures = signed.into_iter().map(|(approval, key)| {
        Some(AuthorSignature {
            author: approval.author.clone(),
            key: Base64(key.spki_der().to_vec()),
            expires: approval.expires,
            signature: approval.signature.parse().ok()?,
        })
    });
    signatures.collect()
}

impl Approved {
    pub(super) fn authors(&self) -> Vec<&str> {
        let signatures = self.signatures.iter();
        signatures.map(|one| one.author.as_str()).collect()
    }

    pub(super) fn record(
        &self,
        version: HexDigest,
        old: Option<&Current>,
        subject: BlobRef,
    ) -> InvariantApproval {
        InvariantApproval {
            version,
            base: old.map(|old| old.version),
            base_index: Decimal(self.base_index),
            subject,
            changes: self.changes,
            signatures: self.signatures.clone(),
        }
    }
}
