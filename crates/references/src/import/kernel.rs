//! A kernel that is started as an EFI program, by firmware or by systemd-boot: what booting it gives.

use super::{authority_part, image_source, not};
use crate::boot::{EfiStub, boot_loader, kernel_parameters};
use crate::generation::{Artefact, ArtefactKind, Part, Parts, PcrValue, Source};
use crate::pcr::Pcr;
use crate::pe::Image;
use crate::uefi::UefiVariables;
use crate::{Digest, FileDigests};
use facts::Finding;

/// A boot loader that starts an image as firmware would, each with what it is called.
pub type Loader<'a> = Option<(&'a str, &'a [u8])>;

/// A kernel and what it is given.
pub struct Kernel<'a> {
    /// What to call it: `vmlinuz-6.1.0-56-amd64`.
    pub name: &'a str,
    pub image: &'a [u8],
    /// As `/proc/cmdline` has it after such a boot; of systemd-boot with `initrd=` for each initrd.
    pub cmdline: &'a str,
    /// In their order.
    pub initrds: &'a [(&'a str, Vec<u8>)],
    /// systemd-boot; without it, firmware starts the kernel.
    pub loader: Loader<'a>,
}

/// PCR 4, 8 (empty), 9 and, through a boot loader, 12; PCR 7 on machines with these variables. PCR 9 has two values where
/// systemd-boot may or may not fill the initrds up to four bytes (from version 257 on it does).
///
/// Sources: Linux, `drivers/firmware/efi/libstub`, from 5.17; systemd, `src/boot`, `tpm_log_load_options`.
///
/// # Errors
/// `REF-PE…`, `REF-KERNEL` for a command line that the stub does not take, `REF-IMAGE-…`, `REF-UEFI-…`.
pub fn kernel(
    kernel: &Kernel<'_>,
    variables: Option<&UefiVariables>,
) -> Result<(Source, Artefact), Finding> {
    let image = Image::parse(kernel.image)?;
    let loader = kernel
        .loader
        .map(|(name, bytes)| Ok((name, Image::parse(bytes)?)));
    let loader = loader.transpose()?;
    let line = kernel.cmdline.trim_end_matches(['\n', '\0']);
    if line.chars().any(char::is_control) {
        return Err(Finding::new(
            "REF-KERNEL",
            "the command line cannot be what a kernel was given",
        )
        .expected("one line, as /proc/cmdline has it")
        .observed(format!("{line:?}"))
        .next("give --cmdline the text of /proc/cmdline after such a boot"));
    }
    let before = loader.as_ref();
    let before = before.map(|(name, loader)| (*name, loader.authenticode()));
    let mut pcrs = vec![pcr4("kernel", image.authenticode(), before)];
    let given = given(kernel.initrds, loader.is_some());
    pcrs.extend(given.iter().map(|initrd| {
        let stub = EfiStub {
            cmdline: line,
            initrd: *initrd,
        };
        stub.pcr9()
    }));
    if loader.is_some() {
        pcrs.push(kernel_parameters(&[line]));
    }
    // Neither measures there; so the boot is told from one by GRUB, and can be sealed to.
    pcrs.push(Pcr::new(8).finish());
    let mut parts = Parts {
        images: vec![Part::new(kernel.name, image.authenticode())],
        files: given
            .iter()
            .flatten()
            .map(|digest| Part::new("initrd", *digest))
            .collect(),
        command_lines: vec![line.to_owned()],
        ..Parts::default()
    };
    let mut images = vec![&image];
    let mut made_of = Vec::new();
    if let Some((name, loader)) = &loader {
        parts.images.push(Part::new(*name, loader.authenticode()));
        images.insert(0, loader);
        made_of.push((*name).to_owned());
    }
    made_of.extend(kernel.initrds.iter().map(|(name, _)| (*name).to_owned()));
    let mut unpredicted = Vec::new();
    match variables {
        Some(variables) => {
            pcrs.push(variables.pcr7_of_all(&images)?);
            parts.authorities = authorities(variables, &images)?;
        }
        None => unpredicted.push(not(7, "no UEFI variables were given")),
    }
    let digests = FileDigests::of(kernel.image);
    let source = image_source(kernel.name, &image, digests.sha256)?;
    let artefact = Artefact {
        kind: ArtefactKind::BootChain,
        name: kernel.name.to_owned(),
        version: String::new(),
        architecture: String::new(),
        sha256: digests.sha256,
        source: source.id.clone(),
        made_of,
        files: Vec::new(),
        pcrs,
        unpredicted,
        parts,
    };
    Ok((source, artefact))
}

/// By which entries of db these images start.
pub(super) fn authorities(
    variables: &UefiVariables,
    images: &[&Image<'_>],
) -> Result<Vec<Part>, Finding> {
    let mut parts: Vec<Part> = Vec::new();
    if !variables.secure_boot() {
        return Ok(parts);
    }
    for image in images {
        let part = authority_part("entry of db", &variables.authority(image)?);
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    Ok(parts)
}

/// What the stub may see of the initrds: nothing, or all of them one behind the other.
fn given(initrds: &[(&str, Vec<u8>)], by_loader: bool) -> Vec<Option<Digest>> {
    if initrds.is_empty() {
        return vec![None];
    }
    let mut plain = crypto::Sha256::new();
    let mut filled = crypto::Sha256::new();
    for (_, bytes) in initrds {
        plain.update(bytes);
        filled.update(bytes);
        let missing = bytes.len().next_multiple_of(FILLED) - bytes.len();
        filled.update([0; FILLED].get(..missing).unwrap_or_default());
    }
    let mut digests = vec![Some(Digest(plain.finish()))];
    let filled = Some(Digest(filled.finish()));
    if by_loader && !digests.contains(&filled) {
        digests.push(filled);
    }
    digests
}

const FILLED: usize = 4;

/// PCR 4 of `image` behind a boot loader, if there is one.
pub(super) fn pcr4(what: &str, image: Digest, loader: Option<(&str, Digest)>) -> PcrValue {
    match loader {
        Some((name, loader)) => boot_loader((name, loader), &[(what, image)]),
        None => boot_loader((what, image), &[]),
    }
}
