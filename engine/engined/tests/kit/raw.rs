//! Datagrams that a UDP socket does not send.

use pellicle_proto::checksum::Sum;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// One UDP datagram with source port 0, from the namespace to an IPv4 address.
pub fn send_from_port_zero(namespace: &str, to: [u8; 4], port: u16, payload: &[u8]) {
    let datagram =
        [&[0, 0][..], &port.to_be_bytes(), &(8 + payload.len() as u16).to_be_bytes(), &[0, 0], payload].concat();
    send(namespace, to, 0, libc::SOCK_RAW, libc::IPPROTO_UDP, datagram);
}

/// A packet of IP protocol 50 from the namespace to an IPv4 address.
pub fn send_esp(namespace: &str, to: [u8; 4], packet: &[u8]) {
    send(namespace, to, 0, libc::SOCK_RAW, libc::IPPROTO_ESP, packet.to_vec());
}

/// An ICMP message of somebody on the way: a packet of this IP protocol, from `to` to `other`, is larger than `mtu`.
pub fn send_too_big(namespace: &str, to: [u8; 4], other: [u8; 4], protocol: u8, port: u16, mtu: u16) {
    let lengths = [&[0x45, 0][..], &1400u16.to_be_bytes(), &[0, 0, 0x40, 0, 64, protocol, 0, 0]].concat();
    let ports = [port.to_be_bytes(), port.to_be_bytes(), 1380u16.to_be_bytes(), [0, 0]].concat();
    let about = [&lengths[..], &to, &other, &ports].concat();
    let message = |sum: [u8; 2]| [&[3, 4][..], &sum, &[0, 0], &mtu.to_be_bytes(), &about].concat();
    let sum = Sum::default().plus(&message([0, 0])).checksum();
    send(namespace, to, 0, libc::SOCK_RAW, libc::IPPROTO_ICMP, message(sum));
}

/// A datagram from a port of the kernel's choice.
pub fn send_udp(namespace: &str, to: [u8; 4], port: u16, payload: &[u8]) {
    send(namespace, to, port, libc::SOCK_DGRAM, 0, payload.to_vec());
}

fn send(namespace: &str, to: [u8; 4], port: u16, kind: i32, protocol: i32, bytes: Vec<u8>) {
    let namespace = File::open(format!("/run/netns/{namespace}")).expect("the namespace");
    let send = move || {
        // SAFETY: the thread is our own and ends here; the socket is new; the address is whole, the length that of the bytes.
        unsafe {
            assert_eq!(libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET), 0, "setns");
            let socket = libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, protocol);
            assert!(socket >= 0, "a socket");
            let socket = OwnedFd::from_raw_fd(socket);
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            address.sin_family = libc::AF_INET as u16;
            address.sin_port = port.to_be();
            address.sin_addr.s_addr = u32::from_ne_bytes(to);
            let size = size_of::<libc::sockaddr_in>() as u32;
            let address = (&raw const address).cast();
            let sent = libc::sendto(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0, address, size);
            assert_eq!(sent, bytes.len() as isize);
        }
    };
    std::thread::spawn(send).join().expect("sent");
}
