//! The snapshot across a restart: a file, sealed under a key that only this gateway has.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use guardian_gateway::Directory;
use guardian_model::Snapshot;
use guardian_store::{Vault, VaultError};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::keys::Sets;

/// What the file is sealed as.
const CONTEXT: &str = "gateway snapshot";
/// The least time between two writings.
const INTERVAL: Duration = Duration::from_secs(2);

/// What is kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) snapshot: Snapshot,
    /// Key sets of issuers, by name.
    pub(crate) keys: BTreeMap<String, String>,
}

/// Where and under what.
#[derive(Clone)]
pub(crate) struct Keep {
    path: PathBuf,
    vault: Vault,
}

/// What was kept cannot be used, or nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("cannot {operation} `{path}`", path = .path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the kept snapshot `{path}` does not open: it was altered, or is another token's", path = .path.display())]
    Sealed {
        path: PathBuf,
        #[source]
        source: VaultError,
    },
    #[error("the kept snapshot is of another version of guardian")]
    Version(#[from] serde_json::Error),
}

impl Keep {
    /// The key comes from the gateway's token, which has 256 random bits: whoever can open the file could have asked the
    /// control plane.
    pub(crate) fn under_token(path: PathBuf, token: &str) -> Result<Self, VaultError> {
        let key = digest(&SHA256, format!("{CONTEXT}\0{token}").as_bytes());
        let text = key.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        let vault = Vault::from_hex(&Zeroizing::new(text))?;
        Ok(Self { path, vault })
    }

    /// What was kept; `None` where nothing was yet.
    pub(crate) fn load(&self) -> Result<Option<Kept>, KeepError> {
        let sealed = match fs::read(&self.path) {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(self.failed("read", source)),
        };
        let opened = self.vault.open(CONTEXT, &sealed);
        let plain = opened.map_err(|source| KeepError::Sealed { path: self.path.clone(), source })?;
        Ok(Some(serde_json::from_slice(&plain)?))
    }

    /// Whole or not at all.
    fn save(&self, kept: &Kept) -> Result<(), KeepError> {
        let plain = Zeroizing::new(serde_json::to_vec(kept)?);
        let sealed = self.vault.seal(CONTEXT, &plain);
        let sealed = sealed.map_err(|source| KeepError::Sealed { path: self.path.clone(), source })?;
        let new = self.path.with_extension("new");
        fs::write(&new, sealed).map_err(|source| self.failed("write", source))?;
        fs::rename(&new, &self.path).map_err(|source| self.failed("write", source))
    }

    fn failed(&self, operation: &'static str, source: io::Error) -> KeepError {
        KeepError::File { operation, path: Path::to_owned(&self.path), source }
    }

    /// Keeps every change, at most one every two seconds, until told to stop.
    pub(super) async fn follow(self, directory: &Directory, sets: &Arc<Sets>, changed: &Notify, stop: &CancellationToken) {
        loop {
            let kept = Kept { snapshot: directory.view().to_snapshot(), keys: sets.current() };
            let keep = self.clone();
            let saved = tokio::task::spawn_blocking(move || keep.save(&kept)).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!(%error, "cannot keep the snapshot; a restart without the control plane would not serve");
            }
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                () = changed.notified() => {}
                () = stop.cancelled() => {}
            }
            tokio::time::sleep(if stop.is_cancelled() { Duration::ZERO } else { INTERVAL }).await;
        }
    }
}
