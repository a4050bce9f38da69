//! Bundles of endorsements, filled and shown by hand: a site without a network fetches elsewhere.

use crate::arguments::{
    EndorsementsCommand, EndorsementsFetchArguments, EndorsementsListArguments, Global,
};
use crate::runtime::block_on;
use crate::{Failure, files, output};
use attest_tee::{Anchors, Artefact, Bundle, intel, snp};
use endorsements::{Kind, Source, SourceTerms, Want, fetch_once};
use facts::{Finding, Timestamp};
use serde_json::{Value, json};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// As [`Bundle::parse`] takes it.
const LONGEST: u64 = 64 << 20;
const LONGEST_ROOT: u64 = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn run(command: EndorsementsCommand, global: &Global) -> Result<ExitCode, Failure> {
    match command {
        EndorsementsCommand::Fetch(arguments) => fetch(&arguments)?,
        EndorsementsCommand::List(arguments) => list(&arguments, global)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn fetch(arguments: &EndorsementsFetchArguments) -> Result<(), Failure> {
    whole(&arguments.names)?;
    let mut bundle = if arguments.into.exists() {
        bundle(&arguments.into)?
    } else {
        Bundle::default()
    };
    let mut sources = Vec::new();
    for (kind, url) in [
        (Kind::Amd, &arguments.amd_url),
        (Kind::Intel, &arguments.intel_url),
    ] {
        sources.push(Source::open(&SourceTerms {
            kind,
            url: url.clone(),
            ca: arguments.ca.clone(),
            root: None,
        })?);
    }
    let root = arguments.root.as_deref().map(root).transpose()?;
    let mut wants = Vec::new();
    for artefact in &arguments.names {
        wants.push(Want {
            artefact: artefact.clone(),
            anchors: Arc::new(anchors(artefact, root.as_deref())?),
            root: None,
        });
    }
    // One after the other: vendors turn away who asks for much at once.
    let fetched = block_on(super::super::ASKING_THREADS, async {
        let mut fetched = Vec::new();
        for want in &wants {
            fetched.push(fetch_once(&sources, want, TIMEOUT).await?);
            output::note(format_args!("fetched {}", want.artefact));
        }
        Ok(fetched)
    })?;
    bundle.take_in(&fetched);
    let bytes = bundle.to_json().map_err(anyhow::Error::from)?;
    super::super::refs::write_whole(&arguments.into, &bytes)?;
    output::note(format_args!(
        "{} documents added to {}",
        fetched.len(),
        arguments.into.display()
    ));
    Ok(())
}

/// Intel's documents count together alone.
fn whole(names: &[Artefact]) -> Result<(), Failure> {
    let has = |one: &dyn Fn(&Artefact) -> bool| names.iter().any(one);
    let tees = names.iter().filter_map(|name| match name {
        Artefact::TcbInfo { tdx, .. } | Artefact::QeIdentity { tdx } => Some(*tdx),
        _ => None,
    });
    let mut complete = tees.into_iter().all(|wanted| {
        has(&|it| matches!(it, Artefact::TcbInfo { tdx, .. } if *tdx == wanted))
            && has(&|it| *it == Artefact::QeIdentity { tdx: wanted })
    });
    let list = has(&|it| matches!(it, Artefact::PckCrl { .. }));
    let root = has(&|it| *it == Artefact::IntelRootCrl);
    let info = has(&|it| matches!(it, Artefact::TcbInfo { .. }));
    complete &= info == list && info == root;
    if complete {
        return Ok(());
    }
    Err(Finding::new(
        "CLI-ENDORSEMENTS",
        "Intel's documents of a platform count together alone: the bundle is as it was",
    )
    .expected("tcb-info, qe-identity, pck-crl and intel-root-crl in one command")
    .next("name all four, as the refusal of the machine does")
    .into())
}

fn list(arguments: &EndorsementsListArguments, global: &Global) -> Result<(), Failure> {
    let now = Timestamp::now();
    let listed = bundle(&arguments.bundle)?.list();
    let counts = |until: Option<Timestamp>| until.is_some_and(|until| now <= until);
    if global.json {
        let documents: Vec<Value> = listed
            .iter()
            .map(|one| {
                json!({
                    "name": one.name,
                    "until": one.until.map(|until| until.to_string()),
                    "current": counts(one.until),
                })
            })
            .collect();
        output::json(&Value::Array(documents));
        return Ok(());
    }
    for one in listed {
        let until = one.until.map_or("?".to_owned(), |until| until.to_string());
        let past = if counts(one.until) {
            ""
        } else {
            "  counts no more"
        };
        output::line(format_args!("{until}  {}{past}", output::value(&one.name)));
    }
    Ok(())
}

fn bundle(path: &Path) -> Result<Bundle, Failure> {
    let bytes = files::read(path, LONGEST)?;
    // What is longer is refused with the words of the bundle.
    let bytes = bytes.unwrap_or_default();
    Ok(Bundle::parse(&bytes)?)
}

fn root(path: &Path) -> Result<String, Failure> {
    let bytes = files::read(path, LONGEST_ROOT)?.unwrap_or_default();
    String::from_utf8(bytes).map_err(|_| {
        Finding::new("CLI-FILE", format!("{} is no PEM", path.display()))
            .next("name a file of PEM certificates")
            .into()
    })
}

fn anchors(artefact: &Artefact, root: Option<&str>) -> Result<Anchors, Finding> {
    Ok(match (artefact, root) {
        (Artefact::SnpKey { .. } | Artefact::SnpCrl { .. }, None) => {
            Anchors::Amd(snp::Roots::amd()?)
        }
        (Artefact::SnpKey { generation, .. } | Artefact::SnpCrl { generation }, Some(pem)) => {
            let mut roots = snp::Roots::default();
            roots.add(*generation, pem)?;
            Anchors::Amd(roots)
        }
        (_, None) => Anchors::Intel(intel::Roots::intel()?),
        (_, Some(pem)) => Anchors::Intel(intel::Roots::from_pem(pem)?),
    })
}
