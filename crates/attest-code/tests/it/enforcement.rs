//! fs-verity digests, IPE policies and manifests, made from references.

use crate::common::{code, folder};
use crate::forge::certificate::Issuer;
use crate::forge::{ARTIFACT, NOW, key};
use attest_code::{
    CodeDigest, CodeReferences, DigestReference, FsVerityAlgorithm, FsVerityDigest, IpePolicy,
    Manifest, Operation, PolicyPlan, PolicyVersion, SignedPolicy, Window,
};
use crypto::{Algorithm, KeyPair};
use expect_test::expect;
use facts::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The digest that the recorded kernel measured, and let run.
const MEASURED: &str = "sha256:a224f1352eb5cba6a311e882ee8f4d8a2b0c4ab067bfa3b1233aea8ecb3328f4";

pub(crate) fn approving(digests: &[(&str, &str, Window)]) -> CodeReferences {
    let digests = digests
        .iter()
        .map(|(digest, label, window)| DigestReference {
            digest: CodeDigest::FsVerity(FsVerityDigest::parse(digest).unwrap()),
            label: (*label).to_owned(),
            source: "lab".to_owned(),
            window: *window,
        })
        .collect();
    CodeReferences::new(BTreeMap::new(), digests, Vec::new(), Vec::new()).unwrap()
}

const fn version(major: u16, minor: u16, revision: u16) -> PolicyVersion {
    PolicyVersion {
        major,
        minor,
        revision,
    }
}

pub(crate) fn plan() -> PolicyPlan {
    PolicyPlan {
        name: "lab".to_owned(),
        version: version(0, 0, 1),
        after: None,
        deny: BTreeSet::from([Operation::Execute]),
        boot_verified: true,
    }
}

fn always() -> Window {
    Window::default()
}

#[test]
fn a_policy_says_what_the_recorded_one_says() {
    let references = approving(&[(MEASURED, "app", always())]);
    let policy = IpePolicy::new(plan(), &references, NOW).unwrap();
    let text = policy.text();
    expect![[r"
        policy_name=lab policy_version=0.0.1
        DEFAULT action=ALLOW
        DEFAULT op=EXECUTE action=DENY
        op=EXECUTE boot_verified=TRUE action=ALLOW
        # app
        op=EXECUTE fsverity_digest=sha256:a224f1352eb5cba6a311e882ee8f4d8a2b0c4ab067bfa3b1233aea8ecb3328f4 action=ALLOW
    "]]
    .assert_eq(&text);
    let Some(lab) = folder("attest_code::ipe_boot", "lab/uki-612-ipe-secureboot") else {
        return;
    };
    let recorded = std::fs::read_to_string(lab.join("ipe.pol")).unwrap();
    let rules: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(rules, recorded.lines().collect::<Vec<_>>());
}

#[test]
fn only_what_counts_now_may_run() {
    let other = format!("sha512:{}", "ab".repeat(64));
    let day = |days: u64| NOW.minus_secs(9 * 86_400).plus_secs(days * 86_400);
    let until = |days| Window {
        from: None,
        until: Some(day(days)),
    };
    let from = |days| Window {
        from: Some(day(days)),
        until: None,
    };
    let references = approving(&[
        (MEASURED, "app 1", until(9)),
        (MEASURED, "app 2\u{e9}", from(9)),
        (&other, "withdrawn", until(1)),
        (&other, "next week", from(16)),
    ]);
    let mut plan = PolicyPlan {
        boot_verified: false,
        ..plan()
    };
    plan.deny
        .extend([Operation::KernelModule, Operation::KexecImage]);
    let policy = IpePolicy::new(plan.clone(), &references, NOW).unwrap();
    expect![[r"
        policy_name=lab policy_version=0.0.1
        DEFAULT action=ALLOW
        DEFAULT op=EXECUTE action=DENY
        DEFAULT op=KMODULE action=DENY
        DEFAULT op=KEXEC_IMAGE action=DENY
        # app 2?
        op=EXECUTE fsverity_digest=sha256:a224f1352eb5cba6a311e882ee8f4d8a2b0c4ab067bfa3b1233aea8ecb3328f4 action=ALLOW
    "]]
    .assert_eq(&policy.text());
    let later = IpePolicy::new(plan, &references, day(30)).unwrap();
    assert_eq!(later.digests().count(), 2);
    let manifest = Manifest::new(&references, None, NOW);
    let labels: Vec<&str> = manifest
        .files
        .iter()
        .map(|file| file.label.as_str())
        .collect();
    assert_eq!(labels, ["app 2\u{e9}", "next week"]);
    assert_eq!(
        Manifest::parse(manifest.to_json().as_bytes()).unwrap(),
        manifest
    );
}

#[test]
fn policies_that_would_do_harm_are_not_made() {
    let references = approving(&[(MEASURED, "app", always())]);
    let refused = |plan| IpePolicy::new(plan, &references, NOW).unwrap_err().code;
    let named = |name: &str| PolicyPlan {
        name: name.to_owned(),
        ..plan()
    };
    let long = "x".repeat(65);
    for name in [
        "",
        "a b",
        "a\nop=EXECUTE action=ALLOW",
        "../x",
        ".hidden",
        "é",
        long.as_str(),
    ] {
        assert_eq!(refused(named(name)), "IPE-NAME", "{name:?}");
    }
    for after in [version(0, 0, 1), version(0, 1, 0)] {
        assert_eq!(
            refused(PolicyPlan {
                after: Some(after),
                ..plan()
            }),
            "IPE-VERSION"
        );
    }
    let higher = PolicyPlan {
        version: version(0, 0, 2),
        after: Some(version(0, 0, 1)),
        ..plan()
    };
    assert!(IpePolicy::new(higher, &references, NOW).is_ok());
    let nothing = CodeReferences::default();
    assert_eq!(code(&IpePolicy::new(plan(), &nothing, NOW)), "IPE-EMPTY");
    let mut other = plan();
    other.deny = BTreeSet::from([Operation::KernelModule]);
    assert!(IpePolicy::new(other, &nothing, NOW).is_ok());
}

/// A self-made certificate for a key.
fn owner(algorithm: Algorithm) -> (KeyPair, Vec<u8>) {
    let pair = key(algorithm);
    let issuer = Issuer::new("owner.test", &["code"]);
    let validity = (
        Timestamp::from_secs(1_700_000_000),
        Timestamp::from_secs(1_900_000_000),
    );
    let name = crate::forge::der::name("owner.test", "db");
    let public = crypto::Signer::public_key(&pair);
    let der = crate::forge::certificate::issue(&name, &name, public, validity, &[], &issuer.key);
    (pair, der)
}

#[test]
fn a_signed_policy_is_believed_by_its_own_certificate_only() {
    let references = approving(&[(MEASURED, "app", always())]);
    let policy = IpePolicy::new(plan(), &references, NOW).unwrap();
    for algorithm in [Algorithm::EcdsaP256, Algorithm::EcdsaP384] {
        let (pair, certificate) = owner(algorithm);
        let signed = policy.sign(&certificate, &pair).unwrap();
        let read = SignedPolicy::verify(signed.der(), &[&certificate]).unwrap();
        assert_eq!(read, signed);
        assert_eq!((read.name(), read.version()), ("lab", version(0, 0, 1)));
        let (_, other) = owner(algorithm);
        assert_eq!(
            code(&SignedPolicy::verify(signed.der(), &[&other])),
            "IPE-SIGNER"
        );
        assert_eq!(code(&SignedPolicy::verify(signed.der(), &[])), "IPE-SIGNER");
        let (another, _) = owner(algorithm);
        assert_eq!(code(&policy.sign(&certificate, &another)), "IPE-SIGNER");
        for at in 0..signed.der().len() {
            let mut changed = signed.der().to_vec();
            changed[at] ^= 1;
            if let Ok(read) = SignedPolicy::verify(&changed, &[&certificate]) {
                // Only the certificate that comes along, and version numbers, say nothing that is believed.
                assert_eq!(read.text(), signed.text(), "byte {at}");
            }
        }
        for cut in 0..signed.der().len() {
            assert!(SignedPolicy::verify(&signed.der()[..cut], &[&certificate]).is_err());
        }
        let detached = policy.sign_detached(&certificate, &pair).unwrap();
        assert_eq!(
            code(&SignedPolicy::verify(&detached, &[&certificate])),
            "IPE-STRUCTURE"
        );
    }
    let (pair, certificate) = owner(Algorithm::Ed25519);
    assert_eq!(code(&policy.sign(&certificate, &pair)), "IPE-SIGNER");
}

#[test]
fn the_recorded_policies_are_read_as_the_kernel_read_them() {
    let Some(lab) = folder("attest_code::ipe_boot", "lab/uki-612-ipe-secureboot") else {
        return;
    };
    let read = |name: &str| std::fs::read(lab.join(name)).unwrap();
    let db = std::fs::read(lab.join("../uki-own-keys-secureboot/keys/db.crt")).unwrap();
    let signed = SignedPolicy::verify(&read("ipe.p7b"), &[&db]).unwrap();
    assert_eq!((signed.name(), signed.version()), ("lab", version(0, 0, 1)));
    assert_eq!(signed.text().as_bytes(), read("ipe.pol"));
    let console = String::from_utf8(read("console-excerpt.txt")).unwrap();
    let digest = crypto::hex::encode(&signed.sha256()).to_uppercase();
    assert!(console.contains(&format!("policy_digest=sha256:{digest}")));
    // The one that the kernel refused with ENOKEY.
    assert_eq!(
        code(&SignedPolicy::verify(&read("ipe-other.p7b"), &[&db])),
        "IPE-SIGNER"
    );
}

#[test]
fn the_empty_file_and_one_block_are_as_the_kernel_has_them() {
    // `fsverity digest` of an empty file and of the bytes below.
    let of = |bytes: &[u8]| FsVerityDigest::of_bytes(FsVerityAlgorithm::Sha256, bytes).to_string();
    expect![[r"
        sha256:3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95
    "]]
    .assert_eq(&(of(b"") + "\n"));
    assert_ne!(of(ARTIFACT), of(b""));
}

#[test]
fn a_manifest_is_data_of_its_version() {
    for text in [
        "",
        "{}",
        "{\"v\":2,\"files\":[]}",
        "{\"v\":1,\"files\":[],\"x\":1}",
    ] {
        assert_eq!(
            code(&Manifest::parse(text.as_bytes())),
            "CODE-MANIFEST",
            "{text}"
        );
    }
    let bad = "{\"v\":1,\"files\":[{\"fsverity\":\"x\",\"label\":\"a\",\"source\":\"b\"}]}";
    assert_eq!(code(&Manifest::parse(bad.as_bytes())), "CODE-FSVERITY");
}
