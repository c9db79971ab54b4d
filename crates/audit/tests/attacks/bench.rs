//! A database of its own with the sound schema of the rules' tests, and what a test adds to it.

use guardian_audit::attacks::{Arena, AttackOptions, AttackReport, Attempt, Kind, Verdict, attack};
use guardian_testkit::{Server, TestDatabase, unique};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

const ROLES: &str = "CREATE ROLE {owner} NOLOGIN; CREATE ROLE {staff} LOGIN CONNECTION LIMIT 5 PASSWORD 'x'; \
    CREATE ROLE {app} LOGIN CONNECTION LIMIT 20 PASSWORD 'x';";

const SOUND: &str = include_str!("../rules/sound.sql");

pub(crate) struct Bench {
    database: Option<TestDatabase>,
    suffix: String,
}

impl Bench {
    pub(crate) async fn sound() -> Self {
        Self::with(SOUND).await
    }

    /// A database with only the roles and this in it.
    pub(crate) async fn with(sql: &str) -> Self {
        let database = Server::shared().database("attack").await;
        let bench = Self { database: Some(database), suffix: unique("a").split_off(1) };
        bench.execute(ROLES).await;
        bench.execute(sql).await;
        bench
    }

    pub(crate) fn database(&self) -> &TestDatabase {
        self.database.as_ref().unwrap()
    }

    pub(crate) fn fill(&self, sql: &str) -> String {
        ["app", "owner", "staff", "other"]
            .iter()
            .fold(sql.to_owned(), |sql, role| sql.replace(&format!("{{{role}}}"), &format!("{role}{}", self.suffix)))
            .replace("{db}", &self.database().name)
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let sql = self.fill(sql);
        let mut connection = self.database().connect().await;
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql.as_str())).execute(&mut connection).await {
            panic!("{error}\nin {sql}");
        }
        connection.close().await.unwrap();
    }

    pub(crate) async fn text(&self, sql: &str) -> String {
        let mut connection = self.database().connect().await;
        let text: String = sqlx::query_scalar(AssertSqlSafe(self.fill(sql))).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        text
    }

    pub(crate) fn options(&self) -> AttackOptions {
        AttackOptions { app_roles: vec![self.fill("{app}")], ..AttackOptions::default() }
    }

    pub(crate) async fn attack(&self) -> AttackReport {
        self.attack_with(&Arena::scratch(self.database().options()), &self.options()).await
    }

    pub(crate) async fn attack_with(&self, arena: &Arena, options: &AttackOptions) -> AttackReport {
        attack(arena, options).await.unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error)))
    }
}

impl Drop for Bench {
    /// Roles belong to the server, so they go after the database in which they own things.
    fn drop(&mut self) {
        let sql = self.fill("DROP ROLE IF EXISTS {app}, {owner}, {staff}, {other}");
        let Some(database) = self.database.take() else { return };
        let options = database.server().options("postgres");
        drop(database);
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

/// What is not proven isolated, one line an attempt.
pub(crate) fn open(report: &AttackReport) -> Vec<String> {
    let attempts = report.objects.iter().flat_map(|one| one.attempts.iter().map(move |attempt| (one, attempt)));
    attempts
        .filter(|(_, attempt)| attempt.verdict != Verdict::ProvenIsolated)
        .map(|(one, attempt)| {
            let Attempt { kind, verdict, because, reproduce, .. } = attempt;
            format!("{} {:?} {}: {because} {reproduce:?}", one.object.identity, kind, verdict.as_str())
        })
        .collect()
}

/// The attempt of this kind on the object.
pub(crate) fn attempt<'r>(report: &'r AttackReport, identity: &str, kind: Kind) -> Option<&'r Attempt> {
    let one = report.objects.iter().find(|one| one.object.identity == identity)?;
    one.attempts.iter().find(|attempt| attempt.kind == kind)
}
