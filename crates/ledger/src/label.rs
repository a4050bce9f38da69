//! Blinded labels ([decision 0027](../../../docs/decisions/0027-blinded-labels.md)): for every record and every owner
//! 16 bytes that say whether the record is about what is his, to whoever has his key and to nobody else. Which record
//! is about what, [`crate::about`] says; here are the bytes.
//!
//! A tile `labels/<N>[.p/<W>]` has the labels of the same records as the tile `tile/0/<N>[.p/<W>]` has hashes: one row
//! for each record, all rows of one length, each row sorted, so that a label's place says nothing. The log's key has signed
//! them: what they say to an owner can be shown to others, with his key.
//!
//! Behind the rows stands an *epoch*, which follows from what every owner has been given and is in every label: once
//! that changes, all labels do, and nobody sees of which records they say something else now.

mod owners;

pub use owners::{Owners, OwnersError};

use crate::key::{KeyError, LedgerKey, LedgerSigner};
use crate::merkle::Hash;
use crate::scalar::Digest;
use crate::tile::{Kind, TilePath};
use crypto::SecretBytes;
use std::fmt;
use std::str::FromStr;

/// Bytes of a label.
pub const LABEL: usize = 16;
/// Owners of one ledger: a whole tile has 256 KiB then.
pub const MOST_OWNERS: usize = 64;

/// Bytes of the signature, Ed25519, at the end of a tile.
const SIGNATURE: usize = 64;

/// Bytes of the epoch, before the signature.
const EPOCH: usize = 32;

const CONTEXT: &[u8] = b"trilith-label-v2 ";
const ENTRIES: &str = "tile/entries/";
const LABELS: &str = "labels/";

pub type Label = [u8; LABEL];

/// What the labels of a tile were made by: all owners, what is whose, and how records are read. To whoever has no
/// owner's key it is random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub [u8; EPOCH]);

/// What a label says to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Yours,
    NotYours,
}

/// 32 random bytes that an owner and a ledger's server share. It has neither `Debug` nor `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct LabelKey(SecretBytes);

impl LabelKey {
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(SecretBytes::new(bytes.to_vec()))
    }

    /// As its file has it: 64 hex digits, and a line's end or none.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let bytes = crypto::hex::decode(text.strip_suffix('\n').unwrap_or(text)).ok()?;
        <[u8; 32]>::try_from(bytes).ok().map(Self::new)
    }

    /// The label of the record with this leaf hash, in a tile of this epoch.
    #[must_use]
    pub fn label(&self, epoch: &Epoch, said: Said, leaf: &Hash) -> Label {
        let word: &[u8] = match said {
            Said::Yours => b"yes",
            Said::NotYours => b"no ",
        };
        let mac = crypto::hmac_sha256(self.0.expose(), &[CONTEXT, word, &epoch.0, leaf].concat());
        let mut label = [0; LABEL];
        label.copy_from_slice(mac.first_chunk::<LABEL>().unwrap_or(&[0; LABEL]));
        label
    }
}

/// The rows of a tile, one after the other, and what they were made by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    pub epoch: Epoch,
    pub bytes: Vec<u8>,
}

/// One record's labels, as they stand in a tile.
#[must_use]
pub fn row(mut labels: Vec<Label>) -> Vec<u8> {
    labels.sort_unstable();
    labels.concat()
}

/// What is signed of a tile. No checkpoint: in place of the size stands a name.
///
/// ```text
/// trilith-labels-v2
/// <origin>
/// labels/<N>[.p/<W>]
/// <SHA-256 of the rows and the epoch, base64>
/// ```
fn statement(origin: &str, path: &LabelPath, unsigned: &[u8]) -> String {
    let digest = crypto::base64::encode(&Digest::of(unsigned).0);
    format!("trilith-labels-v2\n{origin}\n{path}\n{digest}\n")
}

/// The bytes of a tile: its rows, their epoch, and the log's signature.
///
/// # Errors
/// The key's, if it cannot sign.
pub fn seal(signer: &LedgerSigner, path: &LabelPath, rows: Rows) -> Result<Vec<u8>, KeyError> {
    seal_of(signer, signer.key().origin().as_str(), path, rows)
}

/// As [`seal`], of the ledger `origin`, whose records the signer's server keeps.
///
/// # Errors
/// The key's, if it cannot sign.
pub fn seal_of(
    signer: &LedgerSigner,
    origin: &str,
    path: &LabelPath,
    rows: Rows,
) -> Result<Vec<u8>, KeyError> {
    let Rows {
        bytes: mut sealed,
        epoch,
    } = rows;
    sealed.extend_from_slice(&epoch.0);
    let text = statement(origin, path, &sealed);
    sealed.extend_from_slice(&signer.sign_text(&text)?);
    Ok(sealed)
}

/// Why bytes are no tile of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("they do not split into rows")]
    Rows,
    #[error("the log's key has not signed them")]
    Signature,
}

/// The rows of a tile, of the width that its name says.
#[derive(Debug, Clone)]
pub struct LabelTile {
    bytes: Vec<u8>,
    epoch: Epoch,
    /// Bytes of a row. INVARIANT: a multiple of [`LABEL`], and not 0.
    row: usize,
}

impl LabelTile {
    /// The tile of that name, which the log's key has signed. Of a log that went on as another the newest key alone:
    /// whoever has one that was replaced could deny an owner all that was before its end.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn open(bytes: Vec<u8>, path: &LabelPath, key: &LedgerKey) -> Result<Self, LabelError> {
        Self::open_of(bytes, path, key.origin().as_str(), key)
    }

    /// The tile of that name of the ledger `origin`, which `key`, of the server that keeps it, has signed: that server's
    /// newest, too.
    ///
    /// # Errors
    /// [`LabelError`].
    pub fn open_of(
        mut bytes: Vec<u8>,
        path: &LabelPath,
        origin: &str,
        key: &LedgerKey,
    ) -> Result<Self, LabelError> {
        let rows = bytes.len().checked_sub(SIGNATURE).ok_or(LabelError::Rows)?;
        let signature = bytes.split_off(rows);
        let text = statement(origin, path, &bytes);
        if !key.verifies(&text, &signature) {
            return Err(LabelError::Signature);
        }
        Self::split(bytes, path.width()).ok_or(LabelError::Rows)
    }

    /// `None`: these are no rows of `width` records, and an epoch.
    fn split(mut bytes: Vec<u8>, width: u16) -> Option<Self> {
        let epoch = bytes.split_off(bytes.len().checked_sub(EPOCH)?);
        let epoch = Epoch(epoch.try_into().ok()?);
        let width = usize::from(width);
        let row = bytes.len().checked_div(width)?;
        let whole = row * width == bytes.len() && row % LABEL == 0;
        let owners = row / LABEL;
        (whole && (1..=MOST_OWNERS).contains(&owners)).then_some(Self { bytes, epoch, row })
    }

    /// Bytes of the longest tile of that width.
    #[must_use]
    pub fn longest(width: u16) -> usize {
        usize::from(width) * MOST_OWNERS * LABEL + EPOCH + SIGNATURE
    }

    #[must_use]
    pub const fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Every label, with the place of its record in the tile.
    pub fn labels(&self) -> impl Iterator<Item = (usize, Label)> {
        let rows = self.bytes.chunks_exact(self.row).enumerate();
        rows.flat_map(|(place, row)| {
            let (labels, _) = row.as_chunks::<LABEL>();
            labels.iter().map(move |label| (place, *label))
        })
    }

    /// What is said to the owner of `key` of the record at this place of the tile. `None`: nothing, or both: then the
    /// label that stands there belongs to another record, or to another key.
    #[must_use]
    pub fn said(&self, key: &LabelKey, place: usize, leaf: &Hash) -> Option<Said> {
        let row = self.bytes.chunks_exact(self.row).nth(place)?;
        let has = |said| {
            let label = key.label(&self.epoch, said, leaf);
            row.chunks_exact(LABEL).any(|one| one == label)
        };
        match (has(Said::Yours), has(Said::NotYours)) {
            (true, false) => Some(Said::Yours),
            (false, true) => Some(Said::NotYours),
            (true, true) | (false, false) => None,
        }
    }
}

/// `labels/<N>[.p/<W>]`, numbered as tiles are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LabelPath(TilePath);

impl LabelPath {
    /// Beside that tile of hashes, or of entries; `None` of higher levels.
    #[must_use]
    pub fn beside(tile: &TilePath) -> Option<Self> {
        match tile.kind {
            Kind::Hashes(0) | Kind::Entries => Some(Self(tile.with_kind(Kind::Entries))),
            Kind::Hashes(_) => None,
        }
    }

    /// The full one, where a partial one is gone.
    #[must_use]
    pub const fn full(&self) -> Self {
        Self(TilePath::full(Kind::Entries, self.0.index))
    }

    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.0.is_full()
    }

    #[must_use]
    pub const fn width(&self) -> u16 {
        self.0.width()
    }

    /// The first record, and the first after the last.
    #[must_use]
    pub fn records(&self) -> std::ops::Range<u64> {
        let first = self.0.first_record();
        first..first.saturating_add(u64::from(self.width()))
    }
}

impl fmt::Display for LabelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tile = self.0.to_string();
        write!(f, "{LABELS}{}", tile.strip_prefix(ENTRIES).unwrap_or(&tile))
    }
}

impl FromStr for LabelPath {
    type Err = &'static str;

    fn from_str(path: &str) -> Result<Self, Self::Err> {
        let rest = path.strip_prefix(LABELS).ok_or("not a path of labels")?;
        format!("{ENTRIES}{rest}").parse().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: Hash = [9; 32];
    const NOW: Epoch = Epoch([6; EPOCH]);

    fn rows(length: usize) -> Rows {
        let (epoch, bytes) = (NOW, vec![7; length]);
        Rows { epoch, bytes }
    }

    /// Computed by `hmac` of Python's library.
    #[test]
    fn a_label_is_as_the_decision_says() {
        let key = LabelKey::new([7; 32]);
        for (said, expected) in [(Said::Yours, YES), (Said::NotYours, NO)] {
            let label = key.label(&Epoch([5; EPOCH]), said, &LEAF);
            assert_eq!(crypto::hex::encode(&label), expected);
        }
    }

    const YES: &str = "7f99e68d0574427e73652ef3d8117a37";
    const NO: &str = "3a03e6e4f62010d13eff6c3cdb377d1b";

    #[test]
    fn each_owner_finds_his_own_and_nothing_where_it_is_not_the_records() {
        let (ada, bob) = (LabelKey::new([1; 32]), LabelKey::new([2; 32]));
        let labels = |leaf| {
            row(vec![
                ada.label(&NOW, Said::Yours, leaf),
                bob.label(&NOW, Said::NotYours, leaf),
            ])
        };
        let tile = [labels(&[3; 32]), labels(&[4; 32]), NOW.0.to_vec()].concat();
        let tile = LabelTile::split(tile, 2).unwrap();
        for (place, leaf) in [(0, [3; 32]), (1, [4; 32])] {
            assert_eq!(tile.said(&ada, place, &leaf), Some(Said::Yours));
            assert_eq!(tile.said(&bob, place, &leaf), Some(Said::NotYours));
            // Of somebody else, and of another record.
            assert_eq!(tile.said(&LabelKey::new([3; 32]), place, &leaf), None);
            assert_eq!(tile.said(&ada, 1 - place, &leaf), None);
        }
        assert_eq!(tile.said(&ada, 2, &[3; 32]), None);
        let both = [Said::Yours, Said::NotYours].map(|said| ada.label(&NOW, said, &LEAF));
        let both = [row(both.to_vec()), NOW.0.to_vec()].concat();
        let both = LabelTile::split(both, 1).unwrap();
        assert_eq!(both.said(&ada, 0, &LEAF), None);
    }

    #[test]
    fn a_row_is_sorted_whoever_was_first() {
        let (low, high) = ([1; LABEL], [2; LABEL]);
        assert_eq!(row(vec![high, low]), row(vec![low, high]));
    }

    #[test]
    fn what_does_not_split_into_rows_is_none() {
        for (length, width) in [(0, 1), (15, 1), (17, 1), (48, 2), (16, 2), (16, 0)] {
            assert!(LabelTile::split(vec![0; length + EPOCH], width).is_none());
        }
        assert!(LabelTile::split(vec![0; EPOCH - 1], 1).is_none());
        let most = LabelTile::longest(1) - SIGNATURE;
        assert!(LabelTile::split(vec![0; most], 1).is_some());
        assert!(LabelTile::split(vec![0; most + LABEL], 1).is_none());
        assert!(LabelTile::split(vec![0; 64 + EPOCH], 2).is_some());
    }

    /// The Ed25519 key whose seed is `seed` in every byte.
    fn signer(origin: &str, seed: u8) -> LedgerSigner {
        let mut der = crypto::hex::decode("302e020100300506032b657004220420").unwrap();
        der.extend_from_slice(&[seed; 32]);
        let key = crypto::KeyPair::from_pkcs8(&der).unwrap();
        LedgerSigner::new(origin, std::sync::Arc::new(key)).unwrap()
    }

    #[test]
    fn labels_of_another_ledger_are_its_servers_and_of_that_ledger_alone() {
        let server = signer("example.org/server", 1);
        let other = signer("example.org/gateway/pg", 3);
        let path: LabelPath = "labels/000.p/2".parse().unwrap();
        let rows = rows(2 * LABEL);
        let sealed = seal_of(&server, "example.org/gateway/pg", &path, rows).unwrap();
        let opened = |origin: &str, key: &LedgerKey| {
            LabelTile::open_of(sealed.clone(), &path, origin, key).map(drop)
        };
        assert_eq!(opened("example.org/gateway/pg", server.key()), Ok(()));
        let refused = Err(LabelError::Signature);
        assert_eq!(opened("example.org/gateway/pg", other.key()), refused);
        assert_eq!(opened("example.org/gateway/mysql", server.key()), refused);
        // Nor are they the server's own.
        let own = LabelTile::open(sealed.clone(), &path, server.key());
        assert_eq!(own.map(drop), refused);
    }

    /// 0027 had it otherwise: a stolen key that was replaced denied its owner every record before its end.
    #[test]
    fn a_key_that_was_replaced_signs_no_labels() {
        let first = signer("example.org/server", 1);
        let second = signer("example.org/server@2", 2);
        let link = crate::lineage::Link::sign(&first, &second, (515, [5; 32]), "each year");
        let newest = crate::lineage::follow(second.key(), &[link.unwrap()]).unwrap();
        let opened = |path: &str, by: &LedgerSigner, key: &LedgerKey| {
            let path: LabelPath = path.parse().unwrap();
            let rows = rows(usize::from(path.width()) * LABEL);
            LabelTile::open(seal(by, &path, rows).unwrap(), &path, key).map(drop)
        };
        for path in ["labels/000", "labels/002.p/4"] {
            assert_eq!(opened(path, &second, &newest), Ok(()), "{path}");
        }
        for (path, by, key) in [
            ("labels/000", &first, &newest),
            ("labels/002.p/3", &first, &newest),
            ("labels/002.p/4", &first, &newest),
            ("labels/002.p/3", &first, second.key()),
            ("labels/002.p/3", &second, first.key()),
        ] {
            assert_eq!(opened(path, by, key), Err(LabelError::Signature), "{path}");
        }
    }

    #[test]
    fn what_the_log_has_not_signed_for_this_place_is_none() {
        let ours = signer("example.org/server", 1);
        let path: LabelPath = "labels/002.p/3".parse().unwrap();
        let sealed = seal(&ours, &path, rows(3 * 2 * LABEL)).unwrap();
        assert_eq!(sealed.len(), 3 * 2 * LABEL + EPOCH + SIGNATURE);
        let open = |bytes: &[u8], path: &str, by: &LedgerSigner| {
            LabelTile::open(bytes.to_vec(), &path.parse().unwrap(), by.key()).map(|tile| tile.row)
        };
        assert_eq!(open(&sealed, "labels/002.p/3", &ours), Ok(2 * LABEL));
        for path in ["labels/002.p/6", "labels/003.p/3", "labels/002"] {
            assert_eq!(
                open(&sealed, path, &ours),
                Err(LabelError::Signature),
                "{path}"
            );
        }
        for other in [
            signer("example.org/server", 2),
            signer("example.org/other", 1),
        ] {
            let opened = open(&sealed, "labels/002.p/3", &other);
            assert_eq!(opened, Err(LabelError::Signature));
        }
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            let opened = open(&changed, "labels/002.p/3", &ours);
            assert_eq!(opened, Err(LabelError::Signature), "byte {at}");
        }
        let odd = seal(&ours, &path, rows(50)).unwrap();
        assert_eq!(open(&odd, "labels/002.p/3", &ours), Err(LabelError::Rows));
        assert_eq!(
            open(&[0; 63], "labels/002.p/3", &ours),
            Err(LabelError::Rows)
        );
    }

    #[test]
    fn a_path_has_one_spelling() {
        for path in ["labels/000", "labels/x001/234.p/7"] {
            assert_eq!(path.parse::<LabelPath>().unwrap().to_string(), path);
        }
        for path in [
            "labels/0",
            "tile/entries/000",
            "labels/../000",
            "labels/000.p/0",
        ] {
            assert!(path.parse::<LabelPath>().is_err(), "{path}");
        }
        let path: LabelPath = "labels/002.p/3".parse().unwrap();
        assert_eq!(path.records(), 512..515);
        let tile = TilePath::at(Kind::Hashes(0), 2, 515).unwrap();
        assert_eq!(LabelPath::beside(&tile), Some(path));
        assert!(LabelPath::beside(&TilePath::full(Kind::Hashes(1), 0)).is_none());
    }

    #[test]
    fn a_key_is_64_hex_digits() {
        let hex = "07".repeat(32);
        assert!(LabelKey::parse(hex.as_bytes()) == Some(LabelKey::new([7; 32])));
        assert!(LabelKey::parse(format!("{hex}\n").as_bytes()).is_some());
        for bad in [
            "",
            "07",
            &hex.replacen("07", "", 1),
            &format!("{hex}\n\n"),
            &format!("{hex}07"),
        ] {
            assert!(LabelKey::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
