//! Every recorded event log: whether it is read, what it amounts to, and whether Debian's
//! `tpm2_eventlog` and the log's own publisher say the same.

use crate::evidence::{codes, folder, read};
use crate::measure::{Pcrs, quote, replayed};
use crate::tools::run;
use attest_tpm::boot;
use attest_tpm::eventlog::{Format, Log};
use crypto::{Hash, base64, hex};
use expect_test::expect;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

/// Logs of real machines that are refused, and why: all of them are of SHA-1 alone. The last but one has
/// a single event, which measures nothing; in the second the end of the boot is missing as well.
const BAD: [(&str, &str); 5] = [
    ("debian-10.bin", "EVENTLOG-BANK"),
    ("ebs_event_missing.bin", "EVENTLOG-BANK"),
    ("option_rom_eventlog.bin", "EVENTLOG-BANK"),
    ("short_no_action.bin", "EVENTLOG-BANK"),
    ("tpm2tools-sha1.bin", "EVENTLOG-BANK"),
];
/// What `tpm2_eventlog` 5.4 cannot print: it crashes on the first and reads nothing of the second.
const UNPRINTED: [&str; 2] = ["option_rom_eventlog.bin", "short_no_action.bin"];

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".bin"))
        .collect();
    names.sort();
    names
}

#[test]
fn every_recorded_log_is_read_and_says_what_booted() {
    let Some(folder) = folder("attest_tpm::event_logs", "eventlog") else {
        return;
    };
    let mut seen = String::new();
    for name in names(&folder) {
        let bytes = read(&folder, &name);
        let log = Log::parse(&bytes).unwrap();
        let refused = BAD.iter().find(|(bad, _)| *bad == name);
        let expected = refused.map_or("", |(_, code)| *code);
        let outcome = if log.has(Hash::Sha256) {
            boot::verify(&log, &quote(&replayed(&log), 1).pcrs)
        } else {
            boot::verify(&log, &quote(&Pcrs::from([(0, [0; 32])]), 1).pcrs)
        };
        let _ = write!(seen, "{name}: {} events, ", log.events.len());
        match outcome {
            Err(findings) => {
                assert_eq!(codes(&findings), [expected], "{name}");
                let _ = writeln!(seen, "{expected}");
            }
            Ok(boot) => {
                assert_eq!(expected, "", "{name}");
                let secure_boot = match boot.secure_boot() {
                    Ok(policy) => format!(
                        "{} db {} dbx {}",
                        if policy.enabled { "on" } else { "off" },
                        policy.allowed.len(),
                        policy.forbidden.len()
                    ),
                    Err(unknown) => unknown.to_string(),
                };
                let _ = writeln!(
                    seen,
                    "{} {} authorities, {} images, shim {} sbat {} mok {}, {}, line {}",
                    secure_boot,
                    boot.authorities().len(),
                    boot.images().count(),
                    boot.has_shim(),
                    boot.sbat().map_or("-", |text| text.lines().next().unwrap()),
                    boot.mok().map_or("-", boot::Mok::name),
                    boot.loader().name(),
                    boot.command_line()
                        .map_or("-".to_owned(), |line| line.chars().take(22).collect()),
                );
            }
        }
    }
    expect![[r#"
        arch-linux-workstation.bin: 25 events, off db 12 dbx 77 0 authorities, 3 images, shim false sbat - mok none, systemd-boot, line initrd=\intel-ucode.im
        confidential-gke-debug-251000_eventlog.bin: 55 events, on db 1 dbx 4 4 authorities, 3 images, shim true sbat sbat,1,2021030218 mok none, grub, line /syslinux/vmlinuz.B in
        cos-101-amd-sev.bin: 49 events, on db 1 dbx 4 3 authorities, 4 images, shim true sbat sbat,1,2021030218 mok none, grub, line /syslinux/vmlinuz.A in
        cos-85-amd-sev.bin: 46 events, on db 1 dbx 4 3 authorities, 3 images, shim false sbat - mok none, grub, line /syslinux/vmlinuz.A in
        cos-93-amd-sev.bin: 46 events, on db 1 dbx 4 3 authorities, 3 images, shim false sbat - mok none, grub, line /syslinux/vmlinuz.A in
        crypto_agile_eventlog.bin: 27 events, off db 3 dbx 77 0 authorities, 2 images, shim false sbat - mok none, unknown, line -
        debian-10.bin: 25 events, EVENTLOG-BANK
        dstack-tpm_eventlog.bin: 46 events, off db 4 dbx 186 0 authorities, 3 images, shim false sbat - mok none, uki, line -
        ebs_event_missing.bin: 38 events, EVENTLOG-BANK
        eventlogwithsp800155.bin: 54 events, on db 1 dbx 4 4 authorities, 3 images, shim true sbat sbat,1,2021030218 mok none, grub, line /syslinux/vmlinuz.B in
        gdc-host.bin: 159 events, off db 5 dbx 460 1 authorities, 38 images, shim true sbat sbat,1,2021030218 mok other, grub, line /vmlinuz-6.9.0-rc7+ ro
        keylime-secureboot.bin: 99 events, on db 4 dbx 371 3 authorities, 4 images, shim true sbat sbat,1,2023012900 mok other, grub, line (hd0,gpt2)/vmlinuz-5.1
        option_rom_eventlog.bin: 61 events, EVENTLOG-BANK
        rhel8-uefi.bin: 83 events, on db 2 dbx 186 2 authorities, 3 images, shim true sbat - mok vendor, grub, line (hd0,gpt2)/boot/vmlinu
        rust-keylime-uefi_log.bin: 124 events, off db 4 dbx 482 1 authorities, 10 images, shim true sbat sbat,1,2021030218 mok other, grub, line (hd0,gpt2)/vmlinuz-6.1
        sb_cert_eventlog.bin: 15 events, on db 4 dbx 77 3 authorities, 3 images, shim true sbat - mok none, unknown, line -
        short_no_action.bin: 1 events, EVENTLOG-BANK
        tpm2tools-arch-linux.bin: 25 events, off db 12 dbx 77 0 authorities, 3 images, shim false sbat - mok none, systemd-boot, line initrd=\intel-ucode.im
        tpm2tools-bootorder.bin: 104 events, off db 0 dbx 0 0 authorities, 4 images, shim false sbat - mok none, grub, line /boot/vmlinuz-5.4.0-45
        tpm2tools-postcode.bin: 59 events, on db 4 dbx 77 3 authorities, 7 images, shim true sbat - mok none, grub, line /xcat/osimage/ubuntu18
        tpm2tools-sd-boot-fedora37.bin: 28 events, off db 0 dbx 0 0 authorities, 0 images, shim false sbat - mok none, systemd-boot, line console=ttyS0 console=
        tpm2tools-sha1.bin: 17 events, EVENTLOG-BANK
        ubuntu-1804-amd-sev.bin: 88 events, off db 2 dbx 77 0 authorities, 2 images, shim false sbat - mok none, grub, line /boot/vmlinuz-5.4.0-10
        ubuntu-2104-no-dbx.bin: 112 events, off db 2 dbx 0 1 authorities, 2 images, shim true sbat sbat,1,2021030218 mok other, grub, line /boot/vmlinuz-5.11.0-1
        ubuntu-2104-no-secure-boot.bin: 106 events, off db 2 dbx 186 1 authorities, 2 images, shim true sbat sbat,1,2021030218 mok other, grub, line /boot/vmlinuz-5.11.0-1
    "#]].assert_eq(&seen);
}

/// Values of the machines themselves, collected by another project.
#[test]
fn logs_amount_to_the_pcr_values_that_their_machines_had() {
    let Some(folder) = folder("attest_tpm::event_logs", "eventlog") else {
        return;
    };
    let expected: BTreeMap<String, BTreeMap<String, BTreeMap<u32, String>>> =
        serde_json::from_slice(&read(&folder, "expected_pcrs.json")).unwrap();
    let mut compared = 0;
    for (name, banks) in expected {
        let bytes = read(&folder, &name);
        let log = Log::parse(&bytes).unwrap();
        for (bank, values) in banks {
            let replay = log.replay(Hash::named(&bank).unwrap()).unwrap();
            for (pcr, value) in values {
                assert_eq!(
                    hex::encode(&replay.value(pcr)),
                    value,
                    "{name} {bank} {pcr}"
                );
                compared += 1;
            }
        }
    }
    assert_eq!(compared, 207);
}

/// A laptop with TPM 1.2: the log and the PCRs beside it.
#[test]
fn a_log_of_tpm_1_2_amounts_to_its_pcrs_and_is_refused_all_the_same() {
    let Some(folder) = folder("attest_tpm::event_logs", "eventlog") else {
        return;
    };
    let dump: serde_json::Value =
        serde_json::from_slice(&read(&folder, "linux_tpm12.json")).unwrap();
    let bytes = base64::decode(dump["Log"]["Raw"].as_str().unwrap()).unwrap();
    let log = Log::parse(&bytes).unwrap();
    assert_eq!(log.format, Format::Legacy);
    let replay = log.replay(Hash::Sha1).unwrap();
    let mut compared = Vec::new();
    for pcr in dump["Log"]["PCRs"].as_array().unwrap() {
        let index = pcr["Index"].as_u64().unwrap() as u32;
        let value = base64::decode(pcr["Digest"].as_str().unwrap()).unwrap();
        if replay.touched().any(|touched| touched == index) {
            assert_eq!(replay.value(index), value, "PCR {index}");
            compared.push(index);
        }
    }
    compared.sort_unstable();
    assert_eq!(compared, [0, 1, 2, 3, 4, 5, 6, 7]);
    let quoted = quote(&Pcrs::from([(0, [0; 32])]), 1);
    let refused = boot::verify(&log, &quoted.pcrs).unwrap_err();
    assert_eq!(codes(&refused), ["EVENTLOG-BANK"]);
}

/// Firmware of confidential machines hands out its whole buffer, and measures with SHA-384.
#[test]
fn logs_with_padding_and_other_registers_are_read() {
    let Some(folder) = folder("attest_tpm::event_logs", "tdx") else {
        return;
    };
    let mut seen = String::new();
    for name in ["ccel_ovmf.dat", "cos-113/ccel_data.dat"] {
        let bytes = read(&folder, name);
        let log = Log::parse(&bytes).unwrap();
        let replay = log.replay(Hash::Sha384).unwrap();
        let _ = writeln!(
            seen,
            "{name}: {} events, {} of padding, registers {:?}, lies {}",
            log.events.len(),
            log.padding,
            replay.touched().collect::<Vec<_>>(),
            log.contradictions(Hash::Sha384).len()
        );
        let mut followed = bytes.clone();
        *followed.last_mut().unwrap() = 7;
        let refused = Log::parse(&followed).unwrap_err();
        assert_eq!(refused.code, "EVENTLOG-STRUCTURE", "{name}");
    }
    expect![[r#"
        ccel_ovmf.dat: 21 events, 63416 of padding, registers [1, 2, 3], lies 0
        cos-113/ccel_data.dat: 44 events, 244043 of padding, registers [1, 2, 3], lies 0
    "#]]
    .assert_eq(&seen);
}

/// What `tpm2_eventlog` prints: events as (PCR, type, digests), and its own replay.
#[derive(Default)]
struct Printed {
    events: Vec<(u32, String, Vec<String>)>,
    pcrs: BTreeMap<String, BTreeMap<u32, String>>,
}

fn printed(text: &str) -> Printed {
    let mut printed = Printed::default();
    let mut bank = String::new();
    let (events, pcrs) = text.split_once("\npcrs:\n").unwrap();
    for line in events.lines() {
        // Event data is printed further in, and may hold the same words.
        if let Some(pcr) = line.strip_prefix("  PCRIndex: ") {
            let event = (pcr.parse().unwrap(), String::new(), Vec::new());
            printed.events.push(event);
        } else if let Some(kind) = line.strip_prefix("  EventType: ") {
            printed.events.last_mut().unwrap().1 = kind.to_owned();
        } else if let Some(digest) = line
            .strip_prefix("    Digest: \"")
            .or_else(|| line.strip_prefix("  Digest: \""))
        {
            let digests = &mut printed.events.last_mut().unwrap().2;
            digests.push(digest.trim_end_matches('"').to_owned());
        }
    }
    for line in pcrs.lines() {
        match line.trim().split_once(':') {
            Some((name, "")) => bank = name.to_owned(),
            Some((pcr, value)) => {
                let value = value.trim().trim_start_matches("0x").to_owned();
                let values = printed.pcrs.entry(bank.clone()).or_default();
                values.insert(pcr.trim().parse().unwrap(), value);
            }
            None => {}
        }
    }
    printed
}

/// `tpm2_eventlog` 5.4 extends `EV_NO_ACTION`, so that its PCR 0 is wrong where there is one behind the
/// header; the machines' own values, compared above, say that ours is right.
#[test]
fn tpm2_eventlog_reads_the_same_events_and_comes_to_the_same_pcrs() {
    let Some(folder) = folder("attest_tpm::event_logs", "eventlog") else {
        return;
    };
    if let Err(why) = testkit::tools(["tpm2_eventlog"]) {
        testkit::skip("attest_tpm::tpm2_eventlog", &why);
        return;
    }
    let mut files: Vec<_> = names(&folder)
        .into_iter()
        .map(|name| folder.join(name))
        .collect();
    let lab = folder.parent().unwrap().join("lab");
    files.extend(crate::measure::BOOTS.map(|boot| lab.join(boot).join("eventlog.bin")));
    let mut compared = (0, 0, 0, 0);
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        let output = run(&folder, "none", "tpm2_eventlog", &[file.to_str().unwrap()]);
        if UNPRINTED.contains(&name) {
            assert!(!output.status.success(), "{name} is printed after all");
            continue;
        }
        let judged = printed(&String::from_utf8_lossy(&output.stdout));
        let bytes = std::fs::read(&file).unwrap();
        let log = Log::parse(&bytes).unwrap();
        assert_eq!(log.events.len(), judged.events.len(), "{name}");
        for (event, (pcr, kind, digests)) in log.events.iter().zip(&judged.events) {
            let ours: Vec<String> = Hash::ALL
                .into_iter()
                .filter_map(|hash| event.digest(hash).map(hex::encode))
                .collect();
            let title = event.title();
            assert_eq!((event.pcr, &ours), (*pcr, digests), "{name}: {title}");
            let known = event.kind.name().unwrap_or("Unknown event type");
            assert_eq!(known, kind, "{name}: {title}");
        }
        for (bank, values) in &judged.pcrs {
            let replay = log.replay(Hash::named(bank).unwrap()).unwrap();
            let touched: Vec<u32> = replay.touched().collect();
            assert!(values.keys().eq(&touched), "{name} {bank}");
            for (pcr, value) in values {
                let ours = hex::encode(&replay.value(*pcr));
                if *pcr == 0 && log.events.iter().skip(1).any(|event| !event.is_measured()) {
                    assert_ne!(&ours, value, "{name} {bank} {pcr}: it was mended");
                    compared.3 += 1;
                    continue;
                }
                assert_eq!(&ours, value, "{name} {bank} {pcr}");
                compared.2 += 1;
            }
        }
        compared.0 += 1;
        compared.1 += judged.events.len();
    }
    // Logs, events, PCR values alike, and values of PCR 0 that are not.
    assert_eq!(compared, (29, 1636, 530, 10));
}
