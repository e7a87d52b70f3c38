//! Network devices of the host that become a container's (runtime-spec 1.3, config-linux.md, *Network Devices*).
//!
//! A device is moved into the container's network namespace under its name there, gets back its permanent addresses of
//! global scope, which the kernel takes from it on the way, and is set up. If one of several cannot be moved, those before
//! it are brought back. rtnetlink(7).

use crate::Error;
use oci::runtime::NetDevice;
use rustix::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice};
use std::collections::BTreeMap;
use sys::namespace::Namespace;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const CREATE_EXCLUSIVE: u16 = 0x600;
const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
/// Address, local address, broadcast address.
const KEPT_ATTRIBUTES: [u16; 3] = [1, 2, 4];
const IFA_F_PERMANENT: u8 = 0x80;

/// An address as it is read and written: family, length of the prefix, attributes.
#[derive(Debug, Clone)]
struct Address {
    family: u8,
    prefix: u8,
    attributes: Vec<(u16, Vec<u8>)>,
}

/// Moves `devices` from the present network namespace into `namespace`.
///
/// # Errors
///
/// [`Error::System`] with the device; those before it are back then.
pub(crate) fn move_in(devices: &BTreeMap<String, NetDevice>, namespace: BorrowedFd<'_>) -> Result<(), Error> {
    let mut moved: Vec<(&str, &str, Vec<Address>)> = Vec::new();
    for (name, device) in devices {
        let inside = device.name.as_deref().filter(|inside| !inside.is_empty()).unwrap_or(name);
        let outcome = carry(name, inside, namespace).and_then(|addresses| {
            let settled = within(namespace, || settle(inside, &addresses));
            moved.push((name, inside, addresses));
            settled
        });
        if let Err(errno) = outcome {
            bring_back(&moved, namespace);
            let source = sys::Error::new("rtnetlink", format_args!("{name} as {inside}"), errno);
            return Err(Error::System { what: "move a network device", source });
        }
    }
    Ok(())
}

/// Undoes what was done; one that cannot be brought back is lost with the namespace, or returns to the first one.
fn bring_back(moved: &[(&str, &str, Vec<Address>)], namespace: BorrowedFd<'_>) {
    let Ok(home) = sys::namespace::current(Namespace::Network) else { return };
    for (name, inside, addresses) in moved {
        if within(namespace, || carry(inside, name, home.as_fd())).is_ok() {
            settle(name, addresses).ok();
        }
    }
}

fn within<T: Send>(
    namespace: BorrowedFd<'_>,
    work: impl FnOnce() -> Result<T, Errno> + Send,
) -> Result<T, Errno> {
    sys::namespace::within(namespace, Namespace::Network, work).map_err(|error| error.errno()).flatten()
}

/// Moves one device, and returns the addresses it had.
fn carry(name: &str, new_name: &str, namespace: BorrowedFd<'_>) -> Result<Vec<Address>, Errno> {
    let socket = Socket::open()?;
    let index = socket.index(name)?;
    let addresses = socket.addresses(index)?;
    let mut text = new_name.as_bytes().to_vec();
    text.push(0);
    let number = namespace.as_raw_fd().to_ne_bytes();
    let attributes = [(IFLA_NET_NS_FD, number.to_vec()), (IFLA_IFNAME, text)];
    socket.ask(RTM_NEWLINK, ACK, &link_header(index, 0), &attributes)?;
    Ok(addresses)
}

/// Gives a device its addresses and sets it up.
fn settle(name: &str, addresses: &[Address]) -> Result<(), Errno> {
    let socket = Socket::open()?;
    let index = socket.index(name)?;
    for Address { family, prefix, attributes } in addresses {
        let mut header = vec![*family, *prefix, IFA_F_PERMANENT, 0];
        header.extend(index.to_ne_bytes());
        socket.ask(RTM_NEWADDR, ACK | CREATE_EXCLUSIVE, &header, attributes)?;
    }
    socket.ask(RTM_NEWLINK, ACK, &link_header(index, IFF_UP), &[]).map(drop)
}

/// `struct ifinfomsg`, changing nothing but whether it is up.
fn link_header(index: u32, flags: u32) -> Vec<u8> {
    [[0; 4], index.to_ne_bytes(), flags.to_ne_bytes(), IFF_UP.to_ne_bytes()].concat()
}

struct Socket(OwnedFd);

impl Socket {
    fn open() -> Result<Self, Errno> {
        // No protocol is number 0, NETLINK_ROUTE.
        net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None).map(Self)
    }

    fn index(&self, name: &str) -> Result<u32, Errno> {
        netdevice::name_to_index(&self.0, name)
    }

    /// Returns the permanent addresses of global scope of a device.
    fn addresses(&self, index: u32) -> Result<Vec<Address>, Errno> {
        let all = self.ask(RTM_GETADDR, DUMP, &[0; 8], &[])?;
        let own = all.iter().filter_map(|message| address(message, index));
        Ok(own.collect())
    }

    /// Sends one message and returns the payloads of the answers.
    fn ask(
        &self,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: &[(u16, Vec<u8>)],
    ) -> Result<Vec<Vec<u8>>, Errno> {
        let mut body = header.to_vec();
        for (number, value) in attributes {
            let length = u16::try_from(value.len() + 4).or(Err(Errno::INVAL))?;
            body.extend([length.to_ne_bytes(), number.to_ne_bytes()].concat());
            body.extend(value);
            body.resize(body.len().next_multiple_of(4), 0);
        }
        let length = u32::try_from(body.len() + 16).or(Err(Errno::INVAL))?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend([kind.to_ne_bytes(), (flags | REQUEST).to_ne_bytes()].concat());
        message.extend([0; 8]);
        message.extend(body);
        net::send(&self.0, &message, SendFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let (size, _) = net::recv(&self.0, &mut buffer, RecvFlags::empty())?;
            let mut rest = buffer.get(..size).unwrap_or_default();
            while let Some((kind, payload, after)) = split(rest) {
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        let code = number(payload).map_or(0, u32::cast_signed);
                        let failed = code != 0;
                        return if failed { Err(Errno::from_raw_os_error(-code)) } else { Ok(answers) };
                    }
                    _ => answers.push(payload.to_vec()),
                }
                rest = after;
            }
        }
    }
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_ne_bytes)
}

/// Takes the first message: its type, its payload, what follows.
fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = usize::try_from(number(bytes)?).ok()?;
    let kind = bytes.get(4..)?.first_chunk().copied().map(u16::from_ne_bytes)?;
    let payload = bytes.get(16..length)?;
    Some((kind, payload, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

/// Reads a `struct ifaddrmsg` with its attributes, if it is of that device and to be kept.
fn address(message: &[u8], index: u32) -> Option<Address> {
    let [family, prefix, flags, scope] = *message.first_chunk()?;
    if scope != 0 || flags & IFA_F_PERMANENT == 0 || number(message.get(4..)?)? != index {
        return None;
    }
    let mut attributes = Vec::new();
    let mut rest = message.get(8..)?;
    while let [one, two, three, four, ..] = *rest {
        let length = usize::from(u16::from_ne_bytes([one, two]));
        let kind = u16::from_ne_bytes([three, four]);
        let value = rest.get(4..length)?;
        if KEPT_ATTRIBUTES.contains(&kind) {
            attributes.push((kind, value.to_vec()));
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(Address { family, prefix, attributes })
}
