//! The kernel's call is the oracle: whatever it answers, the walk answers too.

use super::*;
use crate::path::{of_descriptor, open_directory};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// A folder with a root in it, and something beside that nobody may reach.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str) -> Self {
        let top = std::env::temp_dir().join(format!("wharf-sys-walk-{}-{name}", std::process::id()));
        let root = top.join("root");
        std::fs::create_dir_all(root.join("a/b/c")).unwrap();
        for file in [top.join("secret"), root.join("file"), root.join("a/file")] {
            std::fs::write(file, "x").unwrap();
        }
        for (target, link) in [
            ("a/b", "relative"),
            ("/a/b", "absolute"),
            ("../../../../a", "above"),
            ("..", "a/b/up"),
            ("../../file", "a/b/far"),
            ("missing/x", "dangling"),
            ("turn", "turn"),
            ("file", "to-file"),
            ("file/", "to-file-as-directory"),
            ("a/", "to-directory"),
            ("//a//./b/../file", "untidy"),
            ("relative/c", "chained"),
            ("../secret", "out"),
            (".", "itself"),
        ] {
            symlink(target, root.join(link)).unwrap();
        }
        for number in 0..45 {
            let target = if number == 0 { "a".to_owned() } else { format!("hop{}", number - 1) };
            symlink(target, root.join(format!("hop{number}"))).unwrap();
        }
        Self(top)
    }

    fn root(&self) -> OwnedFd {
        open_directory(&self.0.join("root")).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Where a descriptor leads, and how it was opened.
fn told(opened: Outcome<OwnedFd>) -> Outcome<(PathBuf, OFlags)> {
    opened.map(|fd| {
        let mode = rustix::fs::fcntl_getfl(&fd).unwrap();
        assert!(rustix::io::fcntl_getfd(&fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        (std::fs::read_link(of_descriptor(fd.as_fd())).unwrap(), mode & (OFlags::PATH | OFlags::RWMODE))
    })
}

fn by_kernel(root: BorrowedFd<'_>, path: &str, flags: OFlags, resolve: ResolveFlags) -> Outcome<OwnedFd> {
    loop {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            // Something was renamed anywhere meanwhile.
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
}

fn by_hand(root: BorrowedFd<'_>, path: &str, flags: OFlags, resolve: ResolveFlags) -> Outcome<OwnedFd> {
    Walk { missing: None, flags, resolve }.open(root, path.as_bytes())
}

/// With links of all kinds on the way, to files, to directories and to nothing.
const PATHS: &str = "/ . .. ./ a a/ /a/b/c a//b a/./b a/b/.. a/b/../.. ../.. ../secret /../../secret a/../../secret file \
    file/ file/. file/.. file/x missing missing/.. relative relative/ relative/c relative/.. absolute \
    absolute/../file above above/file a/b/up a/b/up/file a/b/up/../file a/b/far dangling dangling/ turn \
    turn/x to-file to-file/ to-file-as-directory to-directory to-directory/b to-directory/ untidy \
    chained chained/.. out out/ itself itself/itself/file hop39 hop40 hop44/b";

#[test]
fn both_forms_answer_alike() {
    let tree = Tree::new("alike");
    let root = tree.root();
    let long = format!("a/{}", "x".repeat(256));
    let deep = "a/../".repeat(600) + "file";
    let paths = PATHS.split_whitespace().chain(["", &long, &deep]);
    let flags = [
        OFlags::PATH,
        OFlags::PATH | OFlags::NOFOLLOW,
        OFlags::PATH | OFlags::DIRECTORY,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW,
        OFlags::RDONLY,
        OFlags::RDONLY | OFlags::NOFOLLOW,
        OFlags::RDONLY | OFlags::DIRECTORY,
        OFlags::RDWR,
    ];
    let resolves = [
        ResolveFlags::IN_ROOT,
        ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS,
        ResolveFlags::BENEATH,
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    ];
    for resolve in resolves {
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        for flags in flags {
            for path in paths.clone() {
                let [kernel, hand] =
                    [by_kernel, by_hand].map(|open| told(open(root.as_fd(), path, flags, resolve)));
                assert_eq!(hand, kernel, "{path} {flags:?} {resolve:?}");
            }
        }
    }
}

/// Paths at random, made of the names that are there.
#[test]
fn both_forms_answer_alike_whatever_the_way() {
    let tree = Tree::new("any");
    let root = tree.root();
    let names = [
        "a", "b", "c", "..", ".", "", "file", "relative", "absolute", "above", "up", "far", "untidy",
        "itself",
    ];
    let mut seed = 20_260_101_u64;
    let mut next = |limit: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed >> 11).unwrap() % limit
    };
    for _ in 0..3000 {
        let path: Vec<&str> = (0..=next(7)).map(|_| names[next(names.len())]).collect();
        let path = path.join("/");
        for resolve in [ResolveFlags::IN_ROOT, ResolveFlags::BENEATH] {
            let [kernel, hand] =
                [by_kernel, by_hand].map(|open| told(open(root.as_fd(), &path, OFlags::PATH, resolve)));
            assert_eq!(hand, kernel, "{path} {resolve:?}");
        }
    }
}

#[test]
fn procfs_is_walked_but_its_objects_are_not_entered() {
    let root = open_directory(Path::new("/")).unwrap();
    let inside = open_directory(Path::new("/proc")).unwrap();
    let magic = ["exe", "cwd", "root", "root/etc", "fd/0", "ns/net", "cwd/.."];
    for open in [by_kernel, by_hand] {
        for name in magic {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            for (root, path) in [(&root, format!("/proc/self/{name}")), (&inside, format!("self/{name}"))] {
                let opened = open(root.as_fd(), &path, OFlags::PATH, resolve);
                assert_eq!(opened.unwrap_err(), Errno::LOOP, "{path}");
            }
        }
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        assert!(open(inside.as_fd(), "mounts", OFlags::RDONLY, resolve).is_ok());
        assert!(open(root.as_fd(), "/proc/thread-self/status", OFlags::RDONLY, resolve).is_ok());
        // A mount on the way is another file system.
        let crossed = open(root.as_fd(), "/proc/self", OFlags::PATH, resolve | ResolveFlags::NO_XDEV);
        assert_eq!(crossed.unwrap_err(), Errno::XDEV);
        // What is confined to nothing begins at this process's root.
        let plain = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        assert!(open(CWD, "/proc/sys/../uptime", OFlags::RDONLY, plain).is_ok());
    }
}

#[test]
fn what_was_moved_out_is_not_beneath_the_root() {
    let tree = Tree::new("moved");
    let top = identity(tree.root().as_fd()).unwrap();
    let inner = open_directory(&tree.0.join("root/a/b/c")).unwrap();
    assert_eq!(confined(inner.as_fd(), &top), Ok(()));
    std::fs::rename(tree.0.join("root/a/b"), tree.0.join("b")).unwrap();
    assert_eq!(confined(inner.as_fd(), &top), Err(Errno::AGAIN));
    std::fs::rename(tree.0.join("b"), tree.0.join("root/back")).unwrap();
    assert_eq!(confined(inner.as_fd(), &top), Ok(()));
}

/// While a directory goes out of the root and back, nothing beside the root is ever reached through it.
#[test]
fn renames_let_nothing_out() {
    let tree = Tree::new("race");
    let root = tree.root();
    let (inside, outside) = (tree.0.join("root/a/b"), tree.0.join("b"));
    let secret = identity(open_directory(&tree.0).unwrap().as_fd()).unwrap();
    std::thread::scope(|scope| {
        let moving = scope.spawn(|| {
            for _ in 0..2000 {
                std::fs::rename(&inside, &outside).unwrap();
                std::fs::rename(&outside, &inside).unwrap();
            }
        });
        let mut found = 0;
        while !moving.is_finished() || found == 0 {
            for path in
                ["a/b/c/../../..", "a/b/c/../../../secret", "a/b/up/../..", "relative/c/../../../../secret"]
            {
                match by_hand(root.as_fd(), path, OFlags::PATH, ResolveFlags::IN_ROOT) {
                    Ok(fd) => {
                        let status = identity(fd.as_fd()).unwrap();
                        assert!(!is_same(&status, &secret), "{path}");
                        assert!(!path.ends_with("secret"), "{path}");
                        found += 1;
                    }
                    Err(errno) => assert!(matches!(errno, Errno::NOENT | Errno::AGAIN), "{path}: {errno}"),
                }
            }
        }
    });
}
