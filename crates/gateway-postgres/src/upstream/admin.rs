//! The administrative connection: simple queries whose results are text. Only ever the gateway's
//! own statements; nothing of a client's reaches it except as a quoted literal.

use super::connect::{Address, Connected, Login, UpstreamError};
use crate::wire;
use bytes::BytesMut;

/// Rows of the catalogue are small; their number is bounded by the schema.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("the administrative connection failed")]
    Upstream(#[from] UpstreamError),
    #[error("the database refused an administrative statement: {message} (SQLSTATE {sqlstate})")]
    Statement { sqlstate: String, message: String },
    #[error("the catalogue has a row that cannot be read")]
    Row,
    #[error("the database's encoding is {0}, UTF8 is the one that the gateway can decide on")]
    Encoding(String),
}

/// One row: columns as text, `None` for NULL.
pub(crate) type Row = Vec<Option<String>>;

pub(crate) struct Admin {
    session: Connected,
}

impl Admin {
    pub(crate) async fn connect(
        address: &Address,
        user: &str,
        database: &str,
        login: &Login<'_>,
    ) -> Result<Self, AdminError> {
        let parameters = [
            ("user", user),
            ("database", database),
            ("application_name", "trilith gateway"),
            ("client_encoding", "UTF8"),
            // Definitions of views come out with every name qualified.
            (
                "options",
                "-c search_path= -c standard_conforming_strings=on -c statement_timeout=30000",
            ),
        ];
        let session = address.connect(&parameters, login).await?;
        let encoding = session
            .parameters
            .iter()
            .find(|(name, _)| name == "server_encoding")
            .map_or("unknown", |(_, value)| value.as_str());
        if encoding != "UTF8" {
            return Err(AdminError::Encoding(encoding.to_owned()));
        }
        Ok(Self { session })
    }

    /// Runs `sql`, which may hold several statements; the rows of all of them.
    pub(crate) async fn query(&mut self, sql: &str) -> Result<Vec<Row>, AdminError> {
        let mut out = BytesMut::new();
        wire::query(&mut out, sql);
        self.session.send(&out).await?;
        let mut rows = Vec::new();
        let mut refused = None;
        loop {
            let (tag, body) = self.session.message(MAX_MESSAGE).await?;
            match tag {
                b'D' => rows.push(row(&body).ok_or(AdminError::Row)?),
                b'E' => {
                    let (sqlstate, message) = wire::sqlstate(&body);
                    refused = Some(AdminError::Statement { sqlstate, message });
                }
                b'Z' => return refused.map_or(Ok(rows), Err),
                _ => {}
            }
        }
    }
}

fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut columns = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            columns.push(None);
            rest = after;
            continue;
        };
        let (value, after) = after.split_at_checked(length)?;
        columns.push(Some(std::str::from_utf8(value).ok()?.to_owned()));
        rest = after;
    }
    Some(columns)
}

/// `'it''s'`; the session has standard_conforming_strings on.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\0', "").replace('\'', "''"))
}

/// `"a ""name"""`
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\0', "").replace('"', "\"\""))
}
