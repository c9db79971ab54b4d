//! Prepared databases: a template that holds the application's migrations, and closed copies of it that wait for a tenant.
//!
//! There is no record of them but their names on the cluster. Handing one out is a rename, which PostgreSQL does once or not
//! at all: no database goes to two tenants, and a process killed at any instant leaves nothing to be made up for. The version
//! of the migrations is part of each name, so that none of an old version is taken.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use guardian_model::ClusterName;
use guardian_postgres::{connect::Clusters, quote::ident};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    MAINTENANCE_DATABASE, Migrations, database,
    error::{ProvisionError, execute, failed},
    lock,
    migrations::{self, MigrateError},
};

/// Bytes of a digest that tell one application, or one state of its migrations, from another: 2⁴⁸ values.
const DIGEST_BYTES: usize = 6;
/// How many are tried when others take the same ones at the same time.
const TRIES: i64 = 8;

/// The prepared databases of one application at one version of its migrations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warm {
    /// What every name of the application's begins with.
    application: String,
    /// What those of this version go on with.
    version: String,
}

/// What a look at a cluster's stock did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Restocked {
    /// Databases made, the template not counted.
    pub made: usize,
    /// Databases dropped: of an old version, half made, or too many.
    pub dropped: usize,
    /// Another process is at it.
    pub is_elsewhere: bool,
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
    /// Those of an application at these migrations.
    pub fn new(application: &str, migrations: &Migrations) -> Self {
        let mut files = digest::Context::new(&digest::SHA256);
        for file in migrations.files() {
            files.update(file.name.as_bytes());
            files.update(&[0]);
            files.update(&file.checksum);
        }
        let application = short(&digest::digest(&digest::SHA256, application.as_bytes()));
        Self { application: format!("guardian_{application}_"), version: format!("{}_", short(&files.finish())) }
    }

    /// What the names of all databases that are kept for the application begin with, whatever their version.
    pub fn names(&self) -> &str {
        &self.application
    }

    fn template(&self) -> String {
        format!("{}{}template", self.application, self.version)
    }

    /// What the names of those that can be handed out begin with.
    fn ready(&self) -> String {
        format!("{}{}warm_", self.application, self.version)
    }

    fn making(&self) -> String {
        format!("{}making_{}", self.application, Uuid::now_v7().simple())
    }

    /// How many wait on the connection's cluster.
    pub async fn count(&self, connection: &mut PgConnection) -> Result<usize, ProvisionError> {
        Ok(self.stock(connection, i64::MAX).await?.len())
    }

    async fn stock(&self, connection: &mut PgConnection, limit: i64) -> Result<Vec<String>, ProvisionError> {
        sqlx::query_scalar(
            "SELECT datname::text FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname::text, $1) \
             ORDER BY pg_catalog.random() LIMIT $2",
        )
        .bind(self.ready())
        .bind(limit)
        .fetch_all(connection)
        .await
        .map_err(failed("look for", "prepared databases"))
    }

    /// Makes a tenant's database in the quickest way there is: a prepared one is renamed, else the template is copied, else
    /// it is made empty, and the migrations have to run in it. The connection is to [`MAINTENANCE_DATABASE`].
    pub async fn ensure(&self, connection: &mut PgConnection, database: &str) -> Result<(), ProvisionError> {
        if database::is_there(connection, database).await? {
            return database::ensure(connection, database).await;
        }
        for ready in self.stock(connection, TRIES).await? {
            match rename(connection, &ready, database).await {
                Ok(()) => return Ok(()),
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(error),
            }
        }
        let template = self.template();
        if !database::is_there(connection, &template).await? {
            return database::ensure(connection, database).await;
        }
        match database::ensure_from(connection, database, &template).await {
            // It was dropped meanwhile, because there is a newer one.
            Err(error) if is_taken(&error) => database::ensure(connection, database).await,
            ended => ended,
        }
    }

    /// Brings a cluster's stock to `wanted`: drops what is half made or of another version, and makes what is missing. One
    /// process at a time does; `migrations` must be those of [`Warm::new`].
    pub async fn restock(
        &self,
        clusters: &Clusters,
        cluster: &ClusterName,
        migrations: &Migrations,
        wanted: usize,
    ) -> Result<Restocked, WarmError> {
        let mut connection = clusters.connect(cluster, MAINTENANCE_DATABASE).await.map_err(ProvisionError::from)?;
        let mut restocked = Restocked::default();
        if lock::try_hold(&mut connection, &format!("prepared databases {}", self.application)).await? {
            let mut stock = Shelf { warm: self, clusters, cluster, connection: &mut connection };
            restocked.dropped = stock.clear(wanted).await?;
            restocked.made = stock.fill(migrations, wanted).await?;
        } else {
            restocked.is_elsewhere = true;
        }
        connection.close().await.ok();
        Ok(restocked)
    }
}

/// A cluster's stock in the hands of the one process that may change it.
struct Shelf<'a> {
    warm: &'a Warm,
    clusters: &'a Clusters,
    cluster: &'a ClusterName,
    connection: &'a mut PgConnection,
}

impl Shelf<'_> {
    async fn clear(&mut self, wanted: usize) -> Result<usize, ProvisionError> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT datname::text FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname::text, $1) ORDER BY 1",
        )
        .bind(&self.warm.application)
        .fetch_all(&mut *self.connection)
        .await
        .map_err(failed("look for", "prepared databases"))?;
        let (template, ready) = (self.warm.template(), self.warm.ready());
        let (kept, mut dropped): (Vec<_>, Vec<_>) =
            names.into_iter().partition(|name| *name == template || name.starts_with(&ready));
        let surplus = kept.iter().filter(|name| **name != template).skip(wanted);
        dropped.extend(surplus.cloned());
        for name in &dropped {
            database::remove(self.connection, name).await?;
        }
        Ok(dropped.len())
    }

    async fn fill(&mut self, migrations: &Migrations, wanted: usize) -> Result<usize, WarmError> {
        if !database::is_there(self.connection, &self.warm.template()).await? {
            self.make_template(migrations).await?;
        }
        let missing = wanted.saturating_sub(self.warm.count(self.connection).await?);
        for _ in 0..missing {
            self.make_copy().await?;
        }
        Ok(missing)
    }

    /// Everything is done under a name that means nothing; the last step gives it its own.
    async fn make_template(&mut self, migrations: &Migrations) -> Result<(), WarmError> {
        let making = self.warm.making();
        database::ensure(self.connection, &making).await?;
        let mut inside = self.clusters.connect(self.cluster, &making).await.map_err(ProvisionError::from)?;
        let applied = migrations::apply(&mut inside, "public", migrations).await;
        inside.close().await.ok();
        if let Err(error) = applied {
            database::remove(self.connection, &making).await?;
            return Err(error.into());
        }
        let shut = format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", ident(&making));
        execute(self.connection, "shut database", &making, shut).await?;
        Ok(rename(self.connection, &making, &self.warm.template()).await?)
    }

    async fn make_copy(&mut self) -> Result<(), ProvisionError> {
        let making = self.warm.making();
        database::ensure_from(self.connection, &making, &self.warm.template()).await?;
        // The first session of a database writes its cache of catalogs, which would otherwise be the tenant's to wait for.
        let inside = self.clusters.connect(self.cluster, &making).await?;
        inside.close().await.ok();
        // The end of such an id is random.
        let ready = format!("{}{}", self.warm.ready(), &Uuid::now_v7().simple().to_string()[20..]);
        rename(self.connection, &making, &ready).await
    }
}

async fn rename(connection: &mut PgConnection, from: &str, to: &str) -> Result<(), ProvisionError> {
    let sql = format!("ALTER DATABASE {} RENAME TO {}", ident(from), ident(to));
    execute(connection, "rename database", from, sql).await
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

    fn warm(application: &str, files: &[(&str, &str)]) -> Warm {
        let files = files.iter().map(|(name, sql)| ((*name).to_owned(), (*sql).to_owned()));
        Warm::new(application, &Migrations::parse(files).unwrap())
    }

    #[test]
    fn names_tell_applications_and_versions_apart_and_fit() {
        let one = warm("shop", &[("0001_a.sql", "SELECT 1;")]);
        assert_eq!(one, warm("shop", &[("0001_a.sql", "SELECT 1;")]));
        let others = [
            warm("shop", &[("0001_a.sql", "SELECT 2;")]),
            warm("shop", &[("0001_b.sql", "SELECT 1;")]),
            warm("shop", &[("0001_a.sql", "SELECT 1;"), ("0002_b.sql", "SELECT 1;")]),
            warm("shop", &[]),
            warm("shop_", &[("0001_a.sql", "SELECT 1;")]),
        ];
        for other in others {
            assert_ne!(one.template(), other.template());
            assert!(!other.ready().starts_with(&one.ready()));
        }
        assert!(one.making().len() < 64 && one.ready().len() + 12 < 64);
    }
}
