//! The keys of authors. They stay in the folder that the author names, which is the author's alone.

use crate::arguments::{AuthorCommand, AuthorKeyCommand, Global};
use crate::{Failure, output};
use crypto::{Algorithm, Custody as _, Signer};
use custody::FileCustody;
use facts::Finding;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// One folder holds the key of one author.
const KEY: &str = "author";

pub(crate) fn run(command: AuthorCommand, global: &Global) -> Result<(), Failure> {
    let AuthorCommand::Key(AuthorKeyCommand::Create { name, keys }) = command;
    let key = open(&keys)?
        .load_or_generate(KEY, Algorithm::Ed25519)
        .map_err(|error| unusable(&keys, &error))?;
    let spki = crypto::base64::encode(key.public_key().spki_der());
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{spki}\n-----END PUBLIC KEY-----\n");
    if global.json {
        output::json(&json!({ "name": name, "key": pem }));
        return Ok(());
    }
    output::line(format_args!(
        "[[author]]\nname = {name:?}\nkey = \"\"\"\n{pem}\"\"\""
    ));
    output::note(
        "Put this into estate.toml. Once there are two authors, both sign what changes who they are.",
    );
    Ok(())
}

/// The author's key.
pub(crate) fn key(keys: &Path) -> Result<Arc<dyn Signer>, Failure> {
    let key = open(keys)?
        .load(KEY)
        .map_err(|error| unusable(keys, &error))?;
    key.ok_or_else(|| {
        Finding::new(
            "AUTHOR-KEY",
            format!("there is no author's key in {}", keys.display()),
        )
        .next("trilith author key create NAME --keys DIR")
        .into()
    })
}

fn open(keys: &Path) -> Result<FileCustody, Failure> {
    FileCustody::open(keys).map_err(|error| unusable(keys, &error))
}

fn unusable(keys: &Path, error: &dyn std::error::Error) -> Failure {
    Finding::new(
        "AUTHOR-KEY",
        format!("the keys in {} cannot be used", keys.display()),
    )
    .observed(facts::with_causes(error))
    .next("name a folder of mode 0700 that is yours")
    .into()
}
