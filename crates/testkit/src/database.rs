//! A database of one test.

use std::{
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions};

use crate::{Server, or_panic, unique};

/// Lets one process at a time make a template; any number that nobody else takes.
const TEMPLATE_LOCK: i64 = 0x6775_6172_6469_616e;

/// A database that is dropped with the value.
#[derive(Debug)]
pub struct TestDatabase {
    /// Its name.
    pub name: String,
    server: Server,
}

impl TestDatabase {
    /// A database of the shared server with the migrations of `examples/helpdesk` applied.
    pub async fn helpdesk() -> Self {
        Self::helpdesk_on(&Server::shared()).await
    }

    pub(crate) async fn helpdesk_on(server: &Server) -> Self {
        let template = or_panic("make the helpdesk template", template(server).await);
        Self::create(server, "helpdesk", &template).await
    }

    pub(crate) async fn create(server: &Server, hint: &str, template: &str) -> Self {
        let name = unique(hint);
        let mut connection = server.connect("postgres").await;
        let sql = format!("CREATE DATABASE \"{name}\" TEMPLATE \"{template}\"");
        let created = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await;
        or_panic("create a database", created.map_err(Into::into));
        let _ = connection.close().await;
        Self { name, server: server.clone() }
    }

    /// A superuser's way in, by the unix socket.
    pub fn options(&self) -> PgConnectOptions {
        self.server.options(&self.name)
    }

    /// The same as a URL over TCP, for programs.
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// A superuser's connection.
    pub async fn connect(&self) -> PgConnection {
        self.server.connect(&self.name).await
    }

    /// The server it is on.
    pub const fn server(&self) -> &Server {
        &self.server
    }
}

impl Drop for TestDatabase {
    /// At best: what stays behind goes with the server. On a thread, because the test's own runtime may not block here.
    fn drop(&mut self) {
        let options = self.server.options("postgres");
        let sql = format!("DROP DATABASE IF EXISTS \"{}\" WITH (FORCE)", self.name);
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let mut connection = options.connect().await.ok()?;
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.ok()
            })
        });
        let _ = dropping.join();
    }
}

/// The name of the template of the helpdesk, made now if need be. Its name has a checksum, so that a changed migration
/// makes another.
async fn template(server: &Server) -> anyhow::Result<String> {
    let migrations = migrations()?;
    let mut hasher = DefaultHasher::new();
    migrations.hash(&mut hasher);
    let name = format!("helpdesk_template_{:x}", hasher.finish());
    let mut connection = server.options("postgres").connect().await?;
    sqlx::query("SELECT pg_catalog.pg_advisory_lock($1)").bind(TEMPLATE_LOCK).execute(&mut connection).await?;
    let state: Option<bool> = sqlx::query_scalar("SELECT datistemplate FROM pg_catalog.pg_database WHERE datname = $1")
        .bind(&name)
        .fetch_optional(&mut connection)
        .await?;
    if state != Some(true) {
        let run = |sql: String| sqlx::raw_sql(AssertSqlSafe(sql));
        run(format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)")).execute(&mut connection).await?;
        run(format!("CREATE DATABASE \"{name}\" TEMPLATE template0")).execute(&mut connection).await?;
        let mut inside = server.options(&name).connect().await?;
        for (path, sql) in migrations {
            let applied = run(sql).execute(&mut inside).await;
            applied.with_context(|| format!("in `{}`", path.display()))?;
        }
        inside.close().await?;
        run(format!("ALTER DATABASE \"{name}\" IS_TEMPLATE true ALLOW_CONNECTIONS false")).execute(&mut connection).await?;
    }
    connection.close().await?;
    Ok(name)
}

fn migrations() -> anyhow::Result<Vec<(PathBuf, String)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/helpdesk/migrations");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut paths: Vec<_> = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), fs::read_to_string(path)?))).collect()
}
