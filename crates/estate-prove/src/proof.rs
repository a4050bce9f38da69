//! One estate, all invariants: compile to terms, ask, replay, and compare with today.
//!
//! `never` is disjointness: no request that matches is allowed. `always` is implication: each request
//! that matches is allowed. Cedar skips a policy that errs, where an estate denies; so a `never` that
//! is proved of Cedar holds of the estate, and an `always` also needs that no policy errs.

use crate::counterexample::Counterexample;
use crate::options::Options;
use crate::pool::{Pool, unknown};
use crate::report::{Engines, InvariantReport, Report, Result as ProofResult, Unknown};
use crate::solver;
use cedar_policy::{Authorizer, Decision, Policy, PolicySet, RequestEnv};
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet, Env};
use estate::{Estate, Invariant, InvariantKind, Today, cedar};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Deep conditions recurse in symbolic compilation as they do in validation.
const STACK_BYTES: usize = 128 * 1024 * 1024;

/// Proves every invariant of `estate`. Blocks the thread, on which no async runtime may be running.
///
/// Never fails: what goes wrong makes invariants unknown, and unknown is not accepted.
#[must_use]
pub fn prove_blocking(estate: &Estate, options: &Options) -> Report {
    let proved = on_a_prover(|| prove_here(estate, options));
    proved.unwrap_or_else(|error| {
        let why = Unknown::new("PROVE-THREAD", error.to_string());
        report(estate, None, Instant::now(), |_| ProofResult::Unknown {
            why: why.clone(),
        })
    })
}

/// Runs `work` to its end on a thread of its own, whose stack is deep.
pub(crate) fn on_a_prover<T: Send, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send,
) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("estate-prove".to_owned())
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                Ok(runtime.block_on(work()))
            })?
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the prover did not end as it should")))
    })
}

/// As [`prove_blocking`], off the async threads.
pub async fn prove(estate: Arc<Estate>, options: Options) -> Report {
    let started = Instant::now();
    let blocking = Arc::clone(&estate);
    match tokio::task::spawn_blocking(move || prove_blocking(&blocking, &options)).await {
        Ok(report) => report,
        Err(error) => {
            let why = Unknown::new("PROVE-THREAD", error.to_string());
            report(&estate, None, started, |_| ProofResult::Unknown {
                why: why.clone(),
            })
        }
    }
}

fn report(
    estate: &Estate,
    solver: Option<String>,
    started: Instant,
    mut result: impl FnMut(&Invariant) -> ProofResult,
) -> Report {
    let invariants = estate
        .invariants()
        .iter()
        .map(|invariant| {
            let began = Instant::now();
            finish(estate, invariant, result(invariant), began)
        })
        .collect();
    Report {
        estate: estate.version().to_owned(),
        engines: engines(solver),
        invariants,
        milliseconds: milliseconds(started),
    }
}

fn engines(solver: Option<String>) -> Engines {
    Engines {
        cedar: cedar_policy::get_sdk_version().to_string(),
        solvers: u8::from(solver.is_some()),
        solver,
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A proof that today's declarations contradict is a lie of the solver, or a fault of the encoding.
fn finish(
    estate: &Estate,
    invariant: &Invariant,
    result: ProofResult,
    began: Instant,
) -> InvariantReport {
    let today = estate.holds_today(invariant);
    let result = match (result, &today) {
        (ProofResult::Proved, Today::Broken { by }) => {
            let breach = by.first().map(|breach| {
                format!("{} {} {}", breach.principal, breach.action, breach.resource)
            });
            let message = format!(
                "the solver calls it proved, yet today it is broken by {}",
                breach.unwrap_or_default()
            );
            ProofResult::Unknown {
                why: Unknown::new("PROVE-SOLVER-LIES", message),
            }
        }
        (result, _) => result,
    };
    InvariantReport {
        kind: invariant.kind,
        invariant: Arc::clone(&invariant.reference),
        result,
        today,
        about_today: invariant.is_about_today(),
        milliseconds: milliseconds(began),
    }
}

async fn prove_here(estate: &Estate, options: &Options) -> Report {
    let started = Instant::now();
    let solver = solver::version(options).await;
    let mut prover = Prover {
        estate,
        pool: Pool::new(options),
        compiled: BTreeMap::new(),
    };
    let mut invariants = Vec::new();
    for invariant in estate.invariants() {
        let began = Instant::now();
        let result = prover.prove(invariant).await;
        invariants.push(finish(estate, invariant, result, began));
    }
    Report {
        estate: estate.version().to_owned(),
        engines: engines(solver),
        invariants,
        milliseconds: milliseconds(started),
    }
}

/// The policies that concern one kind of request.
struct Compiled {
    policies: CompiledPolicySet,
    fragile: Vec<CompiledPolicy>,
}

struct Prover<'a> {
    estate: &'a Estate,
    pool: Pool,
    /// Compiled once, asked of by every invariant.
    compiled: BTreeMap<RequestEnv, Compiled>,
}

impl Prover<'_> {
    async fn prove(&mut self, invariant: &Invariant) -> ProofResult {
        match self.try_all(invariant).await {
            Ok(None) => ProofResult::Proved,
            Ok(Some(counterexample)) => ProofResult::Broken {
                counterexample: Box::new(counterexample),
            },
            Err(why) => ProofResult::Unknown { why },
        }
    }

    /// Every kind of request that the invariant can speak of; the others it matches never, by type.
    async fn try_all(&mut self, invariant: &Invariant) -> Result<Option<Counterexample>, Unknown> {
        let policy = cedar::matching(invariant);
        let envs: Vec<_> = policy
            .get_valid_request_envs(cedar::schema(self.estate))
            .collect();
        if envs.is_empty() {
            return Err(Unknown::new(
                "PROVE-EMPTY",
                "no request can match the invariant",
            ));
        }
        for env in envs {
            self.compile(&env)?;
            if let Some(counterexample) = self.try_one(invariant, &env).await? {
                return Ok(Some(counterexample));
            }
        }
        Ok(None)
    }

    fn compile(&mut self, env: &RequestEnv) -> Result<(), Unknown> {
        if self.compiled.contains_key(env) {
            return Ok(());
        }
        let schema = cedar::schema(self.estate);
        let concern = |policy: &&Policy| cedar::concerns(self.estate, policy, env.action());
        let mut slice = PolicySet::new();
        for policy in cedar::policies(self.estate).policies().filter(concern) {
            // Ids are unique in the set that they come from, which is all that can fail.
            let _added = slice.add(policy.clone());
        }
        let fragile = cedar::fragile(self.estate)
            .filter(concern)
            .map(|policy| {
                CompiledPolicy::compile(policy, env, schema).map_err(|error| unknown(&error))
            })
            .collect::<Result<_, _>>()?;
        let policies =
            CompiledPolicySet::compile(&slice, env, schema).map_err(|error| unknown(&error))?;
        self.compiled
            .insert(env.clone(), Compiled { policies, fragile });
        Ok(())
    }

    async fn try_one(
        &self,
        invariant: &Invariant,
        env: &RequestEnv,
    ) -> Result<Option<Counterexample>, Unknown> {
        let Some(compiled) = self.compiled.get(env) else {
            return Err(Unknown::new(
                "PROVE-UNSUPPORTED",
                "the policies were not compiled",
            ));
        };
        let schema = cedar::schema(self.estate);
        let matching = cedar::matching(invariant);
        if cedar::is_fragile(invariant) {
            let own =
                CompiledPolicy::compile(matching, env, schema).map_err(|error| unknown(&error))?;
            self.never_errs(&own, "the invariant itself can err")
                .await?;
        }
        let set = PolicySet::from_policies([matching.clone()])
            .map_err(|error| Unknown::new("PROVE-UNSUPPORTED", error.to_string()))?;
        let matched =
            CompiledPolicySet::compile(&set, env, schema).map_err(|error| unknown(&error))?;
        let policies = &compiled.policies;
        let found = match invariant.kind {
            InvariantKind::Never => {
                self.pool
                    .ask(async |compiler| {
                        compiler
                            .check_disjoint_with_counterexample_opt(policies, &matched)
                            .await
                    })
                    .await?
            }
            InvariantKind::Always => {
                self.pool
                    .ask(async |compiler| {
                        compiler
                            .check_implies_with_counterexample_opt(&matched, policies)
                            .await
                    })
                    .await?
            }
        };
        match found {
            Some(found) => self.replay(invariant, &set, &found).map(Some),
            None => {
                if invariant.kind == InvariantKind::Always {
                    for policy in &compiled.fragile {
                        self.never_errs(policy, "a policy can err, which denies")
                            .await?;
                    }
                }
                Ok(None)
            }
        }
    }

    async fn never_errs(&self, policy: &CompiledPolicy, message: &str) -> Result<(), Unknown> {
        let never = self
            .pool
            .ask(async |compiler| compiler.check_never_errors_opt(policy).await)
            .await?;
        if never {
            Ok(())
        } else {
            Err(Unknown::new("PROVE-ERRS", message))
        }
    }

    /// What the solver found, evaluated by Cedar. One that does not break the invariant proves
    /// nothing either way.
    fn replay(
        &self,
        invariant: &Invariant,
        matching: &PolicySet,
        found: &Env,
    ) -> Result<Counterexample, Unknown> {
        let authorizer = Authorizer::new();
        let matched = authorizer.is_authorized(&found.request, matching, &found.entities);
        let answer = authorizer.is_authorized(
            &found.request,
            cedar::policies(self.estate),
            &found.entities,
        );
        let errs = answer.diagnostics().errors().next().is_some();
        let allowed = answer.decision() == Decision::Allow && !errs;
        let breaks = matched.decision() == Decision::Allow
            && allowed == (invariant.kind == InvariantKind::Never);
        let because = answer
            .diagnostics()
            .reason()
            .filter_map(|id| cedar::reference(self.estate, id).cloned())
            .collect();
        let counterexample = Counterexample::new(
            invariant.kind,
            &found.request,
            &found.entities,
            cedar::entities(self.estate),
            because,
        );
        match counterexample {
            Some(counterexample) if breaks => Ok(counterexample),
            _ => Err(Unknown::new(
                "PROVE-REPLAY",
                "the solver's counterexample does not break the invariant when it is evaluated",
            )),
        }
    }
}
