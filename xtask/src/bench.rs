//! `cargo xtask bench`: runs the programs that measure, and puts their rows into one table.
//! What is measured, and the check of what was produced, stands in those programs.

mod row;

use crate::arguments::Arguments;
use crate::machine::{self, Consent};
use crate::shell::{Doing as _, Failure, Result, line, run as run_program};
use crate::workspace::{cargo, packages, root, target};
use row::Row;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, ExitCode, Stdio};

pub(crate) const HELP: &str = "\
Measures each figure beside its limit or peer in the same run, release build, and checks what was
produced (each certificate, receipt, record). A row whose check fails is an error.

Usage: cargo xtask bench [--only ID]... [--quick] [--json] [--yes]

Options:
  --only ID    measure only this row, or the rows whose id begins with it; may be repeated
  --quick      shorter runs: shows that a row works, not what it is worth
  --json       one object a line on stdout: id, ours, unit, reference, reference_is, ratio = ours / reference
  --yes        install missing Debian packages without asking
  -h, --help   this text

The rows are kept in target/bench/latest.json as well.

Examples:
  cargo xtask bench --quick
  cargo xtask bench --only ledger.
  cargo xtask bench --only estate.decide_10k_p99_us --json
";

/// What a row should reach. A missed aim is shown, not an error: machines differ.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    RatioAtLeast(f64),
    RatioAtMost(f64),
    AtLeast(f64),
    AtMost(f64),
    None,
}

/// One figure, and the example program that measures it. Ids are stable.
struct Figure {
    id: &'static str,
    package: &'static str,
    example: &'static str,
    aim: Aim,
}

const fn figure(
    id: &'static str,
    package: &'static str,
    example: &'static str,
    aim: Aim,
) -> Figure {
    Figure {
        id,
        package,
        example,
        aim,
    }
}

const FIGURES: &[Figure] = &[
    figure(
        "identity.issue_x509",
        "server",
        "issue_bench",
        Aim::RatioAtLeast(0.5),
    ),
    figure(
        "estate.decide_10_p99_us",
        "estate",
        "decide_bench",
        Aim::None,
    ),
    figure(
        "estate.decide_100_p99_us",
        "estate",
        "decide_bench",
        Aim::None,
    ),
    figure(
        "estate.decide_1k_p99_us",
        "estate",
        "decide_bench",
        Aim::None,
    ),
    figure(
        "estate.decide_10k_p99_us",
        "estate",
        "decide_bench",
        Aim::AtMost(25.0),
    ),
    figure(
        "estate.decide_10k_vs_cedar",
        "estate",
        "decide_bench",
        Aim::RatioAtLeast(300.0),
    ),
    figure(
        "estate.decide_10k_unscoped_p99_us",
        "estate",
        "decide_bench",
        Aim::None,
    ),
    figure(
        "estate.decide_100k_p99_us",
        "estate",
        "decide_bench",
        Aim::None,
    ),
    figure(
        "estate.assume_100k_p99_us",
        "estate",
        "assume_bench",
        Aim::AtMost(1_000.0),
    ),
    figure(
        "estate.what_can_1k_10k_ms",
        "estate",
        "ask_bench",
        Aim::AtMost(50.0),
    ),
    figure(
        "estate.what_can_first_answer_ms",
        "estate",
        "ask_bench",
        Aim::AtMost(200.0),
    ),
    figure(
        "estate.who_can_1k_10k_ms",
        "estate",
        "ask_bench",
        Aim::AtMost(50.0),
    ),
    figure(
        "estate.who_can_first_answer_ms",
        "estate",
        "ask_bench",
        Aim::AtMost(200.0),
    ),
    figure(
        "estate.prove_300_ms",
        "estate-prove",
        "prove_bench",
        Aim::None,
    ),
    figure(
        "estate.prove_1000_ms",
        "estate-prove",
        "prove_bench",
        Aim::None,
    ),
    figure(
        "estate.prove_5000_ms",
        "estate-prove",
        "prove_bench",
        Aim::None,
    ),
    figure(
        "estate.reprove_ratio",
        "estate-prove",
        "prove_bench",
        Aim::RatioAtMost(0.2),
    ),
    figure(
        "estate.plan_10k_s",
        "estate-prove",
        "plan_bench",
        Aim::AtMost(5.0),
    ),
    figure(
        "attest.sigstore_per_s",
        "attest-code",
        "sigstore_bench",
        Aim::AtLeast(1_000.0),
    ),
    figure(
        "attest.snp_per_s",
        "attest-tee",
        "tee_bench",
        Aim::AtLeast(250.0),
    ),
    figure(
        "attest.tdx_per_s",
        "attest-tee",
        "tee_bench",
        Aim::AtLeast(1_440.0),
    ),
    figure(
        "attest.nitro_per_s",
        "attest-tee",
        "tee_bench",
        Aim::AtLeast(150.0),
    ),
    figure(
        "attest.tpm_full_per_s",
        "attest-tpm",
        "continuous_bench",
        Aim::None,
    ),
    figure(
        "attest.ima_incremental_per_s",
        "attest-tpm",
        "continuous_bench",
        Aim::None,
    ),
    figure(
        "attest.fleet_10k_detect_to_cut_p99_ms",
        "server",
        "fleet_bench",
        Aim::AtMost(3_000.0),
    ),
    figure(
        "attest.fleet_10k_cpu_cores",
        "server",
        "fleet_bench",
        Aim::AtMost(2.0),
    ),
    figure(
        "attest.join_swtpm_ms",
        "server",
        "join_bench",
        Aim::AtMost(150.0),
    ),
    figure(
        "ledger.append_100_1",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_100_32",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_100_1000",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_100_closed256",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_1k_1",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_1k_32",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_1k_1000",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_1k_closed256",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_10k_1",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_10k_32",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_10k_1000",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_10k_closed256",
        "ledger-store",
        "append_bench",
        Aim::None,
    ),
    figure(
        "ledger.append_1k_batched",
        "ledger-store",
        "append_bench",
        Aim::AtLeast(100_000.0),
    ),
    figure(
        "ledger.append_1k_single",
        "ledger-store",
        "append_bench",
        Aim::RatioAtMost(2.0),
    ),
    figure(
        "ledger.bytes_per_record",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.index_bytes_per_record",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.proof_p99_us",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.search_p99_ms",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure("ledger.start_s", "record-index", "growth_bench", Aim::None),
    figure(
        "ledger.recovery_s",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.index_build_s",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.writer_rss_mib",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.reader_rss_mib",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.small_bytes_per_record",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.small_proof_p99_us",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.small_start_s",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.small_recovery_s",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.small_writer_rss_mib",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "ledger.small_reader_rss_mib",
        "record-index",
        "growth_bench",
        Aim::None,
    ),
    figure(
        "verify.proofs_per_s",
        "ledger-store",
        "verify_bench",
        Aim::None,
    ),
    figure(
        "verify.pack_100k_s",
        "ledger-store",
        "verify_bench",
        Aim::None,
    ),
    figure(
        "gateway.pgbench_prepared_16",
        "trilith",
        "site_bench",
        Aim::RatioAtLeast(0.8),
    ),
    figure(
        "gateway.pgbench_prepared_16_vs_direct",
        "trilith",
        "site_bench",
        Aim::None,
    ),
    figure("gateway.strict_cost", "trilith", "site_bench", Aim::None),
    figure("gateway.added_p99_us", "trilith", "site_bench", Aim::None),
    figure(
        "revoke.to_cut_p99_ms",
        "trilith",
        "site_bench",
        Aim::AtMost(1_000.0),
    ),
    figure(
        "estate.apply_to_svid_p99_ms",
        "trilith",
        "site_bench",
        Aim::AtMost(150.0),
    ),
    figure(
        "estate.apply_proof_p99_ms",
        "trilith",
        "site_bench",
        Aim::None,
    ),
    figure(
        "agent.rss_100_workloads_mib",
        "trilith",
        "site_bench",
        Aim::AtMost(25.0),
    ),
    figure(
        "agent.static_size_mib",
        "testkit",
        "size_bench",
        Aim::AtMost(8.0),
    ),
];

pub(crate) fn run(mut arguments: Arguments) -> Result<ExitCode> {
    let only = arguments.values("--only")?;
    let quick = arguments.flag("--quick");
    let json = arguments.flag("--json");
    let consent = if arguments.flag("--yes") || json {
        Consent::Given
    } else {
        Consent::Ask
    };
    arguments.finish()?;
    let wanted: Vec<&Figure> = FIGURES
        .iter()
        .filter(|figure| {
            only.is_empty() || only.iter().any(|id| figure.id.starts_with(id.as_str()))
        })
        .collect();
    if wanted.is_empty() {
        let ids: Vec<_> = FIGURES.iter().map(|figure| figure.id).collect();
        return Err(Failure::usage(format!(
            "no such row; there are: {}",
            ids.join(" ")
        )));
    }
    check_programs(&wanted)?;
    machine::install(machine::FOR_TEST, consent)?;

    let programs = programs(&wanted);
    build(&programs)?;
    let mut rows = Vec::new();
    for (package, example) in programs {
        let ids: Vec<_> = wanted
            .iter()
            .filter(|figure| (figure.package, figure.example) == (package, example))
            .map(|figure| figure.id)
            .collect();
        let measured = measure(example, &ids, quick)?;
        // A program may print rows beside the figures; they have no aim.
        let kept = measured
            .into_iter()
            .filter(|row| only.is_empty() || ids.contains(&row.id.as_str()));
        for row in kept {
            if json {
                println!("{}", row.text);
            }
            rows.push(row);
        }
    }
    let missing: Vec<_> = wanted
        .iter()
        .map(|figure| figure.id)
        .filter(|id| !rows.iter().any(|row: &Row| row.id == *id))
        .collect();
    save(&rows)?;
    if !json {
        print!("{}", row::table(&rows, aim_of));
    }
    if missing.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!(
        "no row came for: {}",
        missing.join(" ")
    )))
}

fn aim_of(id: &str) -> Aim {
    FIGURES
        .iter()
        .find(|figure| figure.id == id)
        .map_or(Aim::None, |figure| figure.aim)
}

/// Package and example of the wanted figures, each once, in the order of the table.
fn programs<'a>(wanted: &[&'a Figure]) -> Vec<(&'a str, &'a str)> {
    let mut programs: Vec<(&str, &str)> = Vec::new();
    for figure in wanted {
        let program = (figure.package, figure.example);
        if !programs.contains(&program) {
            programs.push(program);
        }
    }
    programs
}

/// Every `*_bench` example is in the table, and each wanted figure has its program.
fn check_programs(wanted: &[&Figure]) -> Result<()> {
    let present: Vec<(String, String)> = packages()?
        .into_iter()
        .flat_map(|package| {
            let name = package.name;
            package
                .examples
                .into_iter()
                .map(move |example| (name.clone(), example))
        })
        .filter(|(_, example)| example.ends_with("_bench"))
        .collect();
    for (package, example) in &present {
        let listed = FIGURES
            .iter()
            .any(|figure| figure.package == package && figure.example == example);
        if !listed {
            return Err(Failure::new(format!(
                "crates/{package}/examples/{example}.rs is not in the table of xtask/src/bench.rs"
            )));
        }
    }
    let absent = wanted.iter().find(|figure| {
        !present
            .iter()
            .any(|(package, example)| package == figure.package && example == figure.example)
    });
    match absent {
        None => Ok(()),
        Some(figure) => Err(Failure::new(format!(
            "{}: package {} has no example {}",
            figure.id, figure.package, figure.example
        ))),
    }
}

/// Builds the programs, with the binaries of their packages, by one command: one by one, each would build
/// what they share with features of its own.
fn build(programs: &[(&str, &str)]) -> Result<()> {
    let mut build = cargo(&["build", "--release", "--bins"]);
    for (package, example) in programs {
        build.args(["-p", package, "--example", example]);
    }
    run_program(build.stdout(Stdio::null()))
}

/// Runs one program; each line of its stdout is a row.
fn measure(example: &str, ids: &[&str], quick: bool) -> Result<Vec<Row>> {
    let mut program = Command::new(target().join("release/examples").join(example));
    for id in ids {
        program.args(["--only", id]);
    }
    if quick {
        program.arg("--quick");
    }
    program
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = program.spawn().doing(line(&program))?;
    let mut rows = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for text in BufReader::new(stdout).lines() {
            let text = text.doing(line(&program))?;
            let row = Row::parse(&text)
                .map_err(|why| Failure::new(format!("{example}: {why}: {text}")))?;
            rows.push(row);
        }
    }
    let status = child.wait().doing(line(&program))?;
    if status.success() {
        return Ok(rows);
    }
    Err(Failure::new(format!("`{}`: {status}", line(&program))))
}

fn save(rows: &[Row]) -> Result<()> {
    let folder = target().join("bench");
    std::fs::create_dir_all(&folder).doing(folder.display())?;
    let lines: Vec<_> = rows.iter().map(|row| format!("  {}", row.text)).collect();
    let part = folder.join("latest.json.part");
    std::fs::write(&part, format!("[\n{}\n]\n", lines.join(",\n"))).doing(part.display())?;
    std::fs::rename(&part, folder.join("latest.json")).doing(part.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_id_stands_once_and_each_program_of_the_table_is_there() {
        let ids: BTreeSet<&str> = FIGURES.iter().map(|figure| figure.id).collect();
        assert_eq!(ids.len(), FIGURES.len());
        let all: Vec<&Figure> = FIGURES.iter().collect();
        check_programs(&all).unwrap();
    }

    /// The ids that the issues name: whoever compares runs finds them under these.
    #[test]
    fn what_an_estate_is_measured_by_has_its_ids() {
        let named = [
            "estate.decide_10_p99_us",
            "estate.decide_100_p99_us",
            "estate.decide_1k_p99_us",
            "estate.decide_10k_p99_us",
            "estate.decide_100k_p99_us",
            "estate.assume_100k_p99_us",
            "estate.what_can_1k_10k_ms",
            "estate.what_can_first_answer_ms",
            "estate.who_can_1k_10k_ms",
            "estate.who_can_first_answer_ms",
            "estate.prove_300_ms",
            "estate.prove_1000_ms",
            "estate.prove_5000_ms",
            "estate.reprove_ratio",
            "estate.plan_10k_s",
        ];
        for id in named {
            assert!(FIGURES.iter().any(|figure| figure.id == id), "{id}");
        }
    }

    /// As above, for what verifies machines and code, each with what it should reach where that is known.
    #[test]
    fn what_trusted_execution_is_measured_by_has_its_ids_and_aims() {
        let aim = |id: &str| {
            let figure = FIGURES.iter().find(|figure| figure.id == id);
            figure.unwrap_or_else(|| panic!("{id}")).aim
        };
        for (id, least) in [
            ("attest.snp_per_s", 250.0),
            ("attest.tdx_per_s", 1_440.0),
            ("attest.nitro_per_s", 150.0),
            ("attest.sigstore_per_s", 1_000.0),
        ] {
            assert!(
                matches!(aim(id), Aim::AtLeast(asked) if asked == least),
                "{id}"
            );
        }
        for (id, most) in [
            ("attest.fleet_10k_detect_to_cut_p99_ms", 3_000.0),
            ("attest.fleet_10k_cpu_cores", 2.0),
            ("attest.join_swtpm_ms", 150.0),
            ("agent.static_size_mib", 8.0),
        ] {
            assert!(
                matches!(aim(id), Aim::AtMost(asked) if asked == most),
                "{id}"
            );
        }
        for id in ["attest.tpm_full_per_s", "attest.ima_incremental_per_s"] {
            aim(id);
        }
    }
}
