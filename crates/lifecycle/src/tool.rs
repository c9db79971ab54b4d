//! Ways in for a migration tool of the user's own: one login a place and run of the tool, which becomes the place's migrator.
//!
//! The tool runs in the command line's process, which may be killed at any time. So a login lasts for a short while only, and for
//! as long as somebody renews it: then its sessions are ended, which rolls back what they had not committed, and its role is dropped.

use std::time::Duration;

use guardian_model::{
    Isolation, Place, Tenant, TenantState, ToolLoginId,
    access::{Actor, Permit},
    placement::{ApplicationRoles, migrator_of},
    tool::ToolLogin,
};
use guardian_postgres::{connect::Address, scram};
use guardian_provision::{
    MAINTENANCE_DATABASE, database, lock,
    migrator::{self, Reach},
    schema,
};
use guardian_store::{AuditRecord, IssuedToolLogin, Outcome, StoreError, TenantRef};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    Lifecycle, LifecycleError,
    fleet::Patience,
    secret,
    step::{StepError, Steps},
};

/// How long a login that cannot be dropped is left alone.
const POSTPONED: Duration = Duration::from_secs(30);

/// The place that a tool is let into.
struct Opening {
    place: Place,
    /// None: the shared one.
    tenant: Option<Tenant>,
    migrator: String,
    reach: Reach,
}

impl Lifecycle {
    /// Makes a login for one run of a migration tool, in the place of a tenant's own or in the shared one. What the administrator
    /// owns there becomes the migrator's.
    pub async fn open_for_tool(&self, permit: &Permit, tenant: Option<Tenant>) -> Result<ToolLogin, LifecycleError> {
        let (steps, store) = (&self.engine.steps, &self.engine.store);
        let opening = Opening::of(steps, tenant)?;
        let place = &opening.place;
        let Address { host, port } = steps.clusters.address(&place.cluster).ok_or_else(|| LifecycleError::Cluster {
            detail: format!("there is no cluster `{0}`; declare [clusters.{0}] in guardian.toml", place.cluster),
            transient: false,
        })?;
        // Held on to until the login stands: a deletion takes the same lock before it looks for logins.
        let mut gate = steps.clusters.connect(&place.cluster, MAINTENANCE_DATABASE).await.map_err(StepError::from)?;
        if let Some(tenant) = &opening.tenant {
            lock::hold(&mut gate, &tenant.id.to_string()).await.map_err(StepError::from)?;
            let now = store.tenant(&TenantRef::Id(tenant.id)).await?.ok_or(LifecycleError::NotFound(tenant.id))?;
            refuse_unsettled(&now)?;
        }
        let (id, lasts_seconds) = (ToolLoginId::from_uuid(Uuid::now_v7()), steps.config.migrations.tool_login_seconds);
        let (tenant, lasts) = (opening.tenant.as_ref().map(|tenant| tenant.id), seconds(lasts_seconds));
        if !store.record_tool_login(permit, id, tenant, place, lasts).await? {
            // Left by a command line that was killed, it need not wait for the reaper.
            if let Some(found) = store.tool_login_at(place).await? {
                if !found.is_over {
                    let IssuedToolLogin { place, opened_by, expires_at, .. } = found;
                    return Err(LifecycleError::ToolBusy { place, opened_by, expires_at });
                }
                self.drop_expired(&found).await?;
            }
            if !store.record_tool_login(permit, id, tenant, place, lasts).await? {
                return Err(LifecycleError::ToolOvertaken { place: place.clone() });
            }
        }
        let password = secret::password();
        let verifier = scram::verifier(&password);
        let mut patience = Patience::new();
        let made = loop {
            match opening.make(steps, id, &verifier, lasts).await {
                Err(error) if patience.bears(&error).await => {}
                made => break made,
            }
        };
        if let Err(error) = made {
            let record = AuditRecord::of(permit, "migration.close", tenant, Outcome::Failed)
                .with(serde_json::json!({ "login": id, "why": "it could not be made" }));
            // Should this fail as well, the login is over soon.
            if migrator::close(&steps.clusters, place, id).await.is_ok() {
                store.end_tool_login(id, &record).await?;
            }
            return Err(error.into());
        }
        gate.close().await.ok();
        let Place { database, schema, .. } = opening.place;
        Ok(ToolLogin { id, host, port, database, schema, user: id.to_string(), password, lasts_seconds })
    }

    /// Lets a login last on. One that is over stays so.
    pub async fn renew_for_tool(&self, permit: &Permit, id: ToolLoginId) -> Result<(), LifecycleError> {
        let steps = &self.engine.steps;
        let login = self.engine.store.tool_login(id).await?.ok_or(LifecycleError::NoToolLogin(id))?;
        let lasts = seconds(steps.config.migrations.tool_login_seconds);
        if !self.engine.store.renew_tool_login(permit, id, lasts).await? {
            return Err(LifecycleError::NoToolLogin(id));
        }
        let place = &login.place;
        let mut connection = steps.clusters.connect(&place.cluster, MAINTENANCE_DATABASE).await.map_err(StepError::from)?;
        migrator::renew(&mut connection, id, lasts).await.map_err(StepError::from)?;
        connection.close().await.ok();
        Ok(())
    }

    /// Ends a login with its sessions, notes how the tool ended, and grants the tenant's role what is new in its place.
    pub async fn close_for_tool(
        &self,
        permit: &Permit,
        id: ToolLoginId,
        exit_status: Option<i32>,
    ) -> Result<(), LifecycleError> {
        let (steps, store) = (&self.engine.steps, &self.engine.store);
        let login = store.tool_login(id).await?.ok_or(LifecycleError::NoToolLogin(id))?;
        migrator::close(&steps.clusters, &login.place, id).await.map_err(StepError::from)?;
        let outcome = if exit_status == Some(0) { Outcome::Done } else { Outcome::Failed };
        let record = AuditRecord::of(permit, "migration.close", login.tenant, outcome)
            .with(serde_json::json!({ "login": id, "exit_status": exit_status }));
        store.end_tool_login(id, &record).await?;
        let Some(tenant) = login.tenant else { return Ok(()) };
        let tenant = self.tenant(tenant).await?;
        // One that was deleted meanwhile has no place any more.
        if refuse_unsettled(&tenant).is_err() {
            return Ok(());
        }
        let place = &tenant.placement.place;
        let mut connection = steps.clusters.connect(&place.cluster, &place.database).await.map_err(StepError::from)?;
        lock::hold(&mut connection, &tenant.id.to_string()).await.map_err(StepError::from)?;
        steps.grant(&mut connection, place, &tenant.placement.role, &steps.key(&tenant.key)?).await?;
        connection.close().await.ok();
        Ok(())
    }

    /// Ends the logins of tools that were killed, or whose command line is gone.
    pub(crate) async fn reap_tool_logins(&self) -> Result<(), StoreError> {
        for login in self.engine.store.expired_tool_logins().await? {
            if let Err(error) = self.drop_expired(&login).await {
                tracing::warn!(login.id = %login.id, %error, "cannot drop an expired login of a migration tool yet");
                self.engine.store.postpone_tool_login(login.id, POSTPONED).await?;
            }
        }
        Ok(())
    }

    async fn drop_expired(&self, login: &IssuedToolLogin) -> Result<(), StepError> {
        end(&self.engine.steps, login, "nobody renewed it").await
    }
}

impl Opening {
    fn of(steps: &Steps, tenant: Option<Tenant>) -> Result<Self, LifecycleError> {
        let Some(tenant) = tenant else {
            let migrator = ApplicationRoles::of(&steps.config.application.name).migrator;
            return Ok(Self { place: steps.config.shared_place(), tenant: None, migrator, reach: Reach::Shared });
        };
        let reach = match tenant.placement.isolation {
            Isolation::Row => return Err(LifecycleError::NoPlace { slug: tenant.slug }),
            Isolation::Schema => Reach::Schema,
            Isolation::Database | Isolation::Cluster => Reach::Database,
        };
        refuse_unsettled(&tenant)?;
        let (place, migrator) = (tenant.placement.place.clone(), migrator_of(&tenant.placement.role));
        Ok(Self { place, tenant: Some(tenant), migrator, reach })
    }

    async fn make(&self, steps: &Steps, id: ToolLoginId, verifier: &str, lasts: Duration) -> Result<(), StepError> {
        let Self { place, tenant, migrator, reach } = self;
        let mut connection = self.connect(steps).await?;
        if let Some(tenant) = tenant {
            lock::hold(&mut connection, &tenant.id.to_string()).await?;
        }
        lock::hold(&mut connection, &format!("database {}", place.database)).await?;
        migrator::ensure(&mut connection, migrator, place, *reach).await?;
        migrator::open(&mut connection, id, migrator, verifier, lasts, place).await?;
        connection.close().await.ok();
        Ok(())
    }

    /// To the place's database. The shared one is made where it is missing, as by the application's own files.
    async fn connect(&self, steps: &Steps) -> Result<PgConnection, StepError> {
        let place = &self.place;
        if self.tenant.is_none() {
            let mut maintenance = steps.clusters.connect(&place.cluster, MAINTENANCE_DATABASE).await?;
            lock::hold(&mut maintenance, &format!("database {}", place.database)).await?;
            database::ensure_shared(&mut maintenance, &place.database).await?;
            maintenance.close().await.ok();
        }
        let mut connection = steps.clusters.connect(&place.cluster, &place.database).await?;
        if self.tenant.is_none() && place.schema != "public" {
            schema::ensure(&mut connection, &place.schema).await?;
        }
        Ok(connection)
    }
}

/// Ends a login that nobody closes: with its sessions, whatever they do.
pub(crate) async fn end(steps: &Steps, login: &IssuedToolLogin, why: &str) -> Result<(), StepError> {
    migrator::close(&steps.clusters, &login.place, login.id).await?;
    let detail = serde_json::json!({ "login": login.id, "opened_by": login.opened_by, "why": why });
    let actor = Actor::system("lifecycle");
    let record = AuditRecord::by(&actor, "migration.close", login.tenant, Outcome::Failed).with(detail);
    Ok(steps.store.end_tool_login(login.id, &record).await?)
}

fn refuse_unsettled(tenant: &Tenant) -> Result<(), LifecycleError> {
    match tenant.state {
        TenantState::Active | TenantState::Suspended => Ok(()),
        state => Err(LifecycleError::NoTool { slug: tenant.slug.clone(), state }),
    }
}

fn seconds(seconds: u16) -> Duration {
    Duration::from_secs(seconds.into())
}
