//! Measures decisions: 10 to 100,000 policies, 10,000 resources, half denied, uniform keys, one core; beside
//! plain Cedar over all policies in the same run. One JSON object a line; exits 1 when the decisions
//! differ. `--quick` measures less, and no 100,000.
//!
//! 95 % of the policies name a principal and a resource, 4 % a group that stands four deep, 1 % only
//! attributes. No request is decided twice in a row and nothing is remembered between requests but
//! a session's facts in the form that decisions take, as a gateway holds them.
//!
//! Where Go is there, Open Policy Agent decides the same by the same policies, up to 10,000 of them.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a program for people at a terminal, over data that it made itself"
)]

mod opa;

use estate::{Action, Estate, EstateFiles, Prepared, Request, ResourceRef};
use facts::{FactSet, Source, Timestamp, names};
use serde_json::json;
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// What the binary allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 0x0074_7269_6c69_7468;
/// Rules take it seconds to compile.
const MOST_FOR_OPA: usize = 10_000;
/// More policies than this have to be short, to fit into the 16 MiB that an estate may have.
const MOST_LONG: usize = 10_000;
/// Policies, as rows call it, and how many decisions of plain Cedar's are waited for: of 100,000 policies each takes
/// a good part of a second.
const SIZES: [(usize, &str, usize); 5] = [
    (10, "10", 10_000),
    (100, "100", 4_000),
    (1_000, "1k", 1_000),
    (10_000, "10k", 400),
    (100_000, "100k", 24),
];
const IDENTITIES: usize = 10_000;
const SCHEMAS: usize = 100;
const TABLES_PER_SCHEMA: usize = 100;
const TEAMS: usize = 100;
/// Groups of four levels: 1, 10, 100, 1000.
const LEVELS: [usize; 4] = [1, 10, 100, 1_000];
const CLASSES: [&str; 4] = ["public", "internal", "pii", "restricted"];
const KINDS: [&str; 3] = ["service", "job", "ai-agent"];
const ACTIONS: [Action; 4] = [
    Action::Select,
    Action::Insert,
    Action::Update,
    Action::Delete,
];

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

/// Who each scoped policy lets do what to which, so that half the requests can be allowed.
struct Made {
    estate: Estate,
    rules: opa::Rules,
    granted: Vec<(String, Action, ResourceRef)>,
}

fn identity(number: usize) -> String {
    format!("team{}/i{number}", number % TEAMS)
}

fn table(number: usize) -> String {
    format!("db/s{}/t{number}", number / TABLES_PER_SCHEMA)
}

fn declarations() -> EstateFiles {
    let mut files = EstateFiles::new();
    files.insert(
        "estate.toml",
        "trust_domain = \"bench\"\nclassifications = [\"public\", \"internal\", \"pii\", \"restricted\"]\n",
    );
    let mut text = String::new();
    for (level, groups) in LEVELS.iter().enumerate() {
        for group in 0..*groups {
            let parent = level
                .checked_sub(1)
                .map(|above| format!("groups = [\"g{above}-{}\"]\n", group / 10));
            let _ = write!(
                text,
                "[[group]]\nname = \"g{level}-{group}\"\n{}",
                parent.unwrap_or_default()
            );
        }
    }
    for number in 0..IDENTITIES {
        let _ = write!(
            text,
            "[[identity]]\npath = \"{}\"\nkind = \"{}\"\nowner = \"o{}\"\ngroups = [\"g3-{}\"]\nlabels = {{ team = \"{}\" }}\nvisible = [\"machine.join\"]\n",
            identity(number),
            KINDS[number % KINDS.len()],
            number % 50,
            number % LEVELS[3],
            number % TEAMS,
        );
    }
    files.insert("identities/all.toml", text);
    let mut text = "[[database]]\nname = \"db\"\n".to_owned();
    for schema in 0..SCHEMAS {
        let _ = write!(text, "[[database.schema]]\nname = \"s{schema}\"\n");
        for number in 0..TABLES_PER_SCHEMA {
            let number = schema * TABLES_PER_SCHEMA + number;
            let class = CLASSES[number % CLASSES.len()];
            let _ = write!(
                text,
                "[[database.schema.table]]\nname = \"t{number}\"\nclassification = \"{class}\"\n"
            );
        }
    }
    files.insert("resources/all.toml", text);
    files
}

/// 95 % scoped, 4 % by group, 1 % by attributes.
fn mixed(random: &mut Random, policies: usize) -> Made {
    let mut granted = Vec::new();
    let mut text = String::new();
    let mut rules = opa::Rules::new();
    let joined = |join: &str| opa::is("join", join);
    for number in 0..policies {
        let action = ACTIONS[random.below(ACTIONS.len())];
        if policies <= MOST_LONG {
            let _ = write!(text, "@id(\"p{number}\") ");
        }
        match number % 100 {
            0..95 => {
                let (who, what) = (
                    identity(random.below(IDENTITIES)),
                    table(random.below(SCHEMAS * TABLES_PER_SCHEMA)),
                );
                // Of very many, every other one asks for facts: more does not fit.
                let condition = match policies <= MOST_LONG || number % 2 == 0 {
                    true => "when{context.machine has join&&context.machine.join==\"tpm\"}",
                    false => "",
                };
                let _ = writeln!(
                    text,
                    "permit(principal==Identity::\"{who}\",action==Action::\"{action}\",resource==Table::\"{what}\"){condition};"
                );
                rules.add(
                    "permit",
                    &[
                        opa::is("resource", &what),
                        opa::is("principal", &who),
                        opa::is("action", action),
                        joined("tpm"),
                    ],
                );
                granted.push((who, action, ResourceRef::table(what)));
            }
            95..99 => {
                let level = random.below(LEVELS.len());
                let group = random.below(LEVELS[level]);
                let class = CLASSES[random.below(2)];
                let schema = random.below(SCHEMAS);
                let _ = writeln!(
                    text,
                    "permit (principal in Group::\"g{level}-{group}\", action == Action::\"{action}\", resource in Schema::\"db/s{schema}\") \
                     when {{ resource.classification == \"{class}\" }};"
                );
                rules.add(
                    "permit",
                    &[
                        opa::is("schema", format!("db/s{schema}")),
                        opa::is("action", action),
                        opa::is("classification", class),
                        format!("\"g{level}-{group}\" in input.groups"),
                    ],
                );
            }
            _ => text.push_str(&by_attributes(random, action, &mut rules)),
        }
    }
    Made {
        estate: compile(text),
        rules,
        granted,
    }
}

/// Nothing but attributes, for the worst case: no scope for an index to use, nor anything that a policy asks for
/// whatever else it asks.
fn unscoped(random: &mut Random, policies: usize) -> Estate {
    let mut text = String::new();
    for number in 0..policies {
        let action = ACTIONS[random.below(ACTIONS.len())];
        if policies > MOST_LONG {
            let (left, right) = (random.below(1_000), random.below(1_000));
            let _ = writeln!(
                text,
                "forbid(principal,action==Action::\"{action}\",resource is Table)when\
                 {{principal.owner==\"n{left}\"||principal.owner==\"n{right}\"}};"
            );
            continue;
        }
        let class = CLASSES[random.below(CLASSES.len())];
        let kind = KINDS[random.below(KINDS.len())];
        let owner = random.below(50);
        let _ = writeln!(
            text,
            "@id(\"p{number}\") forbid (principal, action == Action::\"{action}\", resource is Table) when \
             {{ (principal.owner == \"o{owner}\" || principal.kind == \"{kind}\") && resource.classification == \"{class}\" && context.machine has join && context.machine.join == \"token\" }};"
        );
    }
    compile(text)
}

/// As an organisation writes them: by label, by owner, by kind.
fn by_attributes(random: &mut Random, action: Action, rules: &mut opa::Rules) -> String {
    let class = CLASSES[random.below(CLASSES.len())];
    let effect = if random.below(4) == 0 {
        "forbid"
    } else {
        "permit"
    };
    let (condition, asked) = match random.below(3) {
        0 => {
            let team = random.below(TEAMS);
            (
                format!("principal.hasTag(\"team\") && principal.getTag(\"team\") == \"{team}\""),
                opa::is("team", team),
            )
        }
        1 => {
            let owner = format!("o{}", random.below(50));
            (
                format!("principal.owner == \"{owner}\""),
                opa::is("owner", owner),
            )
        }
        _ => {
            let kind = KINDS[random.below(KINDS.len())];
            (
                format!("principal.kind == \"{kind}\""),
                opa::is("kind", kind),
            )
        }
    };
    let class_is = opa::is("classification", class);
    let body = [
        asked,
        class_is,
        opa::is("action", action),
        opa::is("join", "token"),
    ];
    rules.add(effect, &body);
    format!(
        "{effect} (principal, action == Action::\"{action}\", resource is Table) \
         when {{ {condition} && resource.classification == \"{class}\" && context.machine has join && context.machine.join == \"token\" }};\n"
    )
}

fn compile(policies: String) -> Estate {
    let mut files = declarations();
    files.insert("policies/all.cedar", policies);
    match Estate::compile(&files) {
        Ok(estate) => estate,
        Err(problems) => {
            let first: Vec<_> = problems.iter().take(5).map(ToString::to_string).collect();
            unreachable!("{}", first.join("\n"))
        }
    }
}

type Asked = (String, Action, ResourceRef);

/// Half from what is granted, half at random.
fn requests(random: &mut Random, granted: &[Asked], count: usize) -> Vec<Asked> {
    (0..count)
        .map(|number| {
            if number % 2 == 0 && !granted.is_empty() {
                granted[random.below(granted.len())].clone()
            } else {
                let what = table(random.below(SCHEMAS * TABLES_PER_SCHEMA));
                let action = ACTIONS[random.below(ACTIONS.len())];
                (
                    identity(random.below(IDENTITIES)),
                    action,
                    ResourceRef::table(what),
                )
            }
        })
        .collect()
}

/// A session on a machine that joined by TPM, with every fact that such a session has.
fn session() -> FactSet {
    let mut facts = FactSet::new();
    for (name, value) in [
        (names::MACHINE_NAME, "m1"),
        (names::MACHINE_POOL, "production"),
        (names::MACHINE_JOIN, "tpm"),
        (names::MACHINE_TPM_KIND, "discrete"),
        (names::WORKLOAD_PATH, "/usr/bin/api"),
        (names::CODE_SHA256, "00"),
    ] {
        facts.state(name, value, Source::Verified, Timestamp::EPOCH);
    }
    facts.state(
        names::WORKLOAD_UID,
        1000_u32,
        Source::Asserted,
        Timestamp::EPOCH,
    );
    facts
}

/// A request as the rules for Open Policy Agent read it.
fn input((who, action, what): &Asked) -> serde_json::Value {
    let number = |text: &str| {
        text.rsplit(['i', 't'])
            .next()
            .and_then(|digits| digits.parse().ok())
    };
    let identity: usize = number(who).unwrap_or_default();
    let table: usize = number(&what.path).unwrap_or_default();
    let mut group = identity % LEVELS[3];
    let mut groups = Vec::new();
    for level in (0..LEVELS.len()).rev() {
        groups.push(format!("g{level}-{group}"));
        group /= 10;
    }
    json!({
        "principal": who,
        "kind": KINDS[identity % KINDS.len()],
        "owner": format!("o{}", identity % 50),
        "team": (identity % TEAMS).to_string(),
        "groups": groups,
        "action": action.as_str(),
        "resource": what.path,
        "schema": format!("db/s{}", table / TABLES_PER_SCHEMA),
        "classification": CLASSES[table % CLASSES.len()],
        "join": "tpm",
    })
}

struct Measured {
    times: Vec<Duration>,
    allowed: Vec<bool>,
}

impl Measured {
    fn microseconds(&self, share: f64) -> f64 {
        let mut sorted = self.times.clone();
        sorted.sort();
        let last = sorted.len() - 1;
        #[expect(clippy::cast_sign_loss, reason = "an index below the length")]
        let index = (last as f64 * share) as usize;
        sorted[index].as_secs_f64() * 1e6
    }

    fn allowed(&self) -> usize {
        self.allowed.iter().filter(|allow| **allow).count()
    }

    /// How many decisions on the same requests are others.
    fn differing(&self, other: &Self) -> usize {
        let pairs = self.allowed.iter().zip(&other.allowed);
        pairs.filter(|(one, other)| one != other).count()
    }

    fn per_second(&self) -> f64 {
        let total: Duration = self.times.iter().sum();
        let count = self.times.len() as f64;
        count / total.as_secs_f64()
    }
}

fn measure(asked: &[Asked], mut decide: impl FnMut(&Asked) -> bool) -> Measured {
    let mut measured = Measured {
        times: Vec::with_capacity(asked.len()),
        allowed: Vec::with_capacity(asked.len()),
    };
    for one in asked {
        let began = Instant::now();
        let allow = decide(one);
        measured.times.push(began.elapsed());
        measured.allowed.push(allow);
    }
    measured
}

fn indexed(estate: &Estate, prepared: &Prepared, (who, action, what): &Asked) -> bool {
    estate.decide_prepared(who, *action, what, prepared).allow
}

fn plain(estate: &Estate, facts: &FactSet, (who, action, what): &Asked) -> bool {
    let request = Request {
        principal: who,
        action: *action,
        resource: what.clone(),
        facts,
    };
    estate.decide_plainly(&request).allow
}

fn row(id: &str, ours: f64, unit: &str, reference: f64, is: &str) {
    println!(
        "{}",
        json!({"id": id, "ours": ours, "unit": unit, "reference": reference, "reference_is": is, "ratio": ours / reference})
    );
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted: Vec<&String> = arguments
        .iter()
        .zip(arguments.iter().skip(1))
        .filter(|(option, _)| *option == "--only")
        .map(|(_, id)| id)
        .collect();
    let mut differing = 0;
    for (policies, name, plainly) in SIZES {
        let prefix = format!("estate.decide_{name}_");
        let asked = wanted.is_empty() || wanted.iter().any(|id| id.starts_with(&prefix));
        if asked && !(quick && policies > 10_000) {
            let few = if quick { plainly / 8 } else { plainly };
            differing += measure_size(policies, name, if quick { 20_000 } else { 200_000 }, few);
        }
    }
    if differing == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// How many decisions of Open Policy Agent's are not ours; none where it cannot be had.
fn beside_opa(
    name: &str,
    rules: &opa::Rules,
    ours: &Measured,
    asked: &[Asked],
    decide: impl Fn(&Asked) -> bool,
) -> usize {
    let few = &asked[..asked.len().min(2_000)];
    let requests: Vec<_> = few.iter().map(input).collect();
    let theirs = match opa::measure(rules, &requests) {
        Ok(theirs) => theirs,
        Err(error) => {
            eprintln!("not beside Open Policy Agent: {error}");
            return 0;
        }
    };
    row(
        &format!("estate.decide_{name}_p99_vs_opa"),
        ours.microseconds(0.99),
        "us",
        theirs.tail,
        "Open Policy Agent, p99",
    );
    row(
        &format!("estate.decide_{name}_p50_vs_opa"),
        ours.microseconds(0.5),
        "us",
        theirs.median,
        "Open Policy Agent, p50",
    );
    let differing = few.iter().zip(&theirs.allowed);
    let differing = differing
        .filter(|(one, allowed)| decide(one) != **allowed)
        .count();
    differing + few.len().abs_diff(theirs.allowed.len())
}

/// How many decisions of the sample are not plain Cedar's.
fn measure_size(policies: usize, name: &str, many: usize, few: usize) -> usize {
    let mut random = Random(SEED);
    let began = Instant::now();
    let Made {
        estate,
        rules,
        granted,
    } = mixed(&mut random, policies);
    let compiled = began.elapsed();
    let phase = |what: &str| {
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("{name} policies: {what} after {seconds:.1} s");
    };
    phase("compiled");
    let facts = session();
    let prepared = estate.prepare(&facts);
    let asked = requests(&mut random, &granted, many);
    let sample = requests(&mut random, &granted, few);

    let _warm = measure(&asked[..many / 10], |one| indexed(&estate, &prepared, one));
    let ours = measure(&asked, |one| indexed(&estate, &prepared, one));
    let unprepared = measure(&asked, |(who, action, what)| {
        let request = Request {
            principal: who,
            action: *action,
            resource: what.clone(),
            facts: &facts,
        };
        estate.decide(&request).allow
    });
    phase("decided by the index");
    let theirs = measure(&sample, |one| plain(&estate, &facts, one));
    let ours_of_sample = measure(&sample, |one| indexed(&estate, &prepared, one));
    let mut differ = ours_of_sample.differing(&theirs);
    phase("decided by plain Cedar");

    if policies <= MOST_FOR_OPA {
        differ += beside_opa(name, &rules, &ours, &asked, |one| {
            indexed(&estate, &prepared, one)
        });
    }
    // Both at once would be twice the memory.
    drop(estate);

    let worst = unscoped(&mut random, policies);
    phase("compiled without scopes");
    let worst_prepared = worst.prepare(&facts);
    let worst_ours = measure(&sample, |one| indexed(&worst, &worst_prepared, one));
    let worst_theirs = measure(&sample, |one| plain(&worst, &facts, one));
    differ += worst_ours.differing(&worst_theirs);
    phase("decided without scopes");

    let id = |what: &str| format!("estate.decide_{name}_{what}");
    let (median, tail) = (theirs.microseconds(0.5), theirs.microseconds(0.99));
    let rows = [
        ("p99_us", ours.microseconds(0.99), tail, "plain Cedar, p99"),
        ("p50_us", ours.microseconds(0.5), median, "plain Cedar, p50"),
        (
            "unprepared_p99_us",
            unprepared.microseconds(0.99),
            tail,
            "plain Cedar, p99",
        ),
        (
            "unscoped_p99_us",
            worst_ours.microseconds(0.99),
            worst_theirs.microseconds(0.99),
            "plain Cedar, p99",
        ),
        (
            "unscoped_p50_us",
            worst_ours.microseconds(0.5),
            worst_theirs.microseconds(0.5),
            "plain Cedar, p50",
        ),
    ];
    for (what, ours, reference, is) in rows {
        row(&id(what), ours, "us", reference, is);
    }
    row(
        &id("vs_cedar"),
        ours.per_second(),
        "decisions/s",
        theirs.per_second(),
        "plain Cedar",
    );
    let share = ours.allowed() as f64 / many as f64;
    for (id, ours, unit) in [
        (
            format!("estate.compile_{name}_ms"),
            compiled.as_secs_f64() * 1e3,
            "ms",
        ),
        (id("allowed_share"), share, ""),
        (id("differing"), differ as f64, ""),
    ] {
        println!("{}", json!({"id": id, "ours": ours, "unit": unit}));
    }
    differ
}
