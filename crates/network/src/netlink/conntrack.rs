//! Forgetting tracked flows (`linux/netfilter/nfnetlink_conntrack.h`).
//!
//! NAT is decided by the first packet of a flow. A UDP flow that began before its port was published, or that leads to a
//! container that is gone, would go on the old way as long as packets come.

use super::message::{ACK, Attributes, Batch, DUMP};
use super::{Failure, Refused, Socket};
use rustix::io::Errno;
use std::net::IpAddr;
use std::ops::RangeInclusive;

// The subsystem's number (1) in the high byte.
const NEW: u16 = 0x0100;
const GET: u16 = 0x0101;
const DELETE: u16 = 0x0102;
const TUPLE_ORIGINAL: u16 = 1;
const UDP: u8 = 17;

/// Forgets the UDP flows to these host addresses and ports; an unspecified address means all.
pub(crate) fn forget_udp(
    socket: &mut Socket,
    ipv6: bool,
    destinations: &[(IpAddr, RangeInclusive<u16>)],
) -> Result<(), Failure> {
    let header = [if ipv6 { 10 } else { 2 }, 0, 0, 0];
    let mut request = Batch::new();
    request.message(GET, DUMP, &header, |_| {});
    let mut flows = Vec::new();
    let listed = socket.dump(&request, |kind, payload| {
        if kind == NEW {
            flows.extend(matching(payload, destinations));
        }
    });
    match listed {
        // A kernel without connection tracking has nothing to forget.
        Err(Failure::Refused(Refused { errno: Errno::INVAL | Errno::OPNOTSUPP, .. })) => return Ok(()),
        result => result?,
    }
    for flow in flows {
        let mut batch = Batch::new();
        batch.message(DELETE, ACK, &header, |message| message.bytes(TUPLE_ORIGINAL | 0x8000, &flow));
        match socket.execute(batch) {
            // It ended by itself.
            Err(Failure::Refused(Refused { errno: Errno::NOENT, .. })) => {}
            result => result?,
        }
    }
    Ok(())
}

/// Returns the original tuple of a flow if it is one of those.
pub(super) fn matching(payload: &[u8], destinations: &[(IpAddr, RangeInclusive<u16>)]) -> Option<Vec<u8>> {
    let find = |bytes, skip, wanted| {
        Attributes::behind(bytes, skip).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    };
    let tuple = find(payload, 4, TUPLE_ORIGINAL)?;
    let (addresses, transport) = (find(tuple, 0, 1)?, find(tuple, 0, 2)?);
    if find(transport, 0, 1)? != [UDP] {
        return None;
    }
    let port = u16::from_be_bytes(*find(transport, 0, 3)?.first_chunk()?);
    let address: IpAddr = match find(addresses, 0, 2) {
        Some(v4) => (*v4.first_chunk::<4>()?).into(),
        None => (*find(addresses, 0, 4)?.first_chunk::<16>()?).into(),
    };
    let meant = |(ip, ports): &(IpAddr, RangeInclusive<u16>)| {
        ports.contains(&port) && (ip.is_unspecified() || *ip == address)
    };
    destinations.iter().any(meant).then(|| tuple.to_vec())
}
