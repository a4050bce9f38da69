//! Joins of a chip that holds what a real machine measured at its boot, with that machine's log.

use crate::chip::{challenged_for, channel, chip, open, references};
use crate::evidence::{folder, read};
use attest_tpm::eventlog::Log;
use attest_tpm::join::{Judgement, verify};
use attest_tpm::{JoinEvidence, JoinRequest, References};
use crypto::{Algorithm, Hash, KeyPair};
use device::tpm::join::Join;
use expect_test::expect;
use facts::names;
use std::fmt::Write as _;
use testkit::swtpm::Swtpm;

/// As the server asks for them.
const PCRS: [u32; 14] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14];
const RECORDED: &str = "rhel8-uefi.bin";

struct Machine {
    chip: Swtpm,
    references: References,
    folder: std::path::PathBuf,
    log: Vec<u8>,
}

impl Machine {
    /// Extends into a new chip what the recorded log says, by tpm2-tools.
    fn boot(test: &str) -> Option<Self> {
        let folder = folder(test, "eventlog")?;
        let chip = chip(test)?;
        if let Err(why) = testkit::tools(["tpm2_pcrextend"]) {
            testkit::skip(test, &why);
            return None;
        }
        let log = read(&folder, RECORDED);
        extend(&chip, &log);
        Some(Self {
            references: references(&chip),
            chip,
            folder,
            log,
        })
    }

    /// Joins with `log`, honest in all else.
    fn join(&self, log: &[u8]) -> Judgement {
        let join = Join::begin(open(&self.chip)).unwrap();
        let request: JoinRequest = join.request().clone();
        let (sent, expected) = challenged_for(&request, &PCRS);
        let session = KeyPair::generate(Algorithm::EcdsaP256).unwrap();
        let mut answer = join.answer(&sent, &channel(), Some(&session)).unwrap();
        assert!(answer.event_log.is_empty());
        answer.event_log = log.to_vec();
        let evidence = JoinEvidence { request, answer };
        verify(&evidence, &expected, &self.references)
    }
}

fn extend(chip: &Swtpm, log: &[u8]) {
    let log = Log::parse(log).unwrap();
    let digests: Vec<(u32, [u8; 32])> = log
        .measured()
        .filter(|event| PCRS.contains(&event.pcr))
        .map(|event| {
            let digest = event.digest(Hash::Sha256).unwrap();
            (event.pcr, digest.try_into().unwrap())
        })
        .collect();
    chip.extend(&digests).unwrap();
}

fn codes(judgement: &Judgement) -> String {
    let findings = &judgement.verdict.findings;
    let codes: Vec<&str> = findings.iter().map(|one| one.code.as_ref()).collect();
    codes.join(" ")
}

#[test]
fn a_join_says_what_booted() {
    let Some(machine) = Machine::boot("attest_tpm::event_logs") else {
        return;
    };
    let judgement = machine.join(&machine.log);
    assert_eq!(codes(&judgement), "");
    let mut seen = String::new();
    for fact in judgement.verdict.facts.iter() {
        if fact.name.starts_with("machine.boot") && !fact.name.ends_with("_count") {
            let mut value = fact.value.to_string();
            value.truncate(80);
            writeln!(seen, "{} = {value} ({})", fact.name, fact.source).unwrap();
        }
    }
    expect![[r#"
        machine.boot.authorities = [48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507, 40175d4c7c5ab (verified)
        machine.boot.cmdline = (hd0,gpt2)/boot/vmlinuz-4.18.0-240.22.1.el8_3.x86_64 root=UUID=f3948fb4-cce7-419 (asserted)
        machine.boot.db = [48e99b991f57fc52f76149599bff0a58c47154229b9f8d603ac40d3500248507, e8e95f0733a55 (verified)
        machine.boot.dbx_sha256 = 14bbeada46dcb45efb204f3dce6b80b346b87294c04690a1dd121c4136afaca9 (verified)
        machine.boot.firmware = GCE Virtual Firmware v1 (verified)
        machine.boot.images = [40d6cae02973789080cf4c3a9ad11b5a0a4d8bba4438ab96e276cc784454dee7, e8a268c431da7 (verified)
        machine.boot.initrd = unknown (asserted)
        machine.boot.kek = [a1117f516a32cefcba3f2d1ace10a87972fd6bbe8fe0d0b996e09e65d802a503] (verified)
        machine.boot.kernel = unknown (asserted)
        machine.boot.loader = grub (asserted)
        machine.boot.mok = vendor (asserted)
        machine.boot.pk = [d1d217acf60ba4e4a890210322d006d673c0b82de9d65ad7f2d55897635429e2] (verified)
        machine.boot.sbat = unknown (asserted)
        machine.boot.sections = [] (asserted)
        machine.boot.secure_boot = true (verified)
        machine.boot.shim = true (asserted)
        machine.boot.state = measured (verified)
    "#]].assert_eq(&seen);
    let kinds = judgement.verdict.evidence.iter();
    assert!(kinds.clone().any(|one| one.kind == "tpm-event-log"));
}

#[test]
fn a_log_that_is_not_of_this_boot_refuses_the_join() {
    let Some(machine) = Machine::boot("attest_tpm::event_logs") else {
        return;
    };
    let log = &machine.log;
    let other = read(&machine.folder, "ubuntu-2104-no-dbx.bin");
    assert!(codes(&machine.join(&other)).contains("EVENTLOG-REPLAY"));
    // One event less, one byte of what is measured, and what is no log.
    let parsed = Log::parse(log).unwrap();
    assert!(parsed.measured().count() > 10);
    for cut in [log.len() - 1, log.len() / 2, 40] {
        let refused = machine.join(&log[..cut]);
        assert!(refused.proven.is_none(), "{cut}");
        assert!(
            codes(&refused).starts_with("EVENTLOG-"),
            "{cut}: {}",
            codes(&refused)
        );
    }
    let mut changed = 0;
    for at in (0..log.len()).step_by(log.len() / 24) {
        let mut lying = log.clone();
        lying[at] ^= 1;
        let judged = machine.join(&lying);
        if judged.proven.is_none() {
            assert!(
                codes(&judged).starts_with("EVENTLOG-"),
                "{}",
                codes(&judged)
            );
            changed += 1;
            continue;
        }
        // What is not measured says nothing: the facts are those of the log as it was.
        let honest = machine.join(log).verdict.into_stated().facts;
        let facts = judged.verdict.into_stated().facts;
        let boot = |facts: &facts::FactSet| {
            facts
                .iter()
                .filter(|fact| fact.name.starts_with("machine.boot"))
                .map(|fact| (fact.name.clone(), fact.value.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(boot(&facts), boot(&honest), "byte {at}");
    }
    assert!(changed > 12, "{changed}");
}

#[test]
fn a_log_of_sha1_alone_says_nothing() {
    let Some(machine) = Machine::boot("attest_tpm::event_logs") else {
        return;
    };
    let legacy = read(&machine.folder, "tpm2tools-sha1.bin");
    let judgement = machine.join(&legacy);
    assert_eq!(codes(&judgement), "");
    let facts = judgement.verdict.into_stated().facts;
    assert_eq!(facts.text(names::MACHINE_BOOT_STATE), Some("unknown"));
    assert!(facts.value(names::MACHINE_BOOT_SECURE_BOOT).is_none());
}
