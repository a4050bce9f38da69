//! Measures the proof of one invariant over 300, 1,000 and 5,000 policies, all of them in its scope, and the proof
//! after a change of one policy; beside the same question put to symcc at once, in one solver process. One JSON
//! object a line; exits 1 when an invariant is not proved, or when one that a policy breaks is not found broken.
//! `--quick` leaves the 5,000 out.
//!
//! `…_except_…` is an invariant across `assume` and use over 100 identities and as many permits to become them: either
//! every identity can do what never may be done, so that what its workloads are is asked (`reached`), or a forbid keeps
//! each of them off, which is asked of each of them over all policies (`forbidden`).

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a program for people at a terminal, over data that it made itself"
)]

use cedar_policy::{Policy, PolicySet};
use cedar_policy_symcc::solver::LocalSolver;
use cedar_policy_symcc::{CedarSymCompiler, CompiledPolicy, CompiledPolicySet};
use estate::{Estate, EstateFiles, cedar};
use estate_prove::{Memory, Options, Result as ProofResult, prove_beside};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What the binary allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const IDENTITIES: usize = 100;
const TABLES: usize = 100;
const KINDS: [&str; 4] = ["service", "job", "service", "ai-agent"];
const CLASSES: [&str; 3] = ["public", "internal", "pii"];
const ACTIONS: [&str; 4] = ["select", "insert", "update", "delete"];
/// One question may take long where 5,000 policies are encoded with one forbid.
const PATIENCE: Duration = Duration::from_secs(300);

const STACK_BYTES: usize = 1 << 30;

const INVARIANT: &str = "@id(\"no AI agent deletes personal data\")\n\
    never (principal, action == Action::\"delete\", resource is Table)\n\
    when { principal.kind == \"ai-agent\" && resource.classification == \"pii\" };\n";

const EXCEPT: &str = "@id(\"only what CI built deletes personal data\")\n\
    never (principal is Identity, action == Action::\"delete\", resource is Table)\n\
    when { principal.kind == \"ai-agent\" && resource.classification == \"pii\" }\n\
    except { principal has code && principal.code has source && principal.code.source == \"https://github.com/acme/jobs\" };\n";

fn declarations() -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"bench\"\nclassifications = [\"public\", \"internal\", \"pii\"]\n",
    );
    let mut text = String::new();
    for number in 0..IDENTITIES {
        let kind = KINDS.get(number % KINDS.len()).unwrap_or(&"job");
        let _ = writeln!(
            text,
            "[[identity]]\npath = \"i{number}\"\nkind = \"{kind}\"\nowner = \"o{}\"\nvisible = [\"machine.pool\"]",
            number % 10
        );
    }
    files.insert("identities/all.toml", text);
    let mut text = "[[database]]\nname = \"db\"\n[[database.schema]]\nname = \"s\"\n".to_owned();
    for number in 0..TABLES {
        let class = CLASSES.get(number % CLASSES.len()).unwrap_or(&"pii");
        let _ = writeln!(
            text,
            "[[database.schema.table]]\nname = \"t{number}\"\nclassification = \"{class}\""
        );
    }
    files.insert("resources/all.toml", text);
    files.insert("invariants/all.cedar", INVARIANT);
    files
}

/// One of `policies` permits: of an owner's, of one identity's and of everybody's, each with a condition of its own.
fn permit(number: usize, policies: usize) -> String {
    let table = number % TABLES;
    let action = match number % 4 {
        0 => "action".to_owned(),
        rest => format!(
            "action in [Action::\"delete\", Action::\"{}\"]",
            ACTIONS.get(rest - 1).unwrap_or(&"select")
        ),
    };
    let scope = match number % 3 {
        0 => format!(
            "permit (principal == Identity::\"i{}\", {action}, resource == Table::\"db/s/t{table}\")",
            number % IDENTITIES
        ),
        1 => format!(
            "permit (principal is Identity, {action}, resource == Table::\"db/s/t{table}\")"
        ),
        _ => format!("permit (principal is Identity, {action}, resource is Table)"),
    };
    let condition = format!(
        "principal.owner == \"o{}\" && context.machine has pool && context.machine.pool == \"p{}\"",
        number % 10,
        policies + number
    );
    format!("@id(\"p{number}\") {scope} when {{ {condition} }};\n")
}

const GUARD: &str = "@id(\"agents keep off\") forbid (principal is Identity, action, resource is Table)\n\
    when { principal.kind == \"ai-agent\" && resource.classification == \"pii\" };\n";

fn compile(policies: usize, change: &str, guard: &str) -> Estate {
    let mut files = declarations();
    let permits: String = (1..policies)
        .map(|number| permit(number, policies))
        .collect();
    files.insert("policies/all.cedar", format!("{guard}{permits}{change}"));
    match Estate::compile(&files) {
        Ok(estate) => estate,
        Err(problems) => {
            let first: Vec<_> = problems.iter().take(5).map(ToString::to_string).collect();
            unreachable!("{}", first.join("\n"))
        }
    }
}

/// Whose workloads CI built, each of a user of its own.
fn becoming() -> String {
    let permit = |number: usize| {
        format!(
            "permit (principal in Pool::\"jobs\", action == Action::\"assume\", resource == Identity::\"i{number}\") \
             when {{ principal has uid && principal.uid == {number} && principal has code && principal.code has source \
             && principal.code.source == \"https://github.com/acme/jobs\" }};\n"
        )
    };
    (0..IDENTITIES).map(permit).collect()
}

/// With an invariant that spans `assume` and use.
fn spanning(policies: usize, change: &str, guard: &str) -> Estate {
    let mut files = declarations();
    files.insert("references/all.toml", "[[pool]]\nname = \"jobs\"\n");
    files.insert("invariants/all.cedar", EXCEPT);
    let permits: String = (1..policies)
        .map(|number| permit(number, policies))
        .collect();
    let becoming = becoming();
    files.insert(
        "policies/all.cedar",
        format!("{guard}{permits}{becoming}{change}"),
    );
    Estate::compile(&files).unwrap_or_else(|problems| unreachable!("{problems:?}"))
}

/// Whether both kinds came out as proved.
fn measure_spanning(policies: usize) -> bool {
    let mut right = true;
    for (what, guard) in [("reached", ""), ("forbidden", GUARD)] {
        let memory = Memory::default();
        let (first, said) = proved(&spanning(policies, "", guard), &memory);
        right &= said == "proved";
        let id = format!("estate.prove_except_{what}_{policies}");
        row(&format!("{id}_ms"), first, "ms", None);
        let changed = spanning(policies, &permit(policies + 1, policies), guard);
        let (again, said) = proved(&changed, &memory);
        right &= said == "proved";
        row(
            &format!("{id}_again_ms"),
            again,
            "ms",
            Some((first, "the whole proof")),
        );
    }
    right
}

fn options() -> Options {
    Options {
        question: PATIENCE,
        total: PATIENCE,
        ..Options::with_solver(std::env::var_os("CVC5"))
    }
}

/// Milliseconds, and whether the one invariant came out as `expected`.
fn proved(estate: &Estate, memory: &Memory) -> (f64, &'static str) {
    let began = Instant::now();
    let report = prove_beside(estate, &options(), memory);
    let took = began.elapsed().as_secs_f64() * 1e3;
    let said = match report.invariants.first().map(|one| &one.result) {
        Some(ProofResult::Proved) => "proved",
        Some(ProofResult::Broken { .. }) => "broken",
        _ => "unknown",
    };
    (took, said)
}

/// All policies in one question to symcc, by one solver process.
fn at_once(estate: &Estate) -> Option<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .ok()?;
    let began = Instant::now();
    let invariant = estate.invariants().first()?;
    let schema = cedar::schema(estate);
    let matching: &Policy = cedar::matching(invariant);
    let matching_set = PolicySet::from_policies([matching.clone()]).ok()?;
    let disjoint = runtime.block_on(async {
        let mut compiler = CedarSymCompiler::new(LocalSolver::cvc5().ok()?).ok()?;
        for env in matching.get_valid_request_envs(schema) {
            let own = CompiledPolicy::compile(matching, &env, schema).ok()?;
            compiler.check_never_errors_opt(&own).await.ok()?;
            let all = CompiledPolicySet::compile(cedar::policies(estate), &env, schema).ok()?;
            let matched = CompiledPolicySet::compile(&matching_set, &env, schema).ok()?;
            let found = compiler
                .check_disjoint_with_counterexample_opt(&all, &matched)
                .await
                .ok()?;
            if found.is_some() {
                return None;
            }
        }
        Some(())
    });
    disjoint.map(|()| began.elapsed().as_secs_f64() * 1e3)
}

fn row(id: &str, ours: f64, unit: &str, reference: Option<(f64, &str)>) {
    let mut row = json!({"id": id, "ours": ours, "unit": unit});
    if let (Some((value, is)), Some(row)) = (reference, row.as_object_mut()) {
        row.insert("reference".to_owned(), json!(value));
        row.insert("reference_is".to_owned(), json!(is));
        row.insert("ratio".to_owned(), json!(ours / value));
    }
    println!("{row}");
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let sizes: &[(usize, &str)] = &[
        (300, "estate.prove_300_ms"),
        (1_000, "estate.prove_1000_ms"),
        (5_000, "estate.prove_5000_ms"),
    ];
    let mut right = true;
    for (policies, id) in sizes.iter().filter(|(size, _)| !quick || *size < 5_000) {
        let memory = Memory::default();
        let estate = compile(*policies, "", GUARD);
        let (first, said) = proved(&estate, &memory);
        right &= said == "proved";
        // One term of very many parts is deeper than an ordinary stack.
        let peer = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            thread
                .spawn_scoped(scope, || at_once(&estate))
                .ok()?
                .join()
                .ok()?
        });
        row(
            id,
            first,
            "ms",
            peer.map(|peer| (peer, "symcc, all in one question")),
        );
        let changed = compile(*policies, &permit(*policies + 1, *policies), GUARD);
        let (again, said) = proved(&changed, &memory);
        right &= said == "proved";
        if *policies == 1_000 {
            row(
                "estate.reprove_ratio",
                again,
                "ms",
                Some((first, "the whole proof")),
            );
        }
        let (broken, said) = proved(&compile(*policies, "", ""), &memory);
        right &= said == "broken";
        row(&format!("{id}_broken"), broken, "ms", None);
    }
    for (policies, _) in sizes.iter().filter(|(size, _)| !quick || *size < 1_000) {
        if *policies != 300 || quick {
            right &= measure_spanning(*policies);
        }
    }
    if right {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
