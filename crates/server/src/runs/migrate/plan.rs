//! What each place lacks, and what the missing files would do to tables that are there.

use futures_util::{StreamExt as _, stream};
use guardian_model::{
    Place,
    access::Permit,
    api::{MigrationPlan, PlaceMigrations, RingPlan},
};
use guardian_provision::{Migrations, migrations};
use guardian_store::{AuditRecord, Outcome};
use sqlx::Connection as _;

use super::{super::is_absent, places::targets, read};
use crate::{
    AppState,
    problem::{ApiResult, chain},
};

/// Places looked at at once.
pub(super) const LOOKS_MAX: usize = 8;

/// The files that a place lacks, or why that cannot be said.
async fn pending(state: &AppState, place: &Place, files: &Migrations) -> Result<Vec<String>, String> {
    let mut connection = match state.clusters.connect(&place.cluster, &place.database).await {
        Ok(connection) => connection,
        // The run makes it.
        Err(error) if is_absent(&error) => return Ok(names(files.files())),
        Err(error) => return Err(chain(&error)),
    };
    let pending = migrations::pending(&mut connection, &place.schema, files).await;
    let pending = pending.map(names).map_err(|error| chain(&error));
    connection.close().await.ok();
    pending
}

pub(super) fn names<'a>(files: impl IntoIterator<Item = &'a migrations::Migration>) -> Vec<String> {
    files.into_iter().map(|file| file.name.clone()).collect()
}

/// What each place lacks, without advice.
pub(crate) async fn plan(state: &AppState) -> ApiResult<MigrationPlan> {
    let files = read(state).await?;
    let rollout = state.config.current()?.migrations;
    let targets = targets(state, &rollout, None).await?;
    let (looked, targets) = (&files, &targets);
    let looks = stream::iter(0..targets.len()).map(|index| async move {
        let target = &targets[index];
        let (place, ring) = (target.name(), target.ring.clone());
        match pending(state, target.place(), looked).await {
            Ok(pending) => PlaceMigrations { place, ring, pending, error: None },
            Err(error) => PlaceMigrations { place, ring, pending: Vec::new(), error: Some(error) },
        }
    });
    let places: Vec<_> = looks.buffered(LOOKS_MAX).collect().await;
    let ring = |name: &str| RingPlan {
        name: name.to_owned(),
        places: places.iter().filter(|place| place.ring == name).count(),
        behind: places.iter().filter(|place| place.ring == name && !place.pending.is_empty()).count(),
    };
    let rings = rollout.order().into_iter().map(ring).collect();
    Ok(MigrationPlan { files: names(files.files()), rings, places, advice: Vec::new(), advice_lacks: None })
}

/// The same with advice, for which a scratch database is made and dropped again.
pub(crate) async fn advise(state: &AppState, permit: &Permit) -> ApiResult<MigrationPlan> {
    let mut plan = plan(state).await?;
    let files = read(state).await?;
    // From the first file on that a place with some files lacks. A place without any has no tables to be careful with.
    let is_begun = |place: &&PlaceMigrations| place.error.is_none() && place.pending.len() < files.files().len();
    let first = plan.places.iter().filter(is_begun).filter_map(|place| place.pending.first());
    let first = first.filter_map(|name| files.files().iter().position(|file| file.name == *name)).min();
    let Some(first) = first else { return Ok(plan) };
    let record = AuditRecord::of(permit, "migration.advise", None, Outcome::Allowed);
    let record = record.with(serde_json::json!({ "files": files.files().len() - first }));
    state.store.record(&record).await?;
    let place = state.config.current()?.shared_place();
    match migrations::advise(&state.clusters, &place, &files, first).await {
        Ok(migrations::Advice { found, lacks }) => (plan.advice, plan.advice_lacks) = (found, lacks),
        Err(error) => plan.advice_lacks = Some(chain(&error)),
    }
    Ok(plan)
}
