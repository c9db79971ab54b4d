//! Runs a case: a copy of the sound database, the case's SQL, an audit, the remedy, another audit.

use std::collections::BTreeSet;

use guardian_audit::{Facts, Finding, Options, audit, collect};
use guardian_testkit::{Server, TestDatabase, unique};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection};

/// A flaw and what must come of it. `{app}`, `{owner}`, `{staff}`, `{other}` and `{db}` stand for the names that are unique to the case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    /// The rule that must find it.
    pub(crate) rule: &'static str,
    /// Distinguishes the cases of a rule.
    pub(crate) name: &'static str,
    /// The flaw, run by a superuser.
    pub(crate) provoke: &'static str,
    /// The identity of the object that must be found.
    pub(crate) object: &'static str,
    /// Other rules that find the same flaw.
    pub(crate) also: &'static [&'static str],
    /// Whether the rule has SQL that fixes it.
    pub(crate) remedy: Remedied,
    /// Settings of a server of its own; empty: the shared server.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// What the facts are made to say of the server; see [`well_kept`].
    pub(crate) pretend: fn(&mut Facts),
    /// The oldest PostgreSQL that has what the SQL says.
    pub(crate) since: u32,
}

/// What becomes of the finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedied {
    /// The remedy's SQL makes it go away.
    BySql,
    /// No SQL can fix it, and the finding must not pretend.
    NotBySql,
    /// The remedy is for a server that the facts only pretend, and is not run.
    NotRun,
}

/// Something that looks like the flaw and is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NearMiss {
    /// The rule that must stay silent.
    pub(crate) rule: &'static str,
    /// Distinguishes the near misses of a rule.
    pub(crate) name: &'static str,
    /// The SQL.
    pub(crate) sql: &'static str,
    /// Settings of a server of its own; empty: the shared server.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    /// What the facts are made to say of the server; see [`well_kept`].
    pub(crate) pretend: fn(&mut Facts),
    /// The oldest PostgreSQL that has what the SQL says.
    pub(crate) since: u32,
}

impl Case {
    /// A flaw that the remedy's SQL fixes and that no other rule finds.
    pub(crate) const fn new(rule: &'static str, name: &'static str, provoke: &'static str, object: &'static str) -> Self {
        Self {
            rule,
            name,
            provoke,
            object,
            also: &[],
            remedy: Remedied::BySql,
            settings: &[],
            pretend: well_kept,
            since: 13,
        }
    }

    /// Other rules that find it too.
    pub(crate) const fn also(self, also: &'static [&'static str]) -> Self {
        Self { also, ..self }
    }

    /// No SQL fixes it.
    pub(crate) const fn without_sql(self) -> Self {
        Self { remedy: Remedied::NotBySql, ..self }
    }

    /// There is SQL that fixes it, for another release than the one that is here.
    pub(crate) const fn remedy_not_run(self) -> Self {
        Self { remedy: Remedied::NotRun, ..self }
    }

    /// On a server of its own, with these settings.
    pub(crate) const fn on_server(self, settings: &'static [(&'static str, &'static str)]) -> Self {
        Self { settings, ..self }
    }

    /// With facts of a server that the test cannot have: an old release, another configuration.
    pub(crate) const fn pretending(self, pretend: fn(&mut Facts)) -> Self {
        Self { pretend, ..self }
    }

    /// Only on this major version of PostgreSQL and later ones.
    pub(crate) const fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }

    /// Runs it; one with settings on a server of its own, of the same version as the shared one.
    pub(crate) async fn run(self, server: &Server) {
        if server.major() < self.since {
            left_out(self.rule, self.name, self.since);
            return;
        }
        let bench = Bench::with(server, self.settings, self.pretend).await;
        bench.execute(self.provoke).await;
        let found = bench.findings().await;
        let of_rule: Vec<&Finding> = found.iter().filter(|finding| finding.rule == self.rule).collect();
        let label = format!("{} {}", self.rule, self.name);
        assert_eq!(of_rule.len(), 1, "{label}: exactly one finding, not {of_rule:#?}; all: {:?}", brief(&found));
        assert_eq!(of_rule[0].object.identity, bench.fill(self.object), "{label}: the object");
        let others: BTreeSet<&str> = found
            .iter()
            .map(|finding| finding.rule)
            .filter(|rule| *rule != self.rule && !bench.finds_anyway().contains(rule))
            .collect();
        assert_eq!(others, self.also.iter().copied().collect(), "{label}: the other rules; {:?}", brief(&found));
        match (self.remedy, &of_rule[0].remedy) {
            (Remedied::NotBySql, None) | (Remedied::NotRun, Some(_)) => {}
            (Remedied::NotBySql, Some(remedy)) => panic!("{label}: no SQL fixes it, but there is {remedy:?}"),
            (Remedied::BySql | Remedied::NotRun, None) => panic!("{label}: there is no remedy"),
            (Remedied::BySql, Some(remedy)) => {
                bench.execute_as_is(&remedy.sql).await;
                let left = bench.findings().await;
                assert!(
                    left.iter().all(|finding| finding.rule != self.rule),
                    "{label}: left after {}: {left:#?}",
                    remedy.sql
                );
            }
        }
    }
}

impl NearMiss {
    /// Something that must stay silent.
    pub(crate) const fn new(rule: &'static str, name: &'static str, sql: &'static str) -> Self {
        Self { rule, name, sql, settings: &[], pretend: well_kept, since: 13 }
    }

    /// On a server of its own, with these settings.
    pub(crate) const fn on_server(self, settings: &'static [(&'static str, &'static str)]) -> Self {
        Self { settings, ..self }
    }

    /// With facts of a server that the test cannot have: an old release, another configuration.
    pub(crate) const fn pretending(self, pretend: fn(&mut Facts)) -> Self {
        Self { pretend, ..self }
    }

    /// Only on this major version of PostgreSQL and later ones.
    pub(crate) const fn since(self, since: u32) -> Self {
        Self { since, ..self }
    }

    /// Runs it; one with settings on a server of its own, of the same version as the shared one.
    pub(crate) async fn run(self, server: &Server) {
        if server.major() < self.since {
            left_out(self.rule, self.name, self.since);
            return;
        }
        let bench = Bench::with(server, self.settings, self.pretend).await;
        bench.execute(self.sql).await;
        let found = bench.findings().await;
        let of_rule: Vec<&Finding> = found.iter().filter(|finding| finding.rule == self.rule).collect();
        assert!(of_rule.is_empty(), "{} {}: a false alarm: {of_rule:#?}", self.rule, self.name);
    }
}

/// A sound database of its own.
///
/// `shop` has the tenant tables `orders` and `lines` and the common table `countries`; `{owner}` owns them, `{app}` has rights on
/// rows only, and `{staff}` is another login that is not the application's. `{other}` is a name for a role that a case makes.
pub(crate) struct Bench {
    database: Option<TestDatabase>,
    suffix: String,
    pretend: fn(&mut Facts),
}

/// Rules that find something wherever tenants share a role, the sound database among them: PostgreSQL has no means against it.
const OF_EVERY_SHARED_ROLE: &str = "GRD-PG-229";
/// The rule that finds something on every PostgreSQL 13: flaws that were found after its last release are open for good.
const OF_13: &str = "GRD-PG-501";

/// The facts of a server that is well kept: which release the tests run on, and how, is not their subject.
pub(crate) fn well_kept(facts: &mut Facts) {
    facts.server.version = facts.server.version / 10_000 * 10_000 + 99;
    "2021-01-01".clone_into(&mut facts.server.collected_on);
    facts.server.open_statistics.clear();
    set(facts, "max_prepared_transactions", "0");
}

/// Makes the facts say that a setting has a value.
pub(crate) fn set(facts: &mut Facts, name: &str, value: &str) {
    let setting = facts.settings.iter_mut().find(|setting| setting.name == name).unwrap();
    value.clone_into(&mut setting.value);
    value.clone_into(&mut setting.reset_value);
}

const ROLES: &str = "CREATE ROLE {owner} NOLOGIN; CREATE ROLE {staff} LOGIN CONNECTION LIMIT 5 PASSWORD 'x'; \
    CREATE ROLE {app} LOGIN CONNECTION LIMIT 20 PASSWORD 'x';";

const SOUND: &str = include_str!("sound.sql");

impl Bench {
    /// A copy of the sound database.
    pub(crate) async fn new() -> Self {
        Self::on(&Server::shared()).await
    }

    /// A copy on this server.
    pub(crate) async fn on(server: &Server) -> Self {
        Self::with(server, &[], well_kept).await
    }

    async fn with(server: &Server, settings: &[(&str, &str)], pretend: fn(&mut Facts)) -> Self {
        let server = if settings.is_empty() { server.clone() } else { Server::own_with(settings) };
        let database = server.database("audit").await;
        let bench = Self { database: Some(database), suffix: unique("c").split_off(1), pretend };
        bench.execute(ROLES).await;
        bench.execute(SOUND).await;
        bench
    }

    fn database(&self) -> &TestDatabase {
        self.database.as_ref().unwrap()
    }

    /// Puts the names that are unique to the case in.
    pub(crate) fn fill(&self, sql: &str) -> String {
        ["app", "owner", "staff", "other"]
            .iter()
            .fold(sql.to_owned(), |sql, role| sql.replace(&format!("{{{role}}}"), &format!("{role}{}", self.suffix)))
            .replace("{db}", &self.database().name)
    }

    /// Runs SQL as the superuser.
    pub(crate) async fn execute(&self, sql: &str) {
        self.execute_as_is(&self.fill(sql)).await;
    }

    async fn execute_as_is(&self, sql: &str) {
        let mut connection = self.database().connect().await;
        if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await {
            panic!("{error}\nin {sql}");
        }
        connection.close().await.unwrap();
    }

    /// A superuser's connection.
    pub(crate) async fn connect(&self) -> PgConnection {
        self.database().connect().await
    }

    /// The facts, after they went through a file.
    pub(crate) async fn facts(&self) -> Facts {
        let facts = collect(&mut self.connect().await).await.unwrap();
        let saved = serde_json::to_string(&facts).unwrap();
        let read: Facts = serde_json::from_str(&saved).unwrap();
        assert_eq!(read, facts, "saved facts are the facts");
        read
    }

    /// The application's role.
    pub(crate) fn options(&self) -> Options {
        Options { app_roles: vec![self.fill("{app}")], ..Options::default() }
    }

    /// Rules that find something in the sound database too.
    pub(crate) fn finds_anyway(&self) -> &'static [&'static str] {
        if self.database().server().major() == 13 { &[OF_EVERY_SHARED_ROLE, OF_13] } else { &[OF_EVERY_SHARED_ROLE] }
    }

    /// What an audit finds.
    pub(crate) async fn findings(&self) -> Vec<Finding> {
        let mut facts = self.facts().await;
        (self.pretend)(&mut facts);
        let report = audit(&facts, &self.options()).unwrap();
        assert!(report.could_not_run.is_empty(), "a superuser sees everything: {:?}", report.could_not_run);
        report.findings
    }
}

/// Rule and object of each.
fn brief(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(|finding| format!("{} {}", finding.rule, finding.object.identity)).collect()
}

#[expect(clippy::print_stderr, reason = "a case that is left out has to say so where the person looks")]
fn left_out(rule: &str, name: &str, since: u32) {
    eprintln!("{rule} {name}: left out, it needs PostgreSQL {since}");
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

/// Runs all of them, a few at a time. `GUARDIAN_CASE=GRD-PG-014` runs those of one rule, or of one name.
///
/// Each on a thread with a runtime of its own: dropping a database blocks, and would block the others of one runtime.
pub(crate) fn run_all(cases: &'static [Case], near_misses: &'static [NearMiss]) {
    run_on(&Server::shared(), cases, near_misses);
}

/// The same on another server.
pub(crate) fn run_on(server: &Server, cases: &[Case], near_misses: &[NearMiss]) {
    let wanted = std::env::var("GUARDIAN_CASE").unwrap_or_default();
    let is_wanted = |rule: &str, name: &str| wanted.is_empty() || wanted == rule || wanted == name;
    let mut queue: Vec<Run> = Vec::new();
    queue.extend(cases.iter().filter(|case| is_wanted(case.rule, case.name)).map(|case| Run::Case(*case)));
    queue.extend(near_misses.iter().filter(|near| is_wanted(near.rule, near.name)).map(|near| Run::NearMiss(*near)));
    let mut failed = 0;
    for batch in queue.chunks(SIDE_BY_SIDE_MAX) {
        let running: Vec<_> = batch.iter().map(|run| std::thread::spawn(block_on(*run, server.clone()))).collect();
        failed += running.into_iter().filter_map(|thread| thread.join().err()).count();
    }
    assert_eq!(failed, 0, "cases failed, each said above");
}

#[derive(Clone, Copy)]
enum Run {
    Case(Case),
    NearMiss(NearMiss),
}

fn block_on(run: Run, server: Server) -> impl FnOnce() {
    move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            match run {
                Run::Case(case) => case.run(&server).await,
                Run::NearMiss(near) => near.run(&server).await,
            }
        });
    }
}

const SIDE_BY_SIDE_MAX: usize = 4;
