//! Every byte of recorded logs and lists, changed; every length, cut. Nothing panics, nothing says what
//! was not measured.

use crate::evidence::{folder, read};
use crate::measure::{BOOTS, Lab, lab, quote, replayed};
use attest_tpm::QuotedPcrs;
use attest_tpm::boot::{Boot, Meaning, verify};
use attest_tpm::efi::{Variable, parse_signature_lists};
use attest_tpm::eventlog::{Kind, Log};
use attest_tpm::ima::{self, List};
use crypto::Hash;
use proptest::prelude::*;

fn read_again(bytes: &[u8], quoted: &QuotedPcrs) -> Option<Boot> {
    verify(&Log::parse(bytes).ok()?, quoted).ok()
}

fn read_all(bytes: &[u8], quoted: &QuotedPcrs) -> Option<Boot> {
    let log = Log::parse(bytes).ok()?;
    for hash in Hash::ALL {
        drop(log.replay(hash));
        drop(log.contradictions(hash));
    }
    verify(&log, quoted).ok()
}

/// What a changed log may still say: the same digests in the same PCRs, each meaning what it meant or
/// less.
fn says_no_more(changed: &Boot, good: &Boot) -> bool {
    (0..24).all(|pcr| {
        let of = |boot: &Boot| -> Vec<([u8; 32], Meaning)> {
            boot.measurements()
                .iter()
                .filter(|one| one.pcr == pcr)
                .map(|one| (one.digest, one.meaning.clone()))
                .collect()
        };
        let (changed, good) = (of(changed), of(good));
        changed.len() == good.len()
            && changed.iter().zip(&good).all(|(changed, good)| {
                let same = changed.1 == good.1;
                let less = matches!(changed.1, Meaning::Elsewhere(_) | Meaning::Data(_));
                // What kind of line it is, GRUB does not measure; what text is in a tag or an IPL
                // event, the digest proves under either name.
                let text = matches!(
                    (&changed.1, &good.1),
                    (Meaning::Grub(_, a), Meaning::Grub(_, b)) if a == b
                );
                changed.0 == good.0 && (same || less || text)
            })
    })
}

/// A changed byte is refused, or is one that nothing measures: a type, a note, a length of either.
#[test]
fn no_changed_byte_of_a_recorded_boot_makes_it_say_something_else() {
    let mut kept = 0;
    let mut total = 0;
    for name in BOOTS {
        let Some(Lab {
            mut log, quoted, ..
        }) = lab("attest_tpm::recorded_boots", name)
        else {
            return;
        };
        let good = read_again(&log, &quoted.pcrs).unwrap();
        for at in 0..log.len() {
            let bit = 1 << (at % 8);
            log[at] ^= bit;
            if let Some(changed) = read_again(&log, &quoted.pcrs) {
                assert!(says_no_more(&changed, &good), "{name}: byte {at}");
                kept += 1;
            }
            log[at] ^= bit;
            total += 1;
        }
        for cut in (0..log.len()).step_by(3).chain([log.len() - 1]) {
            assert!(
                read_again(&log[..cut], &quoted.pcrs).is_none(),
                "{name}: {cut}"
            );
        }
    }
    assert!(
        kept * 4 < total,
        "{kept} of {total} changes were not noticed"
    );
}

/// Each digest of each event, one bit changed: the log is not that of the quote any more.
#[test]
fn a_changed_digest_never_replays() {
    let Some(folder) = folder("attest_tpm::event_logs", "eventlog") else {
        return;
    };
    let mut changed = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".bin") {
            continue;
        }
        let mut bytes = read(&folder, &name);
        let places: Vec<(usize, usize)> = {
            let log = Log::parse(&bytes).unwrap();
            if !log.has(Hash::Sha256) {
                continue;
            }
            let start = bytes.as_ptr() as usize;
            log.measured()
                .filter(|event| event.pcr != 10 && event.pcr < 15)
                .map(|event| {
                    let digest = event.digest(Hash::Sha256).unwrap();
                    (event.index, digest.as_ptr() as usize - start)
                })
                .collect()
        };
        let quoted = quote(&replayed(&Log::parse(&bytes).unwrap()), 1);
        assert!(verify(&Log::parse(&bytes).unwrap(), &quoted.pcrs).is_ok());
        for (event, place) in places {
            let at = place + event % 32;
            bytes[at] ^= 1 << (event % 8);
            let refused = verify(&Log::parse(&bytes).unwrap(), &quoted.pcrs).unwrap_err();
            assert!(
                refused.iter().any(|one| one.code == "EVENTLOG-REPLAY"),
                "{name}: event {event}"
            );
            bytes[at] ^= 1 << (event % 8);
            changed += 1;
        }
    }
    assert_eq!(changed, 1323);
}

/// Some bytes of each recorded log of other machines, changed and cut.
#[test]
fn changed_logs_of_other_machines_are_survived() {
    let Some(folder) = folder("attest_tpm::event_logs", "eventlog") else {
        return;
    };
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".bin") {
            continue;
        }
        let mut bytes = read(&folder, &name);
        let (good, quoted) = {
            let log = Log::parse(&bytes).unwrap();
            if log.has(Hash::Sha256) {
                let quoted = quote(&replayed(&log), 1);
                (verify(&log, &quoted.pcrs).ok(), quoted)
            } else {
                (None, quote(&[(0, [0; 32])].into(), 1))
            }
        };
        for at in (0..bytes.len()).step_by(61) {
            bytes[at] ^= 0xff;
            if let (Some(changed), Some(good)) = (read_all(&bytes, &quoted.pcrs), &good) {
                assert!(says_no_more(&changed, good), "{name}: byte {at}");
            }
            bytes[at] ^= 0xff;
            let cut = read_all(&bytes[..at], &quoted.pcrs);
            assert!(cut.is_none(), "{name}: cut at {at}");
        }
    }
}

/// An event may bring fewer digests than the header lists; without the one that is replayed it says
/// nothing that a quote could stand behind.
#[test]
fn an_event_without_a_digest_of_the_bank_is_refused() {
    let mut writer = crate::measure::Writer::new();
    let pcrs = replayed(&writer.log());
    let quoted = quote(&pcrs, 1);
    for number in [5, Kind::EVENT_TAG.0, 0, 0] {
        writer.0.extend(number.to_le_bytes());
    }
    let refused = verify(&writer.log(), &quoted.pcrs).unwrap_err();
    assert_eq!(refused[0].code, "EVENTLOG-BANK");
}

/// Lengths and counts that are larger than what is there, at every place where one stands.
#[test]
fn hostile_sizes_are_refused_before_anything_is_made_of_them() {
    let sized = |pcr: u32, kind: u32, count: u32, length: u32| {
        let mut bytes = crate::measure::Writer::new().0;
        for number in [pcr, kind, count] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([0x0b, 0]);
        bytes.extend([7; 32]);
        bytes.extend(length.to_le_bytes());
        bytes
    };
    assert!(Log::parse(&sized(0, Kind::POST_CODE.0, 1, 0)).is_ok());
    for (bytes, problem) in [
        (sized(0, 1, 1, 1), "longer than what is left"),
        (sized(0, 1, 1, u32::MAX), "longer than what is left"),
        (sized(0, 1, 2, 0), "more digests than the header lists"),
        (
            sized(0, 1, u32::MAX, 0),
            "more digests than the header lists",
        ),
        (sized(24, 1, 1, 0), "a PCR above 23"),
        (sized(u32::MAX, 1, 1, 0), "a PCR above 23"),
    ] {
        let refused = Log::parse(&bytes).unwrap_err();
        assert_eq!(refused.code, "EVENTLOG-STRUCTURE");
        let observed = refused.observed.unwrap();
        assert!(observed.contains(problem), "{observed}");
    }
    let header = |from: usize, bytes: &[u8]| {
        let mut log = crate::measure::Writer::new().0;
        log[from..from + bytes.len()].copy_from_slice(bytes);
        Log::parse(&log).map(|_| ()).map_err(|one| one.code)
    };
    // Count of hash functions, their lengths, vendor's bytes, length of the header itself.
    assert_eq!(header(56, &[1, 0, 0, 0]), Ok(()));
    for (at, bytes) in [
        (56, &[0, 0, 0, 0][..]),
        (56, &[2, 0, 0, 0]),
        (56, &[17, 0, 0, 0]),
        (56, &[0xff; 4]),
        (62, &[31, 0]),
        (62, &[0xff, 0xff]),
        (64, &[1]),
        (28, &[0xff; 4]),
    ] {
        assert_eq!(
            header(at, bytes),
            Err("EVENTLOG-STRUCTURE".into()),
            "{at} {bytes:?}"
        );
    }
    // A byte behind the vendor's, within the header.
    let mut longer = crate::measure::Writer::new().0;
    longer[28] += 1;
    longer.push(7);
    assert_eq!(Log::parse(&longer).unwrap_err().code, "EVENTLOG-STRUCTURE");
    let too_long = vec![0; attest_tpm::eventlog::LONGEST + 1];
    assert_eq!(Log::parse(&too_long).unwrap_err().code, "EVENTLOG-SIZE");
    let mut many = crate::measure::Writer::new();
    for _ in 0..10_001 {
        many = many.event(0, Kind::POST_CODE, [7; 32], &[]);
    }
    assert_eq!(Log::parse(&many.0).unwrap_err().code, "EVENTLOG-SIZE");
}

proptest! {
    #[test]
    fn parsers_of_boots_survive_noise(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        drop(Log::parse(&bytes));
        let mut behind = crate::measure::Writer::new().0;
        behind.extend(&bytes);
        if let Ok(log) = Log::parse(&behind) {
            drop(log.replay(Hash::Sha256));
            drop(log.contradictions(Hash::Sha256));
        }
        drop(parse_signature_lists(&bytes));
        drop(Variable::parse(&bytes));
        drop(List::parse_binary(&bytes, 0));
        drop(List::parse_ascii(&String::from_utf8_lossy(&bytes), u64::MAX));
    }

    /// Events of any kind and data, with digests that are of it or not: whatever is affirmed replays,
    /// and whatever is read is survived.
    #[test]
    fn boots_of_any_events_are_read(
        events in prop::collection::vec(
            (
                0u32..16,
                prop::sample::select(vec![
                    Kind::SEPARATOR, Kind::EFI_ACTION, Kind::IPL, Kind::EVENT_TAG,
                    Kind::VARIABLE_AUTHORITY, Kind::VARIABLE_DRIVER_CONFIG, Kind::VARIABLE_BOOT,
                    Kind::BOOT_SERVICES_APPLICATION, Kind::NO_ACTION,
                ]),
                any::<bool>(),
                prop::collection::vec(any::<u8>(), 0..80),
            ),
            0..40,
        )
    ) {
        let log = events.iter().fold(
            crate::measure::Writer::new(),
            |log, (pcr, kind, is_of, data)| {
                let digest = if *is_of { crypto::sha256(data) } else { [9; 32] };
                log.event(*pcr, *kind, digest, data)
            },
        );
        let log = log.log();
        if let Ok(replay) = log.replay(Hash::Sha256) {
            prop_assert_eq!(replay.hash(), Hash::Sha256);
            let quoted = quote(&replayed(&log), 1);
            if let Ok(boot) = verify(&log, &quoted.pcrs) {
                prop_assert!(log.contradictions(Hash::Sha256).is_empty());
                let facts = boot.facts(facts::Source::Hardware, facts::Timestamp::EPOCH);
                prop_assert!(!facts.is_empty());
            }
        }
    }

    #[test]
    fn lists_of_near_misses_are_survived(
        changes in prop::collection::vec((0usize..5076, any::<u8>()), 0..6),
        cut in 0usize..=5076,
    ) {
        // One entry of each template that the kernel has, then bytes of it changed.
        let mut bytes = crate::ima::every_template();
        for (at, byte) in changes {
            let length = bytes.len();
            bytes[at % length] = byte;
        }
        bytes.truncate(cut);
        if let Ok(list) = List::parse_binary(&bytes, 0) {
            let quoted = quote(&[(10, [3; 32])].into(), 1);
            prop_assert!(ima::verify(list, &quoted, None).is_err());
        }
    }
}
