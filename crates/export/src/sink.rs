//! Where events go, and what it means there that a batch was taken.
//!
//! | sink | taken means |
//! |---|---|
//! | `file:PATH` | written whole, and on the disk |
//! | `parquet:FOLDER` | a file of its own, and on the disk |
//! | `stdout` | written into the pipe: what its reader loses is lost |
//! | `https://…` | answered with 2xx |
//! | `syslog:…` | the receiver has read all of it and closed the connection after it |
//! | `kafka:…` | every replica in sync has it |

mod address;
mod file;
mod http;
mod kafka;
mod parquet;
mod syslog;
mod varint;

use crate::{Event, Format};
use address::Address;
use facts::Finding;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a batch was not taken.
#[derive(Debug)]
pub enum Refusal {
    /// Not now.
    Again {
        why: String,
        /// As long as the sink asks for.
        after: Option<Duration>,
    },
    /// Fewer at once.
    TooLarge(Box<Finding>),
    Never(Box<Finding>),
}

impl Refusal {
    fn again(why: impl Into<String>) -> Self {
        Self::Again {
            why: why.into(),
            after: None,
        }
    }
}

/// Where to and by whose leave, beside the sink's name.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// PEM; without it, the system's authorities.
    pub authorities: Option<PathBuf>,
    /// `Name: value` a line.
    pub headers: Option<PathBuf>,
}

/// A sink that is open.
pub struct Sink(Inner);

enum Inner {
    File(file::FileSink),
    Parquet(parquet::ParquetSink),
    Stdout,
    Http(Box<http::HttpSink>),
    Syslog(syslog::SyslogSink),
    Kafka(Box<kafka::KafkaSink>),
}

impl Sink {
    /// `stdout`, `file:PATH`, `parquet:FOLDER`, `https://HOST[:PORT]/PATH`, `syslog+tls:HOST:PORT`, `kafka+tls://HOST:PORT/TOPIC`; plain
    /// `http://`, `syslog:` and `kafka://` to addresses of this machine, in numbers.
    ///
    /// # Errors
    /// `EXPORT-SINK-NAME`, `EXPORT-SINK-FILE`, `EXPORT-SINK-CA`, `EXPORT-SINK-HEADERS`.
    pub fn open(to: &str, format: Format, secrets: &Secrets) -> Result<Self, crate::Error> {
        let opened = Self::of(to, format, secrets);
        opened.map_err(crate::Error::refused)
    }

    fn of(to: &str, format: Format, secrets: &Secrets) -> Result<Self, Finding> {
        if to == "stdout" {
            return Ok(Self(Inner::Stdout));
        }
        let (scheme, rest) = to.split_once(':').ok_or_else(|| unnamed(to))?;
        let inner = match scheme {
            "file" if !rest.is_empty() => Inner::File(file::FileSink::open(Path::new(rest))?),
            "parquet" if !rest.is_empty() => {
                Inner::Parquet(parquet::ParquetSink::open(Path::new(rest))?)
            }
            "http" | "https" => {
                let address = Address::of_url(to, secrets)?.ok_or_else(|| unnamed(to))?;
                let sink = http::HttpSink::open(address, format, secrets)?;
                Inner::Http(Box::new(sink))
            }
            "syslog" | "syslog+tls" => {
                let tls = scheme == "syslog+tls";
                let address = Address::of_host(rest, tls, secrets)?.ok_or_else(|| unnamed(to))?;
                Inner::Syslog(syslog::SyslogSink::new(address))
            }
            "kafka" | "kafka+tls" => {
                let (host, topic) = kafka::KafkaSink::topic(rest).ok_or_else(|| unnamed(to))?;
                let tls = scheme == "kafka+tls";
                let address = Address::of_host(host, tls, secrets)?.ok_or_else(|| unnamed(to))?;
                Inner::Kafka(Box::new(kafka::KafkaSink::new(address, topic)))
            }
            _ => return Err(unnamed(to)),
        };
        Ok(Self(inner))
    }

    /// Records that it takes best at once, and bytes.
    pub(crate) const fn batch(&self) -> (u64, usize) {
        match self.0 {
            // Files for analysis are read column by column: better few than small.
            Inner::Parquet(_) => (65_536, 64 << 20),
            _ => (512, 1 << 20),
        }
    }

    /// Hands a batch over. If this is dropped before it returns, all, some or none of it was taken.
    ///
    /// # Errors
    /// [`Refusal`]: the whole batch has to be handed over again.
    pub async fn take(&mut self, events: &[Event]) -> Result<(), Refusal> {
        match &mut self.0 {
            Inner::File(file) => file.take(events),
            Inner::Parquet(parquet) => parquet.take(events),
            Inner::Stdout => file::to_stdout(events),
            Inner::Http(http) => http.take(events).await,
            Inner::Syslog(syslog) => syslog.take(events).await,
            Inner::Kafka(kafka) => kafka.take(events).await,
        }
    }
}

fn unnamed(to: &str) -> Finding {
    Finding::new("EXPORT-SINK-NAME", "records cannot be sent there")
        .expected("stdout, file:PATH, parquet:FOLDER, https://HOST/PATH, syslog+tls:HOST:PORT, kafka+tls://HOST:PORT/TOPIC; http://, syslog: and kafka:// to 127.0.0.1 or [::1] alone")
        .observed(to.chars().take(200).collect::<String>())
        .next("name a sink with TLS, or a collector on this machine")
}

/// All of a batch, a line each.
fn lines(events: &[Event]) -> Vec<u8> {
    let length = events.iter().map(|event| event.json.len() + 1).sum();
    let mut bytes = Vec::with_capacity(length);
    for event in events {
        bytes.extend_from_slice(event.json.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}
