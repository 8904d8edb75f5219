//! Going to the background: the caller's process waits until the daemon says that it is ready, or why not.

use crate::checked;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const READY: u8 = 0;

/// The daemon's word to the process that was started. In the foreground there is nobody to tell.
#[derive(Default)]
pub struct Starter(Option<File>);

impl Starter {
    /// Ready, once: an error says that nobody waits any more.
    pub fn ready(&mut self) -> io::Result<()> {
        self.0.take().map_or(Ok(()), |mut pipe| pipe.write_all(&[READY]))
    }

    /// False when there is nobody to tell.
    pub fn failed(&mut self, why: &str) -> bool {
        self.0.take().is_some_and(|mut pipe| pipe.write_all(why.as_bytes()).is_ok())
    }
}

/// Who `daemonise` returns as.
pub enum Role {
    Daemon(Starter),
    /// Of the process that was started: how the start ended.
    Started(Result<(), String>),
}

/// Forks. To be called before there is any thread.
pub fn daemonise() -> io::Result<Role> {
    let mut fds = [0; 2];
    // SAFETY: two descriptors are written, both new and ours; there is one thread, so the child may go on as it is.
    let (reader, writer, child) = unsafe {
        checked(libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC))?;
        let pipe = fds.map(|fd| OwnedFd::from_raw_fd(fd));
        let [reader, writer] = pipe.map(File::from);
        (reader, writer, checked(libc::fork())?)
    };
    if child == 0 {
        drop(reader);
        // SAFETY: plain calls.
        unsafe { libc::setsid() };
        std::env::set_current_dir("/")?;
        return Ok(Role::Daemon(Starter(Some(writer))));
    }
    drop(writer);
    let mut said = Vec::new();
    { reader }.read_to_end(&mut said)?;
    Ok(Role::Started(match said.as_slice() {
        [READY] => Ok(()),
        [] => Err("ended before it was ready".into()),
        why => Err(String::from_utf8_lossy(why).into_owned()),
    }))
}

/// What is made from here on is for its owner alone.
pub fn private_files() {
    // SAFETY: a plain number.
    unsafe { libc::umask(0o077) };
}

/// Makes descriptor `fd` the null device.
pub fn silence(fd: i32) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // SAFETY: plain numbers.
    checked(unsafe { libc::dup2(null.as_raw_fd(), fd) }).map(drop)
}
