//! Joins on a software TPM that a cloud of the test's own gave to its machine.

use crate::chip::{challenged, channel, open};
use crate::evidence::codes;
use crate::hostile::nothing_changed_is_affirmed;
use attest_tpm::join::verify;
use attest_tpm::{Authorities, Authority, JoinEvidence, PcrSelection, References};
use crypto::{Algorithm, KeyPair};
use device::tpm::join::Join;
use expect_test::expect;
use facts::names;
use std::fmt::Write as _;
use testkit::swtpm::Cloud;

const TOOLS: [&str; 9] = [
    "swtpm",
    "swtpm_setup",
    "swtpm_localca",
    "openssl",
    "tpm2_createprimary",
    "tpm2_readpublic",
    "tpm2_flushcontext",
    "tpm2_nvdefine",
    "tpm2_nvwrite",
];

fn cloud(test: &str) -> Option<Cloud> {
    match testkit::tools(TOOLS) {
        Ok(_) => Some(Cloud::start().unwrap()),
        Err(why) => {
            testkit::skip(test, &why);
            None
        }
    }
}

fn references(cloud: &Cloud) -> References {
    let root = std::fs::read_to_string(cloud.root_pem()).unwrap();
    let roots = Authority::from_pem(&root).unwrap().into_iter();
    References {
        ak: Authorities {
            roots: roots
                .map(|root| root.of_cloud(attest_tpm::Cloud::Google))
                .collect(),
            ..Authorities::default()
        },
        ..References::default()
    }
}

#[test]
fn a_machine_of_a_cloud_joins_by_the_certificate_of_its_attestation_key() {
    let Some(cloud) = cloud("attest_tpm::cloud_joins") else {
        return;
    };
    let session = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let join = Join::begin(open(&cloud.chip)).unwrap();
    let request = join.request().clone();
    assert!(request.ek_public.is_empty());
    let (sent, expected) = challenged(&request);
    let answer = join.answer(&sent, &channel(), Some(&session)).unwrap();
    let evidence = JoinEvidence { request, answer };
    let references = references(&cloud);
    let judged = verify(&evidence, &expected, &references);
    assert_eq!(codes(&judged.verdict.findings), [""; 0]);
    let mut seen = String::new();
    for fact in judged.verdict.facts.iter() {
        let value = match fact.name.as_str() {
            names::MACHINE_TPM_AK | names::MACHINE_TPM_FIRMWARE => "(its own)".to_owned(),
            _ => fact.value.to_string(),
        };
        writeln!(seen, "{} = {value} ({})", fact.name, fact.source).unwrap();
    }
    expect![[r#"
        machine.boot.reset_count = 2 (verified)
        machine.boot.restart_count = 0 (verified)
        machine.boot.state = unknown (verified)
        machine.cloud.instance = web-1 (verified)
        machine.cloud.instance_id = 4886718345 (verified)
        machine.cloud.project = acme (verified)
        machine.cloud.project_number = 17 (verified)
        machine.cloud.provider = google (verified)
        machine.cloud.zone = europe-west3-a (verified)
        machine.join = tpm (verified)
        machine.key = memory-vouched-by-tpm (verified)
        machine.tpm.ak_chain = verified (verified)
        machine.tpm.ak_sha256 = (its own) (verified)
        machine.tpm.firmware = (its own) (verified)
        machine.tpm.kind = cloud (verified)
        machine.tpm.manufacturer = GOOG (verified)
    "#]]
    .assert_eq(&seen);
    let refused = verify(&evidence, &expected, &References::default());
    assert_eq!(codes(&refused.verdict.findings), ["TPM-AK-CHAIN"]);
    nothing_changed_is_affirmed(&evidence, &expected, &references);

    // It goes on to attest by the same key.
    let proven = judged.proven.unwrap();
    let quote = device::tpm::quote(open(&cloud.chip), &[7; 32], &sent.pcrs).unwrap();
    let selection = PcrSelection::new(&sent.pcrs).unwrap();
    attest_tpm::structure::verify_quote(
        &quote.attested,
        &quote.signature,
        &proven.attestation_key,
        &[7; 32],
        &selection,
        &quote.values,
    )
    .unwrap();
}

#[test]
fn the_certificate_of_a_neighbour_is_of_no_use() {
    let Some(mine) = cloud("attest_tpm::cloud_neighbour") else {
        return;
    };
    let Some(neighbour) = cloud("attest_tpm::cloud_neighbour") else {
        return;
    };
    let theirs = Join::begin(open(&neighbour.chip)).unwrap();
    let stolen = theirs.request().ak_certificate.clone();
    drop(theirs);
    let join = Join::begin(open(&mine.chip)).unwrap();
    let mut request = join.request().clone();
    request.ak_certificate = stolen;
    let (sent, expected) = challenged(&request);
    let answer = join.answer(&sent, &channel(), None).unwrap();
    let evidence = JoinEvidence { request, answer };
    let refused = verify(&evidence, &expected, &references(&neighbour));
    assert_eq!(codes(&refused.verdict.findings), ["TPM-AK-CERT-KEY"]);
}
