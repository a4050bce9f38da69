//! What was recorded beside quotes, reports and documents: the question, the table that names a log, a
//! chain, another wrapping; and reference values in a format that is not read here.

use crate::evidence::{codes, day, every_byte_counts, folder, hex_of, outcome};
use crate::intel_recorded::{attestation_rs, recorded, tdx_references};
use crate::snp_recorded::lenient;
use attest_tee::intel::{Collateral, Roots};
use attest_tee::nitro::Document;
use attest_tee::{snp, tdx};

const QUESTION: &str = "TEE-TDX-REPORT-DATA";
const LOG: &str = "TEE-TDX-CCEL";

/// No collateral of this platform was recorded, so the quote is refused for that; what is looked at here is
/// whether it is refused for question and log as well.
#[test]
fn a_recorded_quote_answers_the_question_and_has_the_log_beside_it() {
    let Some(all) = folder("attest_tee::ccel", &["tdx", "attestation-rs"]) else {
        return;
    };
    let quote = all.read("tdx/cos-113/quote.dat");
    let log = all.read("tdx/cos-113/ccel_data.dat");
    let nonce: [u8; 64] = all.read("tdx/cos-113/nonce.dat").try_into().unwrap();
    let another = recorded(&all).remove(0);
    let collateral = Collateral::open(&another.collateral, &Roots::intel().unwrap()).unwrap();
    let refusal = |log: &[u8], report_data| {
        let evidence = tdx::Evidence {
            quote: &quote,
            event_log: Some(log),
        };
        let expected = tdx::Expectation {
            report_data,
            now: another.now,
        };
        let verdict = tdx::verify(&evidence, &collateral, &expected, &tdx_references());
        let codes = outcome(&verdict).into_iter().map(str::to_owned);
        codes.collect::<Vec<_>>()
    };
    let good = refusal(&log, nonce);
    assert!(!good.is_empty(), "the platform is another");
    for code in [QUESTION, LOG] {
        assert!(!good.iter().any(|one| one == code), "{good:?}");
    }
    for at in 0..nonce.len() {
        let mut other = nonce;
        other[at] ^= 1;
        assert!(refusal(&log, other).iter().any(|one| one == QUESTION));
    }
    let other = refusal(&all.read("tdx/ccel_ovmf.dat"), nonce);
    assert!(other.iter().any(|one| one == LOG), "{other:?}");

    // ACPI: length, checksum; for TDX; how long the log's area is.
    let table = all.read("tdx/cos-113/ccel_table.dat");
    assert!(table.starts_with(b"CCEL"));
    assert_eq!(table[4..8], 56_u32.to_le_bytes());
    assert_eq!(
        table.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)),
        0
    );
    assert_eq!(table[36], 2);
    assert_eq!(table[40..48], (log.len() as u64).to_le_bytes());
}

/// One chain signs TCB info and identities of quoting enclaves; it was recorded twice.
#[test]
fn the_chain_of_the_identity_signs_the_tcb_info_as_well() {
    let Some(all) = folder(
        "attest_tee::intel_platforms",
        &["tdx", "attestation-rs", "azure"],
    ) else {
        return;
    };
    let chain = all.text("attestation-rs/collateral/qe_identity_signing_chain.pem");
    let roots = Roots::intel().unwrap();
    for fmspc in ["50806f000000", "90c06f000000"] {
        let mut bytes = attestation_rs(&all, fmspc);
        bytes.signing_chain = chain.clone();
        assert!(Collateral::open(&bytes, &roots).is_ok(), "{fmspc}");
        // The root alone, and the chain of another service.
        let root = chain.rfind("-----BEGIN CERTIFICATE-----").unwrap();
        for other in [chain[root..].to_owned(), bytes.pck_crl_chain.clone()] {
            bytes.signing_chain = other;
            let refused = Collateral::open(&bytes, &roots).unwrap_err();
            assert_eq!(refused.code, "TEE-INTEL-COLLATERAL", "{fmspc}");
        }
    }
}

/// dstack's verifier takes it in JSON: a length, the report, and what its own software says.
#[test]
fn a_report_in_another_wrapping_is_the_same_report() {
    let Some(all) = folder("attest_tee::snp_reports", &["snp"]) else {
        return;
    };
    let json = all.json("snp/dstack-sev-snp-attestation.json");
    let bytes = hex_of(json["attestation"].as_str().unwrap());
    let report = &bytes[4..][..1184];
    let key = all.pem("snp/dstack-vcek.pem");
    let verify = |report: &[u8]| {
        let parsed = snp::Report::parse(&bytes[4..][..1184]).unwrap();
        let evidence = snp::Evidence {
            report,
            key: &key,
            crl: None,
        };
        let expected = snp::Expectation {
            report_data: parsed.report_data,
            now: day(2026, 7, 1),
        };
        snp::verify(&evidence, &expected, &lenient())
    };
    assert_eq!(outcome(&verify(report)), [""; 0]);
    // Up to the signature, whose numbers have zeros behind them.
    every_byte_counts("dstack's", report, 0..0x2a0, verify);
    let other = all.pem("azure/snp-vtpm/vcek.pem");
    let evidence = snp::Evidence {
        report,
        key: &other,
        crl: None,
    };
    let expected = snp::Expectation {
        report_data: snp::Report::parse(report).unwrap().report_data,
        now: day(2026, 7, 1),
    };
    assert!(!outcome(&snp::verify(&evidence, &expected, &lenient())).is_empty());
}

/// CoRIM is CBOR as Nitro's documents are, and is taken for none of them. Reference values come from
/// packages and images, not from it.
#[test]
fn reference_values_in_corim_are_no_document() {
    let Some(all) = folder("attest_tee::nitro_documents", &["nitro", "corim"]) else {
        return;
    };
    for name in [
        "corim/cca-platform-valid.cbor",
        "corim/parsec-tpm-refvalue.cbor",
        "corim/tpm-enacttrust-refvalue.cbor",
        "corim/unsigned-example.cbor",
    ] {
        let refused = Document::parse(&all.read(name)).unwrap_err();
        assert_eq!(codes(&[refused]), ["TEE-NITRO-STRUCTURE"], "{name}");
    }
    assert!(Document::parse(&all.read("nitro/yawn-attestation.cose")).is_ok());
}
