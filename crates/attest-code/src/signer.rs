//! Who may vouch for code: reference values. A signer without an identity or without an issuer cannot be
//! written down, and no pattern matches whoever may happen to hold an account.

use crate::pem;
use crypto::PublicKey;
use facts::Finding;
use std::collections::BTreeSet;

const MAX_TEXT: usize = 1024;

/// A signer that the owner trusts, under a label of the owner's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    pub(crate) label: String,
    pub(crate) who: Who,
    pub(crate) predicates: BTreeSet<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    Keyless(Keyless),
    Key(PinnedKey),
}

/// Somebody whom a Sigstore deployment identified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Keyless {
    /// The name of the deployment's trusted root among the references.
    pub(crate) root: String,
    pub(crate) identity: Identity,
    pub(crate) issuer: String,
}

/// Whoever holds a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PinnedKey {
    pub(crate) key: PublicKey,
    /// The trusted root whose log has to hold the signature; without it, bundles need no log.
    pub(crate) root: Option<String>,
}

/// An identity in a certificate: exactly one, or one workflow at any ref below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity(Pattern);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Pattern {
    Exact(String),
    Below(String),
}

impl Identity {
    /// `person@example.org`, or
    /// `https://github.com/acme/payments/.github/workflows/release.yml@refs/tags/*`.
    ///
    /// One `*` may stand at the end, after the `@` that ends a workflow's path: it stands for the rest of the
    /// ref, never for a repository, an owner or a host.
    ///
    /// # Errors
    /// `CODE-REFERENCE-SIGNER`.
    pub fn parse(text: &str) -> Result<Self, Finding> {
        if !is_plain(text) {
            return Err(unusable("an identity", text));
        }
        let Some(prefix) = text.strip_suffix('*') else {
            return if text.contains('*') {
                Err(unusable("an identity", text))
            } else {
                Ok(Self(Pattern::Exact(text.to_owned())))
            };
        };
        let pins_the_workflow = prefix
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('/'))
            .and_then(|(host, path)| Some((host, path.split_once('@')?)))
            .is_some_and(|(host, (path, _))| {
                !host.is_empty() && !host.contains('@') && !path.is_empty()
            });
        if prefix.contains('*') || !pins_the_workflow {
            return Err(unusable("an identity", text));
        }
        Ok(Self(Pattern::Below(prefix.to_owned())))
    }

    pub(crate) fn matches(&self, identity: &str) -> bool {
        match &self.0 {
            Pattern::Exact(exact) => exact == identity,
            Pattern::Below(prefix) => identity
                .strip_prefix(prefix.as_str())
                .is_some_and(|rest| !rest.is_empty()),
        }
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Pattern::Exact(exact) => f.write_str(exact),
            Pattern::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

impl Signer {
    /// Somebody who signs under the trusted root of that name. `issuer` is who identified them, as the
    /// certificate says: `https://token.actions.githubusercontent.com`.
    ///
    /// # Errors
    /// `CODE-REFERENCE-SIGNER` if any of them is empty or not plain text.
    pub fn keyless(
        label: &str,
        root: &str,
        identity: Identity,
        issuer: &str,
    ) -> Result<Self, Finding> {
        let issuer_is_whole = is_plain(issuer) && !issuer.contains('*');
        if !issuer_is_whole {
            return Err(unusable("an issuer", issuer));
        }
        if !is_plain(root) {
            return Err(unusable("the name of a trusted root", root));
        }
        Self::new(
            label,
            Who::Keyless(Keyless {
                root: root.to_owned(),
                identity,
                issuer: issuer.to_owned(),
            }),
        )
    }

    /// Whoever holds the private half of `key`: P-256, P-384, Ed25519 or RSA.
    ///
    /// # Errors
    /// `CODE-REFERENCE-SIGNER`.
    pub fn key(label: &str, key: PublicKey) -> Result<Self, Finding> {
        Self::new(label, Who::Key(PinnedKey { key, root: None }))
    }

    /// As [`Signer::key`], from the `PUBLIC KEY` file that `cosign generate-key-pair` writes.
    ///
    /// # Errors
    /// `CODE-REFERENCE-SIGNER`.
    pub fn key_from_pem(label: &str, text: &str) -> Result<Self, Finding> {
        let key = pem::decode("PUBLIC KEY", text)
            .and_then(|der| PublicKey::from_spki_der(&der).ok())
            .ok_or_else(|| unusable("a public key in PEM", "another text"))?;
        Self::key(label, key)
    }

    /// What the key signs has to be in the log of that trusted root as well. For a keyless signer it has to
    /// be in any case.
    #[must_use]
    pub fn logged_by(mut self, root: &str) -> Self {
        if let Who::Key(pinned) = &mut self.who {
            pinned.root = Some(root.to_owned());
        }
        self
    }

    /// A type of statement, beside provenance, that counts as this signer's approval of its subjects. Without
    /// it a statement of that type is read as what it is, which may be a report of faults.
    #[must_use]
    pub fn approves_by(mut self, predicate_type: &str) -> Self {
        self.predicates.insert(predicate_type.to_owned());
        self
    }

    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The name of the trusted root that it needs.
    pub(crate) fn root(&self) -> Option<&str> {
        match &self.who {
            Who::Keyless(keyless) => Some(&keyless.root),
            Who::Key(pinned) => pinned.root.as_deref(),
        }
    }

    fn new(label: &str, who: Who) -> Result<Self, Finding> {
        if !is_plain(label) {
            return Err(unusable("a label", label));
        }
        Ok(Self {
            label: label.to_owned(),
            who,
            predicates: BTreeSet::new(),
        })
    }
}

pub(crate) fn is_plain(text: &str) -> bool {
    !text.trim().is_empty() && text.len() <= MAX_TEXT && !text.contains(char::is_control)
}

fn unusable(what: &str, text: &str) -> Finding {
    Finding::new("CODE-REFERENCE-SIGNER", "a signer is not named")
        .expected(what)
        .observed(format!("{:?}", text.chars().take(128).collect::<String>()))
        .next("name identity and issuer; a `*` may only end a workflow's ref, after its `@`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_pattern_stands_for_anybody() {
        for text in [
            "",
            " ",
            "*",
            "a*b",
            "*@example.org",
            "alice@*",
            "https://github.com/*",
            "https://github.com/acme/*",
            "https://github.com/acme/payments/.github/workflows/release.yml*",
            "https://*@github.com/acme",
            "https://user@*",
            "https://user@host/*",
            "https:///x@*",
            "https://github.com/@*",
            "https://github.com/a/*/w.yml@*",
            "a\nb",
        ] {
            assert!(Identity::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_pattern_pins_all_but_the_ref() {
        let workflow = "https://github.com/acme/payments/.github/workflows/release.yml";
        let identity = Identity::parse(&format!("{workflow}@refs/tags/*")).unwrap();
        assert!(identity.matches(&format!("{workflow}@refs/tags/v1")));
        assert!(!identity.matches(&format!("{workflow}@refs/tags/")));
        assert!(!identity.matches(&format!("{workflow}@refs/heads/main")));
        assert!(!identity.matches(&format!("x{workflow}@refs/tags/v1")));
        let exact = Identity::parse("alice@example.org").unwrap();
        assert!(exact.matches("alice@example.org"));
        assert!(!exact.matches("alice@example.org.evil"));
    }

    #[test]
    fn a_signer_without_issuer_cannot_be_made() {
        let identity = Identity::parse("alice@example.org").unwrap();
        for (root, issuer) in [
            ("public", ""),
            ("public", "*"),
            ("", "https://issuer"),
            ("public", " "),
        ] {
            assert!(Signer::keyless("a", root, identity.clone(), issuer).is_err());
        }
        assert!(Signer::keyless("", "public", identity, "https://issuer").is_err());
        assert!(Signer::key_from_pem("a", "no key").is_err());
    }
}
