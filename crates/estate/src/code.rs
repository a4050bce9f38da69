//! What is known of the code that a workload runs: from its digests to facts, by the estate's reference
//! values, its signers and what they said.

mod images;

use crate::estate::Estate;
use attest_code::{CodeDigest, CodeEvidence, FsVerityDigest, Running};
use facts::{Affirmed, FactSet, Finding, Source, Timestamp, Verdict, Warrant, names};
use references::{At, Digest, Known};
use std::sync::Arc;

/// What follows from digests is of code alone, and as strong as the digests are.
const WARRANT: Warrant = Warrant::of(Source::Hardware, &["code."]);

/// The facts of code that are observed. All others of `code.` follow from them.
const OBSERVED: [&str; 2] = [names::CODE_SHA256, names::CODE_FSVERITY];

/// Of a path that a finding shows.
const LONGEST_PATH: usize = 256;

/// Whether a fact of this name is a digest, which whoever looks at a process may state.
#[must_use]
pub fn is_digest_of_code(name: &str) -> bool {
    OBSERVED.contains(&name)
}

/// Whether a fact of this name is what an estate makes of the digests.
#[must_use]
pub fn is_derived_of_code(name: &str) -> bool {
    // What a machine measured and enforces is no matter of reference values alone.
    let of_the_machine = [
        names::CODE_MEASURED_BY,
        names::CODE_ROOTED_IN_HARDWARE,
        names::CODE_ENFORCEMENT,
    ];
    name.starts_with("code.") && !is_digest_of_code(name) && !of_the_machine.contains(&name)
}

/// The name of a digest in `facts` that is written otherwise than digests are.
#[must_use]
pub fn malformed_digest_of_code(facts: &FactSet) -> Option<&'static str> {
    let observed = Digests::of(facts);
    let sha256 = observed
        .sha256
        .map(|(digest, _)| crypto::hex::encode(&digest));
    let fsverity = observed.fsverity.map(|(digest, _)| digest.to_string());
    let whole = [sha256, fsverity];
    let named = OBSERVED.into_iter().zip(whole);
    let mut wrong = named.filter(|(name, whole)| {
        facts.value(name).is_some() && facts.text(name) != whole.as_deref()
    });
    wrong.next().map(|(name, _)| name)
}

/// Reads an fs-verity digest as the kernel writes it.
#[must_use]
pub fn fsverity_digest(text: &str) -> Option<FsVerityDigest> {
    FsVerityDigest::parse(text).ok()
}

/// The bytes of one that is SHA-256.
#[must_use]
pub const fn sha256_of_fsverity(digest: FsVerityDigest) -> Option<[u8; 32]> {
    match digest {
        FsVerityDigest::Sha256(digest) => Some(digest),
        FsVerityDigest::Sha512(_) => None,
    }
}

/// The digests of code that are SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sha256Digests {
    /// Of the file's content.
    pub sha256: Option<[u8; 32]>,
    /// Of its fs-verity tree.
    pub fsverity: Option<[u8; 32]>,
    /// Whether another digest is stated as well, by another function.
    pub others: bool,
}

/// Reads the digests out of `facts`.
#[must_use]
pub fn sha256_digests_of_code(facts: &FactSet) -> Sha256Digests {
    let observed = Digests::of(facts);
    let fsverity = observed.fsverity.map(|(digest, _)| match digest {
        FsVerityDigest::Sha256(digest) => Ok(digest),
        FsVerityDigest::Sha512(_) => Err(()),
    });
    Sha256Digests {
        sha256: observed.sha256.map(|(digest, _)| digest),
        fsverity: fsverity.and_then(Result::ok),
        others: fsverity.is_some_and(|digest| digest.is_err()),
    }
}

/// What evidence is judged about: a program, or an image by every digest that names it. One estate judges what
/// was said of equal ones alike.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject(Vec<CodeDigest>);

/// What comes of the evidence about a subject: [`Estate::judge_evidence`], or what is remembered of it.
pub type Judged<'a> = dyn Fn(&Subject) -> Arc<Verdict> + 'a;

impl Estate {
    /// Whether this estate knows anything of code but names: without it nothing is derived.
    #[must_use]
    pub fn judges_code(&self) -> bool {
        let references = self.references();
        !references.values.generations().is_empty() || !references.vouching.evidence.is_empty()
    }

    /// What follows from the digests in `facts`: the reference value that the code goes by in the ring of its
    /// machine's pool, who vouched for it, and where it was built. The facts have the source of the digest
    /// that they rest on: it is the word of whoever observed it that this is the code that runs.
    ///
    /// Nothing follows for code that nobody knows. For a version that was withdrawn, whoever signed it, and
    /// for evidence that does not hold, the findings say why.
    #[must_use]
    pub fn code_facts(&self, facts: &FactSet, now: Timestamp) -> (Affirmed, Vec<Finding>) {
        self.code_facts_by(facts, now, &|of| Arc::new(self.judge_evidence(of, now)))
    }

    /// As [`Estate::code_facts`], by what `judged` says of the evidence: verifying signatures is what costs.
    /// It is asked only about what this estate has evidence of.
    #[must_use]
    pub fn code_facts_by(
        &self,
        facts: &FactSet,
        now: Timestamp,
        judged: &Judged<'_>,
    ) -> (Affirmed, Vec<Finding>) {
        let observed = Digests::of(facts);
        let mut derived = FactSet::new();
        let at = At {
            now,
            ring: facts.text(names::MACHINE_POOL).unwrap_or_default(),
        };
        match self.reference(&observed, facts, at) {
            Ok(Some((label, source))) => derived.state(names::CODE_REFERENCE, label, source, now),
            Ok(None) => {}
            Err(finding) => return (Affirmed::default(), vec![finding]),
        }
        let mut findings = Vec::new();
        if let Some((digest, source)) = observed.sha256 {
            let subject = Subject(vec![CodeDigest::Sha256(digest)]);
            if self.is_spoken_of(&subject) {
                let verdict = judged(&subject);
                for fact in verdict.facts.iter() {
                    derived.state(&fact.name, fact.value.clone(), source, now);
                }
                findings.extend(verdict.findings.iter().cloned());
            }
        }
        findings.extend(self.image_facts((&observed, facts), at, judged, &mut derived));
        (Affirmed::by(&WARRANT, derived), findings)
    }

    /// Judges what was said of `subject`. What comes of it depends on this estate, the subject and `now` alone.
    #[must_use]
    pub fn judge_evidence(&self, subject: &Subject, now: Timestamp) -> Verdict {
        let vouching = &self.references().vouching;
        let Subject(digests) = subject;
        let evidence = digests.iter().filter_map(|one| vouching.evidence.get(one));
        let evidence: Vec<CodeEvidence> = evidence.flatten().cloned().collect();
        let running = Running {
            digests: digests.clone(),
        };
        attest_code::judge(&running, &evidence, &vouching.by, now)
    }

    fn is_spoken_of(&self, Subject(digests): &Subject) -> bool {
        let evidence = &self.references().vouching.evidence;
        digests.iter().any(|digest| evidence.contains_key(digest))
    }

    /// The label of a file that is good here and now. One digest that is good is enough, unless the other one
    /// was good and is not.
    fn reference(
        &self,
        observed: &Digests,
        facts: &FactSet,
        at: At<'_>,
    ) -> Result<Option<(String, Source)>, Finding> {
        let values = &self.references().values;
        let path = facts.text(names::WORKLOAD_PATH).unwrap_or_default();
        let path: String = path.chars().take(LONGEST_PATH).collect();
        let (mut good, mut lapsed) = (None, None);
        for (digest, source) in observed.as_references() {
            match values.look_up(&digest, at) {
                Known::Good(found) => good = good.or(Some((found.label(), source))),
                Known::Lapsed(..) => lapsed = values.judge_file(&path, &digest, at).err(),
                Known::Unknown => {}
            }
        }
        match lapsed {
            Some(finding) => Err(finding),
            None => Ok(good),
        }
    }
}

/// The digests of what runs, and who says so of each.
struct Digests {
    sha256: Option<([u8; 32], Source)>,
    fsverity: Option<(FsVerityDigest, Source)>,
}

impl Digests {
    fn of(facts: &FactSet) -> Self {
        let stated = |name| Some((facts.text(name)?, facts.fact(name)?.source));
        let sha256 = stated(names::CODE_SHA256).and_then(|(hex, source)| {
            let bytes = crypto::hex::decode(hex).ok()?.try_into().ok()?;
            Some((bytes, source))
        });
        let fsverity = stated(names::CODE_FSVERITY)
            .and_then(|(text, source)| Some((FsVerityDigest::parse(text).ok()?, source)));
        Self { sha256, fsverity }
    }

    /// SHA-256 of the content, and where that is not known the fs-verity digest.
    fn exact_first(&self) -> impl Iterator<Item = (Digest, Source)> {
        let content = self.sha256.map(|(digest, source)| (Digest(digest), source));
        let other = self.as_references().filter(move |_| content.is_none());
        content.into_iter().chain(other)
    }

    /// fs-verity digests of SHA-512 are in no reference values.
    fn as_references(&self) -> impl Iterator<Item = (Digest, Source)> {
        let fsverity = self.fsverity.and_then(|(digest, source)| match digest {
            FsVerityDigest::Sha256(digest) => Some((digest, source)),
            FsVerityDigest::Sha512(_) => None,
        });
        let both = [fsverity, self.sha256].into_iter().flatten();
        both.map(|(digest, source)| (Digest(digest), source))
    }
}
