//! What tpm2-tools and OpenSSL say of our quotes, credentials and chains.

use crate::chip::{chip, join, open};
use crate::tools::{pcr_file, pem, run, succeed};
use attest_tpm::{EndorsementKey, PcrSelection, SigningKey, make_credential};
use crypto::hex;
use device::tpm::{Hierarchy, template};
use std::fs;

#[test]
fn tpm2_checkquote_accepts_our_quote_and_refuses_it_for_another_nonce() {
    let Some(chip) = chip("attest_tpm::tpm2_checkquote") else {
        return;
    };
    if let Err(why) = testkit::tools(["tpm2_checkquote"]) {
        testkit::skip("attest_tpm::tpm2_checkquote", &why);
        return;
    }
    let (evidence, expected) = join(&chip);
    let ak = SigningKey::attestation(&evidence.request.ak_public).unwrap();
    let pcrs = PcrSelection::new(&expected.pcrs).unwrap();
    let folder = testkit::temp_dir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("ak.pem", pem("PUBLIC KEY", ak.key.spki_der()).as_bytes());
    write("quote.msg", &evidence.answer.quote);
    write("quote.sig", &evidence.answer.quote_signature);
    write(
        "quote.pcrs",
        &pcr_file(pcrs.bitmap(), &evidence.answer.pcr_values),
    );
    let nonce = hex::encode(&expected.nonce);
    let check = |nonce: &str| {
        let files = [
            "-u",
            "ak.pem",
            "-m",
            "quote.msg",
            "-s",
            "quote.sig",
            "-f",
            "quote.pcrs",
        ];
        let arguments = [&files[..], &["-g", "sha256", "-q", nonce]].concat();
        run(folder.path(), "none", "tpm2_checkquote", &arguments)
    };
    let judged = check(&nonce);
    assert!(judged.status.success(), "{judged:?}");
    assert!(!check(&"00".repeat(32)).status.success());
}

#[test]
fn openssl_verifies_the_endorsement_chain_and_the_certified_key() {
    let Some(chip) = chip("attest_tpm::openssl_chain") else {
        return;
    };
    if let Err(why) = testkit::tools(["openssl"]) {
        testkit::skip("attest_tpm::openssl_chain", &why);
        return;
    }
    let (evidence, _) = join(&chip);
    let folder = testkit::temp_dir().unwrap();
    let certificate = pem("CERTIFICATE", &evidence.request.ek_certificate);
    fs::write(folder.path().join("ek.pem"), certificate).unwrap();
    let (root, issuer) = (chip.root_pem(), chip.issuer_pem());
    let (root, issuer) = (root.to_str().unwrap(), issuer.to_str().unwrap());
    let verified = succeed(
        folder.path(),
        "none",
        "openssl",
        &["verify", "-CAfile", root, "-untrusted", issuer, "ek.pem"],
    );
    assert_eq!(verified.trim(), "ek.pem: OK");
    // The key inside is the endorsement key that the chip showed.
    let spki = succeed(
        folder.path(),
        "none",
        "openssl",
        &["x509", "-in", "ek.pem", "-noout", "-pubkey"],
    );
    let ek = EndorsementKey::parse(&evidence.request.ek_public).unwrap();
    assert_eq!(spki, pem("PUBLIC KEY", ek.key().spki_der()));
}

/// `tpm2_makecredential` and ours wrap for the same chip; it opens both.
#[test]
fn credentials_by_tpm2_tools_and_by_us_open_alike() {
    let Some(chip) = chip("attest_tpm::tpm2_makecredential") else {
        return;
    };
    if let Err(why) = testkit::tools(["tpm2_makecredential"]) {
        testkit::skip("attest_tpm::tpm2_makecredential", &why);
        return;
    }
    let mut tpm = open(&chip);
    let endorsement = tpm.endorsement().unwrap();
    let ak = tpm
        .create_primary(Hierarchy::Endorsement, template::attestation_key())
        .unwrap();
    let name = SigningKey::attestation(&ak.public).unwrap().name;
    let folder = testkit::temp_dir().unwrap();
    let secret = [0x42; 32];
    let sized = [
        &u16::try_from(endorsement.public.len())
            .unwrap()
            .to_be_bytes()[..],
        &endorsement.public,
    ]
    .concat();
    fs::write(folder.path().join("ek.pub"), sized).unwrap();
    fs::write(folder.path().join("secret"), secret).unwrap();
    let arguments = ["-T", "none", "-e", "ek.pub", "-s", "secret", "-o", "blob"];
    let name_text = name.to_string();
    succeed(
        folder.path(),
        "none",
        "tpm2_makecredential",
        &[&arguments[..], &["-n", &name_text]].concat(),
    );
    // Magic, version, TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET.
    let blob = fs::read(folder.path().join("blob")).unwrap();
    let length = |at: usize| usize::from(u16::from_be_bytes([blob[at], blob[at + 1]]));
    let wrapped = &blob[10..10 + length(8)];
    let encrypted = &blob[12 + wrapped.len()..][..length(10 + wrapped.len())];
    let ek = EndorsementKey::parse(&endorsement.public).unwrap();
    let ours = make_credential(&ek, &name, &secret, &crypto::random()).unwrap();
    for (blob, encrypted) in [
        (wrapped, encrypted),
        (&ours.blob[..], &ours.encrypted_secret[..]),
    ] {
        let opened = tpm
            .activate_credential(&ak, endorsement.handle(), blob, encrypted)
            .unwrap();
        assert_eq!(opened.expose(), secret);
    }
}
