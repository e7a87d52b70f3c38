//! Network namespaces: making them, and doing something inside.
//!
//! The namespace of a thread that others use is never changed: each operation runs on a fresh thread that ends
//! afterwards (21 µs, hot-path.md §8).

use crate::Error;
use crate::netlink::Socket;
use crate::netlink::message::Batch;
use crate::netlink::route;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sys::namespace::{self, Namespace};

/// The index of `lo` in every network namespace.
const LOOPBACK: u32 = 1;

/// Makes a network namespace with nothing but `lo`, which is down.
///
/// It lives as long as the descriptor, or a process or mount that holds it.
///
/// # Errors
/// [`Error::System`].
pub fn create() -> Result<OwnedFd, Error> {
    Ok(namespace::create(Namespace::Network)?)
}

/// Returns the network namespace of the calling thread.
///
/// # Errors
/// [`Error::System`].
pub fn current() -> Result<OwnedFd, Error> {
    Ok(namespace::current(Namespace::Network)?)
}

/// Runs `work` on a fresh thread inside `netns` and returns what it returns.
///
/// # Errors
/// [`Error::System`] if the namespace cannot be entered, or what `work` says.
pub fn inside<T: Send>(
    netns: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    namespace::within(netns, Namespace::Network, work)?
}

/// Sets `lo` up in a namespace that gets no other interface (`--network none`).
///
/// # Errors
/// [`Error::System`] and netlink errors.
pub fn set_loopback_up(netns: BorrowedFd<'_>) -> Result<(), Error> {
    inside(netns, || {
        let mut batch = Batch::new();
        route::set_up(&mut batch, LOOPBACK);
        batch.acknowledge_last();
        Socket::route()?.execute(batch).map_err(|failure| {
            failure.into_error(|refused| Error::Link {
                operation: "set up",
                name: "lo".into(),
                errno: refused.errno,
            })
        })
    })
}

/// Adds `lo` up to a batch that is sent inside a namespace.
pub(crate) fn loopback_up(batch: &mut Batch) {
    route::set_up(batch, LOOPBACK);
}

/// Writes settings of the calling thread's network namespace (`net.…`, dotted).
///
/// A `/` in a name stands for a dot inside an interface name, as for sysctl(8).
pub(crate) fn write_sysctls<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<(), Error> {
    let mut settings = settings.into_iter().peekable();
    if settings.peek().is_none() {
        return Ok(());
    }
    let root =
        rustix::fs::open("/proc/sys", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(sys::Error::on("open", "/proc/sys"))?;
    for (name, value) in settings {
        let path = sysctl_path(name).ok_or_else(|| Error::ForeignSysctl(name.to_owned()))?;
        write_beneath(root.as_fd(), &path, value).map_err(|errno| Error::Sysctl {
            name: name.to_owned(),
            value: value.to_owned(),
            errno,
        })?;
    }
    Ok(())
}

fn write_beneath(root: BorrowedFd<'_>, path: &str, value: &str) -> Result<(), Errno> {
    let file = rustix::fs::openat(root, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

/// Returns the path below /proc/sys of a dotted name; only `net.` belongs to a network namespace.
fn sysctl_path(name: &str) -> Option<String> {
    let rest = name.strip_prefix("net.")?;
    let parts: Vec<String> = rest.split('.').map(|part| part.replace('/', ".")).collect();
    let odd = |part: &String| part.is_empty() || part == ".." || part == "." || part.contains('\0');
    (!parts.iter().any(odd)).then(|| format!("net/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sysctl_names_stay_below_net() {
        let check =
            |name: &str, expect: Option<&str>| assert_eq!(sysctl_path(name).as_deref(), expect, "{name}");
        check("net.ipv4.ip_forward", Some("net/ipv4/ip_forward"));
        check("net.ipv4.conf.eth0/1.rp_filter", Some("net/ipv4/conf/eth0.1/rp_filter"));
        check("kernel.core_pattern", None);
        check("net...kernel", None);
        check("net.//.kernel", None);
        check("net", None);
    }

    #[test]
    #[ignore = "root: network namespaces"]
    fn a_fresh_namespace_has_loopback_only() {
        let netns = create().unwrap();
        set_loopback_up(netns.as_fd()).unwrap();
        let links = inside(netns.as_fd(), || {
            Ok(route::links(&mut Socket::route()?)
                .map_err(|failure| failure.into_error(|_| Error::Malformed("links"))))
        });
        let links = links.unwrap().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.up && lo.index == LOOPBACK);
        let ours = rustix::fs::fstat(current().unwrap()).unwrap();
        assert_ne!(ours.st_ino, rustix::fs::fstat(&netns).unwrap().st_ino);
    }
}
