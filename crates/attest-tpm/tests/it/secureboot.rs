//! Certificates of Secure Boot that others publish, found in the logs of machines that have them.

use crate::evidence::{der_of, folder, read};
use crate::measure::{Lab, Pcrs, lab, quote, replayed};
use attest_tpm::boot;
use attest_tpm::efi::{Content, Guid, Signature, parse_signature_lists};
use attest_tpm::eventlog::Log;
use crypto::{Hash, hex, sha256};
use expect_test::expect;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

const PK: &str = "GcePk.crt";
const KEK: &str = "MicCorKEKCA2011_2011-06-24.crt";
const UEFI: &str = "MicCorUEFCA2011_2011-06-27.crt";
const WINDOWS: &str = "MicWinProPCA2011_2011-10-19.crt";
/// What signed boot loaders that were broken by "BootHole" (CVE-2020-10713).
const REVOKED: [&str; 3] = [
    "canonical-boothole.crt",
    "cisco-boothole.crt",
    "debian-boothole.crt",
];

fn certificate(folder: &Path, name: &str) -> [u8; 32] {
    sha256(&read(folder, name))
}

/// Which of the published certificates a list has, for people.
fn among(list: &[Signature], folder: &Path) -> String {
    let names = [PK, KEK, UEFI, WINDOWS].into_iter().chain(REVOKED);
    let found: Vec<&str> = names
        .filter(|name| {
            let wanted = certificate(folder, name);
            list.iter().any(|one| {
                matches!(one.content, Content::Certificate { sha256, .. } if sha256 == wanted)
            })
        })
        .map(|name| name.split(['.', '_']).next().unwrap())
        .collect();
    found.join(" ")
}

#[test]
fn the_policies_of_recorded_machines_hold_the_published_certificates() {
    let (Some(logs), Some(published)) = (
        folder("attest_tpm::event_logs", "eventlog"),
        folder("attest_tpm::event_logs", "secureboot"),
    ) else {
        return;
    };
    let mut seen = String::new();
    for name in [
        "dstack-tpm_eventlog.bin",
        "rhel8-uefi.bin",
        "ubuntu-2104-no-dbx.bin",
        "ubuntu-2104-no-secure-boot.bin",
        "gdc-host.bin",
        "rust-keylime-uefi_log.bin",
        "cos-101-amd-sev.bin",
    ] {
        let bytes = read(&logs, name);
        let log = Log::parse(&bytes).unwrap();
        let booted = boot::verify(&log, &quote(&replayed(&log), 1).pcrs).unwrap();
        let policy = booted.secure_boot().unwrap();
        let _ = writeln!(
            seen,
            "{name}: PK [{}] KEK [{}] db [{}] dbx [{}]",
            among(&policy.platform_keys, &published),
            among(&policy.exchange_keys, &published),
            among(&policy.allowed, &published),
            among(&policy.forbidden, &published),
        );
    }
    expect![[r#"
        dstack-tpm_eventlog.bin: PK [GcePk] KEK [MicCorKEKCA2011] db [MicCorUEFCA2011 MicWinProPCA2011] dbx [canonical-boothole cisco-boothole debian-boothole]
        rhel8-uefi.bin: PK [GcePk] KEK [MicCorKEKCA2011] db [MicCorUEFCA2011 MicWinProPCA2011] dbx [canonical-boothole cisco-boothole debian-boothole]
        ubuntu-2104-no-dbx.bin: PK [GcePk] KEK [MicCorKEKCA2011] db [MicCorUEFCA2011 MicWinProPCA2011] dbx []
        ubuntu-2104-no-secure-boot.bin: PK [GcePk] KEK [MicCorKEKCA2011] db [MicCorUEFCA2011 MicWinProPCA2011] dbx [canonical-boothole cisco-boothole debian-boothole]
        gdc-host.bin: PK [] KEK [MicCorKEKCA2011] db [MicCorUEFCA2011 MicWinProPCA2011] dbx [debian-boothole]
        rust-keylime-uefi_log.bin: PK [] KEK [MicCorKEKCA2011] db [MicWinProPCA2011] dbx [canonical-boothole debian-boothole]
        cos-101-amd-sev.bin: PK [] KEK [] db [] dbx []
    "#]].assert_eq(&seen);
}

/// The list that a machine in the field had, as Keylime writes it down: it revokes what was published
/// before, the three certificates and each image of the update of April 2021.
#[test]
fn a_recorded_reference_state_revokes_what_was_published() {
    let (Some(logs), Some(published)) = (
        folder("attest_tpm::event_logs", "eventlog"),
        folder("attest_tpm::event_logs", "secureboot"),
    ) else {
        return;
    };
    let state: serde_json::Value =
        serde_json::from_slice(&read(&logs, "hpe-uefi_refstate.json")).unwrap();
    let entries = |name: &str| -> Vec<Signature> {
        let lists: Vec<u8> = state[name]
            .as_array()
            .unwrap()
            .iter()
            .flat_map(|entry| {
                let text = entry["SignatureData"].as_str().unwrap();
                let data = hex::decode(text.trim_start_matches("0x")).unwrap();
                let kind = if data.len() == 32 {
                    Guid::SHA256
                } else {
                    Guid::X509
                };
                list(kind, &data)
            })
            .collect();
        parse_signature_lists(&lists).unwrap()
    };
    let seen = ["pk", "kek", "db", "dbx"].map(|name| {
        let entries = entries(name);
        format!("{name} {} [{}]", entries.len(), among(&entries, &published))
    });
    expect![[r#"
        pk 1 []
        kek 2 [MicCorKEKCA2011]
        db 5 [MicCorUEFCA2011 MicWinProPCA2011]
        dbx 598 [canonical-boothole cisco-boothole debian-boothole]"#]]
    .assert_eq(&seen.join("\n"));
    let update = read(&published, "dbxupdate_x64-2021-04-29.bin");
    // EFI_TIME, then a certificate with its length: the lists are what was signed.
    let signed = 16 + u32::from_le_bytes(update[16..20].try_into().unwrap()) as usize;
    let update = parse_signature_lists(&update[signed..]).unwrap();
    let held: BTreeSet<[u8; 32]> = entries("dbx")
        .iter()
        .map(|one| *one.content.digest())
        .collect();
    assert_eq!(update.len(), 211);
    assert!(update.iter().all(|one| held.contains(one.content.digest())));
    // The machine's own db is in no list of what is forbidden, and a changed entry is another one.
    let allowed = entries("db");
    assert!(
        !allowed
            .iter()
            .any(|one| held.contains(one.content.digest()))
    );
    let mut cut = list(Guid::X509, &read(&published, PK));
    cut.pop();
    assert!(parse_signature_lists(&cut).is_err());
}

fn list(kind: Guid, data: &[u8]) -> Vec<u8> {
    let mut list = kind.as_bytes().to_vec();
    let entry = 16 + data.len() as u32;
    for number in [28 + entry, 0, entry] {
        list.extend(number.to_le_bytes());
    }
    list.extend([0; 16]);
    list.extend(data);
    list
}

/// A log of SHA-1 alone is refused, though the same certificates stand in it.
#[test]
fn a_policy_that_only_sha1_stands_behind_says_nothing() {
    let (Some(logs), Some(published)) = (
        folder("attest_tpm::event_logs", "eventlog"),
        folder("attest_tpm::event_logs", "secureboot"),
    ) else {
        return;
    };
    let bytes = read(&logs, "debian-10.bin");
    let key = read(&published, PK);
    assert!(bytes.windows(key.len()).any(|part| part == key));
    let log = Log::parse(&bytes).unwrap();
    assert!(!log.has(Hash::Sha256));
    let refused = boot::verify(&log, &quote(&Pcrs::from([(7, [0; 32])]), 1).pcrs).unwrap_err();
    assert_eq!(refused[0].code, "EVENTLOG-BANK");
}

/// The owner's own keys: for the platform, for exchanging keys, for what may start.
#[test]
fn a_machine_of_its_owner_holds_the_owners_keys() {
    let Some(Lab {
        folder,
        log,
        quoted,
    }) = lab("attest_tpm::recorded_boots", "uki-own-keys-secureboot")
    else {
        return;
    };
    let log = Log::parse(&log).unwrap();
    let booted = boot::verify(&log, &quoted.pcrs).unwrap();
    let policy = booted.secure_boot().unwrap();
    let lists = [
        ("PK.crt", &policy.platform_keys),
        ("KEK.crt", &policy.exchange_keys),
        ("db.crt", &policy.allowed),
    ];
    for (name, list) in lists {
        for (other, _) in lists {
            let wanted = sha256(&der_of(&read(&folder.join("keys"), other)));
            let held = list.iter().any(|one| *one.content.digest() == wanted);
            assert_eq!(held, name == other, "{other} in the list of {name}");
        }
    }
}
