//! The audit log: writing entries and reading pages of them. Who changes something writes the entry in the same
//! transaction. Sealing and verification stand in `seal`.

use guardian_model::{
    TenantId,
    access::{Actor, Permit},
    api::{AuditEntry, Page},
};
use sqlx::{AssertSqlSafe, PgExecutor};
use uuid::Uuid;

use crate::{
    Store,
    error::{Doing, ListError, StoreError},
    page::{self, without_nul},
    tenant::row_limit,
    timestamp::Stamp,
};

/// How many entries a page without an index to help it looks at.
const SCAN_MAX: i64 = 20_000;

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was authorised and begun, or a secret was handed out.
    Allowed,
    /// It was not authorised, or not possible.
    Refused,
    /// It went through.
    Done,
    /// It was taken back.
    Undone,
    /// It went wrong.
    Failed,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Self; 5] = [Self::Allowed, Self::Refused, Self::Done, Self::Undone, Self::Failed];

    /// The word in the database and over the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused => "refused",
            Self::Done => "done",
            Self::Undone => "undone",
            Self::Failed => "failed",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == word)
    }
}

/// What is to be written into the audit log.
#[derive(Debug, Clone)]
pub struct AuditRecord {
    /// Who.
    pub actor: String,
    /// What, as `object.verb`.
    pub action: String,
    /// Which tenant, when it is about one.
    pub tenant: Option<TenantId>,
    /// How it ended.
    pub outcome: Outcome,
    /// More. Never a secret.
    pub detail: serde_json::Value,
}

impl AuditRecord {
    /// What somebody did under a permit.
    pub fn of(permit: &Permit, action: &str, tenant: Option<TenantId>, outcome: Outcome) -> Self {
        Self::by(permit.actor(), action, tenant, outcome)
    }

    /// What an actor did or was refused.
    pub fn by(actor: &Actor, action: &str, tenant: Option<TenantId>, outcome: Outcome) -> Self {
        let detail = serde_json::Value::Object(serde_json::Map::new());
        Self { actor: actor.name.clone(), action: action.to_owned(), tenant, outcome, detail }
    }

    /// What somebody without an identity was refused.
    pub fn anonymous(action: &str, outcome: Outcome) -> Self {
        let detail = serde_json::Value::Object(serde_json::Map::new());
        Self { actor: "anonymous".to_owned(), action: action.to_owned(), tenant: None, outcome, detail }
    }

    /// With more about it. Never a secret.
    #[must_use]
    pub fn with(self, detail: serde_json::Value) -> Self {
        Self { detail, ..self }
    }
}

/// Writes an entry with whatever else the executor's transaction holds.
pub(crate) async fn insert_entry(executor: impl PgExecutor<'_>, record: &AuditRecord) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO audit_entry (actor, action, tenant, outcome, detail) VALUES ($1, $2, $3, $4, $5::text::json)")
        .bind(&record.actor)
        .bind(&record.action)
        .bind(record.tenant.map(TenantId::uuid))
        .bind(record.outcome.as_str())
        .bind(record.detail.to_string())
        .execute(executor)
        .await
        .map(drop)
}

/// Which entries to list.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// About this tenant.
    pub tenant: Option<TenantId>,
    /// By this actor.
    pub actor: Option<String>,
    /// Of this action, or with a trailing dot of every action on that object (`tenant.`).
    pub action: Option<String>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
}

#[derive(sqlx::FromRow)]
struct EntryRow {
    seq: i64,
    at: Stamp,
    actor: String,
    action: String,
    tenant: Option<Uuid>,
    outcome: String,
    detail: sqlx::types::Json<serde_json::Value>,
}

impl From<EntryRow> for AuditEntry {
    fn from(row: EntryRow) -> Self {
        Self {
            seq: row.seq,
            at: row.at.0,
            actor: row.actor,
            action: row.action,
            tenant: row.tenant.map(TenantId::from_uuid),
            outcome: row.outcome,
            detail: row.detail.0,
        }
    }
}

impl Store {
    /// Writes an entry on its own: a refusal, the reading of a secret, use across tenants.
    pub async fn record(&self, record: &AuditRecord) -> Result<(), StoreError> {
        insert_entry(&self.pool, record).await.doing("write to the audit log")
    }

    /// A page of the audit log, the newest first.
    ///
    /// A page looks at a bounded stretch of the log, so it may hold fewer entries than asked for, or none, and yet have a
    /// next one; the list ends where there is no next cursor.
    pub async fn audit_entries(
        &self,
        filter: &AuditFilter,
        cursor: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Page<AuditEntry>, ListError> {
        const DOING: &str = "list the audit log";
        let limit = page::limit(limit)?;
        let before = page::position(b'a', cursor)?;
        let newest: i64 = match before {
            Some(before) => before,
            None => sqlx::query_scalar("SELECT coalesce(max(seq), 0) + 1 FROM audit_entry")
                .fetch_one(&self.pool)
                .await
                .doing(DOING)?,
        };
        // By tenant there is an index; the other filters go through the entries one by one.
        let oldest = if filter.tenant.is_some() { 0 } else { newest.saturating_sub(SCAN_MAX).max(0) };
        let mut conditions = vec![
            "seq < $1 AND seq >= $2 AND ($3::text IS NULL OR actor = $3)".to_owned(),
            "($4::text IS NULL OR action = $4 OR (right($4, 1) = '.' AND starts_with(action, $4)))".to_owned(),
        ];
        conditions.extend(filter.outcome.map(|outcome| format!("outcome = '{}'", outcome.as_str())));
        conditions.extend(filter.tenant.map(|_| "tenant = $6".to_owned()));
        let sql = format!(
            "SELECT seq, at, actor, action, tenant, outcome, detail FROM audit_entry WHERE {} ORDER BY seq DESC LIMIT $5",
            conditions.join(" AND ")
        );
        let query = sqlx::query_as(AssertSqlSafe(sql))
            .persistent(false)
            .bind(newest)
            .bind(oldest)
            .bind(filter.actor.as_deref().map(without_nul))
            .bind(filter.action.as_deref().map(without_nul))
            .bind(row_limit(limit));
        let query = if let Some(tenant) = filter.tenant { query.bind(tenant.uuid()) } else { query };
        let rows: Vec<EntryRow> = query.fetch_all(&self.pool).await.doing(DOING)?;
        let entries = rows.into_iter().map(AuditEntry::from).collect();
        let mut page = page::page(b'a', entries, limit, |entry: &AuditEntry| entry.seq);
        if page.next_cursor.is_none() && oldest > 0 {
            page.next_cursor = Some(page::cursor(b'a', &oldest));
        }
        Ok(page)
    }
}
