//! A tool of the user's own, ring after ring: which places, how many at once, when to stop, and what came of it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use anyhow::Context as _;
use guardian_client::Client;
use guardian_model::{
    ClusterName,
    api::RunState,
    config::SHARED_RING,
    tool::{Fleet, FleetPlace},
};
use serde::Serialize;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    Migrate, confirm,
    tool::{Ended, Tool},
};
use crate::output::{Failure, Mark, Output, Progress, counted, duration};

/// How many of the places that failed are named in one line.
const BLAMED_MAX: usize = 5;
/// Lines of a tool that are shown when it fails; JSON and `--output-dir` have more.
const SHOWN_LINES_MAX: usize = 40;

/// What came of a run.
#[derive(Serialize)]
struct Report {
    /// Every place that was to be migrated, in order.
    places: Vec<Outcome>,
    /// Why the run failed as a whole.
    error: Option<String>,
}

/// What came of one place.
#[derive(Serialize)]
struct Outcome {
    place: String,
    ring: String,
    state: RunState,
    #[serde(flatten)]
    ended: Ended,
    duration_us: Option<u64>,
}

pub(super) async fn run(asked: Migrate, client: &Client, output: Output) -> anyhow::Result<()> {
    let fleet = client.fleet().await?;
    let places = select(&fleet, &asked)?;
    if let Some(folder) = &asked.output_dir {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    }
    let stop = stop_on_signals()?;
    let tool = Tool { client: client.clone(), command: asked.command, folder: asked.output_dir, stop: stop.clone() };
    let run = Run {
        tool: Arc::new(tool),
        stop,
        workers: Arc::new(Semaphore::new(usize::from(asked.parallel.unwrap_or(fleet.parallel)))),
        at_once: usize::from(fleet.parallel_per_cluster.min(asked.parallel.unwrap_or(fleet.parallel_per_cluster))),
        halt_percent: usize::from(asked.halt_percent.unwrap_or(fleet.halt_percent)),
        output,
    };
    let (report, confirmed) = run.rings(places, asked.confirm_rings).await?;
    output.result(&report, |_| Ok(()))?;
    // What somebody declined to go on with is no failure of a place.
    confirmed?;
    if let Some(error) = report.error {
        return Err(Failure::new(error)
            .advise("mend it and run the command again: the tool's ledger says what is left")
            .into());
    }
    output.done(format!("the tool went through in {}", counted(report.places.len(), "place")))?;
    if report.places.iter().any(|place| place.ring == SHARED_RING) {
        output.remark(
            "what is new in the shared tables is out of the application's reach until `guardian apply` has hardened it",
        );
    }
    Ok(())
}

/// The places that were asked for, ring after ring.
fn select(fleet: &Fleet, asked: &Migrate) -> anyhow::Result<Vec<FleetPlace>> {
    if let Some(ring) = asked.ring.as_ref().filter(|ring| !fleet.rings.contains(ring)) {
        return Err(Failure::usage(format!("there is no ring `{ring}`; there are `{}`", fleet.rings.join("`, `"))).into());
    }
    let mut places: Vec<_> = fleet.places.clone();
    places.retain(|place| asked.ring.as_ref().is_none_or(|ring| *ring == place.ring));
    if asked.tenant.is_empty() {
        return Ok(places);
    }
    let names = |place: &FleetPlace, name: &str| {
        let by_id = place.place.split(['/', ' ']).any(|part| part == name);
        by_id || place.tenant.as_ref().is_some_and(|slug| slug.as_str() == name)
    };
    for tenant in &asked.tenant {
        if !places.iter().any(|place| place.tenant.is_some() && names(place, tenant.as_str())) {
            let problem = format!("there is no tenant `{}` with a place of its own that can be migrated", tenant.as_str());
            return Err(Failure::usage(problem).into());
        }
    }
    places.retain(|place| place.tenant.is_some() && asked.tenant.iter().any(|tenant| names(place, tenant.as_str())));
    Ok(places)
}

/// Cancelled when the process is told to end: tools are ended and logins closed, instead of leaving them to expire.
fn stop_on_signals() -> anyhow::Result<CancellationToken> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
        told.cancel();
    });
    Ok(stop)
}

struct Run {
    tool: Arc<Tool>,
    stop: CancellationToken,
    /// Places at once.
    workers: Arc<Semaphore>,
    /// Places at once on one cluster.
    at_once: usize,
    halt_percent: usize,
    output: Output,
}

impl Run {
    /// Goes through the rings until too many places of one failed. The second value tells whether a person wanted to go on.
    async fn rings(&self, places: Vec<FleetPlace>, ask: bool) -> anyhow::Result<(Report, anyhow::Result<()>)> {
        let all = places.len();
        let progress = Progress::start(self.output, u64::try_from(all).ok());
        let (mut outcomes, mut rest) = (Vec::new(), places.as_slice());
        let (mut confirmed, mut halted) = (Ok(()), None);
        while let Some(first) = rest.first() {
            let (ring, behind) = rest.split_at(rest.iter().take_while(|place| place.ring == first.ring).count());
            if ask && !outcomes.is_empty() {
                let question = format!("Go on with ring {} ({})?", first.ring, counted(ring.len(), "place"));
                confirmed = confirm::yes(&question, "--ring");
                if confirmed.is_err() {
                    break;
                }
            }
            outcomes.extend(self.ring(ring, &progress).await?);
            rest = behind;
            let failed = outcomes.iter().filter(|place| place.ring == first.ring && place.state == RunState::Failed).count();
            if self.halts(failed, ring.len()) || self.stop.is_cancelled() {
                halted = Some(&first.ring);
                break;
            }
        }
        outcomes.extend(rest.iter().map(waiting));
        let failed: Vec<_> =
            outcomes.iter().filter(|place| place.state == RunState::Failed).map(|place| place.place.as_str()).collect();
        let error = match halted {
            _ if self.stop.is_cancelled() => Some("it was told to stop; the tools at work were ended".to_owned()),
            Some(ring) => blame(&failed, all)
                .map(|blame| format!("{blame}; it stopped in ring {ring}, where more than {} % failed", self.halt_percent)),
            None => blame(&failed, all),
        };
        Ok((Report { places: outcomes, error }, confirmed))
    }

    fn halts(&self, failed: usize, all: usize) -> bool {
        failed > 0 && failed * 100 > self.halt_percent * all
    }

    /// Runs the tool in the places of one ring until too many failed; those that it did not come to are waiting.
    async fn ring(&self, places: &[FleetPlace], progress: &Progress) -> anyhow::Result<Vec<Outcome>> {
        let halted = Arc::new(AtomicBool::new(false));
        let mut clusters: HashMap<ClusterName, Arc<Semaphore>> = HashMap::new();
        let mut work = JoinSet::new();
        for (index, place) in places.iter().cloned().enumerate() {
            let cluster = clusters.entry(place.cluster.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.at_once)));
            let (cluster, workers, tool) = (Arc::clone(cluster), Arc::clone(&self.workers), Arc::clone(&self.tool));
            let (halted, stop) = (Arc::clone(&halted), self.stop.clone());
            work.spawn(async move {
                // Closed semaphores do not occur: nobody closes these. In this order, so that who waits for its server keeps no
                // worker from another one.
                let _place = (cluster.acquire_owned().await, workers.acquire_owned().await);
                if halted.load(Relaxed) || stop.is_cancelled() {
                    return (index, None);
                }
                let begun = Instant::now();
                let ended = tool.run(&place).await;
                (index, Some((ended, begun.elapsed())))
            });
        }
        let mut outcomes: Vec<_> = places.iter().map(waiting).collect();
        let mut failed = 0;
        while let Some(done) = work.join_next().await {
            let (index, done) = done.context("a bug in Guardian: the run of a tool panicked")?;
            let Some((ended, took)) = done else { continue };
            let outcome = &mut outcomes[index];
            outcome.state = if ended.error.is_none() { RunState::Done } else { RunState::Failed };
            (outcome.ended, outcome.duration_us) = (ended, u64::try_from(took.as_micros()).ok());
            show(progress, outcome)?;
            failed += usize::from(outcome.state == RunState::Failed);
            if self.halts(failed, places.len()) {
                halted.store(true, Relaxed);
            }
        }
        Ok(outcomes)
    }
}

fn waiting(place: &FleetPlace) -> Outcome {
    let (ended, duration_us) = (Ended::default(), None);
    Outcome { place: place.place.clone(), ring: place.ring.clone(), state: RunState::Waiting, ended, duration_us }
}

fn show(progress: &Progress, outcome: &Outcome) -> anyhow::Result<()> {
    let took = duration(outcome.duration_us.unwrap_or_default());
    let Some(error) = &outcome.ended.error else {
        return progress.ended(Mark::Good, &format!("{} ({took})", outcome.place));
    };
    progress.ended(Mark::Bad, &format!("{}: {error} ({took})", outcome.place))?;
    let lines: Vec<_> = outcome.ended.output.lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN_LINES_MAX)..];
    progress.block(&shown.iter().map(|line| format!("    {line}\n")).collect::<Vec<_>>().concat())
}

/// Names the places that failed, as many as fit on a line or two.
fn blame(failed: &[&str], all: usize) -> Option<String> {
    let named = failed.get(..BLAMED_MAX).unwrap_or(failed).join(", ");
    let more = match failed.len().saturating_sub(BLAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!failed.is_empty()).then(|| format!("{} of {} failed: {named}{more}", failed.len(), counted(all, "place")))
}
