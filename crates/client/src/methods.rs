//! One method an endpoint, in the order of the API's documentation.

use guardian_model::{
    DoorId, LimitOverrides, Login, LoginName, Operation, OperationId, RunId, Snapshot, Tenant, Tier, TierName, TokenId,
    ToolLoginId,
    adoption::{AdoptionPlanQuery, AdoptionStatus, SetObserving, StartAdoption},
    api::{
        AuditEntry, AuditFinding, AuditRun, AuditVerification, Connection, CreateLogin, CreateTenant, CreateToken,
        DeleteTenant, FleetDrift, GatewayEvent, HardeningReport, Incident, MasterKeys, MigrationPlan, NewLogin, NewToken,
        Page, PutTier, RotateSecrets, Run, SetTier, StartMigration, Status, TenantChange, TicketGrant, Token,
    },
    door::{Door, DoorGrant, OpenDoor},
    import::{ImportReport, ImportTenants},
    observation::{Observation, ObservationReceipt, ObservationReport, ObservationSummary},
    query::{
        AuditFindingQuery, AuditQuery, AuditRunQuery, ChangesQuery, CloseToolLogin, DriftQuery, IncidentQuery,
        ObservationQuery, OperationQuery, RunQuery, TenantQuery, VerifyQuery,
    },
    snapshot::Delta,
    tool::{Fleet, OpenToolLogin, ToolLogin},
};
use reqwest::Method;

use crate::{Client, ClientError, transport::LONG_REQUEST_TIMEOUT};

/// The header of a create's idempotency key.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Client {
    /// How far the adoption of the application has come.
    pub async fn adoption(&self) -> Result<AdoptionStatus, ClientError> {
        self.send(self.request(Method::GET, &["v1", "adoption"])?).await
    }

    /// What a step of the adoption would do.
    pub async fn plan_adoption(&self, query: &AdoptionPlanQuery) -> Result<HardeningReport, ClientError> {
        self.send(self.request(Method::GET, &["v1", "adoption", "plan"])?.query(query)).await
    }

    /// Starts a step of the adoption.
    pub async fn start_adoption(&self, body: &StartAdoption) -> Result<Run, ClientError> {
        self.send(self.request(Method::POST, &["v1", "adoption"])?.json(body)).await
    }

    /// Begins or ends the observation.
    pub async fn set_observing(&self, body: SetObserving) -> Result<AdoptionStatus, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "adoption", "observing"])?.json(&body)).await
    }

    /// The state of the control plane and its clusters.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.send(self.request(Method::GET, &["v1", "status"])?).await
    }

    /// One page of tenants.
    pub async fn tenants(&self, query: &TenantQuery) -> Result<Page<Tenant>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tenants"])?.query(query)).await
    }

    /// Creates a tenant. With the same idempotency key, asking again gives the same tenant and operation.
    pub async fn create_tenant(
        &self,
        body: &CreateTenant,
        idempotency_key: Option<&str>,
    ) -> Result<TenantChange, ClientError> {
        let mut request = self.request(Method::POST, &["v1", "tenants"])?.json(body);
        if let Some(key) = idempotency_key {
            request = request.header(IDEMPOTENCY_KEY, key);
        }
        self.send(request).await
    }

    /// A tenant by slug or id.
    pub async fn tenant(&self, tenant: &str) -> Result<Tenant, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tenants", tenant])?).await
    }

    /// Deletes a tenant, after the grace period unless told otherwise.
    pub async fn delete_tenant(&self, tenant: &str, query: &DeleteTenant) -> Result<TenantChange, ClientError> {
        self.send(self.request(Method::DELETE, &["v1", "tenants", tenant])?.query(query)).await
    }

    /// Makes tenants of the application Guardian's, up to a thousand at once; asked again, it changes nothing.
    pub async fn import_tenants(&self, body: &ImportTenants) -> Result<ImportReport, ClientError> {
        self.send(self.request(Method::POST, &["v1", "imports"])?.json(body)).await
    }

    /// Stops serving a tenant, keeps its data.
    pub async fn suspend_tenant(&self, tenant: &str) -> Result<TenantChange, ClientError> {
        self.send(self.request(Method::POST, &["v1", "tenants", tenant, "suspend"])?).await
    }

    /// Serves a suspended tenant again.
    pub async fn resume_tenant(&self, tenant: &str) -> Result<TenantChange, ClientError> {
        self.send(self.request(Method::POST, &["v1", "tenants", tenant, "resume"])?).await
    }

    /// Moves a tenant to another tier of the same isolation.
    pub async fn set_tier(&self, tenant: &str, body: &SetTier) -> Result<Tenant, ClientError> {
        self.send(self.request(Method::POST, &["v1", "tenants", tenant, "set-tier"])?.json(body)).await
    }

    /// Sets what a tenant has otherwise than its tier, as a whole.
    pub async fn set_limits(&self, tenant: &str, body: &LimitOverrides) -> Result<Tenant, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "tenants", tenant, "limits"])?.json(body)).await
    }

    /// Opens the door to one session bound to the tenant.
    pub async fn issue_ticket(&self, tenant: &str) -> Result<TicketGrant, ClientError> {
        self.send(self.request(Method::POST, &["v1", "tenants", tenant, "tickets"])?).await
    }

    /// The credentials of the tenant's placement.
    pub async fn connection(&self, tenant: &str) -> Result<Connection, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tenants", tenant, "connection"])?).await
    }

    /// Gives tenants new capabilities, or their roles new passwords.
    pub async fn rotate_secrets(&self, body: &RotateSecrets) -> Result<Run, ClientError> {
        self.send(self.request(Method::POST, &["v1", "secrets", "rotation"])?.json(body)).await
    }

    /// The doors across tenants that are open.
    pub async fn doors(&self) -> Result<Vec<Door>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "doors"])?).await
    }

    /// Ends a door before its time.
    pub async fn end_door(&self, door: DoorId) -> Result<(), ClientError> {
        self.send_only(self.request(Method::DELETE, &["v1", "doors", &door.to_string()])?).await
    }

    /// Opens the door across tenants for one session.
    pub async fn open_door(&self, body: &OpenDoor) -> Result<DoorGrant, ClientError> {
        self.send(self.request(Method::POST, &["v1", "doors"])?.json(body)).await
    }

    /// Every tier.
    pub async fn tiers(&self) -> Result<Vec<Tier>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tiers"])?).await
    }

    /// A tier.
    pub async fn tier(&self, tier: &TierName) -> Result<Tier, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tiers", tier.as_str()])?).await
    }

    /// Creates or replaces a tier.
    pub async fn put_tier(&self, tier: &TierName, body: &PutTier) -> Result<Tier, ClientError> {
        self.send(self.request(Method::PUT, &["v1", "tiers", tier.as_str()])?.json(body)).await
    }

    /// Deletes a tier without tenants.
    pub async fn delete_tier(&self, tier: &TierName) -> Result<(), ClientError> {
        self.send_only(self.request(Method::DELETE, &["v1", "tiers", tier.as_str()])?).await
    }

    /// One page of operations.
    pub async fn operations(&self, query: &OperationQuery) -> Result<Page<Operation>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "operations"])?.query(query)).await
    }

    /// An operation.
    pub async fn operation(&self, operation: OperationId) -> Result<Operation, ClientError> {
        self.send(self.request(Method::GET, &["v1", "operations", &operation.to_string()])?).await
    }

    /// Sets a stuck operation going again.
    pub async fn retry_operation(&self, operation: OperationId) -> Result<Operation, ClientError> {
        self.send(self.request(Method::POST, &["v1", "operations", &operation.to_string(), "retry"])?).await
    }

    /// Takes an operation back, as long as there is a way back.
    pub async fn cancel_operation(&self, operation: OperationId) -> Result<Operation, ClientError> {
        self.send(self.request(Method::POST, &["v1", "operations", &operation.to_string(), "cancel"])?).await
    }

    /// One page of incidents.
    pub async fn incidents(&self, query: &IncidentQuery) -> Result<Page<Incident>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "incidents"])?.query(query)).await
    }

    /// One page of audits.
    pub async fn audits(&self, query: &AuditRunQuery) -> Result<Page<AuditRun>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "audits"])?.query(query)).await
    }

    /// What audits found.
    pub async fn audit_findings(&self, query: &AuditFindingQuery) -> Result<Vec<AuditFinding>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "audits", "findings"])?.query(query)).await
    }

    /// Every token, without secrets.
    pub async fn tokens(&self) -> Result<Vec<Token>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "tokens"])?).await
    }

    /// Makes a token; its secret is shown this once.
    pub async fn create_token(&self, body: &CreateToken) -> Result<NewToken, ClientError> {
        self.send(self.request(Method::POST, &["v1", "tokens"])?.json(body)).await
    }

    /// Revokes a token, at once and for ever.
    pub async fn revoke_token(&self, token: TokenId) -> Result<(), ClientError> {
        self.send_only(self.request(Method::DELETE, &["v1", "tokens", &token.to_string()])?).await
    }

    /// Every login of the SQL gateway, without passwords.
    pub async fn logins(&self) -> Result<Vec<Login>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "logins"])?).await
    }

    /// Makes a login; its password is shown this once.
    pub async fn create_login(&self, body: &CreateLogin) -> Result<NewLogin, ClientError> {
        self.send(self.request(Method::POST, &["v1", "logins"])?.json(body)).await
    }

    /// Gives a login another password, shown this once.
    pub async fn rotate_login(&self, login: &LoginName) -> Result<NewLogin, ClientError> {
        self.send(self.request(Method::POST, &["v1", "logins", login.as_str(), "rotate"])?).await
    }

    /// Deletes a login.
    pub async fn delete_login(&self, login: &LoginName) -> Result<(), ClientError> {
        self.send_only(self.request(Method::DELETE, &["v1", "logins", login.as_str()])?).await
    }

    /// Everything that a gateway runs on, secrets included.
    pub async fn snapshot(&self) -> Result<Snapshot, ClientError> {
        self.send(self.request(Method::GET, &["v1", "snapshot"])?.timeout(LONG_REQUEST_TIMEOUT)).await
    }

    /// What changed in it since its cursor. Waits for a change when there is none; the answer is empty when none came. A
    /// problem of status 410 asks for the whole snapshot again.
    pub async fn snapshot_changes(&self, query: &ChangesQuery) -> Result<Delta, ClientError> {
        self.send(self.request(Method::GET, &["v1", "snapshot", "changes"])?.query(query)).await
    }

    /// Reports what a gateway saw and the control plane has to put right.
    pub async fn gateway_event(&self, event: &GatewayEvent) -> Result<(), ClientError> {
        self.send_only(self.request(Method::POST, &["v1", "gateway-events"])?.json(event)).await
    }

    /// One page of what gateways observed of an application that is being adopted.
    pub async fn observations(&self, query: &ObservationQuery) -> Result<Page<Observation>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "adoption", "observations"])?.query(query)).await
    }

    /// The same in sum.
    pub async fn observation_summary(&self) -> Result<ObservationSummary, ClientError> {
        self.send(self.request(Method::GET, &["v1", "adoption", "observations", "summary"])?).await
    }

    /// Reports what a gateway observed.
    pub async fn report_observations(&self, report: &ObservationReport) -> Result<ObservationReceipt, ClientError> {
        self.send(self.request(Method::POST, &["v1", "adoption", "observations"])?.json(report)).await
    }

    /// Forgets what was observed; gateways begin anew.
    pub async fn clear_observations(&self) -> Result<(), ClientError> {
        self.send_only(self.request(Method::DELETE, &["v1", "adoption", "observations"])?).await
    }

    /// One page of the audit log.
    pub async fn audit_log(&self, query: &AuditQuery) -> Result<Page<AuditEntry>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "audit-log"])?.query(query)).await
    }

    /// Checks the audit log's seals.
    pub async fn verify_audit_log(&self, query: &VerifyQuery) -> Result<AuditVerification, ClientError> {
        self.send(self.request(Method::GET, &["v1", "audit-log", "verify"])?.timeout(LONG_REQUEST_TIMEOUT).query(query))
            .await
    }

    /// What the hardening would do to the application's shared place.
    pub async fn plan_hardening(&self) -> Result<HardeningReport, ClientError> {
        self.send(self.request(Method::GET, &["v1", "hardening"])?.timeout(LONG_REQUEST_TIMEOUT)).await
    }

    /// Starts the hardening; follow it with [`Client::run`].
    pub async fn start_hardening(&self) -> Result<Run, ClientError> {
        self.send(self.request(Method::POST, &["v1", "hardening"])?.timeout(LONG_REQUEST_TIMEOUT)).await
    }

    /// What migrations each place lacks.
    pub async fn plan_migrations(&self) -> Result<MigrationPlan, ClientError> {
        self.send(self.request(Method::GET, &["v1", "migrations"])?.timeout(LONG_REQUEST_TIMEOUT)).await
    }

    /// The same, with what the missing files would do to tables that are there.
    pub async fn advise_migrations(&self) -> Result<MigrationPlan, ClientError> {
        self.send(self.request(Method::POST, &["v1", "migrations", "advice"])?.timeout(LONG_REQUEST_TIMEOUT)).await
    }

    /// A page of places with their differences.
    pub async fn drift(&self, query: &DriftQuery) -> Result<FleetDrift, ClientError> {
        let request = self.request(Method::GET, &["v1", "migrations", "drift"])?;
        self.send(request.timeout(LONG_REQUEST_TIMEOUT).query(query)).await
    }

    /// Starts migrating every place; follow it with [`Client::run`].
    pub async fn start_migrations(&self, body: &StartMigration) -> Result<Run, ClientError> {
        self.send(self.request(Method::POST, &["v1", "migrations"])?.timeout(LONG_REQUEST_TIMEOUT).json(body)).await
    }

    /// Every place, ring after ring.
    pub async fn fleet(&self) -> Result<Fleet, ClientError> {
        self.send(self.request(Method::GET, &["v1", "migrations", "places"])?).await
    }

    /// Makes a login for one run of a migration tool in one place.
    pub async fn open_tool_login(&self, body: &OpenToolLogin) -> Result<ToolLogin, ClientError> {
        let request = self.request(Method::POST, &["v1", "migrations", "logins"])?;
        self.send(request.timeout(LONG_REQUEST_TIMEOUT).json(body)).await
    }

    /// Lets the login of a migration tool last on.
    pub async fn renew_tool_login(&self, login: ToolLoginId) -> Result<(), ClientError> {
        self.send_only(self.request(Method::POST, &["v1", "migrations", "logins", &login.to_string(), "renew"])?).await
    }

    /// Ends the login of a migration tool, with its sessions.
    pub async fn close_tool_login(&self, login: ToolLoginId, query: &CloseToolLogin) -> Result<(), ClientError> {
        let request = self.request(Method::DELETE, &["v1", "migrations", "logins", &login.to_string()])?;
        self.send_only(request.timeout(LONG_REQUEST_TIMEOUT).query(query)).await
    }

    /// Which master key seals.
    pub async fn master_keys(&self) -> Result<MasterKeys, ClientError> {
        self.send(self.request(Method::GET, &["v1", "master-keys"])?).await
    }

    /// Starts sealing everything under the new master key; follow it with [`Client::run`].
    pub async fn rotate_master_key(&self) -> Result<Run, ClientError> {
        self.send(self.request(Method::POST, &["v1", "master-keys", "rotation"])?).await
    }

    /// One page of runs, without their items.
    pub async fn runs(&self, query: &RunQuery) -> Result<Page<Run>, ClientError> {
        self.send(self.request(Method::GET, &["v1", "runs"])?.query(query)).await
    }

    /// A run, with every item.
    pub async fn run(&self, run: RunId) -> Result<Run, ClientError> {
        self.send(self.request(Method::GET, &["v1", "runs", &run.to_string()])?).await
    }
}
