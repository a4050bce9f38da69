//! The facts of a report that was affirmed.

use super::key::{Identity, ReportKey};
use super::report::Report;
use super::tcb::Tcb;
use crypto::hex;
use facts::{FactSet, Source, Timestamp, names};

pub(super) fn facts(
    report: &Report,
    key: &ReportKey,
    image: Option<&str>,
    revocation_checked: bool,
    now: Timestamp,
) -> FactSet {
    let mut facts = FactSet::new();
    let mut state = |name, value: facts::Value| facts.state(name, value, Source::Hardware, now);
    state(names::MACHINE_TEE_KIND, "sev-snp".into());
    state(names::MACHINE_TEE_VERSION, report.version.into());
    state(
        names::MACHINE_TEE_GENERATION,
        key.generation.name().to_lowercase().into(),
    );
    state(names::MACHINE_TEE_DEBUG, false.into());
    state(
        names::MACHINE_TEE_MEASUREMENT,
        hex::encode(&report.measurement).into(),
    );
    state(names::MACHINE_TEE_SVN, report.guest_svn.into());
    state(names::MACHINE_TEE_VMPL, report.vmpl.into());
    state(
        names::MACHINE_TEE_HOST_DATA,
        hex::encode(&report.host_data).into(),
    );
    if let Some(image) = image {
        state(names::MACHINE_TEE_IMAGE, image.into());
    }
    if report.id_key_digest != [0; 48] {
        state(
            names::MACHINE_TEE_SIGNER,
            hex::encode(&report.id_key_digest).into(),
        );
    }
    if report.has_author_key() {
        state(
            names::MACHINE_TEE_AUTHOR,
            hex::encode(&report.author_key_digest).into(),
        );
    }
    state(names::MACHINE_TEE_ENDORSEMENT, key.identity.kind().into());
    state(
        names::MACHINE_TEE_PLATFORM,
        match &key.identity {
            Identity::Chip(chip) => hex::encode(chip).into(),
            Identity::Provider(provider) => provider.as_str().into(),
        },
    );
    let checked = if revocation_checked {
        "checked"
    } else {
        "unchecked"
    };
    state(names::MACHINE_TEE_REVOCATION, checked.into());
    let tcb = Tcb::read(report.reported_tcb, key.generation);
    for (name, version) in [
        (names::MACHINE_TEE_TCB_FMC, tcb.fmc),
        (names::MACHINE_TEE_TCB_BOOTLOADER, tcb.bootloader),
        (names::MACHINE_TEE_TCB_TEE, tcb.tee),
        (names::MACHINE_TEE_TCB_SNP, tcb.snp),
        (names::MACHINE_TEE_TCB_MICROCODE, tcb.microcode),
    ] {
        state(name, u32::from(version).into());
    }
    facts
}
