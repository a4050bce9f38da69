//! `ledger mirror`: what was asked for, handed to `monitor`, which reads logs.

use crate::arguments::{Global, MirrorArguments};
use crate::runtime::{cancelled_by_signal, log_to_stderr};
use crate::{Failure, output};
use monitor::{Push, Pushed};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// Between two looks with `--follow`.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) async fn mirror(arguments: &MirrorArguments, global: &Global) -> Result<(), Failure> {
    log_to_stderr(&global.log, global.json)?;
    let from = ledger_of(&arguments.from);
    let mut push = Push::new(
        &from,
        &arguments.to,
        &arguments.key,
        arguments.origin.as_deref(),
        &arguments.mirror_keys,
        arguments.ca_file.as_deref(),
    )?;
    if let Some(copy) = &arguments.copy {
        push = push.with_copy(&ledger_of(copy));
    }
    if !arguments.follow {
        let pushed = push.round().await?;
        told(&pushed, global);
        return Ok(());
    }
    let stop = cancelled_by_signal()?;
    let mut last = None;
    loop {
        let round = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            round = push.round() => round,
        };
        match round {
            Ok(pushed) if last != Some(pushed.size) => {
                last = Some(pushed.size);
                told(&pushed, global);
            }
            Ok(_) => {}
            Err(finding) => output::note(finding),
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Of a data directory, the ledger in it.
fn ledger_of(from: &str) -> String {
    let ledger = Path::new(from).join("ledger");
    match ledger.is_dir() {
        true => ledger.display().to_string(),
        false => from.to_owned(),
    }
}

fn told(pushed: &Pushed, global: &Global) {
    let lines: Vec<String> = pushed.lines.iter().map(ToString::to_string).collect();
    if global.json {
        output::json(&json!({ "size": pushed.size, "packages": pushed.packages, "lines": lines }));
        return;
    }
    for line in lines {
        output::line(output::value(&line));
    }
    output::note(format_args!(
        "the mirror has the first {} entries; {} packages were sent",
        pushed.size, pushed.packages
    ));
}

#[cfg(test)]
mod tests {
    use super::ledger_of;

    #[test]
    fn a_data_directory_stands_for_the_ledger_in_it() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().display().to_string();
        assert_eq!(ledger_of(&path), path);
        std::fs::create_dir(data.path().join("ledger")).unwrap();
        assert_eq!(ledger_of(&path), format!("{path}/ledger"));
        assert_eq!(
            ledger_of("https://log.example.net"),
            "https://log.example.net"
        );
    }
}
