//! Joins on a software TPM that runs, by its own manufacturer.

use crate::hostile::nothing_changed_is_affirmed;
use crate::tools;
use attest_tpm::join::{Entropy, JoinExpectation, Judgement, challenge, verify};
use attest_tpm::{
    Authorities, Authority, Challenge, Channel, JoinAnswer, JoinEvidence, JoinRequest, References,
};
use crypto::{Algorithm, KeyPair, SecretBytes};
use device::tpm::join::Join;
use device::tpm::{Error, Hierarchy, Tpm, template};
use expect_test::expect;
use facts::{Outcome, Timestamp};
use std::fmt::Write as _;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::Instant;
use testkit::swtpm::Swtpm;

pub(crate) const PCRS: [u32; 10] = [0, 1, 2, 3, 4, 5, 6, 7, 10, 16];
const CHECKPOINT: &str = "example.org/server\n7\nroot\n\n— example.org/server key\n";

/// A running chip, or none after saying loudly why.
pub(crate) fn chip(test: &str) -> Option<Swtpm> {
    match testkit::tools(["swtpm", "swtpm_setup", "swtpm_localca"]) {
        Ok(_) => Some(Swtpm::start().unwrap()),
        Err(why) => {
            testkit::skip(test, &why);
            None
        }
    }
}

/// Trusts the manufacturer of `chip` as one of emulators.
pub(crate) fn references(chip: &Swtpm) -> References {
    References {
        ek: Authorities {
            emulated: vec![Authority::from_der(&chip.root_der().unwrap()).unwrap()],
            intermediates: vec![Authority::from_der(&chip.issuer_der().unwrap()).unwrap()],
            ..Authorities::default()
        },
        ..References::default()
    }
}

/// The server's side of one join: what it sent and will expect.
pub(crate) fn challenged(request: &JoinRequest) -> (Challenge, JoinExpectation) {
    challenged_for(request, &PCRS)
}

pub(crate) fn challenged_for(request: &JoinRequest, pcrs: &[u32]) -> (Challenge, JoinExpectation) {
    let entropy = Entropy {
        nonce: crypto::random(),
        secret: SecretBytes::new(crypto::random::<32>().to_vec()),
        seed: SecretBytes::new(crypto::random::<32>().to_vec()),
    };
    let sent = challenge(request, CHECKPOINT, pcrs, &entropy).unwrap();
    let expected = JoinExpectation {
        nonce: sent.nonce,
        secret: entropy.secret,
        pcrs: sent.pcrs.clone(),
        channel: channel(),
        now: Timestamp::now(),
        vouched: None,
    };
    (sent, expected)
}

pub(crate) fn channel() -> Channel {
    Channel {
        trust_domain: "example.org".to_owned(),
        server_key: b"server key".to_vec(),
        exporter: vec![4; 32],
    }
}

pub(crate) fn open(chip: &Swtpm) -> Tpm {
    Tpm::open(&chip.uri()).unwrap()
}

fn session() -> KeyPair {
    KeyPair::generate(Algorithm::EcdsaP256).unwrap()
}

/// A whole join with a session key.
pub(crate) fn join(chip: &Swtpm) -> (JoinEvidence, JoinExpectation) {
    let join = Join::begin(open(chip)).unwrap();
    let request = join.request().clone();
    let (sent, expected) = challenged(&request);
    let answer = join.answer(&sent, &channel(), Some(&session())).unwrap();
    (JoinEvidence { request, answer }, expected)
}

fn codes(judgement: &Judgement) -> Vec<&str> {
    let findings = &judgement.verdict.findings;
    findings.iter().map(|one| one.code.as_ref()).collect()
}

#[test]
fn a_machine_joins_and_the_verdict_says_what_is_known_of_it() {
    let Some(chip) = chip("attest_tpm::a_machine_joins") else {
        return;
    };
    let references = references(&chip);
    let started = Instant::now();
    let (evidence, expected) = join(&chip);
    let joined = started.elapsed();
    let started = Instant::now();
    let judgement = verify(&evidence, &expected, &references);
    let verified = started.elapsed();
    eprintln!("join on swtpm {joined:?}, verification {verified:?}");
    assert_eq!(codes(&judgement), [""; 0]);
    let proven = judgement.proven.unwrap();
    assert_eq!(proven.session_key.spki_der(), evidence.answer.session_key);
    let mut seen = String::new();
    for fact in judgement.verdict.facts.iter() {
        let value = match fact.name.as_str() {
            facts::names::MACHINE_TPM_EK => "(digest)".to_owned(),
            facts::names::MACHINE_TPM_FIRMWARE => "(number)".to_owned(),
            _ => fact.value.to_string(),
        };
        writeln!(seen, "{} = {value} ({})", fact.name, fact.source).unwrap();
    }
    expect![[r#"
        machine.boot.reset_count = 2 (verified)
        machine.boot.restart_count = 0 (verified)
        machine.boot.state = unknown (verified)
        machine.join = tpm (verified)
        machine.key = memory-vouched-by-tpm (verified)
        machine.tpm.ek_chain = verified (verified)
        machine.tpm.ek_sha256 = (digest) (verified)
        machine.tpm.firmware = (number) (verified)
        machine.tpm.kind = emulated (verified)
        machine.tpm.manufacturer = 00001014 (verified)
    "#]]
    .assert_eq(&seen);
    nothing_changed_is_affirmed(&evidence, &expected, &references);

    // An answer is good for its own challenge only.
    let (_, another) = challenged(&evidence.request);
    let replayed = verify(&evidence, &another, &references);
    expect!["TPM-ACTIVATION TPM-QUOTE-NONCE TPM-CERTIFY-TRANSCRIPT"]
        .assert_eq(&codes(&replayed).join(" "));
}

#[test]
fn without_a_session_key_the_identity_key_itself_is_certified() {
    let Some(chip) = chip("attest_tpm::identity_key_itself") else {
        return;
    };
    let join = Join::begin(open(&chip)).unwrap();
    let request = join.request().clone();
    let (sent, expected) = challenged(&request);
    let answer = join.answer(&sent, &channel(), None).unwrap();
    let judgement = verify(
        &JoinEvidence { request, answer },
        &expected,
        &references(&chip),
    );
    assert_eq!(codes(&judgement), [""; 0]);
    let facts = &judgement.verdict.facts;
    assert_eq!(facts.text(facts::names::MACHINE_KEY), Some("tpm"));
    let proven = judgement.proven.unwrap();
    assert_eq!(proven.session_key, proven.identity_key);
}

#[test]
fn a_credential_for_another_chip_stays_shut() {
    let Some(chip) = chip("attest_tpm::credential_for_another_chip") else {
        return;
    };
    let sibling = chip.sibling().unwrap();
    let theirs = Join::begin(open(&sibling)).unwrap().request().clone();
    let join = Join::begin(open(&chip)).unwrap();
    // The thief shows its own keys and the other chip's endorsement key and certificate.
    let request = JoinRequest {
        ek_public: theirs.ek_public,
        ek_certificate: theirs.ek_certificate,
        ..join.request().clone()
    };
    let (sent, expected) = challenged(&request);
    let refused = join.answer(&sent, &channel(), Some(&session()));
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
    // Everything else it can do, it does: an honest answer to a credential for itself.
    let join = Join::begin(open(&chip)).unwrap();
    let (own, _) = challenged(join.request());
    let spliced = Challenge {
        credential_blob: own.credential_blob,
        encrypted_secret: own.encrypted_secret,
        ..sent
    };
    let answer = join.answer(&spliced, &channel(), None).unwrap();
    let judgement = verify(
        &JoinEvidence { request, answer },
        &expected,
        &references(&chip),
    );
    assert_eq!(
        codes(&judgement),
        ["TPM-ACTIVATION", "TPM-CERTIFY-TRANSCRIPT"]
    );
}

#[test]
fn the_chain_of_the_endorsement_key_has_to_hold() {
    let Some(chip) = chip("attest_tpm::endorsement_chain") else {
        return;
    };
    let sibling = chip.sibling().unwrap();
    let stranger = Swtpm::start().unwrap();
    let (evidence, expected) = join(&chip);
    let judge = |evidence: &JoinEvidence, expected: &JoinExpectation, references: &References| {
        let judgement = verify(evidence, expected, references);
        match judgement.verdict.outcome() {
            Outcome::Affirmed => format!(
                "affirmed {} {}",
                judgement
                    .verdict
                    .facts
                    .text(facts::names::MACHINE_TPM_KIND)
                    .unwrap(),
                judgement
                    .verdict
                    .facts
                    .text(facts::names::MACHINE_TPM_EK_CHAIN)
                    .unwrap()
            ),
            Outcome::Refused => codes(&judgement).join(" "),
        }
    };
    let good = references(&chip);
    let mut seen = String::new();
    let mut note = |what: &str, outcome: String| writeln!(seen, "{what}: {outcome}").unwrap();
    let by = |ek: Authorities| References {
        ek,
        ..References::default()
    };
    note(
        "the manufacturer's root",
        judge(&evidence, &expected, &good),
    );
    note(
        "the root listed as a vendor's",
        judge(
            &evidence,
            &expected,
            &by(Authorities {
                roots: good.ek.emulated.clone(),
                emulated: Vec::new(),
                ..good.ek.clone()
            }),
        ),
    );
    note(
        "the root in both lists",
        judge(
            &evidence,
            &expected,
            &by(Authorities {
                roots: good.ek.emulated.clone(),
                ..good.ek.clone()
            }),
        ),
    );
    note(
        "the intermediate as the root",
        judge(
            &evidence,
            &expected,
            &by(Authorities {
                emulated: good.ek.intermediates.clone(),
                ..Authorities::default()
            }),
        ),
    );
    note(
        "no intermediate",
        judge(
            &evidence,
            &expected,
            &by(Authorities {
                intermediates: Vec::new(),
                ..good.ek.clone()
            }),
        ),
    );
    note(
        "another manufacturer of the same name",
        judge(&evidence, &expected, &references(&stranger)),
    );
    note(
        "no references",
        judge(&evidence, &expected, &References::default()),
    );
    let mut other = evidence.clone();
    other.request.ek_certificate = Join::begin(open(&sibling))
        .unwrap()
        .request()
        .ek_certificate
        .clone();
    note(
        "another chip's certificate",
        judge(&other, &expected, &good),
    );
    let mut bare = evidence.clone();
    bare.request.ek_certificate.clear();
    note("no certificate", judge(&bare, &expected, &good));
    let pin = References {
        pinned_ek: vec![crypto::sha256(&evidence.request.ek_public)],
        ..References::default()
    };
    note("no certificate but a pin", judge(&bare, &expected, &pin));
    for (what, now) in [
        ("before it was issued", Timestamp::from_secs(1_000_000_000)),
        ("after it lapsed", Timestamp::from_secs(32_503_680_000)),
    ] {
        let then = JoinExpectation {
            now,
            ..expected.clone()
        };
        note(what, judge(&evidence, &then, &good));
    }
    expect![[r#"
        the manufacturer's root: affirmed emulated verified
        the root listed as a vendor's: affirmed unknown verified
        the root in both lists: affirmed emulated verified
        the intermediate as the root: affirmed emulated verified
        no intermediate: TPM-EK-CHAIN
        another manufacturer of the same name: TPM-EK-CHAIN
        no references: TPM-EK-CHAIN
        another chip's certificate: TPM-EK-CERT-KEY
        no certificate: TPM-EK-UNKNOWN
        no certificate but a pin: affirmed unknown pinned
        before it was issued: TPM-EK-CERT-VALIDITY TPM-EK-CERT-VALIDITY
        after it lapsed: affirmed emulated verified
    "#]]
    .assert_eq(&seen);
}

#[test]
fn an_elliptic_endorsement_key_opens_its_credential() {
    let Some(chip) = chip("attest_tpm::p256_endorsement") else {
        return;
    };
    let mut tpm = open(&chip);
    let endorsement = tpm
        .create_endorsement(template::p256_endorsement().unwrap(), Vec::new())
        .unwrap();
    let references = References {
        pinned_ek: vec![crypto::sha256(&endorsement.public)],
        ..References::default()
    };
    let join = Join::with(tpm, endorsement).unwrap();
    let request = join.request().clone();
    let (sent, expected) = challenged(&request);
    let answer = join.answer(&sent, &channel(), Some(&session())).unwrap();
    let judgement = verify(&JoinEvidence { request, answer }, &expected, &references);
    assert_eq!(codes(&judgement), [""; 0]);
}

#[test]
fn after_a_power_cut_the_keys_are_the_same_and_the_old_vouch_is_not() {
    let Some(mut chip) = chip("attest_tpm::power_cut") else {
        return;
    };
    let references = references(&chip);
    let (before, expected_before) = join(&chip);
    let first = verify(&before, &expected_before, &references)
        .proven
        .unwrap();
    chip.power_off();
    chip.power_on().unwrap();
    let (after, expected) = join(&chip);
    assert_eq!(before.request, after.request);
    let judgement = verify(&after, &expected, &references);
    assert_eq!(codes(&judgement), [""; 0]);
    let second = judgement.proven.unwrap();
    assert!(
        second.boot > first.boot,
        "{:?} {:?}",
        first.boot,
        second.boot
    );
    // The clock may be unsafe now; nothing rests on it.
    let quote = attest_tpm::Attested::parse(&after.answer.quote).unwrap();
    eprintln!("clock after a power cut: {:?}", quote.clock);

    // The session key of the first boot with its vouch, in the second.
    let stale = JoinEvidence {
        answer: JoinAnswer {
            session_key: before.answer.session_key.clone(),
            session_key_proof: before.answer.session_key_proof.clone(),
            vouch: before.answer.vouch.clone(),
            ..after.answer.clone()
        },
        request: after.request.clone(),
    };
    assert_eq!(
        codes(&verify(&stale, &expected, &references)),
        ["TPM-SESSION-PROOF"]
    );
}

#[test]
fn slots_left_full_by_others_are_emptied_and_ours_are_left_empty() {
    let Some(chip) = chip("attest_tpm::slots") else {
        return;
    };
    if let Err(why) = testkit::tools(["tpm2_createprimary", "tpm2_getcap"]) {
        testkit::skip("attest_tpm::slots", &why);
        return;
    }
    let folder = testkit::temp_dir().unwrap();
    let tool = |program: &str, arguments: &[&str]| {
        tools::succeed(folder.path(), &chip.tcti(), program, arguments)
    };
    // Without a resource manager these stay loaded when the tool ends.
    for _ in 0..3 {
        tool("tpm2_createprimary", &["-C", "o", "-G", "ecc256"]);
    }
    assert_eq!(
        tool("tpm2_getcap", &["handles-transient"]).lines().count(),
        3
    );
    drop(join(&chip));
    drop(Join::begin(open(&chip)).unwrap());
    for _ in 0..4 {
        let mut tpm = open(&chip);
        tpm.create_primary(Hierarchy::Owner, template::identity_key())
            .unwrap();
    }
    assert_eq!(tool("tpm2_getcap", &["handles-transient"]), "");
    assert_eq!(tool("tpm2_getcap", &["handles-loaded-session"]), "");
}

#[test]
fn a_challenge_that_lies_is_not_answered() {
    let Some(chip) = chip("attest_tpm::lying_challenge") else {
        return;
    };
    type Lie = fn(&mut Challenge);
    let lies: [Lie; 3] = [
        |challenge| challenge.nonce = [0; 32],
        |challenge| challenge.nonce_checkpoint.push('x'),
        |challenge| challenge.pcrs = vec![24],
    ];
    for lie in lies {
        let join = Join::begin(open(&chip)).unwrap();
        let (mut sent, _) = challenged(join.request());
        lie(&mut sent);
        let refused = join.answer(&sent, &channel(), None);
        assert!(matches!(refused, Err(Error::Challenge(_))), "{refused:?}");
    }
    let join = Join::begin(open(&chip)).unwrap();
    let (mut sent, _) = challenged(join.request());
    sent.credential_blob[40] ^= 1;
    let refused = join.answer(&sent, &channel(), None);
    assert!(matches!(refused, Err(Error::Refused { .. })), "{refused:?}");
}

#[test]
fn an_endorsement_key_that_is_not_persistent_is_made_again() {
    let Some(chip) = chip("attest_tpm::evicted_endorsement") else {
        return;
    };
    if let Err(why) = testkit::tools(["tpm2_evictcontrol"]) {
        testkit::skip("attest_tpm::evicted_endorsement", &why);
        return;
    }
    let (before, _) = join(&chip);
    let folder = testkit::temp_dir().unwrap();
    let arguments = ["-C", "o", "-c", "0x81010001"];
    tools::succeed(folder.path(), &chip.tcti(), "tpm2_evictcontrol", &arguments);
    let (after, expected) = join(&chip);
    assert_eq!(before.request, after.request);
    assert_eq!(
        codes(&verify(&after, &expected, &references(&chip))),
        [""; 0]
    );
}

#[test]
fn a_chip_behind_tcp_joins() {
    let Some(chip) = chip("attest_tpm::tcp") else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("swtpm-tcp:{}", listener.local_addr().unwrap());
    let socket = chip.socket();
    let relay = std::thread::spawn(move || {
        let (near, _) = listener.accept().unwrap();
        let far = UnixStream::connect(socket).unwrap();
        let (mut commands, mut chip) = (near.try_clone().unwrap(), far.try_clone().unwrap());
        let there = std::thread::spawn(move || {
            io::copy(&mut commands, &mut chip).unwrap();
            chip.shutdown(Shutdown::Both).unwrap();
        });
        io::copy(&mut &far, &mut &near).unwrap();
        there.join().unwrap();
    });
    let join = Join::begin(Tpm::open(&address).unwrap()).unwrap();
    let request = join.request().clone();
    let (sent, expected) = challenged(&request);
    let answer = join.answer(&sent, &channel(), Some(&session())).unwrap();
    let judgement = verify(
        &JoinEvidence { request, answer },
        &expected,
        &references(&chip),
    );
    assert_eq!(codes(&judgement), [""; 0]);
    relay.join().unwrap();
}
