//! A served endpoint over a source that the test holds in its hands.

use crate::authority::Authority;
use facts::{Finding, Timestamp};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use workload_api::{
    Calls, Incoming, JwtQuery, JwtSvid, Limits, Listener, Refusal, Source, State, Subscription,
    Validated, View, WorkloadApi, X509Svid,
};

/// What the one workload of this machine may hold.
pub(crate) struct Fake {
    pub(crate) authority: Authority,
    states: watch::Sender<State>,
    pub(crate) identified: AtomicUsize,
}

impl Fake {
    pub(crate) fn show(&self, svids: Vec<Arc<X509Svid>>) {
        let trust = self.authority.trust();
        self.states
            .send_replace(State::Current(Arc::new(View { svids, trust })));
    }

    pub(crate) fn refuse(&self, refusal: Refusal) {
        self.states.send_replace(State::Refused(Arc::new(refusal)));
    }

    pub(crate) fn forget(&self) {
        self.states.send_replace(State::Pending);
    }

    /// Open streams.
    pub(crate) fn streams(&self) -> usize {
        self.states.receiver_count()
    }
}

impl Source for Fake {
    type Caller = Option<i32>;

    fn identify(&self, connection: &UnixStream) -> io::Result<Self::Caller> {
        self.identified.fetch_add(1, Ordering::SeqCst);
        Ok(connection.peer_cred()?.pid())
    }

    async fn subscribe(&self, _: Arc<Self::Caller>) -> Result<Subscription, Refusal> {
        Ok(Subscription {
            states: self.states.subscribe(),
            held: Box::new(()),
        })
    }

    async fn jwt(&self, _: Arc<Self::Caller>, query: JwtQuery) -> Result<Vec<JwtSvid>, Refusal> {
        let State::Current(view) = self.states.borrow().clone() else {
            return Err(Refusal::Denied(Vec::new()));
        };
        let asked = |svid: &&Arc<X509Svid>| {
            query
                .spiffe_id
                .as_ref()
                .is_none_or(|id| *id == svid.spiffe_id)
        };
        let prefix = format!("{}/", self.authority.trust_domain.id());
        Ok(view
            .svids
            .iter()
            .filter(asked)
            .map(|svid| {
                let path = svid.spiffe_id.strip_prefix(&prefix).unwrap();
                self.authority.jwt(path, &query.audience, 300)
            })
            .collect())
    }

    async fn validate(
        &self,
        _: Arc<Self::Caller>,
        audience: String,
        token: String,
    ) -> Result<Validated, Refusal> {
        let valid = spiffe_core::JwtSvid::parse(&token)
            .and_then(|token| token.validate(&self.authority.bundle, &audience, Timestamp::now()))
            .map_err(Refusal::Invalid)?;
        Ok(Validated {
            spiffe_id: valid.spiffe_id.to_string(),
            claims: valid.claims,
        })
    }
}

/// A running endpoint.
pub(crate) struct Endpoint {
    pub(crate) fake: Arc<Fake>,
    pub(crate) uri: String,
    pub(crate) path: PathBuf,
    serving: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Endpoint {
    pub(crate) fn start() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/api.sock");
        let listener = Listener::bind(&path).unwrap();
        let fake = Arc::new(Fake {
            authority: Authority::new("example.org"),
            states: watch::channel(State::Pending).0,
            identified: AtomicUsize::new(0),
        });
        let uri = listener.uri();
        let calls = Calls::new(&limits);
        let incoming = Incoming::new(listener, Arc::clone(&fake), &limits);
        let serving = workload_api::server(&limits)
            .add_service(WorkloadApi::service(Arc::clone(&fake), calls, &limits))
            .serve_with_incoming(incoming);
        Self {
            fake,
            uri,
            path,
            serving: tokio::spawn(async move { serving.await.unwrap() }),
            _directory: directory,
        }
    }

    /// An endpoint whose workload holds `payments/api` and, behind it, `payments/batch`.
    pub(crate) fn with_two() -> Self {
        let endpoint = Self::start();
        let authority = &endpoint.fake.authority;
        endpoint.fake.show(vec![
            authority.x509("payments/api", "internal"),
            authority.x509("payments/batch", "internal"),
        ]);
        endpoint
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

pub(crate) fn denied() -> Refusal {
    Refusal::Denied(vec![
        Finding::new("ASSUME-DENIED", "no policy allows it").expected("a secret digest"),
    ])
}
