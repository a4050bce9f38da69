//! What the server sent last, on disk: one file, replaced whole. The kernel's policies are gone after a boot, and
//! then it is installed before the server is reached.
//!
//! Whoever can write here can have an older policy installed after a boot, by a key that the kernel trusts; the
//! server sees that it is another one.

use super::Wanted;
use crate::node_state::Blob;
use facts::Finding;
use proto::v1;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const FILE: &str = "enforcement.json";
const LARGEST: u64 = 16 << 20;
/// Names of policies that were installed; older ones are forgotten.
const MOST_NAMES: usize = 64;

#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    v: u32,
    /// PKCS #7; empty: the estate names none.
    policy: Blob,
    enforce: bool,
    /// Paths and digests.
    files: Vec<(String, String)>,
    /// Names of policies that this agent has installed or was about to.
    installed: BTreeSet<String>,
}

impl Kept {
    pub(super) fn at(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
        }
    }

    /// Durable when it returns.
    pub(super) fn keep(&self, sent: &v1::Enforce) -> Result<(), Finding> {
        let mut installed = self.installed();
        if let Ok(policy) = attest_code::SignedPolicy::read(&sent.policy) {
            installed.insert(policy.name().to_owned());
        }
        while installed.len() > MOST_NAMES {
            installed.pop_first();
        }
        let files = sent.files.iter();
        let content = Content {
            v: 1,
            policy: Blob(sent.policy.clone()),
            enforce: sent.enforce,
            files: files
                .map(|file| (file.path.clone(), file.digest.clone()))
                .collect(),
            installed,
        };
        self.write(&content).map_err(|error| self.failed(&error))
    }

    /// What is to be installed.
    pub(super) fn wanted(&self) -> Result<Option<Wanted>, Finding> {
        let content = self.read().map_err(|error| self.failed(&error))?;
        let Some(content) = content.filter(|content| !content.policy.0.is_empty()) else {
            return Ok(None);
        };
        let files = content.files.iter();
        let sent = v1::Enforce {
            policy: content.policy.0.clone(),
            enforce: content.enforce,
            files: files
                .map(|(path, digest)| v1::VerityFile {
                    path: path.clone(),
                    digest: digest.clone(),
                })
                .collect(),
        };
        Wanted::read(&sent).map(Some)
    }

    /// Names of policies that this agent may replace.
    pub(super) fn installed(&self) -> BTreeSet<String> {
        let content = self.read().ok().flatten();
        content.map_or_else(BTreeSet::new, |content| content.installed)
    }

    fn read(&self) -> io::Result<Option<Content>> {
        let file = match File::open(self.folder.join(FILE)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(LARGEST).read_to_end(&mut text)?;
        serde_json::from_slice(&text)
            .map(Some)
            .map_err(io::Error::other)
    }

    fn write(&self, content: &Content) -> io::Result<()> {
        let (path, beside) = (
            self.folder.join(FILE),
            self.folder.join(format!("{FILE}.new")),
        );
        let text = serde_json::to_vec(content).map_err(io::Error::other)?;
        let mut options = OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn failed(&self, error: &io::Error) -> Finding {
        Finding::new(
            "IPE-KEPT",
            "what is to be enforced cannot be kept or read back",
        )
        .observed(format!("{}: {error}", self.folder.join(FILE).display()))
        .next("check data_dir and its owner; the server sends it again at the next connection")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use attest_code::SignedPolicy;

    /// A policy `trilith 0.0.1`, whose signature nothing here looks at.
    pub(in super::super) fn policy() -> SignedPolicy {
        SignedPolicy::read(&der()).unwrap()
    }

    /// `SignedData` of that text, put together by hand.
    fn der() -> Vec<u8> {
        fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
            let body = parts.concat();
            let [high, low] = u16::try_from(body.len()).unwrap().to_be_bytes();
            let head = match body.len() {
                0..128 => vec![tag, low],
                128..256 => vec![tag, 0x81, low],
                _ => vec![tag, 0x82, high, low],
            };
            [head, body].concat()
        }
        let sequence = |parts: &[&[u8]]| element(0x30, parts);
        let sha256 = sequence(&[&[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1], &[5, 0]]);
        let rsa = sequence(&[
            &[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1],
            &[5, 0],
        ]);
        let data = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
        let signed_data = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 2];
        let text = b"policy_name=trilith policy_version=0.0.1\nDEFAULT action=ALLOW\n\
                     DEFAULT op=EXECUTE action=DENY\nop=EXECUTE boot_verified=TRUE action=ALLOW\n";
        let content = element(0xa0, &[&element(4, &[text])]);
        let name = sequence(&[&sequence(&[]), &[2, 1, 1]]);
        let signer = sequence(&[&[2, 1, 1], &name, &sha256, &rsa, &element(4, &[b"x"])]);
        let body = sequence(&[
            &[2, 1, 1],
            &element(0x31, &[&sha256]),
            &sequence(&[&data, &content]),
            &element(0x31, &[&signer]),
        ]);
        sequence(&[&signed_data, &element(0xa0, &[&body])])
    }

    #[test]
    fn what_was_sent_is_read_back_and_its_name_outlives_it() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::at(folder.path());
        assert!(kept.wanted().unwrap().is_none() && kept.installed().is_empty());
        let digest = format!("sha256:{}", "ab".repeat(32));
        let sent = v1::Enforce {
            policy: policy().der().to_vec(),
            enforce: true,
            files: vec![v1::VerityFile {
                path: "/usr/bin/x".to_owned(),
                digest,
            }],
        };
        kept.keep(&sent).unwrap();
        let wanted = kept.wanted().unwrap().unwrap();
        assert!(wanted.enforce && wanted.policy == policy());
        assert_eq!(wanted.files.len(), 1);
        kept.keep(&v1::Enforce::default()).unwrap();
        assert!(kept.wanted().unwrap().is_none());
        assert!(kept.installed().contains("trilith"));
        // A crash while it was written leaves the old file; half of one is told.
        fs::write(folder.path().join(FILE), b"{").unwrap();
        assert_eq!(kept.wanted().err().unwrap().code, "IPE-KEPT");
    }
}
