//! What firmware writes down: the TCG event log, and the lists of signatures in its variables.

use crate::seeds;
use crate::tpm::RECORDED;
use attest_tpm::boot::{Boot, verify};
use attest_tpm::efi::{Content, Guid, Variable, parse_signature_lists};
use attest_tpm::eventlog::{Kind, Log};
use attest_tpm::structure::verify_quote;
use attest_tpm::{PcrSelection, QuotedPcrs};
use crypto::{Hash, Signer as _, sha256};
use facts::{Source, Timestamp};
use references::uefi::SignatureLists;
use std::cell::RefCell;
use std::collections::BTreeMap;
use testkit::chip::{Chip, event_log};
use testkit::domain::DomainLog;

/// A log takes no more than it is, replays as its digests say, and is of no recorded boot but its own.
pub(crate) fn log(bytes: &[u8]) {
    let Ok(log) = Log::parse(bytes) else {
        return;
    };
    let held: usize = log.events.iter().map(|event| event.data.len()).sum();
    assert!(held + 16 * log.events.len() + log.padding <= bytes.len() + 16);
    for hash in Hash::ALL {
        let _known = log.contradictions(hash);
        if let Ok(replay) = log.replay(hash) {
            let by_hand = by_hand(&log, hash);
            for pcr in replay.touched() {
                // PCR 0 may begin with a locality.
                assert!(
                    pcr == 0 || by_hand.get(&pcr) == Some(&replay.value(pcr)),
                    "PCR {pcr}"
                );
            }
        }
    }
    for recorded in RECORDED.iter() {
        if let Ok(boot) = verify(&log, &recorded.quoted.pcrs) {
            let good = Log::parse(&recorded.log).expect("a recorded log");
            let good = verify(&good, &recorded.quoted.pcrs).expect("it is of its quote");
            assert_eq!(digests(&boot), digests(&good), "says what was not measured");
        }
    }
    // What no recorded quote reaches, a quote of its own does.
    if let Some(quoted) = quoted(&log)
        && let Ok(boot) = verify(&log, &quoted)
    {
        assert!(log.contradictions(Hash::Sha256).is_empty());
        assert!(!boot.facts(Source::Hardware, Timestamp::EPOCH).is_empty());
    }
}

/// The log of a trust domain, which two verifiers read: for its registers, and for what it says.
pub(crate) fn domain(bytes: &[u8]) {
    let (Ok(rtmr), Ok(log)) = (attest_tee::tdx::replay(bytes), Log::parse(bytes)) else {
        return;
    };
    if let Ok(replay) = log.replay(Hash::Sha384) {
        for (register, value) in (1..).zip(rtmr) {
            assert_eq!(replay.value(register), value, "register {register}");
        }
    }
}

pub(crate) fn domain_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::files(&["tdx/ccel_ovmf.dat", "tdx/cos-113/ccel_data.dat"]);
    all.push(DomainLog::of_grub(true, "/boot/vmlinuz root=/dev/sda1").bytes);
    all.push(DomainLog::default().policy(false).data(1, 4, &[0; 4]).bytes);
    all
}

/// Extends every event as Part 1 has it, without regard to who started the chip.
fn by_hand(log: &Log<'_>, hash: Hash) -> BTreeMap<u32, Vec<u8>> {
    let mut values = BTreeMap::new();
    for event in log
        .events
        .iter()
        .filter(|event| event.kind != Kind::NO_ACTION)
    {
        let filler = if (17..=22).contains(&event.pcr) {
            0xff
        } else {
            0
        };
        let value = values
            .entry(event.pcr)
            .or_insert_with(|| vec![filler; hash.length()]);
        let digest = event.digest(hash).expect("it was replayed");
        *value = hash.digest(&[value, digest]);
    }
    values
}

/// Of each measurement its PCR and digest, in order within each PCR.
fn digests(boot: &Boot) -> BTreeMap<u32, Vec<[u8; 32]>> {
    let mut all: BTreeMap<u32, Vec<[u8; 32]>> = BTreeMap::new();
    for one in boot.measurements() {
        all.entry(one.pcr).or_default().push(one.digest);
    }
    all
}

/// A quote, by a key of software, of what the log amounts to.
fn quoted(log: &Log<'_>) -> Option<QuotedPcrs> {
    thread_local! {
        static CHIP: RefCell<Chip> = RefCell::new(Chip::new().expect("a key"));
    }
    let replay = log.replay(Hash::Sha256).ok()?;
    CHIP.with_borrow_mut(|chip| {
        for (pcr, value) in chip.pcrs() {
            *value = replay.value(*pcr).try_into().ok()?;
        }
        let quote = chip.quote(b"nonce").ok()?;
        let pcrs: Vec<u32> = chip.pcrs().keys().copied().collect();
        let selection = PcrSelection::new(&pcrs).ok()?;
        let (attested, signature) = (&quote.attested, &quote.signature);
        let key = chip.key().public_key();
        let quoted = verify_quote(
            attested,
            signature,
            key,
            b"nonce",
            &selection,
            &quote.values,
        );
        Some(quoted.expect("made here").pcrs)
    })
}

pub(crate) fn log_seeds() -> Vec<Vec<u8>> {
    let mut all = seeds::of_boots("eventlog.bin");
    all.extend(seeds::folder("eventlog", ".bin"));
    all.extend(seeds::files(&[
        "tdx/ccel_ovmf.dat",
        "tdx/cos-113/ccel_data.dat",
    ]));
    all.push(made_log());
    all
}

/// A crypto-agile log of SHA-256 with two events.
fn made_log() -> Vec<u8> {
    let (mut chip, mut log) = (Chip::new().unwrap(), event_log());
    chip.boot_event(&mut log, 7, Kind::SEPARATOR.0, &[0; 4]);
    chip.boot_event(&mut log, 4, Kind::EFI_ACTION.0, b"text");
    log
}

/// `EFI_SIGNATURE_LIST`: the two readers of this workspace, of machines' logs and of files, see the same.
pub(crate) fn signatures(bytes: &[u8]) {
    if let Some((variable, used)) = Variable::parse(bytes) {
        assert!(used <= bytes.len() && variable.value.len() <= used);
        let _refused = parse_signature_lists(variable.value);
    }
    let (Ok(logged), Ok(filed)) = (parse_signature_lists(bytes), SignatureLists::parse(bytes))
    else {
        return;
    };
    assert!(17 * logged.len() <= bytes.len());
    let certificates =
        |one: &&attest_tpm::efi::Signature| matches!(one.content, Content::Certificate { .. });
    let logged_certificates = logged.iter().filter(certificates);
    let filed_certificates: Vec<_> = filed.certificates().collect();
    assert_eq!(
        logged_certificates.clone().count(),
        filed_certificates.len()
    );
    for (logged, (owner, der)) in logged_certificates.zip(filed_certificates) {
        assert_eq!(logged.content.digest(), &sha256(der));
        assert_eq!(logged.owner, Guid::new(owner.try_into().unwrap()));
    }
    for one in &logged {
        if let Content::Image(digest) = &one.content {
            let data = filed
                .digest(&references::Digest(*digest))
                .expect("listed by both");
            assert!(data.ends_with(digest));
        }
    }
}

pub(crate) fn signature_seeds() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = seeds::folder("secureboot", ".bin");
    let updates: Vec<_> = all.iter().filter_map(|file| update_body(file)).collect();
    all.extend(updates);
    for certificate in seeds::folder("secureboot", ".crt") {
        all.push(references::uefi::x509_list(&[7; 16], &certificate));
    }
    all.push(references::uefi::x509_list(&[7; 16], b"no certificate"));
    for boot in RECORDED.iter() {
        let log = Log::parse(&boot.log).expect("a recorded log");
        let variables = log.events.iter().filter(|event| matches!(event.pcr, 7 | 1));
        all.extend(
            variables
                .map(|event| event.data.to_vec())
                .filter(|data| data.len() > 32),
        );
    }
    all
}

/// What stands behind time and signature in an update of an authenticated variable.
fn update_body(file: &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(*file.get(16..)?.first_chunk()?);
    Some(file.get(16 + usize::try_from(length).ok()?..)?.to_vec())
}
