//! Templates: which fields an entry has and what they hold (Linux, `Documentation/security/
//! IMA-templates.rst`).

use super::entry::Kind;
use crate::bytes::Bytes;
use crypto::Hash;

/// Longest path the kernel knows, with its zero.
const LONGEST_PATH: usize = 4096;
/// Of a file's name in the oldest template, which the kernel pads to this before it hashes.
const PADDED_NAME: usize = 256;
/// The oldest template's digest.
const OLD_DIGEST: usize = 20;

/// One field of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    /// `d`: SHA-1 or MD5.
    OldDigest,
    /// `d-ng`: algorithm, colon, zero, digest.
    Digest,
    /// `d-ngv2`: what it is of, algorithm, colon, zero, digest.
    TypedDigest,
    /// `n` and `n-ng`.
    Name,
    /// `sig`, `modsig`, `evmsig`.
    Signature,
    /// `d-modsig`: the digest without the appended signature.
    UnsignedDigest,
    /// `buf`.
    Buffer,
    /// Attributes: owner, mode, extended attributes.
    Attribute,
}

/// The fields of the template `name`, which is one of the kernel's or a list of fields joined by `|`.
///
/// No digest covers the name, so whoever writes the list can give an entry another template. What is
/// read has to be the same then: the digest stands first and the path second, and neither comes again.
pub(super) fn fields(name: &str) -> Result<Vec<Field>, &'static str> {
    let format = match name {
        "ima" => "d|n",
        "ima-ng" => "d-ng|n-ng",
        "ima-ngv2" => "d-ngv2|n-ng",
        "ima-sig" => "d-ng|n-ng|sig",
        "ima-sigv2" => "d-ngv2|n-ng|sig",
        "ima-modsig" => "d-ng|n-ng|sig|d-modsig|modsig",
        "ima-buf" => "d-ng|n-ng|buf",
        "evm-sig" => "d-ng|n-ng|evmsig|xattrnames|xattrlengths|xattrvalues|iuid|igid|imode",
        other => other,
    };
    let fields: Vec<Field> = format
        .split('|')
        .map(field)
        .collect::<Option<_>>()
        .ok_or("a template that is not known")?;
    let is_digest =
        |field: &Field| matches!(field, Field::OldDigest | Field::Digest | Field::TypedDigest);
    match fields.as_slice() {
        [first, Field::Name, others @ ..]
            if is_digest(first)
                && !others
                    .iter()
                    .any(|field| is_digest(field) || *field == Field::Name) =>
        {
            Ok(fields)
        }
        _ => Err("a template that does not begin with a digest and a path"),
    }
}

fn field(name: &str) -> Option<Field> {
    Some(match name {
        "d" => Field::OldDigest,
        "d-ng" => Field::Digest,
        "d-ngv2" => Field::TypedDigest,
        "n" | "n-ng" => Field::Name,
        "sig" | "modsig" | "evmsig" => Field::Signature,
        "d-modsig" => Field::UnsignedDigest,
        "buf" => Field::Buffer,
        "iuid" | "igid" | "imode" | "xattrnames" | "xattrlengths" | "xattrvalues" => {
            Field::Attribute
        }
        _ => return None,
    })
}

/// What the fields of one entry hold together.
pub(super) struct Fields {
    pub(super) kind: Kind,
    pub(super) hash: Option<Hash>,
    pub(super) digest: Vec<u8>,
    pub(super) path: String,
    pub(super) is_signed: bool,
    buffer: Option<Vec<u8>>,
}

impl Fields {
    const fn new() -> Self {
        Self {
            kind: Kind::Content,
            hash: None,
            digest: Vec::new(),
            path: String::new(),
            is_signed: false,
            buffer: None,
        }
    }

    /// A buffer that comes along is what its digest is of.
    pub(super) fn is_consistent(&self) -> bool {
        match (&self.buffer, self.hash) {
            (Some(buffer), Some(hash)) => hash.digest(&[buffer]) == self.digest,
            _ => true,
        }
    }

    fn put(&mut self, field: Field, value: &[u8]) -> Result<(), &'static str> {
        match field {
            Field::OldDigest => {
                self.hash = (value.len() == OLD_DIGEST).then_some(Hash::Sha1);
                self.digest = value.to_vec();
            }
            Field::Digest => {
                let (name, digest) = split(value)?;
                self.named(name, digest);
            }
            Field::TypedDigest => {
                let (name, digest) = split(value)?;
                let (kind, name) = name.split_once(':').ok_or(BAD_DIGEST)?;
                self.kind = match kind {
                    "ima" => Kind::Content,
                    "verity" => Kind::Verity,
                    _ => return Err("a digest of a kind that is not known"),
                };
                self.named(name, digest);
            }
            Field::Name => {
                let name = value.strip_suffix(&[0]).unwrap_or(value);
                if name.len() >= LONGEST_PATH || name.contains(&0) {
                    return Err("a path that is too long, or ends twice");
                }
                self.path = String::from_utf8_lossy(name).into_owned();
            }
            Field::Signature => self.is_signed |= !value.is_empty(),
            Field::Buffer => self.buffer = Some(value.to_vec()),
            Field::UnsignedDigest | Field::Attribute => {}
        }
        Ok(())
    }

    fn named(&mut self, name: &str, digest: &[u8]) {
        self.hash = Hash::named(name).filter(|hash| hash.length() == digest.len());
        self.digest = digest.to_vec();
    }
}

const BAD_DIGEST: &str = "a digest without its algorithm";

/// `sha256:`, zero, digest.
fn split(value: &[u8]) -> Result<(&str, &[u8]), &'static str> {
    let end = value.iter().position(|byte| *byte == 0).ok_or(BAD_DIGEST)?;
    let (name, digest) = value.split_at_checked(end).ok_or(BAD_DIGEST)?;
    let name = str::from_utf8(name).map_err(|_| BAD_DIGEST)?;
    let name = name.strip_suffix(':').ok_or(BAD_DIGEST)?;
    let digest = digest.get(1..).ok_or(BAD_DIGEST)?;
    if digest.is_empty() {
        return Err(BAD_DIGEST);
    }
    Ok((name, digest))
}

/// Reads fields that each stand behind their length, exactly to the end of `data`.
pub(super) fn read(data: &[u8], fields: &[Field]) -> Result<Fields, &'static str> {
    let mut bytes = Bytes::new(data);
    let mut read = Fields::new();
    for field in fields {
        let length = bytes.u32().ok_or("a field is cut off")?;
        let value = bytes
            .take_u32(length)
            .ok_or("a field is longer than its entry")?;
        read.put(*field, value)?;
    }
    if bytes.is_empty() {
        Ok(read)
    } else {
        Err("bytes after the last field")
    }
}

/// Fields with their lengths before them, as the kernel hashes them.
pub(super) fn write(fields: &[(Field, Vec<u8>)]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    for (_, value) in fields {
        data.extend(u32::try_from(value.len()).ok()?.to_le_bytes());
        data.extend(value);
    }
    Some(data)
}

/// The oldest template, whose fields stand without lengths and whose name is padded when hashed.
pub(super) fn old(
    digest: &[u8; OLD_DIGEST],
    name: &[u8],
) -> Result<(Vec<u8>, Fields), &'static str> {
    let mut fields = Fields::new();
    fields.put(Field::OldDigest, digest)?;
    fields.put(Field::Name, name)?;
    if name.len() >= PADDED_NAME {
        return Err("a name that is longer than its template allows");
    }
    let mut data = digest.to_vec();
    data.extend(name);
    data.resize(OLD_DIGEST + PADDED_NAME, 0);
    Ok((data, fields))
}
