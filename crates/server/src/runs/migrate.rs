//! The application's migrations in every place: the shared one first, alone, so that a file that is wrong everywhere stops
//! there; then each tenant's, some at once, where one that fails keeps no other from going on.

use std::{collections::HashMap, pin::pin, time::Instant};

use futures_util::{StreamExt as _, stream};
use guardian_model::{
    Isolation, Place, Tenant, TenantState,
    access::Permit,
    api::{MigrationPlan, PlaceMigrations, Run, RunKind, RunState},
};
use guardian_provision::{Migrations, migrations};
use guardian_store::{LIMIT_MAX, TenantFilter};
use sqlx::Connection as _;

use super::{is_absent, progress::Progress, shown};
use crate::{
    AppState,
    problem::{ApiError, ApiResult, Kind, chain},
};

/// How many of the places that failed are named in one line.
const BLAMED_MAX: usize = 5;

/// Places looked at at once for a plan.
const LOOKS_MAX: usize = 8;

/// A place with the application's tables.
enum Target {
    /// The application's own.
    Shared(Place),
    /// One tenant's.
    Own(Box<Tenant>),
}

impl Target {
    fn place(&self) -> &Place {
        match self {
            Self::Shared(place) => place,
            Self::Own(tenant) => &tenant.placement.place,
        }
    }

    /// The place, and whose it is: its name alone holds an id that tells people nothing.
    fn name(&self) -> String {
        match self {
            Self::Shared(place) => place.to_string(),
            Self::Own(tenant) => format!("{} ({})", tenant.placement.place, tenant.slug),
        }
    }

    async fn migrate(&self, state: &AppState) -> Result<Vec<String>, String> {
        let migrated = match self {
            Self::Shared(_) => state.lifecycle.migrate_shared().await,
            Self::Own(tenant) => state.lifecycle.migrate_tenant(tenant).await,
        };
        migrated.map_err(|error| chain(&error))
    }

    /// The files that the place lacks, or why that cannot be said.
    async fn pending(&self, state: &AppState, files: &Migrations) -> Result<Vec<String>, String> {
        let place = self.place();
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
}

fn names<'a>(files: impl IntoIterator<Item = &'a migrations::Migration>) -> Vec<String> {
    files.into_iter().map(|file| file.name.clone()).collect()
}

/// What each place lacks.
pub(crate) async fn plan(state: &AppState) -> ApiResult<MigrationPlan> {
    let files = read(state).await?;
    let targets = targets(state).await?;
    let (targets, looked) = (&targets, &files);
    let looks = stream::iter(0..targets.len()).map(|position| async move {
        let place = targets[position].name();
        match targets[position].pending(state, looked).await {
            Ok(pending) => PlaceMigrations { place, pending, error: None },
            Err(error) => PlaceMigrations { place, pending: Vec::new(), error: Some(error) },
        }
    });
    let places = looks.buffered(LOOKS_MAX).collect().await;
    Ok(MigrationPlan { files: names(files.files()), places })
}

/// Starts a run over every place, `parallel` of them at once.
pub(crate) async fn start(state: &AppState, permit: &Permit, parallel: u16) -> ApiResult<Run> {
    // What is wrong with the folder as a whole is said here, not once a place.
    read(state).await?;
    let targets = targets(state).await?;
    let items: Vec<_> = targets.iter().map(|target| (target.name(), String::new())).collect();
    let arguments = serde_json::json!({ "parallel": parallel });
    let progress = Progress::begin(state, permit, RunKind::Migrate, arguments, &items).await?;
    let id = progress.id();
    let parts = targets.into_iter().enumerate().collect();
    progress.clone().spawn(state, run(state.clone(), progress, parts, usize::from(parallel)));
    shown(state, id).await
}

/// Goes on with a run whose process ended: at the places that it had not done. Each file is a transaction with its entry in
/// the place's ledger, under the place's lock.
pub(super) async fn resume(state: &AppState, progress: Progress) {
    let parallel = progress.arguments()["parallel"].as_u64().and_then(|parallel| usize::try_from(parallel).ok());
    let left = async {
        let run = state.store.run(progress.id()).await?.map(|run| run.items).unwrap_or_default();
        let mut named: HashMap<_, _> = targets(state).await?.into_iter().map(|target| (target.name(), target)).collect();
        // A place that is gone has nothing to migrate.
        let left = run.into_iter().enumerate().filter(|(_, item)| item.state != RunState::Done);
        Ok::<Vec<_>, ApiError>(left.map(|(position, item)| (position, named.remove(&item.name))).collect())
    };
    let left = left.await.map_err(|error| error.detail().to_owned());
    let (state, work) = (state.clone(), progress.clone());
    progress.spawn(&state.clone(), async move {
        let mut parts = Vec::new();
        for (position, target) in left? {
            match target {
                Some(target) => parts.push((position, target)),
                None => work.item(position, RunState::Done, Some("it is gone"), None).await,
            }
        }
        run(state, work, parts, parallel.unwrap_or(1)).await
    });
}

/// Migrates places, each with its position in the run. The shared one, if it is among them, comes first and alone.
async fn run(state: AppState, progress: Progress, parts: Vec<(usize, Target)>, parallel: usize) -> Result<(), String> {
    let (all, mut failed) = (parts.len(), Vec::new());
    let (shared, own): (Vec<_>, Vec<_>) = parts.into_iter().partition(|(_, target)| matches!(target, Target::Shared(_)));
    for (position, target) in &shared {
        if !one(&state, &progress, *position, target).await {
            failed.push(target.name());
        }
    }
    if failed.is_empty() {
        let (state, progress, targets) = (&state, &progress, &own);
        let rest = stream::iter(0..own.len()).map(|index| async move {
            let (position, target) = &targets[index];
            (index, one(state, progress, *position, target).await)
        });
        let mut rest = pin!(rest.buffer_unordered(parallel.max(1)));
        while let Some((index, went_through)) = rest.next().await {
            if !went_through {
                failed.push(own[index].1.name());
            }
        }
    }
    blame(&failed, all).map_or(Ok(()), Err)
}

/// Migrates one place; says whether it went through.
async fn one(state: &AppState, progress: &Progress, position: usize, target: &Target) -> bool {
    let begun = Instant::now();
    progress.item(position, RunState::Running, None, None).await;
    let migrated = target.migrate(state).await;
    let (end, detail) = match &migrated {
        Ok(files) if files.is_empty() => (RunState::Done, "nothing was missing".to_owned()),
        Ok(files) => (RunState::Done, files.join(", ")),
        Err(error) => (RunState::Failed, error.clone()),
    };
    progress.item(position, end, Some(&detail), Some(begun.elapsed())).await;
    migrated.is_ok()
}

/// The shared place, then that of every tenant with one of its own. A tenant that is being created is migrated by its
/// creation; one that is being deleted, no more.
async fn targets(state: &AppState) -> ApiResult<Vec<Target>> {
    let mut targets = vec![Target::Shared(state.config.current()?.shared_place())];
    for isolation in [Isolation::Schema, Isolation::Database, Isolation::Cluster] {
        let filter = TenantFilter { isolation: Some(isolation), ..TenantFilter::default() };
        let mut cursor = None;
        loop {
            let page = state.store.tenants(&filter, cursor.as_deref(), Some(LIMIT_MAX)).await?;
            let is_settled = |tenant: &Tenant| matches!(tenant.state, TenantState::Active | TenantState::Suspended);
            targets.extend(page.items.into_iter().filter(is_settled).map(|tenant| Target::Own(Box::new(tenant))));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok(targets)
}

async fn read(state: &AppState) -> ApiResult<Migrations> {
    let refuse = |detail: String| ApiError::new(Kind::Configuration, detail);
    let Some(folder) = state.config.migrations_folder() else {
        return Err(refuse("guardian.toml names no `application.migrations`; name the folder of your SQL files".to_owned()));
    };
    let read = tokio::task::spawn_blocking(move || Migrations::read(&folder)).await.map_err(ApiError::internal)?;
    read.map_err(|error| refuse(error.to_string()))
}

/// Names the places that failed, as many as fit on a line or two.
fn blame(failed: &[String], all: usize) -> Option<String> {
    let named = failed.get(..BLAMED_MAX).unwrap_or(failed).join(", ");
    let more = match failed.len().saturating_sub(BLAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!failed.is_empty()).then(|| format!("{} of {all} places failed: {named}{more}", failed.len()))
}

#[cfg(test)]
mod tests {
    use super::blame;

    #[test]
    fn blame_names_some_and_counts_all() {
        let places = |count: usize| (0..count).map(|n| format!("p{n}")).collect::<Vec<_>>();
        assert_eq!(blame(&[], 9), None);
        assert_eq!(blame(&places(2), 9).unwrap(), "2 of 9 places failed: p0, p1");
        assert_eq!(blame(&places(7), 9).unwrap(), "7 of 9 places failed: p0, p1, p2, p3, p4 and 2 more");
    }
}
