//! The same small changes of real bytes in every run, each from a seed: what gets further into a parser
//! than noise does. For a search that learns from what it reaches, there is `cargo xtask fuzz`.

/// xorshift64*: the same numbers in every run.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From zero to below `bound`; zero where `bound` is.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).unwrap_or_default() % bound.max(1)
    }

    fn of<T: Copy + Default>(&mut self, choices: &[T]) -> T {
        let at = self.below(choices.len());
        choices.get(at).copied().unwrap_or_default()
    }
}

/// One to four changes of the kinds that readers trip over: bits, bytes and lengths at their limits,
/// pieces that are missing, twice or elsewhere, and cuts.
#[must_use]
pub fn changed(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut changed = bytes.to_vec();
    for _ in 0..=random.below(4) {
        if changed.is_empty() {
            break;
        }
        let at = random.below(changed.len());
        let piece = at..(at + 1 + random.below(48)).min(changed.len());
        match random.below(15) {
            0..=5 => {
                let bit = random.below(8);
                put(&mut changed, at, |byte| byte ^ (1 << bit));
            }
            6..=8 => {
                let value = random.of(&[0, 1, 0x7f, 0x80, 0xff]);
                put(&mut changed, at, |_| value);
            }
            9..=10 => {
                let length = random.of(&[0_u32, 1, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff]);
                overwrite(&mut changed, at, &length.to_be_bytes());
            }
            11 => drop(changed.drain(piece)),
            12 => {
                let copy = changed.get(piece).unwrap_or_default().to_vec();
                let to = random.below(changed.len());
                changed.splice(to..to, copy);
            }
            13 => {
                let copy = changed.get(piece).unwrap_or_default().to_vec();
                let to = random.below(changed.len());
                overwrite(&mut changed, to, &copy);
            }
            _ => changed.truncate(at),
        }
    }
    changed
}

fn put(bytes: &mut [u8], at: usize, change: impl FnOnce(u8) -> u8) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte = change(*byte);
    }
}

/// What does not fit is left out.
fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (to, from) in bytes.iter_mut().skip(at).zip(with) {
        *to = *from;
    }
}
