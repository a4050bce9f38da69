//! File custody: what it keeps, and what it refuses to use.

#![expect(clippy::unwrap_used, reason = "tests may panic")]

use crypto::{Algorithm, Custody as _, Error, Signer};
use custody::{FileCustody, FileCustodyError};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn keys() -> (tempfile::TempDir, PathBuf, FileCustody) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let custody = FileCustody::open(&path).unwrap();
    (folder, path, custody)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn reason(result: Result<Arc<dyn Signer>, Error>) -> FileCustodyError {
    match result {
        Err(Error::Custody { source, .. }) => *source.downcast().unwrap(),
        other => unreachable!("expected a refusal, saw {:?}", other.map(|_| ())),
    }
}

#[test]
fn a_key_is_made_once_and_is_there_after_a_restart() {
    let (_folder, path, custody) = keys();
    assert!(custody.load("ca").unwrap().is_none());
    let made = custody
        .load_or_generate("ca", Algorithm::EcdsaP256)
        .unwrap();
    let again = FileCustody::open(&path).unwrap();
    let found = again.load_or_generate("ca", Algorithm::EcdsaP256).unwrap();
    assert_eq!(made.public_key(), found.public_key());
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("ca.pk8")), 0o600);
    // Nothing half-written is left.
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn a_removed_key_is_gone() {
    let (_folder, _path, custody) = keys();
    let first = custody.load_or_generate("ca", Algorithm::Ed25519).unwrap();
    custody.remove("ca").unwrap();
    custody.remove("ca").unwrap();
    assert!(custody.load("ca").unwrap().is_none());
    let second = custody.load_or_generate("ca", Algorithm::Ed25519).unwrap();
    assert_ne!(first.public_key(), second.public_key());
}

#[test]
fn files_and_directories_that_others_can_read_are_refused() {
    let (_folder, path, custody) = keys();
    custody.load_or_generate("ca", Algorithm::Ed25519).unwrap();
    let file = path.join("ca.pk8");
    for loose in [0o640, 0o604, 0o644, 0o660] {
        set_mode(&file, loose);
        let refused = reason(custody.load_or_generate("ca", Algorithm::Ed25519));
        assert!(matches!(refused, FileCustodyError::Mode { mode, .. } if mode == loose));
    }
    set_mode(&file, 0o600);
    for loose in [0o750, 0o701, 0o755, 0o1700] {
        set_mode(&path, loose);
        let refused = reason(custody.load_or_generate("ca", Algorithm::Ed25519));
        assert!(matches!(refused, FileCustodyError::Mode { mode, .. } if mode == loose));
        assert!(FileCustody::open(&path).is_err());
    }
}

#[test]
fn symbolic_links_are_refused() {
    let (folder, path, custody) = keys();
    custody.load_or_generate("ca", Algorithm::Ed25519).unwrap();
    symlink(path.join("ca.pk8"), path.join("other.pk8")).unwrap();
    let refused = reason(custody.load_or_generate("other", Algorithm::Ed25519));
    assert!(matches!(
        refused,
        FileCustodyError::Kind {
            found: "symbolic link",
            ..
        }
    ));
    symlink(folder.path().join("nowhere"), path.join("new.pk8")).unwrap();
    let refused = reason(custody.load_or_generate("new", Algorithm::Ed25519));
    assert!(matches!(
        refused,
        FileCustodyError::Kind {
            found: "symbolic link",
            ..
        }
    ));
    let link = folder.path().join("link");
    symlink(&path, &link).unwrap();
    let refused = FileCustody::open(&link).unwrap_err();
    assert!(matches!(
        refused,
        FileCustodyError::Kind {
            found: "symbolic link",
            ..
        }
    ));
}

#[test]
fn names_cannot_leave_the_directory() {
    let (_folder, _path, custody) = keys();
    for name in [
        "",
        "../ca",
        "a/b",
        ".hidden",
        "Ca",
        "a b",
        "-a",
        &"a".repeat(65),
    ] {
        let refused = reason(custody.load_or_generate(name, Algorithm::Ed25519));
        assert!(matches!(refused, FileCustodyError::Name), "{name:?}");
    }
}

#[test]
fn a_file_that_is_no_key_is_refused_and_left_alone() {
    let (_folder, path, custody) = keys();
    let file = path.join("ca.pk8");
    for content in [&b""[..], b"not a key", &[0x30; 20_000]] {
        fs::write(&file, content).unwrap();
        set_mode(&file, 0o600);
        let refused = reason(custody.load_or_generate("ca", Algorithm::Ed25519));
        assert!(matches!(
            refused,
            FileCustodyError::Key { .. } | FileCustodyError::TooLong { .. }
        ));
        assert_eq!(fs::read(&file).unwrap(), content);
    }
}

#[test]
fn a_key_of_another_algorithm_is_not_handed_out() {
    let (_folder, _path, custody) = keys();
    custody.load_or_generate("ca", Algorithm::Ed25519).unwrap();
    let refused = reason(custody.load_or_generate("ca", Algorithm::EcdsaP256));
    assert!(matches!(refused, FileCustodyError::Algorithm { .. }));
}

#[test]
fn makers_that_race_end_up_with_one_key() {
    let (_folder, path, custody) = keys();
    let keys: Vec<_> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| custody.load_or_generate("ca", Algorithm::Ed25519).unwrap()))
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap())
            .collect()
    });
    let first = keys.first().unwrap().public_key();
    assert!(keys.iter().all(|key| key.public_key() == first));
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
}
