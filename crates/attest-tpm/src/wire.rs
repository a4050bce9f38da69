//! Reads big-endian TPM structures out of hostile bytes. Knows lengths, not meanings.

use facts::Finding;

/// No structure that a TPM hands out is longer: the command buffer of PC Client TPMs is 4096 bytes.
pub(crate) const LONGEST: usize = 4096;

/// Bytes that are not the structure they were said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {structure}: {problem}")]
pub struct Malformed {
    /// As TCG calls it: `TPMT_PUBLIC`.
    pub structure: &'static str,
    /// Which field, and what about it.
    pub problem: &'static str,
}

impl Malformed {
    /// `what` is who presented it: `quote`, `attestation key`.
    pub(crate) fn finding(self, what: &str) -> Finding {
        Finding::new("TPM-STRUCTURE", format!("the {what} cannot be read"))
            .expected(format!("a {}", self.structure))
            .observed(self.problem)
            .next("send the bytes as the TPM returned them; see docs/attestation/tpm.md")
    }
}

/// What is left to read of one structure.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    structure: &'static str,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(structure: &'static str, bytes: &'a [u8]) -> Result<Self, Malformed> {
        let reader = Self {
            rest: bytes,
            structure,
        };
        if bytes.len() > LONGEST {
            return Err(reader.malformed("longer than any TPM's buffer"));
        }
        Ok(reader)
    }

    pub(crate) const fn malformed(&self, problem: &'static str) -> Malformed {
        Malformed {
            structure: self.structure,
            problem,
        }
    }

    pub(crate) fn take(
        &mut self,
        length: usize,
        problem: &'static str,
    ) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(self.malformed(problem))?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, problem: &'static str) -> Result<[u8; N], Malformed> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(self.malformed(problem))?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self, problem: &'static str) -> Result<u8, Malformed> {
        self.array(problem).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, problem: &'static str) -> Result<u16, Malformed> {
        self.array(problem).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, problem: &'static str) -> Result<u32, Malformed> {
        self.array(problem).map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, problem: &'static str) -> Result<u64, Malformed> {
        self.array(problem).map(u64::from_be_bytes)
    }

    /// A `TPM2B_…`: 16-bit length and as many bytes, at most `longest`.
    pub(crate) fn sized(
        &mut self,
        longest: usize,
        problem: &'static str,
    ) -> Result<&'a [u8], Malformed> {
        let length = usize::from(self.u16(problem)?);
        if length > longest {
            return Err(self.malformed(problem));
        }
        self.take(length, problem)
    }

    /// Whatever is left, unread.
    pub(crate) const fn remaining(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.malformed("bytes after its end"))
        }
    }
}

/// A `TPM2B_…` of `bytes`, which are shorter than 64 KiB.
pub(crate) fn sized(bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes(), bytes].concat()
}
