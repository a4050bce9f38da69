//! `references/`: who may vouch for code, and what they said of it.

use super::{Seen, Source};
use crate::declare::{
    EvidenceEntry, EvidenceForm, ProvenanceEntry, ReferencesFile, SignerEntry, TrustedRootEntry,
};
use crate::model::Vouching;
use crate::problem::{Lines, Problem};
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
    let mut evidence: BTreeMap<[u8; 32], Vec<CodeEvidence>> = BTreeMap::new();
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
            if let Some((digest, one)) = said(&mut source, entry) {
                let of_one = evidence.entry(digest).or_default();
                of_one.push(one);
                if of_one.len() > MOST_OF_ONE || count > MOST {
                    let message = format!(
                        "too much evidence: at most {MOST_OF_ONE} of one piece of code, {MOST} in all"
                    );
                    source.problem("ESTATE-EVIDENCE", &entry.sha256, message);
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
fn said(source: &mut Source<'_>, entry: &EvidenceEntry) -> Option<([u8; 32], CodeEvidence)> {
    let hex = entry.sha256.get_ref();
    let digest = crypto::hex::decode(hex).ok();
    let digest: Option<[u8; 32]> = digest.and_then(|bytes| bytes.try_into().ok());
    let digest = digest.filter(|digest| crypto::hex::encode(digest) == *hex);
    let Some(digest) = digest else {
        let message = format!("{hex:?} is no SHA-256: 64 lower-case hexadecimal digits");
        source.problem("ESTATE-DIGEST", &entry.sha256, message);
        return None;
    };
    let text = entry.content.get_ref();
    let form = match entry.form {
        EvidenceForm::SigstoreBundle => Form::Bundle(text.clone().into_bytes()),
        EvidenceForm::DsseEnvelope => Form::Envelope(text.clone().into_bytes()),
        EvidenceForm::Signature => match crypto::base64::decode(text.trim()) {
            Ok(signature) => Form::Signature(signature),
            Err(error) => {
                source.problem("ESTATE-EVIDENCE", &entry.content, error.to_string());
                return None;
            }
        },
    };
    let about = CodeDigest::Sha256(digest);
    Some((digest, CodeEvidence { about, form }))
}
