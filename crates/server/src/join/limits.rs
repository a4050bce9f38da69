//! What strangers may cost: joins a minute, by address and in all; and refusals counted instead of
//! recorded one by one. Pure: the clock is an argument.

use facts::{Finding, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Addresses remembered at once. Beyond, only the limit of all together holds.
const PEERS: usize = 10_000;
/// Kinds of refusal counted at once.
const KINDS: usize = 256;

/// A window of one minute that starts with the first attempt in it.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    since: u64,
    count: u32,
}

impl Window {
    /// False when the window is full.
    const fn admit(&mut self, now: u64, most: u32) -> bool {
        if now.saturating_sub(self.since) >= 60_000 {
            self.since = now;
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        self.count <= most
    }
}

/// Counts attempts to join.
#[derive(Debug, Default)]
pub(crate) struct JoinLimits {
    all: Window,
    peers: HashMap<IpAddr, Window>,
    /// By node. No more than there are nodes with an SVID.
    members: HashMap<String, Window>,
}

impl JoinLimits {
    /// Whether `peer` may try now. What a peer spends over its own limit costs the others nothing.
    pub(crate) fn admit(
        &mut self,
        peer: IpAddr,
        now: Timestamp,
        per_peer: u32,
        in_all: u32,
    ) -> Result<(), Finding> {
        let now = now.as_millis();
        if self.peers.len() >= PEERS {
            self.peers
                .retain(|_, window| now.saturating_sub(window.since) < 60_000);
        }
        if (self.peers.len() < PEERS || self.peers.contains_key(&peer))
            && !self.peers.entry(peer).or_default().admit(now, per_peer)
        {
            return Err(limited("from this address", per_peer));
        }
        if self.all.admit(now, in_all) {
            Ok(())
        } else {
            Err(limited("in all", in_all))
        }
    }

    /// Whether `node`, which has shown its SVID, may try now. It competes with nobody.
    pub(crate) fn admit_member(
        &mut self,
        node: &str,
        now: Timestamp,
        most: u32,
    ) -> Result<(), Finding> {
        let now = now.as_millis();
        if self.members.len() >= PEERS && !self.members.contains_key(node) {
            self.members
                .retain(|_, window| now.saturating_sub(window.since) < 60_000);
        }
        let window = self.members.entry(node.to_owned()).or_default();
        if window.admit(now, most) {
            Ok(())
        } else {
            Err(limited("by this node", most))
        }
    }
}

fn limited(where_: &str, most: u32) -> Finding {
    Finding::new("JOIN-RATE", format!("too many attempts to join {where_}"))
        .expected(format!("at most {most} a minute"))
        .next("wait a minute")
}

/// A refusal that stands for all that were alike in its window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted<K> {
    pub(crate) kind: K,
    pub(crate) finding: Finding,
    pub(crate) count: u64,
}

/// Counts refusals by kind and code, until they are taken for recording.
#[derive(Debug)]
pub(crate) struct Refusals<K> {
    counts: BTreeMap<(K, String), (Finding, u64)>,
    /// Beyond the kinds that are kept apart.
    further: u64,
}

impl<K: Ord + Clone> Default for Refusals<K> {
    fn default() -> Self {
        Self {
            counts: BTreeMap::new(),
            further: 0,
        }
    }
}

impl<K: Ord + Clone> Refusals<K> {
    /// Counts one; the first finding of each kind is what the record will show.
    pub(crate) fn count(&mut self, kind: K, finding: &Finding) {
        let key = (kind, finding.code.to_string());
        if let Some((_, count)) = self.counts.get_mut(&key) {
            *count += 1;
        } else if self.counts.len() < KINDS {
            self.counts.insert(key, (finding.clone(), 1));
        } else {
            self.further += 1;
        }
    }

    /// What was counted, and how many did not fit; the counts start again.
    pub(crate) fn take(&mut self) -> (Vec<Counted<K>>, u64) {
        let counted = std::mem::take(&mut self.counts)
            .into_iter()
            .map(|((kind, _), (finding, count))| Counted {
                kind,
                finding,
                count,
            })
            .collect();
        (counted, std::mem::take(&mut self.further))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_flood_from_one_address_leaves_room_for_others() {
        let mut limits = JoinLimits::default();
        let now = Timestamp::from_secs(1_000);
        let (bad, good) = (
            IpAddr::from(Ipv4Addr::new(10, 0, 0, 1)),
            IpAddr::from(Ipv4Addr::new(10, 0, 0, 2)),
        );
        let admitted = (0..1_000)
            .filter(|_| limits.admit(bad, now, 5, 20).is_ok())
            .count();
        assert_eq!(admitted, 5);
        assert!(limits.admit(good, now, 5, 20).is_ok());
        assert!(limits.admit(bad, now.plus_secs(60), 5, 20).is_ok());
    }

    #[test]
    fn a_flood_by_strangers_leaves_room_for_members() {
        let mut limits = JoinLimits::default();
        let now = Timestamp::from_secs(1_000);
        for number in 0..1_000_u32 {
            let address = IpAddr::from(Ipv4Addr::from(number));
            drop(limits.admit(address, now, 5, 20));
        }
        let one = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
        assert!(limits.admit(one, now, 5, 20).is_err());
        assert!(limits.admit_member("m1", now, 5).is_ok());
        let admitted = (0..100)
            .filter(|_| limits.admit_member("m2", now, 5).is_ok())
            .count();
        assert_eq!(admitted, 5, "nor may a member flood");
    }

    #[test]
    fn refusals_alike_are_one() {
        let mut refusals = Refusals::default();
        for number in 0..100_000 {
            refusals.count(
                "token",
                &Finding::new("JOIN-TOKEN", format!("number {number}")),
            );
        }
        let (counted, further) = refusals.take();
        assert_eq!((counted.len(), further), (1, 0));
        assert_eq!(counted[0].count, 100_000);
        assert_eq!(counted[0].finding.message, "number 0");
        assert!(refusals.take().0.is_empty());
    }
}
