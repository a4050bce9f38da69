//! How long things live, in seconds, and why.

use serde::{Deserialize, Serialize};

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Defaults of DESIGN section 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lifetimes {
    /// X.509-SVIDs. What push does not reach is bounded by this.
    pub x509_s: u64,
    /// JWT-SVIDs. They are bearer tokens: shorter.
    pub jwt_s: u64,
    /// Issuing CAs, and the keys that sign JWTs.
    pub issuing_s: u64,
    /// Roots: others configure them by hand.
    pub root_s: u64,
    /// How long a key stands in the bundle before it signs. SPIFFE federation section 5 asks for three to
    /// five refresh intervals of five minutes.
    pub announce_s: u64,
    /// Certificates begin this much earlier than now, for peers whose clocks are behind.
    pub backdate_s: u64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            x509_s: HOUR,
            jwt_s: 5 * MINUTE,
            issuing_s: 30 * DAY,
            root_s: 3650 * DAY,
            announce_s: 25 * MINUTE,
            backdate_s: 10,
        }
    }
}
