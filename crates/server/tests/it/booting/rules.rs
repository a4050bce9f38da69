//! Machines whose boots are judged by the lists of `[[boot]]`: Debian's shim, GRUB and kernel, as they were
//! recorded, under a rule that names every part of them, and under rules that differ in one.

use super::{Machine, generation};
use crate::harness::finding;
use attest_tpm::boot::{Claimed, Meaning, Note, Permission};
use attest_tpm::eventlog::{Line, Log};
use estate::EstateFiles;
use facts::Timestamp;
use references::{BootRule, Digest, Part};

const RECORDED: &str = "lab/shim-grub-debian-signed-ms-keys/eventlog.bin";
const TEST: &str = "server.booting";

/// Every part of what the log has, as an owner lists it who knows it.
fn rule(machine: &Machine) -> BootRule {
    let log = Log::parse(&machine.log).unwrap();
    let boot = Claimed::read(&log, None).unwrap();
    let of = |pcr: u32| {
        let measured = boot.measurements().iter();
        let parts = measured
            .filter(move |one| one.pcr == pcr)
            .filter(|one| !matches!(one.meaning, Meaning::Boundary | Meaning::Action(_)));
        parts.map(|one| {
            let what = match &one.meaning {
                Meaning::Elsewhere(Note::Text(text)) => text.clone(),
                _ => String::new(),
            };
            Part::new(what, Digest(one.digest))
        })
    };
    let authorities = boot
        .authorities()
        .iter()
        .filter_map(|one| match &one.permission {
            Permission::Signature { content, .. } => {
                Some(Part::new("CA", Digest(*content.digest())))
            }
            _ => None,
        });
    let line = boot.outline().command_line.unwrap();
    let (_, options) = line.split_once(' ').unwrap();
    BootRule {
        name: "debian".to_owned(),
        rings: vec!["*".to_owned()],
        images: of(4).collect(),
        authorities: authorities.collect(),
        mok: of(14).collect(),
        files: of(9).collect(),
        command_lines: vec![options.to_owned()],
        sbat: [("sbat".to_owned(), 2_025_021_800)].into(),
        ..BootRule::default()
    }
}

fn estate(machine: &Machine, rules: Vec<BootRule>) -> EstateFiles {
    let mut file = generation(Vec::new(), false);
    file.boots = rules;
    machine.estate_of(&file)
}

const OTHER: Digest = Digest([9; 32]);
/// What is changed, how, how it is refused, and what the command says that would allow the boot.
type Case = (&'static str, fn(&mut BootRule), &'static str, &'static str);

const CASES: [Case; 10] = [
    (
        "another command line",
        |rule| rule.command_lines = vec!["console=ttyS0 init=/bin/sh".to_owned()],
        "BOOT-CMDLINE",
        "--rule debian --command-line 'console=ttyS0 ima_hash=sha256 panic=-1'",
    ),
    (
        "another initrd",
        |rule| part(&mut rule.files, "initrd").sha256 = OTHER,
        "BOOT-FILE",
        "--rule debian --file /initrd.gz=",
    ),
    (
        "another configuration of GRUB",
        |rule| part(&mut rule.files, "grub.cfg").sha256 = OTHER,
        "BOOT-FILE",
        "--rule debian --file ",
    ),
    (
        "dbx lacks an entry",
        |rule| rule.dbx.push(Part::new("BootHole", OTHER)),
        "BOOT-DBX",
        "",
    ),
    (
        "shim revokes less",
        |rule| rule.sbat.extend([("shim".to_owned(), 99)]),
        "BOOT-SBAT",
        "",
    ),
    (
        "another key is enrolled",
        // The first is the list of shim's vendor, who is an authority.
        |rule| rule.mok[1].sha256 = OTHER,
        "BOOT-MOK",
        "--rule debian --mok ",
    ),
    (
        "another authority",
        |rule| rule.authorities[1].sha256 = OTHER,
        "BOOT-AUTHORITY",
        "--rule debian --authority ",
    ),
    (
        "another boot loader",
        |rule| rule.images[1].sha256 = OTHER,
        "BOOT-IMAGE",
        "--rule debian --image ",
    ),
    (
        "GRUB may run one command",
        |rule| rule.grub_commands = vec!["boot".to_owned()],
        "BOOT-GRUB",
        "--rule debian --grub-command ",
    ),
    (
        "nothing is said of files",
        |rule| {
            rule.files.clear();
            rule.command_lines.clear();
        },
        "BOOT-UNJUDGED",
        "",
    ),
];

fn part<'a>(list: &'a mut [Part], what: &str) -> &'a mut Part {
    list.iter_mut().find(|one| one.what.contains(what)).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_fits_a_rule_in_every_part_or_is_refused_by_the_part() {
    let Some(machine) = Machine::boot_as(RECORDED, TEST, "").await else {
        return;
    };
    let good = rule(&machine);
    let apply = async |rules: Vec<BootRule>| {
        let files = estate(&machine, rules);
        machine.fixture.apply(&files).await.unwrap();
    };
    apply(vec![good.clone()]).await;
    let facts = machine.join(Some(&machine.log)).await.unwrap();
    assert_eq!(facts.text("machine.boot.state"), Some("approved"));
    let cmdline = facts.fact("machine.boot.cmdline").unwrap();
    assert!(cmdline.source > facts::Source::Asserted, "{cmdline:?}");
    let judged = facts.value("machine.boot.judged").unwrap().to_string();
    assert_eq!(judged, "[2, 4, 7, 8, 9, 11, 12, 13, 14]");

    for (what, change, code, command) in CASES {
        let mut other = good.clone();
        change(&mut other);
        // Who asks before is told, with what would allow it.
        let tried = machine
            .dry_run(&estate(&machine, vec![other.clone()]))
            .await;
        let refusal = &tried[0]["refusals"][0];
        assert_eq!(refusal["finding"]["code"], code, "{what}: {tried:#?}");
        let pcr = refusal["subject"]["pcr"]["index"].as_u64();
        assert!(pcr.is_some_and(|pcr| pcr < 15), "{what}: {refusal}");
        let allow = refusal["allow"].to_string();
        let has = if command.is_empty() {
            allow == "[]"
        } else {
            allow.contains("trilith refs boot ") && allow.contains(command)
        };
        assert!(has, "{what}: {allow}");
        apply(vec![other]).await;
        let refused = finding(&machine.join(Some(&machine.log)).await.unwrap_err());
        assert_eq!(refused.code, code, "{what}: {refused}");
        assert!(refused.message.contains("boot rule debian"), "{refused}");
        // Nobody is better off who says nothing.
        let silent = finding(&machine.join(None).await.unwrap_err());
        assert_eq!(silent.code, "BOOT-LOG-MISSING", "{what}");
    }
    apply(vec![good]).await;
    machine.join(Some(&machine.log)).await.unwrap();
}

/// The kernel of one way to boot with the command line of another is neither.
#[tokio::test(flavor = "multi_thread")]
async fn parts_of_two_rules_make_no_boot_and_a_rule_ends_on_its_date() {
    let Some(machine) = Machine::boot_as(RECORDED, TEST, "").await else {
        return;
    };
    let good = rule(&machine);
    let (mut one, mut two) = (good.clone(), good.clone());
    one.command_lines = vec!["quiet".to_owned()];
    two.name = "other".to_owned();
    part(&mut two.files, "initrd").sha256 = OTHER;
    for (rules, code) in [
        (vec![one, two.clone()], "BOOT-"),
        (
            vec![BootRule {
                valid_until: Some(Timestamp::from_secs(1_700_000_000)),
                ..good.clone()
            }],
            "REF-OVER",
        ),
        (
            vec![BootRule {
                valid_from: Some(Timestamp::from_secs(9_999_999_999)),
                ..good.clone()
            }],
            "REF-NOT-YET",
        ),
    ] {
        machine
            .fixture
            .apply(&estate(&machine, rules))
            .await
            .unwrap();
        let refused = finding(&machine.join(Some(&machine.log)).await.unwrap_err());
        assert!(refused.code.starts_with(code), "{refused}");
    }
    // One of several is enough.
    let files = estate(&machine, vec![two, good]);
    machine.fixture.apply(&files).await.unwrap();
    let facts = machine.join(Some(&machine.log)).await.unwrap();
    assert_eq!(facts.text("machine.boot.state"), Some("approved"));
}

/// What GRUB ran is judged where commands are listed, and not where none are.
#[tokio::test(flavor = "multi_thread")]
async fn all_commands_of_grub_are_listed_or_none() {
    let Some(machine) = Machine::boot_as(RECORDED, TEST, "").await else {
        return;
    };
    let log = Log::parse(&machine.log).unwrap();
    let boot = Claimed::read(&log, None).unwrap();
    let commands = boot
        .measurements()
        .iter()
        .filter_map(|one| match &one.meaning {
            Meaning::Grub(Line::Command, text) => Some(text.clone()),
            _ => None,
        });
    let mut listed = BootRule {
        grub_commands: commands.collect(),
        ..rule(&machine)
    };
    assert!(listed.grub_commands.len() > 1);
    machine
        .fixture
        .apply(&estate(&machine, vec![listed.clone()]))
        .await
        .unwrap();
    machine.join(Some(&machine.log)).await.unwrap();
    listed.grub_commands.pop();
    machine
        .fixture
        .apply(&estate(&machine, vec![listed]))
        .await
        .unwrap();
    let refused = finding(&machine.join(Some(&machine.log)).await.unwrap_err());
    assert_eq!(refused.code, "BOOT-GRUB");
}
