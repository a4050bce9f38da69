//! `UEFI_VARIABLE_DATA` (PC Client Platform Firmware Profile 1.06, section 10.2.6): a variable's name and
//! value, as firmware and shim put them into the log.

use super::Guid;
use crate::bytes::{Bytes, utf16};

/// No variable that is measured has a longer name, in UTF-16 units.
const LONGEST_NAME: u64 = 512;

/// A variable as an event's data states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variable<'a> {
    pub vendor: Guid,
    pub name: String,
    pub value: &'a [u8],
}

impl<'a> Variable<'a> {
    /// The variable at the start of `data`, and how many bytes it takes. Absent if it does not fit or
    /// its name is no text.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<(Self, usize)> {
        let mut bytes = Bytes::new(data);
        let vendor = Guid::new(*bytes.array::<16>()?);
        let units = bytes.u64()?;
        let length = usize::try_from(bytes.u64()?).ok()?;
        if units > LONGEST_NAME {
            return None;
        }
        let name = utf16(bytes.take(usize::try_from(units).ok()?.checked_mul(2)?)?)?;
        let value = bytes.take(length)?;
        let variable = Self {
            vendor,
            name,
            value,
        };
        Some((variable, bytes.at()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let mut data = Guid::GLOBAL.as_bytes().to_vec();
        data.extend(2u64.to_le_bytes());
        data.extend(1u64.to_le_bytes());
        data.extend(*b"P\0K\0\x07");
        let (variable, length) = Variable::parse(&data).unwrap();
        assert_eq!((variable.name.as_str(), variable.value), ("PK", &[7][..]));
        assert_eq!(length, data.len());
        for (at, byte) in [(16, 4), (23, 0x80), (24, 2), (31, 0xff)] {
            let mut bad = data.clone();
            bad[at] = byte;
            assert!(Variable::parse(&bad).is_none(), "{at}");
        }
        data.pop();
        assert!(Variable::parse(&data).is_none());
    }
}
