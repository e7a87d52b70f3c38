//! Names in archives: cleaned, and refused if they lead out.

use crate::error::{Error, Result};

/// Linux's `PATH_MAX`, with the final NUL.
const MAX_PATH: usize = 4096;
/// The prefix of whiteouts (image-spec layer.md, *Whiteouts*).
const WHITEOUT: &[u8] = b".wh.";
/// What hides everything below a directory (image-spec layer.md, *Opaque Whiteout*).
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The prefix of AUFS's own files, which mean nothing here.
const AUFS: &[u8] = b".wh..wh.";

/// What the last part of a name says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Base<'a> {
    /// The layer's root.
    Root,
    /// A plain name.
    Plain(&'a [u8]),
    /// This name is deleted from the layers below.
    Whiteout(&'a [u8]),
    /// Everything in the parent is deleted from the layers below.
    Opaque,
    /// Of no meaning.
    Ignored,
}

/// Removes empty parts, `.` and inner `..`; the result has no slash at either end and is empty for the root.
pub(crate) fn clean(name: &[u8]) -> Result<Vec<u8>> {
    let fail = |problem: &str| Error::Entry { entry: display(name), problem: problem.to_owned() };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop().ok_or_else(|| fail("climbs out of the layer"))?),
            part => parts.push(part),
        }
    }
    let path = parts.join(&b'/');
    if path.len() >= MAX_PATH {
        return Err(fail("the name is too long"));
    }
    if path.contains(&0) {
        return Err(fail("the name contains a NUL"));
    }
    Ok(path)
}

/// Joins a link's target to the directory the link is in; climbing beyond the root stays there, as in a chroot.
pub(crate) fn resolve(directory: &[u8], target: &[u8]) -> Vec<u8> {
    let start = if target.starts_with(b"/") { &b""[..] } else { directory };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in start.split(|byte| *byte == b'/').chain(target.split(|byte| *byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Splits a clean name into its directory and its last part.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (path.get(..slash).unwrap_or_default(), path.get(slash + 1..).unwrap_or_default()),
        None => (b"", path),
    }
}

/// Reads the last part of a clean name.
pub(crate) fn base<'a>(entry: &[u8], last: &'a [u8]) -> Result<Base<'a>> {
    if last.is_empty() {
        return Ok(Base::Root);
    }
    if last == OPAQUE {
        return Ok(Base::Opaque);
    }
    if last.starts_with(AUFS) {
        return Ok(Base::Ignored);
    }
    match last.strip_prefix(WHITEOUT) {
        None => Ok(Base::Plain(last)),
        Some(b"" | b"." | b"..") => {
            Err(Error::Entry { entry: display(entry), problem: "invalid whiteout".to_owned() })
        }
        Some(hidden) => Ok(Base::Whiteout(hidden)),
    }
}

/// A name for messages.
pub(crate) fn display(name: &[u8]) -> String {
    const SHOWN: usize = 300;
    let text = String::from_utf8_lossy(name.get(..SHOWN).unwrap_or(name));
    if name.len() > SHOWN { format!("{text}…") } else { text.into_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn cleaning() {
        let check = |name: &str, expect: Option<&str>| {
            let cleaned = clean(name.as_bytes()).ok().map(|path| String::from_utf8(path).unwrap());
            assert_eq!(cleaned.as_deref(), expect, "{name}");
        };
        check("./a/b/", Some("a/b"));
        check("/a//b/.", Some("a/b"));
        check(".", Some(""));
        check("/", Some(""));
        check("a/../b", Some("b"));
        check("a/..", Some(""));
        check("..", None);
        check("../a", None);
        check("a/../../b", None);
        check("/../a", None);
        check("...", Some("..."));
        check(&"a/".repeat(2047), Some(&format!("{}a", "a/".repeat(2046))));
        check(&"a/".repeat(2048), Some(&format!("{}a", "a/".repeat(2047))));
        check(&"a/".repeat(2049), None);
    }

    #[test]
    fn bases() {
        let check = |last: &str, expect: Option<Base<'_>>| {
            assert_eq!(base(b"", last.as_bytes()).ok(), expect, "{last}");
        };
        check("", Some(Base::Root));
        check("a", Some(Base::Plain(b"a")));
        check(".wh.a", Some(Base::Whiteout(b"a")));
        check(".wh..wh..opq", Some(Base::Opaque));
        check(".wh..wh.plnk", Some(Base::Ignored));
        check(".wh.", None);
        check(".wh..", None);
        check(".wh...", None);
        check(".wh....", Some(Base::Whiteout(b"...")));
    }

    #[test]
    fn resolving_stays_inside() {
        assert_eq!(resolve(b"a/b", b"../c"), b"a/c");
        assert_eq!(resolve(b"a", b"../../../etc"), b"etc");
        assert_eq!(resolve(b"a", b"/x/./y"), b"x/y");
    }

    proptest! {
        #[test]
        fn what_is_clean_has_no_dots_and_stays_clean(name in "[a.b/]{0,24}") {
            if let Ok(path) = clean(name.as_bytes()) {
                prop_assert_eq!(clean(&path).unwrap(), path.clone());
                prop_assert!(!path.starts_with(b"/") && !path.ends_with(b"/"));
                let dots = |part: &[u8]| part == b".." || part == b".";
                prop_assert!(!path.split(|byte| *byte == b'/').any(dots));
            }
        }
    }
}
