//! Entry bundles of c2sp.org/tlog-tiles: "sequences of big-endian uint16 length-prefixed log
//! entries". What the entries mean is not looked at.

use crate::{Code, MAX_RECORD};
use thiserror::Error;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BundleError {
    #[error("record {at} of a bundle is longer than {MAX_RECORD} bytes")]
    TooLarge { at: usize },
    #[error("the bundle ends within or before record {at}")]
    Truncated { at: usize },
    #[error("{extra} bytes follow the last record of the bundle")]
    Trailing { extra: usize },
}

impl Code for BundleError {
    fn code(&self) -> &'static str {
        "LEDGER-BUNDLE-CORRUPT"
    }
}

/// Puts records into a bundle.
pub fn encode_bundle<'a>(
    records: impl IntoIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, BundleError> {
    let mut bundle = Vec::new();
    for (at, record) in records.into_iter().enumerate() {
        let length = u16::try_from(record.len()).ok();
        let length = length.filter(|_| record.len() <= MAX_RECORD);
        let length = length.ok_or(BundleError::TooLarge { at })?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(record);
    }
    Ok(bundle)
}

/// Takes a bundle of exactly `count` records apart.
pub fn decode_bundle(bundle: &[u8], count: usize) -> Result<Vec<&[u8]>, BundleError> {
    let mut records = Vec::with_capacity(count.min(256));
    let mut rest = bundle;
    for at in 0..count {
        let (record, after) = split_entry(rest).ok_or(BundleError::Truncated { at })?;
        if record.len() > MAX_RECORD {
            return Err(BundleError::TooLarge { at });
        }
        records.push(record);
        rest = after;
    }
    match rest.len() {
        0 => Ok(records),
        extra => Err(BundleError::Trailing { extra }),
    }
}

pub(crate) fn split_entry(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
