//! Sending datagrams: one by one, or a run of equal ones by one sendmsg with UDP_SEGMENT.

use crate::address::SocketAddress;
use crate::checked;
use crate::control::Control;
use pellicle_proto::endpoint::Endpoint;
use std::io;
use std::os::fd::RawFd;

/// Where a run of datagrams goes and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Route {
    pub destination: Endpoint,
    /// The address to send from; family 0 leaves it to the kernel.
    pub source: Endpoint,
    pub tos: u8,
}

/// Sends `bytes` as datagrams of `segment` bytes each (the last may be shorter) in one call; `segment` 0 or the whole
/// length sends one. Waits when the socket's buffer is full.
pub fn send(socket: RawFd, route: &Route, bytes: &[u8], segment: usize) -> io::Result<()> {
    let (address, length) = SocketAddress::new(&route.destination);
    let mut control = Control::default();
    if segment != 0 && segment < bytes.len() {
        control.push(libc::SOL_UDP, libc::UDP_SEGMENT, segment as u16);
    }
    describe(&mut control, route);
    let mut slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zero is an empty msghdr; every pointer outlives the call.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_name = (&raw const address).cast_mut().cast();
        message.msg_namelen = length;
        message.msg_iov = &raw mut slice;
        message.msg_iovlen = 1;
        if control.length > 0 {
            message.msg_control = control.pointer();
            message.msg_controllen = control.length as _;
        }
        loop {
            match checked(libc::sendmsg(socket, &raw const message, 0)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map(drop),
            }
        }
    }
}

/// TOS and source address.
#[inline]
fn describe(control: &mut Control, route: &Route) {
    if route.tos != 0 {
        let four = route.destination.family == 4;
        let (level, kind) =
            if four { (libc::IPPROTO_IP, libc::IP_TOS) } else { (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) };
        control.push(level, kind, i32::from(route.tos));
    }
    if route.source.family != 0 {
        source(control, &route.source);
    }
}

/// Many packets of one route by one system call (sendmmsg), for sockets whose kernel side cuts nothing.
#[derive(Default)]
pub struct Many {
    slices: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers in it are only used within `send`, which sets them first.
unsafe impl Send for Many {}

impl Many {
    /// Sends `bytes` as packets of `segment` bytes (the last may be shorter): how many calls it took, and how many packets
    /// the kernel refused. Waits when the socket's buffer is full.
    pub fn send(&mut self, socket: RawFd, route: &Route, bytes: &[u8], segment: usize) -> (usize, usize) {
        let (address, length) = SocketAddress::new(&route.destination);
        let mut control = Control::default();
        describe(&mut control, route);
        self.slices.clear();
        self.slices.extend(
            bytes
                .chunks(segment.max(1))
                .map(|packet| libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() }),
        );
        self.headers.clear();
        for slice in &mut self.slices {
            // SAFETY: all zero is an empty mmsghdr.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            let message = &mut header.msg_hdr;
            message.msg_name = (&raw const address).cast_mut().cast();
            message.msg_namelen = length;
            message.msg_iov = &raw mut *slice;
            message.msg_iovlen = 1;
            if control.length > 0 {
                message.msg_control = control.pointer();
                message.msg_controllen = control.length as _;
            }
            self.headers.push(header);
        }
        let (mut at, mut calls, mut refused) = (0, 0, 0);
        loop {
            // SAFETY: every header points to what outlives the call.
            let (more, sent) = unsafe { send_until_refused(socket, &mut self.headers[at..]) };
            calls += more;
            at += sent;
            if at == self.headers.len() {
                return (calls, refused);
            }
            // this one, and the rest is tried
            refused += 1;
            at += 1;
        }
    }
}

/// How many calls it took, and how many messages have left before the kernel refused one.
///
/// # Safety
/// Every header points to what outlives the call.
pub(crate) unsafe fn send_until_refused(socket: RawFd, headers: &mut [libc::mmsghdr]) -> (usize, usize) {
    let (mut at, mut calls) = (0, 0);
    while at < headers.len() {
        let rest = &mut headers[at..];
        calls += 1;
        // SAFETY: the caller's.
        match checked(unsafe { libc::sendmmsg(socket, rest.as_mut_ptr(), rest.len() as u32, 0) }) {
            Ok(count) => at += (count as usize).max(1),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    (calls, at)
}

fn source(control: &mut Control, source: &Endpoint) {
    if source.family == 4 {
        let [a, b, c, d, ..] = source.address;
        let info = libc::in_pktinfo {
            ipi_ifindex: source.scope as i32,
            ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes([a, b, c, d]) },
            ipi_addr: libc::in_addr { s_addr: 0 },
        };
        control.push(libc::IPPROTO_IP, libc::IP_PKTINFO, info);
    } else {
        let info =
            libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: source.address }, ipi6_ifindex: source.scope };
        control.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
    }
}
