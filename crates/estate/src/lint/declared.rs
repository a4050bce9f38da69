//! Where things are declared: groups and references, of which a compiled estate keeps no place.

use crate::declare::{IdentitiesFile, ReferencesFile};
use crate::files::EstateFiles;
use crate::problem::Lines;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use toml::Spanned;

/// A name, and where it is declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) name: String,
    pub(super) file: String,
    /// 0 of JSON, whose lines are not those of the form that it is read through.
    pub(super) line: u32,
}

#[derive(Debug, Default)]
pub(super) struct Declared {
    pub(super) groups: Vec<Name>,
    pub(super) pools: Vec<Name>,
    pub(super) code: Vec<Name>,
    pub(super) signers: Vec<Name>,
    /// Trusted roots of Sigstore deployments.
    pub(super) roots: Vec<Name>,
    /// Names of signers by which provenance counts, and of roots by which signers do.
    pub(super) used_signers: Vec<String>,
    pub(super) used_roots: Vec<String>,
    /// Names of rules for provenance.
    pub(super) provenance: Vec<String>,
    /// Names of signers that approve something by themselves.
    pub(super) approving: Vec<String>,
    /// Rings that something is for, and what that is.
    pub(super) rings: Vec<(String, Name)>,
}

impl Declared {
    /// Of files that compile.
    pub(super) fn of(files: &EstateFiles) -> Self {
        let mut declared = Self::default();
        for (file, text) in &files.0 {
            let placed = Placed::of(file, text);
            match file.split_once('/') {
                Some(("identities", _)) => declared.identities(text, &placed),
                Some(("references", _)) => declared.references(text, &placed),
                _ => {}
            }
        }
        declared
    }

    fn identities(&mut self, text: &str, placed: &Placed<'_>) {
        let Some(parsed) = placed.parse::<IdentitiesFile>(text) else {
            return;
        };
        let groups = parsed.groups.iter().map(|one| placed.name(&one.name));
        self.groups.extend(groups);
    }

    fn references(&mut self, text: &str, placed: &Placed<'_>) {
        let Some(parsed) = placed.parse::<ReferencesFile>(text) else {
            return;
        };
        self.rings(&parsed, placed);
        self.pools
            .extend(parsed.pools.iter().map(|one| placed.name(&one.name)));
        self.code
            .extend(parsed.code.iter().map(|one| placed.name(&one.name)));
        self.roots.extend(
            parsed
                .trusted_roots
                .iter()
                .map(|one| placed.name(&one.name)),
        );
        for signer in parsed.signers {
            self.signers.push(placed.name(&signer.name));
            self.used_roots.extend(signer.root);
            if !signer.approves.is_empty() {
                self.approving.push(signer.name.into_inner());
            }
        }
        for rule in parsed.provenance {
            self.used_signers.extend(rule.signers);
            self.provenance.push(rule.name.into_inner());
        }
    }
}

impl Declared {
    /// Generations and rules are read without places, as imports write them: one is found by its name.
    fn rings(&mut self, parsed: &ReferencesFile, placed: &Placed<'_>) {
        for generation in &parsed.generations {
            let what = format!("generation `{}`", generation.name);
            for ring in &generation.rings {
                self.rings
                    .push((what.clone(), placed.found(&generation.name, ring)));
            }
        }
        for rule in &parsed.boots {
            let what = format!("boot rule `{}`", rule.name);
            for ring in &rule.rings {
                self.rings
                    .push((what.clone(), placed.found(&rule.name, ring)));
            }
        }
        for entry in &parsed.enforcement {
            for ring in &entry.rings {
                let what = "a policy of `[[enforcement]]`".to_owned();
                self.rings.push((what, placed.name(ring)));
            }
        }
    }
}

struct Placed<'a> {
    file: &'a str,
    text: &'a str,
    lines: Option<Lines>,
}

impl<'a> Placed<'a> {
    fn of(file: &'a str, text: &'a str) -> Self {
        let lines = (!file.ends_with(".json")).then(|| Lines::of(text));
        Self { file, text, lines }
    }

    /// `ring` of the entry that is called `entry`: at the first line after its name that has the ring in it.
    fn found(&self, entry: &str, ring: &str) -> Name {
        let line = self.lines.as_ref().map_or(0, |lines| {
            let quoted = |word: &str| format!("\"{word}\"");
            let start = self.text.find(&quoted(entry)).unwrap_or_default();
            let after = self.text.get(start..).unwrap_or_default();
            let offset = after.find(&quoted(ring)).unwrap_or_default();
            lines.line(start + offset)
        });
        Name {
            name: ring.to_owned(),
            file: self.file.to_owned(),
            line,
        }
    }

    fn parse<T: DeserializeOwned>(&self, text: &str) -> Option<T> {
        let text = match self.lines {
            Some(_) => Cow::Borrowed(text),
            None => {
                let table: toml::Table = serde_json::from_str(text).ok()?;
                Cow::Owned(toml::to_string(&table).ok()?)
            }
        };
        toml::from_str(&text).ok()
    }

    fn name(&self, name: &Spanned<String>) -> Name {
        let start = name.span().start;
        Name {
            name: name.get_ref().clone(),
            file: self.file.to_owned(),
            line: self.lines.as_ref().map_or(0, |lines| lines.line(start)),
        }
    }
}
