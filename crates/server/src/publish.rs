//! Publishing of this ledger to an object store, and of those of gateways beside it: when, and what is told of it.
//! Nothing that is appended waits for it.
//!
//! INVARIANT: what is published is a published head of a server that may sign; where there are witnesses, one that
//! enough of them have cosigned.

pub(crate) mod ledgers;
mod pace;

use crate::config;
use crate::core::Core;
use crate::labels::Labels;
use crate::ledgers::Vouching;
use crate::metrics::{Metrics, PublishOutcome};
use facts::{Finding, Timestamp};
use ledger::LedgerKey;
use ledger_store::Reader;
use ledgers::Others;
use objects::{Event, Failure, Publisher, Target};
use pace::Pace;
use prometheus_client::metrics::gauge::Gauge;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// In the data directory.
const FILE: &str = "published";

pub(crate) struct Publishing {
    place: String,
    interval: Duration,
    /// Taken by the task that publishes.
    publisher: Mutex<Option<Publisher>>,
    standing: Mutex<Standing>,
    /// Ledgers of gateways beside it; `None` if they are not published.
    others: Option<Others>,
}

/// What is known of the store.
#[derive(Default)]
struct Standing {
    /// Records under the checkpoint that stands there.
    size: Option<u64>,
    /// When that was seen.
    time: Option<Timestamp>,
    /// Of the last round, if it failed.
    trouble: Option<Finding>,
}

impl Standing {
    fn shown(&self, place: &str, head: u64) -> Value {
        json!({
            "place": place,
            "size": self.size,
            "behind": self.size.map(|size| head.saturating_sub(size)),
            "seen": self.time.map(|time| time.to_string()),
            "trouble": self.trouble,
        })
    }

    /// A round ended well.
    fn stands(size: u64) -> Self {
        Self {
            size: Some(size),
            time: Some(Timestamp::now()),
            trouble: None,
        }
    }

    /// True if it was told before.
    fn failed(&mut self, finding: &Finding) -> bool {
        let before = self.trouble.replace(finding.clone());
        before.is_some_and(|before| before.code == finding.code)
    }
}

impl Publishing {
    /// Reads the settings and credentials; asks nobody. Blocks on the disk.
    pub(crate) fn open(
        settings: &config::Publish,
        data_dir: &Path,
        reader: &Reader,
        key: &LedgerKey,
        labels: Option<Arc<Labels>>,
        metrics: &Metrics,
    ) -> Result<Self, Finding> {
        let mut publisher = Publisher::open(
            &settings.settings(),
            &data_dir.join(FILE),
            reader.clone(),
            key.clone(),
            counted(metrics, metrics.published_size.clone()),
        )?;
        let others = settings
            .ledgers
            .then(|| Others::open(settings, data_dir, labels.clone()))
            .transpose()?;
        if let Some(labels) = labels {
            publisher = publisher.with_labels(move |path| labels.tile(path));
        }
        Ok(Self {
            place: publisher.place(),
            interval: settings.interval(),
            publisher: Mutex::new(Some(publisher)),
            standing: Mutex::default(),
            others,
        })
    }

    /// For `trilith status`: where, how far that is behind `head`, and what is wrong.
    pub(crate) fn status(&self, head: u64) -> Value {
        let standing = self.standing.lock();
        let standing = standing.unwrap_or_else(PoisonError::into_inner);
        let mut status = standing.shown(&self.place, head);
        if let Some(others) = &self.others
            && let Some(fields) = status.as_object_mut()
        {
            fields.insert("ledgers".to_owned(), others.status());
        }
        status
    }

    fn learn(&self, change: impl FnOnce(&mut Standing)) {
        let standing = self.standing.lock();
        change(&mut standing.unwrap_or_else(PoisonError::into_inner));
    }
}

fn counted(metrics: &Metrics, size: Gauge) -> impl Fn(Event) + Send + Sync + 'static + use<> {
    let (objects, bytes) = (
        metrics.published_objects.clone(),
        metrics.published_bytes.clone(),
    );
    move |event| {
        let outcome = match event {
            Event::Stored(length) => {
                bytes.inc_by(u64::try_from(length).unwrap_or(u64::MAX));
                "stored"
            }
            Event::Found => "found",
            Event::Removed => "removed",
            Event::Published(records) => {
                size.set(i64::try_from(records).unwrap_or(i64::MAX));
                return;
            }
        };
        objects.get_or_create(&PublishOutcome { outcome }).inc();
    }
}

/// Publishes until the server stops.
pub(crate) async fn run(core: Arc<Core>) {
    let Some(publishing) = &core.publishing else {
        return;
    };
    let publisher = publishing.publisher.lock();
    let publisher = publisher.unwrap_or_else(PoisonError::into_inner).take();
    let Some(mut publisher) = publisher else {
        return;
    };
    let mut pace = Pace::default();
    loop {
        tokio::select! {
            () = core.stop.cancelled() => return,
            () = tokio::time::sleep(pace.pause(publishing.interval)) => {}
        }
        let Some(target) = target(&core) else {
            continue;
        };
        if pace.rests(&target, Instant::now()) {
            continue;
        }
        // Dropped in the middle, a round is begun again at the next start.
        let round = tokio::select! {
            () = core.stop.cancelled() => return,
            round = publisher.round(&target) => round,
        };
        match round {
            Ok(size) => {
                publishing.learn(|standing| *standing = Standing::stands(size));
                pace.stands(target, Instant::now());
            }
            Err(failure) => {
                failed(&core, publishing, &failure);
                pace.failed(&failure, Instant::now());
            }
        }
    }
}

/// Tells of it.
fn failed(core: &Core, publishing: &Publishing, failure: &Failure) {
    let finding = failure.finding();
    let code = crate::metrics::Code {
        code: finding.code.to_string(),
    };
    core.metrics.publish_failures.get_or_create(&code).inc();
    let mut told = false;
    publishing.learn(|standing| told = standing.failed(finding));
    if !told {
        tracing::error!(%finding, "the ledger is not published");
    }
}

/// What is to stand in the store.
fn target(core: &Core) -> Option<Target> {
    core.signing.check().ok()?;
    let Vouching { size, note } = Vouching::of(core)?;
    Some(Target { size, note })
}
