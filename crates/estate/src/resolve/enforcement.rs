//! `references/`: what the kernels of machines are to let run.

use super::{Seen, Source};
use crate::declare::{EnforcedFileEntry, EnforcementEntry, ReferencesFile};
use crate::model::{Enforcement, References};
use attest_code::{Execution, FsVerityDigest, SignedPolicy};
use toml::Spanned;

/// The kernel holds the policy in one piece of memory; policy and files go to machines in one message.
const LARGEST_POLICY: usize = 1 << 20;
const MOST_FILES: usize = 16_384;
const LONGEST_FILES: usize = 2 << 20;
const LONGEST_PATH: usize = 4_096;

pub(super) fn resolve(
    source: &mut Source<'_>,
    declared: &ReferencesFile,
    seen: &mut Seen,
    references: &mut References,
) {
    for entry in &declared.enforcement {
        let mut rings = std::collections::BTreeSet::new();
        for ring in &entry.rings {
            let key = format!("enforcement of ring {}", ring.get_ref());
            if seen.first(source, "enforcement of ring", key, ring) {
                rings.insert(ring.get_ref().clone());
            }
        }
        if entry.rings.is_empty() {
            source.problem("ESTATE-ENFORCEMENT", &entry.policy, "it names no ring");
        }
        let Some((policy, execution)) = policy(source, entry) else {
            continue;
        };
        let files = files(source, &entry.policy, &entry.files);
        references.enforcement.push(Enforcement {
            rings,
            enforce: entry.enforce,
            policy,
            execution,
            files,
        });
    }
}

/// Who signed it is the kernel's question; here only what it says is read.
fn policy(source: &mut Source<'_>, entry: &EnforcementEntry) -> Option<(SignedPolicy, Execution)> {
    let text: String = entry.policy.get_ref().split_whitespace().collect();
    let problem = match crypto::base64::decode(&text) {
        Err(error) => error.to_string(),
        Ok(der) if der.len() > LARGEST_POLICY => format!("{} bytes; at most 1 MiB", der.len()),
        Ok(der) => match SignedPolicy::read(&der) {
            Err(finding) => finding.to_string(),
            Ok(policy) => match policy.execution() {
                Some(execution) => return Some((policy, execution)),
                None => "it does not deny execution by default, or allows it by other rules than \
                         `fsverity_digest=` and `boot_verified=TRUE`"
                    .to_owned(),
            },
        },
    };
    source.problem("ESTATE-ENFORCEMENT", &entry.policy, problem);
    None
}

fn files(
    source: &mut Source<'_>,
    at: &Spanned<String>,
    entries: &[EnforcedFileEntry],
) -> Vec<(String, FsVerityDigest)> {
    let length: usize = entries.iter().map(|one| one.path.get_ref().len()).sum();
    if entries.len() > MOST_FILES || length > LONGEST_FILES {
        let message =
            format!("too many files: at most {MOST_FILES}, whose paths have {LONGEST_FILES} bytes");
        source.problem("ESTATE-ENFORCEMENT", at, message);
        return Vec::new();
    }
    let mut files = Vec::with_capacity(entries.len());
    for entry in entries {
        let path = entry.path.get_ref();
        let plain = path.starts_with('/')
            && path.len() <= LONGEST_PATH
            && !path.contains('\0')
            && !path.split('/').any(|part| part == "..");
        if !plain {
            let message = format!("{path:?} is no absolute path without `..`");
            source.problem("ESTATE-ENFORCEMENT", &entry.path, message);
            continue;
        }
        match FsVerityDigest::parse(entry.fsverity.get_ref()) {
            Ok(digest) => files.push((path.clone(), digest)),
            Err(finding) => {
                source.problem("ESTATE-DIGEST", &entry.fsverity, finding.to_string());
            }
        }
    }
    files
}
