//! The rule about mutants: each entry of `tests/mutants` still fits the code. Whether its tests fail is for
//! `cargo xtask mutants` to show.

use super::Break;
use crate::mutants::catalogue::Catalogue;
use crate::shell::Result;
use crate::workspace::read_text;

pub(super) fn check(files: &[String]) -> Result<Vec<Break>> {
    let misfits = Catalogue::read(files)?.misfits(|path| read_text(path).ok());
    let breaks = misfits
        .into_iter()
        .map(|(file, what)| Break::file(&file, what));
    Ok(breaks.collect())
}
