//! Acting for others: a request that carries the chain of those on whose behalf it is made.
//!
//! ```text
//! person ─delegation→ agent ─delegation→ sub-agent ─request→ resource
//! ```
//! What a chain may do is what each of its principals may do, over links that the estate grants, within what each
//! link was narrowed to. So a chain can only narrow: there is no policy by which it gains anything.

mod ask;
mod facts;
mod words;

pub use self::facts::{ChainFacts, HopFacts};
pub use ask::{ChainAccess, ChainAnswer};

use crate::action::Action;
use crate::ask::Access;
use crate::authorize::Prepared;
use crate::columns::Extent;
use crate::decision::{Decision, Explanation, Request};
use crate::entities::resource_uid;
use crate::estate::Estate;
use crate::model::{Delegation, Party, Scope};
use crate::resource::ResourceRef;
use ::facts::{FactSet, Finding};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A person and seven who act for it, one for another: longer than anybody can answer for.
pub const MOST_PRINCIPALS: usize = 8;

/// On whose behalf, by whom: the first has delegated to the second, and so on; the last makes the request.
///
/// INVARIANT: 1 to [`MOST_PRINCIPALS`] principals, none of them twice, and one scope less than principals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Chain {
    principals: Vec<String>,
    /// What each delegation was narrowed to, beside what the estate says.
    scopes: Vec<Scope>,
}

impl Chain {
    /// One who acts for itself. Identity path, `people/ada`.
    #[must_use]
    pub fn of(principal: impl Into<String>) -> Self {
        Self {
            principals: vec![principal.into()],
            scopes: Vec::new(),
        }
    }

    /// Unnarrowed, in this order.
    ///
    /// # Errors
    /// As [`Chain::then`]; also of none.
    pub fn through<'a>(principals: impl IntoIterator<Item = &'a str>) -> Result<Self, Finding> {
        let mut principals = principals.into_iter();
        let Some(first) = principals.next() else {
            return Err(
                Finding::new("DELEGATION-CHAIN", "a chain begins with somebody").observed("nobody"),
            );
        };
        principals.try_fold(Self::of(first), |chain, next| {
            chain.then(next, Scope::default())
        })
    }

    /// The last one delegates to `delegate`, narrowed to `scope`.
    ///
    /// # Errors
    /// `DELEGATION-CHAIN`: too long, or comes back to somebody.
    pub fn then(mut self, delegate: impl Into<String>, scope: Scope) -> Result<Self, Finding> {
        let delegate = delegate.into();
        if self.principals.len() >= MOST_PRINCIPALS {
            return Err(
                Finding::new("DELEGATION-CHAIN", "the chain of delegations is too long")
                    .expected(format!("at most {MOST_PRINCIPALS} principals"))
                    .next("let somebody nearer to the beginning delegate"),
            );
        }
        if self.principals.contains(&delegate) {
            return Err(Finding::new(
                "DELEGATION-CHAIN",
                "the chain of delegations comes back to itself",
            )
            .expected("each principal once")
            .observed(delegate)
            .next("use the earlier delegation"));
        }
        self.principals.push(delegate);
        self.scopes.push(scope);
        Ok(self)
    }

    #[must_use]
    pub fn principals(&self) -> &[String] {
        &self.principals
    }

    /// What each delegation was narrowed to.
    #[must_use]
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Who makes the request.
    #[must_use]
    pub fn last(&self) -> &str {
        self.principals.last().map_or("", String::as_str)
    }

    /// Each delegation: from whom, to whom, narrowed to what, and how many follow it, itself included.
    fn links(&self) -> impl Iterator<Item = (&str, &str, &Scope, usize)> {
        let count = self.scopes.len();
        let ends = self.principals.iter().zip(self.principals.iter().skip(1));
        ends.zip(&self.scopes)
            .enumerate()
            .map(move |(number, ((from, to), scope))| {
                (from.as_str(), to.as_str(), scope, count - number)
            })
    }
}

/// What a chain's request came to.
///
/// INVARIANT: `allow` implies that every hop's decision allows and no link is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[must_use]
pub struct ChainDecision {
    pub allow: bool,
    /// In the order of the chain.
    pub hops: Vec<Hop>,
    /// Between the hops: one less.
    pub links: Vec<Link>,
    /// Of a column: its table, if that was asked as well. What the links do not reach is that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_table: Option<ResourceRef>,
}

impl ChainDecision {
    /// As one decision: of an allow what determined every hop, of a denial what denied, and why links are refused.
    pub fn as_one(&self) -> Decision {
        let mut one = Decision::deny();
        one.allow = self.allow;
        let hops = self.hops.iter();
        for hop in hops.filter(|hop| hop.decision.allow == self.allow) {
            let new = hop.decision.policies.iter();
            let new: Vec<_> = new
                .filter(|policy| !one.policies.contains(policy))
                .cloned()
                .collect();
            one.policies.extend(new);
            one.errors.extend(hop.decision.errors.iter().cloned());
        }
        // Denied for its table where each of them may have the column itself.
        let mut denying = self.hops.iter().filter(|hop| !hop.decision.allow);
        let by_itself = denying.any(|hop| hop.decision.of_table.is_none());
        one.of_table = self.of_table.clone().filter(|_| !self.allow && !by_itself);
        one.findings.extend(self.findings().cloned());
        one.findings
            .extend(self.hops.iter().filter_map(Hop::lacking));
        one
    }

    /// Of a denial that some facts of the session would turn into an allow: of every hop that needs facts, which.
    /// Nothing where one hop is denied whatever the facts are, or a link is refused: then none would help.
    pub fn depends(&self) -> Vec<&Access> {
        let denying = self.hops.iter().filter(|hop| !hop.decision.allow);
        let all: Option<Vec<&Access>> = denying.map(|hop| hop.depends.as_ref()).collect();
        match self.findings().next() {
            None => all.unwrap_or_default(),
            Some(_) => Vec::new(),
        }
    }

    /// Why links are refused.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.links.iter().filter_map(|link| link.refused.as_ref())
    }
}

/// What one principal of the chain may do by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hop {
    /// Identity path.
    pub principal: String,
    pub decision: Decision,
    /// Whose facts it was decided by.
    pub facts: HopFacts,
    /// Where nothing is known of whose facts count: of a denial that some would turn into an allow, under which
    /// conditions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depends: Option<Access>,
}

impl Hop {
    /// Of one who delegated on and is denied for want of its own facts, that it is.
    #[must_use]
    pub fn lacking(&self) -> Option<Finding> {
        let wanted = self.facts == HopFacts::OwnUnknown && self.depends.is_some();
        wanted.then(|| facts::unknown(&self.principal))
    }
}

/// One delegation of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Link {
    pub from: String,
    pub to: String,
    /// The grants that allow it, in order of file and line; any of them would do.
    pub grants: Vec<DelegationRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Finding>,
}

/// A `[[delegation]]`, by where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct DelegationRef {
    pub id: String,
    pub file: String,
    pub line: u32,
}

impl From<&Delegation> for DelegationRef {
    fn from(delegation: &Delegation) -> Self {
        Self {
            id: delegation.id.clone(),
            file: delegation.file.to_string(),
            line: delegation.line,
        }
    }
}

/// A chain's decision with all its reasons: what `trilith why --on-behalf-of` prints.
#[derive(Debug, Clone, Serialize)]
pub struct ChainExplanation {
    pub allow: bool,
    /// The estate's version, SHA-256 hex.
    pub estate: String,
    /// In the order of the chain.
    pub hops: Vec<Explanation>,
    /// Whose facts decided of each.
    pub facts: Vec<HopFacts>,
    pub links: Vec<Link>,
}

/// What was asked of a link: nothing yet, or an action on a resource.
type Asked<'a> = Option<(Action, &'a ResourceRef)>;

impl Estate {
    /// The grants for acting on behalf of others, in order of file and line.
    #[must_use]
    pub fn delegations(&self) -> &[Delegation] {
        &self.model.delegations
    }

    /// Whether an `[[administrator]]` is declared as `who`. What it may do is for the policies.
    #[must_use]
    pub fn administers(&self, who: &crate::Administrator) -> bool {
        self.model.administrators.contains_key(who)
    }

    /// The person whom this provider calls so.
    #[must_use]
    pub fn person(&self, issuer: &str, subject: &str) -> Option<&crate::Identity> {
        let path = self.model.logins.get(issuer)?.get(subject)?;
        self.identity(path)
    }

    /// May the last of the chain do this on behalf of the others? Every hop is asked the same question, by its own
    /// facts: who makes the request, and the person who began it, by those of the session; who delegated on, by
    /// those that it had when it did. Where they are not known, what is allowed whatever they are is allowed.
    ///
    /// INVARIANT: the conjunction. What one hop may not do, and what one link does not carry, the chain does not.
    pub fn decide_chain(
        &self,
        chain: &Chain,
        action: Action,
        resource: &ResourceRef,
        facts: &ChainFacts,
    ) -> ChainDecision {
        self.chain_asked(chain, (action, resource), facts, Extent::WithTable)
    }

    pub(crate) fn chain_asked(
        &self,
        chain: &Chain,
        (action, resource): (Action, &ResourceRef),
        facts: &ChainFacts,
        extent: Extent,
    ) -> ChainDecision {
        let hops: Vec<Hop> = chain
            .principals
            .iter()
            .map(|principal| self.hop(chain, principal, (action, resource), facts, extent))
            .collect();
        let of_table = match extent {
            Extent::WithTable => self.table_asked(action, resource),
            Extent::Alone => None,
        };
        // A grant that reaches the table reaches its columns.
        let reached = of_table.as_ref().unwrap_or(resource);
        let links = self.links(chain, Some((action, reached)));
        let allow = hops.iter().all(|hop| hop.decision.allow)
            && links.iter().all(|link| link.refused.is_none());
        ChainDecision {
            allow,
            hops,
            links,
            of_table,
        }
    }

    fn hop(
        &self,
        chain: &Chain,
        principal: &str,
        (action, resource): (Action, &ResourceRef),
        facts: &ChainFacts,
        extent: Extent,
    ) -> Hop {
        let (whose, known) = self.facts_of(chain, principal, facts);
        let (decision, depends) = match known {
            Some(known) => {
                let decision = match extent {
                    Extent::WithTable => self.decide_prepared(principal, action, resource, known),
                    Extent::Alone => self.decide_alone(principal, action, resource, known),
                };
                (decision, None)
            }
            // INVARIANT 3: what is not known denies.
            None => {
                let regardless = match extent {
                    Extent::WithTable => self.decide_regardless(principal, action, resource),
                    Extent::Alone => self.regardless_alone(principal, action, resource),
                };
                (regardless.decision, regardless.depends)
            }
        };
        Hop {
            principal: principal.to_owned(),
            decision,
            facts: whose,
            depends,
        }
    }

    /// Whose facts decide of `principal`, and these, if they are known.
    fn facts_of<'a>(
        &self,
        chain: &Chain,
        principal: &str,
        facts: &'a ChainFacts,
    ) -> (HopFacts, Option<&'a Prepared>) {
        // A person has no machine: what is asked is whether they may do it there and by that code.
        let person = || {
            self.identity(principal)
                .is_some_and(crate::Identity::is_person)
        };
        if principal == chain.last() || person() {
            return match facts.session() {
                Some(known) => (HopFacts::Session, Some(known)),
                None => (HopFacts::SessionUnknown, None),
            };
        }
        match facts.earlier(principal) {
            Some(known) => (HopFacts::Own, Some(known)),
            None => (HopFacts::OwnUnknown, None),
        }
    }

    /// As [`Estate::decide_chain`], where nothing is known of anybody.
    pub fn decide_chain_regardless(
        &self,
        chain: &Chain,
        action: Action,
        resource: &ResourceRef,
    ) -> ChainDecision {
        self.decide_chain(chain, action, resource, &ChainFacts::default())
    }

    /// As [`Estate::why`], of a chain whose session has these facts, and who delegated on those of `earlier`, by
    /// identity path.
    #[must_use]
    pub fn why_chain(
        &self,
        chain: &Chain,
        action: Action,
        resource: &ResourceRef,
        facts: &FactSet,
        earlier: &BTreeMap<String, FactSet>,
    ) -> ChainExplanation {
        self.why_chain_asked(
            chain,
            (action, resource),
            (facts, earlier),
            Extent::WithTable,
        )
    }

    pub(crate) fn why_chain_asked(
        &self,
        chain: &Chain,
        (action, resource): (Action, &ResourceRef),
        (facts, earlier): (&FactSet, &BTreeMap<String, FactSet>),
        extent: Extent,
    ) -> ChainExplanation {
        let mut known = ChainFacts::of(self.prepare(facts));
        for (principal, facts) in earlier {
            known = known.with(principal, self.prepare(facts));
        }
        let decided = self.chain_asked(chain, (action, resource), &known, extent);
        let explain = |hop: &Hop| {
            let own = earlier.get(&hop.principal);
            let own = own.filter(|_| hop.facts == HopFacts::Own);
            let request = Request {
                principal: &hop.principal,
                action,
                resource: resource.clone(),
                facts: own.unwrap_or(facts),
            };
            let mut explanation = match extent {
                Extent::WithTable => self.explain(&request),
                Extent::Alone => self.explain_alone(&request),
            };
            // Of one whose facts are not known, those of the session explain nothing.
            if explanation.decision.allow != hop.decision.allow {
                explanation.decision = hop.decision.clone();
                explanation.texts.clear();
                explanation.further = 0;
                explanation.decision.findings.extend(hop.lacking());
            }
            explanation
        };
        ChainExplanation {
            allow: decided.allow,
            estate: self.version().to_owned(),
            hops: decided.hops.iter().map(explain).collect(),
            facts: decided.hops.iter().map(|hop| hop.facts).collect(),
            links: decided.links,
        }
    }

    /// How long the last delegation of the chain may last, by the estate, whatever it is then used for: as long as
    /// the shortest grant of each link, so that none is outlived by what another covers.
    ///
    /// # Errors
    /// `DELEGATION-…`: the first link that the estate does not grant.
    pub fn may_delegate(&self, chain: &Chain) -> Result<Duration, Finding> {
        let mut least = None;
        for (from, to, scope, following) in chain.links() {
            let link = self.link(from, to, scope, following, None);
            if let Some(finding) = link.refused {
                return Err(finding);
            }
            let granted = self.granted(from, to, following);
            let of_link = granted.map(|one| one.max_ttl).min().unwrap_or_default();
            least = Some(least.map_or(of_link, |shorter: Duration| shorter.min(of_link)));
        }
        least.ok_or_else(|| {
            Finding::new(
                "DELEGATION-CHAIN",
                "nobody delegates to anybody in this chain",
            )
            .expected("two principals or more")
        })
    }

    /// Whether the resource is one of these, or lies in one of them.
    fn lies_in(
        &self,
        action: Action,
        resource: &ResourceRef,
        among: &BTreeSet<ResourceRef>,
    ) -> bool {
        let mut above = Some(resource.clone());
        while let Some(one) = above {
            if among.contains(&one) {
                return true;
            }
            above = one.parent();
        }
        // What tools, routes and own kinds lie in, the graph knows.
        let Ok((_, side, _)) = self.target(action, resource) else {
            return false;
        };
        among.iter().any(|one| {
            let id = self.graph.find(&resource_uid(one));
            id.is_some_and(|id| side.lineage.contains(&id))
        })
    }

    fn covers(&self, scope: &Scope, action: Action, resource: &ResourceRef) -> bool {
        let of_actions = scope.actions.as_ref();
        let of_resources = scope.resources.as_ref();
        of_actions.is_none_or(|actions| actions.contains(&action))
            && of_resources.is_none_or(|among| self.lies_in(action, resource, among))
    }

    /// What grants may call the principal: by its path, of an instance also by its template's, and by every group that
    /// it is in.
    pub(crate) fn parties(&self, principal: &str) -> BTreeSet<Party> {
        let mut parties = BTreeSet::new();
        let Some(identity) = self.identity(principal) else {
            return parties;
        };
        parties.insert(Party::Identity(principal.to_owned()));
        parties.insert(Party::Identity(identity.path.clone()));
        // Groups are acyclic; what is reached twice is looked at once.
        let mut next: Vec<&str> = identity.groups.iter().map(String::as_str).collect();
        while let Some(group) = next.pop() {
            if parties.insert(Party::Group(group.to_owned())) {
                let above = self.model.groups.get(group).into_iter().flatten();
                next.extend(above.map(String::as_str));
            }
        }
        parties
    }

    fn between(&self, from: &str, to: &str) -> impl Iterator<Item = &Delegation> {
        let granted = &self.model.granted;
        let places = granted.between(&self.parties(from), &self.parties(to));
        let all = &self.model.delegations;
        places.into_iter().filter_map(|place| all.get(place))
    }

    /// As [`Estate::between`], where `following` delegations follow from `from`.
    fn granted(&self, from: &str, to: &str, following: usize) -> impl Iterator<Item = &Delegation> {
        self.between(from, to)
            .filter(move |one| following <= one.max_hops)
    }

    fn links(&self, chain: &Chain, asked: Asked<'_>) -> Vec<Link> {
        chain
            .links()
            .map(|(from, to, scope, following)| self.link(from, to, scope, following, asked))
            .collect()
    }

    fn link(
        &self,
        from: &str,
        to: &str,
        scope: &Scope,
        following: usize,
        asked: Asked<'_>,
    ) -> Link {
        let fits = |one: &&Delegation| {
            asked.is_none_or(|(action, resource)| self.covers(&one.scope, action, resource))
        };
        let grants: Vec<DelegationRef> = self
            .granted(from, to, following)
            .filter(fits)
            .map(DelegationRef::from)
            .collect();
        let refused = self.refusal(from, to, scope, following, asked, &grants);
        Link {
            from: from.to_owned(),
            to: to.to_owned(),
            grants,
            refused,
        }
    }

    fn refusal(
        &self,
        from: &str,
        to: &str,
        scope: &Scope,
        following: usize,
        asked: Asked<'_>,
        grants: &[DelegationRef],
    ) -> Option<Finding> {
        let person = self.identity(to).is_some_and(crate::Identity::is_person);
        if person {
            let message = format!("`{to}` is a person, and only who holds an SVID acts for others");
            return Some(
                Finding::new("DELEGATION-TO-PERSON", message)
                    .next("delegate to a service or an AI agent"),
            );
        }
        if let Some((action, resource)) = asked
            && !self.covers(scope, action, resource)
        {
            let message = format!("what `{from}` delegated to `{to}` does not reach this");
            return Some(
                Finding::new("DELEGATION-SCOPE", message)
                    .expected(said(scope))
                    .observed(format!("{action} {resource}"))
                    .next("ask for a delegation that covers it"),
            );
        }
        if !grants.is_empty() {
            return None;
        }
        let declared: Vec<&Delegation> = self.between(from, to).collect();
        let Some(nearest) = declared.first() else {
            let message = format!("no [[delegation]] lets `{to}` act for `{from}`");
            return Some(
                Finding::new("DELEGATION-NONE", message)
                    .next("add one under delegations/ and apply the estate"),
            );
        };
        let place = format!("look at {}:{}", nearest.file, nearest.line);
        let most = declared.iter().map(|one| one.max_hops).max().unwrap_or(0);
        if most < following {
            let message = format!("what `{from}` delegates to `{to}` may not be delegated so far");
            return Some(
                Finding::new("DELEGATION-HOPS", message)
                    .expected(format!("at most {most} delegations from `{from}` on"))
                    .observed(following.to_string())
                    .next(place),
            );
        }
        let message = format!("no [[delegation]] lets `{to}` do this for `{from}`");
        let expected: Vec<String> = declared.iter().map(|one| said(&one.scope)).collect();
        let seen = asked.map(|(action, resource)| format!("{action} {resource}"));
        Some(
            Finding::new("DELEGATION-GRANT", message)
                .expected(expected.join("; or "))
                .observed(seen.unwrap_or_default())
                .next(place),
        )
    }
}

/// A scope for people.
fn said(scope: &Scope) -> String {
    let actions = scope.actions.as_ref().map_or_else(
        || "any action".to_owned(),
        |actions| {
            let names: Vec<&str> = actions.iter().map(Action::as_str).collect();
            names.join(", ")
        },
    );
    let resources = scope.resources.as_ref().map_or_else(
        || "anything".to_owned(),
        |resources| {
            let names: Vec<String> = resources.iter().map(ToString::to_string).collect();
            names.join(", ")
        },
    );
    format!("{actions} on {resources}")
}
