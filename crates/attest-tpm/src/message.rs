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

/// What a machine was asked, and over which connection. With it whoever reads its answer later sees that the answer
/// was made for this, after the checkpoint was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenged {
    /// The text of a recent checkpoint of the server's ledger.
    pub checkpoint: String,
    pub random: [u8; 32],
    /// DER `SubjectPublicKeyInfo` of the server's TLS key.
    pub server_key: Vec<u8>,
    /// As [`Channel::exporter`]. It is no secret: it can be told once the connection is that it is of.
    pub exporter: [u8; 32],
}

impl Challenged {
    #[must_use]
    pub fn nonce(&self) -> [u8; 32] {
        crate::nonce(&self.checkpoint, &self.random)
    }

    #[must_use]
    pub fn channel(&self, trust_domain: &str) -> Channel {
        Channel {
            trust_domain: trust_domain.to_owned(),
            server_key: self.server_key.clone(),
            exporter: self.exporter.to_vec(),
        }
    }

    /// As evidence: what the nonce is the SHA-256 of, and exporter and key.
    #[must_use]
    pub fn blobs(&self) -> [Evidence<'static>; 2] {
        let nonce = [self.checkpoint.as_bytes(), &self.random].concat();
        let channel = [&self.exporter, self.server_key.as_slice()].concat();
        [
            Evidence::new(Self::NONCE, nonce),
            Evidence::new(Self::CHANNEL, channel),
        ]
    }

    /// The kinds of [`Self::blobs`].
    pub const NONCE: &'static str = "join-nonce";
    pub const CHANNEL: &'static str = "join-channel";

    /// Reads what [`Self::blobs`] made.
    #[must_use]
    pub fn read(nonce: &[u8], channel: &[u8]) -> Option<Self> {
        let (checkpoint, random) = nonce.split_last_chunk::<32>()?;
        let (exporter, server_key) = channel.split_first_chunk::<32>()?;
        Some(Self {
            checkpoint: std::str::from_utf8(checkpoint).ok()?.to_owned(),
            random: *random,
            server_key: server_key.to_vec(),
            exporter: *exporter,
        })
    }
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

    /// Reads what [`Self::blobs`] named: the blob of a kind, its parts one behind the other. Of the activated secret
    /// there is none.
    #[must_use]
    pub fn from_blobs<'a>(blob: impl Fn(&str) -> &'a [u8]) -> Self {
        let blob = |kind| blob(kind).to_vec();
        let values = blob("tpm-pcr-values");
        Self {
            request: JoinRequest {
                ek_public: blob("tpm-ek-public"),
                ek_certificate: blob("ek-certificate"),
                ak_public: blob("tpm-ak-public"),
                ak_certificate: blob("ak-certificate"),
                identity_public: blob("tpm-identity-public"),
            },
            answer: JoinAnswer {
                activated_secret: Vec::new(),
                quote: blob("tpm-quote"),
                quote_signature: blob("tpm-quote-signature"),
                certify: blob("tpm-certify"),
                certify_signature: blob("tpm-certify-signature"),
                pcr_values: values.chunks(32).map(<[u8]>::to_vec).collect(),
                event_log: blob("tpm-event-log"),
                ima_list: blob("ima-list"),
                session_key: blob("session-key"),
                session_key_proof: blob("session-key-proof"),
                vouch: blob("session-key-vouch"),
            },
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_presented_and_asked_reads_back_from_its_blobs() {
        let bytes = |seed: u8| vec![seed; 40];
        let evidence = JoinEvidence {
            request: JoinRequest {
                ek_public: bytes(1),
                ek_certificate: Vec::new(),
                ak_public: bytes(2),
                ak_certificate: bytes(3),
                identity_public: bytes(4),
            },
            answer: JoinAnswer {
                activated_secret: Vec::new(),
                quote: bytes(5),
                quote_signature: bytes(6),
                certify: bytes(7),
                certify_signature: bytes(8),
                pcr_values: vec![vec![9; 32], vec![10; 32]],
                event_log: bytes(11),
                ima_list: vec![12; LIST_PART + 1],
                session_key: bytes(13),
                session_key_proof: bytes(14),
                vouch: bytes(15),
            },
        };
        let mut kept = std::collections::BTreeMap::<&str, Vec<u8>>::new();
        for blob in evidence.blobs() {
            kept.entry(blob.kind).or_default().extend(&*blob.bytes);
        }
        let read = |kind: &str| kept.get(kind).map_or(&[][..], Vec::as_slice);
        assert_eq!(JoinEvidence::from_blobs(read), evidence);

        let asked = Challenged {
            checkpoint: "example.org/server\n1\nAAAA\n".to_owned(),
            random: [1; 32],
            server_key: b"key".to_vec(),
            exporter: [2; 32],
        };
        let [nonce, channel] = asked.blobs();
        assert_eq!(crypto::sha256(&nonce.bytes), asked.nonce());
        let again = Challenged::read(&nonce.bytes, &channel.bytes);
        assert_eq!(again.as_ref(), Some(&asked));
        assert!(Challenged::read(&[0; 31], &channel.bytes).is_none());
    }
}
