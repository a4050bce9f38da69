//! Recorded evidence of machines that nobody here made up: quotes of seven boots, a join transcript by
//! tpm2-tools, attestations of other projects, vendors' roots.

use attest_tpm::structure::{verify_certify, verify_quote};
use attest_tpm::{
    Attested, Authorities, Authority, Body, EndorsementKey, PcrSelection, References, Signature,
    SigningKey, Trust, VENDOR_ROOTS,
};
use crypto::{PublicKey, base64, hex};
use expect_test::expect;
use facts::Timestamp;
use std::fs;
use std::path::{Path, PathBuf};
use testkit::chip::pcr_values;

/// When the lab's certificates were young.
const THEN: Timestamp = Timestamp::from_secs(1_795_500_000);

pub(crate) fn folder(test: &str, name: &str) -> Option<PathBuf> {
    let folder = testkit::evidence().map(|all| all.join(name));
    if folder.as_ref().is_some_and(|folder| folder.is_dir()) {
        return folder;
    }
    testkit::skip(test, &format!("no evidence folder with {name}"));
    None
}

pub(crate) fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap()
}

/// The body of the `TPM2B_PUBLIC` that tpm2-tools write.
fn public(folder: &Path, name: &str) -> Vec<u8> {
    read(folder, name)[2..].to_vec()
}

pub(crate) fn der_of(pem: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(pem).unwrap();
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    base64::decode(&body).unwrap()
}

pub(crate) fn codes(findings: &[facts::Finding]) -> Vec<&str> {
    findings.iter().map(|one| one.code.as_ref()).collect()
}

#[test]
fn a_join_recorded_with_tpm2_tools_verifies() {
    let Some(lab) = folder("attest_tpm::lab_join", "lab/swtpm-join") else {
        return;
    };
    let ak = SigningKey::attestation(&public(&lab, "ak.pub")).unwrap();
    assert_eq!(ak.name.as_bytes(), read(&lab, "ak.name"));
    assert_eq!(ak.key.spki_der(), der_of(&read(&lab, "ak.pem")));

    let pcrs = PcrSelection::new(&(0..=16).collect::<Vec<_>>()).unwrap();
    let values = pcr_values(&read(&lab, "q.pcrs"));
    let (quote, signature) = (read(&lab, "q.msg"), read(&lab, "q.sig"));
    let nonce = read(&lab, "nonce");
    let quoted = verify_quote(&quote, &signature, &ak.key, &nonce, &pcrs, &values).unwrap();
    assert!(quoted.clock.safe);
    let fewer = PcrSelection::new(&(0..=15).collect::<Vec<_>>()).unwrap();
    let refused =
        verify_quote(&quote, &signature, &ak.key, &nonce, &fewer, &values[..16]).unwrap_err();
    assert_eq!(codes(&refused), ["TPM-QUOTE-SELECTION", "TPM-QUOTE-DIGEST"]);

    let tls = SigningKey::identity(&public(&lab, "tls.pub")).unwrap();
    let (certify, signature) = (read(&lab, "tls.attest"), read(&lab, "tls.attest.sig"));
    // What tpm2_certify qualifies with when it is not told.
    let qualifying = [0, 0xff, 0x55, 0xaa];
    verify_certify(&certify, &signature, &ak.key, &tls.name, &qualifying).unwrap();
    let refused = verify_certify(&certify, &signature, &ak.key, &ak.name, &[0; 32]).unwrap_err();
    assert_eq!(
        codes(&refused),
        ["TPM-CERTIFY-TRANSCRIPT", "TPM-CERTIFY-NAME"]
    );
    let ek = EndorsementKey::parse(&public(&lab, "ek.pub")).unwrap();
    let authority =
        |name: &str| Authority::from_pem(&String::from_utf8(read(&lab, name)).unwrap()).unwrap();
    let references = References {
        ek: Authorities {
            emulated: authority("swtpm-localca-rootca-cert.pem"),
            intermediates: authority("issuercert.pem"),
            ..Authorities::default()
        },
        ..References::default()
    };
    let trust = references
        .trust(&ek, &read(&lab, "ekcert.der"), THEN)
        .unwrap();
    assert_eq!(
        trust,
        Trust::Chain {
            emulated: true,
            manufacturer: "00001014".to_owned()
        }
    );
}

#[test]
fn the_quotes_of_recorded_boots_verify() {
    let boots = [
        "direct-kernel-no-secureboot",
        "uki-own-keys-secureboot",
        "uki-signed-but-tampered-cmdline",
        "uki-612-ipe-secureboot",
        "shim-grub-debian-signed-ms-keys",
        "fsverity-ima-ngv2",
    ];
    let nonce = hex::decode("00112233445566778899aabbccddeeff").unwrap();
    let selection: Vec<u32> = (0..=15).chain([23]).collect();
    let pcrs = PcrSelection::new(&selection).unwrap();
    for boot in boots {
        let Some(lab) = folder("attest_tpm::recorded_boots", &format!("lab/{boot}")) else {
            return;
        };
        let ak = PublicKey::from_spki_der(&der_of(&read(&lab, "ak.pem"))).unwrap();
        let mut values = pcr_values(&read(&lab, "quote.pcrs"));
        let (quote, signature) = (read(&lab, "quote.msg"), read(&lab, "quote.sig"));
        verify_quote(&quote, &signature, &ak, &nonce, &pcrs, &values).unwrap();
        values[4][0] ^= 1;
        let refused = verify_quote(&quote, &signature, &ak, &nonce, &pcrs, &values).unwrap_err();
        assert_eq!(codes(&refused), ["TPM-QUOTE-DIGEST"], "{boot}");
    }
}

#[test]
fn attestations_of_other_projects_are_read() {
    let Some(tpm) = folder("attest_tpm::other_projects", "tpm") else {
        return;
    };
    let mut seen = Vec::new();
    let mut note = |what: &str, bytes: &[u8]| {
        let attested = Attested::parse(bytes).unwrap();
        let Body::Quote { selections, digest } = &attested.body else {
            panic!("{what} is no quote");
        };
        let banks: Vec<String> = selections
            .iter()
            .map(|one| format!("{:#06x} of {}", one.hash, one.indices().len()))
            .collect();
        seen.push(format!(
            "{what}: nonce of {}, {}, digest of {}, reset {}",
            attested.extra_data.len(),
            banks.join(" "),
            digest.len(),
            attested.clock.reset_count
        ));
        (selections.clone(), digest.clone())
    };
    note("dstack", &read(&tpm, "dstack-tpm_quote_sample.bin"));
    note("keylime", &read(&tpm, "keylime-quote.out"));
    let text = fs::read_to_string(tpm.join("rust-keylime-quote.txt")).unwrap();
    let first = text.trim_start_matches('r').split(':').next().unwrap();
    note("rust-keylime", &base64::decode(first).unwrap());

    let json: serde_json::Value =
        serde_json::from_slice(&read(&tpm, "trustee-tpm_evidence.json")).unwrap();
    let field = |name: &str| base64::decode(json["tpm_quote"][name].as_str().unwrap()).unwrap();
    let (selections, digest) = note("trustee", &field("message"));
    let values: Vec<Vec<u8>> = json["tpm_quote"]["pcrs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|value| hex::decode(value.as_str().unwrap()).unwrap())
        .collect();
    let pcrs = PcrSelection::new(&selections[0].indices()).unwrap();
    assert_eq!(pcrs.digest(&values).unwrap().as_slice(), digest);
    assert!(matches!(
        Signature::parse(&read(&tpm, "keylime-quotesig.out")).unwrap(),
        Signature::Rsa { hash: 0x000b, .. }
    ));
    expect![[r#"
        dstack: nonce of 4, 0x000b of 3, digest of 32, reset 16
        keylime: nonce of 20, 0x000b of 3, digest of 32, reset 0
        rust-keylime: nonce of 4, 0x0004 of 1, digest of 20, reset 0
        trustee: nonce of 64, 0x000b of 24, digest of 32, reset 2
    "#]]
    .assert_eq(&(seen.join("\n") + "\n"));
}

#[test]
fn vendors_roots_are_read() {
    let Some(roots) = folder("attest_tpm::ek_roots", "ek-roots") else {
        return;
    };
    let mut seen: Vec<String> = Vec::new();
    for entry in fs::read_dir(&roots).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let authorities = Authority::from_pem(&text).unwrap();
        seen.extend(authorities.iter().map(|one| one.title().to_owned()));
    }
    seen.sort();
    expect![[r#"
        C=CH, O=STMicroelectronics NV, CN=STM TPM ECC Root CA 01
        C=CN, O=Aliyun, OU=Aliyun TPM Endorsement Key Manufacture CA, CN=Aliyun TPM EKMF CA
        C=CN, O=Nationz Technologies Inc, OU=Nationz TPM Device, CN=Nationz TPM Manufacturing CA 001
        C=DE, O=Infineon Technologies AG, OU=OPTIGA(TM) Devices, CN=Infineon OPTIGA(TM) ECC Root CA
        C=DE, ST=Bavaria, O=Infineon Technologies AG, OU=AIM, CN=IFX TPM EK Root CA
        C=US, ST=CA, L=Santa Clara, O=Intel Corporation, OU=TPM EK root cert signing, CN=www.intel.com
        CN=Nuvoton TPM Root CA 1110 + O=Nuvoton Technology Corporation + C=TW
        OU=GlobalSign Trusted Computing Certificate Authority, O=GlobalSign, CN=GlobalSign Trusted Platform Module Root CA
    "#]].assert_eq(&(seen.join("\n") + "\n"));
}

/// What is shipped is what its table says, of its maker alone, and the same as what others recorded; by
/// itself it is trusted for nothing.
#[test]
fn shipped_roots_are_their_makers_and_are_not_trusted_by_being_shipped() {
    let readme = include_str!("../../data/README.md");
    for root in VENDOR_ROOTS {
        let authorities = Authority::from_pem(root.pem).unwrap();
        let [authority] = authorities.as_slice() else {
            panic!("{} is one certificate", root.vendor);
        };
        let digest = hex::encode(&crypto::sha256(authority.der()));
        assert_eq!(digest, root.sha256, "{}", root.vendor);
        let named = format!("| `{}.pem` | `{}` |", root.vendor, root.vendor);
        let row = readme.lines().find(|line| line.starts_with(&named));
        let row = row.unwrap_or_else(|| panic!("no row {named}"));
        assert!(row.contains(&format!("`{digest}`")), "{row}");
        assert!(readme.contains(root.published), "{}", root.published);
        // Self-signed, by its own key, and within its own rules.
        let parsed = attest::x509::parse(authority.der()).unwrap();
        assert_eq!(parsed.subject().as_raw(), parsed.issuer().as_raw());
        attest::x509::signed_by(&parsed, &parsed).unwrap();
        attest::x509::may_certify(&parsed, Some(0)).unwrap();
        let then = Timestamp::from_secs(1_795_500_000);
        assert!(
            attest::x509::valid_at(parsed.validity(), then),
            "{}",
            root.vendor
        );
        assert!(root.to_string().contains(root.pem));
    }
    let vendors: Vec<&str> = VENDOR_ROOTS.iter().map(|root| root.vendor).collect();
    assert!(vendors.is_sorted());
    let nothing = References::default();
    assert!(nothing.ek.roots.is_empty() && nothing.ek.intermediates.is_empty());
    assert!(nothing.ak.roots.is_empty() && nothing.ek.emulated.is_empty());

    let Some(folder) = folder("attest_tpm::ek_roots", "ek-roots") else {
        return;
    };
    for (vendor, recorded) in [
        ("infineon", "INF_ECC_010RT.pem"),
        ("intel", "INTEL_RT.pem"),
        ("nuvoton", "NUVO_1110.pem"),
        ("stmicroelectronics", "GS_TPM_RT.pem"),
    ] {
        let text = String::from_utf8(read(&folder, recorded)).unwrap();
        let recorded = Authority::from_pem(&text).unwrap();
        let shipped = VENDOR_ROOTS
            .iter()
            .find(|root| root.vendor == vendor)
            .unwrap();
        assert_eq!(
            Authority::from_pem(shipped.pem).unwrap(),
            recorded,
            "{vendor}"
        );
    }
}
