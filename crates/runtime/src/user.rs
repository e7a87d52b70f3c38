//! Docker's user strings, looked up in the container's own `passwd` and `group`.
//!
//! The rules are moby's (`GetExecUser`): an all-digits name is a number and never looked up as a name (CVE-2016-3697);
//! without a group the primary one of `passwd` counts, with the supplementary ones of `group`; the primary group is among
//! the supplementary ones (CVE-2022-36109).

use crate::Error;
use oci::runtime::User;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, OFlags};
use std::path::Path;

/// A user as images and command lines name it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageUser {
    /// `""`, `1000`, `name`, `name:group`, `1:2`.
    pub user: String,
    /// Further groups, names or numbers.
    pub groups: Vec<String>,
}

/// The container's own files.
#[derive(Debug, Default, Clone)]
pub(crate) struct Files {
    passwd: String,
    group: String,
}

/// Files beyond this size are not read: an image must not fill our memory.
const LARGEST: usize = 16 << 20;

impl Files {
    /// Reads `/etc/passwd` and `/etc/group` beneath `root`; what is missing or no regular file is empty.
    pub(crate) fn read(root: BorrowedFd<'_>) -> Self {
        Self { passwd: read(root, "etc/passwd"), group: read(root, "etc/group") }
    }

    fn users(&self) -> impl Iterator<Item = Entry<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            let home = fields.nth(1).unwrap_or_default();
            Some(Entry { name, uid, gid, home })
        })
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let gid = fields.nth(1)?.parse().ok()?;
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }

    /// Returns the home directory of `uid`: `/` if none is known.
    pub(crate) fn home(&self, uid: u32) -> &str {
        self.users()
            .find(|entry| entry.uid == uid)
            .map(|entry| entry.home)
            .filter(|home| !home.is_empty())
            .unwrap_or("/")
    }
}

struct Entry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn read(root: BorrowedFd<'_>, path: &str) -> String {
    // Not blocking: an image may have a FIFO there.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(file) = sys::path::open_in_root(root, Path::new(path), flags) else { return String::new() };
    if sys::path::file_type(file.as_fd()).ok() != Some(FileType::RegularFile) {
        return String::new();
    }
    let bytes = sys::path::read_fd_to_end(file.as_fd(), LARGEST).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A number of digits only, as ids may be written.
fn number(text: &str) -> Result<Option<u32>, Error> {
    // Go's Atoi, which Docker uses, takes a sign.
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.strip_prefix('+').unwrap_or(text).parse::<i32>() {
        Ok(id) => u32::try_from(id).map(Some).map_err(|_negative| out_of_range()),
        Err(_) => Err(out_of_range()),
    }
}

fn out_of_range() -> Error {
    Error::User("uids and gids must be in range 0-2147483647".to_owned())
}

/// Resolves `image` by the files of the container whose root directory is `root`, for who runs it by other means.
///
/// # Errors
///
/// [`Error::User`] in Docker's words.
pub fn resolve_user(image: &ImageUser, root: BorrowedFd<'_>) -> Result<User, Error> {
    resolve(image, &Files::read(root))
}

/// Resolves `image`; the umask is left to the document.
///
/// # Errors
///
/// [`Error::User`] in Docker's words.
pub(crate) fn resolve(image: &ImageUser, files: &Files) -> Result<User, Error> {
    let (user_text, group_text) = image.user.split_once(':').unwrap_or((&image.user, ""));
    let uid_number = number(user_text)?;
    let gid_number = number(group_text)?;
    let entry = files.users().find(|entry| match (user_text, uid_number) {
        ("", _) => entry.uid == 0,
        (_, Some(uid)) => entry.uid == uid,
        (name, None) => entry.name == name,
    });
    let mut user = match (&entry, uid_number) {
        (Some(entry), _) => User { uid: entry.uid, gid: entry.gid, ..User::default() },
        (None, Some(uid)) => User { uid, ..User::default() },
        (None, None) if user_text.is_empty() => User::default(),
        (None, None) => {
            let text = format!("unable to find user {user_text}: no matching entries in passwd file");
            return Err(Error::User(text));
        }
    };
    let mut supplementary = Vec::new();
    if group_text.is_empty() {
        if let Some(entry) = &entry {
            let member = |list: &str| list.split(',').any(|name| name == entry.name);
            supplementary.extend(files.groups().filter(|(_, _, list)| member(list)).map(|(_, gid, _)| gid));
        }
    } else {
        let found = files.groups().find(|(name, gid, _)| match gid_number {
            Some(number) => *gid == number,
            None => *name == group_text,
        });
        user.gid = match (found, gid_number) {
            (Some((_, gid, _)), _) | (None, Some(gid)) => gid,
            (None, None) => {
                let text = format!("unable to find group {group_text}: no matching entries in group file");
                return Err(Error::User(text));
            }
        };
    }
    user.additional_gids.push(user.gid);
    let further = further_groups(&image.groups, files)?;
    for gid in supplementary.into_iter().chain(further) {
        if !user.additional_gids.contains(&gid) {
            user.additional_gids.push(gid);
        }
    }
    Ok(user)
}

fn further_groups(asked: &[String], files: &Files) -> Result<Vec<u32>, Error> {
    asked
        .iter()
        .map(|text| {
            let by_number = number(text)?;
            let found = files.groups().find(|(name, gid, _)| name == text || by_number == Some(*gid));
            found
                .map(|(_, gid, _)| gid)
                .or(by_number)
                .ok_or_else(|| Error::User(format!("Unable to find group {text}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        Files {
            passwd: "root:x:0:0:root:/root:/bin/sh\nbad line\nann:x:1000:100:Ann:/home/ann:/bin/sh\n\
                     1234:x:0:0:trap:/:/bin/sh\nnohome:x:7:7::\n"
                .into(),
            group: "root:x:0:\nusers:x:100:\nwheel:x:10:root,ann\ndocker:x:999:ann\n".into(),
        }
    }

    fn check(user: &str, groups: &[&str], expect: Result<(u32, u32, &[u32]), &str>) {
        let image =
            ImageUser { user: user.into(), groups: groups.iter().map(|&group| group.into()).collect() };
        let got = resolve(&image, &files());
        let got =
            got.map(|user| (user.uid, user.gid, user.additional_gids)).map_err(|error| error.to_string());
        let expect = expect.map(|(uid, gid, all)| (uid, gid, all.to_vec())).map_err(str::to_owned);
        assert_eq!(got, expect, "{user} {groups:?}");
    }

    #[test]
    fn every_form_of_user_is_resolved_as_docker_does() {
        check("", &[], Ok((0, 0, &[0, 10])));
        check("ann", &[], Ok((1000, 100, &[100, 10, 999])));
        check("1000", &[], Ok((1000, 100, &[100, 10, 999])));
        check("4711", &[], Ok((4711, 0, &[0])));
        check("ann:wheel", &[], Ok((1000, 10, &[10])));
        check("ann:0", &[], Ok((1000, 0, &[0])));
        check("1:2", &[], Ok((1, 2, &[2])));
        check("4711", &["users", "5", "users"], Ok((4711, 0, &[0, 100, 5])));
        // A user named like a number is never found by that name.
        check("1234", &[], Ok((1234, 0, &[0])));
        check("bob", &[], Err("unable to find user bob: no matching entries in passwd file"));
        check("ann:bob", &[], Err("unable to find group bob: no matching entries in group file"));
        check("ann", &["bob"], Err("Unable to find group bob"));
        check("-1", &[], Err("uids and gids must be in range 0-2147483647"));
        check("2147483648", &[], Err("uids and gids must be in range 0-2147483647"));
    }

    #[test]
    fn homes() {
        for (uid, home) in [(0, "/root"), (1000, "/home/ann"), (7, "/"), (5, "/")] {
            assert_eq!(files().home(uid), home, "{uid}");
        }
    }
}
