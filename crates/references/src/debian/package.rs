//! A `.deb` that is the one a signed list names, and the files in it.

use super::Listed;
use crate::archive::ar::{Member, members};
use crate::archive::{Kind, Tar, tar};
use crate::unpack::{self, Limited, Packing};
use crate::{Digest, FileDigests, Hasher};
use facts::Finding;
use std::collections::BTreeMap;
use std::io::Read;

/// `linux-image` with debug symbols unpacks to some 6 GB.
const LARGEST_DATA: u64 = 16 * 1024 * 1024 * 1024;
const LARGEST_CONTROL: u64 = 64 * 1024 * 1024;
const LARGEST_CONTROL_FILE: u64 = 1024 * 1024;

/// A package whose bytes were compared with its list.
#[derive(Debug, Clone)]
pub struct Package<'a> {
    pub listed: Listed,
    data: Member<'a>,
}

/// A regular file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageFile {
    /// Absolute.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    pub digests: FileDigests,
}

impl PackageFile {
    /// Whether it can run: by its mode, or as an ELF object, kernel module, boot loader or kernel.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.mode & 0o111 != 0
            || self.digests.elf
            || self.digests.authenticode.is_some()
            || self.path.contains("/lib/modules/")
    }
}

fn refused(what: impl Into<String>) -> Finding {
    Finding::new("REF-DEB", "the package is not a .deb that can be read")
        .expected("debian-binary 2.0, control.tar and data.tar, in this order")
        .observed(what)
        .next("download the package again")
}

impl<'a> Package<'a> {
    /// Checks digest, size, format, and that the package says of itself what the list says of it.
    ///
    /// # Errors
    /// `REF-DEB-DIGEST`, `REF-AR`, `REF-DEB`, `REF-DEB-NAME`, `REF-UNPACK…`.
    pub fn open(deb: &'a [u8], listed: &Listed) -> Result<Self, Finding> {
        let sha256 = Digest::of(deb);
        let size = u64::try_from(deb.len()).unwrap_or(u64::MAX);
        if sha256 != listed.sha256 || size != listed.size {
            return Err(Finding::new(
                "REF-DEB-DIGEST",
                format!(
                    "the .deb is not the {} {} that was signed",
                    listed.name, listed.version
                ),
            )
            .expected(format!("SHA-256 {}, {} bytes", listed.sha256, listed.size))
            .observed(format!("SHA-256 {sha256}, {size} bytes"))
            .next("download the package again (apt-get download), and the lists with it"));
        }
        let members = members(deb)?;
        let [version, control, data, ..] = members.as_slice() else {
            return Err(refused("fewer than three members"));
        };
        if version.name != "debian-binary" || !version.bytes.starts_with(b"2.") {
            return Err(refused("another format"));
        }
        if !control.name.starts_with("control.tar") || !data.name.starts_with("data.tar") {
            return Err(refused("other members"));
        }
        check_names(*control, listed)?;
        Ok(Self {
            listed: listed.clone(),
            data: *data,
        })
    }

    /// Every regular file, by path; hard links are files of their own.
    ///
    /// # Errors
    /// `REF-TAR`, `REF-UNPACK`, `REF-UNPACK-SIZE`.
    pub fn files(&self) -> Result<Vec<PackageFile>, Finding> {
        let mut files: BTreeMap<String, PackageFile> = BTreeMap::new();
        self.walk(|entry, tar| {
            let file = match &entry.kind {
                Kind::File => PackageFile {
                    path: entry.path.clone(),
                    mode: entry.mode,
                    digests: hash_entry(tar)?,
                },
                Kind::HardLink(target) => {
                    let target = files
                        .get(target)
                        .ok_or_else(|| refused("a hard link to no file"))?;
                    PackageFile {
                        path: entry.path.clone(),
                        ..target.clone()
                    }
                }
                _ => return Ok(true),
            };
            files.insert(entry.path.clone(), file);
            Ok(true)
        })?;
        Ok(files.into_values().collect())
    }

    /// The content of one file, of at most `limit` bytes; nothing if there is none of that path.
    ///
    /// # Errors
    /// `REF-TAR`, `REF-UNPACK`, `REF-UNPACK-SIZE`.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Finding> {
        let mut content = None;
        self.walk(|entry, tar| {
            if entry.path != path || entry.kind != Kind::File {
                return Ok(true);
            }
            content = Some(read_entry(entry, tar, limit)?);
            Ok(false)
        })?;
        Ok(content)
    }

    /// Calls `visit` for each entry until it says false.
    fn walk<'b>(
        &'b self,
        mut visit: impl FnMut(&tar::Entry, &mut Tar<Limited<'b>>) -> Result<bool, Finding>,
    ) -> Result<(), Finding> {
        let packing = Packing::of_name(self.data.name);
        let mut tar = Tar::new(unpack::reader(packing, self.data.bytes, LARGEST_DATA)?);
        while let Some(entry) = tar.next_entry()? {
            if !visit(&entry, &mut tar)? {
                break;
            }
        }
        Ok(())
    }
}

pub(crate) fn hash_entry<R: Read>(tar: &mut Tar<R>) -> Result<FileDigests, Finding> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tar.read(&mut buffer)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(buffer.get(..read).unwrap_or_default());
    }
}

fn read_entry(
    entry: &tar::Entry,
    tar: &mut Tar<Limited<'_>>,
    limit: u64,
) -> Result<Vec<u8>, Finding> {
    if entry.size > limit {
        return Err(refused(format!("{} of {} bytes", entry.path, entry.size)));
    }
    let mut content = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tar.read(&mut buffer)?;
        if read == 0 {
            return Ok(content);
        }
        content.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
}

/// `control` is what dpkg installs the package under: a list that calls it otherwise would give its
/// files the name of another package.
fn check_names(member: Member<'_>, listed: &Listed) -> Result<(), Finding> {
    let packing = Packing::of_name(member.name);
    let mut tar = Tar::new(unpack::reader(packing, member.bytes, LARGEST_CONTROL)?);
    let control = loop {
        let Some(entry) = tar.next_entry()? else {
            return Err(refused("no control file"));
        };
        if entry.path == "/control" && entry.kind == Kind::File {
            break read_entry(&entry, &mut tar, LARGEST_CONTROL_FILE)?;
        }
    };
    let control = String::from_utf8(control).map_err(|_| refused("a control file of no text"))?;
    let field = |key: &str| {
        control
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .map(str::trim)
    };
    let said = [field("Package"), field("Version"), field("Architecture")];
    let listed = [&listed.name, &listed.version, &listed.architecture];
    if said == listed.map(|word| Some(word.as_str())) {
        return Ok(());
    }
    let words = |parts: [Option<&str>; 3]| parts.map(Option::unwrap_or_default).join(" ");
    Err(Finding::new(
        "REF-DEB-NAME",
        "the .deb calls itself another package than the list does",
    )
    .expected(listed.map(String::as_str).join(" "))
    .observed(words(said))
    .next("ask who makes the archive; its list and its packages contradict each other"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs_is_a_program() {
        let file = |path: &str, mode, content: &[u8]| PackageFile {
            path: path.to_owned(),
            mode,
            digests: FileDigests::of(content),
        };
        assert!(file("/usr/bin/x", 0o755, b"#!/bin/sh").is_program());
        assert!(file("/usr/lib/libx.so", 0o644, b"\x7fELF").is_program());
        assert!(file("/lib/modules/6/x.ko.xz", 0o644, b"\xfd7zXZ").is_program());
        assert!(!file("/usr/share/doc/x", 0o644, b"text").is_program());
    }
}
