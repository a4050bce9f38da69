//! Endorsement certificates and authorities of every kind, good and bad, made by OpenSSL.

use crate::evidence::der_of;
use crate::forge::{RESIDENT_SIGNER, RESTRICTED, curve_and_point, endorsement_public, public};
use crate::tools::{pem, succeed};
use attest_tpm::{Authorities, Authority, Cloud, EndorsementKey, References, SigningKey, Trust};
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
    /// The same key in another role.
    ak: SigningKey,
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
    let root = authority("root.pem")?.into_iter();
    let authorities = Authorities {
        roots: root.map(|root| root.of_cloud(Cloud::Google)).collect(),
        intermediates: authority("middle.pem")?,
        ..Authorities::default()
    };
    let ak_public = [
        &public(0x000b, RESIDENT_SIGNER | RESTRICTED, &[])[..],
        &[0, 0x10, 0, 0x18, 0, 0x0b],
        &curve_and_point(&ek),
    ]
    .concat();
    Ok(Made {
        ak: SigningKey::attestation(&ak_public).unwrap(),
        ek: EndorsementKey::parse(&endorsement_public(0x0003_00b2, &ek)).unwrap(),
        certificate: base64::decode(&body).unwrap(),
        references: References {
            ek: authorities.clone(),
            ak: authorities,
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
        ("names without a version", |r| {
            r.extensions = [EKU, USAGE, &NAMES.replace("c.2.23.133.2.3=id:0001\n", "")].concat();
        }),
        ("names without a manufacturer", |r| {
            let maker = "a.2.23.133.2.1=id:494E5443\n";
            r.extensions = [EKU, USAGE, &NAMES.replace(maker, "")].concat();
        }),
        ("an endless extension", |r| {
            let endless = format!("1.2.3.4=DER:{}\n", "00".repeat(8192));
            r.extensions = [EKU, USAGE, &endless, NAMES].concat();
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
        names without a version: TPM-EK-CERT-NAME
        names without a manufacturer: TPM-EK-CERT-NAME
        an endless extension: TPM-EK-CERT-STRUCTURE
        an unknown critical extension: TPM-EK-CERT-CRITICAL
        an unknown extension: trusted, emulated false, INTC
        a root with a path length of 0: TPM-EK-CHAIN (CN=root: its path length is exceeded)
        an intermediate that is no authority: not loaded: TPM-ROOT-STRUCTURE not an authority
        an intermediate that may not certify: not loaded: TPM-ROOT-STRUCTURE its key may not sign certificates
        an intermediate for some names only: not loaded: TPM-ROOT-STRUCTURE a critical extension that is not understood
    "#]].assert_eq(&seen);
}

/// The same certificates, presented for the same key as an attestation key.
#[test]
fn certificates_of_attestation_keys_are_judged_one_fault_at_a_time() {
    const SIGNS: &str = "keyUsage=critical,digitalSignature\nbasicConstraints=critical,CA:FALSE\n";
    const AIK: &str = "extendedKeyUsage=2.23.133.8.3\n";
    /// Zone, project's number and id, instance's id and name.
    const INSTANCE: &str = "1.3.6.1.4.1.11129.2.1.21=ASN1:SEQUENCE:instance\n";
    const NAMED: &str = "[instance]\na=UTF8:europe-west3-a\nb=INTEGER:17\nc=UTF8:acme\n\
        d=INTEGER:0x123456789\ne=UTF8:web-1\n";
    if let Err(why) = testkit::tools(["openssl"]) {
        testkit::skip("attest_tpm::attestation_certificates", &why);
        return;
    }
    let recipes: &[(&str, String)] = &[
        ("good", [AIK, SIGNS, NAMES].concat()),
        ("as Google makes them", [EKU, SIGNS, NAMES].concat()),
        (
            "for an instance",
            [AIK, SIGNS, INSTANCE, NAMES, NAMED].concat(),
        ),
        (
            "for an instance with a field more",
            [AIK, SIGNS, INSTANCE, NAMES, NAMED, "f=NULL\ng=NULL\n"].concat(),
        ),
        (
            "for an instance without its name",
            [AIK, SIGNS, INSTANCE, NAMES, NAMED]
                .concat()
                .replace("e=UTF8:web-1\n", ""),
        ),
        (
            "for an instance with an empty project",
            [AIK, SIGNS, INSTANCE, NAMES, NAMED]
                .concat()
                .replace("UTF8:acme", "UTF8:"),
        ),
        ("of an endorsement key", [EKU, USAGE, NAMES].concat()),
        (
            "of a key that encrypts as well",
            [
                EKU,
                &SIGNS.replace("Signature", "Signature,keyEncipherment"),
                NAMES,
            ]
            .concat(),
        ),
        ("without key usage", [AIK, NAMES].concat()),
        (
            "for servers",
            ["extendedKeyUsage=serverAuth\n", SIGNS, NAMES].concat(),
        ),
        ("of an authority", [AIK, CA, NAMES].concat()),
        ("without names", [AIK, SIGNS].concat()),
        (
            "with an unknown critical extension",
            [AIK, SIGNS, "1.2.3.4=critical,ASN1:NULL\n", NAMES].concat(),
        ),
    ];
    let now = Timestamp::now().plus_secs(3600);
    let mut seen = String::new();
    let mut note = |what: &str, made: &Made, references: &References, now| {
        let outcome = match references.trust_attestation(&made.ak, &made.certificate, None, now) {
            Ok(trust) => format!("{trust:?}"),
            Err(findings) => {
                let codes = findings.iter().map(|one| one.code.clone().into_owned());
                codes.collect::<Vec<_>>().join(" ")
            }
        };
        writeln!(seen, "{what}: {outcome}").unwrap();
    };
    let mut good = None;
    for (what, extensions) in recipes {
        let folder = testkit::temp_dir().unwrap();
        let recipe = Recipe {
            extensions: extensions.clone(),
            ..Recipe::default()
        };
        let made = make(folder.path(), &recipe).unwrap();
        note(what, &made, &made.references, now);
        good.get_or_insert(made);
    }
    let made = good.unwrap();
    let folder = testkit::temp_dir().unwrap();
    let another = Recipe {
        another_key: true,
        extensions: [AIK, SIGNS, NAMES].concat(),
        ..Recipe::default()
    };
    let another = make(folder.path(), &another).unwrap();
    note("of another key", &another, &another.references, now);
    let by = |ak: Authorities, ek: Authorities| References {
        ak,
        ek,
        ..References::default()
    };
    let trusted = made.references.ak.clone();
    let mixed = by(Authorities::default(), trusted.clone());
    note("by an authority for endorsement keys", &made, &mixed, now);
    let emulated = Authorities {
        emulated: trusted.roots.clone(),
        ..trusted.clone()
    };
    let emulated = by(emulated, Authorities::default());
    note("by a maker of emulators", &made, &emulated, now);
    // Which machine it is counts from a root that speaks for a cloud alone.
    let folder = testkit::temp_dir().unwrap();
    let named = Recipe {
        extensions: [AIK, SIGNS, INSTANCE, NAMES, NAMED].concat(),
        ..Recipe::default()
    };
    let named = make(folder.path(), &named).unwrap();
    let plain = Authorities {
        roots: vec![Authority::from_der(named.references.ak.roots[0].der()).unwrap()],
        ..named.references.ak.clone()
    };
    let emulated = Authorities {
        emulated: named.references.ak.roots.clone(),
        ..named.references.ak.clone()
    };
    for (what, ak) in [
        ("for an instance, by no cloud", plain),
        ("for an instance, by a maker of emulators", emulated),
    ] {
        note(what, &named, &by(ak, Authorities::default()), now);
    }
    note(
        "lapsed",
        &made,
        &made.references,
        now.plus_secs(31 * 86_400),
    );
    expect![[r#"
        good: Chain { emulated: false, manufacturer: "INTC", instance: None }
        as Google makes them: Chain { emulated: false, manufacturer: "INTC", instance: None }
        for an instance: Chain { emulated: false, manufacturer: "INTC", instance: Some(Instance { zone: "europe-west3-a", project_number: 17, project: "acme", id: 4886718345, name: "web-1" }) }
        for an instance with a field more: TPM-AK-CERT-INSTANCE
        for an instance without its name: TPM-AK-CERT-INSTANCE
        for an instance with an empty project: TPM-AK-CERT-INSTANCE
        of an endorsement key: TPM-AK-CERT-USAGE
        of a key that encrypts as well: TPM-AK-CERT-USAGE
        without key usage: TPM-AK-CERT-USAGE
        for servers: TPM-AK-CERT-USAGE
        of an authority: TPM-AK-CERT-USAGE TPM-AK-CERT-USAGE
        without names: TPM-AK-CERT-NAME
        with an unknown critical extension: TPM-AK-CERT-CRITICAL
        of another key: TPM-AK-CERT-KEY
        by an authority for endorsement keys: TPM-AK-CHAIN
        by a maker of emulators: Chain { emulated: true, manufacturer: "INTC", instance: None }
        for an instance, by no cloud: Chain { emulated: false, manufacturer: "INTC", instance: None }
        for an instance, by a maker of emulators: Chain { emulated: true, manufacturer: "INTC", instance: None }
        lapsed: TPM-AK-CERT-VALIDITY
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

/// A long path, and a crowd of authorities of one name, cost a bounded number of signatures.
#[test]
fn paths_are_short_and_searches_end() {
    if let Err(why) = testkit::tools(["openssl"]) {
        testkit::skip("attest_tpm::endorsement_certificates", &why);
        return;
    }
    let now = Timestamp::now().plus_secs(3600);
    let folder = testkit::temp_dir().unwrap();
    let mut made = make(folder.path(), &Recipe::default()).unwrap();
    let openssl = |arguments: &[&str]| succeed(folder.path(), "none", "openssl", arguments);
    let issue = |name: &str, extensions: &str, by: &str| {
        let [request, certificate, authority, key] = [
            format!("{name}.csr"),
            format!("{name}.pem"),
            format!("{by}.pem"),
            format!("{by}.key"),
        ];
        let issue = [
            "x509",
            "-req",
            "-in",
            &request,
            "-set_serial",
            "9",
            "-days",
            "30",
            "-extfile",
            extensions,
            "-out",
            &certificate,
            "-CA",
            &authority,
            "-CAkey",
            &key,
        ];
        openssl(&issue);
        fs::read_to_string(folder.path().join(certificate)).unwrap()
    };
    let good = made.references.ek.intermediates.clone();
    let first = made.certificate.clone();
    let mut by = "middle".to_owned();
    let mut seen = Vec::new();
    for number in 2..=5 {
        let name = format!("middle{number}");
        let [key, request, subject] = [
            format!("{name}.key"),
            format!("{name}.csr"),
            format!("/CN={name}"),
        ];
        openssl(&[&["genpkey", "-out", &key, "-algorithm"], P256].concat());
        openssl(&[
            "req", "-new", "-key", &key, "-subj", &subject, "-out", &request,
        ]);
        let authority = issue(&name, "middle.ext", &by);
        let intermediates = &mut made.references.ek.intermediates;
        intermediates.extend(Authority::from_pem(&authority).unwrap());
        made.certificate = der_of(issue("ek", "ek.ext", &name).as_bytes());
        seen.push(format!("{number}: {}", judge(&made, now)));
        by = name;
    }
    // Another authority of the same name stands before the right one, again and again.
    let folder = testkit::temp_dir().unwrap();
    let stranger = make(folder.path(), &Recipe::default()).unwrap();
    let stranger = &stranger.references.ek.intermediates[0];
    made.certificate = first;
    for crowd in [30, 31] {
        let before = std::iter::repeat_n(stranger, crowd);
        made.references.ek.intermediates = before.chain(&good).cloned().collect();
        seen.push(format!("crowd of {crowd}: {}", judge(&made, now)));
    }
    expect![[r#"
        2: trusted, emulated false, INTC
        3: trusted, emulated false, INTC
        4: trusted, emulated false, INTC
        5: TPM-EK-CHAIN (issuer CN=middle5)
        crowd of 30: trusted, emulated false, INTC
        crowd of 31: TPM-EK-CHAIN (CN=middle: its key did not sign this)
    "#]]
    .assert_eq(&(seen.join("\n") + "\n"));
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
