//! `refs ipe`: the policy that kernels enforce, made from an estate's references and signed.

use super::{file_name, read, write_whole};
use crate::arguments::{Global, IpeArguments};
use crate::commands::estate as folder;
use crate::{Failure, output};
use crypto::{KeyPair, Zeroizing};
use estate::{Emitted, EnforcementPlan};
use facts::{Finding, Timestamp};
use serde_json::json;
use std::path::Path;

pub(super) fn emit(arguments: &IpeArguments, global: &Global) -> Result<(), Failure> {
    let files = folder::read(&arguments.estate)?;
    let estate = folder::compile(&files)?;
    // A policy that no machine is sent looks like one that is enforced.
    if let Some(finding) = super::rings::unknown(&files, std::slice::from_ref(&arguments.ring)) {
        return Err(finding.into());
    }
    let certificate = read(&arguments.certificate)?;
    let key = key(&arguments.key)?;
    let now = arguments.at.as_deref().map(super::time).transpose()?;
    let plan = EnforcementPlan {
        ring: &arguments.ring,
        name: &arguments.name,
        boot_verified: arguments.boot_verified,
        enforce: arguments.enforce,
        now: now.unwrap_or_else(Timestamp::now),
    };
    let emitted = estate.emit_enforcement(plan, &certificate, &key)?;
    write_whole(&arguments.output, emitted.document.as_bytes())?;
    if let Some(path) = &arguments.p7b {
        write_whole(path, emitted.policy.der())?;
    }
    if let Some(path) = &arguments.manifest {
        write_whole(path, emitted.manifest.to_json().as_bytes())?;
    }
    report(arguments, &emitted, global);
    Ok(())
}

fn report(arguments: &IpeArguments, emitted: &Emitted, global: &Global) {
    let policy = &emitted.policy;
    let execution = policy.execution();
    let programs = execution.map_or(0, |execution| execution.digests.len());
    let sha256 = crypto::hex::encode(&policy.sha256());
    if global.json {
        output::json(&json!({
            "file": arguments.output,
            "ring": arguments.ring,
            "policy": policy.name(),
            "version": policy.version().to_string(),
            "sha256": sha256,
            "programs": programs,
            "enforce": arguments.enforce,
            "unchanged": emitted.unchanged,
        }));
        return;
    }
    output::line(format_args!(
        "{} {} for {}: {programs} programs, {}; SHA-256 {sha256}",
        policy.name(),
        policy.version(),
        arguments.ring,
        if arguments.enforce {
            "enforced"
        } else {
            "observed"
        },
    ));
    if emitted.unchanged {
        output::note("the estate has this policy already");
    }
    output::note(format_args!(
        "it counts when the estate is applied with {}, and machines install it if their agent.toml says so",
        file_name(&arguments.output),
    ));
}

/// PKCS #8 in PEM.
fn key(path: &Path) -> Result<KeyPair, Failure> {
    let bytes = Zeroizing::new(read(path)?);
    let body = std::str::from_utf8(&bytes).ok().and_then(|text| {
        let (_, rest) = text.split_once("-----BEGIN PRIVATE KEY-----")?;
        let (body, _) = rest.split_once("-----END PRIVATE KEY-----")?;
        let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
        crypto::base64::decode(&body).ok().map(Zeroizing::new)
    });
    body.and_then(|der| KeyPair::from_pkcs8(&der).ok())
        .ok_or_else(|| {
            Finding::new(
                "IPE-KEY-FILE",
                format!("{} is no private key that signs policies", path.display()),
            )
            .expected("PKCS #8 in PEM (`BEGIN PRIVATE KEY`): RSA, P-256 or P-384")
            .next("openssl pkcs8 -topk8 -nocrypt -in KEY -out FILE")
            .into()
        })
}
