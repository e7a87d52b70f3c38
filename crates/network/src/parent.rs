//! The links that macvlan and ipvlan devices hang on: a link of the host, a VLAN of one, or one that leads nowhere.

use crate::netlink::message::Batch;
use crate::netlink::{Failure, Refused, Socket, route};
use crate::{Error, bridge};
use rustix::io::Errno;

/// Fails if the kernel has no links of `kind`; its module is loaded if need be.
///
/// # Errors
/// [`Error::NoSuchKind`], netlink errors.
pub fn require(kind: &'static str) -> Result<(), Error> {
    let mut batch = Batch::new();
    route::probe_kind(&mut batch, kind);
    match Socket::route()?.execute(batch) {
        Err(Failure::Refused(refused)) if refused.errno == Errno::OPNOTSUPP => Err(Error::NoSuchKind(kind)),
        // Refused for what is missing in the request: the kind is known.
        Err(Failure::Refused(_)) | Ok(()) => Ok(()),
        Err(Failure::Socket(error)) => Err(error),
    }
}

/// Makes the VLAN that `name` stands for (`eth0.10`) unless there is such a link. Returns whether it was made.
///
/// # Errors
/// [`Error::NoSuchLink`] if `name` is no link and no VLAN of one, [`Error::NoSuchKind`], [`Error::Link`].
pub fn ensure_vlan(name: &str) -> Result<bool, Error> {
    let mut socket = Socket::route()?;
    if bridge::find(&mut socket, name)?.is_some() {
        return Ok(false);
    }
    let (parent, id) = vlan(name).ok_or_else(|| Error::NoSuchLink(name.to_owned()))?;
    let parent =
        bridge::find(&mut socket, parent)?.ok_or_else(|| Error::NoSuchLink(parent.to_owned()))?.index;
    require("vlan")?;
    let mut batch = Batch::new();
    route::create_vlan(&mut batch, name, parent, id);
    execute(&mut socket, batch, "create VLAN", name)?;
    Ok(true)
}

/// Makes a link that leads nowhere, for containers that shall see each other alone, unless there is one.
///
/// It is a veth pair rather than a `dummy` device, which not every kernel has.
///
/// # Errors
/// [`Error::Link`].
pub fn ensure_loose(name: &str, far: &str) -> Result<(), Error> {
    let mut socket = Socket::route()?;
    if bridge::find(&mut socket, name)?.is_some() {
        return Ok(());
    }
    let mut batch = Batch::new();
    route::create_loose_pair(&mut batch, name, far);
    execute(&mut socket, batch, "create", name)?;
    let far = bridge::find(&mut socket, far)?.ok_or_else(|| Error::NoSuchLink(far.to_owned()))?;
    let mut batch = Batch::new();
    route::set_up(&mut batch, far.index);
    batch.acknowledge_last();
    execute(&mut socket, batch, "set up", &far.name)
}

/// Removes a link that one of these functions made; gone already is no error.
///
/// # Errors
/// [`Error::Link`].
pub fn remove(name: &str) -> Result<(), Error> {
    bridge::delete(&mut Socket::route()?, name)
}

fn execute(socket: &mut Socket, batch: Batch, operation: &'static str, name: &str) -> Result<(), Error> {
    let word = |refused: Refused| Error::Link { operation, name: name.to_owned(), errno: refused.errno };
    socket.execute(batch).map_err(|failure| failure.into_error(word))
}

/// Takes `eth0.10` apart (IEEE 802.1Q: 1 to 4094).
fn vlan(name: &str) -> Option<(&str, u16)> {
    let (parent, id) = name.rsplit_once('.')?;
    let id = id.parse().ok().filter(|id| (1..=4094).contains(id))?;
    (!parent.is_empty() && name.len() <= 15).then_some((parent, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_vlans() {
        for (name, expect) in [
            ("eth0.10", Some(("eth0", 10))),
            ("eth0.1.4094", Some(("eth0.1", 4094))),
            ("eth0", None),
            ("eth0.0", None),
            ("eth0.4095", None),
            (".5", None),
            ("eth0.x", None),
        ] {
            assert_eq!(vlan(name), expect, "{name}");
        }
    }
}
