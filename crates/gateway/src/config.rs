//! What every gateway's configuration holds, whatever its protocol.

use crate::Watch;
use crate::lineage::LEDGER;
use facts::Finding;
use ledger::Policy;
use schemars::JsonSchema;
use serde::Deserialize;
use spiffe_core::TrustDomain;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The part of `gateway.toml` that all gateways share.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The trust domain, without scheme: `example.org`.
    pub trust_domain: String,
    /// Names this gateway's ledger, `TRUST-DOMAIN/gateway/NAME`, and stands in every decision's id. Never
    /// give one name to two gateways.
    pub name: String,
    /// Path of the identity that this gateway asks the local agent for: `gateway/pg`.
    pub identity: String,
    /// Where the server listens: `server.example.org:7443`.
    pub server: String,
    /// Digest of the server's anchors, as `trilith token create` prints it.
    pub pin: String,
    /// The local agent's Workload API.
    #[serde(default = "default_workload_socket")]
    pub workload_socket: PathBuf,
    /// The gateway's ledger, its key, and what it follows live here. Made with mode 0700 if absent.
    pub data_dir: PathBuf,
    /// Health and metrics over plain HTTP. Off by default; keep it on loopback: metrics tell who connects.
    #[serde(default)]
    pub http_listen: Option<SocketAddr>,
    /// Who has to have seen the server's ledger. Absent: its key is believed.
    #[serde(default)]
    pub witnesses: Option<Witnesses>,
}

/// Whoever takes the server's keys can sign another history for this gateway alone; not with the cosignatures of
/// witnesses that look at all of it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Witnesses {
    /// The file that names them and how many are enough, as c2sp.org/tlog-policy has it. Not the server's copy: from
    /// the witnesses' operators.
    pub policy: PathBuf,
    /// New sessions are refused once enough witnesses have not looked at the followed ledger for so many seconds, by
    /// their clocks. Sessions that are open go on. 600: a witness that is down for some minutes stops nobody, and a
    /// second history is followed for no longer.
    #[serde(default = "max_unwitnessed_s")]
    pub max_unwitnessed_s: u64,
}

const fn max_unwitnessed_s() -> u64 {
    600
}

impl Witnesses {
    /// Reads the policy. Blocks on the disk.
    ///
    /// # Errors
    /// `GATEWAY-CONFIG`.
    pub fn read(&self) -> Result<Watch, Finding> {
        let wrong = |what: String| {
            Finding::new("GATEWAY-CONFIG", format!("witnesses.policy: {what}"))
                .observed(self.policy.display().to_string())
                .next("correct gateway.toml, or the policy that it names")
        };
        let text = std::fs::read(&self.policy).map_err(|error| wrong(error.to_string()))?;
        let policy = Policy::parse(&text).map_err(|error| wrong(facts::with_causes(&error)))?;
        if policy.asks_for_none() {
            return Err(wrong("its quorum is `none`".to_owned()));
        }
        if self.max_unwitnessed_s == 0 {
            return Err(wrong("`max_unwitnessed_s` is 1 or more".to_owned()));
        }
        Ok(Watch {
            policy,
            longest: Duration::from_secs(self.max_unwitnessed_s),
        })
    }
}

fn default_workload_socket() -> PathBuf {
    PathBuf::from("/run/trilith/workload.sock")
}

impl Config {
    /// The trust domain, checked; and that the name can stand in a ledger's origin.
    ///
    /// # Errors
    /// `GATEWAY-CONFIG`.
    pub fn check(&self) -> Result<TrustDomain, Finding> {
        let wrong =
            |what: String| Finding::new("GATEWAY-CONFIG", what).next("correct gateway.toml");
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(plain) {
            return Err(wrong("`name` has 1 to 64 of a-z, 0-9 and `-`".to_owned())
                .observed(self.name.clone()));
        }
        // Of one that has run under the name before, an upgrade stops nothing.
        let began = self.data_dir.join(LEDGER);
        if self.name == "server" && !began.is_dir() {
            return Err(wrong(
                "`name` is not `server`: people say so of the server's own ledger".to_owned(),
            )
            .observed(self.name.clone()));
        }
        let trust_domain = TrustDomain::new(&self.trust_domain)
            .map_err(|error| wrong(format!("`trust_domain`: {error}")))?;
        trust_domain
            .identity(&self.identity)
            .map_err(|error| wrong(format!("`identity`: {error}")))?;
        Ok(trust_domain)
    }

    /// Origin of the gateway's ledger.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}/gateway/{}", self.trust_domain, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_gateway_takes_the_name_of_the_servers_ledger() {
        let dir = tempfile::tempdir().unwrap();
        let named = |name: &str| Config {
            trust_domain: "example.org".to_owned(),
            name: name.to_owned(),
            identity: "gateway/pg".to_owned(),
            server: "127.0.0.1:7443".to_owned(),
            pin: String::new(),
            workload_socket: default_workload_socket(),
            data_dir: dir.path().to_owned(),
            http_listen: None,
            witnesses: None,
        };
        for name in ["pg", "server-2", "my-server"] {
            named(name).check().unwrap();
        }
        let refused = named("server").check().unwrap_err();
        assert_eq!(refused.code, "GATEWAY-CONFIG");
        assert!(refused.message.contains("`server`"), "{refused}");
        // One that has begun its ledger under it goes on.
        std::fs::create_dir_all(dir.path().join("ledger")).unwrap();
        named("server").check().unwrap();
    }
}
