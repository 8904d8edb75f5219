//! What a killed supervisor leaves of a device, for whoever is started next.

use super::erase::erase;
use super::fault::Fault;
use super::kind::Kind;
use super::options::Options;
use super::settings::{Settings, usable};
use super::sockets::{Features, Sockets, open};
use pellicle_net::memory::{self, Mapping};
use pellicle_net::tun;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// The file of a device whose memory is kept.
pub const MEMORY: &str = "memory";
/// How many times 10 ms we wait for the engine of a supervisor that was killed.
const LEAVING: u32 = 100;

/// The memory at `keep`, if there may be such a file, with what a killed supervisor has left in it; else new memory. Whether
/// it is kept.
pub fn memory(kind: Kind, max_peers: u32, keep: Option<&Path>, instance: [u8; 16]) -> io::Result<(OwnedFd, bool)> {
    let size = kind.size(max_peers);
    let kept = keep.and_then(|path| match memory::keep(path, size) {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => {
            let (path, error) = (path.display(), error.to_string());
            say!("level=warning msg=\"sessions will not outlive this supervisor\" file={path} error={error:?}");
            None
        }
        kept => kept.ok(),
    });
    if let Some(memory) = kept {
        if !kind.reads(Mapping::new(&memory)?) {
            Mapping::new(&memory)?.clear();
            kind.format(Mapping::new(&memory)?, max_peers, instance);
        }
        return Ok((memory, true));
    }
    let memory = memory::create(c"pellicle-state", size)?;
    kind.format(Mapping::new(&memory)?, max_peers, instance);
    Ok((memory, false))
}

/// The device's sockets. `left`: the engine of a supervisor that was killed may have the port until it has ended as well.
pub fn open_after(settings: &Settings, left: bool) -> Result<(Sockets, Features, u16), Fault> {
    for _ in 0..if left { LEAVING } else { 0 } {
        match open(settings.kind, settings.port, settings.mark) {
            Err(fault) if fault.code == "port.taken" => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened,
        }
    }
    open(settings.kind, settings.port, settings.mark)
}

/// Removes what a killed supervisor has left of a device that nobody has asked for since; false when that is nothing.
pub fn remove_left(options: &Options, name: &str) -> bool {
    let folder = options.folder(name);
    if !usable(name) || !folder.join(MEMORY).exists() {
        return false;
    }
    if let Ok((queue, _)) = tun::open(name) {
        let _ = tun::persist(&queue, false);
    }
    erase_files(&folder, name);
    true
}

pub fn erase_files(folder: &Path, name: &str) {
    if let Err(error) = erase(folder) {
        let error = error.to_string();
        say!("level=error device={name} msg=\"files of the device, with its keys, are left behind\" error={error:?}");
    }
}
