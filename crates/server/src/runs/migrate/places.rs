//! The places of a fleet, each in its ring, in the order in which they are migrated.

use std::collections::HashSet;

use guardian_lifecycle::Fleet;
use guardian_model::{
    Isolation, Place, Tenant, TenantState,
    api::{RunKind, RunState},
    config::{Rollout, SHARED_RING},
};
use guardian_store::{LIMIT_MAX, TenantFilter};

use crate::{
    AppState,
    problem::{ApiError, ApiResult, chain},
};

/// How many of the last runs are looked through for one of migrations.
const RUNS_LOOKED_AT: u32 = 20;

/// A place with the application's tables.
pub(super) struct Target {
    /// Its ring.
    pub(super) ring: String,
    /// Whose it is.
    pub(super) of: Owner,
}

/// Whose a place is.
pub(super) enum Owner {
    /// The application's own.
    Shared(Place),
    /// One tenant's.
    Own(Box<Tenant>),
}

impl Target {
    pub(super) fn place(&self) -> &Place {
        match &self.of {
            Owner::Shared(place) => place,
            Owner::Own(tenant) => &tenant.placement.place,
        }
    }

    /// The place, and whose it is: its name alone holds an id that tells people nothing.
    pub(super) fn name(&self) -> String {
        match &self.of {
            Owner::Shared(place) => place.to_string(),
            Owner::Own(tenant) => format!("{} ({})", tenant.placement.place, tenant.slug),
        }
    }

    pub(super) async fn migrate(&self, fleet: &Fleet) -> Result<Vec<String>, String> {
        let migrated = match &self.of {
            Owner::Shared(_) => fleet.migrate_shared().await,
            Owner::Own(tenant) => fleet.migrate_tenant(tenant).await,
        };
        migrated.map_err(|error| chain(&error))
    }
}

/// Every place, or those of one ring. A tenant that is being created is migrated by its creation; one that is being deleted, no
/// more.
pub(super) async fn targets(state: &AppState, rollout: &Rollout, only: Option<&str>) -> ApiResult<Vec<Target>> {
    let order = rollout.order();
    if let Some(only) = only.filter(|only| !order.contains(only)) {
        let known = order.join("`, `");
        return Err(ApiError::invalid(format!(
            "`ring`: there is no ring `{}`; there are `{known}`",
            crate::api::shown(only)
        )));
    }
    let shared = Owner::Shared(state.config.current()?.shared_place());
    let mut targets = vec![Target { ring: SHARED_RING.to_owned(), of: shared }];
    for isolation in [Isolation::Schema, Isolation::Database, Isolation::Cluster] {
        let filter = TenantFilter { isolation: Some(isolation), ..TenantFilter::default() };
        let mut cursor = None;
        loop {
            let page = state.store.tenants(&filter, cursor.as_deref(), Some(LIMIT_MAX)).await?;
            let is_settled = |tenant: &Tenant| matches!(tenant.state, TenantState::Active | TenantState::Suspended);
            targets.extend(page.items.into_iter().filter(is_settled).map(|tenant| {
                let ring = rollout.ring_of(&tenant).to_owned();
                Target { ring, of: Owner::Own(Box::new(tenant)) }
            }));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    targets.retain(|target| only.is_none_or(|only| only == target.ring));
    targets.sort_by_key(|target| order.iter().position(|ring| *ring == target.ring));
    Ok(targets)
}

/// Puts the places that failed in the last run in front of their rings: whether they are mended is what people wait for.
pub(super) async fn failed_first(state: &AppState, rollout: &Rollout, targets: &mut [Target]) -> ApiResult<()> {
    let last = state.store.runs(None, Some(RUNS_LOOKED_AT)).await?.items;
    let Some(last) = last.into_iter().find(|run| run.kind == RunKind::Migrate) else { return Ok(()) };
    let items = state.store.run(last.id).await?.map(|run| run.items).unwrap_or_default();
    let failed: HashSet<String> =
        items.into_iter().filter(|item| item.state == RunState::Failed).map(|item| item.name).collect();
    let order = rollout.order();
    targets.sort_by_key(|target| (order.iter().position(|ring| *ring == target.ring), !failed.contains(&target.name())));
    Ok(())
}
