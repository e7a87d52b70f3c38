//! Cgroups below a container's own, which a process of `exec` begins in (runc, `exec --cgroup`).

use super::{Cgroup, Places, relative};
use crate::Error;
use std::path::Path;

impl Cgroup {
    /// Returns the cgroup with those below it that `parts` name in place of its own directories; for putting processes in.
    ///
    /// A part is `PATH`, which holds for every hierarchy and must be the only one, or `CONTROLLER[,…]:PATH` for some
    /// hierarchies of version 1. The path begins at this cgroup, does not leave it, and must be there.
    ///
    /// # Errors
    ///
    /// [`Error::Below`].
    pub fn below(mut self, parts: &[&str]) -> Result<Self, Error> {
        for part in parts {
            let wrong = |reason| Error::Below { part: (*part).to_owned(), reason };
            if self.is_entered_by_manager() {
                return Err(wrong("is in a cgroup that only systemd puts processes in"));
            }
            let (controllers, path) =
                part.split_once(':').map_or((None, *part), |(names, path)| (Some(names), path));
            if controllers.is_none() && parts.len() > 1 {
                return Err(wrong("has no controller, but is not the only one"));
            }
            let path = relative(path).map_err(|_invalid| wrong("is no path below the container's cgroup"))?;
            self.places.enter(controllers, &path).map_err(wrong)?;
        }
        Ok(self)
    }
}

impl Places {
    fn enter(&mut self, controllers: Option<&str>, path: &Path) -> Result<(), &'static str> {
        let there = |directory: &mut std::path::PathBuf| {
            directory.push(path);
            if directory.is_dir() { Ok(()) } else { Err("is not there") }
        };
        let places = match (self, controllers) {
            (Self::V2 { .. }, Some(_)) => {
                return Err("names a controller, of which version 2 has no directories");
            }
            (Self::V2 { directory, .. }, None) => return there(directory),
            (Self::V1(places), None) => {
                return places.iter_mut().try_for_each(|place| there(&mut place.directory));
            }
            (Self::V1(places), Some(_)) => places,
        };
        for name in controllers.unwrap_or_default().split(',') {
            let known = |known: &String| known == name || known.strip_prefix("name=") == Some(name);
            let place = places.iter_mut().find(|place| place.controllers.iter().any(known));
            let place = place.ok_or("names a controller that is not mounted")?;
            // Two controllers may share a hierarchy.
            if !place.directory.ends_with(path) || !place.directory.is_dir() {
                there(&mut place.directory)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Place;
    use super::*;

    #[test]
    fn parts_are_found_in_their_hierarchies() {
        let base = std::env::temp_dir().join(format!("wharf-below-{}", std::process::id()));
        for directory in ["cpu/c/a", "memory/c/a", "memory/c/b/d"] {
            std::fs::create_dir_all(base.join(directory)).unwrap();
        }
        let place = |name: &str| Place {
            controllers: vec![name.to_owned()],
            root: base.join(name),
            directory: base.join(name).join("c"),
        };
        let v1 = Places::V1(vec![place("cpu"), place("memory")]);
        let v2 = Places::V2 { root: base.clone(), directory: base.join("memory/c") };
        let check = |places: &Places, parts: &[&str], expect: Result<&[&str], &str>| {
            let group = Cgroup { path: "/c".to_owned(), places: places.clone(), scope: None };
            let got = group.below(parts).map_err(|error| error.to_string());
            let got = got.map(|group| group.directories().map(Path::to_owned).collect::<Vec<_>>());
            let expect = expect.map(|all| all.iter().map(|path| base.join(path)).collect::<Vec<_>>());
            assert_eq!(got, expect.map_err(str::to_owned), "{parts:?}");
        };
        check(&v1, &[], Ok(&["cpu/c", "memory/c"]));
        check(&v1, &["a"], Ok(&["cpu/c/a", "memory/c/a"]));
        check(&v1, &["/a/"], Ok(&["cpu/c/a", "memory/c/a"]));
        check(&v1, &["memory:b/d"], Ok(&["cpu/c", "memory/c/b/d"]));
        check(&v1, &["cpu,memory:a"], Ok(&["cpu/c/a", "memory/c/a"]));
        check(&v1, &["cpu:a", "memory:b"], Ok(&["cpu/c/a", "memory/c/b"]));
        check(&v1, &["b"], Err("cgroup \"b\" is not there"));
        check(&v1, &["a", "memory:b"], Err("cgroup \"a\" has no controller, but is not the only one"));
        check(&v1, &["pids:a"], Err("cgroup \"pids:a\" names a controller that is not mounted"));
        check(&v1, &["a/../.."], Err("cgroup \"a/../..\" is no path below the container's cgroup"));
        check(&v2, &["b/d"], Ok(&["memory/c/b/d"]));
        let reason = "cgroup \"cpu:a\" names a controller, of which version 2 has no directories";
        check(&v2, &["cpu:a"], Err(reason));
        std::fs::remove_dir_all(&base).unwrap();
    }
}
