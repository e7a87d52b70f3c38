//! `--chown` and `--chmod`: who and what copied files become.

use crate::error::{Error, Result};
use rustix::fs::OFlags;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::BorrowedFd;
use std::path::Path;

/// A table of users or groups longer than this is not read.
const MAX_TABLE: u64 = 4 << 20;

/// Finds a user and a group by number, or by name in the files of the tree. Without a group it is the user's number,
/// as in Docker; for a name the group of that name's entry.
///
/// # Errors
///
/// That a name is unknown.
pub(crate) fn owner(root: BorrowedFd<'_>, text: &str) -> Result<(u32, u32)> {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let (uid, own_group) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) => entry(root, "/etc/passwd", user)?
            .and_then(|fields| Some((number(&fields, 2)?, number(&fields, 3)?)))
            .ok_or_else(|| Error::Invalid(format!("unable to convert uid/gid chown string to host mapping: can't find uid for user {user}: no such user: {user}")))?,
    };
    let gid = match group {
        "" => own_group,
        group => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => entry(root, "/etc/group", group)?.and_then(|fields| number(&fields, 2)).ok_or_else(|| {
                Error::Invalid(format!("unable to convert uid/gid chown string to host mapping: can't find gid for group {group}: no such group: {group}"))
            })?,
        },
    };
    Ok((uid, gid))
}

fn number(fields: &[String], index: usize) -> Option<u32> {
    fields.get(index)?.parse().ok()
}

fn entry(root: BorrowedFd<'_>, file: &str, name: &str) -> Result<Option<Vec<String>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = match sys::path::open_in_root(root, Path::new(file), flags) {
        Ok(opened) => opened,
        Err(error) if error.errno() == rustix::io::Errno::NOENT => return Ok(None),
        Err(error) => return Err(Error::system(error)),
    };
    let mut bytes = Vec::new();
    File::from(opened)
        .take(MAX_TABLE)
        .read_to_end(&mut bytes)
        .map_err(Error::file("read", Path::new(file)))?;
    let text = String::from_utf8_lossy(&bytes);
    let fields = |line: &str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    Ok(text.lines().map(fields).find(|fields| fields.first().is_some_and(|first| first == name)))
}

/// A change of permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Modes {
    /// These, whatever they were.
    Set(u32),
    /// Symbolic changes, in order.
    Change(Vec<Clause>),
}

/// `u+rwX` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Bits that may be touched: of user, group, others.
    who: u32,
    operator: char,
    permissions: Vec<char>,
}

impl Modes {
    /// Reads octal digits or symbols (chmod(1)).
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::Invalid(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            ))
        };
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Set).ok_or_else(wrong);
        }
        let clauses: Option<Vec<Vec<Clause>>> = text.split(',').map(clauses).collect();
        let clauses: Vec<Clause> = clauses.ok_or_else(wrong)?.concat();
        if clauses.is_empty() { Err(wrong()) } else { Ok(Self::Change(clauses)) }
    }

    /// Returns what permissions become.
    pub(crate) fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        let clauses = match self {
            Self::Set(mode) => return *mode,
            Self::Change(clauses) => clauses,
        };
        let mut mode = mode & 0o7777;
        for clause in clauses {
            let bits = clause.bits(mode, is_folder);
            mode = match clause.operator {
                '+' => mode | bits,
                '-' => mode & !bits,
                // The set-ID bits of folders stay unless they are named.
                _ => (mode & !(clause.who & 0o777)) & !special(clause.who, is_folder) | bits,
            };
        }
        mode
    }
}

fn special(who: u32, is_folder: bool) -> u32 {
    if is_folder { 0 } else { who & 0o7000 }
}

/// Splits `go=rX`, or `u+x-w`, into its operations.
fn clauses(text: &str) -> Option<Vec<Clause>> {
    let mut who = 0;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next_if(|c| matches!(c, 'u' | 'g' | 'o' | 'a')) {
        who |= match c {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            _ => 0o7777,
        };
    }
    if who == 0 {
        who = 0o7777;
    }
    let mut clauses = Vec::new();
    while let Some(operator) = characters.next() {
        if !matches!(operator, '+' | '-' | '=') {
            return None;
        }
        let mut permissions = Vec::new();
        while let Some(c) = characters.next_if(|c| !matches!(c, '+' | '-' | '=')) {
            if !"rwxXstugo".contains(c) {
                return None;
            }
            permissions.push(c);
        }
        clauses.push(Clause { who, operator, permissions });
    }
    (!clauses.is_empty()).then_some(clauses)
}

impl Clause {
    fn bits(&self, mode: u32, is_folder: bool) -> u32 {
        let mut bits = 0;
        for permission in &self.permissions {
            // The permissions of one class, given to all.
            let spread = |class: u32| class | class << 3 | class << 6;
            bits |= match permission {
                'r' => 0o444,
                'w' => 0o222,
                'x' => 0o111,
                'X' if is_folder || mode & 0o111 != 0 => 0o111,
                's' => 0o6000,
                't' => 0o1000,
                'u' => spread(mode >> 6 & 7),
                'g' => spread(mode >> 3 & 7),
                'o' => spread(mode & 7),
                _ => 0,
            };
        }
        bits & self.who
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::tests::Scratch;
    use std::os::fd::AsFd as _;

    #[test]
    fn modes_in_digits_and_symbols() {
        for (text, before, is_folder, expect) in [
            ("0644", 0o777, false, 0o644),
            ("4755", 0, false, 0o4755),
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o640, false, 0o660),
            ("u+s,o+t", 0o755, false, 0o5755),
            ("o=", 0o777, false, 0o770),
            ("u+x-w", 0o600, false, 0o500),
        ] {
            assert_eq!(Modes::parse(text).unwrap().apply(before, is_folder), expect, "{text}");
        }
        for text in ["", "99", "77777", "u", "u+q", "x=r", "u=r,"] {
            assert!(Modes::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn owners_by_number_and_name() {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.path().join("etc")).unwrap();
        std::fs::write(scratch.path().join("etc/passwd"), "root:x:0:0::/:\nweb:x:33:34::/:\n").unwrap();
        std::fs::write(scratch.path().join("etc/group"), "staff:x:50:\n").unwrap();
        let root = File::open(scratch.path()).unwrap();
        for (text, expect) in [
            ("5", Some((5, 5))),
            ("5:6", Some((5, 6))),
            ("web", Some((33, 34))),
            ("web:staff", Some((33, 50))),
            ("0:staff", Some((0, 50))),
            ("nobody", None),
            ("web:nobody", None),
        ] {
            assert_eq!(owner(root.as_fd(), text).ok(), expect, "{text}");
        }
    }
}
