//! Signals as something to poll (signalfd): children that ended, and the wish that we end.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub struct Signals(OwnedFd);

fn set() -> libc::sigset_t {
    // SAFETY: the set is made empty before signals are added.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGCHLD, libc::SIGTERM, libc::SIGINT] {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    }
}

impl Signals {
    pub fn new() -> io::Result<Signals> {
        let set = set();
        // SAFETY: the set is whole; the descriptor is new and ours.
        unsafe {
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            match libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC) {
                -1 => Err(io::Error::last_os_error()),
                fd => Ok(Signals(OwnedFd::from_raw_fd(fd))),
            }
        }
    }

    /// In a child: as if nothing had been blocked.
    pub fn unblock() {
        let set = set();
        // SAFETY: the set is whole.
        unsafe { libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut()) };
    }

    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Whether somebody wants us to end; the ends of children are left to `reap`.
    pub fn told_to_end(&self) -> bool {
        let mut end = false;
        loop {
            // SAFETY: the structure is plain numbers and written by as many bytes as it has.
            unsafe {
                let mut info: libc::signalfd_siginfo = std::mem::zeroed();
                let size = size_of::<libc::signalfd_siginfo>();
                if libc::read(self.fd(), (&raw mut info).cast(), size) != size as isize {
                    return end;
                }
                end |= info.ssi_signo != libc::SIGCHLD as u32;
            }
        }
    }
}

/// A child that ended, and how.
pub fn reap() -> Option<(i32, String)> {
    let mut status = 0;
    // SAFETY: `status` is writable.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let how = if libc::WIFSIGNALED(status) {
        format!("signal {}", libc::WTERMSIG(status))
    } else {
        format!("status {}", libc::WEXITSTATUS(status))
    };
    Some((pid, how))
}
