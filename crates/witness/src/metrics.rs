//! What a witness counts. Names are listed in `docs/reference/metrics.md`.

use crate::refused::Refused;
use crate::witness::Cosigned;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Origin {
    pub origin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Code {
    pub code: String,
}

/// Labels are of what the configuration names, and of codes: nobody outside makes new ones.
pub struct Metrics {
    registry: Registry,
    pub cosigned: Family<Origin, Counter>,
    pub repeated: Family<Origin, Counter>,
    pub size: Family<Origin, Gauge>,
    pub time: Family<Origin, Gauge>,
    pub forks: Family<Origin, Counter>,
    pub refused: Family<Code, Counter>,
    pub mirror_packages: Counter,
    pub mirror_damaged: Family<Origin, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("trilith_witness"),
            cosigned: Family::default(),
            repeated: Family::default(),
            size: Family::default(),
            time: Family::default(),
            forks: Family::default(),
            refused: Family::default(),
            mirror_packages: Counter::default(),
            mirror_damaged: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "cosigned",
            "Checkpoints cosigned and kept, by log",
            metrics.cosigned.clone(),
        );
        registry.register(
            "repeated",
            "Requests answered with the lines of a moment ago, by log",
            metrics.repeated.clone(),
        );
        registry.register(
            "size",
            "Records of the checkpoint that was cosigned last, by log",
            metrics.size.clone(),
        );
        registry.register(
            "time",
            "When that was, in seconds since 1970, by log; since this start",
            metrics.time.clone(),
        );
        registry.register(
            "forks",
            "Logs that have signed two histories; the second is kept beside the state",
            metrics.forks.clone(),
        );
        registry.register(
            "refused",
            "Requests without a cosignature, by code",
            metrics.refused.clone(),
        );
        registry.register(
            "mirror_packages",
            "Packages of entries that the mirror has proven and kept",
            metrics.mirror_packages.clone(),
        );
        registry.register(
            "mirror_damaged",
            "1 where what the mirror keeps of a log is not what was kept: nothing more of it is taken; else 0",
            metrics.mirror_damaged.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// What stands at the start.
    pub(crate) fn stands(&self, origin: &str, size: u64) {
        let gauge = self.size.get_or_create_owned(&of(origin));
        gauge.set(i64::try_from(size).unwrap_or(i64::MAX));
    }

    pub(crate) fn cosigned(&self, cosigned: &Cosigned, unix: u64) {
        let origin = of(&cosigned.origin);
        if !cosigned.new {
            self.repeated.get_or_create_owned(&origin).inc();
            return;
        }
        self.cosigned.get_or_create_owned(&origin).inc();
        self.stands(&cosigned.origin, cosigned.size);
        let time = self.time.get_or_create_owned(&origin);
        time.set(i64::try_from(unix).unwrap_or(i64::MAX));
    }

    /// Whether what is mirrored of a log was found to be damaged.
    pub(crate) fn damaged(&self, origin: &str, damaged: bool) {
        let gauge = self.mirror_damaged.get_or_create_owned(&of(origin));
        gauge.set(i64::from(damaged));
    }

    pub(crate) fn refused(&self, refused: &Refused) {
        self.refused_by(&refused.finding().code);
    }

    pub(crate) fn refused_by(&self, code: &str) {
        let code = code.to_owned();
        self.refused.get_or_create_owned(&Code { code }).inc();
    }

    pub(crate) fn fork(&self, origin: &str) {
        self.forks.get_or_create_owned(&of(origin)).inc();
    }

    /// The page; `None` if it cannot be written.
    #[must_use]
    pub fn text(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).ok()?;
        Some(text)
    }
}

fn of(origin: &str) -> Origin {
    let origin = origin.to_owned();
    Origin { origin }
}
