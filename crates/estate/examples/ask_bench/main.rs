//! Measures `what-can` and `who-can`: 1,000 policies over 10,000 tables and 10,000 identities, each answer whole; and
//! over 1,000,000 tables, each answer up to its first access. Beside them plain Cedar, asked
//! of one pair after another over all policies. One JSON object a line; exits 1 when an answer is not what plain Cedar
//! says of the sampled pairs. `--quick` declares a tenth of the tables of the larger estate, and asks less.
//!
//! Plain Cedar would take minutes for one whole answer: a sample of its pairs is measured, and the time of all is
//! that of the sample times how many there are, as `reference_is` says. Of a first answer, it is as many pairs as
//! come before it in the order in which answers come.
//!
//! Nothing is remembered from one answer to the next but what an estate in force keeps. The first question of an estate
//! makes some of that, and has rows of its own (`…_cold_ms`); of the others each is asked three times.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "a program for people at a terminal, over data that it made itself"
)]

mod world;

use estate::{Access, Action, Estate, Request, ResourceKind, ResourceRef};
use facts::FactSet;
use serde_json::json;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use world::{ACTIONS, Random, Size, identity, table};

/// What the binary allocates with.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SEED: u64 = 0x0074_7269_6c69_7468;
const SMALL: Size = Size {
    policies: 1_000,
    tables: 10_000,
    identities: 10_000,
};
const LARGE: Size = Size {
    policies: 1_000,
    tables: 1_000_000,
    identities: 10_000,
};

/// The fastest of so many counts: machines have other work.
const ASKED_EACH: usize = 3;

/// What is asked of one estate.
struct Plan {
    size: Size,
    /// Whole answers are asked for, not first accesses.
    whole: bool,
    questions: usize,
    /// Pairs that plain Cedar is asked about, for each kind of question.
    pairs: usize,
}

/// One way to ask: what stands and what is varied.
struct Kind {
    id: &'static str,
    /// Which pairs plain Cedar would have to be asked about for one answer.
    pairs: usize,
}

/// Times of questions of one kind.
struct Asked {
    times: Vec<Duration>,
    cold: Duration,
    accesses: usize,
    /// Candidates of plain Cedar up to the first access, where only that is asked for.
    before_first: usize,
    /// Pairs in which our answer is not plain Cedar's.
    differing: usize,
    pair: Duration,
    sampled: usize,
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
    let asked = |what: &str| {
        let ids = ["what", "who"].map(|kind| format!("estate.{kind}_can_{what}"));
        let begins = |id: &&String| ids.iter().any(|own| own.starts_with(id.as_str()));
        wanted.is_empty() || wanted.iter().any(begins)
    };
    let mut differing = 0;
    if asked("1k_10k_ms") {
        differing += measure(&Plan {
            size: SMALL,
            whole: true,
            questions: if quick { 20 } else { 200 },
            pairs: if quick { 200 } else { 2_000 },
        });
    }
    if asked("first_answer_ms") {
        let tables = if quick { 10 } else { 1 };
        differing += measure(&Plan {
            size: Size {
                tables: LARGE.tables / tables,
                ..LARGE
            },
            whole: false,
            questions: if quick { 20 } else { 200 },
            pairs: if quick { 200 } else { 1_000 },
        });
    }
    if differing == 0 {
        return ExitCode::SUCCESS;
    }
    eprintln!("{differing} answers are not plain Cedar's");
    ExitCode::FAILURE
}

/// How many of the sampled pairs are answered otherwise than by plain Cedar.
fn measure(plan: &Plan) -> usize {
    let mut random = Random(SEED);
    let began = Instant::now();
    let (estate, granted) = world::made(&mut random, plan.size);
    eprintln!("compiled in {:.1} s", began.elapsed().as_secs_f64());
    let facts = world::session();
    let kinds = [
        Kind {
            id: "what",
            pairs: plan.size.tables * ACTIONS.len(),
        },
        Kind {
            id: "who",
            pairs: plan.size.identities,
        },
    ];
    let mut differing = 0;
    for kind in kinds {
        let began = Instant::now();
        let asked = ask(plan, &kind, &estate, &granted, &facts, &mut random);
        differing += asked.differing;
        rows(plan, &kind, &asked);
        let took = began.elapsed().as_secs_f64();
        eprintln!("{}-can asked in {took:.1} s", kind.id);
    }
    differing
}

fn ask(
    plan: &Plan,
    kind: &Kind,
    estate: &Estate,
    granted: &[world::Granted],
    facts: &FactSet,
    random: &mut Random,
) -> Asked {
    let mut asked = Asked {
        times: Vec::new(),
        cold: Duration::ZERO,
        accesses: 0,
        before_first: 0,
        differing: 0,
        pair: Duration::ZERO,
        sampled: 0,
    };
    let each = (plan.pairs / plan.questions).max(1);
    for number in 0..=plan.questions {
        // Whoever has a policy of its own, and whoever has none.
        let (who, action, what) = match number % 2 {
            0 => granted[random.below(granted.len())].clone(),
            _ => (
                identity(random.below(plan.size.identities)),
                ACTIONS[random.below(ACTIONS.len())],
                ResourceRef::table(table(random.below(plan.size.tables))),
            ),
        };
        let question = || {
            let began = Instant::now();
            let mut answer = match kind.id {
                "what" => estate.accesses_of(&who),
                _ => estate.accesses_to(action, &what),
            };
            let found: Vec<Access> = match plan.whole {
                true => answer
                    .map(|access| access.expect("no policy errs"))
                    .collect(),
                false => answer.next().into_iter().flatten().collect(),
            };
            (began.elapsed(), found)
        };
        let (mut took, found) = question();
        if number == 0 {
            asked.cold = took;
        } else {
            for _ in 1..ASKED_EACH {
                took = took.min(question().0);
            }
            asked.times.push(took);
        }
        asked.accesses += found.len();
        if !plan.whole {
            asked.before_first += before(plan.size, kind, found.first());
        }
        let given: BTreeSet<(&str, Action, &ResourceRef)> = found
            .iter()
            .map(|access| (&*access.identity, access.action, &access.resource))
            .collect();
        for pair in 0..each {
            let compared = match (kind.id, found.get(pair / 2), pair % 2) {
                (_, Some(access), 0) => (
                    access.identity.clone(),
                    access.action,
                    access.resource.clone(),
                ),
                ("what", ..) => (
                    who.clone(),
                    ACTIONS[random.below(ACTIONS.len())],
                    ResourceRef::table(table(random.below(plan.size.tables))),
                ),
                _ => (
                    identity(random.below(plan.size.identities)),
                    action,
                    what.clone(),
                ),
            };
            // What no file lists is asked about by another name than it is shown by.
            if compared.2.kind != ResourceKind::Table {
                continue;
            }
            let request = Request {
                principal: &compared.0,
                action: compared.1,
                resource: compared.2.clone(),
                facts,
            };
            let began = Instant::now();
            let allow = estate.decide_plainly(&request).allow;
            asked.pair += began.elapsed();
            asked.sampled += 1;
            let ours = given.contains(&(&*compared.0, compared.1, &compared.2));
            // Of an answer of which only the beginning was read, what is missing says nothing.
            let differs = match plan.whole {
                true => ours != allow,
                false => ours && !allow,
            };
            asked.differing += usize::from(differs);
        }
    }
    asked
}

/// How many pairs come before the first access, in the order in which answers come: by action and path, or by path.
/// Of an empty answer, all.
fn before(size: Size, kind: &Kind, first: Option<&Access>) -> usize {
    let Some(first) = first else {
        return kind.pairs;
    };
    match kind.id {
        "what" => {
            let mut actions = ACTIONS;
            actions.sort_unstable();
            let earlier = actions.iter().position(|action| *action == first.action);
            let place = world::place_of_table(&first.resource.path, size.tables);
            earlier.unwrap_or_default() * size.tables + place
        }
        _ => world::place_of_identity(&first.identity, size.identities),
    }
}

fn rows(plan: &Plan, kind: &Kind, asked: &Asked) {
    let mut times = asked.times.clone();
    times.sort_unstable();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let at = |share: usize| milliseconds(times[(times.len() - 1) * share / 100]);
    let pair = milliseconds(asked.pair) / asked.sampled.max(1) as f64;
    let questions = times.len() + 1;
    let pairs = match plan.whole {
        true => kind.pairs,
        false => asked.before_first / questions,
    };
    let reference = pair * pairs as f64;
    let name = match plan.whole {
        true => "1k_10k",
        false => "first_answer",
    };
    let id = |what: &str| format!("estate.{}_can_{name}_{what}", kind.id);
    println!(
        "{}",
        json!({
            "id": id("ms"),
            "ours": at(99),
            "unit": "ms",
            "reference": reference,
            "reference_is": format!(
                "plain Cedar, {} of {pairs} pairs, extrapolated",
                asked.sampled
            ),
            "ratio": at(99) / reference,
        })
    );
    for (what, ours, unit) in [
        ("p50_ms", at(50), "ms"),
        ("cold_ms", milliseconds(asked.cold), "ms"),
        ("accesses", asked.accesses as f64 / questions as f64, ""),
        ("differing", asked.differing as f64, ""),
    ] {
        println!("{}", json!({"id": id(what), "ours": ours, "unit": unit}));
    }
}
