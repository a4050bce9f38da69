//! Attestations that other projects recorded, judged: signature, PCR values and, where one came along,
//! the event log; each with what is refused of it.

use crate::evidence::{codes, folder, read};
use crate::protobuf::{Field, fields};
use attest_tpm::boot;
use attest_tpm::eventlog::Log;
use attest_tpm::structure::verify_quote;
use attest_tpm::{Attested, Body, PcrSelection, Quoted, Signature, SigningKey};
use crypto::{Algorithm, Hash, KeyPair, PublicKey, Signer as _, base64, hex};
use expect_test::expect;
use facts::Finding;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// A quote that came with everything but, sometimes, the key that signed it.
struct Recorded {
    message: Vec<u8>,
    signature: Vec<u8>,
    pcrs: Vec<u32>,
    values: Vec<Vec<u8>>,
}

impl Recorded {
    fn verify(&self, key: &PublicKey, nonce: &[u8]) -> Result<Quoted, Vec<Finding>> {
        let selection = PcrSelection::new(&self.pcrs).unwrap();
        let (message, signature) = (&self.message, &self.signature);
        verify_quote(message, signature, key, nonce, &selection, &self.values)
    }

    /// The codes by which a change of each part is refused: message, signature, values, nonce, PCRs.
    fn refusals(&self, key: &PublicKey, nonce: &[u8]) -> String {
        type Change = fn(&mut Recorded, &mut Vec<u8>);
        let changes: [(&str, Change); 5] = [
            ("message", |one, _| *one.message.last_mut().unwrap() ^= 1),
            ("signature", |one, _| {
                *one.signature.last_mut().unwrap() ^= 1;
            }),
            ("value", |one, _| one.values[0][0] ^= 1),
            ("nonce", |_, nonce| nonce[0] ^= 1),
            ("PCRs", |one, _| {
                one.pcrs.pop();
                one.values.pop();
            }),
        ];
        let mut seen = String::new();
        for (what, change) in changes {
            let mut nonce = nonce.to_vec();
            let mut changed = Self {
                message: self.message.clone(),
                signature: self.signature.clone(),
                pcrs: self.pcrs.clone(),
                values: self.values.clone(),
            };
            change(&mut changed, &mut nonce);
            let refused = changed.verify(key, &nonce).unwrap_err();
            writeln!(seen, "{what}: {}", codes(&refused).join(" ")).unwrap();
        }
        seen
    }
}

/// What Google's own tool recorded of a machine: its key, a quote for each bank, and its log.
struct Google {
    ak_public: Vec<u8>,
    quotes: BTreeMap<u64, Recorded>,
    log: Vec<u8>,
}

const SHA1: u64 = 4;
const SHA256: u64 = 11;
const SHA384: u64 = 12;
const NONCE: [u8; 2] = [0x90, 0x09];

fn google(folder: &Path) -> Google {
    let bytes = read(folder, "gce-cos-85-nonce9009.pb");
    let all = fields(&bytes);
    let bytes_of = |number| all.iter().find_map(|field| field.bytes_of(number)).unwrap();
    let mut quotes = BTreeMap::new();
    for quote in all.iter().filter_map(|field| field.bytes_of(2)) {
        let parts = fields(quote);
        let part = |number| {
            parts
                .iter()
                .find_map(|field| field.bytes_of(number))
                .unwrap()
        };
        let pcrs = fields(part(3));
        let bank = pcrs.iter().find_map(|field| field.number_of(1)).unwrap();
        let entry = |field: &Field<'_>| {
            let entry = fields(field.bytes_of(2)?);
            let pcr = entry
                .iter()
                .find_map(|field| field.number_of(1))
                .unwrap_or(0);
            let value = entry.iter().find_map(|field| field.bytes_of(2)).unwrap();
            Some((u32::try_from(pcr).unwrap(), value.to_vec()))
        };
        let values: BTreeMap<u32, Vec<u8>> = pcrs.iter().filter_map(entry).collect();
        let recorded = Recorded {
            message: part(1).to_vec(),
            signature: part(2).to_vec(),
            pcrs: values.keys().copied().collect(),
            values: values.into_values().collect(),
        };
        quotes.insert(bank, recorded);
    }
    Google {
        ak_public: bytes_of(1).to_vec(),
        quotes,
        log: bytes_of(3).to_vec(),
    }
}

#[test]
fn googles_quote_holds_and_its_log_amounts_to_it() {
    let Some(gce) = folder("attest_tpm::googles_certificate", "gce") else {
        return;
    };
    let google = google(&gce);
    let ak = SigningKey::attestation(&google.ak_public).unwrap().key;
    let good = &google.quotes[&SHA256];
    let quoted = good.verify(&ak, &NONCE).unwrap();
    expect![[r#"
        message: TPM-QUOTE-SIGNATURE TPM-QUOTE-DIGEST
        signature: TPM-QUOTE-SIGNATURE
        value: TPM-QUOTE-DIGEST
        nonce: TPM-QUOTE-NONCE
        PCRs: TPM-QUOTE-SELECTION TPM-QUOTE-DIGEST
    "#]]
    .assert_eq(&good.refusals(&ak, &NONCE));
    // The same machine's quotes of its other banks are good signatures over what does not count.
    let other = |bank| codes(&google.quotes[&bank].verify(&ak, &NONCE).unwrap_err()).join(" ");
    expect!["TPM-QUOTE-BANK TPM-QUOTE-SELECTION TPM-QUOTE-DIGEST"].assert_eq(&other(SHA1));
    expect!["TPM-QUOTE-SELECTION TPM-QUOTE-DIGEST"].assert_eq(&other(SHA384));

    let log = Log::parse(&google.log).unwrap();
    let booted = boot::verify(&log, &quoted.pcrs).unwrap();
    let policy = booted.secure_boot().unwrap();
    let seen = format!(
        "Secure Boot {}, db {} dbx {}, {} images, {}",
        policy.enabled,
        policy.allowed.len(),
        policy.forbidden.len(),
        booted.images().count(),
        booted.loader().name(),
    );
    expect!["Secure Boot true, db 1 dbx 4, 3 images, grub"].assert_eq(&seen);
    // A log from which one event is missing, and one of another machine of the same kind.
    let mut shorter = log.clone();
    let dropped = shorter.events.iter().rposition(|event| event.pcr == 4);
    shorter.events.remove(dropped.unwrap());
    let refused = boot::verify(&shorter, &quoted.pcrs).unwrap_err();
    assert_eq!(codes(&refused), ["EVENTLOG-REPLAY"]);
    let Some(logs) = folder("attest_tpm::event_logs", "eventlog") else {
        return;
    };
    let bytes = read(&logs, "cos-93-amd-sev.bin");
    let refused = boot::verify(&Log::parse(&bytes).unwrap(), &quoted.pcrs).unwrap_err();
    assert!(codes(&refused).contains(&"EVENTLOG-REPLAY"), "{refused:?}");
}

/// RSA, 2048 bits, RSASSA and SHA-256, for attestation keys alone.
#[test]
fn an_rsa_attestation_key_signs_by_one_scheme() {
    let Some(gce) = folder("attest_tpm::googles_certificate", "gce") else {
        return;
    };
    let google = google(&gce);
    let good = google.ak_public;
    // Counted from the end: modulus and its length, exponent, bits, hash, scheme.
    let at = |back: usize| good.len() - 256 - 2 - back;
    let ak = SigningKey::attestation(&good).unwrap();
    assert_eq!(ak.key.algorithm(), Algorithm::Rsa);
    for (what, at, bytes) in [
        ("RSASSA-PSS", at(10), [0, 0x16]),
        ("SHA-384", at(8), [0, 0x0c]),
        ("SHA-1", at(8), [0, 0x04]),
        ("3072 bits", at(6), [0x0c, 0]),
        ("exponent 3", at(2), [0, 3]),
    ] {
        let mut changed = good.clone();
        changed[at..at + 2].copy_from_slice(&bytes);
        let refused = SigningKey::attestation(&changed).unwrap_err();
        assert_eq!(refused.code, "TPM-AK-SCHEME", "{what}");
    }
    // As an identity key, which may not be restricted, it would sign TLS by RSA.
    let mut identity = good.clone();
    identity[5] &= !1;
    let refused = SigningKey::identity(&identity).unwrap_err();
    assert_eq!(refused.code, "TPM-KEY-SCHEME");

    let quote = &google.quotes[&SHA256];
    let verifies = |signature: &[u8]| {
        let signature = Signature::parse(signature).unwrap();
        signature.verifies(&ak.key, &quote.message)
    };
    assert!(verifies(&quote.signature));
    for (at, value) in [(1, 0x16), (3, 0x0c), (3, 0x04)] {
        let mut changed = quote.signature.clone();
        changed[at] = value;
        assert!(!verifies(&changed), "{at} {value}");
    }
}

#[test]
fn trustees_quote_is_signed_by_the_key_that_came_with_it() {
    let Some(tpm) = folder("attest_tpm::other_projects", "tpm") else {
        return;
    };
    let json: serde_json::Value =
        serde_json::from_slice(&read(&tpm, "trustee-tpm_evidence.json")).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let bytes = |name: &str| base64::decode(&text(&json["tpm_quote"][name])).unwrap();
    let values = json["tpm_quote"]["pcrs"].as_array().unwrap();
    let recorded = Recorded {
        message: bytes("message"),
        signature: bytes("signature"),
        pcrs: (0..24).collect(),
        values: values
            .iter()
            .map(|value| hex::decode(&text(value)).unwrap())
            .collect(),
    };
    let spki = base64::decode(&text(&json["ak_public"])).unwrap();
    let key = PublicKey::from_spki_der(&spki).unwrap();
    // What the relying party asked for was not recorded beside it.
    let nonce = Attested::parse(&recorded.message).unwrap().extra_data;
    assert_eq!(nonce.len(), 64);
    let quoted = recorded.verify(&key, &nonce).unwrap();
    assert_eq!((quoted.clock.reset_count, quoted.clock.safe), (2, true));
    expect![[r#"
        message: TPM-QUOTE-SIGNATURE TPM-QUOTE-DIGEST
        signature: TPM-QUOTE-SIGNATURE
        value: TPM-QUOTE-DIGEST
        nonce: TPM-QUOTE-NONCE
        PCRs: TPM-QUOTE-SELECTION TPM-QUOTE-DIGEST
    "#]]
    .assert_eq(&recorded.refusals(&key, &nonce));
}

/// The keys of these were not recorded. What can be judged without is: the PCR values are the quoted ones,
/// and nothing else is refused than the signature; by no key does the second, of SHA-1, come through.
#[test]
fn keylimes_quotes_are_of_the_values_beside_them_and_of_an_unknown_key() {
    let Some(tpm) = folder("attest_tpm::other_projects", "tpm") else {
        return;
    };
    let stranger = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
    let stranger = stranger.public_key();
    let python = Recorded {
        message: read(&tpm, "keylime-quote.out"),
        signature: read(&tpm, "keylime-quotesig.out"),
        pcrs: vec![15, 16, 22],
        values: testkit::chip::pcr_values(&read(&tpm, "keylime-quotepcr.out")),
    };
    let nonce = |recorded: &Recorded| Attested::parse(&recorded.message).unwrap().extra_data;
    let refused = python.verify(stranger, &nonce(&python)).unwrap_err();
    assert_eq!(codes(&refused), ["TPM-QUOTE-SIGNATURE"]);
    expect![[r#"
        message: TPM-QUOTE-SIGNATURE TPM-QUOTE-DIGEST
        signature: TPM-QUOTE-SIGNATURE
        value: TPM-QUOTE-SIGNATURE TPM-QUOTE-DIGEST
        nonce: TPM-QUOTE-SIGNATURE TPM-QUOTE-NONCE
        PCRs: TPM-QUOTE-SIGNATURE TPM-QUOTE-SELECTION TPM-QUOTE-DIGEST
    "#]]
    .assert_eq(&python.refusals(stranger, &nonce(&python)));

    let text = String::from_utf8(read(&tpm, "rust-keylime-quote.txt")).unwrap();
    let parts: Vec<Vec<u8>> = text
        .trim()
        .trim_start_matches('r')
        .split(':')
        .map(|part| base64::decode(part).unwrap())
        .collect();
    let [message, signature, pcrs] = <[Vec<u8>; 3]>::try_from(parts).unwrap();
    let Body::Quote { selections, digest } = Attested::parse(&message).unwrap().body else {
        panic!("no quote");
    };
    let values = testkit::chip::pcr_values(&pcrs);
    assert_eq!(Hash::Sha1.digest(&[&values.concat()]), digest);
    let rust = Recorded {
        message,
        signature,
        pcrs: selections[0].indices(),
        values,
    };
    let refused = rust.verify(stranger, &nonce(&rust)).unwrap_err();
    expect!["TPM-QUOTE-SIGNATURE TPM-QUOTE-BANK TPM-QUOTE-SELECTION TPM-QUOTE-DIGEST"]
        .assert_eq(&codes(&refused).join(" "));
}

/// What tpm2-tools recorded beside the join of the laboratory: a digest that the certified key signed,
/// and a credential for the chip.
#[test]
fn the_laboratorys_key_signed_and_its_credential_has_the_shape_of_ours() {
    let Some(lab) = folder("attest_tpm::lab_join", "lab/swtpm-join") else {
        return;
    };
    let public = |name: &str| read(&lab, name)[2..].to_vec();
    let tls = SigningKey::identity(&public("tls.pub")).unwrap().key;
    let (digest, signature) = (read(&lab, "dig"), read(&lab, "dig.sig"));
    let verified = |key: &PublicKey, digest: &[u8], signature: &[u8]| {
        let (kind, hash) = (crypto::chain::Kind::P256, crypto::chain::Hash::Sha256);
        crypto::chain::verify_digest(kind, hash, key.raw(), digest, signature).is_ok()
    };
    assert!(verified(&tls, &digest, &signature));
    for at in 0..digest.len() {
        let mut changed = digest.clone();
        changed[at] ^= 1;
        assert!(!verified(&tls, &changed, &signature), "{at}");
    }
    for at in 0..signature.len() {
        let mut changed = signature.clone();
        changed[at] ^= 1;
        assert!(!verified(&tls, &digest, &changed), "{at}");
    }
    let ak = SigningKey::attestation(&public("ak.pub")).unwrap();
    assert!(!verified(&ak.key, &digest, &signature));

    // Magic and version, then both parts with their lengths. Only the chip could open it.
    let file = read(&lab, "cred.blob");
    let rest = file
        .strip_prefix(&[0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1])
        .unwrap();
    let sized = |bytes: &[u8]| {
        let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
        (bytes[2..2 + length].to_vec(), bytes[2 + length..].to_vec())
    };
    let (blob, rest) = sized(rest);
    let (encrypted_secret, rest) = sized(&rest);
    assert_eq!(rest, [0; 0]);
    let secret: [u8; 32] = read(&lab, "secret").try_into().unwrap();
    let ek = attest_tpm::EndorsementKey::parse(&public("ek.pub")).unwrap();
    let ours = attest_tpm::make_credential(&ek, &ak.name, &secret, &[7; 32]).unwrap();
    assert_eq!(ours.blob.len(), blob.len());
    assert_eq!(ours.encrypted_secret.len(), encrypted_secret.len());
    // Another seed, another wrapping: nothing of a credential repeats but its lengths.
    assert_ne!(ours.blob, blob);
    assert_eq!(ours.blob[..2], blob[..2]);
}

/// In the boots of the laboratory the attestation key is a child of the endorsement key, which a quote
/// says by the name of its signer; the certificate in the chip is of its other, RSA, endorsement key.
#[test]
fn quotes_of_recorded_boots_name_the_chip_and_certificates_of_another_key_do_not_count() {
    let name = |bytes: &[u8]| [&[0, 0x0b][..], &crypto::sha256(bytes)].concat();
    let mut seen = String::new();
    for boot in crate::measure::BOOTS {
        let Some(lab) = crate::measure::lab("attest_tpm::recorded_boots", boot) else {
            return;
        };
        let public = read(&lab.folder, "ek.pub")[2..].to_vec();
        let parent = name(&[&[0x40, 0, 0, 0x0b], &name(&public)[..]].concat());
        let signer = name(&[parent, read(&lab.folder, "ak.name")].concat());
        assert_eq!(lab.quoted.qualified_signer, signer, "{boot}");
        let text = String::from_utf8(read(&lab.folder, "pcrs.txt")).unwrap();
        for (pcr, value) in lab.quoted.pcrs.iter() {
            let value = hex::encode(value).to_uppercase();
            assert!(
                text.contains(&format!("{pcr:<2}: 0x{value}")),
                "{boot} {pcr}"
            );
        }
        let ek = attest_tpm::EndorsementKey::parse(&public).unwrap();
        let certificate = read(&lab.folder, "ekcert.der");
        let then = facts::Timestamp::from_secs(1_796_000_000);
        let refused = attest_tpm::References::default()
            .trust(&ek, &certificate, then)
            .unwrap_err();
        writeln!(seen, "{boot}: {}", codes(&refused).join(" ")).unwrap();
    }
    expect![[r#"
        direct-kernel-no-secureboot: TPM-EK-CERT-KEY TPM-EK-CERT-USAGE TPM-EK-CHAIN
        fsverity-ima-ngv2: TPM-EK-CERT-KEY TPM-EK-CERT-USAGE TPM-EK-CHAIN
        shim-grub-debian-signed-ms-keys: TPM-EK-CERT-KEY TPM-EK-CERT-USAGE TPM-EK-CHAIN
        uki-612-ipe-secureboot: TPM-EK-CERT-KEY TPM-EK-CERT-USAGE TPM-EK-CHAIN
        uki-own-keys-secureboot: TPM-EK-CERT-KEY TPM-EK-CERT-USAGE TPM-EK-CHAIN
        uki-signed-but-tampered-cmdline: TPM-EK-CERT-KEY TPM-EK-CERT-USAGE TPM-EK-CHAIN
    "#]]
    .assert_eq(&seen);
}
