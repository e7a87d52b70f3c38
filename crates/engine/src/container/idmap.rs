//! Binds whose owners are shown as others (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`): `idmap=uids=…;gids=…`, as podman has it.
//!
//! Docker has no word for these; theirs is a mode of `-v`, which its command line passes on as it is.

use oci::runtime::{IdMap, IdMapping};

/// How the option begins, among a mount point's.
const KEY: &str = "idmap=";
/// Every owner as it is.
const SAME: IdMapping = IdMapping { container_id: 0, host_id: 0, size: u32::MAX };

/// Finds the map among the options of a mount point, which were checked when it was made.
pub(super) fn of(options: &[String]) -> Option<IdMap> {
    options.iter().find_map(|option| parse(option)?.ok())
}

/// Reads `idmap=uids=FILE-SHOWN-COUNT[#…];gids=…`: owner FILE on the file system is shown as SHOWN, and so on for COUNT of
/// them. One sort alone leaves the other as it is. `None` for any other option.
pub(super) fn parse(option: &str) -> Option<Result<IdMap, String>> {
    if option == "idmap" {
        return Some(Err(
            "idmap needs a mapping: idmap=uids=FILE-SHOWN-COUNT;gids=FILE-SHOWN-COUNT".to_owned()
        ));
    }
    Some(read(option.strip_prefix(KEY)?).map_err(|why| format!("invalid {option}: {why}")))
}

fn read(text: &str) -> Result<IdMap, String> {
    let mut map = IdMap::default();
    for part in text.split(';') {
        let (sort, ranges) = match part.split_once('=') {
            Some(("uids", ranges)) => (&mut map.uids, ranges),
            Some(("gids", ranges)) => (&mut map.gids, ranges),
            _ => return Err(format!("{part:?} is neither uids=… nor gids=…")),
        };
        if !sort.is_empty() {
            return Err(format!("{part:?} is given twice"));
        }
        *sort = ranges.split('#').map(range).collect::<Result<_, _>>()?;
    }
    for sort in [&mut map.uids, &mut map.gids] {
        refuse_overlaps(sort)?;
        if sort.is_empty() {
            sort.push(SAME);
        }
    }
    Ok(map)
}

fn range(text: &str) -> Result<IdMapping, String> {
    let wrong = || format!("{text:?} is not FILE-SHOWN-COUNT");
    let numbers: Vec<u32> =
        text.split('-').map(|number| number.parse().map_err(|_not| wrong())).collect::<Result<_, _>>()?;
    let [container_id, host_id, size] = *numbers.as_slice() else { return Err(wrong()) };
    let fits = |first: u32| first.checked_add(size).is_some();
    if size == 0 || !fits(container_id) || !fits(host_id) {
        return Err(wrong());
    }
    Ok(IdMapping { container_id, host_id, size })
}

fn refuse_overlaps(map: &[IdMapping]) -> Result<(), String> {
    let meet = |one: u32, other: u32, sizes: (u32, u32)| {
        u64::from(one) < u64::from(other) + u64::from(sizes.1)
            && u64::from(other) < u64::from(one) + u64::from(sizes.0)
    };
    for (index, one) in map.iter().enumerate() {
        let overlaps = map.iter().skip(index + 1).any(|other| {
            let sizes = (one.size, other.size);
            meet(one.container_id, other.container_id, sizes) || meet(one.host_id, other.host_id, sizes)
        });
        if overlaps {
            return Err("ranges overlap".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read_and_nonsense_is_refused() {
        let one = |container_id, host_id, size| IdMapping { container_id, host_id, size };
        let parsed = |text: &str| parse(text).unwrap();
        assert_eq!(
            parsed("idmap=uids=1000-0-1#0-1000-1;gids=5-6-7"),
            Ok(IdMap { uids: vec![one(1000, 0, 1), one(0, 1000, 1)], gids: vec![one(5, 6, 7)] })
        );
        assert_eq!(parsed("idmap=gids=1-2-3"), Ok(IdMap { uids: vec![SAME], gids: vec![one(1, 2, 3)] }));
        for wrong in [
            "idmap",
            "idmap=",
            "idmap=uids=",
            "idmap=uids=1-2",
            "idmap=uids=1-2-0",
            "idmap=uids=1-2-3-4",
            "idmap=uids=a-2-3",
            "idmap=users=1-2-3",
            "idmap=uids=1-2-3;uids=4-5-6",
            "idmap=uids=0-0-10#5-20-10",
            "idmap=uids=0-0-10#20-9-1",
            "idmap=uids=4294967295-0-2",
            "idmap=uids=1-2-3;",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse("ro"), None);
        assert_eq!(of(&["bind".to_owned()]), None);
    }
}
