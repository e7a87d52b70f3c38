//! Writing and reading netlink messages and attributes.
//!
//! A message is a 16-byte header, a fixed header of its type, and attributes (4-byte header, value, padding to 4).

/// `nlmsg_flags`: this is a request.
pub(crate) const REQUEST: u16 = 1;
/// `nlmsg_flags`: answer with an acknowledgement.
pub(crate) const ACK: u16 = 4;
/// `nlmsg_flags` of a new object: it must not exist.
pub(crate) const EXCLUSIVE: u16 = 0x200;
/// An object that is there becomes this one.
pub(crate) const REPLACE: u16 = 0x100;
/// `nlmsg_flags` of a new object: make it if it does not exist.
pub(crate) const CREATE: u16 = 0x400;
/// `nlmsg_flags` of a new `nf_tables` rule: behind the others.
pub(crate) const APPEND: u16 = 0x800;
/// `nlmsg_flags` of a GET: everything that matches (`NLM_F_ROOT` | `NLM_F_MATCH`).
pub(crate) const DUMP: u16 = 0x300;

/// `nla_type`: the value is a list of attributes.
const NESTED: u16 = 0x8000;
/// The length of `struct nlmsghdr`.
const HEADER: usize = 16;
const ALIGN: usize = 4;

/// Messages to be sent together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Batch {
    bytes: Vec<u8>,
    /// Where each message starts.
    starts: Vec<usize>,
}

impl Batch {
    /// Returns a batch without messages.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Returns the number of messages.
    pub(crate) fn len(&self) -> usize {
        self.starts.len()
    }

    /// Adds a message with its type's own header; `fill` writes the attributes.
    pub(crate) fn message(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        fill(&mut Writer { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        patch(&mut self.bytes, start, &length.to_ne_bytes());
    }

    /// Asks for an acknowledgement of the message added last.
    pub(crate) fn acknowledge_last(&mut self) {
        if let Some(flags) =
            self.starts.last().and_then(|start| self.bytes.get_mut(start + 6..)?.first_chunk_mut())
        {
            *flags = (u16::from_ne_bytes(*flags) | ACK).to_ne_bytes();
        }
    }

    /// Numbers the messages from `sequence` and returns the bytes to send.
    pub(crate) fn finish(&mut self, sequence: u32) -> &[u8] {
        let mut next = sequence;
        for start in &self.starts {
            patch(&mut self.bytes, start + 8, &next.to_ne_bytes());
            next = next.wrapping_add(1);
        }
        &self.bytes
    }
}

/// Writes the attributes of one message or of one nest.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Writer<'_> {
    /// Adds an attribute with these bytes.
    pub(crate) fn bytes(&mut self, kind: u16, value: &[u8]) {
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(self.bytes);
    }

    /// Adds a text with its terminating NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes);
    }

    /// Adds a number in the machine's byte order (rtnetlink).
    pub(crate) fn native(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// Adds a number in network byte order (`nf_tables`).
    pub(crate) fn big(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// Adds an attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Writer<'_>)) {
        self.nest_with(kind, &[], fill);
    }

    /// Adds an attribute made of a fixed header and attributes (the peer of a veth).
    pub(crate) fn nest_with(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Writer<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        self.bytes.extend_from_slice(header);
        pad(self.bytes);
        fill(&mut Writer { bytes: self.bytes });
        let length = u16::try_from(self.bytes.len() - start).unwrap_or(u16::MAX);
        patch(self.bytes, start, &length.to_ne_bytes());
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
}

fn patch(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}

/// One message from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// Who asked for it; 0 is the kernel.
    pub(crate) port_id: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages of a datagram; ends at the first one that is cut off.
#[derive(Debug)]
pub(crate) struct Answers<'a>(&'a [u8]);

impl<'a> Answers<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Self {
        Self(datagram)
    }
}

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let length = usize::try_from(u32_at(self.0, 0)?).ok()?;
        let answer = Answer {
            kind: u16_at(self.0, 4)?,
            flags: u16_at(self.0, 6)?,
            sequence: u32_at(self.0, 8)?,
            port_id: u32_at(self.0, 12)?,
            payload: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(answer)
    }
}

/// The attributes in a run of bytes, with the nesting flag taken off; ends at the first one that is cut off.
#[derive(Debug)]
pub(crate) struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    /// Reads attributes behind a fixed header of `skip` bytes.
    pub(crate) fn behind(payload: &'a [u8], skip: usize) -> Self {
        Self(payload.get(skip.next_multiple_of(ALIGN)..).unwrap_or_default())
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<(u16, &'a [u8])> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & 0x3fff;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind, value))
    }
}

/// Returns the native 16-bit number at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Returns the native 32-bit number at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Returns the text before the first NUL.
pub(crate) fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(bytes.get(..end).unwrap_or_default()).into_owned()
}
