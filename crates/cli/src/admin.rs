//! The client of the server's administration: gRPC over its local Unix socket, or over TLS with the session of
//! a person who has logged in.

use crate::arguments::Global;
use crate::{Failure, session};
use facts::Finding;
use hyper_util::rt::TokioIo;
use proto::v1::Document;
use proto::v1::admin_client::AdminClient;
use std::path::{Path, PathBuf};
use tonic::transport::{Channel, Endpoint, Uri};

/// Largest answer taken: an estate export.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// Where the server is asked.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Socket(&'a Path),
    /// With a session.
    Remote(&'a str, &'a Global),
}

impl<'a> From<&'a Global> for Place<'a> {
    fn from(global: &'a Global) -> Self {
        match &global.admin_server {
            None => Self::Socket(&global.admin_socket),
            Some(server) => Self::Remote(server, global),
        }
    }
}

impl<'a> From<&'a PathBuf> for Place<'a> {
    fn from(path: &'a PathBuf) -> Self {
        Self::Socket(path)
    }
}

/// Connects to the server's administration.
pub(crate) async fn connect<'a>(
    place: impl Into<Place<'a>>,
) -> Result<AdminClient<Channel>, Failure> {
    let channel = match place.into() {
        Place::Socket(path) => local(path).await?,
        Place::Remote(server, global) => session::enter(server, global).await?,
    };
    Ok(AdminClient::new(channel).max_decoding_message_size(MAX_MESSAGE))
}

async fn local(path: &Path) -> Result<Channel, Failure> {
    let socket = path.to_owned();
    // The address is never resolved: the connector below opens the socket.
    let endpoint = Endpoint::from_static("http://admin.invalid");
    endpoint
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move {
                let stream = tokio::net::UnixStream::connect(socket).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        }))
        .await
        .map_err(|error| unreachable(path, &error).into())
}

fn unreachable(path: &Path, error: &tonic::transport::Error) -> Finding {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let finding = Finding::new(
        "CLI-SERVER-UNREACHABLE",
        format!("cannot reach the server's administration: {cause}"),
    )
    .expected(format!("a server that listens on {}", path.display()));
    let forbidden = cause
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    if forbidden {
        return finding.next("ask as a user who may open the socket: the server's own, or root");
    }
    finding.next(
        "start `trilith server --config FILE`, or name its socket, which its log tells at start \
         (admin.sock in its data_dir by default): export TRILITH_ADMIN_SOCKET=PATH, or --admin-socket PATH",
    )
}

/// A refusal by the server, as the finding it sent or as its status.
pub(crate) fn refusal(status: &tonic::Status) -> Failure {
    serde_json::from_slice::<Finding>(status.details())
        .unwrap_or_else(|_| {
            Finding::new("CLI-SERVER-REFUSED", status.message().to_owned())
                .observed(format!("{:?}", status.code()))
        })
        .into()
}

/// The JSON of a document.
pub(crate) fn document(response: tonic::Response<Document>) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(&response.into_inner().json)
        .map_err(|error| unusable(format!("it is not JSON: {error}")).into())
}

/// An answer of a server that speaks another version, or is none.
pub(crate) fn unusable(what: String) -> Finding {
    Finding::new("CLI-SERVER-ANSWER", "the server's answer cannot be used")
        .observed(what)
        .next("use the `trilith` of the server's own version, and look at the server's log")
}
