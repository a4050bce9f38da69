//! Blast radius: which identities whoever holds a machine, some code or a signer's key can become, and what
//! data those reach. Everything that is not known for certain is taken to be as the thief wants it, so that
//! the answer may be too large and is never too small; what then still has to hold is shown as a condition.

use crate::action::Action;
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
    /// The server with its keys: every identity.
    Server,
}

/// What follows from it.
#[derive(Debug, Clone, Serialize)]
pub struct Blast {
    /// The estate's version, SHA-256 hex.
    pub estate: String,
    pub taken: Taken,
    /// What can be become, in order of paths.
    pub identities: Vec<Reach>,
    /// What those can do, in order of identity, action and resource.
    pub accesses: Vec<Access>,
    /// What could not be evaluated. With any, the answer is not complete.
    pub errors: Vec<String>,
}

/// An identity that can be become, and what still has to hold for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reach {
    /// Of a template, it stands for whatever instances the thief's facts make.
    pub identity: String,
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
    /// Whether the thief is the node agent, so that whatever it asserts is as he wants it.
    asserts: bool,
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
    /// # Errors
    /// What was taken is not known here, with the nearest that is.
    pub fn blast_radius(&self, taken: Taken) -> Result<Blast, String> {
        let mut blast = Blast {
            estate: self.version().to_owned(),
            identities: Vec::new(),
            accesses: Vec::new(),
            errors: Vec::new(),
            taken: taken.clone(),
        };
        match taken {
            Taken::Machine { name, pool } => {
                let known = [self.machine(&name, pool)?];
                self.become_by(&known, &mut blast);
            }
            Taken::Code(sha256) => {
                let known = [self.code(&sha256)?];
                self.become_by(&known, &mut blast);
            }
            Taken::Signer(label) => {
                let known = self.signed_by(&label)?;
                self.become_by(&known, &mut blast);
            }
            Taken::Identity(path) => {
                blast.identities.push(itself(self.known_identity(&path)?));
            }
            Taken::Gateway(path) => {
                let gateway = self.known_identity(&path)?;
                if gateway.kind != IdentityKind::Gateway {
                    let kind = gateway.kind.as_str();
                    return Err(format!("`{path}` is a {kind}, no gateway"));
                }
                blast.identities.extend(self.identities().map(itself));
            }
            Taken::Server => blast.identities.extend(self.identities().map(itself)),
        }
        for reach in &blast.identities {
            let answer = self.what_can(&reach.identity);
            blast.accesses.extend(answer.accesses);
            blast.errors.extend(answer.errors);
        }
        blast.accesses.sort();
        Ok(blast)
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
            asserts: true,
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
            asserts: false,
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
                asserts: false,
            }
        });
        Ok(known.collect())
    }

    fn become_by(&self, known: &[Known], blast: &mut Blast) {
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
            blast.identities.extend(reach);
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
            Scope::In(_, pool) if !placed => left.conditions.push(format!("principal in {pool}")),
            scope if !self.in_scope(scope, &case.principal, case.principal_lineage()) => {
                return None;
            }
            _ => {}
        }
        for conjunct in conjuncts(&info.body) {
            if !is_certain(&conjunct, known, placed) {
                let into = match known.asserts && is_only_asserted(&conjunct) {
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

fn reads(read: &[String], name: &str) -> bool {
    let path = format!("principal.{name}");
    let below = format!("{path}.");
    read.iter()
        .any(|read| *read == path || read.starts_with(&below))
}
