//! The folder where a running Guardian keeps what is its own: the local cluster, the master key, and for the command line
//! on the same machine the API's address and the first administrator's token.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

const ADMIN_TOKEN: &str = "admin.token";
const API_ADDRESS: &str = "api.addr";
/// Where the SQL gateway of `guardian up` listens.
const SQL_ADDRESS: &str = "sql.addr";

/// The state folder.
#[derive(Debug, Clone)]
pub(crate) struct StateFolder(PathBuf);

/// A file of the state folder could not be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} `{path}`: {source}", path = .path.display())]
pub(crate) struct StateError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StateError {
    fn new(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { operation, path: path.to_owned(), source }
    }
}

impl StateFolder {
    /// The folder of this path, which need not exist yet.
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes the folder. Others may pass through (the user that runs PostgreSQL has to), not look around.
    pub(crate) fn create(&self) -> Result<(), StateError> {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.0).map_err(StateError::new("create", &self.0))
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Whether the first administrator's token is still there.
    pub(crate) fn has_admin_token(&self) -> bool {
        self.admin_token_path().exists()
    }

    /// Where it is kept.
    pub(crate) fn admin_token_path(&self) -> PathBuf {
        self.0.join(ADMIN_TOKEN)
    }

    /// Keeps the first administrator's token, for its owner's eyes only.
    pub(crate) fn keep_admin_token(&self, secret: &str) -> Result<(), StateError> {
        self.write(ADMIN_TOKEN, secret)
    }

    /// Notes the address of the API.
    pub(crate) fn keep_api_address(&self, address: &str) -> Result<(), StateError> {
        self.write(API_ADDRESS, address)
    }

    /// Notes the address of the SQL gateway.
    pub(crate) fn keep_sql_address(&self, address: &str) -> Result<(), StateError> {
        self.write(SQL_ADDRESS, address)
    }

    /// Nobody listens any more.
    pub(crate) fn forget_addresses(&self) {
        for name in [API_ADDRESS, SQL_ADDRESS] {
            let _ = fs::remove_file(self.0.join(name));
        }
    }

    /// Whole or not at all: a reader never sees half a file.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.0.join(name);
        let new = self.0.join(format!("{name}.new"));
        let written = || {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            writeln!(file, "{text}")?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            // The name itself has to last, too.
            fs::File::open(&self.0)?.sync_all()
        };
        written().map_err(StateError::new("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_is_kept_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateFolder::at(folder.path().join(".guardian"));
        state.create().unwrap();
        state.keep_admin_token("secret").unwrap();
        let path = state.admin_token_path();
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret\n");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        state.keep_api_address("127.0.0.1:1").unwrap();
        assert!(state.path().join(API_ADDRESS).exists());
        state.forget_addresses();
        assert!(!state.path().join(API_ADDRESS).exists());
    }
}
