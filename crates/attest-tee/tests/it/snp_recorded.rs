//! Recorded reports and keys of Milan, Genoa and Turin.

use crate::evidence::{Folder, day, every_byte_counts, facts, folder, hex_of, outcome, padded};
use attest_tee::snp::{
    By, Evidence, Expectation, Generation, Image, Policy, References, Report, Roots, Tcb, verify,
};
use attest_tee::{Code, Revocation};
use expect_test::expect;
use facts::Timestamp;

/// What accepts every recorded report that is good in itself.
pub(crate) fn lenient() -> References {
    References {
        roots: Roots::amd().unwrap(),
        // No list of AMD's was recorded.
        revocation: Revocation::IfPresent,
        generations: Generation::ALL
            .into_iter()
            .map(|generation| (generation, Tcb::default()))
            .collect(),
        code: Code::LeftToPolicy,
        policy: Policy {
            vmpl: 1,
            ..Policy::default()
        },
    }
}

pub(crate) struct Recorded {
    pub(crate) name: &'static str,
    pub(crate) report: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) now: Timestamp,
}

impl Recorded {
    pub(crate) fn evidence(&self) -> Evidence<'_> {
        Evidence {
            report: &self.report,
            key: &self.key,
            crl: None,
        }
    }

    pub(crate) fn expectation(&self) -> Expectation {
        Expectation {
            report_data: Report::parse(&self.report).unwrap().report_data,
            now: self.now,
        }
    }
}

pub(crate) fn recorded(all: &Folder) -> Vec<Recorded> {
    let item = |name, report: Vec<u8>, key, now| Recorded {
        name,
        report,
        key,
        now,
    };
    // A length before it, and a claim file behind.
    let dstack = all.read("snp/dstack-attestation.bin")[4..][..1184].to_vec();
    vec![
        item(
            "milan v2 (trustee)",
            all.read("snp/trustee-milan-report.bin"),
            all.read("snp/trustee-milan-vcek.der"),
            day(2024, 1, 1),
        ),
        item(
            "milan v2 (virtee)",
            hex_of(&all.text("snp/virtee-milan-report.hex")),
            all.read("snp/virtee-milan-vcek.der"),
            day(2024, 1, 1),
        ),
        item(
            "milan v3 with VLEK",
            all.read("snp/trustee-vlek-report.bin"),
            all.read("snp/trustee-vlek.der"),
            day(2025, 6, 1),
        ),
        item(
            "milan v3 (dstack)",
            dstack,
            all.pem("snp/dstack-vcek.pem"),
            day(2026, 7, 1),
        ),
    ]
}

#[test]
fn recorded_reports_are_affirmed_at_their_time() {
    let Some(all) = folder("attest_tee::snp_reports", &["snp"]) else {
        return;
    };
    let mut seen = String::new();
    for item in recorded(&all) {
        let verdict = verify(&item.evidence(), &item.expectation(), &lenient());
        assert_eq!(
            outcome(&verdict),
            [""; 0],
            "{}: {:?}",
            item.name,
            verdict.findings
        );
        seen.push_str(&format!("{}\n{}\n", item.name, facts(&verdict)));
    }
    expect![[r#"
        milan v2 (trustee)
        machine.tee.debug = false
        machine.tee.endorsement = vcek
        machine.tee.generation = milan
        machine.tee.host_data = 000000… 32 bytes
        machine.tee.kind = sev-snp
        machine.tee.measurement = a1f393… 48 bytes
        machine.tee.platform = c38427… 64 bytes
        machine.tee.revocation = unchecked
        machine.tee.signer = 035621… 48 bytes
        machine.tee.svn = 4
        machine.tee.tcb.bootloader = 3
        machine.tee.tcb.fmc = 0
        machine.tee.tcb.microcode = 115
        machine.tee.tcb.snp = 8
        machine.tee.tcb.tee = 0
        machine.tee.version = 2
        machine.tee.vmpl = 0

        milan v2 (virtee)
        machine.tee.debug = false
        machine.tee.endorsement = vcek
        machine.tee.generation = milan
        machine.tee.host_data = 000000… 32 bytes
        machine.tee.kind = sev-snp
        machine.tee.measurement = 7a1e5c… 48 bytes
        machine.tee.platform = d49554… 64 bytes
        machine.tee.revocation = unchecked
        machine.tee.svn = 0
        machine.tee.tcb.bootloader = 3
        machine.tee.tcb.fmc = 0
        machine.tee.tcb.microcode = 115
        machine.tee.tcb.snp = 8
        machine.tee.tcb.tee = 0
        machine.tee.version = 2
        machine.tee.vmpl = 0

        milan v3 with VLEK
        machine.tee.debug = false
        machine.tee.endorsement = vlek
        machine.tee.generation = milan
        machine.tee.host_data = 000000… 32 bytes
        machine.tee.kind = sev-snp
        machine.tee.measurement = 8922eb… 48 bytes
        machine.tee.platform = CN=cc-us-east-2.amazonaws.com
        machine.tee.revocation = unchecked
        machine.tee.svn = 0
        machine.tee.tcb.bootloader = 4
        machine.tee.tcb.fmc = 0
        machine.tee.tcb.microcode = 217
        machine.tee.tcb.snp = 24
        machine.tee.tcb.tee = 0
        machine.tee.version = 3
        machine.tee.vmpl = 1

        milan v3 (dstack)
        machine.tee.debug = false
        machine.tee.endorsement = vcek
        machine.tee.generation = milan
        machine.tee.host_data = 783f00… 32 bytes
        machine.tee.kind = sev-snp
        machine.tee.measurement = 7f51e1… 48 bytes
        machine.tee.platform = 38d174… 64 bytes
        machine.tee.revocation = unchecked
        machine.tee.svn = 0
        machine.tee.tcb.bootloader = 4
        machine.tee.tcb.fmc = 0
        machine.tee.tcb.microcode = 213
        machine.tee.tcb.snp = 23
        machine.tee.tcb.tee = 0
        machine.tee.version = 3
        machine.tee.vmpl = 0

    "#]]
    .assert_eq(&seen);
}

#[test]
fn a_report_of_a_guest_that_may_be_debugged_is_refused() {
    let Some(all) = folder("attest_tee::snp_debug", &["snp"]) else {
        return;
    };
    let item = Recorded {
        name: "milan v2 (go-sev-guest)",
        report: all.read("snp/go-sev-guest-milan-report.bin"),
        key: all.read("snp/go-sev-guest-milan-vcek.der"),
        now: day(2023, 6, 1),
    };
    let verdict = verify(&item.evidence(), &item.expectation(), &lenient());
    assert_eq!(outcome(&verdict), ["TEE-SNP-DEBUG"]);
}

#[test]
fn recorded_bad_keys_are_refused() {
    let Some(all) = folder("attest_tee::snp_bad_keys", &["snp"]) else {
        return;
    };
    let report = all.read("snp/trustee-milan-report.bin");
    let expectation = Expectation {
        report_data: Report::parse(&report).unwrap().report_data,
        now: day(2024, 1, 1),
    };
    let mut seen = String::new();
    for key in [
        "snp/trustee-vcek-invalid-legacy.der",
        "snp/trustee-vcek-invalid-new.der",
        "snp/virtee-milan-vcek.der",
        "snp/virtee-turin-vcek.der",
        "snp/trustee-vlek.der",
    ] {
        let evidence = Evidence {
            report: &report,
            key: &all.read(key),
            crl: None,
        };
        let verdict = verify(&evidence, &expectation, &lenient());
        seen.push_str(&format!("{key}: {}\n", outcome(&verdict).join(" ")));
    }
    expect![[r#"
        snp/trustee-vcek-invalid-legacy.der: TEE-SNP-CHAIN
        snp/trustee-vcek-invalid-new.der: TEE-SNP-CHAIN
        snp/virtee-milan-vcek.der: TEE-SNP-SIGNATURE TEE-SNP-CHIP
        snp/virtee-turin-vcek.der: TEE-SNP-VALIDITY TEE-SNP-SIGNATURE TEE-SNP-KEY-TCB TEE-SNP-CHIP
        snp/trustee-vlek.der: TEE-SNP-VALIDITY TEE-SNP-SIGNING-KEY TEE-SNP-SIGNATURE TEE-SNP-KEY-TCB
    "#]]
    .assert_eq(&seen);
}

#[test]
fn recorded_keys_of_every_generation_have_a_chain() {
    let Some(all) = folder("attest_tee::snp_keys", &["snp", "azure"]) else {
        return;
    };
    // Another chip's report: the chain holds, what is compared with the report does not.
    let report = all.read("snp/trustee-milan-report.bin");
    let expectation = Expectation {
        report_data: Report::parse(&report).unwrap().report_data,
        now: day(2025, 6, 1),
    };
    for (key, generation) in [
        (all.read("snp/virtee-milan-vcek.der"), "milan"),
        (all.pem("azure/snp-vtpm/vcek-genoa.pem"), "genoa"),
        (all.read("snp/virtee-turin-vcek.der"), "turin"),
        (all.read("snp/trustee-vlek.der"), "milan, a provider's"),
    ] {
        let evidence = Evidence {
            report: &report,
            key: &key,
            crl: None,
        };
        let refused = verify(&evidence, &expectation, &lenient());
        let codes = outcome(&refused);
        assert!(codes.contains(&"TEE-SNP-SIGNATURE"), "{generation}");
        for unexpected in [
            "TEE-SNP-CHAIN",
            "TEE-SNP-KEY-STRUCTURE",
            "TEE-SNP-VALIDITY",
            "TEE-SNP-GENERATION",
        ] {
            assert!(!codes.contains(&unexpected), "{generation}: {codes:?}");
        }
        let mut changed = key.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        let evidence = Evidence {
            key: &changed,
            ..evidence
        };
        let refused = verify(&evidence, &expectation, &lenient());
        let broken = ["TEE-SNP-CHAIN", "TEE-SNP-KEY-STRUCTURE"];
        assert!(
            outcome(&refused).iter().any(|code| broken.contains(code)),
            "{generation}"
        );
    }
}

#[test]
fn the_chain_that_a_guest_was_given_is_the_one_that_is_shipped() {
    let Some(all) = folder("attest_tee::snp_chains", &["snp", "azure"]) else {
        return;
    };
    let mut roots = Roots::amd().unwrap();
    for chain in [
        "snp/virtee-turin-chain.pem",
        "snp/dstack-ask.pem",
        "snp/ca/milan_ask_ark_asvk.pem",
        "snp/ca/genoa_ask_ark_asvk.pem",
        "snp/ca/turin_ask_ark_asvk.pem",
    ] {
        roots.extend(&all.text(chain)).unwrap();
    }
    // A VCEK is no authority.
    let refused = roots.extend(&all.text("azure/snp-vtpm/vcek.pem"));
    assert_eq!(refused.unwrap_err().code, "TEE-ROOT-STRUCTURE");
}

#[test]
fn every_byte_of_a_recorded_report_counts() {
    let Some(all) = folder("attest_tee::snp_bytes", &["snp"]) else {
        return;
    };
    let references = lenient();
    for item in recorded(&all) {
        let (key, expectation) = (&item.key, item.expectation());
        // The signature's padding as well, which has one spelling.
        every_byte_counts(item.name, &item.report, 0..1184, |report| {
            let evidence = Evidence {
                report,
                key,
                crl: None,
            };
            verify(&evidence, &expectation, &references)
        });
    }
    let item = &recorded(&all)[0];
    let (report, expectation) = (&item.report, item.expectation());
    every_byte_counts("VCEK", &item.key, 0..item.key.len(), |key| {
        let evidence = Evidence {
            report,
            key,
            crl: None,
        };
        verify(&evidence, &expectation, &references)
    });
}

#[test]
fn references_decide_about_a_recorded_report() {
    let Some(all) = folder("attest_tee::snp_references", &["snp"]) else {
        return;
    };
    let item = &recorded(&all)[0];
    let report = Report::parse(&item.report).unwrap();
    let judge = |change: &dyn Fn(&mut References)| {
        let mut references = lenient();
        change(&mut references);
        let verdict = verify(&item.evidence(), &item.expectation(), &references);
        outcome(&verdict).join(" ")
    };
    let image = |by| Image {
        name: "prod".to_owned(),
        by,
        minimum_svn: 0,
        family_id: None,
        image_id: None,
        host_data: None,
    };
    let listed = |image| Code::Listed(vec![image]);
    let by_measurement = image(By::Measurement(report.measurement));
    let by_id_key = image(By::IdKey(report.id_key_digest));
    assert_eq!(judge(&|it| it.code = listed(by_measurement.clone())), "");
    assert_eq!(judge(&|it| it.code = listed(by_id_key.clone())), "");
    for (refused, change) in [
        (
            "TEE-SNP-IMAGE",
            &(|it: &mut References| it.code = Code::default()) as &dyn Fn(&mut References),
        ),
        ("TEE-SNP-IMAGE", &|it| {
            it.code = listed(image(By::AuthorKey(report.author_key_digest)));
        }),
        ("TEE-SNP-IMAGE", &|it| {
            it.code = listed(Image {
                minimum_svn: report.guest_svn + 1,
                ..by_id_key.clone()
            });
        }),
        ("TEE-SNP-IMAGE", &|it| {
            it.code = listed(Image {
                host_data: Some([1; 32]),
                ..by_measurement.clone()
            });
        }),
        ("TEE-SNP-CRL", &|it| it.revocation = Revocation::Required),
        ("TEE-SNP-GENERATION", &|it| {
            it.generations = vec![(Generation::Genoa, Tcb::default())];
        }),
        ("TEE-SNP-TCB TEE-SNP-TCB TEE-SNP-TCB", &|it| {
            let floor = Tcb {
                microcode: 0x74,
                ..Tcb::default()
            };
            it.generations = vec![(Generation::Milan, floor)];
        }),
        ("TEE-SNP-POLICY", &|it| it.policy.forbidden |= Policy::SMT),
        ("TEE-SNP-POLICY", &|it| {
            it.policy.required = Policy::SINGLE_SOCKET;
        }),
        ("TEE-SNP-PLATFORM", &|it| {
            it.policy.platform = Policy::PLATFORM_ALIAS_CHECKED;
        }),
        ("TEE-SNP-CHAIN", &|it| it.roots = Roots::default()),
    ] {
        assert_eq!(judge(change), refused);
    }
    let late = Expectation {
        now: day(2031, 1, 1),
        ..item.expectation()
    };
    let verdict = verify(&item.evidence(), &late, &lenient());
    assert_eq!(outcome(&verdict), ["TEE-SNP-VALIDITY"]);
    let other = Expectation {
        report_data: padded(b"other"),
        ..item.expectation()
    };
    let verdict = verify(&item.evidence(), &other, &lenient());
    assert_eq!(outcome(&verdict), ["TEE-SNP-REPORT-DATA"]);
}
