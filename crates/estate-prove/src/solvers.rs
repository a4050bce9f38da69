//! The solvers that are asked: what each is asked is asked of all, and they have to agree.
//!
//! cvc5, and a second one that the settings name, show what they find. One of another make, Z3, only says whether
//! there is something: named by the settings it has to answer, found installed it vouches as long as it answers.

use crate::dialect::Dialect;
use crate::options::Options;
use crate::pool::{Compiler, Pool};
use crate::report::Unknown;
use cedar_policy_symcc::err::Error;
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet, Env};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A pool for each.
#[derive(Debug)]
pub(crate) struct Solvers {
    pools: Vec<Pool>,
    peer: Option<Peer>,
}

#[derive(Debug)]
struct Peer {
    pool: Pool,
    /// Nobody asked for it: where it does not answer, the others vouch without it.
    found: bool,
    silent: Arc<AtomicBool>,
}

/// What they say of a question.
pub(crate) enum Said {
    /// There is nothing.
    Nothing,
    /// One of them finds this.
    Found {
        what: Box<Env>,
        /// Another had said that there is nothing.
        contradicts: bool,
    },
}

/// A question to one.
enum Asked<'a> {
    Disjoint(&'a CompiledPolicySet, &'a CompiledPolicySet),
    Implies(&'a CompiledPolicySet, &'a CompiledPolicySet),
}

impl Asked<'_> {
    async fn shown(&self, compiler: &mut Compiler) -> Result<Option<Env>, Error> {
        match self {
            Self::Disjoint(one, other) => {
                let found = compiler.check_disjoint_with_counterexample_opt(one, other);
                found.await
            }
            Self::Implies(one, other) => {
                let found = compiler.check_implies_with_counterexample_opt(one, other);
                found.await
            }
        }
    }

    async fn holds(&self, compiler: &mut Compiler) -> Result<bool, Error> {
        match self {
            Self::Disjoint(one, other) => compiler.check_disjoint_opt(one, other).await,
            Self::Implies(one, other) => compiler.check_implies_opt(one, other).await,
        }
    }
}

impl Solvers {
    pub(crate) fn of(options: &Options) -> Self {
        Self::sharing(options, &Arc::default())
    }

    /// `silent` is what several of these know of one peer.
    pub(crate) fn sharing(options: &Options, silent: &Arc<AtomicBool>) -> Self {
        let alone = options.each_alone();
        let (peers, shown): (Vec<_>, Vec<_>) = alone
            .into_iter()
            .partition(|one| Dialect::of(&one.solver) == Dialect::Z3);
        let named = peers.into_iter().map(|one| (one, false)).next();
        let peer = named.or_else(|| Some((options.peer()?, true)));
        Self {
            pools: shown.iter().map(Pool::new).collect(),
            peer: peer.map(|(one, found)| Peer {
                pool: Pool::new(&one),
                found,
                silent: Arc::clone(silent),
            }),
        }
    }

    /// Whether all that were asked so far have answered.
    pub(crate) fn all_answer(&self) -> bool {
        let silent = |peer: &Peer| peer.silent.load(Ordering::Relaxed);
        !self.peer.as_ref().is_some_and(silent)
    }

    /// What was proved without the peer rests on the others again.
    pub(crate) fn without_peer(&self) {
        if let Some(peer) = &self.peer {
            peer.silent.store(true, Ordering::Relaxed);
        }
    }

    /// A request that both allow.
    pub(crate) async fn disjoint(
        &self,
        one: &CompiledPolicySet,
        other: &CompiledPolicySet,
    ) -> Result<Said, Unknown> {
        self.ask(&Asked::Disjoint(one, other)).await
    }

    /// A request that `one` allows and `other` does not.
    pub(crate) async fn implies(
        &self,
        one: &CompiledPolicySet,
        other: &CompiledPolicySet,
    ) -> Result<Said, Unknown> {
        self.ask(&Asked::Implies(one, other)).await
    }

    async fn ask(&self, asked: &Asked<'_>) -> Result<Said, Unknown> {
        self.show_something()?;
        let mut contradicts = false;
        for pool in &self.pools {
            let found = pool
                .ask(async |compiler| asked.shown(compiler).await)
                .await?;
            if let Some(found) = found {
                return Ok(Said::Found {
                    what: Box::new(found),
                    contradicts,
                });
            }
            contradicts = true;
        }
        self.agreed(async |compiler| asked.holds(compiler).await)
            .await?;
        Ok(Said::Nothing)
    }

    pub(crate) async fn never_errs(&self, policy: &CompiledPolicy) -> Result<bool, Unknown> {
        self.hold(async |compiler| compiler.check_never_errors_opt(policy).await)
            .await
    }

    /// Whether no request of any data meets its conditions.
    pub(crate) async fn never_matches(&self, policy: &CompiledPolicy) -> Result<bool, Unknown> {
        self.hold(async |compiler| compiler.check_never_matches_opt(policy).await)
            .await
    }

    /// Whether `wider` matches whenever `narrower` does.
    pub(crate) async fn matches_implies(
        &self,
        narrower: &CompiledPolicy,
        wider: &CompiledPolicy,
    ) -> Result<bool, Unknown> {
        self.hold(async |compiler| compiler.check_matches_implies_opt(narrower, wider).await)
            .await
    }

    /// A request that makes it err.
    pub(crate) async fn errs(&self, policy: &CompiledPolicy) -> Result<Option<Env>, Unknown> {
        self.show_something()?;
        for pool in &self.pools {
            let found = pool
                .ask(async |compiler| {
                    compiler
                        .check_never_errors_with_counterexample_opt(policy)
                        .await
                })
                .await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        self.agreed(async |compiler| compiler.check_never_errors_opt(policy).await)
            .await?;
        Ok(None)
    }

    /// What one of them denies is not so; what all say is.
    async fn hold(
        &self,
        holds: impl AsyncFn(&mut Compiler) -> Result<bool, Error>,
    ) -> Result<bool, Unknown> {
        self.show_something()?;
        for pool in &self.pools {
            if !pool.ask(async |compiler| holds(compiler).await).await? {
                return Ok(false);
            }
        }
        self.agreed(async |compiler| holds(compiler).await).await?;
        Ok(true)
    }

    /// Whoever named no other than Z3 as the solver has nobody who shows anything.
    fn show_something(&self) -> Result<(), Unknown> {
        if !self.pools.is_empty() {
            return Ok(());
        }
        let why = "Z3 shows no counterexamples: name a cvc5 as the solver, and Z3 as the second";
        Err(Unknown::new("PROVE-SOLVER-START", why))
    }

    /// INVARIANT: a peer that says otherwise is never passed over; one that says nothing is, if nobody named it.
    async fn agreed(
        &self,
        holds: impl AsyncFnOnce(&mut Compiler) -> Result<bool, Error>,
    ) -> Result<(), Unknown> {
        let Some(peer) = &self.peer else {
            return Ok(());
        };
        if peer.found && peer.silent.load(Ordering::Relaxed) {
            return Ok(());
        }
        match peer.pool.ask(holds).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Unknown::new(
                "PROVE-SOLVERS-DISAGREE",
                "cvc5 calls it proved, and Z3 says that it is not",
            )),
            Err(_) if peer.found => {
                peer.silent.store(true, Ordering::Relaxed);
                Ok(())
            }
            Err(why) => Err(why),
        }
    }
}
