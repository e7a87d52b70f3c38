//! Choices at random that can be made again, and inputs with random changes.

/// A small generator: xorshift.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// Makes one that is different for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Makes the one of a mutation test: of the variable `SEED`, or always the same. Prints the seed.
    #[expect(clippy::print_stdout, reason = "the test's own output, which shows when it fails")]
    pub fn of_environment() -> Self {
        let seed = number("SEED").unwrap_or(20_260_101);
        println!("SEED={seed}");
        Self::new(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() >> 11).expect("53 bits are a number here") % limit.max(1)
    }

    /// Returns one of several.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let place = self.below(of.len());
        of.get(place).expect("of nothing nothing can be chosen")
    }

    /// Returns bytes that do not compress.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }

    /// Returns one of `seeds` with one to five changes: cut off, left out, repeated, a word or a byte put in, a bit turned.
    pub fn changed(&mut self, seeds: &[&[u8]], words: &[&str]) -> Vec<u8> {
        let mut bytes = self.one(seeds).to_vec();
        for _ in 0..=self.below(5) {
            let at = self.below(bytes.len() + 1);
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => drop(bytes.drain(at..(at + self.below(10)).min(bytes.len()))),
                2 => {
                    let piece: Vec<u8> = bytes.iter().skip(at).take(self.below(60)).copied().collect();
                    drop(bytes.splice(at..at, piece));
                }
                3 if !words.is_empty() => drop(bytes.splice(at..at, self.one(words).bytes())),
                4 => {
                    let bit = self.below(8);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= 1 << bit;
                    }
                }
                _ => bytes.insert(at, u8::try_from(self.below(256)).expect("a byte")),
            }
        }
        bytes
    }
}

/// Returns the number in an environment variable: a seed, or how long to go on.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}
