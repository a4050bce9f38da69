//! Syslog: RFC 5424 over TCP with octet counting (RFC 6587, section 3.4.1; over TLS that is RFC 5425).
//!
//! The protocol acknowledges nothing. So each batch has a connection of its own: it is written, closed for writing,
//! and taken once the receiver has closed its side without an error, which it does after it has read the end.

use super::Refusal;
use super::address::Address;
use crate::Event;
use facts::Timestamp;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// For a batch, and until the receiver closes.
const DEADLINE: Duration = Duration::from_secs(30);
/// RFC 5424, table 1: log audit.
const FACILITY: u8 = 13;
const NOTICE: u8 = 5;
const INFORMATIONAL: u8 = 6;
/// RFC 5424, section 6: "HOSTNAME = NILVALUE / 1*255PRINTUSASCII".
const LONGEST_HOST: usize = 255;
/// What a receiver may say before it closes; it has nothing to say.
const LONGEST_ANSWER: u64 = 4_096;

pub(super) struct SyslogSink {
    address: Address,
}

impl SyslogSink {
    pub(super) const fn new(address: Address) -> Self {
        Self { address }
    }

    pub(super) async fn take(&self, events: &[Event]) -> Result<(), Refusal> {
        let sent = tokio::time::timeout(DEADLINE, self.send(events)).await;
        match sent {
            Ok(sent) => sent.map_err(Refusal::again),
            Err(_) => Err(Refusal::again(format!(
                "the syslog server did not read and close within {} s",
                DEADLINE.as_secs()
            ))),
        }
    }

    async fn send(&self, events: &[Event]) -> Result<(), String> {
        let mut stream = self.address.connect().await?;
        let mut bytes = Vec::new();
        for event in events {
            let message = message(event);
            bytes.extend_from_slice(message.len().to_string().as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(message.as_bytes());
        }
        let failed = |error: std::io::Error| format!("the syslog server went away: {error}");
        stream.write_all(&bytes).await.map_err(failed)?;
        stream.shutdown().await.map_err(failed)?;
        let mut said = Vec::new();
        let mut end = stream.take(LONGEST_ANSWER);
        end.read_to_end(&mut said).await.map_err(failed)?;
        Ok(())
    }
}

/// `<PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG`.
fn message(event: &Event) -> String {
    let severity = if event.notable { NOTICE } else { INFORMATIONAL };
    let priority = u32::from(FACILITY) * 8 + u32::from(severity);
    let time = match event.time {
        0 => "-".to_owned(),
        millis => Timestamp::from_millis(millis).to_string(),
    };
    let host: String = event
        .origin
        .chars()
        .filter(char::is_ascii_graphic)
        .take(LONGEST_HOST)
        .collect();
    let kind = event.kind;
    format!(
        "<{priority}>1 {time} {host} trilith - {kind} - {}",
        event.json
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_of_rfc_5424() {
        let event = Event {
            id: "example.org/pg-1:3".to_owned(),
            origin: "example.org/pg-1".to_owned(),
            kind: "session-start",
            time: 1_700_000_000_123,
            notable: false,
            json: "{}".to_owned(),
        };
        assert_eq!(
            message(&event),
            "<110>1 2023-11-14T22:13:20.123Z example.org/pg-1 trilith - session-start - {}"
        );
        let denied = Event {
            notable: true,
            time: 0,
            ..event
        };
        assert!(message(&denied).starts_with("<109>1 - "));
    }
}
