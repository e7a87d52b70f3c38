//! From the plan to messages for the kernel.

use super::plan::{Content, Rule, Set, Side, Statement, Table};
use super::ports::{Kind, direct_set, loopback_set};
use crate::IpNet;
use crate::ip::{bits, octets};
use crate::netlink::nft::{
    Conntrack, Element, ElementData, Expressions, Header, Lookup, Meta, NatPorts, Register, Transaction,
};
use std::net::{Ipv4Addr, Ipv6Addr};

// linux/netfilter/nf_conntrack_common.h: the bits of established and related; IPS_DST_NAT.
const STATE_ESTABLISHED_RELATED: u32 = 2 | 4;
const STATUS_DESTINATION_NAT: u32 = 1 << 5;
/// linux/rtnetlink.h: `RTN_LOCAL`.
const ROUTE_LOCAL: u32 = 2;
/// Offsets in an ARP packet of Ethernet and IPv4 (RFC 826).
const ARP_SENDER: u32 = 14;
const ARP_TARGET: u32 = 24;
/// RFC 4443, and the types of RFC 4861.
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// The length of an interface name in a register.
const NAME_LENGTH: usize = 16;

/// Writes a table: chains and sets are made if need be, our own content is replaced, other people's is kept.
///
/// All chains and sets come before the rules that name them.
pub(super) fn write(transaction: &mut Transaction, table: &Table) {
    transaction.table();
    for chain in &table.chains {
        transaction.chain(chain.name, chain.hook);
    }
    for set in &table.sets {
        transaction.set(set.name, set.key, set.ranges, set.target);
    }
    for chain in table.chains.iter().filter(|chain| chain.rules.is_some()) {
        transaction.flush_chain(chain.name);
    }
    for set in table.sets.iter().filter(|set| set.content != Content::Kept) {
        transaction.flush_set(set.name);
        transaction.add_elements(set.name, &elements(set));
    }
    for chain in &table.chains {
        for Rule(statements) in chain.rules.iter().flatten() {
            transaction.rule(chain.name, |expressions| {
                for one in statements {
                    statement(expressions, one);
                }
            });
        }
    }
}

fn elements(set: &Set) -> Vec<Element> {
    match &set.content {
        Content::Kept => Vec::new(),
        Content::Names(names) => names.iter().map(|name| Element::member(padded(name))).collect(),
        Content::Addresses(all) => all.iter().map(|address| Element::member(octets(*address))).collect(),
        Content::Pairs(pairs) => pairs
            .iter()
            .map(|(name, verdict)| Element {
                key: [padded(name), padded(name)].concat(),
                last: None,
                data: ElementData::Verdict(verdict.clone()),
            })
            .collect(),
    }
}

/// An interface name as it lies in a register.
pub(super) fn padded(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_LENGTH, 0);
    bytes
}

fn statement(rule: &mut Expressions<'_, '_>, statement: &Statement) {
    let first = Register::FIRST;
    match statement {
        Statement::Family { ipv6 } => family(rule, *ipv6),
        Statement::Name { side, equal, name } => {
            rule.meta(first, side.meta());
            rule.compare(first, *equal, &padded(name));
        }
        Statement::NameIn { side, set } => {
            rule.meta(first, side.meta());
            rule.lookup(set, first, Lookup::Member);
        }
        Statement::PairVerdict => {
            rule.meta(first, Meta::InputName);
            rule.meta(first.behind(16), Meta::OutputName);
            rule.lookup(super::plan::INTRA, first, Lookup::Verdict);
        }
        Statement::Source(net) => address(rule, *net, source_offset(net.is_ipv6())),
        Statement::Destination(net) => address(rule, *net, destination_offset(net.is_ipv6())),
        Statement::DestinationIsHost => {
            rule.destination_type(first);
            rule.compare(first, true, &ROUTE_LOCAL.to_ne_bytes());
        }
        Statement::Established => any_bit(rule, Conntrack::State, STATE_ESTABLISHED_RELATED),
        Statement::WasDestinationNat => any_bit(rule, Conntrack::Status, STATUS_DESTINATION_NAT),
        Statement::LoopbackPort { ranges } => {
            port_key(rule, false, false);
            rule.lookup(loopback_set(*ranges), first, Lookup::Member);
        }
        Statement::PublishedPort(map) => {
            let ipv6 = map.ipv6();
            port_key(rule, ipv6, map.any());
            rule.lookup(map.name(), first, Lookup::Value(first));
            let port = first.behind(u32::from(address_length(ipv6)));
            let ports = match map.kind() {
                Kind::Single => NatPorts::One(port),
                Kind::Range => NatPorts::Kept,
                Kind::Shifted => NatPorts::Shifted { first: port, last: port.behind(4) },
            };
            rule.destination_nat(ipv6, first, ports);
        }
        Statement::EtherType(number) => {
            rule.meta(first, Meta::EtherType);
            rule.compare(first, true, &number.to_be_bytes());
        }
        Statement::Link { ipv6, answer } => link_key(rule, *ipv6, *answer),
        Statement::ArpPair => {
            rule.payload(first, Header::Network, ARP_SENDER, 4);
            rule.payload(first.behind(4), Header::Network, ARP_TARGET, 4);
            rule.lookup(super::plan::neighbours(false), first, Lookup::Member);
        }
        Statement::ArpOfGateway => {
            rule.payload(first, Header::Network, ARP_SENDER, 4);
            rule.lookup(super::plan::gateways(false), first, Lookup::Member);
        }
        Statement::NeighbourMessage { answer } => neighbour_message(rule, *answer),
        Statement::NeighbourPair { answer } => {
            neighbour_message(rule, *answer);
            let (header, offset) =
                if *answer { (Header::Network, destination_offset(true)) } else { (Header::Transport, 8) };
            rule.payload(first, Header::Network, source_offset(true), 16);
            rule.payload(first.behind(16), header, offset, 16);
            rule.lookup(super::plan::neighbours(true), first, Lookup::Member);
        }
        Statement::NeighbourOfGateway => {
            neighbour_message(rule, true);
            rule.payload(first, Header::Transport, 8, 16);
            rule.lookup(super::plan::gateways(true), first, Lookup::Member);
        }
        Statement::Marked(mark) => {
            rule.meta(first, Meta::Mark);
            rule.mask(first, &mark.mask.to_ne_bytes());
            rule.compare(first, true, &(mark.value & mark.mask).to_ne_bytes());
        }
        Statement::DirectPort { ipv6 } => {
            port_key(rule, *ipv6, false);
            rule.lookup(direct_set(*ipv6), first, Lookup::Member);
        }
        Statement::Masquerade => rule.masquerade(),
        Statement::Verdict(verdict) => rule.verdict(verdict),
    }
}

impl Side {
    fn meta(self) -> Meta {
        match self {
            Self::Input => Meta::InputName,
            Self::Output => Meta::OutputName,
        }
    }
}

fn family(rule: &mut Expressions<'_, '_>, ipv6: bool) {
    rule.meta(Register::FIRST, Meta::NetworkProtocol);
    rule.compare(Register::FIRST, true, &[if ipv6 { 10 } else { 2 }]);
}

/// Loads `meta l4proto [. ip daddr] . th dport`.
fn port_key(rule: &mut Expressions<'_, '_>, ipv6: bool, any: bool) {
    let mut next = Register::FIRST;
    rule.meta(next, Meta::TransportProtocol);
    next = next.behind(4);
    if !any {
        let length = u32::from(address_length(ipv6));
        rule.payload(next, Header::Network, destination_offset(ipv6), length);
        next = next.behind(length);
    }
    rule.payload(next, Header::Transport, 2, 2);
}

/// Looks for who speaks, to whom, and on which port of whose; an answer is looked for as what it answers.
fn link_key(rule: &mut Expressions<'_, '_>, ipv6: bool, answer: bool) {
    let (first, length) = (Register::FIRST, u32::from(address_length(ipv6)));
    let (from, to) = (source_offset(ipv6), destination_offset(ipv6));
    let (from, to, port) = if answer { (to, from, 0) } else { (from, to, 2) };
    rule.payload(first, Header::Network, from, length);
    rule.payload(first.behind(length), Header::Network, to, length);
    rule.meta(first.behind(2 * length), Meta::TransportProtocol);
    rule.payload(first.behind(2 * length + 4), Header::Transport, port, 2);
    rule.lookup(super::plan::links(ipv6), first, Lookup::Member);
}

/// Goes on with questions about neighbours, or answers; their target stands at 8 (RFC 4861, 4.3 and 4.4).
fn neighbour_message(rule: &mut Expressions<'_, '_>, answer: bool) {
    let kind = if answer { ADVERTISEMENT } else { SOLICITATION };
    rule.meta(Register::FIRST, Meta::TransportProtocol);
    rule.compare(Register::FIRST, true, &[ICMPV6]);
    rule.payload(Register::FIRST, Header::Transport, 0, 1);
    rule.compare(Register::FIRST, true, &[kind]);
}

fn address(rule: &mut Expressions<'_, '_>, net: IpNet, offset: u32) {
    let ipv6 = net.is_ipv6();
    family(rule, ipv6);
    rule.payload(Register::FIRST, Header::Network, offset, u32::from(address_length(ipv6)));
    if net.prefix() < bits(net.address()) {
        rule.mask(Register::FIRST, &mask(net));
    }
    rule.compare(Register::FIRST, true, &octets(net.first()));
}

fn mask(net: IpNet) -> Vec<u8> {
    let all = if net.is_ipv6() { Ipv6Addr::from_bits(u128::MAX).into() } else { Ipv4Addr::BROADCAST.into() };
    IpNet::new(all, net.prefix()).map(|net| octets(net.first())).unwrap_or_default()
}

fn any_bit(rule: &mut Expressions<'_, '_>, what: Conntrack, bits: u32) {
    rule.conntrack(Register::FIRST, what);
    rule.mask(Register::FIRST, &bits.to_ne_bytes());
    rule.compare(Register::FIRST, false, &0_u32.to_ne_bytes());
}

fn address_length(ipv6: bool) -> u8 {
    if ipv6 { 16 } else { 4 }
}

/// Offsets in the IP header (RFC 791, RFC 8200).
fn source_offset(ipv6: bool) -> u32 {
    if ipv6 { 8 } else { 12 }
}

fn destination_offset(ipv6: bool) -> u32 {
    if ipv6 { 24 } else { 16 }
}
