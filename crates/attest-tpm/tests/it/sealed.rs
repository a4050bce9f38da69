//! Sealed startup: policies as a chip computes them, what a chip opens and what it refuses, and approvals that
//! somebody has changed.

use crate::chip::chip;
use attest_tpm::PcrSelection;
use attest_tpm::seal::{
    Approval, ApprovalSet, Approver, LONGEST, MOST, Pcrs, Scope, approved_policy, authorized_policy,
};
use crypto::{Algorithm, KeyPair, SecretBytes, Signer as _};
use device::tpm::Tpm;
use device::tpm::seal::{Sealed, UnsealError};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use testkit::swtpm::Swtpm;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn scope() -> Scope {
    Scope {
        trust_domain: "example.org".to_owned(),
        ring: "production".to_owned(),
        epoch: 1,
    }
}

fn key() -> KeyPair {
    KeyPair::generate(Algorithm::EcdsaP256).unwrap()
}

fn approver(key: &KeyPair) -> Approver {
    Approver::new(key.public_key().clone()).unwrap()
}

fn pcrs(pairs: &[(u32, [u8; 32])]) -> Pcrs {
    Pcrs::new(pairs.iter().copied().collect()).unwrap()
}

/// A chip, and the tool that measures into it.
struct Machine {
    chip: Swtpm,
    tools: [PathBuf; 4],
}

impl Machine {
    fn new(test: &str) -> Option<Self> {
        let names = [
            "tpm2_pcrextend",
            "tpm2_startauthsession",
            "tpm2_policypcr",
            "tpm2_policyauthorize",
        ];
        let tools = match testkit::tools(names) {
            Ok(tools) => tools,
            Err(why) => {
                testkit::skip(test, &why);
                return None;
            }
        };
        let chip = chip(test)?;
        Some(Self { chip, tools })
    }

    fn tpm(&self) -> Tpm {
        Tpm::open(&self.chip.uri()).unwrap()
    }

    fn extend(&self, pcr: u32) {
        let digest = "7".repeat(64);
        let mut command = Command::new(&self.tools[0]);
        command.env("TPM2TOOLS_TCTI", self.chip.tcti());
        command.arg(format!("{pcr}:sha256={digest}"));
        assert!(command.status().unwrap().success());
    }

    fn reboot(&mut self) {
        self.chip.power_off();
        self.chip.power_on().unwrap();
    }

    /// What PCR 4 and 11 are now.
    fn now(&self) -> Pcrs {
        let selection = PcrSelection::new(&[4, 11]).unwrap();
        pcrs(&self.tpm().pcr_values(&selection).unwrap())
    }

    fn open(
        &self,
        sealed: &Sealed,
        key: &KeyPair,
        scope: &Scope,
        approval: &Approval,
    ) -> Result<Vec<u8>, UnsealError> {
        let mut tpm = self.tpm();
        let opened = tpm.unseal(sealed, &approver(key), scope, approval);
        // Whatever came of it, the three slots are free.
        for _ in 0..4 {
            assert!(tpm.endorsement().is_ok());
            drop(tpm);
            tpm = self.tpm();
        }
        opened.map(|secret| secret.expose().to_vec())
    }
}

fn approve(key: &KeyPair, scope: &Scope, pcrs: Pcrs) -> Approval {
    ApprovalSet::sign(scope, key, pcrs, "linux 6.12".to_owned()).unwrap()
}

#[test]
fn a_chip_opens_in_approved_boots_and_in_no_other() {
    let Some(mut machine) = Machine::new("attest_tpm::sealed") else {
        return;
    };
    let (key, scope) = (key(), scope());
    machine.extend(4);
    let old = machine.now();
    let by_old = approve(&key, &scope, old.clone());
    let secret = SecretBytes::new(SECRET.to_vec());
    let sealed = machine
        .tpm()
        .seal(&secret, &approver(&key), &scope)
        .unwrap();
    assert!(!format!("{sealed:?}").contains("0123456789"));
    assert_eq!(
        machine.open(&sealed, &key, &scope, &by_old).unwrap(),
        SECRET
    );

    // Something that nobody has approved runs.
    machine.extend(11);
    let refused = machine.open(&sealed, &key, &scope, &by_old);
    assert!(matches!(refused, Err(UnsealError::Boot(_))), "{refused:?}");

    // It is approved: by a signature, and nothing is sealed anew.
    let new = machine.now();
    assert_ne!(new, old);
    let by_new = approve(&key, &scope, new);
    assert_eq!(
        machine.open(&sealed, &key, &scope, &by_new).unwrap(),
        SECRET
    );

    // Back in the old boot, the new approval is of no use and the old one is.
    machine.reboot();
    machine.extend(4);
    assert_eq!(
        machine.open(&sealed, &key, &scope, &by_old).unwrap(),
        SECRET
    );
    let refused = machine.open(&sealed, &key, &scope, &by_new);
    assert!(matches!(refused, Err(UnsealError::Boot(_))), "{refused:?}");
}

#[test]
fn an_approval_by_another_key_or_for_another_ring_or_epoch_opens_nothing() {
    let Some(machine) = Machine::new("attest_tpm::sealed") else {
        return;
    };
    let (key, other, scope) = (key(), key(), scope());
    let pcrs = machine.now();
    let secret = SecretBytes::new(SECRET.to_vec());
    let sealed = machine
        .tpm()
        .seal(&secret, &approver(&key), &scope)
        .unwrap();

    let by_other = approve(&other, &scope, pcrs.clone());
    // Under its own key the signature is good, and the policy another.
    let refused = machine.open(&sealed, &other, &scope, &by_other);
    assert!(matches!(refused, Err(UnsealError::Policy)), "{refused:?}");
    // Under the authority's it does not verify.
    let refused = machine.open(&sealed, &key, &scope, &by_other);
    assert!(
        matches!(refused, Err(UnsealError::Signature)),
        "{refused:?}"
    );

    for another in [
        Scope {
            ring: "canary".to_owned(),
            ..scope.clone()
        },
        Scope {
            epoch: 2,
            ..scope.clone()
        },
        Scope {
            trust_domain: "example.com".to_owned(),
            ..scope.clone()
        },
    ] {
        let approval = approve(&key, &another, pcrs.clone());
        let refused = machine.open(&sealed, &key, &another, &approval);
        assert!(matches!(refused, Err(UnsealError::Policy)), "{refused:?}");
        let refused = machine.open(&sealed, &key, &scope, &approval);
        assert!(
            matches!(refused, Err(UnsealError::Signature)),
            "{refused:?}"
        );
    }

    // Another chip of the same maker has another storage key.
    let sibling = machine.chip.sibling().unwrap();
    let mut tpm = Tpm::open(&sibling.uri()).unwrap();
    let approval = approve(&key, &scope, pcrs);
    let refused = tpm.unseal(&sealed, &approver(&key), &scope, &approval);
    assert!(matches!(refused, Err(UnsealError::Chip)));
}

#[test]
fn what_was_sealed_and_changed_is_not_opened() {
    let Some(machine) = Machine::new("attest_tpm::sealed") else {
        return;
    };
    let (key, scope) = (key(), scope());
    let approval = approve(&key, &scope, machine.now());
    let secret = SecretBytes::new(SECRET.to_vec());
    let sealed = machine
        .tpm()
        .seal(&secret, &approver(&key), &scope)
        .unwrap();
    for at in (0..sealed.private.len()).step_by(7) {
        let mut changed = sealed.clone();
        changed.private[at] ^= 1;
        let mut tpm = machine.tpm();
        let refused = tpm.unseal(&changed, &approver(&key), &scope, &approval);
        assert!(refused.is_err(), "byte {at} of the private part");
    }
    for at in 0..sealed.public.len() {
        let mut changed = sealed.clone();
        changed.public[at] ^= 1;
        let mut tpm = machine.tpm();
        let refused = tpm.unseal(&changed, &approver(&key), &scope, &approval);
        assert!(refused.is_err(), "byte {at} of the public part");
    }
    let opened = machine.open(&sealed, &key, &scope, &approval);
    assert_eq!(opened.unwrap(), SECRET);
}

/// What sits on the bus: it hears every byte, and may change one in what the chip answers to `TPM2_Unseal`.
struct Wire {
    folder: tempfile::TempDir,
    heard: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Wire {
    fn tap(chip: &Swtpm, flip: Option<usize>) -> Self {
        let folder = testkit::temp_dir().unwrap();
        let listener = UnixListener::bind(folder.path().join("wire.sock")).unwrap();
        let heard = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let (log, behind) = (std::sync::Arc::clone(&heard), chip.socket());
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut chip = UnixStream::connect(&behind).unwrap();
                while let Some(command) = frame(&mut client) {
                    chip.write_all(&command).unwrap();
                    let Some(mut answer) = frame(&mut chip) else {
                        break;
                    };
                    log.lock().unwrap().extend([&command[..], &answer].concat());
                    let unseals = command[6..10] == 0x15e_u32.to_be_bytes();
                    if let Some(at) = flip.filter(|at| unseals && *at < answer.len()) {
                        answer[at] ^= 1;
                    }
                    drop(client.write_all(&answer));
                }
            }
        });
        Self { folder, heard }
    }

    fn uri(&self) -> String {
        format!("swtpm:{}", self.folder.path().join("wire.sock").display())
    }
}

fn frame(stream: &mut UnixStream) -> Option<Vec<u8>> {
    let mut header = [0; 10];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_be_bytes(header[2..6].try_into().unwrap());
    let mut rest = vec![0; usize::try_from(length).unwrap() - 10];
    stream.read_exact(&mut rest).ok()?;
    Some([&header[..], &rest].concat())
}

#[test]
fn the_secret_is_not_seen_on_the_bus_and_a_changed_answer_is_not_taken() {
    let Some(machine) = Machine::new("attest_tpm::sealed") else {
        return;
    };
    let (key, scope) = (key(), scope());
    let approval = approve(&key, &scope, machine.now());
    let secret = SecretBytes::new(SECRET.to_vec());
    let wire = Wire::tap(&machine.chip, None);
    let mut tpm = Tpm::open(&wire.uri()).unwrap();
    let sealed = tpm.seal(&secret, &approver(&key), &scope).unwrap();
    let opened = tpm.unseal(&sealed, &approver(&key), &scope, &approval);
    assert_eq!(opened.unwrap().expose(), SECRET);
    drop(tpm);
    let heard = wire.heard.lock().unwrap().clone();
    assert!(heard.len() > 1000);
    let eight = SECRET.first_chunk::<8>().unwrap();
    assert!(
        !heard.windows(8).any(|seen| seen == eight),
        "the secret was heard"
    );
    // Header 10, length of the parameters 4, length of the secret 2: from 16 on it is the secret itself.
    for at in [16, 20, 47, 50, 80, 90] {
        let wire = Wire::tap(&machine.chip, Some(at));
        let mut tpm = Tpm::open(&wire.uri()).unwrap();
        let refused = tpm.unseal(&sealed, &approver(&key), &scope, &approval);
        let session = matches!(
            refused,
            Err(UnsealError::Tpm(device::tpm::Error::Session(_)))
        );
        assert!(session, "byte {at}");
    }
}

/// Debian's tpm2-tools have the chip compute the same two digests.
#[test]
fn policies_are_those_that_tpm2_tools_have_the_chip_compute() {
    let Some(machine) = Machine::new("attest_tpm::sealed") else {
        return;
    };
    machine.extend(4);
    let (key, scope, pcrs) = (key(), scope(), machine.now());
    let folder = testkit::temp_dir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let run = |tool: usize, arguments: &[&str]| {
        let mut command = Command::new(&machine.tools[tool]);
        command.env("TPM2TOOLS_TCTI", machine.chip.tcti());
        command.current_dir(folder.path()).args(arguments);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
    };
    run(1, &["-S", "trial", "-g", "sha256"]);
    run(2, &["-S", "trial", "-l", "sha256:4,11", "-L", "pcr.policy"]);
    assert_eq!(
        std::fs::read(file("pcr.policy")).unwrap(),
        approved_policy(&pcrs)
    );

    // The name of the key is all that the tool needs of it.
    let approver = approver(&key);
    std::fs::write(file("name"), approver.name.as_bytes()).unwrap();
    std::fs::write(file("reference"), scope.policy_ref()).unwrap();
    run(1, &["-S", "trial2", "-g", "sha256"]);
    let arguments = [
        "-S",
        "trial2",
        "-L",
        "out",
        "-i",
        "pcr.policy",
        "-q",
        "reference",
        "-n",
        "name",
    ];
    run(3, &arguments);
    let theirs = std::fs::read(file("out")).unwrap();
    assert_eq!(theirs, authorized_policy(&approver, &scope));
}

fn set(key: &KeyPair, count: u8) -> ApprovalSet {
    let mut set = ApprovalSet::empty(scope(), approver(key));
    for number in 0..count {
        let boot = pcrs(&[(4, [number; 32]), (11, [9; 32])]);
        set.add(approve(key, &scope(), boot)).unwrap();
    }
    set
}

#[test]
fn a_set_is_read_back_as_it_was_written_and_finds_the_boot() {
    let key = key();
    let set = set(&key, 3);
    let read = ApprovalSet::parse(set.to_json().as_bytes()).unwrap();
    assert_eq!(read.approvals(), set.approvals());
    assert_eq!(read.scope, set.scope);
    assert_eq!(read.approver.name, set.approver.name);
    let booted = |number: u8| {
        move |index| match index {
            4 => Some([number; 32]),
            11 => Some([9; 32]),
            _ => None,
        }
    };
    assert_eq!(read.of(booted(2)), set.approvals().get(2));
    assert_eq!(read.of(booted(3)), None);
    assert_eq!(read.of(|_| None), None);
}

#[test]
fn a_set_in_which_anything_that_is_signed_was_changed_is_refused() {
    let key = key();
    let text = set(&key, 1).to_json();
    let code = |from: &str, to: &str| {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        ApprovalSet::parse(changed.as_bytes()).unwrap_err().code
    };
    for (from, to) in [
        ("example.org", "example.com"),
        ("production", "canary"),
        ("\"epoch\": \"1\"", "\"epoch\": \"2\""),
        ("\"index\": 4", "\"index\": 5"),
        ("000000", "000001"),
    ] {
        assert_eq!(code(from, to), "SEAL-SIGNATURE", "{from}");
    }
    let other = crypto::base64::encode(crate::sealed::key().public_key().spki_der());
    let own = crypto::base64::encode(key.public_key().spki_der());
    assert_eq!(code(&own, &other), "SEAL-SIGNATURE");
    for (from, to) in [
        ("\"v\": 1", "\"v\": 2"),
        ("\"index\": 4", "\"index\": 11"),
        ("\"epoch\": \"1\"", "\"epoch\": \"x\""),
        ("linux", "\\u001b[2J"),
    ] {
        assert_eq!(code(from, to), "SEAL-FILE", "{from}");
    }
    assert_eq!(code("\"index\": 11", "\"index\": 24"), "TPM-SELECTION");
    let rsa_like = KeyPair::generate(Algorithm::Ed25519).unwrap();
    let rsa_like = crypto::base64::encode(rsa_like.public_key().spki_der());
    assert_eq!(code(&own, &rsa_like), "SEAL-KEY");
}

#[test]
fn a_set_is_bounded() {
    let key = key();
    let mut full = set(&key, u8::try_from(MOST).unwrap());
    assert!(full.to_json().len() < LONGEST);
    let more = approve(&key, &scope(), pcrs(&[(4, [0xff; 32])]));
    assert_eq!(full.add(more).unwrap_err().code, "SEAL-FILE");
    let mut one = set(&key, 1);
    let again = one.approvals()[0].clone();
    assert_eq!(one.add(again).unwrap_err().code, "SEAL-FILE");
    let long = vec![b' '; LONGEST + 1];
    assert_eq!(ApprovalSet::parse(&long).unwrap_err().code, "SEAL-FILE");
    assert!(Pcrs::new(BTreeMap::new()).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        drop(ApprovalSet::parse(&bytes));
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let json = serde_json::json!({
            "v": 1, "trust_domain": text, "ring": text, "epoch": text, "key": text,
            "approvals": [{ "label": text, "signature": text, "pcrs": [{ "index": 4, "sha256": text }] }],
        });
        prop_assert!(ApprovalSet::parse(json.to_string().as_bytes()).is_err());
    }

    #[test]
    fn different_scopes_have_different_references(
        one in "[a-z]{0,4}", two in "[a-z]{0,4}", epoch in 0_u64..4,
        other_one in "[a-z]{0,4}", other_two in "[a-z]{0,4}", other_epoch in 0_u64..4,
    ) {
        let scope = |trust_domain: String, ring: String, epoch| Scope { trust_domain, ring, epoch };
        let (a, b) = (scope(one, two, epoch), scope(other_one, other_two, other_epoch));
        prop_assert_eq!(a == b, a.policy_ref() == b.policy_ref());
    }
}
