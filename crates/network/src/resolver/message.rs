//! DNS messages as far as the embedded resolver reads and writes them (RFC 1035, 4; RFC 6891).
//!
//! What comes in was written by a container or by a server outside: every read is checked, compression pointers are not
//! followed (a question has none), and what is not understood is forwarded as it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Record types that are answered here.
pub(super) const A: u16 = 1;
pub(super) const PTR: u16 = 12;
pub(super) const MX: u16 = 15;
pub(super) const AAAA: u16 = 28;
pub(super) const OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// Response codes.
pub(super) const NO_ERROR: u8 = 0;
pub(super) const FORMAT_ERROR: u8 = 1;
pub(super) const SERVER_FAILURE: u8 = 2;
pub(super) const REFUSED: u8 = 5;

const HEADER: usize = 12;
/// The largest message over UDP for a client that does not say more (RFC 1035, 4.2.1).
const PLAIN_LIMIT: usize = 512;
/// Docker's time to live, in seconds.
const TIME_TO_LIVE: u32 = 600;

const FLAG_RESPONSE: u8 = 0x80;
const FLAG_TRUNCATED: u8 = 0x02;
const FLAG_RECURSION_DESIRED: u8 = 0x01;
const FLAG_RECURSION_AVAILABLE: u8 = 0x80;

/// A question as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) id: [u8; 2],
    /// The name in lower case, without the last dot; `None` if it is not text.
    pub(super) name: Option<String>,
    pub(super) kind: u16,
    class: u16,
    flags: u8,
    /// The question as it stands in the message.
    question: Vec<u8>,
    /// The largest answer the client takes over UDP.
    limit: usize,
}

/// What cannot be answered by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Not a question at all: no answer.
    Ignore,
    /// A question that is malformed: it has at least this id.
    Malformed([u8; 2]),
}

/// Reads a question.
pub(super) fn parse(message: &[u8]) -> Result<Query, Unreadable> {
    let header = message.first_chunk::<HEADER>().ok_or(Unreadable::Ignore)?;
    let [i, d, flags, _, _, questions, ..] = *header;
    let (id, count) = ([i, d], u16::from_be_bytes([message.get(4).copied().unwrap_or(0), questions]));
    if flags & FLAG_RESPONSE != 0 {
        return Err(Unreadable::Ignore);
    }
    let malformed = Unreadable::Malformed(id);
    if count != 1 {
        return Err(malformed);
    }
    let (name, end) = read_name(message, HEADER).ok_or(malformed)?;
    let kind = u16_at(message, end).ok_or(malformed)?;
    let class = u16_at(message, end + 2).ok_or(malformed)?;
    let question = message.get(HEADER..end + 4).ok_or(malformed)?.to_vec();
    let limit = extended_limit(message, end + 4).unwrap_or(PLAIN_LIMIT).max(PLAIN_LIMIT);
    Ok(Query { id, name, kind, class, flags, question, limit })
}

impl Query {
    /// Returns whether it is an ordinary question about the Internet.
    pub(super) fn is_plain(&self) -> bool {
        const OPCODE: u8 = 0x78;
        self.class == CLASS_IN && self.flags & OPCODE == 0
    }

    /// Returns an answer without records.
    pub(super) fn empty(&self, code: u8) -> Vec<u8> {
        self.answer(code, 0)
    }

    /// Returns an answer with those of `addresses` that the type of the question asks for.
    pub(super) fn addresses(&self, addresses: &[IpAddr]) -> Vec<u8> {
        let records: Vec<Vec<u8>> = addresses
            .iter()
            .filter_map(|address| match (address, self.kind) {
                (IpAddr::V4(v4), A) => Some(v4.octets().to_vec()),
                (IpAddr::V6(v6), AAAA) => Some(v6.octets().to_vec()),
                _ => None,
            })
            .collect();
        self.records(&records)
    }

    /// Returns an answer with the name that an address belongs to.
    pub(super) fn pointer(&self, name: &str) -> Vec<u8> {
        self.records(&[encode_name(name)])
    }

    fn records(&self, records: &[Vec<u8>]) -> Vec<u8> {
        let mut message = self.answer(NO_ERROR, u16::try_from(records.len()).unwrap_or(u16::MAX));
        for record in records {
            // The name is that of the question, which stands behind the header.
            message.extend([0xc0, 12]);
            message.extend(self.kind.to_be_bytes());
            message.extend(CLASS_IN.to_be_bytes());
            message.extend(TIME_TO_LIVE.to_be_bytes());
            message.extend(u16::try_from(record.len()).unwrap_or(0).to_be_bytes());
            message.extend(record);
        }
        message
    }

    fn answer(&self, code: u8, answers: u16) -> Vec<u8> {
        let flags = FLAG_RESPONSE | self.flags & FLAG_RECURSION_DESIRED;
        let mut message = self.id.to_vec();
        message.extend([flags, FLAG_RECURSION_AVAILABLE | code, 0, 1]);
        message.extend(answers.to_be_bytes());
        message.extend([0; 4]);
        message.extend(&self.question);
        message
    }

    /// Cuts an answer that the client cannot take over UDP down to the question, so that it asks again over TCP.
    pub(super) fn fit_udp(&self, answer: Vec<u8>) -> Vec<u8> {
        if answer.len() <= self.limit {
            return answer;
        }
        let mut short = self.answer(code(&answer).unwrap_or(NO_ERROR), 0);
        if let Some(flags) = short.get_mut(2) {
            *flags |= FLAG_TRUNCATED;
        }
        short
    }

    /// Returns whether `message` answers this question, asked with `id`.
    pub(super) fn is_answered_by(&self, id: [u8; 2], message: &[u8]) -> bool {
        let question = message.get(HEADER..HEADER + self.question.len());
        message.first_chunk() == Some(&id)
            && message.get(2).is_some_and(|flags| flags & FLAG_RESPONSE != 0)
            && question.is_some_and(|question| question.eq_ignore_ascii_case(&self.question))
    }
}

/// Returns the answer to a message of which only the id could be read.
pub(super) fn malformed(id: [u8; 2]) -> Vec<u8> {
    let mut message = id.to_vec();
    message.extend([FLAG_RESPONSE, FLAG_RECURSION_AVAILABLE | FORMAT_ERROR]);
    message.extend([0; 8]);
    message
}

/// Returns the response code of an answer.
pub(super) fn code(answer: &[u8]) -> Option<u8> {
    Some(answer.get(3)? & 0x0f)
}

/// Writes another id over a message's.
pub(super) fn set_id(message: &mut [u8], id: [u8; 2]) {
    if let Some(place) = message.first_chunk_mut() {
        *place = id;
    }
}

/// Returns the address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
pub(super) fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(rest) = name.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let mut parts = rest.rsplit('.');
        for octet in &mut octets {
            *octet = parts.next()?.parse().ok()?;
        }
        return parts.next().is_none().then(|| Ipv4Addr::from(octets).into());
    }
    let rest = name.strip_suffix(".ip6.arpa")?;
    let mut number: u128 = 0;
    let mut count = 0;
    for part in rest.rsplit('.') {
        let [digit] = part.as_bytes() else { return None };
        number = number << 4 | u128::from(char::from(*digit).to_digit(16)?);
        count += 1;
    }
    (count == 32).then(|| Ipv6Addr::from_bits(number).into())
}

/// Reads the name at `at`; returns it and where it ends.
fn read_name(message: &[u8], mut at: usize) -> Option<(Option<String>, usize)> {
    const LONGEST: usize = 255;
    let mut name = Some(String::new());
    let start = at;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((name, at));
        }
        if length > 63 || at + length - start > LONGEST {
            return None;
        }
        let label = message.get(at..at + length)?;
        at += length;
        name = name.and_then(|mut name| {
            let label = std::str::from_utf8(label).ok().filter(|label| !label.contains('.'))?;
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(&label.to_ascii_lowercase());
            Some(name)
        });
    }
}

fn encode_name(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        // A label that is too long cannot be a host's name.
        let label = label.as_bytes().get(..63).unwrap_or(label.as_bytes());
        bytes.push(u8::try_from(label.len()).unwrap_or(0));
        bytes.extend(label);
    }
    bytes.push(0);
    bytes
}

/// Returns the size that an OPT record right behind the question names.
fn extended_limit(message: &[u8], at: usize) -> Option<usize> {
    let additional = u16_at(message, 10)?;
    let (root, kind) = (*message.get(at)?, u16_at(message, at + 1)?);
    (additional > 0 && root == 0 && kind == OPT).then(|| u16_at(message, at + 3).map(usize::from)).flatten()
}

/// Returns the number at `at`.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Writes a question as a client does.
#[cfg(test)]
pub(super) fn question(id: [u8; 2], name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_vec();
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(encode_name(name));
    message.extend(kind.to_be_bytes());
    message.extend([0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_and_answered() {
        let query = parse(&question([7, 8], "Web.Example.", A)).unwrap();
        assert_eq!((query.id, query.name.as_deref(), query.kind), ([7, 8], Some("web.example"), A));
        let answer = query.addresses(&["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()]);
        let start = [7, 8, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, 3, b'W', b'e', b'b'];
        assert_eq!(&answer[..16], &start);
        let end = [0xc0, 12, 0, 1, 0, 1, 0, 0, 2, 88, 0, 4, 10, 0, 0, 1];
        assert_eq!(&answer[answer.len() - 16..], &end);
        assert!(query.is_answered_by([7, 8], &answer));
        assert!(!query.is_answered_by([7, 9], &answer));
        assert_eq!(code(&query.empty(SERVER_FAILURE)), Some(SERVER_FAILURE));
    }

    #[test]
    fn long_answers_ask_for_tcp() {
        let many: Vec<IpAddr> = (0..100).map(|host| IpAddr::from([10, 0, 0, host])).collect();
        let mut message = question([1, 2], "web", A);
        let query = parse(&message).unwrap();
        let short = query.fit_udp(query.addresses(&many));
        assert_eq!((short.len(), short[2] & FLAG_TRUNCATED), (message.len(), FLAG_TRUNCATED));
        message[11] = 1;
        message.extend([0, 0, 41, 0x10, 0, 0, 0, 0, 0, 0, 0]);
        let query = parse(&message).unwrap();
        assert_eq!(query.fit_udp(query.addresses(&many)), query.addresses(&many));
    }

    #[test]
    fn reverse_names() {
        let check = |name: &str, expect: Option<&str>| {
            assert_eq!(reverse_address(name), expect.map(|text| text.parse().unwrap()), "{name}");
        };
        check("2.0.18.172.in-addr.arpa", Some("172.18.0.2"));
        check("0.18.172.in-addr.arpa", None);
        check("1.2.0.18.172.in-addr.arpa", None);
        check("300.0.18.172.in-addr.arpa", None);
        let six = format!("2.{}d.f.ip6.arpa", "0.".repeat(29));
        check(&six, Some("fd00::2"));
        check("d.f.ip6.arpa", None);
    }

    #[test]
    fn foreign_bytes_never_panic() {
        let good = question([1, 2], "web.example", A);
        for end in 0..good.len() {
            assert!(parse(&good[..end]).is_err());
        }
        let check = |change: &dyn Fn(&mut Vec<u8>), expect| {
            let mut message = good.clone();
            change(&mut message);
            assert_eq!(parse(&message).err(), expect);
        };
        check(&|m| m[2] |= 0x80, Some(Unreadable::Ignore));
        check(&|m| m[5] = 2, Some(Unreadable::Malformed([1, 2])));
        check(&|m| m[12] = 0xc0, Some(Unreadable::Malformed([1, 2])));
        check(&|m| m[12] = 63, Some(Unreadable::Malformed([1, 2])));
        assert_eq!(parse(&question([1, 2], &"a.".repeat(200), A)).err(), Some(Unreadable::Malformed([1, 2])));
        let mut odd = good.clone();
        odd[13] = 0xff;
        assert_eq!(parse(&odd).unwrap().name, None);
        // Every byte changed to every value, with a few lengths.
        for at in 0..good.len() {
            for value in 0..=255 {
                let mut message = good.clone();
                message[at] = value;
                if let Ok(query) = parse(&message) {
                    query.fit_udp(query.addresses(&[]));
                    query.is_answered_by([1, 2], &message);
                }
            }
        }
    }
}
