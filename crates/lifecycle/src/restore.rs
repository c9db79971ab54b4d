//! Puts a login role right that one of its own sessions changed: PostgreSQL lets every role change its password and defaults.

use guardian_model::{ClusterName, Tenant, TenantId, access::Permit, placement::ApplicationRoles};
use guardian_postgres::scram;
use guardian_provision::{
    MAINTENANCE_DATABASE, lock,
    role::{self, Bounds},
};
use guardian_store::{AuditRecord, Outcome};
use sqlx::Connection as _;

use crate::{Lifecycle, LifecycleError, step::StepError};

impl Lifecycle {
    /// Gives the role the password that Guardian keeps, and a tenant's own role its bounds as well. False for a role that is
    /// not one of those gateways connect as. `by`: the tenant whose session changed it, for the audit log.
    pub async fn restore_role(
        &self,
        permit: &Permit,
        cluster: &ClusterName,
        role: &str,
        by: Option<TenantId>,
    ) -> Result<bool, LifecycleError> {
        let (steps, store) = (&self.engine.steps, &self.engine.store);
        let application = &steps.config.application.name;
        let is_shared = role == ApplicationRoles::of(application).app;
        let owner = if is_shared { None } else { self.owner_of(cluster, role).await? };
        if !is_shared && owner.is_none() {
            return Ok(false);
        }
        let mut connection = steps.clusters.connect(cluster, MAINTENANCE_DATABASE).await.map_err(StepError::from)?;
        // Whoever gives a role a new password holds this until the new one is what Guardian keeps.
        lock::hold(&mut connection, role).await.map_err(StepError::from)?;
        let password = match &owner {
            None => Some(store.application_secret(application).await?.to_string()),
            Some(tenant) => store.secrets(tenant.id).await?.password,
        };
        let Some(password) = password else { return Ok(false) };
        let verifier = scram::verifier(&password);
        role::set_password(&mut connection, role, &verifier).await.map_err(StepError::from)?;
        if let Some(tenant) = &owner
            && let Some(tier) = store.tier(&tenant.tier).await?
        {
            let bounds = Bounds { limits: &tier.limits, schema: &tenant.placement.place.schema };
            role::bound(&mut connection, role, bounds).await.map_err(StepError::from)?;
        }
        connection.close().await.ok();
        let detail = serde_json::json!({ "cluster": cluster, "role": role });
        let tenant = by.or(owner.map(|tenant| tenant.id));
        store.record(&AuditRecord::of(permit, "role.restore", tenant, Outcome::Done).with(detail)).await?;
        Ok(true)
    }

    /// The tenant whose own role it is.
    async fn owner_of(&self, cluster: &ClusterName, role: &str) -> Result<Option<Tenant>, LifecycleError> {
        let Ok(id) = role.parse::<TenantId>() else { return Ok(None) };
        let tenant = self.engine.store.tenant(&id.into()).await?;
        Ok(tenant.filter(|tenant| tenant.placement.role == role && tenant.placement.place.cluster == *cluster))
    }
}
