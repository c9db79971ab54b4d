//! Routes of the API gateway, and roles that every tenant has, that were declared over the API. They go before
//! `guardian.toml`.

use guardian_model::{
    Permission, RoleName, RouteName,
    access::Permit,
    http::{Conflict, HttpOverride, HttpRole, HttpRoute, SnapshotHttp},
};
use serde_json::json;
use sqlx::{PgConnection, types::Json};

use crate::{
    Store,
    audit::{AuditRecord, Outcome, insert_entry},
    error::{Doing, StoreError, covers},
};

/// What is declared over the API.
#[derive(Debug, Clone)]
pub enum HttpChange {
    /// A route, in the place of any of its name.
    PutRoute(Box<HttpRoute>),
    /// The file's route of that name again, or none.
    DeleteRoute(RouteName),
    /// A role that every tenant has, in the place of any of its name.
    PutRole(RoleName, HttpRole),
    /// The file's role of that name again, or none.
    DeleteRole(RoleName),
}

/// Why nothing was declared.
#[derive(Debug, thiserror::Error)]
pub enum HttpOverrideError {
    /// No API gateway runs here.
    #[error("no API gateway is declared: say `enabled = true` in [http] of guardian.toml")]
    Disabled,
    /// It does not fit the rest.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Somebody else was faster.
    #[error("version {found} is in force by now, not {asked}; look again, and pass its `version`")]
    Version {
        /// The caller's.
        asked: u64,
        /// The present one.
        found: u64,
    },
    /// It stands in the file, or nowhere.
    #[error("`{0}` was not declared over the API; what stands in guardian.toml is changed there")]
    NotFound(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Store {
    /// What was declared over the API, and its version.
    pub async fn http_override(&self) -> Result<(u64, HttpOverride), StoreError> {
        let mut connection = self.pool.acquire().await.doing("read the routes")?;
        read(&mut connection).await
    }

    /// Declares something over the API. `declared` is the file's word: what does not fit it is refused.
    pub async fn change_http(
        &self,
        permit: &Permit,
        declared: Option<&SnapshotHttp>,
        version: Option<u64>,
        change: HttpChange,
    ) -> Result<u64, HttpOverrideError> {
        const DOING: &str = "change the routes";
        covers(permit, Permission::RouteWrite, None)?;
        let declared = declared.ok_or(HttpOverrideError::Disabled)?;
        let mut transaction = self.pool.begin().await.doing(DOING)?;
        // The row may not be there yet, so that the table is what is locked.
        sqlx::query("LOCK TABLE http_override IN SHARE ROW EXCLUSIVE MODE").execute(&mut *transaction).await.doing(DOING)?;
        let (found, mut over) = read(&mut transaction).await?;
        if let Some(asked) = version.filter(|asked| *asked != found) {
            return Err(HttpOverrideError::Version { asked, found });
        }
        let (action, detail) = match change {
            HttpChange::PutRoute(route) => {
                let detail = json!({ "route": route });
                over.routes.insert(route.name.clone(), *route);
                ("route.put", detail)
            }
            HttpChange::DeleteRoute(name) => {
                over.routes.remove(&name).ok_or_else(|| HttpOverrideError::NotFound(name.to_string()))?;
                ("route.delete", json!({ "route": name }))
            }
            HttpChange::PutRole(name, role) => {
                let detail = json!({ "role": name, "permissions": role.permissions, "reserved": role.reserved });
                over.roles.insert(name, role);
                ("role.put", detail)
            }
            HttpChange::DeleteRole(name) => {
                over.roles.remove(&name).ok_or_else(|| HttpOverrideError::NotFound(name.to_string()))?;
                ("role.delete", json!({ "role": name }))
            }
        };
        over.onto(declared)?;
        let version = found + 1;
        sqlx::query(
            "INSERT INTO http_override (version, document) VALUES ($1, $2)
             ON CONFLICT (one) DO UPDATE SET version = excluded.version, document = excluded.document",
        )
        .bind(i64::try_from(version).unwrap_or(i64::MAX))
        .bind(Json(&over))
        .execute(&mut *transaction)
        .await
        .doing(DOING)?;
        let record = AuditRecord::of(permit, action, None, Outcome::Done).with(detail);
        insert_entry(&mut *transaction, &record).await.doing(DOING)?;
        transaction.commit().await.doing(DOING)?;
        Ok(version)
    }
}

pub(crate) async fn read(connection: &mut PgConnection) -> Result<(u64, HttpOverride), StoreError> {
    let row: Option<(i64, Json<HttpOverride>)> = sqlx::query_as("SELECT version, document FROM http_override")
        .fetch_optional(connection)
        .await
        .doing("read the routes")?;
    Ok(row.map_or_else(Default::default, |(version, Json(over))| (version.unsigned_abs(), over)))
}
