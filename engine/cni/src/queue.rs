//! Deletions that no agent heard: it reads the folder when it starts. A pod's end must not wait for an agent.

use crate::call::Call;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;

/// Writes `<container>-<interface>.json`: whole or not at all, and the same again when called again.
pub fn put(call: &Call) -> io::Result<()> {
    let (Some(container), Some(interface)) = (&call.container, &call.interface) else {
        return Err(io::Error::other("a deletion has a container and an interface"));
    };
    let folder = call.queue_folder();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let name = format!("{container}-{interface}.json");
    let draft = folder.join(format!(".{name}.{}", std::process::id()));
    let written = File::create(&draft)
        .and_then(|mut file| {
            file.write_all(call.json().to_string().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&draft, folder.join(name)));
    if written.is_err() {
        let _ = fs::remove_file(&draft);
    }
    written
}
