//! Logs and boots that are written to deceive. Who runs a machine after its boot may extend PCRs and
//! write the log as he likes, but cannot take back what firmware and boot loaders measured: every case
//! here is a log that replays to its quote, or one whose data was changed behind its digests.

mod written;

use crate::measure::{Pcrs, quote, replayed};
use attest_tpm::boot::{self, References, SecureBootRule, judge, verify};
use attest_tpm::efi::Guid;
use attest_tpm::eventlog::{Kind, Log};
use attest_tpm::reference::Value;
use crypto::sha256;
use expect_test::expect;
use facts::Timestamp;
use std::fmt::Write as _;
use written::{
    LINE, Line, NOW, authority, boot_of, config, db_entry, elsewhere, enabled, file, grub, image,
    list, outcome, policy, position, relabel, section, variable, write,
};
pub(crate) use written::{judged, machine, of, references};

type Change = fn(&mut Vec<Line>);

/// Each line: what an attacker does after a boot that should be refused, and how it is refused.
#[test]
fn what_is_appended_or_relabelled_does_not_undo_what_was_measured() {
    let off = sha256(&variable(Guid::GLOBAL, "SecureBoot", &[0]));
    assert_eq!(off, enabled(false).digest);
    let cases: &[(&str, Change)] = &[
        ("nothing", |_| {}),
        ("an evil image, and the good one behind it", |lines| {
            let at = position(lines, 4, &sha256(b"kernel"));
            lines.insert(at, image("evil"));
        }),
        ("the evil image is called a tag", |lines| {
            let at = position(lines, 4, &sha256(b"kernel"));
            lines.insert(at, image("evil"));
            relabel(lines, 4, &sha256(b"evil"), Kind::EVENT_TAG, b"");
        }),
        (
            "the evil image is called a sentence of firmware's",
            |lines| {
                // Its preimage is shown: short enough for a log, too long for a sentence.
                let program = [b'A'; 129];
                lines.push(of(4, Kind::EFI_ACTION, &program));
            },
        ),
        (
            "the evil image is a sentence with unprintable words",
            |lines| {
                lines.push(of(4, Kind::EFI_ACTION, b"MZ\x90\0"));
            },
        ),
        ("an application in the PCR of drivers", |lines| {
            let mut evil = image("evil");
            evil.pcr = 2;
            lines.push(evil);
        }),
        ("it is called a driver", |lines| {
            lines.push(elsewhere(
                2,
                Kind::BOOT_SERVICES_DRIVER,
                sha256(b"evil"),
                b"",
            ));
        }),
        (
            "Secure Boot was off, and is said to be on behind it",
            |lines| {
                lines.retain(|line| line.pcr != 7);
                lines.push(enabled(false));
                lines.extend(policy());
            },
        ),
        ("the first is called a tag", |lines| {
            lines.retain(|line| line.pcr != 7);
            let mut off = enabled(false);
            off.kind = Kind::EVENT_TAG;
            off.data = Vec::new();
            lines.push(off);
            lines.extend(policy());
        }),
        ("the first is called a sentence", |lines| {
            lines.retain(|line| line.pcr != 7);
            let mut off = enabled(false);
            off.kind = Kind::EFI_ACTION;
            lines.push(off);
            lines.extend(policy());
        }),
        (
            "a whole policy, its separator called a tag, and another",
            |lines| {
                lines.retain(|line| line.pcr != 7);
                let mut first = policy();
                first[0] = enabled(false);
                first[5].kind = Kind::EVENT_TAG;
                lines.extend(first);
                lines.extend(policy());
            },
        ),
        ("the policy changes after it was measured", |lines| {
            lines.push(config(
                Guid::IMAGE_SECURITY,
                "db",
                &list(&[sha256(b"evil")]),
            ));
        }),
        ("db is measured twice", |lines| {
            let at = lines.iter().position(|line| line.pcr == 7).unwrap();
            lines.insert(at + 1, config(Guid::IMAGE_SECURITY, "db", &list(&[])));
        }),
        ("no dbx", |lines| {
            let dbx = variable(Guid::IMAGE_SECURITY, "dbx", &list(&[sha256(b"revoked")]));
            let at = position(lines, 7, &sha256(&dbx));
            lines.remove(at);
        }),
        ("an older dbx", |lines| {
            let dbx = variable(Guid::IMAGE_SECURITY, "dbx", &list(&[sha256(b"revoked")]));
            let at = position(lines, 7, &sha256(&dbx));
            lines[at] = config(Guid::IMAGE_SECURITY, "dbx", &list(&[]));
        }),
        ("no separator in PCR 7", |lines| {
            let at = position(lines, 7, &sha256(&[0; 4]));
            lines.remove(at);
        }),
        ("another authority", |lines| {
            lines.push(authority(Guid::IMAGE_SECURITY, "db", &db_entry(b"evil")));
        }),
        ("the other authority is called a tag", |lines| {
            let mut evil = authority(Guid::IMAGE_SECURITY, "db", &db_entry(b"evil"));
            evil.kind = Kind::EVENT_TAG;
            evil.data = Vec::new();
            lines.push(evil);
        }),
        ("another authority of shim's", |lines| {
            lines.push(authority(Guid::SHIM, "MokList", &db_entry(b"evil")));
        }),
        ("a lower SBAT level, and the good one behind it", |lines| {
            let at = lines
                .iter()
                .position(|line| line.data.ends_with(b"shim,4\n"))
                .unwrap();
            lines.insert(
                at,
                authority(Guid::SHIM, "SbatLevel", b"sbat,1,2021030218\nshim,1\n"),
            );
        }),
        ("an SBAT level without shim", |lines| {
            lines.push(authority(Guid::SHIM, "SbatLevel", b"sbat,1,2021030218\n"));
        }),
        (
            "another command line, and the good one behind it",
            |lines| {
                let good = format!("/vmlinuz {LINE}");
                let at = position(lines, 8, &sha256(good.as_bytes()));
                lines.insert(at, grub("kernel_cmdline: ", "/vmlinuz init=/bin/sh"));
            },
        ),
        ("the other command line is called a command", |lines| {
            lines.push(grub("grub_cmd: ", "/vmlinuz init=/bin/sh"));
        }),
        ("the other command line is called a tag", |lines| {
            let mut evil = grub("kernel_cmdline: ", "/vmlinuz init=/bin/sh");
            evil.kind = Kind::EVENT_TAG;
            evil.data = Vec::new();
            lines.push(evil);
        }),
        ("the other command line is called a sentence", |lines| {
            lines.push(of(8, Kind::EFI_ACTION, b"/vmlinuz init=/bin/sh"));
        }),
        ("the other command line is called a separator", |lines| {
            lines.push(of(8, Kind::SEPARATOR, b"/vmlinuz init=/bin/sh"));
        }),
        ("another ramdisk under the name of the good one", |lines| {
            let mut evil = file("/initrd");
            evil.digest = sha256(b"evil");
            lines.push(evil);
        }),
        ("options that the kernel's stub measured", |lines| {
            let data = b"\xed\x22\x3b\x8f\x1a\0\0\0LOADED_IMAGE::LoadOptions\0";
            lines.push(elsewhere(9, Kind::EVENT_TAG, sha256(b"evil"), data));
        }),
        ("options in clear in PCR 12", |lines| {
            let data: Vec<u8> = "init=/bin/sh\0"
                .encode_utf16()
                .flat_map(u16::to_le_bytes)
                .collect();
            lines.push(of(12, Kind::IPL, &data));
        }),
        ("credentials in PCR 12", |lines| {
            lines.push(elsewhere(12, Kind::IPL, sha256(b"evil"), b"Credentials\0"));
        }),
        ("an extension image in PCR 13", |lines| {
            lines.push(elsewhere(13, Kind::IPL, sha256(b"evil"), b"sysext\0"));
        }),
        (
            "another unified image, and the good one behind it",
            |lines| {
                let at = lines.iter().position(|line| line.pcr == 11).unwrap();
                for line in section(".cmdline", b"init=/bin/sh").into_iter().rev() {
                    lines.insert(at, line);
                }
            },
        ),
        ("its sections are called tags", |lines| {
            let at = lines.iter().position(|line| line.pcr == 11).unwrap();
            for mut line in section(".cmdline", b"init=/bin/sh").into_iter().rev() {
                line.kind = Kind::EVENT_TAG;
                line.data = Vec::new();
                lines.insert(at, line);
            }
        }),
        ("a section less", |lines| {
            let at = lines.iter().rposition(|line| line.pcr == 11).unwrap();
            lines.drain(at - 1..=at);
        }),
        ("an enrolled key", |lines| {
            lines.push(elsewhere(14, Kind::IPL, sha256(b"evil"), b"MokList\0"));
        }),
        ("an enrolled key that is called trust", |lines| {
            lines.push(elsewhere(
                14,
                Kind::IPL,
                sha256(b"evil"),
                b"MokListTrusted\0",
            ));
        }),
        ("firmware failed", |lines| {
            let at = position(lines, 3, &sha256(&[0; 4]));
            lines[at] = of(3, Kind::SEPARATOR, &[1, 0, 0, 0]);
        }),
        ("no image at all", |lines| {
            lines.retain(|line| line.pcr != 4 || line.kind != Kind::BOOT_SERVICES_APPLICATION);
        }),
    ];
    let mut seen = String::new();
    for (what, change) in cases {
        let mut lines = machine();
        change(&mut lines);
        let _ = writeln!(seen, "{what}: {}", judged(&lines, &references()));
    }
    expect![[r#"
        nothing: approved
        an evil image, and the good one behind it: BOOT-IMAGE
        the evil image is called a tag: BOOT-IMAGE
        the evil image is called a sentence of firmware's: BOOT-IMAGE
        the evil image is a sentence with unprintable words: BOOT-IMAGE
        an application in the PCR of drivers: BOOT-IMAGE
        it is called a driver: BOOT-IMAGE
        Secure Boot was off, and is said to be on behind it: BOOT-SECURE-BOOT BOOT-SBAT
        the first is called a tag: BOOT-EVENT BOOT-SECURE-BOOT BOOT-SBAT
        the first is called a sentence: BOOT-EVENT BOOT-SECURE-BOOT BOOT-SBAT
        a whole policy, its separator called a tag, and another: BOOT-SECURE-BOOT BOOT-SBAT
        the policy changes after it was measured: BOOT-SECURE-BOOT
        db is measured twice: BOOT-SECURE-BOOT
        no dbx: BOOT-SECURE-BOOT
        an older dbx: BOOT-DBX
        no separator in PCR 7: BOOT-SEPARATOR BOOT-SECURE-BOOT BOOT-SBAT
        another authority: BOOT-AUTHORITY
        the other authority is called a tag: BOOT-EVENT
        another authority of shim's: BOOT-AUTHORITY
        a lower SBAT level, and the good one behind it: BOOT-SBAT
        an SBAT level without shim: BOOT-SBAT
        another command line, and the good one behind it: BOOT-CMDLINE
        the other command line is called a command: BOOT-CMDLINE
        the other command line is called a tag: BOOT-EVENT
        the other command line is called a sentence: BOOT-EVENT
        the other command line is called a separator: BOOT-EVENT
        another ramdisk under the name of the good one: BOOT-FILE
        options that the kernel's stub measured: BOOT-CMDLINE
        options in clear in PCR 12: BOOT-CMDLINE
        credentials in PCR 12: BOOT-FILE
        an extension image in PCR 13: BOOT-FILE
        another unified image, and the good one behind it: BOOT-SECTION BOOT-SECTION
        its sections are called tags: BOOT-EVENT BOOT-EVENT
        a section less: BOOT-SECTION
        an enrolled key: BOOT-MOK
        an enrolled key that is called trust: BOOT-MOK
        firmware failed: BOOT-SEPARATOR
        no image at all: BOOT-IMAGE
    "#]]
    .assert_eq(&seen);
}

type Without = fn(&mut References);

/// A list that is taken away allows nothing; a PCR that nothing speaks of refuses the boot.
#[test]
fn what_no_reference_value_speaks_of_is_refused() {
    let cases: &[(&str, Without)] = &[
        ("all", |_| {}),
        ("no values at all", |all| *all = References::default()),
        ("no images", |all| all.images.clear()),
        ("a kernel less", |all| drop(all.images.pop())),
        ("no authorities", |all| all.authorities.clear()),
        ("no authorities, and nothing asked of Secure Boot", |all| {
            all.authorities.clear();
            all.secure_boot = SecureBootRule::Any;
        }),
        ("no command lines", |all| all.command_lines.clear()),
        ("another command line", |all| {
            all.command_lines[0].value = "quiet".to_owned();
        }),
        ("no files", |all| all.files.clear()),
        ("no sections", |all| all.sections.clear()),
        ("a section more", |all| {
            let sections = &mut all.sections[0].value;
            sections.insert(".splash".to_owned(), [0; 32]);
        }),
        ("no lists of keys", |all| all.mok.clear()),
        ("something else that has to be forbidden", |all| {
            all.forbidden.push(Value::new([7; 32], "dbx 2", "a test"));
        }),
        ("a higher level of shim", |all| {
            all.sbat[0].value.at_least = 5
        }),
        ("a level of another component", |all| {
            all.sbat[0].value.component = "grub".to_owned();
        }),
        ("the commands of GRUB are listed, without this one", |all| {
            all.grub_commands
                .push(Value::new("boot".to_owned(), "grub 1", "a test"));
        }),
        ("a value of PCR 4 that it does not have", |all| {
            all.pcrs
                .insert(4, vec![Value::new([7; 32], "pcr 1", "a test")]);
        }),
        ("PCR 4 is named without a value", |all| {
            all.pcrs.insert(4, Vec::new());
        }),
        ("a value of a PCR that was not quoted", |all| {
            all.pcrs
                .insert(15, vec![Value::new([7; 32], "pcr 1", "a test")]);
        }),
        ("nothing is judged, on purpose", |all| {
            *all = References {
                unjudged: References::JUDGED.into_iter().collect(),
                ..References::default()
            };
        }),
    ];
    let lines = machine();
    let mut seen = String::new();
    for (what, change) in cases {
        let mut all = references();
        change(&mut all);
        let _ = writeln!(seen, "{what}: {}", judged(&lines, &all));
    }
    expect![[r#"
        all: approved
        no values at all: BOOT-UNJUDGED BOOT-UNJUDGED BOOT-UNJUDGED BOOT-UNJUDGED BOOT-UNJUDGED BOOT-MOK
        no images: BOOT-UNJUDGED
        a kernel less: BOOT-IMAGE
        no authorities: BOOT-UNJUDGED
        no authorities, and nothing asked of Secure Boot: approved
        no command lines: BOOT-UNJUDGED
        another command line: BOOT-CMDLINE
        no files: BOOT-FILE BOOT-FILE
        no sections: BOOT-UNJUDGED
        a section more: BOOT-SECTION
        no lists of keys: BOOT-MOK
        something else that has to be forbidden: BOOT-DBX
        a higher level of shim: BOOT-SBAT
        a level of another component: BOOT-SBAT
        the commands of GRUB are listed, without this one: BOOT-GRUB
        a value of PCR 4 that it does not have: BOOT-PCR
        PCR 4 is named without a value: BOOT-PCR
        a value of a PCR that was not quoted: BOOT-UNQUOTED
        nothing is judged, on purpose: approved
    "#]].assert_eq(&seen);
}

/// A PCR of code that was not quoted could hold anything.
#[test]
fn each_judged_pcr_has_to_be_quoted() {
    let writer = write(&machine());
    let log = writer.log();
    for left_out in References::JUDGED {
        let pcrs: Pcrs = replayed(&log)
            .into_iter()
            .filter(|(pcr, _)| *pcr != left_out)
            .collect();
        let boot = verify(&log, &quote(&pcrs, 1).pcrs).unwrap();
        let refused = judge(&boot, &references(), NOW).unwrap_err();
        let unquoted = refused
            .iter()
            .find(|one| one.code == "BOOT-UNQUOTED")
            .unwrap();
        assert!(
            unquoted.message.contains(&format!("PCR {left_out}:")),
            "{unquoted}"
        );
        let mut waived = references();
        waived.unjudged.insert(left_out);
        let findings = outcome(judge(&boot, &waived, NOW).map(drop));
        assert!(!findings.contains("BOOT-UNQUOTED"), "{findings}");
    }
}

/// The digest of an event stays, its data is changed: whatever must be measured data is found out, by
/// the event's place, PCR and type.
#[test]
fn data_that_is_not_what_was_measured_is_named() {
    let good = machine();
    let mut seen = String::new();
    for (at, line) in good
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.data.is_empty())
    {
        let mut lines = good.clone();
        let data = &mut lines[at].data;
        // Behind GRUB's prefix, and inside a variable's value.
        let last = data.len() - 2.min(data.len());
        data[last] ^= 0x01;
        let refused = match boot_of(&lines) {
            Err(refused) => refused,
            Ok(boot) => {
                let held = boot
                    .measurements()
                    .iter()
                    .find(|one| one.event == at + 1)
                    .unwrap();
                let title = held.title();
                let _ = writeln!(seen, "{title}: says nothing");
                let elsewhere = matches!(
                    held.meaning,
                    boot::Meaning::Elsewhere(_)
                        | boot::Meaning::Section(_)
                        | boot::Meaning::Boundary
                );
                assert!(elsewhere, "{title}: {:?}", held.meaning);
                continue;
            }
        };
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(refused[0].code, "EVENTLOG-DATA");
        let title = format!("event {} (PCR {}, {})", at + 1, line.pcr, line.kind);
        assert!(refused[0].message.starts_with(&title), "{}", refused[0]);
        let _ = writeln!(seen, "{title}: found out");
    }
    expect![[r#"
        event 1 (PCR 0, EV_S_CRTM_VERSION): says nothing
        event 2 (PCR 7, EV_EFI_VARIABLE_DRIVER_CONFIG): found out
        event 3 (PCR 7, EV_EFI_VARIABLE_DRIVER_CONFIG): found out
        event 4 (PCR 7, EV_EFI_VARIABLE_DRIVER_CONFIG): found out
        event 5 (PCR 7, EV_EFI_VARIABLE_DRIVER_CONFIG): found out
        event 6 (PCR 7, EV_EFI_VARIABLE_DRIVER_CONFIG): found out
        event 7 (PCR 7, EV_SEPARATOR): found out
        event 8 (PCR 4, EV_EFI_ACTION): found out
        event 9 (PCR 0, EV_SEPARATOR): found out
        event 10 (PCR 1, EV_SEPARATOR): found out
        event 11 (PCR 2, EV_SEPARATOR): found out
        event 12 (PCR 3, EV_SEPARATOR): found out
        event 13 (PCR 4, EV_SEPARATOR): found out
        event 14 (PCR 5, EV_SEPARATOR): found out
        event 15 (PCR 6, EV_SEPARATOR): found out
        event 16 (PCR 7, EV_EFI_VARIABLE_AUTHORITY): found out
        event 17 (PCR 7, EV_EFI_VARIABLE_AUTHORITY): found out
        event 18 (PCR 4, EV_EFI_BOOT_SERVICES_APPLICATION): says nothing
        event 19 (PCR 4, EV_EFI_BOOT_SERVICES_APPLICATION): says nothing
        event 20 (PCR 14, EV_IPL): says nothing
        event 21 (PCR 14, EV_IPL): says nothing
        event 22 (PCR 8, EV_IPL): found out
        event 23 (PCR 9, EV_IPL): says nothing
        event 24 (PCR 4, EV_EFI_BOOT_SERVICES_APPLICATION): says nothing
        event 25 (PCR 8, EV_IPL): found out
        event 26 (PCR 9, EV_IPL): says nothing
        event 27 (PCR 11, EV_IPL): says nothing
        event 28 (PCR 11, EV_IPL): says nothing
        event 29 (PCR 11, EV_IPL): says nothing
        event 30 (PCR 11, EV_IPL): says nothing
    "#]]
    .assert_eq(&seen);
}

/// Types whose digest is of the data beside it, each with other data than was measured.
#[test]
fn each_type_that_measures_its_data_is_held_to_it() {
    let option = variable(Guid::GLOBAL, "Boot0000", b"option");
    let policy = variable(Guid::IMAGE_SECURITY, "db", b"key");
    let kinds: [(u32, Kind, &[u8]); 9] = [
        (5, Kind::SEPARATOR, &[0; 4]),
        (
            4,
            Kind::EFI_ACTION,
            b"Calling EFI Application from Boot Option",
        ),
        (4, Kind::ACTION, b"Calling"),
        (7, Kind::VARIABLE_DRIVER_CONFIG, &policy),
        (7, Kind::VARIABLE_AUTHORITY, &policy),
        (1, Kind::VARIABLE_BOOT, &option),
        (1, Kind::VARIABLE_BOOT2, &option),
        (5, Kind::GPT_EVENT, b"a table of partitions"),
        (5, Kind::OMIT_BOOT_DEVICE_EVENTS, b"BOOT ATTEMPTS OMITTED"),
    ];
    for (pcr, kind, data) in kinds {
        let mut line = of(pcr, kind, data);
        assert!(boot_of(std::slice::from_ref(&line)).is_ok(), "{kind}");
        *line.data.last_mut().unwrap() ^= 0x01;
        let refused = boot_of(std::slice::from_ref(&line)).unwrap_err();
        assert_eq!(
            crate::evidence::codes(&refused),
            ["EVENTLOG-DATA"],
            "{kind}"
        );
    }
}

/// A locality is where PCR 0 starts from; said wrongly, twice or late it is refused.
#[test]
fn a_startup_locality_is_believed_once_and_first() {
    let said = |locality: u8| [&b"StartupLocality\0"[..], &[locality]].concat();
    let none = |data: &[u8]| elsewhere(0, Kind::NO_ACTION, [0; 32], data);
    let version = of(0, Kind::S_CRTM_VERSION, b"v");
    let start = |lines: &[Line]| {
        let writer = write(lines);
        let replay = writer.log().replay(crypto::Hash::Sha256);
        replay.map(|replay| replay.value(0)).map_err(|one| one.code)
    };
    let extended = |first: u8| {
        let mut value = vec![0; 31];
        value.push(first);
        sha256(&[&value[..], &sha256(b"v")].concat()).to_vec()
    };
    assert_eq!(start(std::slice::from_ref(&version)), Ok(extended(0)));
    for locality in [0, 3, 4] {
        let lines = [none(&said(locality)), version.clone()];
        assert_eq!(start(&lines), Ok(extended(locality)));
    }
    // Other events that measure nothing change nothing, whatever their digest.
    let other = elsewhere(0, Kind::NO_ACTION, [7; 32], b"SP800-155 Event3");
    assert_eq!(start(&[other, version.clone()]), Ok(extended(0)));
    let mut elsewhere = none(&said(3));
    elsewhere.pcr = 1;
    for lines in [
        vec![none(&said(1)), version.clone()],
        vec![none(&said(3)), none(&said(3)), version.clone()],
        vec![version.clone(), none(&said(3))],
        vec![none(&[said(3), vec![0]].concat()), version.clone()],
        vec![elsewhere, version],
    ] {
        assert_eq!(start(&lines), Err("EVENTLOG-LOCALITY".into()));
    }
}

#[test]
fn findings_show_what_was_expected_and_what_comes_nearest() {
    let mut lines = machine();
    lines.push(image("evil"));
    let mut old = Value::new(sha256(b"evil"), "evil 0", "an older test");
    old.window.not_after = Some(Timestamp::from_secs(1_700_000_000));
    let mut references = references();
    let boot = boot_of(&lines).unwrap();
    let text = |references: &References| {
        let refused = judge(&boot, references, NOW).unwrap_err();
        refused
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n")
    };
    let unknown = text(&references);
    references.images.push(old);
    let lapsed = text(&references);
    expect![[r#"
        BOOT-IMAGE: event 31 (PCR 4): an image was started that is not among the reference values; expected 04e666aa09809daf691a99cc7bf2d57ba09bac171966a71812ffd049d7c96bb1 of shim 1, which is elsewhere in this boot, as are all others; f78c9c9db7ad83af923df810e5cd0c97884be48a02bc371139051505b967d114 of grub 1; 6923dd1bc0460082c5d55a831908c24a282860b7f1cd6c2b79cf1bc8857c639c of kernel 1; saw b5c1fb2efc6d6b4674c2fdcc48ce01b43a3b7c03763c0c3355de0099ee0f8c73; next: if it is to be allowed, run trilith refs import with its package or file

        BOOT-IMAGE: event 31 (PCR 4): an image was started that is not among the reference values; expected a value that counts at 2026-11-24T06:00:00.000Z; it is that of evil 0 (an older test), but it counted until 2023-11-14T22:13:20.000Z; saw b5c1fb2efc6d6b4674c2fdcc48ce01b43a3b7c03763c0c3355de0099ee0f8c73; next: if it is to be allowed, run trilith refs import with its package or file"#]].assert_eq(&[unknown, lapsed].join("\n\n"));
}

/// A finding about a log of thousands of lies stays short.
#[test]
fn lies_are_not_all_repeated() {
    let mut line = of(5, Kind::SEPARATOR, &[0; 4]);
    line.digest = [7; 32];
    let lines = vec![line; 500];
    let refused = boot_of(&lines).unwrap_err();
    assert_eq!(refused.len(), 8);
    assert!(
        refused[7].message.ends_with("; so do 492 more"),
        "{}",
        refused[7]
    );
    let empty = Log::parse(&[]).unwrap_err();
    assert_eq!(empty.code, "EVENTLOG-STRUCTURE");
}
