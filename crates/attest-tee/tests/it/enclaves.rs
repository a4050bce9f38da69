//! Enclaves that speak for themselves, as a join judges them: with whatever endorses them, and nothing beside.

use crate::bundle::{file, parse};
use crate::evidence::{day, every_byte_counts, facts, folder, outcome};
use crate::forge_intel::{Platform, now};
use crate::forge_nitro::Enclave;
use crate::intel_recorded::{phala, report_data, sgx_references};
use crate::nitro_recorded::{expectation, good};
use attest_tee::endorsed::{Endorsed, lacks_endorsement, nitro_enclave, sgx};
use attest_tee::nitro::{self, Document};
use attest_tee::sgx as enclave;
use attest_tee::{Bundle, Code};
use crypto::base64;
use facts::Source;
use serde_json::json;
use std::collections::BTreeMap;

fn of_sgx(platform: &Platform, quote: &[u8], bundle: &Bundle) -> Endorsed {
    let expected = enclave::Expectation {
        report_data: platform.report_data,
        now: now(),
    };
    let references = enclave::References {
        roots: platform.roots(),
        ..platform.sgx.clone()
    };
    sgx(quote, bundle, &expected, &references)
}

#[test]
fn an_enclave_is_judged_by_the_collateral_of_enclaves() {
    let platform = Platform::sgx(3);
    let quote = platform.quote();
    let both = parse(&file(&[], &[Platform::tdx(4), platform.clone()]));
    let judged = of_sgx(&platform, &quote, &both);
    assert_eq!(outcome(&judged.verdict), [""; 0]);
    let kinds: Vec<_> = judged.blobs.iter().map(|blob| blob.kind).collect();
    assert_eq!(kinds, ["sgx-quote", "sgx-collateral"]);
    let digests: Vec<_> = judged.blobs.iter().map(|blob| blob.digest()).collect();
    assert_eq!(judged.verdict.evidence, digests, "what is named is kept");
    // What was kept judges it again.
    let kept = Bundle::parse(&judged.blobs[1].bytes).unwrap();
    assert_eq!(outcome(&of_sgx(&platform, &quote, &kept).verdict), [""; 0]);

    let domains = parse(&file(&[], &[Platform::tdx(4)]));
    let refused = of_sgx(&platform, &quote, &domains).verdict;
    assert_eq!(outcome(&refused), ["TEE-ENDORSEMENT-MISSING"]);
    assert!(lacks_endorsement(&refused.findings));
    let domain = Platform::tdx(4).quote();
    let refused = of_sgx(&platform, &domain, &both).verdict;
    assert_eq!(outcome(&refused), ["TEE-SGX-KIND"]);
    assert!(!lacks_endorsement(&refused.findings));
}

#[test]
fn an_enclave_that_speaks_for_itself_names_its_root_and_no_tpm() {
    let enclave = Enclave::new();
    let judge = |enclave: &Enclave| {
        nitro_enclave(
            &enclave.document(),
            &enclave.expectation,
            &enclave.references(),
        )
    };
    let judged = judge(&enclave).below("lab", Source::Verified, now());
    let facts = &judged.verdict.facts;
    assert_eq!(facts.text("machine.tee.root"), Some("lab"));
    assert!(facts.fact("machine.tee.ak_sha256").is_none());
    assert!(facts.iter().all(|fact| fact.source == Source::Verified));
    let refused = judge(&Enclave::tpm());
    assert_eq!(outcome(&refused.verdict), ["TEE-NITRO-KIND"]);
    let refused = refused.below("lab", Source::Verified, now());
    assert_eq!(outcome(&refused.verdict), ["TEE-NITRO-KIND"]);
}

#[test]
fn every_byte_of_an_enclaves_evidence_counts() {
    let enclave = Enclave::new();
    let (document, references) = (enclave.document(), enclave.references());
    every_byte_counts("document", &document, 0..document.len(), |bytes| {
        nitro_enclave(bytes, &enclave.expectation, &references).verdict
    });
    let platform = Platform::sgx(3);
    let (quote, bundle) = (
        platform.quote(),
        parse(&file(&[], std::slice::from_ref(&platform))),
    );
    // Up to the chain, whose lines may be broken anyhow.
    let chain = quote.windows(5).position(|it| it == b"-----").unwrap();
    every_byte_counts("quote", &quote, 0..chain, |bytes| {
        of_sgx(&platform, bytes, &bundle).verdict
    });
}

#[test]
fn a_refusal_says_how_far_what_runs_is_from_what_is_listed() {
    let enclave = Enclave::new();
    let listed = |images: &[(&str, &[(u8, u8)])]| {
        let images = images.iter().map(|(name, pcrs)| nitro::Image {
            name: (*name).to_owned(),
            pcrs: pcrs.iter().map(|(pcr, byte)| (*pcr, [*byte; 48])).collect(),
        });
        let references = nitro::References {
            code: Code::Listed(images.collect()),
            ..enclave.references()
        };
        let judged = nitro_enclave(&enclave.document(), &enclave.expectation, &references);
        judged.verdict.findings[0].clone()
    };
    let hex = |byte: &str| byte.repeat(48);
    // The nearest of two; and what the document has not at all.
    let refused = listed(&[
        ("far", &[(0, 7), (1, 7), (2, 7)]),
        ("near", &[(0, 1), (8, 7), (20, 7)]),
    ]);
    let expected = format!(
        "one of: far, near; of near: PCR 8 {}, PCR 20 {}",
        hex("07"),
        hex("07")
    );
    assert_eq!(refused.expected.unwrap(), expected);
    let observed = format!("PCR 8 {}, no PCR 20", hex("09"));
    assert_eq!(refused.observed.unwrap(), observed);
    let line = format!("0 = \"{}\"", hex("01"));
    assert!(refused.next.unwrap().contains(&line));
    let nothing = listed(&[]);
    assert_eq!(nothing.expected.unwrap(), "no image is listed");
    assert!(nothing.observed.unwrap().starts_with("PCR 0 0101"));
}

#[test]
fn recorded_documents_are_those_of_enclaves_at_their_time() {
    let Some(all) = folder("attest_tee::enclaves_nitro", &["nitro"]) else {
        return;
    };
    for (name, document) in good(&all) {
        let parsed = Document::parse(&document).unwrap();
        let images = |pcr: u8, value: [u8; 48]| {
            Code::Listed(vec![nitro::Image {
                name: "theirs".to_owned(),
                pcrs: BTreeMap::from([(0, parsed.pcrs[&0]), (pcr, value)]),
            }])
        };
        let judge = |code| {
            let references = nitro::References {
                roots: nitro::Roots::aws().unwrap(),
                code,
            };
            nitro_enclave(&document, &expectation(&document), &references).verdict
        };
        let verdict = judge(images(2, parsed.pcrs[&2]));
        assert_eq!(outcome(&verdict), [""; 0], "{name}: {:?}", verdict.findings);
        assert!(facts(&verdict).contains("machine.tee.pcr2"), "{name}");
        let other = judge(images(2, [7; 48]));
        assert_eq!(outcome(&other), ["TEE-NITRO-IMAGE"], "{name}");
    }
}

#[test]
fn a_recorded_quote_is_that_of_an_enclave_with_its_recorded_collateral() {
    let Some(all) = folder("attest_tee::enclaves_sgx", &["tdx"]) else {
        return;
    };
    let quote = all.read("tdx/phala/sgx_quote");
    let bytes = phala(&all, "tdx/phala/sgx_quote_collateral.json");
    let at = day(2025, 6, 21);
    let roots = sgx_references().roots;
    let pck = attest_tee::intel::platform(&quote, &roots, at).unwrap();
    let bundle = json!({
        "version": 1,
        "intel": [{
            "tee": "sgx",
            "fmspc": crypto::hex::encode(&pck.fmspc),
            "ca": pck.ca.word(),
            "tcb_info": bytes.tcb_info,
            "qe_identity": bytes.qe_identity,
            "signing_chain": bytes.signing_chain,
            "pck_crl": base64::encode(&bytes.pck_crl),
            "pck_crl_chain": bytes.pck_crl_chain,
            "root_crl": base64::encode(&bytes.root_crl),
        }],
    });
    let judge = |report_data, now| {
        let expected = enclave::Expectation { report_data, now };
        sgx(&quote, &parse(&bundle), &expected, &sgx_references()).verdict
    };
    let own = report_data(&quote);
    let verdict = judge(own, at);
    assert_eq!(outcome(&verdict), [""; 0], "{:?}", verdict.findings);
    assert!(facts(&verdict).contains("machine.tee.product"));
    assert_eq!(outcome(&judge([7; 64], at)), ["TEE-SGX-REPORT-DATA"]);
    let late = judge(own, day(2026, 6, 21));
    assert!(outcome(&late).contains(&"TEE-INTEL-COLLATERAL-TIME"));
}
