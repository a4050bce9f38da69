//! What two authors have to sign before an invariant is weakened, removed or taken on trust: which changes, of
//! which version, in the place of which record. Nothing is decided here about what a weakening is; that is
//! `estate-prove`'s.
//!
//! What is signed, lines ended by `\n`: the context, the SHA-256 of the subject in hex, the author's name, and
//! when it expires in Unix milliseconds. The subject names the record of the version in force, which no later
//! record is: so an approval is good once.

use crypto::{PublicKey, Signer};
use facts::Finding;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Keeps these signatures apart from all others.
const CONTEXT: &str = "trilith-invariant-approval-v1";
/// A week: who approves knows what is current.
pub const LONGEST_APPROVAL_MS: u64 = 7 * 86_400_000;
/// Of one apply; more than two say nothing more.
const MOST: usize = 16;

/// Why a change is for two to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GovernedKind {
    /// It is there no longer, and no other implies it.
    Removed,
    /// It is there, and not proved to say at least as much as before, over any data.
    Weakened,
    /// Whether it holds is not known.
    Unknown,
    /// Who may sign is another, or by another key.
    Author,
    /// What records name by digest is to be gone. No version changes.
    Erased,
}

impl GovernedKind {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Removed => "removed",
            Self::Weakened => "weakened",
            Self::Unknown => "unknown",
            Self::Author => "author",
            Self::Erased => "erased",
        }
    }
}

/// One change, in few words that do not differ between two runs of a solver.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GovernedChange {
    pub kind: GovernedKind,
    /// The invariant's id, or the author's name.
    pub of: String,
    /// SHA-256 of what it said in the version in force, hex.
    pub before: Option<String>,
    /// SHA-256 of what it says in the new one, hex.
    pub after: Option<String>,
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalSubject {
    pub trust_domain: String,
    /// The version that is to become current, SHA-256 hex.
    pub version: String,
    /// The version in force; empty if there is none.
    pub base: String,
    /// The record that made it current.
    pub base_index: u64,
    /// In order, each once.
    pub changes: Vec<GovernedChange>,
}

impl ApprovalSubject {
    /// The bytes whose digest is signed: JSON, fields in the order of the struct.
    ///
    /// # Errors
    /// Never in practice: plain data.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }

    #[must_use]
    pub fn digest(&self) -> Option<[u8; 32]> {
        Some(crypto::sha256(&self.to_bytes().ok()?))
    }
}

/// An author's signature under a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    pub author: String,
    /// Unix milliseconds.
    pub expires: u64,
    pub subject: ApprovalSubject,
    /// Base64.
    pub signature: String,
}

/// The bytes under which the signature of `author` stands.
#[must_use]
pub fn approval_bytes(subject_sha256: &[u8; 32], author: &str, expires: u64) -> Vec<u8> {
    let subject = crypto::hex::encode(subject_sha256);
    format!("{CONTEXT}\n{subject}\n{author}\n{expires}\n").into_bytes()
}

impl Approval {
    /// # Errors
    /// `ESTATE-APPROVAL-KEY` if the key does not sign.
    pub fn sign(
        subject: ApprovalSubject,
        author: &str,
        expires: u64,
        key: &dyn Signer,
    ) -> Result<Self, Finding> {
        let unsigned = |why: String| {
            Finding::new("ESTATE-APPROVAL-KEY", "the author's key does not sign").observed(why)
        };
        let digest = subject
            .digest()
            .ok_or_else(|| unsigned("the subject cannot be written".to_owned()))?;
        let signature = key
            .sign(&approval_bytes(&digest, author, expires))
            .map_err(|error| unsigned(error.to_string()))?;
        Ok(Self {
            author: author.to_owned(),
            expires,
            subject,
            signature: crypto::base64::encode(&signature),
        })
    }

    /// The signature of one of `authors`, under `subject`, not expired at `now`.
    fn check<'a>(
        &self,
        subject: &ApprovalSubject,
        authors: &'a BTreeMap<String, PublicKey>,
        now: u64,
    ) -> Result<&'a PublicKey, Finding> {
        let Some(key) = authors.get(&self.author) else {
            return Err(Finding::new(
                "ESTATE-APPROVAL-AUTHOR",
                "whoever signed is no author of the version in force",
            )
            .expected(listed(authors))
            .observed(self.author.clone())
            .next("have an author sign whom estate.toml of the version in force names"));
        };
        if self.subject != *subject {
            return Err(Finding::new(
                "ESTATE-APPROVAL-OTHER",
                "the approval is for another version, in another place, or of other changes",
            )
            .expected(shown(subject))
            .observed(shown(&self.subject))
            .next("sign again: trilith estate approve DIR --author NAME --keys KEYS"));
        }
        if self.expires <= now || self.expires - now > LONGEST_APPROVAL_MS {
            return Err(
                Finding::new("ESTATE-APPROVAL-EXPIRED", "the approval is not good now")
                    .expected("one that ends within a week from now")
                    .observed(format!("it ends at {}", self.expires))
                    .next("sign again: trilith estate approve DIR --author NAME --keys KEYS"),
            );
        }
        let verified = self
            .subject
            .digest()
            .zip(crypto::base64::decode(&self.signature).ok());
        let verified = verified.is_some_and(|(digest, signature)| {
            let signed = approval_bytes(&digest, &self.author, self.expires);
            key.verify(&signed, &signature).is_ok()
        });
        if !verified {
            return Err(Finding::new(
                "ESTATE-APPROVAL-SIGNATURE",
                format!("the signature is not that of `{}`", self.author),
            )
            .next("sign with the key that estate.toml of the version in force names"));
        }
        Ok(key)
    }
}

/// Checks that at least two authors, by two keys, have signed exactly this; returns them with their keys.
///
/// `authors` are those of the version in force: nobody makes himself an author by the change that he signs.
///
/// # Errors
/// `ESTATE-APPROVAL-…`, with what to do next.
pub fn approved<'a>(
    subject: &ApprovalSubject,
    approvals: &'a [Approval],
    authors: &'a BTreeMap<String, PublicKey>,
    now: u64,
) -> Result<Vec<(&'a Approval, &'a PublicKey)>, Finding> {
    if approvals.len() > MOST {
        return Err(
            Finding::new("ESTATE-APPROVAL-MANY", "more approvals than are looked at")
                .expected(format!("at most {MOST}")),
        );
    }
    let mut found: Vec<(&Approval, &PublicKey)> = Vec::new();
    for approval in approvals {
        let key = approval.check(subject, authors, now)?;
        // INVARIANT: two approvals are two names and two keys.
        let known = found
            .iter()
            .any(|(other, known)| other.author == approval.author || known.raw() == key.raw());
        if !known {
            found.push((approval, key));
        }
    }
    if found.len() < 2 {
        let by = found
            .first()
            .map_or("nobody", |(one, _)| one.author.as_str());
        let next = if authors.len() < 2 {
            "declare two authors in estate.toml and apply that first: trilith author key create NAME --keys DIR"
        } else {
            "have another author run: trilith estate approve DIR --author NAME --keys KEYS; and apply with --author, --keys and --approval"
        };
        return Err(Finding::new(
            "ESTATE-APPROVAL-ALONE",
            "what weakens an invariant needs two authors",
        )
        .expected(format!("signatures of two of {}", listed(authors)))
        .observed(format!("signed by {by}"))
        .next(next));
    }
    Ok(found)
}

fn listed(authors: &BTreeMap<String, PublicKey>) -> String {
    let names: Vec<&str> = authors.keys().map(String::as_str).collect();
    match names.as_slice() {
        [] => "no author that is declared".to_owned(),
        names => names.join(", "),
    }
}

fn shown(subject: &ApprovalSubject) -> String {
    let short = |version: &str| version.chars().take(12).collect::<String>();
    let changes: Vec<String> = subject
        .changes
        .iter()
        .map(|change| format!("{} {}", change.kind.as_str(), change.of))
        .collect();
    format!(
        "version {} in the place of {} (record {}): {}",
        short(&subject.version),
        short(&subject.base),
        subject.base_index,
        changes.join("; ")
    )
}

#[cfg(test)]
mod tests;
