//! A database with somebody's schema in it, its proposal, and the adoption.

use std::collections::BTreeMap;

use guardian_audit::{
    Facts, collect,
    propose::{Options, Proposal, ProposeError, Surroundings, propose},
};
use guardian_model::Config;
use guardian_postgres::{Declaration, Hardening, StatementEvent};
use guardian_provision::migrations::{Migrations, apply as migrate};
use guardian_testkit::{Server, TestDatabase, unique};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// The schema of an existing application.
pub(crate) struct Existing {
    pub(crate) database: TestDatabase,
    pub(crate) facts: Facts,
}

pub(crate) async fn execute(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap_or_else(|error| panic!("{error} in {sql}"));
}

impl Existing {
    pub(crate) async fn new(sql: &str) -> Self {
        Self::of(Server::shared().database("propose").await, sql).await
    }

    /// With up-to-date statistics, so that the hardening decides the same before and after.
    pub(crate) async fn of(database: TestDatabase, sql: &str) -> Self {
        let mut connection = database.connect().await;
        execute(&mut connection, sql).await;
        execute(&mut connection, "VACUUM ANALYZE").await;
        let facts = collect(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        Self { database, facts }
    }

    pub(crate) fn try_propose(&self, options: Options) -> Result<Proposal, ProposeError> {
        propose(&self.facts, &Options { application: Some(unique("adopt")), ..options })
    }

    pub(crate) fn propose(&self) -> Proposal {
        self.try_propose(Options::default()).unwrap()
    }

    /// Runs the migration as `guardian migrate` does, and hardens with the written configuration. Nothing may be left to do.
    pub(crate) async fn adopt(&self, proposal: &Proposal) -> PgConnection {
        let declaration = declaration(proposal);
        let mut connection = self.database.connect().await;
        let mut facts = guardian_postgres::collect(&mut connection, &declaration).await.unwrap();
        proposal.foresee(&mut facts);
        let foreseen = guardian_postgres::plan(&facts, &declaration);
        assert!(foreseen.refusals.is_empty(), "{:#?}", foreseen.refusals);
        self.migrate(proposal).await.unwrap();
        // As far as it is not about statistics, which are those of other rows now.
        let hardening = self.plan(&declaration).await;
        let (before, after) = (brief(&foreseen), brief(&hardening));
        let only = |one: &[String], other: &[String]| {
            one.iter().filter(|sql| !other.contains(sql)).cloned().collect::<Vec<String>>()
        };
        assert_eq!((only(&before, &after), only(&after, &before)), (vec![], vec![]), "the hardening was foreseen");
        guardian_postgres::apply(&mut connection, &hardening, &mut |_, _, _: StatementEvent| {})
            .await
            .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)));
        let again = self.plan(&declaration).await;
        assert!(again.is_clean(), "{:#?} {:#?}", again.refusals, again.batches);
        connection
    }

    pub(crate) async fn migrate(&self, proposal: &Proposal) -> Result<Vec<String>, String> {
        let text = proposal.migration(&self.facts);
        let migrations = Migrations::parse([("0001_tenant_columns.sql".to_owned(), text)]).unwrap();
        let mut connection = self.database.connect().await;
        let migrated = migrate(&mut connection, &proposal.schema, &migrations).await;
        connection.close().await.unwrap();
        migrated.map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)))
    }

    async fn plan(&self, declaration: &Declaration) -> Hardening {
        let mut connection = self.database.connect().await;
        let facts = guardian_postgres::collect(&mut connection, declaration).await.unwrap();
        connection.close().await.unwrap();
        guardian_postgres::plan(&facts, declaration)
    }
}

pub(crate) fn declaration(proposal: &Proposal) -> Declaration {
    let text = proposal.config(Surroundings::default());
    Declaration::from(&Config::parse("guardian.toml", &text).unwrap_or_else(|error| panic!("{error}\n{text}")))
}

/// The statements without the policies, whose form depends on statistics, and without the schema of Guardian's own, which the
/// migration's ledger has made meanwhile.
fn brief(hardening: &Hardening) -> Vec<String> {
    hardening
        .statements()
        .map(|(statement, _)| statement.sql.clone())
        .filter(|sql| !["CREATE POLICY", "SCHEMA guardian", "guardian.migration"].iter().any(|word| sql.contains(word)))
        .collect()
}

/// Class by table, the schema left out where it is `public`.
pub(crate) fn classes(proposal: &Proposal) -> BTreeMap<String, &'static str> {
    let name = |schema: &str, name: &str| if schema == "public" { name.to_owned() } else { format!("{schema}.{name}") };
    proposal.tables.iter().map(|table| (name(&table.schema, &table.name), table.class.as_str())).collect()
}

/// Demands exactly these classes.
pub(crate) fn assert_classes(proposal: &Proposal, wanted: &[(&str, &[&str])]) {
    let wanted: BTreeMap<String, &str> =
        wanted.iter().flat_map(|(class, tables)| tables.iter().map(|table| ((*table).to_owned(), *class))).collect();
    let found = classes(proposal);
    assert_eq!(found, wanted, "{:#?}", proposal.tables);
}

/// The evidence of a table.
pub(crate) fn evidence(proposal: &Proposal, table: &str) -> String {
    proposal.tables.iter().find(|one| one.name == table).unwrap().evidence.join("; ")
}

/// The first row's numbers.
pub(crate) async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap_or_else(|error| panic!("{error} in {sql}"))
}
