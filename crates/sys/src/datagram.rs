//! UDP datagrams with the local address they were sent to, and answers from that address (ip(7), `IP_PKTINFO`; RFC 3542).
//!
//! A socket bound to all addresses otherwise answers from whatever address the route back prefers, and a connected
//! client drops that.

use crate::{Error, Result};
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr;

/// A datagram that has arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// How many bytes of the buffer it fills; what does not fit is lost.
    pub length: usize,
    /// Who sent it.
    pub peer: SocketAddr,
    /// The local address it was sent to, if the socket was told to say so.
    pub destination: Option<IpAddr>,
}

/// Room for any IP socket address, aligned for the kernel.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Address([u8; 28]);

/// Room for one control message with a `struct in6_pktinfo`, aligned for the kernel.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 64]);

/// The length of `struct cmsghdr` as the kernel lays it out on 64-bit machines.
const HEADER: usize = size_of::<usize>() + 8;

/// Makes [`receive`] say where datagrams were sent to.
///
/// # Errors
///
/// Those of setsockopt(2).
pub fn tell_destination(socket: BorrowedFd<'_>, ipv6: bool) -> Result<()> {
    let (level, name) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the pointer leads to an int of the length given.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, ptr::from_ref(&on).cast(), INT_LENGTH) };
    if done == 0 { Ok(()) } else { Err(Error::new("setsockopt", "pktinfo", last_error())) }
}

const INT_LENGTH: libc::socklen_t = 4;

/// Takes the next datagram; `None` if there is none now. Never waits.
///
/// # Errors
///
/// Those of recvmsg(2); an ICMP error of an earlier datagram comes out here too.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Option<Received>> {
    let (mut address, mut control) = (Address([0; 28]), Control([0; 64]));
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut message = empty_message();
    message.msg_name = ptr::from_mut(&mut address).cast();
    message.msg_namelen = 28;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(&mut control).cast();
    message.msg_controllen = 64;
    let received = loop {
        // SAFETY: every pointer in the message leads to a live buffer of the length beside it.
        let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
        match usize::try_from(received) {
            Ok(received) => break received,
            Err(_) => match last_error() {
                Errno::INTR => {}
                Errno::AGAIN => return Ok(None),
                errno => return Err(Error::new("recvmsg", "udp", errno)),
            },
        }
    };
    let peer = decode(&address.0).ok_or_else(|| Error::new("recvmsg", "udp", Errno::AFNOSUPPORT))?;
    Ok(Some(Received { length: received, peer, destination: destination(&control.0) }))
}

/// Sends a datagram from the local address `source` (`None`: the kernel's choice). Never waits.
///
/// # Errors
///
/// Those of sendmsg(2), `AGAIN` if there is no room now.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], peer: SocketAddr, source: Option<IpAddr>) -> Result<()> {
    let (mut address, length) = encode(peer);
    let mut control = Control([0; 64]);
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut message = empty_message();
    message.msg_name = ptr::from_mut(&mut address).cast();
    message.msg_namelen = length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some(source) = source {
        encode_source(&mut control.0, source);
        message.msg_control = ptr::from_mut(&mut control).cast();
        // Numbers, since the type of the length differs between C libraries: header and structure, in whole words.
        message.msg_controllen = if source.is_ipv6() { 40 } else { 32 };
    }
    loop {
        // SAFETY: every pointer in the message leads to a live buffer of the length beside it; none is written to.
        let sent = unsafe {
            libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        if sent >= 0 {
            return Ok(());
        }
        match last_error() {
            Errno::INTR => {}
            errno => return Err(Error::new("sendmsg", peer, errno)),
        }
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn empty_message() -> libc::msghdr {
    // SAFETY: a msghdr of zeros is valid: null pointers with lengths of zero.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn encode(address: SocketAddr) -> (Address, libc::socklen_t) {
    let mut bytes = Vec::with_capacity(28);
    let length = match address {
        SocketAddr::V4(v4) => {
            bytes.extend(2_u16.to_ne_bytes());
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            16
        }
        SocketAddr::V6(v6) => {
            bytes.extend(10_u16.to_ne_bytes());
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_ne_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
            28
        }
    };
    bytes.resize(28, 0);
    (Address(bytes.try_into().unwrap_or([0; 28])), length)
}

fn decode(bytes: &[u8; 28]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    match u16::from_ne_bytes(*bytes.first_chunk()?) {
        2 => Some((Ipv4Addr::from(*bytes.get(4..)?.first_chunk::<4>()?), port).into()),
        10 => {
            let ip = Ipv6Addr::from(*bytes.get(8..)?.first_chunk::<16>()?);
            let scope = u32::from_ne_bytes(*bytes.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

/// Reads the one control message that [`tell_destination`] asked for.
fn destination(control: &[u8; 64]) -> Option<IpAddr> {
    let at = |offset: usize| Some(i32::from_ne_bytes(*control.get(offset..)?.first_chunk()?));
    let data = control.get(HEADER..)?;
    match (at(HEADER - 8)?, at(HEADER - 4)?) {
        // struct in_pktinfo: interface, local address, destination in the header.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => Some((*data.get(4..)?.first_chunk::<4>()?).into()),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => Some((*data.first_chunk::<16>()?).into()),
        _ => None,
    }
}

/// Writes a control message that names the source.
fn encode_source(control: &mut [u8; 64], source: IpAddr) {
    let (level, kind, data) = match source {
        IpAddr::V4(v4) => {
            let mut data = vec![0; 4];
            data.extend(v4.octets());
            data.extend([0; 4]);
            (libc::IPPROTO_IP, libc::IP_PKTINFO, data)
        }
        IpAddr::V6(v6) => {
            let mut data = v6.octets().to_vec();
            data.extend([0; 4]);
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, data)
        }
    };
    let length = HEADER + data.len();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(level.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(data);
    for (place, byte) in control.iter_mut().zip(&message) {
        *place = *byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::net::UdpSocket;

    #[test]
    fn addresses_survive_the_kernels_layout() {
        for text in ["127.0.0.1:80", "[fe80::1%3]:53", "[::]:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(decode(&encode(address).0.0), Some(address));
        }
    }

    #[test]
    fn an_answer_comes_from_where_the_question_went() {
        let check = |any: &str, to: &str, ipv6: bool| {
            let server = UdpSocket::bind(any).unwrap();
            tell_destination(server.as_fd(), ipv6).unwrap();
            let to = SocketAddr::new(to.parse().unwrap(), server.local_addr().unwrap().port());
            let client = UdpSocket::bind(any).unwrap();
            client.connect(to).unwrap();
            let mut buffer = [0; 64];
            assert_eq!(receive(server.as_fd(), &mut buffer).unwrap(), None);
            client.send(b"question").unwrap();
            let received = receive(server.as_fd(), &mut buffer).unwrap().unwrap();
            assert_eq!(&buffer[..received.length], b"question");
            assert_eq!(received.destination, Some(to.ip()));
            send(server.as_fd(), b"answer", received.peer, received.destination).unwrap();
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"answer");
        };
        check("0.0.0.0:0", "127.0.0.7", false);
        check("[::]:0", "::1", true);
    }
}
