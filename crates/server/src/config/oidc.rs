//! `[[oidc]]` of `server.toml`: where people log in.

use super::ConfigError;
use oidc::fetch::Address;
use schemars::JsonSchema;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// An OpenID provider whose ID tokens are taken from people who log in. Without one nobody administers over
/// the network.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oidc {
    /// To the letter as its tokens and its discovery document have it: `https://login.example.org`; `http://`
    /// for an address of this machine alone. `login` of people in the estate names the same.
    pub issuer: String,
    /// As the provider has registered `trilith login`: a public client with the redirect
    /// `http://127.0.0.1/callback` on any port (RFC 8252), which has no secret.
    pub client_id: String,
    /// Another audience that has to stand in the token beside the client. Absent: the client alone, and a token
    /// with any other audience is refused.
    #[serde(default)]
    pub audience: Option<String>,
    /// A PEM file: the only authorities that may certify the provider. Absent: those of the system.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Signatures that are taken, of RS, ES and PS with 256, 384 or 512, and EdDSA. RS256, ES256 and EdDSA: what
    /// providers sign with. `none` and HMAC cannot be named.
    #[serde(default = "algorithms")]
    pub algorithms: Vec<String>,
    /// How far the clocks of this server and the provider may be apart, in seconds. 30.
    #[serde(default = "skew_s")]
    pub skew_s: u64,
    /// The person typed a password, or whatever the provider asks for, no longer ago than so many seconds.
    /// Absent: a provider's session of any age will do.
    #[serde(default)]
    pub max_age_s: Option<u64>,
    /// A session ends after so many seconds, whatever the provider says. 3,600, and no more.
    #[serde(default = "session_s")]
    pub session_s: u64,
}

fn algorithms() -> Vec<String> {
    oidc::DEFAULT_ALGORITHMS.map(str::to_owned).to_vec()
}

const fn skew_s() -> u64 {
    30
}

const fn session_s() -> u64 {
    3_600
}

impl Oidc {
    pub(super) fn rebase(&mut self, base: &Path) {
        self.ca_file = self.ca_file.as_ref().map(|path| base.join(path));
    }

    pub(super) fn check(all: &[Self]) -> Result<(), ConfigError> {
        for (place, one) in all.iter().enumerate() {
            let refused = |what: String| Err(ConfigError::Oidc(what));
            let issuer = &one.issuer;
            if let Err(finding) = Address::parse(issuer) {
                return refused(finding.to_string());
            }
            if issuer.contains('?') {
                return refused(format!("{issuer}: an issuer has no query"));
            }
            let before = all.iter().take(place);
            if before
                .map(|other| &other.issuer)
                .any(|other| other == issuer)
            {
                return refused(format!("{issuer} stands twice"));
            }
            if one.client_id.is_empty() || one.audience.as_deref() == Some("") {
                return refused(format!(
                    "{issuer}: `client_id` and `audience` are not empty"
                ));
            }
            let unknown = one
                .algorithms
                .iter()
                .find(|name| oidc::Algorithm::from_name(name).is_none());
            if let Some(name) = unknown {
                return refused(format!(
                    "{issuer}: {name:?} is no signature by a public key"
                ));
            }
            if one.algorithms.is_empty() {
                return refused(format!("{issuer}: `algorithms` is empty"));
            }
            for (key, value, low, high) in [
                ("oidc.skew_s", one.skew_s, 0, 300),
                ("oidc.session_s", one.session_s, 1, 3_600),
                ("oidc.max_age_s", one.max_age_s.unwrap_or(0), 0, 31_536_000),
            ] {
                if !(low..=high).contains(&value) {
                    return Err(ConfigError::Range {
                        key,
                        value,
                        low,
                        high,
                    });
                }
            }
        }
        Ok(())
    }
}
