//! A database to collect from, with roles of its own.

use guardian_audit::{Facts, Options, collect};
use guardian_testkit::{Server, TestDatabase, unique};
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

const PASSWORD: &str = "collector";

/// The sound schema, and a login that has no rights in it.
pub(crate) struct Place {
    pub(crate) database: TestDatabase,
    suffix: String,
}

impl Place {
    pub(crate) async fn on(server: &Server) -> Self {
        let place = Self { database: server.database("collector").await, suffix: unique("c").split_off(1) };
        place
            .execute(&format!(
                "CREATE ROLE {{owner}} NOLOGIN; CREATE ROLE {{staff}} NOLOGIN; CREATE ROLE {{app}} LOGIN PASSWORD '{PASSWORD}'; \
                 CREATE ROLE {{nobody}} LOGIN PASSWORD '{PASSWORD}';"
            ))
            .await;
        place.execute(include_str!("../rules/sound.sql")).await;
        place.execute("GRANT CONNECT ON DATABASE \"{db}\" TO {nobody}").await;
        place
    }

    /// Puts the roles' real names in.
    pub(crate) fn fill(&self, sql: &str) -> String {
        let names = ["app", "owner", "staff", "nobody"];
        names
            .iter()
            .fold(sql.to_owned(), |sql, role| sql.replace(&format!("{{{role}}}"), &format!("{role}{}", self.suffix)))
            .replace("{db}", &self.database.name)
    }

    /// Runs SQL as the superuser.
    pub(crate) async fn execute(&self, sql: &str) {
        let sql = self.fill(sql);
        let mut connection = self.database.connect().await;
        sqlx::raw_sql(AssertSqlSafe(sql.as_str()))
            .execute(&mut connection)
            .await
            .unwrap_or_else(|error| panic!("{error} in {sql}"));
    }

    pub(crate) fn options_of(&self, role: &str) -> PgConnectOptions {
        self.database.options().username(&self.fill(role)).password(PASSWORD)
    }

    pub(crate) async fn connect_as(&self, role: &str) -> PgConnection {
        self.options_of(role).connect().await.unwrap()
    }

    /// The facts as a role sees them.
    pub(crate) async fn facts_as(&self, role: &str) -> Facts {
        collect(&mut self.connect_as(role).await).await.unwrap()
    }

    pub(crate) async fn facts_as_superuser(&self) -> Facts {
        collect(&mut self.database.connect().await).await.unwrap()
    }

    pub(crate) fn audit_options(&self) -> Options {
        Options { app_roles: vec![self.fill("{app}")], ..Options::default() }
    }
}

impl Drop for Place {
    /// Roles belong to the server; this database's objects must let go of them first.
    fn drop(&mut self) {
        let options = self.database.options();
        let sql = self
            .fill("DROP OWNED BY {app}, {owner}, {staff}, {nobody} CASCADE; DROP ROLE {app}, {owner}, {staff}, {nobody}");
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
