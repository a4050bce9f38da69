//! A real Debian archive: apt's signed lists, packages from the mirror, the files of this machine.

use crate::evidence::{Boot, packages};
use facts::Timestamp;
use references::debian::{Listed, Package, Packages, Release};
use references::openpgp::Keyring;
use references::unpack::{self, Packing};
use references::{Digest, FileDigests, date, verity};
use std::path::{Path, PathBuf};
use std::process::Command;

const TEST: &str = "references::debian_archive";
const LIMIT: u64 = 512 << 20;

/// apt's lists, the keyring, and a time at which all lists are valid: an hour after the newest.
struct Archive {
    folder: PathBuf,
    keyring: Keyring,
    now: Timestamp,
}

impl Archive {
    fn open() -> Option<Self> {
        let found = testkit::debian::lists()
            .and_then(|folder| testkit::debian::keyring().map(|keyring| (folder, keyring)));
        let (folder, keyring) = match found {
            Ok(found) => found,
            Err(why) => {
                testkit::skip(TEST, &why);
                return None;
            }
        };
        let keyring = Keyring::parse(&std::fs::read(keyring).unwrap()).unwrap();
        let mut archive = Self {
            folder,
            keyring,
            now: Timestamp::EPOCH,
        };
        let dates = archive.releases().into_iter().map(|(_, bytes)| {
            let text = String::from_utf8(bytes).unwrap();
            let line = text.lines().find_map(|line| line.strip_prefix("Date: "));
            date(line.unwrap()).unwrap()
        });
        archive.now = dates.max().unwrap().plus_secs(3600);
        Some(archive)
    }

    /// Debian's own, as apt names them: the start of the names of their lists, and the bytes.
    fn releases(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let Some(start) = name.strip_suffix("InRelease") else {
                continue;
            };
            let bytes = std::fs::read(entry.path()).unwrap();
            if String::from_utf8_lossy(&bytes).contains("\nOrigin: Debian\n") {
                found.push((start.to_owned(), bytes));
            }
        }
        found.sort();
        found
    }

    /// The list `main/binary-amd64/Packages` of a release, unpacked, and as the release names it.
    fn packages(&self, start: &str) -> (String, Vec<u8>) {
        let prefix = format!("{start}main_binary-amd64_Packages");
        let entries = std::fs::read_dir(&self.folder).unwrap().flatten();
        let file = entries
            .map(|entry| entry.path())
            .find(|path| {
                path.file_name()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .starts_with(&prefix)
            })
            .unwrap();
        let packing = Packing::of_name(file.to_str().unwrap());
        let bytes = std::fs::read(&file).unwrap();
        (
            "main/binary-amd64/Packages".to_owned(),
            unpack::all(packing, &bytes, LIMIT).unwrap(),
        )
    }

    /// What the archive says of a package: a version that every list was asked for.
    fn listed(&self, deb: &[u8]) -> (Release, Listed) {
        let digest = Digest::of(deb);
        for (start, bytes) in self.releases() {
            let release = Release::verify(&bytes, &self.keyring, self.now).unwrap();
            let (path, list) = self.packages(&start);
            release.find(&path, &list).unwrap();
            let packages = Packages::parse(&list).unwrap();
            if let Some(listed) = packages.by_digest(&digest) {
                return (release, listed.clone());
            }
        }
        panic!("no list holds the package");
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files_below(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

#[test]
fn from_the_signed_release_to_the_files_on_this_machine() {
    let Some(archive) = Archive::open() else {
        return;
    };
    let Some([deb]) = packages("references::debian_packages", [("tpm2-tools", None)]) else {
        return;
    };
    let (release, listed) = archive.listed(&deb);
    assert_eq!(release.origin, "Debian");
    assert!(
        release
            .signed_by
            .iter()
            .all(|by| by.user.contains("Debian"))
    );
    assert!(
        release
            .signed_by
            .iter()
            .all(|by| by.fingerprint.len() == 40)
    );
    let package = Package::open(&deb, &listed).unwrap();
    let files = package.files().unwrap();

    // dpkg unpacks the same files.
    let folder = testkit::temp_dir().unwrap();
    let file = folder.path().join("package.deb");
    std::fs::write(&file, &deb).unwrap();
    let unpacked = folder.path().join("files");
    let status = Command::new("dpkg-deb")
        .arg("-x")
        .arg(&file)
        .arg(&unpacked)
        .status();
    assert!(status.unwrap().success());
    let mut paths = Vec::new();
    files_below(&unpacked, &mut paths);
    assert_eq!(paths.len(), files.len());
    let mut installed = 0;
    for file in &files {
        let relative = file.path.strip_prefix('/').unwrap();
        let bytes = std::fs::read(unpacked.join(relative)).unwrap();
        assert_eq!(Digest::of(&bytes), file.digests.sha256, "{}", file.path);
        // And where this version is installed, that is what this machine runs.
        let on_machine = std::fs::read(&file.path);
        if is_installed("tpm2-tools", &listed.version) && file.path.starts_with("/usr/bin/") {
            assert_eq!(Digest::of(&on_machine.unwrap()), file.digests.sha256);
            installed += 1;
        }
    }
    assert!(installed > 0 || !is_installed("tpm2-tools", &listed.version));
    assert!(
        files
            .iter()
            .any(|file| file.path == "/usr/bin/tpm2" && file.is_program())
    );
}

fn is_installed(name: &str, version: &str) -> bool {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f=${Version}", name])
        .output();
    output.is_ok_and(|output| output.status.success() && output.stdout == version.as_bytes())
}

#[test]
fn what_ran_in_a_recorded_boot_is_what_the_packages_hold() {
    let Some(lab) = Boot::open("references::recorded_boots", "uki-own-keys-secureboot") else {
        return;
    };
    let names = [
        ("busybox-static", Some("1:1.35.0-4+deb12u1+b1")),
        ("tpm2-tools", Some("5.4-1")),
    ];
    let Some(debs) = packages("references::debian_packages", names) else {
        return;
    };
    let list = lab.text("ima.txt");
    let measured = |path: &str| {
        let line = list.lines().find(|line| {
            line.ends_with(&format!(" {path} ")) || line.ends_with(&format!(" {path}"))
        });
        let digest = line.unwrap().split("sha256:").nth(1).unwrap();
        digest.split(' ').next().unwrap().to_owned()
    };
    for (deb, (name, version), path, ran_as) in [
        (&debs[0], names[0], "/bin/busybox", "/bin/busybox"),
        (&debs[1], names[1], "/usr/bin/tpm2", "/bin/tpm2"),
    ] {
        let bytes = crate::boots::file_of(deb, (name, version), path);
        assert_eq!(Digest::of(&bytes).to_string(), measured(ran_as), "{name}");
    }
}

#[test]
fn fsverity_utils_computes_the_same_digests() {
    let Ok([tool]) = testkit::tools(["fsverity"]) else {
        testkit::skip("references::fsverity", "fsverity is not installed");
        return;
    };
    let folder = testkit::temp_dir().unwrap();
    let file = folder.path().join("file");
    let whole = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    for length in [
        0,
        1,
        4096,
        4097,
        128 * 4096,
        128 * 4096 + 1,
        1_500_000,
        whole.len(),
    ] {
        let bytes = &whole[..length.min(whole.len())];
        std::fs::write(&file, bytes).unwrap();
        let output = Command::new(&tool)
            .args(["digest", "--compact"])
            .arg(&file)
            .output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        let ours = FileDigests::of(bytes).fsverity;
        assert_eq!(
            said.split_whitespace().next().unwrap(),
            ours.to_string(),
            "{length}"
        );
        assert_eq!(verity::digest(bytes), ours);
    }
}

#[test]
fn every_debian_release_is_signed_by_keys_that_gpgv_names_too() {
    let Some(archive) = Archive::open() else {
        return;
    };
    let Ok([gpgv]) = testkit::tools(["gpgv"]) else {
        testkit::skip("references::gpgv", "gpgv is not installed");
        return;
    };
    let keyring = testkit::debian::keyring().unwrap();
    for (_, bytes) in archive.releases() {
        let release = Release::verify(&bytes, &archive.keyring, archive.now).unwrap();
        let folder = testkit::temp_dir().unwrap();
        let file = folder.path().join("InRelease");
        std::fs::write(&file, &bytes).unwrap();
        let output = Command::new(&gpgv)
            .args(["--status-fd", "1", "--keyring"])
            .arg(&keyring)
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let mut theirs: Vec<&str> = said
            .lines()
            .filter_map(|line| line.strip_prefix("[GNUPG:] VALIDSIG "))
            .map(|rest| rest.split(' ').next().unwrap())
            .collect();
        theirs.sort_unstable();
        let mut ours: Vec<&str> = release.signed_by.iter().map(|by| by.key.as_str()).collect();
        ours.sort_unstable();
        assert_eq!(ours, theirs, "{} {}", release.origin, release.codename);
    }
}

#[test]
fn an_altered_archive_is_refused_at_the_step_that_was_altered() {
    let Some(archive) = Archive::open() else {
        return;
    };
    let Some([deb]) = packages("references::debian_packages", [("tpm2-tools", None)]) else {
        return;
    };
    let (start, bytes) = archive.releases().pop().unwrap();
    let verify = |bytes: &[u8], now| Release::verify(bytes, &archive.keyring, now);
    let code = |bytes: &[u8]| verify(bytes, archive.now).unwrap_err().code;
    // A digit of a digest, a letter of a name, a line more, something before, something behind.
    let text = String::from_utf8(bytes.clone()).unwrap();
    for (from, to) in [
        ("\nOrigin: Debian\n", "\nOrigin: Debiam\n"),
        ("\nSHA256:\n", "\nSHA256:\n\n"),
    ] {
        assert!(text.contains(from));
        assert_eq!(
            code(text.replacen(from, to, 1).as_bytes()),
            "REF-OPENPGP-SIGNATURE"
        );
    }
    assert_eq!(
        code(format!("Origin: Debian\n{text}").as_bytes()),
        "REF-OPENPGP-MESSAGE"
    );
    assert_eq!(
        code(format!("{text}Origin: Debian\n").as_bytes()),
        "REF-OPENPGP-MESSAGE"
    );
    // Signed by somebody else's keys.
    let other = Keyring::parse(&crate::forge::Forged::new().keyring()).unwrap();
    let refused = Release::verify(&bytes, &other, archive.now).unwrap_err();
    assert_eq!(refused.code, "REF-OPENPGP-SIGNATURE");
    assert!(refused.observed.unwrap().contains("not in the keyring"));
    // Dated in the future: the machine's clock is behind.
    let release = verify(&bytes, archive.now).unwrap();
    let early = verify(&bytes, release.date.minus_secs(7200)).unwrap_err();
    assert!(matches!(
        &*early.code,
        "REF-RELEASE-FUTURE" | "REF-OPENPGP-SIGNATURE"
    ));

    let (path, mut list) = archive.packages(&start);
    assert!(release.check(&path, &list).is_ok());
    *list.last_mut().unwrap() ^= 1;
    assert_eq!(
        release.check(&path, &list).unwrap_err().code,
        "REF-RELEASE-LIST"
    );
    assert_eq!(
        release.find(&path, &list).unwrap_err().code,
        "REF-RELEASE-LIST"
    );
    assert_eq!(
        release.check("main/none", &list).unwrap_err().code,
        "REF-RELEASE-LIST"
    );

    let (_, listed) = archive.listed(&deb);
    let mut damaged = deb.clone();
    damaged[4000] ^= 1;
    assert_eq!(
        Package::open(&damaged, &listed).unwrap_err().code,
        "REF-DEB-DIGEST"
    );
    let longer = Listed {
        size: listed.size + 1,
        ..listed.clone()
    };
    assert_eq!(
        Package::open(&deb, &longer).unwrap_err().code,
        "REF-DEB-DIGEST"
    );
    let renamed = Listed {
        name: "openssl".to_owned(),
        ..listed
    };
    assert_eq!(
        Package::open(&deb, &renamed).unwrap_err().code,
        "REF-DEB-NAME"
    );
}

#[test]
fn a_release_that_is_no_longer_valid_is_refused() {
    let Some(archive) = Archive::open() else {
        return;
    };
    for (_, bytes) in archive.releases() {
        let release = Release::verify(&bytes, &archive.keyring, archive.now).unwrap();
        // Debian's security archive has a Valid-Until; its stable releases have none.
        if let Some(until) = release.valid_until {
            let late = Release::verify(&bytes, &archive.keyring, until.plus_secs(1));
            assert_eq!(late.unwrap_err().code, "REF-RELEASE-EXPIRED");
        }
        let in_years = Timestamp::from_secs(2_600_000_000);
        let late = Release::verify(&bytes, &archive.keyring, in_years).unwrap_err();
        // By then the keys have expired as well.
        assert_eq!(late.code, "REF-OPENPGP-SIGNATURE");
        assert!(late.observed.unwrap().contains("expired"));
    }
}
