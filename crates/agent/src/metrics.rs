//! Gauges in the Prometheus text format, filled when they are asked for. Their names are API, listed in
//! `docs/reference/metrics.md`.

use crate::workloads::Figures;
use facts::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// All of them.
pub(crate) struct Metrics {
    registry: Registry,
    workloads: Gauge,
    svids: Gauge,
    connected: Gauge,
    locked: Gauge,
    expiry: Gauge,
}

impl Metrics {
    /// As things are; `expires` is when the node's SVID ends.
    pub(crate) fn of(figures: Figures, expires: Option<Timestamp>) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("trilith_agent"),
            workloads: gauge(figures.workloads),
            svids: gauge(figures.svids),
            connected: gauge(usize::from(figures.connected)),
            locked: gauge(usize::from(figures.locked)),
            expiry: gauge(expires.map_or(0, Timestamp::as_secs)),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "workloads",
            "Workloads with an entry",
            self.workloads.clone(),
        );
        registry.register(
            "svids",
            "X.509-SVIDs held for workloads",
            self.svids.clone(),
        );
        registry.register(
            "connected",
            "Whether the stream to the server is open",
            self.connected.clone(),
        );
        registry.register(
            "locked",
            "Whether the server has locked this machine",
            self.locked.clone(),
        );
        registry.register(
            "node_svid_expiry_seconds",
            "Unix time at which the node's SVID ends",
            self.expiry.clone(),
        );
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

fn gauge(value: impl TryInto<i64>) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(value.try_into().unwrap_or(i64::MAX));
    gauge
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_says_how_things_are() {
        let figures = Figures {
            workloads: 3,
            svids: 4,
            connected: true,
            locked: false,
        };
        let text = Metrics::of(figures, Some(Timestamp::from_millis(5_000))).text();
        for line in [
            "trilith_agent_workloads 3",
            "trilith_agent_svids 4",
            "trilith_agent_connected 1",
            "trilith_agent_locked 0",
            "trilith_agent_node_svid_expiry_seconds 5",
        ] {
            assert!(text.lines().any(|said| said == line), "{line}: {text}");
        }
    }
}
