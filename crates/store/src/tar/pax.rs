//! PAX extended headers: `LENGTH KEY=VALUE\n` (POSIX pax(1), *pax Extended Header*).

use super::{Malformed, Time};

/// The records of one extended header that count here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Records {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<i64>,
    pub(crate) gid: Option<i64>,
    pub(crate) modified: Option<Time>,
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) sparse: SparseRecords,
}

/// What the `GNU.sparse` records say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SparseRecords {
    pub(crate) major: Option<u64>,
    pub(crate) minor: Option<u64>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) real_size: Option<u64>,
    pub(crate) blocks: Option<u64>,
    /// Offsets and lengths in turn, from `map` (0.1) or from repeated `offset` and `numbytes` (0.0).
    pub(crate) numbers: Vec<u64>,
}

impl Records {
    /// Parses the data of an extended header. Later records win, empty values mean "as in the header".
    pub(crate) fn parse(mut data: &[u8]) -> Result<Self, Malformed> {
        let mut records = Self::default();
        while !data.is_empty() {
            let (key, value, rest) = split(data).ok_or(Malformed::Pax)?;
            records.take(key, value)?;
            data = rest;
        }
        Ok(records)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), Malformed> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            if name.is_empty() || name.contains(&0) {
                return Err(Malformed::Pax);
            }
            self.xattrs.retain(|(other, _)| other != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        let unsigned = || decimal(value).and_then(|number| u64::try_from(number).ok()).ok_or(Malformed::Pax);
        let text = || if value.contains(&0) { Err(Malformed::Pax) } else { Ok(value.to_vec()) };
        if value.is_empty() && !key.starts_with(b"GNU.sparse") {
            return Ok(());
        }
        match key {
            b"path" => self.path = Some(text()?),
            b"linkpath" => self.link = Some(text()?),
            b"size" => self.size = Some(unsigned()?),
            b"uid" => self.uid = Some(decimal(value).ok_or(Malformed::Pax)?),
            b"gid" => self.gid = Some(decimal(value).ok_or(Malformed::Pax)?),
            b"mtime" => self.modified = Some(time(value).ok_or(Malformed::Pax)?),
            b"GNU.sparse.major" => self.sparse.major = Some(unsigned()?),
            b"GNU.sparse.minor" => self.sparse.minor = Some(unsigned()?),
            b"GNU.sparse.name" => self.sparse.name = Some(text()?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => self.sparse.real_size = Some(unsigned()?),
            b"GNU.sparse.numblocks" => self.sparse.blocks = Some(unsigned()?),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse.numbers.push(unsigned()?),
            b"GNU.sparse.map" => {
                let numbers = value.split(|byte| *byte == b',');
                let number = |text| {
                    decimal(text).and_then(|number| u64::try_from(number).ok()).ok_or(Malformed::Sparse)
                };
                self.sparse.numbers = numbers.map(number).collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// Splits off the first record: key, value, and what follows.
fn split(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(data.get(..space)?)?).ok()?;
    let (record, rest) = (data.get(space + 1..length)?, data.get(length..)?);
    let record = record.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
    (!key.is_empty()).then_some((key, value, rest))
}

/// Reads a decimal number with an optional sign.
pub(crate) fn decimal(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads `SECONDS[.FRACTION]`; digits beyond nanoseconds are cut off.
fn time(text: &[u8]) -> Option<Time> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = if whole == "-" { 0 } else { decimal(whole.as_bytes())? };
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    // -1.25 is 1.25 seconds before 1970: second -2, and three quarters on.
    if text.starts_with('-') && nanoseconds > 0 {
        return Some(Time { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds });
    }
    Some(Time { seconds, nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        let data =
            b"30 mtime=1350244992.023960108\n13 path=\xc3\xa9.x\n7 uid=\n27 SCHILY.xattr.user.a=\n\0b\n";
        let records = Records::parse(data).unwrap();
        assert_eq!(records.modified, Some(Time { seconds: 1_350_244_992, nanoseconds: 23_960_108 }));
        assert_eq!(records.path.as_deref(), Some("é.x".as_bytes()));
        assert_eq!(records.uid, None);
        assert_eq!(records.xattrs, [(b"user.a".to_vec(), b"\n\0b".to_vec())]);
        for bad in [
            &b"5 a=\n9"[..],
            b"6 a=b\n\n",
            b"7 a=b\n",
            b"99 a=b\n",
            b"a=b\n",
            b"4 =\n",
            b"x a=b\n",
            b"-1 a=b\n",
            b"0 a=b\n",
            b"12 path=a\0b\n",
            b"10 size=-1\n",
            b"99999999999999999999 a=b\n",
        ] {
            assert_eq!(Records::parse(bad), Err(Malformed::Pax), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn times() {
        let check = |text: &str, expect: Option<(i64, u32)>| {
            let expect = expect.map(|(seconds, nanoseconds)| Time { seconds, nanoseconds });
            assert_eq!(time(text.as_bytes()), expect, "{text}");
        };
        check("0", Some((0, 0)));
        check("1.5", Some((1, 500_000_000)));
        check("1.0000000009", Some((1, 0)));
        check("-1.25", Some((-2, 750_000_000)));
        check("-0.25", Some((-1, 750_000_000)));
        check("-1", Some((-1, 0)));
        check("", None);
        check("1.x", None);
        check("1e9", None);
    }
}
