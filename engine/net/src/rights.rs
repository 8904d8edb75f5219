//! Messages with descriptors over Unix sockets of type SEQPACKET or STREAM (SCM_RIGHTS, unix(7)).

use crate::checked;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

const MAX_FDS: usize = 64;
const HEADER: usize = size_of::<libc::cmsghdr>();

#[repr(C, align(8))]
struct Room([u8; HEADER + MAX_FDS * 4]);

/// A connected pair, closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    // SAFETY: two descriptors are written, both new and ours.
    unsafe {
        checked(libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

/// Between fork and exec: `fd` stays open in the new program, as number `to`.
pub fn pass(fd: RawFd, to: RawFd) -> io::Result<()> {
    // SAFETY: plain numbers; dup2 to itself would leave close-on-exec set.
    checked(unsafe { if fd == to { libc::fcntl(fd, libc::F_SETFD, 0) } else { libc::dup2(fd, to) } }).map(drop)
}

/// Sends `bytes` with `fds` in one message; the receiver gets copies.
pub fn send(socket: RawFd, bytes: &[u8], fds: &[RawFd]) -> io::Result<()> {
    assert!(fds.len() <= MAX_FDS);
    let mut room = Room([0; HEADER + MAX_FDS * 4]);
    let mut slice = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: all zero is an empty msghdr; every pointer set below outlives the call.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut slice;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            let size = size_of_val(fds);
            room.0.as_mut_ptr().cast::<libc::cmsghdr>().write(libc::cmsghdr {
                cmsg_len: (HEADER + size) as _,
                cmsg_level: libc::SOL_SOCKET,
                cmsg_type: libc::SCM_RIGHTS,
            });
            std::ptr::copy_nonoverlapping(fds.as_ptr().cast::<u8>(), room.0.as_mut_ptr().add(HEADER), size);
            message.msg_control = room.0.as_mut_ptr().cast();
            message.msg_controllen = (HEADER + size).next_multiple_of(8) as _;
        }
        loop {
            match checked(libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(sent) if sent as usize == bytes.len() => return Ok(()),
                Ok(_) => return Err(io::Error::new(io::ErrorKind::WriteZero, "the message was cut")),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Receives one message into `bytes`: its length (0: the other end is gone) and its descriptors.
pub fn receive(socket: RawFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut room = Room([0; HEADER + MAX_FDS * 4]);
    let mut slice = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: as in `send`; the kernel says how much ancillary data it wrote and makes the descriptors ours.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut slice;
        message.msg_iovlen = 1;
        message.msg_control = room.0.as_mut_ptr().cast();
        message.msg_controllen = room.0.len() as _;
        let length = loop {
            match checked(libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other? as usize,
            }
        };
        let mut fds = Vec::new();
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let count = ((*header).cmsg_len as usize - HEADER) / 4;
                for index in 0..count {
                    let fd = libc::CMSG_DATA(header).cast::<i32>().add(index).read_unaligned();
                    fds.push(OwnedFd::from_raw_fd(fd));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        Ok((length, fds))
    }
}
