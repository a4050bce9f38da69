//! A log's entries, brought to a mirror of it (c2sp.org/tlog-mirror) by somebody who only reads the log. The mirror
//! says how far it is, and proves everything itself: nothing is kept here.

use crate::config::log_key;
use crate::http::{Address, Trouble};
use crate::source::{PRUNED, Source, entries};
use facts::Finding;
use ledger::mirror::{Answer, ENTRIES_TYPE, MAX_PACKAGES, Package, Span, Upload};
use ledger::tile::{Kind, TilePath, TileReader};
use ledger::witness::{self, AddCheckpoint};
use ledger::{CosignerKey, ForeignCheckpoint, LogKey, Note, NoteSignature};
use ledger_store::Folder;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A mirror keeps each package before it reads the next one.
const TIMEOUT: Duration = Duration::from_secs(90);
/// Bytes of an answer: 64 lines of ML-DSA-44 fit.
const MOST: usize = 256 * 1024;
/// Bytes of packages of one request, about: one package is always sent.
const LONGEST: usize = 4 << 20;
/// Times that the mirror may say another size, and answers in a row by which it is no further.
const STALLS: u32 = 3;
/// Tiles that are kept for proofs.
const TILES: usize = 64;

/// From a log to a mirror.
pub struct Push {
    from: Source,
    /// Who has entries that are gone there.
    copy: Option<Source>,
    to: Address,
    log: LogKey,
    origin: String,
    mirrors: Vec<CosignerKey>,
    /// What the mirror had cosigned or taken last.
    old: u64,
}

/// What a mirror has now.
#[derive(Debug, Clone)]
pub struct Pushed {
    pub size: u64,
    /// Packages that were sent.
    pub packages: u64,
    /// The mirror's lines; verified where its keys are known.
    pub lines: Vec<NoteSignature>,
}

fn refused(what: impl Into<String>) -> Finding {
    Finding::new("MIRROR-PUSH", what)
        .next("look at the log and at the mirror's own log; what the mirror has taken is kept, so ask again")
}

fn wrong(what: impl Into<String>) -> Finding {
    Finding::new("MIRROR-KEY", what)
        .next("give the verifier keys as the operators of the log and of the mirror print them")
}

impl Push {
    /// `from` is an address, a folder of tiles, or that of a ledger; `key` the log's.
    ///
    /// # Errors
    /// `MIRROR-KEY`, `MONITOR-ADDRESS`, `MONITOR-CA`.
    pub fn new(
        from: &str,
        to: &str,
        key: &str,
        origin: Option<&str>,
        mirrors: &[String],
        authorities: Option<&Path>,
    ) -> Result<Self, Finding> {
        let log = log_key(key.trim())
            .ok_or_else(|| wrong("a log's key is one verifier key").observed(key))?;
        let mirrors = mirrors.iter().map(|key| {
            let read: Result<CosignerKey, _> = key.trim().parse();
            read.map_err(|error| wrong(facts::with_causes(&error)).observed(key.as_str()))
        });
        let from = if from.starts_with("http://") || from.starts_with("https://") {
            Source::Http(Address::new(from, authorities, TIMEOUT, false)?)
        } else {
            folder_of(from)
        };
        Ok(Self {
            from,
            copy: None,
            to: Address::new(to, authorities, TIMEOUT, false)?,
            origin: origin.unwrap_or(log.name()).to_owned(),
            log,
            mirrors: mirrors.collect::<Result<_, _>>()?,
            old: 0,
        })
    }

    /// Takes entries that the log has pruned from the folder of a copy, which may be shorter; the log proves them.
    #[must_use]
    pub fn with_copy(self, folder: &str) -> Self {
        let copy = Some(folder_of(folder));
        Self { copy, ..self }
    }

    /// Brings the mirror to the checkpoint that the log shows.
    ///
    /// # Errors
    /// Why not. Whatever the mirror has taken by then, it has.
    pub async fn round(&mut self) -> Result<Pushed, Finding> {
        if let Some(copy) = &mut self.copy {
            let opened = copy.checkpoint().await;
            opened.map_err(|failure| failure.finding().clone())?;
        }
        let note = self.from.checkpoint().await;
        let note = note.map_err(|failure| failure.finding().clone())?;
        let note = Note::parse(&note).map_err(|error| refused(facts::with_causes(&error)))?;
        let signed = self.log.signed(&note);
        let checkpoint = ForeignCheckpoint::parse(&note.text);
        let (Ok(true), Ok(checkpoint)) = (signed, checkpoint) else {
            return Err(refused(
                "the log shows no checkpoint that its key has signed",
            ));
        };
        if checkpoint.origin != self.origin {
            return Err(refused("the log shows a checkpoint of another origin")
                .expected(self.origin.clone())
                .observed(checkpoint.origin));
        }
        self.show(&note, checkpoint.size).await?;
        let pushed = self.send(&note, checkpoint.size).await?;
        self.old = checkpoint.size;
        Ok(pushed)
    }

    /// `add-checkpoint`, from where the mirror says it is.
    async fn show(&self, note: &Note, size: u64) -> Result<(), Finding> {
        let mut old = self.old.min(size);
        for _ in 0..STALLS {
            let tiles = Tiles::of(&self.from, size);
            let proof = ledger::merkle::consistency_proof(old, size, &tiles.reader());
            let proof = proof.map_err(|missing| refused(missing.to_string()))?;
            let request = AddCheckpoint::new(old, proof.unwrap_or_default(), note.clone())
                .map_err(|error| refused(facts::with_causes(&error)))?;
            let (status, kind, body) = self
                .ask(
                    "add-checkpoint",
                    "text/plain; charset=utf-8",
                    request.to_string().into(),
                )
                .await?;
            // "The mirror MAY … respond[] with an empty response body."
            if status == 200 {
                return Ok(());
            }
            match witness::Answer::parse(status, kind.as_deref(), &body) {
                Ok(witness::Answer::Conflict { size: has }) if has > size => {
                    return Err(refused("the mirror knows a longer log than this one")
                        .expected(format!("{size} entries at most"))
                        .observed(has.to_string())
                        .next("if this is a copy of a log, name the log itself with --from, which proves the entries, and the copy with --copy. If it is the log, it was put back: ask its operator"));
                }
                Ok(witness::Answer::Conflict { size: has }) => old = has,
                _ => return Err(said("add-checkpoint", status, &body)),
            }
        }
        Err(refused("the mirror says another size each time"))
    }

    /// `add-entries`, until it has all of them.
    async fn send(&self, note: &Note, size: u64) -> Result<Pushed, Finding> {
        let (mut start, mut ticket, mut packages) = (size, Vec::new(), 0);
        let (mut furthest, mut stalls) = (0, 0);
        loop {
            let head = Upload::new(&self.origin, start, size, ticket)
                .map_err(|error| refused(error.to_string()))?;
            let (body, sent) = self.body(&head).await?;
            packages += sent;
            let (status, kind, body) = self.ask("add-entries", ENTRIES_TYPE, body).await?;
            let answer = Answer::parse(status, kind.as_deref(), &body)
                .map_err(|error| refused(error.to_string()))?;
            let info = match answer {
                Answer::Mirrored(lines) => {
                    let lines = self.verified(note, lines)?;
                    return Ok(Pushed {
                        size,
                        packages,
                        lines,
                    });
                }
                Answer::Part(info) | Answer::Conflict(info) => info,
                Answer::Refused { status } => return Err(said("add-entries", status, &body)),
            };
            if info.size != size {
                return Err(
                    refused("the mirror waits for the entries of another checkpoint")
                        .expected(size.to_string())
                        .observed(info.size.to_string()),
                );
            }
            if info.next > furthest {
                (furthest, stalls) = (info.next, 0);
            } else {
                stalls += 1;
            }
            if stalls >= STALLS {
                return Err(refused(format!("the mirror stays at entry {}", info.next)));
            }
            (start, ticket) = (info.next.min(size), info.ticket);
        }
    }

    /// A request with as many packages as fit, and how many those are.
    async fn body(&self, head: &Upload) -> Result<(Vec<u8>, u64), Finding> {
        let mut body = head.bytes();
        let mut sent = 0;
        let tiles = Tiles::of(&self.from, head.end());
        for span in head.spans().take(MAX_PACKAGES) {
            let entries = self.entries(span, head.end()).await?;
            let package = Package::build(span, &entries, head.end(), &tiles.reader());
            let package = package.map_err(|missing| refused(missing.to_string()))?;
            let package = package.ok_or_else(|| refused("the log's entries make no package"))?;
            body.extend_from_slice(&package.bytes());
            sent += 1;
            if body.len() > LONGEST {
                break;
            }
        }
        Ok((body, sent))
    }

    async fn entries(&self, span: Span, size: u64) -> Result<Vec<Vec<u8>>, Finding> {
        let missing =
            |path: &TilePath| refused(format!("{path} of the log is missing or not whole"));
        let path = TilePath::at(Kind::Entries, span.bundle(), size);
        let path = path.ok_or_else(|| refused("the log has not so many entries"))?;
        let bundle = match self.from.tile(&path).await {
            Ok(Some(bundle)) => bundle,
            not => match (self.copied(&path).await, not) {
                (Some(bundle), _) => bundle,
                (None, Err(failure)) => return Err(not_there(failure.finding().clone())),
                (None, Ok(_)) => return Err(missing(&path)),
            },
        };
        let all = entries(&bundle, path.width()).ok_or_else(|| missing(&path))?;
        let count = usize::try_from(span.end - span.start).unwrap_or_default();
        let asked = all.into_iter().skip(span.before()).take(count);
        Ok(asked.map(<[u8]>::to_vec).collect())
    }

    async fn copied(&self, path: &TilePath) -> Option<Vec<u8>> {
        let copy = self.copy.as_ref()?;
        copy.tile(path).await.ok().flatten()
    }

    fn verified(
        &self,
        note: &Note,
        lines: Vec<NoteSignature>,
    ) -> Result<Vec<NoteSignature>, Finding> {
        if self.mirrors.is_empty() {
            return Ok(lines);
        }
        let mut verified = Vec::new();
        for key in &self.mirrors {
            let ours = key.accept(&note.text, &lines);
            verified.extend(ours.map_err(|error| refused(facts::with_causes(&error)))?);
        }
        match verified.is_empty() {
            true => Err(refused("the mirror gives no line of a --mirror-key")),
            false => Ok(verified),
        }
    }

    async fn ask(
        &self,
        path: &str,
        kind: &'static str,
        body: Vec<u8>,
    ) -> Result<(u16, Option<String>, Vec<u8>), Finding> {
        let asked = self.to.send(path, kind, body, MOST).await;
        let (status, kind, body) = asked.map_err(|trouble| {
            let what = match trouble {
                Trouble::None(what) => what,
                Trouble::Slow => "no whole answer in time".to_owned(),
                Trouble::TooLarge => "an answer that is too long".to_owned(),
            };
            refused(format!("{}/{path}: {what}", self.to.url))
        })?;
        Ok((status.as_u16(), kind, body))
    }
}

fn folder_of(path: &str) -> Source {
    let folder = PathBuf::from(path);
    match Folder::is_ledger(&folder) {
        true => Source::Ledger(folder, None),
        false => Source::Files(folder),
    }
}

fn not_there(finding: Finding) -> Finding {
    match finding.code == PRUNED {
        true => finding
            .expected("every entry that the mirror lacks, there or in --copy")
            .next("name with --copy a folder that has them: the copy that was made before the log was pruned"),
        false => finding,
    }
}

/// What the mirror says to people.
fn said(path: &str, status: u16, body: &[u8]) -> Finding {
    let text = String::from_utf8_lossy(body);
    let text: String = text.chars().filter(|c| !c.is_control()).take(400).collect();
    refused(format!(
        "the mirror refuses: {path} is answered with {status}"
    ))
    .observed(text)
}

/// The log's tiles of hashes, asked for as proofs need them.
struct Tiles<'a> {
    from: &'a Source,
    size: u64,
    kept: RefCell<BTreeMap<TilePath, Vec<u8>>>,
}

impl<'a> Tiles<'a> {
    const fn of(from: &'a Source, size: u64) -> Self {
        Self {
            from,
            size,
            kept: RefCell::new(BTreeMap::new()),
        }
    }

    fn reader(&self) -> TileReader<impl Fn(&TilePath) -> Option<Vec<u8>>> {
        TileReader::new(self.size, |path| self.tile(path))
    }

    /// Blocks this thread, not the others. What cannot be had is named as missing.
    fn tile(&self, path: &TilePath) -> Option<Vec<u8>> {
        if let Some(kept) = self.kept.borrow().get(path) {
            return Some(kept.clone());
        }
        let now = tokio::runtime::Handle::current();
        let asked = tokio::task::block_in_place(|| now.block_on(self.from.tile(path)));
        let tile = asked.ok().flatten()?;
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= TILES {
            kept.clear();
        }
        kept.insert(*path, tile.clone());
        Some(tile)
    }
}
