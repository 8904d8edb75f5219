//! Memory behind a descriptor, so that it outlives the process that writes it and can be handed over: anonymous (memfd), or
//! a file of a file system that is memory, which also outlives all processes.

use crate::checked;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

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

/// A file of `size` bytes at `path`, allocated in full, which only its owner may open: what was there if it has that size,
/// else zeros. An error of kind `Unsupported` where files outlive the machine or lie on a disk: what is written last may
/// then be missing later.
pub fn keep(path: &Path, size: usize) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let folder = path.parent().unwrap_or(Path::new("/"));
    if !is_memory(&File::open(folder)?)? {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "no file system in memory"));
    }
    let mut file = options.open(path)?;
    let found = file.metadata()?;
    // SAFETY: it takes nothing and cannot fail.
    let own = unsafe { libc::geteuid() };
    if !found.is_file() || found.uid() != own || found.mode() & 0o077 != 0 || found.len() != size as u64 {
        std::fs::remove_file(path)?;
        file = options.create_new(true).open(path)?;
        file.set_len(size as u64)?;
        // SAFETY: plain numbers.
        checked(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, size as i64) }).inspect_err(|_| {
            let _ = std::fs::remove_file(path);
        })?;
    }
    Ok(file.into())
}

// of other types in other C libraries
#[allow(clippy::unnecessary_cast)]
fn is_memory(folder: &File) -> io::Result<bool> {
    // SAFETY: fstatfs fills the structure.
    unsafe {
        let mut status: libc::statfs = std::mem::zeroed();
        checked(libc::fstatfs(folder.as_raw_fd(), &raw mut status))?;
        Ok(status.f_type as i64 == libc::TMPFS_MAGIC as i64)
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

    /// All zero, as new memory is.
    pub fn clear(&mut self) {
        // SAFETY: the mapping is ours; who else has it takes its contents for atomics.
        unsafe { std::ptr::write_bytes(self.address, 0, self.size) };
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_kept_file_is_what_was_there() {
        let folder = std::env::temp_dir().join(format!("pellicle-keep-{}", std::process::id()));
        let shm = Path::new("/dev/shm").join(format!("pellicle-keep-{}", std::process::id()));
        for (folder, memory) in [(&folder, false), (&shm, true)] {
            if std::fs::create_dir_all(folder).is_err() {
                continue;
            }
            let memory = memory && File::open(folder).and_then(|folder| is_memory(&folder)).unwrap_or(false);
            let path = folder.join("memory");
            match keep(&path, 8192) {
                Ok(fd) => {
                    assert!(is_memory(&File::open(folder).expect("a folder")).expect("a file system"));
                    File::from(fd).write_all(b"sessions").expect("written");
                    let mut text = [0; 8];
                    File::from(keep(&path, 8192).expect("again")).read_exact(&mut text).expect("read");
                    assert_eq!(&text, b"sessions");
                    let mut other = File::from(keep(&path, 4096).expect("of another size"));
                    other.read_exact(&mut text).expect("read");
                    assert_eq!((text, other.seek(io::SeekFrom::End(0)).expect("a size")), ([0; 8], 4096));
                    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644))
                        .expect("opened");
                    other.rewind().and_then(|()| other.write_all(b"foreign ")).expect("written");
                    File::from(keep(&path, 4096).expect("a new one")).read_exact(&mut text).expect("read");
                    assert_eq!(text, [0; 8], "not what others could write");
                }
                Err(error) => assert!(!memory && error.kind() == io::ErrorKind::Unsupported, "{error}"),
            }
            std::fs::remove_dir_all(folder).expect("removed");
        }
    }
}
