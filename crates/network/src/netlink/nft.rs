//! Messages of `nf_tables` (`linux/netfilter/nf_tables.h`).
//!
//! A [`Transaction`] is one atomic change: the kernel takes all of it or nothing. Tables, chains and sets that exist
//! already are left as they are. Expressions are written by [`Expressions`], one method each; a value that an expression
//! leaves in a register is found by the next one. Numbers in attributes are in network byte order.

use super::message::{APPEND, Answer, Batch, CREATE, Writer};
use super::{Failure, Refused, Socket};
use crate::watch::attribute;

// Message types: the subsystem's number (10) in the high byte.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0x0a00;
const DELETE_TABLE: u16 = 0x0a02;
const NEW_CHAIN: u16 = 0x0a03;
const DELETE_CHAIN: u16 = 0x0a05;
const NEW_RULE: u16 = 0x0a06;
const DELETE_RULE: u16 = 0x0a08;
const NEW_SET: u16 = 0x0a09;
const DELETE_SET: u16 = 0x0a0b;
const NEW_ELEMENTS: u16 = 0x0a0c;
const DELETE_ELEMENTS: u16 = 0x0a0e;
const SUBSYSTEM: u8 = 10;
/// linux/netfilter.h: `NFPROTO_INET`, `NFPROTO_BRIDGE`.
const FAMILY_INET: u8 = 1;
const FAMILY_BRIDGE: u8 = 7;

const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
/// The data type of a verdict map.
const VERDICT_TYPE: u32 = 0xffff_ff00;
// linux/netfilter/nf_tables.h: NFT_SET_INTERVAL, NFT_SET_MAP, NFT_SET_CONCAT.
const SET_HAS_INTERVALS: u32 = 4;
const SET_IS_MAP: u32 = 8;
const SET_IS_CONCATENATED: u32 = 0x80;
/// `linux/netfilter/nf_nat.h`: `NF_NAT_RANGE_PROTO_OFFSET`.
const NAT_BY_OFFSET: u32 = 1 << 5;
/// Elements in one message: an attribute holds 64 KiB, an element at most some 150 bytes.
const ELEMENTS_A_MESSAGE: usize = 400;

/// Where a base chain is hooked in (linux/netfilter.h, `linux/netfilter_ipv4.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hook {
    /// "filter" or "nat".
    pub(crate) kind: &'static str,
    /// The hook.
    pub(crate) point: Point,
    /// Lower comes first.
    pub(crate) priority: i32,
}

/// The hooks of the packet path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Point {
    Prerouting,
    Forward,
    Output,
    Postrouting,
}

impl Point {
    fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(&'static str),
    Goto(&'static str),
}

/// The types of keys and data; userspace's numbers (nftables, `enum datatypes`), which make listings readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Ipv4,
    Ipv6,
    Protocol,
    Port,
    InterfaceName,
}

impl Type {
    fn number(self) -> u32 {
        match self {
            Self::Ipv4 => 7,
            Self::Ipv6 => 8,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::InterfaceName => 41,
        }
    }

    /// The length without padding.
    fn size(self) -> u32 {
        match self {
            Self::Protocol => 1,
            Self::Port => 2,
            Self::Ipv4 => 4,
            Self::Ipv6 | Self::InterfaceName => 16,
        }
    }

    /// The length in a register, a multiple of four.
    fn length(self) -> u32 {
        match self {
            Self::Ipv4 | Self::Protocol | Self::Port => 4,
            Self::Ipv6 | Self::InterfaceName => 16,
        }
    }
}

/// What a map leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Nothing: a set.
    Nothing,
    /// A verdict.
    Verdict,
    /// A value of these types.
    Value(&'static [Type]),
}

/// An element of a set or map as bytes, each part padded to four.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Element {
    pub(crate) key: Vec<u8>,
    /// The last key, of a range (in each part by itself).
    pub(crate) last: Option<Vec<u8>>,
    pub(crate) data: ElementData,
}

impl Element {
    /// One that leads to nothing.
    pub(crate) fn member(key: Vec<u8>) -> Self {
        Self { key, last: None, data: ElementData::Nothing }
    }
}

/// What an element leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ElementData {
    Nothing,
    Verdict(Verdict),
    Value(Vec<u8>),
}

/// One atomic change of the ruleset.
#[derive(Debug)]
pub(crate) struct Transaction {
    batch: Batch,
    table: &'static str,
    family: u8,
}

impl Transaction {
    /// Starts a change of `table`, which is for IPv4 and IPv6.
    pub(crate) fn new(table: &'static str) -> Self {
        let mut batch = Batch::new();
        batch.message(BATCH_BEGIN, 0, &[0, 0, 0, SUBSYSTEM], |_| {});
        Self { batch, table, family: FAMILY_INET }
    }

    /// Goes on with the table of the same name that is for what bridges forward.
    pub(crate) fn bridge(mut self) -> Self {
        self.family = FAMILY_BRIDGE;
        self
    }

    fn add(&mut self, kind: u16, flags: u16, fill: impl FnOnce(&mut Writer<'_>)) {
        self.batch.message(kind, flags, &[self.family, 0, 0, 0], fill);
    }

    /// Makes the table if it does not exist.
    pub(crate) fn table(&mut self) {
        let table = self.table;
        self.add(NEW_TABLE, CREATE, |message| message.text(1, table));
    }

    /// Deletes the table with everything in it; without it the whole change fails with ENOENT.
    pub(crate) fn delete_table(&mut self) {
        let table = self.table;
        self.add(DELETE_TABLE, 0, |message| message.text(1, table));
    }

    /// Makes a chain if it does not exist; a base chain accepts what its rules let through.
    pub(crate) fn chain(&mut self, name: &str, hook: Option<Hook>) {
        let table = self.table;
        self.add(NEW_CHAIN, CREATE, |message| {
            message.text(1, table);
            message.text(3, name);
            if let Some(hook) = hook {
                message.nest(4, |nest| {
                    nest.big(1, hook.point.number());
                    nest.bytes(2, &hook.priority.to_be_bytes());
                });
                message.text(7, hook.kind);
            }
        });
    }

    /// Deletes all rules of a chain.
    pub(crate) fn flush_chain(&mut self, name: &str) {
        let table = self.table;
        self.add(DELETE_RULE, 0, |message| {
            message.text(1, table);
            message.text(2, name);
        });
    }

    /// Adds a rule behind the others of its chain.
    pub(crate) fn rule(&mut self, chain: &str, fill: impl FnOnce(&mut Expressions<'_, '_>)) {
        let table = self.table;
        self.add(NEW_RULE, CREATE | APPEND, |message| {
            message.text(1, table);
            message.text(2, chain);
            message.nest(4, |list| fill(&mut Expressions { list }));
        });
    }

    /// Makes a set or map if it does not exist; one of ranges has a key of several parts.
    pub(crate) fn set(&mut self, name: &str, key: &[Type], ranges: bool, target: Target) {
        let table = self.table;
        let id = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        self.add(NEW_SET, CREATE, |message| {
            message.text(1, table);
            message.text(2, name);
            let kind = if target == Target::Nothing { 0 } else { SET_IS_MAP };
            let more = if ranges { SET_HAS_INTERVALS | SET_IS_CONCATENATED } else { 0 };
            message.big(3, kind | more);
            message.big(4, concatenated(key));
            message.big(5, key.iter().map(|part| part.length()).sum());
            match target {
                Target::Nothing => {}
                Target::Verdict => {
                    message.big(6, VERDICT_TYPE);
                    message.big(7, 0);
                }
                Target::Value(parts) => {
                    message.big(6, concatenated(parts));
                    message.big(7, parts.iter().map(|part| part.length()).sum());
                }
            }
            message.big(10, id);
            if ranges {
                message.nest(9, |description| {
                    description.nest(2, |parts| {
                        for part in key {
                            parts.nest(LIST_ELEMENT, |one| one.big(1, part.size()));
                        }
                    });
                });
            }
        });
    }

    /// Adds elements; an equal one that exists is no error, one with the same key and other data is (EEXIST).
    pub(crate) fn add_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(NEW_ELEMENTS, CREATE, set, elements);
    }

    /// Deletes elements; one that does not exist is an error (ENOENT).
    pub(crate) fn delete_elements(&mut self, set: &str, elements: &[Element]) {
        self.elements(DELETE_ELEMENTS, 0, set, elements);
    }

    /// Deletes all elements of a set.
    pub(crate) fn flush_set(&mut self, set: &str) {
        let table = self.table;
        self.add(DELETE_ELEMENTS, 0, |message| {
            message.text(1, table);
            message.text(2, set);
        });
    }

    fn elements(&mut self, kind: u16, flags: u16, set: &str, elements: &[Element]) {
        let table = self.table;
        for some in elements.chunks(ELEMENTS_A_MESSAGE) {
            self.add(kind, flags, |message| {
                message.text(1, table);
                message.text(2, set);
                message.nest(3, |list| {
                    for element in some {
                        list.nest(LIST_ELEMENT, |nest| write_element(nest, element));
                    }
                });
            });
        }
    }

    /// Hands the change to the kernel. A refusal means that nothing has changed.
    pub(crate) fn commit(mut self, socket: &mut Socket) -> Result<(), Failure> {
        if self.batch.len() < 2 {
            return Ok(());
        }
        self.batch.acknowledge_last();
        self.batch.message(BATCH_END, 0, &[0, 0, 0, SUBSYSTEM], |_| {});
        socket.execute(self.batch)
    }
}

/// Returns whether the kernel said that something does not exist.
pub(crate) fn is_missing(failure: &Failure) -> bool {
    matches!(failure, Failure::Refused(Refused { errno: rustix::io::Errno::NOENT, .. }))
}

/// Says whether a message tells that something of `table` was deleted, but for rules of the administrator's chain.
pub(crate) fn takes_away(table: &str, answer: &Answer<'_>) -> bool {
    /// Behind `struct nfgenmsg`.
    const HEADER: usize = 4;
    let own = || attribute(answer.payload, HEADER, 1).is_some_and(|name| name == table);
    match answer.kind {
        DELETE_TABLE | DELETE_CHAIN | DELETE_SET | DELETE_ELEMENTS => own(),
        DELETE_RULE => {
            own()
                && attribute(answer.payload, HEADER, 2)
                    .is_some_and(|chain| chain != crate::firewall::USER_CHAIN)
        }
        _ => false,
    }
}

/// Returns whether the kernel said that it has no tables of this family.
pub(crate) fn is_unknown(failure: &Failure) -> bool {
    use rustix::io::Errno;
    let Failure::Refused(refused) = failure else { return false };
    matches!(refused.errno, Errno::OPNOTSUPP | Errno::AFNOSUPPORT)
}

fn write_element(nest: &mut Writer<'_>, element: &Element) {
    nest.nest(1, |key| key.bytes(DATA_VALUE, &element.key));
    match &element.data {
        ElementData::Nothing => {}
        ElementData::Verdict(verdict) => nest.nest(2, |data| write_verdict(data, verdict)),
        ElementData::Value(value) => nest.nest(2, |data| data.bytes(DATA_VALUE, value)),
    }
    if let Some(last) = &element.last {
        nest.nest(10, |key| key.bytes(DATA_VALUE, last));
    }
}

fn write_verdict(data: &mut Writer<'_>, verdict: &Verdict) {
    let (code, chain): (i32, _) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    data.nest(DATA_VERDICT, |nest| {
        nest.bytes(1, &code.to_be_bytes());
        if let Some(chain) = chain {
            nest.text(2, chain);
        }
    });
}

/// Userspace packs the types of a concatenation into six bits each.
fn concatenated(parts: &[Type]) -> u32 {
    parts.iter().fold(0, |packed, part| packed << 6 | part.number())
}

/// A place for values between expressions: a run of 4-byte registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Register(u32);

impl Register {
    /// The first of sixteen (`NFT_REG32_00`).
    pub(crate) const FIRST: Self = Self(8);

    /// Returns the register `length` bytes further on.
    pub(crate) fn behind(self, length: u32) -> Self {
        Self(self.0 + length.div_ceil(4))
    }
}

/// What `meta` can load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meta {
    InputName,
    OutputName,
    /// The number in the Ethernet header.
    EtherType,
    NetworkProtocol,
    TransportProtocol,
    Mark,
}

impl Meta {
    fn number(self) -> u32 {
        match self {
            Self::EtherType => 1,
            Self::Mark => 3,
            Self::InputName => 6,
            Self::OutputName => 7,
            Self::NetworkProtocol => 15,
            Self::TransportProtocol => 16,
        }
    }
}

/// What `ct` can load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conntrack {
    State,
    Status,
}

/// The header that `payload` counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Header {
    Network,
    Transport,
}

/// Writes the expressions of one rule.
#[derive(Debug)]
pub(crate) struct Expressions<'a, 'b> {
    list: &'a mut Writer<'b>,
}

impl Expressions<'_, '_> {
    fn expression(&mut self, name: &str, fill: impl FnOnce(&mut Writer<'_>)) {
        self.list.nest(LIST_ELEMENT, |element| {
            element.text(1, name);
            element.nest(2, fill);
        });
    }

    pub(crate) fn meta(&mut self, to: Register, what: Meta) {
        self.expression("meta", |data| {
            data.big(1, to.0);
            data.big(2, what.number());
        });
    }

    pub(crate) fn conntrack(&mut self, to: Register, what: Conntrack) {
        let key = if what == Conntrack::State { 0 } else { 2 };
        self.expression("ct", |data| {
            data.big(1, to.0);
            data.big(2, key);
        });
    }

    pub(crate) fn payload(&mut self, to: Register, header: Header, offset: u32, length: u32) {
        self.expression("payload", |data| {
            data.big(1, to.0);
            data.big(2, if header == Header::Network { 1 } else { 2 });
            data.big(3, offset);
            data.big(4, length);
        });
    }

    /// Loads the kind of the destination address (`fib daddr type`).
    pub(crate) fn destination_type(&mut self, to: Register) {
        self.expression("fib", |data| {
            data.big(1, to.0);
            data.big(2, 3);
            data.big(3, 2);
        });
    }

    /// Goes on only if the register holds `value` (or, with `equal` false, something else).
    pub(crate) fn compare(&mut self, from: Register, equal: bool, value: &[u8]) {
        self.expression("cmp", |data| {
            data.big(1, from.0);
            data.big(2, u32::from(!equal));
            data.nest(3, |nest| nest.bytes(DATA_VALUE, value));
        });
    }

    /// Clears the bits that are not in `mask`.
    pub(crate) fn mask(&mut self, register: Register, mask: &[u8]) {
        let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
        self.expression("bitwise", |data| {
            data.big(1, register.0);
            data.big(2, register.0);
            data.big(3, length);
            data.nest(4, |nest| nest.bytes(DATA_VALUE, mask));
            data.nest(5, |nest| nest.bytes(DATA_VALUE, &vec![0; mask.len()]));
        });
    }

    /// Goes on only if the set has the key; a map's value goes to `to`, a verdict takes effect.
    pub(crate) fn lookup(&mut self, set: &str, key: Register, to: Lookup) {
        self.expression("lookup", |data| {
            data.text(1, set);
            data.big(2, key.0);
            match to {
                Lookup::Member => {}
                Lookup::Verdict => data.big(3, 0),
                Lookup::Value(register) => data.big(3, register.0),
            }
        });
    }

    /// Sends the connection to the address and, unless it keeps its own, to the port in these registers.
    pub(crate) fn destination_nat(&mut self, ipv6: bool, address: Register, ports: NatPorts) {
        self.expression("nat", |data| {
            data.big(1, 1);
            data.big(2, if ipv6 { 10 } else { 2 });
            data.big(3, address.0);
            match ports {
                NatPorts::Kept => {}
                NatPorts::One(port) => data.big(5, port.0),
                NatPorts::Shifted { first, last } => {
                    data.big(5, first.0);
                    data.big(6, last.0);
                    data.big(7, NAT_BY_OFFSET);
                }
            }
        });
    }

    /// Sends the connection to another port of the same IPv4 address.
    pub(crate) fn destination_port(&mut self, port: Register) {
        self.expression("nat", |data| {
            data.big(1, 1);
            data.big(2, 2);
            data.big(5, port.0);
        });
    }

    /// Loads a constant.
    pub(crate) fn value(&mut self, to: Register, value: &[u8]) {
        self.expression("immediate", |data| {
            data.big(1, to.0);
            data.nest(2, |nest| nest.bytes(DATA_VALUE, value));
        });
    }

    pub(crate) fn masquerade(&mut self) {
        self.expression("masq", |_| {});
    }

    pub(crate) fn verdict(&mut self, verdict: &Verdict) {
        self.expression("immediate", |data| {
            data.big(1, 0);
            data.nest(2, |nest| write_verdict(nest, verdict));
        });
    }
}

/// To which port a connection is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NatPorts {
    /// The one it was for.
    Kept,
    /// The one in this register.
    One(Register),
    /// `first + port % (last - first + 1)`: the kernel counts from a base that `nf_tables` leaves at nought.
    Shifted { first: Register, last: Register },
}

/// Where the result of a look-up goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// Nowhere: only membership counts.
    Member,
    /// It is a verdict.
    Verdict,
    /// Into a register.
    Value(Register),
}
