//! Bytes from nowhere: nothing panics, and nothing is affirmed that is not what was signed.

use crate::forge::{Script, expectation, forge};
use attest_tpm::join::{JoinExpectation, challenge, verify};
use attest_tpm::{
    Attested, Authority, EndorsementKey, JoinEvidence, Public, References, Signature,
};
use facts::Outcome;
use proptest::prelude::*;

/// Every part of a join whose bytes an attacker may choose and that a verdict rests on.
pub(crate) fn parts(evidence: &mut JoinEvidence) -> Vec<(&'static str, &mut Vec<u8>)> {
    let (request, answer) = (&mut evidence.request, &mut evidence.answer);
    let mut parts = vec![
        ("ek public", &mut request.ek_public),
        ("ek certificate", &mut request.ek_certificate),
        ("ak public", &mut request.ak_public),
        ("ak certificate", &mut request.ak_certificate),
        ("identity public", &mut request.identity_public),
        ("secret", &mut answer.activated_secret),
        ("quote", &mut answer.quote),
        ("quote signature", &mut answer.quote_signature),
        ("certify", &mut answer.certify),
        ("certify signature", &mut answer.certify_signature),
        ("session key", &mut answer.session_key),
        ("session key proof", &mut answer.session_key_proof),
        ("vouch", &mut answer.vouch),
    ];
    for value in &mut answer.pcr_values {
        parts.push(("pcr value", value));
    }
    parts
}

/// Changes every byte of every part, and cuts every part at every length: never affirmed.
pub(crate) fn nothing_changed_is_affirmed(
    evidence: &JoinEvidence,
    expected: &JoinExpectation,
    references: &References,
) {
    let affirmed = |evidence: &JoinEvidence| {
        verify(evidence, expected, references).verdict.outcome() == Outcome::Affirmed
    };
    assert!(affirmed(evidence), "the unchanged join has to be good");
    let mut changed = evidence.clone();
    let count = parts(&mut changed).len();
    for part in 0..count {
        let length = parts(&mut changed)[part].1.len();
        for at in 0..length {
            for bits in [0x01, 0x80, 0xff] {
                parts(&mut changed)[part].1[at] ^= bits;
                let name = parts(&mut changed)[part].0;
                assert!(!affirmed(&changed), "{name}: byte {at} with {bits:#x}");
                parts(&mut changed)[part].1[at] ^= bits;
            }
        }
        let (name, whole) = {
            let all = parts(&mut changed);
            (all[part].0, all[part].1.clone())
        };
        for cut in 0..length {
            parts(&mut changed)[part].1.truncate(cut);
            assert!(!affirmed(&changed), "{name}: cut at {cut}");
            *parts(&mut changed)[part].1 = whole.clone();
        }
        // A pinned key needs no certificate, and none that comes with it counts.
        if length > 0 {
            parts(&mut changed)[part].1.push(0);
            assert!(!affirmed(&changed), "{name}: one byte more");
            parts(&mut changed)[part].1.pop();
        }
    }
}

#[test]
fn no_byte_of_a_forged_join_can_change() {
    let (evidence, references) = forge(&Script::default());
    nothing_changed_is_affirmed(&evidence, &expectation(), &references);
}

/// Valid structures with some bytes replaced get further into a parser than noise does.
fn mutated(valid: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = valid.len();
    (
        Just(valid),
        prop::collection::vec((0..length, any::<u8>()), 0..6),
        0..=length,
        prop::collection::vec(any::<u8>(), 0..8),
    )
        .prop_map(|(mut bytes, changes, cut, tail)| {
            for (at, byte) in changes {
                bytes[at] = byte;
            }
            bytes.truncate(cut.max(2));
            bytes.extend(tail);
            bytes
        })
}

proptest! {
    #[test]
    fn parsers_survive_noise(bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        drop(Public::parse(&bytes));
        drop(Attested::parse(&bytes));
        drop(Signature::parse(&bytes));
        drop(EndorsementKey::parse(&bytes));
        drop(Authority::from_der(&bytes));
        drop(Authority::from_pem(&String::from_utf8_lossy(&bytes)));
    }

    #[test]
    fn parsers_survive_near_misses(
        public in mutated(forge(&Script::default()).0.request.ek_public),
        quote in mutated(forge(&Script::default()).0.answer.quote),
        signature in mutated(forge(&Script::default()).0.answer.vouch),
    ) {
        if let Ok(public) = Public::parse(&public) {
            prop_assert!(public.attributes.to_string().len() < 200);
        }
        drop(Attested::parse(&quote));
        if let Ok(signature) = Signature::parse(&signature) {
            drop(signature.p256_der());
        }
    }

    #[test]
    fn joins_of_noise_are_refused(
        bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 15)
    ) {
        let (mut evidence, references) = forge(&Script::default());
        for ((_, part), noise) in parts(&mut evidence).into_iter().zip(bytes) {
            *part = noise;
        }
        let verdict = verify(&evidence, &expectation(), &references).verdict;
        prop_assert_eq!(verdict.outcome(), Outcome::Refused);
        let entropy = attest_tpm::join::Entropy {
            nonce: [0; 32],
            secret: crypto::SecretBytes::new(vec![0; 32]),
            seed: crypto::SecretBytes::new(vec![0; 32]),
        };
        prop_assert!(challenge(&evidence.request, "note", &[0], &entropy).is_err());
    }
}
