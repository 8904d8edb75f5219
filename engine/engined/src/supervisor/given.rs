//! What a device may be given instead of making it.

use pellicle_net::tun;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

/// A TUN queue, and what it can do.
pub struct Queue {
    pub fd: OwnedFd,
    pub offload: tun::Offload,
    pub plain: bool,
}

/// A control socket that the keeper inherits instead of making it: it is there before the keeper, and outlives it.
pub struct ControlSocket {
    pub listener: OwnedFd,
    /// Where it answers.
    pub path: PathBuf,
}
