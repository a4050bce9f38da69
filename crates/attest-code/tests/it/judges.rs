//! Judges from outside: OpenSSL reads our signed policies, signs blobs and stamps signatures; fsverity-utils,
//! by the kernel's own people, computes the same digests.

use crate::common::{code, codes, references, release};
use crate::enforcement::{approving, plan};
use crate::forge::certificate::LeafScript;
use crate::forge::log::EntryScript;
use crate::forge::{ARTIFACT, Deployment, Script, forge, root_of};
use attest_code::{
    Artifact, CodeReferences, FsVerityAlgorithm, FsVerityDigest, IpePolicy, SignedPolicy, Signer,
    Window, verify_blob, verify_bundle,
};
use crypto::{KeyPair, base64};
use facts::Timestamp;
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn tool(test: &str, name: &str) -> Option<PathBuf> {
    let found = testkit::tool(name);
    if found.is_none() {
        testkit::skip(test, &format!("{name} is not installed"));
    }
    found
}

/// Runs it in a folder and gives what it printed.
fn run(program: &Path, folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = Command::new(program)
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn pem_to_der(text: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(text).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    base64::decode(&body).unwrap()
}

const MEASURED: &str = "sha256:a224f1352eb5cba6a311e882ee8f4d8a2b0c4ab067bfa3b1233aea8ecb3328f4";

#[test]
fn openssl_believes_our_signed_policies() {
    let Some(openssl) = tool("attest_code::openssl", "openssl") else {
        return;
    };
    let folder = testkit::temp_dir().unwrap();
    let here = folder.path();
    let references = approving(&[(MEASURED, "app", Window::default())]);
    let policy = IpePolicy::new(plan(), &references, Timestamp::EPOCH).unwrap();
    fs::write(here.join("policy"), policy.text()).unwrap();
    let kinds: [&[&str]; 3] = [
        &["rsa:2048"],
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
        &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
    ];
    for kind in kinds {
        let mut make = vec![
            "req", "-x509", "-nodes", "-subj", "/CN=db", "-keyout", "key", "-out", "crt", "-newkey",
        ];
        make.extend(kind);
        run(&openssl, here, &make).unwrap();
        let pkcs8 = pem_to_der(&fs::read(here.join("key")).unwrap());
        let pair = KeyPair::from_pkcs8(&pkcs8).unwrap();
        let certificate = fs::read(here.join("crt")).unwrap();
        let signed = policy.sign(&certificate, &pair).unwrap();
        fs::write(here.join("p7b"), signed.der()).unwrap();
        let verify = [
            "-verify", "-inform", "der", "-in", "p7b", "-CAfile", "crt", "-purpose", "any",
            "-binary",
        ];
        for command in ["cms", "smime"] {
            let mut arguments = vec![command];
            arguments.extend(verify);
            let text = run(&openssl, here, &arguments).unwrap();
            assert_eq!(text, policy.text().as_bytes(), "{command} {kind:?}");
        }
        // The same with the text apart.
        let detached = policy.sign_detached(&certificate, &pair).unwrap();
        fs::write(here.join("p7b"), detached).unwrap();
        let mut arguments = vec!["cms"];
        arguments.extend(verify);
        assert!(run(&openssl, here, &arguments).is_err(), "{kind:?}");
        arguments.extend(["-content", "policy"]);
        run(&openssl, here, &arguments).unwrap();

        // What OpenSSL signs as the kernel's documentation says, we read; and with RSA it is the same bytes.
        run(
            &openssl,
            here,
            &[
                "smime",
                "-sign",
                "-in",
                "policy",
                "-signer",
                "crt",
                "-inkey",
                "key",
                "-binary",
                "-noattr",
                "-nodetach",
                "-nosmimecap",
                "-outform",
                "der",
                "-out",
                "theirs",
            ],
        )
        .unwrap();
        let theirs = fs::read(here.join("theirs")).unwrap();
        let read = SignedPolicy::verify(&theirs, &[&certificate]).unwrap();
        assert_eq!(read.text(), signed.text());
        if kind == ["rsa:2048"] {
            assert_eq!(theirs, signed.der());
        }
    }
}

#[test]
fn openssl_signs_blobs_that_we_believe() {
    let Some(openssl) = tool("attest_code::openssl", "openssl") else {
        return;
    };
    let folder = testkit::temp_dir().unwrap();
    let here = folder.path();
    fs::write(here.join("code"), ARTIFACT).unwrap();
    let kinds: [(&[&str], &[&str]); 4] = [
        (&["EC", "-pkeyopt", "ec_paramgen_curve:P-256"], &["-sha256"]),
        (&["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], &["-sha384"]),
        (&["RSA", "-pkeyopt", "rsa_keygen_bits:3072"], &["-sha256"]),
        (&["ED25519"], &[]),
    ];
    for (kind, hash) in kinds {
        let mut make = vec!["genpkey", "-out", "key", "-algorithm"];
        make.extend(kind);
        run(&openssl, here, &make).unwrap();
        run(
            &openssl,
            here,
            &["pkey", "-in", "key", "-pubout", "-out", "pub"],
        )
        .unwrap();
        if hash.is_empty() {
            run(
                &openssl,
                here,
                &[
                    "pkeyutl", "-sign", "-inkey", "key", "-rawin", "-in", "code", "-out", "sig",
                ],
            )
        } else {
            run(
                &openssl,
                here,
                &["dgst", hash[0], "-sign", "key", "-out", "sig", "code"],
            )
        }
        .unwrap();
        let public = fs::read_to_string(here.join("pub")).unwrap();
        let signer = Signer::key_from_pem("release", &public).unwrap();
        let references =
            CodeReferences::new(BTreeMap::new(), Vec::new(), vec![signer], Vec::new()).unwrap();
        let signature = fs::read(here.join("sig")).unwrap();
        let found = verify_blob(&signature, &Artifact::of_bytes(ARTIFACT), &references);
        assert_eq!(code(&found), "good", "{kind:?}");
    }
}

/// A timestamp authority by OpenSSL stamps a forged bundle's signature, now.
#[test]
fn openssl_stamps_signatures_that_we_believe() {
    let Some(openssl) = tool("attest_code::openssl", "openssl") else {
        return;
    };
    let folder = testkit::temp_dir().unwrap();
    let here = folder.path();
    fs::write(
        here.join("conf"),
        "\
[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n\
[leaf]\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=critical,timeStamping\n\
[tsa]\ndefault_tsa=tsa1\n\
[tsa1]\nserial=serial\nsigner_cert=leaf.crt\nsigner_key=leaf.key\nsigner_digest=sha256\n\
default_policy=1.2.3.4\ndigests=sha256,sha384,sha512\ness_cert_id_alg=sha256\n\
[req]\ndistinguished_name=dn\n[dn]\n",
    )
    .unwrap();
    fs::write(here.join("serial"), "01\n").unwrap();
    let curve = [
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-384",
        "-nodes",
        "-config",
        "conf",
    ];
    let mut root = vec![
        "req",
        "-x509",
        "-subj",
        "/CN=clocks",
        "-extensions",
        "ca",
        "-keyout",
        "ca.key",
        "-out",
        "ca.crt",
    ];
    root.extend(curve);
    run(&openssl, here, &root).unwrap();
    let mut leaf = vec![
        "req",
        "-subj",
        "/CN=clock",
        "-keyout",
        "leaf.key",
        "-out",
        "leaf.csr",
    ];
    leaf.extend(curve);
    run(&openssl, here, &leaf).unwrap();
    run(
        &openssl,
        here,
        &[
            "x509",
            "-req",
            "-in",
            "leaf.csr",
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "9",
            "-extfile",
            "conf",
            "-extensions",
            "leaf",
            "-out",
            "leaf.crt",
        ],
    )
    .unwrap();

    let now = Timestamp::from_secs(Timestamp::now().as_secs());
    let deployment = Deployment::new();
    let script = Script {
        leaf: LeafScript {
            not_before: now.minus_secs(30),
            not_after: now.plus_secs(600),
            ..LeafScript::default()
        },
        entries: vec![EntryScript::second("hashedrekord")],
        ..Script::default()
    };
    let mut bundle = forge(&deployment, &script);
    let signature = bundle["messageSignature"]["signature"].as_str().unwrap();
    fs::write(here.join("signature"), base64::decode(signature).unwrap()).unwrap();
    let mut json = deployment.root_json();
    let certificate = |name: &str| json!({"rawBytes": base64::encode(&pem_to_der(&fs::read(here.join(name)).unwrap()))});
    let start = json!({"start": now.minus_secs(3600).to_string()});
    for (chain, with_certificate, hash) in [
        (json!([certificate("ca.crt")]), true, "-sha256"),
        (
            json!([certificate("leaf.crt"), certificate("ca.crt")]),
            false,
            "-sha512",
        ),
    ] {
        json["timestampAuthorities"] =
            json!([{"certChain": {"certificates": chain}, "validFor": start}]);
        let mut query = vec![
            "ts",
            "-query",
            "-data",
            "signature",
            hash,
            "-no_nonce",
            "-out",
            "query",
        ];
        if with_certificate {
            query.push("-cert");
        }
        run(&openssl, here, &query).unwrap();
        run(
            &openssl,
            here,
            &[
                "ts",
                "-reply",
                "-config",
                "conf",
                "-queryfile",
                "query",
                "-out",
                "reply",
            ],
        )
        .unwrap();
        let reply = fs::read(here.join("reply")).unwrap();
        bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"] =
            json!([{"signedTimestamp": base64::encode(&reply)}]);
        let references = references(root_of(&json), vec![release()], Vec::new());
        let text = bundle.to_string();
        let later = now.plus_secs(30);
        let found = verify_bundle(
            text.as_bytes(),
            &Artifact::of_bytes(ARTIFACT),
            &references,
            later,
        );
        assert_eq!(codes(&found), ["good"], "{hash}: {found:?}");
    }
}

#[test]
fn fsverity_utils_computes_the_same_digests() {
    let Some(fsverity) = tool("attest_code::fsverity_utils", "fsverity") else {
        return;
    };
    let folder = testkit::temp_dir().unwrap();
    let here = folder.path();
    let block = 4096;
    // Around one block, around one full level of each hash, and a level above that.
    let sizes = [
        0,
        1,
        block - 1,
        block,
        block + 1,
        64 * block,
        64 * block + 1,
        128 * block,
        128 * block + 1,
        129 * block,
        64 * 64 * block,
        64 * 64 * block + 7,
        5_000_000,
    ];
    for size in sizes {
        let bytes: Vec<u8> = (0..size).map(|at: usize| (at % 251) as u8).collect();
        fs::write(here.join("file"), &bytes).unwrap();
        for (algorithm, name) in [
            (FsVerityAlgorithm::Sha256, "sha256"),
            (FsVerityAlgorithm::Sha512, "sha512"),
        ] {
            let hash = format!("--hash-alg={name}");
            let printed = run(&fsverity, here, &["digest", "--compact", &hash, "file"]).unwrap();
            let theirs = format!("{name}:{}", String::from_utf8(printed).unwrap().trim());
            let ours = FsVerityDigest::of_bytes(algorithm, &bytes).to_string();
            assert_eq!(ours, theirs, "{size} bytes, {name}");
        }
    }
}
