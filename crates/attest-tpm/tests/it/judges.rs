//! What tpm2-tools and OpenSSL say of our quotes, credentials and chains.

use crate::chip::{chip, join, open};
use crate::evidence::{der_of, folder, read};
use crate::forge::{CERTIFY, Script, expectation, forge};
use crate::tools::{pcr_file, pem, run, succeed};
use attest_tpm::structure::verify_quote;
use attest_tpm::{EndorsementKey, PcrSelection, SigningKey, make_credential};
use crypto::{PublicKey, hex};
use device::tpm::{Hierarchy, template};
use expect_test::expect;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

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

/// A recorded quote as files for `tpm2_checkquote`, and as arguments for ours.
struct Case {
    message: Vec<u8>,
    signature: Vec<u8>,
    bitmap: [u8; 3],
    values: Vec<Vec<u8>>,
    nonce: Vec<u8>,
}

impl Case {
    fn ours(&self, key: &PublicKey) -> bool {
        let pcrs: Vec<u32> = (0..24)
            .filter(|pcr| self.bitmap[pcr / 8] >> (pcr % 8) & 1 == 1)
            .map(|pcr| pcr as u32)
            .collect();
        let selection = PcrSelection::new(&pcrs).unwrap();
        let (message, signature) = (&self.message, &self.signature);
        verify_quote(
            message,
            signature,
            key,
            &self.nonce,
            &selection,
            &self.values,
        )
        .is_ok()
    }

    /// What Debian's tool says; the public key is in `ak.pem` of `folder`.
    fn theirs(&self, folder: &Path) -> bool {
        let write = |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).unwrap();
        write("quote.msg", &self.message);
        write("quote.sig", &self.signature);
        write("quote.pcrs", &pcr_file(self.bitmap, &self.values));
        let nonce = hex::encode(&self.nonce);
        let arguments = [
            "-u",
            "ak.pem",
            "-m",
            "quote.msg",
            "-s",
            "quote.sig",
            "-f",
            "quote.pcrs",
            "-g",
            "sha256",
            "-q",
            &nonce,
        ];
        let judged = run(folder, "none", "tpm2_checkquote", &arguments);
        judged.status.success()
    }
}

/// Every quote of the laboratory, and one bit of it changed: message, signature, values, nonce. They differ
/// nowhere; what the tool does not look at is in the test below.
#[test]
fn tpm2_checkquote_judges_every_recorded_quote_and_its_changes_as_we_do() {
    if let Err(why) = testkit::tools(["tpm2_checkquote"]) {
        testkit::skip("attest_tpm::tpm2_checkquote", &why);
        return;
    }
    let boots = crate::measure::BOOTS.map(|boot| (boot, "quote", 0x80_ffff));
    let mut judged = 0;
    let mut differing: BTreeMap<String, usize> = BTreeMap::new();
    let all = boots
        .into_iter()
        .chain([("swtpm-join", "q", 0x01_ffff_u32)]);
    for (number, (name, stem, bits)) in all.enumerate() {
        let Some(lab) = folder("attest_tpm::recorded_boots", &format!("lab/{name}")) else {
            return;
        };
        let work = testkit::temp_dir().unwrap();
        let pem = read(&lab, "ak.pem");
        fs::write(work.path().join("ak.pem"), &pem).unwrap();
        let key = PublicKey::from_spki_der(&der_of(&pem)).unwrap();
        let [low, middle, high, _] = bits.to_le_bytes();
        let nonce = match stem {
            "q" => read(&lab, "nonce"),
            _ => hex::decode("00112233445566778899aabbccddeeff").unwrap(),
        };
        let mut case = Case {
            message: read(&lab, &format!("{stem}.msg")),
            signature: read(&lab, &format!("{stem}.sig")),
            bitmap: [low, middle, high],
            values: testkit::chip::pcr_values(&read(&lab, &format!("{stem}.pcrs"))),
            nonce,
        };
        let mut compare = |what: &str, case: &Case| {
            let (ours, theirs) = (case.ours(&key), case.theirs(work.path()));
            judged += 1;
            if ours != theirs {
                let line = format!("{what}: ours {ours}, theirs {theirs}");
                *differing.entry(line).or_default() += 1;
            }
            ours
        };
        assert!(compare("unchanged", &case), "{name}");
        type Part = (&'static str, fn(&mut Case) -> &mut Vec<u8>);
        let parts: [Part; 3] = [
            ("message", |case| &mut case.message),
            ("signature", |case| &mut case.signature),
            ("nonce", |case| &mut case.nonce),
        ];
        // Each place of one quote, and others by turns of the rest: a process for each takes its time.
        let step = if number == 0 { 1 } else { 6 };
        for (what, part) in parts {
            for at in (number % step..part(&mut case).len()).step_by(step) {
                part(&mut case)[at] ^= 1;
                assert!(!compare(&format!("{what} at {at}"), &case), "{name}");
                part(&mut case)[at] ^= 1;
            }
        }
        for pcr in 0..case.values.len() {
            for at in [pcr % 32, 31] {
                case.values[pcr][at] ^= 0x80;
                assert!(!compare(&format!("value {pcr}"), &case), "{name}");
                case.values[pcr][at] ^= 0x80;
            }
        }
        let whole = case.nonce.clone();
        case.nonce.pop();
        assert!(!compare("a shorter nonce", &case), "{name}");
        case.nonce = whole;
    }
    assert!(judged > 600, "{judged}");
    let seen: String = differing
        .iter()
        .map(|(line, count)| format!("{line}, {count} times\n"))
        .collect();
    expect![[""]].assert_eq(&seen);
}

/// Statements that no chip makes, signed all the same: what the tool does not look at, we do.
#[test]
fn tpm2_checkquote_and_we_on_statements_that_lie() {
    if let Err(why) = testkit::tools(["tpm2_checkquote"]) {
        testkit::skip("attest_tpm::tpm2_checkquote", &why);
        return;
    }
    type Lie = fn(&mut Script);
    let lies: [(&str, Lie); 9] = [
        ("the truth", |_| {}),
        ("an earlier challenge", |s| {
            s.quote.qualifying = Some(vec![1; 32]);
        }),
        ("no nonce", |s| s.quote.qualifying = Some(Vec::new())),
        ("no TPM made it", |s| s.quote.magic = 0),
        ("a certification", |s| s.quote.kind = CERTIFY),
        ("by another key", |s| s.quote.signed_by_another = true),
        ("fewer PCRs", |s| s.quoted_bits = [0x81, 0, 0]),
        ("equal values of other PCRs", |s| {
            s.quoted_bits = [0x06, 0, 1];
        }),
        ("another bank", |s| s.quoted_bank = 0x0c),
    ];
    let mut seen = String::new();
    for (what, lie) in lies {
        let mut script = Script::default();
        lie(&mut script);
        let (evidence, _) = forge(&script);
        let ak = SigningKey::attestation(&evidence.request.ak_public).unwrap();
        let work = testkit::temp_dir().unwrap();
        let spki = pem("PUBLIC KEY", ak.key.spki_der());
        fs::write(work.path().join("ak.pem"), spki).unwrap();
        let expected = expectation();
        let case = Case {
            message: evidence.answer.quote,
            signature: evidence.answer.quote_signature,
            bitmap: PcrSelection::new(&expected.pcrs).unwrap().bitmap(),
            values: evidence.answer.pcr_values,
            nonce: expected.nonce.to_vec(),
        };
        let said = |good| if good { "accept" } else { "refuse" };
        let ours = said(case.ours(&ak.key));
        let theirs = said(case.theirs(work.path()));
        seen.push_str(&format!("{what}: we {ours}, the tool {theirs}s\n"));
    }
    expect![[r#"
        the truth: we accept, the tool accepts
        an earlier challenge: we refuse, the tool refuses
        no nonce: we refuse, the tool refuses
        no TPM made it: we refuse, the tool accepts
        a certification: we refuse, the tool refuses
        by another key: we refuse, the tool refuses
        fewer PCRs: we refuse, the tool accepts
        equal values of other PCRs: we refuse, the tool accepts
        another bank: we refuse, the tool accepts
    "#]]
    .assert_eq(&seen);
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
