//! The way in for benchmarks of issuance and attestation: what a node's stream calls, without TLS and gRPC
//! around it.
//!
//! It needs a [`Running`] server in the same process and gives nobody else anything.

use crate::attesting;
use crate::core::Core;
use crate::join::Proved;
use crate::join::{Admission, admit_node};
use crate::listener::Peer;
use crate::node::{Caller, workload};
use crate::start::Running;
use attest_tpm::continuous::Standing;
use crypto::PublicKey;
use facts::{Finding, Verdict};
use proto::v1::node_update::Update;
use proto::v1::{AttestRequest, Attestation, WorkloadRequest, delta};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::mpsc;

/// A machine that has joined, as its stream would be.
#[derive(Clone)]
pub struct Node {
    core: Arc<Core>,
    caller: Arc<Caller>,
}

impl Node {
    /// Has `server` admit a machine of which `verdict` is, under `key`.
    ///
    /// # Errors
    /// Whatever a join would be refused with.
    pub async fn admit(
        server: &Running,
        name: &str,
        key: PublicKey,
        verdict: Verdict,
    ) -> Result<Self, Finding> {
        let core = Arc::clone(&server.core);
        let admission = Admission {
            name: name.to_owned(),
            key: key.clone(),
            verdict,
            renewal: [0; 32],
            repeats: false,
            before: Vec::new(),
            how: "joined",
            replaces: None,
            auth: "bench".to_owned(),
            begun: core.journal.reader().size(),
            counted: None,
            estate: None,
        };
        let told = |refusal: crate::refusal::Refusal| refusal.finding().clone();
        admit_node(&core, admission).await.map_err(told)?;
        let none = || Finding::new("BENCH-NODE", "the node is not in the state");
        let caller = {
            let state = core.state();
            Caller {
                peer: Peer {
                    address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
                    exporter: [0; 32],
                    svid: None,
                    close: tokio_util::sync::CancellationToken::new(),
                    guest: Arc::default(),
                },
                svid: state
                    .svid_of_key(&key.spki_sha256())
                    .cloned()
                    .ok_or_else(none)?,
                node: state.node(name).cloned().ok_or_else(none)?,
                stream: None,
                proof: Arc::default(),
            }
        };
        Ok(Self {
            core,
            caller: Arc::new(caller),
        })
    }

    /// One request of a workload, answered as the stream would.
    ///
    /// # Errors
    /// The refusal's finding.
    pub async fn ask(&self, request: WorkloadRequest) -> Result<Vec<Update>, Finding> {
        workload(&self.core, &self.caller, request)
            .await
            .map_err(|refusal| refusal.finding().clone())
    }

    /// Has the server know what the machine has proved, and ask it from now on; the first question.
    ///
    /// # Errors
    /// The refusal's finding.
    pub async fn stands(&self, standing: Standing) -> Result<Option<AttestRequest>, Finding> {
        let judged = self.core.current.load().as_ref().map_or(0, |one| one.index);
        let proved = Proved {
            standing,
            list: None,
            judged,
        };
        attesting::stands(&self.core, &self.caller.node.name, proved);
        let asked = attesting::connected(&self.core, &self.caller).await;
        asked
            .map(asked_for)
            .map_err(|refusal| refusal.finding().clone())
    }

    /// What the machine is asked now, if its time has come.
    #[must_use]
    pub fn question(&self) -> Option<AttestRequest> {
        asked_for(attesting::question(&self.core, &self.caller))
    }

    /// Its kernel has measured something.
    #[must_use]
    pub fn wanted(&self) -> Option<AttestRequest> {
        asked_for(attesting::wanted(&self.core, &self.caller))
    }

    /// An answer, judged as the stream would; the next question.
    ///
    /// # Errors
    /// The refusal's finding.
    pub async fn answer(&self, sent: Attestation) -> Result<Option<AttestRequest>, Finding> {
        let next = attesting::answer(&self.core, &self.caller, sent).await;
        next.map(asked_for)
            .map_err(|refusal| refusal.finding().clone())
    }
}

fn asked_for(update: Option<Update>) -> Option<AttestRequest> {
    match update {
        Some(Update::Attest(asked)) => Some(asked),
        _ => None,
    }
}

/// Machines that are cut, and when a gateway hears of it.
#[must_use]
pub fn cuts(server: &Running) -> mpsc::UnboundedReceiver<(String, Instant)> {
    let (_, mut batches) = server.core.hub.subscribe();
    let (sender, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok(batch) = batches.recv().await {
            let now = Instant::now();
            for delta in batch.iter() {
                if let Some(delta::Delta::Cut(cut)) = &delta.delta
                    && cut.kind == "machine"
                    && sender.send((cut.value.clone(), now)).is_err()
                {
                    return;
                }
            }
        }
    });
    heard
}
