//! What runs where, as connected node agents report it, and what each workload holds.
//!
//! In memory only: it follows from the agents' own messages, which they repeat when they connect.
//! A node's workloads outlive its connection, because their SVIDs do.

use crate::current::Allowed;
use facts::{Affirmed, FactSet, Timestamp};
use proto::v1::NodeUpdate;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Where updates for a node go. Bounded: an agent that does not read is cut off.
pub(crate) type Updates = mpsc::Sender<Result<NodeUpdate, tonic::Status>>;

/// An SVID that a workload holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holding {
    /// `payments/api`
    pub(crate) path: String,
    pub(crate) serial: String,
    /// Unix milliseconds.
    pub(crate) not_after: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Workload {
    /// Asserted and of its machine.
    pub(crate) facts: Arc<Affirmed>,
    pub(crate) held: Vec<Holding>,
    /// What the estate allowed when it was last asked.
    pub(crate) allowed: Arc<[Allowed]>,
    /// The last answer, if it held all of that.
    pub(crate) answer: Option<Answer>,
}

/// A complete answer to a workload: nothing is won by asking the same again at once.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// Number of the stream that it went over: another has not seen it.
    pub(crate) stream: u64,
    /// Index of the estate's version.
    pub(crate) estate: u64,
    pub(crate) svids: Vec<Holding>,
    /// When the same may be issued next.
    pub(crate) next: Timestamp,
}

#[derive(Default)]
struct Node {
    workloads: HashMap<String, Workload>,
    /// The newest connection, by its number.
    connection: Option<(u64, Updates)>,
}

/// All nodes. One lock: every operation is short and none waits.
#[derive(Default)]
pub(crate) struct Workloads {
    nodes: Mutex<BTreeMap<String, Node>>,
}

impl Workloads {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node has connected; an older connection of it gets nothing more.
    pub(crate) fn connect(&self, node: &str, connection: u64, updates: Updates) {
        self.lock().entry(node.to_owned()).or_default().connection = Some((connection, updates));
    }

    pub(crate) fn disconnect(&self, node: &str, connection: u64) {
        if let Some(node) = self.lock().get_mut(node)
            && node
                .connection
                .as_ref()
                .is_some_and(|(number, _)| *number == connection)
        {
            node.connection = None;
        }
    }

    /// Ends the stream of a node: its receiver sees the end once the last sender is gone.
    pub(crate) fn drop_connection(&self, node: &str) {
        if let Some(node) = self.lock().get_mut(node) {
            node.connection = None;
        }
    }

    pub(crate) fn connected(&self, node: &str) -> bool {
        self.lock()
            .get(node)
            .is_some_and(|node| node.connection.is_some())
    }

    /// Number of the stream that `node` is served by.
    pub(crate) fn connection(&self, node: &str) -> Option<u64> {
        let nodes = self.lock();
        let (number, _) = nodes.get(node)?.connection.as_ref()?;
        Some(*number)
    }

    /// Number of workloads of `node`.
    pub(crate) fn count(&self, node: &str) -> usize {
        self.lock().get(node).map_or(0, |node| node.workloads.len())
    }

    pub(crate) fn total(&self) -> usize {
        self.lock().values().map(|node| node.workloads.len()).sum()
    }

    /// `workload` was issued `new`, beside what it holds already.
    pub(crate) fn issued(
        &self,
        node: &str,
        workload: &str,
        facts: Arc<Affirmed>,
        allowed: Arc<[Allowed]>,
        new: Vec<Holding>,
        answer: Option<Answer>,
    ) {
        let mut nodes = self.lock();
        let workloads = &mut nodes.entry(node.to_owned()).or_default().workloads;
        if let Some(known) = workloads.get_mut(workload) {
            known.facts = facts;
            known.allowed = allowed;
            known.held.extend(new);
            known.answer = answer;
            return;
        }
        let value = Workload {
            facts,
            held: new,
            allowed,
            answer,
        };
        workloads.insert(workload.to_owned(), value);
    }

    pub(crate) fn contains(&self, node: &str, workload: &str) -> bool {
        self.lock()
            .get(node)
            .is_some_and(|node| node.workloads.contains_key(workload))
    }

    /// The last answer to `workload`, if it went over `stream` under version `estate` and for facts of
    /// this digest.
    pub(crate) fn answer(
        &self,
        node: &str,
        workload: &str,
        stream: u64,
        estate: u64,
        facts: &[u8; 32],
    ) -> Option<Answer> {
        let nodes = self.lock();
        let known = nodes.get(node)?.workloads.get(workload)?;
        let answer = known.answer.as_ref()?;
        let same = answer.stream == stream
            && answer.estate == estate
            && crate::current::digest(&known.facts) == *facts;
        same.then(|| answer.clone())
    }

    /// Takes the next turn of a workload to be issued the same; later ones come `every` milliseconds
    /// after one another.
    pub(crate) fn turn(&self, node: &str, workload: &str, now: Timestamp, every: u64) -> Timestamp {
        let mut nodes = self.lock();
        let known = nodes
            .get_mut(node)
            .and_then(|node| node.workloads.get_mut(workload));
        let Some(answer) = known.and_then(|known| known.answer.as_mut()) else {
            return now;
        };
        let turn = answer.next.max(now);
        answer.next = Timestamp::from_millis(turn.as_millis().saturating_add(every));
        turn
    }

    /// Names of the workloads of `node` of whose facts `is` holds.
    pub(crate) fn of(&self, node: &str, is: impl Fn(&FactSet) -> bool) -> Vec<String> {
        let nodes = self.lock();
        let workloads = nodes.get(node).into_iter().flat_map(|node| &node.workloads);
        let named = workloads.filter(|(_, workload)| is(&workload.facts));
        named.map(|(name, _)| name.clone()).collect()
    }

    /// The facts of `workload`.
    pub(crate) fn facts(&self, node: &str, workload: &str) -> Option<Arc<Affirmed>> {
        let nodes = self.lock();
        let workload = nodes.get(node)?.workloads.get(workload)?;
        Some(Arc::clone(&workload.facts))
    }

    /// What `workload` is and holds now.
    pub(crate) fn set(&self, node: &str, workload: &str, value: Workload) {
        self.lock()
            .entry(node.to_owned())
            .or_default()
            .workloads
            .insert(workload.to_owned(), value);
    }

    /// `workload` was issued `new`, if it is still there.
    pub(crate) fn hold(&self, node: &str, workload: &str, new: Vec<Holding>) {
        if let Some(workload) = self
            .lock()
            .get_mut(node)
            .and_then(|node| node.workloads.get_mut(workload))
        {
            workload.held.extend(new);
        }
    }

    /// Whether `connection` is the one that the node is served by.
    pub(crate) fn is_connection(&self, node: &str, connection: u64) -> bool {
        self.lock().get(node).is_some_and(|node| {
            let current = node.connection.as_ref();
            current.is_some_and(|(number, _)| *number == connection)
        })
    }

    pub(crate) fn remove(&self, node: &str, workload: &str) {
        if let Some(node) = self.lock().get_mut(node) {
            node.workloads.remove(workload);
        }
    }

    /// Everything that is known, to be judged again without the lock.
    pub(crate) fn all(&self) -> Vec<(String, String, Workload)> {
        self.lock()
            .iter()
            .flat_map(|(node, entry)| {
                entry
                    .workloads
                    .iter()
                    .map(|(name, workload)| (node.clone(), name.clone(), workload.clone()))
            })
            .collect()
    }

    /// What is known of the workloads of `node`, by their names.
    pub(crate) fn all_of(&self, node: &str) -> Vec<(String, Workload)> {
        let nodes = self.lock();
        let workloads = nodes.get(node).into_iter().flat_map(|node| &node.workloads);
        workloads
            .map(|(name, workload)| (name.clone(), workload.clone()))
            .collect()
    }

    /// Forgets SVIDs that have ended, and workloads of unconnected nodes that hold none.
    pub(crate) fn sweep(&self, now_ms: u64) {
        self.lock().retain(|_, node| {
            let connected = node.connection.is_some();
            node.workloads.retain(|_, workload| {
                workload.held.retain(|held| held.not_after > now_ms);
                connected || !workload.held.is_empty()
            });
            connected || !node.workloads.is_empty()
        });
    }

    /// Sends to the node if it is connected. One that does not keep up is cut off and will ask anew.
    pub(crate) fn send(&self, node: &str, update: NodeUpdate) {
        let mut nodes = self.lock();
        let Some(entry) = nodes.get_mut(node) else {
            return;
        };
        let kept = entry
            .connection
            .as_ref()
            .is_some_and(|(_, updates)| updates.try_send(Ok(update)).is_ok());
        if !kept {
            entry.connection = None;
        }
    }

    pub(crate) fn broadcast(&self, update: &NodeUpdate) {
        let names: Vec<String> = self.lock().keys().cloned().collect();
        for name in names {
            self.send(&name, update.clone());
        }
    }
}
