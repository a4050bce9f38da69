//! Judges that nobody here wrote say the same: sev, dcap-qvl, coset and jsonwebtoken, in a program of
//! their own (`tests/peers/tee`).

use crate::evidence::{folder, outcome};
use crate::intel_recorded::{self, any_status, judge_tdx, open, tdx_references};
use crate::nitro_recorded::{self, expectation};
use crate::snp_recorded::{self, lenient};
use attest::ear::{Appraisal, Ear};
use attest_tee::intel::{CollateralBytes, TcbStatus};
use attest_tee::nitro::Document;
use attest_tee::{nitro, sgx, snp};
use crypto::{Algorithm, KeyPair, Signer as _, hex};
use facts::{Finding, Outcome, Timestamp, Value as FactValue, Verdict};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn program(test: &str) -> Option<PathBuf> {
    let program = testkit::peer("tee-judge");
    if program.is_none() {
        testkit::skip(test, "tee-judge is not built; `cargo xtask test` builds it");
    }
    program
}

/// `Ok` with what the library found, or `Err` with why it refused.
fn ask(program: &Path, request: &Value) -> Result<Value, String> {
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(request.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    match (answer.get("ok"), answer.get("refused")) {
        (Some(found), None) => Ok(found.clone()),
        (None, Some(why)) => Err(why.as_str().unwrap().to_owned()),
        _ => panic!("{answer}"),
    }
}

/// Every so many bytes: each question starts a process.
fn some_places(length: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |number| number * length / count)
}

#[test]
fn sev_finds_the_same_in_reports() {
    let Some(program) = program("attest_tee::judge_sev") else {
        return;
    };
    let Some(all) = folder("attest_tee::judge_sev_evidence", &["snp"]) else {
        return;
    };
    let chain = attest::x509::pem(&all.text("snp/ca/milan_ask_ark_asvk.pem")).unwrap();
    let [ask_der, ark, asvk] = chain.as_slice() else {
        panic!("three certificates");
    };
    for item in snp_recorded::recorded(&all) {
        let intermediate = if item.name.contains("VLEK") {
            asvk
        } else {
            ask_der
        };
        let request = |report: &[u8]| {
            json!({
                "judge": "sev",
                "report": hex::encode(report),
                "key": hex::encode(&item.key),
                "ark": hex::encode(ark),
                "ask": hex::encode(intermediate),
            })
        };
        let verdict = snp::verify(&item.evidence(), &item.expectation(), &lenient());
        assert_eq!(outcome(&verdict), [""; 0]);
        let theirs = ask(&program, &request(&item.report)).unwrap();
        let report = snp::Report::parse(&item.report).unwrap();
        let number = |name: &str| match verdict.facts.value(name) {
            Some(FactValue::Integer(number)) => json!(number),
            other => panic!("{name}: {other:?}"),
        };
        let ours = json!({
            "version": number("machine.tee.version"),
            "svn": number("machine.tee.svn"),
            "vmpl": number("machine.tee.vmpl"),
            "debug": false,
            "measurement": verdict.facts.text("machine.tee.measurement"),
            "host_data": verdict.facts.text("machine.tee.host_data"),
            "report_data": hex::encode(&report.report_data),
            "chip": hex::encode(&report.chip_id),
            "bootloader": number("machine.tee.tcb.bootloader"),
            "tee": number("machine.tee.tcb.tee"),
            "snp": number("machine.tee.tcb.snp"),
            "microcode": number("machine.tee.tcb.microcode"),
        });
        assert_eq!(ours, theirs, "{}", item.name);
        // What is signed and the signature's numbers; the padding between them sev does not look at.
        for at in some_places(0x2a0, 20).chain([0x2a0, 0x2cf, 0x2e8, 0x317]) {
            let mut changed = item.report.clone();
            changed[at] ^= 0x10;
            let evidence = snp::Evidence {
                report: &changed,
                ..item.evidence()
            };
            let verdict = snp::verify(&evidence, &item.expectation(), &lenient());
            assert_eq!(verdict.outcome(), Outcome::Refused, "{}: {at}", item.name);
            assert!(
                ask(&program, &request(&changed)).is_err(),
                "{}: {at}",
                item.name
            );
        }
    }
}

/// As dcap-qvl reads it.
fn collateral(bytes: &CollateralBytes) -> Value {
    let signed = |text: &str, name: &str| {
        let body = text
            .strip_prefix(&format!("{{\"{name}\":"))
            .and_then(|rest| rest.rsplit_once(",\"signature\":\""))
            .unwrap();
        let signature = body.1.trim_end().trim_end_matches("\"}");
        (body.0.to_owned(), signature.to_owned())
    };
    let (tcb_info, tcb_info_signature) = signed(&bytes.tcb_info, "tcbInfo");
    let (qe_identity, qe_identity_signature) = signed(&bytes.qe_identity, "enclaveIdentity");
    json!({
        "pck_crl_issuer_chain": bytes.pck_crl_chain,
        "root_ca_crl": hex::encode(&bytes.root_crl),
        "pck_crl": hex::encode(&bytes.pck_crl),
        "tcb_info_issuer_chain": bytes.signing_chain,
        "tcb_info": tcb_info,
        "tcb_info_signature": tcb_info_signature,
        "qe_identity_issuer_chain": bytes.signing_chain,
        "qe_identity": qe_identity,
        "qe_identity_signature": qe_identity_signature,
    })
}

fn compare(what: &str, verdict: &Verdict, theirs: &Result<Value, String>) {
    let ours = (verdict.outcome() == Outcome::Affirmed).then(|| {
        let mut advisories = match verdict.facts.value("machine.tee.tcb.advisories") {
            Some(FactValue::List(advisories)) => advisories.clone(),
            other => panic!("{other:?}"),
        };
        advisories.sort();
        json!({
            "status": verdict.facts.text("machine.tee.tcb.status"),
            "advisories": advisories,
            "ppid": verdict.facts.text("machine.tee.platform"),
        })
    });
    assert_eq!(
        ours.as_ref(),
        theirs.as_ref().ok(),
        "{what}: {:?}, {theirs:?}",
        verdict.findings
    );
}

#[test]
fn dcap_qvl_finds_the_same_in_quotes() {
    let Some(program) = program("attest_tee::judge_dcap") else {
        return;
    };
    let Some(all) = folder(
        "attest_tee::judge_dcap_evidence",
        &["tdx", "attestation-rs"],
    ) else {
        return;
    };
    let mut references = tdx_references();
    references.tcb = any_status();
    references.tcb.accepted.insert(TcbStatus::TDRelaunchAdvised);
    let ask_about = |quote: &[u8], bytes: &CollateralBytes, now: Timestamp| {
        let request = json!({
            "judge": "dcap-qvl",
            "quote": hex::encode(quote),
            "collateral": collateral(bytes),
            "now": now.as_secs(),
        });
        ask(&program, &request)
    };
    let items = intel_recorded::recorded(&all);
    for item in &items {
        let opened = open(&item.collateral);
        let day = 86_400;
        // Within the collateral's month, before it and after it.
        for now in [
            item.now,
            item.now.minus_secs(10 * day),
            item.now.plus_secs(40 * day),
        ] {
            let verdict = judge_tdx(&item.quote, &opened, now, &references);
            compare(
                item.name,
                &verdict,
                &ask_about(&item.quote, &item.collateral, now),
            );
        }
        // Quotes with the collateral of the others.
        for other in &items {
            let verdict = judge_tdx(
                &item.quote,
                &open(&other.collateral),
                other.now,
                &references,
            );
            let theirs = ask_about(&item.quote, &other.collateral, other.now);
            compare(
                &format!("{} under {}", item.name, other.name),
                &verdict,
                &theirs,
            );
        }
        let chain = item.quote.windows(5).position(|at| at == b"-----").unwrap();
        for at in some_places(chain, 20) {
            let mut changed = item.quote.clone();
            changed[at] ^= 0x10;
            let verdict = judge_tdx(&changed, &opened, item.now, &references);
            let theirs = ask_about(&changed, &item.collateral, item.now);
            assert_eq!(verdict.outcome(), Outcome::Refused, "{}: {at}", item.name);
            assert!(theirs.is_err(), "{}: {at}", item.name);
        }
    }
    // Below every level: no library says that it is good.
    let old = all.read("tdx/phala/tdx_quote_outdated");
    let bytes = intel_recorded::phala(&all, "tdx/phala/tdx_quote_outdated_collateral.json");
    let now = crate::evidence::day(2026, 2, 20);
    let verdict = judge_tdx(&old, &open(&bytes), now, &references);
    let theirs = ask_about(&old, &bytes, now);
    assert!(
        theirs
            .as_ref()
            .is_err_and(|why| why.contains("No matching TCB level"))
    );
    compare("outdated", &verdict, &theirs);

    let quote = all.read("tdx/phala/sgx_quote");
    let bytes = intel_recorded::phala(&all, "tdx/phala/sgx_quote_collateral.json");
    let mut data = [0; 64];
    data[..13].copy_from_slice(b"Hello, world!");
    let now = crate::evidence::day(2025, 6, 21);
    let expected = sgx::Expectation {
        report_data: data,
        now,
    };
    let verdict = sgx::verify(
        &quote,
        &open(&bytes),
        &expected,
        &intel_recorded::sgx_references(),
    );
    assert_eq!(outcome(&verdict), [""; 0]);
    compare("sgx", &verdict, &ask_about(&quote, &bytes, now));
}

#[test]
fn coset_finds_the_same_in_documents() {
    let Some(program) = program("attest_tee::judge_coset") else {
        return;
    };
    let Some(all) = folder("attest_tee::judge_coset_evidence", &["nitro"]) else {
        return;
    };
    for (name, bytes) in nitro_recorded::good(&all) {
        let references = nitro::References {
            roots: nitro::Roots::aws().unwrap(),
            code: attest_tee::Code::LeftToPolicy,
        };
        let verdict = nitro::verify(&bytes, &expectation(&bytes), &references);
        assert_eq!(outcome(&verdict), [""; 0], "{name}");
        let document = Document::parse(&bytes).unwrap();
        // The certificate is the only one for this module: its key is the last point in it.
        let leaf = bytes
            .windows(4)
            .enumerate()
            .filter(|(_, window)| *window == [0x03, 0x62, 0x00, 0x04])
            .map(|(at, _)| &bytes[at + 3..at + 3 + 97]);
        let points: Vec<_> = leaf.collect();
        let request = |point: &[u8], document: &[u8]| {
            json!({
                "judge": "coset",
                "document": hex::encode(document),
                "point": hex::encode(point),
            })
        };
        let theirs: Vec<_> = points
            .iter()
            .filter_map(|point| ask(&program, &request(point, &bytes)).ok())
            .collect();
        let [theirs] = theirs.as_slice() else {
            panic!("{name}: one key signed it, not {}", theirs.len());
        };
        let encoded = |bytes: Option<&[u8]>| bytes.map(hex::encode);
        let pcrs: serde_json::Map<String, Value> = document
            .pcrs
            .iter()
            .map(|(index, value)| (index.to_string(), hex::encode(value).into()))
            .collect();
        let ours = json!({
            "module_id": document.module_id,
            "timestamp": document.timestamp.as_millis(),
            "nonce": encoded(document.nonce),
            "user_data": encoded(document.user_data),
            "public_key": encoded(document.public_key),
            "pcrs": pcrs,
        });
        assert_eq!(&ours, theirs, "{name}");
        for at in some_places(bytes.len(), 10) {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            let asked = points
                .iter()
                .any(|point| ask(&program, &request(point, &changed)).is_ok());
            assert!(!asked, "{name}: {at}");
        }
    }
}

/// The status that the worst claim of a vector stands for (draft-ietf-rats-ar4si, section 2.3.2).
fn worst(vector: &serde_json::Map<String, Value>) -> &'static str {
    let tier = |claim: &Value| match claim.as_i64().unwrap() {
        -1..=1 => 0,
        2..=31 | -32..=-2 => 1,
        32..=95 | -96..=-33 => 2,
        96..=127 | -128..=-97 => 3,
        other => panic!("{other} is no claim"),
    };
    ["none", "affirming", "warning", "contraindicated"][vector.values().map(tier).max().unwrap()]
}

#[test]
fn jsonwebtoken_reads_our_results() {
    let Some(program) = program("attest_tee::judge_jwt") else {
        return;
    };
    let refused = Verdict::refused(vec![Finding::new("TEE-SNP-TCB", "too old")], Vec::new());
    let good = crate::forge_snp::Machine::new(snp::Generation::Genoa).judge();
    assert_eq!(outcome(&good), [""; 0]);
    for (algorithm, name) in [
        (Algorithm::EcdsaP256, "ES256"),
        (Algorithm::Ed25519, "EdDSA"),
    ] {
        let key = KeyPair::generate(algorithm).unwrap();
        let url = crypto::base64::encode_url;
        let jwk = match key.public_key().xy() {
            Some((x, y)) => json!({"kty": "EC", "crv": "P-256", "x": url(x), "y": url(y)}),
            None => json!({"kty": "OKP", "crv": "Ed25519", "x": url(key.public_key().raw())}),
        };
        let now = Timestamp::now();
        for (verdict, status) in [(&good, "affirming"), (&refused, "contraindicated")] {
            let ear = |now: Timestamp| Ear {
                issued_at: now,
                expires_at: now.plus_secs(300),
                build: "0.1.0",
                nonce: Some(&[7; 32]),
                appraisals: vec![(
                    "machine",
                    Appraisal {
                        verdict,
                        policies: vec!["https://estate.example/1"],
                        shown: verdict.claims().unwrap_or_default(),
                    },
                )],
            };
            let request = |token: &str| json!({"judge": "jsonwebtoken", "token": token, "algorithm": name, "jwk": jwk});
            let token = ear(now).sign(&key, "k1").unwrap();
            let read = ask(&program, &request(&token)).unwrap();
            assert_eq!(read["exp"], now.plus_secs(300).as_secs(), "{name}");
            let machine = &read["submods"]["machine"];
            assert_eq!(machine["ear_status"], status, "{name}");
            let vector = machine["ear_trustworthiness_vector"].as_object().unwrap();
            assert_eq!(worst(vector), status, "{name}");
            let ours: serde_json::Map<String, Value> = attest::ar4si::Vector::of(verdict)
                .claims()
                .map(|(name, claim)| (name.to_owned(), claim.value().into()))
                .collect();
            assert_eq!(vector, &ours, "{name}");
            let mut forged = token.into_bytes();
            let middle = forged.len() / 2;
            forged[middle] ^= 1;
            let forged = String::from_utf8(forged).unwrap();
            assert!(ask(&program, &request(&forged)).is_err(), "{name}");
            let expired = ear(now.minus_secs(3600)).sign(&key, "k1").unwrap();
            let why = ask(&program, &request(&expired)).unwrap_err();
            assert!(why.contains("ExpiredSignature"), "{name}: {why}");
        }
    }
}
