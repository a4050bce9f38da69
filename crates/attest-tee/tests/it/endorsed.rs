//! Evidence with the endorsements that are at hand: in the host's table, in a bundle, nowhere.

use crate::bundle::{file, parse};
use crate::der::pem;
use crate::evidence::outcome;
use crate::forge_azure::{SNP, claims, hcl, report_data};
use crate::forge_intel::{Platform, now};
use crate::forge_nitro::Enclave;
use crate::forge_snp::{self, Machine, ROOT};
use attest_tee::endorsed::{Endorsed, azure_snp, lacks_endorsement, nitro_tpm, snp, tdx};
use attest_tee::snp::{Generation, References, Roots};
use attest_tee::{Bundle, tdx as td};
use serde_json::json;

/// GUIDs of VCEK and of nothing that is known, as tables spell them.
const VCEK: [u8; 16] = [
    0x63, 0xda, 0x75, 0x8d, 0xe6, 0x64, 0x45, 0x64, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd,
];

fn table(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut offset = 24 * (entries.len() as u32 + 1);
    let mut table = Vec::new();
    for entry in entries {
        table.extend(VCEK);
        table.extend(offset.to_le_bytes());
        table.extend((entry.len() as u32).to_le_bytes());
        offset += entry.len() as u32;
    }
    table.extend([0; 24]);
    table.extend(entries.concat());
    table
}

/// Judged under the root alone: the intermediate is the bundle's to bring.
fn judge(machine: &Machine, table: &[u8], bundle: &Bundle) -> Endorsed {
    let mut roots = Roots::default();
    let root = pem(&machine.root.sign(&ROOT, &ROOT));
    roots.add(machine.generation, &root).unwrap();
    let references = References {
        roots,
        ..machine.references.clone()
    };
    snp(
        &machine.signed_report(),
        table,
        bundle,
        &machine.expectation,
        &references,
    )
}

#[test]
fn a_report_is_judged_by_the_certificate_that_fits_wherever_it_is() {
    let machine = Machine::new(Generation::Milan);
    let mut stranger = Machine::new(Generation::Milan);
    stranger.certificate.extensions[2].2 = vec![0xdd; 64];
    let (own, other) = (machine.key_certificate(), stranger.key_certificate());
    let whole = parse(&file(std::slice::from_ref(&machine), &[]));
    let mut keyless = file(std::slice::from_ref(&machine), &[]);
    keyless["snp"]["keys"] = json!([]);
    let keyless = parse(&keyless);
    for (table, bundle) in [
        (Vec::new(), &whole),
        (table(std::slice::from_ref(&own)), &keyless),
        (table(&[other.clone(), own.clone()]), &keyless),
        (table(&[b"junk".to_vec(), other.clone()]), &whole),
    ] {
        let judged = judge(&machine, &table, bundle);
        assert_eq!(outcome(&judged.verdict), [""; 0]);
        let kinds: Vec<_> = judged.blobs.iter().map(|blob| blob.kind).collect();
        assert_eq!(kinds, ["snp-report", "snp-key", "snp-crl", "snp-chain"]);
        let digests: Vec<_> = judged.blobs.iter().map(|blob| blob.digest()).collect();
        assert_eq!(judged.verdict.evidence, digests, "what is named is kept");
        assert_eq!(judged.blobs[1].bytes.as_ref(), own);
    }
    // Another chip's certificate alone is the machine's fault; none is nobody's.
    let refused = judge(&machine, &table(&[other]), &keyless);
    assert_eq!(outcome(&refused.verdict), ["TEE-SNP-CHIP"]);
    assert!(!lacks_endorsement(&refused.verdict.findings));
    let refused = judge(&machine, &[], &keyless);
    assert_eq!(outcome(&refused.verdict), ["TEE-ENDORSEMENT-MISSING"]);
    assert!(lacks_endorsement(&refused.verdict.findings));
    let refused = judge(&machine, &table(&[own]), &Bundle::default());
    assert_eq!(outcome(&refused.verdict), ["TEE-SNP-CHAIN"]);
    assert!(!lacks_endorsement(&[]));
}

#[test]
fn what_a_bundle_brings_under_a_root_of_its_own_counts_for_nothing() {
    let machine = Machine::new(Generation::Milan);
    let bundle = parse(&file(std::slice::from_ref(&machine), &[]));
    let judged = snp(
        &machine.signed_report(),
        &[],
        &bundle,
        &machine.expectation,
        &References {
            roots: Roots::amd().unwrap(),
            ..machine.references.clone()
        },
    );
    assert_eq!(outcome(&judged.verdict), ["TEE-SNP-CHAIN"]);
}

#[test]
fn a_quote_is_judged_by_the_collateral_of_its_platform() {
    let mut platform = Platform::tdx(4);
    let references = td::References {
        roots: platform.roots(),
        ..platform.tdx.clone()
    };
    let expected = td::Expectation {
        report_data: [0x5a; 64],
        now: now(),
    };
    let judge = |platform: &Platform, bundle: &Bundle| {
        let quote = platform.quote();
        let evidence = td::Evidence {
            quote: &quote,
            event_log: None,
        };
        tdx(&evidence, bundle, &expected, &references)
    };
    let bundle = parse(&file(&[], &[platform.clone()]));
    let judged = judge(&platform, &bundle);
    assert_eq!(outcome(&judged.verdict), [""; 0]);
    let digests: Vec<_> = judged.blobs.iter().map(|blob| blob.digest()).collect();
    assert_eq!(judged.verdict.evidence, digests, "what is named is kept");
    // The collateral that was kept judges the same quote again.
    let again = Bundle::parse(&judged.blobs[1].bytes).unwrap();
    assert_eq!(judge(&platform, &again).verdict.facts, judged.verdict.facts);

    let refused = judge(&platform, &Bundle::default());
    assert_eq!(outcome(&refused.verdict), ["TEE-ENDORSEMENT-MISSING"]);
    assert!(lacks_endorsement(&refused.verdict.findings));
    platform.wrong.quote = true;
    let refused = judge(&platform, &bundle);
    assert_eq!(outcome(&refused.verdict), ["TEE-INTEL-SIGNATURE"]);
    let stale = parse(&file(
        &[],
        &[{
            let mut stale = Platform::tdx(4);
            stale.tcb_info["nextUpdate"] = json!("2026-05-21T00:00:00Z");
            stale
        }],
    ));
    let refused = judge(&Platform::tdx(4), &stale);
    assert_eq!(outcome(&refused.verdict), ["TEE-INTEL-COLLATERAL-TIME"]);
    assert!(lacks_endorsement(&refused.verdict.findings));
}

#[test]
fn a_paravisors_report_is_judged_by_the_certificate_of_the_report_in_it() {
    let claims = claims(0x55, [0; 64]);
    let mut machine = Machine::new(Generation::Milan);
    machine.put(0x50, &report_data(&claims));
    let references = References {
        roots: machine.roots(),
        ..machine.references.clone()
    };
    let report = hcl(SNP, &machine.signed_report(), &claims);
    let bundle = parse(&file(std::slice::from_ref(&machine), &[]));
    let judge = |report: &[u8], bundle: &Bundle| {
        azure_snp(report, &[], bundle, forge_snp::now(), &references)
    };
    let (judged, key) = judge(&report, &bundle);
    assert_eq!(outcome(&judged.verdict), [""; 0]);
    assert_eq!(
        judged.verdict.facts.text("machine.tee.kind"),
        Some("azure-snp")
    );
    assert!(key.is_some());
    let kinds: Vec<_> = judged.blobs.iter().map(|blob| blob.kind).collect();
    assert_eq!(kinds, ["hcl-report", "snp-key", "snp-crl", "snp-chain"]);
    let digests: Vec<_> = judged.blobs.iter().map(|blob| blob.digest()).collect();
    assert_eq!(judged.verdict.evidence, digests, "what is named is kept");

    let (refused, key) = judge(&report, &Bundle::default());
    assert_eq!(outcome(&refused.verdict), ["TEE-ENDORSEMENT-MISSING"]);
    assert!(lacks_endorsement(&refused.verdict.findings) && key.is_none());
    let other = claims.replace("HCLAkPub", "HCLEkPub");
    let (refused, key) = judge(&hcl(SNP, &machine.signed_report(), &other), &bundle);
    assert_eq!(outcome(&refused.verdict), ["TEE-AZURE-STRUCTURE"]);
    assert!(key.is_none());
    machine.put(0x50, &[0; 64]);
    let (refused, key) = judge(&hcl(SNP, &machine.signed_report(), &claims), &bundle);
    assert_eq!(outcome(&refused.verdict), ["TEE-SNP-REPORT-DATA"]);
    assert!(key.is_none());
}

#[test]
fn an_enclaves_document_says_nothing_of_a_tpm() {
    for (instance, codes) in [
        (Enclave::tpm(), &[][..]),
        (Enclave::new(), &["TEE-NITRO-KIND"][..]),
    ] {
        let document = instance.document();
        let judged = nitro_tpm(&document, &instance.expectation, &instance.references());
        assert_eq!(outcome(&judged.verdict), codes);
        let kept: Vec<_> = judged.blobs.iter().map(|blob| blob.digest()).collect();
        assert_eq!(judged.verdict.evidence, kept);
    }
}
