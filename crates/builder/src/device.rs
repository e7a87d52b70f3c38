//! `RUN --device`: which devices a command gets. `BuildKit`'s rules (its `solver/llbsolver/cdidevices`): what was not allowed
//! is refused, unless its description allows it itself; what is not there is left out, unless it is required.

use crate::error::{Error, Result};
use crate::request::AllowedDevices;
use crate::worker::{FoundDevice, Worker};
use dockerfile::Device;

/// Returns the full names of the devices, each once.
pub(crate) fn devices(
    wanted: &[Device],
    allowed: &AllowedDevices,
    worker: &dyn Worker,
) -> Result<Vec<String>> {
    let granted: Vec<String> = match allowed {
        AllowedDevices::All => Vec::new(),
        AllowedDevices::Named(names) => {
            names.iter().flat_map(|name| worker.devices(name)).map(|found| found.name).collect()
        }
    };
    let mut names: Vec<String> = Vec::new();
    let mut forbidden: Vec<String> = Vec::new();
    for Device { name, required } in wanted {
        let found = worker.devices(name);
        if found.is_empty() && *required {
            return Err(Error::Invalid(format!("required device {name:?} is not registered")));
        }
        for FoundDevice { name, allowed_always } in found {
            let ok = allowed_always || *allowed == AllowedDevices::All || granted.contains(&name);
            let list = if ok { &mut names } else { &mut forbidden };
            if !list.contains(&name) {
                list.push(name);
            }
        }
    }
    match forbidden.as_slice() {
        [] => Ok(names),
        [one] => Err(Error::Invalid(format!(
            "device {one} is requested by the build but not allowed (the build needs --allow device={one})"
        ))),
        many => Err(Error::Invalid(format!(
            "devices {} are requested by the build but not allowed (the build needs --allow device)",
            many.join(", ")
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::{Cancel, Process, Ran, Stream};

    struct Host;

    impl Worker for Host {
        fn run(&self, _: &Process, _: &Cancel, _: &mut dyn FnMut(Stream, &[u8])) -> Result<Ran> {
            Err(Error::Cancelled)
        }

        fn surroundings(&self) -> String {
            String::new()
        }

        fn devices(&self, name: &str) -> Vec<FoundDevice> {
            let all = [("v.org/c=a", false), ("v.org/c=b", false), ("v.org/free=x", true)];
            let fits =
                |full: &str| full == name || name.strip_suffix('*').is_some_and(|k| full.starts_with(k));
            all.into_iter()
                .filter(|(full, _)| fits(full))
                .map(|(full, allowed_always)| FoundDevice { name: full.to_owned(), allowed_always })
                .collect()
        }
    }

    #[test]
    fn what_is_allowed_is_given() {
        let named =
            |names: &[&str]| AllowedDevices::Named(names.iter().map(|name| (*name).to_owned()).collect());
        let none = named(&[]);
        for (wanted, allowed, expect) in [
            (&["v.org/c=a"][..], &AllowedDevices::All, Ok(&["v.org/c=a"][..])),
            (&["v.org/c=a", "v.org/c=*"], &named(&["v.org/c=*"]), Ok(&["v.org/c=a", "v.org/c=b"])),
            (&["v.org/free=x"], &none, Ok(&["v.org/free=x"])),
            (&["v.org/none=x"], &none, Ok(&[])),
            (
                &["v.org/c=a"],
                &named(&["v.org/c=b"]),
                Err("device v.org/c=a is requested by the build but not"),
            ),
            (&["v.org/c=*"], &none, Err("devices v.org/c=a, v.org/c=b are requested by the build but not")),
        ] {
            let list: Vec<Device> =
                wanted.iter().map(|name| Device { name: (*name).to_owned(), required: false }).collect();
            match (devices(&list, allowed, &Host), expect) {
                (Ok(names), Ok(expect)) => assert_eq!(names, expect, "{wanted:?}"),
                (Err(error), Err(expect)) => assert!(error.to_string().starts_with(expect), "{error}"),
                (got, expect) => panic!("{wanted:?}: {got:?}, not {expect:?}"),
            }
        }
        let required = [Device { name: "v.org/none=x".to_owned(), required: true }];
        let error = devices(&required, &AllowedDevices::All, &Host).unwrap_err();
        assert_eq!(error.to_string(), "required device \"v.org/none=x\" is not registered");
    }
}
