//! Real evidence, changed at random from fixed seeds, thousands of times each: no reader panics, and
//! nothing is affirmed but what the hardware signed.

use crate::evidence::{Folder, folder};
use crate::hostile::read_all;
use crate::intel_recorded::{self, any_status, open, sgx_references, tdx_references};
use crate::nitro_recorded;
use crate::snp_recorded::{self, lenient};
use attest_tee::intel::{Body, Collateral, Quote, Roots, TcbStatus};
use attest_tee::{azure, nitro, sgx, snp, tdx};
use facts::{Outcome, Verdict};
use testkit::mutation::changed;

/// Changes that are judged, of each piece of evidence.
const JUDGED: u64 = 1_000;
/// Changes that are read and not judged, of each.
const READ: u64 = 2_000;

/// Reads changes of `bytes`, judges some of them, and compares those that are affirmed: `same` says
/// whether what was signed is as it was.
fn survive(
    what: &str,
    bytes: &[u8],
    judge: impl Fn(&[u8]) -> Verdict,
    same: impl Fn(&[u8]) -> bool,
) {
    assert_eq!(judge(bytes).outcome(), Outcome::Affirmed, "{what}");
    for seed in 0..READ {
        read_all(&changed(bytes, seed));
    }
    let mut refused = 0;
    for seed in READ..READ + JUDGED {
        let changed = changed(bytes, seed);
        match judge(&changed).outcome() {
            Outcome::Affirmed => assert!(same(&changed), "{what}: seed {seed}"),
            Outcome::Refused => refused += 1,
        }
    }
    assert!(refused > JUDGED / 2, "{what}: {refused}");
}

fn all(test: &str) -> Option<Folder> {
    folder(test, &["snp", "tdx", "nitro", "azure", "attestation-rs"])
}

#[test]
fn no_changed_report_of_snp_is_affirmed() {
    let Some(all) = all("attest_tee::mutated_snp") else {
        return;
    };
    let references = lenient();
    for item in snp_recorded::recorded(&all) {
        let expected = item.expectation();
        let judge = |report: &[u8], key: &[u8]| {
            let evidence = snp::Evidence {
                report,
                key,
                crl: None,
            };
            snp::verify(&evidence, &expected, &references)
        };
        let report = |report: &[u8]| judge(report, &item.key);
        survive(item.name, &item.report, report, |report| {
            report == item.report
        });
        let key = |key: &[u8]| judge(&item.report, key);
        survive(item.name, &item.key, key, |key| key == item.key);
    }
}

/// Whether a quote is the same up to its chain, which is text and has more than one spelling; the
/// certificates in it are signed.
fn same_quote(changed: &[u8], quote: &[u8]) -> bool {
    let chain = quote.windows(5).position(|at| at == b"-----").unwrap();
    let body = |quote: &[u8]| Quote::parse(quote).unwrap().body;
    body(changed) == body(quote) && changed[..chain] == quote[..chain]
}

#[test]
fn no_changed_quote_is_affirmed() {
    let Some(all) = all("attest_tee::mutated_quotes") else {
        return;
    };
    let mut references = tdx_references();
    references.tcb = any_status();
    references.tcb.accepted.insert(TcbStatus::TDRelaunchAdvised);
    for item in intel_recorded::recorded(&all) {
        let collateral = open(&item.collateral);
        let Body::Td(report) = Quote::parse(&item.quote).unwrap().body else {
            panic!("{}: an enclave", item.name);
        };
        let expected = tdx::Expectation {
            report_data: report.report_data,
            now: item.now,
        };
        let judge = |quote: &[u8]| {
            let evidence = tdx::Evidence {
                quote,
                event_log: None,
            };
            tdx::verify(&evidence, &collateral, &expected, &references)
        };
        survive(item.name, &item.quote, judge, |changed| {
            same_quote(changed, &item.quote)
        });
    }
    let quote = all.read("tdx/phala/sgx_quote");
    let bytes = intel_recorded::phala(&all, "tdx/phala/sgx_quote_collateral.json");
    let collateral = open(&bytes);
    let Body::Enclave(report) = Quote::parse(&quote).unwrap().body else {
        panic!("a trust domain");
    };
    let expected = sgx::Expectation {
        report_data: report.report_data,
        now: crate::evidence::day(2025, 6, 21),
    };
    let judge = |quote: &[u8]| sgx::verify(quote, &collateral, &expected, &sgx_references());
    survive("sgx", &quote, judge, |changed| same_quote(changed, &quote));
}

#[test]
fn no_changed_collateral_is_opened() {
    let Some(all) = all("attest_tee::mutated_collateral") else {
        return;
    };
    let roots = Roots::intel().unwrap();
    // What Intel signed of an answer: the first member of the object.
    let signed = |text: &str| {
        let (from, to) = (text.find(":{").unwrap() + 1, text.rfind(",\"signature"));
        text[from..to.unwrap()].to_owned()
    };
    for item in intel_recorded::recorded(&all) {
        let good = &item.collateral;
        let (info, identity) = (signed(&good.tcb_info), signed(&good.qe_identity));
        Collateral::open(good, &roots).unwrap();
        for seed in 0..READ {
            let mut bytes = good.clone();
            let text =
                |text: &str| String::from_utf8_lossy(&changed(text.as_bytes(), seed)).into_owned();
            match seed % 6 {
                0 => bytes.tcb_info = text(&good.tcb_info),
                1 => bytes.qe_identity = text(&good.qe_identity),
                2 => bytes.signing_chain = text(&good.signing_chain),
                3 => bytes.pck_crl_chain = text(&good.pck_crl_chain),
                4 => bytes.pck_crl = changed(&good.pck_crl, seed),
                _ => bytes.root_crl = changed(&good.root_crl, seed),
            }
            if Collateral::open(&bytes, &roots).is_ok() {
                assert!(bytes.tcb_info.contains(&info), "{}: {seed}", item.name);
                assert!(bytes.qe_identity.contains(&identity), "{seed}");
                assert_eq!(bytes.pck_crl, good.pck_crl, "{}: {seed}", item.name);
                assert_eq!(bytes.root_crl, good.root_crl, "{}: {seed}", item.name);
            }
        }
    }
}

#[test]
fn no_changed_document_is_affirmed() {
    let Some(all) = all("attest_tee::mutated_documents") else {
        return;
    };
    let references = nitro::References {
        roots: nitro::Roots::aws().unwrap(),
        code: attest_tee::Code::LeftToPolicy,
    };
    for (name, document) in nitro_recorded::good(&all) {
        let expected = nitro_recorded::expectation(&document);
        let judge = |document: &[u8]| nitro::verify(document, &expected, &references);
        survive(name, &document, judge, |changed| changed == document);
    }
}

#[test]
fn no_changed_report_of_a_paravisor_is_affirmed() {
    let Some(all) = all("attest_tee::mutated_paravisors") else {
        return;
    };
    let hcl = all.read("azure/snp-vtpm/hcl-report.bin");
    let key = all.pem("azure/snp-vtpm/vcek.pem");
    let references = azure::References {
        snp: lenient(),
        tdx: tdx_references(),
    };
    let expected = azure::Expectation {
        user_data: None,
        now: crate::evidence::day(2024, 1, 1),
    };
    let good = azure::Hcl::parse(&hcl).unwrap();
    let judge = |hcl: &[u8]| {
        let hardware = azure::Hardware::Snp {
            key: &key,
            crl: None,
        };
        azure::verify(&azure::Evidence { hcl, hardware }, &expected, &references).verdict
    };
    // The header before the hardware's report is not signed, nor are the zeros behind its room.
    survive("hcl", &hcl, judge, |changed| {
        let changed = azure::Hcl::parse(changed).unwrap();
        changed.report == good.report && changed.runtime == good.runtime
    });
}

#[test]
fn no_changed_event_log_stops_its_reader() {
    let Some(all) = all("attest_tee::mutated_logs") else {
        return;
    };
    for name in ["tdx/cos-113/ccel_data.dat", "tdx/ccel_ovmf.dat"] {
        let log = all.read(name);
        let end = log
            .iter()
            .rposition(|byte| !matches!(byte, 0 | 0xff))
            .unwrap();
        let log = &log[..=end];
        tdx::replay(log).unwrap();
        for seed in 0..READ {
            drop(tdx::replay(&changed(log, seed)));
        }
    }
}
