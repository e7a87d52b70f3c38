//! Published ports: the books of what leads where, and the maps that the packet filter has for it.
//!
//! A run of ports of one container is one element, however long it is. Single ports are in maps of their own, which the
//! kernel hashes; those of runs are searched part by part of the key.

use super::plan::{Content, Set};
use crate::Protocol;
use crate::ip::octets;
use crate::netlink::nft::{Element, ElementData, Target, Type};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// Published ports that follow each other and lead to ports that follow each other; mostly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mapping {
    /// The protocol.
    pub protocol: Protocol,
    /// The host's address; `0.0.0.0` or `::` for all of a family.
    pub host_ip: IpAddr,
    /// The host's port, the first of them.
    pub host_port: u16,
    /// The container's address.
    pub container_ip: IpAddr,
    /// The container's port, the first of them.
    pub container_port: u16,
    /// How many come after the first.
    pub more: u16,
    /// By which addresses it is reached.
    pub way: Way,
}

/// By which addresses a published port is reached from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Way {
    /// The host's.
    #[default]
    Host,
    /// The container's own (gateway mode `routed`).
    Container,
    /// Both (`allow-direct-routing`).
    Both,
}

impl Mapping {
    /// Returns the ports of the host.
    pub fn host_ports(&self) -> RangeInclusive<u16> {
        self.host_port..=self.host_port.saturating_add(self.more)
    }

    fn key(&self) -> (Protocol, IpAddr, u16) {
        (self.protocol, self.host_ip, self.host_port)
    }

    /// Returns the part of it that has these ports of the host.
    fn part(&self, first: u16, last: u16) -> Self {
        let container_port = self.container_port.wrapping_add(first.wrapping_sub(self.host_port));
        Self { host_port: first, container_port, more: last.saturating_sub(first), ..*self }
    }

    /// Whether `next` goes on where this one ends.
    fn goes_on_with(&self, next: &Self) -> bool {
        let (first, last) = next.host_ports().into_inner();
        self.host_ports().end().checked_add(1) == Some(first) && *next == self.part(first, last)
    }

    /// Returns it in as few parts as the packet filter can express.
    fn pieces(self) -> Vec<Self> {
        if self.more == 0 || self.host_port == self.container_port || shift(&self).is_some() {
            return vec![self];
        }
        let (first, last) = self.host_ports().into_inner();
        let middle = first + self.more / 2;
        [self.part(first, middle), self.part(middle + 1, last)].into_iter().flat_map(Self::pieces).collect()
    }
}

/// What is closed, and what is opened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// What leads nowhere any more.
    pub closed: Vec<Mapping>,
    /// What is new.
    pub open: Vec<Mapping>,
}

/// The books: which ports of the host lead where.
#[derive(Debug, Clone, Default)]
pub struct Redirections(BTreeMap<(Protocol, IpAddr, u16), Mapping>);

impl Redirections {
    /// Lets `ports` lead nowhere and then opens `open`, and returns what the packet filter is to do.
    ///
    /// A run of which a part is closed goes on as what is left of it.
    pub fn change(&mut self, ports: &[(Protocol, SocketAddr)], open: Vec<Mapping>) -> Change {
        let mut closed = Vec::new();
        let mut new = BTreeMap::new();
        for (protocol, address, ports) in runs(ports) {
            let before = self.0.range(..=(protocol, address, *ports.end())).rev();
            let hit: Vec<Mapping> = before
                .map(|(_, mapping)| *mapping)
                .take_while(|mapping| {
                    (mapping.protocol, mapping.host_ip) == (protocol, address)
                        && mapping.host_ports().end() >= ports.start()
                })
                .collect();
            for old in hit {
                self.0.remove(&old.key());
                // What is left of one may lose another part at once.
                if new.remove(&old.key()).is_none() {
                    closed.push(old);
                }
                let (first, last) = (old.host_port, *old.host_ports().end());
                let left = ports.start().checked_sub(1).filter(|end| *end >= first);
                let right = ports.end().checked_add(1).filter(|start| *start <= last);
                let rest = [left.map(|end| old.part(first, end)), right.map(|start| old.part(start, last))];
                for rest in rest.into_iter().flatten() {
                    self.0.insert(rest.key(), rest);
                    new.insert(rest.key(), rest);
                }
            }
        }
        for mapping in joined(open) {
            self.0.insert(mapping.key(), mapping);
            new.insert(mapping.key(), mapping);
        }
        Change { closed, open: new.into_values().collect() }
    }

    /// Takes a change back.
    pub fn undo(&mut self, change: &Change) {
        for mapping in &change.open {
            self.0.remove(&mapping.key());
        }
        self.0.extend(change.closed.iter().map(|mapping| (mapping.key(), *mapping)));
    }

    /// Returns all of them.
    pub fn all(&self) -> Vec<Mapping> {
        self.0.values().copied().collect()
    }
}

/// Returns the ports as runs.
fn runs(ports: &[(Protocol, SocketAddr)]) -> Vec<(Protocol, IpAddr, RangeInclusive<u16>)> {
    let mut sorted: Vec<_> = ports.iter().map(|(protocol, at)| (*protocol, at.ip(), at.port())).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
        .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1) && a.2.checked_add(1) == Some(b.2))
        .filter_map(|run| {
            let (first, last) = (run.first()?, run.last()?);
            Some((first.0, first.1, first.2..=last.2))
        })
        .collect()
}

/// Makes one of what follows each other.
fn joined(mut mappings: Vec<Mapping>) -> Vec<Mapping> {
    mappings.sort_unstable_by_key(Mapping::key);
    let mut joined: Vec<Mapping> = Vec::new();
    for next in mappings {
        match joined.last_mut() {
            Some(last) if last.goes_on_with(&next) => last.more += next.more + 1,
            _ => joined.push(next),
        }
    }
    joined.into_iter().flat_map(Mapping::pieces).collect()
}

/// A map from ports of the host to those of containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PortsMap {
    ipv6: bool,
    kind: Kind,
    any: bool,
}

/// What is in such a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Single ports.
    Single,
    /// Runs of ports that are the same on both sides.
    Range,
    /// Runs of ports that are not.
    Shifted,
}

impl PortsMap {
    /// All of them, in the order in which they are asked.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let kinds =
            [(Kind::Single, false), (Kind::Single, true), (Kind::Range, false), (Kind::Shifted, false)];
        [false, true].into_iter().flat_map(move |ipv6| kinds.map(|(kind, any)| Self { ipv6, kind, any }))
    }

    pub(super) fn name(self) -> &'static str {
        match (self.ipv6, self.kind, self.any) {
            (false, Kind::Single, false) => "ports4",
            (false, Kind::Single, true) => "ports4-any",
            (true, Kind::Single, false) => "ports6",
            (true, Kind::Single, true) => "ports6-any",
            (false, Kind::Range, _) => "ranges4",
            (true, Kind::Range, _) => "ranges6",
            (false, Kind::Shifted, _) => "shifted4",
            (true, Kind::Shifted, _) => "shifted6",
        }
    }

    pub(super) fn ipv6(self) -> bool {
        self.ipv6
    }

    pub(super) fn kind(self) -> Kind {
        self.kind
    }

    /// Whether the host's address is no part of the key. In maps of ranges all addresses are a range.
    pub(super) fn any(self) -> bool {
        self.any
    }

    fn set(self) -> Set {
        let value: &'static [Type] = match (self.ipv6, self.kind) {
            (false, Kind::Single) => &[Type::Ipv4, Type::Port],
            (true, Kind::Single) => &[Type::Ipv6, Type::Port],
            (false, Kind::Range) => &[Type::Ipv4],
            (true, Kind::Range) => &[Type::Ipv6],
            (false, Kind::Shifted) => &[Type::Ipv4, Type::Port, Type::Port],
            (true, Kind::Shifted) => &[Type::Ipv6, Type::Port, Type::Port],
        };
        let key: &'static [Type] =
            if self.any { &[Type::Protocol, Type::Port] } else { address_and_port(self.ipv6) };
        Set {
            name: self.name(),
            key,
            ranges: self.kind != Kind::Single,
            target: Target::Value(value),
            content: Content::Kept,
        }
    }
}

/// The ports of loopback addresses: single ones, and runs.
pub(super) fn loopback_set(ranges: bool) -> &'static str {
    if ranges { "loopback-ranges" } else { "loopback-ports" }
}

/// The ports reached by the containers' own addresses of a family. One port may be there for several of the host, so that
/// runs of it would overlap.
pub(super) fn direct_set(ipv6: bool) -> &'static str {
    if ipv6 { "direct6" } else { "direct4" }
}

/// Returns all sets and maps of ports.
pub(super) fn sets() -> Vec<Set> {
    let members = |name, ipv6, ranges| Set {
        name,
        key: address_and_port(ipv6),
        ranges,
        target: Target::Nothing,
        content: Content::Kept,
    };
    let direct = [false, true].map(|ipv6| members(direct_set(ipv6), ipv6, false));
    let loopback = [false, true].map(|ranges| members(loopback_set(ranges), false, ranges));
    direct.into_iter().chain(PortsMap::all().map(PortsMap::set)).chain(loopback).collect()
}

fn address_and_port(ipv6: bool) -> &'static [Type] {
    match ipv6 {
        false => &[Type::Protocol, Type::Ipv4, Type::Port],
        true => &[Type::Protocol, Type::Ipv6, Type::Port],
    }
}

/// Returns the elements that open ports, and the maps or sets they go into.
pub(super) fn elements(mapping: &Mapping) -> impl Iterator<Item = (&'static str, Element)> {
    let host = (mapping.way != Way::Container).then(|| element(mapping)).flatten();
    host.into_iter().chain(direct(mapping))
}

/// Returns the elements that open ports at the container's own address.
fn direct(mapping: &Mapping) -> impl Iterator<Item = (&'static str, Element)> {
    let Mapping { protocol, host_ip, container_ip, container_port: first, more, way, .. } = *mapping;
    let ipv6 = container_ip.is_ipv6();
    let opens = way != Way::Host && !host_ip.is_loopback() && host_ip.is_ipv6() == ipv6;
    let ports = opens.then(|| first..=first.saturating_add(more)).into_iter().flatten();
    ports.map(move |port| (direct_set(ipv6), Element::member(key(protocol, Some(container_ip), port))))
}

/// Returns the element that leads from ports of the host to those of the container.
pub(super) fn element(mapping: &Mapping) -> Option<(&'static str, Element)> {
    let (ipv6, ranges, protocol) = (mapping.host_ip.is_ipv6(), mapping.more > 0, mapping.protocol);
    let (first, last) = mapping.host_ports().into_inner();
    if mapping.host_ip.is_loopback() {
        // The kernel itself drops packets from outside to ::1.
        let key = |port| key(protocol, Some(mapping.host_ip), port);
        let last = ranges.then(|| key(last));
        let element = Element { key: key(first), last, data: ElementData::Nothing };
        return (!ipv6).then(|| (loopback_set(ranges), element));
    }
    if mapping.container_ip.is_ipv6() != ipv6 {
        return None;
    }
    let kind = match ranges {
        false => Kind::Single,
        true if mapping.host_port == mapping.container_port => Kind::Range,
        true => Kind::Shifted,
    };
    let unspecified = mapping.host_ip.is_unspecified();
    let map = PortsMap { ipv6, kind, any: unspecified && kind == Kind::Single };
    let highest = if ipv6 { Ipv6Addr::from_bits(u128::MAX).into() } else { Ipv4Addr::BROADCAST.into() };
    let last_ip = if unspecified { highest } else { mapping.host_ip };
    let address = octets(mapping.container_ip);
    let value = match kind {
        Kind::Single => [address, number(mapping.container_port)].concat(),
        Kind::Range => address,
        Kind::Shifted => {
            let (low, high) = shift(mapping)?;
            [address, number(low), number(high)].concat()
        }
    };
    let element = Element {
        key: key(protocol, (!map.any).then_some(mapping.host_ip), first),
        last: ranges.then(|| key(protocol, Some(last_ip), last)),
        data: ElementData::Value(value),
    };
    Some((map.name(), element))
}

/// Returns the range of ports with which the kernel comes from each port of the host to the container's.
///
/// It takes `low + port % (high - low + 1)`, so the size has to be such that the remainder grows with the port.
fn shift(mapping: &Mapping) -> Option<(u16, u16)> {
    let (host, container) = (u32::from(mapping.host_port), u32::from(mapping.container_port));
    let last = host + u32::from(mapping.more);
    // Upwards the remainder is the port itself.
    if container > host {
        return Some((u16::try_from(container - host).ok()?, u16::MAX));
    }
    // Downwards the first port lies `rest` above the `times`-th multiple of the size, the last one below the next.
    let down = host - container;
    let (size, times) = (1..=host).find_map(|times| {
        let least = (last / (times + 1) + 1).max(down.div_ceil(times));
        let most = (host / times).min((0x1_0000 + down) / (times + 1));
        (least <= most).then_some((most, times))
    })?;
    let low = times * size - down;
    Some((u16::try_from(low).ok()?, u16::try_from(low + size - 1).ok()?))
}

fn key(protocol: Protocol, address: Option<IpAddr>, port: u16) -> Vec<u8> {
    let mut key = vec![protocol.number(), 0, 0, 0];
    key.extend(address.map(octets).unwrap_or_default());
    key.extend(number(port));
    key
}

/// A port as it lies in a register.
fn number(port: u16) -> Vec<u8> {
    let [high, low] = port.to_be_bytes();
    vec![high, low, 0, 0]
}
