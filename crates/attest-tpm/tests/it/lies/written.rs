//! Boots as logs that are written line by line: one that is approved, and what changes a line of it.

use crate::measure::{Writer, quote, replayed};
use attest_tpm::boot::{Boot, References, SbatFloor, Sections, judge, verify};
use attest_tpm::efi::Guid;
use attest_tpm::eventlog::Kind;
use attest_tpm::reference::Value;
use crypto::sha256;
use facts::{Finding, Timestamp};

pub(super) const NOW: Timestamp = Timestamp::from_secs(1_795_500_000);
pub(super) const OWNER: [u8; 16] = [0x0e; 16];
pub(super) const LINE: &str = "console=ttyS0 ro";

/// One event of a written log.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) pcr: u32,
    pub(super) kind: Kind,
    pub(super) digest: [u8; 32],
    pub(super) data: Vec<u8>,
}

pub(crate) fn of(pcr: u32, kind: Kind, data: &[u8]) -> Line {
    elsewhere(pcr, kind, sha256(data), data)
}

pub(super) fn elsewhere(pcr: u32, kind: Kind, digest: [u8; 32], data: &[u8]) -> Line {
    Line {
        pcr,
        kind,
        digest,
        data: data.to_vec(),
    }
}

pub(super) fn variable(vendor: Guid, name: &str, value: &[u8]) -> Vec<u8> {
    let mut data = vendor.as_bytes().to_vec();
    data.extend((name.len() as u64).to_le_bytes());
    data.extend((value.len() as u64).to_le_bytes());
    data.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    data.extend(value);
    data
}

pub(super) fn config(vendor: Guid, name: &str, value: &[u8]) -> Line {
    of(
        7,
        Kind::VARIABLE_DRIVER_CONFIG,
        &variable(vendor, name, value),
    )
}

pub(super) fn authority(vendor: Guid, name: &str, value: &[u8]) -> Line {
    of(7, Kind::VARIABLE_AUTHORITY, &variable(vendor, name, value))
}

pub(super) fn db_entry(name: &[u8]) -> Vec<u8> {
    [&OWNER[..], &sha256(name)].concat()
}

pub(super) fn list(entries: &[[u8; 32]]) -> Vec<u8> {
    let mut list = Guid::SHA256.as_bytes().to_vec();
    for number in [28 + 48 * entries.len() as u32, 0, 48] {
        list.extend(number.to_le_bytes());
    }
    for entry in entries {
        list.extend(OWNER);
        list.extend(entry);
    }
    list
}

pub(super) fn image(name: &str) -> Line {
    elsewhere(
        4,
        Kind::BOOT_SERVICES_APPLICATION,
        sha256(name.as_bytes()),
        &[0; 32],
    )
}

pub(super) fn grub(prefix: &str, text: &str) -> Line {
    let data = format!("{prefix}{text}\0");
    elsewhere(8, Kind::IPL, sha256(text.as_bytes()), data.as_bytes())
}

pub(super) fn file(name: &str) -> Line {
    elsewhere(
        9,
        Kind::IPL,
        sha256(name.as_bytes()),
        format!("{name}\0").as_bytes(),
    )
}

pub(super) fn section(name: &str, content: &[u8]) -> [Line; 2] {
    let note: Vec<u8> = format!("{name}\0")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let named = sha256(format!("{name}\0").as_bytes());
    [
        elsewhere(11, Kind::IPL, named, &note),
        elsewhere(11, Kind::IPL, sha256(content), &note),
    ]
}

pub(super) fn enabled(on: bool) -> Line {
    config(Guid::GLOBAL, "SecureBoot", &[u8::from(on)])
}

pub(super) fn policy() -> Vec<Line> {
    vec![
        enabled(true),
        config(Guid::GLOBAL, "PK", &list(&[sha256(b"pk")])),
        config(Guid::GLOBAL, "KEK", &list(&[sha256(b"kek")])),
        config(Guid::IMAGE_SECURITY, "db", &list(&[sha256(b"vendor")])),
        config(Guid::IMAGE_SECURITY, "dbx", &list(&[sha256(b"revoked")])),
        of(7, Kind::SEPARATOR, &[0; 4]),
    ]
}

/// A machine that boots by shim, GRUB and a unified kernel image all at once.
pub(crate) fn machine() -> Vec<Line> {
    let mut lines = vec![of(0, Kind::S_CRTM_VERSION, b"v\x001\x00\x00\x00")];
    lines.extend(policy());
    lines.push(of(
        4,
        Kind::EFI_ACTION,
        b"Calling EFI Application from Boot Option",
    ));
    lines.extend((0..7).map(|pcr| of(pcr, Kind::SEPARATOR, &[0; 4])));
    lines.push(authority(Guid::IMAGE_SECURITY, "db", &db_entry(b"vendor")));
    lines.push(authority(
        Guid::SHIM,
        "SbatLevel",
        b"sbat,1,2025021800\nshim,4\n",
    ));
    lines.extend([image("shim"), image("grub")]);
    lines.push(elsewhere(
        14,
        Kind::IPL,
        sha256(b"keys of the vendor"),
        b"MokList\0",
    ));
    lines.push(elsewhere(14, Kind::IPL, sha256(&[1]), b"MokListTrusted\0"));
    lines.push(grub("grub_cmd: ", "linux /vmlinuz console=ttyS0 ro"));
    lines.push(file("/vmlinuz"));
    lines.push(image("kernel"));
    lines.push(grub("kernel_cmdline: ", &format!("/vmlinuz {LINE}")));
    lines.push(file("/initrd"));
    for (name, content) in [(".linux", &b"linux"[..]), (".cmdline", LINE.as_bytes())] {
        lines.extend(section(name, content));
    }
    lines
}

pub(crate) fn references() -> References {
    let value = |name: &str| Value::new(sha256(name.as_bytes()), format!("{name} 1"), "a test");
    References {
        images: ["shim", "grub", "kernel"].map(value).to_vec(),
        authorities: vec![value("vendor")],
        forbidden: vec![value("revoked")],
        sbat: vec![Value::new(
            SbatFloor {
                component: "shim".to_owned(),
                at_least: 4,
            },
            "shim 1",
            "a test",
        )],
        command_lines: vec![Value::new(LINE.to_owned(), "line 1", "a test")],
        files: ["/vmlinuz", "/initrd"].map(value).to_vec(),
        sections: vec![Value::new(
            Sections::from([
                (".linux".to_owned(), sha256(b"linux")),
                (".cmdline".to_owned(), sha256(LINE.as_bytes())),
            ]),
            "uki 1",
            "a test",
        )],
        mok: vec![value("keys of the vendor")],
        ..References::default()
    }
}

pub(super) fn write(lines: &[Line]) -> Writer {
    lines.iter().fold(Writer::new(), |log, line| {
        log.event(line.pcr, line.kind, line.digest, &line.data)
    })
}

pub(super) fn boot_of(lines: &[Line]) -> Result<Boot, Vec<Finding>> {
    let writer = write(lines);
    let log = writer.log();
    verify(&log, &quote(&replayed(&log), 1).pcrs)
}

pub(super) fn outcome(result: Result<(), Vec<Finding>>) -> String {
    match result {
        Ok(()) => "approved".to_owned(),
        Err(findings) => {
            let codes: Vec<&str> = findings.iter().map(|one| one.code.as_ref()).collect();
            codes.join(" ")
        }
    }
}

pub(crate) fn judged(lines: &[Line], references: &References) -> String {
    outcome(boot_of(lines).and_then(|boot| judge(&boot, references, NOW).map(drop)))
}

pub(super) fn position(lines: &[Line], pcr: u32, digest: &[u8; 32]) -> usize {
    lines
        .iter()
        .position(|line| line.pcr == pcr && line.digest == *digest)
        .unwrap()
}

/// What the lines claim to be is changed; what was measured stays.
pub(super) fn relabel(lines: &mut [Line], pcr: u32, digest: &[u8; 32], kind: Kind, data: &[u8]) {
    let at = position(lines, pcr, digest);
    lines[at].kind = kind;
    lines[at].data = data.to_vec();
}
