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

/// What a confidential machine asks its hardware to report: H("trilith-tee-report-v1", SPKI, nonce),
/// then 32 zeros. `spki` is the vTPM's attestation key where there is one, so that hardware report and
/// TPM quote are of one machine, else the session key.
#[must_use]
pub fn tee_report_data(spki: &[u8], nonce: &[u8]) -> [u8; 64] {
    let mut data = [0; 64];
    let digest = digest(&[b"trilith-tee-report-v1", spki, nonce]);
    for (to, from) in data.iter_mut().zip(digest) {
        *to = from;
    }
    data
}

/// What joins a machine that is one enclave, without a TPM.
#[derive(Debug, Clone, Copy)]
pub struct EnclaveJoin<'a> {
    pub trust_domain: &'a str,
    /// SPKI of the server.
    pub server_key: &'a [u8],
    /// Of the TLS connection that the challenge came over.
    pub exporter: &'a [u8],
    /// Of the challenge.
    pub nonce: &'a [u8],
    /// What tells this enclave from others of the same code, of its own choice.
    pub instance: &'a [u8],
    /// SPKI of the key that was made in the enclave.
    pub spki: &'a [u8],
}

impl EnclaveJoin<'_> {
    /// What its hardware reports, and what the key signs: H("trilith-enclave-join-v1", trust domain, server key, TLS
    /// exporter, nonce, instance, SPKI), then 32 zeros. A report of it is of this key, this question and this
    /// connection: no relay can use it, and no other enclave.
    #[must_use]
    pub fn report_data(&self) -> [u8; 64] {
        let digest = digest(&[
            b"trilith-enclave-join-v1",
            self.trust_domain.as_bytes(),
            self.server_key,
            self.exporter,
            self.nonce,
            self.instance,
            self.spki,
        ]);
        let mut data = [0; 64];
        for (to, from) in data.iter_mut().zip(digest) {
            *to = from;
        }
        data
    }
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

    const REPORTED: &str = "7f3758cabc6ff8a88038ab5076de98499a0f95d671d43941bb06af897755f787";

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

    #[test]
    fn what_an_enclave_reports_is_fixed_and_of_every_field() {
        let join = EnclaveJoin {
            trust_domain: "example.org",
            server_key: b"server",
            exporter: &[1; 32],
            nonce: &[2; 32],
            instance: &[3; 16],
            spki: b"spki",
        };
        let fields: [&[u8]; 7] = [
            b"trilith-enclave-join-v1",
            b"example.org",
            b"server",
            &[1; 32],
            &[2; 32],
            &[3; 16],
            b"spki",
        ];
        let mut bytes = Vec::new();
        for field in fields {
            bytes.extend(u32::try_from(field.len()).unwrap().to_be_bytes());
            bytes.extend(field);
        }
        let data = join.report_data();
        assert_eq!(data[..32], crypto::sha256(&bytes));
        assert_eq!(data[32..], [0; 32]);
        for other in [
            EnclaveJoin {
                trust_domain: "example.com",
                ..join
            },
            EnclaveJoin {
                server_key: b"other",
                ..join
            },
            EnclaveJoin {
                exporter: &[9; 32],
                ..join
            },
            EnclaveJoin {
                nonce: &[9; 32],
                ..join
            },
            EnclaveJoin {
                instance: &[9; 16],
                ..join
            },
            EnclaveJoin {
                spki: b"other",
                ..join
            },
        ] {
            assert_ne!(other.report_data(), data, "{other:?}");
        }
    }

    #[test]
    fn what_hardware_reports_is_fixed() {
        let data = tee_report_data(b"spki", &[1; 32]);
        assert_eq!(
            crypto::hex::encode(&data),
            [REPORTED, &"00".repeat(32)].concat()
        );
        assert_ne!(tee_report_data(b"spk", &[1; 32]), data);
        assert_ne!(tee_report_data(b"spki", &[2; 32]), data);
    }
}
