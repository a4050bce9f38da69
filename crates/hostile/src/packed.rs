//! What reference values are made of: compressed archives, OpenPGP, and the file that holds them.

use crate::seeds;
use references::archive::{Tar, ar};
use references::openpgp::{Keyring, verify};
use references::unpack::{self, Packing};
use references::{ReferenceFile, References};
use std::io::Write as _;
use std::process::{Command, Stdio};

const LIMIT: u64 = 1 << 18;

/// Nothing unpacks to more than it may, and an archive has no more in it than it is.
pub(crate) fn compressed(bytes: &[u8]) {
    let packing = Packing::of_bytes(bytes);
    let unpacked = unpack::all(packing, bytes, LIMIT).unwrap_or_default();
    assert!(u64::try_from(unpacked.len()).unwrap() <= LIMIT);
    for bytes in [bytes, &unpacked] {
        let mut archive = Tar::new(bytes);
        let (mut buffer, mut held) = ([0; 4096], 0);
        while let Ok(Some(_)) = archive.next_entry() {
            while let Ok(read @ 1..) = archive.read(&mut buffer) {
                held += read;
            }
        }
        assert!(held <= bytes.len());
        if let Ok(members) = ar::members(bytes) {
            let held: usize = members.iter().map(|member| member.bytes.len()).sum();
            assert!(held <= bytes.len());
        }
    }
}

pub(crate) fn compressed_seeds() -> Vec<Vec<u8>> {
    let tar = tar();
    let mut all: Vec<_> = ["gzip", "xz", "zstd", "lz4"]
        .iter()
        .filter_map(|program| by(program, &tar))
        .collect();
    all.push(
        b"!<arch>\ndebian-binary   0           0     0     100644  4         `\n2.0\n".to_vec(),
    );
    all.push(tar);
    all
}

/// One file of a few bytes.
fn tar() -> Vec<u8> {
    let mut bytes = vec![0; 2048];
    bytes[..5].copy_from_slice(b"a/b.c");
    bytes[100..108].copy_from_slice(b"0000755\0");
    bytes[124..136].copy_from_slice(b"00000000012\0");
    bytes[148..156].fill(b' ');
    bytes[156] = b'0';
    bytes[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes[512..522].copy_from_slice(b"some bytes");
    bytes
}

/// Packed by a program, if it is at hand.
fn by(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new(testkit::tool(program)?)
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    child.stdin.take()?.write_all(bytes).ok()?;
    let output = child.wait_with_output().ok()?;
    output.status.success().then_some(output.stdout)
}

/// Nobody signed anything by the keys that are in the message itself.
pub(crate) fn openpgp(bytes: &[u8]) {
    let keyring = Keyring::parse(bytes).unwrap_or_default();
    assert!(keyring.len() <= bytes.len());
    if let Ok(signed) = verify(bytes, &keyring, seeds::at(1_795_500_000)) {
        assert!(!signed.by.is_empty() && !keyring.is_empty());
    }
}

pub(crate) fn openpgp_seeds() -> Vec<Vec<u8>> {
    let message = "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nOrigin: made\n- -dash\n-----BEGIN PGP SIGNATURE-----\n\nwgA=\n=abcd\n-----END PGP SIGNATURE-----\n";
    let mut all = vec![
        message.as_bytes().to_vec(),
        vec![0x99, 0, 6, 4, 0, 0, 0, 0, 22],
    ];
    // Debian's own keys, where the machine has them.
    let keyring = testkit::debian::keyring().ok();
    all.extend(keyring.and_then(|path| std::fs::read(path).ok()));
    all
}

/// What is read is written in one form, and read back as the same.
pub(crate) fn references(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else {
        return;
    };
    let Ok(file) = ReferenceFile::parse(text) else {
        return;
    };
    let written = file.to_json();
    let again = ReferenceFile::parse(&written).expect("what is written can be read");
    assert_eq!(again.to_json(), written);
    let _refused = References::new([file]);
}

pub(crate) fn reference_seeds() -> Vec<Vec<u8>> {
    let sha256 = "ab".repeat(32);
    let file = format!(
        r#"{{"generations":[{{"name":"g","rings":["all"],"valid_from":"2026-01-01T00:00:00Z","imported_at":"2026-01-01T00:00:00Z","sources":[{{"id":"p","kind":"pinned","name":"made","sha256":"{sha256}"}}],"artefacts":[{{"kind":"deb","name":"made","version":"1","architecture":"amd64","sha256":"{sha256}","source":"p","files":[{{"path":"/usr/bin/made","sha256":"{sha256}"}}]}}]}}],"withdrawn":[]}}"#
    );
    vec![
        file.into_bytes(),
        br#"{"generations":[],"withdrawn":[]}"#.to_vec(),
    ]
}
