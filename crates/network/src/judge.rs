//! What must hold whatever a container or a name server sends, or netlink answers, for tests by random changes and the
//! fuzz targets.

use crate::netlink;
use crate::resolver;

/// Reads `bytes` as a question, as an answer, and as what comes over TCP.
///
/// # Panics
///
/// When what comes of it is more than there was, or is no answer to it.
pub fn dns(bytes: &[u8]) {
    resolver::judge(bytes);
}

/// Reads `bytes` as each of the answers of the kernel that are read.
///
/// # Panics
///
/// When reading does not end.
pub fn netlink(bytes: &[u8]) {
    netlink::judge(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use testkit::Random;

    #[test]
    fn random_changes() {
        let question = b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\x03web\x07example\x00\x00\x01\x00\x01\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00";
        let reverse = b"\x01\x02\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x011\x010\x010\x0210\x07in-addr\x04arpa\x00\x00\x0c\x00\x01";
        let link = [
            &[48, 0, 0, 0, 16, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0][..],
            &[0, 0, 1, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            &[9, 0, 3, 0, b'e', b't', b'h', b'0', 0, 0, 0, 0, 4, 0, 18, 0],
        ]
        .concat();
        let refusal = [36, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xea, 0xff, 0xff, 0xff];
        let (packets, answers) = ([&question[..], reverse], [&link[..], &refusal]);
        let words = ["\u{0}", "\u{0}\u{0}\u{0}", "\u{3f}", "\u{1}\u{0}", "\u{14}\u{0}\u{0}\u{0}", ".", "é"];
        let mut random = Random::of_environment();
        for _ in 0..20_000 {
            dns(&random.changed(&packets, &words));
            netlink(&random.changed(&answers, &words));
        }
    }
}
