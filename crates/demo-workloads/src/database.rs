//! One PostgreSQL session over mTLS, and what came of each statement.

use crate::chain;
use crate::command::Command;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use spiffe_client::X509Source;
use spiffe_rustls::{authorizer, mtls_client};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio_postgres::{Client, SimpleQueryMessage, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

pub(crate) struct Database {
    source: X509Source,
    session: Option<Session>,
}

struct Session {
    client: Client,
    statements: BTreeMap<String, Statement>,
    /// Unix milliseconds and reason, once the socket is closed.
    closed: watch::Receiver<Option<(u128, String)>>,
}

impl Database {
    pub(crate) const fn new(source: X509Source) -> Self {
        Self {
            source,
            session: None,
        }
    }

    pub(crate) fn identity(&self) -> Value {
        match self.source.svid() {
            Ok(svid) => json!({
                "ok": true,
                "spiffe_id": svid.spiffe_id().to_string(),
                "chain": svid.cert_chain().len(),
                "leaf_sha256_input_bytes": svid.leaf().as_bytes().len(),
            }),
            Err(error) => json!({ "ok": false, "message": chain(&error) }),
        }
    }

    pub(crate) fn certificates(&self) -> Value {
        match self.source.svid() {
            Ok(svid) => {
                let chain = svid.cert_chain().iter();
                let chain: Vec<String> = chain
                    .map(|certificate| BASE64_STANDARD.encode(certificate.as_bytes()))
                    .collect();
                json!({ "ok": true, "chain": chain })
            }
            Err(error) => json!({ "ok": false, "message": chain(&error) }),
        }
    }

    pub(crate) async fn run(&mut self, command: Command) -> Value {
        let started = Instant::now();
        let mut answer = match self.dispatch(command).await {
            Ok(answer) => answer,
            Err(error) => error,
        };
        if let Value::Object(fields) = &mut answer {
            let elapsed = started.elapsed().as_secs_f64() * 1e3;
            fields.insert("ms".to_owned(), json!((elapsed * 1e3).round() / 1e3));
        }
        answer
    }

    async fn dispatch(&mut self, command: Command) -> Result<Value, Value> {
        if let Command::Connect { config, server } = &command {
            self.session = None;
            self.session = Some(connect(self.source.clone(), config, server).await?);
            return Ok(json!({ "ok": true }));
        }
        let session = self
            .session
            .as_mut()
            .ok_or_else(|| json!({ "ok": false, "message": "not connected" }))?;
        match command {
            Command::Query { sql } => session.query(&sql).await,
            Command::Prepare { name, sql } => {
                let statement = session.client.prepare(&sql).await.map_err(refusal)?;
                session.statements.insert(name, statement);
                Ok(json!({ "ok": true }))
            }
            Command::Execute { name } => {
                let statement = session
                    .statements
                    .get(&name)
                    .ok_or_else(|| json!({ "ok": false, "message": "no such statement" }))?;
                let rows = session
                    .client
                    .query(statement, &[])
                    .await
                    .map_err(refusal)?;
                Ok(json!({ "ok": true, "rows": rows.len() }))
            }
            Command::CopyOut { sql } => session.copy_out(&sql).await,
            Command::Load { sql, milliseconds } => session.load(&sql, milliseconds).await,
            Command::AwaitClose { milliseconds } => session.await_close(milliseconds).await,
            Command::Close => {
                self.session = None;
                Ok(json!({ "ok": true }))
            }
            Command::Identity | Command::Chain | Command::Connect { .. } => {
                Ok(json!({ "ok": true }))
            }
        }
    }
}

impl Session {
    async fn query(&self, sql: &str) -> Result<Value, Value> {
        let messages = self.client.simple_query(sql).await.map_err(refusal)?;
        let mut rows = 0_u64;
        let mut affected = 0_u64;
        let mut first = Value::Null;
        for message in messages {
            match message {
                SimpleQueryMessage::Row(row) => {
                    if first.is_null() {
                        first = json!(row.try_get(0).ok().flatten());
                    }
                    rows += 1;
                }
                SimpleQueryMessage::CommandComplete(count) => affected = count,
                _ => {}
            }
        }
        Ok(json!({ "ok": true, "rows": rows, "affected": affected, "first": first }))
    }

    async fn copy_out(&self, sql: &str) -> Result<Value, Value> {
        use futures::Stream as _;
        let stream = self.client.copy_out(sql).await.map_err(refusal)?;
        let mut stream = std::pin::pin!(stream);
        let mut bytes = 0;
        while let Some(chunk) = poll_fn(|context| stream.as_mut().poll_next(context)).await {
            bytes += chunk.map_err(refusal)?.len();
        }
        Ok(json!({ "ok": true, "bytes": bytes }))
    }

    async fn load(&self, sql: &str, milliseconds: u64) -> Result<Value, Value> {
        let until = Instant::now() + Duration::from_millis(milliseconds);
        let statement = self.client.prepare(sql).await.map_err(refusal)?;
        let (mut done, mut slowest) = (0_u64, Duration::ZERO);
        while Instant::now() < until {
            let started = Instant::now();
            self.client.query(&statement, &[]).await.map_err(refusal)?;
            slowest = slowest.max(started.elapsed());
            done += 1;
        }
        Ok(json!({ "ok": true, "queries": done, "slowest_ms": slowest.as_secs_f64() * 1e3 }))
    }

    async fn await_close(&mut self, milliseconds: u64) -> Result<Value, Value> {
        let waited = tokio::time::timeout(
            Duration::from_millis(milliseconds),
            self.closed.wait_for(Option::is_some),
        )
        .await;
        match waited {
            Ok(Ok(closed)) => {
                let (at, reason) = closed.clone().unwrap_or_default();
                Ok(json!({ "ok": true, "closed_at": at, "reason": reason }))
            }
            _ => Err(json!({ "ok": false, "message": "the session is still open" })),
        }
    }
}

async fn connect(source: X509Source, config: &str, server: &str) -> Result<Session, Value> {
    let failure = |message: String| json!({ "ok": false, "message": message });
    let peer = authorizer::exact([server]).map_err(|error| failure(chain(&error)))?;
    let tls = mtls_client(source)
        .authorize(peer)
        .build()
        .map_err(|error| failure(chain(&error)))?;
    let (client, connection) = tokio_postgres::connect(config, MakeRustlsConnect::new(tls))
        .await
        .map_err(refusal)?;
    let (closing, closed) = watch::channel(None);
    tokio::spawn(async move {
        let reason = match connection.await {
            Ok(()) => "closed".to_owned(),
            Err(error) => chain(&error),
        };
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        closing.send_replace(Some((at.as_millis(), reason)));
    });
    Ok(Session {
        client,
        statements: BTreeMap::new(),
        closed,
    })
}

/// What the server said, as `PostgreSQL` says it.
#[expect(clippy::needless_pass_by_value, reason = "used as `map_err(refusal)`")]
fn refusal(error: tokio_postgres::Error) -> Value {
    match error.as_db_error() {
        Some(refusal) => json!({
            "ok": false,
            "sqlstate": refusal.code().code(),
            "message": refusal.message(),
            "detail": refusal.detail(),
            "hint": refusal.hint(),
        }),
        None => json!({ "ok": false, "message": chain(&error) }),
    }
}
