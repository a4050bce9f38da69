//! A decision in one's own process: reads an estate's folder and answers one question.
//!
//! ```text
//! cargo run -p pdp --example decide -- examples/estate-shop payments/api select table shop/public/cards
//! ```

#![expect(clippy::print_stdout, reason = "a program for a terminal")]

use estate::{Estate, EstateFiles};
use facts::Timestamp;
use pdp::{Decider, Known, Question};
use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    print!("{}", decided(&arguments)?);
    Ok(())
}

/// The answer, a line for each reason.
pub(crate) fn decided(arguments: &[String]) -> Result<String, Box<dyn Error>> {
    let [folder, subject, action, kind, id] = arguments else {
        return Err("usage: decide FOLDER IDENTITY ACTION TYPE ID".into());
    };
    let mut files = EstateFiles::new();
    read(Path::new(folder), "", &mut files)?;
    let estate = Estate::compile(&files).map_err(|problems| format!("{problems:?}"))?;
    let decider = Decider::of(estate);
    let question = Question {
        subject: subject.clone(),
        action: pdp::action(action).map_err(|refused| refused.finding)?,
        resource: pdp::resource(kind, id).map_err(|refused| refused.finding)?,
        // An SVID's facts would be `Known::Issued`; without them only what holds for any facts is allowed.
        facts: Known::Nothing,
        on_behalf_of: None,
    };
    let answer = decider.decide(&question, Timestamp::now())?;
    let mut said = match answer.decision.allow {
        true => "allow\n".to_owned(),
        false => "deny\n".to_owned(),
    };
    for policy in &answer.decision.policies {
        writeln!(said, "  by {policy}")?;
    }
    if let Some(access) = &answer.depends {
        for residual in &access.when {
            writeln!(said, "  if {} ({})", residual.condition, residual.policy)?;
        }
        for residual in &access.unless {
            writeln!(
                said,
                "  unless {} ({})",
                residual.condition, residual.policy
            )?;
        }
    }
    Ok(said)
}

/// Everything below `folder`, by its path from there.
fn read(folder: &Path, above: &str, files: &mut EstateFiles) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            read(&entry.path(), &format!("{above}{name}/"), files)?;
        } else {
            files.insert(
                format!("{above}{name}"),
                std::fs::read_to_string(entry.path())?,
            );
        }
    }
    Ok(())
}
