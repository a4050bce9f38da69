//! What the two sides of a join agree that they said. One definition for agent and server, because
//! each must compute the same bytes.
//!
//! Every field is preceded by its length as four big-endian bytes, so that no two different lists
//! of fields have the same encoding.

use crypto::Sha256;

/// What the agent's attestation key certifies the identity key for:
///
/// H("trilith-join-v1", trust domain, server key, TLS exporter, nonce, EK, AK name, SPKI, quote
/// digest).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transcript<'a> {
    pub(crate) trust_domain: &'a str,
    pub(crate) server_key: &'a [u8],
    pub(crate) exporter: &'a [u8],
    pub(crate) nonce: &'a [u8],
    pub(crate) ek_public: &'a [u8],
    pub(crate) ak_name: &'a [u8],
    pub(crate) identity_spki: &'a [u8],
    pub(crate) quote: &'a [u8],
}

impl Transcript<'_> {
    pub(crate) fn digest(&self) -> [u8; 32] {
        crypto::sha256(&encode(&[
            b"trilith-join-v1",
            self.trust_domain.as_bytes(),
            self.server_key,
            self.exporter,
            self.nonce,
            self.ek_public,
            self.ak_name,
            self.identity_spki,
            &crypto::sha256(self.quote),
        ]))
    }
}

/// The digest that the identity key is certified for, and that the session key signs.
///
/// `quote` is the `TPMS_ATTEST` itself; `identity_spki` is DER.
#[must_use]
pub fn join_transcript(
    channel: &crate::Channel,
    nonce: &[u8; 32],
    ek_public: &[u8],
    ak_name: &crate::Name,
    identity_spki: &[u8],
    quote: &[u8],
) -> [u8; 32] {
    Transcript {
        trust_domain: &channel.trust_domain,
        server_key: &channel.server_key,
        exporter: &channel.exporter,
        nonce,
        ek_public,
        ak_name: ak_name.as_bytes(),
        identity_spki,
        quote,
    }
    .digest()
}

/// What the identity key signs to vouch for a session key in memory, for this boot only: the TPM is
/// given the SHA-256 of this message, H("trilith-vouch-v1", session SPKI, resetCount, restartCount,
/// nonce), with the counters of the quote as four big-endian bytes each.
#[must_use]
pub fn vouch_message(session_spki: &[u8], boot: crate::join::Boot, nonce: &[u8; 32]) -> Vec<u8> {
    encode(&[
        b"trilith-vouch-v1",
        session_spki,
        &boot.reset_count.to_be_bytes(),
        &boot.restart_count.to_be_bytes(),
        nonce,
    ])
}

/// H(checkpoint note ‖ random): whoever knows the checkpoint knows that the answer is younger.
#[must_use]
pub fn nonce(checkpoint: &str, random: &[u8; 32]) -> [u8; 32] {
    let mut state = Sha256::new();
    state.update(checkpoint.as_bytes());
    state.update(random);
    state.finish()
}

fn encode(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both sides of every version must compute these bytes: the values never change.
    #[test]
    fn transcripts_are_fixed() {
        let transcript = Transcript {
            trust_domain: "example.org",
            server_key: b"server",
            exporter: &[1; 32],
            nonce: &[2; 32],
            ek_public: b"ek",
            ak_name: &[3; 34],
            identity_spki: b"spki",
            quote: b"quote",
        };
        let fields: [&[u8]; 9] = [
            b"trilith-join-v1",
            b"example.org",
            b"server",
            &[1; 32],
            &[2; 32],
            b"ek",
            &[3; 34],
            b"spki",
            &crypto::sha256(b"quote"),
        ];
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            bytes.extend(field);
        }
        assert_eq!(transcript.digest(), crypto::sha256(&bytes));
    }

    #[test]
    fn moving_a_byte_between_fields_changes_the_transcript() {
        assert_ne!(encode(&[b"ab", b"c"]), encode(&[b"a", b"bc"]));
        assert_ne!(encode(&[b"", b"a"]), encode(&[b"a", b""]));
    }
}
