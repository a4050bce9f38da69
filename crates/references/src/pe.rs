//! PE images: what firmware measures and what a UKI carries (Microsoft PE/COFF specification; Windows
//! Authenticode Portable Executable Signature Format).
//!
//! Stricter than a loader: an image whose parts overlap, or lie outside of it, has no digest here.

mod signature;

pub use signature::{Authority, SignedImage};

use crate::Digest;
use crate::bytes::{self, size, slice, u16, u32, until_zero};
use facts::Finding;

/// No boot loader has more; Windows' own limit is 96.
const MOST_SECTIONS: usize = 96;
const SECTION: usize = 40;
/// WIN_CERT_TYPE_PKCS_SIGNED_DATA
const PKCS7: u16 = 2;
const MOST_CERTIFICATES: usize = 16;

/// What a section has in memory beyond the file. Kernels that unpack themselves in place ask for what they
/// unpack to.
const MOST_ZEROS: usize = 128 * 1024 * 1024;

/// One row of the section table. Names longer than eight bytes are looked up as GNU tools write them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section<'a> {
    pub name: String,
    pub virtual_address: u32,
    pub virtual_size: u32,
    /// What stands in the file, with its padding.
    pub raw: &'a [u8],
    offset: usize,
}

impl Section<'_> {
    /// The section as it stands in memory: `virtual_size` bytes, with zeros where the file has none.
    /// Nothing if that is more than `limit` bytes.
    #[must_use]
    pub fn loaded(&self, limit: usize) -> Option<Vec<u8>> {
        let length = usize::try_from(self.virtual_size).ok()?;
        if length > limit {
            return None;
        }
        let mut bytes = self.raw.get(..length).unwrap_or(self.raw).to_vec();
        bytes.resize(length, 0);
        Some(bytes)
    }

    /// SHA-256 of the section as it stands in memory, made without its zeros. Nothing if more than
    /// [`MOST_ZEROS`] of it are not in the file: a few bytes would have a terabyte hashed.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let length = usize::try_from(self.virtual_size).ok()?;
        let in_file = self.raw.get(..length).unwrap_or(self.raw);
        let mut zeros = length.saturating_sub(in_file.len());
        if zeros > MOST_ZEROS {
            return None;
        }
        let mut hash = crypto::Sha256::new();
        hash.update(in_file);
        while zeros > 0 {
            let some = ZEROS.get(..zeros).unwrap_or(&ZEROS);
            hash.update(some);
            zeros -= some.len();
        }
        Some(Digest(hash.finish()))
    }
}

/// A parsed image.
#[derive(Debug, Clone)]
pub struct Image<'a> {
    bytes: &'a [u8],
    checksum: usize,
    certificate_entry: usize,
    headers: usize,
    sections: Vec<Section<'a>>,
    /// Where the certificate table begins; the end of the file if there is none.
    certificates: usize,
}

fn refused(what: &str) -> Finding {
    Finding::new("REF-PE", "the file is not a PE image that can be measured")
        .expected("a PE32 or PE32+ image whose parts lie inside it and do not overlap")
        .observed(what)
        .next("rebuild the image, or name the file that the firmware starts")
}

impl<'a> Image<'a> {
    /// # Errors
    /// `REF-PE`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Finding> {
        let cut = || refused("a header that is cut short");
        if !bytes.starts_with(b"MZ") {
            return Err(refused("no MZ at its start"));
        }
        let pe = size(bytes, 0x3c).ok_or_else(cut)?;
        if slice(bytes, pe, 4) != Some(b"PE\0\0") {
            return Err(refused("no PE header"));
        }
        let coff = pe.checked_add(4).ok_or_else(cut)?;
        let optional = coff.checked_add(20).ok_or_else(cut)?;
        let count = usize::from(u16(bytes, coff.saturating_add(2)).ok_or_else(cut)?);
        let optional_size = usize::from(u16(bytes, coff.saturating_add(16)).ok_or_else(cut)?);
        let directories = match u16(bytes, optional).ok_or_else(cut)? {
            0x10b => 96,
            0x20b => 112,
            _ => return Err(refused("neither PE32 nor PE32+")),
        };
        // The certificate table is the fifth of the data directories.
        let listed = size(bytes, optional.saturating_add(directories - 4)).ok_or_else(cut)?;
        if listed < 5 || optional_size < directories + 5 * 8 {
            return Err(refused("no room for a certificate table"));
        }
        let certificate_entry = optional.saturating_add(directories + 4 * 8);
        let headers = size(bytes, optional.saturating_add(60)).ok_or_else(cut)?;
        let table = optional.checked_add(optional_size).ok_or_else(cut)?;
        if count > MOST_SECTIONS {
            return Err(refused("too many sections"));
        }
        let table_end = table
            .checked_add(count.saturating_mul(SECTION))
            .ok_or_else(cut)?;
        if table_end > headers || headers > bytes.len() {
            return Err(refused("headers that do not hold the section table"));
        }
        let certificates = certificate_table(bytes, certificate_entry, headers)?;
        let names = Names::of(bytes, coff);
        let mut sections = Vec::new();
        for row in 0..count {
            let at = table.saturating_add(row.saturating_mul(SECTION));
            sections.push(section(bytes, at, names).ok_or_else(|| refused("a section outside"))?);
        }
        let image = Self {
            bytes,
            checksum: optional.saturating_add(64),
            certificate_entry,
            headers,
            sections,
            certificates,
        };
        image.check_order()?;
        Ok(image)
    }

    /// In the order of the section table.
    #[must_use]
    pub fn sections(&self) -> &[Section<'a>] {
        &self.sections
    }

    /// The one section of that name; nothing if there is none.
    ///
    /// # Errors
    /// `REF-PE-SECTION` if there is more than one.
    pub fn section(&self, name: &str) -> Result<Option<&Section<'a>>, Finding> {
        let mut found = self.sections.iter().filter(|section| section.name == name);
        let first = found.next();
        if found.next().is_some() {
            return Err(
                Finding::new("REF-PE-SECTION", "a section occurs more than once")
                    .expected(format!("one {name}"))
                    .observed("several")
                    .next("name the profile that boots, by building an image for each"),
            );
        }
        Ok(first)
    }

    /// The Authenticode SHA-256: headers without checksum and certificate entry, sections by their place
    /// in the file, then whatever follows them up to the certificate table. As EDK II's
    /// `DxeTpm2MeasureBootLib` and shim measure it; no padding is added.
    #[must_use]
    pub fn authenticode(&self) -> Digest {
        let mut hash = crypto::Sha256::new();
        let part = |from: usize, to: usize| self.bytes.get(from..to).unwrap_or_default();
        hash.update(part(0, self.checksum));
        hash.update(part(self.checksum + 4, self.certificate_entry));
        hash.update(part(self.certificate_entry + 8, self.headers));
        let mut hashed = self.headers;
        for section in self.in_file_order() {
            hash.update(section.raw);
            hashed = hashed.saturating_add(section.raw.len());
        }
        hash.update(part(hashed, self.certificates));
        Digest(hash.finish())
    }

    /// PKCS #7 signatures, in order.
    ///
    /// # Errors
    /// `REF-PE` when the certificate table is damaged.
    pub fn signatures(&self) -> Result<Vec<&'a [u8]>, Finding> {
        let mut rest = self.bytes.get(self.certificates..).unwrap_or_default();
        let mut signatures = Vec::new();
        while rest.len() >= 8 {
            let certificate = size(rest, 0)
                .and_then(|length| rest.get(8..length).map(|content| (length, content)));
            let Some((length, content)) = certificate else {
                return Err(refused("a damaged certificate table"));
            };
            if signatures.len() == MOST_CERTIFICATES {
                return Err(refused("too many signatures"));
            }
            if u16(rest, 6) == Some(PKCS7) {
                signatures.push(content);
            }
            let next = length.checked_next_multiple_of(8).unwrap_or(rest.len());
            rest = rest.get(next..).unwrap_or_default();
        }
        Ok(signatures)
    }

    fn in_file_order(&self) -> Vec<&Section<'a>> {
        let mut sections: Vec<_> = self
            .sections
            .iter()
            .filter(|section| !section.raw.is_empty())
            .collect();
        sections.sort_by_key(|section| section.offset);
        sections
    }

    /// What is hashed is hashed once.
    fn check_order(&self) -> Result<(), Finding> {
        let mut end = self.headers;
        for section in self.in_file_order() {
            if section.offset < end {
                return Err(refused("sections that overlap"));
            }
            end = section.offset.saturating_add(section.raw.len());
        }
        let fields = [
            self.checksum.saturating_add(4),
            self.certificate_entry.saturating_add(8),
        ];
        if end > self.certificates || fields.iter().any(|field| *field > self.headers) {
            return Err(refused("sections within the certificate table"));
        }
        Ok(())
    }
}

/// The table is the last thing in the file: EDK II subtracts its size from the end wherever it is, and so
/// would hash other bytes than the ones before it.
fn certificate_table(bytes: &[u8], entry: usize, headers: usize) -> Result<usize, Finding> {
    let cut = || refused("a header that is cut short");
    let start = size(bytes, entry).ok_or_else(cut)?;
    let length = size(bytes, entry.saturating_add(4)).ok_or_else(cut)?;
    if start == 0 && length == 0 {
        return Ok(bytes.len());
    }
    if start < headers || start.checked_add(length) != Some(bytes.len()) {
        return Err(refused("a certificate table that is not at the end"));
    }
    Ok(start)
}

/// The COFF string table, where names longer than eight bytes stand.
#[derive(Clone, Copy)]
struct Names<'a>(&'a [u8]);

impl<'a> Names<'a> {
    fn of(bytes: &'a [u8], coff: usize) -> Self {
        let found = || {
            let symbols = size(bytes, coff.checked_add(8)?).filter(|at| *at != 0)?;
            let count = size(bytes, coff.checked_add(12)?)?;
            bytes.get(symbols.checked_add(count.checked_mul(18)?)?..)
        };
        Self(found().unwrap_or_default())
    }

    /// `/OFFSET` is a name in the table.
    fn resolve(self, raw: &[u8]) -> Option<String> {
        let short = str::from_utf8(until_zero(raw)).ok()?;
        let Some(offset) = short.strip_prefix('/') else {
            return Some(short.to_owned());
        };
        let offset: usize = offset.parse().ok()?;
        let name = until_zero(self.0.get(offset..)?);
        let name = name.get(..64).unwrap_or(name);
        str::from_utf8(name).ok().map(str::to_owned)
    }
}

fn section<'a>(bytes: &'a [u8], at: usize, names: Names<'_>) -> Option<Section<'a>> {
    let raw_name = slice(bytes, at, 8)?;
    let length = size(bytes, at.checked_add(16)?)?;
    let offset = size(bytes, at.checked_add(20)?)?;
    let raw = if length == 0 {
        &[]
    } else {
        bytes::slice(bytes, offset, length)?
    };
    let short = String::from_utf8_lossy(until_zero(raw_name)).into_owned();
    Some(Section {
        name: names.resolve(raw_name).unwrap_or(short),
        virtual_size: u32(bytes, at.checked_add(8)?)?,
        virtual_address: u32(bytes, at.checked_add(12)?)?,
        raw,
        offset,
    })
}
