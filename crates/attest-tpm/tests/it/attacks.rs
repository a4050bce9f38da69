//! The attack matrix: each line is one lie and what it is refused with. A check that is removed takes
//! its code out of a line, and the line no longer matches.

use crate::forge::{
    CERTIFY, NOW, QUOTE, RESTRICTED, Script, Session, endorsement_public, expectation, forge,
};
use attest_tpm::join::{JoinExpectation, verify};
use attest_tpm::{EndorsementKey, JoinEvidence, References};
use crypto::{Algorithm, KeyPair};
use expect_test::expect;
use facts::{Outcome, Verdict};
use std::fmt::Write as _;

type Lie = fn(&mut Script);
type Change = fn(&mut JoinEvidence, &mut JoinExpectation, &mut References);

/// Outcome and codes, in one line.
fn line(verdict: &Verdict) -> String {
    let codes: Vec<&str> = verdict
        .findings
        .iter()
        .map(|one| one.code.as_ref())
        .collect();
    match verdict.outcome() {
        Outcome::Affirmed => "affirmed".to_owned(),
        Outcome::Refused => codes.join(" "),
    }
}

#[test]
fn each_lie_of_a_chip_is_refused_by_the_check_that_guards_against_it() {
    let lies: &[(&str, Lie)] = &[
        ("the truth", |_| {}),
        ("the truth without a session key", |s| {
            s.session = Session::None
        }),
        ("an endorsement key of another kind", |s| {
            s.ek_attributes |= 1 << 6
        }),
        ("an attestation key that signs anything", |s| {
            s.ak_attributes ^= RESTRICTED
        }),
        ("an attestation key that can be exported", |s| {
            s.ak_attributes ^= 1 << 1
        }),
        ("an attestation key that may be moved", |s| {
            s.ak_attributes ^= 1 << 4
        }),
        ("an attestation key that came from outside", |s| {
            s.ak_attributes ^= 1 << 5
        }),
        ("an attestation key that does not sign", |s| {
            s.ak_attributes ^= 1 << 18
        }),
        ("an attestation key that decrypts", |s| {
            s.ak_attributes |= 1 << 17
        }),
        ("an attestation key by Schnorr's scheme", |s| {
            s.ak_scheme = 0x001c
        }),
        ("an attestation key with SHA-1", |s| s.ak_hash = 4),
        ("an attestation key named by SHA-1", |s| {
            s.ak_name_algorithm = 4
        }),
        ("an attestation key of the owner", |s| {
            s.ak_hierarchy = 0x4000_0001
        }),
        ("an identity key that can be exported", |s| {
            s.identity_attributes ^= 1 << 1
        }),
        ("an identity key that may be moved", |s| {
            s.identity_attributes ^= 1 << 4
        }),
        ("an identity key that came from outside", |s| {
            s.identity_attributes ^= 1 << 5
        }),
        ("a restricted identity key", |s| {
            s.identity_attributes |= RESTRICTED
        }),
        ("an identity key that does not sign", |s| {
            s.identity_attributes ^= 1 << 18
        }),
        ("an identity key that decrypts", |s| {
            s.identity_attributes |= 1 << 17
        }),
        ("an identity key with SHA-384", |s| s.identity_hash = 0x0c),
        ("a guessed secret", |s| {
            s.activated_secret = Some(vec![0; 32])
        }),
        ("no secret", |s| s.activated_secret = Some(Vec::new())),
        ("a quote of an earlier challenge", |s| {
            s.quote.qualifying = Some(vec![1; 32])
        }),
        ("a quote without a nonce", |s| {
            s.quote.qualifying = Some(Vec::new())
        }),
        ("a quote that no TPM made", |s| s.quote.magic = 0),
        ("a certification instead of a quote", |s| {
            s.quote.kind = CERTIFY
        }),
        ("a statement about time instead of a quote", |s| {
            s.quote.kind = 0x8019
        }),
        ("a quote by another key", |s| {
            s.quote.signed_by_another = true
        }),
        ("equal values of other PCRs", |s| {
            s.quoted_bits = [0x06, 0, 1]
        }),
        ("fewer PCRs", |s| s.quoted_bits = [0x81, 0, 0]),
        ("the SHA-1 bank", |s| s.quoted_bank = 4),
        ("another bank", |s| s.quoted_bank = 0x0c),
        ("the same bank twice", |s| s.quoted_twice = true),
        ("other PCR values than quoted", |s| {
            s.pcr_values[2] = vec![8; 32]
        }),
    ];
    let mut seen = String::new();
    for (what, lie) in lies {
        let mut script = Script::default();
        if *what == "other PCR values than quoted" {
            script.quoted_values = Some(script.pcr_values.clone());
        }
        lie(&mut script);
        let (evidence, references) = forge(&script);
        let judged = verify(&evidence, &expectation(), &references);
        assert_eq!(
            judged.proven.is_some(),
            judged.verdict.outcome() == Outcome::Affirmed
        );
        writeln!(seen, "{what}: {}", line(&judged.verdict)).unwrap();
    }
    expect![[r#"
        the truth: affirmed
        the truth without a session key: affirmed
        an endorsement key of another kind: TPM-EK-KEY
        an attestation key that signs anything: TPM-AK-ATTRIBUTES
        an attestation key that can be exported: TPM-AK-ATTRIBUTES
        an attestation key that may be moved: TPM-AK-ATTRIBUTES
        an attestation key that came from outside: TPM-AK-ATTRIBUTES
        an attestation key that does not sign: TPM-AK-ATTRIBUTES
        an attestation key that decrypts: TPM-AK-ATTRIBUTES
        an attestation key by Schnorr's scheme: TPM-AK-SCHEME
        an attestation key with SHA-1: TPM-AK-SCHEME
        an attestation key named by SHA-1: TPM-AK-SCHEME
        an attestation key of the owner: TPM-AK-HIERARCHY
        an identity key that can be exported: TPM-KEY-ATTRIBUTES
        an identity key that may be moved: TPM-KEY-ATTRIBUTES
        an identity key that came from outside: TPM-KEY-ATTRIBUTES
        a restricted identity key: TPM-KEY-ATTRIBUTES
        an identity key that does not sign: TPM-KEY-ATTRIBUTES
        an identity key that decrypts: TPM-KEY-ATTRIBUTES
        an identity key with SHA-384: TPM-KEY-SCHEME
        a guessed secret: TPM-ACTIVATION
        no secret: TPM-ACTIVATION
        a quote of an earlier challenge: TPM-QUOTE-NONCE
        a quote without a nonce: TPM-QUOTE-NONCE
        a quote that no TPM made: TPM-QUOTE-MAGIC
        a certification instead of a quote: TPM-QUOTE-TYPE
        a statement about time instead of a quote: TPM-QUOTE-TYPE
        a quote by another key: TPM-QUOTE-SIGNATURE
        equal values of other PCRs: TPM-QUOTE-SELECTION
        fewer PCRs: TPM-QUOTE-SELECTION
        the SHA-1 bank: TPM-QUOTE-BANK TPM-QUOTE-SELECTION
        another bank: TPM-QUOTE-SELECTION
        the same bank twice: TPM-QUOTE-SELECTION
        other PCR values than quoted: TPM-QUOTE-DIGEST
    "#]]
    .assert_eq(&seen);
}

#[test]
fn each_lie_about_the_keys_of_a_join_is_refused() {
    let lies: &[(&str, Lie)] = &[
        ("a certification that no TPM made", |s| s.certify.magic = 1),
        ("a quote instead of a certification", |s| {
            s.certify.kind = QUOTE
        }),
        ("a certification by another key", |s| {
            s.certify.signed_by_another = true
        }),
        ("a certification of another key", |s| {
            s.certified_name = Some(vec![3; 34])
        }),
        ("a certification for an earlier join", |s| {
            s.certify.qualifying = Some(vec![1; 32])
        }),
        ("a certification after a restart", |s| {
            s.certify.reset_count += 1
        }),
        ("a certification from before the quote", |s| {
            s.certify.clock -= 1
        }),
        ("a certification by older firmware", |s| {
            s.certify.firmware -= 1
        }),
        ("another TLS connection", |s| {
            s.channel.exporter = vec![1; 32]
        }),
        ("another server", |s| s.channel.server_key = vec![1; 32]),
        ("another trust domain", |s| {
            s.channel.trust_domain = "example.com".to_owned()
        }),
        ("a vouch of an earlier boot", |s| {
            s.session = Session::AnotherBoot
        }),
        ("a vouch for another session key", |s| {
            s.session = Session::AnotherKey
        }),
        ("a session key that somebody else holds", |s| {
            s.session = Session::Unproven
        }),
        ("a session key that is none", |s| {
            s.session = Session::Garbage
        }),
        ("a vouch without a session key", |s| {
            s.session = Session::Missing
        }),
    ];
    let mut seen = String::new();
    for (what, lie) in lies {
        let mut script = Script::default();
        lie(&mut script);
        let (evidence, references) = forge(&script);
        let verdict = verify(&evidence, &expectation(), &references).verdict;
        writeln!(seen, "{what}: {}", line(&verdict)).unwrap();
    }
    expect![[r#"
        a certification that no TPM made: TPM-CERTIFY-MAGIC
        a quote instead of a certification: TPM-CERTIFY-TYPE
        a certification by another key: TPM-CERTIFY-SIGNATURE
        a certification of another key: TPM-CERTIFY-NAME
        a certification for an earlier join: TPM-CERTIFY-TRANSCRIPT
        a certification after a restart: TPM-BOOT-CHANGED
        a certification from before the quote: TPM-CLOCK-BACK
        a certification by older firmware: TPM-FIRMWARE-BACK
        another TLS connection: TPM-CERTIFY-TRANSCRIPT TPM-SESSION-PROOF
        another server: TPM-CERTIFY-TRANSCRIPT TPM-SESSION-PROOF
        another trust domain: TPM-CERTIFY-TRANSCRIPT TPM-SESSION-PROOF
        a vouch of an earlier boot: TPM-VOUCH
        a vouch for another session key: TPM-VOUCH
        a session key that somebody else holds: TPM-SESSION-PROOF
        a session key that is none: TPM-SESSION-KEY
        a vouch without a session key: TPM-SESSION-KEY
    "#]]
    .assert_eq(&seen);
}

#[test]
fn each_change_on_the_way_is_refused() {
    let changes: &[(&str, Change)] = &[
        ("an endorsement key that nobody pinned", |_, _, r| {
            r.pinned_ek.clear()
        }),
        ("one fewer PCR value", |e, _, _| {
            drop(e.answer.pcr_values.pop())
        }),
        ("one more PCR value", |e, _, _| {
            e.answer.pcr_values.push(vec![0; 32])
        }),
        ("PCR values cut differently", |e, _, _| {
            let moved = e.answer.pcr_values[1].remove(0);
            e.answer.pcr_values[0].push(moved);
        }),
        ("quote and certification exchanged", |e, _, _| {
            let answer = &mut e.answer;
            std::mem::swap(&mut answer.quote, &mut answer.certify);
            std::mem::swap(&mut answer.quote_signature, &mut answer.certify_signature);
        }),
        ("the answer to another challenge", |_, x, _| {
            x.nonce = [7; 32]
        }),
        ("a challenge without a secret", |e, x, _| {
            x.secret = crypto::SecretBytes::new(Vec::new());
            e.answer.activated_secret.clear();
        }),
        ("an endless event log", |e, _, _| {
            e.answer.event_log = vec![0; (1 << 20) + 1]
        }),
        ("a structure longer than any TPM's", |e, _, _| {
            e.answer.quote.resize(5000, 0)
        }),
        ("another machine's keys", |e, _, r| {
            let (other, references) = forge(&Script::default());
            e.request = other.request;
            r.pinned_ek.extend(references.pinned_ek);
        }),
        ("another machine's identity key", |e, _, _| {
            e.request.identity_public = forge(&Script::default()).0.request.identity_public;
        }),
    ];
    let mut seen = String::new();
    for (what, change) in changes {
        let (mut evidence, mut references) = forge(&Script::default());
        let mut expected = expectation();
        change(&mut evidence, &mut expected, &mut references);
        let verdict = verify(&evidence, &expected, &references).verdict;
        writeln!(seen, "{what}: {}", line(&verdict)).unwrap();
    }
    expect![[r#"
        an endorsement key that nobody pinned: TPM-EK-UNKNOWN
        one fewer PCR value: TPM-QUOTE-DIGEST
        one more PCR value: TPM-QUOTE-DIGEST
        PCR values cut differently: TPM-QUOTE-DIGEST
        quote and certification exchanged: TPM-QUOTE-NONCE TPM-QUOTE-TYPE TPM-CERTIFY-TRANSCRIPT TPM-CERTIFY-TYPE
        the answer to another challenge: TPM-QUOTE-NONCE TPM-CERTIFY-TRANSCRIPT
        a challenge without a secret: TPM-ACTIVATION
        an endless event log: TPM-EVENT-LOG-SIZE
        a structure longer than any TPM's: TPM-STRUCTURE TPM-QUOTE-SIGNATURE TPM-CERTIFY-TRANSCRIPT
        another machine's keys: TPM-QUOTE-SIGNATURE TPM-CERTIFY-SIGNATURE TPM-CERTIFY-TRANSCRIPT TPM-CERTIFY-NAME
        another machine's identity key: TPM-CERTIFY-TRANSCRIPT TPM-CERTIFY-NAME TPM-SESSION-PROOF
    "#]].assert_eq(&seen);
}

/// Each field that both templates fix, changed: name algorithm, policy, protection of children, curve.
#[test]
fn an_endorsement_key_of_another_template_is_refused() {
    let key = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let good = endorsement_public(0x0003_00b2, &key);
    assert!(EndorsementKey::parse(&good).is_ok());
    let changes: [(&str, usize, u8); 6] = [
        ("named by SHA-384", 3, 0x0c),
        ("another policy", 10, good[10] ^ 1),
        ("another cipher", 43, 0x13),
        ("a longer key of the cipher", 44, 1),
        ("another mode", 47, 0x44),
        ("another curve", 51, 4),
    ];
    for (what, at, value) in changes {
        let mut changed = good.clone();
        changed[at] = value;
        let refused = EndorsementKey::parse(&changed).unwrap_err();
        assert_eq!(refused.code, "TPM-EK-KEY", "{what}");
    }
}

#[test]
fn facts_say_no_more_than_was_verified() {
    let (mut evidence, references) = forge(&Script::default());
    evidence.answer.event_log = b"a log that says all is well".to_vec();
    let refused = verify(&evidence, &expectation(), &references);
    assert!(refused.proven.is_none(), "{:?}", refused.verdict);
    evidence.answer.event_log.clear();
    let verdict = verify(&evidence, &expectation(), &references).verdict;
    let mut seen = String::new();
    for fact in verdict.facts.iter() {
        assert_eq!(fact.observed_at, NOW);
        let value = if fact.name == facts::names::MACHINE_TPM_EK {
            "(digest)".to_owned()
        } else {
            fact.value.to_string()
        };
        writeln!(seen, "{} = {value} ({})", fact.name, fact.source).unwrap();
    }
    for digest in &verdict.evidence {
        writeln!(seen, "{}", digest.kind).unwrap();
    }
    expect![[r#"
        machine.boot.reset_count = 7 (verified)
        machine.boot.restart_count = 0 (verified)
        machine.boot.state = unknown (verified)
        machine.join = tpm (verified)
        machine.key = memory-vouched-by-tpm (verified)
        machine.tpm.ek_chain = pinned (verified)
        machine.tpm.ek_sha256 = (digest) (verified)
        machine.tpm.firmware = 0102030405060708 (verified)
        machine.tpm.kind = unknown (verified)
        tpm-ek-public
        tpm-ak-public
        tpm-identity-public
        tpm-quote
        tpm-quote-signature
        tpm-pcr-values
        tpm-certify
        tpm-certify-signature
        session-key
        session-key-proof
        session-key-vouch
    "#]]
    .assert_eq(&seen);
}
