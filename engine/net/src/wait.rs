//! poll(2).

use crate::checked;
use std::io;

/// Waits until one of the descriptors (negative ones are passed over) is readable or hung up; `None` waits for ever.
/// Tells for each whether it is ready. An interrupting signal counts as "none is".
pub fn readable<const N: usize>(fds: [i32; N], milliseconds: Option<u32>) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    poll(&mut polled, milliseconds)?;
    Ok(polled.map(|entry| entry.revents != 0))
}

pub fn poll(polled: &mut [libc::pollfd], milliseconds: Option<u32>) -> io::Result<usize> {
    let timeout = milliseconds.map_or(-1, |time| time.min(i32::MAX as u32) as i32);
    // SAFETY: pointer and count describe `polled`.
    match checked(unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) }) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        other => other.map(|count| count as usize),
    }
}
