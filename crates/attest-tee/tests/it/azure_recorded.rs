//! Recorded evidence of Azure's confidential machines: paravisor's report, hardware's, and a quote by the
//! vTPM's key.

use crate::evidence::{base64_of, day, every_byte_counts, facts, folder, hex_of, outcome};
use crate::forge_azure::{SNP, hcl, jwk, modulus};
use crate::intel_recorded::{attestation_rs, open, tdx_references};
use crate::snp_recorded::lenient;
use attest_tee::Bundle;
use attest_tee::azure::{Evidence, Expectation, Hardware, Hcl, Kind, References, verify};
use attest_tee::endorsed::azure_tdx;
use attest_tee::intel::CollateralBytes;
use attest_tpm::{Attested, Body, PcrSelection};
use expect_test::expect;
use facts::Timestamp;
use serde_json::Value;

fn references() -> References {
    References {
        snp: lenient(),
        tdx: tdx_references(),
    }
}

fn bundle(bytes: &CollateralBytes, fmspc: &str) -> Bundle {
    let base64 = crypto::base64::encode;
    let file = serde_json::json!({
        "version": 1,
        "intel": [{
            "tee": "tdx",
            "fmspc": fmspc,
            "ca": "platform",
            "tcb_info": bytes.tcb_info,
            "qe_identity": bytes.qe_identity,
            "signing_chain": bytes.signing_chain,
            "pck_crl": base64(&bytes.pck_crl),
            "pck_crl_chain": bytes.pck_crl_chain,
            "root_crl": base64(&bytes.root_crl),
        }],
    });
    Bundle::parse(file.to_string().as_bytes()).unwrap()
}

fn bytes(json: &Value, name: &str) -> Vec<u8> {
    base64_of(json[name].as_str().unwrap())
}

fn expected(now: Timestamp) -> Expectation {
    Expectation {
        user_data: None,
        now,
    }
}

/// The vTPM's quote is by the key that the paravisor named, and over the registers beside it.
fn quote_is_by(ak: &crypto::PublicKey, quote: &Value) {
    let hex = |name: &str| hex_of(quote[name].as_str().unwrap());
    let message = hex("message");
    ak.verify(&message, &hex("signature")).unwrap();
    let attested = Attested::parse(&message).unwrap();
    let Body::Quote { selections, digest } = &attested.body else {
        panic!("a quote");
    };
    let values: Vec<_> = quote["pcrs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| hex_of(value.as_str().unwrap()))
        .collect();
    let pcrs = PcrSelection::new(&selections[0].indices()).unwrap();
    assert_eq!(pcrs.digest(&values).unwrap().as_slice(), digest);
}

/// Message and signature of a quote as azure-cvm-tooling keeps it: each after its length.
fn bincode(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let sized = |bytes: &[u8]| {
        let length = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
        bytes[8..8 + length].to_vec()
    };
    let signature = sized(bytes);
    let message = sized(&bytes[8 + signature.len()..]);
    (message, signature)
}

#[test]
fn quotes_of_vtpms_are_by_the_key_beside_them() {
    let Some(all) = folder("attest_tee::azure_quotes", &["azure"]) else {
        return;
    };
    let pem = all.text("azure/kinvolk-akpub.pem");
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let key = crypto::PublicKey::from_spki_der(&base64_of(&body)).unwrap();
    let (message, signature) = bincode(&all.read("azure/kinvolk-quote.bin"));
    key.verify(&message, &signature).unwrap();
    let report = all.read("azure/tdx-vtpm/hcl-report.bin");
    let ak = Hcl::parse(&report).unwrap().ak;
    quote_is_by(&ak, &all.json("azure/tdx-vtpm/tpm-quote-v1.json"));
    let (message, signature) = bincode(&all.read("azure/tdx-vtpm/quote.bin"));
    ak.verify(&message, &signature).unwrap();
}

#[test]
fn recorded_machines_with_snp_are_affirmed_and_name_the_key_that_quotes() {
    let Some(all) = folder("attest_tee::azure_snp", &["azure", "attestation-rs"]) else {
        return;
    };
    let mut seen = String::new();
    for name in [
        "azure/snp-vtpm/evidence-v1.json",
        "azure/snp-vtpm/evidence-v2.json",
        "attestation-rs/az_snp/live-evidence.json",
        "attestation-rs/az_snp/milan-v3-attestation.json",
    ] {
        let json = all.json(name);
        let json = json.get("evidence").unwrap_or(&json);
        let evidence = Evidence {
            hcl: &bytes(json, "hcl_report"),
            hardware: Hardware::Snp {
                key: &bytes(json, "vcek"),
                crl: None,
            },
        };
        let now = day(2025, 6, 1);
        let judged = verify(&evidence, &expected(now), &references());
        assert_eq!(
            outcome(&judged.verdict),
            [""; 0],
            "{name}: {:?}",
            judged.verdict.findings
        );
        quote_is_by(&judged.ak.unwrap(), &json["tpm_quote"]);
        seen.push_str(&format!("{name}\n{}\n", facts(&judged.verdict)));
    }
    expect![[r#"
        azure/snp-vtpm/evidence-v1.json
        machine.cloud.instance_id = 26f8bc30-774e-4290-8e7a-535f3b672aee (verified)
        machine.cloud.provider = azure (verified)
        machine.tee.ak_sha256 = 18363b… 32 bytes
        machine.tee.debug = false
        machine.tee.endorsement = vcek
        machine.tee.generation = milan
        machine.tee.host_data = 000000… 32 bytes
        machine.tee.kind = azure-snp
        machine.tee.measurement = 6a063b… 48 bytes
        machine.tee.platform = 66a5a7… 64 bytes
        machine.tee.revocation = unchecked
        machine.tee.signer = 942fd9… 48 bytes
        machine.tee.svn = 10
        machine.tee.tcb.bootloader = 4
        machine.tee.tcb.fmc = 0
        machine.tee.tcb.microcode = 219
        machine.tee.tcb.snp = 24
        machine.tee.tcb.tee = 0
        machine.tee.version = 3
        machine.tee.vmpl = 0

        azure/snp-vtpm/evidence-v2.json
        machine.cloud.instance_id = 7df7b373-b947-4aaa-96e5-c358f2a03d20 (verified)
        machine.cloud.provider = azure (verified)
        machine.tee.ak_sha256 = 21cc57… 32 bytes
        machine.tee.debug = false
        machine.tee.endorsement = vcek
        machine.tee.generation = milan
        machine.tee.host_data = 000000… 32 bytes
        machine.tee.kind = azure-snp
        machine.tee.measurement = 5b0ce6… 48 bytes
        machine.tee.platform = 2e0e62… 64 bytes
        machine.tee.revocation = unchecked
        machine.tee.signer = 942fd9… 48 bytes
        machine.tee.svn = 12
        machine.tee.tcb.bootloader = 4
        machine.tee.tcb.fmc = 0
        machine.tee.tcb.microcode = 219
        machine.tee.tcb.snp = 24
        machine.tee.tcb.tee = 0
        machine.tee.version = 3
        machine.tee.vmpl = 0

        attestation-rs/az_snp/live-evidence.json
        machine.cloud.instance_id = 02fe12ec-5b74-4a1b-b261-8ea46fe9af36 (verified)
        machine.cloud.provider = azure (verified)
        machine.tee.ak_sha256 = 6f9071… 32 bytes
        machine.tee.debug = false
        machine.tee.endorsement = vcek
        machine.tee.generation = milan
        machine.tee.host_data = 000000… 32 bytes
        machine.tee.kind = azure-snp
        machine.tee.measurement = 6a063b… 48 bytes
        machine.tee.platform = 065afa… 64 bytes
        machine.tee.revocation = unchecked
        machine.tee.signer = 942fd9… 48 bytes
        machine.tee.svn = 10
        machine.tee.tcb.bootloader = 4
        machine.tee.tcb.fmc = 0
        machine.tee.tcb.microcode = 219
        machine.tee.tcb.snp = 24
        machine.tee.tcb.tee = 0
        machine.tee.version = 3
        machine.tee.vmpl = 0

        attestation-rs/az_snp/milan-v3-attestation.json
        machine.cloud.instance_id = d62de809-4115-4c18-b16c-6314707de1fb (verified)
        machine.cloud.provider = azure (verified)
        machine.tee.ak_sha256 = 55fec2… 32 bytes
        machine.tee.debug = false
        machine.tee.endorsement = vcek
        machine.tee.generation = milan
        machine.tee.host_data = 000000… 32 bytes
        machine.tee.kind = azure-snp
        machine.tee.measurement = 9e2e8b… 48 bytes
        machine.tee.platform = 28efc6… 64 bytes
        machine.tee.revocation = unchecked
        machine.tee.signer = 942fd9… 48 bytes
        machine.tee.svn = 10
        machine.tee.tcb.bootloader = 4
        machine.tee.tcb.fmc = 0
        machine.tee.tcb.microcode = 219
        machine.tee.tcb.snp = 24
        machine.tee.tcb.tee = 0
        machine.tee.version = 3
        machine.tee.vmpl = 0

    "#]]
    .assert_eq(&seen);
}

#[test]
fn a_recorded_report_in_pieces_is_affirmed() {
    let Some(all) = folder("attest_tee::azure_pieces", &["azure"]) else {
        return;
    };
    let hcl = all.read("azure/snp-vtpm/hcl-report.bin");
    let key = all.pem("azure/snp-vtpm/vcek.pem");
    let evidence = Evidence {
        hcl: &hcl,
        hardware: Hardware::Snp {
            key: &key,
            crl: None,
        },
    };
    let now = day(2024, 1, 1);
    let judged = verify(&evidence, &expected(now), &references());
    assert_eq!(
        outcome(&judged.verdict),
        [""; 0],
        "{:?}",
        judged.verdict.findings
    );
    let ak = judged.ak.unwrap();
    let (message, signature) = bincode(&all.read("azure/snp-vtpm/quote.bin"));
    ak.verify(&message, &signature).unwrap();
    // This one is by a key that was not recorded.
    let stray = all.read("azure/snp-vtpm/tpm-quote.msg");
    let refused = ak.verify(&stray, &all.read("azure/snp-vtpm/tpm-quote.sig"));
    assert!(refused.is_err());
    quote_is_by(&ak, &all.json("azure/snp-vtpm/tpm-quote-v1.json"));

    let asked = Expectation {
        user_data: Some([1; 64]),
        now,
    };
    let judged = verify(&evidence, &asked, &references());
    assert_eq!(outcome(&judged.verdict), ["TEE-AZURE-USER-DATA"]);
    assert!(judged.ak.is_none());
    let zeros = Expectation {
        user_data: Some([0; 64]),
        now,
    };
    assert_eq!(
        outcome(&verify(&evidence, &zeros, &references()).verdict),
        [""; 0]
    );

    // Another machine's VCEK, and the same key of another generation.
    let genoa = Evidence {
        hardware: Hardware::Snp {
            key: &all.pem("azure/snp-vtpm/vcek-genoa.pem"),
            crl: None,
        },
        ..evidence
    };
    let judged = verify(&genoa, &expected(day(2025, 6, 1)), &references());
    expect!["TEE-SNP-SIGNATURE TEE-SNP-KEY-TCB TEE-SNP-CHIP"]
        .assert_eq(&outcome(&judged.verdict).join(" "));

    // What hardware signed, and what it signed the hash of; the frame around both has one spelling
    // but for a header that nobody signs.
    let runtime = 32 + 1184 + 20;
    let end = hcl.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for range in [32..32 + 1184, runtime - 12..end] {
        every_byte_counts("hcl", &hcl, range, |hcl| {
            let evidence = Evidence { hcl, ..evidence };
            verify(&evidence, &expected(now), &references()).verdict
        });
    }
}

#[test]
fn a_recorded_machine_with_tdx_is_affirmed_and_names_the_key_that_quotes() {
    let Some(all) = folder("attest_tee::azure_tdx", &["azure", "attestation-rs", "tdx"]) else {
        return;
    };
    let json = all.json("attestation-rs/az_tdx/live-evidence.json");
    let collateral = open(&attestation_rs(&all, "90c06f000000"));
    let (hcl, quote) = (bytes(&json, "hcl_report"), bytes(&json, "td_quote"));
    let evidence = Evidence {
        hcl: &hcl,
        hardware: Hardware::Tdx {
            quote: &quote,
            collateral: &collateral,
        },
    };
    let now = day(2026, 3, 20);
    let judged = verify(&evidence, &expected(now), &references());
    assert_eq!(
        outcome(&judged.verdict),
        [""; 0],
        "{:?}",
        judged.verdict.findings
    );
    quote_is_by(&judged.ak.unwrap(), &json["tpm_quote"]);
    expect![[r#"
        machine.cloud.instance_id = 69047f12-7ad4-4970-9b31-1157dc14de07 (verified)
        machine.cloud.provider = azure (verified)
        machine.tee.ak_sha256 = 25b7d7… 32 bytes
        machine.tee.debug = false
        machine.tee.endorsement = pck-platform
        machine.tee.host_data = 000000… 48 bytes
        machine.tee.kind = azure-tdx
        machine.tee.measurement = 273828… 48 bytes
        machine.tee.platform = 432c45… 16 bytes
        machine.tee.revocation = checked
        machine.tee.rtmr0 = 000000… 48 bytes
        machine.tee.rtmr1 = 000000… 48 bytes
        machine.tee.rtmr2 = 000000… 48 bytes
        machine.tee.rtmr3 = 000000… 48 bytes
        machine.tee.tcb.advisories = []
        machine.tee.tcb.date = 2024-11-13T00:00:00Z
        machine.tee.tcb.evaluation = 18
        machine.tee.tcb.status = UpToDate
        machine.tee.version = 4
    "#]]
    .assert_eq(&facts(&judged.verdict));

    // As a server judges it, by what its bundle has.
    let bundle = bundle(&attestation_rs(&all, "90c06f000000"), "90c06f000000");
    let (endorsed, ak) = azure_tdx(&hcl, &quote, &bundle, now, &references().tdx);
    assert_eq!(outcome(&endorsed.verdict), [""; 0]);
    assert_eq!(
        endorsed.verdict.facts.text("machine.tee.kind"),
        Some("azure-tdx")
    );
    quote_is_by(&ak.unwrap(), &json["tpm_quote"]);
    let kinds: Vec<_> = endorsed.blobs.iter().map(|blob| blob.kind).collect();
    assert_eq!(kinds, ["hcl-report", "tdx-quote", "tdx-collateral"]);
    let late = day(2026, 12, 20);
    let (refused, ak) = azure_tdx(&hcl, &quote, &bundle, late, &references().tdx);
    assert!(ak.is_none() && !outcome(&refused.verdict).is_empty());
    let (refused, ak) = azure_tdx(&hcl, &quote, &Bundle::default(), now, &references().tdx);
    assert_eq!(outcome(&refused.verdict), ["TEE-ENDORSEMENT-MISSING"]);
    assert!(ak.is_none());

    // The report of another machine, and one of the other kind.
    let other = all.read("azure/tdx-vtpm/hcl-report.bin");
    let judged = verify(
        &Evidence {
            hcl: &other,
            ..evidence
        },
        &expected(now),
        &references(),
    );
    assert_eq!(outcome(&judged.verdict), ["TEE-TDX-REPORT-DATA"]);
    let other = all.read("azure/snp-vtpm/hcl-report.bin");
    let judged = verify(
        &Evidence {
            hcl: &other,
            ..evidence
        },
        &expected(now),
        &references(),
    );
    assert_eq!(outcome(&judged.verdict), ["TEE-AZURE-KIND"]);

    // No collateral of this platform was recorded; what the paravisor says is bound all the same.
    let json = all.json("azure/tdx-vtpm/evidence-v1.json");
    let (hcl, quote) = (bytes(&json, "hcl_report"), bytes(&json, "td_quote"));
    let evidence = Evidence {
        hcl: &hcl,
        hardware: Hardware::Tdx {
            quote: &quote,
            collateral: &collateral,
        },
    };
    assert_eq!(quote, all.read("azure/tdx-vtpm/td-quote.bin"));
    let judged = verify(&evidence, &expected(now), &references());
    expect!["TEE-INTEL-COLLATERAL TEE-TDX-ATTRIBUTES"]
        .assert_eq(&outcome(&judged.verdict).join(" "));
    quote_is_by(&Hcl::parse(&hcl).unwrap().ak, &json["tpm_quote"]);
}

#[test]
fn reports_of_paravisors_are_read() {
    let Some(all) = folder("attest_tee::azure_hcl", &["azure"]) else {
        return;
    };
    let mut seen = String::new();
    for (name, kind) in [
        ("azure/snp-vtpm/hcl-report.bin", Kind::Snp),
        ("azure/tdx-vtpm/hcl-report.bin", Kind::Tdx),
        ("azure/kinvolk-hcl-report-snp.bin", Kind::Snp),
        ("azure/kinvolk-hcl-report-tdx.bin", Kind::Tdx),
    ] {
        let bytes = all.read(name);
        let hcl = Hcl::parse(&bytes).unwrap();
        assert_eq!(hcl.kind, kind, "{name}");
        // SEV-SNP: the report's; TDX: the TDREPORT's, 128 bytes into it.
        let at = if kind == Kind::Snp { 0x50 } else { 128 };
        assert_eq!(hcl.report[at..at + 64], hcl.report_data(), "{name}");
        seen.push_str(&format!(
            "{name}: {:?}, user data {}\n",
            hcl.ak.algorithm(),
            hcl.user_data.is_some()
        ));
        for cut in 0..bytes.iter().rposition(|byte| *byte != 0).unwrap() {
            assert_eq!(
                Hcl::parse(&bytes[..cut]).unwrap_err().code,
                "TEE-AZURE-STRUCTURE"
            );
        }
    }
    expect![[r#"
        azure/snp-vtpm/hcl-report.bin: Rsa, user data true
        azure/tdx-vtpm/hcl-report.bin: Rsa, user data true
        azure/kinvolk-hcl-report-snp.bin: Rsa, user data false
        azure/kinvolk-hcl-report-tdx.bin: Rsa, user data true
    "#]]
    .assert_eq(&seen);
}

#[test]
fn runtime_data_name_one_attestation_key() {
    let n = modulus(0x55);
    let jwk = |kid: &str, kty: &str| jwk(kid, kty, &n);
    let hcl = |claims: &str| hcl(SNP, &[], claims);
    let ak = jwk("HCLAkPub", "RSA");
    let ek = jwk("HCLEkPub", "RSA");
    let parse = |claims: &str| Hcl::parse(&hcl(claims)).map(|hcl| hcl.user_data);
    assert_eq!(parse(&format!(r#"{{"keys":[{ek},{ak}]}}"#)).unwrap(), None);
    let data = "5A".repeat(64);
    assert_eq!(
        parse(&format!(r#"{{"keys":[{ak}],"user-data":"{data}"}}"#)).unwrap(),
        Some([0x5a; 64])
    );
    // One spelling, so that a ban is of one machine.
    let named = r#","vm-configuration":{"vmUniqueId":"26F8BC30-774E-4290-8E7A-535F3B672AEE"}"#;
    let named = hcl(&format!(r#"{{"keys":[{ak}]{named}}}"#));
    assert_eq!(
        Hcl::parse(&named).unwrap().vm_id.as_deref(),
        Some("26f8bc30-774e-4290-8e7a-535f3b672aee")
    );
    for claims in [
        String::new(),
        "{}".to_owned(),
        r#"{"keys":[]}"#.to_owned(),
        format!(r#"{{"keys":[{ek}]}}"#),
        format!(r#"{{"keys":[{ak},{ak}]}}"#),
        format!(r#"{{"keys":[{}]}}"#, jwk("HCLAkPub", "EC")),
        format!(r#"{{"keys":[{ek}],"keys":[{ak}]}}"#),
        format!(r#"{{"keys":[{}]}}"#, ak.replace("AQAB", "AQ==")),
        format!(r#"{{"keys":[{}]}}"#, ak.replace(&n, "AQAB")),
        format!(r#"{{"keys":[{ak}],"user-data":"5a"}}"#),
        format!(r#"{{"keys":[{ak}],"user-data":"x"}}"#),
        format!(r#"{{"keys":[{ak}],"vm-configuration":{{"vmUniqueId":"web-1"}}}}"#),
        format!(r#"{{"keys":[{ak}],"vm-configuration":{{"vmUniqueId":7}}}}"#),
        format!(
            r#"{{"keys":[{ak}],"vm-configuration":{{"vmUniqueId":"26F8BC30-774E-4290-8E7A-535F3B672AEG"}}}}"#
        ),
        format!(r#"{{"keys":[{ak}],"vm-configuration":{{}},"vm-configuration":{{}}}}"#),
    ] {
        let code = parse(&claims).err().map(|refused| refused.code);
        assert_eq!(code.as_deref(), Some("TEE-AZURE-STRUCTURE"), "{claims}");
    }
    let good = hcl(&format!(r#"{{"keys":[{ak}]}}"#));
    Hcl::parse(&good).unwrap();
    for (at, byte) in [(0, 0), (32 + 1184 + 8, 3), (32 + 1184 + 12, 2)] {
        let mut changed = good.clone();
        changed[at] = byte;
        assert!(Hcl::parse(&changed).is_err(), "{at}");
    }
    assert!(Hcl::parse(&[&good[..], &[1]].concat()).is_err());
}
