//! Counters and gauges in the Prometheus text format. Their names are API, listed in
//! `docs/reference/metrics.md`.

use endorsements::Event;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Code {
    /// Of the finding.
    pub(crate) code: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Kind {
    /// `x509`, `jwt` or `delegation`.
    pub(crate) kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Outcome {
    /// `good`, `unknown`, `busy`, `broken` or `wrong`.
    pub(crate) outcome: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct WitnessOutcome {
    /// Its address.
    pub(crate) witness: String,
    /// `cosigned` or `failed`.
    pub(crate) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct PublishOutcome {
    /// `stored`, `found` or `removed`.
    pub(crate) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Ledger {
    /// Its origin.
    pub(crate) ledger: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct LedgerCode {
    /// Its origin.
    pub(crate) ledger: String,
    /// Of the finding.
    pub(crate) code: String,
}

/// All of them. Cheap to clone handles inside.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) issued: Family<Kind, Counter>,
    pub(crate) joins: Counter,
    pub(crate) joins_refused: Family<Code, Counter>,
    pub(crate) assumes_refused: Family<Code, Counter>,
    pub(crate) revocations: Counter,
    pub(crate) attestations: Counter,
    pub(crate) measured: Counter,
    pub(crate) attestations_refused: Family<Code, Counter>,
    pub(crate) evictions: Family<Code, Counter>,
    pub(crate) unrecorded: Gauge,
    pub(crate) nodes_connected: Gauge,
    pub(crate) gateways_connected: Gauge,
    pub(crate) workloads: Gauge,
    pub(crate) ledger_size: Gauge,
    pub(crate) estate_index: Gauge,
    pub(crate) estate_invariants_broken: Gauge,
    pub(crate) append_seconds: Histogram,
    pub(crate) blocked: Gauge,
    pub(crate) endorsement_requests: Family<Outcome, Counter>,
    pub(crate) endorsements_found: Counter,
    pub(crate) endorsements_dropped: Counter,
    pub(crate) endorsement_cache_bytes: Gauge,
    pub(crate) witnessed_size: Gauge,
    pub(crate) witnessed_time: Gauge,
    pub(crate) witness_rounds: Family<WitnessOutcome, Counter>,
    pub(crate) published_size: Gauge,
    pub(crate) published_objects: Family<PublishOutcome, Counter>,
    pub(crate) published_bytes: Counter,
    pub(crate) publish_failures: Family<Code, Counter>,
    pub(crate) published_ledger_size: Family<Ledger, Gauge>,
    pub(crate) publish_ledger_failures: Family<LedgerCode, Counter>,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("trilith_server"),
            issued: Family::default(),
            joins: Counter::default(),
            joins_refused: Family::default(),
            assumes_refused: Family::default(),
            revocations: Counter::default(),
            attestations: Counter::default(),
            measured: Counter::default(),
            attestations_refused: Family::default(),
            evictions: Family::default(),
            unrecorded: Gauge::default(),
            nodes_connected: Gauge::default(),
            gateways_connected: Gauge::default(),
            workloads: Gauge::default(),
            ledger_size: Gauge::default(),
            estate_index: Gauge::default(),
            estate_invariants_broken: Gauge::default(),
            append_seconds: Histogram::new(exponential_buckets(0.000_1, 2.0, 16)),
            blocked: Gauge::default(),
            endorsement_requests: Family::default(),
            endorsements_found: Counter::default(),
            endorsements_dropped: Counter::default(),
            endorsement_cache_bytes: Gauge::default(),
            witnessed_size: Gauge::default(),
            witnessed_time: Gauge::default(),
            witness_rounds: Family::default(),
            published_size: Gauge::default(),
            published_objects: Family::default(),
            published_bytes: Counter::default(),
            publish_failures: Family::default(),
            published_ledger_size: Family::default(),
            publish_ledger_failures: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "svids_issued",
            "SVIDs and delegation tokens signed",
            self.issued.clone(),
        );
        registry.register("joins", "Machines that joined", self.joins.clone());
        registry.register(
            "joins_refused",
            "Joins and renewals refused, by code",
            self.joins_refused.clone(),
        );
        registry.register(
            "assumes_refused",
            "Identities refused to workloads, by code",
            self.assumes_refused.clone(),
        );
        registry.register(
            "revocations",
            "Revocations recorded",
            self.revocations.clone(),
        );
        registry.register(
            "attestations",
            "Answers of machines that were asked again, and were as they should be",
            self.attestations.clone(),
        );
        registry.register(
            "ima_entries",
            "Entries of IMA lists verified after the join",
            self.measured.clone(),
        );
        registry.register(
            "attestations_refused",
            "Answers that counted for nothing, by code",
            self.attestations_refused.clone(),
        );
        registry.register(
            "evictions",
            "Machines evicted, by code",
            self.evictions.clone(),
        );
        registry.register(
            "revocations_unrecorded",
            "Cuts in force whose records wait for the disk",
            self.unrecorded.clone(),
        );
        registry.register(
            "nodes_connected",
            "Node agents with an open stream",
            self.nodes_connected.clone(),
        );
        registry.register(
            "gateways_connected",
            "Gateways with an open stream",
            self.gateways_connected.clone(),
        );
        registry.register(
            "workloads",
            "Workloads that connected agents report",
            self.workloads.clone(),
        );
        registry.register(
            "ledger_size",
            "Records in the ledger",
            self.ledger_size.clone(),
        );
        registry.register(
            "estate_index",
            "Ledger index of the current estate version",
            self.estate_index.clone(),
        );
        registry.register(
            "estate_invariants_broken",
            "Invariants of the current estate that what it declares breaks, or whose proof takes for granted what does not hold",
            self.estate_invariants_broken.clone(),
        );
        registry.register(
            "ledger_append_seconds",
            "From handing over records to their being durable and applied",
            self.append_seconds.clone(),
        );
        registry.register(
            "signing_blocked",
            "1 while the server refuses to sign because a peer knows a longer ledger",
            self.blocked.clone(),
        );
        registry.register(
            "endorsement_requests",
            "Requests to sources of endorsements, by outcome: good, unknown, busy, broken, wrong",
            self.endorsement_requests.clone(),
        );
        registry.register(
            "endorsements_found",
            "Judgements of hardware that used endorsements which had been fetched before",
            self.endorsements_found.clone(),
        );
        registry.register(
            "endorsements_dropped",
            "Endorsements that were kept and counted no more when they were read again",
            self.endorsements_dropped.clone(),
        );
        registry.register(
            "endorsement_cache_bytes",
            "Bytes of endorsements that are kept on disk",
            self.endorsement_cache_bytes.clone(),
        );
        registry.register(
            "witnessed_size",
            "Records under the newest checkpoint that the quorum of witnesses has cosigned",
            self.witnessed_size.clone(),
        );
        registry.register(
            "witnessed_time",
            "When a quorum of witnesses had looked last, in seconds since 1970 by their clocks",
            self.witnessed_time.clone(),
        );
        registry.register(
            "witness_rounds",
            "Checkpoints shown to a witness, by its address and by outcome: cosigned, failed",
            self.witness_rounds.clone(),
        );
        registry.register(
            "published_size",
            "Records under the checkpoint in the object store that the ledger is published to",
            self.published_size.clone(),
        );
        registry.register(
            "published_objects",
            "Tiles and bundles in the object store, by outcome: stored, found (there already), removed (partial ones)",
            self.published_objects.clone(),
        );
        registry.register(
            "published_bytes",
            "Bytes of tiles and bundles stored in the object store",
            self.published_bytes.clone(),
        );
        registry.register(
            "publish_failures",
            "Rounds of publishing that failed, by code",
            self.publish_failures.clone(),
        );
        registry.register(
            "published_ledger_size",
            "Records under the checkpoint of a gateway's ledger that stands in the object store",
            self.published_ledger_size.clone(),
        );
        registry.register(
            "publish_ledger_failures",
            "Rounds of publishing a gateway's ledger that failed, by ledger and code",
            self.publish_ledger_failures.clone(),
        );
    }

    /// Counts what happens to endorsements that are fetched.
    pub(crate) fn of_endorsements(&self) -> impl Fn(Event) + Send + Sync + use<> {
        let requests = self.endorsement_requests.clone();
        let (found, dropped) = (
            self.endorsements_found.clone(),
            self.endorsements_dropped.clone(),
        );
        let kept = self.endorsement_cache_bytes.clone();
        move |event| match event {
            Event::Asked(outcome) => {
                let outcome = outcome.to_owned();
                requests.get_or_create(&Outcome { outcome }).inc();
            }
            Event::Kept(bytes) => {
                kept.set(i64::try_from(bytes).unwrap_or(i64::MAX));
            }
            Event::Found => {
                found.inc();
            }
            Event::Dropped => {
                dropped.inc();
            }
        }
    }

    /// The text that `/metrics` serves.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}
