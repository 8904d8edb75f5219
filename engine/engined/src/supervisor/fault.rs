//! A failure that somebody can act on, as it stands in an answer (docs/protocol/supervisor.md).

use serde_json::{Value, json};
use std::io;

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

    pub fn json(&self) -> Value {
        json!({ "ok": false, "code": self.code, "message": self.message, "remedy": self.remedy })
    }
}
