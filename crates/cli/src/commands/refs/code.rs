//! What somebody said of a program, put into a file of references with the program's digest.

use super::{read, write_whole};
use crate::arguments::{CodeArguments, Global};
use crate::{Failure, output};
use facts::Finding;
use references::FileDigests;
use serde_json::{Value, json};
use std::path::Path;

/// A larger bundle or envelope is refused by the verifier; a signature is much smaller.
const LARGEST: usize = 4 << 20;

pub(super) fn import(arguments: &CodeArguments, global: &Global) -> Result<(), Failure> {
    let program = read(&arguments.program)?;
    let digests = FileDigests::of(&program);
    let mut evidence = Vec::new();
    for (form, files) in [
        ("sigstore-bundle", &arguments.bundles),
        ("dsse-envelope", &arguments.envelopes),
        ("signature", &arguments.signatures),
    ] {
        for file in files {
            let bytes = read(file)?;
            let content = if form == "signature" {
                signature(file, &bytes)?
            } else {
                document(file, bytes)?
            };
            evidence.push(json!({
                "sha256": digests.sha256,
                "form": form,
                "content": content,
            }));
        }
    }
    let count = evidence.len();
    // INVARIANT: a value of texts and lists always serialises.
    let mut text =
        serde_json::to_string_pretty(&json!({ "evidence": evidence })).unwrap_or_default();
    text.push('\n');
    write_whole(&arguments.output, text.as_bytes())?;
    if global.json {
        output::json(&json!({
            "file": arguments.output,
            "sha256": digests.sha256,
            "fsverity": format!("sha256:{}", digests.fsverity),
            "evidence": count,
        }));
        return Ok(());
    }
    output::line(format_args!(
        "{}: {count} of {} with SHA-256 {}",
        arguments.output.display(),
        arguments.program.display(),
        digests.sha256,
    ));
    output::note("it counts if a [[signer]] of the estate's references said it");
    Ok(())
}

/// Text of JSON, as it is: what is signed in it must not change.
fn document(file: &Path, bytes: Vec<u8>) -> Result<String, Failure> {
    let text = (bytes.len() <= LARGEST)
        .then(|| String::from_utf8(bytes).ok())
        .flatten()
        .filter(|text| serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object()));
    text.ok_or_else(|| {
        unusable(
            file,
            "a JSON object of at most 4 MiB: a Sigstore bundle or a DSSE envelope",
        )
    })
}

/// As base64, in which tools write it as often as not.
fn signature(file: &Path, bytes: &[u8]) -> Result<String, Failure> {
    let text = std::str::from_utf8(bytes).ok().map(str::trim);
    if let Some(text) =
        text.filter(|text| crypto::base64::decode(text).is_ok_and(|one| !one.is_empty()))
    {
        return Ok(text.to_owned());
    }
    if bytes.is_empty() || bytes.len() > 2_048 {
        return Err(unusable(file, "a signature of at most 2,048 bytes"));
    }
    Ok(crypto::base64::encode(bytes))
}

fn unusable(file: &Path, expected: &str) -> Failure {
    Finding::new(
        "REF-EVIDENCE",
        format!("{} is no such evidence", file.display()),
    )
    .expected(expected)
    .next("name it by the option for what it is: --bundle, --envelope or --signature")
    .into()
}
