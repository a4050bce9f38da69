//! `InRelease`: who signed the archive's lists, when, until when, and their digests.

use super::packages::{self, Packages};
use crate::Digest;
use crate::openpgp::{self, Keyring, Signatory, Signed};
use crate::time::date;
use crate::unpack::{self, Packing};
use facts::{Finding, Timestamp};
use std::collections::BTreeMap;

/// A list that is dated later than now by more than this many seconds is refused, as apt does.
const SKEW: u64 = 300;
const MOST_LISTS: usize = 50_000;

/// What an `InRelease` says, once its signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// SHA-256 of the whole file.
    pub sha256: Digest,
    pub origin: String,
    pub suite: String,
    pub codename: String,
    pub date: Timestamp,
    pub valid_until: Option<Timestamp>,
    pub signed_by: Vec<Signatory>,
    lists: BTreeMap<String, Index>,
}

/// One list that the release names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Index {
    pub sha256: Digest,
    pub size: u64,
}

impl Release {
    /// Checks signature, `Date` and `Valid-Until` of an `InRelease`.
    ///
    /// # Errors
    /// `REF-OPENPGP-…`, `REF-RELEASE`, `REF-RELEASE-FUTURE`, `REF-RELEASE-EXPIRED`.
    pub fn verify(in_release: &[u8], keyring: &Keyring, now: Timestamp) -> Result<Self, Finding> {
        let signed = openpgp::verify(in_release, keyring, now)?;
        let release = Self::parse(signed, Digest::of(in_release))?;
        if release.date > now.plus_secs(SKEW) {
            return Err(
                Finding::new("REF-RELEASE-FUTURE", "the release is dated in the future")
                    .expected(format!("a date up to {now}"))
                    .observed(release.date.to_string())
                    .next("correct this machine's clock"),
            );
        }
        if let Some(until) = release.valid_until.filter(|until| *until < now) {
            return Err(Finding::new(
                "REF-RELEASE-EXPIRED",
                "the release is no longer valid: somebody may be holding back newer packages",
            )
            .expected(format!("a Valid-Until after {now}"))
            .observed(until.to_string())
            .next(
                "fetch the current lists (apt-get update), or check why the mirror stands still",
            ));
        }
        Ok(release)
    }

    fn parse(signed: Signed, sha256: Digest) -> Result<Self, Finding> {
        let refused = |what: &str| {
            Finding::new(
                "REF-RELEASE",
                "the signed file is not the Release of an archive",
            )
            .expected("Date, SHA256 and the names of the archive, each once")
            .observed(what)
            .next("name the InRelease file of the archive's dists/SUITE folder")
        };
        let mut fields: BTreeMap<&str, &str> = BTreeMap::new();
        let mut lists = BTreeMap::new();
        let mut in_sha256 = false;
        for line in signed.text.lines().filter(|line| !line.is_empty()) {
            if let Some(row) = line.strip_prefix(' ') {
                if !in_sha256 {
                    continue;
                }
                let (path, index) =
                    list(row).ok_or_else(|| refused("a damaged list of digests"))?;
                if lists.len() == MOST_LISTS || lists.insert(path.to_owned(), index).is_some() {
                    return Err(refused("a list that is named twice, or too many lists"));
                }
                continue;
            }
            let (key, value) = line
                .split_once(':')
                .ok_or_else(|| refused("a line that is no field"))?;
            in_sha256 = key == "SHA256";
            if fields.insert(key, value.trim()).is_some() {
                return Err(refused(&format!("the field {key} twice")));
            }
        }
        let text = |key: &str| fields.get(key).copied().unwrap_or_default().to_owned();
        let time = |key: &str| {
            let stated = fields.get(key);
            let read = stated.map(|text| date(text).ok_or_else(|| refused("a damaged date")));
            read.transpose()
        };
        if lists.is_empty() {
            return Err(refused("no SHA256"));
        }
        Ok(Self {
            sha256,
            origin: text("Origin"),
            suite: text("Suite"),
            codename: text("Codename"),
            date: time("Date")?.ok_or_else(|| refused("no Date"))?,
            valid_until: time("Valid-Until")?,
            signed_by: signed.by,
            lists,
        })
    }

    /// Checks that a list is the one that the release names `path`, as
    /// `main/binary-amd64/Packages.xz`.
    ///
    /// # Errors
    /// `REF-RELEASE-LIST`.
    pub fn check(&self, path: &str, list: &[u8]) -> Result<(), Finding> {
        let observed = Digest::of(list);
        match self.lists.get(path) {
            Some(index) if index.sha256 == observed => Ok(()),
            Some(index) => Err(differs(path)
                .expected(format!("SHA-256 {}", index.sha256))
                .observed(format!("{observed}, {} bytes", list.len()))),
            None => Err(differs(path)
                .expected(format!("a list of {} {}", self.origin, self.codename))
                .observed("a name that the release does not hold")),
        }
    }

    /// The path under which the release names these bytes, and which ends with `ending`.
    ///
    /// # Errors
    /// `REF-RELEASE-LIST`.
    pub fn find(&self, ending: &str, list: &[u8]) -> Result<&str, Finding> {
        let observed = Digest::of(list);
        self.lists
            .iter()
            .find(|(path, index)| index.sha256 == observed && path.ends_with(ending))
            .map(|(path, _)| path.as_str())
            .ok_or_else(|| {
                differs(ending)
                    .expected(format!(
                        "a list that {} {} names",
                        self.origin, self.codename
                    ))
                    .observed(format!("SHA-256 {observed}, {} bytes", list.len()))
            })
    }

    /// Reads a list of packages as a mirror or apt keeps it, by the end of its name packed or not. Packed
    /// by xz, gzip or zstd it is compared before it is unpacked; LZ4 is apt's own and is compared after.
    ///
    /// # Errors
    /// `REF-RELEASE-LIST`, `REF-UNPACK`, `REF-UNPACK-SIZE`, `REF-PACKAGES`.
    pub fn packages(&self, file_name: &str, bytes: &[u8]) -> Result<Packages, Finding> {
        let packing = Packing::of_name(file_name);
        let limit = u64::try_from(packages::LARGEST).unwrap_or(u64::MAX);
        match packing {
            Packing::Plain | Packing::Lz4 => {
                let plain = unpack::all(packing, bytes, limit)?;
                self.find("/Packages", &plain)?;
                Packages::parse(&plain)
            }
            Packing::Gzip | Packing::Xz | Packing::Zstd => {
                self.find("", bytes)?;
                Packages::parse(&unpack::all(packing, bytes, limit)?)
            }
        }
    }

    /// Every list, by path.
    pub fn lists(&self) -> impl Iterator<Item = (&str, &Index)> {
        self.lists
            .iter()
            .map(|(path, index)| (path.as_str(), index))
    }
}

fn differs(path: &str) -> Finding {
    Finding::new(
        "REF-RELEASE-LIST",
        format!("the list {path} is not the one that was signed"),
    )
    .next("fetch InRelease and the lists again, together (apt-get update)")
}

/// ` SHA256 SIZE PATH`
fn list(row: &str) -> Option<(&str, Index)> {
    let mut words = row.split(' ').filter(|word| !word.is_empty());
    let (digest, size, path) = (words.next()?, words.next()?, words.next()?);
    let index = Index {
        sha256: digest.parse().ok()?,
        size: size.parse().ok()?,
    };
    words.next().is_none().then_some((path, index))
}
