//! From reference values to what kernels enforce: a signed IPE policy, and the files that it is about.

use crate::estate::Estate;
use attest_code::{
    CodeDigest, CodeReferences, DigestReference, FsVerityDigest, IpePolicy, Manifest, Operation,
    PolicyPlan, PolicyVersion, SignedPolicy, Window,
};
use crypto::Signer;
use facts::{Finding, Timestamp};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// For whom a policy is made, and how.
#[derive(Debug, Clone, Copy)]
pub struct EnforcementPlan<'a> {
    /// Machines of this ring.
    pub ring: &'a str,
    /// The policy's name.
    pub name: &'a str,
    /// Whether what was in the initramfs that the firmware verified may run.
    pub boot_verified: bool,
    /// Whether kernels refuse the rest, or only say so.
    pub enforce: bool,
    pub now: Timestamp,
}

/// What was made.
#[derive(Debug, Clone)]
pub struct Emitted {
    pub policy: SignedPolicy,
    pub manifest: Manifest,
    /// A file for the estate's `references/` folder, JSON.
    pub document: String,
    /// The policy is the one that the estate has already.
    pub unchanged: bool,
}

/// The fs-verity digests of the references, and where machines have their files.
struct Listed {
    references: CodeReferences,
    /// By digest, as the kernel writes it.
    paths: BTreeMap<String, BTreeSet<String>>,
}

impl Estate {
    /// A policy under which machines of a ring run what this estate's references list for them now: files of
    /// generations, and `[[code]]`, by fs-verity digest. The same estate gives the same policy until one of
    /// its windows opens or ends. Its version is the last moment at which that happened, as
    /// `2026.1128.1747` (UTC), or the one after the version that this estate has, whichever is higher.
    ///
    /// # Errors
    /// As [`IpePolicy::new`] and [`IpePolicy::sign`].
    pub fn emit_enforcement(
        &self,
        plan: EnforcementPlan<'_>,
        certificate: &[u8],
        signer: &dyn Signer,
    ) -> Result<Emitted, Finding> {
        let listed = self.listed(plan)?;
        let make = |version| {
            let policy = PolicyPlan {
                name: plan.name.to_owned(),
                version,
                after: None,
                deny: BTreeSet::from([Operation::Execute]),
                boot_verified: plan.boot_verified,
            };
            IpePolicy::new(policy, &listed.references, plan.now)
        };
        let mut version = self.version_at(plan);
        let known = self.references().enforcement.iter();
        let known = known
            .filter(|one| one.rings.contains(plan.ring))
            .map(|one| &one.policy)
            .find(|policy| policy.name() == plan.name);
        let mut kept = None;
        if let Some(known) = known {
            let same = make(known.version())?.text() == known.text();
            kept = SignedPolicy::verify(known.der(), &[certificate])
                .ok()
                .filter(|_| same);
            let next = known.version().next().ok_or_else(|| {
                Finding::new("IPE-VERSION", "no version is higher than the policy's")
                    .observed(known.version().to_string())
                    .next("give the policy another name")
            })?;
            version = version.max(next);
        }
        let unchanged = kept.is_some();
        let made = make(version)?;
        let policy = match kept {
            Some(policy) => policy,
            None => made.sign(certificate, signer)?,
        };
        let of = |digest: &str| {
            let paths = listed.paths.get(digest);
            paths.map_or_else(Vec::new, |paths| paths.iter().cloned().collect())
        };
        let manifest = Manifest::new(&listed.references, Some(&policy), plan.now).placed(of);
        let files: Vec<_> = made
            .digests()
            .flat_map(|digest| {
                let digest = digest.to_string();
                let paths = of(&digest).into_iter();
                paths.map(move |path| json!({ "path": path, "fsverity": digest }))
            })
            .collect();
        let document = json!({ "enforcement": [{
            "rings": [plan.ring],
            "enforce": plan.enforce,
            "policy": crypto::base64::encode(policy.der()),
            "file": files,
        }]});
        // INVARIANT: a value of texts and lists always serialises.
        let mut document = serde_json::to_string_pretty(&document).unwrap_or_default();
        document.push('\n');
        Ok(Emitted {
            policy,
            manifest,
            document,
            unchanged,
        })
    }

    fn listed(&self, plan: EnforcementPlan<'_>) -> Result<Listed, Finding> {
        let values = &self.references().values;
        let mut digests = Vec::new();
        let mut paths: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let generations = values.generations().iter();
        for generation in generations.filter(|one| one.is_for(plan.ring)) {
            for artefact in &generation.artefacts {
                let withdrawn = values.withdrawn().iter();
                let withdrawn = withdrawn.filter(|one| one.concerns(artefact));
                let ends = withdrawn.map(|one| one.at).chain(generation.valid_until);
                let window = Window {
                    from: Some(generation.valid_from),
                    until: ends.min(),
                };
                // Withdrawn before it began.
                if window
                    .until
                    .is_some_and(|until| until <= generation.valid_from)
                {
                    continue;
                }
                for file in &artefact.files {
                    let Some(digest) = file.fsverity else {
                        continue;
                    };
                    let digest = FsVerityDigest::Sha256(digest.0);
                    let of = paths.entry(digest.to_string()).or_default();
                    of.insert(file.path.clone());
                    let label = [&artefact.name, &artefact.version, &file.path];
                    digests.push(DigestReference {
                        digest: CodeDigest::FsVerity(digest),
                        label: plain(label.map(String::as_str)),
                        source: format!("{} of generation {}", artefact.source, generation.name),
                        window,
                    });
                }
            }
        }
        for code in self.references().code.values() {
            for digest in &code.fsverity {
                digests.push(DigestReference {
                    digest: CodeDigest::FsVerity(FsVerityDigest::parse(digest)?),
                    label: plain([code.name.as_str(), "", ""]),
                    source: "the estate's [[code]]".to_owned(),
                    window: Window::default(),
                });
            }
        }
        let references = CodeReferences::new(BTreeMap::new(), digests, Vec::new(), Vec::new())?;
        Ok(Listed { references, paths })
    }

    /// When what is listed changed last, as a version.
    fn version_at(&self, plan: EnforcementPlan<'_>) -> PolicyVersion {
        let values = &self.references().values;
        let generations = values.generations().iter();
        let of_generations = generations
            .filter(|one| one.is_for(plan.ring))
            .flat_map(|one| [Some(one.valid_from), Some(one.imported_at), one.valid_until])
            .flatten();
        let of_withdrawn = values.withdrawn().iter().map(|one| one.at);
        let past = of_generations
            .chain(of_withdrawn)
            .filter(|at| *at <= plan.now);
        moment(past.max().unwrap_or(Timestamp::EPOCH))
    }
}

/// Year, month and day, hour and minute.
fn moment(at: Timestamp) -> PolicyVersion {
    // The display form is `2026-11-28T17:47:00.000Z`.
    let text = at.to_string();
    let number = |range: std::ops::Range<usize>| {
        let digits = text.get(range).unwrap_or_default();
        digits.parse::<u16>().unwrap_or_default()
    };
    let pair = |first: u16, second: u16| first.saturating_mul(100).saturating_add(second);
    PolicyVersion {
        major: number(0..4),
        minor: pair(number(5..7), number(8..10)),
        revision: pair(number(11..13), number(14..16)),
    }
}

/// What is there of these words, on one line.
fn plain(words: [&str; 3]) -> String {
    let words = words.into_iter().filter(|word| !word.is_empty());
    let label = words.collect::<Vec<_>>().join(" ");
    let label = label.chars().filter(|letter| !letter.is_control());
    label.take(512).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_version_that_grows() {
        let at = |seconds| moment(Timestamp::from_secs(seconds));
        assert_eq!(at(1_700_000_000).to_string(), "2023.1114.2213");
        assert_eq!(at(0).to_string(), "1970.101.0");
        assert!(at(1_700_000_000) < at(1_700_000_060));
        assert!(at(1_700_000_000) < at(1_710_000_000));
    }
}
