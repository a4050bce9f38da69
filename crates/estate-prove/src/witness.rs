//! What a change of policies makes possible, and what it takes away, over any data that fits the schema: a
//! request for each that Cedar has evaluated under both versions, or that there is none.
//!
//! It informs and decides nothing; so it is asked within a bound of its own, and of what has changed alone. That there is
//! none is said where all solvers that answer agree, and with how many these are.
//! Where no `forbid` was taken away, a request that is newly allowed is one of a permit that was added: any
//! other was allowed before.

use crate::counterexample::Counterexample;
use crate::options::Options;
use crate::pool::unknown;
use crate::proof::{engines, on_a_prover, solvers};
use crate::report::{Engines, Unknown};
use crate::solvers::{Said, Solvers};
use cedar_policy::{
    AuthorizationError, Authorizer, Decision, Effect, Entities, PolicySet, Request, RequestEnv,
};
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet, Env};
use estate::cedar::{self, Single};
use estate::{Estate, InvariantKind, PolicyRef};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// More policies than this in one question take longer to encode than anybody waits for a hint.
const MOST_POLICIES: usize = 1_500;

/// Both directions of a change.
#[derive(Debug, Clone, Serialize)]
pub struct Witnesses {
    pub newly_allowed: Witness,
    pub newly_denied: Witness,
    /// What vouches for what is proved: one solver, or two that agree.
    pub engines: Engines,
    pub milliseconds: u64,
}

/// Whether there is such a request.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Witness {
    /// None, for any data; so many kinds of requests were put to the solver.
    Proved { asked: usize },
    /// This one, which was replayed under both versions.
    Found {
        witness: Box<Counterexample>,
        /// Of what is newly denied: the policies that allowed it.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        before: Vec<Arc<PolicyRef>>,
    },
    /// It is not known.
    Unknown {
        #[serde(flatten)]
        why: Unknown,
    },
}

impl Options {
    /// For a hint, which nobody waits for long: this time for each direction, and one process of each solver.
    #[must_use]
    pub fn for_a_hint(self) -> Self {
        Self {
            processes: 1,
            question: Duration::from_secs(4),
            total: Duration::from_secs(5),
            ..self
        }
    }
}

/// What `new` allows that `old` does not, and the reverse. Nothing if their policies are the same, and what they are
/// asked about; what one of them alone is asked about columns is unknown. Blocks the
/// thread, on which no async runtime may be running. Never fails: what goes wrong is unknown.
#[must_use]
pub fn witnesses_blocking(old: &Estate, new: &Estate, options: &Options) -> Option<Witnesses> {
    let alike = old.decides_columns() == new.decides_columns();
    if alike && texts(old) == texts(new) {
        return None;
    }
    let begun = Instant::now();
    let silent = Arc::new(AtomicBool::new(false));
    let found = if !alike {
        Err(Unknown::new(
            "PROVE-SCHEMA",
            "one of the two versions decides on columns, and the other on tables alone",
        ))
    } else if cedar::schema_texts(old).eq(cedar::schema_texts(new)) {
        on_a_prover(|| async {
            let names = solvers(options).await;
            // Each has its own time: what takes long one way leaves the other.
            let between = |before, after, kind| Between {
                before,
                after,
                kind,
                solvers: Solvers::sharing(options, &silent),
                until: Instant::now() + options.total,
            };
            let allowed = between(old, new, InvariantKind::Never).witness().await;
            let denied = between(new, old, InvariantKind::Always).witness().await;
            (
                allowed,
                denied,
                engines(&names, silent.load(Ordering::Relaxed)),
            )
        })
        .map_err(|error| Unknown::new("PROVE-THREAD", error.to_string()))
    } else {
        Err(Unknown::new(
            "PROVE-SCHEMA",
            "the two versions have other schemas",
        ))
    };
    let (newly_allowed, newly_denied, engines) =
        found.unwrap_or_else(|why| (why.clone().into(), why.into(), engines(&[], false)));
    Some(Witnesses {
        newly_allowed,
        newly_denied,
        engines,
        milliseconds: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// As [`witnesses_blocking`], off the async threads.
pub async fn witnesses(old: Arc<Estate>, new: Arc<Estate>, options: Options) -> Option<Witnesses> {
    let asked = tokio::task::spawn_blocking(move || witnesses_blocking(&old, &new, &options));
    asked.await.unwrap_or_else(|error| {
        let why = Unknown::new("PROVE-THREAD", error.to_string());
        Some(Witnesses {
            newly_allowed: why.clone().into(),
            newly_denied: why.into(),
            engines: engines(&[], false),
            milliseconds: 0,
        })
    })
}

impl From<Unknown> for Witness {
    fn from(why: Unknown) -> Self {
        Self::Unknown { why }
    }
}

fn texts(estate: &Estate) -> BTreeSet<&str> {
    cedar::singles(estate).map(Single::text).collect()
}

/// What `after` allows that `before` does not. Of what is newly denied the new version is `before`.
struct Between<'a> {
    before: &'a Estate,
    after: &'a Estate,
    /// `Never` where what is found is newly allowed, `Always` where it is newly denied.
    kind: InvariantKind,
    solvers: Solvers,
    until: Instant,
}

impl<'a> Between<'a> {
    /// One that is found counts, whatever else is not known.
    async fn witness(&self) -> Witness {
        let (had, has) = (texts(self.before), texts(self.after));
        let gone = cedar::singles(self.before).filter(|one| !has.contains(one.text()));
        let come = cedar::singles(self.after).filter(|one| !had.contains(one.text()));
        let (gone, come): (Vec<_>, Vec<_>) = (gone.collect(), come.collect());
        let schema = cedar::schema(self.after);
        let changed = gone.iter().chain(&come);
        let envs: BTreeSet<RequestEnv> = changed
            .flat_map(|one| {
                one.policy()
                    .get_valid_request_envs(schema)
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut asked = 0;
        let mut first = None;
        for env in &envs {
            match self.ask_of(env, &gone, &had, &mut asked).await {
                Ok(None) => {}
                Ok(Some(found)) => return found,
                Err(why) => {
                    first.get_or_insert(why);
                }
            }
        }
        first.map_or(Witness::Proved { asked }, Witness::from)
    }

    async fn ask_of(
        &self,
        env: &RequestEnv,
        gone: &[Single<'a>],
        had: &BTreeSet<&str>,
        asked: &mut usize,
    ) -> Result<Option<Witness>, Unknown> {
        let action = env.action().id().unescaped();
        let concerned = |one: &Single<'a>| one.concerns(action);
        let forbids = |one: &Single<'a>| one.policy().effect() == Effect::Forbid;
        let gone: Vec<_> = gone.iter().copied().filter(concerned).collect();
        let mut more: Vec<_> = cedar::singles(self.after).filter(concerned).collect();
        let mut less: Vec<_> = cedar::singles(self.before).filter(concerned).collect();
        if !gone.iter().any(forbids) {
            // What no forbid of `after` meets, none of `before` does.
            more.retain(|one| forbids(one) || !had.contains(one.text()));
            less.retain(|one| !forbids(one));
        }
        if !more.iter().all(forbids) {
            if more.len() + less.len() > MOST_POLICIES {
                let many = format!(
                    "more than {MOST_POLICIES} policies concern {action}, which takes long to encode"
                );
                return Err(Unknown::new("PROVE-SIZE", many));
            }
            *asked += 1;
            if let Some(found) = self.implied(env, &more, &less).await? {
                return Ok(Some(found));
            }
        }
        // Cedar skips a policy that errs, and the estate denies: without it, what it denied is allowed.
        for policy in gone.iter().filter(|one| one.is_fragile()) {
            *asked += 1;
            self.never_errs(*policy, env).await?;
        }
        Ok(None)
    }

    fn in_time(&self) -> Result<(), Unknown> {
        if Instant::now() < self.until {
            return Ok(());
        }
        Err(Unknown::new("PROVE-TIMEOUT", "no answer within its time"))
    }

    async fn implied(
        &self,
        env: &RequestEnv,
        more: &[Single<'_>],
        less: &[Single<'_>],
    ) -> Result<Option<Witness>, Unknown> {
        let compiled = |policies: &[Single<'_>]| {
            self.in_time()?;
            let set = PolicySet::from_policies(policies.iter().map(|one| one.policy().clone()));
            let set = set.map_err(|error| Unknown::new("PROVE-UNSUPPORTED", error.to_string()))?;
            CompiledPolicySet::compile(&set, env, cedar::schema(self.after))
                .map_err(|error| unknown(&error))
        };
        let (more, less) = (compiled(more)?, compiled(less)?);
        match self.solvers.implies(&more, &less).await? {
            Said::Found { what, .. } => self.replay(&what).map(Some),
            Said::Nothing => Ok(None),
        }
    }

    async fn never_errs(&self, policy: Single<'_>, env: &RequestEnv) -> Result<(), Unknown> {
        self.in_time()?;
        let compiled = CompiledPolicy::compile(policy.policy(), env, cedar::schema(self.before));
        let compiled = compiled.map_err(|error| unknown(&error))?;
        if self.solvers.never_errs(&compiled).await? {
            return Ok(());
        }
        let what = format!(
            "{} can err, which denies, and one of the two versions does not have it",
            policy.reference()
        );
        Err(Unknown::new("PROVE-ERRS", what))
    }

    /// What the solver found, evaluated by Cedar under all policies of both versions.
    fn replay(&self, found: &Env) -> Result<Witness, Unknown> {
        let not = |what| Unknown::new("PROVE-REPLAY", what);
        let before = Answer::of(self.before, &found.request, &found.entities);
        let after = Answer::of(self.after, &found.request, &found.entities);
        if before.allows || !after.allows {
            return Err(not(
                "what the solver found is not decided otherwise when it is evaluated",
            ));
        }
        let widened = self.kind == InvariantKind::Never;
        let (new, decided) = if widened {
            (self.after, &after)
        } else {
            (self.before, &before)
        };
        let speaking = format!("{}\n{}", before.speaking, after.speaking);
        let witness = Counterexample::new(
            self.kind,
            &found.request,
            &found.entities,
            cedar::entities(new),
            decided.because.clone(),
        );
        let witness =
            witness.ok_or_else(|| not("what the solver found has no principal or resource"))?;
        Ok(Witness::Found {
            witness: Box::new(Counterexample {
                today: self.so_today(new, found),
                ..witness.telling(&speaking)
            }),
            before: if widened { Vec::new() } else { after.because },
        })
    }

    /// Whether it is so of parties as they are declared; of a workload nothing is declared but its facts.
    fn so_today(&self, new: &Estate, found: &Env) -> bool {
        let (Some(principal), Some(resource)) =
            (found.request.principal(), found.request.resource())
        else {
            return false;
        };
        let workload = (principal.type_name().to_string() == "Workload")
            .then(|| found.entities.get(principal).cloned())
            .flatten();
        let declared = cedar::entities(new);
        if declared.get(resource).is_none()
            || (workload.is_none() && declared.get(principal).is_none())
        {
            return false;
        }
        let allows = |estate: &Estate| {
            let entities = cedar::entities(estate).clone();
            let entities = entities.upsert_entities(workload.clone(), None).ok()?;
            Some(Answer::of(estate, &found.request, &entities).allows)
        };
        allows(self.after) == Some(true) && allows(self.before) == Some(false)
    }
}

/// What an estate says to a request.
struct Answer {
    allows: bool,
    /// The policies that decided, and those that erred.
    because: Vec<Arc<PolicyRef>>,
    /// Their text.
    speaking: String,
}

impl Answer {
    fn of(estate: &Estate, request: &Request, entities: &Entities) -> Self {
        let policies = cedar::policies(estate);
        let answer = Authorizer::new().is_authorized(request, policies, entities);
        let erred = answer.diagnostics().errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => error.policy_id(),
        });
        let erred: Vec<_> = erred.collect();
        let allows = answer.decision() == Decision::Allow && erred.is_empty();
        // An error denies what a permit allows.
        let reasons = answer
            .diagnostics()
            .reason()
            .filter(|_| allows || answer.decision() == Decision::Deny);
        let ids: Vec<_> = reasons.chain(erred).collect();
        Self {
            allows,
            because: ids
                .iter()
                .filter_map(|id| cedar::reference(estate, id).cloned())
                .collect(),
            speaking: ids
                .iter()
                .filter_map(|id| Some(policies.policy(id)?.to_string()))
                .collect::<Vec<_>>()
                .join("\n"),
        }
    }
}
