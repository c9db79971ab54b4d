//! What files do to tables that are there, found out by running them in a scratch database.
//!
//! No SQL is read: PostgreSQL runs each statement, and its catalogs tell which locks it took, whether rows were written anew or
//! all read, and which columns are gone. What a statement does to the cluster as a whole (roles, databases) would outlast the
//! scratch database, so a file that has done such a thing is rolled back, and the look ends there.

use std::collections::{BTreeMap, BTreeSet};

use guardian_model::{Place, api::MigrationAdvice};
use guardian_postgres::{connect::Clusters, quote::ident};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{MigrateError, Migration, Migrations};
use crate::{
    MAINTENANCE_DATABASE, database,
    error::{ProvisionError, describe, execute, failed},
    lock, schema,
};

/// What a look brought.
#[derive(Debug, Default)]
pub struct Advice {
    /// What was found, in the order of the files.
    pub found: Vec<MigrationAdvice>,
    /// Why it is not everything.
    pub lacks: Option<String>,
}

/// Locks that keep writers or readers waiting, the weakest first.
const HEAVY: [&str; 4] = ["ShareLock", "ShareRowExclusiveLock", "ExclusiveLock", "AccessExclusiveLock"];
const STRONGEST: usize = HEAVY.len() - 1;

const SCRATCH_PREFIX: &str = "guardian_scratch_";

const RELATIONS: &str = "\
    SELECT c.oid::int8, c.relname::text, c.relfilenode::int8, pg_catalog.pg_stat_get_xact_numscans(c.oid), \
      ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a \
            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), \
      ARRAY(SELECT l.mode FROM pg_catalog.pg_locks AS l WHERE l.pid = pg_catalog.pg_backend_pid() \
            AND l.locktype = 'relation' AND l.relation = c.oid AND l.granted) \
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'm')";

/// Catalogs of the cluster as a whole that this transaction has written. `pg_shdepend` is written for every object.
const SHARED_WRITES: &str = "\
    SELECT pg_catalog.string_agg(DISTINCT c.relname::text, ', ') FROM pg_catalog.pg_locks AS l \
    JOIN pg_catalog.pg_class AS c ON c.oid = l.relation \
    WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND c.relisshared AND c.relkind = 'r' \
      AND l.mode NOT IN ('AccessShareLock', 'RowShareLock') \
      AND c.relname NOT IN ('pg_shdepend', 'pg_shdescription', 'pg_shseclabel')";

/// A table as a transaction sees it.
struct Seen {
    name: String,
    file: i64,
    scans: i64,
    columns: BTreeSet<String>,
    /// An index into [`HEAVY`].
    lock: Option<usize>,
}

type Tables = BTreeMap<i64, Seen>;

/// Runs the files from `first` on in a scratch database that has those before, and tells what they did to its tables. The
/// database is on the cluster of `place`, and gone afterwards; one that a killed process left behind is dropped first.
pub async fn advise(
    clusters: &Clusters,
    place: &Place,
    migrations: &Migrations,
    first: usize,
) -> Result<Advice, MigrateError> {
    let mut maintenance = clusters.connect(&place.cluster, MAINTENANCE_DATABASE).await.map_err(ProvisionError::from)?;
    lock::hold(&mut maintenance, "scratch databases").await?;
    let left: Vec<String> = sqlx::query_scalar("SELECT datname::text FROM pg_catalog.pg_database WHERE datname ~ $1")
        .bind(format!("^{SCRATCH_PREFIX}[0-9a-f]{{32}}$"))
        .fetch_all(&mut maintenance)
        .await
        .map_err(failed("look for", "scratch databases"))?;
    for left in left {
        database::remove(&mut maintenance, &left).await?;
    }
    let scratch = format!("{SCRATCH_PREFIX}{}", Uuid::now_v7().simple());
    database::ensure(&mut maintenance, &scratch).await?;
    let looked = match clusters.connect(&place.cluster, &scratch).await.map_err(ProvisionError::from) {
        Ok(mut connection) => {
            let looked = look(&mut connection, &place.schema, migrations, first).await;
            connection.close().await.ok();
            looked
        }
        Err(error) => Err(error.into()),
    };
    database::remove(&mut maintenance, &scratch).await?;
    maintenance.close().await.ok();
    looked
}

async fn look(
    connection: &mut PgConnection,
    schema: &str,
    migrations: &Migrations,
    first: usize,
) -> Result<Advice, MigrateError> {
    if schema != "public" {
        schema::ensure(connection, schema).await?;
    }
    let mut advice = Advice::default();
    let mut there = BTreeSet::new();
    for (index, migration) in migrations.files().iter().enumerate() {
        if index == first {
            there = tables(connection, schema).await?.into_keys().collect();
        }
        let known = (index >= first).then_some(&there);
        if let Err(lacks) = file(connection, schema, migration, known, &mut advice.found).await? {
            advice.lacks = Some(lacks);
            break;
        }
    }
    Ok(advice)
}

/// Runs one file; the inner error is why the look ends with it.
async fn file(
    connection: &mut PgConnection,
    schema: &str,
    migration: &Migration,
    known: Option<&BTreeSet<i64>>,
    found: &mut Vec<MigrationAdvice>,
) -> Result<Result<(), String>, MigrateError> {
    let name = &migration.name;
    let mut transaction = connection.begin().await.map_err(failed("begin a look at", name))?;
    let path = format!("SET LOCAL search_path = {}", ident(schema));
    execute(&mut transaction, "set the path for", name, path).await?;
    let mut before = tables(&mut transaction, schema).await?;
    for statement in migration.statements() {
        execute(&mut transaction, "mark", name, "SAVEPOINT statement".to_owned()).await?;
        let ran = sqlx::raw_sql(AssertSqlSafe(statement.text.to_owned())).execute(&mut *transaction).await;
        if let Err(error) = ran {
            let code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
            // It must not run in a transaction, and here nothing runs outside one.
            if code.as_deref() == Some("25001") && !migration.in_transaction {
                execute(&mut transaction, "go back in", name, "ROLLBACK TO SAVEPOINT statement".to_owned()).await?;
                continue;
            }
            transaction.rollback().await.ok();
            return Ok(Err(format!("{name}:{}: {}", statement.line, describe(&error))));
        }
        // A file may set the path, but not what is looked at.
        let after = tables(&mut transaction, schema).await?;
        let known = known.into_iter().flatten();
        found.extend(known.filter_map(|oid| note(name, statement.line, before.get(oid)?, after.get(oid))));
        before = after;
    }
    end(transaction, name).await
}

async fn end(mut transaction: Transaction<'_, Postgres>, name: &str) -> Result<Result<(), String>, MigrateError> {
    let written: Option<String> =
        sqlx::query_scalar(SHARED_WRITES).fetch_one(&mut *transaction).await.map_err(failed("look at", name))?;
    if let Some(written) = written {
        transaction.rollback().await.ok();
        return Ok(Err(format!("{name} changes what all databases of the cluster share ({written})")));
    }
    Ok(match transaction.commit().await {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{name}: {}", describe(&error))),
    })
}

async fn tables(connection: &mut PgConnection, schema: &str) -> Result<Tables, ProvisionError> {
    type Row = (i64, String, i64, i64, Vec<String>, Vec<String>);
    let rows: Vec<Row> = sqlx::query_as(RELATIONS)
        .bind(schema)
        .fetch_all(connection)
        .await
        .map_err(failed("look at the tables of", schema))?;
    let heavy = |modes: &[String]| HEAVY.iter().rposition(|heavy| modes.iter().any(|mode| mode == heavy));
    let seen = rows.into_iter().map(|(oid, name, file, scans, columns, modes)| {
        (oid, Seen { name, file, scans, columns: columns.into_iter().collect(), lock: heavy(&modes) })
    });
    Ok(seen.collect())
}

/// What a statement did to one table, when it is worth a word.
fn note(file: &str, line: usize, before: &Seen, after: Option<&Seen>) -> Option<MigrationAdvice> {
    let gone =
        || Seen { name: before.name.clone(), file: before.file, scans: before.scans, columns: BTreeSet::new(), lock: None };
    let (dropped, after) = (
        after.is_none(),
        after.map_or_else(gone, |after| Seen { columns: after.columns.clone(), name: after.name.clone(), ..*after }),
    );
    let lock = if dropped { Some(STRONGEST) } else { after.lock };
    let rewrites = !dropped && before.file != after.file;
    let scans = after.scans > before.scans;
    let loses = before.name != after.name || before.columns.iter().any(|column| !after.columns.contains(column));
    if lock == before.lock && !rewrites && !scans && !loses {
        return None;
    }
    let lock = lock?;
    let advice = if dropped || loses {
        "a name is gone that a running release may still use: contract only when the release that stopped using it runs everywhere"
    } else if rewrites {
        "its rows are written anew while nobody can read it: expand with a new column, fill it in batches, use it, and drop the old one in a later release"
    } else if scans && lock == STRONGEST {
        "all its rows are read while nobody can read it: add the constraint as NOT VALID, and VALIDATE it in a later file (for NOT NULL: a CHECK of it first)"
    } else if scans && lock == 0 {
        "nobody can write while its rows are read: CREATE INDEX CONCURRENTLY, in a file that begins with `-- guardian: no-transaction`"
    } else if scans {
        "nobody can write while its rows are read: add the constraint as NOT VALID, and VALIDATE it in a later file"
    } else if lock == STRONGEST {
        "short, but whoever comes after it waits behind it: keep it alone in its file; Guardian gives up after 5 s and tries again"
    } else {
        "short, but writers wait for it: keep it alone in its file; Guardian gives up after 5 s and tries again"
    };
    Some(MigrationAdvice {
        file: file.to_owned(),
        line,
        relation: before.name.clone(),
        lock: HEAVY[lock].to_owned(),
        rewrites,
        advice: advice.to_owned(),
    })
}
