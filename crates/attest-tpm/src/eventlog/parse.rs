//! The two formats of the log, read out of hostile bytes with every length checked before it is used.

use super::Kind;
use crate::bytes::Bytes;
use crypto::Hash;
use facts::Finding;

/// Longest log that is read. Logs of machines in the field have 2 to 80 KiB.
pub const LONGEST: usize = 1 << 20;
/// Most events. Logs of machines in the field have 20 to 250.
const EVENTS: usize = 10_000;
/// Most hash functions in the header. TPMs have at most 16, firmware uses up to five.
const BANKS: usize = 16;
/// No digest is longer (`TPMU_HA`).
const LONGEST_DIGEST: u16 = 64;
const PCRS: u32 = 24;

const SIGNATURE: usize = 16;
const SPEC_ID: &[u8; SIGNATURE] = b"Spec ID Event03\0";

/// Which of the two formats a log is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `TCG_PCR_EVENT`: one SHA-1 digest an event.
    Legacy,
    /// `TCG_PCR_EVENT2`: a digest for each bank that the header lists.
    CryptoAgile,
}

/// A hash function of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bank {
    /// `TPM_ALG_ID`.
    pub algorithm: u16,
    /// Of its digests, in bytes.
    pub length: u16,
}

impl Bank {
    /// The function, if it is one that is known here.
    #[must_use]
    pub fn hash(self) -> Option<Hash> {
        Hash::ALL
            .into_iter()
            .find(|hash| algorithm(*hash) == self.algorithm)
    }
}

/// `TPM_ALG_ID` (TCG Algorithm Registry 1.34, table 3).
const fn algorithm(hash: Hash) -> u16 {
    match hash {
        Hash::Sha1 => 0x4,
        Hash::Sha256 => 0xb,
        Hash::Sha384 => 0xc,
        Hash::Sha512 => 0xd,
    }
}

/// One event as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<'a> {
    /// Place in the log, from 0; the header counts, as in other tools.
    pub index: usize,
    /// 0 to 23, unless the event measures nothing.
    pub pcr: u32,
    pub kind: Kind,
    /// At most one for each bank.
    pub(super) digests: Vec<(u16, &'a [u8])>,
    pub data: &'a [u8],
}

impl<'a> Event<'a> {
    /// What was extended into the bank of `hash`; absent if the log does not say.
    #[must_use]
    pub fn digest(&self, hash: Hash) -> Option<&'a [u8]> {
        self.digests
            .iter()
            .find(|(id, _)| *id == algorithm(hash))
            .map(|(_, digest)| *digest)
    }

    /// False for `EV_NO_ACTION`, which is never extended (section 10.4.5).
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.kind != Kind::NO_ACTION
    }

    /// Names the event in a finding.
    #[must_use]
    pub fn title(&self) -> String {
        format!("event {} (PCR {}, {})", self.index, self.pcr, self.kind)
    }
}

/// A log that is well-formed. Nothing in it is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log<'a> {
    pub format: Format,
    /// In the order of the header.
    pub banks: Vec<Bank>,
    pub events: Vec<Event<'a>>,
    /// How many bytes of one value, 0x00 or 0xff, follow the last event: firmware that hands out its
    /// whole buffer fills it so.
    pub padding: usize,
}

impl<'a> Log<'a> {
    /// Reads a log. It is borrowed, not copied; what is allocated is bounded by [`LONGEST`].
    ///
    /// # Errors
    /// `EVENTLOG-SIZE` if it is longer than [`LONGEST`] or has more than 10,000 events.
    /// `EVENTLOG-STRUCTURE`, with the event and byte, for anything else that does not fit: a length
    /// beyond the end, a digest that the header does not list, an impossible PCR, bytes after the last
    /// event that are neither an event nor padding.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Finding> {
        if bytes.len() > LONGEST {
            return Err(
                Finding::new("EVENTLOG-SIZE", "the event log is too long to be read")
                    .expected(format!("at most {LONGEST} bytes"))
                    .observed(format!("{} bytes", bytes.len())),
            );
        }
        let mut reader = Reader {
            bytes: Bytes::new(bytes),
            log: Log {
                format: Format::Legacy,
                banks: vec![Bank {
                    algorithm: algorithm(Hash::Sha1),
                    length: 20,
                }],
                events: Vec::new(),
                padding: 0,
            },
        };
        reader.read().map_err(|problem| {
            let at = reader.bytes.at();
            Finding::new("EVENTLOG-STRUCTURE", "the event log cannot be read")
                .expected("a TCG event log, as binary_bios_measurements has it")
                .observed(format!(
                    "event {}, before byte {at} of {}: {problem}",
                    reader.log.events.len(),
                    bytes.len()
                ))
                .next("send the kernel's file unchanged; see docs/attestation/tpm.md")
        })?;
        if reader.log.events.len() > EVENTS {
            return Err(
                Finding::new("EVENTLOG-SIZE", "the event log has too many events")
                    .expected(format!("at most {EVENTS}"))
                    .observed("more"),
            );
        }
        Ok(reader.log)
    }

    /// Whether the header lists `hash`.
    #[must_use]
    pub fn has(&self, hash: Hash) -> bool {
        self.banks
            .iter()
            .any(|bank| bank.algorithm == algorithm(hash))
    }
}

struct Reader<'a> {
    bytes: Bytes<'a>,
    log: Log<'a>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) -> Result<(), &'static str> {
        if self.bytes.is_empty() {
            return Err("nothing is there");
        }
        // The first event is in the old format whatever follows (section 10.2.1).
        let first = self.legacy()?;
        if first.kind == Kind::NO_ACTION && first.data.starts_with(SPEC_ID) {
            self.log.banks = header(first.data)?;
            self.log.format = Format::CryptoAgile;
        }
        self.log.events.push(first);
        while !self.bytes.is_empty() && self.log.events.len() <= EVENTS {
            if is_padding(self.bytes.rest()) {
                self.log.padding = self.bytes.rest().len();
                break;
            }
            let event = match self.log.format {
                Format::Legacy => self.legacy()?,
                Format::CryptoAgile => self.agile()?,
            };
            self.log.events.push(event);
        }
        Ok(())
    }

    /// `TCG_PCR_EVENT`.
    fn legacy(&mut self) -> Result<Event<'a>, &'static str> {
        let (pcr, kind) = self.head()?;
        let digest: &[u8; 20] = self.bytes.array().ok_or("its digest is cut off")?;
        let data = self.data()?;
        self.event(pcr, kind, vec![(algorithm(Hash::Sha1), digest)], data)
    }

    /// `TCG_PCR_EVENT2`.
    fn agile(&mut self) -> Result<Event<'a>, &'static str> {
        let (pcr, kind) = self.head()?;
        let count = self.bytes.u32().ok_or("its digest count is cut off")?;
        if usize::try_from(count).is_ok_and(|count| count > self.log.banks.len()) {
            return Err("more digests than the header lists");
        }
        let mut digests: Vec<(u16, &'a [u8])> = Vec::new();
        for _ in 0..count {
            let id = self.bytes.u16().ok_or("its digests are cut off")?;
            let bank = self.log.banks.iter().find(|bank| bank.algorithm == id);
            let length = bank.ok_or("a digest that the header does not list")?.length;
            if digests.iter().any(|(other, _)| *other == id) {
                return Err("two digests of one bank");
            }
            let digest = self.bytes.take(usize::from(length));
            digests.push((id, digest.ok_or("its digests are cut off")?));
        }
        let data = self.data()?;
        self.event(pcr, kind, digests, data)
    }

    fn head(&mut self) -> Result<(u32, Kind), &'static str> {
        let pcr = self.bytes.u32().ok_or("its head is cut off")?;
        let kind = self.bytes.u32().ok_or("its head is cut off")?;
        Ok((pcr, Kind(kind)))
    }

    fn data(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.bytes.u32().ok_or("its length is cut off")?;
        self.bytes
            .take_u32(length)
            .ok_or("its data is longer than what is left")
    }

    fn event(
        &self,
        pcr: u32,
        kind: Kind,
        digests: Vec<(u16, &'a [u8])>,
        data: &'a [u8],
    ) -> Result<Event<'a>, &'static str> {
        let event = Event {
            index: self.log.events.len(),
            pcr,
            kind,
            digests,
            data,
        };
        if event.is_measured() && pcr >= PCRS {
            return Err("a PCR above 23");
        }
        Ok(event)
    }
}

/// `TCG_EfiSpecIdEvent` (section 10.4.5.1).
fn header(data: &[u8]) -> Result<Vec<Bank>, &'static str> {
    let mut bytes = Bytes::new(data);
    let short = "its specification header is cut off";
    // Signature; platform class; minor, major, errata, size of UINTN.
    bytes.take(SIGNATURE + 4 + 4).ok_or(short)?;
    let count = usize::try_from(bytes.u32().ok_or(short)?).map_err(|_| short)?;
    if count == 0 || count > BANKS {
        return Err("no hash function in its header, or more than 16");
    }
    let mut banks: Vec<Bank> = Vec::new();
    for _ in 0..count {
        let bank = Bank {
            algorithm: bytes.u16().ok_or(short)?,
            length: bytes.u16().ok_or(short)?,
        };
        let fits = match bank.hash() {
            Some(hash) => usize::from(bank.length) == hash.length(),
            None => (1..=LONGEST_DIGEST).contains(&bank.length),
        };
        if !fits || banks.iter().any(|one| one.algorithm == bank.algorithm) {
            return Err("a hash function twice in its header, or with a wrong length");
        }
        banks.push(bank);
    }
    let vendor = bytes.u8().ok_or(short)?;
    bytes.take(usize::from(vendor)).ok_or(short)?;
    if bytes.is_empty() {
        Ok(banks)
    } else {
        Err("bytes after the end of its specification header")
    }
}

/// Zeros are no event: an event has a digest. Neither is 0xff: there is no such PCR.
fn is_padding(rest: &[u8]) -> bool {
    [0x00, 0xff]
        .iter()
        .any(|filler| rest.iter().all(|byte| byte == filler))
}
