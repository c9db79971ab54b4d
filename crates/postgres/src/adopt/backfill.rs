//! A new tenant column, filled through the parent while the application goes on.
//!
//! First the column (nullable: instant) and a trigger that fills it in every row that is written from then on; then the rows
//! that are there, block range by block range, in short transactions that never wait for a row that somebody holds. How far it
//! came stands in `guardian.backfill`, written with each batch. It pauses while a standby is far behind, and vacuums when too
//! many rows are dead. Rows without a parent are counted, not guessed.

use std::time::{Duration, Instant};

use guardian_model::config::Backfill;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Way, family, parent};
use crate::{
    apply::{Patience, is_transient},
    facts::{Facts, Oid, RelationFacts, RelationKind},
    harden::{
        Batch, Declaration, Hardening, Statement,
        planner::{label, sql_name, statement},
    },
    quote::{bounded_name, ident, literal, qualified},
};

/// Attempts at one batch whose transaction could not go through.
const ATTEMPTS_MAX: u32 = 20;
/// How long it waits before it looks at the standbys again.
const LAG_PAUSE: Duration = Duration::from_millis(500);
/// Batches between two looks at the dead rows, which the server counts with a delay.
const BATCHES_BETWEEN_LOOKS: u32 = 20;

/// Why a column was not filled.
#[derive(Debug, thiserror::Error)]
pub enum BackfillError {
    /// A statement failed.
    #[error("cannot {doing} of {table}")]
    Statement {
        /// What was being done.
        doing: &'static str,
        /// The table.
        table: String,
        /// Why not.
        #[source]
        source: sqlx::Error,
    },
    /// Rows without a parent, or whose parent has no tenant.
    #[error("{count} rows of {table} lead to no tenant, for example the one at ctid {example}: {advice}")]
    Orphans {
        /// The table.
        table: String,
        /// How many.
        count: i64,
        /// One of them.
        example: String,
        /// What to do.
        advice: String,
    },
}

/// How far the filling of one table has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filled {
    /// Rows filled, in earlier runs too.
    pub rows: i64,
    /// Blocks behind it.
    pub blocks: i64,
    /// Blocks in all.
    pub blocks_all: i64,
    /// It waits for a standby.
    pub waits: bool,
}

/// One table to fill.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// The table, as reports name it.
    pub label: String,
    /// What makes the column and the trigger, in one transaction.
    pub begin: Vec<Statement>,
    name: String,
    /// The table itself, or its partitions and children with it.
    leaves: Vec<(Oid, String)>,
    column: String,
    source: Source,
}

/// Where the tenant of a row comes from, as SQL.
#[derive(Debug, Clone, PartialEq)]
struct Source {
    /// `p.tenant_id`, or a column of the row itself.
    value: String,
    /// `, public.ticket AS p`, or nothing.
    from: String,
    /// The row has a parent, and that one a tenant.
    leads: String,
    /// The same where the parent is not at hand.
    exists: String,
}

impl Source {
    fn of(way: &Way<'_>, column: &str) -> Self {
        if let Some(own) = &way.own {
            let value = format!("c.{}", ident(own));
            let leads = format!("{value} IS NOT NULL");
            return Self { value, from: String::new(), exists: leads.clone(), leads };
        }
        let parent = sql_name(way.parent);
        let leads = format!("{} AND p.{column} IS NOT NULL", condition(way, "c"));
        Self {
            value: format!("p.{column}"),
            from: format!(", {parent} AS p"),
            exists: format!("EXISTS (SELECT FROM {parent} AS p WHERE {leads})"),
            leads,
        }
    }
}

/// The tables to be filled, parents first.
pub(super) fn order(facts: &Facts, declaration: &Declaration) -> Vec<Oid> {
    let Some(adoption) = &declaration.adoption else { return Vec::new() };
    let depth = |table: &RelationFacts| {
        let mut depth = 0_usize;
        let mut at = table.name.as_str();
        while let Some(parent) = adoption.parents.get(at).and_then(guardian_model::config::Parent::table) {
            at = parent;
            depth += 1;
            if depth > adoption.parents.len() {
                break;
            }
        }
        depth
    };
    let mut found: Vec<_> = facts
        .relations
        .iter()
        .filter(|one| matches!(one.kind, RelationKind::Table | RelationKind::Partitioned))
        .filter(|one| matches!(parent(facts, declaration, one), Ok(Some(_))))
        .filter(|one| one.tenant.as_ref().is_none_or(|tenant| tenant.nulls > 0 && !tenant.not_null))
        .map(|one| (depth(one), one.name.clone(), one.oid))
        .collect();
    found.sort();
    found.into_iter().map(|(_, _, oid)| oid).collect()
}

/// What is to be filled, parents first. A table whose column is full is not among them.
pub fn tasks(facts: &Facts, declaration: &Declaration) -> Vec<Task> {
    let whole = super::with_columns(facts, declaration);
    let mut tasks: Vec<Task> =
        order(facts, declaration).into_iter().filter_map(|oid| task(facts, &whole, declaration, oid)).collect();
    if let Some(first) = tasks.first_mut().filter(|_| super::lacks_schema(facts)) {
        let sql = "CREATE SCHEMA IF NOT EXISTS guardian";
        first.begin.insert(0, statement(super::SCHEMA, sql, "holds Guardian's own objects").inert());
    }
    tasks
}

fn task(facts: &Facts, whole: &Facts, declaration: &Declaration, oid: Oid) -> Option<Task> {
    let table = facts.relations.iter().find(|relation| relation.oid == oid)?;
    // The parent's own column may be yet to come.
    let way = parent(whole, declaration, table).ok().flatten()?;
    let (name, column) = (sql_name(table), ident(&declaration.tenant_column));
    let mut begin = Vec::new();
    if table.tenant.is_none() {
        let written = &way.tenant.as_ref()?.written_type;
        let sql = format!("ALTER TABLE {name} ADD COLUMN {column} {written}");
        begin.push(statement(&label(table), sql, "whose each row is; nullable at first, so that no row is written"));
    }
    if !facts.fill_triggers.contains(&oid) {
        begin.extend(trigger(facts, declaration, table, &way));
    }
    let members = family(facts, oid);
    let leaves = facts
        .relations
        .iter()
        .filter(|relation| members.contains(&relation.oid) && relation.kind == RelationKind::Table)
        .map(|relation| (relation.oid, sql_name(relation)))
        .collect();
    Some(Task {
        label: label(table),
        begin: begin.into_iter().map(Statement::inert).collect(),
        name,
        leaves,
        source: Source::of(&way, &column),
        column,
    })
}

fn condition(way: &Way<'_>, child: &str) -> String {
    let equal = way.columns.iter().map(|(own, other)| format!("p.{} = {child}.{}", ident(other), ident(own)));
    equal.collect::<Vec<_>>().join(" AND ")
}

/// The function and the trigger that fill the column in rows that are written.
pub(super) fn trigger(facts: &Facts, declaration: &Declaration, table: &RelationFacts, way: &Way<'_>) -> Vec<Statement> {
    let (object, name) = (label(table), sql_name(table));
    let column = ident(&declaration.tenant_column);
    let moved = way.columns.iter().map(|(own, _)| format!("NEW.{0} IS DISTINCT FROM OLD.{0}", ident(own)));
    let moved = moved.collect::<Vec<_>>().join(" OR ");
    let body = way.own.as_ref().map(|own| {
        let own = ident(own);
        format!(
            "BEGIN IF NEW.{column} IS NULL OR TG_OP = 'UPDATE' AND NEW.{own} IS DISTINCT FROM OLD.{own} THEN \
             NEW.{column} := NEW.{own}; END IF; RETURN NEW; END"
        )
    });
    let through_parent = || {
        format!(
            "BEGIN IF NEW.{column} IS NULL OR TG_OP = 'UPDATE' AND ({}) THEN SELECT p.{column} INTO NEW.{column} FROM {} AS p \
         WHERE {}; END IF; RETURN NEW; END",
            moved,
            sql_name(way.parent),
            condition(way, "NEW"),
        )
    };
    let body = body.unwrap_or_else(through_parent);
    let function = qualified("guardian", &bounded_name(&format!("fill_{}", table.name)));
    let owner = ident(&way.parent.owner);
    let lend = !facts.server.superuser;
    let mut statements = vec![
        statement(
            &object,
            format!(
                "CREATE OR REPLACE FUNCTION {function}() RETURNS pg_catalog.trigger LANGUAGE plpgsql SECURITY DEFINER \
                 SET search_path = pg_catalog, pg_temp AS {}",
                literal(&body)
            ),
            "gives a row that is written the tenant of its parent, which whoever writes need not be allowed to read",
        ),
        statement(&object, format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"), "only the trigger calls it"),
    ];
    if lend {
        let sql = format!("GRANT USAGE, CREATE ON SCHEMA guardian TO {owner}");
        statements.push(statement(&object, sql, "whoever gets an object must be allowed to create it"));
    }
    let sql = format!("ALTER FUNCTION {function}() OWNER TO {owner}");
    statements.push(statement(&object, sql, "it reads with the rights of the parent's owner, and no others"));
    if lend {
        let sql = format!("REVOKE USAGE, CREATE ON SCHEMA guardian FROM {owner}");
        statements.push(statement(&object, sql, "the transaction is over"));
    }
    statements.push(statement(
        &object,
        format!(
            "CREATE TRIGGER {FILL_TRIGGER} BEFORE INSERT OR UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION {function}()"
        ),
        "the application does not know the column yet",
    ));
    statements
}

/// The statements that make columns and triggers, as one would show them.
pub fn shown(tasks: &[Task], hardening: Hardening) -> Hardening {
    let begin = tasks.iter().filter(|task| !task.begin.is_empty()).map(|task| Batch::Transaction(task.begin.clone()));
    let fill = tasks.iter().map(|task| {
        let Source { value, from, leads, .. } = &task.source;
        let from = from.strip_prefix(',').map_or_else(String::new, |from| format!(" FROM{from}"));
        let sql = format!("UPDATE {} AS c SET {1} = {value}{from} WHERE {leads} AND c.{1} IS NULL", task.name, task.column);
        let reason = "the rows that are there already, in short transactions, one range of blocks after the other";
        Batch::Transaction(vec![statement(&task.label, sql, reason).inert()])
    });
    let batches = begin.chain(fill).chain(hardening.batches).collect();
    Hardening { batches, ..hardening }
}

/// Fills the tenant column in rows that are written before the application knows it.
pub(crate) const FILL_TRIGGER: &str = "guardian_fill";

/// The table that keeps how far each filling came. Only the administrator reads it.
const LEDGER: &str = "CREATE SCHEMA IF NOT EXISTS guardian; \
    CREATE TABLE IF NOT EXISTS guardian.backfill (relation pg_catalog.oid PRIMARY KEY, next_block pg_catalog.int8 NOT NULL, \
      end_block pg_catalog.int8 NOT NULL, filled pg_catalog.int8 NOT NULL DEFAULT 0)";

/// Fills one table from where it was left. Columns of its parents have to be full.
pub async fn fill(
    connection: &mut PgConnection,
    task: &Task,
    bounds: &Backfill,
    patience: Patience,
    progress: &mut (impl FnMut(Filled) + Send),
) -> Result<(), BackfillError> {
    let failed = |doing| move |source| BackfillError::Statement { doing, table: task.label.clone(), source };
    let prepare = format!(
        "SET search_path = pg_catalog, pg_temp; SET statement_timeout = 0; SET lock_timeout = {}; {LEDGER}",
        patience.lock_wait_ms_max
    );
    run(connection, &prepare).await.map_err(failed("prepare the filling"))?;
    let filled = leaves(connection, task, bounds, patience, progress).await;
    let orphans = match filled {
        Ok(()) => orphans(connection, task).await,
        Err(source) => Err(failed("fill the tenant column")(source)),
    };
    // Left on, the connection would go past every foreign key. Where it could not be set, it cannot be reset.
    let _ = run(connection, "RESET session_replication_role").await;
    let end = "RESET search_path; RESET statement_timeout; RESET lock_timeout";
    run(connection, end).await.map_err(failed("end the filling"))?;
    orphans
}

async fn leaves(
    connection: &mut PgConnection,
    task: &Task,
    bounds: &Backfill,
    patience: Patience,
    progress: &mut (impl FnMut(Filled) + Send),
) -> Result<(), sqlx::Error> {
    begin(connection, task, patience).await?;
    // The application's own triggers must not take the filling for its work; without the right to say so, they run.
    let _ = run(connection, "SET session_replication_role = replica").await;
    let mut filler = Filler { connection, task, bounds, pace: Pace::start(), batches: 0, filled: 0 };
    for (leaf, name) in &task.leaves {
        filler.leaf(*leaf, name, progress).await?;
    }
    Ok(())
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(drop)
}

/// The column and the trigger at once: no row can be written in between.
async fn begin(connection: &mut PgConnection, task: &Task, patience: Patience) -> Result<(), sqlx::Error> {
    if task.begin.is_empty() {
        return Ok(());
    }
    for attempt in 1.. {
        let mut transaction = connection.begin().await?;
        let mut outcome = Ok(());
        for statement in &task.begin {
            outcome = run(&mut transaction, &statement.sql).await;
            if outcome.is_err() {
                break;
            }
        }
        let outcome = match outcome {
            Ok(()) => transaction.commit().await,
            Err(error) => transaction.rollback().await.and(Err(error)),
        };
        match outcome {
            Err(error) if attempt < patience.attempts_max && is_transient(&error) => {
                tokio::time::sleep(Duration::from_millis(50 * u64::from(attempt.min(20)))).await;
            }
            outcome => return outcome,
        }
    }
    unreachable!("the loop only ends by returning")
}

/// Keeps to a number of rows a second.
struct Pace {
    begun: Instant,
    rows: u64,
}

impl Pace {
    fn start() -> Self {
        Self { begun: Instant::now(), rows: 0 }
    }

    async fn keep(&mut self, rows: u64, per_second_max: u32) {
        self.rows += rows;
        if per_second_max > 0 {
            let due = Duration::from_millis(1_000 * self.rows / u64::from(per_second_max));
            tokio::time::sleep(due.saturating_sub(self.begun.elapsed())).await;
        }
    }
}

struct Filler<'a> {
    connection: &'a mut PgConnection,
    task: &'a Task,
    bounds: &'a Backfill,
    pace: Pace,
    batches: u32,
    filled: i64,
}

impl Filler<'_> {
    async fn leaf(&mut self, leaf: Oid, name: &str, progress: &mut (impl FnMut(Filled) + Send)) -> Result<(), sqlx::Error> {
        // Rows behind the last block of now are written with the trigger in place.
        let (mut next, end, filled): (i64, i64, i64) = sqlx::query_as(
            "INSERT INTO guardian.backfill (relation, next_block, end_block) \
             SELECT $1, 0, pg_catalog.pg_relation_size($1) / pg_catalog.current_setting('block_size')::pg_catalog.int8 \
             ON CONFLICT (relation) DO UPDATE SET filled = backfill.filled RETURNING next_block, end_block, filled",
        )
        .bind(sqlx::postgres::types::Oid(leaf))
        .fetch_one(&mut *self.connection)
        .await?;
        self.filled += filled;
        let step = self.blocks_of_a_batch(leaf).await?;
        while next < end {
            let to = (next + step).min(end);
            let rows = self.batch(leaf, name, next, to).await?;
            self.filled += rows;
            next = to;
            progress(Filled { rows: self.filled, blocks: next, blocks_all: end, waits: false });
            self.pace.keep(rows.unsigned_abs(), self.bounds.rows_per_second_max).await;
            if self.is_behind().await? {
                progress(Filled { rows: self.filled, blocks: next, blocks_all: end, waits: true });
                while self.is_behind().await? {
                    tokio::time::sleep(LAG_PAUSE).await;
                }
            }
            self.batches += 1;
            if self.batches.is_multiple_of(BATCHES_BETWEEN_LOOKS) && self.is_bloated(leaf).await? {
                run(self.connection, &format!("VACUUM {name}")).await?;
            }
        }
        // What somebody held when its range was done. The trigger has filled it, unless they took it back.
        self.rest(leaf, name).await
    }

    /// As many as hold about the rows of one batch.
    async fn blocks_of_a_batch(&mut self, leaf: Oid) -> Result<i64, sqlx::Error> {
        let per_block: f64 = sqlx::query_scalar(
            "SELECT CASE WHEN relpages > 0 AND reltuples > 0 THEN reltuples::pg_catalog.float8 / relpages ELSE 50 END \
             FROM pg_catalog.pg_class WHERE oid = $1",
        )
        .bind(sqlx::postgres::types::Oid(leaf))
        .fetch_one(&mut *self.connection)
        .await?;
        #[expect(clippy::cast_possible_truncation, reason = "a number of blocks, bounded just before")]
        let blocks = (f64::from(self.bounds.batch_rows) / per_block.max(1.0)).clamp(1.0, 1e6) as i64;
        Ok(blocks)
    }

    /// One range of blocks and its place in the ledger, together.
    async fn batch(&mut self, leaf: Oid, name: &str, from: i64, to: i64) -> Result<i64, sqlx::Error> {
        let Task { column, source: Source { value, from: source, leads, .. }, .. } = self.task;
        let version: i32 = sqlx::query_scalar("SELECT pg_catalog.current_setting('server_version_num')::pg_catalog.int4")
            .fetch_one(&mut *self.connection)
            .await?;
        // Before 14 a range of ctids is a scan of the whole table; a list of them is not.
        let range = if version >= 140_000 {
            format!("c.ctid >= '({from},0)'::pg_catalog.tid AND c.ctid < '({to},0)'::pg_catalog.tid")
        } else {
            format!(
                "c.ctid = ANY (ARRAY(SELECT ('(' || b || ',' || i || ')')::pg_catalog.tid \
                 FROM pg_catalog.generate_series({from}, {}) AS b, pg_catalog.generate_series(1, 291) AS i))",
                to - 1
            )
        };
        let fill = format!(
            "WITH held AS MATERIALIZED (SELECT c.ctid AS at FROM ONLY {name} AS c WHERE {range} AND c.{column} IS NULL \
               FOR NO KEY UPDATE SKIP LOCKED) \
             UPDATE ONLY {name} AS c SET {column} = {value} FROM held{source} WHERE c.ctid = held.at AND {leads}"
        );
        self.retried(&fill, Some((leaf, to))).await
    }

    /// The rows that are left and lead to a tenant, now waiting for whoever holds them.
    async fn rest(&mut self, leaf: Oid, name: &str) -> Result<(), sqlx::Error> {
        let Task { column, source: Source { value, from, leads, exists }, .. } = self.task;
        let fill = format!(
            "WITH held AS MATERIALIZED (SELECT c.ctid AS at FROM ONLY {name} AS c WHERE c.{column} IS NULL AND {exists} \
               LIMIT {} FOR NO KEY UPDATE) \
             UPDATE ONLY {name} AS c SET {column} = {value} FROM held{from} WHERE c.ctid = held.at AND {leads}",
            self.bounds.batch_rows
        );
        while self.retried(&fill, None).await? > 0 {}
        // Another run counts anew, should rows have been emptied meanwhile.
        sqlx::query("DELETE FROM guardian.backfill WHERE relation = $1")
            .bind(sqlx::postgres::types::Oid(leaf))
            .execute(&mut *self.connection)
            .await
            .map(drop)
    }

    async fn retried(&mut self, fill: &str, done: Option<(Oid, i64)>) -> Result<i64, sqlx::Error> {
        for attempt in 1.. {
            match self.once(fill, done).await {
                Err(error) if attempt < ATTEMPTS_MAX && is_transient(&error) => {
                    tokio::time::sleep(Duration::from_millis(50 * u64::from(attempt))).await;
                }
                outcome => return outcome,
            }
        }
        unreachable!("the loop only ends by returning")
    }

    async fn once(&mut self, fill: &str, done: Option<(Oid, i64)>) -> Result<i64, sqlx::Error> {
        let mut transaction = self.connection.begin().await?;
        let rows = sqlx::raw_sql(AssertSqlSafe(fill.to_owned())).execute(&mut *transaction).await?.rows_affected();
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        if let Some((leaf, to)) = done {
            sqlx::query("UPDATE guardian.backfill SET next_block = $2, filled = filled + $3 WHERE relation = $1")
                .bind(sqlx::postgres::types::Oid(leaf))
                .bind(to)
                .bind(rows)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(rows)
    }

    /// Whether a standby is further behind than it may be. Without the right to see it, nobody is.
    async fn is_behind(&mut self) -> Result<bool, sqlx::Error> {
        if self.bounds.replication_lag_mb_max == 0 {
            return Ok(false);
        }
        sqlx::query_scalar(
            "SELECT coalesce(max(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), replay_lsn)), 0) \
               > $1::pg_catalog.numeric * 1048576 FROM pg_catalog.pg_stat_replication",
        )
        .bind(f64::from(self.bounds.replication_lag_mb_max))
        .fetch_one(&mut *self.connection)
        .await
    }

    async fn is_bloated(&mut self, leaf: Oid) -> Result<bool, sqlx::Error> {
        let bloated: Option<bool> = sqlx::query_scalar(
            "SELECT 100 * n_dead_tup > $2::pg_catalog.int8 * (n_live_tup + n_dead_tup) FROM pg_catalog.pg_stat_all_tables \
             WHERE relid = $1",
        )
        .bind(sqlx::postgres::types::Oid(leaf))
        .bind(i64::from(self.bounds.dead_rows_percent_max))
        .fetch_optional(&mut *self.connection)
        .await?;
        Ok(bloated.unwrap_or(false))
    }
}

/// Rows that lead to no tenant: theirs is for people to say.
async fn orphans(connection: &mut PgConnection, task: &Task) -> Result<(), BackfillError> {
    let Task { label, name, column, source, .. } = task;
    let sql = format!("SELECT count(*), min(ctid::pg_catalog.text) FROM {name} WHERE {column} IS NULL");
    let (count, example): (i64, Option<String>) =
        sqlx::query_as(AssertSqlSafe(sql)).fetch_one(connection).await.map_err(|source| BackfillError::Statement {
            doing: "count the rows without a tenant",
            table: label.clone(),
            source,
        })?;
    if count == 0 {
        return Ok(());
    }
    let advice = format!(
        "say whose they are (UPDATE {name} SET {column} = … WHERE {column} IS NULL), or delete them; the tenant of a row (c) is {} where {}",
        source.value, source.leads
    );
    Err(BackfillError::Orphans { table: label.clone(), count, example: example.unwrap_or_default(), advice })
}
