//! The administrators' socket. Whoever can open it may connect, and no user keeps another from it: when all
//! places are taken, the user with the most connections gives up its oldest.

use crate::connection::Connection;
use listen::{Place, Places};
use std::io;
use std::path::Path;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Connected as _, UdsConnectInfo};

/// Connections at once: each is a person's command, or a program that asks one thing after another.
const CONNECTIONS: usize = 64;
/// When the system has no descriptor left, it may have one then.
const AGAIN: Duration = Duration::from_millis(50);

pub(crate) type AdminConnection = Connection<UnixStream, UdsConnectInfo, Place<u32>>;

/// Binds the socket for its owner and group; a stale one is taken away.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => return Err(io::Error::from(io::ErrorKind::AddrInUse)),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?;
        }
        Err(_) => {}
    }
    // Bound under another name and moved when its mode is right: nobody connects in between.
    let beside = path.with_extension("new");
    match std::fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&beside)?;
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o660))?;
    std::fs::rename(&beside, path)?;
    Ok(listener)
}

/// Accepts until `stop`.
pub(crate) fn accept(
    listener: UnixListener,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<AdminConnection>> {
    let (sender, receiver) = mpsc::channel(1);
    let places = Places::new(CONNECTIONS);
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "no administrator's connection is accepted");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            let info = stream.connect_info();
            let Some(credentials) = info.peer_cred else {
                continue;
            };
            let place = places.take(credentials.uid());
            let end = place.given_away();
            let connection = Connection::new(stream, info, place, end);
            if sender.send(Ok(connection)).await.is_err() {
                return;
            }
        }
    });
    ReceiverStream::new(receiver)
}
