//! One estate, all invariants: compile to terms, ask, replay, and compare with today.
//!
//! `never` is disjointness: no request that matches is allowed. `always` is implication: each request
//! that matches is allowed. Cedar skips a policy that errs, where an estate denies; so a `never` that
//! is proved of Cedar holds of the estate, and an `always` also needs that no policy errs.

use crate::counterexample::Counterexample;
use crate::options::Options;
use crate::pool::unknown;
use crate::questions::{Memory, Question, Questions};
use crate::report::{
    Engines, GivenReport, InvariantReport, Report, Result as ProofResult, Unknown,
};
use crate::solver;
use crate::solvers::{Said, Solvers};
use crate::spanning::unproved_today;
use cedar_policy::{Authorizer, Decision, Effect, Policy, PolicySet, Request, RequestEnv};
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet, Env};
use estate::{Action, Estate, Invariant, InvariantKind, Today, cedar};
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Instant;

/// Deep conditions recurse in symbolic compilation as they do in validation.
const STACK_BYTES: usize = 128 * 1024 * 1024;

/// Proves every invariant of `estate`. Blocks the thread, on which no async runtime may be running.
///
/// Never fails: what goes wrong makes invariants unknown, and unknown is not accepted.
#[must_use]
pub fn prove_blocking(estate: &Estate, options: &Options) -> Report {
    prove_beside(estate, options, &Memory::default())
}

/// As [`prove_blocking`]; what `memory` knows to be proved is not asked again.
#[must_use]
pub fn prove_beside(estate: &Estate, options: &Options, memory: &Memory) -> Report {
    let started = Instant::now();
    let solvers = on_a_prover(|| solvers(options)).unwrap_or_default();
    let questions = Questions::new(estate, &solvers);
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<InvariantReport>>> =
        Mutex::new(estate.invariants().iter().map(|_| None).collect());
    let silent = Arc::new(AtomicBool::new(false));
    let work = || async {
        let prover = Prover {
            questions: &questions,
            memory,
            solvers: Solvers::sharing(options, &silent),
            threads: match estate.invariants().len() {
                // Each is tried by its own prover.
                many if many >= options.processes => 1,
                few => options.processes.div_ceil(few.max(1)),
            },
        };
        while let Some((place, invariant)) = questions.take(&next) {
            let began = Instant::now();
            let (result, today) = prover.both(invariant).await;
            let report = finish(estate, invariant, (result, today), began);
            if let Ok(mut done) = done.lock()
                && let Some(slot) = done.get_mut(place)
            {
                *slot = Some(report);
            }
        }
    };
    // One prover for each process that may run: encoding a question takes as long as answering it. One that
    // does not start or end as it should leaves its invariants unknown.
    std::thread::scope(|scope| {
        let provers = 0..options.processes.max(1);
        let provers: Vec<_> = provers.map(|_| prover(scope, work)).collect();
        for prover in provers.into_iter().flatten() {
            drop(prover.join());
        }
    });
    let done = done.into_inner().unwrap_or_default();
    let reports = estate.invariants().iter().zip(done);
    Report {
        estate: estate.version().to_owned(),
        engines: engines(&solvers, silent.load(Ordering::Relaxed)),
        invariants: reports
            .map(|(invariant, report)| {
                report.unwrap_or_else(|| {
                    let why = Unknown::new("PROVE-THREAD", "the prover did not end as it should");
                    {
                        let today = unproved_today(estate, invariant);
                        finish(
                            estate,
                            invariant,
                            (ProofResult::Unknown { why }, today),
                            started,
                        )
                    }
                })
            })
            .collect(),
        milliseconds: milliseconds(started),
    }
}

/// Runs `work` to its end on a thread of its own, whose stack is deep.
pub(crate) fn on_a_prover<T: Send, F: Future<Output = T>>(
    work: impl FnOnce() -> F + Send,
) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let ended = prover(scope, work)?.join();
        ended.unwrap_or_else(|_| Err(std::io::Error::other("the prover did not end as it should")))
    })
}

/// A thread with a deep stack and a runtime of its own, on which solver processes are spoken to.
fn prover<'scope, T: Send + 'scope, F: Future<Output = T>>(
    scope: &'scope Scope<'scope, '_>,
    work: impl FnOnce() -> F + Send + 'scope,
) -> std::io::Result<ScopedJoinHandle<'scope, std::io::Result<T>>> {
    std::thread::Builder::new()
        .name("estate-prove".to_owned())
        .stack_size(STACK_BYTES)
        .spawn_scoped(scope, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(work()))
        })
}

/// As [`prove_beside`], off the async threads.
pub async fn prove(estate: Arc<Estate>, options: Options, memory: Arc<Memory>) -> Report {
    let started = Instant::now();
    let blocking = Arc::clone(&estate);
    let proved = tokio::task::spawn_blocking(move || prove_beside(&blocking, &options, &memory));
    proved.await.unwrap_or_else(|error| {
        let why = Unknown::new("PROVE-THREAD", error.to_string());
        let invariants = estate.invariants().iter();
        Report {
            estate: estate.version().to_owned(),
            engines: engines(&[], false),
            invariants: invariants
                .map(|invariant| {
                    let result = ProofResult::Unknown { why: why.clone() };
                    let today = unproved_today(&estate, invariant);
                    finish(&estate, invariant, (result, today), started)
                })
                .collect(),
            milliseconds: milliseconds(started),
        }
    })
}

/// What each of the solvers calls itself, in the order of the options.
pub(crate) async fn solvers(options: &Options) -> Vec<String> {
    let mut found = Vec::new();
    for one in options.each_alone().into_iter().chain(options.peer()) {
        found.extend(solver::version(&one).await);
    }
    found
}

/// One that was found and did not answer vouches for nothing.
pub(crate) fn engines(solvers: &[String], silent: bool) -> Engines {
    let solvers = solvers.get(..1).filter(|_| silent).unwrap_or(solvers);
    Engines {
        cedar: cedar_policy::get_sdk_version().to_string(),
        solvers: u8::try_from(solvers.len()).unwrap_or(u8::MAX),
        solver: solvers.first().cloned(),
        second: solvers.get(1).cloned(),
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A proof that today's declarations contradict is a lie of the solver, or a fault of the encoding.
fn finish(
    estate: &Estate,
    invariant: &Invariant,
    (result, today): (ProofResult, Today),
    began: Instant,
) -> InvariantReport {
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
    let givens = invariant.givens.iter();
    InvariantReport {
        kind: invariant.kind,
        invariant: Arc::clone(&invariant.reference),
        digest: invariant.digest(),
        result,
        today,
        givens: givens
            .map(|given| GivenReport {
                given: given.text.clone(),
                today: estate.given_today(invariant, given),
            })
            .collect(),
        about_today: invariant.is_about_today(),
        milliseconds: milliseconds(began),
    }
}

/// What was found of an invariant.
enum Searched {
    Nothing,
    Found(Box<Counterexample>),
    /// Something breaks it, as it did before.
    Known,
}

/// One prover, on a thread of its own, with processes of its own.
pub(crate) struct Prover<'a> {
    pub(crate) questions: &'a Questions<'a>,
    memory: &'a Memory,
    solvers: Solvers,
    /// That may try what is declared today at once.
    threads: usize,
}

impl Prover<'_> {
    /// For any data, and for what is declared today.
    async fn both(&self, invariant: &Invariant) -> (ProofResult, Today) {
        if invariant.except.is_some() {
            return self.spanning(invariant).await;
        }
        let today = self.holds_today(invariant);
        (self.prove(invariant).await, today)
    }

    pub(crate) fn holds_today(&self, invariant: &Invariant) -> Today {
        self.questions
            .estate
            .holds_today_by(invariant, self.threads)
    }

    async fn prove(&self, invariant: &Invariant) -> ProofResult {
        match self.try_all(invariant).await {
            Ok(None) => ProofResult::Proved,
            Ok(Some(counterexample)) => ProofResult::Broken {
                counterexample: Box::new(counterexample),
            },
            Err(why) => ProofResult::Unknown { why },
        }
    }

    /// What breaks it, if anything does.
    pub(crate) async fn try_all(
        &self,
        invariant: &Invariant,
    ) -> Result<Option<Counterexample>, Unknown> {
        match self.search(invariant, false).await? {
            Searched::Found(counterexample) => Ok(Some(*counterexample)),
            Searched::Nothing | Searched::Known => Ok(None),
        }
    }

    /// Whether nothing breaks it. What broke it once breaks it, while its question is the same.
    pub(crate) async fn is_proved(&self, invariant: &Invariant) -> Result<bool, Unknown> {
        let searched = self.search(invariant, true).await?;
        Ok(matches!(searched, Searched::Nothing))
    }

    /// Every kind of request that the invariant can speak of; the others it matches never, by type. `known` says that
    /// it is enough to know that something breaks it.
    async fn search(&self, invariant: &Invariant, known: bool) -> Result<Searched, Unknown> {
        let schema = cedar::schema(self.questions.estate);
        let policy = cedar::matching(invariant);
        let envs: Vec<_> = policy.get_valid_request_envs(schema).collect();
        if envs.is_empty() {
            return Err(Unknown::new(
                "PROVE-EMPTY",
                "no request can match the invariant",
            ));
        }
        if cedar::is_fragile(invariant) {
            for env in &envs {
                let own = CompiledPolicy::compile(policy, env, schema)
                    .map_err(|error| unknown(&error))?;
                self.never_errs(&own, "the invariant itself can err")
                    .await?;
            }
        }
        let questions = envs
            .iter()
            .map(|env| (env, self.questions.about(invariant, env)));
        let questions: Vec<_> = questions.collect();
        let mut all = questions.iter().flat_map(|(_, questions)| questions);
        if known && all.any(|question| self.memory.knows(&question.refuted())) {
            return Ok(Searched::Known);
        }
        for (env, questions) in &questions {
            for question in questions {
                if self.knows(question) {
                    continue;
                }
                if let Some(found) = self.try_one(invariant, env, question).await? {
                    self.memory.learn(question.refuted());
                    return Ok(Searched::Found(Box::new(found)));
                }
                self.memory.learn(match self.solvers.all_answer() {
                    true => question.digest,
                    false => question.by_fewer(),
                });
            }
        }
        Ok(Searched::Nothing)
    }

    /// Whether it is known to be proved.
    fn knows(&self, question: &Question<'_>) -> bool {
        if self.memory.knows(&question.digest) {
            return true;
        }
        let by_fewer = self.memory.knows(&question.by_fewer());
        if by_fewer {
            self.solvers.without_peer();
        }
        by_fewer
    }

    async fn try_one(
        &self,
        invariant: &Invariant,
        env: &RequestEnv,
        question: &Question<'_>,
    ) -> Result<Option<Counterexample>, Unknown> {
        let schema = cedar::schema(self.questions.estate);
        let set = |policies: &mut dyn Iterator<Item = &Policy>| {
            PolicySet::from_policies(policies.cloned())
                .map_err(|error| Unknown::new("PROVE-UNSUPPORTED", error.to_string()))
        };
        let compiled = |policies: &PolicySet| {
            CompiledPolicySet::compile(policies, env, schema).map_err(|error| unknown(&error))
        };
        let matching = set(&mut std::iter::once(cedar::matching(invariant)))?;
        let matched = compiled(&matching)?;
        let policies = compiled(&set(&mut question.policies.iter().map(|one| one.policy()))?)?;
        let said = match invariant.kind {
            InvariantKind::Never => self.solvers.disjoint(&policies, &matched).await?,
            InvariantKind::Always => self.solvers.implies(&matched, &policies).await?,
        };
        // One that proves where another finds what breaks it, and it does: the finding is replayed.
        if let Said::Found { what, contradicts } = said {
            let replayed = self.replay(invariant, &matching, &what, question);
            return match replayed {
                Err(why) if contradicts => Err(Unknown::new(
                    "PROVE-SOLVERS-DISAGREE",
                    format!("one solver calls it proved, another not: {}", why.message),
                )),
                replayed => replayed.map(Some),
            };
        }
        if invariant.kind == InvariantKind::Always {
            for policy in question.policies.iter().filter(|one| one.is_fragile()) {
                let policy = CompiledPolicy::compile(policy.policy(), env, schema)
                    .map_err(|error| unknown(&error))?;
                self.never_errs(&policy, "a policy can err, which denies")
                    .await?;
            }
        }
        Ok(None)
    }

    async fn never_errs(&self, policy: &CompiledPolicy, message: &str) -> Result<(), Unknown> {
        match self.solvers.never_errs(policy).await? {
            true => Ok(()),
            false => Err(Unknown::new("PROVE-ERRS", message)),
        }
    }

    /// Whether the request breaks the invariant with what is declared, not with what the solver supposed of it. Of a
    /// workload nothing is declared: it is what its facts are.
    fn breaks_today(
        &self,
        invariant: &Invariant,
        matching: &PolicySet,
        found: &Env,
        policies: &PolicySet,
    ) -> bool {
        let declared = cedar::entities(self.questions.estate);
        let (Some(principal), Some(resource)) =
            (found.request.principal(), found.request.resource())
        else {
            return false;
        };
        let workload = (principal.type_name().to_string() == "Workload")
            .then(|| found.entities.get(principal).cloned())
            .flatten();
        if declared.get(resource).is_none()
            || (workload.is_none() && declared.get(principal).is_none())
        {
            return false;
        }
        let Ok(entities) = declared.clone().upsert_entities(workload, None) else {
            return false;
        };
        let authorizer = Authorizer::new();
        let matched = authorizer.is_authorized(&found.request, matching, &entities);
        let answer = authorizer.is_authorized(&found.request, policies, &entities);
        let errs = answer.diagnostics().errors().next().is_some();
        let allowed = answer.decision() == Decision::Allow && !errs;
        matched.decision() == Decision::Allow && allowed == (invariant.kind == InvariantKind::Never)
    }

    /// The policies that decide on `request`. What nobody's agent can be believed about is in no question, so
    /// that whoever becomes somebody is asked by the policies of the question alone; everything else by all.
    fn believed<'s>(
        &'s self,
        request: &Request,
        question: &Question<'_>,
    ) -> Result<Cow<'s, PolicySet>, Unknown> {
        let all = cedar::policies(self.questions.estate);
        let assumes = request
            .action()
            .is_some_and(|action| action.id().unescaped() == Action::Assume.as_str());
        let elsewhere = question
            .policies
            .iter()
            .any(|one| one.policy().effect() == Effect::Permit && !one.is_placed());
        if !(assumes && elsewhere) {
            return Ok(Cow::Borrowed(all));
        }
        let asked = question.policies.iter().map(|one| one.policy().clone());
        PolicySet::from_policies(asked)
            .map(Cow::Owned)
            .map_err(|error| Unknown::new("PROVE-UNSUPPORTED", error.to_string()))
    }

    /// What the solver found, evaluated by Cedar. One that does not break the invariant proves
    /// nothing either way.
    fn replay(
        &self,
        invariant: &Invariant,
        matching: &PolicySet,
        found: &Env,
        question: &Question<'_>,
    ) -> Result<Counterexample, Unknown> {
        let authorizer = Authorizer::new();
        let matched = authorizer.is_authorized(&found.request, matching, &found.entities);
        let policies = self.believed(&found.request, question)?;
        let answer = authorizer.is_authorized(&found.request, &policies, &found.entities);
        let errs = answer.diagnostics().errors().next().is_some();
        let allowed = answer.decision() == Decision::Allow && !errs;
        let breaks = matched.decision() == Decision::Allow
            && allowed == (invariant.kind == InvariantKind::Never);
        let speaking = matching
            .policies()
            .chain(
                answer
                    .diagnostics()
                    .reason()
                    .filter_map(|id| policies.policy(id)),
            )
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        let because = answer
            .diagnostics()
            .reason()
            .filter_map(|id| cedar::reference(self.questions.estate, id).cloned())
            .collect();
        let counterexample = Counterexample::new(
            invariant.kind,
            &found.request,
            &found.entities,
            cedar::entities(self.questions.estate),
            because,
        );
        match counterexample {
            Some(counterexample) if breaks => Ok(Counterexample {
                today: self.breaks_today(invariant, matching, found, &policies),
                ..counterexample.telling(&speaking)
            }),
            _ => Err(Unknown::new(
                "PROVE-REPLAY",
                "the solver's counterexample does not break the invariant when it is evaluated",
            )),
        }
    }
}
