//! A server for one piece of work: nothing in it is worth keeping, and nothing stays behind.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use aws_lc_rs::rand;
use sqlx::postgres::PgConnectOptions;

use super::{LocalCluster, LocalError, StateLock, error::file_error, watch::Watch};
use crate::binaries::Binaries;

/// Durability is no concern of what is thrown away.
const SETTINGS: [(&str, &str); 6] = [
    ("fsync", "off"),
    ("synchronous_commit", "off"),
    ("full_page_writes", "off"),
    ("autovacuum", "off"),
    ("max_wal_size", "256MB"),
    ("logging_collector", "off"),
];

/// A cluster in a temporary folder. Dropping the value stops it and removes the folder; both block for a moment.
/// When the process is killed, a watcher of its own does both.
#[derive(Debug)]
pub struct Throwaway {
    cluster: Option<LocalCluster>,
    folder: PathBuf,
    /// Dropped last, when there is nothing left for it to clear up.
    watch: Watch,
}

impl Throwaway {
    /// Starts one of the newest installed version.
    pub fn start() -> Result<Self, LocalError> {
        Self::start_with(Binaries::newest()?)
    }

    /// Starts one with given programs.
    pub fn start_with(binaries: Binaries) -> Result<Self, LocalError> {
        let folder = make_folder()?;
        let watch = Watch::start().map_err(file_error("run", Path::new("/bin/sh")))?;
        let mut throwaway = Self { cluster: None, folder, watch };
        throwaway.watch.over(&throwaway.folder).map_err(file_error("watch over", &throwaway.folder))?;
        let lock = StateLock::acquire(&throwaway.folder)?;
        let cluster = throwaway.cluster.insert(LocalCluster::start_with(binaries, &lock, &SETTINGS)?);
        for folder in [&cluster.home, &cluster.socket] {
            throwaway.watch.over(folder).map_err(file_error("watch over", folder))?;
        }
        Ok(throwaway)
    }

    /// The superuser's way in.
    pub fn options(&self) -> PgConnectOptions {
        // `start_with` gives no value without a cluster, and only `drop` takes it out.
        self.cluster.as_ref().map_or_else(PgConnectOptions::new_without_pgpass, LocalCluster::options)
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let Some(cluster) = self.cluster.take() else {
            remove(&self.folder);
            return;
        };
        let (home, socket) = (cluster.home().to_owned(), cluster.socket.clone());
        if let Err(error) = cluster.stop() {
            tracing::warn!(cluster.folder = %home.display(), "cannot stop a throwaway server: {error}");
            return;
        }
        for folder in [&socket, &home, &self.folder] {
            remove(folder);
        }
    }
}

fn remove(folder: &Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), "cannot remove a temporary folder: {error}");
        }
        Ok(()) | Err(_) => {}
    }
}

/// Root's own temporary folder may be out of reach for the user that runs PostgreSQL.
fn make_folder() -> Result<PathBuf, LocalError> {
    let base = if rustix::process::geteuid().is_root() { PathBuf::from("/tmp") } else { std::env::temp_dir() };
    let mut bytes = [0; 6];
    rand::fill(&mut bytes).map_err(|_| file_error("read", Path::new("the random source"))(ErrorKind::Other.into()))?;
    let name = bytes.iter().fold("guardian-throwaway-".to_owned(), |name, byte| format!("{name}{byte:02x}"));
    let folder = base.join(name);
    fs::DirBuilder::new().mode(0o711).create(&folder).map_err(file_error("create", &folder))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use sqlx::{ConnectOptions as _, Connection as _};

    use super::*;

    #[tokio::test]
    async fn nothing_is_left_of_it() {
        let throwaway = Throwaway::start().unwrap();
        let mut connection = throwaway.options().connect().await.unwrap();
        let superuser: String = sqlx::query_scalar("SHOW is_superuser").fetch_one(&mut connection).await.unwrap();
        assert_eq!(superuser, "on");
        connection.close().await.unwrap();
        let folder = throwaway.folder.clone();
        let socket = throwaway.cluster.as_ref().unwrap().socket.clone();
        assert!(folder.join("cluster").exists() && socket.exists());
        drop(throwaway);
        assert!(!folder.exists() && !socket.exists());
    }

    /// Asks every tenth of a second, for a minute.
    fn wait_for<T>(mut ask: impl FnMut() -> Option<T>) -> Option<T> {
        (0..600).find_map(|_| {
            let answer = ask();
            if answer.is_none() {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            answer
        })
    }

    #[test]
    #[ignore = "the other process of `a_killed_process_leaves_nothing_behind`"]
    fn a_process_that_is_killed() {
        let _throwaway = Throwaway::start().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(100));
    }

    #[test]
    fn a_killed_process_leaves_nothing_behind() {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "local::throwaway::tests::a_process_that_is_killed"]).env("TMPDIR", "/tmp");
        let mut child = command.stdout(std::process::Stdio::null()).spawn().unwrap();
        // Its folder is the one whose lock names it; its server is ready when the folder says its port.
        let pid = child.id().to_string();
        let started = || {
            let folders = fs::read_dir("/tmp").unwrap().filter_map(|entry| Some(entry.ok()?.path()));
            let locked = |folder: &PathBuf| fs::read_to_string(folder.join("lock")).is_ok_and(|holder| holder.trim() == pid);
            let named = |folder: &PathBuf| folder.to_string_lossy().starts_with("/tmp/guardian-throwaway-");
            let folder = folders.filter(named).find(locked)?;
            fs::read_to_string(folder.join("cluster/port")).ok()?;
            let server = fs::read_to_string(folder.join("cluster/data/postmaster.pid")).ok()?;
            Some((folder, format!("/proc/{}", server.lines().next()?)))
        };
        let (folder, server) = wait_for(started).expect("the other process starts a server");
        assert!(Path::new(&server).exists());
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = || (!folder.exists() && !Path::new(&server).exists()).then_some(());
        assert!(wait_for(gone).is_some(), "{server} or {} is still there", folder.display());
    }
}
