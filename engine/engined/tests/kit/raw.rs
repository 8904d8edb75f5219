//! Datagrams that a UDP socket does not send.

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// One UDP datagram with source port 0, from the namespace to an IPv4 address.
pub fn send_from_port_zero(namespace: &str, to: [u8; 4], port: u16, payload: &[u8]) {
    let namespace = File::open(format!("/run/netns/{namespace}")).expect("the namespace");
    let datagram =
        [&[0, 0][..], &port.to_be_bytes(), &(8 + payload.len() as u16).to_be_bytes(), &[0, 0], payload].concat();
    let send = move || {
        // SAFETY: the thread is our own and ends here; the socket is new; the address is whole, the length the datagram's.
        unsafe {
            assert_eq!(libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET), 0, "setns");
            let socket = libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_UDP);
            assert!(socket >= 0, "a raw socket");
            let socket = OwnedFd::from_raw_fd(socket);
            let mut address: libc::sockaddr_in = std::mem::zeroed();
            address.sin_family = libc::AF_INET as u16;
            address.sin_addr.s_addr = u32::from_ne_bytes(to);
            let size = size_of::<libc::sockaddr_in>() as u32;
            let address = (&raw const address).cast();
            let sent = libc::sendto(socket.as_raw_fd(), datagram.as_ptr().cast(), datagram.len(), 0, address, size);
            assert_eq!(sent, datagram.len() as isize);
        }
    };
    std::thread::spawn(send).join().expect("sent");
}
