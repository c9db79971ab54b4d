//! The registry in an application's database: which capability opens which tenant's context.
//!
//! Capabilities and tickets travel as bind parameters and are hashed by the server's own function, the one that
//! `guardian.enter` compares with.

use guardian_model::{Capability, TenantKey, Ticket};
use sqlx::{AssertSqlSafe, PgConnection};

use crate::register::{Mechanism, REGISTER};

/// Why the registry could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// `apply` has not been here.
    #[error("the database has no registry of tenants yet; run `guardian apply`")]
    Missing,
    /// A statement failed.
    #[error("cannot {what} in the registry of tenants")]
    Query {
        /// What was to be done.
        what: &'static str,
        /// Why it was not.
        #[source]
        source: sqlx::Error,
    },
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> RegistryError {
    move |source| {
        let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
        // Undefined table, undefined schema, undefined function.
        if matches!(code.as_deref(), Some("42P01" | "3F000" | "42883")) {
            RegistryError::Missing
        } else {
            RegistryError::Query { what, source }
        }
    }
}

/// Lets the capability, and no other, enter the tenant.
pub async fn admit(connection: &mut PgConnection, key: &TenantKey, capability: &Capability) -> Result<(), RegistryError> {
    sqlx::query(
        "INSERT INTO guardian.capability (hash, register) VALUES (pg_catalog.sha256($1), $2) \
         ON CONFLICT (register) DO UPDATE SET hash = excluded.hash WHERE capability.hash <> excluded.hash",
    )
    .bind(&capability.expose()[..])
    .bind(key.to_register())
    .execute(connection)
    .await
    .map_err(failed("admit a tenant"))?;
    Ok(())
}

/// The same for many tenants, in one statement. No key may stand twice.
pub async fn admit_all(connection: &mut PgConnection, admitted: &[(TenantKey, Capability)]) -> Result<(), RegistryError> {
    let registers: Vec<String> = admitted.iter().map(|(key, _)| key.to_register()).collect();
    let capabilities: Vec<&[u8]> = admitted.iter().map(|(_, capability)| &capability.expose()[..]).collect();
    sqlx::query(
        "INSERT INTO guardian.capability (hash, register) \
         SELECT pg_catalog.sha256(given.capability), given.register \
         FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.bytea[]), pg_catalog.unnest($2::pg_catalog.text[])) \
           AS given (capability, register) \
         ON CONFLICT (register) DO UPDATE SET hash = excluded.hash WHERE capability.hash <> excluded.hash",
    )
    .bind(&capabilities)
    .bind(&registers)
    .execute(connection)
    .await
    .map_err(failed("admit tenants"))?;
    Ok(())
}

/// A capability that takes another one's place.
#[derive(Debug)]
pub struct Replacement {
    /// Whose.
    pub key: TenantKey,
    /// The one that enters until then.
    pub old: Capability,
    /// The one that does from then on.
    pub new: Capability,
}

/// For how long sessions that are in go on under a capability that was replaced, where policies look it up, in seconds.
const LEFTOVER_S: f64 = 300.0;

/// Lets the new capabilities enter, and the old ones no more; says how many were replaced. A tenant that its old capability
/// does not enter is left alone: it is shut, or was given the new one already.
pub async fn replace(connection: &mut PgConnection, replacements: &[Replacement]) -> Result<u64, RegistryError> {
    const GIVEN: &str = "ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.bytea[]), \
                         pg_catalog.unnest($3::pg_catalog.bytea[])) AS given (register, old, new)";
    let registers: Vec<String> = replacements.iter().map(|one| one.key.to_register()).collect();
    let old: Vec<&[u8]> = replacements.iter().map(|one| &one.old.expose()[..]).collect();
    let new: Vec<&[u8]> = replacements.iter().map(|one| &one.new.expose()[..]).collect();
    if mechanism(connection).await? == Some(Mechanism::CapabilityLookup) {
        let sql = format!(
            "INSERT INTO guardian.session (hash, register, expires_at) \
             SELECT c.hash, c.register, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $4) \
             FROM guardian.capability AS c, {GIVEN} \
             WHERE c.register = given.register AND c.hash = pg_catalog.sha256(given.old) AND given.new IS NOT NULL \
             ON CONFLICT (hash) DO NOTHING"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(&registers)
            .bind(&old)
            .bind(&new)
            .bind(LEFTOVER_S)
            .execute(&mut *connection)
            .await
            .map_err(failed("let sessions go on"))?;
    }
    let sql = format!(
        "UPDATE guardian.capability AS c SET hash = pg_catalog.sha256(given.new) FROM {GIVEN} \
         WHERE c.register = given.register AND c.hash = pg_catalog.sha256(given.old)"
    );
    let replaced = sqlx::query(AssertSqlSafe(sql)).bind(&registers).bind(&old).bind(&new).execute(connection).await;
    Ok(replaced.map_err(failed("replace capabilities"))?.rows_affected())
}

/// Lets these capabilities and no others enter those of the tenants that can be entered at all; says how many were not so.
pub async fn hold_to(connection: &mut PgConnection, capabilities: &[(TenantKey, Capability)]) -> Result<u64, RegistryError> {
    let registers: Vec<String> = capabilities.iter().map(|(key, _)| key.to_register()).collect();
    let wanted: Vec<&[u8]> = capabilities.iter().map(|(_, capability)| &capability.expose()[..]).collect();
    let held = sqlx::query(
        "UPDATE guardian.capability AS c SET hash = pg_catalog.sha256(given.capability) \
         FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.bytea[])) \
           AS given (register, capability) \
         WHERE c.register = given.register AND c.hash <> pg_catalog.sha256(given.capability)",
    )
    .bind(&registers)
    .bind(&wanted)
    .execute(connection)
    .await
    .map_err(failed("look at capabilities"))?;
    Ok(held.rows_affected())
}

/// Keeps everybody else from writing to the registry until the transaction ends, after those that write now.
pub async fn keep_others_out(transaction: &mut PgConnection) -> Result<(), RegistryError> {
    let locked = sqlx::query("LOCK TABLE guardian.capability IN SHARE ROW EXCLUSIVE MODE").execute(transaction).await;
    locked.map(drop).map_err(failed("wait for writers"))
}

/// Lets nobody enter the tenant any more; no error when nobody could. Sessions that are in stay in until they end.
pub async fn revoke(connection: &mut PgConnection, key: &TenantKey) -> Result<(), RegistryError> {
    let register = key.to_register();
    // `guardian.session` is there only under the capability lookup.
    let has_sessions: bool = sqlx::query_scalar("SELECT pg_catalog.to_regclass('guardian.session') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed("look for sessions"))?;
    let mut tables =
        vec!["DELETE FROM guardian.ticket WHERE register = $1", "DELETE FROM guardian.capability WHERE register = $1"];
    if has_sessions {
        tables.push("DELETE FROM guardian.session WHERE register = $1");
    }
    for table in tables {
        sqlx::query(table).bind(&register).execute(&mut *connection).await.map_err(failed("revoke a tenant"))?;
    }
    Ok(())
}

/// Lets the ticket enter the tenant once, within `valid_s` seconds. Forgets tickets that have expired.
pub async fn issue_ticket(
    connection: &mut PgConnection,
    key: &TenantKey,
    ticket: &Ticket,
    valid_s: u32,
) -> Result<(), RegistryError> {
    sqlx::query("DELETE FROM guardian.ticket WHERE expires_at <= pg_catalog.clock_timestamp()")
        .execute(&mut *connection)
        .await
        .map_err(failed("forget old tickets"))?;
    sqlx::query(
        "INSERT INTO guardian.ticket (hash, register, expires_at) \
         VALUES (pg_catalog.sha256($1), $2, pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => $3))",
    )
    .bind(&ticket.expose()[..])
    .bind(key.to_register())
    .bind(f64::from(valid_s))
    .execute(connection)
    .await
    .map_err(failed("issue a ticket"))?;
    Ok(())
}

/// What `apply` has installed; `None` before it ran.
pub async fn mechanism(connection: &mut PgConnection) -> Result<Option<Mechanism>, RegistryError> {
    let found: Option<(bool, bool)> = sqlx::query_as(
        "SELECT pg_catalog.strpos(p.prosrc, $1) > 0, r.rolsuper \
         FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_roles AS r ON r.oid = p.proowner \
           JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace \
         WHERE n.nspname = 'guardian' AND p.proname = 'enter' AND p.prosecdef",
    )
    .bind(REGISTER)
    .fetch_optional(connection)
    .await
    .map_err(failed("find the mechanism"))?;
    Ok(found.map(|found| match found {
        (true, true) => Mechanism::SuperuserFunction,
        (true, false) => Mechanism::GrantedRegister,
        (false, _) => Mechanism::CapabilityLookup,
    }))
}
