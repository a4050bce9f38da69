//! Certificate revocation lists, for peers that follow no stream of ours: they go to node agents with the
//! bundle, from there to workloads, and stand beside the bundle over HTTP.
//!
//! A list holds the X.509-SVIDs that are revoked and have not expired, whatever revoked them: their
//! serial, their identity or their machine. State does not know which issuing CA signed which of them;
//! serials are random and never used twice, so each CA lists them all.

use crate::core::Core;
use crate::refusal::Refusal;
use arc_swap::ArcSwap;
use facts::Timestamp;
use spiffe_core::crl::{CrlParams, Revoked};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A list is made again, with nothing new in it, after half of this.
const LIFETIME_S: u64 = 24 * 3600;
/// Clocks differ: a list is valid from a little before it was made.
const BACKDATE_S: u64 = 60;

/// The lists in force.
#[derive(Default)]
pub(crate) struct Lists {
    /// DER, one for each CA that has not ended.
    lists: ArcSwap<Vec<Vec<u8>>>,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// What the lists were made of: serials, and the bundle's sequence.
    of: Option<(Vec<String>, u64)>,
    again: Option<Timestamp>,
    /// When each revocation was recorded, by its index.
    times: HashMap<u64, Timestamp>,
}

impl Lists {
    pub(crate) fn current(&self) -> Arc<Vec<Vec<u8>>> {
        self.lists.load_full()
    }

    /// All of them, PEM (RFC 7468, section 6).
    pub(crate) fn pem(&self) -> String {
        let mut text = String::new();
        for list in self.current().iter() {
            text.push_str("-----BEGIN X509 CRL-----\n");
            let body = crypto::base64::encode(list);
            for line in body.as_bytes().chunks(64) {
                text.push_str(&String::from_utf8_lossy(line));
                text.push('\n');
            }
            text.push_str("-----END X509 CRL-----\n");
        }
        text
    }
}

/// As [`remake`], off the async threads.
pub(crate) async fn refresh(core: &Arc<Core>) -> Result<bool, Refusal> {
    let core = Arc::clone(core);
    tokio::task::spawn_blocking(move || remake(&core))
        .await
        .map_err(|error| Refusal::internal("making revocation lists", &error))?
}

/// Makes the lists again if what is revoked has changed, the authorities have, or their time has come;
/// returns whether it did. Reads records and signs: blocks.
pub(crate) fn remake(core: &Core) -> Result<bool, Refusal> {
    let failed = |error: &(dyn std::error::Error + 'static)| {
        Refusal::internal("making revocation lists", error)
    };
    let mut made = core
        .lists
        .made
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let now = core.now();
    let (revoked, number) = {
        let state = core.state();
        (
            state.revoked_svids(now.as_millis()),
            // RFC 5280, section 5.2.3: the number goes up, also when the ledger goes on from a backup.
            state.applied().saturating_add(state.given_up_to()),
        )
    };
    let document = core.authority.document();
    let serials: Vec<String> = revoked.iter().map(|(serial, _)| serial.clone()).collect();
    let of = (serials, document.sequence);
    if made.of.as_ref() == Some(&of) && made.again.is_some_and(|again| now < again) {
        return Ok(false);
    }
    let mut entries = Vec::with_capacity(revoked.len());
    let mut times = HashMap::new();
    for (serial, index) in revoked {
        let at = match made.times.get(&index) {
            Some(at) => *at,
            None => {
                let record = core.journal.reader().record(index);
                Timestamp::from_millis(record.map_err(|error| failed(&error))?.stamp().wall)
            }
        };
        times.insert(index, at);
        if let Ok(serial) = serial.parse() {
            entries.push(Revoked { serial, at });
        }
    }
    let params = CrlParams {
        number,
        this_update: now.minus_secs(BACKDATE_S),
        next_update: now.plus_secs(LIFETIME_S),
    };
    let lists = core
        .authority
        .revocation_lists(&params, &entries)
        .map_err(|error| failed(&error))?;
    core.lists.lists.store(Arc::new(lists));
    *made = Made {
        of: Some(of),
        again: Some(now.plus_secs(LIFETIME_S / 2)),
        times,
    };
    Ok(true)
}
