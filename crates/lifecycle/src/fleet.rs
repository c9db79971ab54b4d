//! The application's migrations, after a tenant was created: in the shared place, and in a place of a tenant's own.
//!
//! One place at a time; which ones, how many at once, and the record of the run are the caller's.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use guardian_model::{ClusterName, Place, Tenant};
use guardian_provision::{MAINTENANCE_DATABASE, Migrations, database, lock, schema};
use sqlx::{Connection as _, PgConnection};
use tokio::{sync::Mutex, time::sleep};

use crate::{
    Lifecycle, LifecycleError,
    step::{StepError, Steps},
};

/// How often a place is tried when what keeps it may pass: a lock that was not to be had in time, a server that restarts.
const ATTEMPTS_MAX: u32 = 5;
/// After the first attempt; twice as long after each further one.
const PAUSE: Duration = Duration::from_millis(250);

/// A database of a cluster.
type Door = (ClusterName, String);

/// One run's way through many places: the same files in all of them, and connections that go from place to place.
pub struct Fleet {
    steps: Arc<Steps>,
    files: Migrations,
    /// Databases with more than one place, to which connections are kept.
    crowded: HashSet<Door>,
    idle: Mutex<HashMap<Door, Vec<PgConnection>>>,
}

impl Lifecycle {
    /// The way through these places with these files.
    pub fn fleet<'p>(&self, files: Migrations, places: impl IntoIterator<Item = &'p Place>) -> Fleet {
        let (mut seen, mut crowded) = (HashSet::new(), HashSet::new());
        for place in places {
            if !seen.insert(door(place)) {
                crowded.insert(door(place));
            }
        }
        Fleet { steps: Arc::new(self.engine.steps.clone()), files, crowded, idle: Mutex::default() }
    }
}

impl Lifecycle {
    /// One call of [`Fleet::migrate_shared`] with the files as they are now.
    pub async fn migrate_shared(&self) -> Result<Vec<String>, LifecycleError> {
        self.fleet(self.files().await?, []).migrate_shared().await
    }

    /// One call of [`Fleet::migrate_tenant`] with the files as they are now.
    pub async fn migrate_tenant(&self, tenant: &Tenant) -> Result<Vec<String>, LifecycleError> {
        self.fleet(self.files().await?, []).migrate_tenant(tenant).await
    }

    async fn files(&self) -> Result<Migrations, LifecycleError> {
        Ok(self.engine.steps.read_migrations().await.map_err(StepError::from)?)
    }
}

fn door(place: &Place) -> Door {
    (place.cluster.clone(), place.database.clone())
}

impl Fleet {
    /// Brings the shared place to the newest migration and names the files that ran. Its database and schema are made when
    /// they are missing. What is new in it is out of the application's reach until it is hardened.
    pub async fn migrate_shared(&self) -> Result<Vec<String>, LifecycleError> {
        let mut patience = Patience::new();
        loop {
            match self.shared().await {
                Err(error) if patience.bears(&error).await => {}
                ended => return Ok(ended?),
            }
        }
    }

    /// Brings the place of a tenant's own to the newest migration, grants its role what is new, and names the files that
    /// ran. Takes turns with operations on the tenant.
    pub async fn migrate_tenant(&self, tenant: &Tenant) -> Result<Vec<String>, LifecycleError> {
        let mut patience = Patience::new();
        loop {
            match self.own(tenant).await {
                Err(error) if patience.bears(&error).await => {}
                ended => return Ok(ended?),
            }
        }
    }

    async fn shared(&self) -> Result<Vec<String>, StepError> {
        let steps = &self.steps;
        let place = steps.config.shared_place();
        let mut maintenance = steps.clusters.connect(&place.cluster, MAINTENANCE_DATABASE).await?;
        lock::hold(&mut maintenance, &format!("database {}", place.database)).await?;
        database::ensure_shared(&mut maintenance, &place.database).await?;
        maintenance.close().await.ok();
        let mut connection = steps.clusters.connect(&place.cluster, &place.database).await?;
        if place.schema != "public" {
            schema::ensure(&mut connection, &place.schema).await?;
        }
        let applied = steps.migrate_with(&mut connection, &place, &self.files).await?;
        connection.close().await.ok();
        Ok(applied)
    }

    async fn own(&self, tenant: &Tenant) -> Result<Vec<String>, StepError> {
        let (steps, place) = (&self.steps, &tenant.placement.place);
        let mut connection = self.take(place).await?;
        lock::hold(&mut connection, &tenant.id.to_string()).await?;
        let applied = steps.migrate_with(&mut connection, place, &self.files).await?;
        let key = steps.key(&tenant.key)?;
        steps.grant(&mut connection, place, &tenant.placement.role, &key).await?;
        self.give_back(place, connection).await?;
        Ok(applied)
    }

    /// A connection that another place of the same database is done with, or a new one.
    async fn take(&self, place: &Place) -> Result<PgConnection, StepError> {
        let idle = self.idle.lock().await.get_mut(&door(place)).and_then(Vec::pop);
        match idle {
            Some(connection) => Ok(connection),
            None => Ok(self.steps.clusters.connect(&place.cluster, &place.database).await?),
        }
    }

    /// Keeps a connection after a place that went through; one that did not is closed with whatever it holds.
    async fn give_back(&self, place: &Place, mut connection: PgConnection) -> Result<(), StepError> {
        if !self.crowded.contains(&door(place)) {
            connection.close().await.ok();
            return Ok(());
        }
        lock::release_all(&mut connection).await?;
        self.idle.lock().await.entry(door(place)).or_default().push(connection);
        Ok(())
    }
}

/// What is left of the attempts at one place.
pub(crate) struct Patience {
    attempts: u32,
    pause: Duration,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { attempts: ATTEMPTS_MAX, pause: PAUSE }
    }

    /// Whether to try again after this error; comes back when it is time to.
    pub(crate) async fn bears(&mut self, error: &StepError) -> bool {
        self.attempts -= 1;
        if self.attempts == 0 || !error.is_transient() {
            return false;
        }
        tracing::info!(%error, "a place is tried again");
        sleep(self.pause).await;
        self.pause *= 2;
        true
    }
}
