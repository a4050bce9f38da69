//! What the index said, held against the ledger's own records: every record is read, hashed up to the signed head,
//! and judged by itself.

use crate::filter::Clauses;
use crate::follow::{Earlier, each_record};
use crate::search::every_match;
use crate::site::{Site, Source};
use crate::terms::Fold;
use crate::{Error, Filter, tiles};
use facts::Finding;
use ledger::Checkpoint;
use ledger::tile::TilePath;
use std::collections::BTreeSet;

/// Places that a finding shows.
const SHOWN: usize = 8;

/// What was looked at to say that the index did not lie.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    /// Records that were read, of all ledgers.
    pub read: u64,
    /// Records that match.
    pub matching: u64,
}

/// Derives the whole answer from the ledgers alone, and compares.
///
/// # Errors
/// [`Error::Lied`] with `RECORDS-INDEX-LIED` if the index leaves out a record or names one that does not match;
/// with `RECORDS-LEDGER-ROOT` if the records are not those of the signed head.
pub fn verify(site: &Site, filter: &Filter, ledger: &str) -> Result<Verified, Error> {
    filter.check()?;
    let mut verified = Verified::default();
    let issuances = if filter.needs_issuances() && site.sources.iter().any(|source| !source.server)
    {
        let server = site.needs_server("which machine and which code an identity was issued to")?;
        let clauses = filter.of_issuances().clauses(&site.trust_domain, None);
        Some(compare(server, &clauses, &mut verified, |each| {
            scan(server, each)
        })?)
    } else {
        None
    };
    let called = site.called(ledger)?;
    if ledger == "*" {
        site.has_all()?;
    }
    for source in called {
        let clauses = filter.clauses(
            &site.trust_domain,
            issuances.as_ref().filter(|_| !source.server),
        );
        let found = compare(source, &clauses, &mut verified, |each| scan(source, each))?;
        verified.matching += u64::try_from(found.len()).unwrap_or(u64::MAX);
    }
    Ok(verified)
}

/// As [`verify`], of one ledger, from the entry bundles that `fetch` gives at the width that it is asked for: those
/// that somebody else serves, who is not believed either.
///
/// # Errors
/// As [`verify`]; `RECORDS-TILES` if a bundle does not split into its records, and what `fetch` says.
pub fn verify_from(
    site: &Site,
    filter: &Filter,
    ledger: &str,
    fetch: impl FnMut(&TilePath) -> Result<Vec<u8>, Finding>,
) -> Result<Verified, Error> {
    filter.check()?;
    let called: Vec<&Source> = site.called(ledger)?.into_iter().collect();
    let alone = match called.as_slice() {
        [source] if source.server || !filter.needs_issuances() => *source,
        _ => {
            return Err(Error::refused(
                Finding::new(
                    "RECORDS-FROM-ONE",
                    "one address serves the records of one ledger, and this answer rests on several",
                )
                .next("name one with --ledger, as `server`; of a gateway's, ask without --machine and --code"),
            ));
        }
    };
    let mut verified = Verified::default();
    let clauses = filter.clauses(&site.trust_domain, None);
    let found = compare(alone, &clauses, &mut verified, |each| {
        tiles::scan(alone, fetch, each)
    })?;
    verified.matching = u64::try_from(found.len()).unwrap_or(u64::MAX);
    Ok(verified)
}

/// The records of one ledger that match, as the ledger says; the index has to say the same.
fn compare(
    source: &Source,
    clauses: &Clauses,
    verified: &mut Verified,
    scan: impl FnOnce(&mut dyn FnMut(&mut Fold)) -> Result<(), Error>,
) -> Result<BTreeSet<u64>, Error> {
    let mut said = BTreeSet::new();
    every_match(source, clauses, |matched| {
        said.insert(matched.record);
        Ok(())
    })?;
    let mut found = BTreeSet::new();
    scan(&mut |fold: &mut Fold| {
        for entry in std::mem::take(&mut fold.batch.entries) {
            verified.read += 1;
            if clauses.match_entry(&entry) {
                found.insert(entry.record);
            }
        }
        fold.batch = store::index::Batch::default();
    })?;
    let left_out: Vec<u64> = found.difference(&said).copied().collect();
    let invented: Vec<u64> = said.difference(&found).copied().collect();
    if left_out.is_empty() && invented.is_empty() {
        return Ok(found);
    }
    Err(lied(source, &left_out, &invented))
}

/// The fold over the whole ledger, and nothing but the ledger; `each` after every record.
pub(crate) fn scan(source: &Source, mut each: impl FnMut(&mut Fold)) -> Result<(), Error> {
    let reader = source.reader();
    let mut fold = Fold::whole();
    let mut earlier = Earlier {
        reader,
        store: None,
    };
    let root = each_record(reader, source.size(), |index, bytes| {
        fold.take(index, bytes, &mut earlier)?;
        each(&mut fold);
        Ok(())
    })?;
    is_root(source, &root)
}

/// Whether the records that were read are those that the head was signed for.
pub(crate) fn is_root(source: &Source, root: &ledger::Hash) -> Result<(), Error> {
    is_root_of(&source.head.checkpoint, root)
}

/// As [`is_root`], of a checkpoint.
pub(crate) fn is_root_of(head: &Checkpoint, root: &ledger::Hash) -> Result<(), Error> {
    if *root == head.root {
        return Ok(());
    }
    Err(Error::Lied(Box::new(
        Finding::new(
            "RECORDS-LEDGER-ROOT",
            "the records are not those that the ledger's head was signed for",
        )
        .expected(crypto::hex::encode(&head.root))
        .observed(crypto::hex::encode(root))
        .next("restore the ledger from a backup or a mirror: its segments were changed"),
    )))
}

pub(crate) fn lied(source: &Source, left_out: &[u64], invented: &[u64]) -> Error {
    let list = |indices: &[u64]| {
        let shown: Vec<String> = indices
            .iter()
            .take(SHOWN)
            .map(|index| format!("{}:{index}", source.name))
            .collect();
        let more = indices.len().saturating_sub(SHOWN);
        match more {
            0 => shown.join(", "),
            more => format!("{} and {more} more", shown.join(", ")),
        }
    };
    let mut what = Vec::new();
    if !left_out.is_empty() {
        what.push(format!("it leaves out {}", list(left_out)));
    }
    if !invented.is_empty() {
        what.push(format!("it names {}, which do not match", list(invented)));
    }
    Error::Lied(Box::new(
        Finding::new(
            "RECORDS-INDEX-LIED",
            format!("the index over {} is not what the ledger says", source.name),
        )
        .expected("what the ledger's own records say")
        .observed(what.join("; "))
        .next(
            "remove index.sqlite in the ledger's folder, find out who wrote to it, and ask again",
        ),
    ))
}
