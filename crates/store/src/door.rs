//! Doors across tenants: which are open, and which roles have to be dropped. A door is noted before its role exists, and
//! forgotten by nobody before the role is gone. The role's password is never here.

use guardian_model::{ClusterName, DoorId, Permission, access::Permit, door::Door};
use jiff::Timestamp;
use uuid::Uuid;

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers, parse},
    timestamp::Stamp,
};

/// How many doors may be open at once.
pub const DOORS_MAX: i64 = 16;

/// A door to be opened.
#[derive(Debug)]
pub struct NewDoor<'a> {
    /// A new id.
    pub id: DoorId,
    /// Where its role is.
    pub cluster: &'a ClusterName,
    /// What for.
    pub reason: &'a str,
    /// Whether it may write.
    pub write: bool,
    /// Until when its session has to begin.
    pub expires_at: Timestamp,
    /// Until when it may last.
    pub ends_at: Timestamp,
}

/// A door whose session has to be looked after.
#[derive(Debug, Clone)]
pub struct OpenedDoor {
    /// What is shown of it.
    pub door: Door,
    /// Where its role is.
    pub cluster: ClusterName,
    /// Whether its session can still begin.
    pub may_begin: bool,
    /// Whether its time is over.
    pub is_over: bool,
}

#[derive(sqlx::FromRow)]
struct DoorRow {
    id: Uuid,
    cluster: String,
    opened_by: String,
    reason: String,
    write: bool,
    opened_at: Stamp,
    ends_at: Stamp,
    may_begin: bool,
    is_over: bool,
}

impl Store {
    /// Notes a door before its role is made. False when as many are open as may be; nothing is noted then.
    pub async fn record_door(&self, permit: &Permit, new: &NewDoor<'_>) -> Result<bool, StoreError> {
        const DOING: &str = "note a door";
        covers(permit, Permission::DoorOpen, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        // Of two at the same moment, the second counts the first.
        sqlx::query("LOCK TABLE door IN SHARE ROW EXCLUSIVE MODE").execute(&mut *transaction).await.doing(DOING)?;
        let noted = sqlx::query(
            "INSERT INTO door (id, cluster, opened_by, reason, write, expires_at, ends_at)
             SELECT $1, $2, $3, $4, $5, $6, $7 WHERE (SELECT count(*) FROM door WHERE closed_at IS NULL) < $8",
        )
        .bind(new.id.uuid())
        .bind(new.cluster.as_str())
        .bind(&permit.actor().name)
        .bind(new.reason)
        .bind(new.write)
        .bind(Stamp(new.expires_at))
        .bind(Stamp(new.ends_at))
        .bind(DOORS_MAX)
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        if noted.rows_affected() == 0 {
            return Ok(false);
        }
        let detail = serde_json::json!({
            "door": new.id, "reason": new.reason, "write": new.write, "ends_at": new.ends_at,
        });
        let record = AuditRecord::of(permit, "door.open", None, Outcome::Allowed).with(detail);
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(true)
    }

    /// Every door that is open, the oldest first.
    pub async fn doors(&self) -> Result<Vec<OpenedDoor>, StoreError> {
        let rows: Vec<DoorRow> = sqlx::query_as(
            "SELECT id, cluster, opened_by, reason, write, opened_at, ends_at, expires_at > now() AS may_begin,
                    ends_at <= now() AS is_over
             FROM door WHERE closed_at IS NULL ORDER BY opened_at, id",
        )
        .fetch_all(&self.pool)
        .await
        .doing("list open doors")?;
        rows.into_iter().map(OpenedDoor::try_from).collect()
    }

    /// Whether it is open, by what is noted.
    pub async fn is_door_open(&self, id: DoorId) -> Result<bool, StoreError> {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM door WHERE id = $1 AND closed_at IS NULL AND ends_at > now())")
            .bind(id.uuid())
            .fetch_one(&self.pool)
            .await
            .doing("look for a door")
    }

    /// Ends a door's time now, in the records: whoever looks after doors shuts it. `None` for one that is not open.
    pub async fn end_door(&self, permit: &Permit, id: DoorId) -> Result<Option<OpenedDoor>, StoreError> {
        const DOING: &str = "end a door";
        covers(permit, Permission::DoorOpen, None)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        let row: Option<DoorRow> = sqlx::query_as(
            "UPDATE door SET ends_at = least(ends_at, now()), expires_at = least(expires_at, now())
             WHERE id = $1 AND closed_at IS NULL
             RETURNING id, cluster, opened_by, reason, write, opened_at, ends_at, false AS may_begin, true AS is_over",
        )
        .bind(id.uuid())
        .fetch_optional(&mut *transaction)
        .await
        .doing(DOING)?;
        let Some(row) = row else { return Ok(None) };
        let opened = OpenedDoor::try_from(row)?;
        let Door { opened_by, reason, .. } = &opened.door;
        let detail = serde_json::json!({ "door": id, "opened_by": opened_by, "reason": reason });
        let record = AuditRecord::of(permit, "door.end", None, Outcome::Allowed).with(detail);
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(Some(opened))
    }

    /// Notes that a door is shut: its role is gone. `why` stands in the audit log.
    pub async fn close_door(&self, door: &Door, why: &str) -> Result<(), StoreError> {
        let detail = serde_json::json!({
            "door": door.id, "opened_by": door.opened_by, "opened_at": door.opened_at, "reason": door.reason,
            "write": door.write, "why": why,
        });
        sqlx::query(
            "WITH closed AS (
                 UPDATE door SET closed_at = now() WHERE id = $1 AND closed_at IS NULL RETURNING id
             )
             INSERT INTO audit_entry (actor, action, outcome, detail)
             SELECT 'system:lifecycle', 'door.close', 'done', $2::text::json FROM closed",
        )
        .bind(door.id.uuid())
        .bind(detail.to_string())
        .execute(&self.pool)
        .await
        .doing("note that a door is shut")
        .map(drop)
    }
}

impl TryFrom<DoorRow> for OpenedDoor {
    type Error = StoreError;

    fn try_from(row: DoorRow) -> Result<Self, StoreError> {
        let door = Door {
            id: DoorId::from_uuid(row.id),
            opened_by: row.opened_by,
            reason: row.reason,
            write: row.write,
            opened_at: row.opened_at.0,
            ends_at: row.ends_at.0,
        };
        Ok(Self { door, cluster: parse("cluster", row.cluster)?, may_begin: row.may_begin, is_over: row.is_over })
    }
}
