//! What a node agent says its kernel enforces, read within limits.

use crate::refusal::Refusal;
use facts::Finding;
use proto::v1;

const LONGEST_NAME: usize = 256;
const LONGEST_VERSION: usize = 32;
const LONGEST_FINDINGS: usize = 64 * 1024;
const MOST_FINDINGS: usize = 32;

/// An active policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Active {
    pub(super) name: String,
    pub(super) version: String,
    /// Absent: it is not signed.
    pub(super) sha256: Option<[u8; 32]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(super) supported: bool,
    pub(super) enforce: bool,
    pub(super) active: Option<Active>,
    /// Of the agent's executable.
    pub(super) agent_sha256: Option<[u8; 32]>,
    pub(super) agent_fsverity: Option<[u8; 32]>,
    pub(super) findings: Vec<Finding>,
}

impl Report {
    /// # Errors
    /// `SYNC-REQUEST`
    pub(super) fn parse(message: &v1::Enforcement) -> Result<Self, Refusal> {
        let plain = |text: &str, most: usize| {
            text.len() <= most && text.chars().all(|letter| letter.is_ascii_graphic())
        };
        if !plain(&message.policy, LONGEST_NAME) || !plain(&message.version, LONGEST_VERSION) {
            return Err(invalid("the name or version of a policy"));
        }
        if message.findings.len() > LONGEST_FINDINGS {
            return Err(invalid("findings of more than 64 KiB"));
        }
        let mut findings: Vec<Finding> = match message.findings.as_slice() {
            [] => Vec::new(),
            json => {
                serde_json::from_slice(json).map_err(|_| invalid("findings that do not parse"))?
            }
        };
        findings.truncate(MOST_FINDINGS);
        let policy_sha256 = digest(&message.policy_sha256)?;
        let active = (!message.policy.is_empty()).then(|| Active {
            name: message.policy.clone(),
            version: message.version.clone(),
            sha256: policy_sha256,
        });
        let tree = match message.agent_fsverity.as_str() {
            "" => None,
            text => {
                Some(estate::fsverity_digest(text).ok_or_else(|| invalid("no fs-verity digest"))?)
            }
        };
        Ok(Self {
            supported: message.supported,
            enforce: message.enforce,
            active,
            agent_sha256: digest(&message.agent_sha256)?,
            agent_fsverity: tree.and_then(estate::sha256_of_fsverity),
            findings,
        })
    }

    /// For the reason of a revocation.
    pub(super) fn summary(&self) -> String {
        let mode = if self.enforce {
            "enforcing"
        } else {
            "permissive"
        };
        match (&self.active, self.supported) {
            (_, false) => "no IPE".to_owned(),
            (None, true) => format!("{mode}, no policy"),
            (Some(active), true) => format!("{mode}, {} {}", active.name, active.version),
        }
    }
}

fn digest(bytes: &[u8]) -> Result<Option<[u8; 32]>, Refusal> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let digest = bytes.try_into().map_err(|_| invalid("no SHA-256"))?;
    Ok(Some(digest))
}

fn invalid(what: &str) -> Refusal {
    Refusal::Invalid(
        Finding::new("SYNC-REQUEST", "the agent's request cannot be taken")
            .expected("what its kernel enforces, within limits")
            .observed(what.to_owned()),
    )
}
