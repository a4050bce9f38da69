//! A TPM of software keys: what a kernel would measure, and quotes of it. No chip is emulated, so nothing
//! about activation or sessions can be tested with it; that is [`Swtpm`](crate::swtpm::Swtpm)'s.
//!
//! Structures follow TCG TPM 2.0 Library, Part 2, revision 1.59; lists Linux, `ima_template.c`.

use crypto::{Algorithm, Error, Hash, KeyPair, Signer as _, sha256};
use std::collections::BTreeMap;

const IMA_PCR: u32 = 10;
/// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
const ATTRIBUTES: u32 = 0x0005_0072;

/// A key that quotes, the PCRs of SHA-256, and the list of a kernel.
pub struct Chip {
    key: KeyPair,
    /// Boots so far, as the chip counts them.
    pub reset_count: u32,
    /// Milliseconds in this boot.
    pub clock: u64,
    pcrs: BTreeMap<u32, [u8; 32]>,
    list: Vec<Vec<u8>>,
}

/// What a chip signed.
pub struct Quote {
    /// `TPMS_ATTEST`
    pub attested: Vec<u8>,
    /// `TPMT_SIGNATURE`
    pub signature: Vec<u8>,
    /// The same signature in ASN.1 DER.
    pub der: Vec<u8>,
    /// Of the quoted PCRs, ascending.
    pub values: Vec<Vec<u8>>,
}

impl Chip {
    /// A chip that quotes PCRs 0 to 14, all zero, in its seventh boot, and a list that is empty.
    ///
    /// # Errors
    /// When the crypto backend makes no key.
    pub fn new() -> Result<Self, Error> {
        Ok(Self {
            key: KeyPair::generate(Algorithm::EcdsaP256)?,
            reset_count: 7,
            clock: 0,
            pcrs: (0..15).map(|pcr| (pcr, [0; 32])).collect(),
            list: Vec::new(),
        })
    }

    /// As [`Chip::new`], booted: its list begins with the aggregate of PCRs that are all zero.
    ///
    /// # Errors
    /// As [`Chip::new`].
    pub fn booted() -> Result<Self, Error> {
        let mut chip = Self::new()?;
        chip.start_kernel();
        Ok(chip)
    }

    /// Begins the list, as a kernel does once everything before it is measured: with the aggregate of what
    /// PCRs 0 to 9 hold now.
    pub fn start_kernel(&mut self) {
        let before: Vec<u8> = self
            .pcrs
            .range(..10)
            .flat_map(|(_, value)| *value)
            .collect();
        self.measure("boot_aggregate", sha256(&before));
    }

    #[must_use]
    pub const fn key(&self) -> &KeyPair {
        &self.key
    }

    /// `TPMT_PUBLIC` of an attestation key.
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        let (x, y) = self.key.public_key().xy().unwrap_or_default();
        [
            &[0, 0x23, 0, 0x0b][..],
            &ATTRIBUTES.to_be_bytes(),
            &[0, 0, 0, 0x10, 0, 0x18, 0, 0x0b, 0, 3, 0, 0x10],
            &sized(x),
            &sized(y),
        ]
        .concat()
    }

    /// The PCRs that are quoted, and what they hold.
    pub const fn pcrs(&mut self) -> &mut BTreeMap<u32, [u8; 32]> {
        &mut self.pcrs
    }

    #[must_use]
    pub fn values(&self) -> Vec<Vec<u8>> {
        self.pcrs.values().map(|value| value.to_vec()).collect()
    }

    /// Extends `digest` into a PCR.
    pub fn extend(&mut self, pcr: u32, digest: [u8; 32]) {
        let value = self.pcrs.entry(pcr).or_default();
        *value = sha256(&[*value, digest].concat());
    }

    /// Measures `data` as firmware does: its digest into `pcr`, and an event behind `log`, which
    /// [`event_log`] begins.
    pub fn boot_event(&mut self, log: &mut Vec<u8>, pcr: u32, kind: u32, data: &[u8]) {
        let digest = sha256(data);
        self.extend(pcr, digest);
        log.extend([pcr, kind, 1].map(u32::to_le_bytes).concat());
        log.extend([0x0b, 0]);
        log.extend(digest);
        log.extend(framed(data));
    }

    /// Measures a file as IMA does, by the template `ima-sig` without a signature.
    pub fn measure(&mut self, path: &str, digest: [u8; 32]) {
        let (entry, extended) = ima_entry("ima-sig", path, digest, false);
        self.extend(IMA_PCR, extended);
        self.list.push(entry);
    }

    /// The entries of the list, each in its binary form.
    pub const fn list(&mut self) -> &mut Vec<Vec<u8>> {
        &mut self.list
    }

    /// The list from entry `first` on.
    #[must_use]
    pub fn list_from(&self, first: usize) -> Vec<u8> {
        self.list.get(first..).unwrap_or_default().concat()
    }

    /// Quotes all PCRs of the chip.
    ///
    /// # Errors
    /// When the crypto backend does not sign.
    pub fn quote(&self, nonce: &[u8]) -> Result<Quote, Error> {
        let mut bits = [0_u8; 3];
        for pcr in self.pcrs.keys() {
            let byte = usize::try_from(pcr / 8)
                .ok()
                .and_then(|at| bits.get_mut(at));
            if let Some(byte) = byte {
                *byte |= 1 << (pcr % 8);
            }
        }
        let values = self.values();
        let attested = [
            &0xff54_4347_u32.to_be_bytes()[..],
            &0x8018_u16.to_be_bytes(),
            &sized(b"signer"),
            &sized(nonce),
            &self.clock.to_be_bytes(),
            &self.reset_count.to_be_bytes(),
            &0_u32.to_be_bytes(),
            &[1],
            &[0; 8],
            &1_u32.to_be_bytes(),
            &[0, 0x0b, 3],
            &bits,
            &sized(&sha256(&values.concat())),
        ]
        .concat();
        let der = self.key.sign(&attested)?;
        Ok(Quote {
            signature: tpmt_signature(&der),
            attested,
            der,
            values,
        })
    }
}

/// The head of a crypto-agile TCG event log whose one bank is SHA-256 (PC Client Platform Firmware Profile
/// 1.06, section 10.4.5.1).
#[must_use]
pub fn event_log() -> Vec<u8> {
    let mut header = b"Spec ID Event03\0".to_vec();
    header.extend([0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0]);
    let mut log = vec![0, 0, 0, 0, 3, 0, 0, 0];
    log.extend([0; 20]);
    log.extend(framed(&header));
    log
}

/// One entry of `binary_runtime_measurements` by the template `ima-ng` or `ima-sig`, and what the kernel
/// extends for it. Of a violation it writes zeros and extends ones.
#[must_use]
pub fn ima_entry(
    template: &str,
    path: &str,
    digest: [u8; 32],
    is_violation: bool,
) -> (Vec<u8>, [u8; 32]) {
    let mut data = framed(&[b"sha256:\0".as_slice(), &digest].concat());
    data.extend(framed(format!("{path}\0").as_bytes()));
    if template == "ima-sig" {
        data.extend(framed(&[]));
    }
    let (sha1, extended) = if is_violation {
        (vec![0; 20], [0xff; 32])
    } else {
        (Hash::Sha1.digest(&[&data]), sha256(&data))
    };
    let mut bytes = IMA_PCR.to_le_bytes().to_vec();
    bytes.extend(sha1);
    bytes.extend(framed(template.as_bytes()));
    bytes.extend(framed(&data));
    (bytes, extended)
}

/// `TPMT_SIGNATURE` of ECDSA with SHA-256, from ASN.1 DER as the crypto backend writes it.
#[must_use]
pub fn tpmt_signature(der: &[u8]) -> Vec<u8> {
    let number = |at: usize| {
        let length = usize::from(der.get(at + 1).copied().unwrap_or_default());
        let number = der.get(at + 2..at + 2 + length).unwrap_or_default();
        (number.strip_prefix(&[0]).unwrap_or(number), at + 2 + length)
    };
    let (r, next) = number(2);
    let (s, _) = number(next);
    [&[0, 0x18, 0, 0x0b][..], &sized(r), &sized(s)].concat()
}

/// Behind its length of two bytes, as TPMs write.
#[must_use]
pub fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), bytes].concat()
}

/// Behind its length of four bytes, as IMA writes.
fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes(), bytes].concat()
}

/// The values in the file that `tpm2_quote -o` writes: C structures of the selection and of lists of at
/// most eight values, little-endian, with their padding. Empty for another file.
#[must_use]
pub fn pcr_values(file: &[u8]) -> Vec<Vec<u8>> {
    const LISTS: usize = 132;
    const VALUE: usize = 66;
    let number = |at: usize| {
        let bytes = file.get(at..).and_then(<[u8]>::first_chunk::<4>);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let value = |at: usize| {
        let length = u16::from_le_bytes(*file.get(at..)?.first_chunk()?);
        Some(file.get(at + 2..at + 2 + usize::from(length))?.to_vec())
    };
    let mut values = Vec::new();
    let mut list = LISTS + 4;
    for _ in 0..number(LISTS) {
        let places = (0..8).map(|place| list + 4 + place * VALUE);
        let held = usize::try_from(number(list)).unwrap_or_default();
        values.extend(places.take(held).map_while(value));
        list += 4 + 8 * VALUE;
    }
    values
}
