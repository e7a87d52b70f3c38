//! systemd's journal, in its own protocol: fields as `NAME=value` lines, or with a length where the value has lines.
//!
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>

use super::Message;
use crate::Origin;

/// Where the journal listens.
pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

/// Returns the datagram of an entry.
pub(crate) fn encode(message: &Message, origin: &Origin) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.line.len() + 512);
    let short = origin.id.get(..12).unwrap_or(&origin.id);
    let fields = [
        ("CONTAINER_ID", short),
        ("CONTAINER_ID_FULL", &origin.id),
        ("CONTAINER_NAME", &origin.name),
        ("CONTAINER_TAG", &origin.tag),
        ("IMAGE_NAME", &origin.image),
        ("SYSLOG_IDENTIFIER", &origin.tag),
        ("PRIORITY", &message.severity().to_string()),
    ];
    for (name, value) in fields {
        field(&mut out, name, value.as_bytes());
    }
    for (name, value) in origin.attributes.iter().filter(|(name, _)| *name != "tag") {
        field(&mut out, &field_name(name), value.as_bytes());
    }
    if message.partial {
        field(&mut out, "CONTAINER_PARTIAL_MESSAGE", b"true");
    }
    field(&mut out, "SYSLOG_TIMESTAMP", message.time.fixed().as_bytes());
    field(&mut out, "MESSAGE", &message.line);
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&u64::try_from(value.len()).unwrap_or(0).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// Names have capital letters, digits and underscores, and begin with a letter.
fn field_name(name: &str) -> String {
    let plain = |sign: char| if sign.is_ascii_alphanumeric() { sign.to_ascii_uppercase() } else { '_' };
    name.chars().map(plain).collect::<String>().trim_start_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, origin};
    use super::*;

    #[test]
    fn fields_have_names_and_lengths() {
        let datagram = encode(&message("hi", false), &origin());
        let text = String::from_utf8(datagram).unwrap();
        for line in [
            "CONTAINER_ID=0123456789ab\n",
            "CONTAINER_TAG=tag\n",
            "PRIORITY=6\n",
            "COM_EXAMPLE_X=y\n",
            "MESSAGE=hi\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        let mut out = Vec::new();
        field(&mut out, "A", b"x\ny");
        assert_eq!(out, b"A\n\x03\0\0\0\0\0\0\0x\ny\n");
    }
}
