//! Logs of trust domains: a recorded one, and those of our own, good and lying.

use crate::boots::lines;
use crate::evidence::{codes, folder, read};
use crate::forge::NOW;
use crate::measure::lab;
use attest_tpm::boot::{
    self, DomainBoot, Meaning, Pinned, References, Registers, SbatFloor, SecureBootRule,
};
use attest_tpm::eventlog::Log;
use attest_tpm::reference::Value;
use crypto::hex;
use expect_test::expect;
use facts::{FactSet, Finding, Source, Timestamp, Verdict, Warrant, names};
use testkit::domain::DomainLog;

/// As the verifier of quotes states registers.
const QUOTE: Warrant = Warrant::of(Source::Hardware, &["machine.tee."]);
const LINE: &str = "/boot/vmlinuz-6.1.0 root=/dev/sda1 ro";

fn verdict(rtmr: &[[u8; 48]; 4], kind: &str, source: Source) -> Verdict {
    let mut facts = FactSet::new();
    facts.state(names::MACHINE_TEE_KIND, kind, source, NOW);
    let registers = [
        names::MACHINE_TEE_RTMR0,
        names::MACHINE_TEE_RTMR1,
        names::MACHINE_TEE_RTMR2,
        names::MACHINE_TEE_RTMR3,
    ];
    for (name, value) in registers.into_iter().zip(rtmr) {
        facts.state(name, hex::encode(value), source, NOW);
    }
    Verdict::affirmed(&QUOTE, facts, Vec::new())
}

fn registers(rtmr: &[[u8; 48]; 4]) -> Registers {
    Registers::of(&verdict(rtmr, "tdx", Source::Hardware)).unwrap()
}

fn booted(log: &DomainLog) -> Result<DomainBoot, Vec<Finding>> {
    DomainBoot::verify(&log.bytes, &registers(&log.rtmr))
}

/// The registers of a quote of version 4.
fn quoted(quote: &[u8]) -> [[u8; 48]; 4] {
    let at = |index: usize| {
        let from = 48 + 328 + 48 * index;
        quote[from..from + 48].try_into().unwrap()
    };
    [at(0), at(1), at(2), at(3)]
}

fn recorded() -> Option<(Vec<u8>, [[u8; 48]; 4])> {
    let folder = folder("attest_tpm::event_logs", "tdx")?;
    let rtmr = quoted(&read(&folder, "cos-113/quote.dat"));
    Some((read(&folder, "cos-113/ccel_data.dat"), rtmr))
}

#[test]
fn a_recorded_trust_domain_says_what_it_booted() {
    let Some((log, rtmr)) = recorded() else {
        return;
    };
    let boot = DomainBoot::verify(&log, &registers(&rtmr)).unwrap();
    let policy = boot.secure_boot().unwrap();
    assert!(!policy.enabled);
    assert_eq!(policy.platform_keys.len(), 1);
    let shown = |facts: &FactSet| {
        let all = lines(facts);
        let short = all.lines().map(|line| match line.char_indices().nth(150) {
            Some(_) => format!("{}…", line.chars().take(150).collect::<String>()),
            None => line.to_owned(),
        });
        short.collect::<Vec<_>>().join("\n")
    };
    expect![[r#"
        machine.tee.boot.cmdline = /syslinux/vmlinuz.A init=/usr/lib/systemd/systemd rootwait ro noresume loglevel=7 console=tty1 console=ttyS0,115200 securit…
        machine.tee.boot.db = a7b8c851… (hardware)
        machine.tee.boot.dbx_sha256 = d0e6400f… (hardware)
        machine.tee.boot.images = [5a10026c9ad41d1f90dc9cfe88bcabe1842ccfd85495c81b1a1ab926a9ef23b5d2e60eefeba0415bbe5c8c328a899a0a, b1fb7f4c0689f5a920b800b26…
        machine.tee.boot.kek = 7b033db4… (hardware)
        machine.tee.boot.kernel = b1012372f421ad28c9f542e5a1b8c4d312a0d1c8637ffba5e52b632d4b632e504da1b73964f6e8ba047bcd4f1d5a1dfe (hardware)
        machine.tee.boot.loader = grub (hardware)
        machine.tee.boot.pk = 7d75af8e… (hardware)
        machine.tee.boot.sbat = 2021030218 (hardware)
        machine.tee.boot.secure_boot = false (hardware)
        machine.tee.boot.state = approved (hardware)"#]].assert_eq(&shown(&boot.facts(Pinned::Both, NOW)));
    // What GRUB and shim say is their word alone, where nobody lists them.
    let unpinned = boot.facts(Pinned::No, NOW);
    let asserted = unpinned
        .iter()
        .filter(|fact| fact.source == Source::Asserted);
    let asserted: Vec<&str> = asserted.map(|fact| fact.name.as_str()).collect();
    assert_eq!(
        asserted,
        [
            "machine.tee.boot.cmdline",
            "machine.tee.boot.kernel",
            "machine.tee.boot.loader",
            "machine.tee.boot.sbat"
        ]
    );
    assert_eq!(
        unpinned.text(names::MACHINE_TEE_BOOT_STATE),
        Some("measured")
    );
    // Nothing is believed more than the registers are.
    let lab = Registers::of(&verdict(&rtmr, "tdx", Source::Verified)).unwrap();
    let lab = DomainBoot::verify(&log, &lab)
        .unwrap()
        .facts(Pinned::Both, NOW);
    assert!(lab.iter().all(|fact| fact.source == Source::Verified));
}

/// OVMF without keys, and a kernel by its own stub: what the log amounts to, as nobody quoted it.
#[test]
fn a_recorded_log_of_a_kernel_without_a_loader_is_read() {
    let Some(folder) = folder("attest_tpm::event_logs", "tdx") else {
        return;
    };
    let bytes = read(&folder, "ccel_ovmf.dat");
    let log = Log::parse(&bytes).unwrap();
    let replay = log.replay(crypto::Hash::Sha384).unwrap();
    let rtmr = [1, 2, 3, 4].map(|register| replay.value(register).try_into().unwrap());
    let boot = DomainBoot::verify(&bytes, &registers(&rtmr)).unwrap();
    assert!(!boot.secure_boot().unwrap().enabled);
    let facts = boot.facts(Pinned::Both, NOW);
    assert_eq!(facts.text(names::MACHINE_TEE_BOOT_LOADER), Some("efi-stub"));
    let kernel = facts.text(names::MACHINE_TEE_BOOT_KERNEL).unwrap();
    assert!(
        kernel.starts_with("a2ccae1e") && kernel.len() == 96,
        "{kernel}"
    );
    assert_eq!(facts.text(names::MACHINE_TEE_BOOT_CMDLINE), None);
}

#[test]
fn a_recorded_log_that_was_changed_is_refused_by_name() {
    let Some((log, rtmr)) = recorded() else {
        return;
    };
    let registers = registers(&rtmr);
    let found = |log: &[u8]| codes(&DomainBoot::verify(log, &registers).unwrap_err()).join(" ");
    // Bytes of a digest; of a variable's data; of a line's; the end.
    let end = log.windows(4).position(|it| it == [0xff; 4]).unwrap();
    let at = |text: &[u8]| log.windows(text.len()).position(|it| it == text).unwrap();
    let changed = |at: usize| {
        let mut log = log.clone();
        log[at] ^= 1;
        log
    };
    let wide: Vec<u8> = "SecureBoot"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let variable = at(&wide);
    assert_eq!(found(&changed(variable + wide.len())), "EVENTLOG-DATA");
    let line = at(b"kernel_cmdline: ");
    assert_eq!(found(&changed(line + 30)), "EVENTLOG-DATA");
    // Before a variable: GUID and two lengths, the data's length, the digest.
    let digest = variable - 32 - 4 - 1;
    assert_eq!(found(&changed(digest)), "EVENTLOG-DATA EVENTLOG-REPLAY");
    assert_eq!(found(&log[..end - 7]), "EVENTLOG-STRUCTURE");
    assert_eq!(found(&[]), "EVENTLOG-STRUCTURE");
    let mut noticed = 0;
    for byte in 0..end {
        noticed += usize::from(DomainBoot::verify(&changed(byte), &registers).is_err());
    }
    // What may be changed are notes of what is not in the log, and types.
    assert!(noticed * 10 > end * 8, "{noticed} of {end}");
}

#[test]
fn a_log_of_our_own_says_what_was_started() {
    let log = DomainLog::of_grub(true, LINE);
    let boot = booted(&log).unwrap();
    let facts = boot.facts(Pinned::Both, NOW);
    assert_eq!(facts.text(names::MACHINE_TEE_BOOT_LOADER), Some("grub"));
    assert_eq!(facts.text(names::MACHINE_TEE_BOOT_CMDLINE), Some(LINE));
    // The partition table is no image; whatever else is there is one.
    let images = |log: &DomainLog| match booted(log)
        .unwrap()
        .facts(Pinned::No, NOW)
        .value(names::MACHINE_TEE_BOOT_IMAGES)
    {
        Some(facts::Value::List(images)) => images.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(images(&log), 1);
    let hidden = log.data(
        2,
        0x8000_0006,
        b"MZ, a program that is passed off as a table",
    );
    assert_eq!(images(&hidden), 2);
}

/// Secure Boot is what firmware said before it handed over; who comes later can say nothing of it.
#[test]
fn secure_boot_is_firmwares_word_alone() {
    let on = |log: &DomainLog| booted(log).unwrap().secure_boot().map(|it| it.enabled).ok();
    assert_eq!(on(&DomainLog::of_grub(true, LINE)), Some(true));
    assert_eq!(on(&DomainLog::of_grub(false, LINE)), Some(false));
    // Off, and then on by whoever runs later.
    let later = DomainLog::of_grub(false, LINE).policy(true);
    assert_eq!(on(&later), None);
    // Nothing by firmware.
    let late = DomainLog::default().data(1, 4, &[0; 4]).policy(true);
    assert_eq!(on(&late), None);
    // Without an end of firmware's part.
    assert_eq!(on(&DomainLog::default().policy(true)), None);
    // Said twice.
    let twice = DomainLog::default()
        .policy(true)
        .policy(true)
        .data(1, 4, &[0; 4]);
    assert_eq!(on(&twice), None);
}

#[test]
fn registers_are_those_of_an_affirmed_verdict_about_a_trust_domain() {
    let log = DomainLog::of_grub(true, LINE);
    assert!(Registers::of(&verdict(&log.rtmr, "azure-tdx", Source::Hardware)).is_none());
    assert!(Registers::of(&verdict(&log.rtmr, "sev-snp", Source::Hardware)).is_none());
    let refused = Verdict::refused(vec![Finding::new("X-Y", "no")], Vec::new());
    assert!(Registers::of(&refused).is_none());
    let other = DomainLog::of_grub(true, "/boot/vmlinuz-6.1.0 init=/bin/sh");
    let refused = DomainBoot::verify(&log.bytes, &registers(&other.rtmr)).unwrap_err();
    assert_eq!(codes(&refused), ["EVENTLOG-REPLAY"]);
    assert!(
        refused[0].message.contains("RTMR n - 1"),
        "{}",
        refused[0].message
    );
}

#[test]
fn rules_speak_of_a_trust_domain_as_far_as_they_can() {
    let value = |text: &str| Value::new(text.to_owned(), "release 1", "a test");
    let references = References {
        command_lines: vec![value("root=/dev/sda1 ro")],
        ..References::default()
    };
    let faults = |log: &DomainLog, references: &References| {
        codes(&booted(log).unwrap().faults(references, NOW)).join(" ")
    };
    let good = DomainLog::of_grub(true, LINE);
    assert_eq!(faults(&good, &references), "");
    let off = DomainLog::of_grub(false, LINE);
    assert_eq!(faults(&off, &references), "BOOT-SECURE-BOOT");
    let any = References {
        secure_boot: SecureBootRule::Any,
        ..references.clone()
    };
    assert_eq!(faults(&off, &any), "");
    let other = DomainLog::of_grub(true, "/boot/vmlinuz-6.1.0 init=/bin/sh");
    assert_eq!(faults(&other, &references), "BOOT-CMDLINE");
    // A second kernel behind the first.
    let second = good
        .clone()
        .line("kernel_cmdline: ", "/boot/vmlinuz-6.1.0 init=/bin/sh");
    assert_eq!(faults(&second, &references), "BOOT-CMDLINE");
    let stub = DomainLog::of_grub(true, LINE).elsewhere(
        3,
        6,
        b"\x22\x3b\xf1\x8f\x1c\x00\x00\x00LOADED_IMAGE::LoadOptions\0",
    );
    assert_eq!(faults(&stub, &references), "BOOT-CMDLINE");
    let unjudged = References {
        unjudged: [8].into(),
        ..references.clone()
    };
    assert_eq!(faults(&other, &unjudged), "");
    let newer = References {
        sbat: vec![Value::new(
            SbatFloor {
                component: "sbat".to_owned(),
                at_least: 2_025_021_800,
            },
            "release 1",
            "a test",
        )],
        forbidden: vec![Value::new([7; 32], "dbx 1", "a test")],
        ..references
    };
    assert_eq!(faults(&good, &newer), "BOOT-DBX BOOT-SBAT");
}

#[test]
fn a_tpm_that_tells_of_another_boot_contradicts_its_trust_domain() {
    let Some(lab) = lab("attest_tpm::recorded_boots", "uki-own-keys-secureboot") else {
        return;
    };
    let chip = boot::verify(&Log::parse(&lab.log).unwrap(), &lab.quoted.pcrs).unwrap();
    let policy = |change: fn(usize, &[u8]) -> Vec<u8>| {
        let seven = chip.measurements().iter().filter(|one| one.pcr == 7);
        let variables = seven.filter_map(|one| match &one.meaning {
            Meaning::Variable {
                vendor,
                name,
                value,
            } => Some((*vendor.as_bytes(), name.clone(), value.clone())),
            _ => None,
        });
        let mut log = DomainLog::default();
        for (at, (vendor, name, value)) in variables.take(5).enumerate() {
            log = log.variable(&vendor, &name, &change(at, &value));
        }
        booted(&log.data(1, 4, &[0; 4])).unwrap()
    };
    let same = policy(|_, value| value.to_vec());
    assert!(same.contradictions(&chip).is_empty());
    let off = policy(|at, value| if at == 0 { vec![0] } else { value.to_vec() });
    let found = off.contradictions(&chip);
    assert_eq!(codes(&found), ["TEE-TDX-BOOT"]);
    assert!(
        found[0].message.contains("Secure Boot"),
        "{}",
        found[0].message
    );
    let keys = policy(|at, value| if at == 1 { Vec::new() } else { value.to_vec() });
    assert_eq!(codes(&keys.contradictions(&chip)), ["TEE-TDX-BOOT"]);
}

/// The whole reader on logs that were changed at random places: refused or read, and never more than registers say.
#[test]
fn no_change_of_a_log_panics() {
    let log = DomainLog::of_grub(true, LINE);
    let registers = registers(&log.rtmr);
    for at in 0..log.bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = log.bytes.clone();
            bytes[at] ^= flip;
            if let Ok(boot) = DomainBoot::verify(&bytes, &registers) {
                let facts = boot.facts(Pinned::Both, Timestamp::EPOCH);
                assert_ne!(
                    facts.value(names::MACHINE_TEE_BOOT_SECURE_BOOT),
                    Some(&false.into())
                );
            }
        }
    }
}
