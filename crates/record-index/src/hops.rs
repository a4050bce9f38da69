//! By whose facts those were decided who delegated on. The index counts accesses by the SVID that made them and by
//! the names of those for whom; by which SVID each of these let the next one act, only the records say.

use crate::Error;
use crate::accesses::Asked;
use crate::filter::Filter;
use crate::follow::Earlier;
use crate::search::{every_match, read};
use crate::site::{Site, Source};
use crate::terms::{Fold, Told};
use ledger::Record;
use std::collections::BTreeMap;
use store::index::Use;

/// Each that delegated, by SPIFFE ID, with the issuance of the SVID by which it did: none of a person, and none where
/// the record does not say.
pub(crate) type Hops = BTreeMap<String, Option<u64>>;

/// The accesses of `one`, told apart by the SVIDs by which it was delegated on. What the ledger has no records of,
/// although the index counts it, comes last and without.
pub(crate) fn told_apart(
    site: &Site,
    source: &Source,
    asked: &Asked,
    one: &Use,
) -> Result<Vec<(Use, Hops)>, Error> {
    let first = one.who.on_behalf_of.split(',').next();
    let filter = Filter {
        identity: Some(one.who.identity.clone()),
        resource: Some(one.who.resource.clone()),
        on_behalf_of: first.map(str::to_owned),
        types: ["intent", "decision"].map(str::to_owned).to_vec(),
        times: asked.times,
        ..Filter::default()
    };
    let mut fold = Fold::default();
    let mut earlier = Earlier {
        reader: source.reader(),
        store: Some(&source.index.store),
    };
    let mut parts: BTreeMap<Hops, Use> = BTreeMap::new();
    let mut left = one.count;
    let clauses = filter.clauses(&site.trust_domain, None);
    every_match(source, &clauses, |matched| {
        let bytes = read(source, matched.record)?;
        fold.take(matched.record, &bytes, &mut earlier)?;
        let batch = std::mem::take(&mut fold.batch);
        let of_this = batch.uses.into_iter().find(|(who, ..)| *who == one.who);
        let Some((_, index, time)) = of_this else {
            return Ok(());
        };
        let record = Record::from_vec(bytes).ok();
        let hops = record.as_ref().and_then(Told::of).map(|told| told.hops());
        let part = parts
            .entry(hops.unwrap_or_default())
            .or_insert_with(|| Use {
                count: 0,
                succeeded: 0,
                failed: 0,
                first: (index, time),
                ..one.clone()
            });
        part.count += 1;
        part.last = (index, time);
        left = left.saturating_sub(1);
        Ok(())
    })?;
    let mut told: Vec<(Use, Hops)> = parts.into_iter().map(|(hops, one)| (one, hops)).collect();
    if left > 0 {
        let rest = Use {
            count: left,
            ..one.clone()
        };
        told.push((rest, Hops::new()));
    }
    Ok(told)
}
