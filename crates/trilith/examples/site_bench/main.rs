//! The figures of a whole site: the release binary as server, node agent and gateway in processes of their
//! own, a real PostgreSQL, and clients that nobody here wrote. `cargo xtask bench` builds what it needs.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a benchmark stops at the first surprise"
)]

mod client;
mod latency;
mod memory;
mod peers;
mod pgbench;
mod propagate;
mod revoke;
mod site;

use testkit::bench::Plan;

fn main() {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(memory::WORKLOAD) {
        return memory::workload();
    }
    let plan = Plan::from_arguments().unwrap_or_else(|error| panic!("{error}"));
    let wants = |ids: &[&str]| ids.iter().any(|id| plan.wants(id));
    // Processes of an earlier row must not disturb the next: each starts and ends its own site.
    if wants(&pgbench::IDS) {
        pgbench::run(&plan);
    }
    if wants(&latency::IDS) {
        latency::run(&plan);
    }
    if wants(&revoke::IDS) {
        block_on(revoke::run(&plan));
    }
    if wants(&propagate::IDS) {
        block_on(propagate::run(&plan));
    }
    if wants(&memory::IDS) {
        memory::run(&plan);
    }
}

/// Runs `future` on a runtime of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// Prints one row.
fn row(id: &str, ours: f64, unit: &str, reference: Option<(f64, &str)>) {
    testkit::bench::row(id, ours, unit, reference).unwrap();
}

/// The value below which `share` of `values` lies (nearest rank).
fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let below = values.len() as f64 * share;
    let at = (0..values.len())
        .find(|at| (at + 1) as f64 >= below)
        .expect("values");
    values[at]
}

fn median(values: &mut [f64]) -> f64 {
    percentile(values, 0.5)
}
