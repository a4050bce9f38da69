//! The recorded boots against reference values that were made before them, or for them.

use crate::boots::lines;
use crate::evidence::{codes, der_of, read};
use crate::measure::{Lab, lab};
use attest_tpm::boot::{Boot, References, SbatFloor, Sections, SecureBootRule, judge, verify};
use attest_tpm::eventlog::Log;
use attest_tpm::reference::{Value, Window};
use crypto::{hex, sha256};
use expect_test::expect;
use facts::{Finding, Source, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_795_500_000);
const GOOD: &str = "uki-own-keys-secureboot";
const TAMPERED: &str = "uki-signed-but-tampered-cmdline";
const LINE: &str = "console=ttyS0 ima_hash=sha256 panic=-1";

fn boot_of(lab: &Lab) -> Boot {
    verify(&Log::parse(&lab.log).unwrap(), &lab.quoted.pcrs).unwrap()
}

fn digest(text: &str) -> [u8; 32] {
    hex::decode(text).unwrap().try_into().unwrap()
}

fn text(findings: &[Finding]) -> String {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// What was computed from the unified kernel image and the enrolled certificate, without a boot.
fn predicted(lab: &Lab, label: &str) -> References {
    let predicted: serde_json::Value =
        serde_json::from_slice(&read(&lab.folder, "predicted.json")).unwrap();
    let sections: Sections = predicted["sections"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), digest(value.as_str().unwrap())))
        .collect();
    let image = digest(predicted["uki_authenticode_sha256"].as_str().unwrap());
    let db = sha256(&der_of(&read(&lab.folder, "keys/db.crt")));
    let by = "uki.efi, signed by the lab";
    References {
        images: vec![Value::new(image, label, by)],
        authorities: vec![Value::new(db, "lab db key", "keys/db.crt")],
        command_lines: vec![Value::new(LINE.to_owned(), label, by)],
        sections: vec![Value::new(sections, label, by)],
        ..References::default()
    }
}

#[test]
fn a_predicted_boot_is_approved_and_its_command_line_is_known() {
    let Some(lab) = lab("attest_tpm::recorded_boots", GOOD) else {
        return;
    };
    let references = predicted(&lab, "lab uki 1");
    let boot = boot_of(&lab);
    let approved = judge(&boot, &references, NOW).unwrap();
    assert_eq!(approved.command_line(), Some(LINE));
    expect![[r#"
        machine.boot.authorities = 4f493614… (hardware)
        machine.boot.cmdline = console=ttyS0 ima_hash=sha256 panic=-1 (hardware)
        machine.boot.db = 4f493614… (hardware)
        machine.boot.dbx_sha256 = 6cc1e93b… (hardware)
        machine.boot.firmware = unknown (verified)
        machine.boot.images = bc1c173e… (hardware)
        machine.boot.initrd = 47f2a45c… (hardware)
        machine.boot.judged = [2, 4, 7, 8, 9, 11, 12, 13, 14] (verified)
        machine.boot.kek = a2584138… (hardware)
        machine.boot.kernel = 26f2e57c… (hardware)
        machine.boot.labels = [lab db key, lab uki 1] (verified)
        machine.boot.loader = uki (hardware)
        machine.boot.mok = none (hardware)
        machine.boot.pk = 0576ef01… (hardware)
        machine.boot.sbat = unknown (verified)
        machine.boot.sections = .linux=26f2e57c… .osrel=f951cb03… .cmdline=fe8f3ec1… .initrd=47f2a45c… (hardware)
        machine.boot.secure_boot = true (hardware)
        machine.boot.shim = false (hardware)
        machine.boot.state = approved (verified)
    "#]].assert_eq(&lines(&approved.facts(Source::Hardware, NOW)));
    // Under an emulated or pinned TPM nothing has its source in hardware.
    let weaker = approved.facts(Source::Verified, NOW);
    assert!(weaker.iter().all(|fact| fact.source <= Source::Verified));
}

/// The image was signed by the same key: Secure Boot lets it pass, PCR 7 is that of the good boot.
#[test]
fn an_altered_command_line_under_a_good_signature_is_refused_by_its_section() {
    let test = "attest_tpm::recorded_boots";
    let (Some(good), Some(tampered)) = (lab(test, GOOD), lab(test, TAMPERED)) else {
        return;
    };
    assert_eq!(
        good.quoted.pcrs.value(7),
        tampered.quoted.pcrs.value(7),
        "the two differ in what they started, not in who allowed it"
    );
    let boot = boot_of(&tampered);
    let refused = judge(&boot, &predicted(&good, "lab uki 1"), NOW).unwrap_err();
    expect![[r#"
        BOOT-IMAGE: event 23 (PCR 4): an image was started that is not among the reference values, noted as \EFI\BOOT\BOOTX64.EFI; expected bc1c173ed449b0627d928884754cd175e87295a0c9a3c8d1f1e1b4f60e6dd119 of lab uki 1, which comes nearest; saw c59997005bef36829006ff40208c3cd5ce144802d8dbdb1cef4f84fff6e4322b; next: if it is to be allowed, run trilith refs import with its package or file
        BOOT-SECTION: section .cmdline (event 29, PCR 11) is not that of lab uki 1, which comes nearest; expected fe8f3ec1bb67ba9825388df84552b4dcdc9c2a1335fdc0be223af49bae42e8e9 of lab uki 1 (uki.efi, signed by the lab); saw 42376003e78f7c5868c83157ece77a3bfd758594b709fd38aa07a258f1322aa0; next: if it is to be allowed, run trilith refs import with the unified kernel image
        BOOT-CMDLINE: event 32 (PCR 9, EV_EVENT_TAG): the kernel's command line is none that is allowed, noted as the kernel's options; expected console=ttyS0 ima_hash=sha256 panic=-1 of lab uki 1, which comes nearest; saw 33f43503ee14661f65e450de64c64a153b57383d260593aef966fb413c660750; next: if it is to be allowed, run trilith refs import with this command line"#]].assert_eq(&text(&refused));
}

/// Who pins PCR 7 and nothing else has not said what may run.
#[test]
fn a_policy_about_secure_boot_alone_refuses_every_boot() {
    let test = "attest_tpm::recorded_boots";
    let (Some(good), Some(tampered)) = (lab(test, GOOD), lab(test, TAMPERED)) else {
        return;
    };
    let seven = Value::new(*good.quoted.pcrs.value(7).unwrap(), "lab keys", "the keys");
    let mut references = References::default();
    references.pcrs.insert(7, vec![seven]);
    let texts = [good, tampered].map(|lab| {
        let refused = judge(&boot_of(&lab), &references, NOW).unwrap_err();
        assert_eq!(codes(&refused), ["BOOT-UNJUDGED"; 3]);
        text(&refused)
    });
    assert_eq!(texts[0], texts[1]);
    expect![[r#"
        BOOT-UNJUDGED: no reference value speaks of PCR 4, where event 23 (PCR 4, EV_EFI_BOOT_SERVICES_APPLICATION) was measured; expected images, or values of the PCR; saw none; next: run trilith refs import with what this machine is to boot, or list the PCR as unjudged
        BOOT-UNJUDGED: no reference value speaks of PCR 9, where event 32 (PCR 9, EV_EVENT_TAG) was measured; expected files and command lines, or values of the PCR; saw none; next: run trilith refs import with what this machine is to boot, or list the PCR as unjudged
        BOOT-UNJUDGED: no reference value speaks of PCR 11, where event 24 (PCR 11, EV_IPL) was measured; expected sections, or values of the PCR; saw none; next: run trilith refs import with what this machine is to boot, or list the PCR as unjudged"#]].assert_eq(&texts[0]);
}

/// What was predicted from variables alone said that everything which ran was known: its facts had the chip's
/// word, though no image was judged.
#[test]
fn what_unjudged_images_measured_stays_their_own_word() {
    let Some(lab) = lab("attest_tpm::recorded_boots", GOOD) else {
        return;
    };
    let boot = boot_of(&lab);
    let stated = |pinned: &[u32]| {
        let mut references = References::default();
        for pcr in pinned {
            let value = *lab.quoted.pcrs.value(*pcr).unwrap();
            let value = Value::new(value, "refs", "refs import uefi");
            references.pcrs.insert(*pcr, vec![value]);
        }
        let open = References::JUDGED.into_iter();
        references.unjudged = open.filter(|pcr| !pinned.contains(pcr)).collect();
        let facts = judge(&boot, &references, NOW)
            .unwrap()
            .facts(Source::Hardware, NOW);
        let vector = attest::ar4si::Vector::affirmed(&facts);
        let of_programs: Vec<String> = lines(&facts)
            .lines()
            .filter(|line| {
                [
                    "loader", "cmdline", "sections", "kernel", "initrd", "shim", "state",
                ]
                .iter()
                .any(|name| line.starts_with(&format!("machine.boot.{name} ")))
            })
            .map(str::to_owned)
            .collect();
        format!("{}\n{:?}", of_programs.join("\n"), vector.short())
    };
    expect![[r#"
        machine.boot.cmdline = unknown (asserted)
        machine.boot.initrd = 47f2a45c… (asserted)
        machine.boot.kernel = 26f2e57c… (asserted)
        machine.boot.loader = uki (asserted)
        machine.boot.sections = .linux=26f2e57c… .osrel=f951cb03… .cmdline=fe8f3ec1… .initrd=47f2a45c… (asserted)
        machine.boot.shim = false (asserted)
        machine.boot.state = partial (verified)
        Some("cf2")"#]].assert_eq(&stated(&[7]));
    // The programs are known, and what they were given is not.
    expect![[r#"
        machine.boot.cmdline = unknown (asserted)
        machine.boot.initrd = 47f2a45c… (asserted)
        machine.boot.kernel = 26f2e57c… (asserted)
        machine.boot.loader = uki (asserted)
        machine.boot.sections = .linux=26f2e57c… .osrel=f951cb03… .cmdline=fe8f3ec1… .initrd=47f2a45c… (asserted)
        machine.boot.shim = false (hardware)
        machine.boot.state = partial (verified)
        Some("cf2")"#]].assert_eq(&stated(&[4, 7]));
    // What is given to a kernel says little where the programs are anybody's.
    expect![[r#"
        machine.boot.cmdline = unknown (asserted)
        machine.boot.initrd = 47f2a45c… (asserted)
        machine.boot.kernel = 26f2e57c… (asserted)
        machine.boot.loader = uki (asserted)
        machine.boot.sections = .linux=26f2e57c… .osrel=f951cb03… .cmdline=fe8f3ec1… .initrd=47f2a45c… (asserted)
        machine.boot.shim = false (asserted)
        machine.boot.state = partial (verified)
        Some("cf2")"#]].assert_eq(&stated(&[7, 9, 11]));
    expect![[r#"
        machine.boot.cmdline = unknown (asserted)
        machine.boot.initrd = 47f2a45c… (hardware)
        machine.boot.kernel = 26f2e57c… (hardware)
        machine.boot.loader = uki (hardware)
        machine.boot.sections = .linux=26f2e57c… .osrel=f951cb03… .cmdline=fe8f3ec1… .initrd=47f2a45c… (hardware)
        machine.boot.shim = false (asserted)
        machine.boot.state = approved (verified)
        Some("ex3 cf2")"#]].assert_eq(&stated(&[4, 11]));
}

/// Pins alone are enough if they are of all that was measured.
#[test]
fn values_of_whole_pcrs_tell_the_two_apart_as_well() {
    let test = "attest_tpm::recorded_boots";
    let (Some(good), Some(tampered)) = (lab(test, GOOD), lab(test, TAMPERED)) else {
        return;
    };
    let mut references = References::default();
    for pcr in [4, 7, 9, 11] {
        let value = *good.quoted.pcrs.value(pcr).unwrap();
        references
            .pcrs
            .insert(pcr, vec![Value::new(value, "lab uki 1", "the first boot")]);
    }
    judge(&boot_of(&good), &references, NOW).unwrap();
    let refused = judge(&boot_of(&tampered), &references, NOW).unwrap_err();
    assert_eq!(codes(&refused), ["BOOT-PCR"; 3]);
    expect!["BOOT-PCR: PCR 11, of 8 events, has no value that is allowed; expected 5fa7c520889e0b4aba804b94395d004c7de7266ca672b1e773adc1470954ba32 of lab uki 1, which comes nearest; saw 027b3f1f9223b55413561933bf06ff0ab866d98d35346d34cd729e8f2da3f09c; next: look at its events with trilith attest explain; if they are to be allowed, run trilith refs import"].assert_eq(&text(&refused[2..]));
}

/// Debian's shim, GRUB and kernel under Microsoft's keys: Authenticode digests of the files in its
/// packages, and what the site adds to them.
fn debian(lab: &Lab) -> References {
    let value = |hex: &str, label: &str| Value::new(digest(hex), label, "bookworm InRelease");
    let microsoft = lab
        .folder
        .join("../../secureboot/MicCorUEFCA2011_2011-06-27.crt");
    let microsoft = sha256(&std::fs::read(microsoft).unwrap());
    let floor = |component: &str, at_least| {
        let component = component.to_owned();
        Value::new(
            SbatFloor {
                component,
                at_least,
            },
            "SBAT 2025021800",
            "shim",
        )
    };
    References {
        images: vec![
            value(
                "80a66d53a945d2286fcadd780fae1c225aa732079cd67b5225dc78aaab4e2ff8",
                "shim-signed",
            ),
            value(
                "a68f6d71ebddaa19751ff8d729f67d11b0df8e4c49400c3e7e90de16119e1265",
                "grub-efi-amd64-signed",
            ),
            value(
                "6b1bf35c3bee9918250f593a6fff889c75c1e239cd2fe9e5bb0cd3de9dcb8e51",
                "linux-image-6.1.0-56-amd64",
            ),
        ],
        authorities: vec![
            Value::new(microsoft, "Microsoft UEFI CA 2011", "the vendor"),
            value(
                "079646974bce09b1f04da67bd722d1fb0947ae4c4010bccdbba52d5b23cbf1a2",
                "shim-signed",
            ),
        ],
        sbat: vec![
            floor("sbat", 2_025_021_800),
            floor("shim", 4),
            floor("grub", 5),
        ],
        command_lines: vec![Value::new(LINE.to_owned(), "site", "the site's repository")],
        files: vec![
            value(
                "26f2e57c99338feaf71c46fa4babdc7e1a6c115943002d109fdb746667104f5f",
                "linux-image-6.1.0-56-amd64",
            ),
            value(
                "47f2a45c71c1ba7c1cf2340785e79fe035db80d9033b05012f49da0552e6f620",
                "site's initrd",
            ),
            value(
                "de5df94c80c42a34c9acdc55e8bb0261d33e2a2d650632326c6545d2d666ae25",
                "site's grub.cfg",
            ),
            value(
                "78313ff24688c8b2e1d4f4e1eff13236b2bd29b0f76ba749fd7fff4d305a1d94",
                "grub-efi-amd64-signed",
            ),
        ],
        mok: vec![value(
            "45e89b4a5f8283cd8ae7c66bda8346697120c84880537aadb49a665c7d7eec0f",
            "shim-signed",
        )],
        ..References::default()
    }
}

#[test]
fn debians_signed_chain_is_approved_by_what_its_packages_hold() {
    let Some(lab) = lab(
        "attest_tpm::recorded_boots",
        "shim-grub-debian-signed-ms-keys",
    ) else {
        return;
    };
    let boot = boot_of(&lab);
    let references = debian(&lab);
    let approved = judge(&boot, &references, NOW).unwrap();
    expect![[r#"
        machine.boot.authorities = 48e99b99… 07964697… (hardware)
        machine.boot.cmdline = /vmlinuz console=ttyS0 ima_hash=sha256 panic=-1 (hardware)
        machine.boot.db = e8e95f07… 48e99b99… (hardware)
        machine.boot.dbx_sha256 = 6cc1e93b… (hardware)
        machine.boot.firmware = unknown (verified)
        machine.boot.images = 80a66d53… a68f6d71… 6b1bf35c… 6b1bf35c… (hardware)
        machine.boot.initrd = 47f2a45c… (verified)
        machine.boot.judged = [2, 4, 7, 8, 9, 11, 12, 13, 14] (verified)
        machine.boot.kek = 5fb05ed8… a1117f51… (hardware)
        machine.boot.kernel = 26f2e57c… (verified)
        machine.boot.labels = [Microsoft UEFI CA 2011, SBAT 2025021800, grub-efi-amd64-signed, linux-image-6.1.0-56-amd64, shim-signed, site, site's grub.cfg, site's initrd] (verified)
        machine.boot.loader = grub (hardware)
        machine.boot.mok = other (hardware)
        machine.boot.pk = 5fb05ed8… (hardware)
        machine.boot.sbat = 2025021800 (hardware)
        machine.boot.sections = [] (hardware)
        machine.boot.secure_boot = true (hardware)
        machine.boot.shim = true (hardware)
        machine.boot.state = approved (verified)
    "#]].assert_eq(&lines(&approved.facts(Source::Hardware, NOW)));

    // Vendors' own lists alone: what the site added is refused, each by its place in the log.
    let mut vendors = references.clone();
    vendors.files.truncate(1);
    vendors.command_lines[0].value = "quiet".to_owned();
    let refused = judge(&boot, &vendors, NOW).unwrap_err();
    expect![[r#"
        BOOT-CMDLINE: event 42 (PCR 8, EV_IPL): the kernel's command line is not allowed; expected quiet of site, which comes nearest; saw /vmlinuz console=ttyS0 ima_hash=sha256 panic=-1; next: if it is to be allowed, run trilith refs import with this command line
        BOOT-FILE: event 34 (PCR 9, EV_IPL): a file was loaded that is not among the reference values, noted as (hd0)/EFI/debian/grub.cfg; expected 26f2e57c99338feaf71c46fa4babdc7e1a6c115943002d109fdb746667104f5f of linux-image-6.1.0-56-amd64, which is elsewhere in this boot, as are all others; saw de5df94c80c42a34c9acdc55e8bb0261d33e2a2d650632326c6545d2d666ae25; next: if it is to be allowed, run trilith refs import with its package or file
        BOOT-FILE: event 37 (PCR 9, EV_IPL): a file was loaded that is not among the reference values, noted as (hd0)/EFI/BOOT/grubx64.efi; expected 26f2e57c99338feaf71c46fa4babdc7e1a6c115943002d109fdb746667104f5f of linux-image-6.1.0-56-amd64, which is elsewhere in this boot, as are all others; saw 78313ff24688c8b2e1d4f4e1eff13236b2bd29b0f76ba749fd7fff4d305a1d94; next: if it is to be allowed, run trilith refs import with its package or file
        BOOT-FILE: event 44 (PCR 9, EV_IPL): a file was loaded that is not among the reference values, noted as /initrd.gz; expected 26f2e57c99338feaf71c46fa4babdc7e1a6c115943002d109fdb746667104f5f of linux-image-6.1.0-56-amd64, which is elsewhere in this boot, as are all others; saw 47f2a45c71c1ba7c1cf2340785e79fe035db80d9033b05012f49da0552e6f620; next: if it is to be allowed, run trilith refs import with its package or file"#]].assert_eq(&text(&refused));
}

#[test]
fn a_kernel_that_firmware_loads_itself_is_approved_where_secure_boot_is_not_asked_for() {
    let Some(lab) = lab("attest_tpm::recorded_boots", "direct-kernel-no-secureboot") else {
        return;
    };
    let boot = boot_of(&lab);
    let line = format!("{LINE} initrd=initrd");
    let image = boot.images().next().unwrap().digest;
    let initrd = boot.initrd().unwrap().digest;
    let mut references = References {
        images: vec![Value::new(image, "kernel", "a test")],
        files: vec![Value::new(initrd, "initrd", "a test")],
        command_lines: vec![Value::new(line.clone(), "line", "a test")],
        secure_boot: SecureBootRule::Any,
        ..References::default()
    };
    let approved = judge(&boot, &references, NOW).unwrap();
    assert_eq!(approved.command_line(), Some(line.as_str()));
    references.command_lines[0].value.push_str(" quiet");
    let refused = judge(&boot, &references, NOW).unwrap_err();
    assert_eq!(codes(&refused), ["BOOT-CMDLINE"]);
    references.command_lines[0].value = line;
    references.secure_boot = SecureBootRule::On;
    references.authorities = vec![Value::new([7; 32], "some key", "a test")];
    let refused = judge(&boot, &references, NOW).unwrap_err();
    assert_eq!(codes(&refused), ["BOOT-SECURE-BOOT"]);
}

/// Two releases with overlapping windows: an update raises no alarm, the old one ends on its day.
#[test]
fn each_release_counts_in_its_own_window() {
    let Some(lab) = lab("attest_tpm::recorded_boots", GOOD) else {
        return;
    };
    let boot = boot_of(&lab);
    let days = |days: u64| NOW.plus_secs(days * 86_400);
    let window = Window {
        not_before: Some(days(1)),
        not_after: Some(days(30)),
    };
    let mut references = predicted(&lab, "lab uki 1");
    references.images[0].window = window;
    references.sections[0].window = window;
    references.command_lines[0].window = window;
    for (day, expected) in [
        (0, "BOOT-IMAGE BOOT-SECTION BOOT-CMDLINE"),
        (1, ""),
        (30, ""),
        (31, "BOOT-IMAGE BOOT-SECTION BOOT-CMDLINE"),
    ] {
        let refused = judge(&boot, &references, days(day))
            .err()
            .unwrap_or_default();
        assert_eq!(codes(&refused).join(" "), expected, "day {day}");
        for finding in &refused {
            let text = finding.to_string();
            assert!(text.contains("lab uki 1"), "{text}");
            let when = if day == 0 {
                "it counts from"
            } else {
                "it counted until"
            };
            assert!(text.contains(when), "{text}");
        }
    }
    // A list is not given up because all in it has ended.
    references.images[0].window.not_after = Some(days(0));
    let refused = judge(&boot, &references, days(2)).unwrap_err();
    assert_eq!(codes(&refused), ["BOOT-IMAGE"]);
}

/// Microsoft's revocations of April 2021, which the lab's firmware does not hold.
#[test]
fn revocations_that_firmware_does_not_hold_are_missed() {
    let Some(lab) = lab(
        "attest_tpm::recorded_boots",
        "shim-grub-debian-signed-ms-keys",
    ) else {
        return;
    };
    let update = lab
        .folder
        .join("../../secureboot/dbxupdate_x64-2021-04-29.bin");
    let update = std::fs::read(update).unwrap();
    // EFI_TIME, then WIN_CERTIFICATE with its own length, then the lists.
    let length = u32::from_le_bytes(update[16..20].try_into().unwrap()) as usize;
    let revoked = attest_tpm::efi::parse_signature_lists(&update[16 + length..]).unwrap();
    assert_eq!(revoked.len(), 211);
    let boot = boot_of(&lab);
    let mut references = debian(&lab);
    references.forbidden = revoked
        .iter()
        .map(|one| Value::new(*one.content.digest(), "dbx 2021-04-29", "uefi.org"))
        .collect();
    let refused = judge(&boot, &references, NOW).unwrap_err();
    expect!["BOOT-DBX: dbx, of 1 entries in PCR 7, lacks 211 that it has to hold; expected 80b4d96931bf0d02fd91a61e19d14f1da452e66db2408ca8604d411f92659f0a of dbx 2021-04-29 (uefi.org); saw dbx of SHA-256 6cc1e93b2b3f263e5442e1717348ab721230c33d9f69a7265e8480fd7f087ff9; next: update dbx: fwupdmgr update, or the vendor's firmware"].assert_eq(&text(&refused));
    let held = &boot.secure_boot().unwrap().forbidden;
    references.forbidden = held
        .iter()
        .map(|one| Value::new(*one.content.digest(), "dbx of the firmware", "OVMF"))
        .collect();
    judge(&boot, &references, NOW).unwrap();
}
