//! Boots of recorded machines, told and compared; and evidence that was kept, read back.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests may panic"
)]

use appraise::{Account, Blobs, Change, Files, Kept, Naming, View};
use attest_tpm::boot::Claimed;
use attest_tpm::eventlog::Log;
use attest_tpm::ima::{List, Progress};
use std::path::{Path, PathBuf};

const RECORDED: &str = "appraise::recorded";

fn folder(name: &str) -> Option<PathBuf> {
    let folder = testkit::evidence().map(|all| all.join(name));
    if folder.as_ref().is_some_and(|folder| folder.is_dir()) {
        return folder;
    }
    testkit::skip(RECORDED, &format!("no evidence folder with {name}"));
    None
}

fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap()
}

fn account(log: &[u8]) -> Result<Account, String> {
    let parsed = Log::parse(log).map_err(|finding| finding.to_string())?;
    let claimed = Claimed::read(&parsed, None).map_err(|findings| findings[0].to_string())?;
    Ok(Account::of(&View::from(&claimed), &Naming::default()))
}

#[test]
fn lists_of_what_may_not_start_differ_by_their_entries() {
    let Some(logs) = folder("eventlog") else {
        return;
    };
    let of = |name: &str| account(&read(&logs, name)).unwrap();
    let with = of("ubuntu-2104-no-dbx.bin");
    let off = of("rhel8-uefi.bin").compare(&of("ubuntu-2104-no-secure-boot.bin"));
    let mut off = off.events.iter();
    let secure_boot = off.find(|one| one.name == "SecureBoot");
    assert_eq!(secure_boot.unwrap().detail, "on then off");
    let other = of("rhel8-uefi.bin").compare(&with);
    let dbx = other.events.iter().find(|one| one.name == "dbx").unwrap();
    assert_eq!(dbx.change, Change::Changed);
    assert!(dbx.detail.contains("-image "), "{}", dbx.detail);
    let line = other
        .events
        .iter()
        .find(|one| one.a.as_ref().is_some_and(|told| told.name == "kernel"));
    let detail = &line.unwrap().detail;
    assert!(detail.contains("[-") && detail.contains("[+"), "{detail}");
}

/// Whatever a log or a list says, it is told or refused.
#[test]
fn no_log_and_no_list_panics_and_none_differs_from_itself() {
    let Some(logs) = folder("eventlog") else {
        return;
    };
    let mut told = 0;
    for entry in std::fs::read_dir(&logs).unwrap() {
        let path = entry.unwrap().path();
        let log = std::fs::read(&path).unwrap();
        if path.extension().is_none_or(|end| end != "bin") {
            continue;
        }
        if let Ok(account) = account(&log) {
            told += 1;
            let difference = account.compare(&account);
            assert!(difference.is_empty(), "{}", path.display());
            let text = serde_json::to_string(&account).unwrap();
            let again: Account = serde_json::from_str(&text).unwrap();
            assert_eq!(again, account, "{}", path.display());
        }
        for at in (0..log.len()).step_by(log.len() / 64 + 1) {
            let mut other = log.clone();
            other[at] ^= 0xff;
            if let (Ok(one), Ok(other)) = (account(&log), account(&other)) {
                drop(one.compare(&other));
            }
        }
    }
    assert!(told > 10, "{told}");
}

#[test]
fn a_list_is_told_and_part_of_it_says_nothing_of_the_rest() {
    let Some(lab) = folder("lab/fsverity-ima-ngv2") else {
        return;
    };
    let bytes = read(&lab, "ima.bin");
    let files = |list: &List<'_>| Account {
        files: Some(Files::claimed(list, &Naming::default())),
        ..Account::default()
    };
    let whole = files(&List::parse_binary(&bytes, 0).unwrap());
    let text = read(&lab, "ima.txt");
    let text = files(&List::parse_ascii(str::from_utf8(&text).unwrap(), 0).unwrap());
    assert!(whole.compare(&text).is_empty(), "both forms say the same");
    let rest = attest_tpm::ima::after(&bytes, 3).unwrap();
    let part = files(&List::parse_binary(rest, 3).unwrap());
    let difference = whole.compare(&part);
    assert!(difference.is_empty(), "{difference:?}");
    assert_eq!(difference.unknown.len(), 1, "{difference:?}");
}

/// A join by tpm2-tools, as a server would have kept it.
fn kept(lab: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let public = |name: &str| read(lab, name)[2..].to_vec();
    vec![
        ("tpm-ek-public", public("ek.pub")),
        ("ek-certificate", read(lab, "ekcert.der")),
        ("tpm-ak-public", public("ak.pub")),
        ("tpm-quote", read(lab, "q.msg")),
        ("tpm-quote-signature", read(lab, "q.sig")),
        ("tpm-pcr-values", pcr_values(&read(lab, "q.pcrs"))),
    ]
}

/// The values in the file that `tpm2_quote` writes: C structures, little-endian.
fn pcr_values(file: &[u8]) -> Vec<u8> {
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let mut values = Vec::new();
    for list in 0..number(132) {
        let at = 136 + list * (4 + 8 * 66);
        for value in 0..number(at) {
            let value = &file[at + 4 + value * 66..];
            let length = usize::from(u16::from_le_bytes([value[0], value[1]]));
            values.extend(&value[2..2 + length]);
        }
    }
    values
}

fn blobs(of: &[(&'static str, Vec<u8>)]) -> Blobs {
    let mut blobs = Blobs::default();
    for (kind, bytes) in of {
        blobs.add(kind, bytes);
    }
    blobs
}

/// Whoever can write to a folder of blobs makes no other evidence of them.
#[test]
fn kept_evidence_is_verified_again() {
    let Some(lab) = folder("lab/swtpm-join") else {
        return;
    };
    let good = kept(&lab);
    let read = Kept::read(&blobs(&good)).unwrap();
    assert!(read.chip().is_some());
    let now = facts::Timestamp::from_secs(1_795_500_000);
    let unknown = read.root(&attest_tpm::References::default(), None, now);
    assert!(unknown.is_err(), "nobody trusts its maker");
    let pinned = attest_tpm::References {
        pinned_ek: [*read.chip().unwrap().sha256()].into(),
        ..attest_tpm::References::default()
    };
    assert_eq!(read.root(&pinned, None, now), Ok(facts::Source::Verified));
    for kind in [
        "tpm-ak-public",
        "tpm-quote",
        "tpm-quote-signature",
        "tpm-pcr-values",
    ] {
        for at in [0, 40] {
            let mut other = good.clone();
            let blob = other.iter_mut().find(|(name, _)| *name == kind).unwrap();
            blob.1[at] ^= 1;
            assert!(Kept::read(&blobs(&other)).is_err(), "{kind} {at}");
        }
        let mut other = good.clone();
        other.retain(|(name, _)| *name != kind);
        assert!(Kept::read(&blobs(&other)).is_err(), "{kind} absent");
    }
}

/// A machine that went on attesting sent the end of its list; the beginning is in an older verdict.
#[test]
fn the_end_of_a_list_is_put_behind_its_beginning_or_stays_what_it_is() {
    let Some(lab) = folder("lab/fsverity-ima-ngv2") else {
        return;
    };
    let list = read(&lab, "ima.bin");
    let rest = attest_tpm::ima::after(&list, 3).unwrap();
    let beginning = &list[..list.len() - rest.len()];
    let before = |entries: u64| {
        let mut bytes = [0; Progress::LENGTH];
        bytes[8..16].copy_from_slice(&entries.to_be_bytes());
        bytes
    };
    let older = |list: &[u8]| blobs(&[("ima-list", list.to_vec()), ("tpm-quote", vec![9])]);
    let newer = |entries| {
        blobs(&[
            ("tpm-quote", vec![1]),
            ("ima-list", rest.to_vec()),
            (Kept::BEFORE, before(entries).to_vec()),
        ])
    };
    let mut joined = newer(3);
    joined.complete(older(beginning));
    assert_eq!(joined.get("ima-list"), list);
    assert_eq!(joined.get(Kept::BEFORE), [] as [u8; 0]);
    assert_eq!(joined.get("tpm-quote"), [1], "what is newer counts");
    // The machine had measured more in between than the older verdict has.
    let mut apart = newer(4);
    apart.complete(older(beginning));
    assert_eq!(apart.get("ima-list"), rest);
    assert_eq!(apart.get(Kept::BEFORE), before(4));
}
