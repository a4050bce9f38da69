//! The messages of a join by TPM: parts, each behind its length.

use crate::seeds;
use attest_tpm::join::{Entropy, JoinExpectation, challenge, verify};
use attest_tpm::{
    Channel, EndorsementKey, JoinAnswer, JoinEvidence, JoinRequest, References, SigningKey,
};
use crypto::SecretBytes;
use facts::Outcome;
use testkit::chip::{Chip, sized};

/// A challenge is made for keys of the right kinds alone, and who does not know its secret is refused.
pub(crate) fn join(bytes: &[u8]) {
    let mut parts = parts(bytes).into_iter();
    let mut part = || parts.next().unwrap_or_default();
    let request = JoinRequest {
        ek_public: part(),
        ek_certificate: part(),
        ak_public: part(),
        ak_certificate: part(),
        identity_public: part(),
    };
    let entropy = Entropy {
        nonce: [1; 32],
        secret: SecretBytes::new(vec![2; 32]),
        seed: SecretBytes::new(vec![3; 32]),
    };
    let pcrs: Vec<u32> = (0..15).collect();
    match challenge(&request, "note", &pcrs, &entropy) {
        Ok(challenge) => {
            let alone = request.ek_public.is_empty();
            assert!(alone || EndorsementKey::parse(&request.ek_public).is_ok());
            assert!(SigningKey::attestation(&request.ak_public).is_ok());
            assert!(SigningKey::identity(&request.identity_public).is_ok());
            assert!(challenge.credential_blob.len() + challenge.encrypted_secret.len() < 1024);
        }
        Err(findings) => assert!(!findings.is_empty()),
    }
    let answer = JoinAnswer {
        activated_secret: part(),
        quote: part(),
        quote_signature: part(),
        certify: part(),
        certify_signature: part(),
        event_log: part(),
        ima_list: part(),
        session_key: part(),
        session_key_proof: part(),
        vouch: part(),
        pcr_values: std::iter::repeat_with(part).take(pcrs.len()).collect(),
    };
    let expected = JoinExpectation {
        nonce: [4; 32],
        secret: SecretBytes::new(vec![2; 32]),
        pcrs,
        channel: Channel {
            trust_domain: "example.org".to_owned(),
            server_key: vec![5; 91],
            exporter: vec![6; 32],
        },
        now: seeds::at(1_795_500_000),
        vouched: None,
    };
    let evidence = JoinEvidence { request, answer };
    let kept: usize = evidence.blobs().iter().map(|blob| blob.bytes.len()).sum();
    assert!(kept <= bytes.len());
    let judgement = verify(&evidence, &expected, &References::default());
    assert_eq!(judgement.verdict.outcome(), Outcome::Refused);
    assert!(judgement.verdict.facts.is_empty() && !judgement.verdict.findings.is_empty());
}

fn parts(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (part, behind) = rest.split_at(length);
        parts.push(part.to_vec());
        bytes = behind;
    }
    parts
}

/// A join that tpm2-tools recorded, though not by the transcript of ours, and one of nothing.
pub(crate) fn join_seeds() -> Vec<Vec<u8>> {
    let file = |name: &str| seeds::file(&format!("lab/swtpm-join/{name}")).unwrap_or_default();
    let public = |name: &str| file(name).get(2..).unwrap_or_default().to_vec();
    let quote = Chip::new().unwrap().quote(&[4; 32]).unwrap();
    let boot = |name: &str| seeds::of_boots(name).into_iter().next().unwrap_or_default();
    let mut parts = vec![
        public("ek.pub"),
        file("ekcert.der"),
        public("ak.pub"),
        Vec::new(),
        public("tls.pub"),
        vec![2; 32],
        quote.attested,
        quote.signature,
        file("tls.attest"),
        file("tls.attest.sig"),
        boot("eventlog.bin"),
        boot("ima.bin"),
        Vec::new(),
        Vec::new(),
        Vec::new(),
    ];
    parts.extend(quote.values);
    let mut alone = parts.clone();
    for part in alone.iter_mut().take(2) {
        part.clear();
    }
    let joined = |parts: &[Vec<u8>]| parts.iter().flat_map(|part| sized(part)).collect();
    vec![joined(&parts), joined(&alone), vec![0; 64]]
}
