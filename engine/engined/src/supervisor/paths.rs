//! Folders and sockets that are ours alone, and random bytes.

use super::fault::Fault;
use std::fs;
use std::io;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

pub fn private_folder(path: &Path) -> Result<(), Fault> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o700)))
        .map_err(|error| Fault::file(path, &error))
}

/// A listening socket that only its owner may connect to; a stale one of the same name is replaced.
pub fn listen(path: &Path) -> Result<OwnedFd, Fault> {
    bind(path).map_err(|error| Fault::file(path, &error))
}

fn bind(path: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    // SAFETY: the descriptor is the listener's, which gives it up here.
    Ok(unsafe { OwnedFd::from_raw_fd(listener.into_raw_fd()) })
}

pub fn random() -> io::Result<[u8; 16]> {
    let mut bytes = [0; 16];
    // SAFETY: sixteen bytes are writable.
    match unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) } {
        16 => Ok(bytes),
        _ => Err(io::Error::last_os_error()),
    }
}
