//! Gateways' ledgers as this server keeps them: every record, verified as it comes.

use crate::refusal::Refusal;
use facts::Finding;
use ledger::{Base64, Checkpoint, Hash, LedgerKey};
use ledger_store::{Mirror, Options, Reader, StoreError};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use store::GatewayRow;

/// All mirrors, opened when first needed.
pub(crate) struct Mirrors {
    dir: PathBuf,
    open: Mutex<BTreeMap<String, Arc<Kept>>>,
}

pub(crate) struct Kept {
    mirror: Mutex<Mirror>,
    reader: Reader,
}

impl Mirrors {
    pub(crate) const fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            open: Mutex::new(BTreeMap::new()),
        }
    }

    /// The mirror of the ledger that `key` signs. Blocks on the disk the first time.
    pub(crate) fn open(&self, key: &LedgerKey) -> Result<Arc<Kept>, Refusal> {
        let origin = key.origin().as_str();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = open.get(origin) {
            return Ok(Arc::clone(kept));
        }
        // An origin is a stranger's text: it names no path.
        let name = crypto::hex::encode(&crypto::sha256(origin.as_bytes()));
        let mirror = Mirror::open(&self.dir.join(name), key.clone(), &Options::default()).map_err(
            |error| match error {
                StoreError::DiskFull => Refusal::disk_full(),
                error => Refusal::internal("opening a mirror", &error),
            },
        )?;
        let kept = Arc::new(Kept {
            reader: mirror.reader(),
            mirror: Mutex::new(mirror),
        });
        open.insert(origin.to_owned(), Arc::clone(&kept));
        Ok(kept)
    }

    /// As [`Mirrors::open`], for a gateway that has anchored before.
    pub(crate) fn of(&self, row: &GatewayRow) -> Result<Arc<Kept>, Refusal> {
        self.open(&key_of(row)?)
    }
}

/// The key that signs a gateway's ledger.
pub(crate) fn key_of(row: &GatewayRow) -> Result<LedgerKey, Refusal> {
    let spki: Base64 = row.ledger_key.parse().unwrap_or_default();
    ledger_key(&row.origin, &spki.0)
}

pub(crate) fn ledger_key(origin: &str, spki: &[u8]) -> Result<LedgerKey, Refusal> {
    let wrong = |what: String| {
        Refusal::Invalid(
            Finding::new(
                "FOLLOW-LEDGER-KEY",
                "the gateway's ledger key cannot be used",
            )
            .expected("an Ed25519 key and an origin of this trust domain")
            .observed(what),
        )
    };
    let key = crypto::PublicKey::from_spki_der(spki).map_err(|error| wrong(error.to_string()))?;
    LedgerKey::new(origin, key).map_err(|error| wrong(error.to_string()))
}

impl Kept {
    pub(crate) const fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Checks that `note` extends what is kept.
    pub(crate) fn extends(&self, note: &str, proof: &[Hash]) -> Result<Checkpoint, StoreError> {
        self.lock().extends(note, proof)
    }

    /// Adds `records`, which lead to `note`. Blocks on the disk.
    pub(crate) fn append(
        &self,
        first: u64,
        records: &[Vec<u8>],
        note: &str,
    ) -> Result<Checkpoint, StoreError> {
        self.lock().append(first, records, note)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Mirror> {
        self.mirror.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
