//! An attestation document, taken apart. Nothing of it is believed yet.

use super::cbor::{Reader, bytes_head};
use facts::{Finding, Timestamp};
use std::collections::BTreeMap;

/// Documents of 5 KiB are seen; every field at its longest stays below this.
const LONGEST: usize = 32 * 1024;
const LONGEST_CERTIFICATE: usize = 4096;
/// The NSM device takes at most 1024 bytes for each.
const LONGEST_FIELD: usize = 1024;
const LONGEST_NAME: usize = 256;
const MOST_CERTIFICATES: usize = 8;
const MOST_PCRS: usize = 32;
/// The tag of COSE_Sign1, 18, which may be there.
const TAG: u8 = 0xd2;
/// `{1: -35}`: ES384.
const PROTECTED: [u8; 4] = [0xa1, 0x01, 0x38, 0x22];

/// Which of the two it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Enclave,
    Tpm,
}

/// A document that can be read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Document<'a> {
    pub kind: Kind,
    pub module_id: &'a str,
    pub timestamp: Timestamp,
    /// SHA-384.
    pub pcrs: BTreeMap<u8, [u8; 48]>,
    pub nonce: Option<&'a [u8]>,
    pub user_data: Option<&'a [u8]>,
    pub public_key: Option<&'a [u8]>,
    pub(super) certificate: &'a [u8],
    /// The root first.
    pub(super) bundle: Vec<&'a [u8]>,
    /// What is signed.
    pub(super) signed: Vec<u8>,
    pub(super) signature: &'a [u8],
}

impl<'a> Document<'a> {
    /// Reads one document, with or without the tag of COSE_Sign1, and nothing after it.
    ///
    /// # Errors
    /// `TEE-NITRO-STRUCTURE`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Finding> {
        read(bytes).map_err(|problem| {
            Finding::new(
                "TEE-NITRO-STRUCTURE",
                "the attestation document cannot be read",
            )
            .expected("one COSE_Sign1 by ES384 with an attestation document")
            .observed(problem)
            .next("send the document as the device returned it")
        })
    }
}

fn read(bytes: &[u8]) -> Result<Document<'_>, &'static str> {
    if bytes.len() > LONGEST {
        return Err("more than 32768 bytes");
    }
    let mut reader = Reader::new(bytes);
    reader.skip_byte(TAG);
    // An array of four: the frame is not signed, so it has one spelling.
    if !reader.skip_byte(0x84) {
        return Err("not COSE_Sign1");
    }
    if reader.bytes(64).ok_or("no protected header")? != PROTECTED {
        return Err("another algorithm than ES384");
    }
    if !reader.skip_byte(0xa0) {
        return Err("unprotected headers");
    }
    let payload = reader.bytes(LONGEST).ok_or("no payload")?;
    let signature = reader.bytes(96).ok_or("no signature")?;
    if !reader.is_empty() {
        return Err("bytes after its end");
    }
    // Sig_structure (RFC 9052, section 4.4): context, protected header, no external data, payload.
    let signed = [
        b"\x84\x6aSignature1\x44".as_slice(),
        &PROTECTED,
        b"\x40",
        &bytes_head(payload.len()),
        payload,
    ]
    .concat();
    let mut reader = Reader::new(payload);
    let document = fields(&mut reader)
        .and_then(|fields| fields.into_document(signed, signature))
        .ok_or("a document that lacks something, has it twice or in another form")?;
    if reader.is_empty() {
        Ok(document)
    } else {
        Err("bytes after the document's end")
    }
}

#[derive(Default)]
struct Fields<'a> {
    module_id: Option<&'a str>,
    digest: Option<&'a str>,
    timestamp: Option<u64>,
    pcrs: Option<(Kind, BTreeMap<u8, [u8; 48]>)>,
    certificate: Option<&'a [u8]>,
    bundle: Option<Vec<&'a [u8]>>,
    nonce: Option<Option<&'a [u8]>>,
    user_data: Option<Option<&'a [u8]>>,
    public_key: Option<Option<&'a [u8]>>,
}

fn fields<'a>(reader: &mut Reader<'a>) -> Option<Fields<'a>> {
    let mut fields = Fields::default();
    let mut items = reader.map()?;
    while reader.more(&mut items) {
        match reader.text(LONGEST_NAME)? {
            "module_id" => set(&mut fields.module_id, reader.text(LONGEST_NAME)?)?,
            "digest" => set(&mut fields.digest, reader.text(LONGEST_NAME)?)?,
            "timestamp" => set(&mut fields.timestamp, reader.unsigned()?)?,
            "pcrs" => set(&mut fields.pcrs, (Kind::Enclave, pcrs(reader)?))?,
            "nitrotpm_pcrs" => set(&mut fields.pcrs, (Kind::Tpm, pcrs(reader)?))?,
            "certificate" => set(&mut fields.certificate, reader.bytes(LONGEST_CERTIFICATE)?)?,
            "cabundle" => set(&mut fields.bundle, bundle(reader)?)?,
            "nonce" => set(&mut fields.nonce, reader.optional_bytes(LONGEST_FIELD)?)?,
            "user_data" => set(&mut fields.user_data, reader.optional_bytes(LONGEST_FIELD)?)?,
            "public_key" => set(
                &mut fields.public_key,
                reader.optional_bytes(LONGEST_FIELD)?,
            )?,
            // What AWS may add later is signed like the rest and means nothing here.
            _ => reader.skip()?,
        }
    }
    Some(fields)
}

impl<'a> Fields<'a> {
    fn into_document(self, signed: Vec<u8>, signature: &'a [u8]) -> Option<Document<'a>> {
        if self.digest? != "SHA384" {
            return None;
        }
        let module_id = self.module_id?;
        if module_id.is_empty() || module_id.chars().any(char::is_control) {
            return None;
        }
        let (kind, pcrs) = self.pcrs?;
        Some(Document {
            kind,
            module_id,
            timestamp: Timestamp::from_millis(self.timestamp?),
            pcrs,
            nonce: self.nonce.flatten(),
            user_data: self.user_data.flatten(),
            public_key: self.public_key.flatten(),
            certificate: self.certificate?,
            bundle: self.bundle?,
            signed,
            signature,
        })
    }
}

fn pcrs(reader: &mut Reader<'_>) -> Option<BTreeMap<u8, [u8; 48]>> {
    let mut pcrs = BTreeMap::new();
    let mut items = reader.map()?;
    while reader.more(&mut items) {
        let index = u8::try_from(reader.unsigned()?).ok()?;
        let value = *reader.bytes(48)?.as_array()?;
        if pcrs.insert(index, value).is_some() || pcrs.len() > MOST_PCRS {
            return None;
        }
    }
    Some(pcrs)
}

fn bundle<'a>(reader: &mut Reader<'a>) -> Option<Vec<&'a [u8]>> {
    let mut certificates = Vec::new();
    let mut items = reader.array()?;
    while reader.more(&mut items) {
        certificates.push(reader.bytes(LONGEST_CERTIFICATE)?);
        if certificates.len() > MOST_CERTIFICATES {
            return None;
        }
    }
    Some(certificates)
}

/// Fills the slot, once.
fn set<T>(slot: &mut Option<T>, value: T) -> Option<()> {
    slot.replace(value).is_none().then_some(())
}
