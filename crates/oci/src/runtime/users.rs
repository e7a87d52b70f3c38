//! How identifiers inside a user namespace stand for those outside (`user_namespaces(7)`).

use super::IdMapping;
use serde::{Deserialize, Serialize};

/// What the kernel shows of an owner that has no identifier inside (`/proc/sys/kernel/overflowuid`).
const OVERFLOW: u32 = 65534;

/// The users and groups of a user namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IdMap {
    /// Users.
    pub uids: Vec<IdMapping>,
    /// Groups.
    pub gids: Vec<IdMapping>,
}

impl IdMap {
    /// Returns what the kernel knows an owner (user and group) by; `None` if one of them does not exist inside.
    pub fn outside(&self, (uid, gid): (u32, u32)) -> Option<(u32, u32)> {
        Some((outside(&self.uids, uid)?, outside(&self.gids, gid)?))
    }

    /// Returns what an owner is inside; who is nobody inside is 65534.
    pub fn inside(&self, (uid, gid): (u32, u32)) -> (u32, u32) {
        (inside(&self.uids, uid).unwrap_or(OVERFLOW), inside(&self.gids, gid).unwrap_or(OVERFLOW))
    }
}

/// Returns mappings as lines of `/proc/PID/uid_map`.
pub fn map_lines(mappings: &[IdMapping]) -> String {
    mappings.iter().map(|one| format!("{} {} {}\n", one.container_id, one.host_id, one.size)).collect()
}

fn outside(map: &[IdMapping], id: u32) -> Option<u32> {
    map.iter().find_map(|one| shifted(one.container_id, one.host_id, one.size, id))
}

fn inside(map: &[IdMapping], id: u32) -> Option<u32> {
    map.iter().find_map(|one| shifted(one.host_id, one.container_id, one.size, id))
}

fn shifted(from: u32, to: u32, size: u32, id: u32) -> Option<u32> {
    let offset = id.checked_sub(from).filter(|offset| *offset < size)?;
    to.checked_add(offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_found_on_both_sides() {
        let one = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        let map = IdMap {
            uids: vec![one(0, 100_000, 1000), one(1000, 500_000, 10)],
            gids: vec![one(0, 200_000, 65_536)],
        };
        for (owner, kernel) in
            [((0, 0), (100_000, 200_000)), ((999, 5), (100_999, 200_005)), ((1009, 0), (500_009, 200_000))]
        {
            assert_eq!(map.outside(owner), Some(kernel));
            assert_eq!(map.inside(kernel), owner);
        }
        assert_eq!((map.outside((1010, 0)), map.outside((0, 65_536))), (None, None));
        assert_eq!(map.inside((0, 200_001)), (65_534, 1));
        assert_eq!(map_lines(&map.uids), "0 100000 1000\n1000 500000 10\n");
    }
}
