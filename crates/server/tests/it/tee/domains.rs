//! Trust domains that say what they booted, by a log of their own beside that of the TPM.

use super::{Site, TDX, answered_with, facts_of, finding, shown};
use crate::booting::measure;
use crate::tee_forged::domain;
use attest_tpm::eventlog::{Kind, Log};
use facts::Source;
use proto::v1;
use references::{BootRule, Digest, Part, ReferenceFile};
use testkit::domain::DomainLog;

const LINE: &str = "/boot/vmlinuz-6.1.0 root=/dev/sda1 ro";

/// What a domain shows that booted as `log` says, whatever it says of that.
fn showing<'a>(
    log: &'a DomainLog,
    said: &'a [u8],
) -> impl FnOnce(&[u8; 64]) -> Option<v1::TeeEvidence> + 'a {
    move |asked| {
        let mut domain = domain();
        domain.put(520, asked);
        for (index, rtmr) in log.rtmr.iter().enumerate() {
            domain.put(328 + 48 * index, rtmr);
        }
        Some(v1::TeeEvidence {
            event_log: said.to_vec(),
            ..shown("tdx", domain.quote()).unwrap()
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_domain_says_what_it_booted_and_lies_are_refused() {
    let Some(site) = Site::start("server.tee-domain", TDX, "").await else {
        return;
    };
    let log = DomainLog::of_grub(true, LINE);
    let machine = site.join(showing(&log, &log.bytes)).await.unwrap();
    let facts = facts_of(&machine);
    for (name, value) in [
        ("machine.tee.event_log", "replayed"),
        ("machine.tee.boot.state", "measured"),
        ("machine.tee.boot.loader", "grub"),
        ("machine.tee.boot.cmdline", LINE),
    ] {
        assert_eq!(facts.text(name), Some(value), "{name}");
    }
    let source = |name: &str| facts.fact(name).unwrap().source;
    // The lab's root is no vendor's, and nobody lists what GRUB is.
    assert_eq!(source("machine.tee.boot.secure_boot"), Source::Verified);
    assert_eq!(source("machine.tee.boot.cmdline"), Source::Asserted);
    let (_, verdict) = site.fixture.records(&["verdict"]).await.pop().unwrap();
    assert!(verdict["body"]["evidence"].to_string().contains("ccel"));

    // Whatever is changed of the log: another boot's, data under a digest that is of others.
    let other = DomainLog::of_grub(true, "/boot/vmlinuz-6.1.0 init=/bin/sh");
    let refused = site.refused(showing(&log, &other.bytes)).await;
    assert_eq!(refused, "TEE-TDX-CCEL");
    let mut lying = DomainLog::of_grub(true, LINE).bytes;
    let at = lying.windows(7).position(|it| it == b"root=/d").unwrap();
    lying[at] ^= 1;
    assert_eq!(site.refused(showing(&log, &lying)).await, "EVENTLOG-DATA");

    // An owner who lists the registers knows whose words they are.
    let hex = |register: usize| crypto::hex::encode(&log.rtmr[register]);
    let pinned = format!("{TDX}rtmr1 = \"{}\"\nrtmr2 = \"{}\"\n", hex(1), hex(2));
    site.ask(&pinned).await;
    let facts = facts_of(&site.join(showing(&log, &log.bytes)).await.unwrap());
    assert_eq!(facts.text("machine.tee.boot.state"), Some("approved"));
    let line = facts.fact("machine.tee.boot.cmdline").unwrap();
    assert_eq!(line.source, Source::Verified);
    let half = format!("{TDX}rtmr1 = \"{}\"\n", hex(1));
    site.ask(&half).await;
    let facts = facts_of(&site.join(showing(&log, &log.bytes)).await.unwrap());
    assert_eq!(facts.text("machine.tee.boot.state"), Some("measured"));
}

/// What the firmware of the same machine measures into its TPM.
fn chip_log(secure_boot: bool) -> Vec<u8> {
    let mut bytes = testkit::chip::event_log();
    let mut event = |pcr: u32, kind: Kind, data: &[u8]| {
        for number in [pcr, kind.0, 1] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend([0x0b, 0]);
        bytes.extend(crypto::sha256(data));
        bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        bytes.extend(data);
    };
    let said = DomainLog::of_grub(secure_boot, LINE);
    for one in Log::parse(&said.bytes).unwrap().measured() {
        if one.kind == Kind::VARIABLE_DRIVER_CONFIG {
            event(7, one.kind, one.data);
        }
    }
    for pcr in 0..8 {
        event(pcr, Kind::SEPARATOR, &[0; 4]);
    }
    event(4, Kind::BOOT_SERVICES_APPLICATION, b"grub");
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trust_domain_and_its_tpm_tell_of_one_boot_and_both_fit_the_rules() {
    let Some(mut site) = Site::start("server.tee-domain-rules", TDX, "").await else {
        return;
    };
    let log = DomainLog::of_grub(true, LINE);
    let chip = chip_log(true);
    measure(&site.chip, &chip, |_| true);
    let joined = async |site: &Site, log: &DomainLog, said: &[u8]| {
        answered_with(site, &chip, showing(log, said)).await
    };
    let refused = async |site: &Site, log: &DomainLog, said: &[u8]| {
        let Err(refused) = joined(site, log, said).await else {
            panic!("it is refused");
        };
        let finding = finding(&refused);
        (finding.code.to_string(), finding.message)
    };
    joined(&site, &log, &log.bytes).await.unwrap();
    // Off by the domain's own word, and on by that of the TPM that the host gave.
    let off = DomainLog::of_grub(false, LINE);
    let (code, message) = refused(&site, &off, &off.bytes).await;
    assert_eq!(code, "TEE-TDX-BOOT", "{message}");

    let rule = BootRule {
        name: "release-1".to_owned(),
        rings: vec!["*".to_owned()],
        authorities: vec![Part::new("CA", Digest([7; 32]))],
        command_lines: vec!["root=/dev/sda1 ro".to_owned()],
        unjudged: [2, 4, 9, 11, 12, 13, 14].into(),
        ..BootRule::default()
    };
    let file = ReferenceFile {
        boots: vec![rule],
        ..ReferenceFile::default()
    };
    site.files.insert("references/boot.json", file.to_json());
    site.ask(TDX).await;
    joined(&site, &log, &log.bytes).await.unwrap();
    let other = DomainLog::of_grub(true, "/boot/vmlinuz-6.1.0 init=/bin/sh");
    let (code, message) = refused(&site, &other, &other.bytes).await;
    assert_eq!(code, "BOOT-CMDLINE");
    assert!(
        message.contains("boot rule release-1") && message.contains("trust domain"),
        "{message}"
    );
    let (code, _) = refused(&site, &log, &[]).await;
    assert_eq!(code, "BOOT-LOG-MISSING");
}
