//! Endorsement certificates and authorities of every kind, good and bad, made by OpenSSL.

use crate::forge::endorsement_public;
use crate::tools::{pem, succeed};
use attest_tpm::{Authority, EndorsementKey, References, Trust};
use crypto::{Algorithm, KeyPair, base64};
use expect_test::expect;
use facts::Timestamp;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

const P256: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
const P521: &[&str] = &["EC", "-pkeyopt", "ec_paramgen_curve:P-521"];
const RSA: &[&str] = &["RSA", "-pkeyopt", "rsa_keygen_bits:3072"];
const CA: &str = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n";
const EKU: &str = "extendedKeyUsage=2.23.133.8.1\n";
const USAGE: &str = "keyUsage=critical,keyAgreement\nbasicConstraints=critical,CA:FALSE\n";
/// OpenSSL drops what stands before the first dot of a name.
const NAMES: &str = "subjectAltName=critical,dirName:tpm\n[tpm]\n\
    a.2.23.133.2.1=id:494E5443\nb.2.23.133.2.2=model\nc.2.23.133.2.3=id:0001\n";

/// How to make root, intermediate and endorsement certificate. The default is good.
struct Recipe {
    root_key: &'static [&'static str],
    root_extensions: String,
    root_days: u32,
    middle_key: &'static [&'static str],
    middle_extensions: String,
    middle_signature: &'static [&'static str],
    signature: &'static [&'static str],
    subject: &'static str,
    extensions: String,
    another_key: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            root_key: P384,
            root_extensions: CA.to_owned(),
            root_days: 3650,
            middle_key: P256,
            middle_extensions: CA.to_owned(),
            middle_signature: &["-sha384"],
            signature: &["-sha256"],
            subject: "/",
            extensions: [EKU, USAGE, NAMES].concat(),
            another_key: false,
        }
    }
}

struct Made {
    ek: EndorsementKey,
    certificate: Vec<u8>,
    references: References,
}

fn make(folder: &Path, recipe: &Recipe) -> Result<Made, String> {
    let openssl = |arguments: &[&str]| succeed(folder, "none", "openssl", arguments);
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let ek = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let certified = if recipe.another_key {
        KeyPair::generate(Algorithm::EcdsaP256).unwrap()
    } else {
        KeyPair::from_pkcs8(&ek.to_pkcs8().unwrap()).unwrap()
    };
    write(
        "ek.key",
        &pem("PRIVATE KEY", &certified.to_pkcs8().unwrap()),
    );
    for (file, kind) in [
        ("root.key", recipe.root_key),
        ("middle.key", recipe.middle_key),
    ] {
        openssl(&[&["genpkey", "-out", file, "-algorithm"], kind].concat());
    }
    write("root.ext", &recipe.root_extensions);
    write("middle.ext", &recipe.middle_extensions);
    write("ek.ext", &recipe.extensions);
    let days = recipe.root_days.to_string();
    for (name, subject) in [
        ("root", "/CN=root"),
        ("middle", "/CN=middle"),
        ("ek", recipe.subject),
    ] {
        let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
        openssl(&[
            "req", "-new", "-key", &key, "-subj", subject, "-out", &request,
        ]);
    }
    let root = [
        "x509", "-req", "-in", "root.csr", "-signkey", "root.key", "-extfile", "root.ext",
    ];
    openssl(&[&root[..], &["-days", &days, "-out", "root.pem"]].concat());
    let middle = [
        "x509",
        "-req",
        "-in",
        "middle.csr",
        "-CA",
        "root.pem",
        "-CAkey",
        "root.key",
    ];
    let output = [
        "-set_serial",
        "7",
        "-days",
        "3650",
        "-extfile",
        "middle.ext",
        "-out",
        "middle.pem",
    ];
    openssl(&[&middle[..], recipe.middle_signature, &output].concat());
    let leaf = [
        "x509",
        "-req",
        "-in",
        "ek.csr",
        "-CA",
        "middle.pem",
        "-CAkey",
        "middle.key",
    ];
    let output = [
        "-set_serial",
        "8",
        "-days",
        "30",
        "-extfile",
        "ek.ext",
        "-out",
        "ek.pem",
    ];
    openssl(&[&leaf[..], recipe.signature, &output].concat());

    let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let authority = |name: &str| {
        Authority::from_pem(&text(name))
            .map_err(|finding| format!("{} {}", finding.code, finding.observed.unwrap_or_default()))
    };
    let body: String = text("ek.pem")
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    Ok(Made {
        ek: EndorsementKey::parse(&endorsement_public(0x0003_00b2, &ek)).unwrap(),
        certificate: base64::decode(&body).unwrap(),
        references: References {
            ek_roots: authority("root.pem")?,
            ek_intermediates: authority("middle.pem")?,
            ..References::default()
        },
    })
}

fn judge(made: &Made, now: Timestamp) -> String {
    match made.references.trust(&made.ek, &made.certificate, now) {
        Ok(Trust::Chain {
            emulated,
            manufacturer,
        }) => {
            format!("trusted, emulated {emulated}, {manufacturer}")
        }
        Ok(Trust::Pinned) => "pinned".to_owned(),
        Err(findings) => {
            let one = |finding: &facts::Finding| {
                let code = finding.code.clone().into_owned();
                match &finding.observed {
                    Some(observed) if code == "TPM-EK-CHAIN" => format!("{code} ({observed})"),
                    _ => code,
                }
            };
            findings.iter().map(one).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn endorsement_certificates_are_judged_one_fault_at_a_time() {
    if let Err(why) = testkit::tools(["openssl"]) {
        testkit::skip("attest_tpm::endorsement_certificates", &why);
        return;
    }
    type Change = fn(&mut Recipe);
    let recipes: &[(&str, Change)] = &[
        ("good", |_| {}),
        ("RSA signs", |r| r.middle_key = RSA),
        ("RSA-PSS signs", |r| {
            r.middle_key = RSA;
            r.signature = &[
                "-sha256",
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:32",
            ];
        }),
        ("P-521 and SHA-512 sign", |r| {
            r.middle_key = P521;
            r.signature = &["-sha512"];
        }),
        ("a subject, and names that are not critical", |r| {
            r.subject = "/CN=TPM";
            r.extensions = [EKU, USAGE, &NAMES.replace("critical,", "")].concat();
        }),
        ("no key usage", |r| r.extensions = [EKU, NAMES].concat()),
        ("SHA-1 signs", |r| r.signature = &["-sha1"]),
        ("SHA-1 signs the intermediate", |r| {
            r.middle_signature = &["-sha1"]
        }),
        ("RSA-PSS with a short salt", |r| {
            r.middle_key = RSA;
            r.signature = &[
                "-sha256",
                "-sigopt",
                "rsa_padding_mode:pss",
                "-sigopt",
                "rsa_pss_saltlen:20",
            ];
        }),
        ("a certificate for another key", |r| r.another_key = true),
        ("a certificate for servers", |r| {
            r.extensions = ["extendedKeyUsage=serverAuth\n", USAGE, NAMES].concat();
        }),
        ("no extended key usage", |r| {
            r.extensions = [USAGE, NAMES].concat()
        }),
        ("an authority as endorsement key", |r| {
            r.extensions = [EKU, CA, NAMES].concat()
        }),
        ("a key that may only sign", |r| {
            r.extensions = [EKU, "keyUsage=digitalSignature\n", NAMES].concat();
        }),
        ("no names", |r| r.extensions = [EKU, USAGE].concat()),
        ("no subject, and names that are not critical", |r| {
            r.extensions = [EKU, USAGE, &NAMES.replace("critical,", "")].concat();
        }),
        ("names without a model", |r| {
            r.extensions = [EKU, USAGE, &NAMES.replace("b.2.23.133.2.2=model\n", "")].concat();
        }),
        ("an unknown critical extension", |r| {
            r.extensions = [EKU, USAGE, "1.2.3.4=critical,ASN1:NULL\n", NAMES].concat();
        }),
        ("an unknown extension", |r| {
            r.extensions = [EKU, USAGE, "1.2.3.4=ASN1:NULL\n", NAMES].concat();
        }),
        ("a root with a path length of 0", |r| {
            r.root_extensions = CA.replace("CA:TRUE", "CA:TRUE,pathlen:0");
        }),
        ("an intermediate that is no authority", |r| {
            r.middle_extensions = CA.replace("CA:TRUE", "CA:FALSE");
        }),
        ("an intermediate that may not certify", |r| {
            r.middle_extensions = CA.replace("keyCertSign", "digitalSignature");
        }),
        ("an intermediate for some names only", |r| {
            r.middle_extensions =
                [CA, "nameConstraints=critical,permitted;DNS:example.org\n"].concat();
        }),
    ];
    let now = Timestamp::now().plus_secs(3600);
    let mut seen = String::new();
    for (what, change) in recipes {
        let folder = testkit::temp_dir().unwrap();
        let mut recipe = Recipe::default();
        change(&mut recipe);
        let outcome = match make(folder.path(), &recipe) {
            Ok(made) => judge(&made, now),
            Err(refused) => format!("not loaded: {refused}"),
        };
        writeln!(seen, "{what}: {outcome}").unwrap();
    }
    expect![[r#"
        good: trusted, emulated false, INTC
        RSA signs: trusted, emulated false, INTC
        RSA-PSS signs: trusted, emulated false, INTC
        P-521 and SHA-512 sign: trusted, emulated false, INTC
        a subject, and names that are not critical: trusted, emulated false, INTC
        no key usage: trusted, emulated false, INTC
        SHA-1 signs: TPM-EK-CHAIN (CN=middle: a signature scheme that is not accepted, such as one with SHA-1)
        SHA-1 signs the intermediate: TPM-EK-CHAIN (CN=root: a signature scheme that is not accepted, such as one with SHA-1)
        RSA-PSS with a short salt: TPM-EK-CHAIN (CN=middle: a signature scheme that is not accepted, such as one with SHA-1)
        a certificate for another key: TPM-EK-CERT-KEY
        a certificate for servers: TPM-EK-CERT-USAGE
        no extended key usage: TPM-EK-CERT-USAGE
        an authority as endorsement key: TPM-EK-CERT-USAGE TPM-EK-CERT-USAGE
        a key that may only sign: TPM-EK-CERT-USAGE
        no names: TPM-EK-CERT-NAME
        no subject, and names that are not critical: TPM-EK-CERT-NAME
        names without a model: TPM-EK-CERT-NAME
        an unknown critical extension: TPM-EK-CERT-CRITICAL
        an unknown extension: trusted, emulated false, INTC
        a root with a path length of 0: TPM-EK-CHAIN (CN=root: its path length is exceeded)
        an intermediate that is no authority: not loaded: TPM-ROOT-STRUCTURE not an authority
        an intermediate that may not certify: not loaded: TPM-ROOT-STRUCTURE its key may not sign certificates
        an intermediate for some names only: not loaded: TPM-ROOT-STRUCTURE a critical extension that is not understood
    "#]].assert_eq(&seen);
}

#[test]
fn every_certificate_of_the_path_has_to_be_valid_now() {
    if let Err(why) = testkit::tools(["openssl"]) {
        testkit::skip("attest_tpm::certificate_validity", &why);
        return;
    }
    const DAY: u64 = 86_400;
    let folder = testkit::temp_dir().unwrap();
    let recipe = Recipe {
        root_days: 10,
        ..Recipe::default()
    };
    let made = make(folder.path(), &recipe).unwrap();
    let today = Timestamp::now();
    let seen = [
        today.minus_secs(DAY),
        today.plus_secs(DAY),
        today.plus_secs(20 * DAY),
        today.plus_secs(40 * DAY),
        Timestamp::from_millis(u64::MAX),
    ]
    .map(|now| judge(&made, now))
    .join("\n");
    expect![[r#"
        TPM-EK-CERT-VALIDITY TPM-EK-CERT-VALIDITY
        trusted, emulated false, INTC
        TPM-EK-CERT-VALIDITY
        TPM-EK-CERT-VALIDITY TPM-EK-CERT-VALIDITY
        TPM-EK-CERT-VALIDITY TPM-EK-CERT-VALIDITY
    "#]]
    .assert_eq(&(seen + "\n"));
}

#[test]
fn a_certificate_has_one_spelling() {
    if let Err(why) = testkit::tools(["openssl"]) {
        testkit::skip("attest_tpm::certificate_spelling", &why);
        return;
    }
    let folder = testkit::temp_dir().unwrap();
    let mut made = make(folder.path(), &Recipe::default()).unwrap();
    let now = Timestamp::now().plus_secs(3600);
    let good = made.certificate.clone();
    let longer_length = [&[0x30, 0x83, 0][..], &good[2..]].concat();
    for certificate in [
        [&good[..], &[0]].concat(),
        longer_length,
        good[..good.len() - 1].to_vec(),
        vec![0x30; 9000],
        b"no certificate".to_vec(),
    ] {
        made.certificate = certificate;
        assert_eq!(judge(&made, now), "TPM-EK-CERT-STRUCTURE");
    }
}

#[test]
fn a_root_must_be_an_authority() {
    let refused = Authority::from_der(b"").unwrap_err();
    assert_eq!(refused.code, "TPM-ROOT-STRUCTURE");
    for text in ["", "-----BEGIN CERTIFICATE-----", &pem("CERTIFICATE", b"x")] {
        assert!(Authority::from_pem(text).is_err(), "{text:?}");
    }
}
