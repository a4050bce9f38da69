//! Envoy's `Check` over gRPC. Every answer is a `CheckResponse` that says yes or no, also where nothing can
//! be decided: a gRPC error would let a request through an Envoy with `failure_mode_allow`.

use crate::authzen::Semantic;
use crate::callers::Right;
use crate::ext_authz::{self, HttpRequest, Mapped};
use crate::names;
use crate::question::{Known, OnBehalfOf, Question, Refused};
use crate::record::{Outcome, Told};
use crate::service::{Asked, Asker, Plane};
use facts::{Finding, Timestamp};
use gateway::Principal;
use proto::ext_authz::authorization_server::{Authorization, AuthorizationServer};
use proto::ext_authz::check_response::HttpResponse;
use proto::ext_authz::{
    CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption, HttpStatus,
    OkHttpResponse, Status as RpcStatus, attribute_context,
};
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use tonic::{Request, Response, Status};

pub(crate) const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";
/// Where a request that is let through says by which record, and one that is not its client's answer.
const DECISION: &str = "x-trilith-decision";
/// For whom the client acts, who began it first, with commas between them. It narrows, so the client may say it
/// where `delegation = "claimed"` lets it.
const ON_BEHALF_OF: &str = "x-trilith-on-behalf-of";
/// The client's delegation token, which proves for whom it acts.
const DELEGATION: &str = "x-trilith-delegation";

// google.rpc.Code
const OK: i32 = 0;
const PERMISSION_DENIED: i32 = 7;
const UNAVAILABLE: i32 = 14;

pub(crate) struct Check;

pub(crate) fn service(plane: &Arc<Plane>) -> AuthorizationServer<Check> {
    AuthorizationServer::new(Check).max_decoding_message_size(plane.config.listen.max_body_bytes)
}

#[tonic::async_trait]
impl Authorization for Check {
    async fn check(
        &self,
        request: Request<CheckRequest>,
    ) -> Result<Response<CheckResponse>, Status> {
        let asker = request.extensions().get::<Arc<Asker>>().cloned();
        let asker = asker.ok_or_else(|| Status::internal("a connection without its caller"))?;
        Ok(Response::new(asker.check(request.into_inner()).await))
    }
}

impl Asker {
    async fn check(&self, request: CheckRequest) -> CheckResponse {
        let allowed = match self.who.rights(&self.plane.callers).await {
            Ok(rights) => rights.need(Right::Evaluate),
            Err(finding) => Err(finding),
        };
        if let Err(finding) = allowed {
            self.plane.metrics.refuse(&finding.code);
            return denied(403, PERMISSION_DENIED, &finding, None);
        }
        match self.checked(request).await {
            Ok(response) => response,
            Err(finding) => {
                self.plane.metrics.refuse(&finding.code);
                tracing::warn!(%finding, "a request is denied because nothing can be decided");
                denied(503, UNAVAILABLE, &finding, None)
            }
        }
    }

    async fn checked(&self, request: CheckRequest) -> Result<CheckResponse, Finding> {
        let attributes = request.attributes.unwrap_or_default();
        let source = attributes.source.unwrap_or_default();
        let http = attributes.request.and_then(|request| request.http);
        let http = http.unwrap_or_default();
        let mapped = self.plane.rules.map(&HttpRequest {
            method: &http.method,
            path: &http.path,
            host: &http.host,
        });
        let rule = mapped.as_ref().ok().map(|mapped| mapped.rule.clone());
        let statement = format!("ext_authz/{}", rule.as_deref().unwrap_or("-"));
        let told = Told::of_request(&source.principal, mapped.as_ref().ok());
        let question = match mapped {
            Ok(mapped) => {
                let others = http.headers.get(ON_BEHALF_OF);
                let token = http.headers.get(DELEGATION);
                let said = (others.map(String::as_str), token.map(String::as_str));
                self.question_of(&source, mapped, said).await
            }
            Err(refused) => Err(refused),
        };
        // What decides is what is in force once the principal is known.
        let version = self
            .version(Timestamp::now())
            .map_err(|failure| failure.finding)?;
        let decided = self
            .decide(
                vec![Asked { told, question }],
                Semantic::ExecuteAll,
                &version,
            )
            .await;
        let outcomes = decided.map_err(|failure| failure.finding)?;
        let ids = self
            .record("ext_authz", &statement, &outcomes, &version)
            .await;
        let ids = ids.map_err(|failure| failure.finding)?;
        let id = ids.first().map(String::as_str);
        Ok(match outcomes.first() {
            Some((_, outcome)) => said(outcome, id),
            None => denied(503, UNAVAILABLE, &nothing(), None),
        })
    }

    /// Envoy forwards the peer's leaf alone: whoever issued it issued this process's own SVID, too, or did so
    /// before the authority's last rotations.
    async fn question_of(
        &self,
        source: &attribute_context::Peer,
        mapped: Mapped,
        (others, token): (Option<&str>, Option<&str>),
    ) -> Result<(Question, Option<Principal>), Refused> {
        let leaf = ext_authz::certificate(&source.certificate)?;
        let core = &self.plane.core;
        let issuers = core.own().issuers.load_full();
        let mut refused = Finding::new(
            "PDP-ISSUER",
            "this process has no identity yet, and so no certificate of who issues them",
        )
        .next("look at the node agent's log");
        for issuer in issuers.iter() {
            let chain = [leaf.as_slice(), issuer.as_slice()].map(CertificateDer::from);
            match core.admit(&chain).await {
                Ok(principal) => {
                    let told = others
                        .map(|others| {
                            let others: Vec<&str> = others.split(',').map(str::trim).collect();
                            names::chain(core.trust_domain(), &others, &principal.path)
                        })
                        .transpose()?
                        .map(OnBehalfOf::Claimed);
                    let presenter = Some(&principal.spiffe_id);
                    let on_behalf_of = self.plane.acting(told, token, presenter).await?;
                    let question = Question {
                        subject: principal.path.clone(),
                        action: mapped.action,
                        resource: mapped.resource,
                        facts: Known::Issued {
                            facts: principal.facts.clone(),
                            issuance: principal.issuance,
                        },
                        on_behalf_of,
                    };
                    return Ok((question, Some(principal)));
                }
                Err(finding) => refused = finding,
            }
        }
        Err(Refused::forbidden(refused))
    }
}

fn nothing() -> Finding {
    Finding::new("PDP-TASK", "the question got no answer")
}

fn said(outcome: &Outcome, id: Option<&str>) -> CheckResponse {
    match outcome {
        Outcome::Answered(answered) if answered.1.decision.allow => CheckResponse {
            status: Some(RpcStatus {
                code: OK,
                message: String::new(),
            }),
            http_response: Some(HttpResponse::OkResponse(OkHttpResponse {
                headers: headers(id),
                // What shows for whom the client acts is for this decision, and not for whom it leads to.
                headers_to_remove: vec![ON_BEHALF_OF.to_owned(), DELEGATION.to_owned()],
            })),
        },
        // Who is denied does not learn the policies; the record has them.
        Outcome::Answered(_) => {
            let finding = Finding::new(
                "PDP-DENIED",
                "no policy allows this request, or one forbids it",
            );
            denied(403, PERMISSION_DENIED, &finding, id)
        }
        Outcome::Refused(refused) => denied(403, PERMISSION_DENIED, &refused.finding, id),
    }
}

fn denied(status: i32, code: i32, finding: &Finding, id: Option<&str>) -> CheckResponse {
    let mut body = finding.to_string();
    if let Some(id) = id {
        body.push_str(&format!("; decision {id}"));
    }
    body.push('\n');
    CheckResponse {
        status: Some(RpcStatus {
            code,
            message: finding.code.to_string(),
        }),
        http_response: Some(HttpResponse::DeniedResponse(DeniedHttpResponse {
            status: Some(HttpStatus { code: status }),
            headers: headers(id),
            body,
        })),
    }
}

fn headers(id: Option<&str>) -> Vec<HeaderValueOption> {
    let header = id.map(|id| HeaderValueOption {
        header: Some(HeaderValue {
            key: DECISION.to_owned(),
            value: id.to_owned(),
        }),
    });
    header.into_iter().collect()
}
