//! Blast radius: which identities whoever holds a machine, some code or a signer's key can become, and what
//! data those reach. Everything that is not known for certain is taken to be as the thief wants it, so that
//! the answer may be too large and is never too small; what then still has to hold is shown as a condition.

mod follow;
mod grants;
mod pages;

use follow::Path;
pub use follow::{Path as BlastPath, Step as BlastStep};
pub use grants::ActsFor;
pub use pages::{BlastAnswer, BlastCounts, BlastItem, BlastPage};

use crate::action::Action;
use crate::administrator::Administrator;
use crate::ask::{Access, Residual};
use crate::authorize::Case;
use crate::decision::{Effect, PolicyRef};
use crate::declare::IdentityKind;
use crate::estate::Estate;
use crate::model::Identity;
use crate::policy::{PolicyInfo, Scope, conjuncts, is_only_asserted, paths};
use crate::suggest::closest;
use cedar_policy::pst::Expr;
use cedar_policy::{EvalResult, Expression, Request as CedarRequest, eval_expression};
use facts::{FactSet, Source, Timestamp, Value, names};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What somebody has taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "of", rename_all = "kebab-case")]
pub enum Taken {
    /// Root on a machine: what its agent asserts is arbitrary. With its pool, if no file declares the machine;
    /// without, it may be in any.
    Machine { name: String, pool: Option<String> },
    /// Whatever runs a program with this SHA-256, lower-case hex.
    Code(String),
    /// The key or account by which a signer of the references vouches for code.
    Signer(String),
    /// An identity's SVID and key.
    Identity(String),
    /// A gateway: it acts in the name of everybody whom it lets in.
    Gateway(String),
    /// Who administers: `uid:0`, or a person's session, `person:people/ada`.
    Administrator(String),
    /// The key of a root of hardware, by the name that the estate or `machine.tee.root` has for it: machines that it
    /// vouches for are whatever its holder says.
    Root(String),
    /// The server with its keys: every identity.
    Server,
}

/// What follows from it.
#[derive(Debug, Clone, Serialize)]
pub struct Blast {
    /// The estate's version, SHA-256 hex.
    pub estate: String,
    pub taken: Taken,
    /// How more is reached than by becoming it: by administering, through a gateway, with the server's keys.
    pub paths: Vec<Path>,
    /// What can be become or acted as, in order of paths: one that is reached both by becoming it and by a path stands
    /// twice.
    pub identities: Vec<Reach>,
    /// On whose behalf those could act by delegations that the estate grants, whether a token for it is out already
    /// or comes to them later. It gives nobody more data than its own rights: those who are named are accountable.
    pub acts_for: Vec<ActsFor>,
    /// What those can do, in order of identity, action and resource.
    pub accesses: Vec<Access>,
    /// What could not be evaluated. With any, the answer is not complete.
    pub errors: Vec<String>,
}

/// An identity that can be become, and what still has to hold for it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Reach {
    /// Of a template, it stands for whatever instances the thief's facts make.
    pub identity: String,
    /// Unless empty: by which of the answer's paths, by their `from`, and not by becoming it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub through: Vec<String>,
    /// The policies that allow it.
    pub policies: Vec<Arc<PolicyRef>>,
    /// Unless empty: one of these must hold, and nothing known contradicts it.
    pub when: Vec<Residual>,
    /// Of a taken machine: what its agent has to assert for it, as it can of anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub asserting: Vec<Residual>,
}

/// What is known for certain of the workload that a thief presents, and what only he decides.
struct Known {
    facts: FactSet,
    /// Names of facts that are known, present or absent.
    certain: &'static [&'static str],
    /// The policy has to rest on one of these: else what was taken adds nothing to it.
    rests_on: &'static [&'static str],
    hand: Hand,
}

/// Who the thief is, and so which conditions are as he wants them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hand {
    /// A workload: none.
    Workload,
    /// The node agent: those on what it asserts.
    Agent,
    /// An administrator who makes join tokens: in which pool his machine is and how it is called as well.
    Tokens,
    /// A root of hardware: all that machines and their agents say.
    Root,
}

impl Hand {
    fn decides(self, conjunct: &Expr) -> bool {
        match self {
            Self::Workload => false,
            Self::Agent => is_only_asserted(conjunct),
            Self::Tokens => is_only_asserted(conjunct) || only_places(conjunct),
            Self::Root => {
                let read = paths(conjunct);
                let of_either =
                    |path: &String| path.starts_with("principal.") || path.starts_with("resource.");
                !read.is_empty() && read.iter().all(of_either)
            }
        }
    }
}

/// What of a policy is not certain.
#[derive(Default)]
struct Left {
    /// Has to hold.
    conditions: Vec<String>,
    /// Is asserted by a taken agent.
    asserted: Vec<String>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.conditions.is_empty() && self.asserted.is_empty()
    }
}

/// What a policy asks of code that somebody vouched for.
const VOUCHED: [&str; 10] = [
    "code.image",
    names::CODE_APPROVED_BY,
    names::CODE_SIGNER_IDENTITY,
    names::CODE_SIGNER_ISSUER,
    names::CODE_SIGNER_KEY,
    names::CODE_SOURCE,
    names::CODE_REF,
    names::CODE_COMMIT,
    names::CODE_WORKFLOW,
    names::CODE_BUILDER,
];

impl Estate {
    /// All of it. [`Estate::blast`] has the same one after another.
    ///
    /// # Errors
    /// What was taken is not known here, with the nearest that is.
    pub fn blast_radius(&self, taken: Taken) -> Result<Blast, String> {
        let page = self.blast(taken)?.page(usize::MAX, usize::MAX);
        Ok(page.blast)
    }

    /// What follows, as it is found.
    ///
    /// # Errors
    /// What was taken is not known here, with the nearest that is.
    pub fn blast(&self, taken: Taken) -> Result<BlastAnswer<'_>, String> {
        let mut blast = Blast {
            estate: self.version().to_owned(),
            paths: Vec::new(),
            identities: Vec::new(),
            acts_for: Vec::new(),
            accesses: Vec::new(),
            errors: Vec::new(),
            taken: taken.clone(),
        };
        match taken {
            Taken::Machine { name, pool } => {
                let known = [self.machine(&name, pool)?];
                self.become_by(&known, &[], &mut blast);
            }
            Taken::Code(sha256) => {
                let known = [self.code(&sha256)?];
                self.become_by(&known, &[], &mut blast);
            }
            Taken::Signer(label) => {
                let known = self.signed_by(&label)?;
                self.become_by(&known, &[], &mut blast);
            }
            Taken::Root(name) => {
                let known = [self.vouched_by(&name)?];
                self.become_by(&known, &[], &mut blast);
            }
            Taken::Identity(path) => {
                let identity = self.known_identity(&path)?;
                blast.identities.push(itself(identity));
                if identity.is_person() {
                    self.administer(&Administrator::Person(path), &mut blast);
                }
            }
            Taken::Gateway(path) => {
                let gateway = self.known_identity(&path)?;
                if gateway.kind != IdentityKind::Gateway {
                    let kind = gateway.kind.as_str();
                    return Err(format!("`{path}` is a {kind}, no gateway"));
                }
                blast.identities.push(itself(gateway));
            }
            Taken::Administrator(who) => {
                let who = self.known_administrator(&who)?;
                self.administer(&who, &mut blast);
            }
            Taken::Server => blast.paths.push(Path::server()),
        }
        self.follow(&mut blast);
        Ok(BlastAnswer::new(self, blast))
    }

    fn known_identity(&self, path: &str) -> Result<&Identity, String> {
        self.identity(path).ok_or_else(|| {
            let known = self.identities().map(|identity| identity.path.as_str());
            unknown("identity", path, closest(path, known))
        })
    }

    fn machine(&self, name: &str, pool: Option<String>) -> Result<Known, String> {
        let references = &self.model.references;
        let declared = references.machines.get(name);
        let placed = declared.is_some() || pool.is_some();
        let pool = declared.map_or(pool, |machine| machine.pool.clone());
        if let Some(pool) = &pool
            && !references.pools.contains(pool)
        {
            let known = references.pools.iter().map(String::as_str);
            return Err(unknown("pool", pool, closest(pool, known)));
        }
        let mut facts = FactSet::new();
        certain(&mut facts, names::MACHINE_NAME, name.into());
        if let Some(pool) = pool {
            certain(&mut facts, names::MACHINE_POOL, pool.into());
        }
        Ok(Known {
            facts,
            // Verified when it joined; everything else is what it says now. Of a machine that no file declares
            // nobody here knows the pool.
            certain: if placed {
                &[names::MACHINE_NAME, names::MACHINE_POOL]
            } else {
                &[names::MACHINE_NAME]
            },
            rests_on: &[],
            hand: Hand::Agent,
        })
    }

    fn code(&self, sha256: &str) -> Result<Known, String> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if sha256.len() != 64 || !sha256.bytes().all(hex) {
            return Err(format!("{sha256:?} is no SHA-256: 64 digits of small hex"));
        }
        let mut facts = FactSet::new();
        certain(&mut facts, names::CODE_SHA256, sha256.into());
        Ok(Known {
            facts,
            certain: &[names::CODE_SHA256, "code.known_as"],
            rests_on: &["code"],
            hand: Hand::Workload,
        })
    }

    /// One for each name under which what the signer says counts.
    fn signed_by(&self, label: &str) -> Result<Vec<Known>, String> {
        let by = &self.model.references.vouching.by;
        let approvals = by.approvals_by(label);
        if approvals.is_empty() {
            return Err(unknown("signer", label, closest(label, by.labels())));
        }
        let known = approvals.into_iter().map(|approved_by| {
            let mut facts = FactSet::new();
            // Code that nobody has seen: no list of digests has it.
            certain(&mut facts, names::CODE_SHA256, "0".repeat(64).into());
            certain(&mut facts, names::CODE_APPROVED_BY, approved_by.into());
            Known {
                facts,
                certain: &[names::CODE_APPROVED_BY, "code.known_as"],
                rests_on: &VOUCHED,
                hand: Hand::Workload,
            }
        });
        Ok(known.collect())
    }

    /// `through` says by which path, if it is one.
    fn become_by(&self, known: &[Known], through: &[String], blast: &mut Blast) {
        // No workload becomes a person.
        for identity in self.identities().filter(|one| !one.is_person()) {
            let mut reach: Option<Reach> = None;
            let Some(node) = self.graph.identity(&identity.path) else {
                continue;
            };
            for known in known {
                // A template as it is declared: which instance, the thief's facts say.
                let case = self.workload(&known.facts);
                let case = match case.and_then(|workload| self.assume_node(&workload, node)) {
                    Ok(case) => case,
                    Err(unanswerable) => {
                        blast.errors.push(unanswerable.message);
                        continue;
                    }
                };
                let Ok(request) = case.request() else {
                    blast
                        .errors
                        .push(format!("{} cannot be asked about", identity.path));
                    continue;
                };
                self.reach(known, &case, &request, &identity.path, &mut reach);
            }
            blast.identities.extend(reach.map(|reach| Reach {
                through: through.to_vec(),
                ..reach
            }));
        }
    }

    fn reach(
        &self,
        known: &Known,
        case: &Case<'_>,
        request: &CedarRequest,
        path: &str,
        reach: &mut Option<Reach>,
    ) {
        let of = |effect: Effect| {
            self.policies.list.iter().filter(move |info| {
                let actions = info.actions.as_ref();
                info.reference.effect == effect
                    && actions.is_none_or(|actions| actions.contains(&Action::Assume))
            })
        };
        let left = |info: &PolicyInfo| self.left(info, known, case, request);
        // A forbid that certainly applies. One that may is the thief's to keep from applying.
        if of(Effect::Forbid).any(|info| left(info).is_some_and(|left| left.is_empty())) {
            return;
        }
        for info in of(Effect::Permit) {
            let read: Vec<String> = conjuncts(&info.body)
                .iter()
                .flat_map(|one| paths(one))
                .collect();
            let rests =
                known.rests_on.is_empty() || known.rests_on.iter().any(|name| reads(&read, name));
            let Some(left) = left(info).filter(|_| rests) else {
                continue;
            };
            let reach = reach.get_or_insert_with(|| Reach {
                identity: path.to_owned(),
                through: Vec::new(),
                policies: Vec::new(),
                when: Vec::new(),
                asserting: Vec::new(),
            });
            if !reach.policies.contains(&info.reference) {
                reach.policies.push(Arc::clone(&info.reference));
            }
            add(&mut reach.when, info, &left.conditions);
            add(&mut reach.asserting, info, &left.asserted);
        }
    }

    /// What of the policy is not certain; nothing if it certainly does not apply.
    fn left(
        &self,
        info: &PolicyInfo,
        known: &Known,
        case: &Case<'_>,
        request: &CedarRequest,
    ) -> Option<Left> {
        if !self.in_scope(&info.resource, &case.resource, case.resource_lineage()) {
            return None;
        }
        let mut left = Left::default();
        let placed = known.certain.contains(&names::MACHINE_POOL);
        match &info.principal {
            Scope::In(kind, pool)
                if !placed
                    && kind.as_ref().is_none_or(|kind| kind == "Workload")
                    && pool.type_name().to_string() == "Pool" =>
            {
                let into = match known.hand {
                    Hand::Tokens => &mut left.asserted,
                    _ => &mut left.conditions,
                };
                into.push(format!("principal in {pool}"));
            }
            scope if !self.in_scope(scope, &case.principal, case.principal_lineage()) => {
                return None;
            }
            _ => {}
        }
        for conjunct in conjuncts(&info.body) {
            if !is_certain(&conjunct, known, placed) {
                let into = match known.hand.decides(&conjunct) {
                    true => &mut left.asserted,
                    false => &mut left.conditions,
                };
                into.push(conjunct.to_string());
                continue;
            }
            let expression: Expression = conjunct.to_string().parse().ok()?;
            let value = eval_expression(request, &case.entities, &expression);
            if !matches!(value, Ok(EvalResult::Bool(true))) {
                return None;
            }
        }
        Some(left)
    }
}

fn itself(identity: &Identity) -> Reach {
    Reach {
        identity: identity.path.clone(),
        through: Vec::new(),
        policies: Vec::new(),
        when: Vec::new(),
        asserting: Vec::new(),
    }
}

fn add(to: &mut Vec<Residual>, info: &PolicyInfo, conditions: &[String]) {
    let residual = Residual {
        policy: Arc::clone(&info.reference),
        condition: conditions.join(" && "),
    };
    if !conditions.is_empty() && !to.contains(&residual) {
        to.push(residual);
    }
}

fn certain(facts: &mut FactSet, name: &str, value: Value) {
    facts.state(name, value, Source::Verified, Timestamp::EPOCH);
}

fn unknown(what: &str, name: &str, near: Option<&str>) -> String {
    let near = near.map_or_else(String::new, |near| format!(" (did you mean `{near}`?)"));
    format!("no {what} `{name}` is declared{near}")
}

/// Whether the answer does not depend on what the thief decides: everything that the condition reads is known.
fn is_certain(conjunct: &Expr, known: &Known, placed: bool) -> bool {
    let read = paths(conjunct);
    let mut workload: BTreeSet<&str> = BTreeSet::new();
    for path in &read {
        match path.split_once('.') {
            Some(("principal", fact)) => {
                workload.insert(fact);
            }
            // What is declared of the identity.
            Some(("resource", _)) => {}
            _ => return false,
        }
    }
    let certain = |fact: &str| {
        let of_workload = format!("workload.{fact}");
        known.certain.iter().any(|name| {
            // `principal has code` is answered by whatever is known below it.
            *name == fact || *name == of_workload || name.starts_with(&format!("{fact}."))
        })
    };
    if read.is_empty() || conjunct.to_string().contains("principal in") {
        return placed && workload.into_iter().all(certain);
    }
    workload.into_iter().all(certain)
}

/// Whether the condition reads only where a machine is and how it is called, and what its agent asserts.
fn only_places(conjunct: &Expr) -> bool {
    let places = [names::MACHINE_NAME, names::MACHINE_POOL];
    let read = paths(conjunct);
    let place = |path: &String| {
        let fact = path.strip_prefix("principal.");
        path.starts_with("resource.") || fact.is_some_and(|fact| places.contains(&fact))
    };
    !read.is_empty() && read.iter().all(place)
}

fn reads(read: &[String], name: &str) -> bool {
    let path = format!("principal.{name}");
    let below = format!("{path}.");
    read.iter()
        .any(|read| *read == path || read.starts_with(&below))
}
