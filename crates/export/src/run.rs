//! The loop: a batch of each ledger in turn, handed over until it is taken, then the cursor.

use crate::cursor::Cursor;
use crate::sink::{Refusal, Sink};
use crate::source::{Source, ledgers};
use crate::{Error, Event, Format};
use facts::Finding;
use ledger_store::StoreError;
use std::collections::BTreeSet;
use std::path::PathBuf;
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
    let mut sources = Vec::new();
    let mut passed_over = BTreeSet::new();
    look(options, &cursor, &mut sources, &mut passed_over)?;
    if let Some(unknown) = unknown(options, &sources) {
        return Err(unknown);
    }
    loop {
        let mut any = false;
        for source in &mut sources {
            if stop.is_cancelled() {
                return Ok(exported);
            }
            any |= hand_over(source, options, &mut cursor, &mut sink, stop, &mut exported).await?;
        }
        if any {
            continue;
        }
        if !options.follow {
            return Ok(exported);
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(exported),
            () = tokio::time::sleep(options.patience.look) => {}
        }
        for source in &mut sources {
            match source.refresh() {
                Ok(_) => {}
                // Caught in the middle of a commit; looked at again.
                Err(Error::Ledger(error @ StoreError::Corrupt { .. })) => {
                    tracing::warn!(%error, "a ledger could not be read just now");
                }
                Err(error) => return Err(error),
            }
        }
        look(options, &cursor, &mut sources, &mut passed_over)?;
    }
}

/// Adds what is new in the folders: a gateway that has just joined. What is not wanted is looked at once.
fn look(
    options: &Options,
    cursor: &Cursor,
    sources: &mut Vec<Source>,
    passed_over: &mut BTreeSet<PathBuf>,
) -> Result<(), Error> {
    for folder in &options.folders {
        for dir in ledgers(folder)? {
            if passed_over.contains(&dir) || sources.iter().any(|source| source.is_at(&dir)) {
                continue;
            }
            let mut source = match Source::open(&dir) {
                Ok(source) => source,
                // A mirror that holds no whole record yet, or is being written.
                Err(Error::Ledger(StoreError::Corrupt { .. })) if options.follow => continue,
                Err(error) => return Err(error),
            };
            let wanted = &options.ledgers;
            let named = wanted.is_empty() || wanted.iter().any(|name| source.is_called(name));
            // The other is the mirror of a gateway whose own folder is named as well.
            let known = sources.iter().any(|known| known.origin == source.origin);
            if !named || known {
                passed_over.insert(dir);
                continue;
            }
            source.resume(cursor.position(&source.origin))?;
            sources.push(source);
        }
    }
    Ok(())
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
