//! Decompression of whatever a stream turns out to be.

use oci::Compression;
use std::io::{self, BufReader, Chain, Cursor, Read};

const BUFFER: usize = 128 * 1024;
/// The largest window a zstd frame may ask for: 128 MiB, what the zstd command accepts.
const ZSTD_WINDOW_LOG: u32 = 27;
/// The most memory in KiB that an xz stream may ask for: 128 MiB, twice what `xz -9` needs.
const XZ_MEMORY: u32 = 128 << 10;

/// How xz and bzip2 streams begin.
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
const BZIP2: &[u8] = b"BZh";

/// A stream whose first bytes were looked at.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

/// A stream, decompressed.
pub(crate) enum Decoder<R: Read> {
    None(Whole<R>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<Whole<R>>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<Whole<R>>>>),
    Xz(Box<lzma_rust2::XzReader<BufReader<Whole<R>>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<BufReader<Whole<R>>>>),
}

impl<R: Read> Decoder<R> {
    /// Looks at the first bytes of `reader` and chooses.
    pub(crate) fn new(mut reader: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(8);
        (&mut reader).take(8).read_to_end(&mut start)?;
        let compression = Compression::sniff(&start);
        // Only archives are so compressed, never layers: media types do not know these.
        let (xz, bzip2) = (start.starts_with(XZ), start.starts_with(BZIP2));
        let whole = Cursor::new(start).chain(reader);
        let buffered = |whole| BufReader::with_capacity(BUFFER, whole);
        Ok(match compression {
            Compression::None if xz => {
                Self::Xz(Box::new(lzma_rust2::XzReader::new_mem_limit(buffered(whole), true, XZ_MEMORY)))
            }
            Compression::None if bzip2 => {
                Self::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(buffered(whole))))
            }
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
            Self::Xz(reader) => reader.read(buffer),
            Self::Bzip2(reader) => reader.read(buffer),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u8]) -> io::Result<String> {
        let mut text = String::new();
        Decoder::new(bytes)?.read_to_string(&mut text).map(|_| text)
    }

    /// `printf wharf | xz`, `| bzip2`.
    const XZ_FILE: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3010004776861726600000000d20e30b462e8c75700011d05b82d80af1fb6f37d010000000004595a";
    const BZIP2_FILE: &str =
        "425a68393141592653592ce2e4d000000201802140108020002186819a0a6371772453850902ce2e4d00";

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    #[test]
    fn archives_in_every_dress() {
        for file in [XZ_FILE, BZIP2_FILE] {
            let file = bytes(file);
            assert_eq!(plain(&file).unwrap(), "wharf");
            assert_eq!(
                plain(&[file.clone(), file.clone()].concat()).unwrap(),
                "wharfwharf",
                "one after another"
            );
            assert!(plain(file.get(..file.len() / 2).unwrap()).is_err(), "cut off");
        }
        assert_eq!(plain(b"wharf").unwrap(), "wharf");
    }
}
