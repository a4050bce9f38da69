//! A client of the local agent, for `trilith exec`, `trilith files` and `trilith whoami`.
//!
//! Programs that can speak the Workload API should use a SPIFFE library instead.

use facts::Finding;
use hyper_util::rt::TokioIo;
use proto::v1;
use proto::v1::helper_client::HelperClient;
use proto::workload as wire;
use proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use std::path::{Path, PathBuf};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status, Streaming};
use zeroize::Zeroizing;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is not the address of a Unix socket: use unix:///run/trilith/workload.sock")]
    Address(String),
    #[error("no agent answers at {path:?}; is `trilith agent` running?")]
    Connect {
        path: PathBuf,
        #[source]
        source: tonic::transport::Error,
    },
    /// No identity, or none any more.
    #[error("{0}")]
    Denied(String),
    /// Worth trying again.
    #[error("the agent is not ready: {0}")]
    Unavailable(String),
    #[error("the agent answered {code:?}: {message}")]
    Status { code: Code, message: String },
    #[error("the agent's answer is malformed: {0}")]
    Answer(&'static str),
}

impl ClientError {
    /// As a user sees it.
    #[must_use]
    pub fn finding(&self) -> Finding {
        match self {
            Self::Address(_) => Finding::new("AGENT-ADDRESS", self.to_string())
                .next("set SPIFFE_ENDPOINT_SOCKET or --socket"),
            Self::Connect { path, source } => unreachable(path, deepest(source)),
            Self::Denied(told) => coded(told).unwrap_or_else(|| {
                Finding::new("AGENT-DENIED", told.clone()).next(
                    "what the agent knows of a process, and why it is refused, says: trilith whoami",
                )
            }),
            Self::Unavailable(why) => coded(why).unwrap_or_else(|| {
                Finding::new("AGENT-OFFLINE", format!("the agent is not ready: {why}"))
                    .next("look whether the server runs and at the agent's log, then try again")
            }),
            Self::Status { .. } | Self::Answer(_) => Finding::new("AGENT-ANSWER", self.to_string())
                .next("look at the agent's log, and that it has the version of this program"),
        }
    }
}

/// What an agent told in a sentence, `CODE: message; next: what to do`, as the finding that it was.
#[must_use]
pub fn coded(told: &str) -> Option<Finding> {
    let (code, rest) = told.split_once(": ")?;
    let is_code = code.contains('-')
        && code
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_code {
        return None;
    }
    let (message, next) = match rest.split_once("; next: ") {
        Some((message, next)) => (message, next),
        None => (rest, "look whether the server runs and at the agent's log"),
    };
    let mut finding = Finding::new("AGENT-DENIED", message).next(next);
    finding.code = code.to_owned().into();
    Some(finding)
}

fn unreachable(path: &Path, cause: &(dyn std::error::Error + 'static)) -> Finding {
    let finding = Finding::new(
        "AGENT-UNREACHABLE",
        format!("no agent answers at {}: {cause}", path.display()),
    );
    let forbidden = cause
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied);
    if !forbidden {
        return finding.next(
            "start `trilith agent --config FILE`, or name its socket with \
             SPIFFE_ENDPOINT_SOCKET or --socket",
        );
    }
    match closed_folder(path) {
        Some(folder) => finding.next(format!(
            "this user may not enter {}: let it in (the agent makes its folder with mode 0755), or name \
             another socket with SPIFFE_ENDPOINT_SOCKET or --socket",
            folder.display()
        )),
        None => finding.next(format!(
            "this user may not open {}: the agent makes its socket with mode 0777",
            path.display()
        )),
    }
}

/// The first folder on the way to `path` that this user may not enter.
fn closed_folder(path: &Path) -> Option<&Path> {
    let mut on_the_way: Vec<&Path> = path.ancestors().collect();
    on_the_way.reverse();
    let unseen = on_the_way.into_iter().find(|path| {
        std::fs::symlink_metadata(path)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
    })?;
    unseen.parent()
}

/// What the operating system said.
fn deepest<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::PermissionDenied => Self::Denied(message),
            // A connection that ended shows as `Unknown` or `Cancelled`.
            Code::Unavailable | Code::Cancelled | Code::Unknown => Self::Unavailable(message),
            code => Self::Status { code, message },
        }
    }
}

/// An X509-SVID with its key.
pub struct Svid {
    pub spiffe_id: String,
    /// DER certificates, concatenated, leaf first.
    pub chain: Vec<u8>,
    /// PKCS#8 DER.
    pub key: Zeroizing<Vec<u8>>,
    /// DER root certificates, concatenated.
    pub bundle: Vec<u8>,
    pub hint: String,
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid")
            .field("spiffe_id", &self.spiffe_id)
            .finish_non_exhaustive()
    }
}

/// A connection to the agent.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// Connects to `unix:///path`.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        let path = address
            .strip_prefix("unix://")
            .or_else(|| address.strip_prefix("unix:"))
            .unwrap_or(address);
        let path = PathBuf::from(path);
        if !path.is_absolute() {
            return Err(ClientError::Address(address.to_owned()));
        }
        let dialled = path.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let path = dialled.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let channel = Endpoint::from_static("http://agent.invalid")
            .connect_with_connector(connector)
            .await
            .map_err(|source| ClientError::Connect { path, source })?;
        Ok(Self { channel })
    }

    /// The SVIDs of this process, as they are now and whenever they change.
    pub async fn x509(&self) -> Result<Svids, ClientError> {
        let mut client = SpiffeWorkloadApiClient::new(self.channel.clone());
        let stream = client
            .fetch_x509svid(proper(wire::X509svidRequest {}))
            .await?;
        Ok(Svids(Source::Own(stream.into_inner())))
    }

    /// The SVIDs of `program` (absolute), which this process is about to execute.
    pub async fn x509_for(&self, program: &Path) -> Result<Svids, ClientError> {
        let request = proper(v1::HelperX509Request {
            program: utf8(program)?,
        });
        let mut client = HelperClient::new(self.channel.clone());
        let stream = client.fetch_x509svid(request).await?;
        Ok(Svids(Source::Program(stream.into_inner())))
    }

    /// What the agent knows of this process, or of `program` behind it: JSON.
    pub async fn status(&self, program: Option<&Path>) -> Result<serde_json::Value, ClientError> {
        let request = proper(v1::HelperStatusRequest {
            program: program.map(utf8).transpose()?.unwrap_or_default(),
        });
        let mut client = HelperClient::new(self.channel.clone());
        let answer = client.status(request).await?.into_inner();
        serde_json::from_slice(&answer.json).map_err(|_| ClientError::Answer("no JSON"))
    }
}

/// With the security header of the Workload API.
fn proper<T>(message: T) -> Request<T> {
    let (name, value) = workload_api::SECURITY_HEADER;
    let mut request = Request::new(message);
    let value = tonic::metadata::MetadataValue::from_static(value);
    request.metadata_mut().insert(name, value);
    request
}

fn utf8(path: &Path) -> Result<String, ClientError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or(ClientError::Answer("the program's path is not UTF-8"))
}

/// Each item is the whole state.
#[derive(Debug)]
pub struct Svids(Source);

#[derive(Debug)]
enum Source {
    Own(Streaming<wire::X509svidResponse>),
    Program(Streaming<v1::HelperX509Response>),
}

impl Svids {
    /// The next state; never empty. [`ClientError::Denied`] withdraws everything.
    pub async fn next(&mut self) -> Result<Vec<Svid>, ClientError> {
        let svids: Vec<Svid> = match &mut self.0 {
            Source::Own(stream) => {
                let message = stream.message().await?.ok_or_else(ended)?;
                let svids = message.svids.into_iter().map(|svid| Svid {
                    spiffe_id: svid.spiffe_id,
                    chain: svid.x509_svid,
                    key: Zeroizing::new(svid.x509_svid_key),
                    bundle: svid.bundle,
                    hint: svid.hint,
                });
                svids.collect()
            }
            Source::Program(stream) => {
                let message = stream.message().await?.ok_or_else(ended)?;
                let svids = message.svids.into_iter().map(|svid| Svid {
                    spiffe_id: svid.spiffe_id,
                    chain: svid.x509_svid,
                    key: Zeroizing::new(svid.x509_svid_key),
                    bundle: svid.bundle,
                    hint: svid.hint,
                });
                svids.collect()
            }
        };
        if svids.is_empty() {
            return Err(ClientError::Answer("no SVID in it"));
        }
        Ok(svids)
    }
}

fn ended() -> ClientError {
    ClientError::Unavailable("the stream ended".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was `AGENT-DENIED: AGENT-OUT: …; next: …; next: …`.
    #[test]
    fn what_was_told_with_a_code_keeps_it_and_has_one() {
        let told = "AGENT-OUT: the server gives this machine no identity; saw IMA-FILE; next: look at the log";
        let finding = coded(told).unwrap();
        assert_eq!(finding.to_string(), told);
        for error in [
            ClientError::Denied(told.to_owned()),
            ClientError::Unavailable(told.to_owned()),
        ] {
            assert_eq!(error.finding(), finding);
        }
        for uncoded in ["no identity issued", "the stream: ended", "A: b"] {
            assert!(coded(uncoded).is_none(), "{uncoded}");
        }
    }

    /// Once whoever was shut out was told to start the agent, which ran.
    #[tokio::test]
    async fn who_is_shut_out_is_told_so() {
        let path = Path::new("/run/trilith/workload.sock");
        let next = |kind: std::io::ErrorKind| {
            let finding = unreachable(path, &std::io::Error::from(kind));
            assert_eq!(finding.code, "AGENT-UNREACHABLE");
            finding.next.expect("it says what to do")
        };
        let denied = next(std::io::ErrorKind::PermissionDenied);
        assert!(denied.starts_with("this user may not"), "{denied}");
        let absent = next(std::io::ErrorKind::NotFound);
        assert!(absent.starts_with("start `trilith agent"), "{absent}");
        // What the operating system says comes through the layers between.
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("none.sock");
        let error = Client::connect(socket.to_str().unwrap()).await.unwrap_err();
        let ClientError::Connect { source, .. } = &error else {
            panic!("{error}");
        };
        let cause = deepest(source).downcast_ref::<std::io::Error>();
        assert_eq!(cause.unwrap().kind(), std::io::ErrorKind::NotFound);
    }
}
