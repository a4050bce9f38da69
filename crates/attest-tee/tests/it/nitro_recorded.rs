//! Recorded documents of enclaves, at the time that they were made.

use crate::evidence::{Folder, day, every_byte_counts, facts, folder, outcome};
use attest_tee::Code;
use attest_tee::nitro::{Document, Expectation, Image, References, Roots, verify};
use expect_test::expect;
use facts::Verdict;
use std::collections::BTreeMap;

fn references() -> References {
    References {
        roots: Roots::aws().unwrap(),
        code: Code::LeftToPolicy,
    }
}

/// Asks for what the document carries, a second after it was made.
pub(crate) fn expectation(document: &[u8]) -> Expectation {
    let document = Document::parse(document).unwrap();
    let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    Expectation {
        nonce: owned(document.nonce),
        user_data: owned(document.user_data),
        public_key: owned(document.public_key),
        max_age: 60,
        now: document.timestamp.plus_secs(1),
    }
}

fn judge(document: &[u8]) -> Verdict {
    verify(document, &expectation(document), &references())
}

/// dstack's have a length before the document and a claim file behind it.
fn dstack(all: &Folder, name: &str) -> Vec<u8> {
    let bytes = all.read(name);
    let start = 4;
    // COSE_Sign1 ends with a signature of 96 bytes, whose head comes after the payload.
    let payload = usize::from(u16::from_be_bytes([bytes[start + 8], bytes[start + 9]]));
    bytes[start..start + 10 + payload + 2 + 96].to_vec()
}

pub(crate) fn good(all: &Folder) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("yawn", all.read("nitro/yawn-attestation.cose")),
        ("evervault", all.read("nitro/evervault-valid.bin")),
        ("dstack", dstack(all, "nitro/dstack-nitro.bin")),
        ("dstack's library", dstack(all, "nitro/dstack-nsm-qvl.bin")),
    ]
}

#[test]
fn recorded_documents_are_affirmed_at_their_time() {
    let Some(all) = folder("attest_tee::nitro_documents", &["nitro"]) else {
        return;
    };
    let mut seen = String::new();
    for (name, document) in good(&all) {
        let verdict = judge(&document);
        assert_eq!(outcome(&verdict), [""; 0], "{name}: {:?}", verdict.findings);
        seen.push_str(&format!("{name}\n{}\n", facts(&verdict)));
    }
    expect![[r#"
        yawn
        machine.tee.debug = false
        machine.tee.endorsement = nitro
        machine.tee.kind = nitro
        machine.tee.measurement = 8bb159… 48 bytes
        machine.tee.pcr1 = 3b4a7e… 48 bytes
        machine.tee.pcr2 = f4e86b… 48 bytes
        machine.tee.pcr3 = 957dae… 48 bytes
        machine.tee.pcr4 = 5ecf4f… 48 bytes
        machine.tee.platform = i-0bee92034f3d60691-enc01943c5eaab3ad6a
        machine.tee.revocation = unchecked

        evervault
        machine.tee.debug = false
        machine.tee.endorsement = nitro
        machine.tee.kind = nitro
        machine.tee.measurement = f4d48b… 48 bytes
        machine.tee.pcr1 = bcdf05… 48 bytes
        machine.tee.pcr2 = d8f114… 48 bytes
        machine.tee.pcr3 = 4a9329… 48 bytes
        machine.tee.pcr4 = 1f442c… 48 bytes
        machine.tee.platform = i-020b6af9246d90e92-enc0183d09086c24190
        machine.tee.revocation = unchecked
        machine.tee.signer = 8790eb… 48 bytes

        dstack
        machine.tee.debug = false
        machine.tee.endorsement = nitro
        machine.tee.kind = nitro
        machine.tee.measurement = eb7d0d… 48 bytes
        machine.tee.pcr1 = 0343b0… 48 bytes
        machine.tee.pcr2 = d7b0a7… 48 bytes
        machine.tee.pcr4 = 7b3574… 48 bytes
        machine.tee.platform = i-0827e799ec9232d44-enc019b5640fdf630d6
        machine.tee.revocation = unchecked

        dstack's library
        machine.tee.debug = false
        machine.tee.endorsement = nitro
        machine.tee.kind = nitro
        machine.tee.measurement = 5cb702… 48 bytes
        machine.tee.pcr1 = 0343b0… 48 bytes
        machine.tee.pcr2 = 743ea1… 48 bytes
        machine.tee.pcr4 = 7b3574… 48 bytes
        machine.tee.platform = i-0827e799ec9232d44-enc019b55a68bd2ed4b
        machine.tee.revocation = unchecked

    "#]]
    .assert_eq(&seen);
}

#[test]
fn recorded_documents_that_do_not_count_are_refused_for_what_is_wrong() {
    let Some(all) = folder("attest_tee::nitro_refused", &["nitro"]) else {
        return;
    };
    for name in ["nitro/evervault-debug.bin", "nitro/dstack-nitro-debug.bin"] {
        let document = if name.contains("dstack") {
            dstack(&all, name)
        } else {
            all.read(name)
        };
        assert_eq!(outcome(&judge(&document)), ["TEE-NITRO-DEBUG"], "{name}");
    }
    let wrapped = all.read("nitro/dstack-nitro.bin");
    let document = all.read("nitro/yawn-attestation.cose");
    let now = expectation(&document);
    let refused = |document: &[u8], expected: &Expectation, references: &References| {
        outcome(&verify(document, expected, references)).join(" ")
    };
    assert_eq!(
        refused(&wrapped, &now, &references()),
        "TEE-NITRO-STRUCTURE"
    );
    let late = Expectation {
        now: day(2025, 1, 7),
        ..now.clone()
    };
    assert_eq!(
        refused(&document, &late, &references()),
        "TEE-NITRO-VALIDITY TEE-NITRO-TIME"
    );
    let hour = Expectation {
        now: now.now.plus_secs(3600),
        ..now.clone()
    };
    assert_eq!(refused(&document, &hour, &references()), "TEE-NITRO-TIME");
    let early = Expectation {
        now: day(2025, 1, 6),
        ..now.clone()
    };
    assert_eq!(
        refused(&document, &early, &references()),
        "TEE-NITRO-VALIDITY TEE-NITRO-TIME"
    );
    let nonce = Expectation {
        nonce: Some(b"ours".to_vec()),
        ..now.clone()
    };
    assert_eq!(refused(&document, &nonce, &references()), "TEE-NITRO-NONCE");
    let listed = References {
        code: Code::Listed(vec![Image {
            name: "prod".to_owned(),
            pcrs: BTreeMap::from([(0, [1; 48])]),
        }]),
        ..references()
    };
    assert_eq!(refused(&document, &now, &listed), "TEE-NITRO-IMAGE");
}

#[test]
fn the_chain_of_a_recorded_document_is_the_one_beside_it() {
    let Some(all) = folder("attest_tee::nitro_chain", &["nitro"]) else {
        return;
    };
    let document = all.read("nitro/yawn-attestation.cose");
    for number in 0..5 {
        let der = all.read(&format!("nitro/yawn-chain-{number}.der"));
        assert!(
            document.windows(der.len()).any(|window| window == der),
            "{number}"
        );
    }
    let root = all.read("nitro/yawn-chain-0.der");
    assert_eq!(all.pem("nitro/aws-nitro-root-g1.pem"), root);
}

#[test]
fn every_byte_of_recorded_documents_counts() {
    let Some(all) = folder("attest_tee::nitro_bytes", &["nitro"]) else {
        return;
    };
    for (name, document) in good(&all).iter().take(2) {
        let expected = expectation(document);
        let references = references();
        every_byte_counts(name, document, 0..document.len(), |document| {
            verify(document, &expected, &references)
        });
    }
}
