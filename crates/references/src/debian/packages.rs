//! `Packages`: every package of a suite and architecture, with the SHA-256 of its `.deb`.

use crate::Digest;
use facts::Finding;
use std::collections::BTreeMap;

/// Debian's largest list, unpacked, has some 50 MB.
pub(crate) const LARGEST: usize = 512 * 1024 * 1024;
const MOST: usize = 500_000;

/// One package as the list names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// Relative to the root of the archive.
    pub filename: String,
    pub size: u64,
    pub sha256: Digest,
}

/// A list, by the digest of each `.deb`.
#[derive(Debug, Clone, Default)]
pub struct Packages(BTreeMap<Digest, Listed>);

impl Packages {
    /// Reads a list, unpacked. What it is worth is what it was checked against before
    /// ([`super::Release::check`]).
    ///
    /// # Errors
    /// `REF-PACKAGES`.
    pub fn parse(list: &[u8]) -> Result<Self, Finding> {
        let refused = |what: String| {
            Finding::new("REF-PACKAGES", "the list of packages cannot be read")
                .expected("stanzas with Package, Version, Architecture, Filename, Size and SHA256")
                .observed(what)
                .next("fetch the lists again (apt-get update)")
        };
        if list.len() > LARGEST {
            return Err(refused("more than 512 MiB".to_owned()));
        }
        let text =
            str::from_utf8(list).map_err(|_| refused("bytes that are no UTF-8".to_owned()))?;
        let mut packages = BTreeMap::new();
        for (number, stanza) in text.split("\n\n").enumerate() {
            if stanza.trim().is_empty() {
                continue;
            }
            let listed = stanza_of(stanza).ok_or_else(|| {
                refused(format!(
                    "stanza {}, which lacks one or has it twice",
                    number + 1
                ))
            })?;
            if packages.len() == MOST {
                return Err(refused("too many packages".to_owned()));
            }
            packages.insert(listed.sha256, listed);
        }
        Ok(Self(packages))
    }

    /// The package whose `.deb` has this digest.
    #[must_use]
    pub fn by_digest(&self, sha256: &Digest) -> Option<&Listed> {
        self.0.get(sha256)
    }

    /// All versions of a package.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Listed> {
        self.0.values().filter(move |listed| listed.name == name)
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn stanza_of(stanza: &str) -> Option<Listed> {
    const KEYS: [&str; 6] = [
        "Package",
        "Version",
        "Architecture",
        "Filename",
        "Size",
        "SHA256",
    ];
    let mut values = [None; KEYS.len()];
    for line in stanza.lines() {
        if line.starts_with([' ', '\t']) {
            continue;
        }
        let (key, value) = line.split_once(':')?;
        if let Some(position) = KEYS.iter().position(|known| *known == key)
            && values.get_mut(position)?.replace(value.trim()).is_some()
        {
            return None;
        }
    }
    let [name, version, architecture, filename, size, sha256] = values;
    Some(Listed {
        name: name.filter(|name| is_word(name))?.to_owned(),
        version: version.filter(|version| is_word(version))?.to_owned(),
        architecture: architecture.filter(|word| is_word(word))?.to_owned(),
        filename: filename?.to_owned(),
        size: size?.parse().ok()?,
        sha256: sha256?.parse().ok()?,
    })
}

/// Names and versions (Debian policy, sections 5.6.1 and 5.6.12).
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 256
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".+-:~_".contains(&byte))
}
