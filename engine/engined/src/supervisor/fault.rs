//! A failure that somebody can act on, as it stands in an answer (docs/protocol/supervisor.md).

use serde_json::{Value, json};
use std::io;
use std::path::Path;

#[derive(Debug)]
pub struct Fault {
    pub code: &'static str,
    pub message: String,
    pub remedy: String,
}

impl Fault {
    pub fn new(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Fault {
        Fault { code, message: message.into(), remedy: remedy.into() }
    }

    /// For what only fails when the machine lacks something.
    pub fn system(what: &str, error: &io::Error) -> Fault {
        let remedy = match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => "run as root, with CAP_NET_ADMIN and /dev/net/tun",
            Some(libc::ENOENT | libc::ENODEV) => "load the tun module and make /dev/net/tun visible here",
            Some(libc::ENOMEM | libc::ENOSPC) => "free memory, or give fewer --max-peers",
            Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files",
            _ => "see the message",
        };
        Fault::new("system", format!("{what}: {error}"), remedy)
    }

    /// For what is made in a folder: a socket, the folder itself.
    pub fn file(path: &Path, error: &io::Error) -> Fault {
        let folder = path.parent().unwrap_or(path).display();
        let remedy = match error.raw_os_error() {
            Some(libc::ENOSPC | libc::EDQUOT) => {
                format!("free space or inodes there (df, df -i {folder}); nothing was begun, so nothing is lost")
            }
            Some(libc::EROFS) => {
                format!("mount the file system of {folder} writable: it should be a tmpfs, as /run is")
            }
            Some(libc::EPERM | libc::EACCES) => "run as root".into(),
            _ => "see the message".into(),
        };
        Fault::new("file", format!("cannot make {}: {error}", path.display()), remedy)
    }

    /// One sentence, for the log.
    pub fn text(&self) -> String {
        format!("{} ({})", self.message, self.remedy)
    }

    pub fn json(&self) -> Value {
        json!({ "ok": false, "code": self.code, "message": self.message, "remedy": self.remedy })
    }
}
