//! Which rules there should be: a pure function from the networks to a value that prints as nft would.

use super::ports::{self, PortsMap, direct_set, loopback_set};
use super::{Mark, NetworkRules, TABLE};
use crate::IpNet;
use crate::netlink::nft::{Hook, Point, Target, Type, Verdict};
use std::fmt;
use std::net::IpAddr;

/// The administrator's chain: jumped to before our own rules for forwarded packets, and never written to.
pub const USER_CHAIN: &str = "wharf-user";

pub(super) const BRIDGES: &str = "bridges";
pub(super) const INTERNAL: &str = "internal";
/// The bridges whose containers are reached by their own addresses.
const OPEN: [&str; 2] = ["open4", "open6"];
pub(super) const INTRA: &str = "intra";
/// Who reaches whom on which port where containers of a network do not reach each other (`--link`).
pub(super) fn links(ipv6: bool) -> &'static str {
    if ipv6 { "links6" } else { "links4" }
}
/// Who of those asks for whose hardware address.
pub(super) fn neighbours(ipv6: bool) -> &'static str {
    if ipv6 { "neighbours6" } else { "neighbours4" }
}
/// The addresses of bridges, which no container may say are its own.
pub(super) fn gateways(ipv6: bool) -> &'static str {
    if ipv6 { "gateways6" } else { "gateways4" }
}
/// The ports of bridges whose containers do not reach each other.
pub(super) const CLOSED: &str = "closed";

// linux/netfilter_ipv4.h, `enum nf_ip_hook_priorities`.
const RAW: i32 = -300;
const DESTINATION_NAT: i32 = -100;
const FILTER: i32 = 0;
const SOURCE_NAT: i32 = 100;
/// `linux/netfilter_bridge.h`, `NF_BR_PRI_FILTER_BRIDGED`.
const BRIDGED: i32 = -200;
// linux/if_ether.h
const ETHERTYPE_IP: u16 = 0x0800;
const ETHERTYPE_ARP: u16 = 0x0806;
const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) bridge: bool,
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
}

/// A set or map, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) name: &'static str,
    pub(super) key: &'static [Type],
    /// Whether an element is a range.
    pub(super) ranges: bool,
    pub(super) target: Target,
    pub(super) content: Content,
}

/// The elements of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// Published ports: added and removed one by one, kept when the rules are written anew.
    Kept,
    /// Names of bridges.
    Names(Vec<String>),
    /// Addresses.
    Addresses(Vec<IpAddr>),
    /// What may pass between two ports of a bridge.
    Pairs(Vec<(String, Verdict)>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) name: &'static str,
    pub(super) hook: Option<Hook>,
    /// `None`: somebody else's.
    pub(super) rules: Option<Vec<Rule>>,
}

/// Statements from left to right; the first one that does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule(pub(super) Vec<Statement>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Statement {
    /// `meta nfproto ipv4`
    Family { ipv6: bool },
    /// `iifname "lo"`, `oifname != "docker0"`
    Name { side: Side, equal: bool, name: String },
    /// `iifname @bridges`
    NameIn { side: Side, set: &'static str },
    /// `iifname . oifname vmap @intra`
    PairVerdict,
    /// `ip saddr 172.17.0.0/16`
    Source(IpNet),
    /// `ip daddr 127.0.0.0/8`
    Destination(IpNet),
    /// `fib daddr type local`
    DestinationIsHost,
    /// `ct state established,related`
    Established,
    /// `ct status dnat`
    WasDestinationNat,
    /// `meta l4proto . ip daddr . th dport @loopback-ports`
    LoopbackPort { ranges: bool },
    /// `dnat ip to meta l4proto . ip daddr . th dport map @ports4`
    PublishedPort(PortsMap),
    /// `meta protocol ip`
    EtherType(u16),
    /// `ip saddr . ip daddr . meta l4proto . th dport @links`, or for answers the other way round.
    Link { ipv6: bool, answer: bool },
    /// `arp saddr ip . arp daddr ip @neighbours4`
    ArpPair,
    /// `ip6 saddr . icmpv6 target @neighbours6` of a solicitation, `ip6 saddr . ip6 daddr` of an advertisement
    NeighbourPair { answer: bool },
    /// `icmpv6 type nd-neighbor-solicit`
    NeighbourMessage { answer: bool },
    /// `arp saddr ip @gateways4`
    ArpOfGateway,
    /// `icmpv6 target @gateways6` of an advertisement
    NeighbourOfGateway,
    /// `meta mark & 0xff == 0x1`
    Marked(Mark),
    /// `meta l4proto . ip daddr . th dport @direct4`
    DirectPort { ipv6: bool },
    /// `masquerade`
    Masquerade,
    /// `accept`
    Verdict(Verdict),
}

/// Which device of a packet is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
}

/// Returns the table for these networks, whose containers are reached by packets with `mark`.
pub(super) fn table(networks: &[NetworkRules], mark: Option<Mark>) -> Table {
    Table { bridge: false, sets: sets(networks), chains: chains(networks, mark) }
}

/// Returns the table for what bridges forward: between containers that do not reach each other nothing but links passes, and
/// no container says of itself that it is the host.
///
/// It stands beside the other one because a bridge shows its packets to `inet` tables only where `br_netfilter` is loaded.
pub(super) fn bridge_table(networks: &[NetworkRules]) -> Table {
    use Statement as S;
    let rules = |rules: Vec<Vec<S>>| Some(rules.into_iter().map(Rule).collect());
    Table {
        bridge: true,
        sets: bridge_sets(networks),
        chains: vec![
            Chain {
                name: "forward",
                hook: Some(Hook { kind: "filter", point: Point::Forward, priority: BRIDGED }),
                rules: rules(vec![
                    vec![S::EtherType(ETHERTYPE_ARP), S::ArpOfGateway, S::Verdict(Verdict::Drop)],
                    vec![S::EtherType(ETHERTYPE_IPV6), S::NeighbourOfGateway, S::Verdict(Verdict::Drop)],
                    vec![S::NameIn { side: Side::Input, set: CLOSED }, S::Verdict(Verdict::Goto("between"))],
                ]),
            },
            between(
                [S::EtherType(ETHERTYPE_IP), S::EtherType(ETHERTYPE_IPV6)],
                vec![
                    vec![S::EtherType(ETHERTYPE_ARP), S::ArpPair],
                    vec![S::EtherType(ETHERTYPE_IPV6), S::NeighbourPair { answer: false }],
                    vec![S::EtherType(ETHERTYPE_IPV6), S::NeighbourPair { answer: true }],
                ],
            ),
        ],
    }
}

fn bridge_sets(networks: &[NetworkRules]) -> Vec<Set> {
    let addresses = |name, ipv6: bool, key, content| Set {
        name,
        key,
        ranges: false,
        target: Target::Nothing,
        content: match content {
            Content::Addresses(all) => Content::Addresses(
                all.into_iter().filter(|address: &IpAddr| address.is_ipv6() == ipv6).collect(),
            ),
            content => content,
        },
    };
    let gateways_of = || {
        Content::Addresses(networks.iter().flat_map(|network| network.addresses.iter().copied()).collect())
    };
    vec![
        Set { content: Content::Kept, ..names_set(CLOSED, Vec::new()) },
        links_set(false),
        links_set(true),
        addresses(neighbours(false), false, &[Type::Ipv4, Type::Ipv4], Content::Kept),
        addresses(neighbours(true), true, &[Type::Ipv6, Type::Ipv6], Content::Kept),
        addresses(gateways(false), false, &[Type::Ipv4], gateways_of()),
        addresses(gateways(true), true, &[Type::Ipv6], gateways_of()),
    ]
}

/// What reaches containers.
fn inbound(mark: Option<Mark>) -> Chain {
    use Statement as S;
    let verdict = S::Verdict;
    let from = |set| S::NameIn { side: Side::Input, set };
    let to = |set| S::NameIn { side: Side::Output, set };
    let marked = mark.map(|mark| vec![S::Marked(mark), verdict(Verdict::Accept)]);
    let rules = [
        vec![S::PairVerdict],
        vec![to(INTERNAL), verdict(Verdict::Drop)],
        vec![from(INTERNAL), verdict(Verdict::Drop)],
        vec![S::Established, verdict(Verdict::Accept)],
    ];
    let rest = [
        vec![from(BRIDGES), verdict(Verdict::Drop)],
        vec![S::WasDestinationNat, verdict(Verdict::Accept)],
        reached(false),
        reached(true),
        vec![S::Family { ipv6: false }, to(OPEN[0]), verdict(Verdict::Accept)],
        vec![S::Family { ipv6: true }, to(OPEN[1]), verdict(Verdict::Accept)],
        vec![verdict(Verdict::Drop)],
    ];
    let rules = rules.into_iter().chain(marked).chain(rest);
    Chain { name: "inbound", hook: None, rules: Some(rules.map(Rule).collect()) }
}

/// A port that is reached by the container's own address.
fn reached(ipv6: bool) -> Vec<Statement> {
    vec![Statement::Family { ipv6 }, Statement::DirectPort { ipv6 }, Statement::Verdict(Verdict::Accept)]
}

/// What passes between containers that do not reach each other: links of each family, told apart by `is_family`, and what
/// `further` matches.
fn between(is_family: [Statement; 2], further: Vec<Vec<Statement>>) -> Chain {
    let links = is_family.into_iter().zip([false, true]).flat_map(|(is_family, ipv6)| {
        [false, true].map(|answer| vec![is_family.clone(), Statement::Link { ipv6, answer }])
    });
    let accepted = links.chain(further).map(|mut rule| {
        rule.push(Statement::Verdict(Verdict::Accept));
        rule
    });
    let rules = accepted.chain([vec![Statement::Verdict(Verdict::Drop)]]).map(Rule).collect();
    Chain { name: "between", hook: None, rules: Some(rules) }
}

fn links_set(ipv6: bool) -> Set {
    let key: &'static [Type] = match ipv6 {
        false => &[Type::Ipv4, Type::Ipv4, Type::Protocol, Type::Port],
        true => &[Type::Ipv6, Type::Ipv6, Type::Protocol, Type::Port],
    };
    Set { name: links(ipv6), key, ranges: false, target: Target::Nothing, content: Content::Kept }
}

fn names(networks: &[NetworkRules], wanted: impl Fn(&NetworkRules) -> bool) -> Vec<String> {
    networks.iter().filter(|network| wanted(network)).map(|network| network.bridge.clone()).collect()
}

fn names_set(name: &'static str, names: Vec<String>) -> Set {
    let content = Content::Names(names);
    Set { name, key: &[Type::InterfaceName], ranges: false, target: Target::Nothing, content }
}

fn sets(networks: &[NetworkRules]) -> Vec<Set> {
    let pairs = networks.iter().map(|network| {
        let verdict = if network.icc { Verdict::Accept } else { Verdict::Goto("between") };
        (network.bridge.clone(), verdict)
    });
    let mut sets = vec![
        names_set(BRIDGES, names(networks, |_| true)),
        names_set(INTERNAL, names(networks, |network| network.internal)),
        names_set(OPEN[0], names(networks, |network| network.open[0])),
        names_set(OPEN[1], names(networks, |network| network.open[1])),
        Set {
            name: INTRA,
            key: &[Type::InterfaceName, Type::InterfaceName],
            ranges: false,
            target: Target::Verdict,
            content: Content::Pairs(pairs.collect()),
        },
        links_set(false),
        links_set(true),
    ];
    sets.extend(ports::sets());
    sets
}

fn chains(networks: &[NetworkRules], mark: Option<Mark>) -> Vec<Chain> {
    use Statement as S;
    let rules = |rules: Vec<Vec<S>>| Some(rules.into_iter().map(Rule).collect());
    let base = |name, kind, point, priority, list: Vec<Vec<S>>| Chain {
        name,
        hook: Some(Hook { kind, point, priority }),
        rules: rules(list),
    };
    let verdict = S::Verdict;
    let from = |set| S::NameIn { side: Side::Input, set };
    let to = |set| S::NameIn { side: Side::Output, set };
    let published = |map: PortsMap| vec![S::Family { ipv6: map.ipv6() }, S::PublishedPort(map)];
    vec![
        Chain { name: USER_CHAIN, hook: None, rules: None },
        // Ports bound on loopback are for this host alone, even where route_localnet is on (CVE-2020-8558).
        base("raw-prerouting", "filter", Point::Prerouting, RAW, [false, true].map(loopback_only).into()),
        // Containers reach published ports through the listener on the host: their packets are not redirected, since the
        // answer of a sibling would not pass here.
        base(
            "prerouting",
            "nat",
            Point::Prerouting,
            DESTINATION_NAT,
            vec![
                vec![from(BRIDGES), verdict(Verdict::Return)],
                vec![S::DestinationIsHost, verdict(Verdict::Jump("published"))],
            ],
        ),
        base("output", "nat", Point::Output, DESTINATION_NAT, output()),
        Chain { name: "published", hook: None, rules: rules(PortsMap::all().map(published).collect()) },
        base("postrouting", "nat", Point::Postrouting, SOURCE_NAT, masquerading(networks)),
        base(
            "forward",
            "filter",
            Point::Forward,
            FILTER,
            vec![
                vec![verdict(Verdict::Jump(USER_CHAIN))],
                vec![to(BRIDGES), verdict(Verdict::Goto("inbound"))],
                vec![from(BRIDGES), verdict(Verdict::Goto("outbound"))],
            ],
        ),
        inbound(mark),
        // Who asks for whose hardware address the bridge's table has decided before, or the ports are isolated.
        between(
            [S::Family { ipv6: false }, S::Family { ipv6: true }],
            [false, true].map(|answer| vec![S::Family { ipv6: true }, S::NeighbourMessage { answer }]).into(),
        ),
        Chain {
            name: "outbound",
            hook: None,
            rules: rules(vec![vec![from(INTERNAL), verdict(Verdict::Drop)], vec![verdict(Verdict::Accept)]]),
        },
    ]
}

/// A port of loopback is for this host alone.
fn loopback_only(ranges: bool) -> Vec<Statement> {
    vec![
        Statement::Name { side: Side::Input, equal: false, name: "lo".into() },
        Statement::Family { ipv6: false },
        Statement::LoopbackPort { ranges },
        Statement::Verdict(Verdict::Drop),
    ]
}

/// Packets of the host itself: to its own addresses they are redirected, to loopback they reach the listener.
fn output() -> Vec<Vec<Statement>> {
    let loopback = ["127.0.0.0/8", "::1/128"].into_iter().filter_map(|net| net.parse().ok());
    let mut rules: Vec<Vec<Statement>> =
        loopback.map(|net| vec![Statement::Destination(net), Statement::Verdict(Verdict::Return)]).collect();
    rules.push(vec![Statement::DestinationIsHost, Statement::Verdict(Verdict::Jump("published"))]);
    rules
}

fn masquerading(networks: &[NetworkRules]) -> Vec<Vec<Statement>> {
    let networks = networks.iter().filter(|network| !network.internal);
    let rule = |subnet: &IpNet, bridge: &String| {
        let elsewhere = Statement::Name { side: Side::Output, equal: false, name: bridge.clone() };
        vec![Statement::Source(subnet.network()), elsewhere, Statement::Masquerade]
    };
    networks
        .flat_map(|network| network.masqueraded.iter().map(move |subnet| rule(subnet, &network.bridge)))
        .collect()
}

// Printing: what `nft list table` shows.

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table {} {TABLE} {{", if self.bridge { "bridge" } else { "inet" })?;
        for set in &self.sets {
            write!(f, "{set}")?;
        }
        for chain in &self.chains {
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.target == Target::Nothing { "set" } else { "map" };
        write!(f, "\t{kind} {} {{ type {}", self.name, join(self.key))?;
        match self.target {
            Target::Nothing => {}
            Target::Verdict => f.write_str(" : verdict")?,
            Target::Value(parts) => write!(f, " : {}", join(parts))?,
        }
        if self.ranges {
            f.write_str("; flags interval")?;
        }
        let elements: Vec<String> = match &self.content {
            Content::Kept => Vec::new(),
            Content::Names(names) => names.iter().map(|name| format!("\"{name}\"")).collect(),
            Content::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
            Content::Pairs(pairs) => pairs
                .iter()
                .map(|(name, verdict)| format!("\"{name}\" . \"{name}\" : {}", word(verdict)))
                .collect(),
        };
        if !elements.is_empty() {
            write!(f, "; elements = {{ {} }}", elements.join(", "))?;
        }
        writeln!(f, " }}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(hook) = self.hook {
            let point = match hook.point {
                Point::Prerouting => "prerouting",
                Point::Forward => "forward",
                Point::Output => "output",
                Point::Postrouting => "postrouting",
            };
            writeln!(f, "\t\ttype {} hook {point} priority {}; policy accept;", hook.kind, hook.priority)?;
        }
        for rule in self.rules.iter().flatten() {
            let statements: Vec<String> = rule.0.iter().map(ToString::to_string).collect();
            writeln!(f, "\t\t{}", statements.join(" "))?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family { ipv6 } => write!(f, "meta nfproto ipv{}", if *ipv6 { 6 } else { 4 }),
            Self::Name { side, equal, name } => {
                write!(f, "{} {}\"{name}\"", side.word(), if *equal { "" } else { "!= " })
            }
            Self::NameIn { side, set } => write!(f, "{} @{set}", side.word()),
            Self::PairVerdict => write!(f, "iifname . oifname vmap @{INTRA}"),
            Self::Source(net) => write!(f, "{} saddr {net}", ip_word(net.is_ipv6())),
            Self::Destination(net) => write!(f, "{} daddr {net}", ip_word(net.is_ipv6())),
            Self::DestinationIsHost => f.write_str("fib daddr type local"),
            Self::Established => f.write_str("ct state established,related"),
            Self::WasDestinationNat => f.write_str("ct status dnat"),
            Self::LoopbackPort { ranges } => {
                write!(f, "meta l4proto . ip daddr . th dport @{}", loopback_set(*ranges))
            }
            Self::PublishedPort(map) => {
                let ip = ip_word(map.ipv6());
                let daddr = if map.any() { String::new() } else { format!(" . {ip} daddr") };
                write!(f, "dnat {ip} to meta l4proto{daddr} . th dport map @{}", map.name())
            }
            Self::EtherType(number) => write!(f, "meta protocol {number:#06x}"),
            Self::Link { ipv6, answer } => {
                let (ip, set) = (ip_word(*ipv6), links(*ipv6));
                let (from, to, port) =
                    if *answer { ("daddr", "saddr", "sport") } else { ("saddr", "daddr", "dport") };
                write!(f, "{ip} {from} . {ip} {to} . meta l4proto . th {port} @{set}")
            }
            Self::ArpPair => write!(f, "arp saddr ip . arp daddr ip @{}", neighbours(false)),
            Self::NeighbourPair { answer: false } => {
                write!(f, "icmpv6 type nd-neighbor-solicit ip6 saddr . icmpv6 taddr @{}", neighbours(true))
            }
            Self::NeighbourPair { answer: true } => {
                write!(f, "icmpv6 type nd-neighbor-advert ip6 saddr . ip6 daddr @{}", neighbours(true))
            }
            Self::NeighbourMessage { answer } => {
                write!(f, "icmpv6 type nd-neighbor-{}", if *answer { "advert" } else { "solicit" })
            }
            Self::ArpOfGateway => write!(f, "arp saddr ip @{}", gateways(false)),
            Self::NeighbourOfGateway => {
                write!(f, "icmpv6 type nd-neighbor-advert icmpv6 taddr @{}", gateways(true))
            }
            Self::Marked(Mark { value, mask }) => write!(f, "meta mark & {mask:#x} == {value:#x}"),
            Self::DirectPort { ipv6 } => {
                write!(f, "meta l4proto . {} daddr . th dport @{}", ip_word(*ipv6), direct_set(*ipv6))
            }
            Self::Masquerade => f.write_str("masquerade"),
            Self::Verdict(verdict) => f.write_str(&word(verdict)),
        }
    }
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Input => "iifname",
            Self::Output => "oifname",
        }
    }
}

fn ip_word(ipv6: bool) -> &'static str {
    if ipv6 { "ip6" } else { "ip" }
}

fn word(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".into(),
        Verdict::Drop => "drop".into(),
        Verdict::Return => "return".into(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
    }
}

fn join(types: &[Type]) -> String {
    let word = |part: &Type| match part {
        Type::Ipv4 => "ipv4_addr",
        Type::Ipv6 => "ipv6_addr",
        Type::Protocol => "inet_proto",
        Type::Port => "inet_service",
        Type::InterfaceName => "ifname",
    };
    types.iter().map(word).collect::<Vec<_>>().join(" . ")
}
