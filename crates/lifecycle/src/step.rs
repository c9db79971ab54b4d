//! What each step does, and how it is taken back: the only place where plans meet the world.
//!
//! Applying means *ensure* and undoing takes absence for success (`guardian-provision`), so that both may be repeated. All but
//! the one step of `row` tenants act under the tenant's lock: see [`crate::grip`].

use std::{any::Any, path::PathBuf, sync::Arc};

use guardian_model::{Config, Limits, Place, Step, Tenant, TenantKey, TierName, key::KeyError, placement::migrator_of};
use guardian_postgres::{
    CollectError, Declaration, collect_place,
    connect::{Clusters, ConnectError},
    grant_place,
    registry::RegistryError,
    scram,
};
use guardian_provision::{
    MAINTENANCE_DATABASE, Migrations, ProvisionError, database,
    error::{connect_is_transient, describe, is_transient},
    lock,
    migrations::{self, MigrateError, ReadError},
    migrator,
    role::{self, Bounds},
    schema, ticket,
    warm::WarmError,
};
use guardian_store::{ClaimError, IssuedTicket, Store, StoreError};
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::Notify;

use crate::{grip::Grip, tool};

/// What a step that did not fail says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The next step may begin.
    Done,
    /// Not before this instant.
    Wait { until: Timestamp },
}

/// Why a step did not go through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error("in {place}: {source}")]
    Migrate { place: String, source: Box<MigrateError> },
    #[error(transparent)]
    Warm(#[from] WarmError),
    #[error("cannot read the migrations: {0}")]
    Folder(#[from] ReadError),
    #[error("cannot use the registry of tenants in {place}: {}", describe(source))]
    Registry { place: String, source: sqlx::Error },
    #[error("{}", described(.0))]
    Hardened(#[from] RegistryError),
    #[error("cannot see what is in {place}: {}", described(source))]
    Look { place: String, source: CollectError },
    #[error("cannot grant the tenant's role what it needs of {object} in {place}: {}", describe(source))]
    Grant { object: String, place: String, source: sqlx::Error },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("the tenant's {0} is not in the store")]
    SecretMissing(&'static str),
    #[error("there is no tier `{0}` any more")]
    TierMissing(TierName),
    #[error("{}", described(.0))]
    Store(#[from] StoreError),
    #[error("a bug in Guardian: the step panicked: {0}; please report it")]
    Panic(String),
    #[error("the step was begun {0} times, and each time the process was gone before it ended; does it kill Guardian?")]
    Lethal(u32),
    #[error("the import is in other hands")]
    Overtaken,
    #[error("the run is in other hands")]
    Replaced,
    /// The claim, not the step, failed.
    #[error(transparent)]
    Lost(ClaimError),
}

/// An error with what lies under it: an operation keeps one text.
fn described(error: &dyn std::error::Error) -> String {
    match error.source().map(|source| (source, source.downcast_ref())) {
        None => error.to_string(),
        Some((_, Some(driver))) => format!("{error}: {}", describe(driver)),
        Some((source, None)) => format!("{error}: {}", described(source)),
    }
}

/// The driver's error at the bottom of another.
fn driver(error: &dyn std::error::Error) -> Option<&sqlx::Error> {
    let source = error.source()?;
    source.downcast_ref().or_else(|| driver(source))
}

impl StepError {
    /// Whether trying again may help without anybody mending anything.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Connect(error) => connect_is_transient(error),
            Self::Provision(error) | Self::Warm(WarmError::Place(error)) => error.is_transient(),
            Self::Migrate { source, .. } => source.is_transient(),
            Self::Warm(WarmError::Migrate(error)) => error.is_transient(),
            Self::Registry { source, .. } | Self::Grant { source, .. } => is_transient(source),
            Self::Hardened(error) => driver(error).is_some_and(is_transient),
            Self::Look { source, .. } => driver(source).is_some_and(is_transient),
            Self::Store(StoreError::Database { .. }) => true,
            Self::Folder(_)
            | Self::Key(_)
            | Self::SecretMissing(_)
            | Self::Overtaken
            | Self::Replaced
            | Self::TierMissing(_)
            | Self::Store(_)
            | Self::Panic(_)
            | Self::Lethal(_)
            | Self::Lost(_) => false,
        }
    }

    /// Whether going on, in either direction, may do more harm: a person has to look first.
    pub(crate) const fn is_bug(&self) -> bool {
        matches!(self, Self::Panic(_) | Self::Lethal(_))
    }

    pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        Self::Panic(text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
    }
}

/// Carries steps out.
#[derive(Clone)]
pub(crate) struct Steps {
    pub(crate) clusters: Clusters,
    pub(crate) store: Store,
    pub(crate) config: Arc<Config>,
    /// The folder of the application's migrations.
    pub(crate) migrations: Option<PathBuf>,
    /// Wakes who keeps prepared databases in stock: one was taken.
    pub(crate) taken: Arc<Notify>,
}

impl Steps {
    /// Brings about what the step says.
    pub(crate) async fn apply(&self, step: &Step, grip: &Grip<'_>) -> Result<Progress, StepError> {
        match step {
            Step::ReachCluster { place } => {
                grip.seize(&place.cluster, MAINTENANCE_DATABASE).await?;
            }
            Step::AdmitCapability { place, key } => self.admit(place, key, grip).await?,
            Step::RevokeCapability { place, key } => self.revoke(place, key, grip).await?,
            Step::EnsureRole { place, role } => self.ensure_role(place, role, grip).await?,
            Step::EnsureSchema { place } => {
                let mut connection = grip.seize(&place.cluster, &place.database).await?;
                schema::ensure(&mut connection, &place.schema).await?;
            }
            Step::EnsureDatabase { place } => {
                let mut maintenance = grip.seize(&place.cluster, MAINTENANCE_DATABASE).await?;
                self.ensure_database(&mut maintenance, &place.cluster, &place.database).await?;
            }
            Step::Migrate { place } => {
                let mut connection = grip.seize(&place.cluster, &place.database).await?;
                self.migrate(&mut connection, place).await?;
            }
            Step::GrantPlace { place, role, key } => {
                let mut connection = grip.seize(&place.cluster, &place.database).await?;
                self.grant(&mut connection, place, role, &self.key(key)?).await?;
            }
            Step::AllowLogin { place, role } => self.allow_login(place, role, grip).await?,
            Step::DenyLogin { place, role } => self.deny_login(place, role, grip).await?,
            Step::AwaitGrace { until } if *until > Timestamp::now() => return Ok(Progress::Wait { until: *until }),
            Step::AwaitGrace { .. } => {}
            Step::DeleteRows { place, key } => self.delete_rows(place, key, grip).await?,
            Step::DropSchema { place } => self.drop_schema(place, grip).await?,
            Step::DropDatabase { place } => self.drop_database(place, grip).await?,
            Step::DropRole { place, role } => self.drop_role(place, role, grip).await?,
            Step::ForgetSecrets => grip.store.forget_secrets(grip.claim).await.map_err(StepError::Lost)?,
        }
        Ok(Progress::Done)
    }

    /// Takes back what applying the step brought about, wholly, partly or not at all.
    pub(crate) async fn undo(&self, step: &Step, grip: &Grip<'_>) -> Result<(), StepError> {
        match step {
            Step::AdmitCapability { place, key } => self.revoke(place, key, grip).await,
            Step::RevokeCapability { place, key } => self.readmit(place, key, grip).await,
            Step::EnsureRole { place, role } => self.drop_role(place, role, grip).await,
            Step::EnsureSchema { place } => self.drop_schema(place, grip).await,
            Step::EnsureDatabase { place } => self.drop_database(place, grip).await,
            Step::GrantPlace { place, role, .. } => match grip.seize_if_there(place).await? {
                Some(mut connection) => Ok(role::disown(&mut connection, role).await?),
                None => Ok(()),
            },
            Step::AllowLogin { place, role } => self.deny_login(place, role, grip).await,
            Step::DenyLogin { place, role } => self.allow_login(place, role, grip).await,
            Step::ReachCluster { .. } | Step::Migrate { .. } | Step::AwaitGrace { .. } => Ok(()),
            Step::DeleteRows { .. }
            | Step::DropSchema { .. }
            | Step::DropDatabase { .. }
            | Step::DropRole { .. }
            | Step::ForgetSecrets => {
                unreachable!("`Plan::is_reversible_at` keeps a plan from turning back at an irreversible step")
            }
        }
    }

    /// Runs the application's migrations in a place.
    pub(crate) async fn migrate(&self, connection: &mut PgConnection, place: &Place) -> Result<Vec<String>, StepError> {
        self.migrate_with(connection, place, &self.read_migrations().await?).await
    }

    /// Runs these migrations in a place.
    pub(crate) async fn migrate_with(
        &self,
        connection: &mut PgConnection,
        place: &Place,
        migrations: &Migrations,
    ) -> Result<Vec<String>, StepError> {
        let applied = migrations::apply(connection, &place.schema, migrations).await;
        applied.map_err(|source| StepError::Migrate { place: place.to_string(), source: source.into() })
    }

    /// Gives a tenant's role what it needs in the place, and no more.
    pub(crate) async fn grant(
        &self,
        connection: &mut PgConnection,
        place: &Place,
        role: &str,
        key: &TenantKey,
    ) -> Result<(), StepError> {
        let declaration = Declaration::from(self.config.as_ref());
        let failed = |object: &str| {
            let object = object.to_owned();
            move |source| StepError::Grant { object, place: place.to_string(), source }
        };
        let facts = collect_place(connection, &declaration, &place.schema, role).await;
        let facts = facts.map_err(|source| StepError::Look { place: place.to_string(), source })?;
        // One message: there are a few for each table, and a journey for each would take longer than they do.
        let statements: Vec<_> = grant_place(&facts, &declaration, key).into_iter().map(|grant| grant.sql).collect();
        if statements.is_empty() {
            return Ok(());
        }
        let mut transaction = connection.begin().await.map_err(failed(&place.schema))?;
        // Grants on the database itself change one catalog row, which two sessions may not do at once.
        lock::hold_in_transaction(&mut transaction, &format!("database {}", place.database)).await?;
        let statements = sqlx::raw_sql(AssertSqlSafe(statements.join(";\n")));
        statements.execute(&mut *transaction).await.map_err(failed(&place.schema))?;
        transaction.commit().await.map_err(failed(&place.schema))
    }

    /// The application's migrations as they are now: `up` runs for months, and files are added meanwhile.
    pub(crate) async fn read_migrations(&self) -> Result<Migrations, ReadError> {
        let Some(folder) = self.migrations.clone() else { return Ok(Migrations::default()) };
        let read = tokio::task::spawn_blocking(move || Migrations::read(&folder)).await;
        read.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    pub(crate) fn key(&self, key: &str) -> Result<TenantKey, KeyError> {
        TenantKey::parse(self.config.application.tenant_key, key)
    }

    async fn ensure_role(&self, place: &Place, role: &str, grip: &Grip<'_>) -> Result<(), StepError> {
        let tenant = &grip.claim.tenant;
        let limits = self.limits(tenant).await?;
        let secrets = self.store.secrets(tenant.id).await?;
        let password = secrets.password.ok_or(StepError::SecretMissing("password"))?;
        let mut connection = grip.seize(&place.cluster, MAINTENANCE_DATABASE).await?;
        let bounds = Bounds { limits: &limits, schema: &place.schema };
        Ok(role::ensure(&mut connection, role, &scram::verifier(&password), bounds).await?)
    }

    /// What the tenant's tier and its own limits hold its role to.
    pub(crate) async fn limits(&self, tenant: &Tenant) -> Result<Limits, StepError> {
        let tier = self.store.tier(&tenant.tier).await?.ok_or_else(|| StepError::TierMissing(tenant.tier.clone()))?;
        Ok(tier.limits.with(&tenant.limits))
    }

    async fn allow_login(&self, place: &Place, role: &str, grip: &Grip<'_>) -> Result<(), StepError> {
        let mut connection = grip.seize(&place.cluster, MAINTENANCE_DATABASE).await?;
        Ok(role::allow_login(&mut connection, role).await?)
    }

    async fn deny_login(&self, place: &Place, role: &str, grip: &Grip<'_>) -> Result<(), StepError> {
        let mut connection = grip.seize(&place.cluster, MAINTENANCE_DATABASE).await?;
        role::deny_login(&mut connection, role).await?;
        self.end_tickets(&mut connection, grip).await
    }

    /// Ends the tenant's tickets: their roles inherit its rights whether or not its own role may log in. Whoever is at work with a
    /// migration tool in its place is ended as well.
    pub(crate) async fn end_tickets(&self, connection: &mut PgConnection, grip: &Grip<'_>) -> Result<(), StepError> {
        for IssuedTicket { id, role, .. } in self.store.tenant_tickets(grip.claim.tenant.id).await? {
            ticket::end(&self.clusters, &grip.claim.tenant.placement.place.cluster, connection, &role).await?;
            self.store.forget_ticket(id).await?;
        }
        self.end_tools(grip).await
    }

    async fn end_tools(&self, grip: &Grip<'_>) -> Result<(), StepError> {
        for login in self.store.tenant_tool_logins(grip.claim.tenant.id).await? {
            tool::end(self, &login, "its tenant was shut").await?;
        }
        Ok(())
    }

    async fn drop_schema(&self, place: &Place, grip: &Grip<'_>) -> Result<(), StepError> {
        // A tool at work would keep its tables locked.
        self.end_tools(grip).await?;
        match grip.seize_if_there(place).await? {
            Some(mut connection) => Ok(schema::remove(&mut connection, &place.schema).await?),
            None => Ok(()),
        }
    }

    async fn drop_database(&self, place: &Place, grip: &Grip<'_>) -> Result<(), StepError> {
        let mut connection = grip.seize(&place.cluster, MAINTENANCE_DATABASE).await?;
        self.end_tools(grip).await?;
        grip.hands.release(&place.cluster, &place.database);
        self.clusters.forget(&place.cluster, &place.database).await;
        Ok(database::remove(&mut connection, &place.database).await?)
    }

    async fn drop_role(&self, place: &Place, role: &str, grip: &Grip<'_>) -> Result<(), StepError> {
        let mut connection = grip.seize(&place.cluster, MAINTENANCE_DATABASE).await?;
        self.end_tickets(&mut connection, grip).await?;
        migrator::remove(&self.clusters, &place.cluster, &mut connection, &migrator_of(role)).await?;
        Ok(role::remove(&self.clusters, &place.cluster, &mut connection, role).await?)
    }
}
