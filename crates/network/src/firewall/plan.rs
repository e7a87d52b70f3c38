//! Which rules there should be: a pure function from the networks to a value that prints as nft would.

use super::ports::{self, PortsMap, direct_set, loopback_set};
use super::{NetworkRules, TABLE};
use crate::IpNet;
use crate::netlink::nft::{Hook, Point, Target, Type, Verdict};
use std::fmt;

/// The administrator's chain: jumped to before our own rules for forwarded packets, and never written to.
pub const USER_CHAIN: &str = "wharf-user";

pub(super) const BRIDGES: &str = "bridges";
pub(super) const INTERNAL: &str = "internal";
/// The bridges whose containers are reached by their own addresses.
const OPEN: [&str; 2] = ["open4", "open6"];
pub(super) const INTRA: &str = "intra";
/// Who reaches whom on which port where containers of a network do not reach each other (`--link`).
pub(super) const LINKS: &str = "links";
/// Who of those asks for whose hardware address.
pub(super) const NEIGHBOURS: &str = "neighbours";
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
    Link { answer: bool },
    /// `arp saddr ip . arp daddr ip @neighbours`
    Neighbour,
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

/// Returns the table for these networks.
pub(super) fn table(networks: &[NetworkRules]) -> Table {
    Table { bridge: false, sets: sets(networks), chains: chains(networks) }
}

/// Returns the table for what bridges forward: between containers that do not reach each other nothing but links passes.
///
/// It stands beside the other one because a bridge shows its packets to `inet` tables only where `br_netfilter` is loaded.
pub(super) fn bridge_table() -> Table {
    use Statement as S;
    let rules = |rules: Vec<Vec<S>>| Some(rules.into_iter().map(Rule).collect());
    Table {
        bridge: true,
        sets: vec![
            Set { content: Content::Kept, ..names_set(CLOSED, Vec::new()) },
            links_set(),
            Set {
                name: NEIGHBOURS,
                key: &[Type::Ipv4, Type::Ipv4],
                ranges: false,
                target: Target::Nothing,
                content: Content::Kept,
            },
        ],
        chains: vec![
            Chain {
                name: "forward",
                hook: Some(Hook { kind: "filter", point: Point::Forward, priority: BRIDGED }),
                rules: rules(vec![vec![
                    S::NameIn { side: Side::Input, set: CLOSED },
                    S::Verdict(Verdict::Goto("between")),
                ]]),
            },
            between(
                &S::EtherType(ETHERTYPE_IP),
                Some(vec![S::EtherType(ETHERTYPE_ARP), S::Neighbour, S::Verdict(Verdict::Accept)]),
            ),
        ],
    }
}

/// What reaches containers.
fn inbound() -> Chain {
    use Statement as S;
    let verdict = S::Verdict;
    let from = |set| S::NameIn { side: Side::Input, set };
    let to = |set| S::NameIn { side: Side::Output, set };
    let rules = vec![
        vec![S::PairVerdict],
        vec![to(INTERNAL), verdict(Verdict::Drop)],
        vec![from(INTERNAL), verdict(Verdict::Drop)],
        vec![S::Established, verdict(Verdict::Accept)],
        vec![from(BRIDGES), verdict(Verdict::Drop)],
        vec![S::WasDestinationNat, verdict(Verdict::Accept)],
        reached(false),
        reached(true),
        vec![S::Family { ipv6: false }, to(OPEN[0]), verdict(Verdict::Accept)],
        vec![S::Family { ipv6: true }, to(OPEN[1]), verdict(Verdict::Accept)],
        vec![verdict(Verdict::Drop)],
    ];
    Chain { name: "inbound", hook: None, rules: Some(rules.into_iter().map(Rule).collect()) }
}

/// A port that is reached by the container's own address.
fn reached(ipv6: bool) -> Vec<Statement> {
    vec![Statement::Family { ipv6 }, Statement::DirectPort { ipv6 }, Statement::Verdict(Verdict::Accept)]
}

/// What passes between containers that do not reach each other: links, and one `further` rule.
fn between(is_ip: &Statement, further: Option<Vec<Statement>>) -> Chain {
    let link = |answer| vec![is_ip.clone(), Statement::Link { answer }, Statement::Verdict(Verdict::Accept)];
    let rules = [link(false), link(true)].into_iter().chain(further);
    let rules = rules.chain([vec![Statement::Verdict(Verdict::Drop)]]).map(Rule).collect();
    Chain { name: "between", hook: None, rules: Some(rules) }
}

fn links_set() -> Set {
    Set {
        name: LINKS,
        key: &[Type::Ipv4, Type::Ipv4, Type::Protocol, Type::Port],
        ranges: false,
        target: Target::Nothing,
        content: Content::Kept,
    }
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
        links_set(),
    ];
    sets.extend(ports::sets());
    sets
}

fn chains(networks: &[NetworkRules]) -> Vec<Chain> {
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
        inbound(),
        between(&S::Family { ipv6: false }, None),
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
            Self::Link { answer: false } => {
                write!(f, "ip saddr . ip daddr . meta l4proto . th dport @{LINKS}")
            }
            Self::Link { answer: true } => {
                write!(f, "ip daddr . ip saddr . meta l4proto . th sport @{LINKS}")
            }
            Self::Neighbour => write!(f, "arp saddr ip . arp daddr ip @{NEIGHBOURS}"),
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
