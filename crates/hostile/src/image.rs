//! PE images: boot loaders, kernels and unified kernel images, as firmware measures them.

use references::boot::{Phase, Shim, Uki};
use references::pe::{Image, SignedImage};
use references::uefi::UefiVariables;

/// Where the PE header of [`Made`] stands.
const PE: usize = 0x80;
const OPTIONAL: usize = PE + 24;
/// Sizes of an optional header of PE32+ with 16 directories, and of a row of the section table.
const OPTIONAL_SIZE: u16 = 112 + 16 * 8;
const ALIGNMENT: usize = 512;

/// What is read lies in the file, and the digest covers everything but the checksum and the signatures.
pub(crate) fn pe(bytes: &[u8]) {
    let _refused =
        (Uki::parse(bytes).map(|uki| (uki.pcr4(), uki.pcr9(), uki.pcr11(Phase::Ready))),);
    if let Ok(shim) = Shim::parse(bytes) {
        assert!(shim.vendor().len() <= bytes.len());
        let _refused = shim.pcr14(&UefiVariables::default());
    }
    let Ok(image) = Image::parse(bytes) else {
        return;
    };
    let held: usize = image
        .sections()
        .iter()
        .map(|section| section.raw.len())
        .sum();
    assert!(held <= bytes.len());
    for section in image.sections() {
        let _twice = image.section(&section.name);
        let loaded = section.loaded(1 << 16);
        assert!(loaded.is_none_or(|loaded| loaded.len() <= 1 << 16));
    }
    for signature in image.signatures().unwrap_or_default() {
        if let Ok(signed) = SignedImage::verify(&image, signature) {
            assert!(signed.certificates().all(|der| !der.is_empty()));
        }
    }
    let digest = image.authenticode();
    let head = u32::from_le_bytes(*bytes[0x3c..].first_chunk().unwrap());
    let checksum = usize::try_from(head).unwrap() + 24 + 64;
    let mut changed = bytes.to_vec();
    changed[checksum] ^= 0xff;
    let other = Image::parse(&changed).expect("no reader looks at the checksum");
    assert_eq!(other.authenticode(), digest);
    if let Some(section) = image
        .sections()
        .iter()
        .find(|section| !section.raw.is_empty())
    {
        let at = section.raw.as_ptr().addr() - bytes.as_ptr().addr();
        let mut changed = bytes.to_vec();
        changed[at] ^= 0xff;
        let other = Image::parse(&changed).expect("its headers are as they were");
        assert_ne!(
            other.authenticode(),
            digest,
            "section {} is not covered",
            section.name
        );
    }
}

/// A small UKI, a shim with a vendor's certificate, and a program without sections.
pub(crate) fn pe_seeds() -> Vec<Vec<u8>> {
    let sbat = b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n";
    let vendor = [16_u32, 0, 16, 16].map(u32::to_le_bytes).concat();
    vec![
        made(&[
            (".sdmagic", b"#### LoaderInfo: systemd-stub 254.1 ####\0"),
            (".osrel", b"ID=made\n"),
            (".cmdline", b"root=/dev/vda\0"),
            (".initrd", b"an initrd"),
            (".linux", b"a kernel"),
            (".sbat", sbat),
        ]),
        made(&[
            (".text", b"code"),
            (
                ".vendor_cert",
                &[vendor.as_slice(), &[0x30; 16], &[7; 16]].concat(),
            ),
            (
                ".sbatlevel",
                b"\0\0\0\0\x08\0\0\0\x20\0\0\0sbat,1,2022052400\ngrub,2\n\0sbat,1,2025051000\n\0",
            ),
        ]),
        made(&[]),
    ]
}

/// A PE32+ image of these sections, with an empty certificate table behind it.
fn made(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0; PE];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c..0x40].copy_from_slice(&u32::try_from(PE).unwrap().to_le_bytes());
    bytes.extend(b"PE\0\0\x64\x86");
    bytes.extend(u16::try_from(sections.len()).unwrap().to_le_bytes());
    // The table of names longer than eight bytes stands before the certificates.
    bytes.extend([0; 12]);
    bytes.extend(OPTIONAL_SIZE.to_le_bytes());
    bytes.extend([0; 2]);
    bytes.resize(OPTIONAL + usize::from(OPTIONAL_SIZE), 0);
    bytes[OPTIONAL..OPTIONAL + 2].copy_from_slice(&[0x0b, 0x02]);
    bytes[OPTIONAL + 108] = 16;
    let headers = (bytes.len() + sections.len() * 40).next_multiple_of(ALIGNMENT);
    let word = |number: usize| u32::try_from(number).unwrap().to_le_bytes();
    bytes[OPTIONAL + 60..OPTIONAL + 64].copy_from_slice(&word(headers));
    let mut at = headers;
    let mut names = vec![0; 4];
    for (index, (name, content)) in sections.iter().enumerate() {
        let mut row = [0; 40];
        let short = if name.len() > 8 {
            format!("/{}", names.len())
        } else {
            (*name).to_owned()
        };
        row[..short.len()].copy_from_slice(short.as_bytes());
        names.extend(name.as_bytes());
        names.push(0);
        let raw = content.len().next_multiple_of(ALIGNMENT);
        let address = 0x1000 * (index + 1);
        for (place, number) in [(8, content.len()), (12, address), (16, raw), (20, at)] {
            row[place..place + 4].copy_from_slice(&word(number));
        }
        bytes.extend(row);
        at += raw;
    }
    bytes.resize(headers, 0);
    for (_, content) in sections {
        bytes.extend(*content);
        bytes.resize(bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
    let at = word(bytes.len());
    bytes[PE + 12..PE + 16].copy_from_slice(&at);
    bytes.extend(names);
    // One PKCS #7 entry that is none.
    let (entry, length) = (OPTIONAL + 112 + 4 * 8, 16);
    let table = [word(bytes.len()), word(length)].concat();
    bytes[entry..entry + 8].copy_from_slice(&table);
    bytes.extend(word(length));
    bytes.extend([0, 2, 2, 0]);
    bytes.extend([0x30; 8]);
    bytes
}
