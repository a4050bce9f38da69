//! A mirror as logs see it: what it takes, what it refuses, and that what it has signed is there, whole, whatever
//! happens to its disk.

use crate::fault_disk::{Fault, MemoryDisk};
use crate::support::{Log, ORIGIN, TIME, ask, fixed_key, hash, logs, moment, open};
use ledger::merkle::Hash;
use ledger::mirror::{Answer, Info, Package, Upload};
use ledger::tile::check::check;
use ledger::tile::{Kind, TilePath};
use ledger::{Checkpoint, Cosigner, HexDigest, Note};
use ledger_store::{Disk, RealDisk};
use std::path::Path;
use std::sync::Arc;
use testkit::mutation::Random;
use witness::{Mirror, MirrorRefused, Moment, StoreError, Witness};

/// Enough for three bundles and a piece.
pub(crate) const SIZE: u64 = 800;

pub(crate) fn log() -> Log {
    Log::new(ORIGIN, 1, "record", SIZE)
}

pub(crate) fn entries(what: &str, start: u64, end: u64) -> Vec<Vec<u8>> {
    let entry = |n| format!("{what} {n}").into_bytes();
    (start..end).map(entry).collect()
}

fn mirror_cosigner() -> Cosigner {
    Cosigner::new("mirror.example/1", fixed_key(91)).unwrap()
}

struct Site {
    witness: Arc<Witness>,
    mirror: Mirror,
}

fn site(disk: &Arc<dyn Disk>, folder: &Path, log: &Log, keys: bool) -> Result<Site, StoreError> {
    let witness = open(Arc::clone(disk), &folder.join("state"), keys, &logs(&[log]))?;
    let witness = Arc::new(witness);
    let cosigners = vec![mirror_cosigner()];
    let folder = folder.join("mirror");
    let shared = Arc::clone(&witness);
    let mirror = Mirror::open(disk, &folder, shared, cosigners, 0, |_| true)?;
    Ok(Site { witness, mirror })
}

fn memory() -> (MemoryDisk, Arc<dyn Disk>) {
    let disk = MemoryDisk::default();
    (disk.clone(), Arc::new(disk))
}

fn fresh(log: &Log) -> Site {
    site(&memory().1, Path::new("/w"), log, false).unwrap()
}

fn package(log: &Log, what: &str, upload: &Upload, from: u64) -> Package {
    let span = upload.span(from).unwrap();
    let entries = entries(what, span.start, span.end);
    let Ok(package) = Package::build(span, &entries, upload.end(), log);
    package.unwrap()
}

fn upload(start: u64, end: u64) -> Upload {
    Upload::new(ORIGIN, start, end, Vec::new()).unwrap()
}

/// The log shows its checkpoint.
fn pending(site: &Site, log: &Log, old: u64, new: u64) {
    ask(&site.witness, &log.request(old, new)).unwrap();
}

/// Everything of an upload, as HTTP has its end.
fn push(site: &Site, log: &Log, upload: &Upload) -> Result<(), MirrorRefused> {
    let session = site.mirror.begin(upload)?;
    for span in upload.spans() {
        site.mirror
            .save(&session, &package(log, "record", upload, span.start))?;
    }
    site.mirror
        .finish(&session)
        .map(|lines| assert_eq!(lines.len(), 1))
}

fn at(refused: &MirrorRefused) -> (u16, Option<(u64, u64)>) {
    match refused.answer() {
        Answer::Conflict(Info { size, next, .. }) => (409, Some((size, next))),
        Answer::Part(Info { size, next, .. }) => (202, Some((size, next))),
        answer => (answer.status(), None),
    }
}

/// Size of the mirror checkpoint. Its note is the log's and the mirror's, and every tile and entry leads to it.
fn whole(site: &Site, log: &Log) -> u64 {
    let Some(note) = site.mirror.latest(&hash()) else {
        return 0;
    };
    let parsed = Note::parse(&note).unwrap();
    parsed.verify(&log.key()).unwrap();
    let line = mirror_cosigner().key().verify(&parsed).unwrap().unwrap();
    assert!(line.time >= TIME);
    assert_eq!(parsed.signatures.len(), 2);
    let checkpoint = Checkpoint::open(&note, &log.key()).unwrap();
    assert_eq!(checkpoint.root, log.at(checkpoint.size).root);
    let fetch = |path: &TilePath| site.mirror.tile(&hash(), path).unwrap();
    check(&checkpoint, true, fetch).unwrap();
    checkpoint.size
}

#[test]
fn a_log_is_mirrored_as_it_grows_and_every_tile_leads_to_its_root() {
    let (log, folder) = (log(), tempfile::tempdir().unwrap());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut site = site(&disk, folder.path(), &log, false).unwrap();
    let mut old = 0;
    for size in [0, 1, 70, 255, 256, 257, 511, 512, 600, SIZE] {
        pending(&site, &log, old, size);
        push(&site, &log, &upload(old, size)).unwrap();
        assert_eq!(whole(&site, &log), size);
        // What was served narrower once still is.
        for path in [old, 1, 70, 300].into_iter().filter(|older| *older <= size) {
            for kind in [Kind::Entries, Kind::Hashes(0), Kind::Hashes(1)] {
                for path in TilePath::all(kind, path) {
                    assert!(
                        site.mirror.tile(&hash(), &path).unwrap().is_some(),
                        "{path}"
                    );
                }
            }
        }
        let beyond = TilePath::at(Kind::Entries, size / 256, size + 1).unwrap();
        assert_eq!(site.mirror.tile(&hash(), &beyond).unwrap(), None);
        old = size;
        drop(site);
        site = self::site(&disk, folder.path(), &log, true).unwrap();
        assert_eq!(whole(&site, &log), size);
    }
    // The same again is the same line; after another look of the log's, a newer one.
    let lines = |site: &Site| {
        let session = site.mirror.begin(&upload(SIZE, SIZE)).unwrap();
        site.mirror.finish(&session).unwrap()
    };
    let first = lines(&site);
    assert_eq!(lines(&site), first);
    let later = Moment {
        unix: TIME + 9,
        ..moment()
    };
    site.witness
        .add_checkpoint(log.request(SIZE, SIZE).as_bytes(), later)
        .unwrap();
    assert_ne!(lines(&site), first);
    assert!(site.mirror.latest(&HexDigest::of(b"another")).is_none());
}

/// 65,536 entries and some: the tiles above the first that are full, made as it comes and after a stop in between.
#[test]
fn tiles_of_the_second_level_are_made() {
    let log = Log::new(ORIGIN, 1, "record", 66_000);
    let (_, disk) = memory();
    let mut site = site(&disk, Path::new("/w"), &log, false).unwrap();
    pending(&site, &log, 0, 66_000);
    let all = upload(0, 66_000);
    let session = site.mirror.begin(&all).unwrap();
    for span in all.spans().take(130) {
        site.mirror
            .save(&session, &package(&log, "record", &all, span.start))
            .unwrap();
    }
    drop(site);
    site = self::site(&disk, Path::new("/w"), &log, true).unwrap();
    push(&site, &log, &upload(130 * 256, 66_000)).unwrap();
    assert_eq!(whole(&site, &log), 66_000);
}

#[test]
fn every_refusal_has_its_status_and_changes_nothing() {
    let (log, stranger) = (log(), Log::new("log.example/other", 1, "record", 9));
    let site = fresh(&log);
    let begin = |upload: &Upload| {
        site.mirror
            .begin(upload)
            .map(drop)
            .map_err(|refused| at(&refused))
    };
    assert_eq!(
        begin(&Upload::new(&stranger.origin, 0, 9, Vec::new()).unwrap()),
        Err((404, None))
    );
    assert_eq!(begin(&upload(0, 9)), Err((422, None)));
    pending(&site, &log, 0, 300);
    // Not its size; a beginning that is not here; more again than it reads.
    for (start, end) in [(0, 299), (0, 301), (0, 0), (1, 300), (300, 300)] {
        assert_eq!(
            begin(&upload(start, end)),
            Err((409, Some((300, 0)))),
            "{start} {end}"
        );
    }
    assert_eq!(begin(&upload(0, 300)), Ok(()));
    push(&site, &log, &upload(0, 300)).unwrap();
    pending(&site, &log, 300, SIZE);
    push(&site, &log, &upload(300, SIZE)).unwrap();
    // Back to what was; the mirror stays where it is.
    assert_eq!(begin(&upload(300, 300)), Err((409, Some((SIZE, SIZE)))));
    assert_eq!(begin(&upload(0, SIZE)), Ok(()));
    assert_eq!(whole(&site, &log), SIZE);
    let fork = Log::new(ORIGIN, 1, "another", SIZE + 1);
    let refused = ask(&site.witness, &fork.request(SIZE, SIZE + 1)).unwrap_err();
    assert_eq!(refused.answer().status(), 422);
    for refused in [
        site.mirror.begin(&upload(1, 2)).unwrap_err(),
        site.mirror.begin(&upload(300, 300)).unwrap_err(),
    ] {
        assert!(refused.finding().next.is_some());
    }
}

/// Entries of a fork, and each flipped byte of a package.
#[test]
fn entries_that_are_not_of_the_checkpoint_are_not_kept() {
    let log = log();
    let fork = Log::new(ORIGIN, 1, "another", SIZE);
    let site = fresh(&log);
    pending(&site, &log, 0, SIZE);
    let all = upload(0, SIZE);
    let session = site.mirror.begin(&all).unwrap();
    let refused = |package: &Package| {
        let refused = site.mirror.save(&session, package).unwrap_err();
        assert_eq!(refused.answer().status(), 422);
        assert_eq!(refused.finding().code, "WITNESS-MIRROR-UNPROVED");
    };
    refused(&package(&fork, "another", &all, 0));
    refused(&package(&log, "another", &all, 0));
    let span = all.span(256).unwrap();
    // A package whose place is not reached yet.
    let early = site
        .mirror
        .save(&session, &package(&log, "record", &all, 256))
        .unwrap_err();
    assert_eq!(at(&early), (409, Some((SIZE, 0))));
    site.mirror
        .save(&session, &package(&log, "record", &all, 0))
        .unwrap();
    let Ok(Some(proof)) = ledger::merkle::subtree_proof(span.first, span.end, SIZE, &log) else {
        panic!("it has a proof");
    };
    let entries = entries("record", span.start, span.end);
    for at in 0..entries.len() {
        let mut changed = entries.clone();
        changed[at][0] ^= 1;
        refused(&Package::new(span, &changed, proof.clone()).unwrap());
    }
    for at in 0..proof.len() * 32 {
        let mut changed: Vec<Hash> = proof.clone();
        changed[at / 32][at % 32] ^= 1;
        refused(&Package::new(span, &entries, changed).unwrap());
    }
    let unfinished = site.mirror.finish(&session).unwrap_err();
    assert_eq!(at(&unfinished), (202, Some((SIZE, 256))));
    assert_eq!(whole(&site, &log), 0);
    assert!(
        site.mirror
            .tile(&hash(), &TilePath::full(Kind::Entries, 1))
            .unwrap()
            .is_none()
    );
}

/// An upload goes on under the checkpoint that it began with: this process remembers it, or the ticket says it.
#[test]
fn a_past_checkpoint_is_taken_where_the_mirror_itself_vouches_for_it() {
    let log = log();
    let (_, disk) = memory();
    let mut site = site(&disk, Path::new("/w"), &log, false).unwrap();
    pending(&site, &log, 0, 300);
    let first = upload(0, 300);
    let session = site.mirror.begin(&first).unwrap();
    site.mirror
        .save(&session, &package(&log, "record", &first, 0))
        .unwrap();
    let Answer::Part(Info { ticket, .. }) = site.mirror.finish(&session).unwrap_err().answer()
    else {
        panic!("it is not whole");
    };
    pending(&site, &log, 300, 600);
    site.mirror.begin(&upload(256, 300)).unwrap();
    drop(site);
    site = self::site(&disk, Path::new("/w"), &log, true).unwrap();
    let without = site.mirror.begin(&upload(256, 300)).unwrap_err();
    assert_eq!(at(&without), (409, Some((600, 256))));
    let with = |ticket: &[u8]| Upload::new(ORIGIN, 256, 300, ticket.to_vec()).unwrap();
    // A log's checkpoint without the witness's line, another log's ticket, each byte of the good one.
    let forged = log.note(300).to_string();
    assert!(site.mirror.begin(&with(forged.as_bytes())).is_err());
    for at in 0..ticket.len() {
        let mut changed = ticket.clone();
        changed[at] ^= 1;
        assert!(site.mirror.begin(&with(&changed)).is_err(), "byte {at}");
    }
    let unsigned = Note::parse(std::str::from_utf8(&ticket).unwrap()).unwrap();
    let lines = unsigned
        .signatures
        .iter()
        .filter(|line| line.name != ORIGIN);
    let unsigned = Note {
        signatures: lines.cloned().collect(),
        ..unsigned.clone()
    };
    assert!(
        site.mirror
            .begin(&with(unsigned.to_string().as_bytes()))
            .is_err()
    );
    push(&site, &log, &with(&ticket)).unwrap();
    assert_eq!(whole(&site, &log), 300);
    push(&site, &log, &upload(300, 600)).unwrap();
    assert_eq!(whole(&site, &log), 600);
}

#[test]
fn uploads_at_once_meet_in_one_log() {
    let (log, folder) = (log(), tempfile::tempdir().unwrap());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let site = site(&disk, folder.path(), &log, false).unwrap();
    pending(&site, &log, 0, 290);
    pending(&site, &log, 290, SIZE);
    std::thread::scope(|scope| {
        for end in [290, SIZE, 290, SIZE] {
            let (site, log) = (&site, &log);
            scope.spawn(move || match push(site, log, &upload(0, end)) {
                Ok(()) => {}
                // Another was faster, with more.
                Err(refused) => assert_eq!((refused.answer().status(), end), (409, 290)),
            });
        }
    });
    assert_eq!(whole(&site, &log), SIZE);
}

const STEPS: [(u64, u64); 4] = [(0, 3), (3, 260), (260, 300), (300, 600)];

/// A log that shows and sends itself in steps; how much the mirror has answered for.
fn grow(disk: &MemoryDisk, log: &Log) -> (bool, u64) {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let Ok(site) = site(&disk, Path::new("/w"), log, false) else {
        return (false, 0);
    };
    let mut answered = 0;
    for (old, new) in STEPS {
        if ask(&site.witness, &log.request(old, new)).is_err() {
            break;
        }
        match push(&site, log, &upload(old, new)) {
            Ok(()) => answered = new,
            Err(refused) => {
                let status = refused.answer().status();
                assert!(matches!(status, 503 | 507), "{refused:?}");
                assert!(refused.finding().next.is_some());
                break;
            }
        }
    }
    (true, answered)
}

fn judge(disk: MemoryDisk, log: &Log, keys: bool, answered: u64, what: &str) {
    let disk: Arc<dyn Disk> = Arc::new(disk);
    let site = site(&disk, Path::new("/w"), log, keys);
    let site = site.unwrap_or_else(|error| panic!("{what}: {error}"));
    let stands = whole(&site, log);
    assert!(
        stands >= answered,
        "{what}: {stands} stands, {answered} was answered"
    );
    // It goes on where it is.
    let old = crate::support::size(&site.witness).unwrap_or(0);
    pending(&site, log, old, SIZE);
    let next = match site.mirror.begin(&upload(SIZE, SIZE)) {
        Ok(_) => SIZE,
        Err(refused) => at(&refused).1.unwrap().1,
    };
    assert!(next >= stands, "{what}");
    push(&site, log, &upload(next, SIZE)).unwrap_or_else(|error| panic!("{what}: {error:?}"));
    assert_eq!(whole(&site, log), SIZE, "{what}");
}

#[test]
fn each_write_fails_stored_or_not_and_nothing_that_was_signed_for_is_lost() {
    let log = log();
    let mut failed = 0;
    for fault in [
        Fault::FailedAndStored,
        Fault::FailedNotStored,
        Fault::Short,
        Fault::Full,
    ] {
        for at in 0.. {
            let disk = MemoryDisk::default();
            disk.fail(at, fault);
            let (started, answered) = grow(&disk, &log);
            if answered == 600 {
                assert!(at >= 60, "only {at} writes");
                break;
            }
            failed += 1;
            let what = format!("{fault:?} at write {at}");
            let mut random = Random::new(at + 1);
            let crashed = disk.crash(|below| random.below(below as usize) as u64);
            judge(crashed, &log, started, answered, &what);
            judge(disk.healed(), &log, started, answered, &what);
        }
    }
    assert!(failed >= 240, "{failed}");
}

/// A full disk is said, and is no end: with room again the same process goes on.
#[test]
fn a_full_disk_is_said_and_uploads_go_on_once_there_is_room() {
    let log = log();
    let (disk, shared) = memory();
    let site = site(&shared, Path::new("/w"), &log, false).unwrap();
    pending(&site, &log, 0, SIZE);
    let room = disk.used() + 6_000;
    disk.limit(Some(room));
    let refused = push(&site, &log, &upload(0, SIZE)).unwrap_err();
    assert_eq!(refused.answer().status(), 507);
    assert_eq!(refused.finding().code, "WITNESS-MIRROR-FULL");
    assert_eq!(whole(&site, &log), 0);
    disk.limit(None);
    let next = at(&site.mirror.begin(&upload(SIZE, SIZE)).unwrap_err())
        .1
        .unwrap()
        .1;
    push(&site, &log, &upload(next, SIZE)).unwrap();
    assert_eq!(whole(&site, &log), SIZE);
}

/// What somebody has changed on the disk is not signed for, and not gone on with by the next start.
#[test]
fn a_changed_file_is_found_before_it_is_signed_for() {
    let (log, folder) = (log(), tempfile::tempdir().unwrap());
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let site = site(&disk, folder.path(), &log, false).unwrap();
    pending(&site, &log, 0, 300);
    push(&site, &log, &upload(0, 300)).unwrap();
    drop(site);
    let of = |name: &str| {
        folder
            .path()
            .join("mirror")
            .join(hash().to_string())
            .join(name)
    };
    for name in ["tile/entries/001", "tile/0/001", "tile/1/000", "state"] {
        let kept = std::fs::read(of(name)).unwrap();
        for at in 0..kept.len() {
            let mut changed = kept.clone();
            changed[at] ^= 0x10;
            std::fs::write(of(name), &changed).unwrap();
            // The witness starts, and has nothing of this log.
            let site = self::site(&disk, folder.path(), &log, true).unwrap();
            let unread = site.mirror.unread(&hash());
            let unread = unread.unwrap_or_else(|| panic!("{name} {at}"));
            assert_eq!(unread.code, "WITNESS-MIRROR-DAMAGED", "{name}");
            assert!(site.mirror.latest(&hash()).is_none());
            let refused = site.mirror.begin(&upload(0, 300)).unwrap_err();
            assert_eq!(refused.answer().status(), 503, "{name}");
        }
        std::fs::write(of(name), kept).unwrap();
    }
    // A bundle that is changed while it runs: what is to be added to it is not.
    let site = self::site(&disk, folder.path(), &log, true).unwrap();
    pending(&site, &log, 300, SIZE);
    let mut kept = std::fs::read(of("tile/entries/001")).unwrap();
    kept[5] ^= 1;
    std::fs::write(of("tile/entries/001"), kept).unwrap();
    let refused = push(&site, &log, &upload(300, SIZE)).unwrap_err();
    assert_eq!(refused.answer().status(), 503);
    assert_eq!(refused.finding().code, "WITNESS-MIRROR-DAMAGED");
}

#[test]
fn one_damaged_tile_ends_the_mirror_of_its_log_and_of_no_other() {
    let (log, folder) = (log(), tempfile::tempdir().unwrap());
    let other = Log::new("other.example/log", 2, "record", SIZE);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let witness = open(
        Arc::clone(&disk),
        &folder.path().join("state"),
        false,
        &logs(&[&log, &other]),
    );
    let witness = Arc::new(witness.unwrap());
    let shared = Arc::clone(&witness);
    let at = folder.path().join("mirror");
    let mirror = Mirror::open(&disk, &at, shared, vec![mirror_cosigner()], 0, |_| true);
    let site = Site {
        witness,
        mirror: mirror.unwrap(),
    };
    let theirs = |start, end| Upload::new("other.example/log", start, end, Vec::new()).unwrap();
    pending(&site, &log, 0, 300);
    push(&site, &log, &upload(0, 300)).unwrap();
    pending(&site, &log, 300, SIZE);
    pending(&site, &other, 0, 300);
    push(&site, &other, &theirs(0, 300)).unwrap();

    let bundle = at.join(hash().to_string()).join("tile/entries/001");
    let kept = std::fs::read(&bundle).unwrap();
    let mut changed = kept.clone();
    changed[5] ^= 1;
    std::fs::write(&bundle, changed).unwrap();
    let code = |refused: MirrorRefused| refused.finding().code;
    let refused = push(&site, &log, &upload(300, SIZE)).unwrap_err();
    assert_eq!(code(refused), "WITNESS-MIRROR-DAMAGED");
    // Nothing more of it is taken, also where the file looks right again.
    std::fs::write(&bundle, kept).unwrap();
    let refused = site.mirror.begin(&upload(300, SIZE)).unwrap_err();
    assert_eq!(refused.answer().status(), 503);
    assert_eq!(code(refused), "WITNESS-MIRROR-DAMAGED");
    assert_eq!(whole(&site, &log), 300, "what there is is served");
    pending(&site, &other, 300, SIZE);
    push(&site, &other, &theirs(300, SIZE)).unwrap();
}
