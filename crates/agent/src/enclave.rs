//! What the hardware of the enclave that this agent runs in signs: bound to the server's challenge, to the connection
//! that it came over, and to the key that was made here.

use crate::config::{EnclaveConfig, JoinConfig};
use crate::join::{JoinError, blocking, refused};
use attest::transcript::EnclaveJoin;
use crypto::{KeyPair, Signer as _};
use device::{gramine, nsm};
use facts::Finding;
use link::Link;
use proto::v1;
use proto::v1::join_client::JoinClient;
use spiffe_core::TrustDomain;
use std::path::PathBuf;
use std::sync::Arc;
use svid_tls::BundleSource;

/// Through what it is asked.
#[derive(Debug, Clone)]
pub(crate) struct Enclave {
    kind: EnclaveConfig,
    device: PathBuf,
}

impl Enclave {
    /// Absent for a machine that is none.
    pub(crate) fn of(join: &JoinConfig) -> Option<Self> {
        let JoinConfig::Enclave { enclave, device } = join else {
            return None;
        };
        let usual = match enclave {
            EnclaveConfig::Nitro => nsm::DEVICE,
            EnclaveConfig::Gramine => gramine::FILES,
        };
        Some(Self {
            kind: *enclave,
            device: device.clone().unwrap_or_else(|| usual.into()),
        })
    }

    /// The answer to a challenge over `link`, by an enclave that holds `key`.
    pub(crate) async fn evidence(
        &self,
        trust_domain: &TrustDomain,
        link: &Link,
        bundles: &dyn BundleSource,
        instance: &[u8; 16],
        key: &Arc<KeyPair>,
    ) -> Result<v1::EnclaveFinishRequest, JoinError> {
        let server = link.server_svid(bundles).map_err(JoinError::Refused)?;
        let challenge = JoinClient::new(link.channel.clone())
            .enclave_challenge(v1::EnclaveChallengeRequest {})
            .await
            .map_err(|status| refused("Join.EnclaveChallenge", &status))?
            .into_inner();
        let nonce = nonce(&challenge)?;
        let spki = key.public_key().spki_der().to_vec();
        let report_data = EnclaveJoin {
            trust_domain: trust_domain.as_str(),
            server_key: server.public_key.spki_der(),
            exporter: &link.exporter,
            nonce: &nonce,
            instance,
            spki: &spki,
        }
        .report_data();
        let (asking, asked) = (self.clone(), spki.clone());
        // A module and a quoting enclave take their time: never on an async thread.
        let report = blocking(move || asking.report(&report_data, &nonce, &asked))
            .await?
            .map_err(|error| JoinError::Refused(self.silent(&error)))?;
        Ok(v1::EnclaveFinishRequest {
            session: challenge.session,
            kind: self.word().to_owned(),
            report,
            public_key: spki,
            proof: key.sign(&report_data)?,
            instance: instance.to_vec(),
            join_state: Vec::new(),
            renewal_id: Vec::new(),
        })
    }

    const fn word(&self) -> &'static str {
        match self.kind {
            EnclaveConfig::Nitro => "nitro",
            EnclaveConfig::Gramine => "sgx",
        }
    }

    fn report(&self, data: &[u8; 64], nonce: &[u8], spki: &[u8]) -> Result<Vec<u8>, String> {
        match self.kind {
            EnclaveConfig::Nitro => {
                let question = nsm::Question {
                    user_data: data,
                    nonce,
                    public_key: spki,
                };
                nsm::document(&self.device, &question).map_err(|error| facts::with_causes(&error))
            }
            EnclaveConfig::Gramine => {
                gramine::quote(&self.device, data).map_err(|error| facts::with_causes(&error))
            }
        }
    }

    fn silent(&self, why: &str) -> Finding {
        let (what, next) = match self.kind {
            EnclaveConfig::Nitro => (
                "a document by the security module",
                "run the agent inside a Nitro enclave, whose kernel has /dev/nsm, and let it open that device",
            ),
            EnclaveConfig::Gramine => (
                "a quote through Gramine's files",
                "run the agent under Gramine with `sgx.remote_attestation = \"dcap\"` in its manifest",
            ),
        };
        Finding::new(
            "AGENT-ENCLAVE",
            "the enclave that this agent should run in says nothing",
        )
        .expected(format!("{what} at {}", self.device.display()))
        .observed(why)
        .next(next)
    }
}

/// The challenge's nonce, which has to commit to the checkpoint that came with it.
fn nonce(challenge: &v1::EnclaveChallenge) -> Result<[u8; 32], JoinError> {
    let read = |bytes: &[u8]| {
        <[u8; 32]>::try_from(bytes).map_err(|_| JoinError::Answer("a nonce is not 32 bytes"))
    };
    let (nonce, random) = (read(&challenge.nonce)?, read(&challenge.nonce_random)?);
    if attest_tpm::nonce(&challenge.nonce_checkpoint, &random) == nonce {
        Ok(nonce)
    } else {
        Err(JoinError::Answer("the nonce is not of its checkpoint"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_of_the_checkpoint_that_came_with_it() {
        let good = v1::EnclaveChallenge {
            session: vec![1],
            nonce: attest_tpm::nonce("checkpoint", &[2; 32]).to_vec(),
            nonce_random: vec![2; 32],
            nonce_checkpoint: "checkpoint".to_owned(),
        };
        assert!(nonce(&good).is_ok());
        let other = v1::EnclaveChallenge {
            nonce_checkpoint: "another".to_owned(),
            ..good.clone()
        };
        let short = v1::EnclaveChallenge {
            nonce: vec![3; 31],
            ..good
        };
        assert!(nonce(&other).is_err() && nonce(&short).is_err());
    }

    #[test]
    fn where_there_is_no_enclave_the_agent_says_what_to_do() {
        for (kind, word) in [
            (EnclaveConfig::Nitro, "/dev/nsm"),
            (EnclaveConfig::Gramine, "Gramine"),
        ] {
            let enclave = Enclave {
                kind,
                device: "/nonexistent".into(),
            };
            let why = enclave.report(&[0; 64], &[0; 32], &[]).unwrap_err();
            let finding = enclave.silent(&why);
            assert_eq!(finding.code, "AGENT-ENCLAVE");
            assert!(finding.next.unwrap().contains(word), "{why}");
        }
    }
}
