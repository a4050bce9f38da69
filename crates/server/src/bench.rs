//! The way in for the issuance benchmark: what a node's stream calls, without TLS and gRPC around it.
//!
//! It needs a [`Running`] server in the same process and gives nobody else anything.

use crate::core::Core;
use crate::join::{Admission, admit_node};
use crate::listener::Peer;
use crate::node::{Caller, workload};
use crate::start::Running;
use crypto::PublicKey;
use facts::{FactSet, Finding, Verdict};
use proto::v1::WorkloadRequest;
use proto::v1::node_update::Update;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A machine that has joined, as its stream would be.
#[derive(Clone)]
pub struct Node {
    core: Arc<Core>,
    caller: Arc<Caller>,
}

impl Node {
    /// Has `server` admit a machine of which `facts` hold, under `key`.
    ///
    /// # Errors
    /// Whatever a join would be refused with.
    pub async fn admit(
        server: &Running,
        name: &str,
        key: PublicKey,
        facts: FactSet,
    ) -> Result<Self, Finding> {
        let core = Arc::clone(&server.core);
        let admission = Admission {
            name: name.to_owned(),
            key: key.clone(),
            verdict: Verdict::affirmed(facts, Vec::new()),
            renewal: [0; 32],
            repeats: false,
            before: Vec::new(),
            how: "joined",
            replaces: None,
            auth: "bench".to_owned(),
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
                },
                svid: state
                    .svid_of_key(&key.spki_sha256())
                    .cloned()
                    .ok_or_else(none)?,
                node: state.node(name).cloned().ok_or_else(none)?,
                stream: None,
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
}
