//! Files of a machine that is not enrolled: told, and compared with an estate that is not in force. No quote
//! stands behind them, so that what is said here is what the machine says of itself.

use super::told;
use crate::arguments::{ExplainArguments, Global};
use crate::commands::estate;
use crate::{Failure, output};
use ::estate::Estate;
use anyhow::Context as _;
use appraise::{Account, Asked, Demands, Files, Naming, Printed, View, claimed};
use attest_tpm::boot::Claimed;
use attest_tpm::eventlog::Log;
use attest_tpm::ima::List;
use crypto::hex;
use facts::{Finding, Timestamp};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

/// As large as `attest_tpm` takes a log or a list, and a byte more, which it refuses.
const LARGEST: u64 = (32 << 20) + 1;
const FOLDER_LOG: &str = "binary_bios_measurements";
const FOLDER_LIST: &str = "binary_runtime_measurements";

pub(super) fn explain(
    log: &Path,
    arguments: &ExplainArguments,
    global: &Global,
) -> Result<ExitCode, Failure> {
    let log = read(log)?;
    let list = arguments.ima.as_deref().map(read).transpose()?;
    let pcrs = arguments.pcrs.as_deref().map(values).transpose()?;
    let parsed = Log::parse(&log)?;
    let boot = Claimed::read(&parsed, pcrs.as_ref()).map_err(Failure::all)?;
    let list = list.as_deref().map(parse).transpose()?;
    let view = View::from(&boot);
    let Some(folder) = &arguments.estate else {
        let account = account(&view, list.as_ref(), &Naming::default());
        if global.json {
            output::json(&json!({ "account": account }));
        } else {
            told::account(&account);
        }
        return Ok(ExitCode::SUCCESS);
    };
    let files = estate::read(folder)?;
    let compiled = Estate::compile(&files).map_err(|problems| {
        let findings = problems.iter();
        Failure::verification(
            findings
                .map(|problem| Finding::new("ESTATE-PROBLEM", problem.to_string()))
                .collect(),
        )
    })?;
    let values = &compiled.references().values;
    let ring = arguments.ring.clone().unwrap_or_default();
    let demands = Demands::of(values, &ring);
    let asked = Asked {
        values,
        demands: &demands,
        ring: &ring,
        now: Timestamp::now(),
    };
    let files: Vec<(String, String)> = files.0.into_iter().collect();
    let printed = Printed {
        estate: &folder.display().to_string(),
        files: &files,
    };
    let refusals = claimed(Some(&view), list.as_ref(), &asked, &printed);
    let account = account(&view, list.as_ref(), &Naming::of(values));
    if global.json {
        output::json(&json!({
            "account": account,
            "estate": compiled.version(),
            "judged": {
                "pcrs": demands.pcrs,
                "files": demands.files.is_some() && list.is_some(),
                "rules": demands.rules.iter().map(|rule| &rule.name).collect::<Vec<_>>(),
            },
            "refusals": refusals,
        }));
    } else {
        told::account(&account);
        if demands.is_empty() {
            output::line(format_args!(
                "no reference values speak of machines of the pool {ring:?}"
            ));
        } else if refusals.is_empty() {
            output::line("nothing in it is refused by the estate's reference values");
        } else {
            output::line("the estate's reference values would refuse it:");
        }
        refusals.iter().for_each(told::refusal);
    }
    Ok(if refusals.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(crate::EXIT_VERIFICATION)
    })
}

/// Of an event log, or of a folder with copies of the kernel's files.
pub(super) fn path(path: &Path) -> Result<Account, Failure> {
    let (log, list) = if path.is_dir() {
        let list = path.join(FOLDER_LIST);
        let list = list.exists().then(|| read(&list)).transpose()?;
        (read(&path.join(FOLDER_LOG))?, list)
    } else {
        (read(path)?, None)
    };
    let parsed = Log::parse(&log)?;
    let boot = Claimed::read(&parsed, None).map_err(Failure::all)?;
    let list = list.as_deref().map(parse).transpose()?;
    Ok(account(
        &View::from(&boot),
        list.as_ref(),
        &Naming::default(),
    ))
}

fn account(view: &View<'_>, list: Option<&List<'_>>, naming: &Naming<'_>) -> Account {
    let files = list.map(|list| Files::claimed(list, naming));
    Account::of(view, naming).with_files(files)
}

/// In either of the kernel's forms.
fn parse(bytes: &[u8]) -> Result<List<'_>, Failure> {
    match str::from_utf8(bytes) {
        Ok(text) if text.starts_with("10 ") => Ok(List::parse_ascii(text, 0)?),
        _ => Ok(List::parse_binary(bytes, 0)?),
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    crate::files::read(path, LARGEST)?.ok_or_else(|| {
        Finding::new(
            "CLI-FILE-SIZE",
            format!("{} has more than {LARGEST} bytes", path.display()),
        )
        .next("name the kernel's file, or a copy of it")
        .into()
    })
}

/// What `tpm2_pcrread` prints of the SHA-256 bank, or the kernel's folder of it.
fn values(path: &Path) -> Result<BTreeMap<u32, [u8; 32]>, Failure> {
    let text = if path.is_dir() {
        let mut lines = String::new();
        for pcr in 0..24 {
            let file = path.join(pcr.to_string());
            if file.exists() {
                let value = String::from_utf8_lossy(&read(&file)?).trim().to_owned();
                lines.push_str(&format!("{pcr}: {value}\n"));
            }
        }
        lines
    } else {
        String::from_utf8(read(path)?).with_context(|| format!("{} is no text", path.display()))?
    };
    let values: BTreeMap<u32, [u8; 32]> = text.lines().filter_map(value).collect();
    if values.is_empty() {
        return Err(Finding::new(
            "CLI-PCRS",
            format!("{} has no PCR of the SHA-256 bank", path.display()),
        )
        .expected("lines such as `7 : 0x05B2…`, of 64 digits")
        .next("tpm2_pcrread sha256 > pcrs.txt, or name /sys/class/tpm/tpm0/pcr-sha256")
        .into());
    }
    Ok(values)
}

fn value(line: &str) -> Option<(u32, [u8; 32])> {
    let (pcr, value) = line.split_once(':')?;
    let value = value.trim().to_ascii_lowercase();
    let value = hex::decode(value.strip_prefix("0x").unwrap_or(&value)).ok()?;
    Some((pcr.trim().parse().ok()?, value.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_value_is_read_as_programs_print_it() {
        let digits = "AB".repeat(32);
        assert_eq!(value(&format!("    7 : 0x{digits}")), Some((7, [0xab; 32])));
        assert_eq!(
            value(&format!("7: {}", digits.to_lowercase())),
            Some((7, [0xab; 32]))
        );
        for line in ["  sha256:", "7 : 0xAB", "x: 0xAB", ""] {
            assert_eq!(value(line), None, "{line}");
        }
    }
}
