//! Finds and reads `guardian.toml`. What may stand in it is `guardian_model::config`'s business.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use guardian_model::{Config, config::ConfigError};

/// A configuration and where it stands: paths in it are relative to its folder.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    /// The file, absolute.
    pub(crate) path: PathBuf,
    /// What it says.
    pub(crate) config: Config,
}

/// There is no usable `guardian.toml`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigFileError {
    /// Not there.
    #[error("there is no `{path}`; name the configuration with --config, or write one like examples/helpdesk/guardian.toml", path = .0.display())]
    Missing(PathBuf),
    /// Unreadable.
    #[error("cannot read `{path}`: {source}", path = .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not understood.
    #[error(transparent)]
    Refused(#[from] ConfigError),
    /// A folder that it names is not there.
    #[error("{path}: `application.migrations`: `{folder}` is no folder", path = .path.display(), folder = .folder.display())]
    Migrations {
        /// The file.
        path: PathBuf,
        /// The folder it names.
        folder: PathBuf,
    },
}

impl ConfigFile {
    /// Reads and checks the file that the user named.
    pub(crate) fn read(named: &Path) -> Result<Self, ConfigFileError> {
        let unreadable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ConfigFileError::Missing(named.to_owned()),
            _ => ConfigFileError::Unreadable { path: named.to_owned(), source },
        };
        let path = named.canonicalize().map_err(unreadable)?;
        let text = fs::read_to_string(&path).map_err(unreadable)?;
        let config = Config::parse(&named.display().to_string(), &text)?;
        let file = Self { path, config };
        match file.migrations() {
            Some(folder) if !folder.is_dir() => Err(ConfigFileError::Migrations { path: named.to_owned(), folder }),
            Some(_) | None => Ok(file),
        }
    }

    /// What the file says now: it may have changed since.
    pub(crate) fn read_again(&self) -> Result<Config, ConfigError> {
        let shown = self.path.display().to_string();
        match fs::read_to_string(&self.path) {
            Ok(text) => Config::parse(&shown, &text),
            Err(error) => Err(ConfigError { file: shown, line: None, problem: error.to_string(), hint: None }),
        }
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The folder of the application's migrations.
    pub(crate) fn migrations(&self) -> Option<PathBuf> {
        self.config.application.migrations.as_ref().map(|folder| self.folder().join(folder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_file_as_the_user_did() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.toml");
        fs::write(&path, "[application]\nname = \"x\"\nmigratons = \"m\"\n").unwrap();
        let error = ConfigFile::read(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:3: unknown field `migratons`", path.display())), "{error}");
        assert!(error.ends_with("did you mean `migrations`?"), "{error}");
        fs::write(&path, "[application]\nname = \"x\"\nmigrations = \"m\"\n").unwrap();
        let error = ConfigFile::read(&path).unwrap_err().to_string();
        assert!(error.ends_with("/m` is no folder"), "{error}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = ConfigFile::read(Path::new("/nonexistent/guardian.toml")).unwrap_err().to_string();
        assert!(
            error.starts_with("there is no `/nonexistent/guardian.toml`; name the configuration with --config"),
            "{error}"
        );
    }
}
