//! Tokens that go on where a page ended. A token holds a place and nothing that its holder does not know;
//! it goes with the search that it was made for and with no other.

use crate::question::Refused;
use facts::Finding;
use serde::{Deserialize, Serialize};

/// Bytes of a token: its place is a name.
const LONGEST: usize = 8192;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Digest of the search, its page left out.
    of: String,
    /// The last candidate that was looked at.
    pub after: String,
    /// Results of a page, as the first request had it.
    pub limit: usize,
}

impl Token {
    #[must_use]
    pub fn new(of: &str, after: &str, limit: usize) -> Self {
        Self {
            of: of.to_owned(),
            after: after.to_owned(),
            limit,
        }
    }

    #[must_use]
    pub fn encode(&self) -> String {
        let json = serde_json::json!({"of": self.of, "after": self.after, "limit": self.limit});
        crypto::base64::encode_url(json.to_string().as_bytes())
    }

    /// The token of the search whose digest is `of`.
    ///
    /// # Errors
    /// `PDP-PAGE-TOKEN`.
    pub fn decode(text: &str, of: &str) -> Result<Self, Refused> {
        let wrong = |what: &str| {
            Refused::malformed(
                Finding::new("PDP-PAGE-TOKEN", format!("page.token {what}"))
                    .next("begin again without a token"),
            )
        };
        if text.len() > LONGEST {
            return Err(wrong("is none of ours"));
        }
        let token: Self = crypto::base64::decode_url(text)
            .ok()
            .and_then(|json| serde_json::from_slice(&json).ok())
            .ok_or_else(|| wrong("is none of ours"))?;
        if token.of != of {
            return Err(wrong("belongs to another search"));
        }
        Ok(token)
    }
}
