//! Instances whose NitroTPM AWS's hypervisor speaks for, beside the TPM itself. Chip and hypervisor are stand-ins,
//! with keys of ours.

use crate::harness::DOMAIN;
use crate::tee::{Site, answered_with, facts_of, shown};
use crate::tee_forged::forge_nitro::{Enclave, bytes, number};
use crate::tee_forged::{nitro_root, nitro_tpm};
use crate::tpm::pin;
use agent::AgentConfig;
use facts::{Source, Timestamp};
use proto::v1;
use std::path::Path;
use std::time::Duration;
use testkit::swtpm::Swtpm;
use tokio_util::sync::CancellationToken;

pub(crate) fn asked() -> String {
    let digest = |byte: &str| byte.repeat(48);
    format!(
        "[[tee_root]]\nname = \"lab-aws\"\nkind = \"nitro-tpm\"\npem = '''\n{}'''\n\
         [[tee]]\npool = \"demo\"\nkind = \"nitro-tpm\"\nroot = \"lab-aws\"\n\
         [[tee.image]]\nname = \"prod\"\n[tee.image.pcrs]\n4 = \"{}\"\n7 = \"{}\"\n",
        nitro_root(),
        digest("05"),
        digest("08"),
    )
}

fn honest(asked: &[u8; 64]) -> Option<v1::TeeEvidence> {
    shown("nitro-tpm", nitro_tpm(asked).document())
}

fn changed(change: impl FnOnce(&mut Enclave)) -> impl FnOnce(&[u8; 64]) -> Option<v1::TeeEvidence> {
    move |asked| {
        let mut instance = nitro_tpm(asked);
        change(&mut instance);
        shown("nitro-tpm", instance.document())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_joins_by_its_tpm_and_the_document_about_it() {
    let Some(site) = Site::start("server.nitro-join", &asked(), "").await else {
        return;
    };
    let machine = site.join(honest).await.unwrap();
    let facts = facts_of(&machine);
    let measured = "05".repeat(48);
    for (name, value) in [
        ("machine.name", "db-1"),
        ("machine.tee.kind", "nitro-tpm"),
        ("machine.tee.image", "prod"),
        ("machine.tee.root", "lab-aws"),
        ("machine.tee.measurement", measured.as_str()),
        ("machine.tee.platform", "i-0123-enc4567"),
    ] {
        assert_eq!(facts.text(name), Some(value), "{name}");
    }
    let hardware = facts.iter().filter(|fact| fact.source == Source::Hardware);
    assert_eq!(hardware.count(), 0, "no vendor stands behind it");
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    let kept = verdict["body"]["evidence"].to_string();
    assert!(kept.contains("tpm-quote") && kept.contains("nitro-document"));
    site.renew(&machine, [1; 16], honest).await.unwrap();

    // A document that was made before is of no use, and is held against the machine.
    let earlier = std::sync::Mutex::new([0; 64]);
    let first = site.refused(|asked| {
        *earlier.lock().unwrap() = *asked;
        None
    });
    assert_eq!(first.await, "TEE-MISSING");
    let replayed = site.refused(|_| honest(&earlier.lock().unwrap()));
    assert_eq!(replayed.await, "TEE-NITRO-USER-DATA");
    let (_, last) = site.fixture.records(&["revocation"]).await.pop().unwrap();
    assert_eq!(last["body"]["target"]["value"], "db-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_lie_of_a_document_about_an_instance_is_refused_and_nobody_joins() {
    let Some(site) = Site::start("server.nitro-lies", &asked(), "").await else {
        return;
    };
    type Change = fn(&mut Enclave);
    let old = |it: &mut Enclave| {
        it.set(
            "timestamp",
            number(Timestamp::now().minus_secs(600).as_millis()),
        );
    };
    let cases: [(&str, &str, Change); 8] = [
        ("TEE-NITRO-USER-DATA", "for another question", |it| {
            it.set("user_data", bytes(&[7; 64]));
        }),
        (
            "TEE-NITRO-USER-DATA",
            "for none, with the nonce elsewhere",
            |it| {
                it.without.push("none".to_owned());
                it.set("user_data", vec![crate::tee_forged::forge_nitro::NULL]);
            },
        ),
        (
            "TEE-NITRO-KIND",
            "of an enclave beside the instance",
            |it| {
                it.pcrs_name = "pcrs";
            },
        ),
        ("TEE-NITRO-IMAGE", "another boot loader", |it| {
            it.pcrs.insert(4, [9; 48]);
        }),
        (
            "TEE-NITRO-IMAGE",
            "without a register that is asked for",
            |it| {
                it.pcrs.remove(&7);
            },
        ),
        ("TEE-NITRO-SIGNATURE", "signed by another", |it| {
            it.signed_by_other = true;
        }),
        ("TEE-NITRO-CHAIN", "certified by another", |it| {
            it.leaf_by_other = true;
        }),
        ("TEE-NITRO-TIME", "made ten minutes ago", old),
    ];
    for (code, what, change) in cases {
        assert_eq!(site.refused(changed(change)).await, code, "{what}");
    }
    assert_eq!(site.refused(|_| None).await, "TEE-MISSING");
    // Against AWS's own root.
    site.ask(&asked().replace("root = \"lab-aws\"\n", "")).await;
    assert_eq!(site.refused(honest).await, "TEE-NITRO-CHAIN");
    assert_eq!(site.count("node-state").await, 0, "nobody joined");
}

/// In the place of AWS's program: hands the question to this test, and its answer back.
fn program(folder: &Path) -> std::path::PathBuf {
    let here = folder.display();
    let text = format!(
        "[ \"$1\" = --user-data ] || exit 2\ncat \"$2\" > {here}/asked.new\n\
         mv {here}/asked.new {here}/asked\nwhile [ ! -e {here}/answer ]; do sleep 0.02; done\n\
         cat {here}/answer\nrm {here}/answer\n"
    );
    let path = folder.join("nitro-tpm-attest");
    testkit::script(&path, &text).unwrap();
    path
}

/// The hypervisor: answers until it is aborted.
async fn hypervisor(folder: std::path::PathBuf, change: fn(&mut Enclave)) {
    loop {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let Ok(asked) = std::fs::read(folder.join("asked")) else {
            continue;
        };
        std::fs::remove_file(folder.join("asked")).unwrap();
        let mut instance = nitro_tpm(&asked.try_into().unwrap());
        change(&mut instance);
        let document = instance.document();
        std::fs::write(folder.join("answer.new"), document).unwrap();
        std::fs::rename(folder.join("answer.new"), folder.join("answer")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_agent_has_awss_program_ask_for_its_join_and_each_renewal() {
    const SHORT: &str = "[lifetimes]\nnode_s = 10\nskew_s = 0\n";
    let Some(site) = Site::start("server.nitro-agent", &asked(), SHORT).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let pin = pin(&site.fixture).await;
    let config = |program: &Path| {
        let here = site.fixture.dir.path().display();
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"{}\"\npin = \"{pin}\"\n\
             data_dir = \"{here}/agent\"\nworkload_socket = \"{here}/api.sock\"\n\
             [join]\nmethod = \"tpm\"\ntpm = \"{}\"\n[join.tee]\nnitro_tpm_attest = \"{}\"\n",
            site.fixture.address(),
            site.chip.uri(),
            program.display(),
        );
        AgentConfig::parse(&text, Path::new("agent.toml")).unwrap()
    };
    let nowhere = config(Path::new("/nonexistent/attest"));
    let ended = agent::run(nowhere, CancellationToken::new()).await;
    assert!(format!("{:?}", ended.unwrap_err()).contains("AGENT-TEE"));

    let answering = tokio::spawn(hypervisor(folder.path().to_owned(), |_| {}));
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent::run(config(&program(folder.path())), stop.clone()));
    let renewed = async {
        while site.count("node-state").await < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(90), renewed)
        .await
        .expect("a join and two renewals");
    stop.cancel();
    running.await.unwrap().unwrap();
    answering.abort();
    for (_, verdict) in site.fixture.records(&["verdict"]).await {
        assert_eq!(verdict["body"]["outcome"], "affirmed");
    }
}

/// Boot loader and Secure Boot, as firmware extends them into both banks.
const STRONG: [(u32, [u8; 48]); 2] = [(4, [0x44; 48]), (7, [0x77; 48])];

/// What the hypervisor says of a chip with nothing but [`STRONG`] in that bank.
fn of_the_chip(instance: &mut Enclave) {
    instance.pcrs = (0..16).map(|pcr| (pcr, [0; 48])).collect();
    for (pcr, digest) in STRONG {
        let value = crypto::sha384(&[[0; 48], digest].concat());
        instance.pcrs.insert(u8::try_from(pcr).unwrap(), value);
    }
}

/// Any image: what the registers are is what is looked at.
fn any() -> String {
    let asked = asked();
    let image = asked.find("[[tee.image]]").unwrap();
    format!("{}any_image = true\n", asked.get(..image).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chip_that_quotes_other_registers_than_its_document_has_is_not_the_instances() {
    let name = "server.nitro-bound";
    let Some(site) = Site::with(Swtpm::with_two_banks(), name, &any(), "").await else {
        return;
    };
    site.chip.extend_strong(&STRONG).unwrap();
    let pin = pin(&site.fixture).await;
    let config = |program: &Path, data: &str| {
        let here = site.fixture.dir.path().display();
        let text = format!(
            "trust_domain = \"{DOMAIN}\"\nserver = \"{}\"\npin = \"{pin}\"\n\
             data_dir = \"{here}/{data}\"\nworkload_socket = \"{here}/{data}.sock\"\n\
             [join]\nmethod = \"tpm\"\ntpm = \"{}\"\n[join.tee]\nnitro_tpm_attest = \"{}\"\n",
            site.fixture.address(),
            site.chip.uri(),
            program.display(),
        );
        AgentConfig::parse(&text, Path::new("agent.toml")).unwrap()
    };
    // The document of another instance, whose user data somebody who runs there chose.
    let folder = tempfile::tempdir().unwrap();
    let answering = tokio::spawn(hypervisor(folder.path().to_owned(), |it| {
        of_the_chip(it);
        it.pcrs.insert(4, [5; 48]);
    }));
    let running = agent::run(
        config(&program(folder.path()), "other"),
        CancellationToken::new(),
    );
    let ended = tokio::time::timeout(Duration::from_secs(60), running).await;
    let ended = format!("{:?}", ended.expect("it ends").unwrap_err());
    assert!(ended.contains("TEE-NITRO-PCRS"), "{ended}");
    assert_eq!(site.count("node-state").await, 0);
    answering.abort();

    let folder = tempfile::tempdir().unwrap();
    let answering = tokio::spawn(hypervisor(folder.path().to_owned(), of_the_chip));
    let stop = CancellationToken::new();
    let running = tokio::spawn(agent::run(
        config(&program(folder.path()), "own"),
        stop.clone(),
    ));
    let joined = async {
        while site.count("node-state").await < 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let joined = tokio::time::timeout(Duration::from_secs(90), joined).await;
    joined.expect("a join");
    stop.cancel();
    running.await.unwrap().unwrap();
    answering.abort();
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    assert_eq!(verdict["body"]["outcome"], "affirmed");
}

/// A log of both banks: what it says in that of SHA-384 is compared where nothing is quoted.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_both_banks_binds_chip_and_document() {
    let Some(site) = Site::start("server.nitro-log", &any(), "").await else {
        return;
    };
    // Without either, the key alone.
    let facts = facts_of(&site.join(honest).await.unwrap());
    assert_eq!(facts.text("machine.tee.tpm_bound"), Some("key"));
    let mut log = both_banks();
    let mut values = [[0; 48]; 16];
    for pcr in [4_u32, 7] {
        let data = [u8::try_from(pcr).unwrap(); 9];
        let (weak, strong) = (crypto::sha256(&data), crypto::sha384(&data));
        site.chip.extend(&[(pcr, weak)]).unwrap();
        let value = &mut values[usize::try_from(pcr).unwrap()];
        *value = crypto::sha384(&[*value, strong].concat());
        for number in [pcr, 0xd, 2] {
            log.extend(number.to_le_bytes());
        }
        log.extend([0x0b, 0]);
        log.extend(weak);
        log.extend([0x0c, 0]);
        log.extend(strong);
        log.extend(9_u32.to_le_bytes());
        log.extend(data);
    }
    let says = |values: [[u8; 48]; 16]| changed(move |it| it.pcrs = (0..16).zip(values).collect());
    let facts = answered_with(&site, &log, says(values)).await.unwrap();
    assert_eq!(facts.text("machine.tee.tpm_bound"), Some("event-log"));
    values[4] = [5; 48];
    let refused = answered_with(&site, &log, says(values)).await.unwrap_err();
    assert_eq!(crate::harness::finding(&refused).code, "TEE-NITRO-PCRS");
}

/// The head of a log of SHA-256 and SHA-384.
fn both_banks() -> Vec<u8> {
    let mut header = b"Spec ID Event03\0".to_vec();
    header.extend([
        0, 0, 0, 0, 0, 2, 0, 2, 2, 0, 0, 0, 0x0b, 0, 32, 0, 0x0c, 0, 48, 0, 0,
    ]);
    let mut log = vec![0, 0, 0, 0, 3, 0, 0, 0];
    log.extend([0; 20]);
    log.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    log.extend(header);
    log
}
