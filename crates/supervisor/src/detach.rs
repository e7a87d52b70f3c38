//! Recognises the detach keys in what a client types (`ctrl-p,ctrl-q`; moby, `term.escapeProxy`).

/// Passes typed bytes on and holds back those that may begin the sequence.
#[derive(Debug, Default)]
pub(crate) struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

impl Keys {
    /// Looks for `sequence`; an empty one is never found.
    pub(crate) fn new(sequence: Vec<u8>) -> Self {
        Self { sequence, matched: 0 }
    }

    /// Appends to `out` what is to be passed on of `typed`; says whether the sequence is complete.
    ///
    /// What follows the sequence is dropped: it was typed to nobody.
    pub(crate) fn pass(&mut self, typed: &[u8], out: &mut Vec<u8>) -> bool {
        for byte in typed {
            if self.sequence.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    self.matched = 0;
                    return true;
                }
                continue;
            }
            out.extend_from_slice(self.sequence.get(..self.matched).unwrap_or_default());
            self.matched = 0;
            if self.sequence.first() == Some(byte) && self.sequence.len() > 1 {
                self.matched = 1;
            } else {
                out.push(*byte);
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_sequence_and_passes_the_rest() {
        let check = |sequence: &[u8], parts: &[&[u8]], passed: &[u8], found: bool| {
            let mut keys = Keys::new(sequence.to_vec());
            let mut out = Vec::new();
            let any = parts.iter().any(|part| keys.pass(part, &mut out));
            assert_eq!((out.as_slice(), any), (passed, found), "{parts:?}");
        };
        check(b"\x10\x11", &[b"ab\x10\x11c"], b"ab", true);
        check(b"\x10\x11", &[b"a\x10", b"\x11"], b"a", true);
        check(b"\x10\x11", &[b"a\x10", b"b"], b"a\x10b", false);
        check(b"\x10\x11", &[b"\x10\x10\x11"], b"\x10", true);
        check(b"\x10\x11", &[b"x\x10"], b"x", false);
        check(b"q", &[b"abq"], b"ab", true);
        check(b"", &[b"abc"], b"abc", false);
    }
}
