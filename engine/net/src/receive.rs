//! Receiving many datagrams by one recvmmsg, each possibly many more by UDP_GRO.

use crate::address::SocketAddress;
use crate::checked;
use crate::control::{Control, number};
use pellicle_proto::endpoint::Endpoint;
use std::io;
use std::ops::Range;
use std::os::fd::RawFd;

/// A message is at most a UDP super packet.
const ROOM: usize = 1 << 16;

/// Buffers for a batch: one slab, so that packets are ranges of one slice. Memory is only touched as far as messages fill it.
pub struct Receiver {
    pub slab: Vec<u8>,
    names: Vec<SocketAddress>,
    controls: Vec<Control>,
    slices: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

/// One message: datagrams of `segment` bytes each (the last may be shorter), all of one sender and with one TOS.
pub struct Arrival {
    pub range: Range<usize>,
    pub segment: usize,
    pub ecn: u8,
    pub source: Endpoint,
    /// The address that it was sent to, port 0.
    pub destination: Endpoint,
}

impl Receiver {
    pub fn new(count: usize) -> Receiver {
        // SAFETY: all zero is an empty mmsghdr.
        let headers = (0..count).map(|_| unsafe { std::mem::zeroed() }).collect();
        Receiver {
            slab: vec![0; count * ROOM],
            names: vec![SocketAddress::default(); count],
            controls: vec![Control::default(); count],
            slices: vec![libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; count],
            headers,
        }
    }

    /// Takes what waits: how many messages came.
    pub fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        for (index, header) in self.headers.iter_mut().enumerate() {
            let room = &mut self.slab[index * ROOM..(index + 1) * ROOM];
            self.slices[index] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: ROOM };
            let message = &mut header.msg_hdr;
            message.msg_name = (&raw mut self.names[index]).cast();
            message.msg_namelen = size_of::<SocketAddress>() as u32;
            message.msg_iov = &raw mut self.slices[index];
            message.msg_iovlen = 1;
            message.msg_control = self.controls[index].pointer();
            message.msg_controllen = Control::room() as _;
        }
        let count = self.headers.len() as u32;
        // SAFETY: every header points into buffers of `self`, which outlive the call.
        let received = unsafe {
            libc::recvmmsg(socket, self.headers.as_mut_ptr(), count, libc::MSG_DONTWAIT as _, std::ptr::null_mut())
        };
        checked(received).map(|count| count as usize)
    }

    pub fn arrival(&self, index: usize) -> Arrival {
        let header = &self.headers[index];
        let length = header.msg_len as usize;
        let mut arrival = Arrival {
            range: index * ROOM..index * ROOM + length,
            segment: length.max(1),
            ecn: 0,
            source: self.names[index].endpoint(),
            destination: Endpoint::NONE,
        };
        self.controls[index].each(header.msg_hdr.msg_controllen as _, |level, kind, data| match (level, kind) {
            (libc::SOL_UDP, libc::UDP_GRO) => arrival.segment = (number(data) as usize).max(1),
            (libc::IPPROTO_IP, libc::IP_TOS) => arrival.ecn = data.first().unwrap_or(&0) & 3,
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => arrival.ecn = (number(data) & 3) as u8,
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // interface, local address, header's destination (which may be a broadcast)
                if let Some([a, b, c, d]) = data.get(4..8) {
                    arrival.destination = Endpoint::v4([*a, *b, *c, *d], 0);
                }
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                if let (Some(address), Some(scope)) = (data.first_chunk::<16>(), data.get(16..20)) {
                    let local = address[0] == 0xfe && address[1] & 0xc0 == 0x80;
                    arrival.destination = Endpoint::v6(*address, 0, if local { number(scope) } else { 0 });
                }
            }
            _ => {}
        });
        arrival
    }
}
