//! The fold over a ledger whose records come as entry bundles from somewhere else. Whose they are does not matter: they
//! hash to the signed head, or they count for nothing.

use crate::Error;
use crate::site::Source;
use crate::terms::{Before, Fold};
use crate::verify::is_root;
use facts::Finding;
use ledger::merkle::leaf_hash;
use ledger::tile::{Kind, TilePath, WIDTH};
use ledger::{Frontier, Record, decode_bundle};

/// Bundles of a ledger of `size` records; the one that was read last is kept.
struct Bundles<F> {
    size: u64,
    fetch: F,
    last: Option<(u64, Vec<Vec<u8>>)>,
}

/// As `scan` of `verify`, from bundles.
pub(crate) fn scan<F: FnMut(&TilePath) -> Result<Vec<u8>, Finding>>(
    source: &Source,
    fetch: F,
    mut each: impl FnMut(&mut Fold),
) -> Result<(), Error> {
    let size = source.size();
    let mut bundles = Bundles {
        size,
        fetch,
        last: None,
    };
    let mut fold = Fold::whole();
    let mut edge = Frontier::new();
    for index in 0..size.div_ceil(WIDTH) {
        for bytes in bundles.bundle(index)? {
            let at = edge.size();
            edge.push(leaf_hash(&bytes));
            fold.take(at, &bytes, &mut bundles)?;
            each(&mut fold);
        }
    }
    is_root(source, &edge.root())
}

impl<F: FnMut(&TilePath) -> Result<Vec<u8>, Finding>> Bundles<F> {
    fn bundle(&mut self, index: u64) -> Result<Vec<Vec<u8>>, Error> {
        if let Some((_, records)) = self.last.as_ref().filter(|(last, _)| *last == index) {
            return Ok(records.clone());
        }
        let Some(path) = TilePath::at(Kind::Entries, index, self.size) else {
            return Ok(Vec::new());
        };
        let bytes = (self.fetch)(&path)?;
        let split = decode_bundle(&bytes, usize::from(path.width())).map_err(|error| {
            Finding::new(
                "RECORDS-TILES",
                format!("{path} does not split into its records"),
            )
            .expected(format!("{} records, and nothing else", path.width()))
            .observed(error.to_string())
            .next("ask another address of the ledger, or leave --from-url out")
        })?;
        let records: Vec<Vec<u8>> = split.into_iter().map(<[u8]>::to_vec).collect();
        self.last = Some((index, records.clone()));
        Ok(records)
    }
}

impl<F: FnMut(&TilePath) -> Result<Vec<u8>, Finding>> Before for Bundles<F> {
    type Error = Error;

    /// The fold keeps every session itself.
    fn session(&mut self, _session: &str) -> Result<Option<(u64, String)>, Error> {
        Ok(None)
    }

    fn record(&mut self, index: u64) -> Result<Option<Record>, Error> {
        let place = usize::try_from(index % WIDTH).unwrap_or_default();
        let records = self.bundle(index / WIDTH)?;
        let found = records.into_iter().nth(place);
        Ok(found.and_then(|bytes| Record::from_vec(bytes).ok()))
    }
}
