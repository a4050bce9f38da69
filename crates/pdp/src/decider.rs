//! The estate's answer to a question, in this process: the library that the rest of the crate is a shell of.

use crate::question::{Known, OnBehalfOf, Question};
use estate::{
    Access, Action, Chain, ChainDecision, ChainFacts, Decision, Estate, EstateFiles, Prepared,
    Problem, ResourceRef,
};
use facts::{Finding, Timestamp};
use gateway::{Current, Following};
use std::sync::Arc;

/// Decides by one estate, or by the one that is in force. Cheap to clone.
///
/// ```
/// use pdp::{Decider, Known, Question};
///
/// let mut files = estate::EstateFiles::new();
/// files.insert("estate.toml", "trust_domain = \"example.org\"\n");
/// let decider = Decider::open(&files.to_blob()).unwrap();
/// let question = Question {
///     subject: "payments/api".to_owned(),
///     action: pdp::action("select").unwrap(),
///     resource: pdp::resource("table", "shop/public/cards").unwrap(),
///     facts: Known::Nothing,
///     on_behalf_of: None,
/// };
/// let answer = decider.decide(&question, facts::Timestamp::now()).unwrap();
/// assert!(!answer.decision.allow);
/// ```
#[derive(Clone)]
pub struct Decider(Source);

#[derive(Clone)]
enum Source {
    Fixed(Arc<Estate>),
    Followed(Following),
}

impl Decider {
    /// By the estate in `blob`, as `trilith estate export` writes it and [`EstateFiles::to_blob`] makes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn open(blob: &[u8]) -> Result<Self, Vec<Problem>> {
        let files = EstateFiles::from_blob(blob).map_err(|problem| vec![problem])?;
        Ok(Self::of(Estate::compile(&files)?))
    }

    #[must_use]
    pub fn of(estate: Estate) -> Self {
        Self(Source::Fixed(Arc::new(estate)))
    }

    /// By whichever version the server last made current; nothing is decided once the server has been
    /// silent for longer than that version allows.
    #[must_use]
    pub const fn follow(following: Following) -> Self {
        Self(Source::Followed(following))
    }

    /// The version that decides at `now`. Questions that belong together are asked of one.
    ///
    /// # Errors
    /// `GATEWAY-STALE`, `GATEWAY-NO-ESTATE`; none of one estate.
    pub fn version(&self, now: Timestamp) -> Result<Version, Finding> {
        match &self.0 {
            Source::Fixed(estate) => Ok(Version(Held::Fixed(Arc::clone(estate)))),
            Source::Followed(following) => Ok(Version(Held::Followed(following.fresh(now)?))),
        }
    }

    /// # Errors
    /// As [`Decider::version`].
    pub fn decide(&self, question: &Question, now: Timestamp) -> Result<Answer, Finding> {
        Ok(self.version(now)?.decide(question))
    }
}

/// One version of the estate, for as long as it is held.
#[derive(Clone)]
pub struct Version(Held);

#[derive(Clone)]
enum Held {
    Fixed(Arc<Estate>),
    Followed(Arc<Current>),
}

impl Version {
    #[must_use]
    pub fn estate(&self) -> &Estate {
        match &self.0 {
            Held::Fixed(estate) => estate,
            Held::Followed(current) => &current.estate,
        }
    }

    /// Index of its record in the server's ledger, where it comes from there.
    #[must_use]
    pub fn index(&self) -> Option<u64> {
        match &self.0 {
            Held::Fixed(_) => None,
            Held::Followed(current) => Some(current.index),
        }
    }

    /// What decides by `known`, made once for questions that share it.
    #[must_use]
    pub fn judge(&self, known: &Known) -> Judge<'_> {
        let prepared = match known {
            Known::Nothing => None,
            Known::Stated(facts) | Known::Issued { facts, .. } => {
                Some(Arc::new(self.estate().prepare(facts)))
            }
        };
        Judge {
            estate: self.estate(),
            prepared,
        }
    }

    pub fn decide(&self, question: &Question) -> Answer {
        let judge = self.judge(&question.facts);
        let Some(others) = &question.on_behalf_of else {
            return judge.decide(&question.subject, question.action, &question.resource);
        };
        let session = judge
            .prepared
            .clone()
            .map_or_else(ChainFacts::default, ChainFacts::of);
        let facts = match (others, &self.0) {
            (OnBehalfOf::Proven(delegated), Held::Followed(current)) => {
                delegated.facts(current, session)
            }
            _ => session,
        };
        judge.decide_chain(others.chain(), question.action, &question.resource, &facts)
    }
}

/// Decides by one version and one set of facts.
pub struct Judge<'a> {
    estate: &'a Estate,
    prepared: Option<Arc<Prepared>>,
}

impl Judge<'_> {
    pub fn decide(&self, subject: &str, action: Action, resource: &ResourceRef) -> Answer {
        match &self.prepared {
            Some(prepared) => Answer {
                decision: self
                    .estate
                    .decide_prepared(subject, action, resource, prepared),
                depends: None,
                chain: None,
            },
            // INVARIANT 3: what is not known denies. An empty context would pass a `forbid` that looks at a
            // fact, so that whoever tells nothing would be allowed more.
            None => {
                let regardless = self.estate.decide_regardless(subject, action, resource);
                Answer {
                    decision: regardless.decision,
                    depends: regardless.depends,
                    chain: None,
                }
            }
        }
    }

    /// What every principal of the chain may do, over links that the estate grants, each by its own facts.
    pub fn decide_chain(
        &self,
        chain: &Chain,
        action: Action,
        resource: &ResourceRef,
        facts: &ChainFacts,
    ) -> Answer {
        let decided = self.estate.decide_chain(chain, action, resource, facts);
        // Only where facts would help every hop that denies: the first of them stands for all, which the chain lists.
        let depends = decided.depends().first().map(|access| (*access).clone());
        Answer {
            decision: decided.as_one(),
            depends,
            chain: Some(decided),
        }
    }
}

/// A decision with its reasons.
#[derive(Debug, Clone)]
#[must_use]
pub struct Answer {
    pub decision: Decision,
    /// Of a denial for want of facts: what they would have to be. Of a chain, for the first hop that needs some.
    pub depends: Option<Access>,
    /// Of one who acts for others: what each hop and each delegation came to.
    pub chain: Option<ChainDecision>,
}
