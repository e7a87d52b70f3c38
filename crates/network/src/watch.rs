//! What somebody else does to the links and rules of this namespace.
//!
//! The kernel tells of every change; of those to the packet filter, who made it is known by the number of the socket, so
//! that our own changes are passed over.

use crate::Error;
use crate::netlink::message::{Answers, Attributes, text};
use crate::netlink::{Socket, nft, route};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::collections::BTreeSet;

/// Something that somebody else may have done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Something in our table was deleted.
    Firewall,
    /// A link is gone.
    LinkGone(String),
    /// So much has happened that it is not known what.
    Unknown,
}

/// Sockets that hear of changes in the namespace of the thread that opened them.
#[derive(Debug)]
pub struct Watch {
    firewall: Socket,
    links: Socket,
    own: Option<u32>,
}

impl Watch {
    /// Begins to listen. `own` is the number of the socket whose changes to the packet filter do not count.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn open(own: Option<u32>) -> Result<Self, Error> {
        Ok(Self { firewall: Socket::netfilter_news()?, links: Socket::link_news()?, own })
    }

    /// Waits until something has happened, and returns all that has.
    ///
    /// # Errors
    /// [`Error::Netlink`].
    pub fn changes(&mut self) -> Result<BTreeSet<Change>, Error> {
        loop {
            let mut sockets =
                [PollFd::new(&self.firewall, PollFlags::IN), PollFd::new(&self.links, PollFlags::IN)];
            match poll(&mut sockets, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::Netlink { operation: "wait for changes", errno }),
            }
            let mut changes = BTreeSet::new();
            let own = self.own;
            collect(&mut self.firewall, &mut changes, |datagram, changes| {
                let foreign =
                    Answers::new(datagram).filter(|answer| own.is_none_or(|own| answer.port_id != own));
                if foreign.into_iter().any(|answer| nft::takes_away(crate::firewall::TABLE, &answer)) {
                    changes.insert(Change::Firewall);
                }
            })?;
            collect(&mut self.links, &mut changes, |datagram, changes| {
                let gone = Answers::new(datagram).filter_map(|answer| route::gone_link(&answer));
                changes.extend(gone.map(Change::LinkGone));
            })?;
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

/// Reads all that is there.
fn collect(
    socket: &mut Socket,
    changes: &mut BTreeSet<Change>,
    mut each: impl FnMut(&[u8], &mut BTreeSet<Change>),
) -> Result<(), Error> {
    loop {
        match socket.news() {
            Ok(Some(datagram)) => each(datagram, changes),
            Ok(None) => return Ok(()),
            Err(Errno::NOBUFS) => {
                changes.insert(Change::Unknown);
            }
            Err(errno) => return Err(Error::Netlink { operation: "read changes", errno }),
        }
    }
}

/// Returns the first text among attributes of this kind.
pub(crate) fn attribute(payload: &[u8], skip: usize, wanted: u16) -> Option<String> {
    Attributes::behind(payload, skip).find(|(kind, _)| *kind == wanted).map(|(_, value)| text(value))
}
