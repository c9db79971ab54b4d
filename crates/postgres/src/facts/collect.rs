//! Runs the collection: one read-only transaction, each catalog once.

use serde::de::DeserializeOwned;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, types::Json};

use super::{DatabaseFacts, Facts, FunctionFacts, RelationFacts, SchemaFacts, counts, keys, objects, relations, server};
use crate::harden::Declaration;

/// Why the facts could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A query failed.
    #[error("cannot read {what} from the catalog")]
    Query {
        /// What was being read.
        what: &'static str,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// The schema is not there.
    #[error(
        "the schema `{schema}` does not exist in the database `{database}`; run `guardian migrate` first, or correct `application.schema`"
    )]
    NoSchema {
        /// The schema.
        schema: String,
        /// The database.
        database: String,
    },
}

/// Runs a query and reads each of its rows into `T`, by column name.
pub(super) async fn rows<T: DeserializeOwned + Send + Unpin + 'static>(
    connection: &mut PgConnection,
    what: &'static str,
    sql: &str,
    bind: impl FnOnce(Bindable<'_>) -> Bindable<'_> + Send,
) -> Result<Vec<T>, CollectError> {
    let wrapped = format!("SELECT coalesce(json_agg(row_to_json(fact)), '[]') FROM ({sql}) AS fact");
    let row = bind(sqlx::query(AssertSqlSafe(wrapped)))
        .fetch_one(connection)
        .await
        .map_err(|source| CollectError::Query { what, source })?;
    let Json(facts) = row.try_get::<Json<Vec<T>>, _>(0).map_err(|source| CollectError::Query { what, source })?;
    Ok(facts)
}

/// A query that still takes parameters.
pub(super) type Bindable<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// What the queries are about.
pub(super) struct Scope<'a> {
    /// The server's version number.
    pub(super) version: i32,
    /// What the user declared.
    pub(super) declaration: &'a Declaration,
    /// The application's roles by name: app, definer, enter, registry, door, `door_write`.
    pub(super) roles: Vec<String>,
}

fn oids(relations: &[RelationFacts]) -> Vec<sqlx::postgres::types::Oid> {
    relations.iter().map(|relation| sqlx::postgres::types::Oid(relation.oid)).collect()
}

/// Opens the transaction all catalogs are read in, with a search path that makes the server write names out in full.
///
/// Of a few rows of catalogs with a hundred thousand: an index finds each, and compiling the query takes longer than running it.
async fn begin(connection: &mut PgConnection) -> Result<sqlx::Transaction<'_, sqlx::Postgres>, CollectError> {
    let failed = |source| CollectError::Query { what: "a snapshot", source };
    let mut transaction = connection.begin().await.map_err(failed)?;
    let settings = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL search_path = pg_catalog, pg_temp; \
         SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off";
    sqlx::raw_sql(settings).execute(&mut *transaction).await.map_err(failed)?;
    Ok(transaction)
}

/// Collects the facts about the application's shared place.
pub async fn collect(connection: &mut PgConnection, declaration: &Declaration) -> Result<Facts, CollectError> {
    let mut transaction = begin(connection).await?;
    let connection = &mut *transaction;
    let server = server::server(connection).await?;
    let roles = declaration.roles.all().map(str::to_owned).to_vec();
    let scope = Scope { version: server.version, declaration, roles };
    let database = server::database(connection, &scope).await?;
    let schemas = server::schemas(connection, &scope).await?;
    if !schemas.iter().any(|schema| schema.name == declaration.schema) {
        return Err(CollectError::NoSchema { schema: declaration.schema.clone(), database: database.name });
    }
    let mut relations = relations::relations(connection, &scope).await?;
    let place = oids(&relations);
    let policies = objects::policies(connection, &place).await?;
    counts::count(connection, &scope, &mut relations, &policies).await?;
    let facts = Facts {
        roles: server::roles(connection, &scope, &place).await?,
        memberships: server::memberships(connection, &scope).await?,
        owned_by_application: server::owned_by_application(connection, &scope).await?,
        role_settings: server::role_settings(connection, &scope).await?,
        keys: keys::keys(connection, &scope, &place).await?,
        foreign_keys: keys::foreign_keys(connection, &scope, &place).await?,
        leaky_indexes: keys::leaky_indexes(connection, &scope, &place).await?,
        rules: objects::rules(connection, &place).await?,
        fill_triggers: objects::fill_triggers(connection, &place).await?,
        functions: objects::functions(connection, &scope).await?,
        default_privileges: objects::default_privileges(connection, &scope).await?,
        open_system_functions: objects::open_system_functions(connection).await?,
        publications: objects::publications(connection, &place).await?,
        reachable_elsewhere: objects::reachable_elsewhere(connection, &scope, &place).await?,
        server,
        database,
        schemas,
        relations,
        policies,
    };
    transaction.rollback().await.map_err(|source| CollectError::Query { what: "the end of the snapshot", source })?;
    Ok(facts)
}

/// What the grants of a tenant's own place (schema or database isolation) are made from.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PlaceFacts {
    /// The tenant's role, whose grants and PUBLIC's these are.
    pub role: String,
    /// The database.
    pub database: DatabaseFacts,
    /// The schema.
    pub schema: SchemaFacts,
    /// Its relations.
    pub relations: Vec<RelationFacts>,
    /// Its functions.
    pub functions: Vec<FunctionFacts>,
}

/// Collects the facts about one tenant's own schema, and what its role holds there.
pub async fn collect_place(
    connection: &mut PgConnection,
    declaration: &Declaration,
    schema: &str,
    role: &str,
) -> Result<PlaceFacts, CollectError> {
    let declaration = Declaration { schema: schema.to_owned(), ..declaration.clone() };
    let mut transaction = begin(connection).await?;
    let connection = &mut *transaction;
    let scope = Scope { version: 0, declaration: &declaration, roles: vec![role.to_owned()] };
    let database = server::database(connection, &scope).await?;
    let schema = server::schema(connection, &scope).await?;
    let mut relations = relations::relations(connection, &scope).await?;
    relations.retain(|relation| relation.schema == schema.name);
    let functions = objects::functions_of(connection, &scope).await?;
    transaction.rollback().await.map_err(|source| CollectError::Query { what: "the end of the snapshot", source })?;
    Ok(PlaceFacts { role: role.to_owned(), database, schema, relations, functions })
}

impl Facts {
    /// A role by its name.
    pub fn role(&self, name: &str) -> Option<&super::RoleFacts> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// The policy of this name on a table.
    pub(crate) fn policy(&self, table: super::Oid, name: &str) -> Option<&super::PolicyFacts> {
        self.policies.iter().find(|policy| policy.table == table && policy.name == name)
    }
}
