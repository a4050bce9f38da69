//! Segment files: making them, reading frames and records out of them. What a frame is made of is
//! in `frame`; who appends and when, in `log`.

use crate::StoreError;
use crate::disk::{Disk, DiskFile, replace};
use crate::frame::{self, Frame, HEADER, Header, SEGMENT_PREFIX, SegmentHeader};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// How far apart the remembered places of frames lie in a segment.
const PLACE_EVERY: u64 = 64 << 10;

pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) header: SegmentHeader,
    /// Offset of the first frame.
    pub(crate) data: u64,
    /// (first record, offset) of some frames, in order; begins with the first frame.
    places: Mutex<Vec<(u64, u64)>>,
}

/// What stands at an offset.
pub(crate) enum Next {
    Frame(Frame),
    End,
    /// Not a whole, sound frame.
    Torn(&'static str),
}

impl Segment {
    pub(crate) fn name(first: u64) -> String {
        format!("{first:020}.segment")
    }

    pub(crate) fn first_of(name: &str) -> Option<u64> {
        let first = name.strip_suffix(".segment")?.parse().ok()?;
        (Self::name(first) == name).then_some(first)
    }

    /// Makes the segment that begins after `header`'s tree, durable as a file.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        header: &SegmentHeader,
    ) -> Result<Self, StoreError> {
        let path = dir.join(Self::name(header.frontier.size()));
        replace(disk, &path, &header.encode()).map_err(StoreError::io("cannot write", &path))?;
        disk.sync_dir(dir)
            .map_err(StoreError::io("cannot sync", dir))?;
        Self::open(disk, dir, header.frontier.size(), true)
    }

    /// Makes sure that a segment which could not be made is not there: were it found after a
    /// crash, the records that the segment before it went on to take would seem to be missing.
    pub(crate) fn undo(disk: &dyn Disk, dir: &Path, first: u64) -> Result<(), StoreError> {
        let path = dir.join(Self::name(first));
        for path in [path.with_added_extension("tmp"), path] {
            match disk.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("cannot remove", &path)(error));
                }
                _ => (),
            }
        }
        disk.sync_dir(dir)
            .map_err(StoreError::io("cannot sync", dir))
    }

    pub(crate) fn open(
        disk: &dyn Disk,
        dir: &Path,
        first: u64,
        writable: bool,
    ) -> Result<Self, StoreError> {
        let path = dir.join(Self::name(first));
        let file = if writable {
            disk.create(&path)
        } else {
            disk.open(&path)
        };
        let file = file.map_err(StoreError::io("cannot open", &path))?;
        let unreadable = || StoreError::Corrupt {
            path: path.clone(),
            at: 0,
            what: "the segment's header is not sound".to_owned(),
        };
        let mut prefix = [0; SEGMENT_PREFIX];
        let read = file.read_at(&mut prefix, 0);
        read.map_err(StoreError::io("cannot read", &path))?;
        let length = SegmentHeader::rest(&prefix).ok_or_else(unreadable)?;
        let mut rest = vec![0; length];
        let read = file.read_at(&mut rest, SEGMENT_PREFIX as u64);
        read.map_err(StoreError::io("cannot read", &path))?;
        let header = SegmentHeader::parse(&rest).ok_or_else(unreadable)?;
        if header.frontier.size() != first {
            return Err(unreadable());
        }
        let data = (SEGMENT_PREFIX + length) as u64;
        Ok(Self {
            path,
            file,
            header,
            data,
            places: Mutex::new(vec![(first, data)]),
        })
    }

    pub(crate) const fn first(&self) -> u64 {
        self.header.frontier.size()
    }

    pub(crate) fn len(&self) -> Result<u64, StoreError> {
        self.file.length().map_err(self.cannot_read())
    }

    fn cannot_read(&self) -> impl FnOnce(io::Error) -> StoreError {
        StoreError::io("cannot read", &self.path)
    }

    pub(crate) fn corrupt(&self, at: u64, what: &str) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            at,
            what: what.to_owned(),
        }
    }

    pub(crate) fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let mut bytes = vec![0; length];
        let read = self.file.read_at(&mut bytes, offset);
        bytes.truncate(read.map_err(self.cannot_read())?);
        Ok(bytes)
    }

    /// The frame at `offset`, checked, of a file that is `end` bytes long.
    pub(crate) fn next(&self, offset: u64, end: u64) -> Result<Next, StoreError> {
        if offset == end {
            return Ok(Next::End);
        }
        let header = self.read(offset, HEADER)?;
        let Some(header) = header.first_chunk().and_then(Header::parse) else {
            return Ok(Next::Torn("there is no sound frame header"));
        };
        let body_at = offset + HEADER as u64;
        if body_at + header.body() as u64 > end {
            return Ok(Next::Torn("the file ends within the frame"));
        }
        let body = self.read(body_at, header.body())?;
        Ok(frame::parse_body(header, &body).map_or_else(Next::Torn, Next::Frame))
    }

    /// Remembers where a frame begins, now and then.
    pub(crate) fn remember(&self, first: u64, offset: u64) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places
            .last()
            .is_none_or(|(_, last)| offset >= last + PLACE_EVERY)
        {
            places.push((first, offset));
        }
    }

    /// Header and offset of the frame that holds record `index`, which this segment has.
    fn find(&self, index: u64) -> Result<(Header, u64), StoreError> {
        let mut offset = {
            let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
            let after = places.partition_point(|(first, _)| *first <= index);
            let place = after.checked_sub(1).and_then(|at| places.get(at));
            place.map_or(self.data, |(_, offset)| *offset)
        };
        loop {
            let bytes = self.read(offset, HEADER)?;
            let header = bytes.first_chunk().and_then(Header::parse);
            let header = header.ok_or_else(|| self.corrupt(offset, "no sound frame header"))?;
            if header.first > index {
                return Err(self.corrupt(offset, "the frames are out of order"));
            }
            self.remember(header.first, offset);
            if index < header.end() {
                return Ok((header, offset));
            }
            offset += (HEADER + header.body()) as u64;
        }
    }

    /// The record that the segment begins with.
    pub(crate) fn first_record(&self) -> Result<Vec<u8>, StoreError> {
        let records = self.records_from(self.first())?;
        let first = records.into_iter().next();
        first.ok_or_else(|| self.corrupt(self.data, "there is no record"))
    }

    /// The records of the frame that holds `index`, from `index` on.
    fn records_from(&self, index: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        let (header, offset) = self.find(index)?;
        self.records_of(header, offset, index)
    }

    fn records_of(
        &self,
        header: Header,
        offset: u64,
        index: u64,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let payload = self.read(offset + HEADER as u64, header.payload as usize)?;
        let records = frame::split(&payload, header.count);
        let records = records.ok_or_else(|| self.corrupt(offset, "its records do not add up"))?;
        let skip = usize::try_from(index - header.first).unwrap_or(usize::MAX);
        Ok(records
            .iter()
            .skip(skip)
            .map(|record| record.to_vec())
            .collect())
    }

    /// As [`Segment::records_from`], with the signed note of the tree that ends with the frame.
    fn signed_from(&self, index: u64) -> Result<(Vec<Vec<u8>>, String), StoreError> {
        let (header, offset) = self.find(index)?;
        let records = self.records_of(header, offset, index)?;
        let note_at = offset + (HEADER + header.payload as usize) as u64;
        let note = String::from_utf8(self.read(note_at, header.note as usize)?);
        let note = note.map_err(|_error| self.corrupt(offset, "its checkpoint is not text"))?;
        Ok((records, note))
    }
}

/// All segments of a log, in order. The last one is being written.
pub(crate) struct Segments {
    list: RwLock<Vec<Arc<Segment>>>,
}

impl Segments {
    pub(crate) const fn new(list: Vec<Arc<Segment>>) -> Self {
        Self {
            list: RwLock::new(list),
        }
    }

    pub(crate) fn add(&self, segment: Arc<Segment>) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        list.push(segment);
    }

    pub(crate) fn all(&self) -> Vec<Arc<Segment>> {
        self.list
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Forgets the oldest segment, if it begins at `first`.
    pub(crate) fn drop_first(&self, first: u64) {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        if list.first().is_some_and(|segment| segment.first() == first) {
            list.remove(0);
        }
    }

    fn holding(&self, index: u64) -> Option<Arc<Segment>> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let after = list.partition_point(|segment| segment.first() <= index);
        list.get(after.checked_sub(1)?).cloned()
    }

    /// As [`Segments::read`]; where a signed tree ends among the records, they end with the last
    /// such, and its note is the second value.
    pub(crate) fn read_signed(
        &self,
        mut index: u64,
        end: u64,
        max_bytes: usize,
    ) -> Result<(Vec<Vec<u8>>, Option<String>), StoreError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        // How many of the records the last note covers.
        let mut signed: Option<(usize, String)> = None;
        'frames: while index < end {
            let missing = || StoreError::NoRecord { index, size: end };
            let segment = self.holding(index).ok_or_else(missing)?;
            let (frame, note) = segment.signed_from(index)?;
            for record in frame {
                bytes += record.len();
                if index == end || (bytes > max_bytes && !records.is_empty()) {
                    break 'frames;
                }
                records.push(record);
                index += 1;
            }
            signed = Some((records.len(), note));
        }
        let note = signed.map(|(count, note)| {
            records.truncate(count);
            note
        });
        Ok((records, note))
    }

    /// Records from `index` on: at least one, at most to `end`, and no more than `max_bytes` once
    /// there is one. The caller knows that they are durable.
    pub(crate) fn read(
        &self,
        mut index: u64,
        end: u64,
        max_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while index < end {
            let missing = || StoreError::NoRecord { index, size: end };
            let segment = self.holding(index).ok_or_else(missing)?;
            for record in segment.records_from(index)? {
                bytes += record.len();
                if index == end || (bytes > max_bytes && !records.is_empty()) {
                    return Ok(records);
                }
                records.push(record);
                index += 1;
            }
        }
        Ok(records)
    }
}
