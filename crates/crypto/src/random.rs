//! Randomness. Core crates take it as an argument; shells call this.

/// `N` bytes of the operating system's randomness, through the backend's generator.
///
/// A process that cannot have randomness must not go on to make keys or nonces: it aborts.
#[must_use]
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        std::process::abort();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_draws_differ() {
        assert_ne!(random::<32>(), random::<32>());
    }
}
