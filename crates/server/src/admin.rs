//! Administration. Over the local Unix socket the caller is who the kernel says it is, over the network the
//! person who has entered with a session; every call is a Cedar decision by the estate in force, and every act
//! is a record.

mod acts;
mod again;
mod approving;
mod attest;
mod ear;
mod erasing;
mod estates;
mod listener;
mod packs;
mod questions;
mod reason;
mod records;
mod recover;
mod tokens;

pub(crate) use estates::install;
pub(crate) use listener::{accept, bind};
pub(crate) use reason::cut;
pub use reason::{LONGEST_REASON, whole_reason};
pub(crate) use recover::recovery;

use crate::core::{Core, draft};
use crate::current::Current;
use crate::people::{LoggedIn, logged_in};
use crate::refusal::Refusal;
use ::estate::{Action, Administrator, ResourceRef};
use facts::Finding;
use ledger::body::{self, Body as _};
use ledger_store::Committed;
use proto::v1;
use proto::v1::admin_server::Admin;
use serde::Serialize;
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::Stream;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Response, Status};

pub(crate) struct AdminService(pub(crate) Arc<Core>);

/// An administrator, allowed to do one thing.
#[derive(Clone)]
struct Admitted {
    who: Administrator,
    /// How it is known.
    auth: &'static str,
    action: Action,
    resource: ResourceRef,
    policies: Vec<String>,
    /// The version that admitted; none until there is one.
    by: Option<Arc<Current>>,
}

impl Admitted {
    /// `uid:0` or `person:people/ada`, as records name it.
    fn name(&self) -> String {
        self.who.to_string()
    }

    /// As Cedar names it.
    fn principal(&self) -> String {
        format!("Admin::\"{}\"", self.who)
    }
}

/// Decides whether the caller may.
async fn admit<T>(
    core: &Arc<Core>,
    request: &Request<T>,
    action: Action,
    resource: ResourceRef,
) -> Result<Admitted, Refusal> {
    let (who, auth) = caller(core, request)?;
    decided(core, (who, auth), action, resource).await
}

/// Decides by the estate in force whether `who` may.
async fn decided(
    core: &Arc<Core>,
    (who, auth): (Administrator, &'static str),
    action: Action,
    resource: ResourceRef,
) -> Result<Admitted, Refusal> {
    let current = core.current.load_full();
    let admitted = |policies| Admitted {
        who: who.clone(),
        auth,
        action,
        resource: resource.clone(),
        policies,
        by: current.clone(),
    };
    let Some(current) = &current else {
        // Until the first estate says who administers, the server's own user does.
        if who == Administrator::Uid(rustix::process::getuid().as_raw()) {
            return Ok(admitted(vec!["bootstrap".to_owned()]));
        }
        return Err(Refusal::Denied(
            Finding::new("ADMIN-BOOTSTRAP", "no estate has been applied yet")
                .expected("the user that the server runs as")
                .observed(who.to_string())
                .next("apply the first estate as that user"),
        ));
    };
    let decision = current.estate.decide_administrator(&who, action, &resource);
    if decision.allow {
        return Ok(admitted(decision.policy_ids()));
    }
    let refused = admitted(decision.policy_ids());
    let record = record(&refused, false, &decision.errors.join("; "));
    let recorded = core
        .append_one(draft(record.actor(&refused.name(), auth))?)
        .await;
    if let Err(refusal) = recorded {
        // Refused all the same, and for the reason that the caller can mend.
        tracing::warn!(%refusal, "a refused act of administration is not recorded");
    }
    Err(Refusal::Denied(
        Finding::new("ADMIN-DENIED", format!("no policy lets {who} {action}"))
            .expected(format!(
                "a policy that permits Admin::\"{who}\" to {action} {}",
                match action {
                    // By what it names, a stranger would learn what there is.
                    Action::Revoke | Action::Restore => "this".to_owned(),
                    _ => resource.to_string(),
                }
            ))
            .observed(if decision.policies.is_empty() {
                "none".to_owned()
            } else {
                format!("forbidden by {}", decision.policy_places().join("; "))
            })
            .next("ask an administrator whom the estate names"),
    ))
}

/// Who calls, and how that is known: by the gate of the TLS port, or by the kernel.
///
/// INVARIANT: a person is asked about again once the message is here. The gate saw its head alone, and whoever
/// holds the rest back for an hour has no session of an hour ago.
fn caller<T>(core: &Core, request: &Request<T>) -> Result<(Administrator, &'static str), Refusal> {
    if request.extensions().get::<LoggedIn>().is_some() {
        let peer = crate::join::peer(request)?;
        let person = logged_in(core, &peer)?;
        let who = Administrator::Person(person.person().to_owned());
        return Ok((who, "oidc"));
    }
    let uid = request
        .extensions()
        .get::<UdsConnectInfo>()
        .and_then(|info| info.peer_cred)
        .map(|credentials| credentials.uid())
        .ok_or_else(|| {
            Refusal::Denied(Finding::new(
                "ADMIN-PEER",
                "the kernel does not say who calls",
            ))
        })?;
    Ok((Administrator::Uid(uid), "peercred"))
}

fn record(admitted: &Admitted, allow: bool, detail: &str) -> ledger::RecordBuilder {
    body::Admin {
        principal: admitted.principal(),
        action: admitted.action.to_string(),
        resource: admitted.resource.to_string(),
        allow,
        policies: admitted.policies.clone(),
        detail: detail.chars().take(1_024).collect(),
    }
    .record()
}

/// The record that an act is about to be done.
fn act(admitted: &Admitted, detail: &str) -> Result<ledger::Draft, Refusal> {
    draft(record(admitted, true, detail).actor(&admitted.name(), admitted.auth))
}

async fn record_act(core: &Core, admitted: &Admitted, detail: &str) -> Result<Committed, Refusal> {
    core.append_one(act(admitted, detail)?).await
}

fn document(value: &impl Serialize) -> Result<Response<v1::Document>, Refusal> {
    let json = serde_json::to_string(value)
        .map_err(|error| Refusal::internal("writing an answer", &error))?;
    Ok(Response::new(v1::Document { json }))
}

impl AdminService {
    fn whole(&self) -> ResourceRef {
        ResourceRef::estate(self.0.trust_domain.as_str())
    }

    async fn may<T>(&self, request: &Request<T>, action: Action) -> Result<Admitted, Refusal> {
        admit(&self.0, request, action, self.whole()).await
    }
}

#[tonic::async_trait]
impl Admin for AdminService {
    type RecordsStream = Pin<Box<dyn Stream<Item = Result<v1::RecordItem, Status>> + Send>>;
    type AttestExplainStream = Pin<Box<dyn Stream<Item = Result<v1::Chunk, Status>> + Send>>;
    type AttestDryRunStream = Pin<Box<dyn Stream<Item = Result<v1::Document, Status>> + Send>>;
    type EstatePlanPartsStream = Pin<Box<dyn Stream<Item = Result<v1::Document, Status>> + Send>>;
    type PackStream = Pin<Box<dyn Stream<Item = Result<v1::Chunk, Status>> + Send>>;

    async fn status(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        self.may(&request, Action::Query).await?;
        Ok(document(&questions::status(&self.0))?)
    }

    async fn agents(
        &self,
        request: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        self.may(&request, Action::Query).await?;
        Ok(document(&questions::agents(&self.0))?)
    }

    async fn boot_approvals(
        &self,
        request: Request<v1::BootApprovalsRequest>,
    ) -> Result<Response<v1::BootApprovalsAnswer>, Status> {
        self.may(&request, Action::Query).await?;
        let ring = request.into_inner().ring;
        Ok(Response::new(questions::boot_approvals(&self.0, &ring)?))
    }

    async fn estate_plan(
        &self,
        request: Request<v1::EstateRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        let admitted = self.may(&request, Action::Plan).await?;
        Ok(document(
            &estates::plan(&self.0, &admitted, request.into_inner()).await?,
        )?)
    }

    async fn estate_apply(
        &self,
        request: Request<v1::EstateRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        let admitted = self.may(&request, Action::Apply).await?;
        let applied = estates::apply(&self.0, &admitted, request.into_inner()).await?;
        Ok(document(&applied)?)
    }

    async fn estate_export(
        &self,
        request: Request<v1::EstateExportRequest>,
    ) -> Result<Response<v1::EstateFiles>, Status> {
        let admitted = self.may(&request, Action::Export).await?;
        let version = request.into_inner().version;
        let exported = estates::export(&self.0, &version).await?;
        record_act(&self.0, &admitted, &format!("version {}", exported.version)).await?;
        Ok(Response::new(exported))
    }

    async fn token_create(
        &self,
        request: Request<v1::TokenCreateRequest>,
    ) -> Result<Response<v1::TokenCreated>, Status> {
        let admitted = self.may(&request, Action::TokenCreate).await?;
        let created = acts::token_create(&self.0, &admitted, request.into_inner()).await?;
        Ok(Response::new(created))
    }

    async fn revoke(
        &self,
        request: Request<v1::RevokeRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        let asked = acts::target(&self.0, request.get_ref());
        let admitted = admit(&self.0, &request, Action::Revoke, asked.resource).await?;
        let target = asked.named?;
        let revoked = acts::revoke(&self.0, &admitted, target, request.into_inner()).await?;
        Ok(document(&revoked)?)
    }

    async fn readmit(
        &self,
        request: Request<v1::ReadmitRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        let machine = acts::machine(&request.get_ref().node);
        let admitted = admit(&self.0, &request, Action::Readmit, machine).await?;
        let readmitted = acts::readmit(&self.0, &admitted, request.into_inner()).await?;
        Ok(document(&readmitted)?)
    }

    async fn restore(
        &self,
        request: Request<v1::RestoreRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        let asked = acts::identity(&self.0, &request.get_ref().identity);
        let admitted = admit(&self.0, &request, Action::Restore, asked.resource).await?;
        let path = asked.named?;
        let restored = acts::restore(&self.0, &admitted, &path, request.into_inner()).await?;
        Ok(document(&restored)?)
    }

    async fn recover(
        &self,
        request: Request<v1::RecoverRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        let admitted = self.may(&request, Action::Apply).await?;
        let recovered = recover::recover(&self.0, &admitted, request.into_inner()).await?;
        Ok(document(&recovered)?)
    }

    async fn why(
        &self,
        request: Request<v1::WhyRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        self.may(&request, Action::Query).await?;
        Ok(document(
            &questions::why(&self.0, request.into_inner()).await?,
        )?)
    }

    async fn who_can(
        &self,
        request: Request<v1::WhoCanRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        self.may(&request, Action::Query).await?;
        Ok(document(
            &questions::who_can(&self.0, request.into_inner()).await?,
        )?)
    }

    async fn what_can(
        &self,
        request: Request<v1::WhatCanRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        self.may(&request, Action::Query).await?;
        Ok(document(
            &questions::what_can(&self.0, request.into_inner()).await?,
        )?)
    }

    async fn records(
        &self,
        request: Request<v1::RecordsRequest>,
    ) -> Result<Response<Self::RecordsStream>, Status> {
        self.may(&request, Action::Query).await?;
        let (core, request) = (Arc::clone(&self.0), request.into_inner());
        // Ledgers of gateways that went are opened again for it.
        let begun = tokio::task::spawn_blocking(move || records::stream(&core, &request)).await;
        let stream = begun.map_err(|error| Refusal::internal("searching records", &error))??;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn verdict(
        &self,
        request: Request<v1::VerdictRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        self.may(&request, Action::Query).await?;
        let index = request.into_inner().index;
        Ok(document(&questions::verdict(&self.0, index)?)?)
    }

    async fn attest_ask(
        &self,
        request: Request<v1::AttestAskRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        self.may(&request, Action::Query).await?;
        Ok(document(
            &attest::ask(&self.0, &request.into_inner().node).await?,
        )?)
    }

    async fn ear(
        &self,
        request: Request<v1::EarRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        let admitted = self.may(&request, Action::Pack).await?;
        Ok(document(
            &ear::ear(&self.0, &admitted, request.into_inner()).await?,
        )?)
    }

    async fn pack(
        &self,
        request: Request<v1::PackRequest>,
    ) -> Result<Response<Self::PackStream>, Status> {
        let admitted = self.may(&request, Action::Pack).await?;
        let asked = request.into_inner();
        let question = packs::question(&asked.question)?;
        record_act(&self.0, &admitted, &question.to_json()).await?;
        let chunks = packs::build(&self.0, question, asked.certificates).await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(
            chunks.into_iter().map(Ok),
        ))))
    }

    async fn attest_explain(
        &self,
        request: Request<v1::AttestQuestion>,
    ) -> Result<Response<Self::AttestExplainStream>, Status> {
        self.may(&request, Action::Query).await?;
        let chunks = attest::explain(&self.0, request.into_inner()).await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(
            chunks.into_iter().map(Ok),
        ))))
    }

    async fn attest_dry_run(
        &self,
        request: Request<v1::DryRunRequest>,
    ) -> Result<Response<Self::AttestDryRunStream>, Status> {
        self.may(&request, Action::Plan).await?;
        let stream = attest::dry_run(&self.0, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }

    async fn delegations(
        &self,
        request: Request<v1::DelegationsRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        self.may(&request, Action::Query).await?;
        let whose = request.into_inner().identity;
        Ok(document(&acts::delegations(&self.0, &whose)?)?)
    }

    async fn estate_plan_parts(
        &self,
        request: Request<v1::EstatePlanPartsRequest>,
    ) -> Result<Response<Self::EstatePlanPartsStream>, Status> {
        let admitted = self.may(&request, Action::Plan).await?;
        let parts = estates::plan_parts(&self.0, &admitted, request.into_inner()).await?;
        Ok(Response::new(Box::pin(tokio_stream::iter(
            parts.into_iter().map(Ok),
        ))))
    }

    async fn erase(
        &self,
        request: Request<v1::EraseRequest>,
    ) -> Result<Response<v1::Document>, Status> {
        let admitted = self.may(&request, Action::LedgerErase).await?;
        let erased = erasing::erase(&self.0, &admitted, request.into_inner()).await?;
        Ok(document(&erased)?)
    }
}
