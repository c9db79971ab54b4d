//! Ways into a tenant's data for somebody outside: a ticket for one session, or the credentials themselves.

use std::time::Duration;

use guardian_model::{
    Isolation, Tenant, TenantKey, TenantState, Ticket, TicketId,
    access::Permit,
    api::{Connection, TicketGrant},
};
use guardian_postgres::{connect::Address, registry, scram};
use guardian_provision::{
    MAINTENANCE_DATABASE, lock,
    role::Bounds,
    ticket::{self, Terms},
};
use jiff::Timestamp;
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{Lifecycle, LifecycleError, secret, step::StepError};

/// How long a ticket can be used to begin its session.
const TICKET_VALID_S: u32 = 60;
/// Tickets of one tenant at once, from their issue until they are reaped: each may hold a connection that all tenants share, and
/// one whose session is over cannot be told from one that was not used yet.
const TICKETS_MAX: usize = 64;
const TICKET_VALID: Duration = Duration::from_secs(TICKET_VALID_S as u64);

impl Lifecycle {
    /// Opens one session for somebody, bound to the tenant: a login role of its own, and for `row` tenants a secret that
    /// enters the context once.
    pub async fn issue_ticket(&self, permit: &Permit, tenant: &Tenant) -> Result<TicketGrant, LifecycleError> {
        let (steps, place) = (&self.engine.steps, &tenant.placement.place);
        let store = &self.engine.store;
        let tier = store.tier(&tenant.tier).await?.ok_or_else(|| LifecycleError::NoTier(tenant.tier.clone()))?;
        let Address { host, port } = self.address(tenant)?;
        let is_row = tenant.placement.isolation == Isolation::Row;
        // Where suspending the tenant takes its lock as well, so that no ticket slips in behind it.
        let database = if is_row { &place.database } else { MAINTENANCE_DATABASE };
        let mut connection = steps.clusters.connect(&place.cluster, database).await.map_err(StepError::from)?;
        lock::hold(&mut connection, &tenant.id.to_string()).await.map_err(StepError::from)?;
        let key = steps.key(&tenant.key)?;
        if tenant.state != TenantState::Active || !is_open(&mut connection, tenant, &key).await? {
            return Err(LifecycleError::NotActive { slug: tenant.slug.clone(), state: tenant.state });
        }
        if store.tenant_tickets(tenant.id).await?.len() >= TICKETS_MAX {
            return Err(LifecycleError::TooManyTickets { slug: tenant.slug.clone(), limit: TICKETS_MAX });
        }
        let id = TicketId::from_uuid(Uuid::now_v7());
        let role = id.to_string();
        store.record_ticket(permit, id, tenant.id, &place.cluster, &role, Timestamp::now() + TICKET_VALID).await?;
        let secret = if is_row { Some(issue_secret(&mut connection, &key).await?) } else { None };
        let password = secret::password();
        let terms = Terms {
            ticket: id,
            parent: &tenant.placement.role,
            verifier: &scram::verifier(&password),
            valid: TICKET_VALID,
            bounds: Bounds { limits: &tier.limits.with(&tenant.limits), schema: &place.schema },
        };
        let expires_at = ticket::create(&mut connection, &terms).await.map_err(StepError::from)?;
        connection.close().await.ok();
        Ok(TicketGrant {
            id,
            host,
            port,
            database: place.database.clone(),
            schema: place.schema.clone(),
            user: role,
            password,
            ticket: secret.map(|ticket| secret::hex(ticket.expose())),
            expires_at,
        })
    }

    /// The credentials of the tenant's placement; the reading is in the audit log.
    pub async fn connection(&self, permit: &Permit, tenant: &Tenant) -> Result<Connection, LifecycleError> {
        let Address { host, port } = self.address(tenant)?;
        let store = &self.engine.store;
        let secrets = store.reveal_secrets(permit, tenant.id).await?;
        let password = match (tenant.placement.isolation, &secrets.capability) {
            // They share the application's own role; the capability is what tells them apart.
            (Isolation::Row, Some(_)) => {
                Some(store.application_secret(&self.engine.steps.config.application.name).await?.to_string())
            }
            (Isolation::Row, None) => None,
            (Isolation::Schema | Isolation::Database | Isolation::Cluster, _) => secrets.password,
        };
        let not_there = || LifecycleError::NotActive { slug: tenant.slug.clone(), state: tenant.state };
        let place = &tenant.placement.place;
        Ok(Connection {
            host,
            port,
            database: place.database.clone(),
            schema: place.schema.clone(),
            user: tenant.placement.role.clone(),
            password: password.ok_or_else(not_there)?,
            capability: secrets.capability.map(|capability| secret::hex(capability.expose())),
        })
    }

    fn address(&self, tenant: &Tenant) -> Result<Address, LifecycleError> {
        let cluster = &tenant.placement.place.cluster;
        self.engine.steps.clusters.address(cluster).ok_or_else(|| LifecycleError::Cluster {
            detail: format!("there is no cluster `{cluster}`; declare [clusters.{cluster}] in guardian.toml"),
            transient: false,
        })
    }
}

async fn issue_secret(connection: &mut PgConnection, key: &TenantKey) -> Result<Ticket, LifecycleError> {
    let ticket = secret::ticket();
    registry::issue_ticket(connection, key, &ticket, TICKET_VALID_S).await.map_err(StepError::from)?;
    Ok(ticket)
}

/// Whether the tenant can be entered right now, by what its cluster says rather than by our records.
async fn is_open(connection: &mut PgConnection, tenant: &Tenant, key: &TenantKey) -> Result<bool, LifecycleError> {
    let found = if tenant.placement.isolation == Isolation::Row {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM guardian.capability WHERE register = $1)")
            .bind(key.to_register())
            .fetch_one(connection)
            .await
    } else {
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1 AND rolcanlogin)")
            .bind(&tenant.placement.role)
            .fetch_one(connection)
            .await
    };
    let place = &tenant.placement.place;
    Ok(found.map_err(|source| StepError::Registry { place: place.to_string(), source })?)
}
