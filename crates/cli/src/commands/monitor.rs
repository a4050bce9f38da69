//! `trilith monitor`: a ledger watched from outside, and the proof that one has signed two histories.

use crate::arguments::{Global, MonitorArguments};
use crate::failure::{EXIT_MISBEHAVIOUR, EXIT_UNEXPECTED};
use crate::runtime::cancelled_by_signal;
use crate::{Failure, files, output};
use ::monitor::{Alert, Config, Ended, Kind, Misbehaviour, Seen, Told};
use facts::{Finding, Timestamp};
use ledger::Code as _;
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::ExitCode;

/// Two notes and a proof.
const MAX_FILE: u64 = 2 << 20;

pub(crate) async fn run(arguments: MonitorArguments, global: &Global) -> Result<ExitCode, Failure> {
    if let Some(file) = arguments.label_key {
        return label_key(&file, global);
    }
    match (arguments.misbehaviour, arguments.config) {
        (Some(file), _) => misbehaviour(&file, global),
        (None, Some(config)) => watch(&config, arguments.once, global).await,
        (None, None) => Err(Failure::usage(
            "name a --config, a --misbehaviour or a --label-key",
        )),
    }
}

async fn watch(config: &Path, once: bool, global: &Global) -> Result<ExitCode, Failure> {
    let config = Config::read(config)?;
    let log = config.log.origin.clone().unwrap_or_else(|| {
        let name = config.log.key.split('+').next();
        name.unwrap_or_default().to_owned()
    });
    let mut last = None;
    let ended = ::monitor::watch(config, once, cancelled_by_signal()?, |told| match told {
        Told::Alert(alert) => alerted(alert, global),
        Told::Note(finding) => output::note(format_args!("note: {finding}")),
        Told::Misbehaviour(path) => {
            output::note(format_args!("the proof is in {}", path.display()))
        }
        // Again and again the same is not said twice.
        Told::Seen(seen) if last != Some(seen.size) => {
            last = Some(seen.size);
            shown(&log, seen, global);
        }
        Told::Seen(_) => {}
    });
    match ended.await {
        Ok(Ended::Quiet) => Ok(ExitCode::SUCCESS),
        Ok(Ended::Unexpected(_)) => Ok(ExitCode::from(EXIT_UNEXPECTED)),
        Err(failure) => Err(failed(failure)),
    }
}

fn failed(failure: ::monitor::Failure) -> Failure {
    use ::monitor::Failure as Of;
    match failure {
        Of::Unreachable(finding) | Of::Local(finding) => Failure::refused(finding),
        Of::Broken(finding) => Failure::verification(vec![finding]),
        Of::Misbehaved(finding, _) => Failure::with_exit(EXIT_MISBEHAVIOUR, finding),
    }
}

fn alerted(alert: &Alert, global: &Global) {
    if global.json {
        return output::json(&json!(alert));
    }
    // What is wrong with the log is said as the failure that it ends with.
    if alert.kind != Kind::Unexpected {
        return;
    }
    output::line(format_args!("{}", alert.finding));
    if let Some(wall) = alert.record.as_ref().and_then(|told| told.wall) {
        output::line(format_args!(
            "  made at {} by the log's clock",
            Timestamp::from_millis(wall)
        ));
    }
}

fn shown(log: &str, seen: &Seen, global: &Global) {
    if global.json {
        return output::json(&json!({
            "log": log, "size": seen.size, "looked": seen.looked, "witnesses": seen.witnesses,
            "agree": seen.agree, "notes": seen.notes,
        }));
    }
    let mut said = format!("{log}: {} records, one history", seen.size);
    if seen.looked < seen.size {
        said.push_str(&format!(", {} looked at", seen.looked));
    }
    if seen.witnesses > 0 {
        said.push_str(&format!(", witnessed by {}", seen.witnesses));
    }
    match seen.agree {
        0 => {}
        1 => said.push_str(", 1 other shows the same"),
        agree => said.push_str(&format!(", {agree} others show the same")),
    }
    output::line(said);
}

/// Makes a key in a file that is not there yet, which only this user reads.
fn label_key(file: &Path, global: &Global) -> Result<ExitCode, Failure> {
    let key = crypto::SecretBytes::new(crypto::random::<32>().to_vec());
    let text = crypto::SecretBytes::new(crypto::hex::encode(key.expose()).into_bytes());
    let made = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file);
    let written = made.and_then(|mut made| {
        made.write_all(text.expose())?;
        made.write_all(b"\n")?;
        made.sync_all()
    });
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(Finding::new(
                "LABEL-KEY-EXISTS",
                format!("{} is there already, and was left alone", file.display()),
            )
            .next("name a file that is not there yet; who loses a key gives the log's operator a new one")
            .into());
        }
        written => written.map_err(|error| files::unwritable(file, &error))?,
    }
    if global.json {
        output::json(&json!({ "label_key": file.display().to_string() }));
    } else {
        output::line(format_args!("a key for labels is in {}", file.display()));
        output::note(
            "note: give the log's operator a copy on a way that nobody else reads, and name it as `key_file` of [labels] in monitor.toml",
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What the file proves, to whoever knows whose key that is.
fn misbehaviour(file: &Path, global: &Global) -> Result<ExitCode, Failure> {
    let refused = |code: &'static str, what: String| {
        Failure::verification(vec![
            Finding::new(code, what)
                .next("ask whoever gave you the file for the one that their monitor wrote"),
        ])
    };
    let bytes = files::read(file, MAX_FILE)?.ok_or_else(|| {
        refused(
            "MONITOR-MISBEHAVIOUR",
            "the file is larger than such a proof can be".to_owned(),
        )
    })?;
    let read =
        Misbehaviour::parse(&bytes).map_err(|error| refused(error.code(), error.to_string()))?;
    let (first, second) = read
        .verify()
        .map_err(|error| refused(error.code(), format!("this proves nothing: {error}")))?;
    if global.json {
        output::json(&json!({
            "misbehaved": true, "log": read.origin, "key": read.key,
            "sizes": [first.size, second.size], "replaced_key": read.by_a_replaced_key(),
        }));
    } else {
        output::line(format_args!(
            "{} has signed two histories: the {} records that {} showed are not the beginning of the {} that {} showed",
            output::value(&read.origin),
            first.size,
            output::value(&read.first.by),
            second.size,
            output::value(&read.second.by),
        ));
        output::line(format_args!("  by the key {}", output::value(&read.key)));
        output::note("note: compare the key with the one that you have from the log's operator");
        if read.by_a_replaced_key() {
            output::note(
                "note: one of them is signed by a key that was replaced: by the log's operator before that, or by whoever has had it since. Ask who of them was shown it, and when",
            );
        }
    }
    Ok(ExitCode::from(EXIT_MISBEHAVIOUR))
}
