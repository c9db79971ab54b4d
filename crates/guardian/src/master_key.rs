//! Where the master key comes from: the environment, a file, or for the local cluster a file made at first start.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use guardian_store::{Vault, VaultError};
use zeroize::Zeroizing;

use crate::{
    config_file::ConfigFile,
    state_folder::{StateError, StateFolder},
};

/// Outranks every file.
const VARIABLE: &str = "GUARDIAN_MASTER_KEY";
/// The key before, while it is being changed.
const VARIABLE_PREVIOUS: &str = "GUARDIAN_MASTER_KEY_PREVIOUS";
const FILE: &str = "master.key";

/// There is no usable master key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MasterKeyError {
    /// The variable is set to something else.
    #[error("{0} is no master key: it has to be 64 hexadecimal digits")]
    Variable(&'static str),
    /// The file is damaged.
    #[error(
        "the master key in `{path}` is corrupt: it has to be 64 hexadecimal digits; put a backup of it back (without it, no \
         sealed secret can be read)", path = .0.display()
    )]
    Corrupt(PathBuf),
    /// Others may read it.
    #[error("the master key in `{path}` is open to others (mode {mode:o}); run `chmod 600 {path}`", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file cannot be read.
    #[error("cannot read the master key from `{path}`: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A control database of the user's own, and no key for it.
    #[error(
        "there is no master key: write 64 hexadecimal digits (`openssl rand -hex 32`) to a file of mode 600 and name it as \
         `control.master_key_file`, or set {VARIABLE}; keep a copy, for nothing sealed opens without it"
    )]
    Missing,
    /// It could not be made.
    #[error(transparent)]
    Made(#[from] VaultError),
    /// It could not be kept.
    #[error(transparent)]
    Kept(#[from] StateError),
}

/// The master key, and the one before if it is named.
pub(crate) fn load(file: &ConfigFile, state: &StateFolder) -> Result<Vault, MasterKeyError> {
    let vault = current(file, state)?;
    let named = file.config.control.master_key_file_previous.as_ref();
    let previous = match (variable(VARIABLE_PREVIOUS)?, named) {
        (None, Some(named)) => Some(read(&file.folder().join(named))?),
        (previous, _) => previous,
    };
    Ok(previous.map_or_else(|| vault.clone(), |previous| vault.with_previous(&previous)))
}

fn variable(name: &'static str) -> Result<Option<Vault>, MasterKeyError> {
    let Some(text) = std::env::var_os(name).filter(|text| !text.is_empty()) else { return Ok(None) };
    let text = text.into_string().map(Zeroizing::new).map_err(|_| MasterKeyError::Variable(name))?;
    Vault::from_hex(&text).map(Some).map_err(|_| MasterKeyError::Variable(name))
}

/// Reads the master key; makes one when the control database is the local cluster's and there is none yet. Call it with the
/// state folder's lock held: two first starts at once must not make two keys.
fn current(file: &ConfigFile, state: &StateFolder) -> Result<Vault, MasterKeyError> {
    if let Some(vault) = variable(VARIABLE)? {
        return Ok(vault);
    }
    let control = &file.config.control;
    if let Some(named) = &control.master_key_file {
        return read(&file.folder().join(named));
    }
    match read(&state.path().join(FILE)) {
        Err(MasterKeyError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    if control.database_url.is_some() {
        return Err(MasterKeyError::Missing);
    }
    let (vault, text) = Vault::generate()?;
    state.write(FILE, &text)?;
    Ok(vault)
}

fn read(path: &Path) -> Result<Vault, MasterKeyError> {
    let unreadable = |source| MasterKeyError::Unreadable { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(MasterKeyError::Open { path: path.to_owned(), mode });
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(unreadable)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| MasterKeyError::Corrupt(path.to_owned()))?;
    Vault::from_hex(text).map_err(|_| MasterKeyError::Corrupt(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installation(control: &str) -> (tempfile::TempDir, ConfigFile, StateFolder) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guardian.toml");
        fs::write(&path, format!("[control]\n{control}\n[application]\nname = \"x\"\n")).unwrap();
        let file = ConfigFile::read(&path).unwrap();
        let state = StateFolder::at(folder.path().join(".guardian"));
        state.create().unwrap();
        (folder, file, state)
    }

    #[test]
    fn the_local_cluster_gets_one_private_key() {
        let (_folder, file, state) = installation("");
        let sealed = load(&file, &state).unwrap().seal("x", b"secret").unwrap();
        assert_eq!(load(&file, &state).unwrap().open("x", &sealed).unwrap().as_slice(), b"secret");
        let path = state.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_corrupt_or_open_key_is_refused_and_kept() {
        let (_folder, file, state) = installation("");
        load(&file, &state).unwrap();
        let path = state.path().join(FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(&file, &state), Err(MasterKeyError::Open { mode: 0o644, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        for rubbish in [&b""[..], b"12", b"\xff\xfe"] {
            fs::write(&path, rubbish).unwrap();
            assert!(matches!(load(&file, &state), Err(MasterKeyError::Corrupt(_))));
            assert_eq!(fs::read(&path).unwrap(), rubbish);
        }
    }

    #[test]
    fn a_database_of_the_users_own_needs_a_key_of_the_users_own() {
        let (_folder, file, state) = installation("database_url = \"postgres://localhost/x\"");
        assert!(matches!(load(&file, &state), Err(MasterKeyError::Missing)));
        let (_folder, file, state) = installation("master_key_file = \"not-there\"");
        assert!(matches!(load(&file, &state), Err(MasterKeyError::Unreadable { .. })));
    }

    #[test]
    fn the_key_before_opens_too() {
        let (_folder, file, state) = installation("");
        let old = load(&file, &state).unwrap();
        let control = "master_key_file = \"new.key\"\nmaster_key_file_previous = \".guardian/master.key\"";
        let (folder, file, _) = installation(control);
        fs::copy(state.path().join(FILE), folder.path().join(".guardian/master.key")).unwrap();
        state.write("new.key", &"ab".repeat(32)).unwrap();
        fs::copy(state.path().join("new.key"), folder.path().join("new.key")).unwrap();
        let both = load(&file, &state).unwrap();
        assert_eq!(both.ids().len(), 2);
        assert!(both.open("x", &old.seal("x", b"secret").unwrap()).is_ok());
        assert!(old.open("x", &both.seal("x", b"secret").unwrap()).is_err(), "the new key comes first");
    }
}
