//! The places of a fleet for somebody else to go through.

use guardian_model::tool::{Fleet, FleetPlace};

use super::places::{Owner, Target, targets};
use crate::{AppState, problem::ApiResult};

/// Every place, in the order in which they are migrated.
pub(crate) async fn fleet(state: &AppState) -> ApiResult<Fleet> {
    let rollout = state.config.current()?.migrations;
    let place = |target: Target| {
        let (place, cluster) = (target.name(), target.place().cluster.clone());
        let tenant = match target.of {
            Owner::Shared(_) => None,
            Owner::Own(tenant) => Some(tenant.slug),
        };
        FleetPlace { place, ring: target.ring, cluster, tenant }
    };
    let places = targets(state, &rollout, None).await?.into_iter().map(place).collect();
    Ok(Fleet {
        rings: rollout.order().into_iter().map(str::to_owned).collect(),
        places,
        parallel: rollout.parallel,
        parallel_per_cluster: rollout.parallel_per_cluster,
        halt_percent: rollout.halt_percent,
    })
}
