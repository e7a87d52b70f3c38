//! The user's terminal: raw mode, its size, and the keys that detach.

use crate::error::{Error, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal, Stdin, stdin, stdout};

/// Docker's `ctrl-p,ctrl-q`.
const DEFAULT_KEYS: [u8; 2] = [16, 17];

/// Puts standard input into raw mode until it is dropped.
#[derive(Debug)]
pub(crate) struct RawMode {
    input: Stdin,
    before: Termios,
}

impl RawMode {
    /// Enters raw mode; `None` if standard input is no terminal or `NORAW` is set.
    pub(crate) fn enter() -> Option<Self> {
        let input = stdin();
        if std::env::var_os("NORAW").is_some() || !input.is_terminal() {
            return None;
        }
        let before = tcgetattr(&input).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&input, OptionalActions::Now, &raw).ok()?;
        Some(Self { input, before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may have been hung up: nothing is left to restore.
        let _restored = tcsetattr(&self.input, OptionalActions::Now, &self.before);
    }
}

/// Returns rows and columns of the terminal at standard output.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(stdout()).ok()?;
    (size.ws_row > 0 || size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

/// Refuses a container's terminal without one here.
pub(crate) fn check(attach_stdin: bool, tty: bool) -> Result<()> {
    if attach_stdin && tty && !stdin().is_terminal() {
        return Err(Error::message("the input device is not a TTY"));
    }
    Ok(())
}

/// Parses detach keys such as `ctrl-p,ctrl-q` or `a,b`; the empty text means Docker's.
pub(crate) fn detach_keys(text: &str) -> Result<Vec<u8>> {
    if text.is_empty() {
        return Ok(DEFAULT_KEYS.to_vec());
    }
    let key = |name: &str| match name.as_bytes() {
        [key] => Some(*key),
        [b'c', b't', b'r', b'l', b'-', key] => match key {
            b'a'..=b'z' => Some(key - b'a' + 1),
            b'A'..=b'Z' => Some(key - b'A' + 1),
            b'@' => Some(0),
            b'[' => Some(27),
            b'\\' => Some(28),
            b']' => Some(29),
            b'^' => Some(30),
            b'_' => Some(31),
            _ => None,
        },
        b"DEL" => Some(127),
        _ => None,
    };
    text.split(',')
        .map(|name| {
            key(name).ok_or_else(|| {
                Error::message(format!("invalid detach keys ({text}): Unknown character: '{name}'"))
            })
        })
        .collect()
}

/// Looks for the detach keys in what is typed.
#[derive(Debug)]
pub(crate) struct Escape {
    keys: Vec<u8>,
    seen: usize,
}

/// What to send on, and whether the keys were complete after it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) detach: bool,
}

impl Escape {
    pub(crate) fn new(keys: Vec<u8>) -> Self {
        Self { keys, seen: 0 }
    }

    /// Takes typed bytes. A beginning of the keys is held back until it is clear whether the rest follows.
    pub(crate) fn push(&mut self, typed: &[u8]) -> Typed {
        let mut bytes = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.seen) == Some(byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return Typed { bytes, detach: true };
                }
                continue;
            }
            bytes.extend(self.keys.iter().take(self.seen));
            self.seen = 0;
            if self.keys.first() == Some(byte) && self.keys.len() > 1 {
                self.seen = 1;
            } else {
                bytes.push(*byte);
            }
        }
        Typed { bytes, detach: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads() {
        let mut escape = Escape::new(detach_keys("").unwrap());
        assert_eq!(escape.push(b"ab\x10"), Typed { bytes: b"ab".to_vec(), detach: false });
        assert_eq!(escape.push(b"c"), Typed { bytes: b"\x10c".to_vec(), detach: false });
        assert_eq!(escape.push(b"\x10\x10"), Typed { bytes: b"\x10".to_vec(), detach: false });
        assert_eq!(escape.push(b"\x11x"), Typed { bytes: Vec::new(), detach: true });
    }

    #[test]
    fn keys_are_named() {
        assert_eq!(detach_keys("ctrl-a,x,ctrl-[").unwrap(), [1, b'x', 27]);
        assert!(detach_keys("ctrl-!").is_err());
    }
}
