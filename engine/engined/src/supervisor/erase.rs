//! The end of a device's files: the keeper's configuration has the private key in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// Overwrites and deletes what lies in `folder`, then the folder. What is not there is as good as erased; what cannot be
/// erased does not keep the rest from it.
pub fn erase(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    let mut failed = Ok(());
    for entry in entries {
        let erased = entry.and_then(|entry| {
            let path = entry.path();
            if entry.file_type()?.is_file() {
                overwrite(&path)?;
            }
            fs::remove_file(path)
        });
        failed = failed.and(erased);
    }
    failed.and_then(|()| fs::remove_dir(folder))
}

fn overwrite(path: &Path) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).open(path)?;
    let length = file.metadata()?.len();
    file.write_all(&vec![0; length as usize])?;
    file.sync_all()
}
