//! What is mounted on a volume's folder while it is used: what the options of the `local` driver say, or a plugin's place.
//!
//! `type`, `device` and `o` are mount(8)'s. `size` without them bounds what the volume holds: by a project quota where the
//! file system has them, else by a file system of its own in a sparse file.

use super::plugin::Plugin;
use api::StringMap;
use base::size::{self, Multiple};
use std::fs::File;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use sys::raw::MountAttributes;

/// What is mounted on a volume's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Backing {
    /// What mount(8) is told.
    Mount { kind: String, device: String, options: Vec<String> },
    /// No more than that many bytes: by quota, or else by a file system in a file beside the folder.
    Sized { bytes: u64 },
    /// What a plugin has.
    Plugin { name: String },
}

/// The name by which a plugin knows us: users are counted here.
const OURSELVES: &str = "wharf";

/// The file of [`Backing::Sized`] where there are no quotas.
const IMAGE: &str = "image";
/// The smallest that a file system fits in.
const SMALLEST: u64 = 1 << 20;
const KNOWN: [&str; 4] = ["device", "o", "size", "type"];

impl Backing {
    /// Reads a driver's options; `None` without any.
    ///
    /// # Errors
    ///
    /// dockerd's text for what is unknown, missing or unreadable.
    pub(super) fn parse(options: &StringMap) -> Result<Option<Self>, String> {
        if let Some(unknown) = options.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(format!("invalid option: {unknown:?}"));
        }
        let get = |key: &str| options.get(key).map(String::as_str).filter(|value| !value.is_empty());
        let missing = |key: &str| format!("missing required option: {key:?}");
        let bytes = get("size").map(bytes).transpose()?;
        let (kind, device) = match (get("type"), get("device"), get("o")) {
            (None, None, None) => return Ok(bytes.map(|bytes| Self::Sized { bytes })),
            (Some(kind), Some(device), _) => (kind.to_owned(), device.to_owned()),
            (None, _, _) => return Err(missing("type")),
            (_, None, _) => return Err(missing("device")),
        };
        if bytes.is_some() {
            return Err("conflicting options: \"size\" is for volumes without \"device\"; \"o\" may have one for tmpfs".to_owned());
        }
        let options = get("o").unwrap_or_default().split(',').filter(|option| !option.is_empty());
        Ok(Some(Self::Mount { kind, device, options: options.map(str::to_owned).collect() }))
    }

    /// Makes what there has to be before the first use, in the volume's folder. `data` is empty.
    ///
    /// # Errors
    ///
    /// Says what failed.
    pub(super) fn prepare(&self, folder: &Path, data: &Path) -> Result<(), String> {
        let Self::Sized { bytes } = self else { return Ok(()) };
        if sys::quota::is_enforced(data) {
            return sys::quota::limit(&[data], *bytes).map_err(|error| base::chain(&error));
        }
        let path = folder.join(IMAGE);
        let file = File::create(&path).and_then(|file| file.set_len(*bytes));
        file.map_err(|error| format!("create {}: {error}", path.display()))?;
        // No reserved blocks, and nothing but what the user puts in.
        let made = Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-m", "0"]).arg(&path).output();
        let failure = match made {
            Ok(output) if output.status.success() => return Ok(()),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => format!("mke2fs (of e2fsprogs): {error}"),
        };
        drop(std::fs::remove_file(&path));
        Err(format!("quota size requested but no file system could be made for it: {failure}"))
    }

    /// Mounts it on `data`, in the volume's folder.
    ///
    /// # Errors
    ///
    /// Says what failed, with the kernel's reason.
    pub(super) fn mount(&self, folder: &Path, data: &Path, volume: &str) -> Result<(), String> {
        match self {
            Self::Mount { kind, device, options } => {
                let options = with_address(kind, device, options)?;
                let failed = |error: sys::Error| {
                    let reason = sys::message(error.errno());
                    format!(
                        "failed to mount local volume: mount {device}:{}, data: {}: {reason}",
                        data.display(),
                        options.join(",")
                    )
                };
                mount(kind, device, &options, data).map_err(failed)
            }
            Self::Plugin { name } => {
                let plugin = Plugin::find(name)?;
                let place = plugin.mount(volume, OURSELVES)?;
                let bound = sys::mount::bind(&place, true)
                    .and_then(|bound| sys::mount::attach_at(bound.as_fd(), data));
                bound.map_err(|error| {
                    // The first failure is the one to tell.
                    drop(plugin.unmount(volume, OURSELVES));
                    format!("failed to mount {}: {}", place.display(), base::chain(&error))
                })
            }
            Self::Sized { .. } => {
                let path = folder.join(IMAGE);
                if !path.exists() {
                    return Ok(());
                }
                let attached = || -> sys::Result<()> {
                    let device = sys::block::attach_file(&path)?;
                    let source = device.path().display().to_string();
                    mount("ext4", &source, &[], data)
                    // The device goes with the mount.
                };
                attached().map_err(|error| {
                    format!("failed to mount local volume: mount {}: {}", path.display(), base::chain(&error))
                })?;
                // mke2fs(8) leaves a folder that nobody asked for.
                drop(std::fs::remove_dir(data.join("lost+found")));
                Ok(())
            }
        }
    }
}

impl Backing {
    /// Tells who has to know that it is not mounted any more.
    ///
    /// # Errors
    ///
    /// What a plugin says.
    pub(super) fn unmounted(&self, volume: &str) -> Result<(), String> {
        match self {
            Self::Plugin { name } => Plugin::find(name)?.unmount(volume, OURSELVES),
            Self::Mount { .. } | Self::Sized { .. } => Ok(()),
        }
    }
}

fn mount(kind: &str, device: &str, options: &[String], data: &Path) -> sys::Result<()> {
    let options = runtime::options::parse(options);
    let made: OwnedFd = match options.bind {
        Some(recursive) => sys::mount::bind(Path::new(device), recursive)?,
        None => {
            let mut parameters = vec![("source", Some(device))];
            parameters.extend(options.parameters.iter().map(|(key, value)| (key.as_str(), value.as_deref())));
            sys::mount::new(kind, &parameters, 0)?
        }
    };
    for (set, clear, all) in [(options.set, options.clear, false), (options.set_all, options.clear_all, true)]
    {
        if set | clear != 0 {
            let attributes = MountAttributes { set, clear, ..MountAttributes::default() };
            sys::mount::set_attributes(made.as_fd(), &attributes, all)?;
        }
    }
    sys::mount::attach_at(made.as_fd(), data)
}

/// The kernel takes addresses, users give names: `addr=NAME` of NFS and CIFS is looked up, and CIFS has it in its device.
fn with_address(kind: &str, device: &str, options: &[String]) -> Result<Vec<String>, String> {
    let mut options = options.to_vec();
    let (is_cifs, is_nfs) = (matches!(kind, "cifs" | "smb3"), matches!(kind, "nfs" | "nfs4"));
    if !is_cifs && !is_nfs {
        return Ok(options);
    }
    let given = options.iter().position(|option| option.starts_with("addr="));
    let host = match given.and_then(|place| options.get(place)) {
        Some(option) => option.trim_start_matches("addr=").to_owned(),
        None if is_cifs => device.trim_start_matches("//").split('/').next().unwrap_or_default().to_owned(),
        None => return Ok(options),
    };
    let address = format!("addr={}", resolve(&host)?);
    match given.and_then(|place| options.get_mut(place)) {
        Some(option) => *option = address,
        None => options.push(address),
    }
    Ok(options)
}

fn resolve(host: &str) -> Result<IpAddr, String> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let failed = |reason: String| format!("error resolving passed in network volume address: {reason}");
    let mut found = (host, 0).to_socket_addrs().map_err(|error| failed(format!("lookup {host}: {error}")))?;
    found.next().map(|found| found.ip()).ok_or_else(|| failed(format!("lookup {host}: no such host")))
}

fn bytes(text: &str) -> Result<u64, String> {
    let bytes = size::parse(text, Multiple::Binary)?;
    let bytes = u64::try_from(bytes).map_err(|_negative| format!("invalid size: '{text}'"))?;
    if bytes < SMALLEST {
        return Err(format!("invalid size: '{text}': the smallest is 1 MiB"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_dockerds() {
        let parsed = |pairs: &[(&str, &str)]| {
            Backing::parse(
                &pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            )
        };
        let mounted = |options: &[&str]| Backing::Mount {
            kind: "tmpfs".to_owned(),
            device: "tmpfs".to_owned(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
        };
        assert_eq!(parsed(&[]), Ok(None));
        assert_eq!(parsed(&[("type", "tmpfs"), ("device", "tmpfs")]), Ok(Some(mounted(&[]))));
        let all = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m,uid=7")];
        assert_eq!(parsed(&all), Ok(Some(mounted(&["size=1m", "uid=7"]))));
        assert_eq!(parsed(&[("size", "1.5m")]), Ok(Some(Backing::Sized { bytes: 3 << 19 })));
        for (pairs, text) in [
            (&[("x", "y")][..], "invalid option: \"x\""),
            (&[("device", "/x")], "missing required option: \"type\""),
            (&[("type", "none")], "missing required option: \"device\""),
            (&[("o", "bind")], "missing required option: \"type\""),
            (&[("size", "big")], "invalid size: 'big'"),
        ] {
            assert_eq!(parsed(pairs), Err(text.to_owned()), "{pairs:?}");
        }
    }

    #[test]
    fn network_devices_have_addresses() {
        let options = |kind: &str, device: &str, options: &[&str]| {
            let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
            with_address(kind, device, &options).unwrap().join(",")
        };
        assert_eq!(options("nfs", ":/x", &["addr=192.0.2.1", "rw"]), "addr=192.0.2.1,rw");
        assert_eq!(options("cifs", "//192.0.2.1/share", &["user=a"]), "user=a,addr=192.0.2.1");
        assert_eq!(options("tmpfs", "tmpfs", &["size=1m"]), "size=1m");
    }
}
