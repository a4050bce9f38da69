//! Recorded quotes of trust domains and enclaves, with the collateral of their time.

use crate::evidence::{Folder, codes, day, every_byte_counts, facts, folder, outcome};
use attest_tee::Code;
use attest_tee::intel::{
    Body, Ca, Collateral, CollateralBytes, Quote, Roots, TcbPolicy, TcbStatus, platform,
};
use attest_tee::{sgx, tdx};
use expect_test::expect;
use facts::{Timestamp, Verdict};
use std::collections::BTreeSet;

/// Every status but `Revoked`, so that what else is wrong is seen.
pub(crate) fn any_status() -> TcbPolicy {
    TcbPolicy {
        accepted: TcbStatus::PUBLISHED.into_iter().collect(),
        minimum_evaluation: 0,
    }
}

pub(crate) fn tdx_references() -> tdx::References {
    tdx::References {
        roots: Roots::intel().unwrap(),
        tcb: any_status(),
        code: Code::LeftToPolicy,
        ..tdx::References::default()
    }
}

pub(crate) fn sgx_references() -> sgx::References {
    sgx::References {
        roots: Roots::intel().unwrap(),
        tcb: any_status(),
        code: Code::LeftToPolicy,
    }
}

/// As dcap-qvl keeps it: the signed JSON apart from its signature.
pub(crate) fn phala(all: &Folder, name: &str) -> CollateralBytes {
    let json = all.json(name);
    let text = |name: &str| json[name].as_str().unwrap().to_owned();
    let bytes = |name: &str| crypto::hex::decode(&text(name)).unwrap();
    CollateralBytes {
        tcb_info: format!(
            "{{\"tcbInfo\":{},\"signature\":\"{}\"}}",
            text("tcb_info"),
            text("tcb_info_signature")
        ),
        qe_identity: format!(
            "{{\"enclaveIdentity\":{},\"signature\":\"{}\"}}",
            text("qe_identity"),
            text("qe_identity_signature")
        ),
        signing_chain: text("tcb_info_issuer_chain"),
        pck_crl: bytes("pck_crl"),
        pck_crl_chain: text("pck_crl_issuer_chain"),
        root_crl: bytes("root_ca_crl"),
    }
}

/// As the service answers; the chain of the PCK list is the same in every collateral of the platform CA.
pub(crate) fn attestation_rs(all: &Folder, fmspc: &str) -> CollateralBytes {
    let file = |name: &str| format!("attestation-rs/collateral/{name}");
    CollateralBytes {
        tcb_info: all.text(&file(&format!("tcb_info_{fmspc}.json"))),
        qe_identity: all.text(&file("td_qe_identity.json")),
        signing_chain: all.text(&file("tcb_signing_chain.pem")),
        pck_crl: all.read(&file("pck_crl_platform.der")),
        pck_crl_chain: phala(all, "tdx/phala/tdx_quote_collateral.json").pck_crl_chain,
        root_crl: all.read(&file("root_ca_crl.der")),
    }
}

pub(crate) fn open(bytes: &CollateralBytes) -> Collateral {
    Collateral::open(bytes, &Roots::intel().unwrap()).unwrap()
}

pub(crate) fn report_data(quote: &[u8]) -> [u8; 64] {
    match Quote::parse(quote).unwrap().body {
        Body::Td(report) => report.report_data,
        Body::Enclave(report) => report.report_data,
    }
}

pub(crate) fn judge_tdx(
    quote: &[u8],
    collateral: &Collateral,
    now: Timestamp,
    references: &tdx::References,
) -> Verdict {
    let evidence = tdx::Evidence {
        quote,
        event_log: None,
    };
    let expected = tdx::Expectation {
        report_data: Quote::parse(quote).map_or([0; 64], |_| report_data(quote)),
        now,
    };
    tdx::verify(&evidence, collateral, &expected, references)
}

/// Quote, its collateral and when both counted.
pub(crate) struct Recorded {
    pub(crate) name: &'static str,
    pub(crate) quote: Vec<u8>,
    pub(crate) collateral: CollateralBytes,
    pub(crate) now: Timestamp,
}

pub(crate) fn recorded(all: &Folder) -> Vec<Recorded> {
    let v5 = phala(all, "tdx/phala/tdx_quote_outdated_collateral.json");
    let item = |name, quote, collateral, now| Recorded {
        name,
        quote,
        collateral,
        now,
    };
    let live = all.json("attestation-rs/az_tdx/live-evidence.json");
    let live = crate::evidence::base64_of(live["td_quote"].as_str().unwrap());
    vec![
        item(
            "v4 (phala)",
            all.read("tdx/phala/tdx_quote"),
            phala(all, "tdx/phala/tdx_quote_collateral.json"),
            day(2025, 6, 21),
        ),
        item(
            "v5 (go-tdx-guest)",
            all.read("tdx/quote_v5_sample.dat"),
            CollateralBytes {
                tcb_info: all.text("tdx/tcbInfo_v5.json"),
                ..v5
            },
            day(2026, 2, 20),
        ),
        item(
            "v4 of Azure (attestation-rs)",
            live,
            attestation_rs(all, "90c06f000000"),
            day(2026, 3, 20),
        ),
    ]
}

/// What go-tdx-guest appended to test its own reader is cut off.
fn sapphire_rapids(all: &Folder) -> Vec<u8> {
    let mut quote = all.read("tdx/quote_v4_prod_SPR_E4.dat");
    let extra = b"\nextra bytes(only for testing purpose)\n".len();
    quote.truncate(quote.len() - extra);
    quote
}

#[test]
fn recorded_quotes_have_the_status_of_their_time() {
    let Some(all) = folder("attest_tee::tdx_quotes", &["tdx", "attestation-rs"]) else {
        return;
    };
    let mut seen = String::new();
    for item in recorded(&all) {
        let collateral = open(&item.collateral);
        let mut references = tdx_references();
        references.tcb.accepted.insert(TcbStatus::TDRelaunchAdvised);
        let verdict = judge_tdx(&item.quote, &collateral, item.now, &references);
        assert_eq!(
            outcome(&verdict),
            [""; 0],
            "{}: {:?}",
            item.name,
            verdict.findings
        );
        seen.push_str(&format!("{}\n{}\n", item.name, facts(&verdict)));
        // Only what is up to date counts by default.
        references.tcb = TcbPolicy::default();
        let verdict = judge_tdx(&item.quote, &collateral, item.now, &references);
        seen.push_str(&format!("by default: {}\n\n", outcome(&verdict).join(" ")));
    }
    expect![[r#"
        v4 (phala)
        machine.tee.debug = false
        machine.tee.endorsement = pck-platform
        machine.tee.host_data = 000000… 48 bytes
        machine.tee.kind = tdx
        machine.tee.measurement = 91eb2b… 48 bytes
        machine.tee.platform = 811dca… 16 bytes
        machine.tee.revocation = checked
        machine.tee.rtmr0 = 44c019… 48 bytes
        machine.tee.rtmr1 = 008445… 48 bytes
        machine.tee.rtmr2 = d833fe… 48 bytes
        machine.tee.rtmr3 = 000000… 48 bytes
        machine.tee.tcb.advisories = []
        machine.tee.tcb.date = 2024-03-13T00:00:00Z
        machine.tee.tcb.evaluation = 17
        machine.tee.tcb.status = UpToDate
        machine.tee.version = 4

        by default: 

        v5 (go-tdx-guest)
        machine.tee.debug = false
        machine.tee.endorsement = pck-platform
        machine.tee.host_data = 000000… 48 bytes
        machine.tee.kind = tdx
        machine.tee.measurement = 734865… 48 bytes
        machine.tee.platform = 2734b6… 16 bytes
        machine.tee.revocation = checked
        machine.tee.rtmr0 = 5c8daf… 48 bytes
        machine.tee.rtmr1 = 463aca… 48 bytes
        machine.tee.rtmr2 = 6369b9… 48 bytes
        machine.tee.rtmr3 = 000000… 48 bytes
        machine.tee.tcb.advisories = []
        machine.tee.tcb.date = 2024-11-13T00:00:00Z
        machine.tee.tcb.evaluation = 18
        machine.tee.tcb.status = UpToDate
        machine.tee.version = 5

        by default: 

        v4 of Azure (attestation-rs)
        machine.tee.debug = false
        machine.tee.endorsement = pck-platform
        machine.tee.host_data = 000000… 48 bytes
        machine.tee.kind = tdx
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

        by default: 

    "#]]
    .assert_eq(&seen);
}

#[test]
fn recorded_quotes_that_do_not_count_are_refused_for_what_is_wrong() {
    let Some(all) = folder(
        "attest_tee::tdx_refused",
        &["tdx", "attestation-rs", "azure"],
    ) else {
        return;
    };
    let references = tdx_references();
    let mut seen = String::new();
    let mut note = |what: &str, verdict: Verdict| {
        seen.push_str(&format!("{what}: {}\n", outcome(&verdict).join(" ")));
    };
    let spr = open(&attestation_rs(&all, "50806f000000"));
    let quote = all.read("tdx/quote_v4_prod_SPR_E4.dat");
    note(
        "bytes after its end",
        judge_tdx(&quote, &spr, day(2026, 3, 20), &references),
    );
    let quote = sapphire_rapids(&all);
    note(
        "without SEPT_VE_DISABLE",
        judge_tdx(&quote, &spr, day(2026, 3, 20), &references),
    );
    let attributes = tdx::References {
        attributes: 0,
        ..references.clone()
    };
    note(
        "the same where that is accepted",
        judge_tdx(&quote, &spr, day(2026, 3, 20), &attributes),
    );
    // Collateral of 2023, signed with a key whose certificate is of 2025: the one of then is not recorded.
    let old = CollateralBytes {
        tcb_info: all.text("tdx/tcbInfo_v4.json"),
        qe_identity: all.text("tdx/qeIdentity.json"),
        pck_crl: all.read("tdx/pckcrl.der"),
        root_crl: all.read("tdx/rootcrl.der"),
        ..attestation_rs(&all, "50806f000000")
    };
    note(
        "collateral of 2023 in 2023",
        judge_tdx(&quote, &open(&old), day(2023, 6, 20), &attributes),
    );
    note(
        "collateral of 2023 in 2026",
        judge_tdx(&quote, &open(&old), day(2026, 3, 20), &attributes),
    );
    let live = all.read("attestation-rs/tdx_quote_live.dat");
    let b0c0 = open(&phala(&all, "tdx/phala/tdx_quote_collateral.json"));
    note(
        "a platform certified after its collateral",
        judge_tdx(&live, &b0c0, day(2025, 6, 21), &references),
    );
    note(
        "collateral of another platform",
        judge_tdx(&live, &spr, day(2026, 4, 1), &references),
    );
    let azure = all.read("azure/tdx-vtpm/td-quote.bin");
    note(
        "azure, of 2023",
        judge_tdx(&azure, &spr, day(2026, 4, 1), &references),
    );
    let old = all.read("tdx/phala/tdx_quote_outdated");
    let v5 = open(&phala(&all, "tdx/phala/tdx_quote_outdated_collateral.json"));
    note(
        "a platform below every level",
        judge_tdx(&old, &v5, day(2026, 2, 20), &references),
    );
    let sgx = all.read("tdx/phala/sgx_quote");
    note(
        "an enclave",
        judge_tdx(&sgx, &spr, day(2026, 4, 1), &references),
    );
    let sgx_collateral = open(&phala(&all, "tdx/phala/sgx_quote_collateral.json"));
    let quote = all.read("tdx/phala/tdx_quote");
    note(
        "collateral of enclaves",
        judge_tdx(&quote, &sgx_collateral, day(2025, 6, 21), &references),
    );
    expect![[r#"
        bytes after its end: TEE-INTEL-STRUCTURE
        without SEPT_VE_DISABLE: TEE-INTEL-TCB TEE-TDX-ATTRIBUTES
        the same where that is accepted: TEE-INTEL-TCB
        collateral of 2023 in 2023: TEE-INTEL-COLLATERAL-TIME TEE-INTEL-TCB
        collateral of 2023 in 2026: TEE-INTEL-COLLATERAL-TIME TEE-INTEL-COLLATERAL-TIME TEE-INTEL-COLLATERAL-TIME TEE-INTEL-COLLATERAL-TIME TEE-INTEL-TCB
        a platform certified after its collateral: TEE-INTEL-VALIDITY
        collateral of another platform: TEE-INTEL-COLLATERAL
        azure, of 2023: TEE-INTEL-COLLATERAL TEE-TDX-ATTRIBUTES
        a platform below every level: TEE-INTEL-TCB
        an enclave: TEE-TDX-KIND
        collateral of enclaves: TEE-INTEL-COLLATERAL TEE-INTEL-COLLATERAL
    "#]].assert_eq(&seen);
}

#[test]
fn recorded_platforms_are_intels() {
    let Some(all) = folder(
        "attest_tee::intel_platforms",
        &["tdx", "attestation-rs", "azure"],
    ) else {
        return;
    };
    let roots = Roots::intel().unwrap();
    let mut seen = String::new();
    for (name, quote, now) in [
        ("spr", sapphire_rapids(&all), day(2023, 6, 20)),
        (
            "cos-113",
            all.read("tdx/cos-113/quote.dat"),
            day(2024, 8, 1),
        ),
        (
            "live",
            all.read("attestation-rs/tdx_quote_live.dat"),
            day(2026, 4, 1),
        ),
        (
            "azure",
            all.read("azure/tdx-vtpm/td-quote.bin"),
            day(2024, 1, 1),
        ),
        (
            "occlum",
            all.read("tdx/sgx_occlum_quote.dat"),
            day(2023, 6, 20),
        ),
        (
            "phala sgx",
            all.read("tdx/phala/sgx_quote"),
            day(2025, 6, 21),
        ),
    ] {
        let pck = platform(&quote, &roots, now).unwrap();
        seen.push_str(&format!(
            "{name}: fmspc {}, {:?}, pcesvn {}\n",
            crypto::hex::encode(&pck.fmspc),
            pck.ca,
            pck.pce_svn
        ));
        let early = platform(&quote, &roots, day(2022, 1, 1)).unwrap_err();
        assert_eq!(codes(&early), ["TEE-INTEL-VALIDITY"], "{name}");
        let without = platform(&quote, &Roots::default(), now).unwrap_err();
        assert_eq!(codes(&without), ["TEE-INTEL-CHAIN"], "{name}");
    }
    expect![[r#"
        spr: fmspc 50806f000000, Platform, pcesvn 11
        cos-113: fmspc 00806f050000, Platform, pcesvn 11
        live: fmspc b0c06f000000, Platform, pcesvn 11
        azure: fmspc 00806f050000, Platform, pcesvn 11
        occlum: fmspc 00606a000000, Platform, pcesvn 11
        phala sgx: fmspc 00a067110000, Processor, pcesvn 13
    "#]]
    .assert_eq(&seen);
}

#[test]
fn a_recorded_enclave_has_the_status_of_its_time() {
    let Some(all) = folder("attest_tee::sgx_quotes", &["tdx"]) else {
        return;
    };
    let quote = all.read("tdx/phala/sgx_quote");
    let collateral = open(&phala(&all, "tdx/phala/sgx_quote_collateral.json"));
    assert_eq!(
        (collateral.ca(), collateral.is_tdx()),
        (Ca::Processor, false)
    );
    let expected = sgx::Expectation {
        report_data: report_data(&quote),
        now: day(2025, 6, 21),
    };
    let verdict = sgx::verify(&quote, &collateral, &expected, &sgx_references());
    expect![[r#"
        machine.tee.debug = false
        machine.tee.endorsement = pck-processor
        machine.tee.kind = sgx
        machine.tee.measurement = 33d873… 32 bytes
        machine.tee.platform = d04ec0… 16 bytes
        machine.tee.product = 0
        machine.tee.revocation = checked
        machine.tee.signer = 815f42… 32 bytes
        machine.tee.svn = 0
        machine.tee.tcb.advisories = [INTEL-SA-00289, INTEL-SA-00615]
        machine.tee.tcb.date = 2024-03-13T00:00:00Z
        machine.tee.tcb.evaluation = 17
        machine.tee.tcb.status = ConfigurationAndSWHardeningNeeded
        machine.tee.version = 3
    "#]]
    .assert_eq(&facts(&verdict));

    let strict = sgx::References {
        tcb: TcbPolicy::default(),
        ..sgx_references()
    };
    let verdict = sgx::verify(&quote, &collateral, &expected, &strict);
    assert_eq!(outcome(&verdict), ["TEE-INTEL-TCB"]);
    let image = |by| {
        Code::Listed(vec![sgx::Image {
            name: "hello".to_owned(),
            by,
            minimum_svn: 0,
        }])
    };
    let Body::Enclave(report) = Quote::parse(&quote).unwrap().body else {
        panic!("an enclave's");
    };
    for (by, refused) in [
        (sgx::By::Measurement(report.mr_enclave), &[][..]),
        (
            sgx::By::Signer {
                signer: report.mr_signer,
                product: report.product_id,
            },
            &[],
        ),
        (
            sgx::By::Signer {
                signer: report.mr_signer,
                product: report.product_id + 1,
            },
            &["TEE-SGX-IMAGE"],
        ),
        (sgx::By::Measurement(report.mr_signer), &["TEE-SGX-IMAGE"]),
    ] {
        let references = sgx::References {
            code: image(by),
            ..sgx_references()
        };
        let verdict = sgx::verify(&quote, &collateral, &expected, &references);
        assert_eq!(outcome(&verdict), refused);
    }
    // No collateral of this one was recorded; that it may be debugged shows without.
    let debug = all.read("tdx/sgx_occlum_quote.dat");
    let expected = sgx::Expectation {
        report_data: report_data(&debug),
        ..expected
    };
    let verdict = sgx::verify(&debug, &collateral, &expected, &sgx_references());
    expect!["TEE-INTEL-COLLATERAL TEE-INTEL-COLLATERAL TEE-SGX-DEBUG"]
        .assert_eq(&outcome(&verdict).join(" "));
}

#[test]
fn every_signed_byte_of_recorded_quotes_counts() {
    let Some(all) = folder("attest_tee::intel_bytes", &["tdx", "attestation-rs"]) else {
        return;
    };
    let mut references = tdx_references();
    references.tcb.accepted = BTreeSet::from([TcbStatus::UpToDate, TcbStatus::OutOfDate]);
    references.tcb.accepted.insert(TcbStatus::TDRelaunchAdvised);
    for item in recorded(&all).iter().take(2) {
        let collateral = open(&item.collateral);
        // Header, body, both signatures, key, QE report and authentication data: up to the chain,
        // whose certificates are looked at below.
        let chain = item
            .quote
            .windows(11)
            .position(|window| window == b"-----BEGIN ")
            .unwrap();
        every_byte_counts(item.name, &item.quote, 0..chain, |quote| {
            let expected = tdx::Expectation {
                report_data: report_data(&item.quote),
                now: item.now,
            };
            let evidence = tdx::Evidence {
                quote,
                event_log: None,
            };
            tdx::verify(&evidence, &collateral, &expected, &references)
        });
    }
}

#[test]
fn every_signed_byte_of_recorded_collateral_counts() {
    let Some(all) = folder("attest_tee::intel_collateral_bytes", &["tdx"]) else {
        return;
    };
    let roots = Roots::intel().unwrap();
    let good = phala(&all, "tdx/phala/tdx_quote_collateral.json");
    Collateral::open(&good, &roots).unwrap();
    let refused = |changed: &CollateralBytes, what: &str, at: usize| {
        let refused = Collateral::open(changed, &roots);
        assert!(refused.is_err(), "{what}: byte {at}");
    };
    let range = |text: &str, from: &str, to: &str| {
        let start = text.find(from).unwrap();
        start..text.rfind(to).unwrap()
    };
    let mut changed = good.clone();
    for at in range(&good.tcb_info, ":{", ",\"signature") {
        let mut bytes = good.tcb_info.clone().into_bytes();
        bytes[at] ^= 1;
        changed.tcb_info = String::from_utf8(bytes).unwrap();
        refused(&changed, "TCB info", at);
    }
    changed.tcb_info.clone_from(&good.tcb_info);
    for at in range(&good.qe_identity, ":{", ",\"signature") {
        let mut bytes = good.qe_identity.clone().into_bytes();
        bytes[at] ^= 1;
        changed.qe_identity = String::from_utf8(bytes).unwrap();
        refused(&changed, "identity", at);
    }
    changed.qe_identity.clone_from(&good.qe_identity);
    for at in 0..good.pck_crl.len() {
        changed.pck_crl[at] ^= 1;
        refused(&changed, "PCK list", at);
        changed.pck_crl[at] ^= 1;
    }
    for at in 0..good.root_crl.len() {
        changed.root_crl[at] ^= 1;
        refused(&changed, "root's list", at);
        changed.root_crl[at] ^= 1;
    }
    Collateral::open(&changed, &roots).unwrap();
}
