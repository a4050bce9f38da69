//! Artefacts and sources of a generation, from what was verified.

mod kernel;

pub use kernel::{Kernel, Loader, kernel};

use crate::boot::{Phase, Shim, Uki, shim_grub_linux};
use crate::debian::{Package, PackageFile, Release};
use crate::generation::{
    Artefact, ArtefactKind, FileValue, Part, Parts, PcrValue, Source, SourceKind, Unpredicted,
};
use crate::oci::ImageFiles;
use crate::pe::{Authority, Image, SignedImage};
use crate::slsa::Statement;
use crate::uefi::UefiVariables;
use crate::{Digest, FileDigests};
use facts::Finding;

/// Of an `EFI_SIGNATURE_DATA`, before the certificate or digest.
const OWNER: usize = 16;
const GRUB_COMMANDS: &str = "GRUB measures every command that it runs and every file that it opens; a [[boot]] rule lists them";

/// A signed Debian release.
#[must_use]
pub fn release_source(release: &Release) -> Source {
    let signed_by = release.signed_by.iter().map(|by| {
        format!("{} {}", by.fingerprint, by.user)
            .trim_end()
            .to_owned()
    });
    Source {
        id: format!("{}-{}", release.origin, release.codename).to_lowercase(),
        kind: SourceKind::DebianRelease,
        name: format!(
            "{} {} ({})",
            release.origin, release.codename, release.suite
        ),
        sha256: release.sha256,
        signed_by: signed_by.collect(),
        signed_at: Some(release.date),
    }
}

/// The files of a package: programs, or all of them.
///
/// # Errors
/// Those of [`Package::files`].
pub fn deb(package: &Package<'_>, source: &Source, all: bool) -> Result<Artefact, Finding> {
    let files = package.files()?;
    let values = files
        .iter()
        .filter(|file| all || file.is_program())
        .map(file_value);
    let listed = &package.listed;
    Ok(Artefact {
        kind: ArtefactKind::Deb,
        name: listed.name.clone(),
        version: listed.version.clone(),
        architecture: listed.architecture.clone(),
        sha256: listed.sha256,
        source: source.id.clone(),
        made_of: Vec::new(),
        files: values.collect(),
        pcrs: Vec::new(),
        unpredicted: Vec::new(),
        parts: Parts::default(),
    })
}

fn file_value(file: &PackageFile) -> FileValue {
    value(&file.path, &file.digests)
}

fn value(path: &str, digests: &FileDigests) -> FileValue {
    FileValue {
        path: path.to_owned(),
        sha256: digests.sha256,
        fsverity: Some(digests.fsverity),
        authenticode: digests.authenticode,
    }
}

/// shim, GRUB and a kernel, each with what it is called: `shim-signed 1.51`.
pub struct Chain<'a> {
    pub shim: (&'a str, &'a [u8]),
    pub grub: (&'a str, &'a [u8]),
    pub kernel: (&'a str, &'a [u8]),
    /// Version of the kernel's package.
    pub version: &'a str,
    pub architecture: &'a str,
}

/// What booting the chain gives: PCR 4 and 14, and PCR 7 on machines with these variables. Without
/// variables PCR 14 is that of a machine whose owner enrolled no keys.
///
/// # Errors
/// `REF-PE`, `REF-SHIM`, and for PCR 7 `REF-IMAGE-…` and `REF-UEFI-…`.
pub fn boot_chain(
    chain: &Chain<'_>,
    variables: Option<&UefiVariables>,
    source: &Source,
) -> Result<Artefact, Finding> {
    let shim_image = Image::parse(chain.shim.1)?;
    let grub_image = Image::parse(chain.grub.1)?;
    let kernel_image = Image::parse(chain.kernel.1)?;
    let shim = Shim::parse(chain.shim.1)?;
    let none = UefiVariables::new();
    let known = variables.unwrap_or(&none);
    let mut pcrs = vec![
        shim_grub_linux(
            shim_image.authenticode(),
            grub_image.authenticode(),
            kernel_image.authenticode(),
        ),
        shim.pcr14(known),
    ];
    let mut unpredicted = vec![not(8, GRUB_COMMANDS), not(9, GRUB_COMMANDS)];
    if variables.is_some() {
        // The kernel is started under the same authority as GRUB, or not at all.
        known.pcr7_through_shim(&shim_image, &shim, &kernel_image)?;
        pcrs.push(known.pcr7_through_shim(&shim_image, &shim, &grub_image)?);
    } else {
        unpredicted.push(not(7, "no UEFI variables were given"));
    }
    let mut authorities = vec![Part::new(
        "certificate of shim's vendor",
        Digest::of(shim.vendor()),
    )];
    if let Some(variables) = variables {
        authorities.extend(kernel::authorities(variables, &[&shim_image])?);
    }
    let lists = shim.pcr14(known).events.into_iter();
    let file = |(name, bytes): (&str, &[u8])| Part::new(name, Digest::of(bytes));
    let parts = Parts {
        images: [
            (chain.shim.0, &shim_image),
            (chain.grub.0, &grub_image),
            (chain.kernel.0, &kernel_image),
        ]
        .map(|(name, image)| Part::new(name, image.authenticode()))
        .into(),
        // GRUB reads the kernel, and itself to look for its folder.
        files: vec![file(chain.kernel), file(chain.grub)],
        authorities,
        mok: lists
            .map(|event| Part::new(event.what, event.sha256))
            .collect(),
        ..Parts::default()
    };
    let digests = [chain.shim.1, chain.grub.1, chain.kernel.1].map(|bytes| Digest::of(bytes).0);
    Ok(Artefact {
        kind: ArtefactKind::BootChain,
        name: "shim-grub-linux".to_owned(),
        version: chain.version.to_owned(),
        architecture: chain.architecture.to_owned(),
        sha256: Digest::of(&digests.concat()),
        source: source.id.clone(),
        made_of: [chain.shim.0, chain.grub.0, chain.kernel.0]
            .map(str::to_owned)
            .into(),
        files: Vec::new(),
        pcrs,
        unpredicted,
        parts,
    })
}

fn not(index: u8, why: &str) -> Unpredicted {
    Unpredicted {
        index,
        why: why.to_owned(),
    }
}

/// What booting a UKI gives, by firmware or a boot loader, and who signed it. With variables, Secure Boot has to accept it; without,
/// PCR 7 is left out.
///
/// # Errors
/// `REF-PE…`, `REF-UKI`, `REF-IMAGE-…`, `REF-UEFI-…`.
pub fn uki(
    name: &str,
    bytes: &[u8],
    variables: Option<&UefiVariables>,
    phase: Phase,
    loader: Loader<'_>,
) -> Result<(Source, Artefact), Finding> {
    let image = Image::parse(bytes)?;
    let parsed = Uki::parse(bytes)?;
    let loader = loader.map(|(name, bytes)| Ok((name, Image::parse(bytes)?)));
    let loader = loader.transpose()?;
    let before = loader.as_ref();
    let before = before.map(|(name, loader)| (*name, loader.authenticode()));
    let mut pcrs: Vec<PcrValue> = vec![
        kernel::pcr4("UKI", parsed.authenticode, before),
        parsed.pcr11(phase),
    ];
    let mut parts = Parts {
        images: vec![Part::new(name, parsed.authenticode)],
        command_lines: parsed.command_lines(),
        sections: parsed.sections.iter().cloned().collect(),
        ..Parts::default()
    };
    let mut made_of = vec![format!("systemd-stub {}", parsed.stub)];
    let mut images = vec![&image];
    if let Some((name, loader)) = &loader {
        parts.images.push(Part::new(*name, loader.authenticode()));
        made_of.push((*name).to_owned());
        images.insert(0, loader);
    }
    let mut unpredicted = Vec::new();
    match parsed.pcr9() {
        Ok(pcr) => pcrs.push(pcr),
        Err(why) => unpredicted.push(why),
    }
    match variables {
        Some(variables) => {
            pcrs.push(variables.pcr7_of_all(&images)?);
            parts.authorities = kernel::authorities(variables, &images)?;
        }
        None => unpredicted.push(not(7, "no UEFI variables were given")),
    }
    let digests = FileDigests::of(bytes);
    let source = image_source(name, &image, digests.sha256)?;
    let artefact = Artefact {
        kind: ArtefactKind::Uki,
        name: name.to_owned(),
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

/// Signed images name their signers; an unsigned one is what the operator says it is.
fn image_source(name: &str, image: &Image<'_>, sha256: Digest) -> Result<Source, Finding> {
    let signed_by: Vec<String> = image
        .signatures()?
        .into_iter()
        .filter_map(|signature| SignedImage::verify(image, signature).ok())
        .map(|signed| {
            format!("{} {}", signed.signer(), signed.signer_name())
                .trim_end()
                .to_owned()
        })
        .collect();
    let kind = if signed_by.is_empty() {
        SourceKind::Pinned
    } else {
        SourceKind::Authenticode
    };
    Ok(Source {
        id: name.to_owned(),
        kind,
        name: name.to_owned(),
        sha256,
        signed_by,
        signed_at: None,
    })
}

/// PCR 7 of machines with these variables, which start `first` and, if that is a shim, `then`.
///
/// # Errors
/// `REF-PE`, `REF-SHIM`, `REF-IMAGE-…`, `REF-UEFI-…`.
pub fn uefi(
    name: &str,
    variables: &UefiVariables,
    first: (&str, &[u8]),
    then: Option<(&str, &[u8])>,
) -> Result<(Source, Artefact), Finding> {
    let image = Image::parse(first.1)?;
    let mut made_of = vec![first.0.to_owned()];
    let mut authorities = kernel::authorities(variables, &[&image])?;
    let pcr = match then {
        None => variables.pcr7_of(&image)?,
        Some((next, bytes)) => {
            made_of.push(next.to_owned());
            let shim = Shim::parse(first.1)?;
            let vendor = Digest::of(shim.vendor());
            authorities.push(Part::new("certificate of shim's vendor", vendor));
            variables.pcr7_through_shim(&image, &shim, &Image::parse(bytes)?)?
        }
    };
    let sha256 = variables.digest();
    let source = Source {
        id: name.to_owned(),
        kind: SourceKind::Pinned,
        name: name.to_owned(),
        sha256,
        signed_by: Vec::new(),
        signed_at: None,
    };
    let artefact = Artefact {
        kind: ArtefactKind::Uefi,
        name: name.to_owned(),
        version: String::new(),
        architecture: String::new(),
        sha256,
        source: source.id.clone(),
        made_of,
        files: Vec::new(),
        pcrs: vec![pcr],
        unpredicted: Vec::new(),
        parts: Parts {
            authorities,
            ..Parts::default()
        },
    };
    Ok((source, artefact))
}

/// As facts and records name an authority: SHA-256 of its certificate, or the digest of the image itself.
fn authority_part(what: &str, authority: &Authority) -> Part {
    let entry = authority.data.get(OWNER..).unwrap_or_default();
    let digest = entry.as_array::<32>().map(|digest| Digest(*digest));
    Part::new(what, digest.unwrap_or_else(|| Digest::of(entry)))
}

/// The files of an image that the operator pinned.
#[must_use]
pub fn oci(name: &str, pinned: Digest, manifest: Digest, files: &ImageFiles) -> (Source, Artefact) {
    let source = Source {
        id: name.to_owned(),
        kind: SourceKind::Pinned,
        name: format!("{name}@sha256:{pinned}"),
        sha256: pinned,
        signed_by: Vec::new(),
        signed_at: None,
    };
    let values = files.iter().map(|(path, digests)| value(path, digests));
    let artefact = Artefact {
        kind: ArtefactKind::Oci,
        name: name.to_owned(),
        version: String::new(),
        architecture: String::new(),
        sha256: manifest,
        source: source.id.clone(),
        made_of: Vec::new(),
        files: values.collect(),
        pcrs: Vec::new(),
        unpredicted: Vec::new(),
        parts: Parts::default(),
    };
    (source, artefact)
}

/// The subjects of a statement whose file has the digest `sha256`.
#[must_use]
pub fn subjects(name: &str, sha256: Digest, statement: &Statement) -> (Source, Vec<Artefact>) {
    let builder = statement.builder.as_deref().unwrap_or("builder");
    let source = Source {
        id: name.to_owned(),
        kind: SourceKind::Slsa,
        name: format!("{name}, {}", statement.predicate_type),
        sha256,
        signed_by: vec![format!("{} {builder}", statement.key)],
        signed_at: None,
    };
    let artefacts = statement.subjects.iter().map(|(subject, digest)| Artefact {
        kind: ArtefactKind::Subject,
        name: if subject.is_empty() { name } else { subject }.to_owned(),
        version: String::new(),
        architecture: String::new(),
        sha256: *digest,
        source: source.id.clone(),
        made_of: Vec::new(),
        files: Vec::new(),
        pcrs: Vec::new(),
        unpredicted: Vec::new(),
        parts: Parts::default(),
    });
    let artefacts = artefacts.collect();
    (source, artefacts)
}
