//! Shared memory that an earlier release has made.

use super::kind::Kind;
use pellicle_net::memory::{self, Mapping};
use std::io;
use std::os::fd::OwnedFd;

/// The memory itself when this release can read it. Else new memory, in which all sessions begin anew (the keeper sees
/// that by the instance): without it no engine would run. The old one is left as it is, since its supervisor goes on with
/// it should the hand-over fail; it is freed with its last descriptor. Whether it is the same.
pub fn readable(
    old: OwnedFd,
    kind: Kind,
    max_peers: u32,
    instance: [u8; 16],
    device: &str,
) -> io::Result<(OwnedFd, bool)> {
    if kind.reads(Mapping::new(&old)?) {
        return Ok((old, true));
    }
    say!("level=warning device={device} msg=\"the memory is of another release: sessions are made anew\"");
    let new = memory::create(c"pellicle-state", kind.size(max_peers))?;
    kind.format(Mapping::new(&new)?, max_peers, instance);
    Ok((new, false))
}
