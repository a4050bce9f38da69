//! Both listeners: TLS by SVID over TCP, and the Unix socket whose callers are attested by pidfd.

use crate::callers::{Who, unseen};
use crate::connection::serve;
use crate::service::{Asker, Plane};
use device::process::{BootTime, Caller};
use facts::{Finding, Timestamp};
use listen::{Place, Places, Source};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

/// Connections have so long to end.
const PARTING: Duration = Duration::from_secs(5);

/// Accepts over TCP until `stop`.
pub(crate) async fn tcp(
    plane: Arc<Plane>,
    listener: TcpListener,
    tls: TlsAcceptor,
    stop: CancellationToken,
) {
    let most = plane.config.listen.max_connections;
    let (strangers, members) = (Places::new(most), Places::new(most));
    let mut open = JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            _ = open.join_next(), if !open.is_empty() => continue,
            accepted = listen::accept(&listener) => accepted,
        };
        let place = strangers.take(Source::of(peer));
        let (plane, tls, members) = (Arc::clone(&plane), tls.clone(), members.clone());
        let stop = stop.clone();
        open.spawn(async move {
            let until = Instant::now() + plane.config.listen.timeout();
            match place.hold(until, tls.accept(stream)).await {
                Ok(Ok(stream)) => member(&plane, stream, place, &members, stop).await,
                Ok(Err(error)) => not_established(&error),
                Err(ended) => tracing::debug!(?ended, "TLS was not established"),
            }
        });
    }
    end(open).await;
}

/// Accepts on the Unix socket until `stop`.
pub(crate) async fn unix(
    plane: Arc<Plane>,
    listener: workload_api::Listener,
    stop: CancellationToken,
) {
    let places = Places::new(plane.config.listen.max_connections);
    let mut open = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            _ = open.join_next(), if !open.is_empty() => continue,
            accepted = listener.accept() => accepted,
        };
        let accepted = BootTime::now();
        let uid = match stream.peer_cred() {
            Ok(credentials) => credentials.uid(),
            Err(error) => {
                tracing::warn!(%error, "a connection without credentials was closed");
                continue;
            }
        };
        let place = places.take(uid);
        let (plane, stop) = (Arc::clone(&plane), stop.clone());
        open.spawn(async move { local(plane, stream, accepted, &place, stop).await });
    }
    end(open).await;
}

async fn end(mut open: JoinSet<()>) {
    let all = async { while open.join_next().await.is_some() {} };
    if tokio::time::timeout(PARTING, all).await.is_err() {
        tracing::warn!("some connections did not end in time");
    }
}

fn not_established(error: &std::io::Error) {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let finding = inner.and_then(svid_tls::finding).map(ToString::to_string);
    tracing::info!(%error, finding, "TLS was not established");
}

/// A peer with a valid SVID: admitted as at a gateway, and named in `pdp.toml`, or its connection ends.
async fn member(
    plane: &Arc<Plane>,
    stream: TlsStream<TcpStream>,
    stranger: Place<Source>,
    members: &Places<String>,
    stop: CancellationToken,
) {
    let chain = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .to_vec();
    let until = Instant::now() + plane.config.listen.timeout();
    let admitted = match stranger.hold(until, plane.core.admit(&chain)).await {
        Ok(admitted) => admitted,
        Err(ended) => return tracing::debug!(?ended, "a caller was not admitted in time"),
    };
    let principal = match admitted {
        Ok(principal) => principal,
        Err(finding) => return refused(plane, &finding),
    };
    if let Err(finding) = plane.callers.member(&principal.spiffe_id) {
        return refused(plane, &finding);
    }
    let following = plane.core.following();
    let current = match following.fresh(Timestamp::now()) {
        Ok(current) => current,
        Err(finding) => return refused(plane, &finding),
    };
    let longest = current.estate.settings().session_max;
    let sessions = following.sessions();
    let mut session = sessions.register(&principal, longest, Timestamp::now());
    // A revocation between admission and registration has not seen this session.
    if let Err(finding) = following.refuse_revoked(&principal) {
        return refused(plane, &finding);
    }
    let place = members.take(principal.spiffe_id.to_string());
    drop(stranger);
    let who = Who::Member {
        id: principal.spiffe_id,
        serial: principal.serial,
    };
    let over = async {
        tokio::select! {
            cut = session.cut() => {
                plane.core.metrics().cuts.inc();
                tracing::info!(%cut, "a caller's connection is cut");
            }
            () = place.given_away() => {}
            () = stop.cancelled() => {}
        }
    };
    serve(stream, plane.router(), asker(plane, who), over).await;
}

async fn local(
    plane: Arc<Plane>,
    stream: UnixStream,
    accepted: BootTime,
    place: &Place<u32>,
    stop: CancellationToken,
) {
    let who = match attest(&plane, &stream, accepted).await {
        Ok(who) => who,
        Err(finding) => return refused(&plane, &finding),
    };
    let over = async {
        tokio::select! {
            () = place.given_away() => {}
            () = stop.cancelled() => {}
        }
    };
    serve(stream, plane.router(), asker(&plane, who), over).await;
}

async fn attest(
    plane: &Arc<Plane>,
    stream: &UnixStream,
    accepted: BootTime,
) -> Result<Who, Finding> {
    let caller =
        Caller::of(stream, accepted).map_err(|error| unseen(facts::with_causes(&error)))?;
    let caller = Arc::new(caller);
    let limit = plane.config.listen.timeout();
    let local = tokio::time::timeout(limit, plane.callers.look(&caller, false)).await;
    let local = local.map_err(|_| unseen("not in time".to_owned()))??;
    Ok(Who::Local {
        caller,
        identity: local.identity(),
        observed: local.observed,
        kept: local.kept,
    })
}

fn asker(plane: &Arc<Plane>, who: Who) -> Arc<Asker> {
    let id = crypto::hex::encode(&crypto::random::<8>());
    let recorder = plane.core.recorder().asker(&id, &who.actor(), &who.auth());
    Arc::new(Asker {
        plane: Arc::clone(plane),
        who,
        recorder,
    })
}

fn refused(plane: &Plane, finding: &Finding) {
    plane.metrics.refuse(&finding.code);
    tracing::info!(%finding, "a caller is not served");
}
