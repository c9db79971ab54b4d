//! The change of the master key: the new one seals, every control plane has heard of it, and everything is sealed anew.
//!
//! Each part is done again from the start by whoever takes the run up: what is under the new key already is left alone.

use std::time::{Duration, Instant};

use guardian_model::{
    access::Permit,
    api::{Run, RunKind, RunState},
};
use guardian_store::{Pass, SEALED_COLUMNS};

use super::{progress::Progress, shown};
use crate::{
    AppState,
    problem::{ApiResult, chain},
};

/// From look to look whether every control plane seals with the new key.
const LOOK: Duration = Duration::from_millis(250);
/// Rounds over what is sealed. The second finds what was sealed with the old key while the first went by.
const ROUNDS_MAX: u32 = 10;

/// Starts the run, to the key that every control plane has and none seals with yet.
pub(crate) async fn start(state: &AppState, permit: &Permit) -> ApiResult<Run> {
    let new = state.store.next_master_key(state.lifecycle.lease()).await?;
    let progress =
        Progress::begin(state, permit, RunKind::RotateKey, serde_json::json!({ "key": new }), &items(&new)).await?;
    let id = progress.id();
    progress.clone().spawn(state, work(state.clone(), progress, new));
    shown(state, id).await
}

/// Goes on with a run whose process ended.
pub(super) fn resume(state: &AppState, progress: Progress) {
    let new = progress.arguments()["key"].as_str().unwrap_or_default().to_owned();
    progress.clone().spawn(state, work(state.clone(), progress, new));
}

fn items(new: &str) -> Vec<(String, String)> {
    let switch = ("the key that seals".to_owned(), format!("every control plane seals with {new}"));
    let columns =
        SEALED_COLUMNS.iter().map(|column| (format!("{}.{}", column.table, column.column), "sealed anew".to_owned()));
    std::iter::once(switch).chain(columns).collect()
}

async fn work(state: AppState, progress: Progress, new: String) -> Result<(), String> {
    let begun = Instant::now();
    progress.item(0, RunState::Running, None, None).await;
    if let Err(error) = switch(&state, &progress, &new).await {
        progress.item(0, RunState::Failed, Some(&error), None).await;
        return Err(error);
    }
    progress.item(0, RunState::Done, None, Some(begun.elapsed())).await;
    let canary = SEALED_COLUMNS.len() - 1;
    for round in 0.. {
        let mut resealed = 0;
        for index in 0..canary {
            resealed += reseal(&state, &progress, index, round, &new).await?;
        }
        if resealed == 0 {
            break;
        }
        if round >= ROUNDS_MAX {
            return Err(
                "somebody goes on to seal with the old key; is there a control plane that nobody knows of?".to_owned()
            );
        }
    }
    // As long as the canary is under the old key, no start is possible without it.
    reseal(&state, &progress, canary, 0, &new).await?;
    state.store.end_rotation(&new).await.map_err(|error| chain(&error))
}

/// One column, from its first secret to its last; gives how many were sealed anew.
async fn reseal(state: &AppState, progress: &Progress, index: usize, round: u32, new: &str) -> Result<u64, String> {
    let (position, begun) = (index + 1, Instant::now());
    let mut pass = Pass::of(SEALED_COLUMNS[index]);
    loop {
        match state.store.reseal(&mut pass, new).await {
            Ok(true) if round == 0 => {
                let detail = format!("{} looked at", pass.looked);
                progress.item(position, RunState::Running, Some(&detail), None).await;
            }
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                let error = chain(&error);
                progress.item(position, RunState::Failed, Some(&error), None).await;
                return Err(error);
            }
        }
    }
    if round == 0 || pass.resealed > 0 {
        let detail = format!("{} sealed anew", pass.resealed);
        progress.item(position, RunState::Done, Some(&detail), Some(begun.elapsed())).await;
    }
    Ok(pass.resealed)
}

/// Makes the key the one that seals, and waits until no control plane can seal with another.
async fn switch(state: &AppState, progress: &Progress, new: &str) -> Result<(), String> {
    let lease = state.lifecycle.lease();
    state.store.switch_key(progress.claim(), lease, new).await.map_err(|error| chain(&error))?;
    loop {
        let others = state.store.sealing_otherwise(lease, new).await.map_err(|error| chain(&error))?;
        if others.is_empty() {
            return Ok(());
        }
        let waits = format!("waits for {}", others.join(", "));
        progress.item(0, RunState::Running, Some(&waits), None).await;
        tokio::time::sleep(LOOK).await;
    }
}
