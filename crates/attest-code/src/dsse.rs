//! DSSE envelopes (Dead Simple Signing Envelope 1.0): a payload, its type, and signatures over both.

use crate::json::Base64;
use crypto::PublicKey;
use facts::Finding;
use serde::Deserialize;

/// An envelope, as a signature of code is kept. Provenance has tens of KiB.
pub(crate) const MAX_ENVELOPE: usize = 4 * 1024 * 1024;
const MAX_SIGNATURES: usize = 16;

/// A payload and signatures, none of them verified.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Envelope {
    payload_type: String,
    payload: Base64,
    signatures: Vec<EnvelopeSignature>,
}

/// `keyid` is a hint that nobody signed, and is not read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct EnvelopeSignature {
    sig: Base64,
}

impl Envelope {
    /// Reads the JSON of an envelope.
    ///
    /// # Errors
    /// `DSSE-STRUCTURE`.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Finding> {
        if bytes.len() > MAX_ENVELOPE {
            return Err(unreadable(format!("{} bytes", bytes.len()))
                .expected(format!("at most {MAX_ENVELOPE} bytes")));
        }
        serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))
    }

    pub(crate) fn payload_type(&self) -> &str {
        &self.payload_type
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.payload.0
    }

    /// The signatures' bytes.
    pub(crate) fn signatures(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.signatures.iter().map(|one| one.sig.0.as_slice())
    }

    /// The first signature; in a bundle the only one.
    pub(crate) fn signature(&self) -> &[u8] {
        self.signatures().next().unwrap_or_default()
    }

    /// What is signed: `PAE(type, body) = "DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`.
    pub(crate) fn signed_bytes(&self) -> Vec<u8> {
        let head = format!(
            "DSSEv1 {} {} {} ",
            self.payload_type.len(),
            self.payload_type,
            self.payload.0.len()
        );
        [head.as_bytes(), &self.payload.0].concat()
    }

    /// Checks that `key` made one of the signatures.
    ///
    /// # Errors
    /// `DSSE-SIGNATURE`.
    pub(crate) fn signed_by(&self, key: &PublicKey) -> Result<(), Finding> {
        let message = self.signed_bytes();
        let signed = self
            .signatures()
            .take(MAX_SIGNATURES)
            .any(|signature| key.verify(&message, signature).is_ok());
        if signed {
            return Ok(());
        }
        Err(
            Finding::new("DSSE-SIGNATURE", "the key did not sign the envelope")
                .expected(format!("a signature by {key:?}"))
                .observed(format!("{} signatures", self.signatures.len())),
        )
    }
}

fn unreadable(observed: String) -> Finding {
    Finding::new("DSSE-STRUCTURE", "the envelope cannot be read")
        .expected("a JSON object with payloadType, payload and signatures")
        .observed(observed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_bytes_are_those_of_the_specification() {
        let envelope = Envelope {
            payload_type: "http://example.com/HelloWorld".to_owned(),
            payload: Base64(b"hello world".to_vec()),
            signatures: Vec::new(),
        };
        // The example of the specification's protocol page.
        assert_eq!(
            envelope.signed_bytes(),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }
}
