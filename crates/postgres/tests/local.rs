//! The local cluster: start, refusal, adoption, damage.

#![expect(clippy::unwrap_used, reason = "a test may panic, and so may what it calls")]

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use guardian_postgres::local::{LocalCluster, LocalError, StateLock};
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

fn state() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("guardian-local").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

fn refusal(state: &Path, settings: &[(&str, &str)]) -> String {
    LocalCluster::start(&StateLock::acquire(state).unwrap(), settings).unwrap_err().to_string()
}

/// Stops the cluster also when the test fails.
struct Running(Option<(LocalCluster, StateLock)>);

impl Running {
    fn start(state: &Path) -> Self {
        let lock = StateLock::acquire(state).unwrap();
        Self(Some((LocalCluster::start(&lock, &[("fsync", "off")]).unwrap(), lock)))
    }

    fn cluster(&self) -> &LocalCluster {
        &self.0.as_ref().unwrap().0
    }

    /// What is left when the process is killed: the server, without the lock.
    fn abandon(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some((cluster, _lock)) = self.0.take() {
            cluster.stop().unwrap();
        }
    }
}

async fn postmaster_start(options: PgConnectOptions) -> String {
    let mut connection = options.connect().await.unwrap();
    sqlx::query_scalar("SELECT pg_postmaster_start_time()::text").fetch_one(&mut connection).await.unwrap()
}

#[tokio::test]
async fn a_second_start_is_refused_and_names_the_first() {
    let state = state();
    let first = Running::start(state.path());
    postmaster_start(first.cluster().options()).await;
    let error = StateLock::acquire(state.path()).unwrap_err();
    assert!(matches!(&error, LocalError::InUse { pid, .. } if *pid == std::process::id().to_string()), "{error}");
    assert!(error.to_string().contains("stop that one"), "{error}");
}

#[tokio::test]
async fn a_server_left_behind_is_adopted_and_the_port_outlives_a_stop() {
    let state = state();
    let first = Running::start(state.path());
    let (port, started) = (first.cluster().port(), postmaster_start(first.cluster().options()).await);
    first.abandon();
    let second = Running::start(state.path());
    assert!(second.cluster().is_adopted());
    assert_eq!(postmaster_start(second.cluster().options()).await, started);
    drop(second);
    let third = Running::start(state.path());
    assert!(!third.cluster().is_adopted());
    assert_eq!(third.cluster().port(), port);
    assert_ne!(postmaster_start(third.cluster().options()).await, started);
}

#[tokio::test]
async fn secrets_are_private_and_no_way_in_goes_without_a_password() {
    let state = state();
    let running = Running::start(state.path());
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state.path().join("superuser.password")), 0o600);
    assert_eq!(mode(running.cluster().home()), 0o700);
    assert!(!running.cluster().home().join("password.new").exists());
    let mut connection = running.cluster().options().connect().await.unwrap();
    let methods: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetch_all(&mut connection).await.unwrap();
    assert_eq!(methods, ["scram-sha-256"]);
}

#[test]
fn a_half_made_or_foreign_data_folder_is_left_alone() {
    let state = state();
    let data = state.path().join("cluster/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(state.path().join("superuser.password"), "x").unwrap();
    fs::write(data.join("precious"), "x").unwrap();
    let error = refusal(state.path(), &[]);
    assert!(error.contains("no PostgreSQL data folder (there is no PG_VERSION in it); move it aside"), "{error}");
    assert!(data.join("precious").exists());
}

#[test]
fn a_data_folder_of_another_version_is_left_alone() {
    let state = state();
    let data = state.path().join("cluster/data");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "9\n").unwrap();
    let error = refusal(state.path(), &[]);
    assert!(error.contains("was made by PostgreSQL 9"), "{error}");
}

#[test]
fn a_damaged_cluster_says_what_the_server_said() {
    let state = state();
    drop(Running::start(state.path()));
    let control = state.path().join("cluster/data/global/pg_control");
    fs::write(&control, "rubbish").unwrap();
    let error = refusal(state.path(), &[]);
    assert!(error.contains("`postgres` failed") && error.contains("pg_control"), "{error}");
}

#[test]
fn a_wrong_setting_says_what_the_server_said() {
    let state = state();
    let error = refusal(state.path(), &[("no_such_setting", "1")]);
    assert!(error.contains("no_such_setting"), "{error}");
}

#[test]
fn a_lost_password_is_not_replaced_by_one_that_does_not_fit() {
    let state = state();
    drop(Running::start(state.path()));
    fs::remove_file(state.path().join("superuser.password")).unwrap();
    let error = refusal(state.path(), &[]);
    assert!(error.contains("superuser.password"), "{error}");
}

#[tokio::test]
async fn a_long_path_gets_its_socket_elsewhere() {
    let state = state();
    let deep = state.path().join("x".repeat(100));
    fs::create_dir(&deep).unwrap();
    let running = Running::start(&deep);
    let socket = running.cluster().options().get_socket().unwrap().clone();
    assert!(!socket.starts_with(state.path()), "{}", socket.display());
    postmaster_start(running.cluster().options()).await;
    drop(running);
    fs::remove_dir(socket).unwrap();
}

#[tokio::test]
async fn a_state_folder_out_of_reach_puts_the_data_elsewhere() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let state = state();
    fs::set_permissions(state.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let running = Running::start(state.path());
    let home = running.cluster().home().to_owned();
    assert!(home.starts_with("/var/lib/guardian"), "{}", home.display());
    let started = postmaster_start(running.cluster().options()).await;
    running.abandon();
    let again = Running::start(state.path());
    assert_eq!(postmaster_start(again.cluster().options()).await, started);
    drop(again);
    fs::remove_dir_all(home).unwrap();
}
