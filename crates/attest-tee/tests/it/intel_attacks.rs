//! TDX and SGX platforms with one fault each: the check that guards against it says so, and no other.

use crate::der::{Certificate, SIGN, pem};
use crate::evidence::{every_byte_counts, facts, outcome};
use crate::forge_intel::{PCK, PLATFORM_CA, Platform, ROOT, module, now, sgx_extension};
use attest_tee::intel::{Roots, TcbStatus};
use attest_tee::{Code, sgx, tdx};
use expect_test::expect;
use serde_json::json;

type Change = &'static dyn Fn(&mut Platform);

#[test]
fn good_platforms_are_affirmed() {
    for platform in [
        Platform::tdx(4),
        Platform::tdx(5),
        Platform::sgx(3),
        Platform::sgx(5),
    ] {
        let verdict = platform.judge();
        assert_eq!(outcome(&verdict), [""; 0], "{:?}", verdict.findings);
    }
    expect![[r#"
        machine.tee.debug = false
        machine.tee.endorsement = pck-platform
        machine.tee.image = prod
        machine.tee.kind = sgx
        machine.tee.measurement = ececec… 32 bytes
        machine.tee.platform = bbbbbb… 16 bytes
        machine.tee.product = 7
        machine.tee.revocation = checked
        machine.tee.signer = 515151… 32 bytes
        machine.tee.svn = 9
        machine.tee.tcb.advisories = [INTEL-SA-00001]
        machine.tee.tcb.date = 2026-01-01T00:00:00Z
        machine.tee.tcb.evaluation = 17
        machine.tee.tcb.status = UpToDate
        machine.tee.version = 3
    "#]]
    .assert_eq(&facts(&Platform::sgx(3).judge()));
}

#[test]
fn a_trust_domain_of_tdx_1_0_may_be_quoted_in_version_5() {
    let mut platform = Platform::tdx(5);
    platform.body.0 = 2;
    platform.body.1.truncate(584);
    assert_eq!(outcome(&platform.judge()), [""; 0]);
}

/// Faults on the way from the quote to Intel: the same for trust domains and enclaves.
const SHARED: &[(&str, &str, Change)] = &[
    ("TEE-INTEL-VERSION", "version 2", &|it| it.header[0] = 2),
    ("TEE-INTEL-VERSION", "version 6", &|it| it.header[0] = 6),
    ("TEE-INTEL-STRUCTURE", "another type of key", &|it| {
        it.header[2] = 3
    }),
    ("TEE-INTEL-STRUCTURE", "another kind of machine", &|it| {
        it.header[4] ^= 0x40
    }),
    ("TEE-INTEL-STRUCTURE", "another vendor", &|it| {
        it.header[12] ^= 1
    }),
    ("TEE-INTEL-STRUCTURE", "bytes after its end", &|it| {
        it.tail = vec![0, 0, 1]
    }),
    ("TEE-INTEL-STRUCTURE", "bytes after its chain", &|it| {
        it.after_chain = vec![0]
    }),
    ("TEE-INTEL-STRUCTURE", "long authentication data", &|it| {
        it.auth = vec![0; 257]
    }),
    (
        "TEE-INTEL-SIGNATURE",
        "another attestation key signs",
        &|it| it.wrong.quote = true,
    ),
    (
        "TEE-INTEL-QE-BINDING",
        "an attestation key that nobody vouches for",
        &|it| {
            it.bind_key = false;
        },
    ),
    (
        "TEE-INTEL-QE-BINDING",
        "more in the report data than the key",
        &|it| {
            it.qe_report[383] = 1;
        },
    ),
    (
        "TEE-INTEL-QE-SIGNATURE",
        "another platform's key signs",
        &|it| {
            it.wrong.qe_report = true;
        },
    ),
    ("TEE-INTEL-CHAIN", "a PCK certificate by nobody", &|it| {
        it.wrong.pck = true
    }),
    ("TEE-INTEL-CHAIN", "an authority by nobody", &|it| {
        it.wrong.intermediate = true
    }),
    ("TEE-INTEL-CHAIN", "names that do not match", &|it| {
        it.pck.issuer = "Intel SGX PCK Processor CA".to_owned();
    }),
    (
        "TEE-INTEL-CHAIN",
        "an intermediate that is no authority",
        &|it| {
            it.intermediate.ca = None;
        },
    ),
    (
        "TEE-INTEL-CHAIN",
        "an intermediate that says it is no authority",
        &|it| {
            it.intermediate.ca = None;
            let constraints = (vec![2, 5, 29, 19], true, vec![0x30, 0]);
            it.intermediate.extensions.push(constraints);
        },
    ),
    (
        "TEE-INTEL-CHAIN",
        "an intermediate with what nobody knows",
        &|it| {
            let stranger = (vec![1, 3, 6, 1, 4, 1, 99_999, 1], true, vec![5, 0]);
            it.intermediate.extensions.push(stranger);
        },
    ),
    (
        "TEE-INTEL-CHAIN",
        "an intermediate that may not certify",
        &|it| {
            it.intermediate.key_usage = Some(SIGN);
        },
    ),
    (
        "TEE-INTEL-CHAIN",
        "an authority in the place of a PCK",
        &|it| {
            it.pck.ca = Some(None);
        },
    ),
    ("TEE-INTEL-CHAIN", "another leaf", &|it| {
        it.pck.subject = "Intel SGX TCB Signing".to_owned();
    }),
    (
        "TEE-INTEL-CHAIN",
        "a PCK certificate without its extension",
        &|it| {
            it.pck.extensions.clear();
        },
    ),
    ("TEE-INTEL-VALIDITY", "an expired PCK certificate", &|it| {
        it.pck.not_after = now().minus_secs(1);
    }),
    (
        "TEE-INTEL-VALIDITY",
        "a PCK certificate of tomorrow",
        &|it| {
            it.pck.not_before = now().plus_secs(1);
        },
    ),
    ("TEE-INTEL-VALIDITY", "an expired intermediate", &|it| {
        it.intermediate.not_after = now().minus_secs(1);
    }),
    ("TEE-INTEL-REVOKED", "a revoked platform", &|it| {
        it.pck_list.revoked.push(100)
    }),
    (
        "TEE-INTEL-REVOKED",
        "a revoked authority, renewed under the same key",
        &|it| {
            it.crl_issuer.serial = 20;
            it.root_list.revoked.push(2);
        },
    ),
    ("TEE-INTEL-QE-IDENTITY", "another enclave's signer", &|it| {
        it.qe_report[128] ^= 1
    }),
    ("TEE-INTEL-QE-IDENTITY", "another product", &|it| {
        it.qe_report[256] ^= 1
    }),
    ("TEE-INTEL-QE-IDENTITY", "another MISCSELECT", &|it| {
        it.qe_report[16] = 1
    }),
    (
        "TEE-INTEL-QE-IDENTITY",
        "a quoting enclave with other attributes",
        &|it| {
            it.qe_report[48] ^= 0x10;
        },
    ),
    (
        "TEE-INTEL-QE-IDENTITY",
        "a quoting enclave in debug mode",
        &|it| {
            it.qe_report[48] |= 2;
        },
    ),
    (
        "TEE-INTEL-QE-IDENTITY",
        "debug mode, where the mask leaves it out",
        &|it| {
            it.qe_report[48] |= 2;
            it.identity["attributesMask"] = json!("F9FFFFFFFFFFFFFF0000000000000000");
        },
    ),
    (
        "TEE-INTEL-QE-IDENTITY",
        "a quoting enclave below every level",
        &|it| {
            it.qe_report[258] = 3;
        },
    ),
    ("TEE-INTEL-TCB", "an old quoting enclave", &|it| {
        it.qe_report[258] = 5
    }),
    ("TEE-INTEL-TCB", "an old platform", &|it| {
        it.pck.extensions = vec![sgx_extension([4; 16], 300, [0xf0; 6])];
    }),
    ("TEE-INTEL-TCB", "one old component", &|it| {
        let mut components = [5; 16];
        components[15] = 4;
        it.pck.extensions = vec![sgx_extension(components, 300, [0xf0; 6])];
    }),
    ("TEE-INTEL-TCB", "an old PCE", &|it| {
        it.pck.extensions = vec![sgx_extension([5; 16], 299, [0xf0; 6])];
    }),
    ("TEE-INTEL-TCB", "a platform below every level", &|it| {
        it.pck.extensions = vec![sgx_extension([2; 16], 300, [0xf0; 6])];
    }),
    (
        "TEE-INTEL-TCB",
        "a revoked level, even where it is accepted",
        &|it| {
            it.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("Revoked");
            it.tdx.tcb.accepted = TcbStatus::PUBLISHED.into_iter().collect();
            it.sgx.tcb.accepted = TcbStatus::PUBLISHED.into_iter().collect();
        },
    ),
    ("TEE-INTEL-TCB", "a revoked quoting enclave", &|it| {
        it.identity["tcbLevels"][0]["tcbStatus"] = json!("Revoked");
    }),
    ("TEE-INTEL-EVALUATION", "old collateral", &|it| {
        // The identity's is 17.
        it.tdx.tcb.minimum_evaluation = 18;
        it.sgx.tcb.minimum_evaluation = 18;
    }),
    (
        "TEE-INTEL-COLLATERAL",
        "another platform's TCB info",
        &|it| {
            it.tcb_info["fmspc"] = json!("F0F0F0F0F0F1");
        },
    ),
    ("TEE-INTEL-COLLATERAL", "another PCE's TCB info", &|it| {
        it.tcb_info["pceId"] = json!("0001");
    }),
    ("TEE-INTEL-COLLATERAL", "TCB info by nobody", &|it| {
        it.wrong.tcb_info = true
    }),
    ("TEE-INTEL-COLLATERAL", "an identity by nobody", &|it| {
        it.wrong.identity = true
    }),
    ("TEE-INTEL-COLLATERAL", "a signer by nobody", &|it| {
        it.wrong.signing = true
    }),
    ("TEE-INTEL-COLLATERAL", "a signer of another name", &|it| {
        it.signing.subject = "Intel SGX PCK Certificate".to_owned();
    }),
    ("TEE-INTEL-COLLATERAL", "a signer by another name", &|it| {
        it.signing.issuer = "Intel SGX Root CB".to_owned();
    }),
    (
        "TEE-INTEL-COLLATERAL",
        "a list's issuer that is no authority",
        &|it| {
            it.crl_issuer.ca = None;
        },
    ),
    (
        "TEE-INTEL-COLLATERAL",
        "an authority as the signer",
        &|it| {
            it.signing.ca = Some(None);
        },
    ),
    ("TEE-INTEL-COLLATERAL", "a revoked signer", &|it| {
        it.root_list.revoked.push(3)
    }),
    ("TEE-INTEL-COLLATERAL", "a revoked root", &|it| {
        it.root_list.revoked.push(1)
    }),
    (
        "TEE-INTEL-COLLATERAL",
        "a revoked authority of PCKs",
        &|it| {
            it.root_list.revoked.push(2);
        },
    ),
    ("TEE-INTEL-COLLATERAL", "a PCK list by nobody", &|it| {
        it.wrong.pck_list = true
    }),
    (
        "TEE-INTEL-COLLATERAL",
        "a PCK list of another name",
        &|it| {
            it.pck_list.issuer = "Intel SGX PCK Processor CA".to_owned();
        },
    ),
    ("TEE-INTEL-COLLATERAL", "a root's list by nobody", &|it| {
        it.wrong.root_list = true
    }),
    (
        "TEE-INTEL-COLLATERAL",
        "a list by another key of the same name",
        &|it| {
            it.wrong.crl_issuer = true;
        },
    ),
    (
        "TEE-INTEL-COLLATERAL",
        "a list of another authority",
        &|it| {
            it.crl_issuer.subject = "Intel SGX PCK Processor CA".to_owned();
            it.pck_list.issuer = "Intel SGX PCK Processor CA".to_owned();
        },
    ),
    ("TEE-INTEL-COLLATERAL", "a list without an end", &|it| {
        it.pck_list.next_update = None;
    }),
    (
        "TEE-INTEL-COLLATERAL",
        "TCB info of another version",
        &|it| {
            it.tcb_info["version"] = json!(2);
        },
    ),
    ("TEE-INTEL-COLLATERAL", "TCB info of another type", &|it| {
        it.tcb_info["tcbType"] = json!(1);
    }),
    (
        "TEE-INTEL-COLLATERAL",
        "a status that Intel does not know",
        &|it| {
            it.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("Fine");
        },
    ),
    (
        "TEE-INTEL-COLLATERAL",
        "a status that is not Intel's to give",
        &|it| {
            it.tcb_info["tcbLevels"][0]["tcbStatus"] = json!("TDRelaunchAdvised");
        },
    ),
    ("TEE-INTEL-COLLATERAL", "a component less", &|it| {
        it.tcb_info["tcbLevels"][0]["tcb"]["sgxtcbcomponents"]
            .as_array_mut()
            .unwrap()
            .pop();
    }),
    (
        "TEE-INTEL-COLLATERAL",
        "an identity of another version",
        &|it| {
            it.identity["version"] = json!(1);
        },
    ),
    (
        "TEE-INTEL-COLLATERAL-TIME",
        "TCB info of yesterday",
        &|it| {
            it.tcb_info["nextUpdate"] = json!("2026-05-31T23:59:59Z");
        },
    ),
    ("TEE-INTEL-COLLATERAL-TIME", "TCB info of tomorrow", &|it| {
        it.tcb_info["issueDate"] = json!("2026-06-01T00:00:01Z");
    }),
    (
        "TEE-INTEL-COLLATERAL-TIME",
        "an identity of yesterday",
        &|it| {
            it.identity["nextUpdate"] = json!("2026-05-31T23:59:59Z");
        },
    ),
    (
        "TEE-INTEL-COLLATERAL-TIME",
        "an identity of tomorrow",
        &|it| {
            it.identity["issueDate"] = json!("2026-06-01T00:00:01Z");
        },
    ),
    (
        "TEE-INTEL-COLLATERAL-TIME",
        "a PCK list of yesterday",
        &|it| {
            it.pck_list.next_update = Some(now().minus_secs(1));
        },
    ),
    (
        "TEE-INTEL-COLLATERAL-TIME",
        "a PCK list of tomorrow",
        &|it| {
            it.pck_list.this_update = now().plus_secs(1);
        },
    ),
    (
        "TEE-INTEL-COLLATERAL-TIME",
        "a root's list of yesterday",
        &|it| {
            it.root_list.next_update = Some(now().minus_secs(1));
        },
    ),
    ("TEE-INTEL-COLLATERAL-TIME", "an expired signer", &|it| {
        it.signing.not_after = now().minus_secs(1);
    }),
];

fn each_is_refused(good: &Platform, attacks: &[(&str, &str, Change)]) {
    for (code, what, change) in attacks {
        let mut platform = good.clone();
        change(&mut platform);
        let verdict = platform.judge();
        assert_eq!(outcome(&verdict), [*code], "{what}: {:?}", verdict.findings);
    }
}

#[test]
fn each_fault_of_a_trust_domains_platform_is_refused_by_its_check() {
    each_is_refused(&Platform::tdx(4), SHARED);
    each_is_refused(&Platform::tdx(5), SHARED);
}

#[test]
fn each_fault_of_an_enclaves_platform_is_refused_by_its_check() {
    each_is_refused(&Platform::sgx(3), SHARED);
}

#[test]
fn each_fault_of_a_trust_domain_is_refused_by_its_check() {
    let attacks: &[(&str, &str, Change)] = &[
        ("TEE-TDX-DEBUG", "debugging", &|it| it.put(120, &[1])),
        ("TEE-TDX-DEBUG", "profiling", &|it| it.put(120, &[0x10])),
        ("TEE-TDX-ATTRIBUTES", "migration", &|it| {
            it.put(123, &[0x30])
        }),
        ("TEE-TDX-ATTRIBUTES", "a service domain may extend", &|it| {
            it.put(122, &[2]);
        }),
        ("TEE-TDX-ATTRIBUTES", "a reserved bit", &|it| {
            it.put(124, &[1])
        }),
        ("TEE-TDX-ATTRIBUTES", "pages may vanish", &|it| {
            it.put(123, &[0])
        }),
        ("TEE-TDX-ATTRIBUTES", "a bit that is asked for", &|it| {
            it.tdx.attributes |= 1 << 30;
        }),
        ("TEE-TDX-SERVICE", "a service domain", &|it| {
            it.put(600, &[1])
        }),
        ("TEE-TDX-REPORT-DATA", "another question", &|it| {
            it.put(583, &[0])
        }),
        ("TEE-TDX-IMAGE", "another MRTD", &|it| it.put(183, &[0])),
        ("TEE-TDX-IMAGE", "another MRCONFIGID", &|it| {
            it.put(231, &[0])
        }),
        ("TEE-TDX-IMAGE", "nothing listed", &|it| {
            it.tdx.code = Code::default()
        }),
        ("TEE-TDX-IMAGE", "another RTMR", &|it| {
            let Code::Listed(images) = &mut it.tdx.code else {
                return;
            };
            images[0].rtmr[3] = Some([1; 48]);
        }),
        ("TEE-TDX-MODULE", "a module signed by another", &|it| {
            it.put(64, &[1])
        }),
        ("TEE-TDX-MODULE", "a module in debug mode", &|it| {
            it.put(112, &[1])
        }),
        ("TEE-TDX-MODULE", "an attribute outside the mask", &|it| {
            it.put(112, &[1]);
            it.tcb_info["tdxModuleIdentities"][0]["attributesMask"] = json!("00FFFFFFFFFFFFFF");
        }),
        ("TEE-INTEL-TCB", "an old module", &|it| it.put(0, &[4])),
        ("TEE-INTEL-TCB", "an old microcode for TDX", &|it| {
            it.put(2, &[4])
        }),
        (
            "TEE-INTEL-TCB",
            "a module in a version below every level",
            &|it| {
                it.put(0, &[0]);
            },
        ),
        ("TEE-INTEL-TCB", "a revoked module", &|it| {
            it.tcb_info["tdxModuleIdentities"] = json!([module(5, "Revoked")]);
            it.tdx.tcb.accepted = TcbStatus::PUBLISHED.into_iter().collect();
        }),
        (
            "TEE-INTEL-TCB",
            "an older module now than at launch",
            &|it| {
                it.put(584, &[0]);
            },
        ),
        ("TEE-INTEL-COLLATERAL", "TCB info without a module", &|it| {
            it.tcb_info.as_object_mut().unwrap().remove("tdxModule");
        }),
        ("TEE-INTEL-COLLATERAL", "an identity of enclaves", &|it| {
            it.identity["id"] = json!("QE");
        }),
        ("TEE-INTEL-COLLATERAL", "collateral of enclaves", &|it| {
            it.identity["id"] = json!("QE");
            it.tcb_info["id"] = json!("SGX");
        }),
    ];
    each_is_refused(&Platform::tdx(5), attacks);
    // A module of a version that Intel does not list has neither an identity nor a level.
    let mut platform = Platform::tdx(4);
    platform.put(1, &[4]);
    assert_eq!(
        outcome(&platform.judge()),
        ["TEE-TDX-MODULE", "TEE-INTEL-TCB"]
    );
}

#[test]
fn a_module_of_the_first_version_is_judged_by_the_platforms_level() {
    let mut platform = Platform::tdx(4);
    // Without a version of its own, all sixteen components count, and `tdxModule` names the signer.
    platform.put(0, &[5, 0]);
    for level in 0..2 {
        platform.tcb_info["tcbLevels"][level]["tcb"]["tdxtcbcomponents"][1] = json!({"svn": 0});
    }
    platform.tcb_info["tdxModuleIdentities"] = json!([]);
    assert_eq!(outcome(&platform.judge()), [""; 0]);
    platform.put(0, &[4]);
    assert_eq!(outcome(&platform.judge()), ["TEE-INTEL-TCB"]);
    platform.put(0, &[5]);
    platform.tcb_info["tdxModule"]["mrsigner"] = json!("01".repeat(48));
    assert_eq!(outcome(&platform.judge()), ["TEE-TDX-MODULE"]);
}

#[test]
fn a_domain_that_outlived_its_module_is_told_to_relaunch() {
    let mut platform = Platform::tdx(5);
    platform.put(0, &[4]);
    let verdict = platform.judge();
    assert_eq!(outcome(&verdict), ["TEE-INTEL-TCB"]);
    assert!(
        verdict.findings[0]
            .observed
            .as_ref()
            .unwrap()
            .starts_with("TDRelaunchAdvised since 2024-01-01"),
        "{:?}",
        verdict.findings
    );
    platform
        .tdx
        .tcb
        .accepted
        .insert(TcbStatus::TDRelaunchAdvised);
    assert_eq!(outcome(&platform.judge()), [""; 0]);
}

#[test]
fn levels_count_best_first_in_whatever_order_they_stand() {
    let mut platform = Platform::sgx(3);
    let levels = platform.tcb_info["tcbLevels"].as_array_mut().unwrap();
    levels.reverse();
    let levels = platform.identity["tcbLevels"].as_array_mut().unwrap();
    levels.reverse();
    assert_eq!(outcome(&platform.judge()), [""; 0]);
}

#[test]
fn each_fault_of_an_enclave_is_refused_by_its_check() {
    let attacks: &[(&str, &str, Change)] = &[
        ("TEE-SGX-DEBUG", "debugging", &|it| it.put(48, &[7])),
        (
            "TEE-SGX-DEBUG",
            "an enclave that was never initialised",
            &|it| {
                it.put(48, &[4]);
            },
        ),
        ("TEE-SGX-REPORT-DATA", "another question", &|it| {
            it.put(383, &[0])
        }),
        ("TEE-SGX-IMAGE", "another enclave", &|it| it.put(64, &[0])),
        ("TEE-SGX-IMAGE", "an older enclave", &|it| it.put(258, &[8])),
        ("TEE-SGX-IMAGE", "nothing listed", &|it| {
            it.sgx.code = Code::default()
        }),
        ("TEE-SGX-IMAGE", "another signer", &|it| {
            it.sgx.code = signer([0x52; 32], 7);
        }),
        ("TEE-SGX-IMAGE", "another product of the signer", &|it| {
            it.sgx.code = signer([0x51; 32], 8);
        }),
        (
            "TEE-INTEL-COLLATERAL",
            "collateral of trust domains",
            &|it| {
                it.identity["id"] = json!("TD_QE");
                it.tcb_info["id"] = json!("TDX");
            },
        ),
    ];
    each_is_refused(&Platform::sgx(3), attacks);
    let mut platform = Platform::sgx(3);
    platform.sgx.code = signer([0x51; 32], 7);
    assert_eq!(outcome(&platform.judge()), [""; 0]);
}

fn signer(signer: [u8; 32], product: u16) -> Code<sgx::Image> {
    Code::Listed(vec![sgx::Image {
        name: "prod".to_owned(),
        by: sgx::By::Signer { signer, product },
        minimum_svn: 0,
    }])
}

#[test]
fn a_quote_of_one_kind_is_not_judged_as_the_other() {
    let (td, enclave) = (Platform::tdx(4), Platform::sgx(3));
    let verdict = enclave.judge_quote(&td.quote());
    assert_eq!(outcome(&verdict), ["TEE-SGX-KIND"]);
    let verdict = td.judge_quote(&enclave.quote());
    assert_eq!(outcome(&verdict), ["TEE-TDX-KIND"]);
}

#[test]
fn the_chain_in_a_quote_is_leaf_intermediate_and_the_root_of_the_references() {
    let platform = Platform::tdx(4);
    let certificates = attest::x509::pem(&platform.chain()).unwrap();
    let [leaf, intermediate, root] = certificates.as_slice() else {
        panic!("three certificates");
    };
    let mut other = platform.root.clone();
    other.serial = 77;
    let other = other.sign(&ROOT, &ROOT);
    for chain in [
        vec![leaf, intermediate],
        vec![leaf, root],
        vec![intermediate, leaf, root],
        vec![leaf, intermediate, root, root],
        vec![leaf, intermediate, &other],
    ] {
        let chain: String = chain.into_iter().map(|der| pem(der)).collect();
        let verdict = platform.judge_quote(&platform.quote_with(&chain));
        assert_eq!(outcome(&verdict), ["TEE-INTEL-CHAIN"]);
    }
    let verdict = platform.judge_quote(&platform.quote_with("none"));
    assert_eq!(outcome(&verdict), ["TEE-INTEL-STRUCTURE"]);
}

#[test]
fn collateral_under_another_root_does_not_count() {
    let platform = Platform::tdx(4);
    let collateral = platform.open().unwrap();
    let mut other = platform.root.clone();
    other.serial = 77;
    let references = tdx::References {
        roots: Roots::from_pem(&pem(&other.sign(&ROOT, &ROOT))).unwrap(),
        ..platform.tdx.clone()
    };
    // The quote brings the other root as well.
    let chain: String = [
        platform.pck.sign(&PCK, &PLATFORM_CA),
        platform.intermediate.sign(&PLATFORM_CA, &ROOT),
        other.sign(&ROOT, &ROOT),
    ]
    .iter()
    .map(|der| pem(der))
    .collect();
    let evidence = tdx::Evidence {
        quote: &platform.quote_with(&chain),
        event_log: None,
    };
    let expected = tdx::Expectation {
        report_data: platform.report_data,
        now: platform.now,
    };
    let verdict = tdx::verify(&evidence, &collateral, &expected, &references);
    assert_eq!(outcome(&verdict), ["TEE-INTEL-COLLATERAL"]);
}

#[test]
fn every_byte_of_a_forged_quote_before_its_chain_counts() {
    for platform in [Platform::tdx(4), Platform::tdx(5), Platform::sgx(3)] {
        let quote = platform.quote();
        let chain = quote.len() - platform.chain().len();
        let judge = platform.judge_of();
        every_byte_counts("quote", &quote, 0..chain, |quote| judge(quote, None));
    }
}

#[test]
fn a_root_is_one_self_signed_authority() {
    let platform = Platform::tdx(4);
    let root = pem(&platform.root.sign(&ROOT, &ROOT));
    let leaf = pem(&platform.pck.sign(&PCK, &PLATFORM_CA));
    let intermediate = pem(&platform.intermediate.sign(&PLATFORM_CA, &ROOT));
    let forged = pem(&platform.root.sign(&ROOT, &PCK));
    let with = |change: &dyn Fn(&mut Certificate)| {
        let mut root = platform.root.clone();
        change(&mut root);
        pem(&root.sign(&ROOT, &ROOT))
    };
    for text in [
        with(&|it| it.ca = None),
        with(&|it| it.key_usage = Some(SIGN)),
        with(&|it| it.issuer = "another".to_owned()),
        String::new(),
        leaf,
        intermediate,
        forged,
        [root.clone(), root].concat(),
    ] {
        let refused = Roots::from_pem(&text);
        assert_eq!(refused.unwrap_err().code, "TEE-ROOT-STRUCTURE");
    }
}
