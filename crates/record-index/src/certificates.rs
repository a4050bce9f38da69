//! Certificates that a server keeps beside its ledger, as they lie in its folder: where each stands, and how it is found
//! ([decision 0035](../../../docs/decisions/0035-certificates-in-packs-and-free-text.md)). Writing and erasing is the
//! server's.
//!
//! Of an SVID is kept what the ledger does not have: record, place and inclusion proof stand in its receipt, and are put
//! back from the ledger when it is read. One file has those of 4,096 places; an issuance finds its own by its place and
//! by what it commits to. Each authority that issued stands once, by the digest of its key.
//!
//! Whoever writes to the folder gains nothing: what does not belong to its issuance, or is not signed by the authority,
//! is put into no pack.

mod frame;

pub use self::frame::{Frame, frames};

use crate::packs::Log;
use ledger::body::Issuance;
use ledger::{HexDigest, Receipt};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// In the data directory.
pub const FOLDER: &str = "certificates";
/// In the folder: each authority that issued.
pub const AUTHORITIES: &str = "authorities";
/// Bytes of a file that are looked at: 4,096 certificates have a tenth of it.
pub const LARGEST: u64 = 64 << 20;
/// Places of one file: 2^12.
const PLACES: u32 = 12;
/// Files of one folder: 2^10.
const FILES: u32 = 10;

/// SVIDs of these issuances with the authorities that issued them, as far as `dir` has them. Nothing vouches for them
/// yet. Blocks.
#[must_use]
pub fn find(dir: &Path, ledger: &Log, wanted: &[(u64, Issuance)]) -> Vec<[Vec<u8>; 2]> {
    let mut last: Option<(u64, Vec<u8>)> = None;
    let mut authorities: HashMap<[u8; 32], Option<Vec<u8>>> = HashMap::new();
    let mut found = Vec::new();
    for (index, issuance) in wanted {
        let number = number(*index);
        if last.as_ref().is_none_or(|(at, _)| *at != number) {
            let bytes = read(&file_of(dir, number)).unwrap_or_default();
            last = Some((number, bytes));
        }
        let Some((_, bytes)) = &last else {
            continue;
        };
        let commit = HexDigest(issuance.commit.0.0);
        let of = frames(bytes)
            .map(|(_, frame)| frame)
            .filter(|frame| frame.index == *index && frame.commit == commit);
        let leaves: Vec<Vec<u8>> = of.filter_map(|frame| whole(&frame, ledger)).collect();
        if leaves.is_empty() {
            continue;
        }
        let authority = authorities
            .entry(issuance.issuer.0)
            .or_insert_with(|| read(&authority_file(dir, &issuance.issuer.0)).ok());
        if let Some(authority) = authority {
            found.extend(leaves.into_iter().map(|leaf| [leaf, authority.clone()]));
        }
    }
    found
}

/// The certificate, with what the ledger has of it.
fn whole(frame: &Frame<'_>, ledger: &Log) -> Option<Vec<u8>> {
    let receipt = Receipt {
        record: ledger.record(frame.index).ok()?.into_bytes(),
        index: frame.index,
        proof: ledger.inclusion(frame.index, frame.size).ok()?,
        checkpoint: String::new(),
    };
    Some([frame.before, &receipt.of_ledger(), frame.after].concat())
}

/// The number of the file that has the issuance at `index`.
#[must_use]
pub const fn number(index: u64) -> u64 {
    index >> PLACES
}

/// The file of that number.
#[must_use]
pub fn file_of(dir: &Path, number: u64) -> PathBuf {
    let folder = format!("{:08x}", number >> FILES);
    dir.join(folder).join(format!("{number:012x}"))
}

/// The certificate of an authority, by the digest of its key.
#[must_use]
pub fn authority_file(dir: &Path, issuer: &[u8; 32]) -> PathBuf {
    dir.join(AUTHORITIES).join(crypto::hex::encode(issuer))
}

/// A file of certificates, as far as it is looked at.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Nobody waits for who writes to a pipe.
    if !path.metadata()?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}
