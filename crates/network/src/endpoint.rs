//! A container's interface on a bridge: one veth pair.
//!
//! Attaching is two netlink batches: on the host the pair is created in place (the near end up and on the bridge, the
//! far end in the container's namespace), inside the namespace everything else follows with one ACK. Nothing is ever
//! moved or deleted on the way of a start (hot-path.md §4).

use crate::netlink::message::Batch;
use crate::netlink::{Failure, Refused, Socket, route};
use crate::{Error, IpNet, Mac, bridge, netns};
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The default routes of one family that are looked for; a container that adds more keeps them.
const DEFAULT_ROUTES: usize = 8;

/// An interface as it should be.
#[derive(Debug, Clone)]
pub struct EndpointPlan<'a> {
    /// The container's network namespace.
    pub netns: BorrowedFd<'a>,
    /// What it hangs on.
    pub link: Attachment,
    /// The name in the container, e.g. `eth0`.
    pub name: String,
    /// The hardware address in the container; an ipvlan device has its parent's.
    pub mac: Mac,
    /// The container's addresses with the length of the subnet's prefix.
    pub addresses: Vec<IpNet>,
    /// Where the default routes go, at most one of each family; empty in internal networks.
    pub gateways: Vec<IpAddr>,
    /// Further routes: destination and gateway.
    pub routes: Vec<(IpNet, IpAddr)>,
    /// The largest packet.
    pub mtu: u32,
    /// Settings of the namespace, dotted, written before the interface is up.
    pub sysctls: Vec<(String, String)>,
}

/// How a container's interface reaches the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// A veth pair, whose host end is a port of a bridge.
    Bridge {
        /// The bridge's name.
        bridge: String,
        /// The name of the veth's end on the host, e.g. `veth1a2b3c4`.
        host_name: String,
        /// Whether the container is kept from others on the bridge that are isolated too (`icc` off).
        isolated: bool,
    },
    /// A macvlan device of a parent link.
    Macvlan {
        /// The parent's name.
        parent: String,
        /// How the devices of one parent see each other.
        mode: MacvlanMode,
    },
    /// An ipvlan device of a parent link, with whom it shares the hardware address.
    Ipvlan {
        /// The parent's name.
        parent: String,
        /// On which layer packets find their way.
        mode: IpvlanMode,
        /// Who of one parent sees whom.
        flag: IpvlanFlag,
    },
}

/// The modes of an ipvlan device (`linux/if_link.h`, `ipvlan_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpvlanMode {
    /// As a switch: with ARP and gateways.
    #[default]
    L2,
    /// As a router: the default route is the device itself.
    L3,
    /// The same, with the parent's connection tracking.
    L3s,
}

/// Who of one ipvlan parent sees whom (`linux/if_link.h`, `IPVLAN_F_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum IpvlanFlag {
    /// All see each other.
    #[default]
    Bridge,
    /// Nobody sees the others.
    Private,
    /// They see each other through an outside switch that reflects.
    Vepa,
}

/// The modes of a macvlan device (`linux/if_link.h`, `macvlan_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MacvlanMode {
    /// Nobody sees the others.
    Private,
    /// They see each other through an outside switch that reflects.
    Vepa,
    /// They see each other directly.
    #[default]
    Bridge,
    /// One device takes over the parent.
    Passthru,
}

impl MacvlanMode {
    fn number(self) -> u32 {
        match self {
            Self::Private => 1,
            Self::Vepa => 2,
            Self::Bridge => 4,
            Self::Passthru => 8,
        }
    }
}

/// Gives the container its interface: made, addressed, routed, up. `lo` is set up too.
///
/// An interface without an IPv6 address has IPv6 switched off (CVE-2024-32473), unless `sysctls` say otherwise. If a step
/// fails, the interface is removed again.
///
/// # Errors
/// [`Error::NoSuchLink`] without the bridge or parent, [`Error::Link`] naming the step, [`Error::Sysctl`].
pub fn attach(plan: &EndpointPlan<'_>) -> Result<(), Error> {
    let mut host = Socket::route()?;
    let creation = Creation::of(plan, &host)?;
    // The host's socket acts on the host's namespace from any thread, so one visit to the container's is enough.
    netns::inside(plan.netns, move || {
        set_ipv6_default(plan)?;
        let mut inner = Socket::route()?;
        host.execute(creation.batch).map_err(creation.failed)?;
        let mut finish = || {
            if let Attachment::Bridge { host_name, isolated: true, .. } = &plan.link {
                isolate(&mut host, host_name)?;
            }
            configure(plan, &mut inner)
        };
        let result = finish();
        if result.is_err() {
            // The first error is the one to tell; the interface may be gone by itself.
            bridge::delete(&mut inner, &plan.name).unwrap_or_default();
        }
        result
    })
}

/// The message that makes the interface, and the words for its failure.
struct Creation<F> {
    batch: Batch,
    failed: F,
}

impl Creation<()> {
    fn of(
        plan: &EndpointPlan<'_>,
        host: &Socket,
    ) -> Result<Creation<impl FnOnce(Failure) -> Error + Send + use<>>, Error> {
        let mut batch = Batch::new();
        let peer = route::Peer { netns: plan.netns, name: &plan.name, mac: plan.mac };
        let (operation, name) = match &plan.link {
            Attachment::Bridge { bridge, host_name, .. } => {
                route::create_veth(&mut batch, host_name, index(host, bridge)?, plan.mtu, peer);
                ("create veth", host_name.clone())
            }
            Attachment::Macvlan { parent, mode } => {
                route::create_macvlan(&mut batch, index(host, parent)?, mode.number(), plan.mtu, peer);
                ("create macvlan", plan.name.clone())
            }
            Attachment::Ipvlan { parent, mode, flag } => {
                let mode = match mode {
                    IpvlanMode::L2 => 0,
                    IpvlanMode::L3 => 1,
                    IpvlanMode::L3s => 2,
                };
                let flag = match flag {
                    IpvlanFlag::Bridge => 0,
                    IpvlanFlag::Private => 1,
                    IpvlanFlag::Vepa => 2,
                };
                route::create_ipvlan(&mut batch, index(host, parent)?, (mode, flag), plan.mtu, peer);
                ("create ipvlan", plan.name.clone())
            }
        };
        let word = move |refused: Refused| Error::Link { operation, name, errno: refused.errno };
        Ok(Creation { batch, failed: move |failure: Failure| failure.into_error(word) })
    }
}

/// Returns a link's index by an ioctl: 1 µs, where a look-up over netlink tells (and counts) everything: 75 µs.
fn index(socket: &Socket, name: &str) -> Result<u32, Error> {
    rustix::net::netdevice::name_to_index(socket, name).map_err(|errno| match errno {
        Errno::NODEV => Error::NoSuchLink(name.to_owned()),
        errno => Error::Link { operation: "look up", name: name.to_owned(), errno },
    })
}

fn isolate(host: &mut Socket, host_name: &str) -> Result<(), Error> {
    let mut batch = Batch::new();
    route::isolate_port(&mut batch, host_name);
    let name = host_name.to_owned();
    let word = |refused: Refused| Error::Link { operation: "isolate", name, errno: refused.errno };
    host.execute(batch).map_err(|failure| failure.into_error(word))
}

/// The part inside the namespace, once the interface is there.
fn configure(plan: &EndpointPlan<'_>, socket: &mut Socket) -> Result<(), Error> {
    let index = index(socket, &plan.name)?;
    netns::write_sysctls(plan.sysctls.iter().map(|(name, value)| (name.as_str(), value.as_str())))?;
    let mut batch = Batch::new();
    let mut steps = Vec::new();
    netns::loopback_up(&mut batch);
    steps.push("set up lo beside");
    for address in &plan.addresses {
        route::add_address(&mut batch, index, *address);
        steps.push("add address to");
    }
    route::set_up(&mut batch, index);
    steps.push("set up");
    // Routes come last: the kernel refuses a gateway that is not reachable yet.
    for gateway in &plan.gateways {
        match plan.link {
            Attachment::Ipvlan { mode: IpvlanMode::L3 | IpvlanMode::L3s, .. } => {
                route::add_link_route(&mut batch, index, gateway.is_ipv6());
            }
            _ => route::add_route(&mut batch, index, everything(*gateway), *gateway),
        }
        steps.push("add default route through");
    }
    for (destination, gateway) in &plan.routes {
        route::add_route(&mut batch, index, *destination, *gateway);
        steps.push("add route through");
    }
    batch.acknowledge_last();
    let word = |refused: Refused| Error::Link {
        operation: steps.get(refused.index).copied().unwrap_or("configure"),
        name: plan.name.clone(),
        errno: refused.errno,
    };
    socket.execute(batch).map_err(|failure| failure.into_error(word))
}

/// Decides whether the interface that comes next has IPv6 from its first moment.
///
/// As a default of the namespace it costs nothing; switching a device that exists costs the kernel 100 µs and more.
fn set_ipv6_default(plan: &EndpointPlan<'_>) -> Result<(), Error> {
    let off = if plan.addresses.iter().any(|address| address.is_ipv6()) { "0" } else { "1" };
    match netns::write_sysctls([("net.ipv6.conf.default.disable_ipv6", off)]) {
        // A kernel without IPv6 has nothing to switch.
        Err(Error::Sysctl { errno: Errno::NOENT, .. }) => Ok(()),
        result => result,
    }
}

/// The net that stands for "everything" in the family of `gateway`.
fn everything(gateway: IpAddr) -> IpNet {
    let any: IpAddr =
        if gateway.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    IpNet::new(any, 0).unwrap_or(IpNet::host(any))
}

/// Lets the default routes of a living container lead through `gateways` of its interface `name`, and nowhere else.
///
/// # Errors
/// [`Error::System`], [`Error::Link`].
pub fn set_default_route(netns: BorrowedFd<'_>, name: &str, gateways: &[IpAddr]) -> Result<(), Error> {
    netns::inside(netns, || {
        let mut socket = Socket::route()?;
        let word = |refused: Refused| Error::Link {
            operation: "move default route to",
            name: name.to_owned(),
            errno: refused.errno,
        };
        for ipv6 in [false, true] {
            // There may be none, or no such family.
            for _ in 0..DEFAULT_ROUTES {
                let mut batch = Batch::new();
                route::delete_default_route(&mut batch, ipv6);
                match socket.execute(batch) {
                    Ok(()) => {}
                    Err(Failure::Refused(_)) => break,
                    Err(failure) => return Err(failure.into_error(word)),
                }
            }
        }
        if gateways.is_empty() {
            return Ok(());
        }
        let index = index(&socket, name)?;
        let mut batch = Batch::new();
        for gateway in gateways {
            route::add_route(&mut batch, index, everything(*gateway), *gateway);
        }
        batch.acknowledge_last();
        socket.execute(batch).map_err(|failure| failure.into_error(word))
    })
}

/// Returns whether the namespace has an interface of this name.
///
/// # Errors
/// [`Error::System`].
pub fn exists(netns: BorrowedFd<'_>, name: &str) -> Result<bool, Error> {
    netns::inside(netns, || bridge::exists(name))
}

/// Deletes the veth pair whose end on the host is `host_name`; one that is gone already is no error.
///
/// This waits for an RCU grace period: when the container has ended, close the last descriptor of its namespace instead,
/// and the kernel deletes the pair on its own time.
///
/// # Errors
/// [`Error::Link`].
pub fn detach(host_name: &str) -> Result<(), Error> {
    bridge::delete(&mut Socket::route()?, host_name)
}

/// Deletes the interface `name` inside a living container (`network disconnect`); gone already is no error.
///
/// # Errors
/// [`Error::System`], [`Error::Link`].
pub fn detach_inside(netns: BorrowedFd<'_>, name: &str) -> Result<(), Error> {
    netns::inside(netns, || bridge::delete(&mut Socket::route()?, name))
}
