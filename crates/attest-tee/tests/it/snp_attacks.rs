//! SEV-SNP machines with one fault each: the check that guards against it says so, and no other.

use crate::der::{element, integer, pem};
use crate::evidence::{day, every_byte_counts, facts, outcome};
use crate::forge_snp::{AUTHORITY, Machine, OTHER, ROOT, extension, now, order};
use attest_tee::snp::{By, Generation, Image, Policy, Roots, Tcb};
use attest_tee::{Code, Revocation};
use expect_test::expect;

type Change = &'static dyn Fn(&mut Machine);

fn set_extension(machine: &mut Machine, tail: &[u64], value: Vec<u8>) {
    let (oid, critical, value) = extension(tail, value);
    let extensions = &mut machine.certificate.extensions;
    extensions.retain(|(other, _, _)| *other != oid);
    extensions.push((oid, critical, value));
}

fn remove_extension(machine: &mut Machine, tail: &[u64]) {
    let (oid, _, _) = extension(tail, Vec::new());
    machine
        .certificate
        .extensions
        .retain(|(other, _, _)| *other != oid);
}

fn image(by: By) -> Code<Image> {
    Code::Listed(vec![Image {
        name: "prod".to_owned(),
        by,
        minimum_svn: 0,
        family_id: None,
        image_id: None,
        host_data: None,
    }])
}

#[test]
fn good_machines_of_every_generation_and_key_are_affirmed() {
    for generation in Generation::ALL {
        let machine = Machine::new(generation);
        assert_eq!(outcome(&machine.judge()), [""; 0], "{generation:?}");
        let machine = machine.with_vlek();
        assert_eq!(outcome(&machine.judge()), [""; 0], "{generation:?} VLEK");
    }
    expect![[r#"
        machine.tee.author = a0a0a0… 48 bytes
        machine.tee.debug = false
        machine.tee.endorsement = vcek
        machine.tee.generation = turin
        machine.tee.host_data = 404040… 32 bytes
        machine.tee.image = prod
        machine.tee.kind = sev-snp
        machine.tee.measurement = 3e3e3e… 48 bytes
        machine.tee.platform = c1c1c1… 8 bytes
        machine.tee.revocation = checked
        machine.tee.signer = 1e1e1e… 48 bytes
        machine.tee.svn = 7
        machine.tee.tcb.bootloader = 1
        machine.tee.tcb.fmc = 3
        machine.tee.tcb.microcode = 217
        machine.tee.tcb.snp = 0
        machine.tee.tcb.tee = 0
        machine.tee.version = 5
        machine.tee.vmpl = 0
    "#]]
    .assert_eq(&facts(&Machine::new(Generation::Turin).judge()));
}

#[test]
fn reports_of_all_versions_are_read() {
    for version in [2_u32, 3, 5] {
        let mut machine = Machine::new(Generation::Milan);
        machine.put(0, &version.to_le_bytes());
        if version == 2 {
            machine.put(0x188, &[0; 3]);
        }
        assert_eq!(outcome(&machine.judge()), [""; 0], "{version}");
    }
}

#[test]
fn each_fault_of_a_machine_is_refused_by_the_check_that_guards_against_it() {
    let attacks: &[(&str, &str, Change)] = &[
        ("TEE-SNP-VERSION", "version 1", &|it| it.put(0, &[1])),
        ("TEE-SNP-VERSION", "version 4", &|it| it.put(0, &[4])),
        ("TEE-SNP-VERSION", "version 6", &|it| it.put(0, &[6])),
        ("TEE-SNP-STRUCTURE", "another algorithm", &|it| {
            it.put(0x34, &[2]);
        }),
        ("TEE-SNP-SIGNATURE", "another key", &|it| {
            it.signed_by_other = true;
        }),
        ("TEE-SNP-CHAIN", "a certificate of nobody", &|it| {
            it.certified_by_other = true;
        }),
        ("TEE-SNP-CHAIN", "another issuer's name", &|it| {
            it.certificate.issuer = "SEV-Rome".to_owned();
        }),
        ("TEE-SNP-CHAIN", "the root itself as issuer", &|it| {
            it.certificate.issuer.clone_from(&it.root.subject);
        }),
        ("TEE-SNP-SIGNING-KEY", "a VLEK says it is a VCEK", &|it| {
            *it = it.clone().with_vlek();
            it.put(0x48, &[1]);
        }),
        ("TEE-SNP-SIGNING-KEY", "a VCEK says it is a VLEK", &|it| {
            it.put(0x48, &[0b101]);
        }),
        ("TEE-SNP-SIGNING-KEY", "unsigned by its own words", &|it| {
            it.put(0x48, &[0b1_1101]);
        }),
        ("TEE-SNP-CHIP", "another chip", &|it| it.put(0x1a0, &[0xc2])),
        ("TEE-SNP-CHIP", "a masked chip", &|it| {
            it.put(0x1a0, &[0; 64])
        }),
        ("TEE-SNP-GENERATION", "another processor", &|it| {
            it.put(0x188, &[0x19, 0x11]);
        }),
        ("TEE-SNP-GENERATION", "an unknown processor", &|it| {
            it.put(0x188, &[0x17, 0x31]);
        }),
        (
            "TEE-SNP-GENERATION",
            "a generation that is not accepted",
            &|it| {
                it.references.generations = vec![(Generation::Turin, Tcb::default())];
            },
        ),
        ("TEE-SNP-TCB", "an old reported TCB", &|it| {
            it.put(0x186, &[0x17]);
            set_extension(it, &[3, 3], integer(0x17));
        }),
        ("TEE-SNP-TCB", "an old committed TCB", &|it| {
            it.put(0x1e0, &[2])
        }),
        ("TEE-SNP-TCB", "launched under an old TCB", &|it| {
            it.put(0x1f7, &[0xd8]);
        }),
        ("TEE-SNP-DEBUG", "debugging", &|it| it.put(0x0a, &[0b1011])),
        ("TEE-SNP-POLICY", "a migration agent", &|it| {
            it.put(0x0a, &[0b111])
        }),
        ("TEE-SNP-POLICY", "CXL", &|it| it.put(0x0a, &[0b10_0011])),
        ("TEE-SNP-POLICY", "a reserved one that is zero", &|it| {
            it.put(0x0a, &[0b1]);
        }),
        ("TEE-SNP-POLICY", "a bit that is asked for", &|it| {
            it.references.policy.required = Policy::SINGLE_SOCKET;
        }),
        ("TEE-SNP-POLICY", "a bit that is forbidden", &|it| {
            it.references.policy.forbidden = Policy::SMT;
        }),
        ("TEE-SNP-PLATFORM", "a platform bit", &|it| {
            it.references.policy.platform = Policy::PLATFORM_TSME;
        }),
        ("TEE-SNP-VMPL", "a less privileged level", &|it| {
            it.put(0x30, &[1])
        }),
        ("TEE-SNP-VMPL", "the host itself", &|it| {
            it.put(0x30, &[0xff; 4]);
        }),
        ("TEE-SNP-VMPL", "the host, where any level may ask", &|it| {
            it.put(0x30, &[0xff; 4]);
            it.references.policy.vmpl = u32::MAX;
        }),
        (
            "TEE-SNP-REPORT-DATA",
            "the last byte of another question",
            &|it| {
                it.put(0x8f, &[0]);
            },
        ),
        ("TEE-SNP-IMAGE", "another measurement", &|it| {
            it.put(0xbf, &[0])
        }),
        ("TEE-SNP-IMAGE", "an older image", &|it| it.put(0x04, &[6])),
        ("TEE-SNP-IMAGE", "another family", &|it| it.put(0x10, &[0])),
        ("TEE-SNP-IMAGE", "another image", &|it| it.put(0x20, &[0])),
        ("TEE-SNP-IMAGE", "other host data", &|it| it.put(0xdf, &[0])),
        ("TEE-SNP-IMAGE", "nothing listed", &|it| {
            it.references.code = Code::default();
        }),
        ("TEE-SNP-IMAGE", "no ID key where zeros are listed", &|it| {
            it.references.code = image(By::IdKey([0; 48]));
            it.put(0xe0, &[0; 48]);
        }),
        ("TEE-SNP-IMAGE", "another ID key", &|it| {
            it.references.code = image(By::IdKey([0x1e; 48]));
            it.put(0x10f, &[0x1f]);
        }),
        ("TEE-SNP-IMAGE", "another author key", &|it| {
            it.references.code = image(By::AuthorKey([0xa0; 48]));
            it.put(0x13f, &[0xa1]);
        }),
        (
            "TEE-SNP-IMAGE",
            "an author key that was not checked",
            &|it| {
                it.references.code = image(By::AuthorKey([0xa0; 48]));
                it.put(0x48, &[0]);
            },
        ),
        ("TEE-SNP-VALIDITY", "an expired key", &|it| {
            it.certificate.not_after = now().minus_secs(1);
        }),
        ("TEE-SNP-VALIDITY", "a key of tomorrow", &|it| {
            it.certificate.not_before = now().plus_secs(1);
        }),
        ("TEE-SNP-VALIDITY", "an expired authority", &|it| {
            it.authority.not_after = now().minus_secs(1);
        }),
        ("TEE-SNP-VALIDITY", "an expired root", &|it| {
            it.root.not_after = now().minus_secs(1);
        }),
        ("TEE-SNP-CRL", "no list", &|it| it.list = None),
        ("TEE-SNP-CRL", "a list by another key", &|it| {
            it.listed_by_other = true;
        }),
        ("TEE-SNP-CRL", "a list by another name", &|it| {
            it.list.as_mut().unwrap().issuer = "ARK-Rome".to_owned();
        }),
        ("TEE-SNP-CRL", "a list of yesterday", &|it| {
            it.list.as_mut().unwrap().next_update = Some(now().minus_secs(1));
        }),
        ("TEE-SNP-CRL", "a list of tomorrow", &|it| {
            it.list.as_mut().unwrap().this_update = now().plus_secs(1);
        }),
        ("TEE-SNP-CRL", "a list without an end", &|it| {
            it.list.as_mut().unwrap().next_update = None;
        }),
        ("TEE-SNP-CRL", "a list with what nobody knows", &|it| {
            it.list.as_mut().unwrap().critical = true;
        }),
        ("TEE-SNP-CRL", "a root that may not sign lists", &|it| {
            it.root.key_usage = Some(crate::der::CERTIFY);
        }),
        ("TEE-SNP-REVOKED", "a revoked authority", &|it| {
            it.list.as_mut().unwrap().revoked.push(2);
        }),
        (
            "TEE-SNP-KEY-STRUCTURE",
            "an authority as report key",
            &|it| {
                it.certificate.ca = Some(None);
            },
        ),
        ("TEE-SNP-KEY-STRUCTURE", "no product", &|it| {
            remove_extension(it, &[2]);
        }),
        ("TEE-SNP-KEY-STRUCTURE", "another product", &|it| {
            set_extension(it, &[2], element(0x16, b"Rome-B0"));
        }),
        (
            "TEE-SNP-KEY-STRUCTURE",
            "neither chip nor provider",
            &|it| {
                remove_extension(it, &[4]);
            },
        ),
        ("TEE-SNP-KEY-STRUCTURE", "chip and provider", &|it| {
            set_extension(it, &[5], element(0x16, b"CN=cloud.example"));
        }),
        ("TEE-SNP-KEY-STRUCTURE", "a short chip id", &|it| {
            set_extension(it, &[4], vec![0xc1; 7]);
        }),
        ("TEE-SNP-KEY-STRUCTURE", "a chip id of zeros", &|it| {
            set_extension(it, &[4], vec![0; 64]);
        }),
        ("TEE-SNP-KEY-STRUCTURE", "a negative SVN", &|it| {
            set_extension(it, &[3, 8], vec![0x02, 0x01, 0xd9]);
        }),
        ("TEE-SNP-KEY-STRUCTURE", "an SVN and more", &|it| {
            set_extension(it, &[3, 8], vec![0x02, 0x01, 0x01, 0x00]);
        }),
    ];
    for (code, what, change) in attacks {
        let mut machine = Machine::new(Generation::Milan);
        change(&mut machine);
        assert_eq!(outcome(&machine.judge()), [*code], "{what}");
    }
}

#[test]
fn a_report_has_one_length() {
    let machine = Machine::new(Generation::Milan);
    let (report, key, list) = (
        machine.signed_report(),
        machine.key_certificate(),
        machine.crl().unwrap(),
    );
    for other in [&report[..1183], &[&report[..], &[0]].concat()] {
        let verdict = machine.judge_with(other, &key, Some(&list));
        assert_eq!(outcome(&verdict), ["TEE-SNP-STRUCTURE"]);
    }
}

#[test]
fn a_chip_with_a_short_id_has_zeros_behind_it() {
    let mut machine = Machine::new(Generation::Turin);
    machine.put(0x1a8, &[1]);
    assert_eq!(outcome(&machine.judge()), ["TEE-SNP-CHIP"]);
}

#[test]
fn a_key_on_another_curve_signs_no_reports() {
    let machine = Machine::new(Generation::Milan);
    let p256 = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    let key = machine.certificate.sign(&p256, &AUTHORITY);
    let verdict = machine.judge_with(&machine.signed_report(), &key, machine.crl().as_deref());
    assert_eq!(outcome(&verdict), ["TEE-SNP-KEY-STRUCTURE"]);
}

#[test]
fn every_byte_of_a_forged_report_its_key_and_its_list_counts() {
    let machine = Machine::new(Generation::Turin);
    let (report, key, list) = (
        machine.signed_report(),
        machine.key_certificate(),
        machine.crl().unwrap(),
    );
    every_byte_counts("report", &report, 0..report.len(), |report| {
        machine.judge_with(report, &key, Some(&list))
    });
    every_byte_counts("key", &key, 0..key.len(), |key| {
        machine.judge_with(&report, key, Some(&list))
    });
    every_byte_counts("list", &list, 0..list.len(), |list| {
        machine.judge_with(&report, &key, Some(list))
    });
}

#[test]
fn every_part_of_the_tcb_in_the_certificate_is_that_of_the_report() {
    for generation in Generation::ALL {
        for (index, number) in order(generation).into_iter().enumerate() {
            let mut machine = Machine::new(generation);
            let svn = machine.report[0x180 + index];
            set_extension(&mut machine, &[3, number], integer(u64::from(svn) + 1));
            assert_eq!(
                outcome(&machine.judge()),
                ["TEE-SNP-KEY-TCB"],
                "{generation:?}, {number}"
            );
            remove_extension(&mut machine, &[3, number]);
            assert_eq!(
                outcome(&machine.judge()),
                ["TEE-SNP-KEY-STRUCTURE"],
                "{generation:?}, {number}"
            );
        }
    }
}

#[test]
fn images_are_known_by_measurement_or_by_who_signed_them() {
    for by in [
        By::Measurement([0x3e; 48]),
        By::IdKey([0x1e; 48]),
        By::AuthorKey([0xa0; 48]),
    ] {
        let mut machine = Machine::new(Generation::Milan);
        machine.references.code = image(by);
        assert_eq!(outcome(&machine.judge()), [""; 0], "{by:?}");
    }
}

#[test]
fn a_list_that_need_not_be_there_counts_when_it_is() {
    let mut machine = Machine::new(Generation::Milan);
    machine.references.revocation = Revocation::IfPresent;
    machine.list.as_mut().unwrap().revoked.push(2);
    assert_eq!(outcome(&machine.judge()), ["TEE-SNP-REVOKED"]);
    machine.list = None;
    let verdict = machine.judge();
    assert_eq!(outcome(&verdict), [""; 0]);
    assert_eq!(
        verdict.facts.text("machine.tee.revocation"),
        Some("unchecked")
    );
}

#[test]
fn reports_of_two_machines_do_not_make_one() {
    let machine = Machine::new(Generation::Genoa);
    let mut other = machine.clone();
    other.put(0x1a0, &[0xc2; 64]);
    set_extension(&mut other, &[4], vec![0xc2; 64]);
    let (one, two) = (machine.judge(), other.judge());
    assert_eq!((outcome(&one), outcome(&two)), (vec![], vec![]));
    let both = attest::compose(vec![one.clone(), one.clone()]);
    assert_eq!(outcome(&both), [""; 0]);
    assert_eq!(
        outcome(&attest::compose(vec![one, two])),
        ["ATTEST-CONFLICT"]
    );
}

#[test]
fn all_faults_are_named_at_once() {
    let mut machine = Machine::new(Generation::Milan);
    machine.put(0x0a, &[0b1011]);
    machine.put(0x50, &[0]);
    machine.certificate.not_after = day(2020, 12, 1);
    assert_eq!(
        outcome(&machine.judge()),
        ["TEE-SNP-VALIDITY", "TEE-SNP-DEBUG", "TEE-SNP-REPORT-DATA"]
    );
}

#[test]
fn roots_are_chains_of_authorities() {
    let machine = Machine::new(Generation::Milan);
    let root = pem(&machine.root.sign(&ROOT, &ROOT));
    let authority = pem(&machine.authority.sign(&AUTHORITY, &ROOT));
    let forged = pem(&machine.authority.sign(&AUTHORITY, &OTHER));
    let unsigned = pem(&machine.root.sign(&ROOT, &OTHER));
    let leaf = pem(&machine.key_certificate());
    let mut stray = machine.authority.clone();
    stray.issuer = "ARK-Rome".to_owned();
    let stray = pem(&stray.sign(&AUTHORITY, &ROOT));
    for (chain, why) in [
        (String::new(), "nothing"),
        (authority.clone(), "no root"),
        ([root.clone(), root.clone()].concat(), "two roots"),
        ([root.clone(), forged.clone()].concat(), "signed by another"),
        (
            [root.clone(), stray.clone()].concat(),
            "another root's name",
        ),
        (
            [unsigned, authority.clone()].concat(),
            "a root not of itself",
        ),
        ([root.clone(), leaf.clone()].concat(), "a leaf"),
    ] {
        let refused = Roots::default().add(Generation::Milan, &chain);
        assert_eq!(refused.unwrap_err().code, "TEE-ROOT-STRUCTURE", "{why}");
    }
    let mut roots = Roots::default();
    roots.add(Generation::Milan, &root).unwrap();
    roots.extend(&[authority, root].concat()).unwrap();
    for chain in [forged, leaf, stray] {
        let refused = roots.extend(&chain);
        assert_eq!(refused.unwrap_err().code, "TEE-ROOT-STRUCTURE");
    }
}
