//! For node agents, over mTLS with the node's SVID: renewal, and the stream that workloads live by.

mod keys;
mod proof;
mod rates;
mod renew;
mod sync;

use crate::core::Core;
use crate::join::{peer, refused};
use crate::listener::Peer;
use crate::lock::{not_dead, not_locked};
use crate::refusal::Refusal;
use facts::Finding;
use proto::v1;
use proto::v1::node_server::Node;
use std::pin::Pin;
use std::sync::Arc;
use store::{NodeRow, SvidRow};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

pub(crate) use keys::{Claim, Claims};
pub(crate) use proof::Proof;
pub(crate) use rates::Rates;
pub(crate) use sync::{Lost, Moved, cut, rejudge, rejudge_node, tried, update, withdraw, workload};

pub(crate) struct NodeService(pub(crate) Arc<Core>);

/// A node whose SVID stands, and the connection that it came over.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) peer: Peer,
    pub(crate) svid: Arc<SvidRow>,
    pub(crate) node: NodeRow,
    /// Number of the stream that it asks over.
    pub(crate) stream: Option<u64>,
    /// Whether the machine has proved itself over that stream.
    pub(crate) proof: Arc<Proof>,
}

#[tonic::async_trait]
impl Node for NodeService {
    type SyncStream = Pin<Box<dyn Stream<Item = Result<v1::NodeUpdate, Status>> + Send>>;

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::Joined>, Status> {
        let caller = caller(&self.0, &request)?;
        let renewed = renew::renew(&self.0, &caller, request.into_inner()).await;
        renewed.map(Response::new).map_err(|refusal| {
            refused(&self.0, "renew", refusal.finding());
            refusal.into()
        })
    }

    async fn sync(
        &self,
        request: Request<Streaming<v1::NodeMessage>>,
    ) -> Result<Response<Self::SyncStream>, Status> {
        let caller = caller(&self.0, &request)?;
        not_locked(&caller.node)?;
        not_dead(&caller.node, &caller.svid)?;
        let updates = sync::start(&self.0, caller, request.into_inner());
        Ok(Response::new(Box::pin(updates)))
    }
}

fn caller<T>(core: &Core, request: &Request<T>) -> Result<Caller, Refusal> {
    let peer = peer(request)?;
    let svid = core.caller(&peer)?;
    let node = crate::state::node_of(&svid)
        .and_then(|name| core.state().node(name).cloned())
        .ok_or_else(|| {
            Refusal::Denied(
                Finding::new("CALLER-NOT-NODE", "this service is for node agents")
                    .expected("the SVID that a machine was issued when it joined or renewed")
                    .observed(svid.spiffe_id.clone()),
            )
        })?;
    Ok(Caller {
        peer,
        svid,
        node,
        stream: None,
        proof: Arc::default(),
    })
}
