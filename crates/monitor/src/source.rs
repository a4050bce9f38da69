//! Where a log is read: by HTTP, from a folder of static tiles, or from the folder of a Trilith ledger. What comes is
//! within bounds and nothing more; whether it is the log's is for others to say.

use crate::Failure;
use crate::config::Config;
use crate::http::{Address, Trouble};
use facts::Finding;
use hyper::StatusCode;
use ledger::label::{LabelPath, LabelTile};
use ledger::tile::{Kind, TilePath};
use ledger_store::{Folder, StoreError};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes of a note, at most; `ledger` takes no more.
const MAX_NOTE: usize = 256 * 1024;
/// Bytes of a whole bundle: 256 entries of 65,535 bytes and their lengths.
const MAX_BUNDLE: usize = 256 * (2 + 65_535);
/// Entries were taken away by the log's owner.
pub(crate) const PRUNED: &str = "MONITOR-PRUNED";

pub(crate) enum Source {
    Http(Address),
    /// `checkpoint` and `tile/…` as files.
    Files(PathBuf),
    /// Opened anew with each checkpoint.
    Ledger(PathBuf, Option<Folder>),
}

impl Source {
    /// What the configuration names: the one that is read, and the others.
    pub(crate) fn all(config: &Config) -> Result<(Self, Vec<Self>), Finding> {
        if let Some(folder) = &config.log.folder {
            let only = match Folder::is_ledger(folder) {
                true => Self::Ledger(folder.clone(), None),
                false => Self::Files(folder.clone()),
            };
            return Ok((only, Vec::new()));
        }
        let mut all = Self::addresses(config, &config.log.urls)?
            .into_iter()
            .map(Self::Http);
        let first = all
            .next()
            .ok_or_else(|| crate::config::wrong("a log has `urls` or a `folder`"))?;
        Ok((first, all.collect()))
    }

    pub(crate) fn addresses(config: &Config, urls: &[String]) -> Result<Vec<Address>, Finding> {
        let monitor = &config.monitor;
        let timeout = Duration::from_secs(monitor.timeout_s.into());
        let open = |url: &String| Address::new(url, monitor.ca_file.as_deref(), timeout, false);
        urls.iter().map(open).collect()
    }

    /// As findings call it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Http(address) => address.url.clone(),
            Self::Files(path) | Self::Ledger(path, _) => path.display().to_string(),
        }
    }

    /// The newest checkpoint that it shows.
    pub(crate) async fn checkpoint(&mut self) -> Result<String, Failure> {
        let bytes = match self {
            Self::Ledger(path, opened) => {
                let folder = Folder::open(path).map_err(|error| {
                    unreachable(&path.display().to_string(), facts::with_causes(&error))
                })?;
                let note = folder.reader().head().note.to_string();
                *opened = Some(folder);
                return Ok(note);
            }
            Self::Files(path) => file(&path.join("checkpoint"), MAX_NOTE)?,
            Self::Http(address) => note_of(address, "checkpoint").await?,
        };
        let bytes = bytes.ok_or_else(|| unreachable(&self.name(), "there is no checkpoint"))?;
        text(bytes, &self.name())
    }

    /// A tile at exactly that width; `None` if it is not there.
    pub(crate) async fn tile(&self, path: &TilePath) -> Result<Option<Vec<u8>>, Failure> {
        let found = self.bytes(path).await;
        if path.is_full() || matches!(found, Ok(Some(_))) {
            return found;
        }
        // "clients MAY fetch the full tile" once a partial one is gone.
        match found {
            Err(failure) if failure.finding().code != PRUNED => return Err(failure),
            _ => {}
        }
        match self.bytes(&TilePath::full(path.kind, path.index)).await? {
            Some(bytes) => Ok(cut(path, bytes)),
            None => found,
        }
    }

    /// Labels at that width or, once they are gone, the full tile's; `None` if there are none.
    pub(crate) async fn labels(
        &self,
        path: LabelPath,
    ) -> Result<Option<(LabelPath, Vec<u8>)>, Failure> {
        if let Some(bytes) = self.labels_at(&path).await? {
            return Ok(Some((path, bytes)));
        }
        if path.is_full() {
            return Ok(None);
        }
        let full = path.full();
        Ok(self.labels_at(&full).await?.map(|bytes| (full, bytes)))
    }

    async fn labels_at(&self, path: &LabelPath) -> Result<Option<Vec<u8>>, Failure> {
        let most = LabelTile::longest(path.width());
        match self {
            // It has none: they are made where it is served.
            Self::Ledger(..) => Ok(None),
            Self::Files(folder) => file(&folder.join(path.to_string()), most),
            Self::Http(address) => {
                let path = path.to_string();
                let got = address.get(&path, most).await;
                match got.map_err(|trouble| failed(address, &path, trouble))? {
                    (StatusCode::OK, body) => Ok(Some(body)),
                    (StatusCode::NOT_FOUND | StatusCode::GONE, _) => Ok(None),
                    (other, _) => Err(unreachable(
                        &address.url,
                        format!("/{path} is answered with {other}"),
                    )),
                }
            }
        }
    }

    async fn bytes(&self, path: &TilePath) -> Result<Option<Vec<u8>>, Failure> {
        let most = match path.kind {
            Kind::Hashes(_) => usize::from(path.width()) * 32,
            Kind::Entries => MAX_BUNDLE,
        };
        match self {
            Self::Ledger(_, None) => Ok(None),
            Self::Ledger(folder, Some(opened)) => {
                let folder = folder.display().to_string();
                opened.reader().tile(path).map_err(|error| match error {
                    StoreError::Pruned { .. } => pruned(&folder, facts::with_causes(&error)),
                    error => unreachable(&folder, facts::with_causes(&error)),
                })
            }
            Self::Files(folder) => file(&folder.join(path.to_string()), most),
            Self::Http(address) => {
                let path = path.to_string();
                let got = address.get(&path, most).await;
                let (status, body) = got.map_err(|trouble| failed(address, &path, trouble))?;
                match status {
                    StatusCode::OK => Ok(Some(body)),
                    StatusCode::GONE if path.starts_with("tile/entries/") => Err(pruned(
                        &address.url,
                        format!("/{path} is answered with {status}"),
                    )),
                    StatusCode::NOT_FOUND | StatusCode::GONE => Ok(None),
                    StatusCode::FORBIDDEN if path.starts_with("tile/entries/") => {
                        Err(closed(address))
                    }
                    other => Err(unreachable(
                        &address.url,
                        format!("/{path} is answered with {other}"),
                    )),
                }
            }
        }
    }
}

/// The first `width` of a full tile; `None` if it has not so many.
fn cut(path: &TilePath, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
    let width = usize::from(path.width());
    let length = match path.kind {
        Kind::Hashes(_) => width * 32,
        Kind::Entries => {
            let mut rest = bytes.as_slice();
            for _ in 0..width {
                rest = entry(rest)?.1;
            }
            bytes.len() - rest.len()
        }
    };
    if bytes.len() < length {
        return None;
    }
    bytes.truncate(length);
    Some(bytes)
}

/// The first entry of a bundle, and what follows it.
fn entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}

/// All entries of a bundle of `width`; `None` unless there are exactly so many. Other logs' are longer than ours.
pub(crate) fn entries(bundle: &[u8], width: u16) -> Option<Vec<&[u8]>> {
    let mut rest = bundle;
    let mut found = Vec::with_capacity(usize::from(width));
    for _ in 0..width {
        let (first, after) = entry(rest)?;
        found.push(first);
        rest = after;
    }
    rest.is_empty().then_some(found)
}

/// A note at an address; `None` if it has none.
pub(crate) async fn note_of(address: &Address, path: &str) -> Result<Option<Vec<u8>>, Failure> {
    let got = address.get(path, MAX_NOTE).await;
    match got.map_err(|trouble| failed(address, path, trouble))? {
        (StatusCode::OK, body) => Ok(Some(body)),
        (StatusCode::NOT_FOUND, _) => Ok(None),
        (other, _) => Err(unreachable(
            &address.url,
            format!("/{path} is answered with {other}"),
        )),
    }
}

pub(crate) fn text(bytes: Vec<u8>, by: &str) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|_error| {
        Failure::Broken(
            Finding::new(
                "MONITOR-CHECKPOINT",
                format!("what {by} shows as its checkpoint is no text"),
            )
            .next("tell the log's operator"),
        )
    })
}

fn file(path: &Path, most: usize) -> Result<Option<Vec<u8>>, Failure> {
    let unreadable = |error: std::io::Error| unreachable(&path.display().to_string(), error);
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        file => file.map_err(unreadable)?,
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    match bytes.len() > most {
        true => Err(too_large(&path.display().to_string())),
        false => Ok(Some(bytes)),
    }
}

fn failed(address: &Address, path: &str, trouble: Trouble) -> Failure {
    let what = format!("{}/{path}", address.url.trim_end_matches('/'));
    match trouble {
        Trouble::None(why) => unreachable(&what, why),
        Trouble::Slow => Failure::Unreachable(
            Finding::new("MONITOR-SLOW", format!("{what} was not there in time"))
                .expected("a whole answer within `timeout_s`")
                .next("raise `timeout_s` if the line is slow; else tell the log's operator"),
        ),
        Trouble::TooLarge => too_large(&what),
    }
}

fn too_large(what: &str) -> Failure {
    Failure::Broken(
        Finding::new(
            "MONITOR-TOO-LARGE",
            format!("{what} has more bytes than it can have"),
        )
        .next("tell the log's operator; nothing of it was taken"),
    )
}

pub(crate) fn unreachable(what: &str, why: impl std::fmt::Display) -> Failure {
    Failure::Unreachable(
        Finding::new(
            "MONITOR-UNREACHABLE",
            format!("{what} cannot be read: {why}"),
        )
        .next("look at the address and at the log's server; it is tried again"),
    )
}

/// Its owner has taken records away, as one of the ledger's own says: whoever has looked at them before goes on.
fn pruned(what: &str, why: String) -> Failure {
    Failure::Broken(
        Finding::new(
            PRUNED,
            format!("records of {what} that were not looked at are gone: its owner has pruned them"),
        )
        .expected("every record since the monitor began")
        .observed(why)
        .next(
            "watch whoever has them all: of a gateway's ledger the server's mirror (`folder = \"…/mirrors/…\"`), of a server's \
             own its mirror, or once the copy that was made before (`folder`, with an empty `state_dir`), and then this one \
             again. Or begin with what comes from now on: `begin = \"now\"` under [log], and an empty `state_dir`",
        ),
    )
}

fn closed(address: &Address) -> Failure {
    Failure::Broken(
        Finding::new(
            "MONITOR-ENTRIES-CLOSED",
            format!("{} does not serve its records", address.url),
        )
        .expected("a server with `http_entries = true`")
        .next("ask its operator, or watch the history alone with `entries = \"closed\"`"),
    )
}
