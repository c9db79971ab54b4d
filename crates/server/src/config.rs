//! `guardian.toml` as it stands now. The user edits it between two plans, so it is read again for each; what cannot change
//! under a running server is refused.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use guardian_model::{Config, config::ConfigError};

use crate::problem::{ApiError, ApiResult, Kind};

/// Where the configuration comes from. Cheap to clone.
#[derive(Clone)]
pub struct ConfigSource(Arc<Inner>);

struct Inner {
    started_with: Config,
    folder: PathBuf,
    read: Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
}

impl fmt::Debug for ConfigSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ConfigSource").field("folder", &self.0.folder).finish_non_exhaustive()
    }
}

impl ConfigSource {
    /// `started_with` is what the server was built from, `folder` what paths in it are relative to; `read` reads the file
    /// anew.
    pub fn new(
        started_with: Config,
        folder: PathBuf,
        read: impl Fn() -> Result<Config, ConfigError> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner { started_with, folder, read: Box::new(read) }))
    }

    /// The configuration as it stands now.
    pub(crate) fn current(&self) -> ApiResult<Config> {
        let refuse = |detail: String| ApiError::new(Kind::Configuration, detail);
        let now = (self.0.read)().map_err(|error| refuse(error.to_string()))?;
        let (old, new) = (&self.0.started_with, &now);
        let fixed = [
            ("application.migrations", old.application.migrations == new.application.migrations),
            ("application.name", old.application.name == new.application.name),
            ("application.tenant_column", old.application.tenant_column == new.application.tenant_column),
            ("application.tenant_key", old.application.tenant_key == new.application.tenant_key),
            ("the place of the shared tables", old.shared_place() == new.shared_place()),
            ("clusters", old.clusters == new.clusters),
        ];
        match fixed.into_iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(refuse(format!("{what} changed since `guardian up` was started; start it again"))),
            None => Ok(now),
        }
    }

    /// What the server was built from.
    pub(crate) fn started_with(&self) -> &Config {
        &self.0.started_with
    }

    /// What paths in the configuration are relative to.
    pub(crate) fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// The folder of the application's migrations; it cannot change under a running server.
    pub(crate) fn migrations_folder(&self) -> Option<PathBuf> {
        self.0.started_with.application.migrations.as_ref().map(|folder| self.0.folder.join(folder))
    }
}
