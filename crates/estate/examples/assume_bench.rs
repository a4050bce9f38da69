//! Measures which identities a workload may become: 100,000 declared identities, 1,000 templates, some 15,000
//! policies, one core; beside asking of one identity after another in the same run. One JSON object a line;
//! exits 1 when the answers differ. `--quick` declares a fiftieth of it.
//!
//! Nine tenths of the identities are given by their teams: one policy for each team of ten, which compares the
//! identity's owner with the workload's unit. The policies of the rest, four in a hundred identities, name one
//! identity and ask for a unit or for a name of the code. Each template has a policy that asks for a control
//! group, and some forbids look at users and machines. Of the workloads a sixth may become nothing. No two
//! questions in a row are the same, and nothing is remembered between them.

#![allow(
    clippy::print_stdout,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a program for people at a terminal, over data that it made itself"
)]

use estate::{Decision, Estate, EstateFiles, Identity};
use facts::{FactSet, Source, Timestamp, names};
use serde_json::json;
use std::borrow::Cow;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const SEED: u64 = 0x0074_7269_6c69_7468;
const POOLS: usize = 50;
const TEAM: usize = 10;
const KINDS: [&str; 3] = ["service", "job", "ai-agent"];

/// xorshift64*: the same numbers everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}

struct Size {
    identities: usize,
    templates: usize,
}

impl Size {
    const fn teams(&self) -> usize {
        self.identities / TEAM
    }

    /// Every 25th has a policy of its own.
    const fn is_single(number: usize) -> bool {
        number.is_multiple_of(25)
    }
}

fn path(number: usize) -> String {
    format!("t{}/i{number}", number / TEAM)
}

fn unit(number: usize) -> String {
    format!("u{number}")
}

/// The code of an identity goes by this name and has this digest.
fn code(number: usize) -> (String, String) {
    (format!("c{number}"), format!("{number:064x}"))
}

fn declarations(size: &Size) -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert("estate.toml", "trust_domain = \"bench\"\n");
    let mut text = String::new();
    for team in 0..size.teams() {
        let _ = writeln!(text, "[[group]]\nname = \"t{team}\"");
    }
    for number in 0..size.identities {
        let _ = writeln!(
            text,
            "[[identity]]\npath = \"{}\"\nkind = \"{}\"\nowner = \"{}\"\ngroups = [\"t{}\"]",
            path(number),
            KINDS[number % KINDS.len()],
            unit(number),
            number / TEAM,
        );
    }
    for number in 0..size.templates {
        let _ = writeln!(
            text,
            "[[identity]]\npath = \"x{number}/{{machine.pool}}/{{workload.unit}}\"\nkind = \"job\"\nowner = \"x\""
        );
    }
    files.insert("identities/all.toml", text);
    let mut text = String::new();
    for pool in 0..POOLS {
        let _ = writeln!(text, "[[pool]]\nname = \"p{pool}\"");
    }
    for number in (0..size.identities).filter(|number| Size::is_single(*number)) {
        let (name, digest) = code(number);
        let _ = writeln!(text, "[[code]]\nname = \"{name}\"\nsha256 = [\"{digest}\"]");
    }
    files.insert("references/all.toml", text);
    files.insert("policies/all.cedar", policies(size));
    files
}

fn policies(size: &Size) -> String {
    let mut text = String::new();
    for team in 0..size.teams() {
        let _ = writeln!(
            text,
            "@id(\"t{team}\") permit (principal in Pool::\"p{}\", action == Action::\"assume\", resource in Group::\"t{team}\") \
             when {{ principal has cgroup && principal.cgroup == \"/t{team}\" && principal has unit && resource.owner == principal.unit }};",
            team % POOLS
        );
    }
    for number in (0..size.identities).filter(|number| Size::is_single(*number)) {
        let condition = if number % 50 == 0 {
            format!(
                "principal has unit && principal.unit == \"{}\"",
                unit(number)
            )
        } else {
            let (name, _) = code(number);
            format!(
                "principal has uid && principal.uid == 1000 && principal has code && principal.code.known_as.contains(\"{name}\")"
            )
        };
        let _ = writeln!(
            text,
            "@id(\"i{number}\") permit (principal in Pool::\"p{}\", action == Action::\"assume\", resource == Identity::\"{}\") when {{ {condition} }};",
            number % POOLS,
            path(number)
        );
    }
    for number in 0..size.templates {
        let _ = writeln!(
            text,
            "@id(\"x{number}\") permit (principal in Pool::\"p{}\", action == Action::\"assume\", \
             resource == Identity::\"x{number}/{{machine.pool}}/{{workload.unit}}\") \
             when {{ principal has cgroup && principal.cgroup == \"/x{number}\" }};",
            number % POOLS
        );
    }
    text.push_str(
        "permit (principal is Admin, action, resource);\n\
         forbid (principal, action == Action::\"assume\", resource) when { principal has uid && principal.uid == 0 };\n\
         forbid (principal, action == Action::\"assume\", resource) when { resource.kind == \"ai-agent\" && \
         principal.machine has join && principal.machine.join == \"token\" };\n",
    );
    text
}

/// What runs as one of the identities, as an instance of one of the templates, or as nobody's.
fn workload(random: &mut Random, size: &Size) -> FactSet {
    let number = random.below(size.identities);
    let single = number - number % 25;
    let (mut pool, mut unit, mut cgroup, mut digest) = (
        number / TEAM % POOLS,
        unit(number),
        format!("/t{}", number / TEAM),
        format!("{:064x}", u64::MAX),
    );
    match random.below(6) {
        0..3 => {}
        3 => {
            pool = single % POOLS;
            unit = self::unit(single);
            digest = code(single).1;
        }
        4 => {
            let template = number % size.templates;
            pool = template % POOLS;
            cgroup = format!("/x{template}");
        }
        _ => unit = "nobody".to_owned(),
    }
    let mut facts = FactSet::new();
    for (name, value) in [
        (names::MACHINE_NAME, format!("m{number}")),
        (names::MACHINE_POOL, format!("p{pool}")),
        (names::MACHINE_JOIN, "tpm".to_owned()),
        (names::MACHINE_TPM_KIND, "discrete".to_owned()),
        (names::WORKLOAD_PATH, "/usr/bin/api".to_owned()),
        (names::WORKLOAD_UNIT, unit),
        (names::WORKLOAD_CGROUP, cgroup),
        (names::CODE_SHA256, digest),
    ] {
        facts.state(name, value, Source::Verified, Timestamp::EPOCH);
    }
    let uid = if random.below(20) == 0 { 0_u32 } else { 1000 };
    facts.state(names::WORKLOAD_UID, uid, Source::Asserted, Timestamp::EPOCH);
    facts
}

struct Measured {
    times: Vec<Duration>,
    found: Vec<Vec<String>>,
}

impl Measured {
    fn microseconds(&self, share: f64) -> f64 {
        let mut sorted = self.times.clone();
        sorted.sort();
        let last = sorted.len() - 1;
        #[expect(
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index below the length"
        )]
        let index = (last as f64 * share) as usize;
        sorted[index].as_secs_f64() * 1e6
    }
}

type Found<'a> = Vec<(Cow<'a, Identity>, Decision)>;

fn measure<'a>(asked: &[FactSet], find: impl Fn(&FactSet) -> Found<'a>) -> Measured {
    let mut measured = Measured {
        times: Vec::with_capacity(asked.len()),
        found: Vec::with_capacity(asked.len()),
    };
    for facts in asked {
        let began = Instant::now();
        let found = find(facts);
        measured.times.push(began.elapsed());
        let paths = found.iter().map(|(identity, _)| identity.path.clone());
        measured.found.push(paths.collect());
    }
    measured
}

fn main() -> ExitCode {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let size = if quick {
        Size {
            identities: 2_000,
            templates: 20,
        }
    } else {
        Size {
            identities: 100_000,
            templates: 1_000,
        }
    };
    let (many, few) = if quick { (500, 20) } else { (20_000, 20) };
    let began = Instant::now();
    let estate = match Estate::compile(&declarations(&size)) {
        Ok(estate) => estate,
        Err(problems) => {
            let first: Vec<_> = problems.iter().take(5).map(ToString::to_string).collect();
            unreachable!("{}", first.join("\n"))
        }
    };
    let compiled = began.elapsed();
    let mut random = Random(SEED);
    let asked: Vec<FactSet> = (0..many).map(|_| workload(&mut random, &size)).collect();
    let sample = &asked[..few];

    let _warm = measure(&asked[..many / 10], |facts| estate.assumable(facts));
    let ours = measure(&asked, |facts| estate.assumable(facts));
    let theirs = measure(sample, |facts| estate.assumable_one_by_one(facts));
    let pairs = ours.found.iter().zip(&theirs.found);
    let differing = pairs.filter(|(ours, theirs)| ours != theirs).count();
    let given = ours.found.iter().filter(|found| !found.is_empty()).count();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let share = given as f64 / many as f64;

    let row = |id: &str, ours: f64, unit: &str, reference: f64, is: &str| {
        println!(
            "{}",
            json!({"id": id, "ours": ours, "unit": unit, "reference": reference, "reference_is": is, "ratio": ours / reference,
                   "identities": size.identities, "templates": size.templates, "policies": estate.policy_count()})
        );
    };
    row(
        "estate.assume_100k_p99_us",
        ours.microseconds(0.99),
        "us",
        theirs.microseconds(0.99),
        "one identity after another, p99",
    );
    row(
        "estate.assume_100k_p50_us",
        ours.microseconds(0.5),
        "us",
        theirs.microseconds(0.5),
        "one identity after another, p50",
    );
    row(
        "estate.compile_100k_ms",
        compiled.as_secs_f64() * 1e3,
        "ms",
        1.0,
        "nothing",
    );
    println!(
        "{}",
        json!({"id": "estate.assume_100k_given_share", "ours": share, "unit": "", "reference": 0.8, "reference_is": "made so", "ratio": share / 0.8, "differing": differing})
    );
    // Of an estate that gives nobody anything, both find the same.
    if differing == 0 && share > 0.5 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
