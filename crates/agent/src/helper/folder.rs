//! Certificate, key and bundle as PEM files in one folder, each replaced whole.
//!
//! A reader may see a new key beside an old certificate for the moment between two renames; whoever
//! reloads after the change sees both new.

use super::HelperError;
use crate::client::Svid;
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

pub(super) const SVID: &str = "svid.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const BUNDLE: &str = "bundle.pem";

/// Where files go, and whose they are.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    pub(super) mode: u32,
    pub(super) owner: Option<(u32, Option<u32>)>,
}

impl Folder {
    /// Makes the last folder of `path`, mode 0700, if it is not there.
    pub(super) fn make(path: &Path) -> Result<(), HelperError> {
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(failed("make", path, error))
            }
            _ => Ok(()),
        }
    }

    /// A folder that exists. Others must not be able to write to it.
    pub(super) fn open(
        path: &Path,
        mode: u32,
        owner: Option<(u32, Option<u32>)>,
    ) -> Result<Self, HelperError> {
        let found = fs::metadata(path).map_err(|error| failed("look at", path, error))?;
        if !found.is_dir() || found.mode() & 0o022 != 0 {
            return Err(HelperError::Directory(path.to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            mode: mode & 0o777,
            owner,
        })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Replaces all three.
    pub(super) fn write(&self, svid: &Svid) -> Result<(), HelperError> {
        let key = Zeroizing::new(pem("PRIVATE KEY", &svid.key));
        self.replace(BUNDLE, certificates(&svid.bundle)?.as_bytes())?;
        self.replace(KEY, key.as_bytes())?;
        self.replace(SVID, certificates(&svid.chain)?.as_bytes())?;
        File::open(&self.path)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| failed("sync", &self.path, error))
    }

    /// Removes certificate and key: they may not be used any more.
    pub(super) fn withdraw(&self) -> Result<(), HelperError> {
        for name in [KEY, SVID] {
            let path = self.file(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<(), HelperError> {
        let path = self.file(name);
        let beside = self.file(&format!(
            ".{name}.{}",
            crypto::hex::encode(&crypto::random::<8>())
        ));
        let written = self.write_new(&beside, content);
        written
            .and_then(|()| fs::rename(&beside, &path))
            .map_err(|error| {
                // Nothing half-written stays; a file that was never made is no matter.
                drop(fs::remove_file(&beside));
                failed("write", &path, error)
            })
    }

    /// Owner before mode: no other user may read in between.
    fn write_new(&self, path: &Path, content: &[u8]) -> std::io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
        if let Some((uid, gid)) = self.owner {
            let gid = gid.map(Gid::from_raw);
            rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), gid)?;
        }
        rustix::fs::fchmod(&file, Mode::from_raw_mode(self.mode))?;
        let mut file = File::from(file);
        file.write_all(content)?;
        file.sync_all()
    }
}

pub(super) fn failed(action: &'static str, path: &Path, source: std::io::Error) -> HelperError {
    HelperError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> String {
    let text = Zeroizing::new(crypto::base64::encode(der));
    let mut out = String::with_capacity(text.len() + text.len() / 64 + 64);
    out.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(64).unwrap_or((rest, ""));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str(&format!("-----END {label}-----\n"));
    out
}

/// DER certificates one after another, as PEM.
fn certificates(mut der: &[u8]) -> Result<String, HelperError> {
    let mut out = String::new();
    while !der.is_empty() {
        let length = element_length(der).ok_or(HelperError::Certificate)?;
        let (one, rest) = der
            .split_at_checked(length)
            .ok_or(HelperError::Certificate)?;
        out.push_str(&pem("CERTIFICATE", one));
        der = rest;
    }
    if out.is_empty() {
        return Err(HelperError::Certificate);
    }
    Ok(out)
}

/// Of the SEQUENCE at the beginning, header and content (X.690, section 8.1.3); at most 64 KiB.
fn element_length(der: &[u8]) -> Option<usize> {
    match der {
        [0x30, length, ..] if *length < 0x80 => Some(2 + usize::from(*length)),
        [0x30, 0x81, length, ..] => Some(3 + usize::from(*length)),
        [0x30, 0x82, high, low, ..] => Some(4 + (usize::from(*high) << 8 | usize::from(*low))),
        _ => None,
    }
}

/// `user`, `user:group`, by name or number, as `/etc/passwd` and `/etc/group` have them.
pub(super) fn owner(text: &str) -> Result<(u32, Option<u32>), HelperError> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let uid = number(user, "/etc/passwd", 2).ok_or_else(|| HelperError::Owner(user.to_owned()))?;
    let gid = match group {
        Some(group) => Some(
            number(group, "/etc/group", 2).ok_or_else(|| HelperError::Owner(group.to_owned()))?,
        ),
        None => number_in(user, "/etc/passwd", 3),
    };
    Ok((uid, gid))
}

fn number(name: &str, file: &str, field: usize) -> Option<u32> {
    name.parse().ok().or_else(|| number_in(name, file, field))
}

fn number_in(name: &str, file: &str, field: usize) -> Option<u32> {
    let text = fs::read_to_string(file).ok()?;
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(field)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn svid() -> Svid {
        Svid {
            spiffe_id: "spiffe://example.org/a".to_owned(),
            chain: [vec![0x30, 1, 5], vec![0x30, 0x81, 2, 1, 2]].concat(),
            key: Zeroizing::new(vec![7; 100]),
            bundle: vec![0x30, 0x82, 0, 1, 9],
            hint: String::new(),
        }
    }

    fn folder(mode: u32) -> (tempfile::TempDir, Result<Folder, HelperError>) {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).unwrap();
        let folder = Folder::open(directory.path(), 0o640, None);
        (directory, folder)
    }

    #[test]
    fn files_are_replaced_whole_with_their_mode() {
        let (directory, folder) = folder(0o755);
        let folder = folder.unwrap();
        folder.write(&svid()).unwrap();
        folder.write(&svid()).unwrap();
        let mut names: Vec<String> = fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [BUNDLE, KEY, SVID], "nothing is left beside them");
        let chain = fs::read_to_string(folder.file(SVID)).unwrap();
        assert_eq!(chain.matches("BEGIN CERTIFICATE").count(), 2);
        let key = fs::read_to_string(folder.file(KEY)).unwrap();
        assert!(key.lines().all(|line| line.len() <= 64));
        let mode = fs::metadata(folder.file(KEY)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640);
        folder.withdraw().unwrap();
        assert!(!folder.file(KEY).exists() && folder.file(BUNDLE).exists());
    }

    #[test]
    fn a_folder_that_others_can_write_to_is_refused() {
        let (_directory, folder) = folder(0o777);
        assert!(matches!(folder, Err(HelperError::Directory(_))));
    }

    #[test]
    fn a_folder_that_is_not_there_is_made_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("svid");
        Folder::make(&path).unwrap();
        Folder::make(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        assert!(Folder::make(&directory.path().join("a/b")).is_err());
    }

    #[test]
    fn a_planted_link_is_replaced_and_not_followed() {
        let (directory, folder) = folder(0o755);
        let target = directory.path().join("target");
        fs::write(&target, b"precious").unwrap();
        std::os::unix::fs::symlink(&target, directory.path().join(KEY)).unwrap();
        folder.unwrap().write(&svid()).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"precious");
    }

    #[test]
    fn owners_by_name_and_number() {
        assert_eq!(owner("root").unwrap(), (0, Some(0)));
        assert_eq!(owner("12345").unwrap(), (12345, None));
        assert_eq!(owner("0:7").unwrap(), (0, Some(7)));
        assert!(owner("no-such-user-here").is_err());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        for der in [
            &[][..],
            &[0x31, 0],
            &[0x30, 5, 1],
            &[0x30, 0x84, 0, 0, 0, 0],
        ] {
            assert!(certificates(der).is_err(), "{der:?}");
        }
    }
}
