//! Publishing of the ledgers that are kept here, one after the other, each below a prefix of its own: as far as outsiders
//! are shown them, and by the same writes as the server's.
//!
//! INVARIANT: what is published is a head that [`crate::ledgers`] shows.

use super::pace::Pace;
use super::{Standing, counted};
use crate::config;
use crate::core::Core;
use crate::labels::Labels;
use crate::ledgers::Shown;
use crate::metrics::{Ledger, LedgerCode};
use crate::mirrors::Kept;
use crate::refusal::Refusal;
use facts::Finding;
use ledger::LedgerKey;
use objects::{Failure, Publisher, Store, Target};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

/// In the data directory: a file of each.
const FOLDER: &str = "published-ledgers";
/// Of a failure that is the store's, and so every ledger's.
const STORE: &str = "PUBLISH-UNREACHABLE";

pub(crate) struct Others {
    settings: config::Publish,
    store: Store,
    folder: PathBuf,
    labels: Option<Arc<Labels>>,
    /// By the names of their first logs.
    told: Mutex<BTreeMap<String, Told>>,
}

/// For `trilith status`.
#[derive(Default)]
struct Told {
    origin: String,
    name: String,
    place: String,
    /// Records of what is shown.
    head: u64,
    standing: Standing,
}

/// One ledger, as the task that publishes knows it.
#[derive(Default)]
struct Slot {
    /// With what it reads, which stays open, and grows there.
    publisher: Option<(Publisher, Arc<Kept>)>,
    /// Which it was opened with: a ledger may go on as a new log.
    key: Option<LedgerKey>,
    pace: Pace,
}

impl Others {
    /// Blocks on the disk.
    pub(super) fn open(
        settings: &config::Publish,
        data_dir: &Path,
        labels: Option<Arc<Labels>>,
    ) -> Result<Self, Finding> {
        Ok(Self {
            store: Store::open(&settings.settings())?,
            settings: settings.clone(),
            folder: data_dir.join(FOLDER),
            labels,
            told: Mutex::default(),
        })
    }

    pub(super) fn status(&self) -> Value {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let each = told.values().map(|told| {
            let mut shown = told.standing.shown(&told.place, told.head);
            if let Some(fields) = shown.as_object_mut() {
                fields.insert("origin".to_owned(), json!(told.origin));
                fields.insert("name".to_owned(), json!(told.name));
            }
            shown
        });
        each.collect()
    }

    fn learn(&self, shown: &Shown, change: impl FnOnce(&mut Told)) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told.entry(shown.line().to_owned()).or_default();
        told.origin.clone_from(&shown.row.origin);
        told.name.clone_from(&shown.name);
        told.head = shown.row.size;
        change(told);
    }

    /// Blocks on the disk.
    fn publisher(&self, core: &Core, shown: &Shown, kept: &Kept) -> Result<Publisher, Failure> {
        std::fs::create_dir_all(&self.folder).map_err(|error| {
            Failure::Again(
                Finding::new("PUBLISH-READ", "what is published cannot be remembered")
                    .observed(format!("{}: {error}", self.folder.display()))
                    .next("look at this machine's disk; it is tried again by itself"),
            )
        })?;
        let of = Ledger {
            ledger: shown.line().to_owned(),
        };
        let size = &core.metrics.published_ledger_size;
        let size = size.get_or_create_owned(&of);
        let publisher = self.store.publisher(
            &self.settings.of_ledger(&shown.name),
            &self.folder.join(&shown.name),
            kept.reader().clone(),
            shown.key.clone(),
            counted(&core.metrics, size),
        );
        let publisher = publisher.map_err(Failure::Refused)?;
        let Some(labels) = self.labels.clone() else {
            return Ok(publisher);
        };
        let (origin, reader) = (shown.row.origin.clone(), kept.reader().clone());
        Ok(publisher.with_labels(move |path| labels.tile_of(&origin, &reader, path)))
    }
}

/// Publishes them until the server stops.
pub(crate) async fn run(core: Arc<Core>) {
    let Some(publishing) = &core.publishing else {
        return;
    };
    let Some(others) = &publishing.others else {
        return;
    };
    let mut slots: BTreeMap<String, Slot> = BTreeMap::new();
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(publishing.interval) => {}
        }
        if core.signing.check().is_err() {
            continue;
        }
        for shown in core.ledgers.all(&core) {
            let slot = slots.entry(shown.line().to_owned()).or_default();
            // Dropped in the middle, a round is begun again at the next start.
            let round = tokio::select! {
                () = core.stop.cancelled() => return,
                round = slot.round(&core, others, &shown) => round,
            };
            let Err(failure) = round else {
                continue;
            };
            slot.failed(&core, others, &shown, &failure);
            // What keeps this one from being published keeps the others too.
            if failure.finding().code == STORE {
                break;
            }
        }
    }
}

impl Slot {
    async fn round(
        &mut self,
        core: &Arc<Core>,
        others: &Others,
        shown: &Shown,
    ) -> Result<(), Failure> {
        let target = Target {
            size: shown.row.size,
            note: shown.row.checkpoint.as_str().into(),
        };
        if self.pace.rests(&target, Instant::now()) {
            return Ok(());
        }
        // It is here up to what is shown, and as it was anchored; also since the last round.
        if self.key.as_ref() != Some(&shown.key) {
            (self.publisher, self.key) = (None, Some(shown.key.clone()));
        }
        let missing = self.publisher.is_none();
        let (checking, checked) = (Arc::clone(core), shown.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let refused = |refusal: Refusal| Failure::Again(refusal.finding().clone());
            let kept = checked.kept(&checking).map_err(refused)?;
            let anchor = checked.anchor(&checking).map_err(refused)?;
            let publishing = checking.publishing.as_ref();
            let others = publishing.and_then(|publishing| publishing.others.as_ref());
            let others = others.filter(|_| missing);
            let opened = others.map(|others| others.publisher(&checking, &checked, &kept));
            let opened = opened.transpose()?;
            Ok::<_, Failure>((opened, kept, anchor))
        });
        let opened = opened.await;
        let opened = opened.map_err(|error| read_failed(&error.to_string()))?;
        let (opened, kept, anchor) = opened?;
        if let Some(opened) = opened {
            self.publisher = Some((opened, kept));
        }
        let Some((publisher, _)) = &mut self.publisher else {
            return Err(read_failed("it is not open"));
        };
        others.learn(shown, |told| told.place = publisher.place());
        publisher.vouch(anchor);
        let size = publisher.round(&target).await?;
        others.learn(shown, |told| told.standing = Standing::stands(size));
        self.pace.stands(target, Instant::now());
        Ok(())
    }

    /// Tells of it, and leaves it alone for a while.
    fn failed(&mut self, core: &Core, others: &Others, shown: &Shown, failure: &Failure) {
        let finding = failure.finding();
        let code = LedgerCode {
            ledger: shown.line().to_owned(),
            code: finding.code.to_string(),
        };
        core.metrics
            .publish_ledger_failures
            .get_or_create(&code)
            .inc();
        let mut told = false;
        others.learn(shown, |ledger| told = ledger.standing.failed(finding));
        if !told {
            let origin = &shown.row.origin;
            tracing::error!(%finding, %origin, "a gateway's ledger is not published");
        }
        self.pace.failed(failure, Instant::now());
    }
}

fn read_failed(why: &str) -> Failure {
    Failure::Again(
        Finding::new(
            "PUBLISH-READ",
            "a gateway's ledger cannot be read to be published",
        )
        .observed(why.to_owned())
        .next("look at the server's log; it is tried again by itself"),
    )
}
