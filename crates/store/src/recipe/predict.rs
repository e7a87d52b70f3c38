//! Guesses what a compressor of zlib's family writes next, so that only its surprises need to be remembered.
//!
//! Such a compressor looks for the longest earlier occurrence of what comes, along a chain of places with the same
//! hash, and puts a match off by one byte if the next place has a longer one (RFC 1951, 4; zlib, *algorithm.txt*). How
//! long a chain it follows and when it is content depends on its level: [`STYLES`]. A guess that is wrong costs some
//! bytes of the recipe and nothing else, so the model need not be perfect; it must only be the same for ever: what is
//! guessed here is part of the format of recipes (docs/formats/layers.md).

use super::huffman::Token;
use std::io;

/// As far as deflate looks back.
pub(super) const WINDOW: usize = 32768;
/// The longest match.
const LONGEST: usize = 258;
/// Where there is no place.
const NONE: u32 = u32::MAX;
/// The last place that is remembered.
const LAST: u64 = (u32::MAX - 1) as u64;

/// How a compressor searches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Whether it hashes four bytes (Go, zlib-ng), not three, which is also the shortest match.
    four: bool,
    /// How many places it looks at.
    chain: usize,
    /// From this length on only a quarter of them.
    good: usize,
    /// From this length on none.
    nice: usize,
    /// Up to this length it tries the next byte too; 0: never.
    lazy: usize,
    /// Places within longer matches are not remembered.
    insert: usize,
    /// How far back it looks.
    reach: u64,
}

const fn style(four: bool, numbers: [usize; 4], reach: u64) -> Style {
    let [good, lazy, nice, chain] = numbers;
    Style { four, chain, good, nice, lazy, insert: LONGEST, reach }
}

const fn greedy(four: bool, nice: usize, chain: usize, insert: usize) -> Style {
    Style { four, chain, good: LONGEST, nice, lazy: 0, insert, reach: ZLIB }
}

/// zlib does not look back the whole window, Go does.
const ZLIB: u64 = 32768 - 262;
const GO: u64 = 32768;

/// What is tried; recipes name them by their places here, so new ones go to the end.
pub(super) const STYLES: [Style; 20] = [
    style(false, [8, 16, 128, 128], ZLIB),
    style(true, [8, 16, 128, 128], GO),
    style(false, [32, 258, 258, 4096], ZLIB),
    greedy(false, 8, 4, 4),
    greedy(false, 16, 8, 5),
    greedy(false, 32, 32, 6),
    style(false, [4, 4, 16, 16], ZLIB),
    style(false, [8, 16, 32, 32], ZLIB),
    style(false, [8, 32, 128, 256], ZLIB),
    style(false, [32, 128, 258, 1024], ZLIB),
    style(true, [4, 4, 16, 16], GO),
    style(true, [8, 16, 32, 32], GO),
    style(true, [8, 32, 128, 256], GO),
    style(true, [32, 258, 258, 4096], GO),
    greedy(true, 258, 1, 258),
    greedy(true, 258, 4, 258),
    greedy(true, 258, 16, 258),
    greedy(true, 258, 1, 0),
    greedy(true, 258, 2, 0),
    greedy(true, 258, 1, 4),
];

/// The plain text as far as it matters: what a match may reach, and what comes until the end of the present segment.
#[derive(Debug, Default)]
pub(super) struct Window {
    pub(super) bytes: Vec<u8>,
    /// Where `bytes` begins in the member's text.
    base: u64,
}

impl Window {
    pub(super) fn end(&self) -> u64 {
        self.base + self.bytes.len() as u64
    }

    pub(super) fn from(&self, place: u64) -> &[u8] {
        let start = usize::try_from(place.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.bytes.get(start..).unwrap_or_default()
    }

    /// Forgets what no match can reach any more.
    pub(super) fn trim(&mut self) {
        let surplus = self.bytes.len().saturating_sub(WINDOW);
        self.bytes.drain(..surplus);
        self.base += surplus as u64;
    }

    /// Repeats what was there before.
    pub(super) fn copy(&mut self, length: u16, distance: u16) -> io::Result<()> {
        let start = self.bytes.len().checked_sub(usize::from(distance)).filter(|_| distance > 0);
        let start = start.ok_or_else(|| super::huffman::invalid("a match before the beginning"))?;
        if distance >= length {
            self.bytes.extend_from_within(start..start + usize::from(length));
            return Ok(());
        }
        for place in start..start + usize::from(length) {
            let byte = self.bytes.get(place).copied().unwrap_or(0);
            self.bytes.push(byte);
        }
        Ok(())
    }
}

/// A match that was found.
type Found = (usize, u64);

/// The memory of a compressor.
pub(super) struct Predictor {
    style: Style,
    /// By hash: the last place.
    heads: Vec<u32>,
    /// By place: the one before with the same hash.
    chains: Vec<u32>,
    /// Places before this one are remembered.
    next: u64,
    /// What was found one byte ahead, and so need not be searched again.
    ahead: Option<(u64, Found)>,
}

impl Predictor {
    /// Begins where the window begins.
    pub(super) fn new(style: Style, window: &Window) -> Self {
        let hashes = if style.four { 1 << 17 } else { 1 << 15 };
        Self { style, heads: vec![NONE; hashes], chains: vec![NONE; WINDOW], next: window.base, ahead: None }
    }

    /// Begins anew where the window begins.
    pub(super) fn restart(&mut self, window: &Window) {
        self.heads.fill(NONE);
        (self.next, self.ahead) = (window.base, None);
    }

    /// Guesses the token at `place`.
    pub(super) fn guess(&mut self, window: &Window, place: u64) -> Token {
        self.remember(window, place);
        let found = match self.ahead.take() {
            Some((ahead, found)) if ahead == place => Some(found),
            _ => self.longest(window, place, self.shortest() - 1, self.style.chain),
        };
        let Some((length, distance)) = found else { return Token::Literal };
        if length < self.style.lazy {
            self.remember(window, place + 1);
            let chain = if length >= self.style.good { self.style.chain / 4 } else { self.style.chain };
            if let Some(better) = self.longest(window, place + 1, length, chain) {
                self.ahead = Some((place + 1, better));
                return Token::Literal;
            }
        }
        Token::Match {
            length: u16::try_from(length).unwrap_or(0),
            distance: u16::try_from(distance).unwrap_or(0),
        }
    }

    /// Takes note of what it really was, and returns where the next one is.
    pub(super) fn commit(&mut self, window: &Window, place: u64, token: Token) -> u64 {
        let Token::Match { length, .. } = token else { return place + 1 };
        let after = place + u64::from(length);
        if usize::from(length) > self.style.insert {
            self.remember(window, place + 1);
            self.next = self.next.max(after);
        }
        after
    }

    fn shortest(&self) -> usize {
        if self.style.four { 4 } else { 3 }
    }

    /// Remembers the places before `until`, as far as there is enough text to hash.
    fn remember(&mut self, window: &Window, until: u64) {
        // Where nothing was guessed, nothing was remembered.
        self.next = self.next.max(window.base);
        while self.next < until && self.next < LAST {
            let Some(hash) = self.hash(window.from(self.next)) else { return };
            let Ok(place) = u32::try_from(self.next) else { return };
            if let Some(head) = self.heads.get_mut(hash) {
                if let Some(link) = self.chains.get_mut(slot(place)) {
                    *link = *head;
                }
                *head = place;
            }
            self.next += 1;
        }
    }

    fn hash(&self, text: &[u8]) -> Option<usize> {
        let hash = if self.style.four {
            let four = u32::from_be_bytes(*text.first_chunk()?);
            // As in Go (compress/flate): the quality of the hash does not matter, which places share one does a little.
            four.wrapping_mul(0x1e35_a7bd) >> 15
        } else {
            let [one, two, three] = *text.first_chunk::<3>()?;
            // As in zlib.
            (u32::from(one) << 10 ^ u32::from(two) << 5 ^ u32::from(three)) & 0x7fff
        };
        usize::try_from(hash).ok()
    }

    /// Finds a match at `place` that is longer than `length`.
    fn longest(&self, window: &Window, place: u64, length: usize, chain: usize) -> Option<Found> {
        let text = window.from(place);
        let limit = text.len().min(LONGEST);
        let text = text.get(..limit)?;
        let (mut best, mut found) = (length, None);
        if limit <= best || limit < self.shortest() {
            return None;
        }
        let oldest = place.saturating_sub(self.style.reach).max(window.base);
        let mut here = *self.heads.get(self.hash(text)?)?;
        for _ in 0..chain {
            let other = u64::from(here);
            if here == NONE || other < oldest || other >= place {
                break;
            }
            let earlier = window.from(other);
            // Most fail where they would have to be better.
            if earlier.get(best) == text.get(best) {
                let same = text.iter().zip(earlier).take_while(|(one, other)| one == other).count();
                if same > best {
                    (best, found) = (same, Some((same, place - other)));
                    if same >= self.style.nice || same == limit {
                        break;
                    }
                }
            }
            let before = *self.chains.get(slot(here))?;
            if before >= here {
                break;
            }
            here = before;
        }
        // The shortest are not worth a long way back (zlib's TOO_FAR, and Go's).
        found.filter(|(length, distance)| {
            *length > self.shortest() || self.style.lazy == 0 || *distance <= 4096
        })
    }
}

fn slot(place: u32) -> usize {
    usize::try_from(place).unwrap_or(0) % WINDOW
}
