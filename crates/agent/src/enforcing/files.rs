//! Merkle trees for the files that a policy lists.

use super::Files;
use attest_code::{FsVerityAlgorithm, FsVerityDigest};
use device::verity::Enabling;
use facts::Finding;
use std::collections::BTreeSet;
use std::io::{self, Read as _};
use std::path::Path;

/// A listed file could not get its tree: under the policy it would not run.
pub(super) const FAILED: &str = "FSVERITY-FAILED";
/// No program is larger; the whole file is read, here and by the kernel.
const LARGEST: u64 = 1 << 30;
/// Paths that a finding names.
const SHOWN: usize = 5;

enum Came {
    Ready,
    Absent,
    /// The file is there, and another one.
    Other,
    Failed(io::Error),
}

/// Gives each file a tree whose content has one of its digests. How many have theirs; and what was passed over.
pub(super) fn enable(files: &Files) -> (usize, Vec<Finding>) {
    let mut ready = 0;
    let (mut others, mut failed) = (Vec::new(), Vec::new());
    for (path, digests) in files {
        match one(path, digests) {
            Came::Ready => ready += 1,
            Came::Absent => {}
            Came::Other => others.push(path.display().to_string()),
            Came::Failed(error) => failed.push(format!("{}: {error}", path.display())),
        }
    }
    let mut findings = Vec::new();
    if !others.is_empty() {
        findings.push(
            Finding::new(
                "FSVERITY-OTHER",
                "files are not those that the estate lists: they get no Merkle tree",
            )
            .expected("content of a listed digest")
            .observed(some(&others))
            .next("upgrade them, or import what they are"),
        );
    }
    if !failed.is_empty() {
        findings.push(
            Finding::new(
                "FSVERITY-FAILED",
                "listed files cannot get a Merkle tree: nothing is enforced, since they could not run",
            )
            .expected("a file system with fs-verity, and nobody who has them open for writing")
            .observed(some(&failed))
            .next("tune2fs -O verity DEVICE for ext4; then start the agent again"),
        );
    }
    (ready, findings)
}

fn some(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>();
    let more = names.len().saturating_sub(shown.len());
    match more {
        0 => shown.join(", "),
        more => format!("{}, and {more} more", shown.join(", ")),
    }
}

fn one(path: &Path, digests: &BTreeSet<FsVerityDigest>) -> Came {
    let file = match Enabling::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Came::Absent,
        Err(error) => return Came::Failed(error),
    };
    let measured = |file: &Enabling| {
        let tree = file.measure()?;
        FsVerityDigest::measured(tree.algorithm, &tree.digest)
    };
    if let Some(digest) = measured(&file) {
        return if digests.contains(&digest) {
            Came::Ready
        } else {
            Came::Other
        };
    }
    let content = match content(&file) {
        Ok(content) => content,
        Err(error) => return Came::Failed(error),
    };
    if !digests.contains(&content) {
        return Came::Other;
    }
    if let Err(error) = file.enable() {
        return Came::Failed(error);
    }
    // What counts is what the kernel read, not what was read here.
    match measured(&file) {
        Some(digest) if digests.contains(&digest) => Came::Ready,
        _ => Came::Failed(io::Error::other("it was changed meanwhile")),
    }
}

fn content(file: &Enabling) -> io::Result<FsVerityDigest> {
    if file.size()? > LARGEST {
        return Err(io::Error::other("it is larger than 1 GiB"));
    }
    let mut bytes = file.file().take(LARGEST);
    FsVerityDigest::compute(FsVerityAlgorithm::Sha256, |into| bytes.read(into))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_is_passed_over_and_what_is_another_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let of = |bytes: &[u8]| FsVerityDigest::of_bytes(FsVerityAlgorithm::Sha256, bytes);
        let other = folder.path().join("other");
        std::fs::write(&other, b"2").unwrap();
        let listed = BTreeSet::from([of(b"1")]);
        let files = Files::from([
            (folder.path().join("absent"), listed.clone()),
            (other.clone(), listed.clone()),
        ]);
        let (ready, findings) = enable(&files);
        assert_eq!((ready, findings.len()), (0, 1));
        assert_eq!(findings[0].code, "FSVERITY-OTHER");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        let (_, findings) = enable(&Files::from([(link, listed)]));
        assert_eq!(findings[0].code, FAILED, "a link is not followed");
    }
}
