//! UDP sockets for tunnels, with what is needed to send and receive in batches.

use crate::address::SocketAddress;
use crate::{checked, set_option};
use pellicle_proto::endpoint::Endpoint;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// As much as may wait while the engine is started again; forced beyond rmem_max.
const BUFFER: i32 = 8 << 20;
const IP_PMTUDISC_DONT: i32 = 0;

/// What this kernel's UDP can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// UDP_SEGMENT: one send, many datagrams (Linux 4.18).
    pub segment: bool,
    /// UDP_GRO: many datagrams, one receive (Linux 5.0).
    pub gro: bool,
}

pub(crate) fn large_buffers(fd: i32) -> io::Result<()> {
    for (force, plain) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        set_option(fd, libc::SOL_SOCKET, force, BUFFER).or_else(|_| set_option(fd, libc::SOL_SOCKET, plain, BUFFER))?;
    }
    Ok(())
}

/// A socket for one family on `port` (0: the kernel's choice) of every address, sending with the firewall mark.
pub fn bind(family: u8, port: u16, mark: u32) -> io::Result<(OwnedFd, Features)> {
    let domain = if family == 4 { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: the descriptor is new and ours.
    let socket =
        unsafe { OwnedFd::from_raw_fd(checked(libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?) };
    let fd = socket.as_raw_fd();
    if mark != 0 {
        set_option(fd, libc::SOL_SOCKET, libc::SO_MARK, mark as i32)?;
    }
    large_buffers(fd)?;
    if family == 4 {
        set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        // As the kernel's WireGuard: no "don't fragment", a datagram too big for the path is fragmented.
        set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, IP_PMTUDISC_DONT)?;
    } else {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, IP_PMTUDISC_DONT)?;
    }
    let gro = set_option(fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
    let segment = set_option(fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok();
    let (address, length) = SocketAddress::new(&Endpoint { family, port, scope: 0, address: [0; 16] });
    // SAFETY: pointer and length describe `address`.
    checked(unsafe { libc::bind(fd, (&raw const address).cast(), length) })?;
    Ok((socket, Features { segment, gro }))
}

/// "Don't fragment" on everything that leaves, as tunnels of IPsec have it. What the path's MTU was said to be is not
/// believed: anybody, a pod for one, can say so by ICMP, and all that is larger would be refused for ten minutes.
pub fn forbid_fragments(socket: &OwnedFd, family: u8) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    if family == 4 {
        set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE)
    } else {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE)
    }
}

/// The port that the socket is bound to.
pub fn port(socket: &OwnedFd) -> io::Result<u16> {
    let mut address = SocketAddress::default();
    let mut length = size_of::<SocketAddress>() as u32;
    // SAFETY: pointer and length describe `address`.
    checked(unsafe { libc::getsockname(socket.as_raw_fd(), (&raw mut address).cast(), &raw mut length) })?;
    Ok(address.endpoint().port)
}

/// Changes the firewall mark of what is sent (needs CAP_NET_ADMIN).
pub fn set_mark(socket: &OwnedFd, mark: u32) -> io::Result<()> {
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MARK, mark as i32)
}
