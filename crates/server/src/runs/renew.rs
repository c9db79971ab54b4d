//! New capabilities and passwords for tenants, while they are served: made, told to every gateway, put in force.
//!
//! What is left to do stands in the tenants themselves, so that whoever takes the run up goes on from there.

use std::time::{Duration, Instant};

use guardian_model::{
    access::Permit,
    api::{RotateSecrets, Run, RunKind, RunState, SecretKind},
};
use guardian_store::{RENEWAL_BATCH, Renewal, TenantRef};

use super::{progress::Progress, shown};
use crate::{
    AppState,
    feed::WAIT_MAX,
    problem::{ApiError, ApiResult, chain},
};

/// A gateway that reaches a control plane asks again within this: as long as it may wait for a change, and a margin. What was
/// published before has then reached all of them.
const HEARING: Duration = WAIT_MAX.saturating_add(Duration::from_secs(5));

const MADE: usize = 0;
const HEARD: usize = 1;
const IN_FORCE: usize = 2;
const CHECKED: usize = 3;

/// Starts the run.
pub(crate) async fn start(state: &AppState, permit: &Permit, asked: &RotateSecrets) -> ApiResult<Run> {
    let only = match &asked.tenant {
        None => None,
        Some(name) => {
            let unknown = || ApiError::not_found(format!("there is no tenant `{}`", crate::api::shown(name)));
            let tenant: TenantRef = name.parse().map_err(|_| unknown())?;
            let tenant = state.store.tenant(&tenant).await?.ok_or_else(unknown)?;
            let is_row = tenant.placement.isolation == guardian_model::Isolation::Row;
            if is_row != (asked.what == SecretKind::Capabilities) {
                let other = if is_row { SecretKind::Capabilities } else { SecretKind::Passwords };
                let detail = format!("`{}` has no {}; ask for its {}", tenant.slug, asked.what.as_str(), other.as_str());
                return Err(ApiError::invalid(detail));
            }
            Some(tenant.id)
        }
    };
    let arguments = serde_json::json!({ "what": asked.what, "tenant": only });
    let progress = Progress::begin(state, permit, RunKind::RotateSecrets, arguments, &items(asked.what)).await?;
    let (id, renewal) = (progress.id(), Renewal { kind: asked.what, only });
    progress.clone().spawn(state, work(state.clone(), progress, renewal));
    shown(state, id).await
}

/// Goes on with a run whose process ended.
pub(super) fn resume(state: &AppState, progress: Progress) {
    let arguments = progress.arguments();
    let kind = arguments["what"].as_str().and_then(SecretKind::from_word).unwrap_or(SecretKind::Capabilities);
    let renewal = Renewal { kind, only: arguments["tenant"].as_str().and_then(|id| id.parse().ok()) };
    progress.clone().spawn(state, work(state.clone(), progress, renewal));
}

fn items(what: SecretKind) -> Vec<(String, String)> {
    let what = what.as_str();
    [
        (format!("new {what}"), "made"),
        ("every gateway".to_owned(), "has heard of them"),
        (format!("the new {what}"), "in force, and the old ones not"),
        (format!("the old {what}"), "open nothing"),
    ]
    .map(|(name, detail)| (name, detail.to_owned()))
    .to_vec()
}

async fn work(state: AppState, progress: Progress, renewal: Renewal) -> Result<(), String> {
    let run = state.store.run(progress.id()).await.map_err(|error| chain(&error))?;
    let had_heard = run.is_some_and(|run| run.items.get(HEARD).is_some_and(|item| item.state == RunState::Done));
    let mut made_now = 0;
    for position in [MADE, HEARD, IN_FORCE, CHECKED] {
        let begun = Instant::now();
        progress.item(position, RunState::Running, None, None).await;
        let done = match position {
            MADE => make(&state, &progress, renewal).await.map(|made| {
                made_now = made;
                format!("{made} made")
            }),
            // By a process that held the run before, after all that are to come were made.
            HEARD if had_heard && made_now == 0 => Ok("whichever reaches a control plane".to_owned()),
            HEARD => {
                // Those that were made just now are published within a moment, and count from then.
                tokio::time::sleep(HEARING).await;
                Ok("whichever reaches a control plane".to_owned())
            }
            IN_FORCE => put_in_force(&state, &progress, renewal).await,
            _ => check(&state, &progress, renewal).await,
        };
        match done {
            Ok(detail) => progress.item(position, RunState::Done, Some(&detail), Some(begun.elapsed())).await,
            Err(error) => {
                progress.item(position, RunState::Failed, Some(&error), None).await;
                return Err(error);
            }
        }
    }
    Ok(())
}

async fn make(state: &AppState, progress: &Progress, renewal: Renewal) -> Result<usize, String> {
    let mut made = 0;
    loop {
        let some = state.store.make_next_secrets(progress.claim(), renewal).await.map_err(|error| chain(&error))?;
        made += some;
        if some < RENEWAL_BATCH {
            return Ok(made);
        }
        progress.item(MADE, RunState::Running, Some(&format!("{made} made")), None).await;
    }
}

async fn put_in_force(state: &AppState, progress: &Progress, renewal: Renewal) -> Result<String, String> {
    let (mut after, mut changed) = (None, 0);
    loop {
        let batch = state.store.renewed_tenants(renewal, true, after).await.map_err(|error| chain(&error))?;
        let Some(last) = batch.last() else { return Ok(format!("{changed} changed")) };
        after = Some(last.tenant.id);
        let done = state.lifecycle.put_in_force(progress.claim(), renewal, &batch).await;
        changed += done.map_err(|error| chain(&error))?;
        progress.item(IN_FORCE, RunState::Running, Some(&format!("{changed} changed")), None).await;
    }
}

async fn check(state: &AppState, progress: &Progress, renewal: Renewal) -> Result<String, String> {
    let (mut after, mut looked, mut mended) = (None, 0, 0);
    // Of a password a server keeps one verifier, which was replaced.
    if renewal.kind == SecretKind::Passwords {
        return Ok("open nothing".to_owned());
    }
    loop {
        let batch = state.store.renewed_tenants(renewal, false, after).await.map_err(|error| chain(&error))?;
        let Some(last) = batch.last() else { break };
        after = Some(last.tenant.id);
        looked += batch.len();
        let done = state.lifecycle.hold_to_capabilities(progress.claim(), &batch).await;
        mended += done.map_err(|error| chain(&error))?;
        progress.item(CHECKED, RunState::Running, Some(&format!("{looked} looked at")), None).await;
    }
    Ok(if mended == 0 {
        "open nothing".to_owned()
    } else {
        format!("{mended} that an operation had put back were replaced")
    })
}
