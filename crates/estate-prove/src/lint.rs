//! What only a solver sees of policies: conditions that no request meets, evaluation that errs, policies
//! that another one makes needless. Of all data that fits the schema, so that whatever it finds stays
//! true when other things are declared.
//!
//! Bounded in time and in pairs; what was not asked about is counted, never left out in silence. What is said to be
//! so of any data is said where all solvers that answer agree: one of another make that is installed is asked as well.

use crate::counterexample::Party;
use crate::options::Options;
use crate::pool::unknown;
use crate::proof::{engines, on_a_prover, solvers};
use crate::report::Unknown;
use crate::solvers::Solvers;
use cedar_policy::{Authorizer, Effect, PolicySet, RequestEnv};
use cedar_policy_symcc::{CompiledPolicy, Env};
use estate::cedar::{self, Single};
use estate::{Estate, Means, Remark, Severity};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Pairs of policies that are compared. A pair takes one to ten milliseconds.
const MOST_PAIRS: usize = 1_000;

/// All remarks on one version, and what stands behind them.
#[derive(Debug, Clone, Serialize)]
pub struct Lint {
    /// In order of file and line.
    pub findings: Vec<Remark>,
    /// The solver's first line of `--version`; none when it could not be asked.
    pub solver: Option<String>,
    /// Of the second, where there is one that has answered all that it was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub second: Option<String>,
    /// How many solvers agree on what is said here to be so of any data. One vouches alone; 0: none was asked.
    pub solvers: u8,
    /// Policies that it was asked about.
    pub policies_asked: usize,
    /// Pairs of policies that it compared.
    pub pairs_asked: usize,
    /// What was not asked, and why. Empty when nothing was left out.
    pub not_asked: Vec<String>,
}

impl Lint {
    #[must_use]
    pub fn count(&self, severity: Severity) -> usize {
        let of = |remark: &&Remark| remark.severity == severity;
        self.findings.iter().filter(of).count()
    }
}

/// [`Estate::lint`], and what the solver finds beside it. Blocks the thread, on which no async runtime may be
/// running. Never fails: without a solver it says so.
#[must_use]
pub fn lint_blocking(estate: &Estate, options: &Options) -> Lint {
    let found = on_a_prover(|| asked(estate, options));
    let asked = found.unwrap_or_else(|error| Asked {
        not_asked: vec![format!("the solver was not asked: {error}")],
        ..Asked::default()
    });
    asked.beside(estate.lint())
}

/// What the solver was asked and said.
#[derive(Default)]
struct Asked {
    solver: Option<String>,
    second: Option<String>,
    solvers: u8,
    remarks: Vec<Remark>,
    /// Places of policies of which it is known whether they err.
    settled: BTreeSet<(String, u32)>,
    policies: usize,
    pairs: usize,
    not_asked: Vec<String>,
}

impl Asked {
    /// Together with what text and declarations show: said once of a policy, and not supposed where it is
    /// known.
    fn beside(self, mut remarks: Vec<Remark>) -> Lint {
        let place = |remark: &Remark| (remark.problem.file.clone(), remark.problem.line);
        remarks.retain(|remark| {
            remark.problem.code != "LINT-MAY-ERR" || !self.settled.contains(&place(remark))
        });
        for remark in self.remarks {
            let said = remarks.iter().any(|other| {
                place(other) == place(&remark) && other.problem.code == remark.problem.code
            });
            if !said {
                remarks.push(remark);
            }
        }
        Remark::sort(&mut remarks);
        Lint {
            findings: remarks,
            solver: self.solver,
            second: self.second,
            solvers: self.solvers,
            policies_asked: self.policies,
            pairs_asked: self.pairs,
            not_asked: self.not_asked,
        }
    }
}

async fn asked(estate: &Estate, options: &Options) -> Asked {
    let mut asked = Asked::default();
    let mut asking = Asking {
        estate,
        solvers: Solvers::of(options),
        singles: cedar::singles(estate).collect(),
        compiled: BTreeMap::new(),
    };
    let dead = asking.singly(&mut asked).await;
    if asked.policies > 0 {
        asking.in_pairs(&dead, &mut asked).await;
        let vouch = engines(&solvers(options).await, !asking.solvers.all_answer());
        asked.solver = vouch.solver;
        asked.second = vouch.second;
        asked.solvers = vouch.solvers;
    }
    asked
}

struct Asking<'a> {
    estate: &'a Estate,
    solvers: Solvers,
    singles: Vec<Single<'a>>,
    /// Each policy for every kind of request that it can be about, by its number.
    compiled: BTreeMap<usize, BTreeMap<RequestEnv, CompiledPolicy>>,
}

impl<'a> Asking<'a> {
    /// Of each policy by itself. Returns the numbers of those that never match.
    async fn singly(&mut self, asked: &mut Asked) -> BTreeSet<usize> {
        let mut dead = BTreeSet::new();
        for (number, single) in self.singles.clone().into_iter().enumerate() {
            match self.single(number, single, asked).await {
                Ok(true) => {
                    dead.insert(number);
                }
                Ok(false) => {}
                Err(why) if is_final(&why) => {
                    let left = self.singles.len() - number;
                    asked
                        .not_asked
                        .push(format!("{left} of {} policies: {why}", self.singles.len()));
                    return dead;
                }
                Err(why) => {
                    let reference = single.reference();
                    asked.not_asked.push(format!("{reference}: {why}"));
                }
            }
            asked.policies += 1;
        }
        dead
    }

    /// Whether it never matches.
    async fn single(
        &mut self,
        number: usize,
        single: Single<'a>,
        asked: &mut Asked,
    ) -> Result<bool, Unknown> {
        let schema = cedar::schema(self.estate);
        let mut compiled = BTreeMap::new();
        for env in single.policy().get_valid_request_envs(schema) {
            let policy = CompiledPolicy::compile(single.policy(), &env, schema)
                .map_err(|error| unknown(&error))?;
            compiled.insert(env, policy);
        }
        let compiled = self.compiled.entry(number).or_insert(compiled);
        let mut never = true;
        for policy in compiled.values() {
            never = self.solvers.never_matches(policy).await?;
            if !never {
                break;
            }
        }
        let mut errs = None;
        if single.is_fragile() {
            for policy in compiled.values() {
                errs = self.solvers.errs(policy).await?;
                if errs.is_some() {
                    break;
                }
            }
        }
        let reference = single.reference();
        if single.is_fragile() {
            let shown = errs.as_ref().and_then(|found| self.errs(single, found));
            // A request that does not err when Cedar evaluates it settles nothing.
            if errs.is_none() || shown.is_some() {
                let place = (reference.file.clone(), reference.line);
                asked.settled.insert(place);
            }
            asked.remarks.extend(shown);
        }
        if never {
            let what = match single.policy().effect() {
                Effect::Permit => "it never permits anything",
                Effect::Forbid => "it never forbids anything",
            };
            asked.remarks.push(Remark::of_policy(
                Severity::Error,
                Means::Solver,
                "LINT-NEVER-MATCHES",
                reference,
                format!("{what}: no request of any data meets its conditions"),
                "correct the conditions, or delete the policy",
            ));
        }
        Ok(never)
    }

    /// The request that makes it err, after Cedar has seen it err as well.
    fn errs(&self, single: Single<'_>, found: &Env) -> Option<Remark> {
        let set = PolicySet::from_policies([single.policy().clone()]).ok()?;
        let answer = Authorizer::new().is_authorized(&found.request, &set, &found.entities);
        let error = answer.diagnostics().errors().next()?.to_string();
        let declared = cedar::entities(self.estate);
        let party = |uid| Party::of(uid, &found.entities, declared);
        let principal = party(found.request.principal()?);
        let resource = party(found.request.resource()?);
        let action = found.request.action()?.id().unescaped().to_owned();
        let context = found
            .request
            .context()
            .map(ToString::to_string)
            .unwrap_or_default();
        let message = format!(
            "it errs, and whatever errs is denied: {principal} could not {action} {resource}, \
             with {context}: {error}"
        );
        Some(Remark::of_policy(
            Severity::Error,
            Means::Solver,
            "LINT-ERRS",
            single.reference(),
            message,
            "compare without `+`, `-` and `*`, or bound the numbers in conditions before it",
        ))
    }

    /// Of each policy beside another one whose scope takes it in.
    async fn in_pairs(&self, dead: &BTreeSet<usize>, asked: &mut Asked) {
        let mut pairs = Vec::new();
        let mut further = 0_usize;
        for (number, single) in self.singles.iter().enumerate() {
            for (other, wider) in self.singles.iter().enumerate() {
                let compared = number != other
                    && !dead.contains(&number)
                    && !dead.contains(&other)
                    && single.is_within(*wider, self.estate);
                if !compared {
                    continue;
                }
                if pairs.len() < MOST_PAIRS {
                    pairs.push((number, other));
                } else {
                    further += 1;
                }
            }
        }
        if further > 0 {
            asked.not_asked.push(format!(
                "{further} of {} pairs of policies: {MOST_PAIRS} are compared at most",
                pairs.len() + further
            ));
        }
        let mut implied: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (done, (number, other)) in pairs.iter().enumerate() {
            match self.implies(*number, *other).await {
                Ok(true) => implied.entry(*number).or_default().push(*other),
                Ok(false) => {}
                Err(why) if is_final(&why) => {
                    let left = pairs.len() - done;
                    asked.not_asked.push(format!(
                        "{left} of {} pairs of policies: {why}",
                        pairs.len()
                    ));
                    break;
                }
                Err(why) => asked.not_asked.push(format!("a pair of policies: {why}")),
            }
            asked.pairs += 1;
        }
        for (number, wider) in &implied {
            // Of two that say the same, the second is one too many.
            let shadow = wider.iter().find(|other| {
                let mutual = implied.get(other).is_some_and(|back| back.contains(number));
                !mutual || *other < number
            });
            let pair = shadow
                .and_then(|other| Some((self.singles.get(*number)?, self.singles.get(*other)?)));
            if let Some((single, wider)) = pair {
                asked.remarks.push(single.shadowed_by(*wider));
            }
        }
    }

    /// Whether the other policy matches whenever this one does.
    async fn implies(&self, number: usize, other: usize) -> Result<bool, Unknown> {
        let (Some(narrower), Some(wider)) = (self.compiled.get(&number), self.compiled.get(&other))
        else {
            return Ok(false);
        };
        for (env, policy) in narrower {
            let Some(wider) = wider.get(env) else {
                return Ok(false);
            };
            if !self.solvers.matches_implies(policy, wider).await? {
                return Ok(false);
            }
        }
        Ok(!narrower.is_empty())
    }
}

/// Whether asking on leads nowhere: there is no solver, or no time.
fn is_final(why: &Unknown) -> bool {
    why.code == "PROVE-SOLVER-START" || why.message.ends_with("in all")
}
