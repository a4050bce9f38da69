//! A pack of a copy, without a server.

use crate::arguments::Global;
use crate::commands::records::failed;
use crate::{Failure, output};
use ledger::pack::{Question, Trust};
use record_index::packs::Copied;
use std::path::PathBuf;

/// The pack that answers `question` from what is in `folders`. Every record of the ledgers that it rests on was read, and
/// led to a head that the ledger of `trust` signed.
pub(super) fn make(
    folders: &[PathBuf],
    question: Question,
    certificates: bool,
    trust: &Trust,
    global: &Global,
) -> Result<Vec<u8>, Failure> {
    let copy = Copied::open(folders, trust).map_err(failed)?;
    if !global.json {
        let notes = copy.notes().iter();
        notes.for_each(|note| output::note(format_args!("note: {note}")));
    }
    copy.pack(question, certificates).map_err(failed)
}
