//! A gateway's stream, as a client.

use crate::harness::{DOMAIN, Fixture, Link, PATIENCE, PROGRAM, finding, program};
use crypto::Signer as _;
use proto::v1::gateway_message::Message;
use proto::v1::{Delta, GatewayHello, GatewayMessage, delta};
use std::sync::Arc;
use svid_tls::{BundleSource, OwnSvid};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub(crate) struct Gateway {
    channel: Channel,
    /// Its SVID and what it trusts, to connect again.
    pub(crate) own: (Arc<OwnSvid>, Arc<dyn BundleSource>),
    sender: mpsc::Sender<GatewayMessage>,
    deltas: Streaming<Delta>,
    pub(crate) signer: Arc<crypto::KeyPair>,
}

impl Gateway {
    pub(crate) async fn connect(fixture: &Fixture, uid: u32) -> Result<Self, Status> {
        Self::connect_from(fixture, &format!("g{uid}"), uid).await
    }

    /// From a machine of this name.
    pub(crate) async fn connect_from(
        fixture: &Fixture,
        node: &str,
        uid: u32,
    ) -> Result<Self, Status> {
        let machine = fixture.join(node).await;
        let mut sync = machine.sync().await.unwrap();
        let facts = program(uid, PROGRAM);
        let (_, mut held) = sync.ask("gateway", &facts, Vec::new()).await.unwrap();
        let held = held.remove(0);
        let own = OwnSvid::new(held.svid.certificate_chain, held.key as _).unwrap();
        Self::connect_as(fixture, (own, machine.anchors)).await
    }

    pub(crate) async fn connect_as(
        fixture: &Fixture,
        own: (Arc<OwnSvid>, Arc<dyn BundleSource>),
    ) -> Result<Self, Status> {
        let link = Link::dial(fixture.address(), Arc::clone(&own.0), Arc::clone(&own.1)).await;
        let signer = crypto::KeyPair::generate(crypto::Algorithm::Ed25519).unwrap();
        Self::stream(own, link.channel, Arc::new(signer)).await
    }

    /// A new connection, to a server that was started again, with the same SVID and ledger key.
    pub(crate) async fn reconnect(&self, fixture: &Fixture) -> Self {
        let (svid, anchors) = (Arc::clone(&self.own.0), Arc::clone(&self.own.1));
        let link = Link::dial(fixture.address(), svid, anchors).await;
        let signer = Arc::clone(&self.signer);
        Self::stream(self.own.clone(), link.channel, signer)
            .await
            .unwrap()
    }

    async fn stream(
        own: (Arc<OwnSvid>, Arc<dyn BundleSource>),
        channel: Channel,
        signer: Arc<crypto::KeyPair>,
    ) -> Result<Self, Status> {
        let (sender, receiver) = mpsc::channel(64);
        let deltas = proto::v1::follow_client::FollowClient::new(channel.clone())
            .max_decoding_message_size(64 << 20)
            .stream(ReceiverStream::new(receiver))
            .await?;
        Ok(Self {
            channel,
            own,
            sender,
            deltas: deltas.into_inner(),
            signer,
        })
    }

    /// Another stream with the same SVID, over the same connection.
    pub(crate) async fn again(&self) -> Self {
        self.try_again().await.unwrap()
    }

    /// As [`Gateway::again`], of one that may be cut off.
    pub(crate) async fn try_again(&self) -> Result<Self, Status> {
        let (own, signer) = (self.own.clone(), Arc::clone(&self.signer));
        Self::stream(own, self.channel.clone(), signer).await
    }

    pub(crate) async fn send(&self, message: Message) {
        let message = Some(message);
        self.sender.send(GatewayMessage { message }).await.unwrap();
    }

    pub(crate) async fn hello(&self, followed_size: u64, followed_root: Vec<u8>) {
        let hello = self.greeting(followed_size, followed_root);
        self.send(Message::Hello(hello)).await;
    }

    pub(crate) fn greeting(&self, followed_size: u64, followed_root: Vec<u8>) -> GatewayHello {
        GatewayHello {
            origin: format!("{DOMAIN}/gateway/pg"),
            ledger_key: self.signer.public_key().spki_der().to_vec(),
            followed_size,
            followed_root,
            applied_index: 0,
            followed_checkpoint: String::new(),
            lineage: String::new(),
            own_lineage: String::new(),
        }
    }

    /// Why the stream ended.
    pub(crate) async fn refusal(&mut self) -> facts::Finding {
        loop {
            if let Err(status) = self.next().await {
                return finding(&status);
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Result<delta::Delta, Status> {
        let next = async {
            loop {
                let Some(delta) = self.deltas.message().await? else {
                    return Err(Status::cancelled("ended"));
                };
                match delta.delta {
                    Some(delta::Delta::Heartbeat(_)) | None => {}
                    Some(delta) => return Ok(delta),
                }
            }
        };
        tokio::time::timeout(PATIENCE, next).await.expect("a delta")
    }
}
