//! What one node may be issued: a bucket that fills slowly. Whoever takes a machine over gets no more
//! out of the server, its disk and its signatures than this. Pure but for its lock: the clock is an
//! argument.

use facts::{Finding, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Buckets that are kept although they are full again.
const KEPT: usize = 65_536;

/// In thousandths of an SVID; below nothing, the node waits for what it had too much.
struct Bucket {
    left: i64,
    at: Timestamp,
}

/// By node. They outlive streams: who connects anew finds the bucket as it was.
#[derive(Default)]
pub(crate) struct Rates {
    nodes: Mutex<HashMap<String, Bucket>>,
}

impl Rates {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Bucket>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one, if there is one: `a_second` come in, `burst` are kept at most.
    pub(crate) fn take(
        &self,
        node: &str,
        now: Timestamp,
        a_second: u32,
        burst: u32,
    ) -> Result<(), Finding> {
        let full = i64::from(burst).saturating_mul(1_000);
        let come = |bucket: &Bucket| {
            let millis = now.as_millis().saturating_sub(bucket.at.as_millis());
            let millis = i64::try_from(millis).unwrap_or(i64::MAX);
            let new = millis.saturating_mul(i64::from(a_second));
            bucket.left.saturating_add(new).min(full)
        };
        let mut nodes = self.lock();
        if nodes.len() >= KEPT && !nodes.contains_key(node) {
            nodes.retain(|_, bucket| come(bucket) < full);
        }
        let bucket = nodes.entry(node.to_owned()).or_insert(Bucket {
            left: full,
            at: now,
        });
        bucket.left = come(bucket);
        bucket.at = now;
        if bucket.left < 1_000 {
            return Err(Finding::new(
                "SYNC-RATE",
                "the node asks for more SVIDs than one machine may be issued",
            )
            .expected(format!("{a_second} a second, and {burst} at once"))
            .next("look at the machine; if it needs more, raise limits.issued_per_node"));
        }
        bucket.left -= 1_000;
        Ok(())
    }

    /// Takes `more` that have been issued already.
    pub(crate) fn charge(&self, node: &str, more: usize) {
        if let Some(bucket) = self.lock().get_mut(node) {
            let more = i64::try_from(more).unwrap_or(i64::MAX);
            bucket.left = bucket.left.saturating_sub(more.saturating_mul(1_000));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gets_its_burst_and_then_its_rate_and_others_theirs() {
        let rates = Rates::default();
        let at = Timestamp::from_secs;
        let taken = |node: &str, now| {
            (0..1_000)
                .filter(|_| rates.take(node, now, 5, 20).is_ok())
                .count()
        };
        assert_eq!(taken("m1", at(100)), 20);
        assert_eq!(taken("m1", at(102)), 10);
        assert_eq!(taken("m2", at(102)), 20);
        assert_eq!(taken("m1", at(1_000)), 20, "no more than the burst");
        // A clock that goes back gives nothing.
        assert_eq!(taken("m1", at(10)), 0);
        // What was issued beyond is owed.
        rates.charge("m2", 15);
        assert_eq!(taken("m2", at(104)), 0);
        assert_eq!(taken("m2", at(106)), 5);
    }
}
