//! The ledgers that are asked together: a server's own and the gateways' that it mirrors, or the one of a gateway
//! or decision point, each with its index beside it.

use crate::follow::{Followed, Index};
use crate::terms::ANCHORED;
use crate::{Error, Filter};
use ledger::body::{Anchor, Erasure};
use ledger::{Checkpoint, HexDigest, NewestAnchors, Note, Receipt, RecordType};
use ledger_store::{BlobFolder, Folder, Head, Reader, StoreError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use store::index::Dimension;

/// The file of an index, in the folder of its ledger.
const FILE: &str = "index.sqlite";
/// The newest cosigned checkpoint, in a server's folder.
pub(crate) const WITNESSED: &str = "witnessed";
/// The owner of a ledger goes on writing: what is read in the middle of a commit is read again.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// As the server keeps them.
const BLOB_BYTES: usize = 128 << 20;

/// One ledger.
pub struct Source {
    /// `server`, or the origin of another ledger.
    pub name: String,
    pub(crate) server: bool,
    pub(crate) index: Index,
    /// What is asked about: set by [`Site::catch_up`], the same for all of an answer.
    pub(crate) head: Arc<Head>,
    /// What the server's witnesses have cosigned, as it keeps that.
    witnessed: Option<Head>,
}

/// Ledgers that are asked together.
pub struct Site {
    pub trust_domain: String,
    pub(crate) sources: Vec<Source>,
    pub(crate) blobs: Vec<BlobFolder>,
    /// It was read from the folder of a server, where all that it mirrors has to be.
    expects: bool,
    /// What the server anchors and is not here: set by [`Site::catch_up`].
    lacking: Vec<Lacking>,
    /// First logs of the ledgers that nobody wants to be asked: set by [`Site::leave_out`].
    left_out: Vec<String>,
    /// A record of the server's that may anchor what is not here, and that cannot be read: set by [`Site::catch_up`].
    unread: Option<u64>,
    /// What was done otherwise than asked, for people: an index that could not be kept.
    pub notes: Vec<String>,
}

/// Whether a ledger that cannot be read among a server's mirrors is an error, or as if it were not there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mirrors {
    Needed,
    IfTheyCan,
}

/// A ledger of which the server anchors more than is here.
pub(crate) struct Lacking {
    /// Its first log's origin.
    line: String,
    /// The server's record that anchors it, and so many records.
    record: u64,
    size: u64,
    /// What is here instead, in words.
    here: String,
}

/// That a record of the server's may anchor a ledger that is not here, and cannot be read.
fn unread_anchor(record: u64) -> Error {
    Error::refused(
        facts::Finding::new(
            "RECORDS-ANCHOR-UNREAD",
            "the server may anchor records that are not here: this version cannot read what it says",
        )
        .expected("anchors of this version")
        .observed(format!("server:{record}"))
        .next("ask with the version of the server, or a newer one; ask about what is here with --ledger NAME"),
    )
}

impl Lacking {
    fn told(&self) -> Error {
        let Self {
            line,
            record,
            size,
            here,
        } = self;
        Error::refused(
            facts::Finding::new(
                "RECORDS-MIRROR",
                "the server anchors records that are not here: an answer would leave them out",
            )
            .expected(format!("{size} records of {line}, as server:{record} says"))
            .observed(here.clone())
            .next("restore the folder `mirrors`, or have the server run until it has them again; ask about what is here with --ledger NAME, or count without it by --without NAME; list what is missing with: trilith ledger completeness --folder FOLDER"),
        )
    }
}

impl Source {
    /// A ledger by its reader and index. `server` if it is the trust domain's own.
    #[must_use]
    pub fn new(index: Index) -> Self {
        let head = index.reader().head();
        let origin = head.checkpoint.origin.as_str();
        let server = head.checkpoint.origin.kind() == ledger::LedgerKind::Server;
        let name = if server { "server" } else { origin }.to_owned();
        Self {
            name,
            server,
            index,
            head,
            witnessed: None,
        }
    }

    /// Whether somebody who says `name` means this one: its name, its origin, or the origin's last part.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        let origin = self.head.checkpoint.origin.as_str();
        name == self.name || ledger::is_called(origin, name)
    }

    #[must_use]
    pub const fn index(&self) -> &Index {
        &self.index
    }

    /// The head that answers are up to.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What its ledger is known by, whichever of its logs this is.
    fn line(&self) -> &str {
        ledger::line(self.head.checkpoint.origin.as_str())
    }

    pub(crate) const fn reader(&self) -> &Reader {
        &self.index.reader
    }

    pub(crate) fn size(&self) -> u64 {
        self.head.checkpoint.size
    }

    pub(crate) const fn witnessed(&self) -> Option<&Head> {
        self.witnessed.as_ref()
    }

    /// Whether the record was pruned.
    pub(crate) fn gone(&self, index: u64) -> bool {
        self.reader().next_there(index) != index
    }

    /// Refuses a ledger of which records are gone.
    pub(crate) fn whole(&self) -> Result<(), Error> {
        crate::follow::whole(self.reader())
    }

    /// What is gone of it, for people.
    fn told_gone(&self) -> Option<String> {
        let pruned = self.reader().pruned()?;
        // A server's has no mirror at the server: its record says who has what is gone.
        let has = match self.server {
            true => "that record says who has them",
            false => "the server's mirror has them",
        };
        Some(format!(
            "{}: records 1 to {} are gone from this folder, pruned by record {}; {has}",
            self.name,
            pruned.minimum - 1,
            pruned.record
        ))
    }

    /// The receipt of a record, under the newest checkpoint that witnesses have cosigned where that reaches it, else
    /// under the head that the answer is up to.
    pub fn receipt(&self, index: u64) -> Result<Receipt, Error> {
        let record = self.reader().record(index)?;
        let witnessed = self.witnessed.as_ref();
        let reaches = |head: &&Head| index < head.checkpoint.size;
        let head = witnessed.filter(reaches).unwrap_or(&self.head);
        Ok(Receipt {
            record: record.into_bytes(),
            index,
            proof: self.reader().inclusion(index, head.checkpoint.size)?,
            checkpoint: head.note.as_ref().to_owned(),
        })
    }

    /// Takes what the server keeps in `path` of its witnesses, if it is of this ledger. Whoever reads a receipt judges
    /// the lines.
    fn witnessed_in(&mut self, path: &Path) {
        self.witnessed = crate::packs::note(path).and_then(|note| {
            let parsed = Note::parse(&note).ok()?;
            let checkpoint = Checkpoint::parse(&parsed.text).ok()?;
            let ours = self
                .head
                .checkpoint
                .origin
                .holds(checkpoint.origin.as_str())
                && checkpoint.size <= self.reader().size()
                && self.reader().root(checkpoint.size).ok()? == checkpoint.root;
            ours.then(|| Head {
                checkpoint,
                note: note.into(),
            })
        });
    }
}

impl Site {
    /// The folder of a server, gateway, decision point, or of one ledger; its process may be running. `indices`
    /// is where indices are kept instead of in the ledgers' folders.
    pub fn open(folder: &Path, indices: Option<&Path>) -> Result<Self, Error> {
        Self::opened(folder, Mirrors::Needed, |dir, _mirror, notes| {
            source(dir, indices, notes)
        })
    }

    /// As [`Site::open`], with indices that nobody makes: nothing is written beside the ledgers. What is damaged among a
    /// server's mirrors is told, and is no mirror; whoever asks for it misses it.
    pub(crate) fn unindexed(folder: &Path) -> Result<Self, Error> {
        Self::opened(folder, Mirrors::IfTheyCan, |dir, mirror, notes| {
            let folder = settled(dir)?;
            match (folder.is_torn(), mirror) {
                (true, false) => return Err(torn(dir)),
                (true, true) => notes.push(format!(
                    "{} ends with a commit that is not whole: its last records were changed, or never written",
                    dir.display()
                )),
                (false, _) => {}
            }
            Ok(Source::new(Index::in_memory(folder.reader().clone())?))
        })
    }

    fn opened(
        folder: &Path,
        mirrors: Mirrors,
        mut source: impl FnMut(&Path, bool, &mut Vec<String>) -> Result<Source, Error>,
    ) -> Result<Self, Error> {
        let alone = Folder::is_ledger(folder);
        let own = if alone {
            folder.to_owned()
        } else {
            folder.join("ledger")
        };
        if !Folder::is_ledger(&own) {
            return Err(Error::NoLedger(folder.to_owned()));
        }
        let mut notes = Vec::new();
        let mut first = source(&own, false, &mut notes)?;
        if first.server {
            first.witnessed_in(&folder.join(WITNESSED));
        }
        let mut sources = vec![first];
        for mirror in folders(&folder.join("mirrors")) {
            match source(&mirror, true, &mut notes) {
                Ok(source) => sources.push(source),
                // One that a gateway has just begun looks like one that is damaged.
                Err(Error::Ledger(error))
                    if mirrors == Mirrors::IfTheyCan
                        || matches!(error, StoreError::Corrupt { .. }) =>
                {
                    notes.push(format!(
                        "{} holds no whole record that can be read: it has just begun, or is damaged ({})",
                        mirror.display(),
                        facts::with_causes(&error)
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        let blobs = own.parent().map(|folder| folder.join("blobs"));
        let blobs = blobs.filter(|blobs| blobs.is_dir());
        let mut site = Self::of(sources, blobs.map(|dir| BlobFolder::new(dir, BLOB_BYTES)));
        site.notes = notes;
        site.expects = !alone && site.server().is_some();
        Ok(site)
    }

    /// Of ledgers that somebody has open: the server of itself.
    #[must_use]
    pub fn of(mut sources: Vec<Source>, blobs: Option<BlobFolder>) -> Self {
        sources.sort_by(|one, other| (!one.server, &one.name).cmp(&(!other.server, &other.name)));
        let origin = sources
            .first()
            .map(|source| source.head.checkpoint.origin.to_string());
        let origin = origin.unwrap_or_default();
        let trust_domain = ledger::trust_domain(&origin).to_owned();
        Self {
            trust_domain,
            sources,
            blobs: blobs.into_iter().collect(),
            expects: false,
            lacking: Vec::new(),
            left_out: Vec::new(),
            unread: None,
            notes: Vec::new(),
        }
    }

    /// Takes another folder's ledgers in: a gateway's beside its server's. Of a ledger that both have, the one of which
    /// nothing is gone, and else the longer one.
    ///
    /// INVARIANT: whichever log of a ledger each has, it is one ledger: no record is found twice.
    ///
    /// # Errors
    /// `RECORDS-TWO` where they are two ledgers of one name.
    pub fn join(&mut self, other: Self) -> Result<(), Error> {
        for source in other.sources {
            let same = |known: &&mut Source| known.line() == source.line();
            let Some(known) = self.sources.iter_mut().find(same) else {
                self.sources.push(source);
                continue;
            };
            let shared = known.size().min(source.size());
            if known.reader().root(shared)? != source.reader().root(shared)? {
                return Err(Error::refused(
                    facts::Finding::new("RECORDS-TWO", "two of the folders have ledgers of one name, and not of one history")
                        .observed(source.name)
                        .next("ask them one by one; if they should be one, keep both: one of them proves that the other is false"),
                ));
            }
            let rank = |source: &Source| (source.reader().pruned().is_none(), source.size());
            if rank(&source) > rank(known) {
                *known = source;
            }
        }
        self.notes.extend(other.notes);
        self.expects |= other.expects;
        self.blobs.extend(other.blobs);
        self.sources
            .sort_by(|one, other| (!one.server, &one.name).cmp(&(!other.server, &other.name)));
        Ok(())
    }

    /// Leaves the ledgers that are called so out of all answers, whatever is here of them: those of a gateway that is
    /// gone, and of which the server's mirror was lost or records were pruned. Call [`Site::catch_up`] first, and say
    /// with the answer what was left out.
    ///
    /// # Errors
    /// `LEDGER-UNKNOWN`; `RECORDS-WITHOUT-SERVER`.
    pub fn leave_out(&mut self, names: &[String]) -> Result<(), Error> {
        for name in names {
            if self.server().is_some_and(|server| server.is_called(name)) {
                return Err(facts::Finding::new(
                    "RECORDS-WITHOUT-SERVER",
                    "the server's ledger cannot be left out: it says what the others are",
                )
                .observed(name.clone())
                .next("name the ledgers of gateways; of one gateway alone ask with its folder as the only --folder")
                .into());
            }
            let here = self.sources.iter().filter(|source| source.is_called(name));
            let mut lines: Vec<String> = here.map(|source| source.line().to_owned()).collect();
            let lacking = self.lacking.iter().map(|lacking| &lacking.line);
            lines.extend(
                lacking
                    .filter(|line| ledger::is_called(line, name))
                    .cloned(),
            );
            if lines.is_empty() {
                return Err(self.unknown(name, "name one of these, or none with --without"));
            }
            self.left_out.extend(lines);
        }
        self.left_out.sort();
        self.left_out.dedup();
        let out = &self.left_out;
        let wanted = |line: &str| !out.iter().any(|one| one == line);
        self.sources.retain(|source| wanted(source.line()));
        self.lacking.retain(|lacking| wanted(&lacking.line));
        Ok(())
    }

    /// The ledgers that were left out, by their first logs.
    #[must_use]
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// What is gone of the ledgers that are asked, a line each.
    #[must_use]
    pub fn gone(&self) -> Vec<String> {
        self.sources.iter().filter_map(Source::told_gone).collect()
    }

    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Brings every index up to its ledger's head, which is what the next answers are up to.
    pub fn catch_up(&mut self) -> Result<Vec<Followed>, Error> {
        let mut all = Vec::with_capacity(self.sources.len());
        for source in &mut self.sources {
            // First the head: what the index then has beyond it is not asked for.
            source.head = source.index.reader.head();
            all.push(source.index.catch_up()?);
        }
        (self.lacking, self.unread) = self.anchored()?;
        Ok(all)
    }

    /// What the server anchors and is not here, and an anchor that cannot be read, as far as its index says.
    fn anchored(&self) -> Result<(Vec<Lacking>, Option<u64>), Error> {
        let (mut lacking, mut unread) = (Vec::new(), None);
        let Some(server) = self.server().filter(|_| self.expects) else {
            return Ok((lacking, unread));
        };
        let store = &server.index.store;
        for (_, record) in store.newest(Dimension::Resource, ANCHORED, server.size())? {
            let Some(read) = crate::follow::record_at(server.reader(), record)? else {
                continue;
            };
            match Anchor::of(&read) {
                Ok(Some(anchor)) => lacking.extend(self.lacks(&anchor, record)?),
                Ok(None) => {}
                Err(_) => unread = Some(record),
            }
        }
        Ok((lacking, unread))
    }

    /// As the records themselves have it, whatever the index says.
    pub(crate) fn has_all(&self) -> Result<(), Error> {
        let Some(server) = self.server().filter(|_| self.expects) else {
            return Ok(());
        };
        let (mut newest, mut unread) = (NewestAnchors::default(), None);
        let root = crate::follow::each_record(server.reader(), server.size(), |index, bytes| {
            match Anchor::read(bytes) {
                Ok(Some(anchor)) => {
                    let origin = anchor.origin.clone();
                    newest.put(&origin, (anchor, index));
                }
                Ok(None) => {}
                Err(_) => unread = Some(index),
            }
            Ok(())
        })?;
        crate::verify::is_root(server, &root)?;
        for (_, (anchor, record)) in newest {
            if let Some(lacking) = self.lacks(&anchor, record)? {
                return Err(lacking.told());
            }
        }
        unread.map_or(Ok(()), |record| Err(unread_anchor(record)))
    }

    fn lacks(&self, anchor: &Anchor, record: u64) -> Result<Option<Lacking>, Error> {
        let (line, size) = (ledger::line(&anchor.origin), anchor.size.0);
        if self.left_out.iter().any(|one| one == line) {
            return Ok(None);
        }
        let of_it = |source: &&Source| source.line() == line;
        let here = match self.sources.iter().find(of_it) {
            None => "no mirror of it".to_owned(),
            Some(source) if source.size() < size => format!("{} records", source.size()),
            Some(source) if source.reader().root(size)? != anchor.root.0 => {
                format!("others than those in its first {size} records")
            }
            Some(_) => return Ok(None),
        };
        Ok(Some(Lacking {
            line: line.to_owned(),
            record,
            size,
            here,
        }))
    }

    /// The ledgers, where all that the server anchors is here.
    pub(crate) fn all(&self) -> Result<&[Source], Error> {
        match (self.lacking.first(), self.unread) {
            (Some(lacking), _) => Err(lacking.told()),
            (None, Some(record)) => Err(unread_anchor(record)),
            (None, None) => Ok(&self.sources),
        }
    }

    /// The ledgers that `name` means: `*` all of them.
    pub(crate) fn called(&self, name: &str) -> Result<Vec<&Source>, Error> {
        let missing = |lacking: &&Lacking| name == "*" || ledger::is_called(&lacking.line, name);
        if let Some(lacking) = self.lacking.iter().find(missing) {
            return Err(lacking.told());
        }
        if let Some(record) = self.unread.filter(|_| name == "*") {
            return Err(unread_anchor(record));
        }
        let wanted = |source: &&Source| name == "*" || source.is_called(name);
        let found: Vec<_> = self.sources.iter().filter(wanted).collect();
        if found.is_empty() {
            return Err(self.unknown(name, "ask with --ledger '*'"));
        }
        Ok(found)
    }

    fn unknown(&self, name: &str, next: &'static str) -> Error {
        let known = self.sources.iter().map(|source| source.name.as_str());
        let known: Vec<_> = known.collect();
        facts::Finding::new("LEDGER-UNKNOWN", "no ledger of that name is kept here")
            .expected(known.join(", "))
            .observed(name.to_owned())
            .next(next)
            .into()
    }

    pub(crate) fn server(&self) -> Option<&Source> {
        self.sources.iter().find(|source| source.server)
    }

    /// The server's, for what only it records.
    pub(crate) fn needs_server(&self, what: &str) -> Result<&Source, Error> {
        self.server().ok_or_else(|| {
            facts::Finding::new(
                "RECORDS-NEEDS-SERVER",
                format!("only the server records {what}"),
            )
            .expected("the server's data_dir among the folders")
            .next("name it as well: --folder GATEWAY --folder SERVER")
            .into()
        })
    }

    /// Of the first folder that has it as it was.
    pub(crate) fn blob(&self, sha256: &HexDigest) -> Result<Option<Vec<u8>>, Error> {
        let mut unread = None;
        for blobs in &self.blobs {
            match blobs.get(sha256) {
                Ok(Some(content)) => return Ok(Some(content)),
                Ok(None) => {}
                Err(error) => unread = unread.or(Some(error)),
            }
        }
        unread.map_or(Ok(None), |error| Err(error.into()))
    }

    /// By which record of the server's ledger a content is gone, in words; `None` if none says so.
    pub(crate) fn erased(&self, sha256: &HexDigest) -> Result<Option<String>, Error> {
        let Some(server) = self.server() else {
            return Ok(None);
        };
        let filter = Filter {
            types: vec![RecordType::Erasure.as_str().to_owned()],
            ..Filter::default()
        };
        let mut told = None;
        let clauses = filter.clauses(&self.trust_domain, None);
        crate::search::every_match(server, &clauses, |matched| {
            let record = crate::follow::record_at(server.reader(), matched.record)?;
            let erasure = record.and_then(|record| record.expect_body::<Erasure>().ok());
            let names = |erasure: &Erasure| erasure.erased.iter().any(|one| one.sha256 == *sha256);
            if let Some(erasure) = erasure.filter(names) {
                told = Some(format!(
                    "erased by record {} on {}, by {}: {}",
                    matched.record,
                    facts::Timestamp::from_millis(matched.time),
                    erasure.by,
                    erasure.reason
                ));
            }
            Ok(())
        })?;
        Ok(told)
    }

    /// For ledgers other than the server's: the issuances that come of the filter's machine and code.
    pub(crate) fn issuances(
        &self,
        filter: &Filter,
    ) -> Result<Option<std::collections::BTreeSet<u64>>, Error> {
        if !filter.needs_issuances() || self.sources.iter().all(|source| source.server) {
            return Ok(None);
        }
        let server = self.needs_server("which machine and which code an identity was issued to")?;
        let clauses = filter.of_issuances().clauses(&self.trust_domain, None);
        let mut found = std::collections::BTreeSet::new();
        crate::search::every_match(server, &clauses, |matched| {
            found.insert(matched.record);
            Ok(())
        })?;
        Ok(Some(found))
    }
}

/// A ledger, once its owner has written what he is writing.
fn settled(dir: &Path) -> Result<Folder, Error> {
    let mut tries = TRIES;
    loop {
        let folder = Folder::open(dir)?;
        if tries == 0 || !folder.is_torn() {
            return Ok(folder);
        }
        tries -= 1;
        std::thread::sleep(PAUSE);
    }
}

fn torn(dir: &Path) -> Error {
    Error::Lied(Box::new(
        facts::Finding::new(
            "PACK-COPY-SHORT",
            "the copy's ledger ends with a commit that is not whole: its last records were changed, or never written",
        )
        .observed(dir.display().to_string())
        .next("take another copy, and keep this one; where the server was killed before it was copied, start it and stop it first"),
    ))
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| Folder::is_ledger(path))
        .collect();
    found.sort();
    found
}

fn source(dir: &Path, indices: Option<&Path>, notes: &mut Vec<String>) -> Result<Source, Error> {
    let ledger = Folder::open(dir)?;
    let reader = ledger.reader().clone();
    let path = match indices {
        None => dir.join(FILE),
        // An origin is a stranger's text: it names no path.
        Some(indices) => {
            let origin = reader.head().checkpoint.origin.to_string();
            indices.join(format!("{}.sqlite", HexDigest::of(origin.as_bytes())))
        }
    };
    let index = match Index::open(&path, reader.clone()) {
        Ok(index) => index,
        Err(Error::Index(error)) if indices.is_none() => {
            notes.push(format!(
                "no index is kept in {} ({}): one is made in memory; name a folder with --index to keep it",
                dir.display(),
                facts::with_causes(&error)
            ));
            Index::in_memory(reader)?
        }
        Err(error) => return Err(error),
    };
    Ok(Source::new(index))
}
