//! What agent and server say to one another during a join, as plain bytes. The wire form is `proto`'s.
//!
//! The agent's half is `device::tpm::join`, the server's is [`crate::join`].

use attest::Evidence;

/// Some 1,000 entries.
const LIST_PART: usize = 128 * 1024;

fn list_part(part: &[u8]) -> Evidence<'_> {
    Evidence::new("ima-list", part)
}

/// First message, from the agent: the keys of its TPM.
///
/// Where the endorsement key is empty, the join rests on the attestation key alone ([`crate::ak`]).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinRequest {
    /// `TPMT_PUBLIC` of the endorsement key.
    pub ek_public: Vec<u8>,
    /// DER; empty when the TPM holds none.
    pub ek_certificate: Vec<u8>,
    /// `TPMT_PUBLIC` of the attestation key.
    pub ak_public: Vec<u8>,
    /// DER; only where there is no endorsement key.
    pub ak_certificate: Vec<u8>,
    /// `TPMT_PUBLIC` of the identity key.
    pub identity_public: Vec<u8>,
}

/// Second message, from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Body of a `TPM2B_ID_OBJECT`; empty, as the next, where there is no endorsement key.
    pub credential_blob: Vec<u8>,
    /// Body of a `TPM2B_ENCRYPTED_SECRET`.
    pub encrypted_secret: Vec<u8>,
    /// [`nonce`](crate::nonce) of the next two.
    pub nonce: [u8; 32],
    pub nonce_random: [u8; 32],
    /// The text of a recent checkpoint of the server's ledger.
    pub nonce_checkpoint: String,
    /// The PCRs of the SHA-256 bank to quote.
    pub pcrs: Vec<u32>,
}

/// The connection that both sides see, and that a relay in the middle cannot reproduce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Channel {
    pub trust_domain: String,
    /// DER `SubjectPublicKeyInfo` of the server's TLS key.
    pub server_key: Vec<u8>,
    /// RFC 8446 section 7.5 keying material of this connection.
    pub exporter: Vec<u8>,
}

/// Third message, from the agent: proof that the keys live in the TPM and what it measured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinAnswer {
    /// What `TPM2_ActivateCredential` gave.
    pub activated_secret: Vec<u8>,
    /// `TPMS_ATTEST` of the quote.
    pub quote: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub quote_signature: Vec<u8>,
    /// `TPMS_ATTEST` about the identity key.
    pub certify: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub certify_signature: Vec<u8>,
    /// Ascending, as many as were asked for.
    pub pcr_values: Vec<Vec<u8>>,
    /// TCG event log; empty when the machine has none.
    pub event_log: Vec<u8>,
    /// The kernel's list of what it measured (IMA), whole and in its binary form; empty when it has none.
    pub ima_list: Vec<u8>,
    /// DER SPKI of the key in memory that the SVID is for; empty when it is for the identity key.
    pub session_key: Vec<u8>,
    /// By the session key over the join transcript.
    pub session_key_proof: Vec<u8>,
    /// `TPMT_SIGNATURE` by the identity key over [`vouch_message`](crate::vouch_message).
    pub vouch: Vec<u8>,
}

/// All that a machine presented.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinEvidence {
    pub request: JoinRequest,
    pub answer: JoinAnswer,
}

impl JoinEvidence {
    /// Drops what stands behind the first `entries` of the IMA list, of which the quote says nothing: a
    /// machine could write there what it likes, and have it kept.
    pub fn keep_list(&mut self, entries: u64) {
        let list = &mut self.answer.ima_list;
        let behind = crate::ima::after(list, entries).map_or(0, <[u8]>::len);
        list.truncate(list.len().saturating_sub(behind));
    }

    /// The blobs that a verdict names, in a fixed order; what is empty is left out. The activated
    /// secret is no evidence: it proves something to the one who made it, and to nobody else.
    ///
    /// The IMA list comes in parts that stay the same while it grows, so that who keeps them by their
    /// digests keeps each once, however often the machine proves itself.
    #[must_use]
    pub fn blobs(&self) -> Vec<Evidence<'_>> {
        let (request, answer) = (&self.request, &self.answer);
        [
            Evidence::new("tpm-ek-public", &request.ek_public),
            Evidence::new("ek-certificate", &request.ek_certificate),
            Evidence::new("tpm-ak-public", &request.ak_public),
            Evidence::new("ak-certificate", &request.ak_certificate),
            Evidence::new("tpm-identity-public", &request.identity_public),
            Evidence::new("tpm-quote", &answer.quote),
            Evidence::new("tpm-quote-signature", &answer.quote_signature),
            Evidence::new("tpm-pcr-values", answer.pcr_values.concat()),
            Evidence::new("tpm-certify", &answer.certify),
            Evidence::new("tpm-certify-signature", &answer.certify_signature),
            Evidence::new("tpm-event-log", &answer.event_log),
            Evidence::new("session-key", &answer.session_key),
            Evidence::new("session-key-proof", &answer.session_key_proof),
            Evidence::new("session-key-vouch", &answer.vouch),
        ]
        .into_iter()
        .chain(answer.ima_list.chunks(LIST_PART).map(list_part))
        .filter(|evidence| !evidence.bytes.is_empty())
        .collect()
    }
}
