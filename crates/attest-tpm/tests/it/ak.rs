//! Joins that rest on the attestation key alone, as on clouds whose TPMs have no endorsement certificate.

use crate::evidence::{codes, folder, read};
use crate::forge::{NOW, Script, expectation, forge};
use crate::hostile::nothing_changed_is_affirmed;
use crate::protobuf::fields;
use attest_tpm::ak::{Trust, Vouched};
use attest_tpm::join::{Chip, challenge, verify};
use attest_tpm::{Authorities, Authority, Cloud, References, SigningKey};
use crypto::{Algorithm, KeyPair, SecretBytes, Signer as _};
use expect_test::expect;
use facts::{Source, Timestamp, names};

fn alone() -> Script {
    Script {
        endorsed: false,
        ..Script::default()
    }
}

#[test]
fn a_pinned_attestation_key_joins_without_an_endorsement_key() {
    let (evidence, references) = forge(&alone());
    let judged = verify(&evidence, &expectation(), &references);
    let proven = judged.proven.unwrap();
    let ak = crypto::sha256(&evidence.request.ak_public);
    assert_eq!(proven.chip, Chip::Attestation(ak));
    let facts = &judged.verdict.facts;
    let hex = crypto::hex::encode(&ak);
    assert_eq!(facts.text(names::MACHINE_TPM_AK), Some(hex.as_str()));
    assert_eq!(facts.text(names::MACHINE_TPM_AK_CHAIN), Some("pinned"));
    assert_eq!(facts.text(names::MACHINE_TPM_EK), None);
    assert_eq!(proven.root, Source::Verified);
    nothing_changed_is_affirmed(&evidence, &expectation(), &references);
}

/// Whoever could leave the endorsement key out would not have to open a credential.
#[test]
fn leaving_the_endorsement_key_out_needs_somebody_who_vouches_for_the_attestation_key() {
    let (evidence, mut references) = forge(&alone());
    references.pinned_ak.clear();
    let refused = verify(&evidence, &expectation(), &references);
    assert_eq!(codes(&refused.verdict.findings), ["TPM-AK-UNKNOWN"]);
    // A pin of an endorsement key is none of an attestation key, and the other way round.
    references.pinned_ek = vec![crypto::sha256(&evidence.request.ak_public)];
    let refused = verify(&evidence, &expectation(), &references);
    assert_eq!(codes(&refused.verdict.findings), ["TPM-AK-UNKNOWN"]);
    let (endorsed, mut references) = forge(&Script::default());
    references.pinned_ak = vec![crypto::sha256(&endorsed.request.ek_public)];
    references.pinned_ek.clear();
    let refused = verify(&endorsed, &expectation(), &references);
    assert_eq!(codes(&refused.verdict.findings), ["TPM-EK-UNKNOWN"]);
}

#[test]
fn another_verifiers_word_counts_for_its_key_alone() {
    let (evidence, _) = forge(&alone());
    let mut expected = expectation();
    let ak = SigningKey::attestation(&evidence.request.ak_public).unwrap();
    expected.vouched = Some(Vouched {
        key: ak.key,
        source: Source::Hardware,
    });
    let judged = verify(&evidence, &expected, &References::default());
    assert_eq!(judged.proven.unwrap().root, Source::Hardware);
    let facts = judged.verdict.into_stated().facts;
    assert_eq!(facts.text(names::MACHINE_TPM_AK_CHAIN), Some("vouched"));
    assert_eq!(facts.text(names::MACHINE_TPM_KIND), Some("tee"));

    let another = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    expected.vouched = Some(Vouched {
        key: another.public_key().clone(),
        source: Source::Hardware,
    });
    // A pin does not mend it: the machine's hardware says that this is another machine's key.
    let (evidence, references) = forge(&alone());
    let refused = verify(&evidence, &expected, &references);
    assert_eq!(codes(&refused.verdict.findings), ["TPM-AK-VOUCHED"]);
}

#[test]
fn a_join_rests_on_one_key() {
    let (mut evidence, references) = forge(&Script::default());
    evidence.request.ak_certificate = vec![0x30, 0];
    let refused = verify(&evidence, &expectation(), &references);
    assert_eq!(codes(&refused.verdict.findings), ["TPM-JOIN-ANCHOR"]);
    let (mut evidence, references) = forge(&alone());
    evidence.request.ek_certificate = vec![0x30, 0];
    let refused = verify(&evidence, &expectation(), &references);
    assert_eq!(codes(&refused.verdict.findings), ["TPM-JOIN-ANCHOR"]);
    // There was no credential: whoever sends a secret did not understand the question.
    let (mut evidence, references) = forge(&alone());
    evidence.answer.activated_secret = expectation().secret.expose().to_vec();
    let refused = verify(&evidence, &expectation(), &references);
    assert_eq!(codes(&refused.verdict.findings), ["TPM-ACTIVATION"]);
}

#[test]
fn a_challenge_for_an_attestation_key_alone_has_no_credential() {
    let (evidence, _) = forge(&alone());
    let entropy = attest_tpm::join::Entropy {
        nonce: [1; 32],
        secret: SecretBytes::new(vec![2; 32]),
        seed: SecretBytes::new(vec![3; 32]),
    };
    let sent = challenge(&evidence.request, "checkpoint", &[0, 7], &entropy).unwrap();
    assert!(sent.credential_blob.is_empty() && sent.encrypted_secret.is_empty());
    let (evidence, _) = forge(&Script::default());
    let sent = challenge(&evidence.request, "checkpoint", &[0, 7], &entropy).unwrap();
    assert!(!sent.credential_blob.is_empty() && !sent.encrypted_secret.is_empty());
}

#[test]
fn googles_certificate_of_a_recorded_machine_holds() {
    let Some(gce) = folder("attest_tpm::googles_certificate", "gce") else {
        return;
    };
    let recorded = read(&gce, "gce-cos-85-nonce9009.pb");
    let fields = fields(&recorded);
    let field = |number| {
        let found = fields.iter().find_map(|field| field.bytes_of(number));
        found.unwrap()
    };
    let (ak_public, certificate) = (field(1), field(6));
    let ak = SigningKey::attestation(ak_public).unwrap();
    assert_eq!(ak.key.algorithm(), Algorithm::Rsa);
    let authority = |name: &str| {
        let bytes = read(&gce, &format!("ca/{name}"));
        match String::from_utf8(bytes) {
            Ok(pem) => Authority::from_pem(&pem).unwrap(),
            Err(der) => vec![Authority::from_der(der.as_bytes()).unwrap()],
        }
    };
    let by = |root: &str, intermediate: &str| References {
        ak: Authorities {
            roots: authority(root)
                .into_iter()
                .map(|root| root.of_cloud(Cloud::Google))
                .collect(),
            intermediates: authority(intermediate),
            ..Authorities::default()
        },
        ..References::default()
    };
    let google = by("tpm_ek_root_1.cer", "tpm_ek_intermediate_2.crt");
    let then = Timestamp::from_secs(1_640_000_000);
    let trust = google.trust_attestation(&ak, certificate, None, then);
    expect![[r#"
        Chain {
            emulated: false,
            manufacturer: "GOOG",
            instance: Some(
                Instance {
                    zone: "us-central1-a",
                    project_number: 117478743145,
                    project: "google.com:wuale-gcp-testing",
                    id: 6797026933021542085,
                    name: "cos-test",
                },
            ),
        }
    "#]]
    .assert_debug_eq(&trust.unwrap());

    let judged = |references: &References, ak: &SigningKey, now| {
        let refused = references.trust_attestation(ak, certificate, None, now);
        codes(&refused.unwrap_err()).join(" ")
    };
    let later = by("gcp_ek_ak_ca_root.crt", "gcp_ek_ak_ca_intermediate_v3.crt");
    assert_eq!(judged(&later, &ak, then), "TPM-AK-CHAIN");
    assert_eq!(
        judged(&google, &ak, Timestamp::from_secs(1_600_000_000)),
        "TPM-AK-CERT-VALIDITY TPM-AK-CERT-VALIDITY"
    );
    let (another, _) = forge(&Script::default());
    let another = SigningKey::attestation(&another.request.ak_public).unwrap();
    assert_eq!(judged(&google, &another, then), "TPM-AK-CERT-KEY");
    assert!(then < NOW);
    assert!(matches!(
        google.trust_attestation(&ak, certificate, None, then),
        Ok(Trust::Chain {
            emulated: false,
            ..
        })
    ));
}
