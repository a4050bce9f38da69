//! The approvals of one ring as they are sent and kept: JSON of a few kilobytes, public, and worth what its
//! signatures are worth.

use super::{Approver, Pcrs, Scope, approved_policy, signed_message};
use crypto::{PublicKey, Signer};
use facts::Finding;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Boots that are approved for one ring at once.
pub const MOST: usize = 64;
/// Bytes of a set, in JSON.
pub const LONGEST: usize = 256 * 1024;
const LONGEST_LABEL: usize = 256;
const VERSION: u32 = 1;

/// One boot, and the authority's signature that it may open what its ring has sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    pub pcrs: Pcrs,
    /// For people, and not signed: which artefacts of which generation.
    pub label: String,
    /// ASN.1 DER of an ECDSA signature over [`signed_message`].
    pub signature: Vec<u8>,
}

/// Approvals of one ring, all by one key and each with a good signature.
#[derive(Debug, Clone)]
pub struct ApprovalSet {
    pub scope: Scope,
    pub approver: Approver,
    approvals: Vec<Approval>,
}

#[derive(Serialize, Deserialize)]
struct SetText {
    v: u32,
    trust_domain: String,
    ring: String,
    /// A number as text, as records have it.
    epoch: String,
    /// Base64 of the SPKI.
    key: String,
    approvals: Vec<ApprovalText>,
}

#[derive(Serialize, Deserialize)]
struct ApprovalText {
    #[serde(default)]
    label: String,
    pcrs: Vec<PcrText>,
    signature: String,
}

#[derive(Serialize, Deserialize)]
struct PcrText {
    index: u32,
    sha256: String,
}

impl ApprovalSet {
    /// An empty set: nothing is approved, and whoever has sealed keeps nothing.
    #[must_use]
    pub const fn empty(scope: Scope, approver: Approver) -> Self {
        Self {
            scope,
            approver,
            approvals: Vec::new(),
        }
    }

    /// Adds a boot that has a signature already.
    ///
    /// # Errors
    /// `SEAL-SIGNATURE` if it is not by this set's key for this set's scope; `SEAL-FILE` for one too many, or
    /// one that is there.
    pub fn add(&mut self, approval: Approval) -> Result<(), Finding> {
        if self.approvals.len() >= MOST {
            return Err(malformed(format!("more than {MOST} approvals")));
        }
        if self.approvals.iter().any(|one| one.pcrs == approval.pcrs) {
            return Err(malformed("the same boot twice"));
        }
        let message = signed_message(&approved_policy(&approval.pcrs), &self.scope);
        self.approver
            .key
            .verify(&message, &approval.signature)
            .map_err(|_| {
                Finding::new(
                    "SEAL-SIGNATURE",
                    "an approval is not what the authority signed",
                )
                .expected(format!(
                    "a signature for ring {:?} of {}, epoch {}",
                    self.scope.ring, self.scope.trust_domain, self.scope.epoch
                ))
                .observed(format!("one that does not verify: {}", approval.label))
                .next("fetch it again: trilith refs approvals RING --out FILE")
            })?;
        self.approvals.push(approval);
        Ok(())
    }

    /// Signs the approval of a boot for `scope`.
    ///
    /// # Errors
    /// `SEAL-KEY` if the key cannot sign now.
    pub fn sign(
        scope: &Scope,
        key: &dyn Signer,
        pcrs: Pcrs,
        label: String,
    ) -> Result<Approval, Finding> {
        let message = signed_message(&approved_policy(&pcrs), scope);
        let signature = key.sign(&message).map_err(|error| {
            Finding::new("SEAL-KEY", "the key that approves boots does not sign")
                .observed(error.to_string())
                .next("look at the server's custody of keys")
        })?;
        Ok(Approval {
            pcrs,
            label,
            signature,
        })
    }

    #[must_use]
    pub fn approvals(&self) -> &[Approval] {
        &self.approvals
    }

    /// The approval of a machine that booted so, if there is one.
    #[must_use]
    pub fn of(&self, value: impl Fn(u32) -> Option<[u8; 32]>) -> Option<&Approval> {
        self.approvals.iter().find(|approval| {
            let mut pcrs = approval.pcrs.iter();
            pcrs.all(|(index, expected)| value(index).as_ref() == Some(expected))
        })
    }

    /// Reads what [`ApprovalSet::to_json`] wrote, and verifies every signature by the key in it; whether that
    /// key is the authority's is for the caller to know.
    ///
    /// # Errors
    /// `SEAL-FILE` for what is no such set, `SEAL-KEY`, `SEAL-SIGNATURE`.
    pub fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        if bytes.len() > LONGEST {
            return Err(malformed(format!("more than {LONGEST} bytes")));
        }
        let text: SetText =
            serde_json::from_slice(bytes).map_err(|error| malformed(error.to_string()))?;
        if text.v != VERSION {
            return Err(malformed(format!("version {}", text.v)));
        }
        let epoch = text.epoch.parse();
        let scope = Scope {
            trust_domain: text.trust_domain,
            ring: text.ring,
            epoch: epoch.map_err(|_| malformed("an epoch that is no number"))?,
        };
        let spki =
            crypto::base64::decode(&text.key).map_err(|_| malformed("a key not in base64"))?;
        let key = PublicKey::from_spki_der(&spki).map_err(|error| malformed(error.to_string()))?;
        let mut set = Self::empty(scope, Approver::new(key)?);
        for one in text.approvals {
            set.add(one.read()?)?;
        }
        Ok(set)
    }

    /// One form, readable by people.
    #[must_use]
    pub fn to_json(&self) -> String {
        let approvals = self.approvals.iter().map(|approval| ApprovalText {
            label: approval.label.clone(),
            pcrs: approval
                .pcrs
                .iter()
                .map(|(index, value)| PcrText {
                    index,
                    sha256: crypto::hex::encode(value),
                })
                .collect(),
            signature: crypto::base64::encode(&approval.signature),
        });
        let text = SetText {
            v: VERSION,
            trust_domain: self.scope.trust_domain.clone(),
            ring: self.scope.ring.clone(),
            epoch: self.scope.epoch.to_string(),
            key: crypto::base64::encode(self.approver.key.spki_der()),
            approvals: approvals.collect(),
        };
        // Plain data: writing it to memory cannot fail.
        serde_json::to_string_pretty(&text).unwrap_or_default() + "\n"
    }
}

impl ApprovalText {
    fn read(self) -> Result<Approval, Finding> {
        if self.label.len() > LONGEST_LABEL || self.label.chars().any(char::is_control) {
            return Err(malformed("a label that nobody can read"));
        }
        let mut pcrs = BTreeMap::new();
        for pcr in self.pcrs {
            let value = crypto::hex::decode(&pcr.sha256).ok();
            let value = value.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            let value = value.ok_or_else(|| malformed("a PCR that is no SHA-256"))?;
            if pcrs.insert(pcr.index, value).is_some() {
                return Err(malformed("a PCR twice"));
            }
        }
        let signature = crypto::base64::decode(&self.signature);
        Ok(Approval {
            pcrs: Pcrs::new(pcrs)?,
            label: self.label,
            signature: signature.map_err(|_| malformed("a signature not in base64"))?,
        })
    }
}

fn malformed(observed: impl Into<String>) -> Finding {
    Finding::new("SEAL-FILE", "this is no set of approved boots")
        .expected("what `trilith refs approvals RING --out FILE` writes")
        .observed(observed)
        .next("fetch it again from the server")
}
