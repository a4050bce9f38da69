//! A folder of Apache Parquet files, for analysis: each batch is one file, named by its ledger and its first record,
//! written beside, forced to the disk and renamed. A batch that is handed over again replaces its file, so a folder
//! has each record once.
//!
//! The simplest files that the format allows, and every reader takes: one row group, a data page for each column,
//! plain encoding, no compression, no nulls.

mod thrift;

use super::Refusal;
use crate::Event;
use facts::Finding;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use thrift::Struct;

const MAGIC: &[u8; 4] = b"PAR1";
/// `Type` of parquet.thrift.
const BOOLEAN: i32 = 0;
const INT64: i32 = 2;
const BYTE_ARRAY: i32 = 6;
/// `ConvertedType`.
const UTF8: i32 = 0;
const TIMESTAMP_MILLIS: i32 = 9;

/// What a row has. `json` is the whole event.
const COLUMNS: [Column; 7] = [
    Column::new("id", BYTE_ARRAY, Some(UTF8)),
    Column::new("origin", BYTE_ARRAY, Some(UTF8)),
    Column::new("index", INT64, None),
    Column::new("time", INT64, Some(TIMESTAMP_MILLIS)),
    Column::new("type", BYTE_ARRAY, Some(UTF8)),
    Column::new("notable", BOOLEAN, None),
    Column::new("json", BYTE_ARRAY, Some(UTF8)),
];

struct Column {
    name: &'static str,
    physical: i32,
    converted: Option<i32>,
}

impl Column {
    const fn new(name: &'static str, physical: i32, converted: Option<i32>) -> Self {
        Self {
            name,
            physical,
            converted,
        }
    }
}

pub(super) struct ParquetSink {
    folder: PathBuf,
}

impl ParquetSink {
    pub(super) fn open(folder: &Path) -> Result<Self, Finding> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| {
            Finding::new("EXPORT-SINK-FILE", "the folder cannot be written to")
                .expected("a folder for Parquet files, or none yet")
                .observed(format!("{}: {error}", folder.display()))
                .next("name another folder, or mend its rights")
        })?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// On the disk when this returns. The disk is waited for: whoever calls has nothing else to do.
    pub(super) fn take(&self, events: &[Event]) -> Result<(), Refusal> {
        let Some(first) = events.first() else {
            return Ok(());
        };
        let path = self.folder.join(name(first));
        self.write(&path, &file(events)).map_err(|error| {
            // A half file has another name, and is written over.
            Refusal::again(format!("{}: {error}", path.display()))
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let beside = path.with_extension("part");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        File::open(&self.folder)?.sync_all()
    }
}

/// `example.org+pg-1.00000000000000000512.parquet`: files sort as their records do.
fn name(first: &Event) -> String {
    let origin = first.origin.replace('/', "+");
    format!("{origin}.{:020}.parquet", index(first))
}

/// What an event's id ends with.
fn index(event: &Event) -> u64 {
    let (_, index) = event.id.rsplit_once(':').unwrap_or_default();
    index.parse().unwrap_or_default()
}

fn file(events: &[Event]) -> Vec<u8> {
    let mut file = MAGIC.to_vec();
    let mut chunks = Vec::new();
    for column in &COLUMNS {
        let values = values(column.name, events);
        let offset = file.len();
        file.extend(page(events.len(), values.len()));
        file.extend(values);
        chunks.push((offset, file.len() - offset));
    }
    let footer = footer(events.len(), &chunks);
    let length = u32::try_from(footer.len()).unwrap_or(u32::MAX);
    file.extend(footer);
    file.extend(length.to_le_bytes());
    file.extend(MAGIC);
    file
}

/// The values of a column in plain encoding.
fn values(column: &str, events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX).to_le_bytes();
    match column {
        "notable" => {
            // Eight a byte, the lowest bit first.
            for eight in events.chunks(8) {
                let bits = eight.iter().zip(0_u8..);
                bytes.push(bits.fold(0, |byte, (event, bit)| {
                    byte | u8::from(event.notable) << bit
                }));
            }
        }
        "index" => bytes.extend(events.iter().flat_map(|event| number(index(event)))),
        "time" => bytes.extend(events.iter().flat_map(|event| number(event.time))),
        text => {
            for event in events {
                let value = match text {
                    "id" => &event.id,
                    "origin" => &event.origin,
                    "type" => event.kind,
                    _ => &event.json,
                };
                let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
                bytes.extend(length.to_le_bytes());
                bytes.extend(value.as_bytes());
            }
        }
    }
    bytes
}

/// `PageHeader` of a data page.
fn page(rows: usize, length: usize) -> Vec<u8> {
    const PLAIN: i32 = 0;
    const RLE: i32 = 3;
    let data = Struct::new()
        .i32(1, int(rows))
        .i32(2, PLAIN)
        // Levels of columns without nulls are not written, but have an encoding.
        .i32(3, RLE)
        .i32(4, RLE);
    Struct::new()
        .i32(1, 0)
        .i32(2, int(length))
        .i32(3, int(length))
        .structure(5, data)
        .end()
}

/// `FileMetaData`.
fn footer(rows: usize, chunks: &[(usize, usize)]) -> Vec<u8> {
    const REQUIRED: i32 = 0;
    const UNCOMPRESSED: i32 = 0;
    let root = Struct::new().text(4, "record").i32(5, int(COLUMNS.len()));
    let columns = COLUMNS.iter().map(|column| {
        let element = Struct::new()
            .i32(1, column.physical)
            .i32(3, REQUIRED)
            .text(4, column.name);
        match column.converted {
            Some(converted) => element.i32(6, converted),
            None => element,
        }
    });
    let groups = COLUMNS
        .iter()
        .zip(chunks)
        .map(|(column, (offset, length))| {
            let data = Struct::new()
                .i32(1, column.physical)
                .numbers(2, &[0, 3])
                .texts(3, &[column.name])
                .i32(4, UNCOMPRESSED)
                .i64(5, long(rows))
                .i64(6, long(*length))
                .i64(7, long(*length))
                .i64(9, long(*offset));
            Struct::new().i64(2, long(*offset)).structure(3, data)
        });
    let whole = chunks.iter().map(|(_, length)| length).sum();
    let group = Struct::new()
        .structures(1, groups.collect())
        .i64(2, long(whole))
        .i64(3, long(rows));
    Struct::new()
        .i32(1, 1)
        .structures(2, std::iter::once(root).chain(columns).collect())
        .i64(3, long(rows))
        .structures(4, vec![group])
        .text(6, "trilith")
        .end()
}

/// A batch is some MiB.
fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn long(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
