//! Noticing that a file is gone (inotify(7)).

use crate::checked;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Readable when something happened to the file.
pub struct Watch {
    inotify: OwnedFd,
    path: PathBuf,
}

impl Watch {
    pub fn new(path: &Path) -> io::Result<Watch> {
        let name = CString::new(path.as_os_str().as_bytes())?;
        let events = libc::IN_ATTRIB | libc::IN_DELETE_SELF | libc::IN_MOVE_SELF;
        // SAFETY: the descriptor is new and ours, the name a C string.
        let inotify = unsafe {
            let inotify = OwnedFd::from_raw_fd(checked(libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK))?);
            checked(libc::inotify_add_watch(inotify.as_raw_fd(), name.as_ptr(), events))?;
            inotify
        };
        Ok(Watch { inotify, path: path.to_path_buf() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn fd(&self) -> i32 {
        self.inotify.as_raw_fd()
    }

    /// Whether the file is gone; takes what there is to read.
    pub fn gone(&self) -> bool {
        let mut room = [0u8; 4096];
        // SAFETY: pointer and length describe `room`.
        while unsafe { libc::read(self.fd(), room.as_mut_ptr().cast(), room.len()) } > 0 {}
        std::fs::symlink_metadata(&self.path).is_err()
    }
}
