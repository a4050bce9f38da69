//! The banks that a boot is read from, told apart by the length of their digests.

use crypto::Hash;

/// The function of the bank whose digests have `N` bytes: 32 of SHA-256, 48 of SHA-384. Nothing else builds.
pub(crate) const fn hash<const N: usize>() -> Hash {
    const {
        assert!(N == 32 || N == 48, "SHA-256 or SHA-384");
    }
    if N == 48 { Hash::Sha384 } else { Hash::Sha256 }
}

/// As people write it.
pub(crate) const fn name<const N: usize>() -> &'static str {
    match hash::<N>() {
        Hash::Sha384 => "SHA-384",
        _ => "SHA-256",
    }
}

/// Of all `parts`, one after the other.
pub(crate) fn digest<const N: usize>(parts: &[&[u8]]) -> [u8; N] {
    let mut digest = [0; N];
    for (to, from) in digest.iter_mut().zip(hash::<N>().digest(parts)) {
        *to = from;
    }
    digest
}
