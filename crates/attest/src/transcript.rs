//! What a node signs to show that it holds the key that it asks a certificate for: bound to the TLS
//! connection, so that a relay in between cannot use it. A TPM join has a transcript of its own
//! (`attest-tpm`).
//!
//! Each field is preceded by its length as four big-endian bytes.

/// H("trilith-token-join-v1", trust domain, TLS exporter, SHA-256(token), SPKI).
#[must_use]
pub fn token_join(
    trust_domain: &str,
    exporter: &[u8; 32],
    token_sha256: &[u8; 32],
    spki: &[u8],
) -> [u8; 32] {
    digest(&[
        b"trilith-token-join-v1",
        trust_domain.as_bytes(),
        exporter,
        token_sha256,
        spki,
    ])
}

/// H("trilith-renew-v1", trust domain, TLS exporter, renewal id, SHA-256(join state), SPKI).
#[must_use]
pub fn renewal(
    trust_domain: &str,
    exporter: &[u8; 32],
    renewal_id: &[u8],
    join_state: &[u8],
    spki: &[u8],
) -> [u8; 32] {
    digest(&[
        b"trilith-renew-v1",
        trust_domain.as_bytes(),
        exporter,
        renewal_id,
        &crypto::sha256(join_state),
        spki,
    ])
}

fn digest(fields: &[&[u8]]) -> [u8; 32] {
    let mut hash = crypto::Sha256::new();
    for field in fields {
        let length = u32::try_from(field.len()).unwrap_or(u32::MAX);
        hash.update(&length.to_be_bytes());
        hash.update(field);
    }
    hash.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Agents of every version compute these bytes: the value never changes.
    #[test]
    fn the_bytes_are_fixed() {
        let token = crypto::sha256(b"token");
        let fields: [&[u8]; 5] = [
            b"trilith-token-join-v1",
            b"example.org",
            &[1; 32],
            &token,
            b"spki",
        ];
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            bytes.extend(field);
        }
        assert_eq!(
            token_join("example.org", &[1; 32], &token, b"spki"),
            crypto::sha256(&bytes)
        );
    }
}
