//! One process at a time in a state folder.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{LocalError, error::file_error};

/// A state folder that this process has to itself. The kernel lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    folder: PathBuf,
    _file: fs::File,
}

impl StateLock {
    /// Takes the folder, which must exist, or says who has it.
    pub fn acquire(folder: &Path) -> Result<Self, LocalError> {
        let folder = folder.canonicalize().map_err(file_error("find", folder))?;
        let path = folder.join("lock");
        let open = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(file_error("open", &path))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            // Only for the message.
            let _ = file.read_to_string(&mut pid);
            return Err(LocalError::InUse { folder, pid: pid.trim().to_owned() });
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(file_error("write", &path))?;
        Ok(Self { folder, _file: file })
    }

    /// The folder, with every link resolved.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}
