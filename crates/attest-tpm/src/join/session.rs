//! The session key: in memory, held by whoever answered the challenge, vouched for by the identity key
//! in this boot.

use super::{Boot, describe};
use crate::message::JoinEvidence;
use crate::signature::Signature;
use crate::transcript::vouch_message;
use crypto::PublicKey;
use facts::Finding;

/// What a session key has to be bound to.
pub(super) struct SessionContext<'a> {
    pub(super) identity: &'a PublicKey,
    pub(super) transcript: &'a [u8; 32],
    pub(super) boot: Boot,
    pub(super) nonce: &'a [u8; 32],
}

impl SessionContext<'_> {
    /// The session key, if the answer has one: it signed the transcript, and the identity key vouches
    /// for it in this boot.
    pub(super) fn session_key(
        &self,
        evidence: &JoinEvidence,
    ) -> Result<Option<PublicKey>, Finding> {
        let answer = &evidence.answer;
        if answer.session_key.is_empty() {
            return if answer.session_key_proof.is_empty() && answer.vouch.is_empty() {
                Ok(None)
            } else {
                Err(Finding::new(
                    "TPM-SESSION-KEY",
                    "proofs for a session key that is not there",
                )
                .expected("a session key, or neither proof nor vouch")
                .next("send the session key"))
            };
        }
        let key = PublicKey::from_spki_der(&answer.session_key).map_err(|error| {
            Finding::new("TPM-SESSION-KEY", "the session key cannot be read")
                .expected("DER SubjectPublicKeyInfo")
                .observed(error.to_string())
                .next("send a P-256, P-384, Ed25519 or RSA key")
        })?;
        key.verify(self.transcript, &answer.session_key_proof)
            .map_err(|_| {
                Finding::new(
                    "TPM-SESSION-PROOF",
                    "the session key did not sign this join's transcript",
                )
                .expected(format!("{} over the transcript", key.algorithm()))
                .next("sign with the private half of the session key that is sent")
            })?;
        let message = vouch_message(&answer.session_key, self.boot, self.nonce);
        let vouch = Signature::parse(&answer.vouch)
            .map_err(|bad| bad.finding("vouch for the session key"))?;
        if vouch.verifies(self.identity, &message) {
            return Ok(Some(key));
        }
        Err(Finding::new(
            "TPM-VOUCH",
            "the identity key does not vouch for this session key in this boot",
        )
        .expected(format!(
            "a signature for {} and this challenge",
            describe(self.boot)
        ))
        .next("vouch again after a restart"))
    }
}
