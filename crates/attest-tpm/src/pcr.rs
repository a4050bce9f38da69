//! Which PCRs are asked for, and the digest that a quote of them must hold. What is asked for is of the SHA-256
//! bank.

use facts::Finding;
use std::collections::BTreeMap;

/// PC Client TPMs have 24 (TCG PC Client Platform TPM Profile, section 4.5).
const PCRS: u32 = 24;

/// A set of PCRs of the SHA-256 bank, ascending and not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PcrSelection(Vec<u32>);

impl PcrSelection {
    /// # Errors
    /// `TPM-SELECTION` for none, a repeated one, or one above 23.
    pub fn new(pcrs: &[u32]) -> Result<Self, Finding> {
        let mut sorted = pcrs.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.is_empty() || sorted.len() != pcrs.len() || sorted.iter().any(|pcr| *pcr >= PCRS)
        {
            return Err(
                Finding::new("TPM-SELECTION", "this is no selection of PCRs to quote")
                    .expected("one or more different PCRs from 0 to 23")
                    .observed(format!("{pcrs:?}"))
                    .next("correct the selection in the server's configuration"),
            );
        }
        Ok(Self(sorted))
    }

    /// In ascending order, which is the order of the values.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        &self.0
    }

    /// The bitmap of `TPMS_PCR_SELECT`: three bytes, least significant bit first.
    #[must_use]
    pub fn bitmap(&self) -> [u8; 3] {
        let mut bits = 0u32;
        for pcr in &self.0 {
            bits |= 1 << pcr;
        }
        let [low, middle, high, _] = bits.to_le_bytes();
        [low, middle, high]
    }

    /// SHA-256 over the values in order: `TPMS_QUOTE_INFO.pcrDigest` under a SHA-256 scheme.
    /// Absent if their number or a length is not that of the selection.
    #[must_use]
    pub fn digest(&self, values: &[Vec<u8>]) -> Option<[u8; 32]> {
        let fits = values.len() == self.0.len() && values.iter().all(|value| value.len() == 32);
        fits.then(|| crypto::sha256(&values.concat()))
    }
}

/// Values of one bank, of SHA-256 unless it says otherwise, that a TPM signed after the nonce was known. Only the
/// verification of a quote makes it, so that whoever holds one need not ask where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotedPcrs<const N: usize = 32>(BTreeMap<u32, [u8; N]>);

impl QuotedPcrs {
    /// The values in the order of the selection; absent if their number or a length is another.
    pub(crate) fn new(selection: &PcrSelection, values: &[Vec<u8>]) -> Option<Self> {
        if values.len() != selection.0.len() {
            return None;
        }
        let pairs = selection.0.iter().zip(values);
        pairs
            .map(|(pcr, value)| Some((*pcr, *value.as_array::<32>()?)))
            .collect::<Option<_>>()
            .map(Self)
    }

    /// SHA-256 over the values in order of their PCRs.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let values: Vec<u8> = self.0.values().flatten().copied().collect();
        crypto::sha256(&values)
    }
}

impl<const N: usize> QuotedPcrs<N> {
    /// Values that nobody signed, for what says so in its own type.
    pub(crate) const fn claimed(values: BTreeMap<u32, [u8; N]>) -> Self {
        Self(values)
    }

    /// Absent if that PCR was not quoted.
    #[must_use]
    pub fn value(&self, pcr: u32) -> Option<&[u8; N]> {
        self.0.get(&pcr)
    }

    /// In ascending order of the PCRs.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8; N])> {
        self.0.iter().map(|(pcr, value)| (*pcr, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_ascending_and_without_repetition() {
        let selection = PcrSelection::new(&[7, 0, 16]).unwrap();
        assert_eq!(selection.indices(), [0, 7, 16]);
        assert_eq!(selection.bitmap(), [0x81, 0, 1]);
        for pcrs in [&[][..], &[24], &[1, 1]] {
            assert!(PcrSelection::new(pcrs).is_err(), "{pcrs:?}");
        }
    }
}
