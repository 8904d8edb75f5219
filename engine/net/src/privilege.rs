//! Giving up rights: another user, no capabilities, nothing gained by exec, no core dump.

use crate::checked;
use std::io;

/// For good. Without root only what needs none is done.
pub fn drop_all(user: u32, group: u32) -> io::Result<()> {
    // SAFETY: plain calls with numbers; a null list of length 0 is an empty list.
    unsafe {
        if libc::geteuid() == 0 {
            let mut capability = 0;
            while libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) == 0 {
                capability += 1;
            }
            checked(libc::setgroups(0, std::ptr::null()))?;
            checked(libc::setresgid(group, group, group))?;
            checked(libc::setresuid(user, user, user))?;
            if libc::geteuid() == 0 || libc::setuid(0) == 0 {
                return Err(io::Error::other("still root after setresuid"));
            }
        }
        checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        checked(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
    }
    Ok(())
}

/// Goes before ordinary processes, as what the kernel does for packets in softirq does: a processor that somebody else
/// keeps busy would fill its queues. Without the right to it everything stays as it is.
pub fn prefer() {
    // SAFETY: plain numbers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
}

/// The process gets `signal` when its parent ends. Changing the user forgets it (prctl(2)).
pub fn die_with_parent(signal: i32) {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) };
}

/// After `drop_all`: dies with `parent` again, if that is still there.
pub fn die_with(parent: i32, signal: i32) -> io::Result<()> {
    die_with_parent(signal);
    if self::parent() == parent { Ok(()) } else { Err(io::Error::other("the parent process is gone")) }
}

pub fn parent() -> i32 {
    // SAFETY: a plain call.
    unsafe { libc::getppid() }
}
