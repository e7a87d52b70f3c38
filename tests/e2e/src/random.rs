//! Choices at random that can be made again.

/// A small generator: xorshift.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Makes one; `seed` is not 0.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns a number below `limit`.
    #[expect(clippy::missing_panics_doc, clippy::expect_used, reason = "53 bits are a number here")]
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("a number") % limit
    }

    /// Returns one of several.
    #[expect(clippy::missing_panics_doc, clippy::expect_used, reason = "of nothing nothing can be chosen")]
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let place = self.below(of.len());
        of.get(place).expect("a place")
    }
}

/// Returns the number in an environment variable: a seed, or how long to go on.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
