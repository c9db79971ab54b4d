//! The application's migrations in every place, ring after ring. The shared place is a ring of its own, so that a file that is
//! wrong everywhere stops there; within a ring, a place that fails keeps no other from going on until too many have.

mod drift;
mod fleet;
mod places;
mod plan;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    pin::pin,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

use futures_util::{FutureExt as _, StreamExt as _, stream};
use guardian_lifecycle::Fleet;
use guardian_model::{
    ClusterName,
    access::Permit,
    api::{Run, RunKind, RunState, StartMigration},
    config::{PARALLEL_MAX, Rollout},
};
use guardian_provision::Migrations;
use tokio::sync::Semaphore;

use self::places::{Target, failed_first, targets};
pub(crate) use self::{
    drift::drift,
    fleet::fleet,
    plan::{advise, plan},
};
use super::{progress::Progress, shown};
use crate::{
    AppState,
    problem::{ApiError, ApiResult, Kind},
};

/// How many of the places that failed are named in one line.
const BLAMED_MAX: usize = 5;

/// Starts a run over every place, or those of one ring.
pub(crate) async fn start(state: &AppState, permit: &Permit, asked: &StartMigration) -> ApiResult<Run> {
    let rollout = rollout(state, asked)?;
    // What is wrong with the folder as a whole is said here, not once a place.
    let files = read(state).await?;
    let mut targets = targets(state, &rollout, asked.ring.as_deref()).await?;
    failed_first(state, &rollout, &mut targets).await?;
    let items: Vec<_> = targets.iter().map(|target| (target.name(), format!("ring {}", target.ring))).collect();
    let arguments = serde_json::to_value(asked).map_err(ApiError::internal)?;
    let progress = Progress::begin(state, permit, RunKind::Migrate, arguments, &items).await?;
    let id = progress.id();
    let work = Work::of(state, progress.clone(), files, rollout, &targets);
    let parts = targets.into_iter().enumerate().collect();
    progress.spawn(state, async move { work.run(parts).await });
    shown(state, id).await
}

/// Goes on with a run whose process ended: at the places that it had not done. Each file is a transaction with its entry in
/// the place's ledger, under the place's lock.
pub(super) fn resume(state: &AppState, progress: Progress) {
    let (state, own) = (state.clone(), progress.clone());
    progress.spawn(&state.clone(), async move {
        let (work, parts) = left(&state, own).boxed().await.map_err(|error| error.detail().to_owned())?;
        work.run(parts).await
    });
}

async fn left(state: &AppState, progress: Progress) -> ApiResult<(Work, Vec<(usize, Target)>)> {
    let asked: StartMigration = serde_json::from_value(progress.arguments().clone()).map_err(ApiError::internal)?;
    let rollout = rollout(state, &asked)?;
    let files = read(state).await?;
    // Of all rings: a tenant may belong to another one by now.
    let targets = targets(state, &rollout, None).await?;
    let items = state.store.run(progress.id()).await?.map(|run| run.items).unwrap_or_default();
    let planned: HashSet<&str> = items.iter().map(|item| item.name.as_str()).collect();
    let targets: Vec<_> = targets.into_iter().filter(|target| planned.contains(target.name().as_str())).collect();
    let work = Work::of(state, progress, files, rollout, &targets);
    let mut positions: HashMap<_, _> =
        items.into_iter().enumerate().map(|(position, item)| (item.name, (position, item.state))).collect();
    let mut parts = Vec::new();
    for target in targets {
        if let Some((position, at)) = positions.remove(&target.name())
            && at != RunState::Done
        {
            parts.push((position, target));
        }
    }
    for (position, at) in positions.into_values() {
        if at != RunState::Done {
            work.progress.item(position, RunState::Done, Some("it is gone"), None).await;
        }
    }
    Ok((work, parts))
}

/// What the configuration says, unless the caller said otherwise.
fn rollout(state: &AppState, asked: &StartMigration) -> ApiResult<Rollout> {
    let mut rollout = state.config.current()?.migrations;
    if let Some(parallel) = asked.parallel {
        if parallel == 0 || parallel > PARALLEL_MAX {
            return Err(ApiError::invalid(format!("`parallel` must be 1 to {PARALLEL_MAX}")));
        }
        rollout.parallel = parallel;
    }
    if let Some(percent) = asked.halt_percent {
        if percent > 100 {
            return Err(ApiError::invalid("`halt_percent` must be 0 to 100"));
        }
        rollout.halt_percent = percent;
    }
    Ok(rollout)
}

/// A run at work.
struct Work {
    progress: Progress,
    fleet: Fleet,
    rollout: Rollout,
    /// Places of each ring, those included that were done before the run was taken up.
    sizes: HashMap<String, usize>,
}

impl Work {
    fn of(state: &AppState, progress: Progress, files: Migrations, rollout: Rollout, targets: &[Target]) -> Self {
        let fleet = state.lifecycle.fleet(files, targets.iter().map(Target::place));
        let mut sizes = HashMap::new();
        for target in targets {
            *sizes.entry(target.ring.clone()).or_default() += 1;
        }
        Self { progress, fleet, rollout, sizes }
    }

    /// Migrates places, each with its position in the run: ring after ring, in the order in which they stand.
    async fn run(&self, parts: Vec<(usize, Target)>) -> Result<(), String> {
        let all = parts.len();
        let mut failed = Vec::new();
        let mut rings = parts.as_slice();
        while let Some((_, first)) = rings.first() {
            let count = rings.iter().take_while(|(_, target)| target.ring == first.ring).count();
            let (ring, rest) = rings.split_at(count);
            let failures = self.ring(ring).await;
            let halts = self.halts(failures.len(), &first.ring);
            failed.extend(failures);
            rings = rest;
            if halts {
                let name = &ring[0].1.ring;
                let more = format!("; it stopped in ring {name}, where more than {} % failed", self.rollout.halt_percent);
                return blame(&failed, all).map_or(Ok(()), |blame| Err(blame + &more));
            }
        }
        blame(&failed, all).map_or(Ok(()), Err)
    }

    /// Migrates the places of one ring, so many at once overall and on each cluster, until too many failed. Yields which.
    async fn ring(&self, parts: &[(usize, Target)]) -> Vec<String> {
        let mut clusters: BTreeMap<&ClusterName, Vec<usize>> = BTreeMap::new();
        for (index, (_, target)) in parts.iter().enumerate() {
            clusters.entry(&target.place().cluster).or_default().push(index);
        }
        let at_once = usize::from(self.rollout.parallel_per_cluster.min(self.rollout.parallel));
        let (workers, halted) = (&Semaphore::new(usize::from(self.rollout.parallel)), &AtomicBool::new(false));
        let clusters = clusters.into_values().map(|indexes| {
            let places = stream::iter(indexes).map(move |index| async move {
                let (position, target) = &parts[index];
                // A closed semaphore does not occur: it lives as long as the ring.
                let _worker = workers.acquire().await;
                if halted.load(Relaxed) {
                    return None;
                }
                (!self.one(*position, target).await).then(|| target.name())
            });
            // Boxed: the compiler cannot see otherwise that it may go from thread to thread.
            places.buffer_unordered(at_once).boxed()
        });
        let mut ended = pin!(stream::select_all(clusters));
        let mut failed = Vec::new();
        while let Some(end) = ended.next().await {
            failed.extend(end);
            if self.halts(failed.len(), &parts[0].1.ring) {
                halted.store(true, Relaxed);
            }
        }
        failed
    }

    fn halts(&self, failed: usize, ring: &str) -> bool {
        let all = self.sizes.get(ring).copied().unwrap_or_default();
        failed > 0 && failed * 100 > usize::from(self.rollout.halt_percent) * all
    }

    /// Migrates one place; says whether it went through.
    async fn one(&self, position: usize, target: &Target) -> bool {
        let begun = Instant::now();
        self.progress.item(position, RunState::Running, None, None).await;
        let migrated = target.migrate(&self.fleet).await;
        let (end, detail) = match &migrated {
            Ok(files) if files.is_empty() => (RunState::Done, "nothing was missing".to_owned()),
            Ok(files) => (RunState::Done, files.join(", ")),
            Err(error) => (RunState::Failed, error.clone()),
        };
        self.progress.item(position, end, Some(&detail), Some(begun.elapsed())).await;
        migrated.is_ok()
    }
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
