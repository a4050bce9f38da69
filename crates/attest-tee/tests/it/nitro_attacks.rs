//! Enclaves and NitroTPMs with one fault each: the check that guards against it says so, and no other.

use crate::der::{CERTIFY, Certificate, SIGN};
use crate::evidence::{every_byte_counts, facts, outcome};
use crate::forge_nitro::{
    Enclave, INSTANCE, LEAF, NULL, OTHER, ROOT, ZONE, array, bytes, now, number, text,
};
use attest_tee::Code;
use attest_tee::nitro::{Image, References, Roots, verify};
use expect_test::expect;
use std::collections::BTreeMap;

type Change = &'static dyn Fn(&mut Enclave);

#[test]
fn good_documents_are_affirmed() {
    for enclave in [Enclave::new(), Enclave::tpm()] {
        let verdict = enclave.judge();
        assert_eq!(outcome(&verdict), [""; 0], "{:?}", verdict.findings);
    }
    expect![[r#"
        machine.tee.debug = false
        machine.tee.endorsement = nitro
        machine.tee.image = prod
        machine.tee.kind = nitro
        machine.tee.measurement = 010101… 48 bytes
        machine.tee.pcr1 = 020202… 48 bytes
        machine.tee.pcr2 = 030303… 48 bytes
        machine.tee.pcr3 = 040404… 48 bytes
        machine.tee.pcr4 = 050505… 48 bytes
        machine.tee.platform = i-0123-enc4567
        machine.tee.revocation = unchecked
        machine.tee.signer = 090909… 48 bytes

        machine.tee.debug = false
        machine.tee.endorsement = nitro
        machine.tee.image = prod
        machine.tee.kind = nitro-tpm
        machine.tee.measurement = 050505… 48 bytes
        machine.tee.platform = i-0123-enc4567
        machine.tee.revocation = unchecked
    "#]]
    .assert_eq(
        &[
            facts(&Enclave::new().judge()),
            facts(&Enclave::tpm().judge()),
        ]
        .join("\n"),
    );
    // As hypervisors of late write it, with a tag, and with something that AWS may add.
    let mut enclave = Enclave::new();
    enclave.open_ended = true;
    enclave.before = vec![0xd2];
    enclave.set(
        "new",
        array(&[text("a"), number(7), vec![NULL, 0xf5][..1].to_vec()]),
    );
    assert_eq!(outcome(&enclave.judge()), [""; 0]);
}

#[test]
fn each_fault_of_a_document_is_refused_by_the_check_that_guards_against_it() {
    let attacks: &[(&str, &str, Change)] = &[
        ("TEE-NITRO-STRUCTURE", "bytes before", &|it| {
            it.before = vec![0]
        }),
        ("TEE-NITRO-STRUCTURE", "another tag", &|it| {
            it.before = vec![0xd1]
        }),
        ("TEE-NITRO-STRUCTURE", "bytes after", &|it| {
            it.after = vec![0]
        }),
        ("TEE-NITRO-STRUCTURE", "another algorithm", &|it| {
            it.protected = vec![0xa1, 0x01, 0x26];
        }),
        ("TEE-NITRO-STRUCTURE", "no algorithm", &|it| {
            it.protected = vec![]
        }),
        ("TEE-NITRO-STRUCTURE", "unprotected headers", &|it| {
            it.unprotected = vec![0xa1, 0x04, 0x40];
        }),
        ("TEE-NITRO-STRUCTURE", "another digest", &|it| {
            it.set("digest", text("SHA256"));
        }),
        ("TEE-NITRO-STRUCTURE", "no digest", &|it| {
            it.fields.retain(|(name, _)| name != "digest");
        }),
        ("TEE-NITRO-STRUCTURE", "no module", &|it| {
            it.fields.retain(|(name, _)| name != "module_id");
        }),
        ("TEE-NITRO-STRUCTURE", "a module of no name", &|it| {
            it.set("module_id", text(""));
        }),
        ("TEE-NITRO-STRUCTURE", "no time", &|it| {
            it.fields.retain(|(name, _)| name != "timestamp");
        }),
        ("TEE-NITRO-STRUCTURE", "no registers", &|it| {
            it.without.push("pcrs".to_owned());
        }),
        ("TEE-NITRO-STRUCTURE", "no certificate", &|it| {
            it.without.push("certificate".to_owned());
        }),
        ("TEE-NITRO-STRUCTURE", "no bundle", &|it| {
            it.without.push("cabundle".to_owned());
        }),
        ("TEE-NITRO-STRUCTURE", "a nonce twice", &|it| {
            it.fields.push(("nonce".to_owned(), bytes(b"nonce")));
        }),
        ("TEE-NITRO-STRUCTURE", "registers of both kinds", &|it| {
            it.fields.push(("nitrotpm_pcrs".to_owned(), vec![0xa0]));
        }),
        ("TEE-NITRO-STRUCTURE", "a register of SHA-256", &|it| {
            it.without.push("pcrs".to_owned());
            let register = [vec![0xa1, 0x00], bytes(&[7; 32])].concat();
            it.fields.push(("pcrs".to_owned(), register));
        }),
        ("TEE-NITRO-STRUCTURE", "a register twice", &|it| {
            it.without.push("pcrs".to_owned());
            let register = [vec![0x00], bytes(&[7; 48])].concat();
            let twice = [vec![0xa2], register.clone(), register].concat();
            it.fields.push(("pcrs".to_owned(), twice));
        }),
        ("TEE-NITRO-STRUCTURE", "a long nonce", &|it| {
            it.set("nonce", bytes(&[7; 1025]));
        }),
        ("TEE-NITRO-SIGNATURE", "another key", &|it| {
            it.signed_by_other = true
        }),
        ("TEE-NITRO-CHAIN", "a leaf by nobody", &|it| {
            it.leaf_by_other = true
        }),
        ("TEE-NITRO-CHAIN", "names that do not match", &|it| {
            it.leaf.issuer = "zone".to_owned();
        }),
        ("TEE-NITRO-CHAIN", "an authority as leaf", &|it| {
            it.leaf.ca = Some(None)
        }),
        ("TEE-NITRO-CHAIN", "a leaf that signs nothing", &|it| {
            it.leaf.key_usage = None;
        }),
        ("TEE-NITRO-CHAIN", "a leaf for other things", &|it| {
            it.leaf.key_usage = Some(CERTIFY);
        }),
        (
            "TEE-NITRO-CHAIN",
            "an instance that is no authority",
            &|it| {
                it.instance.ca = None;
            },
        ),
        (
            "TEE-NITRO-CHAIN",
            "an instance that may not certify",
            &|it| {
                it.instance.key_usage = Some(SIGN);
            },
        ),
        ("TEE-NITRO-CHAIN", "a path that is too long", &|it| {
            it.zone.ca = Some(Some(0));
        }),
        ("TEE-NITRO-CHAIN", "an empty bundle", &|it| {
            it.bundle = Some(vec![])
        }),
        ("TEE-NITRO-CHAIN", "a bundle without the root", &|it| {
            it.bundle = Some(vec![
                it.zone.sign(&ZONE, &ROOT),
                it.instance.sign(&INSTANCE, &ZONE),
            ]);
        }),
        (
            "TEE-NITRO-CHAIN",
            "a bundle under a root of its own",
            &|it| {
                let root = Certificate::authority("aws.nitro-enclaves", "aws.nitro-enclaves", 1);
                it.bundle = Some(vec![
                    root.sign(&OTHER, &OTHER),
                    it.zone.sign(&ZONE, &OTHER),
                    it.instance.sign(&INSTANCE, &ZONE),
                ]);
            },
        ),
        ("TEE-NITRO-CHAIN", "a bundle with a gap", &|it| {
            it.bundle = Some(vec![
                it.root.sign(&ROOT, &ROOT),
                it.instance.sign(&INSTANCE, &ZONE),
            ]);
        }),
        ("TEE-NITRO-CHAIN", "a bundle with noise", &|it| {
            it.bundle = Some(vec![it.root.sign(&ROOT, &ROOT), vec![0x30, 0x00]]);
        }),
        ("TEE-NITRO-VALIDITY", "an expired leaf", &|it| {
            it.leaf.not_after = now().minus_secs(1);
        }),
        ("TEE-NITRO-VALIDITY", "a leaf of tomorrow", &|it| {
            it.leaf.not_before = now().plus_secs(1);
        }),
        ("TEE-NITRO-VALIDITY", "an expired instance", &|it| {
            it.instance.not_after = now().minus_secs(1);
        }),
        ("TEE-NITRO-VALIDITY", "an expired root", &|it| {
            it.root.not_after = now().minus_secs(1);
        }),
        ("TEE-NITRO-TIME", "an old document", &|it| {
            it.set("timestamp", number(now().as_millis() - 300_001));
        }),
        ("TEE-NITRO-TIME", "a document of the future", &|it| {
            it.set("timestamp", number(now().as_millis() + 60_001));
        }),
        ("TEE-NITRO-DEBUG", "debug mode", &|it| {
            for index in 0..3 {
                it.pcrs.insert(index, [0; 48]);
            }
            it.references.code = Code::LeftToPolicy;
        }),
        ("TEE-NITRO-DEBUG", "no registers of an image", &|it| {
            it.pcrs.retain(|index, _| *index > 2);
            it.references.code = Code::LeftToPolicy;
        }),
        ("TEE-NITRO-NONCE", "another nonce", &|it| {
            it.set("nonce", bytes(b"nonse"))
        }),
        ("TEE-NITRO-NONCE", "no nonce", &|it| {
            it.set("nonce", vec![NULL])
        }),
        (
            "TEE-NITRO-USER-DATA",
            "no user data where some is asked for",
            &|it| {
                it.expectation.user_data = Some(b"data".to_vec());
            },
        ),
        ("TEE-NITRO-PUBLIC-KEY", "another key", &|it| {
            it.set("public_key", bytes(b"another key"));
        }),
        ("TEE-NITRO-UNASKED", "nothing is asked", &|it| {
            it.expectation.nonce = None;
            it.expectation.public_key = None;
        }),
        ("TEE-NITRO-IMAGE", "another image", &|it| {
            it.pcrs.insert(0, [9; 48]);
        }),
        ("TEE-NITRO-IMAGE", "another signer", &|it| {
            it.pcrs.insert(8, [1; 48]);
        }),
        ("TEE-NITRO-IMAGE", "nothing listed", &|it| {
            it.references.code = Code::default();
        }),
        ("TEE-NITRO-IMAGE", "an image that says nothing", &|it| {
            it.references.code = Code::Listed(vec![Image {
                name: "any".to_owned(),
                pcrs: BTreeMap::new(),
            }]);
        }),
        ("TEE-NITRO-IMAGE", "a register that is not there", &|it| {
            it.references.code = Code::Listed(vec![Image {
                name: "prod".to_owned(),
                pcrs: BTreeMap::from([(31, [0; 48])]),
            }]);
        }),
    ];
    for (code, what, change) in attacks {
        let mut enclave = Enclave::new();
        change(&mut enclave);
        let verdict = enclave.judge();
        assert_eq!(outcome(&verdict), [*code], "{what}: {:?}", verdict.findings);
    }
}

#[test]
fn a_tpm_that_measured_nothing_is_refused() {
    let mut tpm = Enclave::tpm();
    for value in tpm.pcrs.values_mut() {
        *value = [0; 48];
    }
    tpm.references.code = Code::LeftToPolicy;
    assert_eq!(outcome(&tpm.judge()), ["TEE-NITRO-DEBUG"]);
    tpm.pcrs.insert(15, [1; 48]);
    assert_eq!(outcome(&tpm.judge()), [""; 0]);
}

#[test]
fn without_a_root_nothing_is_believed() {
    let enclave = Enclave::new();
    let references = References {
        roots: Roots::default(),
        ..enclave.references.clone()
    };
    let verdict = verify(&enclave.document(), &enclave.expectation, &references);
    assert_eq!(outcome(&verdict), ["TEE-NITRO-CHAIN"]);
}

#[test]
fn a_key_of_another_kind_signs_no_document() {
    let mut enclave = Enclave::new();
    let p256 = crypto::KeyPair::generate(crypto::Algorithm::EcdsaP256).unwrap();
    enclave.without.push("certificate".to_owned());
    let leaf = enclave.leaf.sign(&p256, &INSTANCE);
    enclave
        .fields
        .push(("certificate".to_owned(), bytes(&leaf)));
    assert_eq!(outcome(&enclave.judge()), ["TEE-NITRO-SIGNATURE"]);
    let leaf = enclave.leaf.sign(&LEAF, &INSTANCE);
    enclave.fields.pop();
    enclave
        .fields
        .push(("certificate".to_owned(), bytes(&leaf)));
    assert_eq!(outcome(&enclave.judge()), [""; 0]);
}

#[test]
fn every_byte_of_a_forged_document_counts() {
    for enclave in [Enclave::new(), Enclave::tpm()] {
        let document = enclave.document();
        let references = enclave.references();
        every_byte_counts("document", &document, 0..document.len(), |document| {
            verify(document, &enclave.expectation, &references)
        });
    }
}
