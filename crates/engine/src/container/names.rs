//! Names for containers that were given none: an adjective and the surname of someone who moved science or seafaring on.

const ADJECTIVES: &[&str] = &[
    "able", "agile", "amber", "ardent", "bold", "brave", "bright", "brisk", "busy", "calm", "candid",
    "careful", "cheerful", "clear", "clever", "coastal", "cool", "cordial", "curious", "daring", "deft",
    "eager", "earnest", "easy", "elegant", "epic", "fair", "faithful", "fearless", "fine", "fleet", "fluent",
    "fond", "frank", "free", "fresh", "friendly", "gallant", "gentle", "gifted", "glad", "golden",
    "graceful", "grand", "happy", "hardy", "hearty", "helpful", "honest", "hopeful", "humble", "jolly",
    "jovial", "keen", "kind", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mighty", "modest",
    "neat", "nimble", "noble", "patient", "placid", "polite", "proud", "prudent", "quick", "quiet", "ready",
    "serene", "sharp", "silver", "sleek", "smart", "smooth", "snug", "solid", "steady", "stoic", "sturdy",
    "sunny", "swift", "tender", "thrifty", "tidy", "trusty", "upbeat", "vivid", "warm", "wise", "witty",
    "worthy", "young", "zealous", "zesty",
];

const SURNAMES: &[&str] = &[
    "abel",
    "agnesi",
    "alhazen",
    "amundsen",
    "archimedes",
    "avicenna",
    "babbage",
    "banach",
    "barents",
    "bassi",
    "bering",
    "bohr",
    "boole",
    "born",
    "boyle",
    "brahe",
    "cabot",
    "cantor",
    "cartier",
    "cauchy",
    "chandra",
    "cook",
    "copernicus",
    "curie",
    "dalton",
    "darwin",
    "davy",
    "dias",
    "dijkstra",
    "dirac",
    "drake",
    "einstein",
    "euclid",
    "euler",
    "faraday",
    "fermat",
    "fermi",
    "feynman",
    "fibonacci",
    "franklin",
    "fresnel",
    "galileo",
    "galois",
    "gauss",
    "germain",
    "goedel",
    "hamilton",
    "harrison",
    "heisenberg",
    "hertz",
    "hilbert",
    "hopper",
    "hubble",
    "hudson",
    "huygens",
    "hypatia",
    "jacobi",
    "johnson",
    "kepler",
    "khayyam",
    "knuth",
    "kovalevskaya",
    "lagrange",
    "laplace",
    "leibniz",
    "lovelace",
    "magellan",
    "maxwell",
    "meitner",
    "mendel",
    "mercator",
    "nansen",
    "newton",
    "nobel",
    "noether",
    "ohm",
    "pascal",
    "pasteur",
    "pauli",
    "planck",
    "poincare",
    "ptolemy",
    "ramanujan",
    "riemann",
    "ritchie",
    "ross",
    "rutherford",
    "scott",
    "shackleton",
    "shannon",
    "sklodowska",
    "tasman",
    "tesla",
    "thales",
    "turing",
    "vespucci",
    "volta",
    "watt",
    "wiles",
    "zheng",
];

/// Returns the name of attempt `attempt` (from 0) for 64 random bits.
///
/// From the second attempt on a digit follows, as in Docker.
pub(super) fn generate(random: u64, attempt: u32) -> String {
    let pick = |words: &[&'static str], random: u64| {
        let index = usize::try_from(random % words.len() as u64).unwrap_or(0);
        words.get(index).copied().unwrap_or_default()
    };
    let name = format!("{}_{}", pick(ADJECTIVES, random), pick(SURNAMES, random >> 24));
    if attempt == 0 { name } else { format!("{name}{}", (random >> 48) % 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_valid_and_differ() {
        for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
            assert!(base::id::is_restricted_name(&generate(random, 0)));
            assert!(generate(random, 1).ends_with(|last: char| last.is_ascii_digit()));
        }
        assert_ne!(generate(1, 0), generate(2, 0));
        assert_ne!(generate(1, 0), generate(1 | 3 << 24, 0));
    }
}
