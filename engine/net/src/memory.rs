//! Anonymous memory behind a descriptor (memfd), so that it outlives the process that writes it and can be handed over.

use crate::checked;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A new memory of `size` bytes, allocated in full: a full machine says so now and not by SIGBUS later.
pub fn create(name: &std::ffi::CStr, size: usize) -> io::Result<OwnedFd> {
    // SAFETY: `name` is a C string; the descriptor is new and ours.
    unsafe {
        let fd = OwnedFd::from_raw_fd(checked(libc::memfd_create(
            name.as_ptr(),
            libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
        ))?);
        checked(libc::ftruncate(fd.as_raw_fd(), size as i64))?;
        checked(libc::fallocate(fd.as_raw_fd(), 0, 0, size as i64))?;
        // Nobody can shrink it under a process that has it mapped.
        checked(libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW))?;
        Ok(fd)
    }
}

/// A mapping, shared by all that map the same descriptor.
pub struct Mapping {
    address: *mut u8,
    size: usize,
}

// SAFETY: it is only memory; what lies in it is accessed by atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the whole of `fd`, out of core dumps.
    pub fn new(fd: &OwnedFd) -> io::Result<Mapping> {
        // SAFETY: fstat fills the structure; the mapping is new and its length is the file's.
        unsafe {
            let mut status: libc::stat = std::mem::zeroed();
            checked(libc::fstat(fd.as_raw_fd(), &raw mut status))?;
            let size = status.st_size as usize;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let address = libc::mmap(std::ptr::null_mut(), size, access, libc::MAP_SHARED, fd.as_raw_fd(), 0);
            if address == libc::MAP_FAILED {
                return Err(io::Error::last_os_error());
            }
            libc::madvise(address, size, libc::MADV_DONTDUMP);
            Ok(Mapping { address: address.cast(), size })
        }
    }

    /// Keeps `length` bytes from `offset` out of swap: false when RLIMIT_MEMLOCK forbids it.
    pub fn lock(&self, offset: usize, length: usize) -> bool {
        assert!(offset + length <= self.size);
        // SAFETY: the range lies inside the mapping.
        unsafe { libc::mlock(self.address.add(offset).cast(), length) == 0 }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    pub fn pointer(&self) -> *mut u8 {
        self.address
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody keeps a reference beyond it.
        unsafe { libc::munmap(self.address.cast(), self.size) };
    }
}
