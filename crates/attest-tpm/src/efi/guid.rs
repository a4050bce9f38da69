//! GUIDs, which UEFI keeps with their first three fields little-endian.

use std::fmt;

/// 16 bytes as they stand in memory (UEFI 2.10, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid([u8; 16]);

impl Guid {
    /// `EFI_GLOBAL_VARIABLE`: `SecureBoot`, `PK`, `KEK`.
    pub const GLOBAL: Self = Self::of(0x8be4_df61, 0x93ca, 0x11d2, 0xaa0d_00e0_9803_2b8c);
    /// `EFI_IMAGE_SECURITY_DATABASE_GUID`: `db`, `dbx`.
    pub const IMAGE_SECURITY: Self = Self::of(0xd719_b2cb, 0x3d3a, 0x4596, 0xa3bc_dad0_0e67_656f);
    /// `SHIM_LOCK_GUID`: what shim adds.
    pub const SHIM: Self = Self::of(0x605d_ab50, 0xe046, 0x4300, 0xabb6_3dd8_10dd_8b23);
    /// `EFI_CERT_X509_GUID`.
    pub const X509: Self = Self::of(0xa5c0_59a1, 0x94e4, 0x4aa7, 0x87b5_ab15_5c2b_f072);
    /// `EFI_CERT_SHA256_GUID`.
    pub const SHA256: Self = Self::of(0xc1c4_1626, 0x504c, 0x4092, 0xaca9_41f9_3693_4328);

    #[must_use]
    pub const fn new(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The fields as they are written in text; the last eight bytes as one number.
    const fn of(first: u32, second: u16, third: u16, rest: u64) -> Self {
        let [a, b, c, d] = first.to_le_bytes();
        let [e, f] = second.to_le_bytes();
        let [g, h] = third.to_le_bytes();
        let [i, j, k, l, m, n, o, p] = rest.to_be_bytes();
        Self([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g, h, i, j, k, l, m, n, o, p, q] = self.0;
        let first = u32::from_le_bytes([a, b, c, d]);
        let (second, third) = (u16::from_le_bytes([e, g]), u16::from_le_bytes([h, i]));
        let fourth = u16::from_be_bytes([j, k]);
        write!(f, "{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-")?;
        for byte in [l, m, n, o, p, q] {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Guid;

    #[test]
    fn a_guid_is_written_as_the_specification_writes_it() {
        let text = Guid::SHIM.to_string();
        assert_eq!(text, "605dab50-e046-4300-abb6-3dd810dd8b23");
        assert_eq!(Guid::X509.as_bytes()[..4], [0xa1, 0x59, 0xc0, 0xa5]);
    }
}
