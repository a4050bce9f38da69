//! What a verifier trusts: his own file, never the pack.

use crate::{Base64, Code, KeyError, LedgerKey};
use serde::{Deserialize, Serialize};
use thiserror::Error;

#[derive(Debug, Error)]
pub enum TrustError {
    #[error("the trust file is not of the documented shape")]
    Shape(#[from] serde_json::Error),
    #[error("the trust file's ledger key")]
    Key(#[from] KeyError),
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
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "File", into = "File")]
pub struct Trust {
    pub trust_domain: String,
    /// Key of the server's ledger. Gateways' keys are learned from that ledger.
    pub ledger_key: LedgerKey,
    /// Root certificates, DER.
    pub x509_authorities: Vec<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    trust_domain: String,
    ledger_key: String,
    #[serde(default)]
    x509_authorities: Vec<Base64>,
}

impl Trust {
    /// Reads the JSON form.
    pub fn from_json(text: &str) -> Result<Self, TrustError> {
        let file: File = serde_json::from_str(text)?;
        Ok(Self::try_from(file)?)
    }
}

impl TryFrom<File> for Trust {
    type Error = KeyError;

    fn try_from(file: File) -> Result<Self, KeyError> {
        Ok(Self {
            trust_domain: file.trust_domain,
            ledger_key: file.ledger_key.parse()?,
            x509_authorities: file.x509_authorities.into_iter().map(|der| der.0).collect(),
        })
    }
}

impl From<Trust> for File {
    fn from(trust: Trust) -> Self {
        Self {
            trust_domain: trust.trust_domain,
            ledger_key: trust.ledger_key.to_string(),
            x509_authorities: trust.x509_authorities.into_iter().map(Base64).collect(),
        }
    }
}
