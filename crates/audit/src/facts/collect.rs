//! Runs the collection: one read-only snapshot, a fixed number of queries.
//!
//! Nothing outlives the transaction (no session setting, no prepared statement), so that a pooler in between does no harm.

use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::{
    FORMAT, Facts, Missing, Server, Source, code, comments, constraints, dependencies, domains, languages, outside,
    relations, roles, schemas, server, trial, truth,
};

/// Why nothing could be collected. A single source that cannot be read is no error but [`Facts::missing`].
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// No snapshot.
    #[error("cannot begin a read-only snapshot")]
    Begin(#[source] sqlx::Error),
    /// Not even the server's version could be read.
    #[error("cannot read the server's version and the role's standing")]
    Server(#[source] sqlx::Error),
    /// PostgreSQL 12 and older.
    #[error("the server is PostgreSQL {0}; Guardian audits 13 and newer")]
    TooOld(i32),
    /// The connection broke on the way.
    #[error("the connection was lost while reading {source_name}")]
    Lost {
        /// What was being read.
        source_name: Source,
        /// What the driver said.
        #[source]
        source: sqlx::Error,
    },
    /// The answer is not what the query asks for.
    #[error("cannot understand the server's answer about {what}")]
    Answer {
        /// What was being read.
        what: String,
        /// Where it departs.
        #[source]
        source: serde_json::Error,
    },
}

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; \
    SET LOCAL jit = off; SET LOCAL statement_timeout = '60s'; SET LOCAL lock_timeout = '5s'; SET LOCAL DateStyle = 'ISO'; \
    SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL bytea_output = 'hex'; SET LOCAL quote_all_identifiers = off";

/// An expression that writes an ACL as JSON: the list of its grants; null, the owner's own rights only, is empty.
pub(super) fn acl(column: &str, kind: &str, owner: &str) -> String {
    // What is null in a database or a type is not empty: PUBLIC has rights of its own there.
    match kind {
        "d" => acl_or_default(column, kind, owner),
        _ => exploded(column, column),
    }
}

/// The same, with PUBLIC's built-in rights where the list is null.
pub(super) fn acl_or_default(column: &str, kind: &str, owner: &str) -> String {
    exploded(&format!("coalesce({column}, acldefault('{kind}', {owner}))"), &format!("coalesce({column}, '{{}}')"))
}

fn exploded(list: &str, present: &str) -> String {
    format!(
        "CASE WHEN {present} IS NULL THEN '[]'::json ELSE (SELECT coalesce(json_agg(json_build_object('to', g.grantee, \
           'privileges', g.privileges, 'grantable', g.grantable)), '[]') FROM (SELECT x.grantee::int8, \
           json_agg(x.privilege_type) AS privileges, coalesce(json_agg(x.privilege_type) FILTER (WHERE x.is_grantable), '[]') \
             AS grantable FROM aclexplode({list}) AS x GROUP BY x.grantee ORDER BY x.grantee) AS g) END"
    )
}

/// Reads everything in one read-only snapshot.
pub async fn collect(connection: &mut PgConnection) -> Result<Facts, CollectError> {
    collect_for(connection, &[]).await
}

/// The same, for the application's roles: predicates that ask for the current role are tried as each of them, as far as the
/// collector may become them.
pub async fn collect_for(connection: &mut PgConnection, app_roles: &[String]) -> Result<Facts, CollectError> {
    execute(connection, BEGIN).await.map_err(CollectError::Begin)?;
    let facts = read(connection, app_roles).await;
    // Nothing was changed, and the connection may be lost already.
    let _ = execute(connection, "ROLLBACK").await;
    facts
}

async fn read(connection: &mut PgConnection, roles: &[String]) -> Result<Facts, CollectError> {
    let text = json(connection, server::SERVER).await.map_err(CollectError::Server)?;
    let mut servers: Vec<Server> = parse("the server", &text)?;
    let server = servers.pop().ok_or(CollectError::Server(sqlx::Error::RowNotFound))?;
    let version = server.version;
    if version < 130_000 {
        return Err(CollectError::TooOld(version / 10_000));
    }
    let mut from = Reader { connection, missing: Vec::new() };
    let mut facts = Facts { format: FORMAT, server, ..Facts::default() };
    facts.server.tls = from.text(server::TLS).await?.map(|tls| tls == "true");
    facts.settings = from.list(Source::Settings, server::SETTINGS).await?;
    facts.hba_rules = from.list(Source::HbaRules, server::HBA_RULES).await?;
    facts.databases = from.list(Source::Databases, &server::databases()).await?;
    facts.roles = from.list(Source::Roles, roles::ROLES).await?;
    facts.memberships = from.list(Source::Memberships, &roles::memberships(version)).await?;
    facts.role_settings = from.list(Source::RoleSettings, roles::ROLE_SETTINGS).await?;
    if version >= 150_000 {
        facts.parameter_grants = from.list(Source::ParameterGrants, &roles::parameter_grants()).await?;
    }
    facts.schemas = from.list(Source::Schemas, &schemas::schemas()).await?;
    facts.default_privileges = from.list(Source::DefaultPrivileges, &schemas::default_privileges()).await?;
    facts.relations = from.list(Source::Relations, &relations::relations()).await?;
    facts.columns = from.list(Source::Columns, &relations::columns()).await?;
    facts.sequences = from.list(Source::Sequences, relations::SEQUENCES).await?;
    facts.constraints = from.list(Source::Constraints, constraints::CONSTRAINTS).await?;
    facts.indexes = from.list(Source::Indexes, constraints::INDEXES).await?;
    facts.policies = from.list(Source::Policies, relations::POLICIES).await?;
    facts.rewrite_rules = from.list(Source::RewriteRules, code::REWRITE_RULES).await?;
    let functions = if version >= 140_000 { code::functions() } else { code::functions_before_14() };
    facts.functions = from.list(Source::Functions, &functions).await?;
    facts.languages = from.list(Source::Languages, &languages::languages()).await?;
    facts.domains = from.list(Source::Domains, domains::DOMAINS).await?;
    facts.triggers = from.list(Source::Triggers, code::TRIGGERS).await?;
    facts.event_triggers = from.list(Source::EventTriggers, code::EVENT_TRIGGERS).await?;
    facts.foreign_servers = from.list(Source::ForeignServers, &outside::foreign_servers()).await?;
    facts.user_mappings = from.list(Source::UserMappings, outside::USER_MAPPINGS).await?;
    facts.extensions = from.list(Source::Extensions, outside::EXTENSIONS).await?;
    facts.publications = from.list(Source::Publications, outside::PUBLICATIONS).await?;
    facts.subscriptions = from.list(Source::Subscriptions, outside::SUBSCRIPTIONS).await?;
    facts.slots = from.list(Source::Slots, outside::SLOTS).await?;
    facts.large_objects = from.list(Source::LargeObjects, &outside::large_objects()).await?;
    facts.dependencies = from.list(Source::Dependencies, dependencies::DEPENDENCIES).await?;
    facts.comments = from.list(Source::Comments, comments::COMMENTS).await?;
    let name: String = text_of(from.connection, "SELECT current_database()::text").await.map_err(CollectError::Server)?;
    facts.database = facts.databases.iter().find(|database| database.name == name).cloned().unwrap_or_default();
    passwords(&mut from, &mut facts).await?;
    let predicates = from.list(Source::Truths, &truth::predicates()).await?;
    let lost = |error| CollectError::Lost { source_name: Source::Truths, source: error };
    facts.truths = trial::evaluate(from.connection, predicates, roles).await.map_err(lost)?;
    facts.missing = from.missing;
    facts.sort();
    Ok(facts)
}

/// Adds how passwords are kept, where the collector may see it; each role's `password` says whether it could.
async fn passwords(from: &mut Reader<'_>, facts: &mut Facts) -> Result<(), CollectError> {
    if !facts.server.superuser {
        let reason = "only a superuser may read pg_authid".to_owned();
        from.missing.push(Missing { source: Source::Passwords, reason });
        return Ok(());
    }
    let kept: Vec<roles::Password> = from.list(Source::Passwords, roles::PASSWORDS).await?;
    for one in kept {
        if let Some(role) = facts.roles.iter_mut().find(|role| role.oid == one.oid) {
            role.password = Some(one.password);
        }
    }
    Ok(())
}

/// Reads source after source, and notes those that it may not read.
struct Reader<'c> {
    connection: &'c mut PgConnection,
    missing: Vec<Missing>,
}

impl Reader<'_> {
    /// A fact that no rule needs; `None` where it cannot be read.
    async fn text(&mut self, sql: &str) -> Result<Option<String>, CollectError> {
        execute(self.connection, "SAVEPOINT text").await.map_err(CollectError::Server)?;
        match text_of(self.connection, sql).await {
            Ok(text) => Ok(Some(text)),
            Err(sqlx::Error::Database(_) | sqlx::Error::RowNotFound) => {
                execute(self.connection, "ROLLBACK TO SAVEPOINT text").await.map_err(CollectError::Server)?;
                Ok(None)
            }
            Err(error) => Err(CollectError::Server(error)),
        }
    }

    async fn list<T: DeserializeOwned>(&mut self, source: Source, sql: &str) -> Result<Vec<T>, CollectError> {
        let lost = |error| CollectError::Lost { source_name: source, source: error };
        execute(self.connection, "SAVEPOINT source").await.map_err(lost)?;
        match json(self.connection, sql).await {
            Ok(text) => {
                execute(self.connection, "RELEASE SAVEPOINT source").await.map_err(lost)?;
                parse(&format!("{source:?}"), &text)
            }
            Err(sqlx::Error::Database(error)) => {
                execute(self.connection, "ROLLBACK TO SAVEPOINT source").await.map_err(lost)?;
                self.missing.push(Missing { source, reason: error.message().to_owned() });
                Ok(Vec::new())
            }
            Err(error) => Err(lost(error)),
        }
    }
}

fn parse<T: DeserializeOwned>(what: &str, text: &str) -> Result<Vec<T>, CollectError> {
    serde_json::from_str(text).map_err(|source| CollectError::Answer { what: what.to_owned(), source })
}

/// The rows of a query as one JSON list.
async fn json(connection: &mut PgConnection, sql: &str) -> Result<String, sqlx::Error> {
    text_of(connection, &format!("SELECT coalesce(json_agg(row_to_json(fact)), '[]')::text FROM ({sql}) AS fact")).await
}

/// The single text that a query yields, by the simple protocol: it needs no prepared statement.
pub(super) async fn text_of(connection: &mut PgConnection, sql: &str) -> Result<String, sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?.try_get(0)
}

pub(super) async fn execute(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(|_| ())
}
