//! Azure's confidential machines with one fault each: what ties the vTPM's key to the hardware.

use crate::evidence::outcome;
use crate::forge_azure::{SNP, TDX, claims, hcl, report_data};
use crate::forge_intel::Platform;
use crate::forge_snp::{Machine, now};
use attest_tee::azure::{Evidence, Expectation, Hardware, Judgement, References, verify};
use attest_tee::snp::Generation;
use attest_tee::{snp, tdx};

const USER_DATA: [u8; 64] = [0x5a; 64];

/// A paravisor on SEV-SNP: everything that a test may change before it is presented.
struct Paravisor {
    machine: Machine,
    /// What is presented; the hardware signed `signed`.
    claims: String,
    signed: [u8; 64],
    user_data: Option<[u8; 64]>,
}

impl Paravisor {
    fn new() -> Self {
        let claims = claims(0x55, USER_DATA);
        Self {
            machine: Machine::new(Generation::Milan),
            signed: report_data(&claims),
            claims,
            user_data: Some(USER_DATA),
        }
    }

    fn judge(&self) -> Judgement {
        let mut machine = self.machine.clone();
        machine.put(0x50, &self.signed);
        let references = References {
            snp: snp::References {
                roots: machine.roots(),
                ..machine.references.clone()
            },
            tdx: tdx::References::default(),
        };
        let crl = machine.crl();
        let evidence = Evidence {
            hcl: &hcl(SNP, &machine.signed_report(), &self.claims),
            hardware: Hardware::Snp {
                key: &machine.key_certificate(),
                crl: crl.as_deref(),
            },
        };
        let expected = Expectation {
            user_data: self.user_data,
            now: now(),
        };
        verify(&evidence, &expected, &references)
    }
}

/// The same on TDX, whose paravisor's room for a report holds what nobody believes.
fn judge_tdx(presented: &str, signed: [u8; 64], kind: u32) -> Judgement {
    let mut platform = Platform::tdx(4);
    platform.put(520, &signed);
    let references = References {
        snp: snp::References::default(),
        tdx: tdx::References {
            roots: platform.roots(),
            ..platform.tdx.clone()
        },
    };
    let collateral = platform.open().unwrap();
    let evidence = Evidence {
        hcl: &hcl(kind, &[0x77; 1024], presented),
        hardware: Hardware::Tdx {
            quote: &platform.quote(),
            collateral: &collateral,
        },
    };
    let expected = Expectation {
        user_data: None,
        now: platform.now,
    };
    verify(&evidence, &expected, &references)
}

#[test]
fn good_machines_are_affirmed_and_name_the_key_of_their_vtpm() {
    let good = claims(0x55, USER_DATA);
    for judged in [
        Paravisor::new().judge(),
        judge_tdx(&good, report_data(&good), TDX),
    ] {
        let verdict = &judged.verdict;
        assert_eq!(outcome(verdict), [""; 0], "{:?}", verdict.findings);
        let ak = judged.ak.unwrap();
        assert_eq!(
            verdict.facts.text("machine.tee.ak_sha256"),
            Some(crypto::hex::encode(&ak.spki_sha256()).as_str())
        );
    }
}

#[test]
fn each_fault_of_a_paravisor_is_refused_by_the_check_that_guards_against_it() {
    type Change = &'static dyn Fn(&mut Paravisor);
    let attacks: &[(&str, &str, Change)] = &[
        ("TEE-SNP-REPORT-DATA", "a key of another vTPM", &|it| {
            it.claims = claims(0x56, USER_DATA);
        }),
        ("TEE-SNP-REPORT-DATA", "the hash, and more", &|it| {
            it.signed[63] = 1;
        }),
        ("TEE-SNP-REPORT-DATA", "a report for nobody", &|it| {
            it.signed = [0; 64];
        }),
        (
            "TEE-AZURE-USER-DATA",
            "what the guest did not write",
            &|it| {
                it.user_data = Some([0x5b; 64]);
            },
        ),
        ("TEE-SNP-DEBUG", "a paravisor under debug", &|it| {
            it.machine.put(0x0a, &[0b1011]);
        }),
        ("TEE-SNP-IMAGE", "another paravisor", &|it| {
            it.machine.put(0xbf, &[0]);
        }),
        ("TEE-AZURE-STRUCTURE", "no runtime data", &|it| {
            it.claims = String::new();
        }),
    ];
    for (code, what, change) in attacks {
        let mut paravisor = Paravisor::new();
        change(&mut paravisor);
        let judged = paravisor.judge();
        assert_eq!(outcome(&judged.verdict), [*code], "{what}");
        assert!(judged.ak.is_none(), "{what}");
    }
}

#[test]
fn a_quote_says_nothing_of_a_key_that_it_does_not_commit_to() {
    let (good, other) = (claims(0x55, USER_DATA), claims(0x56, USER_DATA));
    let judged = judge_tdx(&other, report_data(&good), TDX);
    assert_eq!(outcome(&judged.verdict), ["TEE-TDX-REPORT-DATA"]);
    assert!(judged.ak.is_none());
    // A TDREPORT is not presented as a report of SEV-SNP, nor the reverse.
    let judged = judge_tdx(&good, report_data(&good), SNP);
    assert_eq!(outcome(&judged.verdict), ["TEE-AZURE-KIND"]);
    assert!(judged.ak.is_none());
}
