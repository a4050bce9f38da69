//! What is known of the container images that hold a program: what all of them that are good here and now say
//! alike.
//!
//! That a program's bytes are in an image does not say that it was started from there. So nothing is stated that
//! holds of one of them alone: whichever it was, the facts are true of it.

use super::{Digests, Judged, Subject};
use crate::estate::Estate;
use attest_code::CodeDigest;
use facts::{FactSet, Finding, Source, Value, names};
use references::{At, Digest};
use std::collections::BTreeSet;

/// Images that are asked about for one program.
const MOST_IMAGES: usize = 16;

/// What a verdict about an image says, and what it is called beside what is known of the program itself.
const OF_IMAGE: [(&str, &str); 11] = [
    (names::CODE_IMAGE_NAME, names::CODE_IMAGE_NAME),
    (names::CODE_APPROVED_BY, names::CODE_IMAGE_APPROVED_BY),
    (
        names::CODE_SIGNER_IDENTITY,
        names::CODE_IMAGE_SIGNER_IDENTITY,
    ),
    (names::CODE_SIGNER_ISSUER, names::CODE_IMAGE_SIGNER_ISSUER),
    (names::CODE_SIGNER_KEY, names::CODE_IMAGE_SIGNER_KEY),
    (names::CODE_SOURCE, names::CODE_IMAGE_SOURCE),
    (names::CODE_REF, names::CODE_IMAGE_REF),
    (names::CODE_COMMIT, names::CODE_IMAGE_COMMIT),
    (names::CODE_WORKFLOW, names::CODE_IMAGE_WORKFLOW),
    (names::CODE_BUILDER, names::CODE_IMAGE_BUILDER),
    (names::CODE_BUILD_TYPE, names::CODE_IMAGE_BUILD_TYPE),
];

impl Estate {
    /// States what is known of the images that hold the program, and why nothing is.
    pub(super) fn image_facts(
        &self,
        (observed, facts): (&Digests, &FactSet),
        at: At<'_>,
        judged: &Judged<'_>,
        derived: &mut FactSet,
    ) -> Vec<Finding> {
        let values = &self.references().values;
        let held = observed.exact_first().find_map(|(digest, source)| {
            let images = values.images(&digest, at);
            (!images.is_empty()).then_some((images, source))
        });
        let Some((images, source)) = held else {
            return Vec::new();
        };
        if facts.value(names::WORKLOAD_INTERPRETER) == Some(&Value::Bool(true)) {
            return vec![interpreter()];
        }
        let mut findings = Vec::new();
        if images.len() > 1 {
            findings.push(several(images.keys()));
        }
        if images.len() > MOST_IMAGES {
            return findings;
        }
        let mut common: Option<FactSet> = None;
        for (manifest, names) in &images {
            let said = self.of_image(manifest, names, (source, at), judged, &mut findings);
            common = Some(match common {
                None => said,
                Some(common) => {
                    let alike = common.iter();
                    let alike = alike.filter(|fact| said.value(&fact.name) == Some(&fact.value));
                    alike.cloned().collect()
                }
            });
        }
        for fact in common.iter().flat_map(FactSet::iter) {
            derived.insert(fact.clone());
        }
        findings
    }

    fn of_image(
        &self,
        manifest: &Digest,
        names: &BTreeSet<Digest>,
        (source, at): (Source, At<'_>),
        judged: &Judged<'_>,
        findings: &mut Vec<Finding>,
    ) -> FactSet {
        let mut said = FactSet::new();
        let digest = format!("sha256:{manifest}");
        said.state(names::CODE_IMAGE_DIGEST, digest, source, at.now);
        let names = names.iter().map(|name| CodeDigest::Image(name.0));
        let subject = Subject(names.collect());
        if self.is_spoken_of(&subject) {
            let verdict = judged(&subject);
            for (of_code, of_image) in OF_IMAGE {
                if let Some(fact) = verdict.facts.fact(of_code) {
                    said.state(of_image, fact.value.clone(), source, at.now);
                }
            }
            findings.extend(verdict.findings.iter().cloned());
        }
        said
    }
}

fn interpreter() -> Finding {
    Finding::new(
        "CODE-IMAGE-INTERPRETER",
        "the program interprets other code, of which its image says nothing",
    )
    .expected("a program that is itself what the image is for")
    .next("run a program that is compiled, or let a policy ask for something else")
}

fn several<'a>(images: impl Iterator<Item = &'a Digest>) -> Finding {
    let named: Vec<String> = images
        .take(4)
        .map(|digest| format!("sha256:{digest}"))
        .collect();
    Finding::new(
        "CODE-IMAGE-SEVERAL",
        "several images that are good here hold this program, and only what they say alike is known",
    )
    .expected("one image")
    .observed(named.join(", "))
    .next("end the generation of the image that is not to run here, or ask for what they have in common")
}
