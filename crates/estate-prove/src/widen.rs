//! Whether one version allows a request that another does not: over all requests and all data that fits their
//! common schema.
//!
//! Cedar skips a policy that errs, where an estate denies. So it is not enough that Cedar's sets imply one
//! another: what was denied because a policy erred is newly allowed once that policy is gone. A policy that
//! was taken away therefore has to be one that never errs.

use crate::options::Options;
use crate::pool::unknown;
use crate::proof::{engines, on_a_prover, solvers};
use crate::report::Unknown;
use crate::solvers::{Said, Solvers};
use cedar_policy::{Authorizer, Decision, Effect, PolicySet, RequestEnv};
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet, Env};
use estate::cedar::{self, Single};
use estate::{Estate, PolicyRef};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whether anything is newly allowed.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum Widening {
    /// Nothing is, for any data; so many kinds of requests were put to the solvers, the policies of the others
    /// are the same. So many of them agree on it; one vouches alone.
    Nothing { asked: usize, solvers: u8 },
    /// This is, which was replayed.
    Something {
        request: String,
        because: Vec<Arc<PolicyRef>>,
    },
    /// It is not known.
    Unknown {
        #[serde(flatten)]
        why: Unknown,
    },
}

impl Widening {
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing { .. })
    }
}

/// What `new` allows that `old` does not. Blocks the thread, on which no async runtime may be running.
#[must_use]
pub fn newly_allowed_blocking(old: &Estate, new: &Estate, options: &Options) -> Widening {
    if !cedar::schema_texts(old).eq(cedar::schema_texts(new)) {
        let why = Unknown::new("PROVE-SCHEMA", "the two versions have other schemas");
        return Widening::Unknown { why };
    }
    let asked = on_a_prover(|| async {
        let names = solvers(options).await;
        let solvers = Solvers::of(options);
        Widened { old, new, solvers }.ask(&names).await
    });
    match asked {
        Ok(Ok(widening)) => widening,
        Ok(Err(why)) => Widening::Unknown { why },
        Err(error) => Widening::Unknown {
            why: Unknown::new("PROVE-THREAD", error.to_string()),
        },
    }
}

struct Widened<'a> {
    old: &'a Estate,
    new: &'a Estate,
    solvers: Solvers,
}

impl Widened<'_> {
    /// `names`: what the solvers call themselves.
    async fn ask(&self, names: &[String]) -> Result<Widening, Unknown> {
        let schema = cedar::schema(self.new);
        let permits =
            cedar::singles(self.new).filter(|one| one.policy().effect() == Effect::Permit);
        let envs: BTreeSet<RequestEnv> = permits
            .flat_map(|permit| {
                permit
                    .policy()
                    .get_valid_request_envs(schema)
                    .collect::<Vec<_>>()
            })
            .collect();
        let mut asked = 0;
        for env in &envs {
            let (before, after) = (concerned(self.old, env), concerned(self.new, env));
            let texts = |policies: &[Single<'_>]| -> BTreeSet<String> {
                policies.iter().map(|one| one.text().to_owned()).collect()
            };
            let (had, has) = (texts(&before), texts(&after));
            if had == has {
                continue;
            }
            asked += 1;
            let gone = before.iter().filter(|one| !has.contains(one.text()));
            for policy in gone.filter(|one| one.is_fragile()) {
                self.never_errs(*policy, env).await?;
            }
            if let Some(found) = self.ask_of(env, &before, &after).await? {
                return Ok(found);
            }
        }
        let solvers = engines(names, !self.solvers.all_answer()).solvers;
        Ok(Widening::Nothing { asked, solvers })
    }

    async fn never_errs(&self, policy: Single<'_>, env: &RequestEnv) -> Result<(), Unknown> {
        let compiled = CompiledPolicy::compile(policy.policy(), env, cedar::schema(self.old));
        let compiled = compiled.map_err(|error| unknown(&error))?;
        if self.solvers.never_errs(&compiled).await? {
            return Ok(());
        }
        let what = format!(
            "{} can err, which denies, and is not there any more",
            policy.reference()
        );
        Err(Unknown::new("PROVE-ERRS", what))
    }

    async fn ask_of(
        &self,
        env: &RequestEnv,
        before: &[Single<'_>],
        after: &[Single<'_>],
    ) -> Result<Option<Widening>, Unknown> {
        let compiled = |policies: &[Single<'_>]| {
            let set = PolicySet::from_policies(policies.iter().map(|one| one.policy().clone()));
            let set = set.map_err(|error| Unknown::new("PROVE-UNSUPPORTED", error.to_string()))?;
            CompiledPolicySet::compile(&set, env, cedar::schema(self.new))
                .map_err(|error| unknown(&error))
        };
        let (old, new) = (compiled(before)?, compiled(after)?);
        match self.solvers.implies(&new, &old).await? {
            Said::Found { what, .. } => self.replay(&what).map(Some),
            Said::Nothing => Ok(None),
        }
    }

    /// What the solver found, evaluated by Cedar.
    fn replay(&self, found: &Env) -> Result<Widening, Unknown> {
        let authorizer = Authorizer::new();
        let allows = |estate: &Estate| {
            let policies = cedar::policies(estate);
            let answer = authorizer.is_authorized(&found.request, policies, &found.entities);
            let errs = answer.diagnostics().errors().next().is_some();
            let because: Vec<_> = answer
                .diagnostics()
                .reason()
                .filter_map(|id| cedar::reference(estate, id).cloned())
                .collect();
            (answer.decision() == Decision::Allow && !errs, because)
        };
        let ((before, _), (after, because)) = (allows(self.old), allows(self.new));
        if before || !after {
            return Err(Unknown::new(
                "PROVE-REPLAY",
                "the solver's counterexample is not newly allowed when it is evaluated",
            ));
        }
        let name = |uid: Option<&cedar_policy::EntityUid>| {
            uid.map_or_else(|| "?".to_owned(), ToString::to_string)
        };
        let request = &found.request;
        Ok(Widening::Something {
            request: format!(
                "{} {} {}",
                name(request.principal()),
                name(request.action()),
                name(request.resource())
            ),
            because,
        })
    }
}

/// The policies that can concern such requests.
fn concerned<'a>(estate: &'a Estate, env: &RequestEnv) -> Vec<Single<'a>> {
    let action = env.action().id().unescaped().to_owned();
    cedar::singles(estate)
        .filter(|one| one.concerns(&action))
        .collect()
}
