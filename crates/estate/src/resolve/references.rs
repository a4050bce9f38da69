//! `references/`: machines, pools, hardware roots, code digests, generations of reference values.
//! Certificates are not parsed here: what a root is worth is for the verifier that uses it.

use super::{Seen, Source, declarations, enforcement, parse, tee, vouching};
use crate::declare::{Certifies, ReferencesFile};
use crate::files::EstateFiles;
use crate::model::{CodeNames, CodeReference, Machine, References, TpmRoot};
use crate::problem::{Lines, Problem};
use std::collections::{BTreeMap, BTreeSet};
use toml::Spanned;

pub(super) fn resolve(files: &EstateFiles, problems: &mut Vec<Problem>) -> References {
    let mut parsed: Vec<(&str, &str, ReferencesFile)> = Vec::new();
    for (file, text) in declarations(files, "references") {
        if let Some(declared) = parse(file, text, problems) {
            parsed.push((file, text, declared));
        }
    }
    let mut references = References::default();
    let mut seen = Seen::default();
    for (file, text, declared) in &parsed {
        let mut source = Source {
            file,
            lines: Lines::of(text),
            problems,
        };
        for pool in &declared.pools {
            source.check_word("pool", &pool.name);
            let name = pool.name.get_ref();
            if seen.first(&mut source, "pool", format!("pool {name}"), &pool.name) {
                references.pools.insert(name.clone());
            }
        }
    }
    let mut pinned = BTreeMap::new();
    for (file, text, declared) in &parsed {
        let mut source = Source {
            file,
            lines: Lines::of(text),
            problems,
        };
        machines(
            &mut source,
            declared,
            &mut seen,
            &mut pinned,
            &mut references,
        );
        tpm_roots(&mut source, declared, &mut seen, &mut references);
        tee::roots(&mut source, declared, &mut seen, &mut references);
        code(&mut source, declared, &mut seen, &mut references);
        values(&mut source, declared, &mut references);
        enforcement::resolve(&mut source, declared, &mut seen, &mut references);
    }
    references.code_names = CodeNames::of(references.code.values());
    for (file, text, declared) in &parsed {
        let mut source = Source {
            file,
            lines: Lines::of(text),
            problems,
        };
        tee::resolve(&mut source, declared, &mut seen, &mut references);
    }
    references.vouching = vouching::resolve(&parsed, &mut seen, problems);
    references
}

/// Generations have names that are theirs in all files; what is wrong with one is said of its file.
fn values(source: &mut Source<'_>, declared: &ReferencesFile, references: &mut References) {
    let file = references::ReferenceFile {
        generations: declared.generations.clone(),
        boots: declared.boots.clone(),
        withdrawn: declared.withdrawn.clone(),
    };
    if let Err(findings) = references.values.merge(file) {
        source.problems.extend(
            findings.iter().map(|finding| {
                Problem::new("ESTATE-REFERENCES", source.file, 0, finding.to_string())
            }),
        );
    }
}

fn machines(
    source: &mut Source<'_>,
    declared: &ReferencesFile,
    seen: &mut Seen,
    pinned: &mut BTreeMap<String, String>,
    references: &mut References,
) {
    for entry in &declared.machines {
        let name = entry.name.get_ref();
        source.check_word("machine", &entry.name);
        if !seen.first(source, "machine", format!("machine {name}"), &entry.name) {
            continue;
        }
        if let Some(pool) = entry
            .pool
            .as_ref()
            .filter(|pool| !references.pools.contains(pool.get_ref()))
        {
            let message = format!("no pool `{}` is declared", pool.get_ref());
            source.unknown(
                "ESTATE-POOL",
                pool,
                message,
                references.pools.iter().map(String::as_str),
            );
        }
        for digest in entry.ek_sha256.iter().chain(&entry.ak_sha256) {
            if let Some(other) = pinned.insert(digest.get_ref().clone(), name.clone()) {
                let message = format!("this key is already pinned to machine `{other}`");
                source.problem("ESTATE-DUPLICATE", digest, message);
            }
        }
        let machine = Machine {
            name: name.clone(),
            pool: entry.pool.as_ref().map(|pool| pool.get_ref().clone()),
            ek_sha256: digests(source, &entry.ek_sha256),
            ak_sha256: digests(source, &entry.ak_sha256),
        };
        references.machines.insert(name.clone(), machine);
    }
}

fn tpm_roots(
    source: &mut Source<'_>,
    declared: &ReferencesFile,
    seen: &mut Seen,
    references: &mut References,
) {
    for entry in &declared.tpm_roots {
        let name = entry.name.get_ref();
        source.check_word("TPM root", &entry.name);
        if !seen.first(source, "TPM root", format!("root {name}"), &entry.name) {
            continue;
        }
        if !entry.pem.get_ref().contains("-----BEGIN CERTIFICATE-----") {
            source.problem(
                "ESTATE-TPM-ROOT",
                &entry.pem,
                "expected a certificate in PEM",
            );
        }
        let speaks = entry.certifies == Certifies::AttestationKeys && !entry.emulated;
        if let Some(cloud) = entry.cloud.as_ref().filter(|_| !speaks) {
            let message =
                "a root that speaks for a cloud certifies attestation keys, and is not emulated";
            source.problem("ESTATE-TPM-ROOT", cloud, message);
        }
        let root = TpmRoot {
            name: name.clone(),
            pem: entry.pem.get_ref().clone(),
            emulated: entry.emulated,
            certifies: entry.certifies,
            cloud: entry.cloud.as_ref().map(|cloud| *cloud.get_ref()),
        };
        references.tpm_roots.insert(name.clone(), root);
    }
}

fn code(
    source: &mut Source<'_>,
    declared: &ReferencesFile,
    seen: &mut Seen,
    references: &mut References,
) {
    for entry in &declared.code {
        let name = entry.name.get_ref();
        source.check_word("code", &entry.name);
        if !seen.first(source, "code", format!("code {name}"), &entry.name) {
            continue;
        }
        let reference = CodeReference {
            name: name.clone(),
            sha256: digests(source, &entry.sha256),
            fsverity: measured(source, &entry.fsverity),
        };
        references.code.insert(name.clone(), reference);
    }
}

fn measured(source: &mut Source<'_>, list: &[Spanned<String>]) -> BTreeSet<String> {
    for digest in list {
        if let Err(finding) = attest_code::FsVerityDigest::parse(digest.get_ref()) {
            source.problem("ESTATE-DIGEST", digest, finding.to_string());
        }
    }
    list.iter().map(|digest| digest.get_ref().clone()).collect()
}

fn digests(source: &mut Source<'_>, list: &[Spanned<String>]) -> BTreeSet<String> {
    for digest in list {
        let value = digest.get_ref();
        let is_hex = value
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if value.len() != 64 || !is_hex {
            let message = format!("{value:?} is no SHA-256: 64 lower-case hexadecimal digits");
            source.problem("ESTATE-DIGEST", digest, message);
        }
    }
    list.iter().map(|digest| digest.get_ref().clone()).collect()
}
