//! What a guest's kernel may measure, as a generation of reference values, and what the server records of a
//! machine that ran something else.

use super::PATIENCE;
use super::pieces::Pieces;
use attest_code::{FsVerityAlgorithm, FsVerityDigest};
use facts::Timestamp;
use references::{
    Artefact, ArtefactKind, Digest, FileValue, Generation, ReferenceFile, Source, SourceKind,
};
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use testkit::guest::{Initramfs, disk};

/// One byte more than the program of the initramfs: it may run, and is nobody.
pub(crate) const OTHER: &str = "/tmp/other";
/// One byte more than busybox, by a name that it takes for its own.
pub(crate) const UNLISTED: &str = "/tmp/busybox-unlisted";
/// On a disk, where it gets a Merkle tree.
pub(crate) const WITH_TREE: &str = "/mnt/payments-api";
const DISK_MIB: u64 = 64;

/// What may run on the guest, and which of it is payments-api.
pub(crate) struct Known {
    /// References to files.
    pub(crate) may_run: String,
    /// Of the program in the initramfs.
    pub(crate) sha256: Digest,
    /// Of the one on the disk, which is known by nothing else.
    pub(crate) fsverity: FsVerityDigest,
    pub(crate) disk: PathBuf,
}

impl Known {
    /// `program` is in `initramfs`, as is everything else that may run there.
    pub(crate) fn new(pieces: &Pieces, initramfs: &mut Initramfs, program: &[u8]) -> Self {
        let fsverity = testkit::tool("fsverity").expect("the lab has looked for it");
        let put = initramfs.program("/bin/fsverity", &fsverity);
        put.expect("a program");
        let other = [program, b"\n"].concat();
        let on_disk = [program, b"\n\n"].concat();
        let folder = pieces.path("programs");
        std::fs::create_dir(&folder).expect("a folder");
        let path = folder.join("payments-api");
        std::fs::write(&path, &on_disk).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&path, mode).expect("a mode");
        let disk = pieces.path("programs.ext4");
        disk::ext4(&disk, DISK_MIB, &folder).expect("a disk");
        let tree = FsVerityDigest::of_bytes(FsVerityAlgorithm::Sha256, &on_disk);
        let root = match tree {
            FsVerityDigest::Sha256(root) => Some(root),
            FsVerityDigest::Sha512(_) => None,
        };
        let root = root.expect("SHA-256 was asked for");

        let file = |path: &str, sha256, fsverity| FileValue {
            path: path.to_owned(),
            sha256,
            fsverity,
            authenticode: None,
        };
        let files = initramfs.files().iter();
        let mut files: Vec<_> = files
            .map(|(path, sha256)| file(path, Digest(*sha256), None))
            .collect();
        files.push(file(OTHER, Digest::of(&other), None));
        files.push(file(WITH_TREE, Digest::of(&on_disk), Some(Digest(root))));
        Self {
            may_run: references(files),
            sha256: Digest::of(program),
            fsverity: tree,
            disk,
        }
    }
}

/// `predicted`, and whatever is in `initramfs` as files that may run.
pub(crate) fn with_files(predicted: &str, initramfs: &Initramfs) -> String {
    let files = initramfs.files().iter().map(|(path, sha256)| FileValue {
        path: path.clone(),
        sha256: Digest(*sha256),
        fsverity: None,
        authenticode: None,
    });
    let parse = |text: &str| ReferenceFile::parse(text).expect("a file of references");
    let mut all = parse(predicted);
    all.generations
        .extend(parse(&references(files.collect())).generations);
    all.to_json()
}

fn references(files: Vec<FileValue>) -> String {
    let at = Timestamp::from_secs(1_700_000_000);
    let pinned = || "pinned".to_owned();
    let references = ReferenceFile {
        generations: vec![Generation {
            name: "guest-files".to_owned(),
            rings: vec!["guests".to_owned()],
            valid_from: at,
            valid_until: None,
            imported_at: at,
            sources: vec![Source {
                id: pinned(),
                kind: SourceKind::Pinned,
                name: "the test made the initramfs".to_owned(),
                sha256: Digest([7; 32]),
                signed_by: Vec::new(),
                signed_at: None,
            }],
            artefacts: vec![Artefact {
                kind: ArtefactKind::Deb,
                name: "guest".to_owned(),
                version: "1".to_owned(),
                architecture: "amd64".to_owned(),
                sha256: Digest([8; 32]),
                source: pinned(),
                made_of: Vec::new(),
                files,
                pcrs: Vec::new(),
                unpredicted: Vec::new(),
                parts: references::Parts::default(),
            }],
        }],
        boots: Vec::new(),
        withdrawn: Vec::new(),
    };
    references.to_json()
}

/// Record and time of the eviction: the refused verdict, and the revocation that gateways follow.
#[derive(Debug)]
pub(crate) struct Evicted {
    /// The findings of the verdict.
    pub(crate) findings: Vec<Value>,
    /// Of the revocation.
    pub(crate) revocation: Value,
    /// When this process had read it.
    pub(crate) seen: Instant,
}

impl Pieces {
    /// Waits until the server has revoked what the machine holds.
    pub(crate) fn evicted(&self) -> Evicted {
        let limit = Instant::now() + PATIENCE;
        loop {
            if let Some(revocation) = self.server.records("revocation").pop() {
                let seen = Instant::now();
                let refused = self.server.records("verdict");
                let refused = refused
                    .iter()
                    .find(|record| text(record, "/body/outcome") == "refused")
                    .expect("it was recorded with the revocation");
                let findings = refused.pointer("/body/findings").and_then(Value::as_array);
                return Evicted {
                    findings: findings.cloned().unwrap_or_default(),
                    revocation,
                    seen,
                };
            }
            assert!(Instant::now() < limit, "not evicted: {}", self.server.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The text at a JSON pointer.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found.unwrap_or_default()
}
