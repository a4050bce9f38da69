//! One entry of a list, and the list.

use super::template::{self, Fields};
use crypto::Hash;
use facts::Finding;
use std::borrow::Cow;

/// Longest list that is read, in either form: about 200,000 entries.
pub const LONGEST: usize = 32 << 20;
/// Most entries of one list.
pub(super) const ENTRIES: usize = 500_000;
/// The PCR that IMA extends unless its policy says otherwise.
pub(super) const PCR: u32 = 10;

/// What a digest is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The content of a file, or of a buffer that the kernel measured.
    Content,
    /// The root of a file's fs-verity tree.
    Verity,
}

/// One measurement. Nothing in it is believed before the list was replayed to a quote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Place in the whole list of this boot, from 0.
    pub index: u64,
    pub pcr: u32,
    /// `ima-ng`, `ima-sig`, `ima-ngv2`, `ima-modsig`, …
    pub template: Cow<'a, str>,
    /// SHA-1 of the template's data; zeros for a violation.
    pub(super) template_sha1: [u8; 20],
    /// What the kernel hashes, for each bank.
    pub(super) data: Cow<'a, [u8]>,
    pub kind: Kind,
    /// Absent for a function that is not known here.
    pub hash: Option<Hash>,
    /// Of the file, as the entry has it.
    pub digest: Vec<u8>,
    /// As the kernel saw it; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// Whether a signature came with the file (`ima-sig`, `ima-modsig`). It is not verified here.
    pub is_signed: bool,
}

impl<'a> Entry<'a> {
    /// A file that was written to while it was measured: what was measured is not what is there.
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.template_sha1 == [0; 20]
    }

    /// For findings.
    #[must_use]
    pub fn title(&self) -> String {
        format!("entry {} ({})", self.index, crate::bytes::shown(&self.path))
    }

    /// # Errors
    /// What is wrong with the template's data.
    pub(super) fn new(
        head: Head<'a>,
        data: Cow<'a, [u8]>,
        fields: Fields,
    ) -> Result<Self, &'static str> {
        if !head.is_violation() && !fields.is_consistent() {
            return Err("its buffer is not what its digest is of");
        }
        Ok(Self {
            index: head.index,
            pcr: head.pcr,
            template: head.template,
            template_sha1: head.template_sha1,
            data,
            kind: fields.kind,
            hash: fields.hash,
            digest: fields.digest,
            path: fields.path,
            is_signed: fields.is_signed,
        })
    }
}

/// What stands before the template's data.
pub(super) struct Head<'a> {
    pub(super) index: u64,
    pub(super) pcr: u32,
    pub(super) template_sha1: [u8; 20],
    pub(super) template: Cow<'a, str>,
}

impl Head<'_> {
    fn is_violation(&self) -> bool {
        self.template_sha1 == [0; 20]
    }

    pub(super) fn fields(&self) -> Result<Vec<template::Field>, &'static str> {
        template::fields(&self.template)
    }
}

/// Entries of one boot, from the one at [`List::first`] on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List<'a> {
    pub(super) first: u64,
    pub(super) entries: Vec<Entry<'a>>,
}

impl<'a> List<'a> {
    /// Reads `binary_runtime_measurements` of a little-endian machine, or the part of it that begins
    /// with entry `first`.
    ///
    /// # Errors
    /// `IMA-SIZE` if it is longer than [`LONGEST`] or has more than 500,000 entries; `IMA-STRUCTURE`,
    /// with the entry and byte, for anything else that does not fit.
    pub fn parse_binary(bytes: &'a [u8], first: u64) -> Result<Self, Finding> {
        let entries = super::binary::parse(capped(bytes)?, first)?;
        Ok(Self { first, entries })
    }

    /// Reads `ascii_runtime_measurements`, or its lines from entry `first` on. A path that holds a line
    /// break cannot be read back; the binary form has no such limit.
    ///
    /// # Errors
    /// As [`List::parse_binary`].
    pub fn parse_ascii(text: &str, first: u64) -> Result<List<'static>, Finding> {
        capped(text.as_bytes())?;
        let entries = super::ascii::parse(text, first)?;
        Ok(List { first, entries })
    }

    /// Index of the first entry.
    #[must_use]
    pub const fn first(&self) -> u64 {
        self.first
    }

    /// In order, unverified.
    #[must_use]
    pub fn entries(&self) -> &[Entry<'a>] {
        &self.entries
    }
}

fn capped(bytes: &[u8]) -> Result<&[u8], Finding> {
    if bytes.len() <= LONGEST {
        return Ok(bytes);
    }
    Err(
        Finding::new("IMA-SIZE", "the IMA list is too long to be read")
            .expected(format!("at most {LONGEST} bytes"))
            .observed(format!("{} bytes", bytes.len()))
            .next("send only what is new, or let the machine's IMA policy measure less"),
    )
}

pub(super) fn too_many() -> Finding {
    Finding::new("IMA-SIZE", "the IMA list has too many entries")
        .expected(format!("at most {ENTRIES}"))
        .observed("more")
        .next("send only what is new, or let the machine's IMA policy measure less")
}

pub(super) fn malformed(index: u64, place: &str, problem: &str) -> Finding {
    Finding::new("IMA-STRUCTURE", "the IMA list cannot be read")
        .expected("the kernel's runtime measurements, unchanged")
        .observed(format!("entry {index}, {place}: {problem}"))
        .next("send the kernel's file unchanged; see docs/attestation/tpm.md")
}
