//! What the engine and its supervisor ask of Linux: TUN devices, UDP sockets in batches, shared memory, descriptors over
//! Unix sockets, seccomp. Imports proto; knows nothing of sessions.

pub mod address;
pub mod clock;
pub mod control;
pub mod daemon;
pub mod esp;
pub mod event;
pub mod link;
pub mod memory;
pub mod neighbour;
pub mod privilege;
pub mod receive;
pub mod rights;
pub mod seccomp;
pub mod send;
pub mod tun;
pub mod udp;
pub mod wait;
pub mod watch;

use std::io;

/// The result of a system call as Rust has it: −1 becomes the error.
pub(crate) fn checked<T: PartialEq + From<i8>>(result: T) -> io::Result<T> {
    if result == T::from(-1) { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The next connection of a listening Unix socket, non-blocking.
pub fn accept(listener: i32) -> io::Result<std::os::unix::net::UnixStream> {
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: null asks for no address; the descriptor is new and ours.
    unsafe {
        let fd = checked(libc::accept4(listener, std::ptr::null_mut(), std::ptr::null_mut(), flags))?;
        Ok(std::os::fd::FromRawFd::from_raw_fd(fd))
    }
}

/// Sets an integer option of a socket.
pub(crate) fn set_option(fd: i32, level: i32, name: i32, value: i32) -> io::Result<()> {
    // SAFETY: the pointer and the length describe `value`.
    checked(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), 4) }).map(drop)
}
