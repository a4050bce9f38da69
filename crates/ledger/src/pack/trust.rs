//! What a verifier trusts: his own file, never the pack.

use crate::body::KeyRotation;
use crate::lineage::{self, LineageError};
use crate::{Base64, Code, KeyError, LedgerKey, LogKey, Policy, PolicyError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum TrustError {
    #[error("the trust file is not of the documented shape")]
    Shape(#[from] serde_json::Error),
    #[error("the trust file's ledger key")]
    Key(#[from] KeyError),
    #[error("the trust file's lineage")]
    Lineage(#[from] LineageError),
    #[error("the trust file's lineage does not end with its ledger key: it ends with {0}")]
    OtherLineage(String),
    #[error("the trust file's policy")]
    Policy(#[from] PolicyError),
    #[error("the trust file's policy lists logs, and its ledger key is of none of them")]
    OtherLogs,
}

impl Code for TrustError {
    fn code(&self) -> &'static str {
        "PACK-TRUST"
    }
}

/// The content of a trust file; TOML and JSON have the same fields, and serde reads either.
///
/// ```toml
/// trust_domain = "example.org"
/// ledger_key = "example.org/server+1f2e3d4c+AT…"
/// x509_authorities = ["MIIB…"]
/// policy = '''
/// witness w1 witness.example/w1+3b5cc5a3+BE…
/// quorum w1
/// '''
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "File", into = "File")]
pub struct Trust {
    pub trust_domain: String,
    /// Key of the server's ledger; of the newest log, where the file has a `lineage`, with those before it.
    /// Gateways' keys are learned from that ledger.
    pub ledger_key: LedgerKey,
    /// Root certificates, DER.
    pub x509_authorities: Vec<Vec<u8>>,
    /// Whose cosignatures the server's checkpoints need, c2sp.org/tlog-policy. Without one none are asked for,
    /// and none are taken.
    pub policy: Option<Policy>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    trust_domain: String,
    ledger_key: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    lineage: Vec<KeyRotation>,
    #[serde(default)]
    x509_authorities: Vec<Base64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
}

impl Trust {
    /// Reads the JSON form.
    pub fn from_json(text: &str) -> Result<Self, TrustError> {
        let file: File = serde_json::from_str(text)?;
        Self::try_from(file)
    }

    /// The logs whose proofs count: the server's ledger, and what the policy lists beside it. A key that was replaced in
    /// the ledger's lineage does not count without its end because a policy still has it.
    #[must_use]
    pub fn logs(&self) -> Vec<LogKey> {
        let own = LogKey::Note(self.ledger_key.clone());
        let listed = self.policy.iter().flat_map(Policy::logs);
        let counts = |key: &LogKey| *key != own && !self.ledger_key.replaced(key.public_key());
        let others = listed.map(|log| log.key.clone()).filter(counts);
        std::iter::once(own.clone()).chain(others).collect()
    }
}

impl TryFrom<File> for Trust {
    type Error = TrustError;

    fn try_from(file: File) -> Result<Self, TrustError> {
        let stated: LedgerKey = file.ledger_key.parse()?;
        let ledger_key = lineage::follow(&stated, &file.lineage)?;
        if ledger_key != stated {
            return Err(TrustError::OtherLineage(ledger_key.to_string()));
        }
        let policy: Option<Policy> = file.policy.map(|text| text.parse()).transpose()?;
        // "An application where the appropriate log(s) are known from other context may accept a policy with
        // an empty set of logs."
        let listed = policy.as_ref().map_or(&[][..], Policy::logs);
        let own = LogKey::Note(ledger_key.clone());
        if !listed.is_empty() && !listed.iter().any(|log| log.key == own) {
            return Err(TrustError::OtherLogs);
        }
        Ok(Self {
            trust_domain: file.trust_domain,
            ledger_key,
            policy,
            x509_authorities: file.x509_authorities.into_iter().map(|der| der.0).collect(),
        })
    }
}

impl From<Trust> for File {
    fn from(trust: Trust) -> Self {
        Self {
            trust_domain: trust.trust_domain,
            ledger_key: trust.ledger_key.to_string(),
            lineage: lineage::links(&trust.ledger_key),
            x509_authorities: trust.x509_authorities.into_iter().map(Base64).collect(),
            policy: trust.policy.map(|policy| policy.text().to_owned()),
        }
    }
}
