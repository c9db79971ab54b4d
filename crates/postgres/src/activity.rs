//! Who is connected.

use guardian_model::{observation::DirectSessions, placement::ApplicationRoles};
use jiff::Timestamp;
use sqlx::PgConnection;

/// Kinds of sessions at once.
const KINDS_MAX: i64 = 100;

/// Sessions in this database of the roles that an application being adopted used before: they do not come through the gateway,
/// which has a role of its own. By their names and addresses.
pub async fn sessions_past(
    connection: &mut PgConnection,
    roles: &ApplicationRoles,
) -> Result<Vec<DirectSessions>, sqlx::Error> {
    let found: Vec<(String, String, String, i64)> = sqlx::query_as(
        "SELECT a.usename::text, coalesce(a.application_name, ''), coalesce(pg_catalog.host(a.client_addr), ''),
             pg_catalog.count(*)
         FROM pg_catalog.pg_stat_activity a
         JOIN pg_catalog.pg_auth_members m ON m.roleid = a.usesysid
         JOIN pg_catalog.pg_roles r ON r.oid = m.member AND r.rolname = $1
         WHERE a.datname = pg_catalog.current_database() AND a.usename <> $2 AND a.pid <> pg_catalog.pg_backend_pid()
             AND a.backend_type = 'client backend'
         GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT $3",
    )
    .bind(&roles.adopt)
    .bind(&roles.app)
    .bind(KINDS_MAX)
    .fetch_all(connection)
    .await?;
    let last_seen = Timestamp::now();
    let sessions = found.into_iter().map(|(role, application_name, client_address, sessions)| DirectSessions {
        role,
        application_name,
        client_address,
        sessions: u32::try_from(sessions).unwrap_or(u32::MAX),
        last_seen,
    });
    Ok(sessions.collect())
}
