//! PE images: boot loaders, kernels and unified kernel images, as firmware measures them.

use references::boot::{Phase, Shim, Uki};
use references::pe::{Image, SignedImage};
use references::uefi::UefiVariables;
use testkit::pe::pe_image;

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
        assert!(loaded.as_ref().is_none_or(|loaded| loaded.len() <= 1 << 16));
        if let (Some(loaded), Some(digest)) = (loaded, section.digest()) {
            assert_eq!(digest, references::Digest::of(&loaded));
        }
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

/// As much of a real image as a search can move about in.
const HEAD: usize = 8 << 10;

/// The heads of Debian's shim, GRUB and kernels, as far as tests have unpacked them; each as it is, which
/// ends too early, and with its sections cut to what is there.
fn real_heads() -> Vec<Vec<u8>> {
    let mut heads = Vec::new();
    for folder in testkit::debian::cached() {
        for place in ["boot", "usr/lib/shim", "usr/lib/grub/x86_64-efi-signed"] {
            let listed = std::fs::read_dir(folder.join(place));
            for entry in listed.into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if !name.starts_with("vmlinuz-") && !name.contains("x64.efi") {
                    continue;
                }
                let mut head = std::fs::read(entry.path()).unwrap_or_default();
                head.truncate(HEAD);
                heads.extend(cut(&head));
                heads.push(head);
            }
        }
    }
    heads
}

/// `head` with sections that end where it does, and no table of signatures; `None` if it is no PE32+.
fn cut(head: &[u8]) -> Option<Vec<u8>> {
    let number = |bytes: &[u8], at: usize| -> Option<usize> {
        let field = bytes.get(at..at + 4)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*field)).ok()
    };
    let pe = number(head, 0x3c)?;
    let [count, optional] = [6, 20].map(|at| number(head, pe + at).map(|both| both & 0xffff));
    let mut cut = head.to_vec();
    // Data directory 4 of a PE32+ header.
    cut.get_mut(pe + 24 + 112 + 32..)?.get_mut(..8)?.fill(0);
    for section in 0..count? {
        let at = pe + 24 + optional? + 40 * section + 16;
        let (length, start) = (number(head, at)?, number(head, at + 4)?);
        let length = length.min(head.len().saturating_sub(start));
        let length = u32::try_from(length).ok()?;
        cut.get_mut(at..at + 4)?
            .copy_from_slice(&length.to_le_bytes());
        if length == 0 {
            cut.get_mut(at + 4..at + 8)?.fill(0);
        }
    }
    Some(cut)
}

/// A small UKI, a shim with a vendor's certificate, a program without sections, and real ones' heads.
pub(crate) fn pe_seeds() -> Vec<Vec<u8>> {
    let mut all = made();
    all.extend(real_heads());
    all
}

fn made() -> Vec<Vec<u8>> {
    let sbat = b"sbat,1,SBAT Version,sbat,1,https://github.com/rhboot/shim/blob/main/SBAT.md\n";
    let vendor = [16_u32, 0, 16, 16].map(u32::to_le_bytes).concat();
    vec![
        pe_image(&[
            (".sdmagic", b"#### LoaderInfo: systemd-stub 254.1 ####\0"),
            (".osrel", b"ID=made\n"),
            (".cmdline", b"root=/dev/vda\0"),
            (".initrd", b"an initrd"),
            (".linux", b"a kernel"),
            (".sbat", sbat),
        ]),
        pe_image(&[
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
        pe_image(&[]),
    ]
}
