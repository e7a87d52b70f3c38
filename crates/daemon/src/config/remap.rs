//! `userns-remap`: which of the host's identifiers containers' stand for.
//!
//! Read as dockerd does: the value names a user (and group) of the host, whose ranges in `/etc/subuid` and `/etc/subgid`
//! (subuid(5)) are what containers count from 0 on. `default` is the user `dockremap`, made if it is missing.

use super::resolve::{ValueError, error};
use oci::runtime::{IdMap, IdMapping};
use std::process::Command;

/// The user that `default` stands for; Docker's name.
const DEFAULT_USER: &str = "dockremap";

/// The host's users, and the identifiers given to them.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
    /// `/etc/subuid`.
    pub subuid: String,
    /// `/etc/subgid`.
    pub subgid: String,
}

impl Accounts {
    /// Reads the host's. What cannot be read is empty.
    pub fn read() -> Self {
        let text = |name: &str| std::fs::read_to_string(format!("/etc/{name}")).unwrap_or_default();
        Self { passwd: text("passwd"), group: text("group"), subuid: text("subuid"), subgid: text("subgid") }
    }
}

/// Makes the user that `default` stands for, with a range of identifiers, if it is missing.
///
/// # Errors
///
/// Says what useradd(8) or usermod(8) said.
pub fn provide_default_user() -> Result<(), String> {
    let accounts = Accounts::read();
    if find(&accounts.passwd, DEFAULT_USER).is_none() {
        run(
            "useradd",
            &["--system", "--user-group", "--no-create-home", "--shell", "/bin/false", DEFAULT_USER],
        )?;
    }
    for (flag, text) in [("--add-subuids", &accounts.subuid), ("--add-subgids", &accounts.subgid)] {
        if ranges(text, &[DEFAULT_USER]).is_empty() {
            let first = first_free(text);
            run("usermod", &[flag, &format!("{first}-{}", first + (COUNT - 1)), DEFAULT_USER])?;
        }
    }
    Ok(())
}

/// How many identifiers a user gets, and where ranges begin (login.defs(5), `SUB_UID_COUNT`, `SUB_UID_MIN`).
const COUNT: u32 = 65_536;
const FIRST: u32 = 100_000;

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let failed = |reason: &str| format!("make the user {DEFAULT_USER} for userns-remap: {program}: {reason}");
    let output =
        Command::new(program).args(arguments).output().map_err(|error| failed(&error.to_string()))?;
    if output.status.success() { Ok(()) } else { Err(failed(String::from_utf8_lossy(&output.stderr).trim())) }
}

/// Returns the mapping that the value of `userns-remap` stands for; `None` for no mapping.
pub(super) fn mapping(value: &str, accounts: &Accounts) -> Result<Option<IdMap>, ValueError> {
    let (user, group) = match value {
        "" => return Ok(None),
        "default" => (DEFAULT_USER, DEFAULT_USER),
        value => value.split_once(':').unwrap_or((value, "")),
    };
    let Some((user, uid)) = find(&accounts.passwd, user) else {
        return error(format!(
            "userns-remap: Error during {user:?} user lookup: no such user in /etc/passwd"
        ));
    };
    if uid == "0" {
        return error("userns-remap: Cannot remap root with itself");
    }
    let group = match group {
        "" => (user, uid),
        group => match find(&accounts.group, group) {
            Some(found) => found,
            None => {
                return error(format!(
                    "userns-remap: Error during {group:?} group lookup: no such group in /etc/group"
                ));
            }
        },
    };
    let uids = ranges(&accounts.subuid, &[user, uid]);
    // Ranges of groups are given to users, too (subgid(5)); Docker's older versions look for the group's name.
    let gids = ranges(&accounts.subgid, &[user, uid, group.0, group.1]);
    for (ranges, what) in [(&uids, "uid"), (&gids, "gid")] {
        if ranges.is_empty() {
            return error(format!(
                "userns-remap: no sub{what} ranges found for user {user:?} in /etc/sub{what}"
            ));
        }
    }
    Ok(Some(IdMap { uids: mapped(uids), gids: mapped(gids) }))
}

/// Finds a line by its name or number in a table of passwd(5)'s kind; returns both.
fn find<'a>(table: &'a str, wanted: &str) -> Option<(&'a str, &'a str)> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        (name == wanted || number == wanted).then_some((name, number))
    })
}

/// All lines of subuid(5) as (owner, first, count).
fn lines(table: &str) -> impl Iterator<Item = (&str, u32, u32)> {
    table.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let mut next = || fields.next();
        Some((next()?.trim(), next()?.trim().parse().ok()?, next()?.trim().parse().ok()?))
    })
}

/// The ranges of whoever has one of these names, in order.
fn ranges(table: &str, names: &[&str]) -> Vec<(u32, u32)> {
    let own = lines(table).filter(|(owner, _, count)| names.contains(owner) && *count > 0);
    let mut ranges: Vec<(u32, u32)> = own.map(|(_, first, count)| (first, count)).collect();
    ranges.sort_unstable();
    ranges.dedup();
    ranges
}

/// The first identifier after all that are given away.
fn first_free(table: &str) -> u32 {
    lines(table).filter_map(|(_, first, count)| first.checked_add(count)).fold(FIRST, u32::max)
}

/// Counts through the ranges from 0 on.
fn mapped(ranges: Vec<(u32, u32)>) -> Vec<IdMapping> {
    let mut next = 0_u32;
    ranges
        .into_iter()
        .map(|(host_id, size)| {
            let container_id = next;
            next = next.saturating_add(size);
            IdMapping { container_id, host_id, size }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_lead_to_ranges() {
        let accounts = Accounts {
            passwd: "root:x:0:0::/:/\nann:x:1000:1000::/:/\nbob:x:1001:1001::/:/\n".to_owned(),
            group: "root:x:0:\nteam:x:50:\n".to_owned(),
            subuid: "ann:300000:10\nann:200000:65536\n1001:400000:65536\n".to_owned(),
            subgid: "team:500000:65536\nann:200000:65536\n".to_owned(),
        };
        let one = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        let ann = vec![one(0, 200_000, 65_536), one(65_536, 300_000, 10)];
        for value in ["ann", "1000"] {
            let map = mapping(value, &accounts).unwrap().unwrap();
            assert_eq!((map.uids, map.gids), (ann.clone(), vec![one(0, 200_000, 65_536)]), "{value}");
        }
        for value in ["bob:team", "1001:50"] {
            let map = mapping(value, &accounts).unwrap().unwrap();
            let expected = (vec![one(0, 400_000, 65_536)], vec![one(0, 500_000, 65_536)]);
            assert_eq!((map.uids, map.gids), expected, "{value}");
        }
        assert_eq!(mapping("", &accounts), Ok(None));
        for (value, reason) in [
            ("eve", "userns-remap: Error during \"eve\" user lookup: no such user in /etc/passwd"),
            ("default", "userns-remap: Error during \"dockremap\" user lookup: no such user in /etc/passwd"),
            ("ann:crew", "userns-remap: Error during \"crew\" group lookup: no such group in /etc/group"),
            ("bob", "userns-remap: no subgid ranges found for user \"bob\" in /etc/subgid"),
            ("root", "userns-remap: Cannot remap root with itself"),
        ] {
            assert_eq!(mapping(value, &accounts), Err(ValueError(reason.to_owned())), "{value}");
        }
    }

    #[test]
    fn new_ranges_begin_after_all_others() {
        assert_eq!(first_free(""), 100_000);
        assert_eq!(first_free("a:100000:65536\nb:900000:10\nc:200000:5\n"), 900_010);
    }
}
