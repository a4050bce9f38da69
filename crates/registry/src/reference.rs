//! How an image of a registry is named: `registry.example/payments/api@sha256:…`. A tag may stand before the digest
//! and says nothing: what a tag names today is somebody's word.

use attest_code::image::BlobDigest;
use facts::Finding;
use std::fmt;

const LONGEST: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// With its port, if one is named.
    host: String,
    name: String,
    digest: BlobDigest,
}

impl Reference {
    /// Whether this is meant to be an image of a registry, and not a folder.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.contains("@sha256:")
    }

    /// # Errors
    /// `REGISTRY-REFERENCE`.
    pub fn parse(text: &str) -> Result<Self, Finding> {
        let refused = |what: &str| {
            Finding::new(
                "REGISTRY-REFERENCE",
                format!("this names no image of a registry: {what}"),
            )
            .expected("REGISTRY[:PORT]/NAME@sha256: and 64 lower-case hexadecimal digits")
            .observed(text.chars().take(LONGEST).collect::<String>())
            .next("name it as its registry does, by digest: a tag can be moved")
        };
        let (named, digest) = text
            .split_once('@')
            .ok_or_else(|| refused("it has no digest"))?;
        let digest = BlobDigest::parse(digest).map_err(|_| refused("its digest is none"))?;
        let (host, rest) = named
            .split_once('/')
            .ok_or_else(|| refused("it names no registry"))?;
        let name = match rest.rsplit_once(':') {
            Some((name, _tag)) => name,
            None => rest,
        };
        if named.len() > LONGEST || !is_host(host) {
            return Err(refused("its registry is no host"));
        }
        if !name.split('/').all(is_part) {
            return Err(refused("its name is none (OCI Distribution 1.1)"));
        }
        Ok(Self {
            host: host.to_owned(),
            name: name.to_owned(),
            digest,
        })
    }

    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub const fn digest(&self) -> BlobDigest {
        self.digest
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.host, self.name, self.digest)
    }
}

/// A name with a dot, a port, or `localhost`: everything else would be a part of some default registry's names.
pub(crate) fn is_host(text: &str) -> bool {
    let letters = |text: &str| {
        !text.is_empty()
            && text
                .bytes()
                .all(|letter| letter.is_ascii_alphanumeric() || b"-.".contains(&letter))
    };
    match text.rsplit_once(':') {
        Some((host, port)) => {
            let host = host
                .strip_prefix('[')
                .and_then(|host| host.strip_suffix(']'))
                .map_or_else(
                    || letters(host),
                    |v6| v6.parse::<std::net::Ipv6Addr>().is_ok(),
                );
            host && port.parse::<u16>().is_ok_and(|port| port > 0)
        }
        None => letters(text) && (text.contains('.') || text == "localhost"),
    }
}

/// "[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
fn is_part(part: &str) -> bool {
    let plain = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = [bytes.first(), bytes.last()];
    if !ends
        .iter()
        .all(|end| end.is_some_and(|letter| plain(*letter)))
    {
        return false;
    }
    let mut separators = part.split(|letter: char| plain(u8::try_from(letter).unwrap_or(0)));
    separators.all(|between| {
        matches!(between, "" | "." | "_" | "__") || between.bytes().all(|letter| letter == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:7f1c2a3e0c9a1d1f4b2d5e6f7a8b9c0d1e2f3a4b5c6d7e8f9a0b1c2d3e4f5a6b";

    #[test]
    fn an_image_is_named_by_registry_and_digest_and_by_nothing_else() {
        for (named, host, name) in [
            ("registry.example/app", "registry.example", "app"),
            (
                "registry.example:5000/team/app",
                "registry.example:5000",
                "team/app",
            ),
            ("localhost:5000/a-b__c.d/e", "localhost:5000", "a-b__c.d/e"),
            ("[::1]:5000/app:v1", "[::1]:5000", "app"),
        ] {
            let read = Reference::parse(&format!("{named}@{DIGEST}")).unwrap();
            assert_eq!((read.host(), read.name()), (host, name));
            assert_eq!(read.digest().to_string(), DIGEST);
        }
        for bad in [
            "registry.example/app:v1".to_owned(),
            format!("app@{DIGEST}"),
            format!("library/app@{DIGEST}"),
            format!("registry.example/App@{DIGEST}"),
            format!("registry.example/../app@{DIGEST}"),
            format!("registry.example/a//b@{DIGEST}"),
            format!("registry.example/a?b@{DIGEST}"),
            format!("registry.example/a_-b@{DIGEST}"),
            format!("registry.example/é@{DIGEST}"),
            format!("user:word@registry.example/app@{DIGEST}"),
            format!("https://registry.example/app@{DIGEST}"),
            format!("registry.example:0/app@{DIGEST}"),
            format!("registry.example/app@{}", DIGEST.to_uppercase()),
            "registry.example/app@sha512:00".to_owned(),
            format!("{}.example/app@{DIGEST}", "a".repeat(300)),
            String::new(),
        ] {
            let refused = Reference::parse(&bad).unwrap_err();
            assert_eq!(refused.code, "REGISTRY-REFERENCE", "{bad}");
        }
    }
}
