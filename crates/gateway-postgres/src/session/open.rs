//! From an authenticated connection to a session that is about to run: startup, admission, login
//! upstream, and the record of its start.

use super::accept::Front;
use super::cancel::{Entry, Target};
use super::refusal::{Refusal, fatal, full, refused};
use super::relay::Relay;
use super::shares::Share;
use super::startup::{Acting, first, parameters};
use crate::database::{Database, LoginError, cause};
use crate::statement::Judge;
use crate::upstream::{Connected, TOO_MANY_CONNECTIONS, UpstreamError};
use crate::wire::{self, CancelKey, FirstMessage, Startup};
use bytes::BytesMut;
use facts::{Finding, Timestamp};
use gateway::{Current, Principal, SessionHandle, SessionRecorder, Told};
use ledger::Decimal;
use ledger::body::SessionStart;
use rustls::pki_types::CertificateDer;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

/// A session that is about to run.
pub(super) struct Opened {
    pub(super) handle: SessionHandle,
    pub(super) upstream: Connected,
    pub(super) relay: Relay,
    pub(super) database: Arc<Database>,
    pub(super) _cancel: Entry,
    pub(super) _share: Share,
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

/// What an authenticated client wants.
pub(super) enum Hello {
    Startup(Box<Startup>),
    /// With the chain that it authenticated by.
    Cancel(CancelKey, Vec<CertificateDer<'static>>),
}

pub(super) async fn hello(tls: &mut TlsStream<TcpStream>) -> Result<Hello, Refusal> {
    match first(tls).await? {
        FirstMessage::Startup(startup) => Ok(Hello::Startup(Box::new(startup))),
        FirstMessage::Cancel(key) => Ok(Hello::Cancel(key, chain(tls))),
        FirstMessage::Tls | FirstMessage::Gss => Err(fatal("08P01", "TLS is established already")),
    }
}

fn chain(tls: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    let (_, session) = tls.get_ref();
    session.peer_certificates().unwrap_or_default().to_vec()
}

pub(super) async fn open(
    front: &Front,
    tls: &mut TlsStream<TcpStream>,
    startup: &Startup,
) -> Result<Opened, Refusal> {
    let principal = front
        .core
        .admit(&chain(tls))
        .await
        .map_err(|finding| refused(&finding))?;
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
    // Instances of a template have its role, and share the connections that the role may have.
    let declared = front.core.following().declared_path(&principal);
    let share = front
        .shares
        .take(database, &declared)
        .map_err(|finding| full(&finding))?;
    let asked = parameters(startup, &front.limits)?;
    let following = front.core.following();
    let current = following
        .fresh(Timestamp::now())
        .map_err(|finding| refused(&finding))?;
    let told = told(front, &principal, &current, &asked.acting).await?;
    let longest = current.estate.settings().session_max;
    let handle =
        following
            .sessions()
            .register_for(&principal, told.as_ref(), longest, Timestamp::now());
    // A revocation between admission and registration has not seen this session.
    following
        .refuse_revoked(&principal)
        .map_err(|finding| refused(&finding))?;
    if let Some(told) = &told {
        told.holds(following, Timestamp::now())
            .map_err(|finding| refused(&finding))?;
    }

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
        .log_in(&declared, &upstream_parameters, following)
        .await
        .map_err(|error| login_failed(&error))?;

    let session = crypto::hex::encode(&crypto::random::<8>());
    let recorder = front.core.recorder();
    let recorder = recorder.session_for(&session, &principal, told.as_ref());
    let start = SessionStart {
        session: session.clone(),
        spiffe_id: principal.spiffe_id.to_string(),
        serial: principal.serial.clone(),
        issuance: Some(Decimal(principal.issuance)),
        resource: format!("postgres:{}", database.name),
        role: database.roles.name(&declared),
        application: front
            .applications
            .recorded(startup.parameter("application_name").unwrap_or_default()),
        // The recorder knows for whom.
        claimed_on_behalf_of: Vec::new(),
        on_behalf_of: Vec::new(),
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
    greet(tls, startup, &upstream, key).await?;
    let judge = Judge::new(
        following.clone(),
        Arc::clone(database),
        principal,
        told,
        asked.search_path,
    );
    let Some(recorder) = starting.0.take() else {
        return Err(Refusal::Silent(std::io::ErrorKind::Other.into()));
    };
    let relay = Relay::new(judge, recorder, front.limits.message_bytes);
    Ok(Opened {
        handle,
        upstream,
        relay,
        database: Arc::clone(database),
        _cancel: entry,
        _share: share,
    })
}

/// On whose behalf the session acts. What nobody was ever delegated is refused here, and not at each statement.
async fn told(
    front: &Front,
    principal: &Principal,
    current: &Current,
    acting: &Acting,
) -> Result<Option<Told>, Refusal> {
    let told = match acting {
        Acting::Itself => return Ok(None),
        Acting::For(text) => Told::claimed(principal, text, front.limits.delegation),
        Acting::By(token) => {
            Told::proven(front.core.following(), principal, token, Timestamp::now()).await
        }
    };
    let told = told.map_err(|finding| refused(&finding))?;
    current
        .estate
        .may_delegate(told.chain())
        .map_err(|finding| refused(&finding))?;
    Ok(Some(told))
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

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn login_failed(error: &LoginError) -> Refusal {
    tracing::error!(%error, cause = cause(error), "no login upstream");
    match error {
        LoginError::Upstream(UpstreamError::Refused { sqlstate, message })
            if sqlstate == TOO_MANY_CONNECTIONS =>
        {
            let finding = Finding::new(
                "GATEWAY-DATABASE-FULL",
                "the database has no connection left",
            )
            .observed(message.clone())
            .next("somebody else takes its connections: look at pg_stat_activity, or raise its max_connections");
            full(&finding)
        }
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
