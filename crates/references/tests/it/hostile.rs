//! Bytes that somebody made up: nothing panics, nothing grows without end.

use crate::forge::Forged;
use crate::images::{layer, tar};
use facts::Timestamp;
use proptest::prelude::*;
use references::archive::{Tar, ar};
use references::boot::{Shim, Uki};
use references::oci::ImageFiles;
use references::openpgp::{Keyring, verify};
use references::pe::{Image, SignedImage};
use references::uefi::{SignatureLists, UefiVariables};
use references::unpack::{self, Packing};
use references::{ReferenceFile, slsa};
use std::io::Read as _;

fn program() -> Option<(Vec<u8>, Vec<u8>, Vec<u8>)> {
    let debs = crate::evidence::packages(
        "references::debian_packages",
        [
            crate::boots::SHIM,
            ("systemd-boot-efi", None),
            crate::boots::FIRMWARE,
        ],
    )?;
    let [shim, _, firmware] = debs;
    let shim = crate::boots::file_of(&shim, crate::boots::SHIM, crate::boots::SHIM_PATH);
    let variables = crate::boots::file_of(
        &firmware,
        crate::boots::FIRMWARE,
        crate::boots::VARIABLES_PATH,
    );
    // Of the image what is parsed: its head, and its certificate table.
    let table = Image::parse(&shim).unwrap().signatures().unwrap().concat();
    Some((shim, table, variables))
}

fn read_tar(bytes: &[u8]) {
    let mut archive = Tar::new(bytes);
    let mut buffer = [0; 300];
    for _ in 0..1000 {
        let Ok(Some(_)) = archive.next_entry() else {
            return;
        };
        while archive.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }
}

#[test]
fn every_byte_of_a_real_boot_loaders_headers_may_be_anything() {
    let Some((shim, _, _)) = program() else {
        return;
    };
    let whole = Image::parse(&shim).unwrap().authenticode();
    for at in 0..1200 {
        for byte in [0, 1, 0x7f, 0xff] {
            let mut changed = shim[..0x2000].to_vec();
            changed[at] = byte;
            let _refused = Image::parse(&changed);
            let mut changed = shim.clone();
            let was = std::mem::replace(&mut changed[at], byte);
            let Ok(image) = Image::parse(&changed) else {
                continue;
            };
            let _refused = (Uki::parse(&changed[..0x3000]), image.signatures());
            // Whatever still parses has another digest, except for the fields that are not hashed.
            let pe = 0x80 + 24;
            let not_hashed = (pe + 64..pe + 68).contains(&at) || (pe + 144..pe + 152).contains(&at);
            if was != byte && !not_hashed && byte == 0xff {
                assert_ne!(image.authenticode(), whole, "byte {at}");
            }
        }
        if at > 300 && at % 7 != 0 {
            continue;
        }
        let _refused = Shim::parse(&shim[..shim.len() - at * 800]);
    }
}

#[test]
fn every_byte_of_a_real_signature_and_variable_store_may_be_anything() {
    let Some((shim, table, variables)) = program() else {
        return;
    };
    let image = Image::parse(&shim).unwrap();
    let signature = image.signatures().unwrap()[0];
    assert!(SignedImage::verify(&image, signature).is_ok());
    for at in (0..table.len().min(signature.len())).step_by(3) {
        let mut changed = signature.to_vec();
        changed[at] ^= 0xff;
        let _refused = SignedImage::verify(&image, &changed);
        let _refused = SignedImage::verify(&image, &signature[..at]);
    }
    for at in 0..4000 {
        let mut changed = variables.clone();
        changed[at] ^= 0xff;
        let _refused = UefiVariables::from_varstore(&changed);
        let _refused = UefiVariables::from_varstore(&variables[..at]);
    }
}

/// A section of eight bytes in the file said that it has a gigabyte in memory, and that was made for it.
#[test]
fn a_section_that_is_not_in_the_file_is_not_made() {
    let sections: [(&str, &[u8]); 3] = [
        (".sdmagic", b"#### LoaderInfo: systemd-stub 254.1 ####\0"),
        (".cmdline", b"root=/dev/vda\0"),
        (".linux", b"a kernel"),
    ];
    let image = testkit::pe::pe_image(&sections);
    assert!(Uki::parse(&image).is_ok());
    let with = |name: &[u8], size: u32| {
        let row = image.windows(8).position(|at| at == name).unwrap();
        let mut image = image.clone();
        image[row + 8..row + 12].copy_from_slice(&size.to_le_bytes());
        Uki::parse(&image).map_err(|finding| finding.observed.unwrap_or_default())
    };
    // Zeros that a kernel may ask for are hashed as they stand in memory.
    let filled = with(b".linux\0\0", 1 << 20).unwrap();
    let mut memory = b"a kernel".to_vec();
    memory.resize(1 << 20, 0);
    let linux = filled.sections.iter().find(|(name, _)| name == ".linux");
    assert_eq!(linux.unwrap().1, references::Digest::of(&memory));
    for size in [129 << 20, (1 << 30) - 1, u32::MAX] {
        let refused = with(b".linux\0\0", size).unwrap_err();
        assert!(refused.contains("not in the image"), "{refused}");
    }
    let refused = with(b".cmdline", 65 << 10).unwrap_err();
    assert!(refused.contains("command line"), "{refused}");
}

#[test]
fn archives_do_not_outgrow_their_limits() {
    // A megabyte of zeros is a kilobyte in gzip, and refused where less is expected.
    let zeros = tar(&[("a", b'0', &vec![0; 1 << 20])]);
    let packed = crate::images::compressed("gzip", &zeros);
    assert!(packed.len() < 4096);
    assert_eq!(unpack::all(Packing::Gzip, &packed, 1 << 21).unwrap(), zeros);
    let refused = unpack::all(Packing::Gzip, &packed, 1 << 19).unwrap_err();
    assert_eq!(refused.code, "REF-UNPACK-SIZE");
    // An xz whose dictionary would take a gigabyte is refused before it is allocated.
    if testkit::tool("xz").is_none() {
        testkit::skip("references::xz", "xz is not installed");
        return;
    }
    let packed = crate::images::compressed("xz", &zeros);
    assert_eq!(unpack::all(Packing::Xz, &packed, 1 << 21).unwrap(), zeros);
    assert_eq!(
        unpack::all(Packing::Xz, &packed, 1 << 19).unwrap_err().code,
        "REF-UNPACK-SIZE"
    );
    let greedy = crate::images::compressed_with("xz", &["-c", "--lzma2=dict=1GiB"], b"small");
    assert_eq!(
        unpack::all(Packing::Xz, &greedy, 1 << 20).unwrap_err().code,
        "REF-UNPACK"
    );
    // A reader that failed stays failed.
    let mut reader = unpack::reader(Packing::Xz, &packed[..packed.len() / 2], 1 << 21).unwrap();
    let mut rest = Vec::new();
    assert!(reader.read_to_end(&mut rest).is_err());
    assert!(reader.read(&mut [0; 10]).is_err());
}

#[test]
fn damaged_compressed_data_never_panic() {
    let plain = tar(&[("a", b'0', b"some text, some text, and more text")]);
    for (program, packing) in [
        ("gzip", Packing::Gzip),
        ("xz", Packing::Xz),
        ("zstd", Packing::Zstd),
    ] {
        if testkit::tool(program).is_none() {
            testkit::skip(
                "references::compressors",
                &format!("{program} is not installed"),
            );
            continue;
        }
        let packed = crate::images::compressed(program, &plain);
        for at in 0..packed.len() {
            for byte in [0, 0x55, 0xff] {
                let mut changed = packed.clone();
                changed[at] = byte;
                let _refused = unpack::all(packing, &changed, 1 << 20);
            }
            assert!(
                unpack::all(packing, &packed[..at], 1 << 20).is_err() || at == 0,
                "{program} {at}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let keyring = Keyring::parse(&bytes);
        let _refused = verify(&bytes, &keyring.unwrap_or_default(), Timestamp::from_secs(1));
        let _refused = (ar::members(&bytes), Image::parse(&bytes), Uki::parse(&bytes));
        let _refused = (SignatureLists::parse(&bytes), UefiVariables::from_varstore(&bytes));
        let layer = layer("application/vnd.oci.image.layer.v1.tar+gzip", &bytes);
        let _refused = (slsa::verify(&bytes, &[]), ImageFiles::new().apply(&layer, &bytes));
        if let Ok(text) = str::from_utf8(&bytes) {
            let _refused = ReferenceFile::parse(text);
        }
        read_tar(&bytes);
        for packing in [Packing::Gzip, Packing::Lz4, Packing::Zstd, Packing::Xz] {
            let _refused = unpack::all(packing, &bytes, 1 << 16);
        }
    }

    #[test]
    fn a_damaged_tar(at in 0_usize..2048, byte: u8, cut in 0_usize..2048) {
        let mut bytes = tar(&[("a/b", b'0', b"content"), ("c", b'L', b""), ("d", b'x', b"")]);
        bytes[at] = byte;
        // A checksum that fits lets more be tried.
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        read_tar(&bytes);
        read_tar(&bytes[..cut]);
    }

    #[test]
    fn a_damaged_keyring(at in 0_usize..400, byte: u8) {
        let mut bytes = Forged::new().keyring();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _refused = Keyring::parse(&bytes);
        let _refused = Keyring::parse(&bytes[..at]);
    }
}
