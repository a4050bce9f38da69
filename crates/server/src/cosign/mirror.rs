//! One mirror: once it has the checkpoint, the entries below it that it lacks, some packages a request, and its line.
//! It says itself how far it is, so that nothing is kept here about it.

use super::{Asked, verified};
use crate::cosign::witness::Target;
use ledger::Code as _;
use ledger::mirror::{Answer, MAX_PACKAGES, Package, Upload};
use ledger_store::Reader;
use std::time::Duration;

/// Bytes of packages of one request, about: one package is always sent.
const LONGEST: usize = 4 << 20;
/// A mirror keeps each package before it reads the next one: so many times as long as for a cosignature.
const PATIENCE: u32 = 12;
/// Answers in a row by which it is no further.
const STALLS: u32 = 3;

/// The lines of the mirror over `target`, whose checkpoint it has.
pub(super) async fn upload(
    reader: &Reader,
    asked: &Asked,
    target: &Target,
    within: Duration,
) -> Result<Vec<ledger::NoteSignature>, String> {
    let origin = target.note.text.lines().next().unwrap_or_default();
    let size = target.size;
    // First nothing, up to the end: it says where it is, or that it has all of it.
    let (mut start, mut ticket) = (size, Vec::new());
    let (mut furthest, mut stalls) = (0, 0);
    loop {
        let head = Upload::new(origin, start, size, ticket).map_err(|error| error.to_string())?;
        let reader = reader.clone();
        let body = tokio::task::spawn_blocking(move || body(&reader, &head));
        let body = body.await.map_err(|error| error.to_string())??;
        let answer = asked.address.add_entries(body, within * PATIENCE).await?;
        let info = match answer {
            Answer::Mirrored(lines) => return verified(&asked.mirrors, &target.note.text, &lines),
            Answer::Part(info) | Answer::Conflict(info) => info,
            Answer::Refused { status } => return Err(format!("it takes no entries: {status}")),
        };
        // "The tree size of a valid pending checkpoint": another has shown it another one. Next time.
        if info.size != size {
            return Err(format!("it waits for the entries of {} records", info.size));
        }
        if info.next > furthest {
            (furthest, stalls) = (info.next, 0);
        } else {
            stalls += 1;
        }
        if stalls >= STALLS {
            return Err(format!("it stays at {} of {size} records", info.next));
        }
        (start, ticket) = (info.next.min(size), info.ticket);
    }
}

/// A request with as many packages as fit. Blocks on the disk.
fn body(reader: &Reader, head: &Upload) -> Result<Vec<u8>, String> {
    let mut body = head.bytes();
    for span in head.spans().take(MAX_PACKAGES) {
        let mut entries = Vec::new();
        let mut next = span.start;
        while next < span.end {
            let read = reader
                .read(next..span.end)
                .map_err(|error| format!("{}: {error}", error.code()))?;
            if read.is_empty() {
                return Err(format!("record {next} is not there"));
            }
            next += read.len() as u64;
            entries.extend(read);
        }
        let proof = reader
            .subtree(span.first..span.end, head.end())
            .map_err(|error| error.to_string())?;
        let package = Package::new(span, &entries, proof).ok_or("records that do not fit")?;
        body.extend_from_slice(&package.bytes());
        if body.len() > LONGEST {
            break;
        }
    }
    Ok(body)
}
