//! The certificates that were issued, kept beside the ledger so that packs have them
//! ([decision 0035](../../../docs/decisions/0035-certificates-in-packs-and-free-text.md)).
//!
//! How they lie there, and how they are found, is `record_index::certificates`: whoever has a copy of the folder reads
//! it too.
//!
//! No issuance waits for it, and nothing rests on it: one thread writes, without forcing it out, so that a crash of the
//! machine may lose the newest. Whoever writes to this folder gains nothing: what does not belong to its issuance, or is
//! not signed by the authority, is put into no pack.
//!
//! A certificate goes with the opening of its issuance's commitment, and as long as that stays it does. INVARIANT: of
//! an opening that is erased no certificate is read, whatever stands in the files.

use ledger::body::Issuance;
use ledger::{HexDigest, Receipt};
use ledger_store::Reader;
pub(crate) use record_index::certificates::FOLDER;
use record_index::certificates::{
    self, AUTHORITIES, Frame, LARGEST, authority_file, file_of, frames, number, read,
};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, RwLock};
use std::time::Duration;

/// Certificates that wait for the disk, at most; what comes then is not kept.
const WAITING: usize = 16_384;
/// So long certificates are gathered before they are written.
const GATHER: Duration = Duration::from_millis(20);
/// Certificates that are written together.
const TOGETHER: usize = 1_024;
/// Files that are open at once: issuances come nearly in the order of their places.
const OPEN: usize = 2;
/// When was looked for what is erased, and for what: `DIGEST SECONDS`.
const LOOKED: &str = "looked";

/// What is kept. The thread behind it ends with the last handle, when all is written.
pub(crate) struct Certificates {
    dir: PathBuf,
    /// Whether more is kept.
    keeps: bool,
    acts: SyncSender<Act>,
    known: Known,
    /// It was said that the disk does not keep up.
    told: AtomicBool,
}

/// Digests of the keys of authorities that are kept. The thread that writes adds to it.
type Known = Arc<RwLock<HashSet<[u8; 32]>>>;

/// What was just signed.
struct Signed {
    receipt: Receipt,
    commit: HexDigest,
    /// SHA-256 of the SPKI of the authority, and its certificate where that is not kept yet.
    issuer: [u8; 32],
    authority: Option<Vec<u8>>,
    leaf: Vec<u8>,
}

enum Act {
    Keep(Box<Signed>),
    /// Answered when all before it is written.
    Written(SyncSender<()>),
    Erase {
        commits: Vec<HexDigest>,
        /// Everywhere, if it is not known where.
        places: Option<Vec<u64>>,
        done: SyncSender<io::Result<u64>>,
    },
}

impl Certificates {
    /// Those in `dir`, which is made when there is something to keep.
    pub(crate) fn start(dir: PathBuf, keeps: bool) -> io::Result<Self> {
        let (acts, waiting) = sync_channel(WAITING);
        let known = Known::default();
        let writer = Writer::new(dir.clone(), Arc::clone(&known));
        std::thread::Builder::new()
            .name("certificates".to_owned())
            .spawn(move || writer.run(&waiting))?;
        Ok(Self {
            dir,
            keeps,
            acts,
            known,
            told: AtomicBool::new(false),
        })
    }

    /// Keeps what was signed. Waits for nobody; where the disk is too slow for it, it is not kept.
    pub(crate) fn keep(
        &self,
        receipt: Receipt,
        commit: HexDigest,
        issuer: [u8; 32],
        chain: &[Vec<u8>],
    ) {
        let (true, [leaf, authority]) = (self.keeps, chain) else {
            return;
        };
        let known = self.known.read().is_ok_and(|known| known.contains(&issuer));
        let signed = Signed {
            receipt,
            commit,
            issuer,
            authority: (!known).then(|| authority.clone()),
            leaf: leaf.clone(),
        };
        let kept = self.acts.try_send(Act::Keep(Box::new(signed))).is_ok();
        if !kept && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!("certificates are not kept for packs: the disk does not keep up");
        }
    }

    /// Returns when all that came before is written. Blocks.
    pub(crate) fn written(&self) {
        let (done, wait) = sync_channel(1);
        if self.acts.send(Act::Written(done)).is_ok() {
            // The thread may have ended, and then there is nothing to wait for.
            let _ended = wait.recv();
        }
    }

    /// SVIDs of these issuances with the authorities that issued them, as far as they are kept. Nothing vouches for
    /// them yet. Blocks.
    pub(crate) fn find(&self, ledger: &Reader, wanted: &[(u64, Issuance)]) -> Vec<[Vec<u8>; 2]> {
        self.written();
        certificates::find(&self.dir, &ledger.into(), wanted)
    }

    /// Writes over the certificates of issuances that commit to one of `commits` and stand at one of `places`, or
    /// wherever they stand; durable when it returns. Returns how many there were. Blocks.
    pub(crate) fn erase(&self, commits: &[HexDigest], places: Option<Vec<u64>>) -> io::Result<u64> {
        let (done, wait) = sync_channel(1);
        let commits = commits.to_vec();
        let ended = || io::Error::other("the thread that keeps certificates has ended");
        let act = Act::Erase {
            commits,
            places,
            done,
        };
        self.acts.send(act).map_err(|_ended| ended())?;
        wait.recv().map_err(|_ended| ended())?
    }
}

/// As [`Certificates::erase`], at whichever place, in a folder that nobody writes to: after a crash, or in one that a
/// backup has brought back. What has not changed since these very commits were looked for is not read again.
pub(crate) fn erase_left(dir: &Path, commits: &[HexDigest]) -> io::Result<u64> {
    if commits.is_empty() || !dir.is_dir() {
        return Ok(0);
    }
    let mut sorted: Vec<[u8; 32]> = commits.iter().map(|commit| commit.0).collect();
    sorted.sort_unstable();
    let of = HexDigest::of(&sorted.concat()).to_string();
    let (path, beside) = (dir.join(LOOKED), dir.join(LOOKED).with_extension("new"));
    // A file that comes from elsewhere was changed when it came, whatever its times say otherwise: what is written
    // here is when the look began, in the file system's own time.
    let began = std::fs::write(&beside, &of).and_then(|()| std::fs::metadata(&beside));
    let last = std::fs::read_to_string(&path).unwrap_or_default();
    let last = last.split_once(' ').filter(|(looked, _)| *looked == of);
    let last: Option<i64> = last.and_then(|(_, when)| when.parse().ok());
    // On a disk that is full all of it is looked at.
    let now = began.as_ref().map_or(i64::MIN, |beside| beside.ctime());
    let erased = erase_since(dir, commits, last.filter(|last| *last <= now))?;
    let kept = began.and_then(|_| std::fs::write(&beside, format!("{of} {now}")));
    if let Err(error) = kept.and_then(|()| std::fs::rename(&beside, &path)) {
        tracing::debug!(%error, "the next start looks at all certificates");
    }
    Ok(erased)
}

/// In files that changed in that second or later, or in all.
fn erase_since(dir: &Path, commits: &[HexDigest], since: Option<i64>) -> io::Result<u64> {
    let commits: HashSet<HexDigest> = commits.iter().copied().collect();
    let mut erased = 0;
    for folder in listed(dir)? {
        if folder.ends_with(AUTHORITIES) || !folder.is_dir() {
            continue;
        }
        for path in listed(&folder)? {
            let changed = std::fs::metadata(&path)?.ctime();
            if since.is_none_or(|since| changed >= since) {
                erased += write_over(&path, &commits)?;
            }
        }
    }
    Ok(erased)
}

/// The thread that writes.
struct Writer {
    dir: PathBuf,
    open: BTreeMap<u64, Open>,
    known: Known,
    /// In this run: what was signed just before and comes just after is not kept.
    erased: HashSet<HexDigest>,
    /// That the disk takes nothing was told.
    failing: bool,
}

/// A file that is written to, and where it ends.
struct Open {
    file: File,
    end: u64,
}

impl Writer {
    fn new(dir: PathBuf, known: Known) -> Self {
        Self {
            dir,
            open: BTreeMap::new(),
            known,
            erased: HashSet::new(),
            failing: false,
        }
    }

    fn run(mut self, acts: &Receiver<Act>) {
        while let Ok(first) = acts.recv() {
            if matches!(first, Act::Keep(_)) {
                // Whoever signs would have to wake this thread for each.
                std::thread::sleep(GATHER);
            }
            let mut signed = Vec::new();
            let mut next = Some(first);
            while let Some(act) = next {
                match act {
                    Act::Keep(one) => signed.push(*one),
                    act => {
                        self.keep(std::mem::take(&mut signed));
                        self.answer(act);
                    }
                }
                next = match signed.len() {
                    0..TOGETHER => acts.try_recv().ok(),
                    _ => None,
                };
            }
            self.keep(signed);
        }
    }

    fn answer(&mut self, act: Act) {
        match act {
            Act::Keep(one) => self.keep(vec![*one]),
            Act::Written(done) => {
                // Whoever asked may have gone away.
                let _gone = done.send(());
            }
            Act::Erase {
                commits,
                places,
                done,
            } => {
                let erased = match places {
                    None => erase_since(&self.dir, &commits, None),
                    Some(places) => self.erase_at(&commits, &places),
                };
                // A file may have been cut: where it ends is looked up anew.
                self.open.clear();
                self.erased.extend(commits);
                drop(done.send(erased));
            }
        }
    }

    fn erase_at(&self, commits: &[HexDigest], places: &[u64]) -> io::Result<u64> {
        let commits: HashSet<HexDigest> = commits.iter().copied().collect();
        let numbers: BTreeSet<u64> = places.iter().map(|index| number(*index)).collect();
        numbers.iter().try_fold(0, |erased, number| {
            Ok(erased + write_over(&file_of(&self.dir, *number), &commits)?)
        })
    }

    /// What cannot be kept is not: whoever was issued it has it.
    fn keep(&mut self, signed: Vec<Signed>) {
        if signed.is_empty() {
            return;
        }
        let mut files: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut outcome = Ok(());
        for one in signed {
            if self.erased.contains(&one.commit) {
                continue;
            }
            outcome = outcome.and(self.authority(&one));
            if let Some(frame) = framed(&one) {
                let file = files.entry(number(one.receipt.index)).or_default();
                file.extend(frame);
            }
        }
        for (number, bytes) in files {
            let written = self.append(number, &bytes);
            if written.is_err() {
                // Where it ends is looked up anew.
                self.open.remove(&number);
            }
            outcome = outcome.and(written);
        }
        match outcome {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                tracing::warn!(%error, "certificates are not kept for packs");
            }
            Err(_) => {}
        }
    }

    fn authority(&mut self, one: &Signed) -> io::Result<()> {
        let Some(authority) = &one.authority else {
            return Ok(());
        };
        let path = authority_file(&self.dir, &one.issuer);
        if !path.exists() {
            make_parent(&path)?;
            let beside = path.with_extension("new");
            std::fs::write(&beside, authority)?;
            std::fs::rename(&beside, &path)?;
        }
        if let Ok(mut known) = self.known.write() {
            known.insert(one.issuer);
        }
        Ok(())
    }

    fn append(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.open.contains_key(&number) {
            while self.open.len() >= OPEN {
                self.open.pop_first();
            }
            let opened = open(&file_of(&self.dir, number))?;
            self.open.insert(number, opened);
        }
        let Some(Open { file, end }) = self.open.get_mut(&number) else {
            return Ok(());
        };
        file.write_all_at(bytes, *end)?;
        *end += bytes.len() as u64;
        Ok(())
    }
}

/// What of a certificate is kept. `None` if the receipt does not stand in it as the ledger would have it.
fn framed(one: &Signed) -> Option<Vec<u8>> {
    let again = one.receipt.of_ledger();
    // The receipt is the last extension: it stands near the end.
    let mut windows = one.leaf.windows(again.len());
    let cut = windows.rposition(|window| window == again)?;
    let (before, rest) = one.leaf.split_at_checked(cut)?;
    let after = rest.get(again.len()..)?;
    let frame = Frame {
        index: one.receipt.index,
        commit: one.commit,
        // Of a checkpoint that was just signed: its second line.
        size: one.receipt.checkpoint.lines().nth(1)?.parse().ok()?,
        before,
        after,
    };
    frame.encode()
}

/// A file to append to. What is behind the last whole frame is cut off.
fn open(path: &Path) -> io::Result<Open> {
    make_parent(path)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    let mut bytes = Vec::new();
    (&file).take(LARGEST).read_to_end(&mut bytes)?;
    let last = frames(&bytes).last();
    let end = last.map_or(0, |(place, frame)| place.saturating_add(frame.length()));
    cut(&file, path, end, bytes.len())?;
    Ok(Open {
        file,
        end: end as u64,
    })
}

/// Writes over the frames of one file that commit to one of `commits`, and over what stands behind its last whole one:
/// nobody finds a certificate there, and whoever reads the disk would.
fn write_over(path: &Path, commits: &HashSet<HexDigest>) -> io::Result<u64> {
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let (mut theirs, mut end) = (Vec::new(), 0);
    for (place, frame) in frames(&bytes) {
        end = place.saturating_add(frame.length());
        if commits.contains(&frame.commit) {
            theirs.push((place, frame.erased()));
        }
    }
    let rest = bytes.len().saturating_sub(end);
    if theirs.is_empty() && rest == 0 {
        return Ok(0);
    }
    let file = OpenOptions::new().write(true).open(path)?;
    for (place, nothing) in &theirs {
        file.write_all_at(nothing, *place as u64)?;
    }
    if rest > 0 {
        cut(&file, path, end, bytes.len())?;
    }
    file.sync_all()?;
    Ok(theirs.len() as u64)
}

/// Writes over what a crash or a damage has left behind the last whole frame, which ends at `end`, and cuts it off.
fn cut(file: &File, path: &Path, end: usize, length: usize) -> io::Result<()> {
    let behind = length.saturating_sub(end);
    if behind > 0 {
        tracing::warn!(path = %path.display(), behind, "what is behind a damage in a file of certificates is cut off");
        file.write_all_at(&vec![0; behind], end as u64)?;
        file.sync_data()?;
    }
    file.set_len(end as u64)
}

fn make_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    DirBuilder::new().recursive(true).mode(0o700).create(parent)
}

/// What is in a folder; nothing if there is none.
fn listed(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(commit: u8) -> Vec<u8> {
        let frame = Frame {
            index: 7,
            commit: HexDigest([commit; 32]),
            size: 9,
            before: &[commit; 60],
            after: &[commit; 60],
        };
        frame.encode().unwrap()
    }

    fn holds(path: &Path, commit: u8) -> bool {
        let bytes = std::fs::read(path).unwrap();
        bytes.windows(60).any(|window| window == [commit; 60])
    }

    /// Behind a length that a disk has changed nothing was found, and the erasure said that it was done.
    #[test]
    fn what_is_behind_a_damage_is_erased_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_of(dir.path(), 0);
        make_parent(&path).unwrap();
        let whole = [frame(1), frame(2), frame(3)].concat();
        let second = frame(1).len();
        for damaged in [second, second + 60] {
            let mut bytes = whole.clone();
            // A length of more than any has, or a place in the frame where nothing shows it.
            bytes[damaged] ^= 0x80;
            std::fs::write(&path, &bytes).unwrap();
            assert!(holds(&path, 3));
            erase_since(dir.path(), &[HexDigest([3; 32])], None).unwrap();
            assert!(holds(&path, 1) && !holds(&path, 3));
        }
    }

    #[test]
    fn what_a_backup_brings_back_is_looked_at_and_what_is_as_it_was_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = file_of(dir.path(), 0);
        make_parent(&path).unwrap();
        let whole = [frame(1), frame(3)].concat();
        let three = [HexDigest([3; 32])];
        std::fs::write(&path, &whole).unwrap();
        assert_eq!(erase_left(dir.path(), &[]).unwrap(), 0);
        assert_eq!(erase_left(dir.path(), &three).unwrap(), 1);
        // One file of them, whatever its times say.
        for old in [false, true] {
            std::fs::write(&path, &whole).unwrap();
            if old {
                let file = File::options().write(true).open(&path).unwrap();
                file.set_modified(std::time::UNIX_EPOCH).unwrap();
            }
            assert_eq!(erase_left(dir.path(), &three).unwrap(), 1);
        }
        // Others than were looked for before.
        let both = [HexDigest([1; 32]), HexDigest([3; 32])];
        assert_eq!(erase_left(dir.path(), &both).unwrap(), 1);
        assert_eq!(erase_left(dir.path(), &both).unwrap(), 0);
        // What nobody has changed since is not read.
        std::fs::write(&path, &whole).unwrap();
        let later = std::fs::metadata(&path).unwrap().ctime() + 1;
        assert_eq!(erase_since(dir.path(), &both, Some(later)).unwrap(), 0);
        assert_eq!(erase_since(dir.path(), &both, None).unwrap(), 2);
    }
}
