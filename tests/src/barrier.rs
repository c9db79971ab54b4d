//! Stops Guardian exactly between a step's act and its record, without a hook in the product: a trigger in the control
//! database waits on a lock that the test holds.

use std::time::{Duration, Instant};

use guardian_testkit::TestDatabase;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};

const LOCK: i64 = 4711;
const PATIENCE: Duration = Duration::from_mins(1);

/// Holds back a record of progress, such as that `steps` steps are done.
#[derive(Debug)]
pub struct Barrier {
    table: &'static str,
    holder: PgConnection,
    observer: PgConnection,
}

impl Barrier {
    /// Sets the barrier, going forward or backward.
    pub async fn at(control: &TestDatabase, steps: usize) -> Self {
        let when = format!("NEW.steps_done = {steps} AND OLD.steps_done <> {steps}");
        Self::before(control, "operation", "steps_done", &when).await
    }

    /// Holds back the record that a run's item of this position is done.
    pub async fn at_item(control: &TestDatabase, position: usize) -> Self {
        let when = format!("NEW.position = {position} AND NEW.state = 'done' AND OLD.state <> 'done'");
        Self::before(control, "run_item", "state", &when).await
    }

    /// Holds back the record of a new tenant.
    pub async fn at_tenant(control: &TestDatabase) -> Self {
        Self::set(control, "tenant", "INSERT", "true").await
    }

    /// Holds back the record that a tenant's new secret took the old one's place, of this column of `tenant`.
    pub async fn at_secret(control: &TestDatabase, column: &str) -> Self {
        let when = format!("NEW.{column} IS DISTINCT FROM OLD.{column}");
        Self::before(control, "tenant", column, &when).await
    }

    async fn before(control: &TestDatabase, table: &'static str, column: &str, when: &str) -> Self {
        Self::set(control, table, &format!("UPDATE OF {column}"), when).await
    }

    async fn set(control: &TestDatabase, table: &'static str, event: &str, when: &str) -> Self {
        let mut holder = control.connect().await;
        let sql = format!(
            "SET search_path = guardian_store;
             SELECT pg_advisory_lock({LOCK});
             CREATE OR REPLACE FUNCTION test_hold() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock({LOCK}); RETURN NEW; END $$;
             CREATE TRIGGER test_hold BEFORE {event} ON {table} FOR EACH ROW
                 WHEN ({when}) EXECUTE FUNCTION test_hold()"
        );
        holder.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("set the barrier");
        Self { table, holder, observer: control.connect().await }
    }

    /// Waits until Guardian stands before the barrier; `false` when `ended` says that it never will.
    pub async fn is_reached(&mut self, mut ended: impl FnMut() -> bool) -> bool {
        let begun = Instant::now();
        loop {
            let waiting: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                 WHERE d.datname = current_database() AND locktype = 'advisory' AND objid = $1::bigint::oid AND NOT granted)",
            )
            .bind(LOCK)
            .fetch_one(&mut self.observer)
            .await
            .expect("look at the barrier");
            if waiting {
                return true;
            }
            if ended() {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody comes to the barrier");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Takes the barrier away and lets through who stands before it: the server has not noticed that the client is gone.
    pub async fn let_through(mut self) {
        let sql = format!("SELECT pg_advisory_unlock({LOCK})");
        self.holder.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("let the waiting through");
        self.take_away().await;
    }

    /// Takes the barrier away. Whoever stands before it is sent home, as PostgreSQL does when it finds the client gone.
    pub async fn lift(mut self) {
        let sql = format!(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                 WHERE d.datname = current_database() AND locktype = 'advisory' AND objid = {LOCK} AND NOT granted;
             SELECT pg_advisory_unlock({LOCK})"
        );
        self.holder.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("send the waiting home");
        self.take_away().await;
    }

    /// Waits for who was let through, because the table is locked.
    async fn take_away(&mut self) {
        let sql = format!("DROP TRIGGER test_hold ON {}", self.table);
        self.holder.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("take the barrier away");
    }
}
