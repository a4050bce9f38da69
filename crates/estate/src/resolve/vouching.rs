//! `references/`: who may vouch for code, and what they said of it.

use super::{Seen, Source};
use crate::declare::{
    EvidenceEntry, EvidenceForm, ProvenanceEntry, ReferencesFile, SignerEntry, TrustedRootEntry,
};
use crate::model::Vouching;
use crate::problem::{Lines, Problem};
use attest_code::image::BlobDigest;
use attest_code::{
    CodeDigest, CodeEvidence, CodeReferences, Form, Identity, ProvenanceRule, Signer, TrustedRoot,
};
use facts::Finding;
use std::collections::BTreeMap;
use toml::Spanned;

/// Pieces of evidence in one estate, and of one piece of code.
const MOST: usize = 4_096;
const MOST_OF_ONE: usize = 16;

/// What stands in the files: name, text, content.
type Parsed<'a> = (&'a str, &'a str, ReferencesFile);

pub(super) fn resolve(
    parsed: &[Parsed<'_>],
    seen: &mut Seen,
    problems: &mut Vec<Problem>,
) -> Vouching {
    let mut roots = BTreeMap::new();
    let (mut signers, mut rules) = (Vec::new(), Vec::new());
    let mut evidence: BTreeMap<CodeDigest, Vec<CodeEvidence>> = BTreeMap::new();
    let mut count = 0;
    for (file, text, declared) in parsed {
        let mut source = Source {
            file,
            lines: Lines::of(text),
            problems,
        };
        for entry in &declared.trusted_roots {
            if let Some(root) = named(&mut source, seen, "trusted root", &entry.name, || {
                root(entry)
            }) {
                roots.insert(entry.name.get_ref().clone(), root);
            }
        }
        for entry in &declared.signers {
            signers.extend(named(&mut source, seen, "signer", &entry.name, || {
                signer(entry)
            }));
        }
        for entry in &declared.provenance {
            rules.extend(named(&mut source, seen, "provenance", &entry.name, || {
                rule(entry)
            }));
        }
        for entry in &declared.evidence {
            count += 1;
            if let Some(one) = said(&mut source, entry) {
                let of_one = evidence.entry(one.about).or_default();
                of_one.push(one);
                if of_one.len() > MOST_OF_ONE || count > MOST {
                    let message = format!(
                        "too much evidence: at most {MOST_OF_ONE} of one piece of code, {MOST} in all"
                    );
                    let at = entry.sha256.as_ref().or(entry.image.as_ref());
                    source.problem("ESTATE-EVIDENCE", at.unwrap_or(&entry.content), message);
                }
            }
        }
    }
    let by = CodeReferences::new(roots, Vec::new(), signers, rules).unwrap_or_else(|finding| {
        problems.push(Problem::new(
            "ESTATE-VOUCHING",
            "references",
            0,
            finding.to_string(),
        ));
        CodeReferences::default()
    });
    Vouching { by, evidence }
}

/// What `make` makes of an entry, if its name is free and it is one.
fn named<T>(
    source: &mut Source<'_>,
    seen: &mut Seen,
    what: &str,
    name: &Spanned<String>,
    make: impl FnOnce() -> Result<T, Finding>,
) -> Option<T> {
    source.check_text(what, name);
    if !seen.first(source, what, format!("{what} {}", name.get_ref()), name) {
        return None;
    }
    make()
        .map_err(|finding| source.problem("ESTATE-VOUCHING", name, finding.to_string()))
        .ok()
}

fn root(entry: &TrustedRootEntry) -> Result<TrustedRoot, Finding> {
    TrustedRoot::parse(entry.json.get_ref().as_bytes())
}

fn signer(entry: &SignerEntry) -> Result<Signer, Finding> {
    let label = entry.name.get_ref();
    let signer = match (&entry.key, &entry.root, &entry.identity, &entry.issuer) {
        (None, Some(root), Some(identity), Some(issuer)) => {
            Signer::keyless(label, root, Identity::parse(identity)?, issuer)?
        }
        (Some(key), root, None, None) => {
            let signer = Signer::key_from_pem(label, key)?;
            match root {
                Some(root) => signer.logged_by(root),
                None => signer,
            }
        }
        _ => {
            return Err(
                Finding::new("CODE-REFERENCE-SIGNER", "a signer is not named")
                    .expected(
                        "root, identity and issuer; or key, and root if its log has to hold it",
                    )
                    .observed("another choice of them"),
            );
        }
    };
    let approves = entry.approves.iter();
    Ok(approves.fold(signer, |signer, kind| signer.approves_by(kind)))
}

fn rule(entry: &ProvenanceEntry) -> Result<ProvenanceRule, Finding> {
    let signers: Vec<&str> = entry.signers.iter().map(String::as_str).collect();
    let label = entry.name.get_ref();
    let mut rule = ProvenanceRule::new(label, &signers, &entry.builder, &entry.source)?;
    if let Some(reference) = &entry.reference {
        rule = rule.of_reference(reference)?;
    }
    if let Some(workflow) = &entry.workflow {
        rule = rule.by_workflow(workflow);
    }
    if let Some(build_type) = &entry.build_type {
        rule = rule.by_build_type(build_type);
    }
    Ok(rule)
}

/// What is said is judged when the code runs, by who said it; here only its form is.
fn said(source: &mut Source<'_>, entry: &EvidenceEntry) -> Option<CodeEvidence> {
    let about = about(source, entry)?;
    let text = entry.content.get_ref();
    let form = match (entry.form, &entry.signature, &about) {
        (EvidenceForm::SigstoreBundle, None, _) => Form::Bundle(text.clone().into_bytes()),
        (EvidenceForm::DsseEnvelope, None, _) => Form::Envelope(text.clone().into_bytes()),
        (EvidenceForm::Signature, None, CodeDigest::Sha256(_)) => {
            Form::Signature(signature(source, &entry.content)?)
        }
        (EvidenceForm::SimpleSigning, Some(base64), CodeDigest::Image(_)) => Form::SimpleSigning {
            payload: text.clone().into_bytes(),
            signature: signature(source, base64)?,
        },
        _ => {
            let message = "evidence of another form: `signature` is of a program, `simple-signing` of an \
                           image with the signature beside the payload";
            source.problem("ESTATE-EVIDENCE", &entry.content, message);
            return None;
        }
    };
    Some(CodeEvidence { about, form })
}

fn about(source: &mut Source<'_>, entry: &EvidenceEntry) -> Option<CodeDigest> {
    match (&entry.sha256, &entry.image) {
        (Some(hex), None) => {
            let bytes = crypto::hex::decode(hex.get_ref()).ok();
            let digest: Option<[u8; 32]> = bytes.and_then(|bytes| bytes.try_into().ok());
            let digest = digest.filter(|digest| crypto::hex::encode(digest) == *hex.get_ref());
            if digest.is_none() {
                let message = format!(
                    "{:?} is no SHA-256: 64 lower-case hexadecimal digits",
                    hex.get_ref()
                );
                source.problem("ESTATE-DIGEST", hex, message);
            }
            digest.map(CodeDigest::Sha256)
        }
        (None, Some(name)) => match BlobDigest::parse(name.get_ref()) {
            Ok(digest) => Some(CodeDigest::Image(*digest.as_bytes())),
            Err(finding) => {
                source.problem("ESTATE-DIGEST", name, finding.to_string());
                None
            }
        },
        _ => {
            let message = "evidence is about a program (`sha256`) or about an image (`image`)";
            source.problem("ESTATE-EVIDENCE", &entry.content, message);
            None
        }
    }
}

fn signature(source: &mut Source<'_>, text: &Spanned<String>) -> Option<Vec<u8>> {
    let decoded = crypto::base64::decode(text.get_ref().trim());
    decoded
        .map_err(|error| source.problem("ESTATE-EVIDENCE", text, error.to_string()))
        .ok()
}
