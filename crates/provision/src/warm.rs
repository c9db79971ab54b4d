//! Prepared databases: for each a tenant's id is drawn ahead, so that database and role bear the names that the tenant will
//! know them by, with the application's migrations and the role's rights inside, and the role has its password.
//!
//! What there is, the cluster says: a comment on the role, the *mark*. It names the application and the version, and is
//! taken off in the transaction that lets the role log in. So none is handed out twice, or after a tenant has been in it,
//! whatever the control database remembers; and the role comes first and goes last, so that nothing is left without a mark.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use guardian_model::{ClusterName, TenantId};
use guardian_postgres::{
    connect::Clusters,
    quote::{ident, literal},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    Migrations, database,
    error::{ProvisionError, execute, failed},
    lock,
    migrations::{self, MigrateError},
    role::{self, Bounds, POWERLESS},
};

/// Bytes of a digest that tell one application, or one version, from another: 2⁴⁸ values.
const DIGEST_BYTES: usize = 6;
/// Roles with a mark that begins with `$1`. Few roles have comments.
const MARKED: &str = "FROM pg_catalog.pg_roles r JOIN pg_catalog.pg_shdescription d \
     ON d.objoid = r.oid AND d.classoid = 'pg_catalog.pg_authid'::pg_catalog.regclass \
     WHERE pg_catalog.starts_with(d.description, $1)";

/// The prepared databases of one application at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// The application's digest.
    application: String,
    /// That of all that is in a prepared database.
    version: String,
}

/// What a look at a cluster's stock did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Restocked {
    /// Databases made, the template not counted.
    pub made: usize,
    /// Databases dropped: of an old version, half made, or too many.
    pub dropped: usize,
    /// Hand-outs finished that were cut off.
    pub finished: usize,
    /// Another process is at it.
    pub is_elsewhere: bool,
}

/// A database that bears a mark of the application's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// The tenant that it is meant for.
    pub id: TenantId,
    /// Whether it can be handed out: it is neither half made nor of another version.
    pub is_ready: bool,
}

/// One that can be handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// The tenant that it is meant for.
    pub id: TenantId,
    /// The role's password as sealed by the caller, in a word; the mark keeps it.
    pub sealed: String,
}

/// The stock could not be filled.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// The cluster refused.
    #[error(transparent)]
    Place(#[from] ProvisionError),
    /// The migrations do not go through in an empty database.
    #[error("cannot make the template: {0}")]
    Migrate(#[from] MigrateError),
}

fn short(digest: &digest::Digest) -> String {
    digest.as_ref().iter().take(DIGEST_BYTES).fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Warm {
    /// Those of an application at these migrations; `more` is whatever else decides what is in a prepared database.
    pub fn new(application: &str, migrations: &Migrations, more: &str) -> Self {
        let mut version = digest::Context::new(&digest::SHA256);
        for file in migrations.files() {
            version.update(file.name.as_bytes());
            version.update(&[0]);
            version.update(&file.checksum);
        }
        version.update(more.as_bytes());
        Self {
            application: short(&digest::digest(&digest::SHA256, application.as_bytes())),
            version: short(&version.finish()),
        }
    }

    /// What the names of the application's templates begin with, whatever their version.
    pub fn names(&self) -> String {
        format!("guardian_{}_", self.application)
    }

    fn template(&self) -> String {
        format!("{}{}_template", self.names(), self.version)
    }

    /// What every mark of the application's begins with.
    pub fn marks(&self) -> String {
        format!("guardian {} ", self.application)
    }

    fn half_made(&self) -> String {
        format!("{}in the making", self.marks())
    }

    /// What the marks begin with of those that can be handed out; the rest is the sealed password.
    fn ready(&self) -> String {
        format!("{}prepared {} ", self.marks(), self.version)
    }

    /// How many wait on the connection's cluster.
    pub async fn count(&self, connection: &mut PgConnection) -> Result<usize, ProvisionError> {
        Ok(self.look(connection, i64::MAX).await?.len())
    }

    /// Some that can be handed out, in no order.
    pub async fn look(&self, connection: &mut PgConnection, limit: i64) -> Result<Vec<Ready>, ProvisionError> {
        let rows: Vec<(String, String)> = sqlx::query_as(AssertSqlSafe(format!(
            "SELECT r.rolname::text, d.description {MARKED} AND NOT r.rolcanlogin ORDER BY pg_catalog.random() LIMIT $2"
        )))
        .bind(self.ready())
        .bind(limit)
        .fetch_all(connection)
        .await
        .map_err(failed("look for", "prepared databases"))?;
        let ready = rows.iter().filter_map(|(name, mark)| {
            let sealed = mark.strip_prefix(&self.ready())?;
            Some(Ready { id: name.parse().ok()?, sealed: sealed.to_owned() })
        });
        Ok(ready.collect())
    }

    fn mark_of(&self, ready: &Ready) -> String {
        self.ready() + &ready.sealed
    }

    /// Everything that bears a mark of the application's, the oldest first.
    pub async fn marked(&self, connection: &mut PgConnection) -> Result<Vec<Prepared>, ProvisionError> {
        let rows: Vec<(String, String)> =
            sqlx::query_as(AssertSqlSafe(format!("SELECT r.rolname::text, d.description {MARKED} ORDER BY 1")))
                .bind(self.marks())
                .fetch_all(connection)
                .await
                .map_err(failed("look for", "prepared databases"))?;
        let prepared = rows
            .iter()
            .filter_map(|(name, mark)| Some(Prepared { id: name.parse().ok()?, is_ready: mark.starts_with(&self.ready()) }));
        Ok(prepared.collect())
    }

    /// Keeps everybody else from a prepared database until the transaction ends that the connection is in. `false`: it is
    /// not to be had any more.
    pub async fn reserve(&self, transaction: &mut PgConnection, ready: &Ready) -> Result<bool, ProvisionError> {
        self.reserve_marked(transaction, ready.id, &self.mark_of(ready)).await
    }

    /// The same for one with any mark: what is inside, and the password, is the caller's to see to.
    pub async fn reserve_any(&self, transaction: &mut PgConnection, id: TenantId) -> Result<bool, ProvisionError> {
        self.reserve_marked(transaction, id, &self.marks()).await
    }

    async fn reserve_marked(
        &self,
        transaction: &mut PgConnection,
        id: TenantId,
        mark: &str,
    ) -> Result<bool, ProvisionError> {
        let name = id.to_string();
        Ok(lock::try_hold_in_transaction(&mut *transaction, &name).await?
            && self.is_marked(transaction, &name, mark, true).await?)
    }

    /// Hands a reserved database out, in the same transaction: the role gets its bounds, may log in, and loses the mark. A
    /// `verifier` is of a password other than the one that the mark keeps; checking it takes the server milliseconds. The
    /// commit will not wait for the disk.
    pub async fn hand_out(
        &self,
        transaction: &mut PgConnection,
        id: TenantId,
        verifier: Option<&str>,
        bounds: Bounds<'_>,
    ) -> Result<(), ProvisionError> {
        let name = id.to_string();
        let (role, settings) = (ident(&name), role::settings(&ident(&name), bounds));
        let password = verifier.map(|verifier| format!(" PASSWORD {}", literal(verifier))).unwrap_or_default();
        // Nothing that the tenant commits can reach the disk before this does. Should it be lost, the mark is back, the
        // tenant is known to be active, and the next look hands the database out to it again.
        let sql = format!(
            "SET LOCAL synchronous_commit = off; ALTER ROLE {role} LOGIN{password}; {settings}; COMMENT ON ROLE {role} IS NULL"
        );
        execute(transaction, "hand out database", &name, sql).await
    }

    /// Takes a database out of the stock that is about to be made to fit one tenant: should it not get there, it is dropped.
    pub async fn withdraw(&self, connection: &mut PgConnection, id: TenantId) -> Result<(), ProvisionError> {
        let name = id.to_string();
        let sql = format!("COMMENT ON ROLE {} IS {}", ident(&name), literal(&self.half_made()));
        execute(connection, "mark database", &name, sql).await
    }

    /// Whether a role bears a mark that begins so and, where that matters, has its database.
    async fn is_marked(
        &self,
        connection: &mut PgConnection,
        name: &str,
        mark: &str,
        with_database: bool,
    ) -> Result<bool, ProvisionError> {
        sqlx::query_scalar(AssertSqlSafe(format!(
            "SELECT EXISTS (SELECT {MARKED} AND r.rolname = $2) \
             AND (NOT $3 OR EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $2))"
        )))
        .bind(mark)
        .bind(name)
        .bind(with_database)
        .fetch_one(connection)
        .await
        .map_err(failed("look for the mark of", name))
    }

    /// Makes a tenant's database in the quickest way there is without the stock: a copy of the template, or where there is
    /// none an empty one, in which the migrations have to run.
    pub async fn ensure(&self, connection: &mut PgConnection, database: &str) -> Result<(), ProvisionError> {
        let template = self.template();
        if database::is_there(connection, database).await? || !database::is_there(connection, &template).await? {
            return database::ensure(connection, database).await;
        }
        match database::ensure_from(connection, database, &template).await {
            // It was dropped meanwhile, because there is a newer one.
            Err(error) if is_taken(&error) => database::ensure(connection, database).await,
            ended => ended,
        }
    }

    /// Takes the lock that makes this session the only one to change the stock; says whether it did.
    pub async fn try_hold(&self, connection: &mut PgConnection) -> Result<bool, ProvisionError> {
        lock::try_hold(connection, &format!("prepared databases {}", self.names())).await
    }

    /// Drops what was marked, unless it has been handed out or is being handed out just now; says whether it did. This and
    /// the calls below are for whoever holds the lock.
    pub async fn discard(
        &self,
        clusters: &Clusters,
        cluster: &ClusterName,
        connection: &mut PgConnection,
        id: TenantId,
    ) -> Result<bool, ProvisionError> {
        let name = id.to_string();
        if !lock::try_hold(connection, &name).await? {
            return Ok(false);
        }
        let is_ours = self.is_marked(connection, &name, &self.marks(), false).await?;
        if is_ours {
            database::remove(connection, &name).await?;
            role::remove(clusters, cluster, connection, &name).await?;
        }
        lock::release(connection, &name).await?;
        Ok(is_ours)
    }

    /// Drops the application's templates of other versions, half made ones, and what earlier Guardians kept under such names.
    pub async fn drop_old_templates(&self, connection: &mut PgConnection) -> Result<(), ProvisionError> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT datname::text FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname::text, $1) AND datname <> $2",
        )
        .bind(self.names())
        .bind(self.template())
        .fetch_all(&mut *connection)
        .await
        .map_err(failed("look for", "templates"))?;
        for name in &names {
            database::remove(connection, name).await?;
        }
        Ok(())
    }

    /// Makes the template where it is missing, under a name that means nothing; the last step gives it its own.
    /// `migrations` must be those of [`Warm::new`].
    pub async fn ensure_template(
        &self,
        clusters: &Clusters,
        cluster: &ClusterName,
        connection: &mut PgConnection,
        migrations: &Migrations,
    ) -> Result<(), WarmError> {
        if database::is_there(connection, &self.template()).await? {
            return Ok(());
        }
        let making = format!("{}making_{}", self.names(), Uuid::now_v7().simple());
        database::ensure(connection, &making).await?;
        let mut inside = clusters.connect(cluster, &making).await.map_err(ProvisionError::from)?;
        let applied = migrations::apply(&mut inside, "public", migrations).await;
        inside.close().await.ok();
        if let Err(error) = applied {
            database::remove(connection, &making).await?;
            return Err(error.into());
        }
        let (from, to) = (ident(&making), ident(&self.template()));
        let sql = format!("ALTER DATABASE {from} ALLOW_CONNECTIONS false; ALTER DATABASE {from} RENAME TO {to}");
        Ok(execute(connection, "finish database", &making, sql).await?)
    }

    /// Begins a prepared database: the role, marked as half made, that can neither log in nor has a password, and the copy.
    pub async fn begin(&self, connection: &mut PgConnection, id: TenantId) -> Result<(), ProvisionError> {
        let name = id.to_string();
        let role = ident(&name);
        let adopt = role::adopt(connection, &role).await?;
        let mark = literal(&self.half_made());
        let sql = format!("CREATE ROLE {role} NOLOGIN NOINHERIT {POWERLESS}; COMMENT ON ROLE {role} IS {mark}{adopt}");
        execute(connection, "create role", &name, sql).await?;
        database::ensure_from(connection, &name, &self.template()).await
    }

    /// Gives the role its password, and marks the database as ready, with that password as sealed by the caller.
    pub async fn complete(
        &self,
        connection: &mut PgConnection,
        ready: &Ready,
        verifier: &str,
    ) -> Result<(), ProvisionError> {
        let name = ready.id.to_string();
        let (role, mark) = (ident(&name), literal(&self.mark_of(ready)));
        let sql = format!("ALTER ROLE {role} PASSWORD {}; COMMENT ON ROLE {role} IS {mark}", literal(verifier));
        execute(connection, "mark database", &name, sql).await
    }
}

/// Whether the database is gone, or has a session in it.
fn is_taken(error: &ProvisionError) -> bool {
    let ProvisionError::Statement { source, .. } = error else { return false };
    let code = source.as_database_error().and_then(sqlx::error::DatabaseError::code);
    matches!(code.as_deref(), Some("3D000" | "55006"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warm(application: &str, files: &[(&str, &str)], more: &str) -> Warm {
        let files = files.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned()));
        Warm::new(application, &Migrations::parse(files).unwrap(), more)
    }

    #[test]
    fn names_and_marks_tell_applications_and_versions_apart() {
        let one = warm("shop", &[("0001_a.sql", "SELECT 1;")], "");
        assert_eq!(one, warm("shop", &[("0001_a.sql", "SELECT 1;")], ""));
        let others = [
            warm("shop", &[("0001_a.sql", "SELECT 2;")], ""),
            warm("shop", &[("0001_b.sql", "SELECT 1;")], ""),
            warm("shop", &[("0001_a.sql", "SELECT 1;"), ("0002_b.sql", "SELECT 1;")], ""),
            warm("shop", &[], ""),
            warm("shop", &[("0001_a.sql", "SELECT 1;")], "other grants"),
            warm("shop_", &[("0001_a.sql", "SELECT 1;")], ""),
        ];
        for other in others {
            assert_ne!(one.template(), other.template());
            assert!(!other.ready().starts_with(&one.ready()));
        }
        assert!(one.ready().starts_with(&one.marks()) && one.half_made().starts_with(&one.marks()));
        assert!(!one.half_made().starts_with(&one.ready()));
        assert!(one.template().len() < 64 && one.names().len() + "making_".len() + 32 < 64);
    }
}
