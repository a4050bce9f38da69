//! The bytes of a segment: a header, then one frame a commit. Pure; reading files is `segment`.
//!
//! ```text
//! segment  "TLSEG1\r\n" ‖ u32 length ‖ body ‖ check(body)      body = u64 first ‖ u8 n ‖ n peaks ‖ note
//! frame    "TLF1" ‖ u32 count ‖ u32 payload ‖ u32 note ‖ u64 first ‖ check4(these 24 bytes)
//!          payload: count × (u16 length ‖ record)              as in an entry bundle
//!          signed note of the tree that ends with this frame
//!          check(header ‖ leaf hashes ‖ note)
//! ```
//! Numbers are big-endian; `check` is the first 16 bytes of SHA-256. The checksum goes over leaf
//! hashes rather than records, because those are computed anyway: one pass over the data.

use crypto::Sha256;
use ledger::{Frontier, Hash, merkle};

pub(crate) const HEADER: usize = 28;
const MAGIC: &[u8; 4] = b"TLF1";
const SEGMENT_MAGIC: &[u8; 8] = b"TLSEG1\r\n";
const CHECK: usize = 16;
/// Frames are written by `commit_bytes`, a mirror's by this.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;
const MAX_NOTE: usize = 64 << 10;
/// Length of everything before a segment's body.
pub(crate) const SEGMENT_PREFIX: usize = 12;
const MAX_SEGMENT_BODY: usize = 128 << 10;

/// The numbers in front of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) count: u32,
    pub(crate) payload: u32,
    pub(crate) note: u32,
    pub(crate) first: u64,
}

impl Header {
    pub(crate) fn parse(bytes: &[u8; HEADER]) -> Option<Self> {
        let (numbers, check) = bytes.split_last_chunk::<4>()?;
        let (magic, rest) = numbers.split_first_chunk::<4>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (payload, rest) = rest.split_first_chunk::<4>()?;
        let (note, rest) = rest.split_first_chunk::<4>()?;
        let header = Self {
            count: u32::from_be_bytes(*count),
            payload: u32::from_be_bytes(*payload),
            note: u32::from_be_bytes(*note),
            first: u64::from_be_bytes(rest.try_into().ok()?),
        };
        let sound = magic == MAGIC
            && check4(numbers) == *check
            && header.payload as usize <= MAX_PAYLOAD
            && header.note as usize <= MAX_NOTE
            && header.count > 0
            && header.first.checked_add(u64::from(header.count)).is_some();
        sound.then_some(header)
    }

    fn encode(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let numbers = [
            MAGIC.as_slice(),
            &self.count.to_be_bytes(),
            &self.payload.to_be_bytes(),
            &self.note.to_be_bytes(),
            &self.first.to_be_bytes(),
        ]
        .concat();
        let check = check4(&numbers);
        for (into, byte) in bytes.iter_mut().zip(numbers.iter().chain(&check)) {
            *into = *byte;
        }
        bytes
    }

    /// Index after the last record.
    pub(crate) fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Bytes that follow the header.
    pub(crate) fn body(&self) -> usize {
        self.payload as usize + self.note as usize + CHECK
    }
}

/// A frame that has been read and whose checksum is right.
pub(crate) struct Frame {
    pub(crate) header: Header,
    pub(crate) leaves: Vec<Hash>,
    pub(crate) note: String,
    pub(crate) last_record: Vec<u8>,
}

/// Checks `body`, all that follows the header.
pub(crate) fn parse_body(header: Header, body: &[u8]) -> Result<Frame, &'static str> {
    let (payload, rest) = body
        .split_at_checked(header.payload as usize)
        .ok_or("the frame is cut off")?;
    let (note, check) = rest
        .split_at_checked(header.note as usize)
        .ok_or("the frame is cut off")?;
    let records = split(payload, header.count).ok_or("the frame's records do not add up")?;
    let leaves: Vec<Hash> = records
        .iter()
        .map(|record| merkle::leaf_hash(record))
        .collect();
    if checksum(&header.encode(), &leaves, note) != check {
        return Err("the frame's checksum is wrong");
    }
    let note = std::str::from_utf8(note).map_err(|_error| "the frame's checkpoint is not text")?;
    Ok(Frame {
        header,
        leaves,
        note: note.to_owned(),
        last_record: records.last().copied().unwrap_or_default().to_vec(),
    })
}

/// Splits a payload into its records.
pub(crate) fn split(payload: &[u8], count: u32) -> Option<Vec<&[u8]>> {
    let mut records = Vec::with_capacity(usize::try_from(count).ok()?.min(payload.len()));
    let mut rest = payload;
    for _ in 0..count {
        let (length, after) = rest.split_first_chunk::<2>()?;
        let (record, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        records.push(record);
        rest = after;
    }
    rest.is_empty().then_some(records)
}

/// Where the first sound frame with records from `at_least` on begins within `bytes`.
pub(crate) fn find(bytes: &[u8], at_least: u64) -> Option<usize> {
    let starts = bytes.windows(MAGIC.len()).enumerate();
    starts
        .filter(|(_, window)| window == MAGIC)
        .map(|(at, _)| at)
        .find(|&at| {
            let rest = bytes.get(at..).unwrap_or_default();
            rest.split_first_chunk::<HEADER>()
                .and_then(|(header, rest)| Some((Header::parse(header)?, rest)))
                .filter(|(header, _)| header.first >= at_least)
                .and_then(|(header, rest)| parse_body(header, rest.get(..header.body())?).ok())
                .is_some()
        })
}

/// Builds a frame in one buffer, which is what is written.
pub(crate) struct FrameBuilder {
    bytes: Vec<u8>,
    count: u32,
    first: u64,
}

impl FrameBuilder {
    pub(crate) fn new(first: u64, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + capacity + 1024);
        bytes.resize(HEADER, 0);
        let count = 0;
        Self {
            bytes,
            count,
            first,
        }
    }

    /// Adds the record that `write` appends and returns its place.
    pub(crate) fn record(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> std::ops::Range<usize> {
        let length_at = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        write(&mut self.bytes);
        let start = length_at + 2;
        // INVARIANT: a record has at most 16 KiB, which its type ensures.
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        if let Some(into) = self.bytes.get_mut(length_at..start) {
            into.copy_from_slice(&length.to_be_bytes());
        }
        self.count += 1;
        start..self.bytes.len()
    }

    pub(crate) fn get(&self, range: std::ops::Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    pub(crate) fn finish(mut self, leaves: &[Hash], note: &str) -> Vec<u8> {
        let length = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let header = Header {
            count: self.count,
            payload: length(self.bytes.len() - HEADER),
            note: length(note.len()),
            first: self.first,
        };
        let header = header.encode();
        if let Some(into) = self.bytes.first_chunk_mut::<HEADER>() {
            *into = header;
        }
        self.bytes.extend_from_slice(note.as_bytes());
        let check = checksum(&header, leaves, note.as_bytes());
        self.bytes.extend_from_slice(&check);
        self.bytes
    }
}

fn checksum(header: &[u8; HEADER], leaves: &[Hash], note: &[u8]) -> [u8; CHECK] {
    let mut hash = Sha256::new();
    hash.update(header);
    hash.update(leaves.as_flattened());
    hash.update(note);
    first16(&hash.finish())
}

fn check4(bytes: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = crypto::sha256(bytes);
    [a, b, c, d]
}

fn first16(hash: &Hash) -> [u8; CHECK] {
    hash.first_chunk().copied().unwrap_or_default()
}

/// The beginning of a segment: the tree before its first record, and the checkpoint of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) frontier: Frontier,
    /// Empty for the first segment of all.
    pub(crate) note: String,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let peaks = self.frontier.peaks();
        let mut body = self.frontier.size().to_be_bytes().to_vec();
        body.push(u8::try_from(peaks.len()).unwrap_or(u8::MAX));
        body.extend_from_slice(peaks.as_flattened());
        body.extend_from_slice(self.note.as_bytes());
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let check = first16(&crypto::sha256(&body));
        [
            SEGMENT_MAGIC,
            length.to_be_bytes().as_slice(),
            &body,
            &check,
        ]
        .concat()
    }

    /// Length of body and check, from the first bytes of a segment.
    pub(crate) fn rest(prefix: &[u8; SEGMENT_PREFIX]) -> Option<usize> {
        let length = prefix.strip_prefix(SEGMENT_MAGIC)?;
        let length = u32::from_be_bytes(length.try_into().ok()?) as usize;
        (length <= MAX_SEGMENT_BODY).then_some(length + CHECK)
    }

    pub(crate) fn parse(rest: &[u8]) -> Option<Self> {
        let (body, check) = rest.split_last_chunk::<CHECK>()?;
        if first16(&crypto::sha256(body)) != *check {
            return None;
        }
        let (size, body) = body.split_first_chunk::<8>()?;
        let (&count, body) = body.split_first()?;
        let (peaks, note) = body.split_at_checked(usize::from(count) * 32)?;
        let peaks = peaks.as_chunks::<32>().0.to_vec();
        Some(Self {
            frontier: Frontier::from_peaks(u64::from_be_bytes(*size), peaks)?,
            note: String::from_utf8(note.to_vec()).ok()?,
        })
    }
}
