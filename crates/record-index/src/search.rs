//! Records that are about all of some things, oldest first, one ledger after the other.

use crate::filter::Clauses;
use crate::site::{Site, Source};
use crate::{Error, Filter};
use ledger::Receipt;
use ledger_store::Head;
use std::ops::ControlFlow;
use std::sync::Arc;
use store::index::Matched;

/// Places taken from the index at once.
const PAGE: u64 = 1_024;

/// Which of the records that match are wanted.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// A ledger's name, or `*`.
    pub ledger: &'a str,
    /// In each ledger, from this index on.
    pub from: u64,
    /// Where to go on, as [`Searched::more`] said.
    pub cursor: Option<&'a str>,
    /// None: all of them.
    pub limit: Option<u64>,
    /// With proof that the record is in the ledger.
    pub receipts: bool,
}

/// A record that matches.
#[derive(Debug, Clone)]
pub struct Hit {
    pub ledger: String,
    pub index: u64,
    /// As the ledger has it.
    pub record: Vec<u8>,
    pub receipt: Option<Receipt>,
}

/// What an answer is an answer about.
#[derive(Debug, Clone)]
pub struct Searched {
    /// Each ledger that was looked through, up to which head.
    pub heads: Vec<(String, Arc<Head>)>,
    pub found: u64,
    /// There is more: where to go on. None: this was all.
    pub more: Option<String>,
}

/// Hands each record that matches to `each`, which may stop. Call [`Site::catch_up`] first.
pub fn search(
    site: &Site,
    filter: &Filter,
    page: &Page<'_>,
    mut each: impl FnMut(Hit) -> ControlFlow<()>,
) -> Result<Searched, Error> {
    filter.check()?;
    let sources = site.called(page.ledger)?;
    let issuances = site.issuances(filter)?;
    let mut searched = Searched {
        heads: sources
            .iter()
            .map(|source| (source.name.clone(), Arc::clone(&source.head)))
            .collect(),
        found: 0,
        more: None,
    };
    let (mut from, skipped) = match page.cursor {
        None => (page.from, 0),
        Some(cursor) => place(cursor, &sources)?,
    };
    for source in sources.into_iter().skip(skipped) {
        let clauses = filter.clauses(
            &site.trust_domain,
            issuances.as_ref().filter(|_| !source.server),
        );
        let ended = each_match(source, &clauses, from, |matched| {
            let index = matched.record;
            if source.gone(index) {
                // An index that is older than the pruning knows it still; the site's notes say what is gone.
                return Ok(ControlFlow::Continue(()));
            }
            if page.limit.is_some_and(|limit| searched.found >= limit) {
                searched.more = Some(format!("{}:{index}", source.name));
                return Ok(ControlFlow::Break(()));
            }
            let receipt = page.receipts.then(|| source.receipt(index)).transpose()?;
            let record = match &receipt {
                Some(receipt) => receipt.record.clone(),
                None => read(source, index)?,
            };
            searched.found += 1;
            let hit = Hit {
                ledger: source.name.clone(),
                index,
                record,
                receipt,
            };
            let flow = each(hit);
            if flow.is_break() {
                searched.more = Some(format!("{}:{}", source.name, index.saturating_add(1)));
            }
            Ok(flow)
        })?;
        if ended.is_break() {
            break;
        }
        from = page.from;
    }
    Ok(searched)
}

/// Places of records that match, from `from` on, up to the source's head.
pub(crate) fn each_match(
    source: &Source,
    clauses: &Clauses,
    mut from: u64,
    mut each: impl FnMut(Matched) -> Result<ControlFlow<()>, Error>,
) -> Result<ControlFlow<()>, Error> {
    loop {
        let store = &source.index.store;
        let page = store.matching(&clauses.all, clauses.times, from, source.size(), PAGE)?;
        let whole = u64::try_from(page.len()).is_ok_and(|length| length >= PAGE);
        for matched in page {
            from = matched.record.saturating_add(1);
            if each(matched)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        if !whole {
            return Ok(ControlFlow::Continue(()));
        }
    }
}

/// As [`each_match`], for whoever wants them all.
pub(crate) fn every_match(
    source: &Source,
    clauses: &Clauses,
    mut each: impl FnMut(Matched) -> Result<(), Error>,
) -> Result<(), Error> {
    let ended = each_match(source, clauses, 0, |matched| {
        each(matched).map(|()| ControlFlow::Continue(()))
    });
    ended.map(|_all| ())
}

/// The record's bytes. An index that names a record that is not there lies.
pub(crate) fn read(source: &Source, index: u64) -> Result<Vec<u8>, Error> {
    let records = source.reader().read(index..index.saturating_add(1))?;
    let missing = || ledger_store::StoreError::NoRecord {
        index,
        size: source.size(),
    };
    Ok(records.into_iter().next().ok_or_else(missing)?)
}

/// `LEDGER:INDEX` as a place in the order of the answer: the index, and how many ledgers come before.
fn place(cursor: &str, sources: &[&Source]) -> Result<(u64, usize), Error> {
    let parsed = cursor.rsplit_once(':').and_then(|(ledger, index)| {
        let at = sources.iter().position(|source| source.is_called(ledger))?;
        Some((index.parse().ok()?, at))
    });
    parsed.ok_or_else(|| {
        facts::Finding::new("RECORDS-CURSOR", "this is not a place to go on from")
            .expected("what an answer gave as `more`, as in `server:1042`")
            .observed(cursor.to_owned())
            .next("ask again without --cursor")
            .into()
    })
}
