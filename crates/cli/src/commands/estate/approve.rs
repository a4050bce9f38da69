//! Signing, as an author, what a change takes from invariants.

use super::{Change, read as read_folder, request};
use crate::admin::Place;
use crate::arguments::{Global, PartArguments, SigningArguments};
use crate::commands::{author, plan};
use crate::{Failure, admin, files, output};
use anyhow::Context as _;
use estate::{Approval, ApprovalSubject, EstateFiles};
use facts::{Finding, Timestamp};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

/// As much as the server takes.
const MAX_APPROVAL: u64 = 1 << 20;
const HOUR_MS: u64 = 3_600_000;
/// What an apply signs is used at once; long enough for a proof.
const OWN_HOURS: u64 = 1;

/// An author and the key of theirs.
pub(super) struct Signer {
    author: String,
    key: Arc<dyn crypto::Signer>,
}

impl Signer {
    pub(super) fn open(author: String, keys: &Path) -> Result<Self, Failure> {
        let key = author::key(keys)?;
        Ok(Self { author, key })
    }

    fn sign(&self, subject: ApprovalSubject, hours: u64) -> Result<Vec<u8>, Failure> {
        let expires = Timestamp::now().as_millis() + hours * HOUR_MS;
        let approval = Approval::sign(subject, &self.author, expires, self.key.as_ref())?;
        Ok(serde_json::to_vec_pretty(&approval).context("cannot write an approval")?)
    }
}

pub(super) fn signer(arguments: SigningArguments) -> Result<Option<Signer>, Failure> {
    match (arguments.author, arguments.keys) {
        (Some(author), Some(keys)) => Ok(Some(Signer::open(author, &keys)?)),
        _ => Ok(None),
    }
}

/// Files that `approve` wrote.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<Vec<u8>>, Failure> {
    let one = |path: &PathBuf| {
        files::read(path, MAX_APPROVAL)?.ok_or_else(|| {
            let message = format!("{} is larger than any approval", path.display());
            Finding::new("ESTATE-APPROVAL-FORM", message).into()
        })
    };
    paths.iter().map(one).collect()
}

/// What there is to sign of these files, if anything is lost by them.
async fn asked(
    estate: &EstateFiles,
    place: Place<'_>,
) -> Result<(Value, Option<ApprovalSubject>), Failure> {
    let mut admin = admin::connect(place).await?;
    let asked = request(estate, Change::default());
    let document = plan::asked(&mut admin, asked, &PartArguments::default()).await?;
    let subject = document.get("subject").filter(|one| !one.is_null());
    let subject: Option<ApprovalSubject> = subject
        .map(|subject| serde_json::from_value(subject.clone()))
        .transpose()
        .context("the server names something else than what is signed")?;
    // Nobody signs another version than the one in the folder.
    if let Some(subject) = &subject
        && subject.version != estate.version()
    {
        return Err(Finding::new(
            "ESTATE-APPROVAL-OTHER",
            "the server asks for a signature under another version",
        )
        .expected(estate.version())
        .observed(subject.version.clone())
        .into());
    }
    Ok((document, subject))
}

/// The applying author's own signature; none if there is nothing to sign.
pub(super) async fn own(
    estate: &EstateFiles,
    signer: &Signer,
    place: Place<'_>,
) -> Result<Option<Vec<u8>>, Failure> {
    let (_, subject) = asked(estate, place).await?;
    subject
        .map(|subject| signer.sign(subject, OWN_HOURS))
        .transpose()
}

pub(super) async fn approve(
    directory: &Path,
    signer: &Signer,
    (hours, out): (u64, &Path),
    global: &Global,
) -> Result<ExitCode, Failure> {
    let estate = read_folder(directory)?;
    let (document, subject) = asked(&estate, global.into()).await?;
    let Some(subject) = subject else {
        return Err(Finding::new(
            "ESTATE-APPROVAL-NOTHING",
            "this version takes nothing from an invariant: there is nothing to sign",
        )
        .next("trilith estate plan DIR")
        .into());
    };
    let signed = signer.sign(subject, hours)?;
    files::write(out, &signed)?;
    if global.json {
        output::json(&document);
    } else {
        plan::signed(&document);
    }
    output::note(format_args!(
        "signed by {} for {hours} h, in {}; the other author runs: trilith estate apply DIR --author NAME --keys KEYS --approval {}",
        signer.author,
        out.display(),
        out.display()
    ));
    Ok(ExitCode::SUCCESS)
}
