//! What the tests read from outside: recorded boots, Debian packages.

use crate::log::Event;
use references::{Digest, PcrValue};
use std::path::{Path, PathBuf};

pub(crate) fn folder(test: &str, name: &str) -> Option<PathBuf> {
    let folder = testkit::evidence().map(|all| all.join(name));
    if folder.as_ref().is_some_and(|folder| folder.is_dir()) {
        return folder;
    }
    testkit::skip(test, &format!("no evidence folder with {name}"));
    None
}

/// The packages of those names and versions, or a skip.
pub(crate) fn packages<const N: usize>(
    test: &str,
    names: [(&str, Option<&str>); N],
) -> Option<[Vec<u8>; N]> {
    let mut found = [const { Vec::new() }; N];
    for (slot, (name, version)) in found.iter_mut().zip(names) {
        match testkit::debian::package(name, version) {
            Ok(path) => *slot = std::fs::read(path).unwrap(),
            Err(why) => {
                testkit::skip(test, &why);
                return None;
            }
        }
    }
    Some(found)
}

pub(crate) fn digest(hex: &str) -> Digest {
    hex.to_ascii_lowercase().parse().unwrap()
}

/// One recorded boot.
pub(crate) struct Boot {
    folder: PathBuf,
    pub(crate) events: Vec<Event>,
}

impl Boot {
    pub(crate) fn open(test: &str, name: &str) -> Option<Self> {
        let folder = folder(test, &format!("lab/{name}"))?;
        let events = crate::log::events(&std::fs::read(folder.join("eventlog.bin")).unwrap());
        Some(Self { folder, events })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.join(name)).unwrap()
    }

    /// PCR `index` as the machine's TPM had it: `pcrs.txt`, written by tpm2_pcrread.
    pub(crate) fn pcr(&self, index: u8) -> Digest {
        let text = self.text("pcrs.txt");
        let line = text
            .lines()
            .find(|line| line.trim_start().split(':').next().unwrap().trim() == index.to_string());
        digest(line.unwrap().split("0x").nth(1).unwrap().trim())
    }

    /// The digests that were extended into PCR `index`.
    pub(crate) fn digests(&self, index: u32) -> Vec<Digest> {
        let of = self.events.iter().filter(|event| event.pcr == index);
        of.map(|event| event.sha256).collect()
    }

    #[track_caller]
    pub(crate) fn assert_pcr(&self, predicted: &PcrValue) {
        assert_eq!(
            predicted.sha256,
            self.pcr(predicted.index),
            "PCR {} of {}: {:#?}",
            predicted.index,
            self.folder.display(),
            predicted.events
        );
    }
}
