//! What somebody has read and modified, and who touched something: counted by identity, resource and action, as far
//! as records name them (tables, functions, tools, routes), and by those on whose behalf it was done; with the first
//! and the last record of each.

use crate::filter::{resource_terms, spiffe_id};
use crate::follow::Earlier;
use crate::search::{every_match, read};
use crate::site::{Site, Source};
use crate::terms::{Fold, behalf};
use crate::verify::{lied, scan};
use crate::{Error, Filter};
use ledger::Receipt;
use serde::Serialize;
use std::collections::BTreeMap;
use store::index::{Batch, Clause, Dimension, TimeRange, Use, UseDelta, UseFilter};

/// What is asked. Nothing set: everybody's accesses to everything.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// By whom: a SPIFFE ID or an identity's path.
    pub by: Option<String>,
    /// Of what: as records name it, its path, or `shop/public/*`.
    pub of: Option<String>,
    /// On whose behalf: as `by`.
    pub on_behalf_of: Option<String>,
    pub times: TimeRange,
}

/// All of one identity's doing one thing to one resource, in one ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessRow {
    pub ledger: String,
    pub identity: String,
    pub resource: String,
    pub action: String,
    /// `read`, `modified`, `called` or, of an estate's own action, `other`.
    pub kind: &'static str,
    pub allowed: bool,
    /// On whose behalf, who began it first: SPIFFE IDs. Whoever made the access vouches for it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub claimed_on_behalf_of: Vec<String>,
    /// The same, where delegation tokens showed it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub on_behalf_of: Vec<String>,
    /// Records of it; of those allowed, how many are known to have succeeded and to have failed.
    pub count: u64,
    pub succeeded: u64,
    pub failed: u64,
    /// Record and Unix milliseconds.
    pub first: (u64, u64),
    pub last: (u64, u64),
    #[serde(skip)]
    pub receipts: Option<Box<(Receipt, Receipt)>>,
}

/// What an action does to what it is done to.
fn kind(action: &str) -> &'static str {
    match action {
        "select" => "read",
        "insert" | "update" | "delete" | "truncate" | "define" => "modified",
        "execute" | "call" => "called",
        _ => "other",
    }
}

/// The rows in order of ledger, identity, resource and action. `receipts`: with those of each row's first and last
/// record. A record whose list of resources was cut counts for those that it still names; a search for any other
/// resource shows it. Call [`Site::catch_up`] first.
pub fn accesses(site: &Site, asked: &Asked, receipts: bool) -> Result<Vec<AccessRow>, Error> {
    let mut rows = Vec::new();
    for source in site.all()? {
        for mut row in rows_of(source, &uses(site, source, asked)?) {
            if receipts {
                let both = (source.receipt(row.first.0)?, source.receipt(row.last.0)?);
                row.receipts = Some(Box::new(both));
            }
            rows.push(row);
        }
    }
    Ok(rows)
}

/// As [`accesses`], and held against the ledgers' own records.
///
/// # Errors
/// [`Error::Lied`] where the two differ.
pub fn accesses_verified(
    site: &Site,
    asked: &Asked,
    receipts: bool,
) -> Result<Vec<AccessRow>, Error> {
    let rows = accesses(site, asked, receipts)?;
    site.has_all()?;
    for source in &site.sources {
        let mut all = Batch::default();
        scan(source, |fold| {
            let batch = std::mem::take(&mut fold.batch);
            let wanted = batch
                .entries
                .iter()
                .all(|entry| asked.times.holds(entry.time));
            if wanted {
                all.uses.extend(batch.uses);
                all.outcomes.extend(batch.outcomes);
            }
        })?;
        let scanned = rows_of(source, &counted(site, asked, all));
        let said: Vec<&AccessRow> = rows
            .iter()
            .filter(|row| row.ledger == source.name)
            .collect();
        let plain = |row: &AccessRow| AccessRow {
            receipts: None,
            ..row.clone()
        };
        let differs = |one: &AccessRow, others: &[AccessRow]| !others.contains(&plain(one));
        let said: Vec<AccessRow> = said.into_iter().map(plain).collect();
        let left_out: Vec<u64> = scanned
            .iter()
            .filter(|row| differs(row, &said))
            .map(|row| row.last.0)
            .collect();
        let invented: Vec<u64> = said
            .iter()
            .filter(|row| differs(row, &scanned))
            .map(|row| row.last.0)
            .collect();
        if !left_out.is_empty() || !invented.is_empty() {
            return Err(lied(source, &left_out, &invented));
        }
    }
    Ok(rows)
}

/// By SVID: what [`accesses`] sums up.
///
/// INVARIANT: of a ledger of which records are gone nothing is counted, whatever an index of before still knows: a right
/// that was used would seem unused.
pub(crate) fn uses(site: &Site, source: &Source, asked: &Asked) -> Result<Vec<Use>, Error> {
    source.whole()?;
    if !asked.times.is_all() {
        return windowed(site, source, asked);
    }
    let filter = UseFilter {
        identity: asked
            .by
            .as_deref()
            .map(|by| spiffe_id(by, &site.trust_domain)),
        resource: asked.of.as_deref().map(resource_terms),
        on_behalf_of: asked
            .on_behalf_of
            .as_deref()
            .map(|other| spiffe_id(other, &site.trust_domain)),
    };
    let mut found = Vec::new();
    source.index.store.uses(&filter, |one| found.push(one))?;
    Ok(found)
}

/// The records of the window alone, read one by one.
fn windowed(site: &Site, source: &Source, asked: &Asked) -> Result<Vec<Use>, Error> {
    let filter = Filter {
        identity: asked.by.clone(),
        resource: asked.of.clone(),
        on_behalf_of: asked.on_behalf_of.clone(),
        types: ["intent", "decision", "outcome"]
            .map(str::to_owned)
            .to_vec(),
        times: asked.times,
        ..Filter::default()
    };
    let mut fold = Fold::default();
    let mut earlier = Earlier {
        reader: source.reader(),
        store: Some(&source.index.store),
    };
    let clauses = filter.clauses(&site.trust_domain, None);
    let mut all = Batch::default();
    every_match(source, &clauses, |matched| {
        let bytes = read(source, matched.record)?;
        fold.take(matched.record, &bytes, &mut earlier)?;
        let batch = std::mem::take(&mut fold.batch);
        all.uses.extend(batch.uses);
        all.outcomes.extend(batch.outcomes);
        Ok(())
    })?;
    Ok(counted(site, asked, all))
}

/// Sums of what was folded, of what is asked for.
fn counted(site: &Site, asked: &Asked, batch: Batch) -> Vec<Use> {
    let by = asked
        .by
        .as_deref()
        .map(|by| spiffe_id(by, &site.trust_domain));
    let of = asked.of.as_deref().map(|of| Clause {
        dimension: Dimension::Resource,
        terms: resource_terms(of),
    });
    let behalf = asked
        .on_behalf_of
        .as_deref()
        .map(|other| spiffe_id(other, &site.trust_domain));
    let wanted = |who: &UseDelta| {
        by.as_ref().is_none_or(|by| *by == who.identity)
            && behalf
                .as_ref()
                .is_none_or(|other| who.on_behalf_of.split(',').any(|one| one == other))
            && of
                .as_ref()
                .is_none_or(|of| of.is_met_by(Dimension::Resource, &who.resource))
    };
    let mut sums: BTreeMap<UseDelta, Use> = BTreeMap::new();
    for (who, record, time) in batch.uses {
        if wanted(&who) {
            let one = sums
                .entry(who)
                .or_insert_with_key(|who| none(who, (record, time)));
            one.count += 1;
            one.last = (record, time);
        }
    }
    for (who, succeeded) in batch.outcomes {
        // An outcome of what began before the window is told with what began in it, or not at all.
        if let Some(one) = sums.get_mut(&who) {
            *(if succeeded {
                &mut one.succeeded
            } else {
                &mut one.failed
            }) += 1;
        }
    }
    sums.into_values().collect()
}

fn none(who: &UseDelta, at: (u64, u64)) -> Use {
    Use {
        who: who.clone(),
        count: 0,
        succeeded: 0,
        failed: 0,
        first: at,
        last: at,
    }
}

/// Without the SVIDs.
fn rows_of(source: &Source, uses: &[Use]) -> Vec<AccessRow> {
    let mut rows: BTreeMap<(&str, &str, &str, bool, &str, bool), AccessRow> = BTreeMap::new();
    for one in uses {
        let who = &one.who;
        let key = (
            who.identity.as_str(),
            who.resource.as_str(),
            who.action.as_str(),
            who.allowed,
            who.on_behalf_of.as_str(),
            who.proven,
        );
        let row = rows.entry(key).or_insert_with(|| {
            let (claimed_on_behalf_of, on_behalf_of) = behalf(who);
            AccessRow {
                ledger: source.name.clone(),
                identity: who.identity.clone(),
                resource: who.resource.clone(),
                action: who.action.clone(),
                kind: kind(&who.action),
                allowed: who.allowed,
                claimed_on_behalf_of,
                on_behalf_of,
                count: 0,
                succeeded: 0,
                failed: 0,
                first: one.first,
                last: one.last,
                receipts: None,
            }
        });
        row.count += one.count;
        row.succeeded += one.succeeded;
        row.failed += one.failed;
        row.first = row.first.min(one.first);
        row.last = row.last.max(one.last);
    }
    rows.into_values().collect()
}
