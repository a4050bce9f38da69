//! What is known of the code that a workload runs: from its digests to facts, by the estate's reference
//! values, its signers and what they said.

use crate::estate::Estate;
use attest_code::{CodeDigest, FsVerityDigest, Running};
use facts::{FactSet, Finding, Source, Timestamp, names};
use references::{At, Digest, Known};

/// The facts of code that are observed. All others of `code.` follow from them.
const OBSERVED: [&str; 2] = [names::CODE_SHA256, names::CODE_FSVERITY];

/// Whether a fact of this name is what the estate makes of the digests, and nobody's to assert.
#[must_use]
pub fn is_derived_of_code(name: &str) -> bool {
    name.starts_with("code.") && !OBSERVED.contains(&name)
}

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
    pub fn code_facts(&self, facts: &FactSet, now: Timestamp) -> (FactSet, Vec<Finding>) {
        let observed = Digests::of(facts);
        let mut derived = FactSet::new();
        let Some(source) = observed.source else {
            return (derived, Vec::new());
        };
        let at = At {
            now,
            ring: facts.text(names::MACHINE_POOL).unwrap_or_default(),
        };
        match self.reference(&observed, facts, at) {
            Ok(Some(label)) => derived.state(names::CODE_REFERENCE, label, source, now),
            Ok(None) => {}
            Err(finding) => return (FactSet::new(), vec![finding]),
        }
        let vouching = &self.references().vouching;
        let evidence = observed
            .sha256
            .and_then(|digest| vouching.evidence.get(&digest));
        let Some(evidence) = evidence else {
            return (derived, Vec::new());
        };
        let running = Running {
            digests: observed.all(),
        };
        let verdict = attest_code::judge(&running, evidence, &vouching.by, now);
        for fact in verdict.facts.iter() {
            derived.state(&fact.name, fact.value.clone(), source, now);
        }
        (derived, verdict.findings)
    }

    /// The label of a file that is good here and now. One digest that is good is enough; one that was good
    /// and is not speaks against the code.
    fn reference(
        &self,
        observed: &Digests,
        facts: &FactSet,
        at: At<'_>,
    ) -> Result<Option<String>, Finding> {
        let values = &self.references().values;
        let path = facts.text(names::WORKLOAD_PATH).unwrap_or_default();
        let mut lapsed = None;
        for digest in observed.as_references() {
            match values.look_up(&digest, at) {
                Known::Good(found) => return Ok(Some(found.label())),
                Known::Lapsed(..) => lapsed = values.judge_file(path, &digest, at).err(),
                Known::Unknown => {}
            }
        }
        lapsed.map_or(Ok(None), Err)
    }
}

/// The digests of what runs.
struct Digests {
    sha256: Option<[u8; 32]>,
    fsverity: Option<FsVerityDigest>,
    /// Of the digest that counts; `None` if there is none.
    source: Option<Source>,
}

impl Digests {
    fn of(facts: &FactSet) -> Self {
        let sha256 = facts.text(names::CODE_SHA256);
        let sha256 = sha256.and_then(|hex| crypto::hex::decode(hex).ok()?.try_into().ok());
        let fsverity = facts.text(names::CODE_FSVERITY);
        let fsverity = fsverity.and_then(|text| FsVerityDigest::parse(text).ok());
        let stated = OBSERVED.iter().filter_map(|name| facts.fact(name));
        // Both are of one file: the word of the weaker observer is what ties them.
        let source = if sha256.is_none() && fsverity.is_none() {
            None
        } else {
            stated.map(|fact| fact.source).min()
        };
        Self {
            sha256,
            fsverity,
            source,
        }
    }

    fn all(&self) -> Vec<CodeDigest> {
        let sha256 = self.sha256.map(CodeDigest::Sha256);
        let fsverity = self.fsverity.map(CodeDigest::FsVerity);
        sha256.into_iter().chain(fsverity).collect()
    }

    /// fs-verity digests of SHA-512 are in no reference values.
    fn as_references(&self) -> impl Iterator<Item = Digest> {
        let fsverity = self.fsverity.and_then(|digest| match digest {
            FsVerityDigest::Sha256(digest) => Some(digest),
            FsVerityDigest::Sha512(_) => None,
        });
        [fsverity, self.sha256].into_iter().flatten().map(Digest)
    }
}
