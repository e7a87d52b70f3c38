//! D-Bus messages: the little of the wire format that a service manager is spoken to in.
//!
//! D-Bus Specification, *Message Format* and *Marshaling*. Numbers are written with the least byte first; both orders are read.

/// A value in a message, of the types that are needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// `b`
    Bool(bool),
    /// `u`
    Number(u32),
    /// `t`
    Long(u64),
    /// `s`
    Text(String),
    /// `ay`
    Bytes(Vec<u8>),
    /// `au`
    Numbers(Vec<u32>),
    /// `i`
    Signed(i32),
    /// `x`
    SignedLong(i64),
    /// `as`
    Texts(Vec<String>),
    /// `a(ss)`
    Pairs(Vec<(String, String)>),
}

impl Value {
    /// Returns the value's signature.
    pub fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::Number(_) => "u",
            Self::Long(_) => "t",
            Self::Text(_) => "s",
            Self::Bytes(_) => "ay",
            Self::Numbers(_) => "au",
            Self::Signed(_) => "i",
            Self::SignedLong(_) => "x",
            Self::Texts(_) => "as",
            Self::Pairs(_) => "a(ss)",
        }
    }
}

/// What a call is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
}

/// Lays out values one after the other.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    pub(super) fn number(&mut self, number: u32) {
        self.align(4);
        self.bytes.extend(number.to_le_bytes());
    }

    fn long(&mut self, number: u64) {
        self.align(8);
        self.bytes.extend(number.to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(u32::try_from(text.len()).unwrap_or(u32::MAX));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    /// Writes an array whose elements begin at multiples of `align`.
    fn array(&mut self, align: usize, fill: impl FnOnce(&mut Self)) {
        self.number(0);
        let length_at = self.bytes.len() - 4;
        self.align(align);
        let begin = self.bytes.len();
        fill(self);
        let length = u32::try_from(self.bytes.len() - begin).unwrap_or(u32::MAX);
        if let Some(place) = self.bytes.get_mut(length_at..length_at + 4) {
            place.copy_from_slice(&length.to_le_bytes());
        }
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => self.number(u32::from(*value)),
            Value::Number(number) => self.number(*number),
            Value::Long(number) => self.long(*number),
            Value::Text(text) => self.text(text),
            Value::Signed(number) => self.number(number.cast_unsigned()),
            Value::SignedLong(number) => self.long(number.cast_unsigned()),
            Value::Texts(texts) => self.array(4, |writer| texts.iter().for_each(|text| writer.text(text))),
            Value::Bytes(bytes) => self.array(1, |writer| writer.bytes.extend(bytes)),
            Value::Numbers(numbers) => {
                self.array(4, |writer| numbers.iter().for_each(|number| writer.number(*number)));
            }
            Value::Pairs(pairs) => self.array(8, |writer| {
                for (one, other) in pairs {
                    writer.align(8);
                    writer.text(one);
                    writer.text(other);
                }
            }),
        }
    }

    /// `a(sv)`
    pub(super) fn properties(&mut self, properties: &[(&str, Value)]) {
        self.array(8, |writer| {
            for (name, value) in properties {
                writer.align(8);
                writer.text(name);
                writer.signature(value.signature());
                writer.value(value);
            }
        });
    }

    /// `a(sa(sv))`, with nothing in it: further units.
    pub(super) fn no_units(&mut self) {
        self.array(8, |_none| {});
    }
}

/// Lays out a whole call with the body `body` of the signature `signature`.
pub(super) fn call(serial: u32, call: &Call<'_>, signature: &str, body: &Writer) -> Vec<u8> {
    let mut writer = Writer { bytes: vec![b'l', 1, 0, 1] };
    writer.number(u32::try_from(body.bytes.len()).unwrap_or(u32::MAX));
    writer.number(serial);
    writer.array(8, |writer| {
        let fields = [
            (1, "o", call.path),
            (2, "s", call.interface),
            (3, "s", call.member),
            (6, "s", call.destination),
        ];
        for (code, kind, text) in fields {
            writer.align(8);
            writer.bytes.push(code);
            writer.signature(kind);
            writer.text(text);
        }
        if !signature.is_empty() {
            writer.align(8);
            writer.bytes.push(8);
            writer.signature("g");
            writer.signature(signature);
        }
    });
    writer.align(8);
    writer.bytes.extend(&body.bytes);
    writer.bytes
}

/// Reads values one after the other; `None` where the message ends early or has something else.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    big: bool,
}

impl<'a> Reader<'a> {
    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        self.align(4);
        let bytes = self.take(4)?.try_into().ok()?;
        Some(if self.big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    pub(super) fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok()?;
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0).then(|| text.to_owned())
    }

    fn signature(&mut self) -> Option<String> {
        let length = usize::from(self.byte()?);
        let text = std::str::from_utf8(self.take(length)?).ok()?;
        (self.byte()? == 0).then(|| text.to_owned())
    }

    /// A text in a variant.
    pub(super) fn variant_text(&mut self) -> Option<String> {
        (self.signature()? == "s").then(|| self.text())?
    }
}

/// How many bytes the fixed part of a message has, from which the length of the rest is known.
pub(super) const FIXED: usize = 16;
/// The longest message that is read. What a service manager answers here has a few hundred bytes.
const LONGEST: usize = 1 << 20;

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Return,
    Error,
    Signal,
    /// A call, or something yet to be defined.
    Other,
}

/// A message that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    /// Of the call that it answers.
    pub(super) reply_to: u32,
    /// Of an error: its name. Of a signal: its member.
    pub(super) name: String,
    pub(super) body: Vec<u8>,
    big: bool,
}

/// Tells from its fixed part how long a message is; `None` if it is none, or too long.
pub(super) fn length(fixed: &[u8; FIXED]) -> Option<usize> {
    let big = order(fixed)?;
    let mut reader = Reader { bytes: fixed, at: 4, big };
    let body = usize::try_from(reader.number()?).ok()?;
    reader.at = 12;
    let fields = usize::try_from(reader.number()?).ok()?;
    let whole = FIXED.checked_add(fields)?.checked_next_multiple_of(8)?.checked_add(body)?;
    (whole <= LONGEST).then_some(whole)
}

fn order(bytes: &[u8]) -> Option<bool> {
    match bytes.first()? {
        b'l' => Some(false),
        b'B' => Some(true),
        _ => None,
    }
}

impl Message {
    /// Reads a whole message; `None` if it is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let big = order(bytes)?;
        let mut reader = Reader { bytes, at: 1, big };
        let kind = match reader.byte()? {
            2 => Kind::Return,
            3 => Kind::Error,
            4 => Kind::Signal,
            _ => Kind::Other,
        };
        reader.at = 12;
        let fields = usize::try_from(reader.number()?).ok()?;
        let end = reader.at.checked_add(fields)?;
        let (mut reply_to, mut error, mut member) = (0, None, None);
        while reader.at < end {
            reader.align(8);
            let code = reader.byte()?;
            let signature = reader.signature()?;
            let mut text = None;
            match signature.as_str() {
                "u" => {
                    let number = reader.number()?;
                    if code == 5 {
                        reply_to = number;
                    }
                }
                "s" | "o" => text = Some(reader.text()?),
                "g" => drop(reader.signature()?),
                _ => return None,
            }
            match code {
                3 => member = text,
                4 => error = text,
                _ => {}
            }
        }
        let body = bytes.get(end.checked_next_multiple_of(8)?..)?.to_vec();
        Some(Self { kind, reply_to, name: error.or(member).unwrap_or_default(), body, big })
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0, big: self.big }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Read;

    /// Reads a call, as a manager does: its serial number, member, and body as text.
    pub(crate) fn receive(stream: &mut impl Read) -> Option<(u32, String, String)> {
        let mut bytes = vec![0; FIXED];
        stream.read_exact(&mut bytes).ok()?;
        let whole = length(bytes.as_slice().try_into().unwrap()).unwrap();
        bytes.resize(whole, 0);
        stream.read_exact(&mut bytes[FIXED..]).unwrap();
        let serial = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
        let message = Message::parse(&bytes).unwrap();
        let text = body(&message).expect("a body as the manager's interface has it");
        Some((serial, message.name, text))
    }

    fn body(message: &Message) -> Option<String> {
        let mut reader = message.reader();
        let mut shown = Vec::new();
        match message.name.as_str() {
            "Get" | "StopUnit" | "StartTransientUnit" => shown.extend([reader.text()?, reader.text()?]),
            "ResetFailedUnit" => shown.push(reader.text()?),
            "SetUnitProperties" => shown.extend([reader.text()?, format!("{}", reader.number()?)]),
            "AttachProcessesToUnit" => {
                shown.extend([reader.text()?, reader.text()?, value(&mut reader, "au")?]);
            }
            _ => return None,
        }
        if matches!(message.name.as_str(), "StartTransientUnit" | "SetUnitProperties") {
            let end = usize::try_from(reader.number()?).ok()?;
            reader.align(8);
            let end = reader.at + end;
            while reader.at < end {
                reader.align(8);
                let name = reader.text()?;
                let signature = reader.signature()?;
                shown.push(format!("{name}={}", value(&mut reader, &signature)?));
            }
        }
        if message.name == "StartTransientUnit" {
            assert_eq!(reader.number(), Some(0), "further units");
            reader.align(8);
        }
        (reader.at == message.body.len()).then(|| shown.join(" "))
    }

    fn value(reader: &mut Reader<'_>, signature: &str) -> Option<String> {
        if let Some(element) = signature.strip_prefix('a') {
            let length = usize::try_from(reader.number()?).ok()?;
            reader.align(if element.starts_with('(') { 8 } else { 1 });
            let end = reader.at + length;
            let mut shown = Vec::new();
            while reader.at < end {
                shown.push(match element {
                    "y" => reader.byte()?.to_string(),
                    "u" => reader.number()?.to_string(),
                    "s" => reader.text()?,
                    _ => {
                        reader.align(8);
                        format!("{}:{}", reader.text()?, reader.text()?)
                    }
                });
            }
            return Some(format!("[{}]", shown.join(",")));
        }
        Some(match signature {
            "s" => reader.text()?,
            "t" | "x" => {
                reader.align(8);
                u64::from_le_bytes(reader.take(8)?.try_into().ok()?).to_string()
            }
            _ => reader.number()?.to_string(),
        })
    }

    fn from_manager(kind: u8, fields: &[(u8, &str, &str)], reply_to: u32, body: &[u8]) -> Vec<u8> {
        let mut writer = Writer { bytes: vec![b'l', kind, 1, 1] };
        writer.number(u32::try_from(body.len()).unwrap());
        writer.number(9);
        writer.array(8, |writer| {
            for (code, kind, text) in fields {
                writer.align(8);
                writer.bytes.push(*code);
                writer.signature(kind);
                if *kind == "g" { writer.signature(text) } else { writer.text(text) }
            }
            if reply_to != 0 {
                writer.align(8);
                writer.bytes.push(5);
                writer.signature("u");
                writer.number(reply_to);
            }
        });
        writer.align(8);
        writer.bytes.extend(body);
        writer.bytes
    }

    /// An answer: a text or the path of a job, a variant of a text, nothing; or the name of an error.
    pub(crate) fn answer(serial: u32, outcome: Result<&str, &str>) -> Vec<u8> {
        let mut body = Writer::default();
        match outcome {
            Err(name) => {
                body.text("in its words");
                from_manager(3, &[(4, "s", name), (8, "g", "s")], serial, &body.bytes)
            }
            Ok("") => from_manager(2, &[], serial, &[]),
            Ok(job) if job.starts_with("/job") => {
                body.text(job);
                from_manager(2, &[(8, "g", "o")], serial, &body.bytes)
            }
            Ok(text) => {
                body.signature("s");
                body.text(text);
                from_manager(2, &[(8, "g", "v")], serial, &body.bytes)
            }
        }
    }

    pub(crate) fn job_removed(job: &str, result: &str) -> Vec<u8> {
        let mut body = Writer::default();
        body.number(1);
        body.text(job);
        body.text("u");
        body.text(result);
        from_manager(4, &[(3, "s", "JobRemoved"), (8, "g", "uoss")], 0, &body.bytes)
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_has_it() {
        let mut body = Writer::default();
        body.text("u.scope");
        body.properties(&[("PIDs", Value::Numbers(vec![7])), ("Delegate", Value::Bool(true))]);
        body.no_units();
        let about = Call { destination: "d", path: "/p", interface: "i", member: "M" };
        let bytes = call(1, &about, "sa(sv)a(sa(sv))", &body);
        let fixed: [u8; FIXED] = bytes[..FIXED].try_into().unwrap();
        assert_eq!(length(&fixed), Some(bytes.len()));
        let read = Message::parse(&bytes).unwrap();
        assert_eq!((read.kind, read.name.as_str()), (Kind::Other, "M"));
        assert_eq!(read.body, body.bytes);
        let expect: &[u8] =
            b"\x07\0\0\0u.scope\0\x2c\0\0\0\x04\0\0\0PIDs\0\x02au\0\0\0\0\x04\0\0\0\x07\0\0\0\
            \x08\0\0\0Delegate\0\x01b\0\x01\0\0\0\0\0\0\0";
        assert_eq!(read.body, expect);
        let mut reader = read.reader();
        assert_eq!(reader.text().as_deref(), Some("u.scope"));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let about = Call { destination: "d", path: "/p", interface: "i", member: "M" };
        let mut body = Writer::default();
        body.text("x");
        let whole = call(1, &about, "s", &body);
        for cut in 0..whole.len() {
            // Never a panic; a body that is cut is the reader's to notice.
            if let Some(message) = Message::parse(&whole[..cut]) {
                assert_eq!(message.reader().text(), None);
            }
        }
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] = 0xff;
            Message::parse(&changed).map(|message| message.reader().text());
            let fixed: [u8; FIXED] = changed[..FIXED].try_into().unwrap();
            assert!(length(&fixed).is_none_or(|length| length <= LONGEST));
        }
    }
}
