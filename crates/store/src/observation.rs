//! What gateways saw of an application that is being adopted. Bounded: distinct statements that find no room are not kept, and
//! the summary says so.

use guardian_model::{
    Permission,
    access::Permit,
    api::Page,
    observation::{
        DirectSessions, Observation, ObservationReceipt, ObservationReport, ObservationSummary, ObservationVerdict,
        ObservedRows, ObservedTable,
    },
};
use sqlx::PgConnection;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, ListError, StoreError, covers, word},
    page::{self, without_nul},
    tenant::row_limit,
    timestamp::Stamp,
};

/// Distinct statements that are kept.
pub const OBSERVATIONS_MAX: i64 = 10_000;
/// Statements of one report.
const REPORTED_MAX: usize = 500;
/// Kinds of sessions past the gateway that are kept, and those of one look.
const SESSIONS_MAX: i64 = 1000;
const SESSIONS_AT_ONCE_MAX: usize = 100;
/// Characters of a statement and of any other text, and tables of a statement.
const STATEMENT_CHARS_MAX: usize = 1100;
const TEXT_CHARS_MAX: usize = 300;
const TABLES_MAX: usize = 100;

/// Why a report was not kept.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is larger than any gateway's, or has a field that none writes.
    #[error("the report is malformed: {0}")]
    Malformed(&'static str),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(sqlx::FromRow)]
struct ObservationRow {
    number: i64,
    fingerprint: String,
    statement: String,
    verdict: String,
    sqlstate: Option<String>,
    reason: String,
    tables: Vec<String>,
    rows_enforced: Option<i64>,
    rows_now: Option<i64>,
    count: i64,
    tenants: i64,
    first_seen: Stamp,
    last_seen: Stamp,
}

fn small(count: i64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn large(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

impl TryFrom<ObservationRow> for Observation {
    type Error = StoreError;

    fn try_from(row: ObservationRow) -> Result<Self, StoreError> {
        let rows = row.rows_enforced.zip(row.rows_now);
        Ok(Self {
            fingerprint: row.fingerprint,
            statement: row.statement,
            verdict: word("verdict", &row.verdict, ObservationVerdict::from_word)?,
            sqlstate: row.sqlstate,
            reason: row.reason,
            tables: row.tables,
            rows: rows.map(|(enforced, now)| ObservedRows { enforced: small(enforced), now: small(now) }),
            count: unsigned(row.count),
            tenants: small(row.tenants),
            first_seen: row.first_seen.0,
            last_seen: row.last_seen.0,
        })
    }
}

fn cut(text: &str, chars_max: usize) -> String {
    without_nul(text).chars().take(chars_max).collect()
}

fn check(report: &ObservationReport) -> Result<(), ReportError> {
    let is_fingerprint =
        |text: &str| text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if report.observations.len() > REPORTED_MAX || report.fine.len() > REPORTED_MAX {
        return Err(ReportError::Malformed("it has more than 500 statements"));
    }
    if report.observations.iter().any(|found| found.verdict == ObservationVerdict::Fine) {
        return Err(ReportError::Malformed("a statement that is fine is named by its fingerprint"));
    }
    let fingerprints = report.observations.iter().map(|found| &found.fingerprint).chain(&report.fine);
    if fingerprints.into_iter().any(|text| !is_fingerprint(text)) {
        return Err(ReportError::Malformed("a fingerprint has 16 hexadecimal digits"));
    }
    Ok(())
}

impl Store {
    /// Takes in what a gateway saw, and who connected past it. A report of before the observations were cleared is not taken. New statements leave an entry in
    /// the audit log, in sum; counts do not.
    pub async fn report_observations(
        &self,
        permit: &Permit,
        report: &ObservationReport,
        direct: &[DirectSessions],
    ) -> Result<ObservationReceipt, ReportError> {
        const DOING: &str = "keep what a gateway observed";
        covers(permit, Permission::SnapshotRead, None)?;
        check(report)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        // Reports come one after the other.
        let generation: i64 = sqlx::query_scalar("SELECT generation FROM observation_total FOR UPDATE")
            .fetch_one(&mut *transaction)
            .await
            .doing(DOING)?;
        let receipt =
            ObservationReceipt { generation: unsigned(generation), taken: report.generation == unsigned(generation) };
        if !receipt.taken {
            return Ok(receipt);
        }
        let mut new = 0_u64;
        for found in &report.observations {
            new += u64::from(insert(&mut transaction, found).await.doing(DOING)?);
        }
        sqlx::query("DELETE FROM observation WHERE fingerprint = ANY ($1)")
            .bind(&report.fine)
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        for direct in direct.iter().take(SESSIONS_AT_ONCE_MAX) {
            sqlx::query(
                "INSERT INTO observed_session (role, application_name, client_address, sessions, last_seen)
                 SELECT $1, $2, $3, $4, now() WHERE (SELECT count(*) FROM observed_session) < $5
                     OR EXISTS (SELECT FROM observed_session WHERE (role, application_name, client_address) = ($1, $2, $3))
                 ON CONFLICT (role, application_name, client_address)
                     DO UPDATE SET sessions = excluded.sessions, last_seen = excluded.last_seen",
            )
            .bind(cut(&direct.role, TEXT_CHARS_MAX))
            .bind(cut(&direct.application_name, TEXT_CHARS_MAX))
            .bind(cut(&direct.client_address, TEXT_CHARS_MAX))
            .bind(i64::from(direct.sessions))
            .bind(SESSIONS_MAX)
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        }
        sqlx::query(
            "UPDATE observation_total
             SET statements = statements + $1, looked_at = looked_at + $2, overlooked = overlooked + $3",
        )
        .bind(large(report.statements.min(u64::from(u32::MAX))))
        .bind(large(report.looked_at.min(u64::from(u32::MAX))))
        .bind(large(report.overlooked.min(u64::from(u32::MAX))))
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        if new > 0 {
            let record = AuditRecord::of(permit, "observation.report", None, Outcome::Done);
            let record = record.with(serde_json::json!({ "new_statements": new }));
            insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        }
        transaction.commit().await.doing(DOING)?;
        Ok(receipt)
    }

    /// A page of statements, the newest first.
    pub async fn observations(
        &self,
        needs_work_only: bool,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<Observation>, ListError> {
        const LIST: u8 = b'v';
        let limit = page::limit(limit)?;
        let before: Option<i64> = page::position(LIST, cursor)?;
        let rows: Vec<ObservationRow> = sqlx::query_as(
            "SELECT number, fingerprint, statement, verdict, sqlstate, reason, tables, rows_enforced, rows_now, count, tenants,
                 first_seen, last_seen
             FROM observation WHERE number < $1 AND ($2 OR verdict <> 'not_looked_at') ORDER BY number DESC LIMIT $3",
        )
        .bind(before.unwrap_or(i64::MAX))
        .bind(!needs_work_only)
        .bind(row_limit(limit))
        .fetch_all(&self.pool)
        .await
        .doing("list what gateways observed")?;
        let page = page::page(LIST, rows, limit, |row: &ObservationRow| row.number);
        let items = page.items.into_iter().map(Observation::try_from).collect::<Result<_, _>>()?;
        Ok(Page { items, next_cursor: page.next_cursor })
    }

    /// What gateways observed, in sum.
    pub async fn observation_summary(&self) -> Result<ObservationSummary, StoreError> {
        const DOING: &str = "sum up what gateways observed";
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let (statements, looked_at, overlooked): (i64, i64, i64) =
            sqlx::query_as("SELECT statements, looked_at, overlooked FROM observation_total")
                .fetch_one(&mut *transaction)
                .await
                .doing(DOING)?;
        let tables: Vec<(String, i64, Stamp)> = sqlx::query_as(
            "SELECT touched, count(*), max(last_seen) FROM observation, unnest(tables) AS touched
             WHERE verdict <> 'not_looked_at' GROUP BY 1 ORDER BY 1 LIMIT 1000",
        )
        .fetch_all(&mut *transaction)
        .await
        .doing(DOING)?;
        let (elsewhere, kept): (i64, i64) = sqlx::query_as(
            "SELECT count(*) FILTER (WHERE verdict <> 'not_looked_at' AND tables = '{}'), count(*) FROM observation",
        )
        .fetch_one(&mut *transaction)
        .await
        .doing(DOING)?;
        let direct: Vec<(String, String, String, i64, Stamp)> = sqlx::query_as(
            "SELECT role, application_name, client_address, sessions, last_seen FROM observed_session
             WHERE last_seen > now() - interval '1 day' ORDER BY last_seen DESC LIMIT 100",
        )
        .fetch_all(&mut *transaction)
        .await
        .doing(DOING)?;
        let tables = tables.into_iter().map(|(table, need_work, last_seen)| ObservedTable {
            table,
            need_work: unsigned(need_work),
            last_seen: last_seen.0,
        });
        let direct = direct.into_iter().map(|(role, application_name, client_address, sessions, last_seen)| {
            DirectSessions { role, application_name, client_address, sessions: small(sessions), last_seen: last_seen.0 }
        });
        Ok(ObservationSummary {
            statements: unsigned(statements),
            looked_at: unsigned(looked_at),
            overlooked: unsigned(overlooked),
            tables: tables.collect(),
            elsewhere: unsigned(elsewhere),
            direct: direct.collect(),
            full: kept >= OBSERVATIONS_MAX,
        })
    }

    /// Forgets everything that was observed; gateways begin anew.
    pub async fn clear_observations(&self, permit: &Permit) -> Result<(), StoreError> {
        const DOING: &str = "clear what gateways observed";
        covers(permit, Permission::SchemaWrite, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        sqlx::query(
            "UPDATE observation_total SET generation = generation + 1, statements = 0, looked_at = 0, overlooked = 0",
        )
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        let cleared = sqlx::query("DELETE FROM observation").execute(&mut *transaction).await.doing(DOING)?;
        sqlx::query("DELETE FROM observed_session").execute(&mut *transaction).await.doing(DOING)?;
        let record = AuditRecord::of(permit, "observation.clear", None, Outcome::Done);
        let record = record.with(serde_json::json!({ "statements": cleared.rows_affected() }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)
    }
}

/// Whether the statement is new.
async fn insert(connection: &mut PgConnection, found: &Observation) -> Result<bool, sqlx::Error> {
    let tables: Vec<String> = found.tables.iter().take(TABLES_MAX).map(|table| cut(table, TEXT_CHARS_MAX)).collect();
    let inserted: Option<bool> = sqlx::query_scalar(
        "INSERT INTO observation (fingerprint, statement, verdict, sqlstate, reason, tables, rows_enforced, rows_now, count,
             tenants, first_seen, last_seen)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
         WHERE (SELECT count(*) FROM observation) < $13 OR EXISTS (SELECT FROM observation WHERE fingerprint = $1)
         ON CONFLICT (fingerprint) DO UPDATE SET verdict = excluded.verdict, sqlstate = excluded.sqlstate,
             reason = excluded.reason, tables = excluded.tables, rows_enforced = excluded.rows_enforced,
             rows_now = excluded.rows_now, count = least(observation.count, 4000000000000000000) + excluded.count,
             tenants = greatest(observation.tenants, excluded.tenants),
             first_seen = least(observation.first_seen, excluded.first_seen),
             last_seen = greatest(observation.last_seen, excluded.last_seen)
         RETURNING xmax = 0",
    )
    .bind(&found.fingerprint)
    .bind(cut(&found.statement, STATEMENT_CHARS_MAX))
    .bind(found.verdict.as_str())
    .bind(found.sqlstate.as_deref().map(|code| cut(code, 5)))
    .bind(cut(&found.reason, TEXT_CHARS_MAX))
    .bind(tables)
    .bind(found.rows.map(|rows| i64::from(rows.enforced)))
    .bind(found.rows.map(|rows| i64::from(rows.now)))
    .bind(large(found.count.min(u64::from(u32::MAX))))
    .bind(i64::from(found.tenants))
    .bind(Stamp(found.first_seen))
    .bind(Stamp(found.last_seen))
    .bind(OBSERVATIONS_MAX)
    .fetch_optional(connection)
    .await?;
    Ok(inserted.unwrap_or(false))
}
