//! For delegates, over mTLS with their SVIDs.

use super::ask::{Made, issued};
use super::{Ask, next};
use crate::core::Core;
use crate::join::{peer, refused};
use proto::v1;
use proto::v1::delegate_server::Delegate;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(crate) struct DelegateService(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl Delegate for DelegateService {
    async fn next(
        &self,
        request: Request<v1::DelegateRequest>,
    ) -> Result<Response<v1::Delegated>, Status> {
        let core = &self.0;
        let peer = peer(&request)?;
        let svid = core.caller(&peer)?;
        let mut asked = request.into_inner();
        let token = std::mem::take(&mut asked.token);
        let shown = peer.svid.as_deref();
        let issued = shown.and_then(|shown| issued(core, shown));
        match next(core, &svid, issued, &token, asked.into()).await {
            Ok(made) => Ok(Response::new(told(made))),
            Err(refusal) => {
                refused(core, "delegate", refusal.finding());
                Err(refusal.into())
            }
        }
    }
}

impl From<v1::DelegateRequest> for Ask {
    fn from(asked: v1::DelegateRequest) -> Self {
        Self {
            to: asked.to,
            actions: asked.actions,
            resources: asked.resources,
            ttl_s: asked.ttl_s,
        }
    }
}

pub(crate) fn told(made: Made) -> v1::Delegated {
    v1::Delegated {
        token: made.token,
        jti: made.jti,
        expires: made.expires_at.as_millis(),
        index: made.index,
    }
}
