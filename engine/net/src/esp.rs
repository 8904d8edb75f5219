//! Raw sockets of IP protocol 50. The kernel makes the outer header; on receiving, IPv4 gives it and IPv6 does not.

use crate::udp::{forbid_fragments, large_buffers};
use crate::{checked, set_option};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// One for a family, sending with the firewall mark (needs CAP_NET_RAW, and CAP_NET_ADMIN for a mark).
pub fn open(family: u8, mark: u32) -> io::Result<OwnedFd> {
    let domain = if family == 4 { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: the descriptor is new and ours.
    let socket = unsafe { OwnedFd::from_raw_fd(checked(libc::socket(domain, kind, libc::IPPROTO_ESP))?) };
    let fd = socket.as_raw_fd();
    if mark != 0 {
        set_option(fd, libc::SOL_SOCKET, libc::SO_MARK, mark as i32)?;
    }
    large_buffers(fd)?;
    if family == 4 {
        set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
        set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
    } else {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    }
    forbid_fragments(&socket, family)?;
    Ok(socket)
}
