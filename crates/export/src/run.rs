//! The loop: a batch of each ledger in turn, handed over until it is taken, then the cursor.

use crate::cursor::Cursor;
use crate::sink::{Refusal, Sink};
use crate::source::{Source, gone, ledgers};
use crate::{Error, Event, Format};
use facts::Finding;
use ledger_store::StoreError;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is exported.
#[derive(Debug, Clone)]
pub struct Options {
    pub folders: Vec<PathBuf>,
    /// Names or origins; empty for all.
    pub ledgers: Vec<String>,
    pub format: Format,
    /// Goes on with what is recorded later.
    pub follow: bool,
    pub patience: Patience,
}

/// How long a sink that takes nothing is waited for.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Doubled with each try, up to `longest`.
    pub first: Duration,
    pub longest: Duration,
    /// After so long the export ends; never while it follows.
    pub in_all: Duration,
    /// Between looks at folders in which nothing was new.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            longest: Duration::from_secs(30),
            in_all: Duration::from_mins(2),
            look: Duration::from_millis(500),
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    pub records: u64,
    /// Times that the sink had to be asked again.
    pub retries: u64,
}

/// How often in a row something that may be under way is looked at before it is damaged: a commit, a mirror that is
/// being begun.
const TRIES: u32 = 20;

/// What is read.
#[derive(Default)]
struct Sources {
    all: Vec<Source>,
    passed_over: BTreeSet<PathBuf>,
    /// How often each could not be opened.
    damaged: BTreeMap<PathBuf, u32>,
    /// How often something was found to be lacking.
    lacking: u32,
}

/// Exports until everything is taken or, when it follows, until it is stopped.
///
/// # Errors
/// [`Error`]. What was taken before stands in the cursor.
pub async fn run(
    options: &Options,
    mut cursor: Cursor,
    mut sink: Sink,
    stop: &CancellationToken,
) -> Result<Exported, Error> {
    let mut exported = Exported::default();
    let mut sources = Sources::default();
    sources.look(options, &cursor)?;
    if let Some(unknown) = unknown(options, &sources.all) {
        return Err(unknown);
    }
    loop {
        sources.has_what_was_taken(options, &cursor)?;
        let mut any = false;
        for source in sources.all.iter_mut().filter(|source| source.wanted) {
            if stop.is_cancelled() {
                return Ok(exported);
            }
            any |= hand_over(source, options, &mut cursor, &mut sink, stop, &mut exported).await?;
        }
        if any {
            continue;
        }
        if sources.has_what_is_anchored(options, &mut cursor, stop)? {
            continue;
        }
        if !options.follow {
            return Ok(exported);
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(exported),
            () = tokio::time::sleep(options.patience.look) => {}
        }
        sources.refresh()?;
        sources.look(options, &cursor)?;
    }
}

impl Sources {
    /// Adds what is new in the folders: a gateway that has just joined. What is not wanted is looked at once.
    fn look(&mut self, options: &Options, cursor: &Cursor) -> Result<(), Error> {
        let mut new: Vec<Source> = Vec::new();
        for folder in &options.folders {
            for dir in ledgers(folder)? {
                let known = self.all.iter().chain(&new).any(|source| source.is_at(&dir));
                if known || self.passed_over.contains(&dir) {
                    continue;
                }
                let Some(mut source) = self.open(&dir, options)? else {
                    continue;
                };
                source.expects = source.is_servers() && dir != *folder;
                let wanted = &options.ledgers;
                source.wanted =
                    wanted.is_empty() || wanted.iter().any(|name| source.is_called(name));
                if !source.wanted && !source.expects {
                    self.passed_over.insert(dir);
                    continue;
                }
                // One that is being exported goes on; else the better one is taken, whatever the order of the folders.
                let same = |known: &&mut Source| known.origin == source.origin;
                if let Some(begun) = self.all.iter_mut().find(same) {
                    begun.agrees(&source)?;
                    self.passed_over.insert(dir);
                    continue;
                }
                let Some(other) = new.iter_mut().find(same) else {
                    new.push(source);
                    continue;
                };
                other.agrees(&source)?;
                let from = cursor.position(&source.origin);
                let from = from.map_or(0, |position| position.next);
                let expects = other.expects || source.expects;
                if source.serves(from) > other.serves(from) {
                    std::mem::swap(other, &mut source);
                }
                other.expects = expects;
                self.passed_over.insert(source.dir().to_owned());
            }
        }
        for mut source in new {
            if source.wanted {
                source.resume(cursor.position(&source.origin))?;
            }
            self.all.push(source);
        }
        // INVARIANT: a server's is opened anew before what it anchors.
        self.all.sort_by_key(|source| !source.expects);
        Ok(())
    }

    /// `None`: it cannot be read yet. A mirror that is being begun holds no whole record for a moment; what stays so is
    /// damaged, and what follows does not go on without it.
    fn open(&mut self, dir: &Path, options: &Options) -> Result<Option<Source>, Error> {
        match Source::open(dir) {
            Ok(source) => {
                self.damaged.remove(dir);
                Ok(Some(source))
            }
            Err(Error::Ledger(error @ StoreError::Corrupt { .. })) if options.follow => {
                let tries = self.damaged.entry(dir.to_owned()).or_default();
                *tries += 1;
                match *tries {
                    1 => {
                        tracing::warn!(%error, "a ledger cannot be read: nothing of it is exported")
                    }
                    TRIES.. => return Err(error.into()),
                    _ => {}
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn refresh(&mut self) -> Result<(), Error> {
        for source in &mut self.all {
            match source.refresh() {
                Ok(_) => source.failed = 0,
                // Caught in the middle of a commit; looked at again.
                Err(Error::Ledger(error @ StoreError::Corrupt { .. })) => {
                    source.failed += 1;
                    match source.failed {
                        1 => tracing::warn!(%error, "a ledger could not be read just now"),
                        TRIES.. => return Err(error.into()),
                        _ => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn of(&self, origin: &str) -> Option<&Source> {
        self.all.iter().find(|source| source.origin == origin)
    }

    /// INVARIANT: of what is wanted, nothing that the cursor knows is left out.
    fn has_what_was_taken(&self, options: &Options, cursor: &Cursor) -> Result<(), Error> {
        // It may be one that is looked at again.
        if !self.damaged.is_empty() {
            return Ok(());
        }
        let mut taken = cursor.origins().filter(|origin| options.wants(origin));
        match taken.find(|origin| self.of(origin).is_none()) {
            Some(origin) => Err(gone(origin)),
            None => Ok(()),
        }
    }

    /// INVARIANT: of what is wanted, nothing that a server here anchors is left out: it is told, and the export ends
    /// when everything else is taken or, while it follows, soon after. True if there may be more to export.
    fn has_what_is_anchored(
        &mut self,
        options: &Options,
        cursor: &mut Cursor,
        stop: &CancellationToken,
    ) -> Result<bool, Error> {
        if self.lacks(options, cursor, stop)?.is_none() {
            self.lacking = 0;
            return Ok(false);
        }
        // What was opened before the server's own may have got longer; a mirror may be new.
        self.refresh()?;
        self.look(options, cursor)?;
        let Some(error) = self.lacks(options, cursor, stop)? else {
            return Ok(true);
        };
        self.lacking += 1;
        if !options.follow || self.lacking >= TRIES {
            return Err(error);
        }
        if self.lacking == 1 {
            tracing::warn!(%error, "something is missing; the rest is exported");
        }
        Ok(false)
    }

    fn lacks(
        &self,
        options: &Options,
        cursor: &mut Cursor,
        stop: &CancellationToken,
    ) -> Result<Option<Error>, Error> {
        for server in self.all.iter().filter(|source| source.expects) {
            let anchors = cursor.anchors(&server.origin);
            let mut any = false;
            while !stop.is_cancelled() && anchors.read(server.reader())? {
                any = true;
            }
            if any {
                cursor.keep()?;
            }
            let anchors = cursor.anchors(&server.origin);
            let wanted = |line: &str| options.wants(line);
            let found = |line: &str| self.of(line).map(Source::reader);
            if let Some(finding) = anchors.lacking(wanted, found)? {
                return Ok(Some(Error::broken(finding)));
            }
            // INVARIANT: of all ledgers, none is left out because nobody could read what the server says of it.
            let unread = anchors.unread().filter(|_| options.ledgers.is_empty());
            if let Some(finding) = unread {
                return Ok(Some(Error::refused(finding)));
            }
        }
        Ok(None)
    }
}

impl Options {
    fn wants(&self, origin: &str) -> bool {
        let mut names = self.ledgers.iter();
        self.ledgers.is_empty() || names.any(|name| ledger::is_called(origin, name))
    }
}

/// A name that no ledger has; while it follows, one may still come.
fn unknown(options: &Options, sources: &[Source]) -> Option<Error> {
    let missing = options
        .ledgers
        .iter()
        .find(|name| !sources.iter().any(|source| source.is_called(name)))?;
    (!options.follow).then(|| {
        Error::refused(
            Finding::new("EXPORT-LEDGER-UNKNOWN", "no ledger of that name is kept here")
                .observed(missing.clone())
                .next("leave --ledger out for all, or name one that `trilith ledger search --folder` tells of"),
        )
    })
}

/// One batch; true if there was one.
async fn hand_over(
    source: &mut Source,
    options: &Options,
    cursor: &mut Cursor,
    sink: &mut Sink,
    stop: &CancellationToken,
    exported: &mut Exported,
) -> Result<bool, Error> {
    let (mut most, bytes) = sink.batch();
    let mut wait = options.patience.first;
    let mut refused_since: Option<Instant> = None;
    loop {
        let events = source.batch(options.format, (most, bytes))?;
        if events.is_empty() {
            return Ok(false);
        }
        let taken = tokio::select! {
            taken = sink.take(&events) => taken,
            () = stop.cancelled() => return Ok(false),
        };
        let refusal = match taken {
            Ok(()) => {
                source.next = source.next.saturating_add(count(&events));
                cursor.advance(&source.origin, source.position()?)?;
                exported.records += count(&events);
                return Ok(true);
            }
            Err(refusal) => refusal,
        };
        exported.retries += 1;
        let (why, after) = match refusal {
            Refusal::Never(finding) => return Err(Error::refused(*finding)),
            Refusal::TooLarge(finding) => {
                if events.len() == 1 {
                    return Err(Error::refused(*finding));
                }
                most = count(&events) / 2;
                continue;
            }
            Refusal::Again { why, after } => (why, after),
        };
        let since = *refused_since.get_or_insert_with(Instant::now);
        if !options.follow && since.elapsed() >= options.patience.in_all {
            return Err(Error::refused(
                Finding::new("EXPORT-SINK", "the sink takes nothing")
                    .observed(why)
                    .next("mend the sink and run the same command again: it goes on where --cursor stands"),
            ));
        }
        let pause = after.unwrap_or(wait).min(options.patience.longest);
        tracing::warn!(%why, origin = source.origin, "the sink takes nothing; handing over again");
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = stop.cancelled() => return Ok(false),
        }
        wait = wait.saturating_mul(2).min(options.patience.longest);
    }
}

fn count(events: &[Event]) -> u64 {
    u64::try_from(events.len()).unwrap_or(u64::MAX)
}
