//! Identities for programs that know nothing of SPIFFE: `trilith exec` and `trilith files`.
//!
//! What is attested behind a helper is in `docs/decisions/0005-exec-helper.md`.

mod exec;
mod files;
mod folder;
mod patience;
mod refusal;

pub use patience::Patience;
pub use refusal::distance;

pub use exec::{ExecOptions, exec};
pub use files::{FilesOptions, files};

use crate::client::{Client, ClientError, Svid, Svids};
use facts::Finding;
use patience::Said;
use std::path::{Path, PathBuf};
use std::time::Duration;

const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    #[error("asking the agent")]
    Client(#[from] ClientError),
    #[error("the agent gives no identity {wanted}; it gives {given}")]
    Identity { wanted: String, given: String },
    #[error("{action} {path:?}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0:?} is not an executable program in PATH")]
    Program(String),
    #[error("{0:?} is writable by others: whoever can write there could read the key")]
    Directory(PathBuf),
    #[error("no user or group {0:?} on this machine")]
    Owner(String),
    #[error("a certificate from the agent is not DER")]
    Certificate,
    /// The nearest refusal first.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Refused(Vec<Finding>),
    #[error("{0}")]
    Offline(Finding),
}

/// What came of following an identity.
enum Change {
    /// Use this from now on.
    Held(Svid),
    /// Stop using it.
    Withdrawn(String),
}

/// Follows one identity through restarts of the agent.
struct Follow<'a> {
    address: &'a str,
    program: Option<&'a Path>,
    identity: Option<&'a str>,
    stream: Option<Svids>,
    /// Whether the last change was [`Change::Held`].
    held: bool,
    retry: Duration,
    /// Why the agent had nothing, when it was asked last.
    said: Said,
}

impl<'a> Follow<'a> {
    fn new(address: &'a str, program: Option<&'a Path>, identity: Option<&'a str>) -> Self {
        Self {
            address,
            program,
            identity,
            stream: None,
            held: false,
            retry: FIRST_RETRY,
            said: Said::default(),
        }
    }

    /// The first SVID. An agent that is not ready yet is waited for; a refusal is final.
    async fn first(&mut self, patience: &Patience) -> Result<Svid, HelperError> {
        let said = self.said.clone();
        patience.wait(&said, self.obtain()).await
    }

    async fn obtain(&mut self) -> Result<Svid, HelperError> {
        loop {
            match self.step().await {
                Ok(svid) => return Ok(svid),
                Err(HelperError::Client(ClientError::Unavailable(why))) => self.rest(&why).await,
                Err(HelperError::Client(ClientError::Denied(told))) => {
                    return Err(refusal::explained(self.address, self.program, told).await);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next change; each withdrawal once. May be dropped and called again: nothing is lost, because
    /// nothing is awaited between a change and its return.
    async fn next(&mut self) -> Change {
        loop {
            match self.step().await {
                Ok(svid) => return Change::Held(svid),
                Err(
                    error @ (HelperError::Client(ClientError::Denied(_))
                    | HelperError::Identity { .. }),
                ) if self.held => {
                    self.stream = None;
                    self.held = false;
                    return Change::Withdrawn(error.to_string());
                }
                Err(error) => self.rest(&error.to_string()).await,
            }
        }
    }

    async fn step(&mut self) -> Result<Svid, HelperError> {
        if self.stream.is_none() {
            let client = Client::connect(self.address).await?;
            let stream = match self.program {
                Some(program) => client.x509_for(program).await,
                None => client.x509().await,
            };
            self.stream = Some(stream?);
        }
        let Some(stream) = &mut self.stream else {
            return Err(ClientError::Unavailable("no stream".to_owned()).into());
        };
        let svids = stream.next().await?;
        self.retry = FIRST_RETRY;
        let given = svids.len();
        let chosen = self.choose(svids)?;
        if given > 1 && self.identity.is_none() && !self.held {
            // Standard error is the program's as well: once, and only where there was a choice.
            tracing::warn!(identity = %chosen.spiffe_id, given, "the first of several identities is taken: --identity names another");
        }
        self.held = true;
        Ok(chosen)
    }

    fn choose(&self, svids: Vec<Svid>) -> Result<Svid, HelperError> {
        let given: Vec<String> = svids.iter().map(|svid| svid.spiffe_id.clone()).collect();
        let mut svids = svids.into_iter();
        let chosen = match self.identity {
            // The first is the default identity (API spec, section 5.2.1).
            None => svids.next(),
            Some(wanted) => svids.find(|svid| svid.spiffe_id == wanted),
        };
        chosen.ok_or_else(|| HelperError::Identity {
            wanted: self.identity.unwrap_or_default().to_owned(),
            given: given.join(", "),
        })
    }

    async fn rest(&mut self, why: &str) {
        tracing::debug!(why, "asking the agent again");
        self.said.keep(why);
        self.stream = None;
        let wait = self.retry;
        self.retry = (wait * 2).min(LAST_RETRY);
        tokio::time::sleep(wait).await;
    }
}
