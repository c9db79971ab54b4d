//! Behind a pooler that gives out its server connections a transaction at a time.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use guardian_audit::{audit, collect};
use guardian_testkit::Server;
use sqlx::{ConnectOptions as _, Row as _, postgres::PgConnectOptions};
use tempfile::TempDir;

use crate::place::Place;

struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl PgBouncer {
    /// In front of one database, with one server connection for all clients; `None`, loudly, where there is no `PgBouncer`.
    fn before(place: &Place) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
            .into_iter()
            .find(|path| Path::new(path).exists());
        let Some(program) = program else {
            complain("SKIPPED: there is no PgBouncer");
            return None;
        };
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::Builder::new().prefix("guardian-bouncer").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let url = place.database.url();
        let password = url.split([':', '@']).nth(2).unwrap();
        let name = &place.database.name;
        let text = format!(
            "[databases]\n{name} = host=127.0.0.1 port={} user=guardian_admin password={password} dbname={name}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 1\n",
            place.database.server().port()
        );
        let ini = folder.path().join("pgbouncer.ini");
        fs::write(&ini, text).unwrap();
        fs::set_permissions(&ini, fs::Permissions::from_mode(0o644)).unwrap();
        let mut command = Command::new(program);
        if fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0) {
            command.args(["-u", "postgres"]);
        }
        let child = command.arg("--quiet").arg(&ini).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let bouncer = Self { child, port, _folder: folder };
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(bouncer);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("PgBouncer does not listen");
    }
}

#[expect(clippy::print_stderr, reason = "a test that is skipped has to say so where the person looks")]
fn complain(message: &str) {
    eprintln!("{message}");
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_changes_nothing() {
    let place = Place::on(&Server::shared()).await;
    place.execute("ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY").await;
    let Some(bouncer) = PgBouncer::before(&place) else { return };
    let options = PgConnectOptions::new_without_pgpass()
        .host("127.0.0.1")
        .port(bouncer.port)
        .username("anybody")
        .database(&place.database.name)
        .extra_float_digits(None);
    let mut first = options.connect().await.unwrap();
    let mut other = options.connect().await.unwrap();
    let pooled = collect(&mut first).await.unwrap();
    // The one server connection is free again, and has nothing of the collector's left in it.
    let left: (String, i64) = {
        let row = sqlx::raw_sql(
            "SELECT current_setting('search_path') || current_setting('statement_timeout'), (SELECT count(*) FROM pg_prepared_statements)",
        )
        .fetch_one(&mut other)
        .await
        .unwrap();
        (row.get::<String, _>(0), row.get::<i64, _>(1))
    };
    assert_eq!(left, ("\"$user\", public0".to_owned(), 0));
    let direct = place.facts_as_superuser().await;
    let findings = |facts| audit(facts, &place.audit_options()).unwrap().findings;
    assert_eq!(findings(&pooled), findings(&direct));
    assert!(findings(&pooled).iter().any(|finding| finding.rule == "GRD-PG-001"));
}
