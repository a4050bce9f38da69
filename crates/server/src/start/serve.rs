//! A running server: its listeners and its upkeep, until it is told to stop or its ledger fails.

use super::open::{Opened, StartError};
use crate::admin::{self, AdminService};
use crate::authority::{self, Authority};
use crate::clock::{Clock, ReadClock, system_clock};
use crate::config::Config;
use crate::core::Core;
use crate::cosign::{Shown, Witnesses};
use crate::current::Current;
use crate::delegating::DelegateService;
use crate::follow::FollowService;
use crate::http;
use crate::hub::{Hub, Published};
use crate::join::{JoinService, Joins};
use crate::journal::{Entry, Journal};
use crate::labels::Labels;
use crate::listener;
use crate::metrics::Metrics;
use crate::mirrors::Mirrors;
use crate::node::{NodeService, rejudge};
use crate::people::{self, People, PeopleService};
use crate::pool::Pool;
use crate::publish::Publishing;
use crate::signing::{Foreign, HeadError, Signing, behind};
use crate::state::State;
use crate::upkeep;
use crypto::{Algorithm, Signer};
use custody::Alone;
use estate::{Estate, EstateFiles};
use facts::{Finding, Timestamp};
use identity::AuthorityDocument;
use ledger::HexDigest;
use ledger::body::{self, Body as _};
use ledger::{Base64, Decimal, Digest};
use ledger_store::{Blobs, Ledger};
use proto::v1::admin_server::AdminServer;
use proto::v1::delegate_server::DelegateServer;
use proto::v1::follow_server::FollowServer;
use proto::v1::join_server::JoinServer;
use proto::v1::node_server::NodeServer;
use proto::v1::people_server::PeopleServer;
use spiffe_core::TrustDomain;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use store::EstateRow;
use svid_tls::{ClientAuth, OwnSvid};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;

/// Records of a gateway come in batches of this size at most.
const FOLLOW_MESSAGE: usize = 8 << 20;
/// An ID token and a proof, from whoever it is.
const PEOPLE_MESSAGE: usize = 32 << 10;
/// A token of eight links, and whom it is to let act.
const DELEGATE_MESSAGE: usize = 128 * 1_024;
/// Between the last record and a start, without a word.
const LEAP: std::time::Duration = std::time::Duration::from_secs(86_400);
/// Of one connection at once: an agent or a gateway has a handful, and each may hold a message.
const STREAMS: u32 = 64;

/// A started server. Dropping it without [`Running::stop`] ends its tasks at the next chance.
pub struct Running {
    pub(crate) core: Arc<Core>,
    ledger: Ledger,
    /// Given back once the ledger is closed.
    _alone: Alone,
    tasks: JoinSet<()>,
    failure: Arc<OnceLock<Failure>>,
    /// Where agents and gateways connect.
    pub listen: SocketAddr,
    pub http_listen: SocketAddr,
}

/// Why a server ends by itself.
#[derive(Debug, Clone)]
enum Failure {
    Ledger(String),
    /// What it goes by is not what its clock shows.
    Clock(Finding),
}

/// Starts, serves until `shutdown` or a failure, and stops.
///
/// # Errors
/// [`StartError`]; [`StartError::Failed`] when the ledger failed and the process must end, `SERVER-CLOCK` when its clock was
/// set ahead and stays so.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), StartError> {
    let running = start(config).await?;
    tokio::select! {
        () = shutdown => {}
        () = running.core.stop.cancelled() => {}
    }
    running.stop().await
}

/// Starts; returns when every listener is bound.
///
/// # Errors
/// [`StartError`].
pub async fn start(config: Config) -> Result<Running, StartError> {
    start_by(config, system_clock).await
}

/// As [`start`], by other clocks than the system's.
///
/// # Errors
/// [`StartError`].
pub async fn start_by(config: Config, clock: ReadClock) -> Result<Running, StartError> {
    config.check()?;
    let clock = Clock::by(clock);
    // INVARIANT: before anything is made by it. Revoking needs it as well: nobody's certificate has begun by then.
    clock.check().map_err(StartError::Refused)?;
    let stop = CancellationToken::new();
    let failure = Arc::new(OnceLock::new());
    let fail = {
        let (stop, failure) = (stop.clone(), Arc::clone(&failure));
        Arc::new(move |what: &str| {
            tracing::error!(%what, "the ledger failed: stopping");
            drop(failure.set(Failure::Ledger(what.to_owned())));
            stop.cancel();
        })
    };
    let end = {
        let (stop, failure) = (stop.clone(), Arc::clone(&failure));
        move |finding: Finding| {
            tracing::error!(%finding, "the clock was set ahead and stays so: stopping");
            drop(failure.set(Failure::Clock(finding)));
            stop.cancel();
        }
    };
    let opened = {
        let (config, fail) = (config.clone(), Arc::clone(&fail));
        blocking(move || {
            let on_failure = Arc::new(move |error: &ledger_store::StoreError| {
                fail(&error.to_string());
            });
            Opened::open(&config, Some(on_failure))
        })
        .await?
    };
    // INVARIANT: asked before anything is signed.
    let shown = match &config.witnesses {
        None => None,
        Some(settings) => {
            let key = opened.ledger.key().clone();
            let shown = Shown::ask(settings, &key).await;
            let shown = shown.map_err(StartError::Refused)?;
            let here = (opened.ledger.reader(), &opened.state);
            let held = shown.held(settings, &key, here).await;
            held.map_err(StartError::Refused)?;
            Some(shown)
        }
    };
    let (core, ledger, server_key, alone) = {
        let stop = stop.clone();
        blocking(move || assemble(config, clock, opened, shown.as_ref(), fail, stop)).await?
    };
    let own = OwnSvid::empty();
    let presented = upkeep::own_svid(&core, &own, &server_key).await;
    if let Err(refusal) = &presented {
        // Administration still listens: recovery is what such a server needs. Until then it presents what
        // it held last, so that gateways hear of cuts.
        tracing::error!(%refusal, "the server has no SVID of this run");
        upkeep::last_svid(&core, &own, &server_key);
    }
    if core.signing.check().is_ok() {
        take_up(&core).await;
    }
    let mut tasks = JoinSet::new();
    let (listen, http_listen) = listeners(&core, &own, &mut tasks).await?;
    tasks.spawn(upkeep::run(
        Arc::clone(&core),
        own,
        server_key,
        presented.is_ok(),
        end,
    ));
    tasks.spawn(crate::cosign::run(Arc::clone(&core)));
    tasks.spawn(crate::publish::run(Arc::clone(&core)));
    tasks.spawn(crate::publish::ledgers::run(Arc::clone(&core)));
    tracing::info!(%listen, %http_listen, "serving");
    Ok(Running {
        core,
        ledger,
        _alone: alone,
        tasks,
        failure,
        listen,
        http_listen,
    })
}

/// Does what a crash, or a recovery, has left to be done. A server that was rolled back does not begin with
/// it: what it would judge by is not what was in force.
pub(crate) async fn take_up(core: &Arc<Core>) {
    if let Err(refusal) = judge_again(core).await {
        tracing::error!(%refusal, "what lives was not judged by the estate in force");
    }
    if let Err(refusal) = crate::lock::cut_again(core).await {
        tracing::error!(%refusal, "what locked machines hold was not cut");
    }
    if let Err(refusal) = crate::seals::refresh(core).await {
        tracing::error!(%refusal, "boots were not approved");
    }
    if let Err(refusal) = crate::delegating::settle(core).await {
        tracing::error!(%refusal, "delegations that should be taken back are not");
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StartError> + Send + 'static,
) -> Result<T, StartError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| StartError::Failed(error.to_string()))?
}

type Assembled = (Arc<Core>, Ledger, Arc<dyn Signer>, Alone);

fn assemble(
    config: Config,
    clock: Clock,
    opened: Opened,
    shown: Option<&Shown>,
    fail: Arc<dyn Fn(&str) + Send + Sync>,
    stop: CancellationToken,
) -> Result<Assembled, StartError> {
    let trust_domain = TrustDomain::new(&config.trust_domain)
        .map_err(|error| StartError::Failed(error.to_string()))?;
    let server_id = trust_domain
        .identity("trilith/server")
        .map_err(|error| StartError::Failed(error.to_string()))?;
    let Opened {
        alone,
        ca,
        ledger,
        signer,
        blobs,
        kept,
        behind: _,
        begun,
        state,
        head,
        elsewhere,
        postponed,
        commitment_key,
    } = opened;
    for finding in &begun.refused {
        tracing::warn!(%finding, "a snapshot is not used");
    }
    leap(&state, clock.now());
    let signing = Arc::new(Signing::by(clock));
    if let Some(finding) = elsewhere.known(ledger.key())? {
        signing.block(finding, None);
    }
    rolled_back(&ledger, &state, head.read(), &signing)?;
    if let Some(shown) = shown {
        let here = (ledger.reader(), &state);
        shown.block(ledger.key(), here, (signing.as_ref(), &head));
    }
    let found = ledger.reader().head();
    if let (0, Some(blocked)) = (found.checkpoint.size, signing.blocked()) {
        // There is nothing to go on from: a new ledger under this key would be a fork from its first record.
        return Err(StartError::Refused(blocked.finding.next(
            "restore the data directory from a backup; to begin anew, begin with new keys",
        )));
    }
    let hub = Arc::new(Hub::new(Published {
        size: found.checkpoint.size,
        note: Arc::clone(&found.note),
    }));
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let pool = Pool::start(threads).map_err(StartError::Thread)?;
    let journal = Journal::start(
        ledger.handle(),
        ledger.reader().clone(),
        state,
        kept,
        Arc::clone(&hub),
        Arc::clone(&signing),
        pool.clone(),
        fail,
    )
    .map_err(StartError::Thread)?;

    let lifetimes = identity::Lifetimes {
        x509_s: config.lifetimes.x509_s,
        jwt_s: config.lifetimes.jwt_s,
        issuing_s: config.lifetimes.issuing_ca_s,
        root_s: config.lifetimes.root_ca_s,
        announce_s: config.lifetimes.announce_s,
        backdate_s: config.lifetimes.skew_s,
    };
    let by = server_id.to_string();
    let mut drafts = Vec::new();
    let mut push = |record: ledger::RecordBuilder| -> Result<(), StartError> {
        let draft = record.actor(&by, "self").draft();
        let draft = draft.map_err(StartError::record(0))?;
        drafts.push(Entry::from(draft));
        Ok(())
    };
    if found.checkpoint.size == 0 {
        let document = identity::Authority::create(
            &trust_domain,
            &lifetimes,
            ca.as_ref(),
            signing.clock().now(),
        )?;
        let begin = body::Begin {
            trust_domain: config.trust_domain.clone(),
            ledger_key: Base64(ledger.key().public_key().spki_der().to_vec()),
            format: "v1".to_owned(),
        };
        push(begin.record())?;
        for rotation in authority::rotation_records(ca.as_ref(), None, &document)? {
            push(rotation)?;
        }
        let blob = blobs.put(&document_bytes(&document)?)?;
        push(authority::bundle_record(&document, blob))?;
    }
    let start = body::Start {
        program: "trilith-server".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        epoch: Decimal(ledger.epoch()),
        size: Decimal(found.checkpoint.size),
        root: Digest(found.checkpoint.root),
    };
    let blocked = signing.blocked().is_some();
    let unstarted = if blocked {
        Some(start)
    } else {
        push(start.record())?;
        // A server that was stopped by a full disk has to start on it: only a running one can revoke.
        journal
            .append_reserved_blocking(drafts)
            .map_err(|error| StartError::Failed(error.to_string()))?;
        None
    };
    let metrics = Metrics::new();
    let fetch = config.tee_fetch.as_ref();
    let fetcher = fetch
        .map(|fetch| fetch.open(&config.data_dir, metrics.of_endorsements()))
        .transpose()
        .map_err(StartError::Refused)?;
    metrics.blocked.set(i64::from(blocked));
    let witnesses = config.witnesses.as_ref();
    let witnesses = witnesses
        .map(|settings| {
            let unheard = shown.is_some_and(|shown| shown.silent);
            let (reader, key) = (ledger.reader(), ledger.key());
            let start = (unheard, found.checkpoint.size);
            Witnesses::open(settings, &config.data_dir, reader, key, start)
        })
        .transpose()
        .map_err(StartError::Refused)?;
    let labels = Labels::open(&config.label, signer, ledger.reader());
    let labels = labels.map_err(StartError::Refused)?;
    let publishing = config.publish.as_ref();
    let publishing = publishing
        .map(|settings| {
            let (reader, key) = (ledger.reader(), ledger.key());
            let labels = labels.clone();
            Publishing::open(settings, &config.data_dir, reader, key, labels, &metrics)
        })
        .transpose()
        .map_err(StartError::Refused)?;
    let people = People::open(&config).map_err(StartError::Refused)?;

    let certificates = crate::certificates::Certificates::start(
        config.data_dir.join(crate::certificates::FOLDER),
        config.keep_certificates,
    )
    .map_err(StartError::Thread)?;

    let document = document(&journal, &blobs)?;
    let server_key = ca.load_or_generate("server", Algorithm::EcdsaP256)?;
    let seals = crate::seals::Seals::open(
        ca.as_ref(),
        &config.trust_domain,
        &journal.state(),
        journal.reader(),
    )
    .map_err(StartError::Refused)?;
    let authority = Authority::open(document, lifetimes, config.lifetimes.node_s, ca, server_id)?;
    let started = signing.clock().now();
    let core = Arc::new(Core {
        trust_domain,
        ledger_key: ledger.key().clone(),
        authority,
        lists: crate::crl::Lists::default(),
        current: arc_swap::ArcSwapOption::empty(),
        applying: tokio::sync::Mutex::default(),
        pool,
        hub,
        unrecorded: crate::revoke::Unrecorded::default(),
        workloads: crate::workloads::Workloads::default(),
        proved: Arc::default(),
        rates: crate::node::Rates::default(),
        claims: Arc::default(),
        joins: Joins::default(),
        people,
        endorsements: crate::endorsements::Endorsements::open(
            config.tee_endorsements.clone(),
            fetcher,
        ),
        watched: crate::attesting::Watched::default(),
        seals,
        enforcing: crate::enforcing::Enforcing::default(),
        assume_refusals: std::sync::Mutex::default(),
        signing,
        head,
        elsewhere,
        postponed,
        unstarted: std::sync::Mutex::new(unstarted),
        mirrors: Mirrors::new(config.data_dir.join("mirrors")),
        ledgers: crate::ledgers::Ledgers::default(),
        witnesses,
        publishing,
        labels,
        metrics,
        busy: std::sync::Mutex::default(),
        machines: std::sync::RwLock::default(),
        committed: std::sync::RwLock::default(),
        erasing: std::sync::Mutex::default(),
        connections: std::sync::atomic::AtomicU64::new(1),
        server_spki: server_key.public_key().spki_der().to_vec(),
        commitment_key,
        started,
        stop,
        journal,
        blobs,
        certificates,
        config,
    });
    if let Some(current) = current(&core)? {
        admin::install(&core, &current).map_err(|refusal| refused(&refusal))?;
    }
    crate::revoke::take_up(&core).map_err(|refusal| refused(&refusal))?;
    crate::attesting::take_up(&core);
    // Of a ledger that was rolled back they would hold fewer than before: nothing is better.
    if !blocked {
        crate::crl::remake(&core).map_err(|refusal| refused(&refusal))?;
    }
    Ok((core, ledger, server_key, alone))
}

/// Says that the clock shows a time which is far from the last record's. Whether it is wrong nobody here can know.
fn leap(state: &State, now: Timestamp) {
    let last = Timestamp::from_millis(state.clock());
    if last == Timestamp::EPOCH {
        return;
    }
    if now.since(last) > LEAP {
        tracing::warn!(
            %last, %now,
            "the last record is of more than a day ago: if this clock is ahead, set it and start the server again within the hour, \
             before what is revoked is forgotten by it"
        );
    }
    if last.since(now) > LEAP {
        tracing::warn!(
            %last, %now,
            "there are records of later than this clock shows: it is behind, or was ahead once"
        );
    }
}

fn refused(refusal: &crate::refusal::Refusal) -> StartError {
    StartError::Refused(refusal.finding().clone())
}

/// A ledger behind the head that is remembered beside its key was rolled back: it signs nothing, unless
/// that very head was given up by a recovery.
pub(super) fn rolled_back(
    ledger: &Ledger,
    state: &State,
    remembered: Result<Option<(u64, [u8; 32])>, HeadError>,
    signing: &Signing,
) -> Result<(), StartError> {
    let (size, root) = match remembered {
        Ok(None) => return Ok(()),
        Ok(Some(head)) => head,
        Err(error @ HeadError::Format { .. }) => {
            signing.block(error.finding(), None);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let ours = ledger.reader().size();
    if size <= ours && (size == 0 || ledger.reader().root(size)? == root) {
        return Ok(());
    }
    if state.recovered(size, &root).is_none() {
        let note = None;
        let finding = behind("the head kept with the ledger's key", size, ours);
        signing.block(finding, Some(Foreign { size, root, note }));
    }
    Ok(())
}

pub(crate) fn document_bytes(document: &AuthorityDocument) -> Result<Vec<u8>, StartError> {
    serde_json::to_vec(document).map_err(|error| StartError::Failed(error.to_string()))
}

/// The authority's document that the newest bundle record names.
fn document(journal: &Journal, blobs: &Blobs) -> Result<AuthorityDocument, StartError> {
    let missing = |what: &str| {
        StartError::Refused(
            Finding::new("SERVER-AUTHORITY", "the authority's document is not there")
                .observed(what.to_owned())
                .next("restore the data directory's `blobs` from a backup"),
        )
    };
    let named = journal.state().bundle().and_then(|row| row.blob.clone());
    let named = named.ok_or_else(|| missing("no bundle record names one"))?;
    let digest: HexDigest = named.parse().map_err(|_| missing(&named))?;
    let bytes = blobs.get(&digest)?.ok_or_else(|| missing(&named))?;
    serde_json::from_slice(&bytes).map_err(|error| missing(&error.to_string()))
}

/// The estate in force.
fn current(core: &Core) -> Result<Option<Arc<Current>>, StartError> {
    let row = core.state().estate().cloned();
    row.map(|row| version(core, &row)).transpose()
}

/// Judges what lives by the estate in force, if the server died before it had.
async fn judge_again(core: &Arc<Core>) -> Result<(), crate::refusal::Refusal> {
    let Some(current) = core.current.load_full() else {
        return Ok(());
    };
    if core.state().judged(current.index) {
        return Ok(());
    }
    let before = {
        let state = core.state();
        let earlier = state.estates().filter(|row| row.index < current.index);
        earlier.max_by_key(|row| row.index).cloned()
    };
    // What cannot be read any more is taken as different.
    let before = before.and_then(|row| version(core, &row).ok());
    let (revoked, _) = rejudge(core, before, current).await?;
    tracing::warn!(
        revoked,
        "the last estate had not been enforced to its end; it is now"
    );
    Ok(())
}

fn version(core: &Core, row: &EstateRow) -> Result<Arc<Current>, StartError> {
    let unreadable = |what: String| {
        StartError::Refused(
            Finding::new("SERVER-ESTATE", "the current estate cannot be put in force")
                .expected(format!("version {}", row.version))
                .observed(what)
                .next("restore its blob, or start the version of Trilith that applied it"),
        )
    };
    let digest: HexDigest = row
        .blob
        .parse()
        .map_err(|_| unreadable("no digest".to_owned()))?;
    let blob = core.blobs.get(&digest)?;
    let blob = blob.ok_or_else(|| unreadable("its blob is not there".to_owned()))?;
    let files = EstateFiles::from_blob(&blob).map_err(|problem| unreadable(problem.to_string()))?;
    let estate = Estate::compile_recorded(&files).map_err(|problems| {
        let first = problems.first().map(ToString::to_string);
        unreadable(first.unwrap_or_default())
    })?;
    Ok(Arc::new(Current::new(Arc::new(estate), row.index, digest)))
}

async fn listeners(
    core: &Arc<Core>,
    own: &Arc<OwnSvid>,
    tasks: &mut JoinSet<()>,
) -> Result<(SocketAddr, SocketAddr), StartError> {
    let config = &core.config;
    let failed = |address: &dyn std::fmt::Display| {
        let address = address.to_string();
        move |source| StartError::Listen { address, source }
    };
    // ------------------------------------------------------------ agents and gateways
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(failed(&config.listen))?;
    let listen = listener.local_addr().map_err(failed(&config.listen))?;
    let bundles: Arc<dyn svid_tls::BundleSource> = Arc::new(Bundles(Arc::clone(core)));
    let members = svid_tls::peer::any_member(core.trust_domain.clone());
    let clients = ClientAuth::Optional(Arc::clone(&bundles), members);
    let mut tls = svid_tls::server(Arc::clone(own), clients)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let incoming = listener::accept(
        listener,
        Arc::new(tls),
        bundles,
        &config.limits,
        core.stop.clone(),
    );
    let most = config.limits.message_bytes;
    let join = JoinServer::new(JoinService(Arc::clone(core))).max_decoding_message_size(most);
    let node = NodeServer::new(NodeService(Arc::clone(core))).max_decoding_message_size(most);
    let follow = FollowServer::new(FollowService(Arc::clone(core)))
        .max_decoding_message_size(FOLLOW_MESSAGE);
    let delegate = DelegateServer::new(DelegateService(Arc::clone(core)))
        .max_decoding_message_size(DELEGATE_MESSAGE);
    // ------------------------------------------------------------ people, where somebody vouches for them
    let people = (!config.oidc.is_empty()).then(|| {
        PeopleServer::new(PeopleService(Arc::clone(core))).max_decoding_message_size(PEOPLE_MESSAGE)
    });
    let remote = people.is_some().then(|| {
        let gate = people::gate(Arc::clone(core));
        InterceptedService::new(administration(core), gate)
    });
    let stop = core.stop.clone();
    tasks.spawn(async move {
        let served = Server::builder()
            .http2_keepalive_interval(Some(std::time::Duration::from_secs(20)))
            .max_concurrent_streams(STREAMS)
            .add_service(join)
            .add_service(node)
            .add_service(follow)
            .add_service(delegate)
            .add_optional_service(people)
            .add_optional_service(remote)
            .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
        ended("the TLS port", served.await);
    });
    // ------------------------------------------------------------ administration
    let path = config.admin_socket();
    let socket = admin::bind(&path).map_err(failed(&path.display()))?;
    // As it is typed into the shell of whoever administers this server.
    tracing::info!(
        "administration: export TRILITH_ADMIN_SOCKET={}",
        path.display()
    );
    let administrators = admin::accept(socket, core.stop.clone());
    let admin = administration(core);
    let stop = core.stop.clone();
    tasks.spawn(async move {
        let served = Server::builder()
            .add_service(admin)
            .serve_with_incoming_shutdown(administrators, stop.cancelled_owned());
        ended("the admin socket", served.await);
    });
    // ------------------------------------------------------------ HTTP
    let listener = TcpListener::bind(config.http_listen)
        .await
        .map_err(failed(&config.http_listen))?;
    let http_listen = listener.local_addr().map_err(failed(&config.http_listen))?;
    let entries = config.http_entries || http_listen.ip().is_loopback();
    let ledgers = config.http_ledgers || http_listen.ip().is_loopback();
    let router = http::router(Arc::clone(core), entries, ledgers);
    let stop = core.stop.clone();
    tasks.spawn(listen::serve_http(listener, router, stop));
    Ok((listen, http_listen))
}

/// For who may be there: the socket says who calls, or the gate in front of it.
fn administration(core: &Arc<Core>) -> AdminServer<AdminService> {
    AdminServer::new(AdminService(Arc::clone(core)))
        .max_decoding_message_size(core.config.limits.admin_message_bytes)
        .max_encoding_message_size(usize::MAX)
}

fn ended(what: &str, outcome: Result<(), tonic::transport::Error>) {
    if let Err(error) = outcome {
        tracing::error!(%error, "{what} ended");
    }
}

/// The authority's bundle, for handshakes.
struct Bundles(Arc<Core>);

impl svid_tls::BundleSource for Bundles {
    fn bundle(&self, trust_domain: &TrustDomain) -> Option<Arc<spiffe_core::Bundle>> {
        self.0.authority.bundle_of(trust_domain)
    }
}

impl Running {
    /// Resolves when the server has begun to stop.
    pub async fn stopping(&self) {
        self.core.stop.cancelled().await;
    }

    /// Stops: listeners first, then the last record, then the state.
    ///
    /// # Errors
    /// [`StartError::Failed`] if the ledger had failed; `SERVER-CLOCK` if the clock was set ahead and stayed so.
    pub async fn stop(mut self) -> Result<(), StartError> {
        self.core.stop.cancel();
        let within = std::time::Duration::from_secs(10);
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::warn!("some connections did not end in time");
            self.tasks.abort_all();
        }
        if self.failure.get().is_none() {
            let record = body::Stop {
                reason: "shutdown".to_owned(),
            };
            let by = self.core.authority.server_id().to_string();
            if let Ok(draft) = record.record().actor(&by, "self").draft()
                && let Err(error) = self.core.journal.append_one(draft).await
            {
                tracing::warn!(%error, "the stop is not recorded");
            }
        }
        let core = Arc::clone(&self.core);
        let ledger = self.ledger;
        let closed = tokio::task::spawn_blocking(move || {
            core.journal.finish();
            core.certificates.written();
            let last = ledger.reader().head();
            let (size, root) = (last.checkpoint.size, &last.checkpoint.root);
            if let Err(error) = core.head.advance(size, root, &core.signing) {
                tracing::warn!(%error, "the last head is not remembered");
            }
            ledger.close()
        })
        .await
        .map_err(|error| StartError::Failed(error.to_string()))?;
        match self.failure.get() {
            Some(Failure::Ledger(what)) => Err(StartError::Failed(what.clone())),
            Some(Failure::Clock(finding)) => Err(StartError::Refused(finding.clone())),
            None => Ok(closed?),
        }
    }

    /// SHA-256 of the state in memory, and how many records it follows from.
    #[must_use]
    pub fn state(&self) -> super::Rebuilt {
        super::Rebuilt::of(&self.core.state())
    }
}
