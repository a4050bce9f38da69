//! Which tools an MCP server says it has, and the digest of how it describes each.
//!
//! Revision 2026-07-28 (each request stands alone) and 2025-11-25 and before (after `initialize`), over
//! streamable HTTP and over the standard streams of a program. It lists; it calls no tool.

mod definition;
mod http;
mod stdio;

use facts::Finding;
use http::Http;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;
use stdio::Stdio;

const STATELESS: &str = "2026-07-28";
const INITIALIZED: &str = "2025-11-25";
/// What a server of the older kind may choose instead; `tools/list` is the same in all.
const OLDER: [&str; 4] = [INITIALIZED, "2025-06-18", "2025-03-26", "2024-11-05"];
/// Of one message.
const MAX_MESSAGE: usize = 8 * 1024 * 1024;
const MOST_TOOLS: usize = 10_000;
const MOST_PAGES: usize = 1_000;
const MAX_CURSOR: usize = 4_096;

/// Where a server is.
pub enum Endpoint {
    Http {
        /// `https://…`, or `http://…` to this machine.
        url: String,
        /// A PEM file of the authorities that may certify it; `None`: those of the system.
        ca: Option<PathBuf>,
        /// What opens the server's door; it goes into a header, and is never printed.
        token: Option<crypto::SecretBytes>,
    },
    /// A program, which speaks over its standard streams, and what it is given.
    Command(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// The newer one, else the older.
    #[default]
    Either,
    Stateless,
    Initialized,
}

/// What a server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Each with `sha256:` and the digest of its definition.
    pub tools: BTreeMap<String, String>,
    /// The revision in which it was said.
    pub protocol: String,
}

/// Why a server said nothing that counts.
enum Failure {
    /// It answered, and not in this revision.
    Unsupported(String),
    /// It cannot be reached, or ended in the middle.
    Broken(String),
    /// It said what nobody may say.
    Refused(Finding),
}

impl From<Finding> for Failure {
    fn from(finding: Finding) -> Self {
        Self::Refused(finding)
    }
}

/// Lists the tools of a server. All of it takes at most `timeout`, of which a program may be silent for half about a revision
/// that it may not know: on a machine that is busy it takes seconds to start.
///
/// # Errors
/// `SYNC-MCP`, `SYNC-MCP-URL`, `SYNC-MCP-ANSWER` and `SYNC-MCP-LIMIT`.
pub async fn tools(
    endpoint: &Endpoint,
    protocol: Protocol,
    timeout: Duration,
) -> Result<Listed, Finding> {
    tokio::time::timeout(timeout, listed(endpoint, protocol, timeout / 2))
        .await
        .map_err(|_| unanswered(&format!("no whole answer within {} s", timeout.as_secs())))?
}

async fn listed(
    endpoint: &Endpoint,
    protocol: Protocol,
    silence: Duration,
) -> Result<Listed, Finding> {
    let mut tried = Vec::new();
    if protocol != Protocol::Initialized {
        let probing = (protocol == Protocol::Either).then_some(silence);
        let asked = stateless(endpoint, probing).await;
        match asked {
            Ok(listed) => return Ok(listed),
            Err(Failure::Refused(finding)) => return Err(finding),
            Err(Failure::Broken(why)) if matches!(endpoint, Endpoint::Http { .. }) => {
                return Err(unanswered(&why));
            }
            Err(Failure::Broken(why) | Failure::Unsupported(why)) => {
                tried.push(format!("by {STATELESS} {why}"));
            }
        }
    }
    if protocol != Protocol::Stateless {
        match initialized(endpoint).await {
            Ok(listed) => return Ok(listed),
            Err(Failure::Refused(finding)) => return Err(finding),
            Err(Failure::Broken(why) | Failure::Unsupported(why)) => {
                tried.push(format!("by {INITIALIZED} {why}"));
            }
        }
    }
    Err(unanswered(&tried.join("; ")))
}

fn unanswered(observed: &str) -> Finding {
    Finding::new("SYNC-MCP", "the MCP server does not list its tools")
        .expected(format!(
            "an answer to tools/list, by revision {STATELESS} or {INITIALIZED}"
        ))
        .observed(observed)
        .next("check the address and that the server runs; a token goes into --token-file")
}

fn malformed(observed: impl Into<String>) -> Finding {
    Finding::new("SYNC-MCP-ANSWER", "the MCP server's answer is not one")
        .observed(observed)
        .next("nothing was written; have the server mended")
}

fn beyond(what: impl Into<String>) -> Finding {
    Finding::new(
        "SYNC-MCP-LIMIT",
        "the MCP server says more than is listened to",
    )
    .expected(what)
    .next("nothing was written; declare what it needs by hand, or split the server")
}

/// The way to a server.
enum Transport<'a> {
    Http(Http<'a>),
    Stdio(Box<Stdio>),
}

impl<'a> Transport<'a> {
    fn open(endpoint: &'a Endpoint) -> Result<Self, Failure> {
        Ok(match endpoint {
            Endpoint::Http { url, ca, token } => {
                Self::Http(Http::open(url, ca.as_deref(), token.as_ref())?)
            }
            Endpoint::Command(words) => Self::Stdio(Box::new(Stdio::start(words)?)),
        })
    }

    /// Sends a request, and waits for the result.
    async fn ask(&mut self, request: &Value, revision: &str) -> Result<Value, Failure> {
        let answer = match self {
            Self::Http(http) => http.ask(request, revision).await?,
            Self::Stdio(stdio) => stdio.ask(request).await?,
        };
        if let Some(error) = answer.get("error") {
            let code = error
                .get("code")
                .and_then(Value::as_i64)
                .unwrap_or_default();
            let message = error.get("message").and_then(Value::as_str);
            let message: String = message.unwrap_or_default().chars().take(200).collect();
            return Err(Failure::Unsupported(format!(
                "it answered {code}, {message:?}"
            )));
        }
        answer
            .get("result")
            .filter(|result| result.is_object())
            .cloned()
            .ok_or_else(|| malformed("neither a result nor an error").into())
    }

    async fn tell(&mut self, notification: &Value, revision: &str) -> Result<(), Failure> {
        match self {
            Self::Http(http) => http.tell(notification, revision).await,
            Self::Stdio(stdio) => stdio.tell(notification).await,
        }
    }

    async fn end(self) {
        if let Self::Http(http) = self {
            http.end().await;
        }
    }
}

async fn stateless(endpoint: &Endpoint, probing: Option<Duration>) -> Result<Listed, Failure> {
    let mut transport = Transport::open(endpoint)?;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": STATELESS,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": client(),
    });
    let mut pages = Pages::default();
    loop {
        let mut params = json!({ "_meta": meta });
        pages.turn(&mut params);
        let request = request(pages.number, "tools/list", &params);
        let asking = transport.ask(&request, STATELESS);
        // A program of before may take what it does not know for nothing at all.
        let result = match (probing, endpoint) {
            (Some(silence), Endpoint::Command(_)) => {
                let silent = |_| Failure::Broken("it says nothing".to_owned());
                tokio::time::timeout(silence, asking)
                    .await
                    .map_err(silent)??
            }
            _ => asking.await?,
        };
        match result.get("resultType").and_then(Value::as_str) {
            None | Some("complete") => {}
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                return Err(malformed(format!("a result of type {other:?}")).into());
            }
        }
        if pages.take(&result)? {
            return Ok(pages.listed(STATELESS));
        }
    }
}

async fn initialized(endpoint: &Endpoint) -> Result<Listed, Failure> {
    let mut transport = Transport::open(endpoint)?;
    let params = json!({
        "protocolVersion": INITIALIZED,
        "capabilities": {},
        "clientInfo": client(),
    });
    let first = request(0, "initialize", &params);
    let result = transport.ask(&first, INITIALIZED).await?;
    let chosen = result.get("protocolVersion").and_then(Value::as_str);
    let Some(revision) = OLDER.into_iter().find(|known| Some(*known) == chosen) else {
        return Err(Failure::Unsupported("it wants another revision".to_owned()));
    };
    let told = json!({ "jsonrpc": "2.0", "method": "notifications/initialized" });
    transport.tell(&told, revision).await?;
    let mut pages = Pages::default();
    loop {
        let mut params = json!({});
        pages.turn(&mut params);
        let request = request(pages.number, "tools/list", &params);
        let result = transport.ask(&request, revision).await?;
        if pages.take(&result)? {
            transport.end().await;
            return Ok(pages.listed(revision));
        }
    }
}

fn client() -> Value {
    json!({ "name": "trilith", "version": env!("CARGO_PKG_VERSION") })
}

fn request(id: usize, method: &str, params: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// A list that comes in pieces.
#[derive(Default)]
struct Pages {
    number: usize,
    cursor: Option<String>,
    seen: BTreeSet<String>,
    tools: BTreeMap<String, String>,
}

impl Pages {
    /// Asks for the next piece.
    fn turn(&mut self, params: &mut Value) {
        self.number += 1;
        if let (Some(cursor), Some(params)) = (&self.cursor, params.as_object_mut()) {
            params.insert("cursor".to_owned(), Value::String(cursor.clone()));
        }
    }

    /// Takes a piece; true when it was the last.
    fn take(&mut self, result: &Value) -> Result<bool, Finding> {
        let tools = result
            .get("tools")
            .and_then(Value::as_array)
            .ok_or_else(|| malformed("no list of tools"))?;
        for tool in tools {
            let name = tool
                .get("name")
                .and_then(Value::as_str)
                .ok_or_else(|| malformed("a tool without a name"))?;
            let digest = definition::digest(tool);
            if self.tools.insert(name.to_owned(), digest).is_some() {
                return Err(malformed(format!("the tool {name:?} twice")));
            }
            if self.tools.len() > MOST_TOOLS {
                return Err(beyond(format!("at most {MOST_TOOLS} tools")));
            }
        }
        let cursor = match result.get("nextCursor") {
            None | Some(Value::Null) => return Ok(true),
            Some(Value::String(cursor)) => cursor,
            Some(_) => return Err(malformed("a cursor that is no text")),
        };
        if cursor.len() > MAX_CURSOR || self.number >= MOST_PAGES {
            return Err(beyond(format!(
                "at most {MOST_PAGES} pages, and cursors of at most {MAX_CURSOR} bytes"
            )));
        }
        if !self.seen.insert(cursor.clone()) {
            return Err(malformed("the same cursor twice"));
        }
        self.cursor = Some(cursor.clone());
        Ok(false)
    }

    fn listed(self, protocol: &str) -> Listed {
        Listed {
            tools: self.tools,
            protocol: protocol.to_owned(),
        }
    }
}
