//! The outside of a pack: header, table, sections. Knows no content but digests.

use super::Failure;
use crate::HexDigest;
use crate::scalar::parse_decimal;
use crate::tile::TilePath;
use std::fmt;
use std::str::FromStr;

const MAGIC: &str = "trilith-pack/1";
/// Bytes of the table, at most: some 400,000 sections.
const MAX_TABLE: usize = 64 << 20;

/// The name of a section. Their order is the order in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Section {
    Question,
    Checkpoint(u64),
    Record { checkpoint: u64, index: u64 },
    Tile { checkpoint: u64, path: TilePath },
    Blob(HexDigest),
    Certificate(HexDigest),
    Extends { checkpoint: u64, size: u64 },
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Question => f.write_str("question.json"),
            Self::Checkpoint(number) => write!(f, "checkpoint/{number}"),
            Self::Record { checkpoint, index } => write!(f, "record/{checkpoint}/{index}"),
            Self::Tile { checkpoint, path } => write!(f, "tiles/{checkpoint}/{path}"),
            Self::Blob(digest) => write!(f, "blob/{digest}"),
            Self::Certificate(digest) => write!(f, "certificate/{digest}"),
            Self::Extends { checkpoint, size } => write!(f, "extends/{checkpoint}/{size}"),
        }
    }
}

impl FromStr for Section {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        parse(name).ok_or(())
    }
}

fn parse(name: &str) -> Option<Section> {
    if name == "question.json" {
        return Some(Section::Question);
    }
    let (kind, rest) = name.split_once('/')?;
    match kind {
        "checkpoint" => Some(Section::Checkpoint(parse_decimal(rest)?)),
        "record" => {
            let (checkpoint, index) = rest.split_once('/')?;
            let (checkpoint, index) = (parse_decimal(checkpoint)?, parse_decimal(index)?);
            Some(Section::Record { checkpoint, index })
        }
        "tiles" => {
            let (checkpoint, path) = rest.split_once('/')?;
            let (checkpoint, path) = (parse_decimal(checkpoint)?, path.parse().ok()?);
            Some(Section::Tile { checkpoint, path })
        }
        "blob" => Some(Section::Blob(rest.parse().ok()?)),
        "certificate" => Some(Section::Certificate(rest.parse().ok()?)),
        "extends" => {
            let (checkpoint, size) = rest.split_once('/')?;
            let (checkpoint, size) = (parse_decimal(checkpoint)?, parse_decimal(size)?);
            Some(Section::Extends { checkpoint, size })
        }
        _ => None,
    }
}

/// Writes a pack of sections that stand in order.
pub(crate) fn write<'a>(
    sections: impl Iterator<Item = (&'a Section, &'a [u8])> + Clone,
) -> Vec<u8> {
    let mut table = String::new();
    for (section, content) in sections.clone() {
        let digest = HexDigest::of(content);
        table.push_str(&format!("{} {digest} {section}\n", content.len()));
    }
    let digest = HexDigest::of(table.as_bytes());
    let mut pack = format!("{MAGIC} {} {digest}\n{table}", table.len()).into_bytes();
    for (_section, content) in sections {
        pack.extend_from_slice(content);
    }
    pack
}

/// Takes a pack apart. Every byte of it is under a digest that was checked, or is one.
pub(crate) fn read(pack: &[u8]) -> Result<Vec<(Section, &[u8])>, Failure> {
    let header = |message: &str| Failure::new("PACK-FORMAT", "the header", message);
    let (first, rest) = split_line(pack).ok_or_else(|| header("it is not a pack"))?;
    let mut words = first.split(' ');
    let (Some(MAGIC), Some(length), Some(digest), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(header("it is not a pack of version 1"));
    };
    let length = parse_decimal(length)
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length <= MAX_TABLE);
    let parts = length.and_then(|length| rest.split_at_checked(length));
    let (table, mut contents) = parts.ok_or_else(|| header("the table's length is wrong"))?;
    let digest: Option<HexDigest> = digest.parse().ok();
    if digest != Some(HexDigest::of(table)) {
        return Err(Failure::new(
            "PACK-DIGEST",
            "the table of sections",
            "it does not have the digest that the header states",
        ));
    }
    let bad_table = |message: &str| Failure::new("PACK-FORMAT", "the table of sections", message);
    let mut sections: Vec<(Section, &[u8])> = Vec::new();
    let mut lines = table;
    while !lines.is_empty() {
        let (line, after) = split_line(lines).ok_or_else(|| bad_table("it ends in a line"))?;
        lines = after;
        let (section, length, digest) =
            entry(line).ok_or_else(|| bad_table("a line does not name a section"))?;
        if sections.last().is_some_and(|(last, _)| *last >= section) {
            return Err(bad_table("the sections are not in order"));
        }
        let name = section.to_string();
        let (content, after) = contents.split_at_checked(length).ok_or_else(|| {
            let message = "the pack ends before it does";
            Failure::new("PACK-FORMAT", &name, message).of(&section)
        })?;
        contents = after;
        if HexDigest::of(content) != digest {
            let message = "it does not have the digest that the table states";
            return Err(Failure::new("PACK-DIGEST", &name, message).of(&section));
        }
        sections.push((section, content));
    }
    if contents.is_empty() {
        Ok(sections)
    } else {
        let message = format!("{} bytes follow it", contents.len());
        Err(Failure::new("PACK-FORMAT", "the last section", &message))
    }
}

fn entry(line: &str) -> Option<(Section, usize, HexDigest)> {
    let mut words = line.split(' ');
    let length = usize::try_from(parse_decimal(words.next()?)?).ok()?;
    let digest = words.next()?.parse().ok()?;
    let name = words.next()?;
    let section: Section = name.parse().ok()?;
    let exact = words.next().is_none() && section.to_string() == name;
    exact.then_some((section, length, digest))
}

fn split_line(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes.iter().take(4096).position(|byte| *byte == b'\n')?;
    let (line, rest) = bytes.split_at_checked(end)?;
    Some((std::str::from_utf8(line).ok()?, rest.get(1..)?))
}
