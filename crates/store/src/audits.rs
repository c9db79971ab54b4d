//! Audits of the application's shared place and of tenants' own: runs, and findings over time. What is judged is not known here.

use std::{collections::BTreeMap, time::Duration};

use guardian_model::{
    AuditRunId, IncidentId, Isolation, Permission, Place, Placement,
    access::Permit,
    api::{AuditFinding, AuditRun, Page},
};
use sqlx::{AssertSqlSafe, types::Json};
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, ListError, StoreError, covers, parse, word},
    page,
    tenant::row_limit,
    timestamp::Stamp,
};

/// Findings that are listed at most; what is gone is listed behind what is there.
pub const AUDIT_FINDINGS_MAX: i64 = 10_000;
/// Runs of one place that are kept.
const RUNS_KEPT: i64 = 1_000;
/// Findings that an incident names one by one.
const NAMED_MAX: usize = 5;
/// Makes the decision that an audit is due one process's at a time; any number that nobody else takes.
const DUE_LOCK: i64 = 0x6775_6175_6469_7473;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundNow {
    /// The same in every run.
    pub fingerprint: String,
    /// The rule's id.
    pub rule: String,
    /// `note`, `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// The object's identity.
    pub object: String,
    /// What is wrong.
    pub title: String,
    /// What the catalog says.
    pub evidence: String,
    /// Whether it raises an incident when it is new.
    pub alarming: bool,
}

#[derive(sqlx::FromRow)]
struct RunRow {
    id: Uuid,
    place: String,
    started_at: Stamp,
    finished_at: Option<Stamp>,
    error: Option<String>,
    counts: Option<Json<BTreeMap<String, u32>>>,
    could_not_run: Option<i32>,
}

impl From<RunRow> for AuditRun {
    fn from(row: RunRow) -> Self {
        Self {
            id: AuditRunId::from_uuid(row.id),
            place: row.place,
            started_at: row.started_at.0,
            finished_at: row.finished_at.map(|stamp| stamp.0),
            error: row.error,
            findings: row.counts.map(|Json(counts)| counts),
            could_not_run: row.could_not_run.and_then(|count| u32::try_from(count).ok()),
        }
    }
}

#[derive(sqlx::FromRow)]
struct FindingRow {
    place: String,
    fingerprint: String,
    rule: String,
    severity: String,
    object: String,
    title: String,
    evidence: String,
    first_seen: Stamp,
    last_seen: Stamp,
    gone_at: Option<Stamp>,
}

impl From<FindingRow> for AuditFinding {
    fn from(row: FindingRow) -> Self {
        let FindingRow { place, fingerprint, rule, severity, object, title, evidence, .. } = row;
        let (first_seen, last_seen, gone_at) = (row.first_seen.0, row.last_seen.0, row.gone_at.map(|stamp| stamp.0));
        Self { place, fingerprint, rule, severity, object, title, evidence, first_seen, last_seen, gone_at }
    }
}

#[derive(sqlx::FromRow)]
struct PlacementRow {
    isolation: String,
    cluster: String,
    database: String,
    schema: String,
    role: String,
}

impl TryFrom<PlacementRow> for Placement {
    type Error = StoreError;

    fn try_from(row: PlacementRow) -> Result<Self, StoreError> {
        let PlacementRow { isolation, cluster, database, schema, role } = row;
        let isolation = word("isolation", &isolation, Isolation::from_word)?;
        Ok(Self { isolation, place: Place { cluster: parse("cluster", cluster)?, database, schema }, role })
    }
}

impl Store {
    /// Begins an audit of a place, unless one began within the time: `None`. Of several processes only one gets to do it.
    pub async fn begin_audit(
        &self,
        permit: &Permit,
        place: &Place,
        every: Duration,
    ) -> Result<Option<AuditRunId>, StoreError> {
        const DOING: &str = "begin an audit";
        covers(permit, Permission::SchemaWrite, None)?;
        let id = AuditRunId::from_uuid(Uuid::now_v7());
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(DUE_LOCK).execute(&mut *transaction).await.doing(DOING)?;
        let begun = sqlx::query(
            "INSERT INTO audit_run (id, place) SELECT $1, $2 WHERE NOT EXISTS (
               SELECT FROM audit_run WHERE place = $2 AND started_at > now() - make_interval(secs => $3))",
        )
        .bind(id.uuid())
        .bind(place.to_string())
        .bind(every.as_secs_f64())
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok((begun.rows_affected() == 1).then_some(id))
    }

    /// Notes that an audit came to no verdict. What was found before stays as it was.
    pub async fn fail_audit(&self, permit: &Permit, id: AuditRunId, error: &str) -> Result<(), StoreError> {
        const DOING: &str = "note a failed audit";
        covers(permit, Permission::SchemaWrite, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        sqlx::query("UPDATE audit_run SET finished_at = now(), error = $2 WHERE id = $1 AND finished_at IS NULL")
            .bind(id.uuid())
            .bind(page::without_nul(error))
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        let record = AuditRecord::of(permit, "audit.run", None, Outcome::Failed)
            .with(serde_json::json!({ "audit": id, "error": error }));
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)
    }

    /// Notes what an audit found. Alarming findings that were not there the last time open an incident, and when no alarming
    /// finding is left, the place's incidents close. Yields the incident.
    pub async fn finish_audit(
        &self,
        permit: &Permit,
        id: AuditRunId,
        place: &Place,
        found: &[FoundNow],
        could_not_run: usize,
    ) -> Result<Option<IncidentId>, StoreError> {
        const DOING: &str = "note an audit";
        covers(permit, Permission::SchemaWrite, None)?;
        let place = place.to_string();
        let column = |of: fn(&FoundNow) -> &str| found.iter().map(|it| page::without_nul(of(it))).collect::<Vec<_>>();
        let fingerprints = column(|it| &it.fingerprint);
        let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
        for finding in found {
            *counts.entry(&finding.severity).or_default() += 1;
        }
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let there: Vec<String> =
            sqlx::query_scalar("SELECT fingerprint FROM audit_finding WHERE place = $1 AND gone_at IS NULL FOR UPDATE")
                .bind(&place)
                .fetch_all(&mut *transaction)
                .await
                .doing(DOING)?;
        sqlx::query(
            "INSERT INTO audit_finding (place, fingerprint, rule, severity, object, title, evidence)
             SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
             ON CONFLICT (place, fingerprint) DO UPDATE SET rule = excluded.rule, severity = excluded.severity,
               object = excluded.object, title = excluded.title, evidence = excluded.evidence, last_seen = now(), gone_at = NULL",
        )
        .bind(&place)
        .bind(&fingerprints)
        .bind(column(|it| &it.rule))
        .bind(column(|it| &it.severity))
        .bind(column(|it| &it.object))
        .bind(column(|it| &it.title))
        .bind(column(|it| &it.evidence))
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        sqlx::query(
            "UPDATE audit_finding SET gone_at = now() WHERE place = $1 AND gone_at IS NULL AND fingerprint <> ALL ($2)",
        )
        .bind(&place)
        .bind(&fingerprints)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        sqlx::query("UPDATE audit_run SET finished_at = now(), counts = $2, could_not_run = $3 WHERE id = $1")
            .bind(id.uuid())
            .bind(Json(&counts))
            .bind(i32::try_from(could_not_run).unwrap_or(i32::MAX))
            .execute(&mut *transaction)
            .await
            .doing(DOING)?;
        sqlx::query(
            "DELETE FROM audit_run WHERE place = $1 AND id < (
               SELECT id FROM audit_run WHERE place = $1 ORDER BY id DESC OFFSET $2 LIMIT 1)",
        )
        .bind(&place)
        .bind(RUNS_KEPT)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        let new: Vec<&FoundNow> = found.iter().filter(|it| it.alarming && !there.contains(&it.fingerprint)).collect();
        let incident = (!new.is_empty()).then(|| IncidentId::from_uuid(Uuid::now_v7()));
        if let Some(incident) = incident {
            sqlx::query("INSERT INTO incident (id, summary, audited) VALUES ($1, $2, $3)")
                .bind(incident.uuid())
                .bind(page::without_nul(&summary(&place, &new)))
                .bind(&place)
                .execute(&mut *transaction)
                .await
                .doing(DOING)?;
        } else if !found.iter().any(|it| it.alarming) {
            sqlx::query("UPDATE incident SET closed_at = now() WHERE audited = $1 AND closed_at IS NULL")
                .bind(&place)
                .execute(&mut *transaction)
                .await
                .doing(DOING)?;
        }
        let detail =
            serde_json::json!({ "audit": id, "findings": counts, "could_not_run": could_not_run, "incident": incident });
        let record = AuditRecord::of(permit, "audit.run", None, Outcome::Done).with(detail);
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(incident)
    }

    /// The places of tenants with one of their own, those first that were audited longest ago or never.
    pub async fn places_to_audit(&self, limit: u16) -> Result<Vec<Placement>, StoreError> {
        let rows: Vec<PlacementRow> = sqlx::query_as(
            "SELECT isolation, cluster, database, schema, role FROM tenant AS t
             WHERE isolation <> 'row' AND state IN ('active', 'suspended')
             ORDER BY (SELECT max(started_at) FROM audit_run WHERE place = t.cluster || '/' || t.database || '/' || t.schema)
               NULLS FIRST, id LIMIT $1",
        )
        .bind(i32::from(limit))
        .fetch_all(&self.pool)
        .await
        .doing("list places to audit")?;
        rows.into_iter().map(Placement::try_from).collect()
    }

    /// Notes that what was found in places whose tenants are gone is gone too, and closes their incidents.
    pub async fn leave_places(&self, permit: &Permit, shared: &Place) -> Result<(), StoreError> {
        const DOING: &str = "leave places that are gone";
        const IS_GONE: &str = "<> $1 AND NOT EXISTS (SELECT FROM tenant AS t WHERE t.isolation <> 'row'
            AND t.state <> 'deleted' AND t.cluster || '/' || t.database || '/' || t.schema =";
        covers(permit, Permission::SchemaWrite, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        for sql in [
            format!("UPDATE audit_finding SET gone_at = now() WHERE gone_at IS NULL AND place {IS_GONE} place)"),
            format!("UPDATE incident SET closed_at = now() WHERE closed_at IS NULL AND audited {IS_GONE} audited)"),
        ] {
            sqlx::query(AssertSqlSafe(sql)).bind(shared.to_string()).execute(&mut *transaction).await.doing(DOING)?;
        }
        transaction.commit().await.doing(DOING)
    }

    /// A page of audits, the newest first; of one place or of all.
    pub async fn audits(
        &self,
        place: Option<&str>,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<AuditRun>, ListError> {
        let limit = page::limit(limit)?;
        let before: Option<Uuid> = page::position(b'u', cursor)?;
        let rows: Vec<RunRow> = sqlx::query_as(
            "SELECT id, place, started_at, finished_at, error, counts, could_not_run FROM audit_run
             WHERE id < $1 AND ($3::text IS NULL OR place = $3) ORDER BY id DESC LIMIT $2",
        )
        .bind(before.unwrap_or(Uuid::max()))
        .bind(row_limit(limit))
        .bind(place.map(page::without_nul))
        .fetch_all(&self.pool)
        .await
        .doing("list audits")?;
        let runs = rows.into_iter().map(AuditRun::from).collect();
        Ok(page::page(b'u', runs, limit, |run: &AuditRun| run.id.uuid()))
    }

    /// The findings that are there, worst first; with `gone` also those that are not any more. Of one place or of all.
    pub async fn audit_findings(&self, place: Option<&str>, gone: bool) -> Result<Vec<AuditFinding>, StoreError> {
        let rows: Vec<FindingRow> = sqlx::query_as(
            "SELECT place, fingerprint, rule, severity, object, title, evidence, first_seen, last_seen, gone_at
             FROM audit_finding WHERE (gone_at IS NULL OR $1) AND ($3::text IS NULL OR place = $3)
             ORDER BY gone_at IS NOT NULL, array_position(ARRAY['critical', 'high', 'medium', 'low', 'note'], severity),
               rule, object, place, fingerprint LIMIT $2",
        )
        .bind(gone)
        .bind(AUDIT_FINDINGS_MAX)
        .bind(place.map(page::without_nul))
        .fetch_all(&self.pool)
        .await
        .doing("list what audits found")?;
        Ok(rows.into_iter().map(AuditFinding::from).collect())
    }
}

fn summary(place: &str, new: &[&FoundNow]) -> String {
    let named: Vec<_> =
        new.iter().take(NAMED_MAX).map(|it| format!("{} on {} ({})", it.rule, it.object, it.severity)).collect();
    let more = new.len().saturating_sub(NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!(
        "the audit of {place} found {}{more}; `guardian audit --history` lists them, and `guardian audit --explain RULE` says what to do",
        named.join(", ")
    )
}
