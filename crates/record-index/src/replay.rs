//! What another estate would have decided of the accesses that were recorded.
//!
//! A recorded access is decided again with the facts that its SVID was issued on: from the opening of the
//! issuance's commitment where the server's blobs are there, else with those that the issuance record shows. Of a
//! delegated one each hop is, with the facts of the SVID by which it let the next one act, as the records name it.
//! What cannot be decided from that is told, with why.

use crate::Error;
use crate::accesses::{Asked, uses};
use crate::follow::record_at;
use crate::hops::{Hops, told_apart};
use crate::site::Site;
use crate::terms::{behalf, is_any_column, is_column, principals};
use estate::{Access, Action, Chain, Estate, EstateFiles, PolicyRef, Request, ResourceRef};
use facts::FactSet;
use ledger::body;
use ledger::{HexDigest, Record, RecordType};
use recheck::{Issued, Recorded, issued};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use store::index::{TimeRange, Use};

/// What the proposed estate makes of a recorded access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was allowed, and would have been denied.
    Denied,
    /// It was denied, and would have been allowed.
    Allowed,
}

/// Accesses alike that would have been decided otherwise.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    pub change: Change,
    pub ledger: String,
    pub identity: String,
    pub action: String,
    pub resource: String,
    /// On whose behalf, who began it first: SPIFFE IDs. Whoever made the access vouches for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claimed_on_behalf_of: Vec<String>,
    /// The same, where delegation tokens showed it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_behalf_of: Vec<String>,
    pub count: u64,
    /// Record and Unix milliseconds.
    pub first: (u64, u64),
    pub last: (u64, u64),
    /// What decides it in the proposed estate, by id.
    pub policies: Vec<String>,
    /// The same, with where each stands in the proposed estate's files.
    pub decided_by: Vec<Arc<PolicyRef>>,
    /// Why it is denied where no policy says so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
}

/// Accesses alike that cannot be decided again.
#[derive(Debug, Clone, Serialize)]
pub struct NotReplayed {
    pub ledger: String,
    pub identity: String,
    pub action: String,
    pub resource: String,
    /// On whose behalf, who began it first: SPIFFE IDs. Whoever made the access vouches for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claimed_on_behalf_of: Vec<String>,
    /// The same, where delegation tokens showed it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_behalf_of: Vec<String>,
    pub count: u64,
    pub last: (u64, u64),
    pub why: String,
}

/// Every recorded access in the window, sorted by what would have become of it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Replayed {
    /// Versions of the estates, hex; that in force is what denials are held against.
    pub in_force: Option<String>,
    pub proposed: String,
    pub changed: Vec<Changed>,
    pub not_replayed: Vec<NotReplayed>,
    /// Accesses, counted by records, that come out the same.
    pub same: u64,
}

impl Replayed {
    /// What a reader has to know of accesses that would be allowed, where the estate in force was not there.
    #[must_use]
    pub fn doubt(&self) -> Option<&'static str> {
        let allowed = |one: &Changed| one.change == Change::Allowed;
        let doubted = self.in_force.is_none() && self.changed.iter().any(allowed);
        doubted.then_some(
            "the estate in force is not in these folders: of a statement that was denied, what would be allowed may be \
             allowed already; name the server's data_dir as well",
        )
    }
}

/// Decides everything again that the site's ledgers have in `times`. Call [`Site::catch_up`] first.
///
/// A statement is denied as a whole for one of the things that it touches, so a denial counts as newly allowed
/// where the estate in force denies that thing itself and the proposed one allows it.
pub fn replay(site: &Site, proposed: &Estate, times: TimeRange) -> Result<Replayed, Error> {
    let in_force = in_force(site)?;
    let mut replayed = Replayed {
        in_force: in_force.as_ref().map(|estate| estate.version().to_owned()),
        proposed: proposed.version().to_owned(),
        ..Replayed::default()
    };
    let mut again = Again::new(site);
    let asked = Asked {
        times,
        ..Asked::default()
    };
    for source in site.all()? {
        for one in uses(site, source, &asked)? {
            if is_column(&one.who.resource) && !proposed.decides_columns() {
                continue;
            }
            let mut parts = vec![(one, Hops::new())];
            if let Some((one, none)) = parts.first()
                && one.who.proven
                && again.needs_hops([Some(proposed), in_force.as_ref()], one, none)?
            {
                parts = told_apart(site, source, &asked, one)?;
            }
            for (one, hops) in parts {
                again.judge(
                    (proposed, in_force.as_ref()),
                    one,
                    &hops,
                    (source.name.as_str(), &mut replayed),
                )?;
            }
        }
    }
    replayed.changed = merged(replayed.changed);
    Ok(replayed)
}

/// One row for what differs by nothing but the SVID.
fn merged(changed: Vec<Changed>) -> Vec<Changed> {
    let mut rows: Vec<Changed> = Vec::with_capacity(changed.len());
    for one in changed {
        let alike = |row: &&mut Changed| {
            (
                row.change,
                &row.ledger,
                &row.identity,
                &row.action,
                &row.resource,
                &row.claimed_on_behalf_of,
                &row.on_behalf_of,
                &row.policies,
            ) == (
                one.change,
                &one.ledger,
                &one.identity,
                &one.action,
                &one.resource,
                &one.claimed_on_behalf_of,
                &one.on_behalf_of,
                &one.policies,
            )
        };
        // Rows come in order of identity, resource and action: what is alike stands side by side.
        if let Some(row) = rows.last_mut().as_mut().filter(|row| alike(row)) {
            row.count += one.count;
            row.first = row.first.min(one.first);
            row.last = row.last.max(one.last);
        } else {
            rows.push(one);
        }
    }
    rows
}

/// The estate that the server's ledger has as current, if its blob is here.
pub fn in_force(site: &Site) -> Result<Option<Estate>, Error> {
    let Some(server) = site.server() else {
        return Ok(None);
    };
    let filter = crate::Filter {
        types: vec![RecordType::EstateVersion.as_str().to_owned()],
        ..crate::Filter::default()
    };
    let mut newest = None;
    let clauses = filter.clauses(&site.trust_domain, None);
    crate::search::every_match(server, &clauses, |matched| {
        newest = Some(matched.record);
        Ok(())
    })?;
    let Some(index) = newest else {
        return Ok(None);
    };
    let Some(record) = record_at(server.reader(), index)? else {
        return Ok(None);
    };
    let Ok(version) = record.expect_body::<body::EstateVersion>() else {
        return Ok(None);
    };
    Ok(estate_files(site, &version.blob.sha256)?
        .and_then(|files| Estate::compile_recorded(&files).ok()))
}

/// The files of a recorded estate, if its blob is here.
pub(crate) fn estate_files(site: &Site, sha256: &HexDigest) -> Result<Option<EstateFiles>, Error> {
    let blob = site.blob(sha256)?;
    Ok(blob.and_then(|blob| EstateFiles::from_blob(&blob).ok()))
}

/// What a decision comes to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Made {
    pub(crate) allow: bool,
    pub(crate) policies: Vec<Arc<PolicyRef>>,
    pub(crate) errors: Vec<String>,
}

pub(crate) enum Outcome {
    Decided(Made),
    /// It cannot be decided, and why.
    Not(String),
    /// As [`Outcome::Not`]: it rests on the facts of who delegated on, and nobody has said by which SVID it did.
    Delegator(String),
}

/// Decides recorded accesses again, by any estate.
pub(crate) struct Again<'a> {
    site: &'a Site,
    held: HashMap<u64, Option<Issued>>,
}

impl<'a> Again<'a> {
    pub(crate) fn new(site: &'a Site) -> Self {
        Self {
            site,
            held: HashMap::new(),
        }
    }

    /// Whether one of the estates asks for facts of those who delegated on.
    fn needs_hops(
        &mut self,
        estates: [Option<&Estate>; 2],
        one: &Use,
        none: &Hops,
    ) -> Result<bool, Error> {
        for estate in estates.into_iter().flatten() {
            if matches!(self.decide(estate, one, none)?, Outcome::Delegator(_)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts accesses alike where they belong.
    fn judge(
        &mut self,
        (proposed, in_force): (&Estate, Option<&Estate>),
        one: Use,
        hops: &Hops,
        (ledger, replayed): (&str, &mut Replayed),
    ) -> Result<(), Error> {
        let (claimed_on_behalf_of, on_behalf_of) = behalf(&one.who);
        let decision = match self.decide(proposed, &one, hops)? {
            Outcome::Decided(decision) => decision,
            Outcome::Not(why) | Outcome::Delegator(why) => {
                replayed.not_replayed.push(NotReplayed {
                    ledger: ledger.to_owned(),
                    identity: one.who.identity,
                    action: one.who.action,
                    resource: one.who.resource,
                    claimed_on_behalf_of,
                    on_behalf_of,
                    count: one.count,
                    last: one.last,
                    why,
                });
                return Ok(());
            }
        };
        let change = match (one.who.allowed, decision.allow) {
            (true, false) => {
                // It was answered when answers about columns did not ask their tables, and nothing is new. A statement's
                // record has its table as well, which is judged by itself.
                let before = match in_force {
                    Some(in_force) => self.of_denied_table([proposed, in_force], &one, hops)?,
                    None => false,
                };
                (!before).then_some(Change::Denied)
            }
            (false, true) => match in_force {
                // Without the estate in force nobody can say which part of a statement was denied.
                None => Some(Change::Allowed),
                // Nobody was denied for a column there.
                Some(in_force) if is_column(&one.who.resource) && !in_force.decides_columns() => {
                    None
                }
                Some(in_force) => match self.decide(in_force, &one, hops)? {
                    Outcome::Decided(now) if now.allow => None,
                    _ => Some(Change::Allowed),
                },
            },
            _ => None,
        };
        let Some(change) = change else {
            replayed.same += one.count;
            return Ok(());
        };
        replayed.changed.push(Changed {
            change,
            ledger: ledger.to_owned(),
            identity: one.who.identity,
            action: one.who.action,
            resource: one.who.resource,
            claimed_on_behalf_of,
            on_behalf_of,
            count: one.count,
            first: one.first,
            last: one.last,
            policies: decision.policies.iter().map(|one| one.id.clone()).collect(),
            decided_by: decision.policies,
            errors: decision.errors,
        });
        Ok(())
    }

    /// Whether it is to a column whose table each of these denies.
    fn of_denied_table(
        &mut self,
        estates: [&Estate; 2],
        one: &Use,
        hops: &Hops,
    ) -> Result<bool, Error> {
        let (Ok(action), Ok(column)) = (one.who.action.parse(), one.who.resource.parse()) else {
            return Ok(false);
        };
        for estate in estates {
            let Some(table) = estate.table_asked(action, &column) else {
                return Ok(false);
            };
            let mut of_table = one.clone();
            of_table.who.resource = table.to_string();
            match self.decide(estate, &of_table, hops)? {
                Outcome::Decided(made) if !made.allow => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Of one who acted for others: what each of them may do, and each delegation between them, as it was decided.
    pub(crate) fn decide(
        &mut self,
        estate: &Estate,
        one: &Use,
        hops: &Hops,
    ) -> Result<Outcome, Error> {
        let prefix = format!("spiffe://{}/", self.site.trust_domain);
        let paths: Option<Vec<&str>> = principals(&one.who)
            .map(|id| id.strip_prefix(&prefix))
            .collect();
        let Some(paths) = paths else {
            let why = "the identity is not of this trust domain".to_owned();
            return Ok(Outcome::Not(why));
        };
        let mut whole = Made {
            allow: true,
            ..Made::default()
        };
        for path in &paths {
            match self.decide_hop(estate, one, path, hops)? {
                Outcome::Decided(hop) if hop.allow => {
                    let new = hop.policies.into_iter();
                    let new: Vec<_> = new.filter(|one| !whole.policies.contains(one)).collect();
                    whole.policies.extend(new);
                }
                other => return Ok(other),
            }
        }
        if paths.len() > 1
            && let Some(refused) = unlinked(estate, &paths, one)
        {
            return Ok(Outcome::Decided(Made {
                errors: vec![refused],
                ..Made::default()
            }));
        }
        Ok(Outcome::Decided(whole))
    }

    /// One principal, with the facts of the session that made the access; of one who delegated on, and is no person,
    /// with those of the SVID by which it did.
    fn decide_hop(
        &mut self,
        estate: &Estate,
        one: &Use,
        path: &str,
        hops: &Hops,
    ) -> Result<Outcome, Error> {
        let prefix = format!("spiffe://{}/", self.site.trust_domain);
        let asker = one.who.identity.strip_prefix(&prefix).unwrap_or(path);
        let Ok(action) = one.who.action.parse::<Action>() else {
            return Ok(Outcome::Not(
                "the record names no action of this version".to_owned(),
            ));
        };
        if is_any_column(&one.who.resource) {
            let why = "the record does not say which columns";
            return Ok(Outcome::Not(why.to_owned()));
        }
        let Ok(resource) = one.who.resource.parse::<ResourceRef>() else {
            return Ok(Outcome::Not("the record names no resource".to_owned()));
        };
        // What depends on no fact needs none.
        let can = match estate.can(path, action, &resource) {
            Err(error) => {
                return Ok(Outcome::Decided(Made {
                    errors: vec![error],
                    ..Made::default()
                }));
            }
            Ok(None) => return Ok(Outcome::Decided(Made::default())),
            Ok(Some(access)) if access.is_unconditional() => {
                return Ok(Outcome::Decided(Made {
                    allow: true,
                    policies: access.policies,
                    errors: Vec::new(),
                }));
            }
            Ok(Some(access)) => access,
        };
        let person = estate
            .identity(path)
            .is_some_and(estate::Identity::is_person);
        let own = path != asker && !person;
        let issuance = if own {
            let named = hops.get(&format!("{prefix}{path}"));
            let Some(issuance) = named.copied().flatten() else {
                return Ok(Outcome::Delegator(format!(
                    "it depends on facts ({}) of {path}, who delegated on, and the record does not name the SVID by \
                     which it did",
                    conditions(&can)
                )));
            };
            issuance
        } else if let Some(issuance) = one.who.issuance {
            issuance
        } else {
            return Ok(Outcome::Not(format!(
                "it depends on facts ({}), and the record names no issuance",
                conditions(&can)
            )));
        };
        // Whose facts the estate shows: a person is asked about by those of the session.
        let shows = if own { path } else { asker };
        let Some(held) = self.held(issuance)? else {
            return Ok(Outcome::Not(format!(
                "it depends on facts ({}), and record {issuance} of the server's ledger is not here",
                conditions(&can)
            )));
        };
        let visible: BTreeSet<String> = estate
            .identity(shows)
            .map(|identity| identity.visible.clone())
            .unwrap_or_default();
        let facts: FactSet = held
            .facts
            .iter()
            .filter(|fact| visible.contains(&fact.name))
            .cloned()
            .collect();
        if !held.whole {
            let text = conditions(&can);
            let missing = visible.iter().filter(|name| facts.fact(name).is_none());
            let missing: Vec<&str> = missing
                .map(String::as_str)
                .filter(|name| may_read(&text, name, &facts))
                .collect();
            if !missing.is_empty() {
                return Ok(Outcome::Not(format!(
                    "it depends on facts ({}), and the issuance shows no {}",
                    conditions(&can),
                    missing.join(", ")
                )));
            }
        }
        let decision = estate.decide(&Request {
            principal: path,
            action,
            resource,
            facts: &facts,
        });
        Ok(Outcome::Decided(Made {
            allow: decision.allow,
            policies: decision.policies,
            errors: decision.errors,
        }))
    }

    fn held(&mut self, issuance: u64) -> Result<Option<Issued>, Error> {
        if let Some(known) = self.held.get(&issuance) {
            return Ok(known.clone());
        }
        let held = issued(self.site, issuance)?;
        self.held.insert(issuance, held.clone());
        Ok(held)
    }
}

impl Recorded for Site {
    type Error = Error;

    fn record(&self, index: u64) -> Result<Option<Record>, Error> {
        match self.server() {
            Some(server) => record_at(server.reader(), index),
            None => Ok(None),
        }
    }

    fn blob(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Error> {
        Self::blob(self, sha256)
    }
}

/// Why the estate does not carry the delegations between these.
fn unlinked(estate: &Estate, paths: &[&str], one: &Use) -> Option<String> {
    let (Ok(action), Ok(resource)) = (one.who.action.parse(), one.who.resource.parse()) else {
        return Some("the record names no action on a resource".to_owned());
    };
    let chain = match Chain::through(paths.iter().copied()) {
        Ok(chain) => chain,
        Err(finding) => return Some(finding.to_string()),
    };
    let decided = estate.decide_chain_regardless(&chain, action, &resource);
    decided.findings().next().map(ToString::to_string)
}

fn conditions(access: &Access) -> String {
    let all = access
        .when
        .iter()
        .chain(&access.unless)
        .chain(&access.if_defined);
    let texts: BTreeSet<&str> = all.map(|residual| residual.condition.as_str()).collect();
    texts.into_iter().collect::<Vec<_>>().join("; ")
}

/// Whether conditions of this text may come out otherwise by a fact that is not shown: they name all of it, or ask
/// whether there is something that it would be in.
fn may_read(conditions: &str, name: &str, shown: &FactSet) -> bool {
    if name.split('.').all(|segment| conditions.contains(segment)) {
        return true;
    }
    name.match_indices('.').any(|(at, _)| {
        let (within, _) = name.split_at(at);
        let segment = within.rsplit('.').next().unwrap_or(within);
        let known = shown.iter().any(|fact| {
            fact.name
                .strip_prefix(within)
                .is_some_and(|rest| rest.starts_with('.'))
        });
        !known && conditions.contains(&format!("has {segment}"))
    })
}
