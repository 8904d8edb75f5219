//! An eventfd: wakes a thread that polls.

use crate::checked;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub struct Event(OwnedFd);

impl Event {
    pub fn new() -> io::Result<Event> {
        // SAFETY: the descriptor is new and ours.
        unsafe { Ok(Event(OwnedFd::from_raw_fd(checked(libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC))?))) }
    }

    pub fn notify(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are readable. It fails only when the counter is full, and then the reader is awake already.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), 8) };
    }

    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: eight bytes are writable. It fails only when nothing was notified.
        unsafe { libc::read(self.0.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}
