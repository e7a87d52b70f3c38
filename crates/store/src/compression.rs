//! Decompression of whatever a stream turns out to be.

use oci::Compression;
use std::io::{self, BufReader, Chain, Cursor, Read};

const BUFFER: usize = 128 * 1024;
/// The largest window a zstd frame may ask for: 128 MiB, what the zstd command accepts.
const ZSTD_WINDOW_LOG: u32 = 27;

/// A stream whose first bytes were looked at.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// A stream, decompressed.
pub(crate) enum Decoder<R: Read> {
    None(Whole<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Whole<R>>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Whole<R>>>>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes of `reader` and chooses.
    pub(crate) fn new(mut reader: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(8);
        (&mut reader).take(8).read_to_end(&mut start)?;
        let compression = Compression::sniff(&start);
        let whole = Cursor::new(start).chain(reader);
        let buffered = |whole| BufReader::with_capacity(BUFFER, whole);
        Ok(match compression {
            Compression::None => Self::None(whole),
            Compression::Gzip => Self::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(buffered(whole)))),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(buffered(whole))?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(reader) => reader.read(buffer),
            Self::Gzip(reader) => reader.read(buffer),
            Self::Zstd(reader) => reader.read(buffer),
        }
    }
}

/// Counts what passes.
pub(crate) struct Counter<'a> {
    pub(crate) reader: &'a mut dyn Read,
    pub(crate) count: &'a std::cell::Cell<u64>,
}

impl Read for Counter<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}
