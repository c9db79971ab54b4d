//! Why the local cluster does not run, and what to do about it.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::binaries::BinariesError;

/// The local cluster does not run.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// No usable programs.
    #[error(transparent)]
    Binaries(#[from] BinariesError),
    /// Another `up` holds the state folder.
    #[error(
        "`{folder}` is in use by another `guardian up` (process {pid}); stop that one, or name another folder with \
         --state-dir", folder = .folder.display()
    )]
    InUse {
        /// The state folder.
        folder: PathBuf,
        /// Its process, as it noted it.
        pid: String,
    },
    /// A file operation failed.
    #[error("cannot {operation} `{path}`: {source}", path = .path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// PostgreSQL refuses to run as root, and there is nobody else.
    #[error("PostgreSQL does not run as root, and this machine has neither a `postgres` nor a `nobody` user")]
    NoUser,
    /// A folder is there that PostgreSQL did not make, or not to the end.
    #[error("`{path}` is no PostgreSQL data folder ({problem}); move it aside to start afresh, or put a backup back", path = .path.display())]
    Corrupt {
        /// The folder.
        path: PathBuf,
        /// How it shows.
        problem: String,
    },
    /// A PostgreSQL program failed.
    #[error("`{program}` failed{hint}: {output}", hint = hint(.output))]
    Program {
        /// Which.
        program: &'static str,
        /// What it said, or the end of the server's log.
        output: String,
    },
}

fn hint(output: &str) -> &'static str {
    if output.contains("No space left on device") {
        " because the disk is full; free some space and start again"
    } else if output.contains("could not create shared memory") || output.contains("could not map anonymous shared memory") {
        " for lack of shared memory"
    } else {
        ""
    }
}

pub(super) fn file_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LocalError {
    move |source| LocalError::File { operation, path: path.to_owned(), source }
}
