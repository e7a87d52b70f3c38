//! The public key in an X.509 certificate, and the key itself (RFC 5280, 4.1): as much DER as that takes. Pure.
//!
//! Nothing here is trusted: what the bytes say is only used to check signatures with.

const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const VERSION: u8 = 0xa0;

/// A public key as certificates hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey {
    /// The whole `SubjectPublicKeyInfo`.
    pub(crate) info: Vec<u8>,
    /// The key in it: an `RSAPublicKey`, or a point on a curve.
    pub(crate) key: Vec<u8>,
}

/// An element's tag, its contents, all of it, and what follows.
type Element<'a> = (u8, &'a [u8], &'a [u8], &'a [u8]);

/// Reads one element.
fn element(bytes: &[u8]) -> Option<Element<'_>> {
    let (tag, length) = (*bytes.first()?, *bytes.get(1)?);
    let (length, start) = if length < 0x80 {
        (usize::from(length), 2)
    } else {
        let digits = usize::from(length & 0x7f);
        let field = bytes.get(2..2 + digits).filter(|_| (1..=4).contains(&digits))?;
        (field.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)), 2 + digits)
    };
    let end = start.checked_add(length)?;
    Some((tag, bytes.get(start..end)?, bytes.get(..end)?, bytes.get(end..)?))
}

fn inside(bytes: &[u8], expected: u8) -> Option<&[u8]> {
    element(bytes).filter(|(tag, ..)| *tag == expected).map(|(_, contents, ..)| contents)
}

/// Returns the public key of a certificate.
pub(crate) fn of_certificate(certificate: &[u8]) -> Option<PublicKey> {
    let mut fields = inside(inside(certificate, SEQUENCE)?, SEQUENCE)?;
    if element(fields)?.0 == VERSION {
        fields = element(fields)?.3;
    }
    // Serial number, signature, issuer, validity, subject.
    for _ in 0..5 {
        fields = element(fields)?.3;
    }
    of_info(element(fields)?.2)
}

/// Returns the public key of a `SubjectPublicKeyInfo`.
pub(crate) fn of_info(info: &[u8]) -> Option<PublicKey> {
    let contents = inside(info, SEQUENCE)?;
    let (_, _, _, rest) = element(contents)?;
    let (unused, key) = inside(rest, BIT_STRING)?.split_first()?;
    (*unused == 0).then(|| PublicKey { info: info.to_vec(), key: key.to_vec() })
}

/// Makes an `RSAPublicKey` of a modulus and an exponent (RFC 8017, A.1.1).
pub(crate) fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let mut contents = integer(modulus);
    contents.extend(integer(exponent));
    wrap(SEQUENCE, &contents)
}

fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    let bytes = bytes.get(start..).unwrap_or_default();
    let mut contents = Vec::with_capacity(bytes.len() + 1);
    // A leading one would make it negative.
    if bytes.first().is_none_or(|byte| *byte >= 0x80) {
        contents.push(0);
    }
    contents.extend(bytes);
    wrap(0x02, &contents)
}

fn wrap(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len().to_be_bytes();
    let start = length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1);
    let digits = length.get(start..).unwrap_or_default();
    let mut all = vec![tag];
    match digits {
        [short] if *short < 0x80 => all.push(*short),
        digits => {
            all.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
            all.extend(digits);
        }
    }
    all.extend(contents);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_wrapped_is_found() {
        let key = vec![7_u8; 300];
        let mut bits = vec![0];
        bits.extend(&key);
        let info = wrap(SEQUENCE, &[wrap(SEQUENCE, &[6, 1, 42]), wrap(BIT_STRING, &bits)].concat());
        let found = of_info(&info).unwrap();
        assert_eq!((found.key, &found.info), (key, &info));
        let fields = [
            wrap(VERSION, &[2, 1, 2]),
            integer(&[1]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
            wrap(SEQUENCE, &[]),
            info.clone(),
        ];
        let certificate = wrap(SEQUENCE, &wrap(SEQUENCE, &fields.concat()));
        assert_eq!(of_certificate(&certificate).unwrap().info, info);
        assert_eq!(rsa(&[0x80], &[1, 0, 1]), [0x30, 9, 2, 2, 0, 0x80, 2, 3, 1, 0, 1]);
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            of_certificate(&bytes);
            of_info(&bytes);
        }
    }
}
