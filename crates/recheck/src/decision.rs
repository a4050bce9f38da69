//! A recorded access, decided again: by the estate that its record names, and the facts that the record of the
//! issuance shows, which are those that the gateway decided by.

use crate::outcome::{Again, Outcome, differs, lacks, listed};
use crate::pack::Pack;
use estate::{Action, Chain, ChainFacts, Decision, Estate, Prepared, ResourceKind, ResourceRef};
use facts::{FactSet, Source, Timestamp};
use ledger::body::{self, About, ActionOn, Issuance, OnBehalfOf};
use ledger::pack::PackRecord;
use ledger::{Record, RecordType};
use spiffe_core::shown;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a gateway calls a denial that policy made; others come before policy is asked.
const NONE: &str = "POLICY-NONE";
const FORBID: &str = "POLICY-FORBID";
const ERROR: &str = "POLICY-ERROR";
/// Of a column whose table is allowed, in the place of the first two.
const COLUMN: &str = "POLICY-COLUMN";
/// How every column of a table ends.
const ALL: &str = "/*\"";
/// In the place of columns that a record has no room for.
const ANY: &str = "Column::\"*\"";
/// What a decision point answers where it knows nothing of the session.
const UNKNOWN: &str = "PDP-FACTS-UNKNOWN";
/// What an estate finds against the delegations of a chain.
const LINKS: [&str; 5] = [
    "DELEGATION-TO-PERSON",
    "DELEGATION-SCOPE",
    "DELEGATION-NONE",
    "DELEGATION-HOPS",
    "DELEGATION-GRANT",
];

/// What intents and decisions have in common.
struct Told {
    session: String,
    actions: Vec<ActionOn>,
    policies: Vec<String>,
    /// The record has all of them.
    whole: bool,
    allow: bool,
    findings: Vec<String>,
    about: Option<About>,
    claimed: Vec<String>,
    proven: Vec<OnBehalfOf>,
}

/// Who asked, and what was known of them.
struct Asker {
    path: String,
    chain: Option<Chain>,
    /// Delegations may narrow what the chain may do; they are not in a pack.
    narrowed: bool,
    /// Of those who delegated on: by which facts each is judged, by path.
    earlier: BTreeMap<String, Arc<Prepared>>,
    known: Known,
}

enum Known {
    /// By these facts.
    Facts(Arc<Prepared>),
    /// By what is so whatever the facts are.
    Nothing,
    /// By one or the other: the record does not tell them apart.
    NothingOrNone(Arc<Prepared>),
}

/// One access that the record names.
struct Access {
    action: Action,
    /// `None` where the record hides which it is.
    resource: Option<ResourceRef>,
    told: String,
}

pub(crate) fn again(pack: &Pack<'_>, item: &PackRecord) -> Again {
    let Some(told) = Told::of(&item.record) else {
        return lacks("the record is of another form than this version reads");
    };
    let accesses = told.accesses()?;
    if accesses.is_empty() {
        return lacks("no policy was asked for it");
    }
    if let Some(before) = told.refused_before() {
        return lacks(format!(
            "it was refused for {before}, before policy was asked"
        ));
    }
    let (reference, estate) = pack.estate(item)?;
    told.columns(&estate)?;
    let asker = told.asker(pack, item, (reference.index, &estate))?;
    let made: Vec<Made<'_>> = accesses
        .iter()
        .map(|access| Made::of(&estate, &asker, access))
        .collect();
    if told.allow {
        told.allowed(&made)?;
        told.tables(&estate, &asker, &accesses)?;
        if asker.narrowed {
            return lacks(
                "the delegations that its principals acted by, which may allow less, are not in the pack",
            );
        }
        return Ok(());
    }
    told.denied(&made, asker.narrowed)
}

/// What the estate makes of one access now.
struct Made<'a> {
    access: &'a Access,
    /// Any of them: more than one where it is not recorded which of two questions was put. `None` for a resource
    /// that the record hides.
    decisions: Option<Vec<Decision>>,
}

impl<'a> Made<'a> {
    fn of(estate: &Estate, asker: &Asker, access: &'a Access) -> Self {
        let Some(resource) = &access.resource else {
            return Self {
                access,
                decisions: None,
            };
        };
        let by = |prepared: Option<&Arc<Prepared>>| {
            decide(estate, asker, access.action, resource, prepared)
        };
        let decisions = match &asker.known {
            Known::Facts(prepared) => vec![by(Some(prepared))],
            Known::Nothing => vec![by(None)],
            Known::NothingOrNone(prepared) => vec![by(None), by(Some(prepared))],
        };
        Self {
            access,
            decisions: Some(decisions),
        }
    }
}

fn decide(
    estate: &Estate,
    asker: &Asker,
    action: Action,
    resource: &ResourceRef,
    prepared: Option<&Arc<Prepared>>,
) -> Decision {
    // INVARIANT: by what the record names. A gateway's names the tables beside their columns, and so does an answer;
    // one of a time when answers about columns did not ask their tables names none.
    let estate = estate.alone();
    let Some(chain) = &asker.chain else {
        return match prepared {
            Some(prepared) => estate.decide_prepared(&asker.path, action, resource, prepared),
            None => {
                estate
                    .decide_regardless(&asker.path, action, resource)
                    .decision
            }
        };
    };
    let session = prepared.map_or_else(ChainFacts::default, |one| ChainFacts::of(Arc::clone(one)));
    let facts = asker.earlier.iter().fold(session, |facts, (path, own)| {
        facts.with(path, Arc::clone(own))
    });
    estate
        .decide_chain(chain, action, resource, &facts)
        .as_one()
}

impl Told {
    fn of(record: &Record) -> Option<Self> {
        if record.kind() == RecordType::Intent {
            let intent: body::Intent = record.expect_body().ok()?;
            return Some(Self {
                session: intent.session,
                actions: intent.actions,
                policies: intent.policies,
                whole: intent.more_policies.is_none(),
                allow: true,
                findings: Vec::new(),
                about: None,
                claimed: intent.claimed_on_behalf_of,
                proven: intent.on_behalf_of,
            });
        }
        let decision: body::Decision = record.expect_body().ok()?;
        Some(Self {
            session: decision.session,
            actions: decision.actions,
            policies: decision.policies,
            whole: decision.more_policies.is_none(),
            allow: decision.allow,
            findings: decision.findings,
            about: decision.about,
            claimed: decision.claimed_on_behalf_of,
            proven: decision.on_behalf_of,
        })
    }

    /// What is named, in order: what was denied comes first.
    fn accesses(&self) -> Result<Vec<Access>, Outcome> {
        let mut accesses = Vec::new();
        for on in &self.actions {
            let Ok(action) = on.action.parse::<Action>() else {
                return lacks(format!(
                    "the action {:?} is none of this version",
                    on.action
                ));
            };
            for told in &on.resources {
                // What neither the database nor the estate knows stands in a record as a commitment.
                let hidden = is_hidden(told);
                let resource = match told.parse::<ResourceRef>() {
                    _ if hidden => None,
                    Ok(resource) => Some(resource),
                    Err(_) => return lacks(format!("{told:?} names no resource")),
                };
                accesses.push(Access {
                    action,
                    resource,
                    told: told.clone(),
                });
            }
        }
        Ok(accesses)
    }

    /// INVARIANT: where columns are decided on, none is touched that was not asked for.
    fn columns(&self, estate: &Estate) -> Again {
        if !self.allow || !estate.decides_columns() {
            return Ok(());
        }
        for on in &self.actions {
            let asked: BTreeSet<&str> = on.resources.iter().map(String::as_str).collect();
            let unasked = |column: &&String| !asked.contains(column.as_str());
            for column in on.columns.iter().filter(unasked) {
                if on.more.is_some() {
                    return lacks("the record has no room for all that was asked");
                }
                if column != ANY && !column.ends_with(ALL) {
                    return differs(format!(
                        "it is to {} {column} too, and nothing was asked of that",
                        on.action
                    ));
                }
                let table = column.parse::<ResourceRef>().ok();
                let table = table.and_then(|column| column.parent());
                let declared = table.iter().flat_map(|table| {
                    let columns = estate.columns_of(table);
                    columns.map(move |name| table.column(name).to_string())
                });
                let declared: Vec<String> = declared.collect();
                if declared.is_empty() || declared.iter().any(|one| !asked.contains(one.as_str())) {
                    return lacks(format!(
                        "it is to {} {column}, and the record does not say which columns that are",
                        on.action
                    ));
                }
            }
        }
        Ok(())
    }

    /// INVARIANT: no column is allowed without its table. A gateway names the table beside each, and so does an answer
    /// since answers ask it; one of before names the column alone, and looks like one that leaves out what the table says.
    fn tables(&self, estate: &Estate, asker: &Asker, accesses: &[Access]) -> Again {
        for column in accesses {
            let action = column.action;
            let resource = column.resource.as_ref();
            let Some(table) = resource.and_then(|column| estate.table_asked(action, column)) else {
                continue;
            };
            let is_named =
                |one: &Access| one.action == action && one.resource.as_ref() == Some(&table);
            if accesses.iter().any(is_named) {
                continue;
            }
            if self.actions.iter().any(|on| on.more.is_some()) {
                return lacks("the record has no room for all that was asked");
            }
            let table = Access {
                action,
                told: table.to_string(),
                resource: Some(table),
            };
            if self.about.is_none() {
                return differs(format!(
                    "it was allowed to {column}, and nothing was asked of {}",
                    table.told
                ));
            }
            let made = Made::of(estate, asker, &table);
            let mut decisions = made.decisions.iter().flatten();
            if !decisions.any(|decision| decision.allow) {
                return lacks(format!(
                    "it allows to {column}, and the estate denies {table}: it is of a time when answers did not ask that, or a lie"
                ));
            }
        }
        Ok(())
    }

    /// The record has all that was asked, by its name.
    fn is_whole(&self, made: &[Made<'_>]) -> bool {
        let named = made.iter().all(|made| made.decisions.is_some());
        named && self.actions.iter().all(|on| on.more.is_none())
    }

    /// Of a denial: the finding that is not policy's.
    fn refused_before(&self) -> Option<&str> {
        if self.allow {
            return None;
        }
        let by_policy = |code: &str| match self.about {
            None => [NONE, FORBID, ERROR, COLUMN].contains(&code) || LINKS.contains(&code),
            Some(_) => code == UNKNOWN || code.starts_with("ESTATE-") || LINKS.contains(&code),
        };
        let mut findings = self.findings.iter().map(String::as_str);
        findings.find(|code| !by_policy(code))
    }

    fn asker(
        &self,
        pack: &Pack<'_>,
        item: &PackRecord,
        estate: (u64, &Estate),
    ) -> Result<Asker, Outcome> {
        let (spiffe_id, known, claimed, proven) = match &self.about {
            Some(about) => (
                about.spiffe_id.clone(),
                self.known(pack, about, estate)?,
                &about.claimed_on_behalf_of,
                &about.on_behalf_of,
            ),
            None => {
                let (spiffe_id, known) = self.of_session(pack, item, estate)?;
                (spiffe_id, known, &self.claimed, &self.proven)
            }
        };
        let path = |id: &str| match pack.path(id) {
            Some(path) => Ok(path.to_owned()),
            None => lacks(format!("{id} is of another trust domain")),
        };
        let own = path(&spiffe_id)?;
        let narrowed = !proven.is_empty();
        let floor = pack.floor(estate.0);
        let mut earlier = BTreeMap::new();
        for one in proven {
            let Some(index) = one.issuance else {
                continue;
            };
            let issuance = issuance(pack, index.0, &one.spiffe_id, None)?;
            // INVARIANT: as a gateway decides. What an SVID of below the floor shows counts no more: then nothing is
            // known of whose it is.
            if pack.issued_under(index.0).is_none_or(|under| under < floor) {
                continue;
            }
            let facts = || shown::facts(&issuance);
            earlier.insert(path(&one.spiffe_id)?, pack.prepared(estate, index.0, facts));
        }
        let proven = proven.iter().map(|one| one.spiffe_id.as_str());
        let others: Vec<String> = claimed
            .iter()
            .map(String::as_str)
            .chain(proven)
            .map(path)
            .collect::<Result<_, _>>()?;
        let chain = if others.is_empty() {
            None
        } else {
            let all = others.iter().map(String::as_str).chain([own.as_str()]);
            match Chain::through(all) {
                Ok(chain) => Some(chain),
                Err(finding) => return lacks(format!("its chain is none: {}", finding.message)),
            }
        };
        Ok(Asker {
            path: own,
            chain,
            narrowed,
            earlier,
            known,
        })
    }

    /// Of an answer: what it was answered by.
    fn known(
        &self,
        pack: &Pack<'_>,
        about: &About,
        (at, estate): (u64, &Estate),
    ) -> Result<Known, Outcome> {
        if let Some(index) = about.issuance {
            let issuance = issuance(pack, index.0, &about.spiffe_id, None)?;
            let facts = || shown::facts(&issuance);
            return Ok(Known::Facts(pack.prepared((at, estate), index.0, facts)));
        }
        let mut facts = FactSet::new();
        for (name, value) in &about.stated {
            facts.state(
                name,
                shown::value(value),
                Source::Asserted,
                Timestamp::EPOCH,
            );
        }
        let prepared = Arc::new(estate.prepare(&facts));
        Ok(if !about.stated.is_empty() {
            Known::Facts(prepared)
        } else if self.findings.iter().any(|code| code == UNKNOWN) {
            Known::Nothing
        } else {
            Known::NothingOrNone(prepared)
        })
    }

    /// Of an access: who made it, and the facts that its session began with. A session whose SVID is renewed on other
    /// facts ends.
    fn of_session(
        &self,
        pack: &Pack<'_>,
        item: &PackRecord,
        (at, estate): (u64, &Estate),
    ) -> Result<(String, Known), Outcome> {
        let Some(start) = pack.session(item, &self.session) else {
            return lacks("the beginning of its session is not in the pack");
        };
        let actor = item.record.actor();
        if actor != start.spiffe_id {
            return differs(format!("{actor} acted in a session of {}", start.spiffe_id));
        }
        let claimed_otherwise = start.claimed_on_behalf_of != self.claimed;
        if claimed_otherwise || start.on_behalf_of != self.proven {
            return differs("it is for others than its session");
        }
        let Some(index) = start.issuance else {
            return lacks("its session names no issuance");
        };
        let issuance = issuance(pack, index.0, &start.spiffe_id, Some(&start.serial))?;
        let facts = || shown::facts(&issuance);
        let known = Known::Facts(pack.prepared((at, estate), index.0, facts));
        Ok((start.spiffe_id.clone(), known))
    }

    /// INVARIANT: of an allow every access is allowed, by the policies that are recorded and no others.
    fn allowed(&self, made: &[Made<'_>]) -> Again {
        let mut policies = BTreeSet::new();
        for one in made {
            let Some(decisions) = &one.decisions else {
                continue;
            };
            let allowing = decisions.iter().filter(|decision| decision.allow);
            let fitting = best(allowing, &self.policies);
            let Some(decision) = fitting else {
                let denied = decisions.first().map(why).unwrap_or_default();
                return differs(format!(
                    "it was allowed, and the estate denies {}: {denied}",
                    one.access
                ));
            };
            policies.extend(decision.policy_ids());
        }
        self.compare(&policies, made)
    }

    /// Of a denial the first access is denied, and for the reason that is recorded.
    fn denied(&self, made: &[Made<'_>], narrowed: bool) -> Again {
        let Some(first) = made.first() else {
            return lacks("no policy was asked for it");
        };
        let Some(decisions) = &first.decisions else {
            return lacks(format!(
                "what was denied is something that nobody declares, and stands in the record as a commitment: {}",
                first.access.told
            ));
        };
        let denying: Vec<&Decision> = decisions.iter().filter(|one| !one.allow).collect();
        if denying.is_empty() {
            if narrowed {
                return lacks("the delegations that may have denied it are not in the pack");
            }
            let allowed = decisions.first().map(Decision::policy_ids);
            return differs(format!(
                "it was denied, and the estate allows {} by {}",
                first.access,
                listed(allowed.iter().flatten().map(String::as_str))
            ));
        }
        if narrowed && self.linked() {
            // A gateway names what a delegation does not reach, and policy's reasons only where that is nothing.
            return lacks("the delegations that it was denied for are not in the pack");
        }
        let unsaid = self.about.is_some() || self.findings.is_empty();
        let column = first.access.is_column();
        let fits = |decision: &&&Decision| unsaid || self.same_reason(decision, column);
        let Some(decision) = denying.iter().find(fits) else {
            return differs(format!(
                "it was denied for {}, and the estate denies it because {}",
                self.findings.join(", "),
                denying.first().map(|one| why(one)).unwrap_or_default()
            ));
        };
        let mut policies: BTreeSet<String> = decision.policy_ids().into_iter().collect();
        // A gateway records the policies that allowed what it had looked at before.
        let others = made.iter().skip(1).flat_map(|made| made.decisions.iter());
        let others = others.flatten().flat_map(Decision::policy_ids);
        let possible: BTreeSet<String> = others.collect();
        let recorded: BTreeSet<&String> = self.policies.iter().collect();
        if self.whole
            && let Some(lacking) = policies.iter().find(|id| !recorded.contains(id))
        {
            return differs(format!(
                "the estate denies it by {lacking:?}, which the record does not name"
            ));
        }
        policies.extend(possible);
        match recorded.into_iter().find(|id| !policies.contains(*id)) {
            Some(more) if self.is_whole(made) => differs(format!(
                "the record names {more:?}, which determines nothing of it in the estate"
            )),
            Some(_) => lacks("the record has no room for all that was asked"),
            None => Ok(()),
        }
    }

    fn same_reason(&self, decision: &Decision, column: bool) -> bool {
        let has = |code: &str| self.findings.iter().any(|one| one == code);
        let by_link = !decision.findings.is_empty();
        if !decision.errors.is_empty() {
            return has(ERROR);
        }
        if by_link || self.linked() {
            return by_link && self.linked();
        }
        has(if column {
            COLUMN
        } else if decision.policies.is_empty() {
            NONE
        } else {
            FORBID
        })
    }

    /// A delegation was refused.
    fn linked(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.any(|code| LINKS.contains(&code.as_str()))
    }

    fn compare(&self, made: &BTreeSet<String>, all: &[Made<'_>]) -> Again {
        let recorded: BTreeSet<String> = self.policies.iter().cloned().collect();
        let whole = self.is_whole(all);
        let lacking = made.difference(&recorded).next();
        let more = recorded.difference(made).next();
        if (self.whole && lacking.is_some()) || (whole && more.is_some()) {
            return differs(format!(
                "it was allowed by {}, and the estate allows it by {}",
                listed(recorded.iter().map(String::as_str)),
                listed(made.iter().map(String::as_str))
            ));
        }
        if whole && self.whole {
            return Ok(());
        }
        lacks(
            "the record has no room for all that was asked, or hides the name of something that nobody declares",
        )
    }
}

/// The decision that a record may be of, if there are two: that with its policies.
fn best<'a>(
    mut decisions: impl Iterator<Item = &'a Decision>,
    recorded: &[String],
) -> Option<&'a Decision> {
    let first = decisions.next()?;
    let same = |decision: &&Decision| decision.policy_ids() == recorded;
    Some(
        std::iter::once(first)
            .chain(decisions)
            .find(same)
            .unwrap_or(first),
    )
}

/// The issuance that a session or a question rests on; it has to be of the same identity, and the same SVID.
fn issuance(
    pack: &Pack<'_>,
    index: u64,
    spiffe_id: &str,
    serial: Option<&str>,
) -> Result<Issuance, Outcome> {
    let Some(issuance) = pack.body::<Issuance>(index) else {
        return lacks(format!(
            "the server's record {index} is not in the pack, or no issuance"
        ));
    };
    if issuance.spiffe_id != spiffe_id || serial.is_some_and(|serial| issuance.serial != serial) {
        return differs(format!(
            "it rests on the server's record {index}, which issued the SVID {} of {}",
            issuance.serial, issuance.spiffe_id
        ));
    }
    Ok(issuance)
}

/// A name in the place of which a gateway has recorded a commitment: `~` and 64 hexadecimal digits.
fn is_hidden(told: &str) -> bool {
    told.split(['/', '"']).any(|segment| {
        let digits = segment.strip_prefix('~').unwrap_or_default();
        digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn why(decision: &Decision) -> String {
    if let Some(error) = decision.errors.first() {
        return error.clone();
    }
    if let Some(finding) = decision.findings.first() {
        return finding.message.clone();
    }
    match decision.policies.first() {
        Some(policy) => format!("{policy} forbids it"),
        None => "no policy allows it".to_owned(),
    }
}

impl Access {
    fn is_column(&self) -> bool {
        let kind = self.resource.as_ref().map(|resource| resource.kind);
        kind == Some(ResourceKind::Column)
    }
}

impl std::fmt::Display for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}", self.action, self.told)
    }
}
