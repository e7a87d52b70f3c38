//! From gzip to plain text and what is needed to go back, bit for bit.
//!
//! What is remembered of a stream: headers and trailers as they are, the descriptions of codes bit by bit, and the tokens
//! as the differences from what [`super::predict`] guesses. Compressors of zlib's family (zlib, GNU gzip, Go, pigz) are
//! guessed almost without a mistake. Work goes in segments of bounded size, so the memory does not depend on the stream.
//!
//! ```text
//! record  = { piece }; numbers are LEB128
//! MEMBER  length bytes               a gzip header
//! STYLE   index                      how the compressor searches, from here on
//! STORED  last padding length        a block without codes
//! FIXED   last | CODES last bits description
//! TOKENS  count length end           a segment of a block; end: the block ends here
//!         { right wrong }            so many guesses right; then, unless that is all of them: length (0: a byte)
//!                                    and distance of the token instead
//! TRAILER padding bytes              the end of a member, 8 bytes
//! END     length bytes               whatever follows
//! ```

use super::bits::{self, get_number, put_number};
use super::huffman::{Codes, Symbol, Token, invalid};
use super::predict::{Predictor, STYLES, Window};
use std::io::{self, Read, Write};

const MEMBER: u64 = 1;
const STYLE: u64 = 2;
const STORED: u64 = 3;
const FIXED: u64 = 4;
const CODES: u64 = 5;
const TOKENS: u64 = 6;
const TRAILER: u64 = 7;
const END: u64 = 8;

/// A segment ends when it has so many bytes of plain text or tokens.
const SEGMENT: usize = 1 << 20;
/// As much of the first segment as styles are tried on.
const SAMPLE: usize = 32 * 1024;
/// A header's text, or what follows the last member, may have so many bytes.
const MOST: usize = 1 << 16;
/// The compressed bytes of a gzip trailer: checksum and length.
const TRAILER_BYTES: usize = 8;

/// What comes next in a compressed stream.
enum State {
    Header,
    Block,
    /// In a block with codes; whether it is the last one.
    Tokens(Codes, bool),
    Trailer,
    Done,
}

/// Decompresses what it reads and records how to compress it again.
pub(super) struct Recorder<R, W> {
    from: bits::Reader<R>,
    record: W,
    state: State,
    window: Window,
    /// As much of the window as was read already.
    given: u64,
    predictor: Predictor,
    styled: bool,
}

impl<R: Read, W: Write> Recorder<R, W> {
    pub(super) fn new(from: R, record: W) -> Self {
        let window = Window::default();
        let predictor = Predictor::new(STYLES[0], &window);
        let from = bits::Reader::new(from);
        Self { from, record, state: State::Header, window, given: 0, predictor, styled: false }
    }

    /// Returns the record, complete once everything is read.
    pub(super) fn finish(self) -> W {
        self.record
    }

    fn step(&mut self) -> io::Result<()> {
        self.window.trim();
        match std::mem::replace(&mut self.state, State::Done) {
            State::Done => Ok(()),
            State::Header => self.header(),
            State::Block => self.block(),
            State::Tokens(codes, last) => self.tokens(codes, last),
            State::Trailer => self.trailer(),
        }
    }

    /// Reads a member's header (RFC 1952, 2.3).
    fn header(&mut self) -> io::Result<()> {
        let mut header = Vec::new();
        let mut get = |count: usize| {
            for _ in 0..count {
                header.push(self.from.byte()?);
            }
            io::Result::Ok(header.get(header.len() - count..).unwrap_or_default().to_vec())
        };
        let start = get(10)?;
        let &[0x1f, 0x8b, 8, flags, ..] = start.as_slice() else { return Err(invalid("not gzip")) };
        if flags & 4 != 0 {
            let length: [u8; 2] = get(2)?.try_into().unwrap_or_default();
            get(usize::from(u16::from_le_bytes(length)))?;
        }
        for flag in [8, 16] {
            let mut length = 0;
            while flags & flag != 0 && get(1)? != [0] {
                length += 1;
                if length > MOST {
                    return Err(invalid("a long name"));
                }
            }
        }
        if flags & 2 != 0 {
            get(2)?;
        }
        put_number(&mut self.record, MEMBER)?;
        put_bytes(&mut self.record, &header)?;
        self.window = Window::default();
        self.given = 0;
        self.predictor.restart(&self.window);
        self.state = State::Block;
        Ok(())
    }

    fn block(&mut self) -> io::Result<()> {
        let last = self.from.get(1)? == 1;
        let record = &mut self.record;
        match self.from.get(2)? {
            0 => {
                let padding = self.from.align()?;
                let length = self.from.get(16)?;
                if self.from.get(16)? != length ^ 0xffff {
                    return Err(invalid("two lengths of a stored block"));
                }
                for number in [STORED, u64::from(last), u64::from(padding), u64::from(length)] {
                    put_number(record, number)?;
                }
                for _ in 0..length {
                    self.window.bytes.push(self.from.byte()?);
                }
                self.state = if last { State::Trailer } else { State::Block };
                return Ok(());
            }
            1 => {
                put_number(record, FIXED)?;
                put_number(record, u64::from(last))?;
                self.state = State::Tokens(Codes::fixed()?, last);
            }
            2 => {
                let mut copy = bits::Writer::new(Vec::new());
                let codes = Codes::described(&mut self.from, &mut copy)?;
                put_number(record, CODES)?;
                put_number(record, u64::from(last))?;
                put_bytes(record, &copy.finish()?)?;
                self.state = State::Tokens(codes, last);
            }
            _ => return Err(invalid("a block of an unknown kind")),
        }
        Ok(())
    }

    fn tokens(&mut self, codes: Codes, last: bool) -> io::Result<()> {
        let start = self.window.end();
        let mut tokens = Vec::new();
        let end = loop {
            if tokens.len() >= SEGMENT || self.window.end() - start >= SEGMENT as u64 {
                break false;
            }
            match codes.read(&mut self.from)? {
                Symbol::Byte(byte) => {
                    self.window.bytes.push(byte);
                    tokens.push(Token::Literal);
                }
                Symbol::Match { length, distance } => {
                    self.window.copy(length, distance)?;
                    tokens.push(Token::Match { length, distance });
                }
                Symbol::End => break true,
            }
        };
        if !self.styled && !tokens.is_empty() {
            self.styled = true;
            self.choose(start, &tokens)?;
        }
        let length = self.window.end() - start;
        for number in [TOKENS, tokens.len() as u64, length, u64::from(end)] {
            put_number(&mut self.record, number)?;
        }
        record_tokens(&mut self.predictor, &self.window, start, &tokens, &mut self.record)?;
        self.state = match (end, last) {
            (false, last) => State::Tokens(codes, last),
            (true, false) => State::Block,
            (true, true) => State::Trailer,
        };
        Ok(())
    }

    /// Chooses the style with which the first tokens are the least surprise.
    fn choose(&mut self, start: u64, tokens: &[Token]) -> io::Result<()> {
        let sample = tokens.get(..SAMPLE.min(tokens.len())).unwrap_or_default();
        let mut best = (usize::MAX, 0);
        for (index, style) in STYLES.iter().enumerate() {
            let mut record = Vec::new();
            record_tokens(
                &mut Predictor::new(*style, &self.window),
                &self.window,
                start,
                sample,
                &mut record,
            )?;
            best = best.min((record.len(), index));
        }
        put_number(&mut self.record, STYLE)?;
        put_number(&mut self.record, best.1 as u64)?;
        self.predictor = Predictor::new(*STYLES.get(best.1).unwrap_or(&STYLES[0]), &self.window);
        Ok(())
    }

    fn trailer(&mut self) -> io::Result<()> {
        put_number(&mut self.record, TRAILER)?;
        let padding = self.from.align()?;
        put_number(&mut self.record, u64::from(padding))?;
        let mut bytes = Vec::new();
        for _ in 0..TRAILER_BYTES {
            bytes.push(self.from.byte()?);
        }
        self.record.write_all(&bytes)?;
        if self.from.peek(16)? == 0x8b1f {
            self.state = State::Header;
            return Ok(());
        }
        let mut rest = Vec::new();
        while !self.from.at_end()? {
            rest.push(self.from.byte()?);
            if rest.len() > MOST {
                return Err(invalid("much behind the end"));
            }
        }
        put_number(&mut self.record, END)?;
        put_bytes(&mut self.record, &rest)?;
        self.state = State::Done;
        Ok(())
    }
}

impl<R: Read, W: Write> Read for Recorder<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.window.end() && !matches!(self.state, State::Done) {
            self.step()?;
        }
        let mut piece = self.window.from(self.given);
        let count = piece.read(buffer)?;
        self.given += count as u64;
        Ok(count)
    }
}

/// Writes where the guesses are wrong.
fn record_tokens(
    predictor: &mut Predictor,
    window: &Window,
    start: u64,
    tokens: &[Token],
    record: &mut impl Write,
) -> io::Result<()> {
    let (mut place, mut right) = (start, 0);
    for token in tokens {
        if predictor.guess(window, place) == *token {
            right += 1;
        } else {
            put_number(record, right)?;
            right = 0;
            match token {
                Token::Literal => put_number(record, 0)?,
                Token::Match { length, distance } => {
                    put_number(record, u64::from(*length))?;
                    put_number(record, u64::from(*distance))?;
                }
            }
        }
        place = predictor.commit(window, place, *token);
    }
    put_number(record, right)
}

/// Compresses `plain` as `record` says.
pub(super) fn replay(plain: &mut impl Read, record: &mut impl Read, to: impl Write) -> io::Result<()> {
    let mut to = bits::Writer::new(to);
    let mut window = Window::default();
    let mut predictor = Predictor::new(STYLES[0], &window);
    let mut codes = Codes::fixed()?;
    loop {
        let piece = get_number(record)?;
        // As the recorder does at each of its steps.
        window.trim();
        match piece {
            MEMBER => {
                to.bytes(&get_bytes(record)?)?;
                window = Window::default();
                predictor.restart(&window);
            }
            STYLE => {
                let index = usize::try_from(get_number(record)?).unwrap_or(usize::MAX);
                let style = STYLES.get(index).ok_or_else(|| invalid("an unknown style"))?;
                predictor = Predictor::new(*style, &window);
            }
            STORED => {
                let [last, padding, length] = numbers(record)?;
                to.put(bit(last), 3)?;
                to.align(u32::try_from(padding).unwrap_or(0))?;
                let length = u16::try_from(length).map_err(|_large| invalid("a long stored block"))?;
                let start = window.end();
                append(&mut window, plain, u64::from(length))?;
                to.bytes(&length.to_le_bytes())?;
                to.bytes(&(!length).to_le_bytes())?;
                to.bytes(window.from(start))?;
            }
            FIXED => {
                let [last] = numbers(record)?;
                to.put(bit(last) | 1 << 1, 3)?;
                codes = Codes::fixed()?;
            }
            CODES => {
                let [last] = numbers(record)?;
                to.put(bit(last) | 2 << 1, 3)?;
                let description = get_bytes(record)?;
                codes = Codes::described(&mut bits::Reader::new(description.as_slice()), &mut to)?;
            }
            TOKENS => {
                let [count, length, end] = numbers(record)?;
                let start = window.end();
                append(&mut window, plain, length)?;
                replay_tokens(&mut predictor, &window, (start, count), record, &codes, &mut to)?;
                if end == 1 {
                    codes.write(&mut to, &Symbol::End)?;
                }
            }
            TRAILER => {
                let [padding] = numbers(record)?;
                to.align(u32::try_from(padding).unwrap_or(0))?;
                let mut bytes = [0; TRAILER_BYTES];
                record.read_exact(&mut bytes)?;
                to.bytes(&bytes)?;
            }
            END => {
                to.bytes(&get_bytes(record)?)?;
                return to.finish()?.flush();
            }
            _ => return Err(invalid("an unknown piece of a recipe")),
        }
    }
}

fn replay_tokens<W: Write>(
    predictor: &mut Predictor,
    window: &Window,
    (start, count): (u64, u64),
    record: &mut impl Read,
    codes: &Codes,
    to: &mut bits::Writer<W>,
) -> io::Result<()> {
    let mut place = start;
    let mut right = get_number(record)?;
    for _ in 0..count {
        let guess = predictor.guess(window, place);
        let token = if right > 0 {
            right -= 1;
            guess
        } else {
            let token = match get_number(record)? {
                0 => Token::Literal,
                length => {
                    let small =
                        |number| u16::try_from(number).map_err(|_large| invalid("a token of a recipe"));
                    Token::Match { length: small(length)?, distance: small(get_number(record)?)? }
                }
            };
            right = get_number(record)?;
            token
        };
        let symbol = match token {
            Token::Literal => Symbol::Byte(*window.from(place).first().ok_or(io::ErrorKind::UnexpectedEof)?),
            Token::Match { length, distance } => Symbol::Match { length, distance },
        };
        codes.write(to, &symbol)?;
        place = predictor.commit(window, place, token);
    }
    Ok(())
}

fn append(window: &mut Window, plain: &mut impl Read, length: u64) -> io::Result<()> {
    match plain.take(length).read_to_end(&mut window.bytes)? as u64 {
        count if count == length => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn bit(number: u64) -> u32 {
    u32::from(number == 1)
}

fn numbers<const N: usize>(record: &mut impl Read) -> io::Result<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = get_number(record)?;
    }
    Ok(numbers)
}

fn put_bytes(record: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    put_number(record, bytes.len() as u64)?;
    record.write_all(bytes)
}

fn get_bytes(record: &mut impl Read) -> io::Result<Vec<u8>> {
    let length = get_number(record)?;
    let mut bytes = Vec::new();
    match record.take(length).read_to_end(&mut bytes)? as u64 {
        count if count == length => Ok(bytes),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use proptest::prelude::*;
    use std::process::{Command, Stdio};

    /// Text with repetitions near and far, and some of no pattern.
    fn text(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut bytes = Vec::new();
        while bytes.len() < length {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let far = usize::try_from(state >> 12).unwrap() % (bytes.len() + 1);
            match state >> 29 {
                0 => bytes.extend((0..40).map(|shift| (state >> (shift % 24)).to_le_bytes()[0])),
                1..=3 => bytes.extend(format!("line {} of {:x}\n", state >> 20, state).as_bytes()),
                _ => bytes.extend_from_within(
                    far..(far + 4 + usize::try_from(state & 31).unwrap()).min(bytes.len()),
                ),
            }
        }
        bytes
    }

    fn gzip(plain: &[u8], level: u32) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    /// Records and replays; returns the record's size.
    fn check(compressed: &[u8], plain: &[u8]) -> usize {
        let mut recorder = Recorder::new(compressed, Vec::new());
        let mut found = Vec::new();
        recorder.read_to_end(&mut found).unwrap();
        assert!(found == plain, "the plain text");
        let record = recorder.finish();
        let mut again = Vec::new();
        replay(&mut &*plain, &mut record.as_slice(), &mut again).unwrap();
        assert!(again == compressed, "the compressed text");
        record.len()
    }

    #[test]
    fn streams_of_every_level() {
        let plain = text(50_000);
        for level in 0..=9 {
            let compressed = gzip(&plain, level);
            let size = check(&compressed, &plain);
            assert!(size * 2 < compressed.len(), "level {level}: {size} of {}", compressed.len());
        }
        check(&gzip(b"", 6), b"");
        check(&gzip(&[7; 1_500_000], 6), &[7; 1_500_000]);
    }

    #[test]
    fn streams_of_other_programs() {
        let plain = text(50_000);
        // In every Debian; what it writes is neither zlib's nor ours.
        for level in ["-1", "-6", "-9"] {
            let mut child = Command::new("gzip")
                .args(["-c", level])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            let feed = plain.clone();
            let feeding = std::thread::spawn(move || stdin.write_all(&feed));
            let compressed = child.wait_with_output().unwrap().stdout;
            feeding.join().unwrap().unwrap();
            let size = check(&compressed, &plain);
            assert!(size * 10 < compressed.len(), "gzip {level}: {size} of {}", compressed.len());
        }
    }

    #[test]
    fn members_names_and_what_follows() {
        let (one, other) = (text(5_000), text(40_000));
        let mut named =
            vec![0x1f, 0x8b, 8, 4 | 8 | 16, 0, 0, 0, 0, 0, 3, 2, 0, b'x', b'y', b'n', 0, b'c', b'o', 0];
        named.extend(gzip(&one, 6).split_off(10));
        let compressed = [named, gzip(&other, 1), vec![0; 100]].concat();
        check(&compressed, &[one, other].concat());
    }

    /// The format of recipes rests on the guesses: this changes only with the format's version.
    #[test]
    fn guesses_stay_as_they_are() {
        let plain = text(20_000);
        let compressed = gzip(&plain, 6);
        let mut recorder = Recorder::new(compressed.as_slice(), Vec::new());
        io::copy(&mut recorder, &mut io::sink()).unwrap();
        let mut guesses = Vec::new();
        for style in STYLES {
            let mut window = Window::default();
            window.bytes.clone_from(&plain);
            let mut predictor = Predictor::new(style, &window);
            let mut place = 0;
            while place < window.end() {
                let token = predictor.guess(&window, place);
                place = predictor.commit(&window, place, token);
                guesses.extend(format!("{token:?}").into_bytes());
            }
        }
        assert_eq!(oci::Digest::sha256_of(&guesses).hex().get(..16), Some("9b06408e0142449a"));
    }

    #[test]
    fn damage_is_told() {
        let plain = text(20_000);
        let compressed = gzip(&plain, 6);
        let read = |bytes: &[u8]| io::copy(&mut Recorder::new(bytes, Vec::new()), &mut io::sink());
        assert!(read(compressed.get(..compressed.len() / 2).unwrap()).is_err());
        assert!(read(b"\x1f\x8b\x08\x00\0\0\0\0\0\x03\xff").is_err());
        assert!(read(b"plain").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn whatever_is_compressed(
            plain in proptest::collection::vec(0..6_u8, 0..5000),
            level in 0..10_u32,
        ) {
            check(&gzip(&plain, level), &plain);
        }

        #[test]
        fn damaged_streams_and_records_never_panic(place in 0..2000_usize, value: u8) {
            let plain = text(4_000);
            let mut compressed = gzip(&plain, 6);
            let mut recorder = Recorder::new(compressed.as_slice(), Vec::new());
            io::copy(&mut recorder, &mut io::sink()).unwrap();
            let mut record = recorder.finish();
            for bytes in [&mut compressed, &mut record] {
                if let Some(byte) = bytes.get_mut(place) {
                    *byte = value;
                }
            }
            drop(io::copy(&mut Recorder::new(compressed.as_slice(), Vec::new()), &mut io::sink()));
            drop(replay(&mut plain.as_slice(), &mut record.as_slice(), io::sink()));
        }
    }
}
