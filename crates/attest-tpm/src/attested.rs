//! `TPMS_ATTEST` (Part 2, section 10.12.12): what a TPM says under an attestation key's signature.

use crate::wire::{Malformed, Reader};

/// `TPM_GENERATED_VALUE`: a restricted key signs nothing from outside that starts so (Part 2,
/// section 6.2).
pub(crate) const GENERATED: u32 = 0xff54_4347;
const ATTEST_CERTIFY: u16 = 0x8017;
const ATTEST_QUOTE: u16 = 0x8018;
/// `TPML_PCR_SELECTION`: one entry a bank; TPMs have at most 16 hashes.
const BANKS: u32 = 16;

/// `TPMS_CLOCK_INFO` (Part 2, section 10.11.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// Milliseconds while powered.
    pub clock: u64,
    /// TPM resets: boots.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// False after power was lost without a shutdown, until the clock has passed every value that it
    /// may have shown before.
    pub safe: bool,
}

/// `TPMS_PCR_SELECTION` as quoted (Part 2, section 10.6.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    pub hash: u16,
    /// One bit for each PCR, least significant first.
    pub bits: Vec<u8>,
}

impl Selection {
    /// The selected PCRs in ascending order.
    #[must_use]
    pub fn indices(&self) -> Vec<u32> {
        (0u32..)
            .zip(&self.bits)
            .flat_map(|(byte, bits)| {
                (0..8u32)
                    .filter(move |bit| bits >> bit & 1 == 1)
                    .map(move |bit| byte * 8 + bit)
            })
            .collect()
    }
}

/// What the structure is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    Quote {
        selections: Vec<Selection>,
        digest: Vec<u8>,
    },
    Certify {
        name: Vec<u8>,
        qualified_name: Vec<u8>,
    },
    /// A structure of another type, by its tag.
    Other(u16),
}

/// A parsed `TPMS_ATTEST`. Nothing in it is true before the signature has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// `TPM_GENERATED_VALUE`, 0xff544347, if a TPM made it.
    pub magic: u32,
    pub qualified_signer: Vec<u8>,
    /// The caller's qualifying data: a nonce or transcript.
    pub extra_data: Vec<u8>,
    pub clock: Clock,
    pub firmware: u64,
    pub body: Body,
}

impl Attested {
    /// # Errors
    /// [`Malformed`] if `bytes` are not exactly one `TPMS_ATTEST`. A wrong magic number is not
    /// malformed: it is for the verifier to report.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new("TPMS_ATTEST", bytes)?;
        let magic = reader.u32("magic")?;
        let kind = reader.u16("type")?;
        let qualified_signer = reader.sized(66, "qualifiedSigner")?.to_vec();
        let extra_data = reader.sized(66, "extraData")?.to_vec();
        let clock = Clock {
            clock: reader.u64("clockInfo.clock")?,
            reset_count: reader.u32("clockInfo.resetCount")?,
            restart_count: reader.u32("clockInfo.restartCount")?,
            safe: match reader.u8("clockInfo.safe")? {
                0 => false,
                1 => true,
                _ => return Err(reader.malformed("clockInfo.safe is neither 0 nor 1")),
            },
        };
        let firmware = reader.u64("firmwareVersion")?;
        let body = match kind {
            ATTEST_QUOTE => quote(&mut reader)?,
            ATTEST_CERTIFY => Body::Certify {
                name: reader.sized(66, "certify.name")?.to_vec(),
                qualified_name: reader.sized(66, "certify.qualifiedName")?.to_vec(),
            },
            other => {
                let rest = reader.remaining().len();
                reader.take(rest, "attested")?;
                Body::Other(other)
            }
        };
        reader.finish()?;
        Ok(Self {
            magic,
            qualified_signer,
            extra_data,
            clock,
            firmware,
            body,
        })
    }
}

fn quote(reader: &mut Reader<'_>) -> Result<Body, Malformed> {
    let count = reader.u32("pcrSelect.count")?;
    if count > BANKS {
        return Err(reader.malformed("pcrSelect.count"));
    }
    let mut selections = Vec::new();
    for _ in 0..count {
        let hash = reader.u16("pcrSelect.hash")?;
        let length = reader.u8("pcrSelect.sizeofSelect")?;
        if length > 4 {
            return Err(reader.malformed("pcrSelect.sizeofSelect"));
        }
        let bits = reader.take(usize::from(length), "pcrSelect")?.to_vec();
        selections.push(Selection { hash, bits });
    }
    Ok(Body::Quote {
        selections,
        digest: reader.sized(64, "pcrDigest")?.to_vec(),
    })
}
