//! Mount options as in mount(8), sorted by what the kernel takes them for.

use sys::mount::{
    ATTR_ATIME, ATTR_NOATIME, ATTR_NODEV, ATTR_NODIRATIME, ATTR_NOEXEC, ATTR_NOSUID, ATTR_NOSYMFOLLOW,
    ATTR_RDONLY, ATTR_STRICTATIME, Propagation,
};

/// What a list of options asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// A bind, and whether with all that is mounted below.
    pub bind: Option<bool>,
    /// Attributes of the mount to set.
    pub set: u64,
    /// Attributes of the mount to clear.
    pub clear: u64,
    /// The same for the mounts below too.
    pub set_all: u64,
    /// The same for the mounts below too.
    pub clear_all: u64,
    /// How events travel, in order; and whether for the mounts below too.
    pub propagation: Vec<(Propagation, bool)>,
    /// What the file system itself is told.
    pub parameters: Vec<(String, Option<String>)>,
    /// Whether a tmpfs begins with what was there before.
    pub copy_up: bool,
    /// What of a bind's source is shown: a path that is resolved beneath it, so that no link in it leads out
    /// (`x-wharf.subpath`; as mount(8) has it, `x-` options are not the kernel's).
    pub subpath: Option<String>,
    /// The mount namespace that the source's mount is in, if not the maker's (`x-wharf.namespace`).
    pub namespace: Option<String>,
    /// An id-mapped bind, and whether with all that is mounted below.
    pub id_mapped: Option<bool>,
}

/// Attributes by name: what to set, what to clear.
const ATTRIBUTES: [(&str, u64, u64); 19] = [
    ("ro", ATTR_RDONLY, 0),
    ("rw", 0, ATTR_RDONLY),
    ("nosuid", ATTR_NOSUID, 0),
    ("suid", 0, ATTR_NOSUID),
    ("nodev", ATTR_NODEV, 0),
    ("dev", 0, ATTR_NODEV),
    ("noexec", ATTR_NOEXEC, 0),
    ("exec", 0, ATTR_NOEXEC),
    ("nosymfollow", ATTR_NOSYMFOLLOW, 0),
    ("symfollow", 0, ATTR_NOSYMFOLLOW),
    ("nodiratime", ATTR_NODIRATIME, 0),
    ("diratime", 0, ATTR_NODIRATIME),
    ("noatime", ATTR_NOATIME, ATTR_ATIME),
    ("atime", 0, ATTR_ATIME),
    ("relatime", 0, ATTR_ATIME),
    ("norelatime", 0, ATTR_ATIME),
    ("strictatime", ATTR_STRICTATIME, ATTR_ATIME),
    ("nostrictatime", 0, ATTR_ATIME),
    ("defaults", 0, 0),
];

/// Flags of the file system rather than of the mount.
const SUPERBLOCK: [&str; 6] = ["sync", "dirsync", "mand", "lazytime", "silent", "iversion"];
/// Their opposites, and what is of no consequence.
const IGNORED: [&str; 7] = ["async", "nomand", "nolazytime", "loud", "noiversion", "remount", "norro"];

/// Sorts options in the order given: the later one wins.
pub fn parse(options: &[String]) -> Options {
    let mut parsed = Options::default();
    for option in options {
        parse_one(option, &mut parsed);
    }
    parsed
}

fn parse_one(option: &str, parsed: &mut Options) {
    if let Some((_, set, clear)) = ATTRIBUTES.iter().find(|(name, _, _)| *name == option) {
        // The later option wins.
        parsed.set = parsed.set & !clear | set;
        parsed.clear = parsed.clear & !set | clear;
        return;
    }
    // "rro", "rnosuid", …: the same recursively (mount_setattr(2)).
    let recursive =
        option.strip_prefix('r').and_then(|rest| ATTRIBUTES.iter().find(|(name, _, _)| *name == rest));
    if let Some((_, set, clear)) = recursive {
        parsed.set_all = parsed.set_all & !clear | set;
        parsed.clear_all = parsed.clear_all & !set | clear;
        return;
    }
    let (plain, all) = match option {
        "rshared" | "rslave" | "rprivate" | "runbindable" => (option.trim_start_matches('r'), true),
        _ => (option, false),
    };
    let propagation = match plain {
        "shared" => Some(Propagation::Shared),
        "slave" => Some(Propagation::Slave),
        "private" => Some(Propagation::Private),
        "unbindable" => Some(Propagation::Unbindable),
        _ => None,
    };
    if let Some(propagation) = propagation {
        parsed.propagation.push((propagation, all));
        return;
    }
    match option {
        "" => {}
        "bind" => parsed.bind = Some(parsed.bind.unwrap_or(false)),
        "rbind" => parsed.bind = Some(true),
        "tmpcopyup" => parsed.copy_up = true,
        "idmap" => parsed.id_mapped = Some(parsed.id_mapped.unwrap_or(false)),
        "ridmap" => parsed.id_mapped = Some(true),
        _ if IGNORED.contains(&option) => {}
        _ if SUPERBLOCK.contains(&option) => parsed.parameters.push((option.to_owned(), None)),
        _ => {
            let (key, value) =
                option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
            match key {
                "x-wharf.subpath" => parsed.subpath = value.map(str::to_owned),
                "x-wharf.namespace" => parsed.namespace = value.map(str::to_owned),
                key => parsed.parameters.push((key.to_owned(), value.map(str::to_owned))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(options: &str, expect: &Options) {
        let list: Vec<String> = options.split(',').map(str::to_owned).collect();
        assert_eq!(&parse(&list), expect, "{options}");
    }

    #[test]
    fn options_are_sorted_by_their_kind() {
        check("", &Options::default());
        check(
            "rbind,rprivate,ro",
            &Options {
                bind: Some(true),
                set: ATTR_RDONLY,
                propagation: vec![(Propagation::Private, true)],
                ..Options::default()
            },
        );
        check("bind,idmap", &Options { bind: Some(false), id_mapped: Some(false), ..Options::default() });
        check("rbind,ridmap", &Options { bind: Some(true), id_mapped: Some(true), ..Options::default() });
        check("ro,rw", &Options { clear: ATTR_RDONLY, ..Options::default() });
        check("rw,ro", &Options { set: ATTR_RDONLY, ..Options::default() });
        check(
            "nosuid,strictatime,mode=755,size=65536k,newinstance,relatime",
            &Options {
                set: ATTR_NOSUID,
                clear: ATTR_ATIME,
                parameters: vec![
                    ("mode".into(), Some("755".into())),
                    ("size".into(), Some("65536k".into())),
                    ("newinstance".into(), None),
                ],
                ..Options::default()
            },
        );
        check(
            "rbind,rro,shared",
            &Options {
                bind: Some(true),
                set_all: ATTR_RDONLY,
                propagation: vec![(Propagation::Shared, false)],
                ..Options::default()
            },
        );
    }
}
