//! The messages that the gateway writes itself, and the fields that it reads.

use bytes::{BufMut, BytesMut};

fn framed(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let at = out.len();
    out.put_u32(0);
    body(out);
    // INVARIANT: what the gateway writes is far below 4 GiB.
    let length = u32::try_from(out.len() - at).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

/// A string of the protocol: a NUL in the text would end it early and is left out.
fn text(out: &mut BytesMut, value: &str) {
    out.extend(value.bytes().filter(|byte| *byte != 0));
    out.put_u8(0);
}

/// Fields of an ErrorResponse (55.8).
#[derive(Debug, Clone, Default)]
pub(crate) struct Notice {
    pub(crate) fatal: bool,
    pub(crate) sqlstate: &'static str,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

impl Notice {
    pub(crate) fn fatal(sqlstate: &'static str, message: impl Into<String>) -> Self {
        Self {
            fatal: true,
            sqlstate,
            message: message.into(),
            ..Self::default()
        }
    }
}

pub(crate) fn error(out: &mut BytesMut, notice: &Notice) {
    framed(out, b'E', |out| {
        let severity = if notice.fatal { "FATAL" } else { "ERROR" };
        for (field, value) in [
            (b'S', Some(severity)),
            (b'V', Some(severity)),
            (b'C', Some(notice.sqlstate)),
            (b'M', Some(notice.message.as_str())),
            (b'D', notice.detail.as_deref()),
            (b'H', notice.hint.as_deref()),
        ] {
            if let Some(value) = value {
                out.put_u8(field);
                text(out, value);
            }
        }
        out.put_u8(0);
    });
}

pub(crate) fn authentication_ok(out: &mut BytesMut) {
    framed(out, b'R', |out| out.put_u32(0));
}

pub(crate) fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    framed(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

pub(crate) fn backend_key(out: &mut BytesMut, process: u32, secret: u32) {
    framed(out, b'K', |out| {
        out.put_u32(process);
        out.put_u32(secret);
    });
}

pub(crate) fn ready_for_query(out: &mut BytesMut, status: u8) {
    framed(out, b'Z', |out| out.put_u8(status));
}

/// Query.
pub fn query(out: &mut BytesMut, sql: &str) {
    framed(out, b'Q', |out| text(out, sql));
}

/// Flush: what the server has to say, now.
pub(crate) fn flush(out: &mut BytesMut) {
    framed(out, b'H', |_| {});
}

/// Parse, without parameter types.
pub fn parse(out: &mut BytesMut, name: &str, sql: &str) {
    framed(out, b'P', |out| {
        text(out, name);
        text(out, sql);
        out.put_u16(0);
    });
}

/// Any message whose body is at hand: SASL responses, Terminate.
pub(crate) fn raw(out: &mut BytesMut, tag: u8, body: &[u8]) {
    framed(out, tag, |out| out.put_slice(body));
}

/// The NUL-terminated string at the start of `bytes`, and what follows.
#[must_use]
pub fn text_at(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == 0)?;
    let (value, rest) = bytes.split_at_checked(end)?;
    Some((std::str::from_utf8(value).ok()?, rest.get(1..)?))
}

/// The fields of an ErrorResponse's body.
fn fields(body: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (&field, after) = rest.split_first()?;
        let end = after.iter().position(|byte| *byte == 0)?;
        rest = after.get(end + 1..)?;
        (field != 0).then_some((field, after.get(..end)?))
    })
}

/// SQLSTATE and message of an ErrorResponse's body.
pub(crate) fn sqlstate(body: &[u8]) -> (String, String) {
    let (mut code, mut message) = (String::new(), String::new());
    for (field, value) in fields(body) {
        let value = String::from_utf8_lossy(value);
        match field {
            b'C' => code = value.into_owned(),
            b'M' => message = value.into_owned(),
            _ => {}
        }
    }
    (code, message)
}

/// An ErrorResponse of which only those fields are left that hold no data (55.8), and `detail` in the place of what
/// the server says more; `message` too, where even that one may hold data.
pub(crate) fn without_data(out: &mut BytesMut, body: &[u8], detail: &str, message: Option<&str>) {
    framed(out, b'E', |out| {
        for (field, value) in fields(body) {
            match (field, message) {
                (b'M', Some(message)) => {
                    out.put_u8(field);
                    text(out, message);
                }
                // Severity, SQLSTATE, message, position; schema, table, column, type, constraint; file, line, routine.
                (
                    b'S' | b'V' | b'C' | b'M' | b'P' | b's' | b't' | b'c' | b'd' | b'n' | b'F'
                    | b'L' | b'R',
                    _,
                ) => {
                    out.put_u8(field);
                    out.put_slice(value);
                    out.put_u8(0);
                }
                _ => {}
            }
        }
        out.put_u8(b'D');
        text(out, detail);
        out.put_u8(0);
    });
}

/// NegotiateProtocolVersion: only minor version 0, and none of `unsupported` (55.8).
pub(crate) fn negotiate(out: &mut BytesMut, unsupported: &[String]) {
    framed(out, b'v', |out| {
        out.put_u32(0);
        out.put_u32(u32::try_from(unsupported.len()).unwrap_or(0));
        for name in unsupported {
            text(out, name);
        }
    });
}
