//! Machines whose boots are judged by the lists of `[[boot]]`: Debian's shim, GRUB and kernel, as they were
//! recorded, under a rule that names every part of them, and under rules that differ in one.

use super::{Machine, generation};
use crate::attesting::{ended, refused};
use crate::harness::finding;
use crate::tpm::{evidence, pin};
use attest_tpm::boot::{Claimed, Meaning, Note, Permission};
use attest_tpm::eventlog::{Line, Log};
use crypto::{Algorithm, KeyPair};
use estate::EstateFiles;
use facts::Timestamp;
use proto::v1;
use proto::v1::join_client::JoinClient;
use proto::v1::node_message::Message;
use references::{BootRule, Digest, Part};
use std::sync::Arc;

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

/// A machine that stands, as its agent holds it.
async fn stands(machine: &Machine) -> crate::harness::Machine {
    let key = Arc::new(KeyPair::generate(Algorithm::EcdsaP256).unwrap());
    let (link, mut finish) = evidence(&machine.fixture, &machine.chip, &key).await;
    finish.event_log.clone_from(&machine.log);
    let joined = JoinClient::new(link.channel).tpm_finish(finish).await;
    crate::harness::Machine {
        address: machine.fixture.address(),
        anchors: machine.fixture.anchors(&pin(&machine.fixture).await).await,
        key,
        joined: joined.unwrap().into_inner(),
    }
}

fn tightened(good: &BootRule) -> BootRule {
    BootRule {
        command_lines: vec!["quiet lockdown=integrity".to_owned()],
        ..good.clone()
    }
}

/// Not at its next renewal: the log of its join is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_standing_machine_whose_boot_fits_no_rule_any_more_is_evicted_at_once() {
    let Some(machine) = Machine::boot_as(RECORDED, TEST, "").await else {
        return;
    };
    let good = rule(&machine);
    let apply = async |rule: BootRule| {
        let files = estate(&machine, vec![rule]);
        machine.fixture.apply(&files).await.unwrap();
    };
    apply(good.clone()).await;
    stands(&machine).await;
    // One that it fits as well: nothing comes of it.
    let mut wider = good.clone();
    wider.command_lines.push("quiet".to_owned());
    apply(wider).await;
    let planned = machine
        .plan(&estate(&machine, vec![tightened(&good)]))
        .await;
    assert_eq!(planned["machines"]["count"], 1, "{planned}");
    assert!(machine.fixture.records(&["revocation"]).await.is_empty());

    apply(tightened(&good)).await;
    assert_eq!(refused(&machine.fixture, 1).await[0].code, "BOOT-CMDLINE");
    assert_eq!(machine.fixture.records(&["revocation"]).await.len(), 1);
    // An eviction, which a clean join lifts.
    apply(good).await;
    stands(&machine).await;
}

/// The server knows what it booted by its records alone, until it connects.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_came_while_a_machine_was_away_evicts_it_when_it_connects() {
    let Some(mut machine) = Machine::boot_as(RECORDED, TEST, "").await else {
        return;
    };
    let good = rule(&machine);
    let files = estate(&machine, vec![good.clone()]);
    machine.fixture.apply(&files).await.unwrap();
    let mut standing = stands(&machine).await;
    machine.fixture.restart().await;
    standing.address = machine.fixture.address();
    let files = estate(&machine, vec![tightened(&good)]);
    machine.fixture.apply(&files).await.unwrap();
    let mut sync = standing.sync().await.unwrap();
    sync.send(Message::Hello(v1::NodeHello::default())).await;
    assert_eq!(refused(&machine.fixture, 1).await[0].code, "BOOT-CMDLINE");
    ended(&mut sync).await;
}
