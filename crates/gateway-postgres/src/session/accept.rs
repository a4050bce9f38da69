//! From a TCP connection to a session: TLS, SVID, admission, startup, login upstream.
//!
//! Everything until the session is bounded in bytes and in time; nobody is asked for a password.

use super::cancel::{Cancels, Target, Wanted};
use super::pump::{PumpError, pump};
use super::relay::{End, Relay};
use crate::config::Limits;
use crate::database::{Database, LoginError, cause};
use crate::sql::{StartupParameter, startup_parameter};
use crate::statement::Judge;
use crate::upstream::{Connected, UpstreamError, role_name};
use crate::wire::{self, CancelKey, FirstMessage, MAX_STARTUP, Notice, Startup};
use bytes::BytesMut;
use facts::{Finding, Timestamp};
use gateway::{Core, Cut, SessionHandle, SessionRecorder};
use ledger::Decimal;
use ledger::body::SessionStart;
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// A client that is cut has this long to take the reason.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// What all connections share.
pub(crate) struct Front {
    pub(crate) core: Arc<Core>,
    pub(crate) databases: HashMap<String, Arc<Database>>,
    pub(crate) tls: TlsAcceptor,
    pub(crate) cancels: Arc<Cancels>,
    /// Of sessions.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) limits: Limits,
}

/// Why a connection does not become a session.
enum Refusal {
    /// Nobody to talk to, or nothing to say.
    Silent(io::Error),
    Said(Notice),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Silent(error)
    }
}

fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Refusal {
    Refusal::Said(Notice::fatal(sqlstate, message))
}

fn refused(finding: &Finding) -> Refusal {
    Refusal::Said(Notice {
        detail: Some(finding.to_string()),
        hint: finding.next.clone(),
        ..Notice::fatal(
            "28000",
            format!("not admitted by trilith: {}", finding.code),
        )
    })
}

/// Accepts until `shutdown` becomes true; then lets the sessions end.
pub(crate) async fn serve(
    front: Arc<Front>,
    listener: TcpListener,
    mut shutdown: watch::Receiver<bool>,
) {
    // Whoever is not admitted yet can take these only, and no place of a session.
    let handshakes = Arc::new(Semaphore::new(front.limits.handshakes));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = shutdown.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, above all: those in use come back.
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(handshake) = Arc::clone(&handshakes).try_acquire_owned() else {
            tracing::warn!(%peer, most = front.limits.handshakes, "too many connections begin");
            continue;
        };
        let front = Arc::clone(&front);
        connections.spawn(async move { connection(&front, stream, handshake).await });
    }
    drop(listener);
    let over = Cut {
        reason: gateway::CutReason::Shutdown,
        detail: "the gateway stops".to_owned(),
    };
    front.core.following().sessions().cut_where(&over, |_| true);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(Duration::from_secs(5), all)
        .await
        .is_err()
    {
        tracing::warn!("some sessions did not end in time");
    }
}

async fn connection(front: &Front, mut stream: TcpStream, handshake: OwnedSemaphorePermit) {
    let began = async {
        stream.set_nodelay(true)?;
        before_tls(front, &mut stream).await
    };
    match tokio::time::timeout(front.limits.handshake, began).await {
        Ok(Ok(true)) => {}
        Ok(Ok(false)) | Err(_) => return,
        Ok(Err(refusal)) => return say(&mut stream, refusal).await,
    }
    let accepting = front.tls.accept(stream);
    let mut tls = match tokio::time::timeout(front.limits.handshake, accepting).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => {
            let inner = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>());
            let finding = inner.and_then(svid_tls::finding).map(ToString::to_string);
            tracing::info!(%error, finding, "TLS was not established");
            return;
        }
        Err(_) => return,
    };
    let opened = tokio::time::timeout(front.limits.handshake, open(front, &mut tls)).await;
    match opened {
        Ok(Ok(Some(session))) => {
            drop(handshake);
            run(front, tls, session).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(refusal)) => say(&mut tls, refusal).await,
        Err(_) => {
            say(
                &mut tls,
                fatal("57014", "the connection took too long to begin"),
            )
            .await
        }
    }
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, refusal: Refusal) {
    match refusal {
        Refusal::Silent(error) => tracing::debug!(%error, "a connection ended before it began"),
        Refusal::Said(notice) => {
            tracing::info!(message = notice.message, detail = notice.detail, "refused");
            let mut out = BytesMut::new();
            wire::error(&mut out, &notice);
            let saying = async {
                stream.write_all(&out).await?;
                stream.shutdown().await
            };
            let _gone = tokio::time::timeout(LAST_WORDS, saying).await;
        }
    }
}

/// One untagged message, read to its last byte and not beyond: what follows a request for TLS in
/// cleartext must not be taken for what comes under TLS.
async fn first<S: AsyncRead + Unpin>(stream: &mut S) -> Result<FirstMessage, Refusal> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes).await?;
    let length = bytes
        .first_chunk::<4>()
        .map_or(0, |field| u32::from_be_bytes(*field)) as usize;
    if !(8..=MAX_STARTUP).contains(&length) {
        return Err(fatal("08P01", "invalid length of startup packet"));
    }
    bytes.resize(length, 0);
    stream
        .read_exact(bytes.get_mut(4..).unwrap_or_default())
        .await?;
    match wire::first_message(&bytes) {
        Ok(Some((message, _))) => Ok(message),
        Ok(None) => Err(fatal("08P01", "incomplete startup packet")),
        Err(error) => Err(fatal("08P01", error.to_string())),
    }
}

/// True when TLS comes next.
async fn before_tls(front: &Front, stream: &mut TcpStream) -> Result<bool, Refusal> {
    // GSS is asked for at most once, then TLS.
    for _ in 0..2 {
        match first(stream).await? {
            FirstMessage::Gss => stream.write_all(b"N").await?,
            FirstMessage::Tls => {
                stream.write_all(b"S").await?;
                return Ok(true);
            }
            FirstMessage::Cancel(key) => {
                cancel(front, key, &[]).await;
                return Ok(false);
            }
            FirstMessage::Startup(_) => {
                return Err(Refusal::Said(Notice {
                    hint: Some(
                        "connect with sslmode=require and the SVID as sslcert and sslkey"
                            .to_owned(),
                    ),
                    ..Notice::fatal("28000", "this gateway speaks TLS only")
                }));
            }
        }
    }
    Err(fatal("08P01", "TLS was not asked for"))
}

/// `chain` is what the peer authenticated with; empty in cleartext.
async fn cancel(front: &Front, key: CancelKey, chain: &[CertificateDer<'_>]) {
    let target = match front.cancels.find(key, Timestamp::now()) {
        Wanted::Target(target) => target,
        Wanted::Nobody => return tracing::info!("a cancel request names no session"),
        Wanted::TooOften => return tracing::warn!("cancel requests come too fast; one is dropped"),
    };
    let by = if chain.is_empty() {
        None
    } else {
        match front.core.admit(chain).await {
            Ok(principal) => Some(principal),
            Err(finding) => return tracing::warn!(%finding, "who asks to cancel is not admitted"),
        }
    };
    let allow = by
        .as_ref()
        .is_none_or(|principal| principal.spiffe_id.to_string() == target.spiffe_id);
    let recorder = front.core.recorder();
    if let Err(error) = recorder.cancel(&target.session, by.as_ref(), allow).await {
        return tracing::error!(%error, "a cancel request is not recorded and does nothing");
    }
    tracing::info!(
        session = target.session,
        authenticated = by.is_some(),
        allow,
        "cancel request"
    );
    if allow && let Err(error) = target.address.cancel(target.key).await {
        tracing::warn!(%error, cause = cause(&error), "the database was not asked to cancel");
    }
}

/// A session that is about to run.
struct Opened {
    handle: SessionHandle,
    upstream: Connected,
    relay: Relay,
    database: Arc<Database>,
    _cancel: super::cancel::Entry,
    _place: OwnedSemaphorePermit,
}

/// A session whose start is recorded. If it ends before it runs, because the client has gone or the
/// handshake took too long, its end is recorded as well.
struct Starting(Option<SessionRecorder>);

impl Drop for Starting {
    fn drop(&mut self) {
        let Some(recorder) = self.0.take() else {
            return;
        };
        tokio::spawn(async move {
            let ended = recorder.session_end("error", "it ended before it began");
            if let Err(error) = ended.await {
                tracing::error!(%error, "the end of a session is not recorded");
            }
        });
    }
}

async fn open(front: &Front, tls: &mut TlsStream<TcpStream>) -> Result<Option<Opened>, Refusal> {
    let chain = tls
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .to_vec();
    let startup = match first(tls).await? {
        FirstMessage::Startup(startup) => startup,
        FirstMessage::Cancel(key) => {
            cancel(front, key, &chain).await;
            return Ok(None);
        }
        FirstMessage::Tls | FirstMessage::Gss => {
            return Err(fatal("08P01", "TLS is established already"));
        }
    };
    let principal = front
        .core
        .admit(&chain)
        .await
        .map_err(|finding| refused(&finding))?;
    let place = Arc::clone(&front.places)
        .try_acquire_owned()
        .map_err(|_| fatal("53300", "too many sessions"))?;
    let wanted = startup
        .parameter("database")
        .or_else(|| startup.parameter("user"))
        .unwrap_or_default();
    let database = front.databases.get(wanted).ok_or_else(|| {
        fatal(
            "3D000",
            format!("database \"{wanted}\" is not behind this gateway"),
        )
    })?;
    let asked = parameters(&startup, &front.limits)?;
    let following = front.core.following();
    let current = following
        .fresh(Timestamp::now())
        .map_err(|finding| refused(&finding))?;
    let longest = current.estate.settings().session_max;
    let handle = following
        .sessions()
        .register(&principal, longest, Timestamp::now());
    // A revocation between admission and registration has not seen this session.
    following
        .refuse_revoked(&principal)
        .map_err(|finding| refused(&finding))?;

    let search_path: Vec<String> = asked.search_path.iter().map(|name| quoted(name)).collect();
    let search_path = search_path.join(", ");
    let mut upstream_parameters = vec![
        ("search_path", search_path.as_str()),
        ("standard_conforming_strings", "on"),
    ];
    upstream_parameters.extend(
        asked
            .forward
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    );
    let upstream = database
        .log_in(&principal.path, &upstream_parameters, following)
        .await
        .map_err(|error| login_failed(&error))?;

    let session = crypto::hex::encode(&crypto::random::<8>());
    let recorder = front.core.recorder().session(&session, &principal);
    let start = SessionStart {
        session: session.clone(),
        spiffe_id: principal.spiffe_id.to_string(),
        serial: principal.serial.clone(),
        issuance: Some(Decimal(principal.issuance)),
        resource: format!("postgres:{}", database.name),
        role: role_name(&principal.path),
        application: printable(startup.parameter("application_name").unwrap_or_default()),
    };
    let mut starting = Starting(Some(recorder));
    if let Some(recorder) = &starting.0 {
        recorder
            .session_start(start)
            .await
            .map_err(|error| refused(&error.finding()))?;
    }
    let (key, entry) = front.cancels.enter(Target {
        address: database.address.clone(),
        key: upstream.cancel.unwrap_or(CancelKey {
            process: 0,
            secret: 0,
        }),
        session,
        spiffe_id: principal.spiffe_id.to_string(),
    });
    greet(tls, &startup, &upstream, key).await?;
    let judge = Judge::new(
        following.clone(),
        Arc::clone(database),
        principal,
        asked.search_path,
    );
    let Some(recorder) = starting.0.take() else {
        return Ok(None);
    };
    let relay = Relay::new(judge, recorder, front.limits.message_bytes);
    Ok(Some(Opened {
        handle,
        upstream,
        relay,
        database: Arc::clone(database),
        _cancel: entry,
        _place: place,
    }))
}

/// What the client gets instead of being asked for a password.
async fn greet(
    tls: &mut TlsStream<TcpStream>,
    startup: &Startup,
    upstream: &Connected,
    key: CancelKey,
) -> Result<(), Refusal> {
    let mut out = BytesMut::new();
    if startup.minor > 0 || !startup.unsupported.is_empty() {
        wire::negotiate(&mut out, &startup.unsupported);
    }
    wire::authentication_ok(&mut out);
    for (name, value) in &upstream.parameters {
        wire::parameter_status(&mut out, name, value);
    }
    wire::backend_key(&mut out, key.process, key.secret);
    wire::ready_for_query(&mut out, b'I');
    tls.write_all(&out).await?;
    tls.flush().await?;
    Ok(())
}

struct Asked {
    forward: Vec<(String, String)>,
    search_path: Vec<String>,
}

fn parameters(startup: &Startup, limits: &Limits) -> Result<Asked, Refusal> {
    let mut asked = Asked {
        forward: Vec::new(),
        search_path: limits.search_path.clone(),
    };
    let mut pairs = Vec::new();
    for (name, value) in &startup.parameters {
        if name == "options" {
            pairs.extend(options(value).ok_or_else(|| {
                fatal(
                    "42501",
                    "startup options other than -c name=value are not available",
                )
            })?);
        } else {
            pairs.push((name.clone(), value.clone()));
        }
    }
    for (name, value) in pairs {
        match startup_parameter(&name, &value) {
            StartupParameter::Forward => asked.forward.push((name, value)),
            StartupParameter::SearchPath(path) => asked.search_path = path,
            StartupParameter::Drop => {}
            StartupParameter::Refuse => {
                return Err(Refusal::Said(Notice {
                    detail: Some(
                        "SQL-SETTING: it is not among the parameters that sessions may use"
                            .to_owned(),
                    ),
                    ..Notice::fatal(
                        "42501",
                        format!("permission denied by trilith: startup parameter {name}"),
                    )
                }));
            }
        }
    }
    Ok(asked)
}

/// `-c name=value`, `-cname=value`, `--name=value`; a backslash before a space keeps it.
fn options(text: &str) -> Option<Vec<(String, String)>> {
    if text.contains('\\') {
        return None;
    }
    let mut words = text.split_ascii_whitespace();
    let mut pairs = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next()?,
            Some(setting) => setting,
            None => return None,
        };
        let (name, value) = setting.split_once('=')?;
        pairs.push((name.replace('-', "_"), value.to_owned()));
    }
    Some(pairs)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// As a client names itself: unverified, so nothing but plain characters, and not many.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|letter| !letter.is_control())
        .take(64)
        .collect()
}

fn login_failed(error: &LoginError) -> Refusal {
    tracing::error!(%error, cause = cause(error), "no login upstream");
    match error {
        LoginError::Upstream(UpstreamError::Refused { message, .. }) => fatal(
            "08006",
            format!("the database refused the gateway: {message}"),
        ),
        _ => fatal(
            "08006",
            format!("the gateway cannot reach the database: {error}"),
        ),
    }
}

async fn run(front: &Front, mut tls: TlsStream<TcpStream>, opened: Opened) {
    let Opened {
        mut handle,
        mut upstream,
        mut relay,
        database,
        _cancel,
        _place,
    } = opened;
    front.core.metrics().sessions.inc();
    let mut buffer = std::mem::take(&mut upstream.buffer);
    let (reason, detail) = tokio::select! {
        biased;
        cut = handle.cut() => {
            last_words(&mut tls, &cut).await;
            front.core.metrics().cuts.inc();
            (cut.reason.as_str(), cut.detail)
        }
        ended = pump(&mut tls, &mut upstream.stream, &mut relay, &mut buffer) => {
            conclude(&mut tls, &ended).await
        }
    };
    // INVARIANT: the client's socket is closed before anything else is waited for.
    drop(tls);
    if relay.is_busy()
        && let Some(key) = upstream.cancel
        && let Err(error) = database.address.cancel(key).await
    {
        tracing::warn!(%error, "what ran was not cancelled");
    }
    drop(upstream);
    let _told = relay.cut().await;
    if let Err(error) = relay.recorder().session_end(reason, &detail).await {
        tracing::error!(%error, "the end of a session is not recorded");
    }
    front.core.metrics().sessions.dec();
    tracing::info!(
        session = relay.recorder().id(),
        identity = relay.judge().principal.path,
        reason,
        detail,
        "session ended"
    );
}

async fn last_words(tls: &mut TlsStream<TcpStream>, cut: &Cut) {
    let mut out = BytesMut::new();
    let notice = Notice::fatal("57P01", format!("terminating connection by trilith: {cut}"));
    wire::error(&mut out, &notice);
    let saying = async {
        tls.write_all(&out).await?;
        tls.shutdown().await
    };
    let _gone = tokio::time::timeout(LAST_WORDS, saying).await;
}

/// What a session ended by itself is recorded as; a client that is still there hears why.
async fn conclude(tls: &mut TlsStream<TcpStream>, ended: &PumpError) -> (&'static str, String) {
    let sqlstate = match ended {
        PumpError::End(End::Terminate) | PumpError::ClientClosed => {
            return ("closed", String::new());
        }
        PumpError::Client(_) => return ("closed", ended.to_string()),
        PumpError::UpstreamClosed => return ("error", ended.to_string()),
        PumpError::Upstream(_) | PumpError::End(End::Upstream(_) | End::OutOfStep { .. }) => {
            "08006"
        }
        PumpError::End(End::Client(_) | End::Misuse(_)) => "08P01",
        PumpError::End(End::Recording(_)) => "58030",
    };
    let detail = format!("{ended}: {}", cause(ended));
    tracing::warn!(detail, "a session ends with an error");
    say(tls, fatal(sqlstate, ended.to_string())).await;
    ("error", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings_or_refused() {
        let pairs = options("-c statement_timeout=5s --work-mem=1MB -cdatestyle=ISO").unwrap();
        assert_eq!(pairs[0], ("statement_timeout".to_owned(), "5s".to_owned()));
        assert_eq!(pairs[1].0, "work_mem");
        assert_eq!(pairs[2].0, "datestyle");
        assert_eq!(options("-d 5"), None);
        assert_eq!(options("-c a\\ b=c"), None);
    }

    #[test]
    fn what_a_client_calls_itself_is_cut_and_cleaned() {
        assert_eq!(printable("psql\u{1b}[2J\n"), "psql[2J");
        assert_eq!(printable(&"x".repeat(500)).len(), 64);
    }
}
