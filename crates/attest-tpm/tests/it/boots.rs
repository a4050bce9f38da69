//! The recorded boots against their own quotes: what is known of each of them.

use crate::evidence::codes;
use crate::measure::{BOOTS, LOGGED, Pcrs, lab, quote, replayed};
use attest_tpm::boot::{self, Boot};
use attest_tpm::eventlog::Log;
use crypto::hex;
use expect_test::expect;
use facts::{Source, Timestamp};
use std::fmt::Write as _;

const NOW: Timestamp = Timestamp::from_secs(1_795_500_000);

/// Facts as lines; digests by their first eight digits.
pub(crate) fn lines(facts: &facts::FactSet) -> String {
    let mut lines = String::new();
    for fact in facts.iter() {
        let value = fact.value.to_string();
        let short: Vec<String> = value.split(' ').map(short).collect();
        let _ = writeln!(
            lines,
            "{} = {} ({})",
            fact.name,
            short.join(" "),
            fact.source
        );
    }
    lines
}

fn short(word: &str) -> String {
    let digits = word.trim_matches(|one: char| !one.is_ascii_hexdigit());
    let (before, digest) = word.split_once('=').unwrap_or(("", digits));
    let digest = digest.trim_matches(|one: char| !one.is_ascii_hexdigit());
    if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let equals = if before.is_empty() { "" } else { "=" };
        format!(
            "{}{equals}{}…",
            before.trim_start_matches('['),
            digest.get(..8).unwrap()
        )
    } else {
        word.to_owned()
    }
}

#[test]
fn every_recorded_boot_replays_to_its_own_quote_and_its_facts_are_known() {
    let mut seen = String::new();
    for name in BOOTS {
        let Some(lab) = lab("attest_tpm::recorded_boots", name) else {
            return;
        };
        let log = Log::parse(&lab.log).unwrap();
        let boot = boot::verify(&log, &lab.quoted.pcrs).unwrap();
        let _ = writeln!(
            seen,
            "{name}\n{}",
            lines(&boot.facts(Source::Hardware, NOW))
        );
    }
    expect![[r#"
        direct-kernel-no-secureboot
        machine.boot.authorities = [] (hardware)
        machine.boot.cmdline = unknown (asserted)
        machine.boot.db = [] (hardware)
        machine.boot.dbx_sha256 = e3b0c442… (hardware)
        machine.boot.firmware = unknown (verified)
        machine.boot.images = f25b25c4… (hardware)
        machine.boot.initrd = 47f2a45c… (asserted)
        machine.boot.kek = [] (hardware)
        machine.boot.kernel = f25b25c4… (asserted)
        machine.boot.loader = efi-stub (asserted)
        machine.boot.mok = none (asserted)
        machine.boot.pk = [] (hardware)
        machine.boot.sbat = unknown (asserted)
        machine.boot.sections = [] (asserted)
        machine.boot.secure_boot = false (hardware)
        machine.boot.shim = false (asserted)
        machine.boot.state = measured (verified)

        fsverity-ima-ngv2
        machine.boot.authorities = [] (hardware)
        machine.boot.cmdline = unknown (asserted)
        machine.boot.db = [] (hardware)
        machine.boot.dbx_sha256 = e3b0c442… (hardware)
        machine.boot.firmware = unknown (verified)
        machine.boot.images = 637ba4ed… (hardware)
        machine.boot.initrd = e2a63aea… (asserted)
        machine.boot.kek = [] (hardware)
        machine.boot.kernel = 637ba4ed… (asserted)
        machine.boot.loader = efi-stub (asserted)
        machine.boot.mok = none (asserted)
        machine.boot.pk = [] (hardware)
        machine.boot.sbat = unknown (asserted)
        machine.boot.sections = [] (asserted)
        machine.boot.secure_boot = false (hardware)
        machine.boot.shim = false (asserted)
        machine.boot.state = measured (verified)

        shim-grub-debian-signed-ms-keys
        machine.boot.authorities = 48e99b99… 07964697… (hardware)
        machine.boot.cmdline = /vmlinuz console=ttyS0 ima_hash=sha256 panic=-1 (asserted)
        machine.boot.db = e8e95f07… 48e99b99… (hardware)
        machine.boot.dbx_sha256 = 6cc1e93b… (hardware)
        machine.boot.firmware = unknown (verified)
        machine.boot.images = 80a66d53… a68f6d71… 6b1bf35c… 6b1bf35c… (hardware)
        machine.boot.initrd = 47f2a45c… (asserted)
        machine.boot.kek = 5fb05ed8… a1117f51… (hardware)
        machine.boot.kernel = 26f2e57c… (asserted)
        machine.boot.loader = grub (asserted)
        machine.boot.mok = other (asserted)
        machine.boot.pk = 5fb05ed8… (hardware)
        machine.boot.sbat = 2025021800 (asserted)
        machine.boot.sections = [] (asserted)
        machine.boot.secure_boot = true (hardware)
        machine.boot.shim = true (asserted)
        machine.boot.state = measured (verified)

        uki-612-ipe-secureboot
        machine.boot.authorities = 4f493614… (hardware)
        machine.boot.cmdline = unknown (asserted)
        machine.boot.db = 4f493614… (hardware)
        machine.boot.dbx_sha256 = 6cc1e93b… (hardware)
        machine.boot.firmware = unknown (verified)
        machine.boot.images = affbdf24… (hardware)
        machine.boot.initrd = 1eb726d8… (asserted)
        machine.boot.kek = a2584138… (hardware)
        machine.boot.kernel = b9ea6660… (asserted)
        machine.boot.loader = uki (asserted)
        machine.boot.mok = none (asserted)
        machine.boot.pk = 0576ef01… (hardware)
        machine.boot.sbat = unknown (asserted)
        machine.boot.sections = .linux=b9ea6660… .osrel=f951cb03… .cmdline=85dc55a8… .initrd=1eb726d8… (asserted)
        machine.boot.secure_boot = true (hardware)
        machine.boot.shim = false (asserted)
        machine.boot.state = measured (verified)

        uki-own-keys-secureboot
        machine.boot.authorities = 4f493614… (hardware)
        machine.boot.cmdline = unknown (asserted)
        machine.boot.db = 4f493614… (hardware)
        machine.boot.dbx_sha256 = 6cc1e93b… (hardware)
        machine.boot.firmware = unknown (verified)
        machine.boot.images = bc1c173e… (hardware)
        machine.boot.initrd = 47f2a45c… (asserted)
        machine.boot.kek = a2584138… (hardware)
        machine.boot.kernel = 26f2e57c… (asserted)
        machine.boot.loader = uki (asserted)
        machine.boot.mok = none (asserted)
        machine.boot.pk = 0576ef01… (hardware)
        machine.boot.sbat = unknown (asserted)
        machine.boot.sections = .linux=26f2e57c… .osrel=f951cb03… .cmdline=fe8f3ec1… .initrd=47f2a45c… (asserted)
        machine.boot.secure_boot = true (hardware)
        machine.boot.shim = false (asserted)
        machine.boot.state = measured (verified)

        uki-signed-but-tampered-cmdline
        machine.boot.authorities = 4f493614… (hardware)
        machine.boot.cmdline = unknown (asserted)
        machine.boot.db = 4f493614… (hardware)
        machine.boot.dbx_sha256 = 6cc1e93b… (hardware)
        machine.boot.firmware = unknown (verified)
        machine.boot.images = c5999700… (hardware)
        machine.boot.initrd = 47f2a45c… (asserted)
        machine.boot.kek = a2584138… (hardware)
        machine.boot.kernel = 26f2e57c… (asserted)
        machine.boot.loader = uki (asserted)
        machine.boot.mok = none (asserted)
        machine.boot.pk = 0576ef01… (hardware)
        machine.boot.sbat = unknown (asserted)
        machine.boot.sections = .linux=26f2e57c… .osrel=f951cb03… .cmdline=42376003… .initrd=47f2a45c… (asserted)
        machine.boot.secure_boot = true (hardware)
        machine.boot.shim = false (asserted)
        machine.boot.state = measured (verified)

    "#]].assert_eq(&seen);
}

fn verified(test: &str, name: &str) -> Option<Boot> {
    let lab = lab(test, name)?;
    let log = Log::parse(&lab.log).unwrap();
    Some(boot::verify(&log, &lab.quoted.pcrs).unwrap())
}

/// No log of one boot is taken for that of another: the values of each PCR that differs are named.
#[test]
fn a_log_of_another_boot_is_refused_with_every_pcr_that_differs() {
    let test = "attest_tpm::recorded_boots";
    let Some(good) = lab(test, "uki-own-keys-secureboot") else {
        return;
    };
    let other = lab(test, "uki-signed-but-tampered-cmdline").unwrap();
    let log = Log::parse(&good.log).unwrap();
    let refused = boot::verify(&log, &other.quoted.pcrs).unwrap_err();
    assert_eq!(codes(&refused), ["EVENTLOG-REPLAY"; 3]);
    let text: Vec<String> = refused.iter().map(|one| one.message.clone()).collect();
    expect![[r#"
        the 3 events of PCR 4 do not amount to what was quoted
        the 2 events of PCR 9 do not amount to what was quoted
        the 8 events of PCR 11 do not amount to what was quoted"#]]
    .assert_eq(&text.join("\n"));
}

/// What is not quoted is not known, and no fact is stated of it.
#[test]
fn facts_end_where_the_quote_ends() {
    let Some(lab) = lab("attest_tpm::recorded_boots", "uki-own-keys-secureboot") else {
        return;
    };
    let log = Log::parse(&lab.log).unwrap();
    let pcrs: Pcrs = replayed(&log)
        .into_iter()
        .filter(|(pcr, _)| *pcr == 0)
        .collect();
    let boot = boot::verify(&log, &quote(&pcrs, 1).pcrs).unwrap();
    assert_eq!(
        boot.secure_boot().unwrap_err().to_string(),
        "PCR 7 was not quoted"
    );
    expect![[r#"
        machine.boot.cmdline = unknown (asserted)
        machine.boot.firmware = unknown (verified)
        machine.boot.initrd = unknown (asserted)
        machine.boot.kernel = unknown (asserted)
        machine.boot.loader = unknown (asserted)
        machine.boot.mok = unknown (asserted)
        machine.boot.sbat = unknown (asserted)
        machine.boot.state = measured (verified)
    "#]]
    .assert_eq(&lines(&boot.facts(Source::Hardware, NOW)));
}

/// systemd goes on in PCR 11 when the firmware's log has ended.
#[test]
fn the_phases_of_a_boot_are_found_behind_the_log() {
    let Some(lab) = lab("attest_tpm::recorded_boots", "uki-own-keys-secureboot") else {
        return;
    };
    let log = Log::parse(&lab.log).unwrap();
    let mut pcrs = replayed(&log);
    for word in ["enter-initrd", "leave-initrd", "sysinit", "ready"] {
        let value = pcrs[&11];
        let next = crypto::sha256(&[value, crypto::sha256(word.as_bytes())].concat());
        pcrs.insert(11, next);
    }
    let boot = boot::verify(&log, &quote(&pcrs, 1).pcrs).unwrap();
    assert_eq!(
        boot.phases(),
        ["enter-initrd", "leave-initrd", "sysinit", "ready"]
    );
    // In this PCR alone, and by these words alone.
    for (pcr, word) in [(11, "enter"), (12, "ready")] {
        let mut pcrs = replayed(&log);
        let value = pcrs[&pcr];
        let next = crypto::sha256(&[value, crypto::sha256(word.as_bytes())].concat());
        pcrs.insert(pcr, next);
        let refused = boot::verify(&log, &quote(&pcrs, 1).pcrs).unwrap_err();
        assert_eq!(codes(&refused), ["EVENTLOG-REPLAY"], "{pcr} {word}");
    }
}

/// What was predicted from the image and the enrolled keys before the boot is what the log says.
#[test]
fn predictions_made_before_the_boot_come_true() {
    let test = "attest_tpm::recorded_boots";
    let Some(lab) = lab(test, "uki-own-keys-secureboot") else {
        return;
    };
    let predicted: serde_json::Value =
        serde_json::from_slice(&crate::evidence::read(&lab.folder, "predicted.json")).unwrap();
    let boot = verified(test, "uki-own-keys-secureboot").unwrap();
    for pcr in [4, 7, 11] {
        let value = hex::encode(boot.pcrs().value(pcr).unwrap());
        assert_eq!(predicted[format!("pcr{pcr}")], value);
    }
    let image = boot.images().next().unwrap();
    assert_eq!(
        predicted["uki_authenticode_sha256"],
        hex::encode(&image.digest)
    );
    assert_eq!(image.path.as_deref(), Some("\\EFI\\BOOT\\BOOTX64.EFI"));
    let sections: Vec<(&str, String)> = boot
        .sections()
        .map(|(name, digest)| (name, hex::encode(digest)))
        .collect();
    assert_eq!(sections.len(), 4);
    for (name, digest) in sections {
        assert_eq!(predicted["sections"][name], digest);
    }
    let policy = boot.secure_boot().unwrap();
    let db = crate::evidence::read(&lab.folder, "keys/db.crt");
    let db = crypto::sha256(&crate::evidence::der_of(&db));
    assert_eq!(policy.allowed[0].content.digest(), &db);
    assert!(LOGGED.contains(&7));
}
