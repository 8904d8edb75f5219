//! Sending IPv4 packets straight to a neighbour on its link (packet(7)): without the kernel's way through routing and
//! firewall for each of them, which costs as much as all else. Whoever does so has to know the way: see `neighbour`.

use crate::send::send_until_refused;
use crate::udp::large_buffers;
use crate::{checked, set_option};
use pellicle_proto::checksum::Sum;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const HEADER: usize = 20;

/// Where the next hop is: the device's index, its address on the link, and the hop limit that packets get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    pub device: u32,
    pub mac: [u8; 6],
    pub hops: u8,
}

/// The outer header but for its length.
#[derive(Clone, Copy, Debug)]
pub struct Outer {
    pub source: [u8; 4],
    pub destination: [u8; 4],
    pub tos: u8,
    pub protocol: u8,
}

/// A socket that sends by any device and receives nothing (needs CAP_NET_RAW, and CAP_NET_ADMIN for a mark).
pub fn open(mark: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: the descriptor is new and ours; protocol 0 is none.
    let socket = unsafe { OwnedFd::from_raw_fd(checked(libc::socket(libc::AF_PACKET, kind, 0))?) };
    if mark != 0 {
        set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_MARK, mark as i32)?;
    }
    large_buffers(socket.as_raw_fd())?;
    Ok(socket)
}

/// The hop limit that packets of this IPv4 socket get.
pub fn hops(socket: &OwnedFd) -> io::Result<u8> {
    let (mut hops, mut length) = (0i32, 4);
    // SAFETY: pointer and length describe `hops`.
    checked(unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_TTL, (&raw mut hops).cast(), &raw mut length)
    })?;
    Ok(hops as u8)
}

/// Packets of one header by one system call.
#[derive(Default)]
pub struct Frames {
    slices: Vec<[libc::iovec; 2]>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers in it are only used within `send`, which sets them first.
unsafe impl Send for Frames {}

impl Frames {
    /// Sends `bytes` as packets of `segment` bytes (the last may be shorter): how many calls it took, and how many packets
    /// have left before the kernel refused one.
    pub fn send(&mut self, socket: RawFd, link: &Link, outer: &Outer, bytes: &[u8], segment: usize) -> (usize, usize) {
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        address.sll_ifindex = link.device as i32;
        address.sll_halen = 6;
        address.sll_addr[..6].copy_from_slice(&link.mac);
        let last = (bytes.len().max(1) - 1) % segment.max(1) + 1;
        let outers = [outer.header(link.hops, segment), outer.header(link.hops, last)];
        let count = bytes.len().div_ceil(segment.max(1));
        let piece = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.slices.clear();
        self.slices.extend(bytes.chunks(segment.max(1)).enumerate().map(|(index, packet)| {
            let header = &outers[usize::from(index + 1 == count)];
            [piece(header), piece(packet)]
        }));
        self.headers.clear();
        for slices in &mut self.slices {
            // SAFETY: all zero is an empty mmsghdr.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_name = (&raw const address).cast_mut().cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_ll>() as u32;
            header.msg_hdr.msg_iov = slices.as_mut_ptr();
            header.msg_hdr.msg_iovlen = 2;
            self.headers.push(header);
        }
        // SAFETY: address, headers and packets outlive the call.
        unsafe { send_until_refused(socket, &mut self.headers) }
    }
}

impl Outer {
    /// As a raw socket that forbids fragments makes it: "don't fragment", and so no identification (RFC 6864).
    fn header(&self, hops: u8, payload: usize) -> [u8; HEADER] {
        let [high, low] = ((HEADER + payload) as u16).to_be_bytes();
        let ([a, b, c, d], [e, f, g, h]) = (self.source, self.destination);
        let mut header = [0x45, self.tos, high, low, 0, 0, 0x40, 0, hops, self.protocol, 0, 0, a, b, c, d, e, f, g, h];
        let sum = Sum::default().plus(&header).checksum();
        header[10..12].copy_from_slice(&sum);
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071's arithmetic that is in every textbook, with "don't fragment" and protocol 17.
    #[test]
    fn headers_are_whole() {
        let outer = Outer { source: [192, 168, 0, 1], destination: [192, 168, 0, 199], tos: 0, protocol: 17 };
        let header = outer.header(64, 95);
        assert_eq!(header[..10], [0x45, 0, 0, 115, 0, 0, 0x40, 0, 64, 17]);
        assert_eq!(header[10..12], [0xb8, 0x61]);
        assert!(Sum::default().plus(&header).valid());
    }
}
