//! Links, addresses and routes (rtnetlink(7)).
//!
//! The writers add one message to a batch; the readers dump what the namespace of the socket has.

use super::message::{self, ACK, Answer, Attributes, Batch, CREATE, DUMP, EXCLUSIVE, u32_at};
use super::{Failure, Socket};
use crate::Mac;
use crate::ip::{IpNet, octets};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

// linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NTF_SELF: u8 = 2;
const NUD_PERMANENT: u16 = 0x80;
const AF_BRIDGE: u8 = 7;
const RT_SCOPE_LINK: u8 = 253;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;
// linux/if_link.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_GROUP: u16 = 27;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const VETH_INFO_PEER: u16 = 1;
const IFLA_MACVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_MODE: u16 = 1;
const IFLA_IPVLAN_FLAGS: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PROXY: u16 = 11;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
// linux/if_addr.h
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_F_NODAD: u8 = 2;
/// net/if.h
const IFF_UP: u32 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// The group (ip-link(8)) of the veths that are made here, so that nobody else's are taken for them.
pub(crate) const GROUP: u32 = 0x7768_6172;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// "bridge", "veth", …; physical devices and loopback have none.
    pub(crate) kind: Option<String>,
    /// The index of the bridge it is a port of.
    pub(crate) master: Option<u32>,
    pub(crate) group: u32,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) mac: Option<Mac>,
}

/// One end of a new veth pair that appears in another namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer<'a> {
    pub(crate) netns: BorrowedFd<'a>,
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
}

/// Creates a veth pair in place: the near end up and a port of `master`, the far end in its namespace.
///
/// The far end cannot be up yet (ENOTCONN), and moving it later would cost an RCU grace period.
pub(crate) fn create_veth(batch: &mut Batch, name: &str, master: u32, mtu: u32, peer: Peer<'_>) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE | ACK, &ifinfo(0, IFF_UP, IFF_UP), |link| {
        link.text(IFLA_IFNAME, name);
        link.native(IFLA_MTU, mtu);
        link.native(IFLA_GROUP, GROUP);
        link.native(IFLA_MASTER, master);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest_with(VETH_INFO_PEER, &ifinfo(0, 0, 0), |far| {
                    far.text(IFLA_IFNAME, peer.name);
                    far.native(IFLA_MTU, mtu);
                    far.bytes(IFLA_ADDRESS, &peer.mac.0);
                    far.bytes(IFLA_NET_NS_FD, &peer.netns.as_raw_fd().to_ne_bytes());
                });
            });
        });
    });
}

/// Lets a port of a bridge talk to the bridge itself only, not to other such ports (kernel ≥ 4.18).
pub(crate) fn isolate_port(batch: &mut Batch, name: &str) {
    batch.message(RTM_NEWLINK, ACK, &ifinfo(0, 0, 0), |link| {
        link.text(IFLA_IFNAME, name);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge");
            info.nest(IFLA_INFO_SLAVE_DATA, |data| data.bytes(IFLA_BRPORT_ISOLATED, &[1]));
        });
    });
}

/// Creates a bridge with an address of its own, so that ports coming and going do not change it.
pub(crate) fn create_bridge(batch: &mut Batch, name: &str, mac: Mac, mtu: Option<u32>) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE | ACK, &ifinfo(0, 0, 0), |link| {
        link.text(IFLA_IFNAME, name);
        link.bytes(IFLA_ADDRESS, &mac.0);
        if let Some(mtu) = mtu {
            link.native(IFLA_MTU, mtu);
        }
        link.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, "bridge"));
    });
}

/// Creates a macvlan device of the link `parent` inside another namespace.
pub(crate) fn create_macvlan(batch: &mut Batch, parent: u32, mode: u32, mtu: u32, device: Peer<'_>) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE | ACK, &ifinfo(0, 0, 0), |link| {
        link.text(IFLA_IFNAME, device.name);
        link.native(IFLA_MTU, mtu);
        link.bytes(IFLA_ADDRESS, &device.mac.0);
        link.native(IFLA_LINK, parent);
        link.bytes(IFLA_NET_NS_FD, &device.netns.as_raw_fd().to_ne_bytes());
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "macvlan");
            info.nest(IFLA_INFO_DATA, |data| data.native(IFLA_MACVLAN_MODE, mode));
        });
    });
}

/// Creates an ipvlan device of the link `parent` inside another namespace; it has its parent's hardware address.
pub(crate) fn create_ipvlan(
    batch: &mut Batch,
    parent: u32,
    (mode, flags): (u16, u16),
    mtu: u32,
    device: Peer<'_>,
) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE | ACK, &ifinfo(0, 0, 0), |link| {
        link.text(IFLA_IFNAME, device.name);
        link.native(IFLA_MTU, mtu);
        link.native(IFLA_LINK, parent);
        link.bytes(IFLA_NET_NS_FD, &device.netns.as_raw_fd().to_ne_bytes());
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "ipvlan");
            info.nest(IFLA_INFO_DATA, |data| {
                data.bytes(IFLA_IPVLAN_MODE, &mode.to_ne_bytes());
                data.bytes(IFLA_IPVLAN_FLAGS, &flags.to_ne_bytes());
            });
        });
    });
}

/// Creates the part of a link that carries the VLAN `id` (802.1Q), up.
pub(crate) fn create_vlan(batch: &mut Batch, name: &str, parent: u32, id: u16) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE | ACK, &ifinfo(0, IFF_UP, IFF_UP), |link| {
        link.text(IFLA_IFNAME, name);
        link.native(IFLA_LINK, parent);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "vlan");
            info.nest(IFLA_INFO_DATA, |data| data.bytes(IFLA_VLAN_ID, &id.to_ne_bytes()));
        });
    });
}

/// Creates a veth pair that leads nowhere but to itself, up.
pub(crate) fn create_loose_pair(batch: &mut Batch, name: &str, far: &str) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE | ACK, &ifinfo(0, IFF_UP, IFF_UP), |link| {
        link.text(IFLA_IFNAME, name);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "veth");
            info.nest(IFLA_INFO_DATA, |data| {
                data.nest_with(VETH_INFO_PEER, &ifinfo(0, 0, 0), |peer| peer.text(IFLA_IFNAME, far));
            });
        });
    });
}

/// A tunnel to other hosts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vxlan<'a> {
    pub(crate) name: &'a str,
    pub(crate) id: u32,
    pub(crate) port: u16,
    pub(crate) local: Option<IpAddr>,
    pub(crate) master: u32,
    pub(crate) mtu: u32,
    /// Whether it learns who is where from what comes in; else it is told, and answers in the place of those it knows.
    pub(crate) learns: bool,
}

/// Creates a tunnel (RFC 7348) as a port of a bridge, up.
pub(crate) fn create_vxlan(batch: &mut Batch, vxlan: &Vxlan<'_>) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE | ACK, &ifinfo(0, IFF_UP, IFF_UP), |link| {
        link.text(IFLA_IFNAME, vxlan.name);
        link.native(IFLA_MTU, vxlan.mtu);
        link.native(IFLA_MASTER, vxlan.master);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_KIND, "vxlan");
            info.nest(IFLA_INFO_DATA, |data| {
                data.native(IFLA_VXLAN_ID, vxlan.id);
                data.bytes(IFLA_VXLAN_PORT, &vxlan.port.to_be_bytes());
                data.bytes(IFLA_VXLAN_LEARNING, &[u8::from(vxlan.learns)]);
                data.bytes(IFLA_VXLAN_PROXY, &[u8::from(!vxlan.learns)]);
                if let Some(local) = vxlan.local {
                    let kind = if local.is_ipv6() { IFLA_VXLAN_LOCAL6 } else { IFLA_VXLAN_LOCAL };
                    data.bytes(kind, &octets(local));
                }
            });
        });
    });
}

/// Adds or removes a host that gets what is for everybody and for those nobody has heard of yet.
pub(crate) fn change_peer(batch: &mut Batch, index: u32, peer: IpAddr, add: bool) {
    let flags = if add { CREATE | message::APPEND } else { 0 };
    change_entry(batch, &entry(AF_BRIDGE, index, NTF_SELF), (add, flags), (Mac([0; 6]), peer));
}

/// Adds or removes the host behind which an interface of another host is.
pub(crate) fn change_station(batch: &mut Batch, index: u32, (mac, host): (Mac, IpAddr), add: bool) {
    let flags = if add { CREATE | message::REPLACE } else { 0 };
    change_entry(batch, &entry(AF_BRIDGE, index, NTF_SELF), (add, flags), (mac, host));
}

/// Adds or removes the hardware address that goes with an address, for good.
pub(crate) fn change_neighbour(batch: &mut Batch, index: u32, (mac, address): (Mac, IpAddr), add: bool) {
    let flags = if add { CREATE | message::REPLACE } else { 0 };
    change_entry(batch, &entry(family(address.is_ipv6()), index, 0), (add, flags), (mac, address));
}

/// linux/neighbour.h, `ndmsg`.
fn entry(family: u8, index: u32, flags: u8) -> Vec<u8> {
    let mut header = vec![family, 0, 0, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    header.extend_from_slice(&NUD_PERMANENT.to_ne_bytes());
    header.extend_from_slice(&[flags, 0]);
    header
}

fn change_entry(batch: &mut Batch, header: &[u8], (add, flags): (bool, u16), (mac, to): (Mac, IpAddr)) {
    let kind = if add { RTM_NEWNEIGH } else { RTM_DELNEIGH };
    batch.message(kind, flags | ACK, header, |entry| {
        entry.bytes(NDA_LLADDR, &mac.0);
        entry.bytes(NDA_DST, &octets(to));
    });
}

/// Returns what a tunnel knows of hosts: hardware addresses and the hosts behind which they are. That of zeros stands for
/// everybody.
pub(crate) fn stations(socket: &mut Socket, index: u32) -> Result<Vec<(Mac, IpAddr)>, Failure> {
    entries(socket, AF_BRIDGE, index)
}

/// Returns the hardware addresses that were told to a link for good.
pub(crate) fn neighbours(socket: &mut Socket, index: u32) -> Result<Vec<(Mac, IpAddr)>, Failure> {
    entries(socket, 0, index)
}

fn entries(socket: &mut Socket, family: u8, index: u32) -> Result<Vec<(Mac, IpAddr)>, Failure> {
    let mut request = Batch::new();
    let mut header = [0; 12];
    header[0] = family;
    request.message(RTM_GETNEIGH, DUMP, &header, |_| {});
    let mut found = Vec::new();
    socket.dump(&request, |kind, payload| {
        if kind == RTM_NEWNEIGH && u32_at(payload, 4) == Some(index) {
            found.extend(parse_entry(payload));
        }
    })?;
    Ok(found)
}

/// Reads an entry that stays.
fn parse_entry(payload: &[u8]) -> Option<(Mac, IpAddr)> {
    let state = u16::from_ne_bytes([*payload.get(8)?, *payload.get(9)?]);
    let value =
        |wanted| Attributes::behind(payload, 12).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let mac = Mac(value(NDA_LLADDR)?.try_into().ok()?);
    (state & NUD_PERMANENT != 0).then_some((mac, value(NDA_DST).and_then(address)?))
}

/// Makes a link a port of the bridge `master`.
pub(crate) fn set_master(batch: &mut Batch, name: &str, master: u32) {
    batch.message(RTM_NEWLINK, ACK, &ifinfo(0, 0, 0), |link| {
        link.text(IFLA_IFNAME, name);
        link.native(IFLA_MASTER, master);
    });
}

/// Asks for a link of this kind that cannot be made, so that the answer tells whether the kernel knows the kind.
pub(crate) fn probe_kind(batch: &mut Batch, kind: &str) {
    batch.message(RTM_NEWLINK, CREATE | EXCLUSIVE | ACK, &ifinfo(0, 0, 0), |link| {
        link.text(IFLA_IFNAME, "wharf-probe");
        link.nest(IFLA_LINKINFO, |info| info.text(IFLA_INFO_KIND, kind));
    });
}

/// Sets a link up.
pub(crate) fn set_up(batch: &mut Batch, index: u32) {
    batch.message(RTM_NEWLINK, 0, &ifinfo(index, IFF_UP, IFF_UP), |_| {});
}

/// Sets the largest packet of a link.
pub(crate) fn set_mtu(batch: &mut Batch, index: u32, mtu: u32) {
    batch.message(RTM_NEWLINK, 0, &ifinfo(index, 0, 0), |link| link.native(IFLA_MTU, mtu));
}

/// Deletes a link; of a veth pair both ends.
pub(crate) fn delete_link(batch: &mut Batch, name: &str) {
    batch.message(RTM_DELLINK, ACK, &ifinfo(0, 0, 0), |link| link.text(IFLA_IFNAME, name));
}

/// Adds an address to a link. IPv6 addresses work at once, without duplicate address detection: the engine allots them.
pub(crate) fn add_address(batch: &mut Batch, index: u32, address: IpNet) {
    change_address(batch, RTM_NEWADDR, CREATE | EXCLUSIVE, index, address);
}

/// Removes an address from a link.
pub(crate) fn delete_address(batch: &mut Batch, index: u32, address: IpNet) {
    change_address(batch, RTM_DELADDR, 0, index, address);
}

fn change_address(batch: &mut Batch, kind: u16, flags: u16, index: u32, address: IpNet) {
    let nodad = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
    let mut header = vec![family(address.is_ipv6()), address.prefix(), nodad, 0];
    header.extend_from_slice(&index.to_ne_bytes());
    batch.message(kind, flags, &header, |attributes| {
        let bytes = octets(address.address());
        attributes.bytes(IFA_LOCAL, &bytes);
        attributes.bytes(IFA_ADDRESS, &bytes);
        if !address.is_ipv6() && address.prefix() < 31 {
            attributes.bytes(IFA_BROADCAST, &octets(address.last()));
        }
    });
}

/// Adds a route to `destination` (of prefix length 0: the default route) through `gateway`.
pub(crate) fn add_route(batch: &mut Batch, index: u32, destination: IpNet, gateway: IpAddr) {
    let header = [
        family(destination.is_ipv6()),
        destination.prefix(),
        0,
        0,
        RT_TABLE_MAIN,
        RTPROT_BOOT,
        0,
        RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    batch.message(RTM_NEWROUTE, CREATE | EXCLUSIVE, &header, |route| {
        if destination.prefix() > 0 {
            route.bytes(RTA_DST, &octets(destination.first()));
        }
        route.bytes(RTA_GATEWAY, &octets(gateway));
        route.native(RTA_OIF, index);
    });
}

/// Adds a default route that leads straight into a link (ipvlan in its layer 3 modes).
pub(crate) fn add_link_route(batch: &mut Batch, index: u32, ipv6: bool) {
    let mut header = [0; 12];
    header[0] = family(ipv6);
    header[4] = RT_TABLE_MAIN;
    header[5] = RTPROT_BOOT;
    header[6] = if ipv6 { 0 } else { RT_SCOPE_LINK };
    header[7] = RTN_UNICAST;
    batch.message(RTM_NEWROUTE, CREATE | EXCLUSIVE, &header, |route| route.native(RTA_OIF, index));
}

/// Removes the default route of a family, whichever comes first.
pub(crate) fn delete_default_route(batch: &mut Batch, ipv6: bool) {
    let mut header = [0; 12];
    header[0] = family(ipv6);
    header[4] = RT_TABLE_MAIN;
    batch.message(RTM_DELROUTE, ACK, &header, |_| {});
}

/// Returns the name of the link whose end a message tells of.
pub(crate) fn gone_link(answer: &Answer<'_>) -> Option<String> {
    // The family is another one where a link has only left its bridge.
    let gone = answer.kind == RTM_DELLINK && answer.payload.first() == Some(&0);
    gone.then(|| crate::watch::attribute(answer.payload, 16, IFLA_IFNAME)).flatten()
}

/// Returns every link of the namespace.
pub(crate) fn links(socket: &mut Socket) -> Result<Vec<Link>, Failure> {
    let mut request = Batch::new();
    request.message(RTM_GETLINK, DUMP, &ifinfo(0, 0, 0), |_| {});
    let mut links = Vec::new();
    socket.dump(&request, |kind, payload| {
        if kind == RTM_NEWLINK {
            links.extend(parse_link(payload));
        }
    })?;
    Ok(links)
}

/// Returns the link of this name.
pub(crate) fn link(socket: &mut Socket, name: &str) -> Result<Option<Link>, Failure> {
    let mut request = Batch::new();
    request.message(RTM_GETLINK, 0, &ifinfo(0, 0, 0), |link| link.text(IFLA_IFNAME, name));
    let mut found = None;
    match socket.dump(&request, |_, payload| found = parse_link(payload)) {
        Ok(()) => Ok(found),
        Err(Failure::Refused(refused)) if refused.errno == Errno::NODEV => Ok(None),
        Err(other) => Err(other),
    }
}

/// Returns every address of the namespace with the index of its link.
pub(crate) fn addresses(socket: &mut Socket) -> Result<Vec<(u32, IpNet)>, Failure> {
    let mut request = Batch::new();
    request.message(RTM_GETADDR, DUMP, &[0; 8], |_| {});
    let mut addresses = Vec::new();
    socket.dump(&request, |kind, payload| {
        if kind == RTM_NEWADDR {
            addresses.extend(parse_address(payload));
        }
    })?;
    Ok(addresses)
}

/// Returns the destinations of every unicast route in the main table, default routes included.
pub(crate) fn routes(socket: &mut Socket) -> Result<Vec<IpNet>, Failure> {
    let mut request = Batch::new();
    request.message(RTM_GETROUTE, DUMP, &[0; 12], |_| {});
    let mut routes = Vec::new();
    socket.dump(&request, |kind, payload| {
        if kind == RTM_NEWROUTE {
            routes.extend(parse_route(payload));
        }
    })?;
    Ok(routes)
}

fn parse_link(payload: &[u8]) -> Option<Link> {
    let mut link = Link {
        index: u32_at(payload, 4)?,
        name: String::new(),
        kind: None,
        master: None,
        group: 0,
        mtu: 0,
        up: u32_at(payload, 8)? & IFF_UP != 0,
        mac: None,
    };
    for (kind, value) in Attributes::behind(payload, 16) {
        match kind {
            IFLA_IFNAME => link.name = message::text(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_MASTER => link.master = u32_at(value, 0),
            IFLA_GROUP => link.group = u32_at(value, 0)?,
            IFLA_ADDRESS => link.mac = <[u8; 6]>::try_from(value).ok().map(Mac),
            IFLA_LINKINFO => {
                link.kind = Attributes::behind(value, 0)
                    .find(|(kind, _)| *kind == IFLA_INFO_KIND)
                    .map(|(_, value)| message::text(value));
            }
            _ => {}
        }
    }
    Some(link)
}

fn parse_address(payload: &[u8]) -> Option<(u32, IpNet)> {
    let (prefix, index) = (*payload.get(1)?, u32_at(payload, 4)?);
    let mut found = None;
    for (kind, value) in Attributes::behind(payload, 8) {
        // On a point-to-point link IFA_ADDRESS is the other side's, so IFA_LOCAL wins; IPv6 has only IFA_ADDRESS.
        if kind == IFA_LOCAL || (kind == IFA_ADDRESS && found.is_none()) {
            found = address(value);
        }
    }
    Some((index, IpNet::new(found?, prefix)?))
}

fn parse_route(payload: &[u8]) -> Option<IpNet> {
    let [family, prefix, _, _, table, _, _, kind, ..] = *payload else { return None };
    if table != RT_TABLE_MAIN || kind != RTN_UNICAST || u32_at(payload, 8)? & RTM_F_CLONED != 0 {
        return None;
    }
    let destination = Attributes::behind(payload, 12).find(|(kind, _)| *kind == RTA_DST);
    let destination = match (destination, family) {
        (Some((_, value)), _) => address(value)?,
        (None, AF_INET) => Ipv4Addr::UNSPECIFIED.into(),
        (None, AF_INET6) => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    IpNet::new(destination, prefix)
}

/// Reads a message as each of those that are asked for.
pub(super) fn judge(answer: &Answer<'_>) {
    let link = parse_link(answer.payload);
    assert!(link.is_none_or(|link| link.name.len() <= 3 * answer.payload.len()), "{answer:?}");
    parse_address(answer.payload);
    parse_route(answer.payload);
    parse_entry(answer.payload);
    gone_link(answer);
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

fn family(ipv6: bool) -> u8 {
    if ipv6 { AF_INET6 } else { AF_INET }
}

fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    let fields = [index, flags, change];
    for (place, field) in header.chunks_exact_mut(4).skip(1).zip(fields) {
        place.copy_from_slice(&field.to_ne_bytes());
    }
    header
}
