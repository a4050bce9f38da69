//! `refs import debian`: every `.deb` of a folder has to stand in a list that a trusted key signed.

use super::{file_name, folder, progress, read, variables, write};
use crate::arguments::{DebianArguments, Global};
use crate::{Failure, output};
use facts::{Finding, Timestamp};
use references::debian::{Listed, Package, Packages, Release};
use references::import::{self, Chain};
use references::openpgp::Keyring;
use references::{Artefact, Digest, Source};
use std::path::Path;

/// What a boot chain is made of, by architecture: shim, GRUB.
const LOADERS: [(&str, &str, &str); 2] = [
    (
        "amd64",
        "/usr/lib/shim/shimx64.efi.signed",
        "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed",
    ),
    (
        "arm64",
        "/usr/lib/shim/shimaa64.efi.signed",
        "/usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed",
    ),
];
const KERNEL: &str = "/boot/vmlinuz-";
const LARGEST_IMAGE: u64 = 512 << 20;

/// A verified archive and its lists.
struct Archive {
    source: Source,
    lists: Vec<Packages>,
}

/// An image of a boot chain, out of a package.
struct Part {
    label: String,
    version: String,
    architecture: String,
    path: String,
    bytes: Vec<u8>,
    source: Source,
}

pub(super) fn import(arguments: &DebianArguments, global: &Global) -> Result<(), Failure> {
    let mut keys = Vec::new();
    for path in &arguments.keyrings {
        keys.push(Keyring::parse(&read(path)?)?);
    }
    let keyring = Keyring::merge(keys);
    let (archives, refused) = archives(&arguments.lists, &keyring, global)?;
    let mut artefacts = Vec::new();
    let mut sources: Vec<Source> = Vec::new();
    let mut parts = Vec::new();
    for (name, path) in folder(&arguments.debs)? {
        if !name.ends_with(".deb") {
            continue;
        }
        let bytes = read(&path)?;
        let (source, listed) = look_up(&archives, &refused, &name, &bytes)?;
        let package = Package::open(&bytes, listed)?;
        let artefact = import::deb(&package, source, arguments.all_files)?;
        progress(
            format_args!(
                "{} {}: {} files",
                listed.name,
                listed.version,
                artefact.files.len()
            ),
            global,
        );
        collect_parts(&package, &artefact, source, &mut parts)?;
        artefacts.push(artefact);
        if !sources.contains(source) {
            sources.push(source.clone());
        }
    }
    if artefacts.is_empty() {
        return Err(
            Finding::new("REF-IMPORT-EMPTY", "there is nothing to import")
                .expected("files that end with .deb")
                .observed(arguments.debs.display().to_string())
                .next("download some: apt-get download PACKAGE")
                .into(),
        );
    }
    artefacts.extend(chains(&parts, arguments, global)?);
    write(&arguments.generation, sources, artefacts, global)
}

/// What was verified, and why the rest was not.
fn archives(
    lists: &Path,
    keyring: &Keyring,
    global: &Global,
) -> Result<(Vec<Archive>, Vec<Finding>), Failure> {
    let now = Timestamp::now();
    let files = folder(lists)?;
    let (mut archives, mut refused) = (Vec::new(), Vec::new());
    for (name, path) in &files {
        let Some(start) = name.strip_suffix("InRelease") else {
            continue;
        };
        let release = match Release::verify(&read(path)?, keyring, now) {
            Ok(release) => release,
            Err(finding) => {
                output::note(format_args!("{}: {finding}", path.display()));
                refused.push(finding);
                continue;
            }
        };
        let mut lists = Vec::new();
        for (name, path) in &files {
            if !name.starts_with(start) || !name.contains("Packages") {
                continue;
            }
            match release.packages(name, &read(path)?) {
                Ok(list) => lists.push(list),
                Err(finding) => {
                    output::note(format_args!("{}: {finding}", path.display()));
                    refused.push(finding);
                }
            }
        }
        let source = import::release_source(&release);
        let count: usize = lists.iter().map(Packages::len).sum();
        progress(format_args!("{}: {count} packages", source.name), global);
        archives.push(Archive { source, lists });
    }
    Ok((archives, refused))
}

fn look_up<'a>(
    archives: &'a [Archive],
    refused: &[Finding],
    name: &str,
    bytes: &[u8],
) -> Result<(&'a Source, &'a Listed), Finding> {
    let digest = Digest::of(bytes);
    for archive in archives {
        let mut lists = archive.lists.iter();
        if let Some(listed) = lists.find_map(|list| list.by_digest(&digest)) {
            return Ok((&archive.source, listed));
        }
    }
    // The digest that a list has for what the file says to be.
    let package = name.split('_').next().unwrap_or_default();
    let version = name
        .split('_')
        .nth(1)
        .unwrap_or_default()
        .replace("%3a", ":");
    let expected = archives
        .iter()
        .flat_map(|archive| &archive.lists)
        .flat_map(|list| list.named(package))
        .find(|listed| listed.version == version)
        .map(|listed| {
            format!(
                "SHA-256 {} for {} {}",
                listed.sha256, listed.name, listed.version
            )
        });
    let why = refused.first().map(|finding| format!("; {finding}"));
    Err(Finding::new("REF-DEB-UNLISTED", format!("{name} stands in no list that a trusted key signed"))
        .expected(expected.unwrap_or_else(|| "a package of one of the archives".to_owned()))
        .observed(format!("SHA-256 {digest}{}", why.unwrap_or_default()))
        .next("fetch lists and packages together: apt-get update, then apt-get download; for another archive give its --lists and --keyring"))
}

fn collect_parts(
    package: &Package<'_>,
    artefact: &Artefact,
    source: &Source,
    parts: &mut Vec<Part>,
) -> Result<(), Finding> {
    let of_interest = |path: &str| {
        path.starts_with(KERNEL)
            || LOADERS
                .iter()
                .any(|(_, shim, grub)| path == *shim || path == *grub)
    };
    for file in artefact.files.iter().filter(|file| of_interest(&file.path)) {
        let Some(bytes) = package.read(&file.path, LARGEST_IMAGE)? else {
            continue;
        };
        parts.push(Part {
            label: format!("{} {}", artefact.name, artefact.version),
            version: artefact.version.clone(),
            architecture: artefact.architecture.clone(),
            path: file.path.clone(),
            bytes,
            source: source.clone(),
        });
    }
    Ok(())
}

/// Every kernel through every shim and GRUB of its architecture.
fn chains(
    parts: &[Part],
    arguments: &DebianArguments,
    global: &Global,
) -> Result<Vec<Artefact>, Failure> {
    let known = arguments.uefi.as_deref().map(variables).transpose()?;
    let mut artefacts = Vec::new();
    for (architecture, shim_path, grub_path) in LOADERS {
        let at = |wanted: &'static str| parts.iter().filter(move |part| part.path == wanted);
        let kernels = || {
            parts
                .iter()
                .filter(|part| part.path.starts_with(KERNEL) && part.architecture == architecture)
        };
        for shim in at(shim_path) {
            for grub in at(grub_path) {
                for kernel in kernels() {
                    let chain = Chain {
                        shim: (&shim.label, &shim.bytes),
                        grub: (&grub.label, &grub.bytes),
                        kernel: (&kernel.label, &kernel.bytes),
                        version: &kernel.version,
                        architecture,
                    };
                    progress(
                        format_args!(
                            "boot of {} through shim and GRUB",
                            file_name(Path::new(&kernel.path))
                        ),
                        global,
                    );
                    artefacts.push(import::boot_chain(&chain, known.as_ref(), &kernel.source)?);
                }
            }
        }
    }
    Ok(artefacts)
}
