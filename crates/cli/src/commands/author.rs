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
/// Whose it is, beside it.
const NAME: &str = "author.name";

pub(crate) fn run(command: AuthorCommand, global: &Global) -> Result<(), Failure> {
    let AuthorCommand::Key(AuthorKeyCommand::Create { name, keys }) = command;
    let custody = open(&keys)?;
    let there = custody
        .load(KEY)
        .map_err(|error| unusable(&keys, &error))?
        .is_some();
    of_another(&name, there, &keys)?;
    let key = custody
        .load_or_generate(KEY, Algorithm::Ed25519)
        .map_err(|error| unusable(&keys, &error))?;
    if !there {
        let file = keys.join(NAME);
        std::fs::write(&file, &name).map_err(|error| unusable(&keys, &error))?;
    }
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

/// INVARIANT: the key of one author is not printed as another's: the two would be one who signs twice.
fn of_another(name: &str, there: bool, keys: &Path) -> Result<(), Failure> {
    if !there {
        return Ok(());
    }
    match std::fs::read_to_string(keys.join(NAME)) {
        Ok(owner) if owner == name => Ok(()),
        Ok(owner) => Err(Finding::new(
            "AUTHOR-KEY-THERE",
            format!("the key in {} is another author's", keys.display()),
        )
        .expected(name.to_owned())
        .observed(owner)
        .next("each author has a folder of their own: name another with --keys")
        .into()),
        // Made before names were kept.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            output::note(format_args!(
                "{} had a key already, and this is it: whoever else signs has a folder of their own",
                keys.display()
            ));
            Ok(())
        }
        Err(error) => Err(unusable(keys, &error)),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    #[test]
    fn the_key_of_one_author_is_not_made_anothers() {
        let keys = tempfile::tempdir().unwrap();
        let global = crate::arguments::Arguments::try_parse_from(["trilith", "--json", "status"])
            .unwrap()
            .global;
        let create = |name: &str| {
            let key = AuthorKeyCommand::Create {
                name: name.to_owned(),
                keys: keys.path().join("keys"),
            };
            run(AuthorCommand::Key(key), &global)
        };
        create("ada").unwrap();
        // Printed again.
        create("ada").unwrap();
        let refused = create("bob").unwrap_err();
        let finding = &refused.findings()[0];
        assert_eq!(finding.code, "AUTHOR-KEY-THERE");
        assert_eq!(finding.observed.as_deref(), Some("ada"));
    }
}
