//! AuthZEN over HTTP: a request in, a recorded answer out.

use crate::authzen::{self, Batch, Discovery, Evaluation, Search, Semantic, Target};
use crate::callers::{Callers, Right, Rights, Who};
use crate::check;
use crate::config::Config;
use crate::decider::{Decider, Version};
use crate::ext_authz::Rules;
use crate::local::Attest;
use crate::metrics::Metrics;
use crate::question::{Known, Question, Refused};
use crate::record::{self, Outcome, Told};
use axum::body::{Body, to_bytes};
use axum::extract::{Extension, Request};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use facts::{Finding, Timestamp};
use gateway::{Core, Principal, SessionRecorder};
use http_body_util::LengthLimitError;
use rustls_pki_types::CertificateDer;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What all connections share.
pub(crate) struct Plane {
    pub(crate) core: Arc<Core>,
    pub(crate) config: Config,
    pub(crate) decider: Decider,
    pub(crate) callers: Arc<Callers>,
    pub(crate) rules: Rules,
    pub(crate) metrics: Arc<Metrics>,
    discovery: Option<Discovery>,
    /// In a node agent, which evaluates and does nothing else.
    local: bool,
    /// Questions under way beyond the processors there are would only wait for one another.
    deciding: Semaphore,
    /// A search is some thousand questions; one at a time leaves room for the others.
    pub(crate) searching: Semaphore,
    /// A question to records reads files; one at a time.
    pub(crate) reading: Semaphore,
}

impl Plane {
    /// # Errors
    /// `PDP-CONFIG`.
    pub(crate) fn new(
        config: Config,
        core: Arc<Core>,
        attest: Option<Arc<dyn Attest>>,
    ) -> Result<Arc<Self>, Finding> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Arc::new(Self {
            decider: Decider::follow(core.following().clone()),
            local: attest.is_some(),
            callers: Arc::new(Callers::new(&config, attest)?),
            rules: Rules::new(config.rules())?,
            metrics: Arc::default(),
            discovery: config.listen.url.as_deref().map(Discovery::of),
            deciding: Semaphore::new(processors),
            searching: Semaphore::new(1),
            reading: Semaphore::new(1),
            core,
            config,
        }))
    }

    /// What a connection is served by; each has an [`Asker`] among its extensions.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        let mut router = Router::new()
            .route(authzen::EVALUATION, post(evaluation))
            .route(authzen::EVALUATIONS, post(evaluations));
        if !self.local {
            router = router
                .route(authzen::SEARCH_SUBJECT, post(subjects))
                .route(authzen::SEARCH_RESOURCE, post(resources))
                .route(authzen::SEARCH_ACTION, post(actions))
                .route(authzen::WELL_KNOWN, get(discovery))
                .merge(crate::ask::routes())
                .merge(crate::records::routes());
        }
        if self.config.ext_authz.is_some() {
            router = router.route_service(check::PATH, check::service(self));
        }
        router.layer(from_fn(with_request_id))
    }
}

/// Whoever is at the other end of a connection.
pub(crate) struct Asker {
    pub(crate) plane: Arc<Plane>,
    pub(crate) who: Who,
    pub(crate) recorder: SessionRecorder,
}

/// A request that is not answered.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: StatusCode,
    pub(crate) finding: Finding,
}

impl Failure {
    fn new(status: StatusCode, finding: Finding) -> Self {
        Self { status, finding }
    }

    /// Nothing can be decided or recorded now.
    pub(crate) fn unavailable(finding: Finding) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, finding)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let status = StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST);
        Self::new(status, refused.finding)
    }
}

pub(crate) type Answered = Result<Value, Failure>;

/// One question of a request: what was asked, and what that is in the estate's words, by whom it was shown.
pub(crate) struct Asked {
    pub(crate) told: Told,
    pub(crate) question: Result<(Question, Option<Principal>), Refused>,
}

async fn evaluation(Extension(asker): Extension<Arc<Asker>>, request: Request) -> Response {
    let answer = async {
        let (rights, body) = asker.take(request, Right::Evaluate).await?;
        let evaluation = authzen::parse_evaluation(&body)?;
        asker.one(evaluation, &rights, "evaluation").await
    };
    asker.respond(answer.await)
}

async fn evaluations(Extension(asker): Extension<Arc<Asker>>, request: Request) -> Response {
    let answer = async {
        let (rights, body) = asker.take(request, Right::Evaluate).await?;
        let most = asker.plane.config.listen.max_evaluations;
        match authzen::parse_evaluations(&body, most)? {
            Batch::One(evaluation) => asker.one(*evaluation, &rights, "evaluations").await,
            Batch::Many {
                semantic,
                questions,
            } => {
                let answers = asker
                    .many(questions, semantic, &rights, "evaluations")
                    .await?;
                Ok(json!({"evaluations": answers}))
            }
        }
    };
    asker.respond(answer.await)
}

async fn subjects(asker: Extension<Arc<Asker>>, request: Request) -> Response {
    search(asker, request, Target::Subject).await
}

async fn resources(asker: Extension<Arc<Asker>>, request: Request) -> Response {
    search(asker, request, Target::Resource).await
}

async fn actions(asker: Extension<Arc<Asker>>, request: Request) -> Response {
    search(asker, request, Target::Action).await
}

async fn search(asker: Extension<Arc<Asker>>, request: Request, target: Target) -> Response {
    let Extension(asker) = asker;
    let answer = async {
        let (rights, body) = asker.take(request, Right::Search).await?;
        let search = authzen::parse_search(target, &body, asker.plane.config.listen.max_page)?;
        asker.search(search, &rights).await
    };
    asker.respond(answer.await)
}

async fn discovery(Extension(asker): Extension<Arc<Asker>>) -> Response {
    match &asker.plane.discovery {
        Some(document) => Json(document).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// "If the PEP specified a request identifier in the request, the PDP MUST include the same identifier in
/// the response to that request."
async fn with_request_id(request: Request, next: Next) -> Response {
    let id = request.headers().get(&REQUEST_ID).cloned();
    let mut response = next.run(request).await;
    if let Some(id) = id {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

impl Asker {
    /// The body of a request that its caller may make.
    pub(crate) async fn take(
        &self,
        request: Request,
        right: Right,
    ) -> Result<(Rights, Vec<u8>), Failure> {
        let denied = |finding| Failure::new(StatusCode::FORBIDDEN, finding);
        let rights = self.who.rights(&self.plane.callers).await.map_err(denied)?;
        let allowed = match right {
            Right::Evaluate => rights.need_some_evaluation(),
            other => rights.need(other),
        };
        allowed.map_err(denied)?;
        let kind = request.headers().get(header::CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let essence = kind.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case("application/json") {
            return Err(Failure::new(
                StatusCode::BAD_REQUEST,
                Finding::new("PDP-CONTENT-TYPE", "the request is no JSON")
                    .expected("Content-Type: application/json")
                    .observed(crate::names::shown(kind)),
            ));
        }
        let body = self.body(request.into_body()).await?;
        Ok((rights, body))
    }

    async fn body(&self, body: Body) -> Result<Vec<u8>, Failure> {
        let listen = &self.plane.config.listen;
        let reading = to_bytes(body, listen.max_body_bytes);
        let read = tokio::time::timeout(listen.timeout(), reading).await;
        match read {
            Ok(Ok(bytes)) => Ok(bytes.to_vec()),
            Ok(Err(error)) => Err(if error.into_inner().is::<LengthLimitError>() {
                Failure::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    Finding::new("PDP-BODY", "the request is too large")
                        .expected(format!("at most {} bytes", listen.max_body_bytes))
                        .next("send several, or raise max_body_bytes in pdp.toml"),
                )
            } else {
                Failure::new(
                    StatusCode::BAD_REQUEST,
                    Finding::new("PDP-BODY", "the request did not come to its end"),
                )
            }),
            Err(_) => Err(Failure::new(
                StatusCode::REQUEST_TIMEOUT,
                Finding::new("PDP-BODY", "the request took too long to come"),
            )),
        }
    }

    pub(crate) fn version(&self, now: Timestamp) -> Result<Version, Failure> {
        self.plane
            .decider
            .version(now)
            .map_err(Failure::unavailable)
    }

    async fn one(&self, evaluation: Evaluation, rights: &Rights, by: &'static str) -> Answered {
        let questions = vec![Ok(evaluation)];
        let mut answers = self
            .many(questions, Semantic::default(), rights, by)
            .await?;
        answers.pop().ok_or_else(|| {
            let finding = Finding::new("PDP-TASK", "the question got no answer");
            Failure::new(StatusCode::INTERNAL_SERVER_ERROR, finding)
        })
    }

    /// Answers as many of `questions` as `semantic` asks for, by one version of the estate.
    async fn many(
        &self,
        questions: Vec<Result<Evaluation, Refused>>,
        semantic: Semantic,
        rights: &Rights,
        by: &'static str,
    ) -> Result<Vec<Value>, Failure> {
        let now = Timestamp::now();
        let reading = async {
            let mut asked = Vec::with_capacity(questions.len());
            for question in questions {
                asked.push(match question {
                    Ok(evaluation) => Asked {
                        told: Told::of(&evaluation),
                        question: self.question(&evaluation, rights, now).await,
                    },
                    Err(refused) => Asked {
                        told: Told::default(),
                        question: Err(refused),
                    },
                });
            }
            asked
        };
        // An SVID may have to wait for its checkpoint; many of them wait together no longer than one request.
        let limit = self.plane.config.listen.timeout();
        let asked = tokio::time::timeout(limit, reading).await;
        let asked = asked.map_err(|_| Failure::unavailable(late()))?;
        // What decides is what is in force once everything is known.
        let version = self.version(Timestamp::now())?;
        let outcomes = self.decide(asked, semantic, &version).await?;
        let ids = self.record(by, by, &outcomes, &version).await?;
        let answers = outcomes
            .iter()
            .zip(&ids)
            .map(|((_, outcome), id)| match outcome {
                Outcome::Answered(answered) => {
                    let (question, answer) = answered.as_ref();
                    authzen::decision(answer, &question.facts, &version, Some(id))
                }
                Outcome::Refused(refused) => authzen::refusal(refused, Some(id)),
            });
        Ok(answers.collect())
    }

    async fn question(
        &self,
        evaluation: &Evaluation,
        rights: &Rights,
        now: Timestamp,
    ) -> Result<(Question, Option<Principal>), Refused> {
        let subject = &evaluation.subject;
        let path = crate::subject(self.plane.core.trust_domain(), &subject.kind, &subject.id);
        if let Ok(path) = &path {
            rights.need_about(path).map_err(Refused::forbidden)?;
        }
        let chain = match subject.chain()? {
            // What the agent holds for the caller shows as much, and nobody can show another's.
            None => {
                let held = path.ok().and_then(|path| rights.held(&path));
                let chain = held.map(|held| held.chain.clone());
                chain.filter(|chain| !chain.is_empty())
            }
            shown => shown,
        };
        let shown = match chain {
            None => None,
            Some(chain) => Some(self.shown(&chain, subject).await),
        };
        let (shown, presenter) = match shown {
            Some(Ok((known, presenter))) => (Some(Ok(known)), Some(presenter)),
            Some(Err(finding)) => (Some(Err(finding)), None),
            None => (None, None),
        };
        let may_state = rights.has(Right::StateFacts);
        let domain = self.plane.core.trust_domain();
        let mut question = evaluation.question(domain, shown, may_state, now)?;
        let told = question.on_behalf_of.take();
        let token = evaluation.subject.delegation();
        let id = presenter.as_ref().map(|presenter| &presenter.spiffe_id);
        question.on_behalf_of = self.plane.acting(told, token, id).await?;
        Ok((question, presenter))
    }

    /// What the SVID of a subject says, if it would be let in at a gateway.
    async fn shown(
        &self,
        chain: &[Vec<u8>],
        subject: &authzen::Subject,
    ) -> Result<(Known, Principal), Finding> {
        let ders: Vec<_> = chain
            .iter()
            .map(|der| CertificateDer::from(der.as_slice()))
            .collect();
        let principal = self.plane.core.admit(&ders).await?;
        let domain = self.plane.core.trust_domain();
        let path = crate::subject(domain, &subject.kind, &subject.id);
        if path.is_ok_and(|path| path == principal.path) {
            let known = Known::Issued {
                facts: principal.facts.clone(),
                issuance: principal.issuance,
            };
            return Ok((known, principal));
        }
        Err(Finding::new(
            "PDP-SUBJECT-CERTIFICATE",
            "the SVID that was shown is not the subject's",
        )
        .expected(crate::names::shown(&subject.id))
        .observed(principal.spiffe_id.to_string()))
    }

    /// Off the async threads: a question may take a millisecond, and many come in one request.
    pub(crate) async fn decide(
        &self,
        asked: Vec<Asked>,
        semantic: Semantic,
        version: &Version,
    ) -> Result<Vec<(Told, Outcome)>, Failure> {
        let _permit = self.plane.deciding.acquire().await;
        let version = version.clone();
        let plane = Arc::clone(&self.plane);
        let deciding = tokio::task::spawn_blocking(move || {
            let mut outcomes = Vec::with_capacity(asked.len());
            for Asked { told, question } in asked {
                // INVARIANT 7: what was revoked since it was shown, be it while others of the request were waited for
                // or decided, counts no more.
                let question = question.and_then(|(question, presenter)| {
                    plane.still(&question, presenter.as_ref())?;
                    Ok(question)
                });
                let outcome = match question {
                    Ok(question) => {
                        let answer = version.decide(&question);
                        Outcome::Answered(Box::new((question, answer)))
                    }
                    Err(refused) => Outcome::Refused(refused),
                };
                let ends = semantic.ends_at(outcome.allow());
                outcomes.push((told, outcome));
                if ends {
                    break;
                }
            }
            outcomes
        });
        deciding.await.map_err(|error| task(&error))
    }

    /// INVARIANT 5: nothing is answered that is not in the ledger. The ids of the records.
    pub(crate) async fn record(
        &self,
        by: &'static str,
        statement: &str,
        outcomes: &[(Told, Outcome)],
        version: &Version,
    ) -> Result<Vec<String>, Failure> {
        let domain = self.plane.core.trust_domain();
        let answered: Vec<_> = outcomes
            .iter()
            .map(|(told, outcome)| record::answered(statement, told, outcome, version, domain))
            .collect();
        let ids = self
            .recorder
            .answered(&answered)
            .await
            .map_err(|error| Failure::unavailable(error.finding()))?;
        for (_, outcome) in outcomes {
            self.plane.metrics.decided(by, outcome.allow());
        }
        Ok(ids.iter().map(ToString::to_string).collect())
    }

    async fn search(&self, search: Search, rights: &Rights) -> Answered {
        let now = Timestamp::now();
        let version = self.version(now)?;
        let known = self.known(&search, rights, now).await?;
        let statement = format!("search/{}", search.target().as_str());
        let estate = (
            version.estate().version().to_owned(),
            version.index().unwrap_or_default(),
        );
        self.recorder
            .searched(&statement, &search.about(), &estate)
            .await
            .map_err(|error| Failure::unavailable(error.finding()))?;
        let _permit = self.plane.searching.acquire().await;
        let domain = self.plane.core.trust_domain().clone();
        let tries = self.plane.config.listen.max_tries;
        let searching = tokio::task::spawn_blocking(move || {
            let found = search.run(&version, &known, &domain, tries);
            found.response(&known, &version)
        });
        let found = searching.await.map_err(|error| task(&error))?;
        self.plane.metrics.searches.inc();
        Ok(found)
    }

    async fn known(
        &self,
        search: &Search,
        rights: &Rights,
        now: Timestamp,
    ) -> Result<Known, Failure> {
        if search
            .subject()
            .is_some_and(authzen::Subject::acts_for_others)
        {
            // Without the chain it would list more than the subject may do on behalf of others.
            return Err(Refused::malformed(
                Finding::new("PDP-DELEGATION-SEARCH", "a search is about what a subject may do itself")
                    .next("ask evaluations of what was found, with on_behalf_of; or trilith who-can --on-behalf-of"),
            )
            .into());
        }
        let may_state = rights.has(Right::StateFacts);
        let stated = authzen::stated(search.context.as_ref(), may_state, now)?;
        let chain = match search.subject() {
            Some(subject) => subject.chain()?.map(|chain| (subject, chain)),
            None => None,
        };
        Ok(match (chain, stated) {
            (Some(_), Some(_)) => {
                return Err(Refused::malformed(Finding::new(
                    "PDP-FACTS-TWICE",
                    "the subject's SVID was shown, so context.facts may not state facts",
                ))
                .into());
            }
            (Some((subject, chain)), None) => self
                .shown(&chain, subject)
                .await
                .map(|(known, _)| known)
                .map_err(Refused::forbidden)?,
            (None, Some(stated)) => Known::Stated(stated),
            (None, None) => Known::Nothing,
        })
    }

    pub(crate) fn respond(&self, answer: Answered) -> Response {
        match answer {
            Ok(body) => Json(body).into_response(),
            Err(Failure { status, finding }) => {
                self.plane.metrics.refuse(&finding.code);
                tracing::info!(%finding, status = status.as_u16(), "a question is not answered");
                (status, finding.to_string()).into_response()
            }
        }
    }
}

fn late() -> Finding {
    Finding::new(
        "PDP-LATE",
        "it could not be learned in time whether the SVIDs that were shown count",
    )
    .next("ask again, about fewer at once; if it goes on, look at the connection to the server")
}

pub(crate) fn task(error: &tokio::task::JoinError) -> Failure {
    let finding = Finding::new("PDP-TASK", "deciding did not come to its end")
        .observed(error.to_string())
        .next("look at the log of trilith pdp");
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, finding)
}
