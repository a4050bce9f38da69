//! Metrics and health over plain HTTP. Their names are listed in `docs/reference/metrics.md`.

use gateway::Core;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Asked {
    /// `evaluation`, `evaluations`, `ext_authz`.
    pub by: &'static str,
    /// `allow`, `deny`.
    pub decision: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Code {
    pub code: String,
}

/// What a decision point counts; what it shares with gateways is counted there.
pub struct Metrics {
    registry: Registry,
    pub connections: Gauge,
    pub decisions: Family<Asked, Counter>,
    pub searches: Counter,
    pub refused: Family<Code, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("trilith_pdp"),
            connections: Gauge::default(),
            decisions: Family::default(),
            searches: Counter::default(),
            refused: Family::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "connections",
            "Open connections of callers",
            metrics.connections.clone(),
        );
        registry.register(
            "decisions",
            "Questions answered, by how they were asked and what they came to",
            metrics.decisions.clone(),
        );
        registry.register(
            "searches",
            "Pages of searches answered",
            metrics.searches.clone(),
        );
        registry.register(
            "refused",
            "Callers and requests refused, by code",
            metrics.refused.clone(),
        );
        metrics
    }
}

impl Metrics {
    pub(crate) fn refuse(&self, code: &str) {
        let code = code.to_owned();
        self.refused.get_or_create(&Code { code }).inc();
    }

    pub(crate) fn decided(&self, by: &'static str, allow: bool) {
        let decision = if allow { "allow" } else { "deny" };
        self.decisions.get_or_create(&Asked { by, decision }).inc();
    }

    fn text(&self) -> Option<String> {
        let mut text = String::new();
        encode(&mut text, &self.registry).ok()?;
        Some(text)
    }

    /// Serves `/metrics`, those of the core before its own, `/healthz` and `/readyz`, until the task is
    /// aborted.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub(crate) async fn serve(
        self: Arc<Self>,
        address: SocketAddr,
        core: Arc<Core>,
    ) -> std::io::Result<tokio::task::JoinHandle<()>> {
        let following = core.following().clone();
        let counted = Arc::clone(core.metrics());
        let text = move || {
            let (core, own) = counted.text().zip(self.text())?;
            Some(format!("{core}{own}"))
        };
        let ready = move || following.fresh(facts::Timestamp::now()).is_ok();
        gateway::serve_metrics(address, text, ready).await
    }
}
