//! Follows an operation or a run to its end and shows each part as it ends.
//!
//! It only looks: the control plane goes on whether or not somebody follows.

use std::time::{Duration, Instant};

use guardian_client::{Client, ClientError};
use guardian_model::{
    Operation, OperationState, Step,
    api::{Run, RunItem, RunState},
    operation::StepRecord,
};

use crate::output::{Failure, Mark, Output, Progress, duration};

/// The first look comes soon, because most operations are short.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A control plane that restarts finishes what it had begun: time enough for it to come back.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Asks again and again, each time after a longer pause, and bears a control plane that is away for a while.
struct Watch {
    pause: Duration,
    answered: Instant,
}

impl Watch {
    fn start() -> Self {
        Self { pause: PAUSE_MIN, answered: Instant::now() }
    }

    /// The next answer; `None` when there was none this time.
    async fn next<T>(&mut self, ask: impl Future<Output = Result<T, ClientError>>) -> Result<Option<T>, ClientError> {
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 3 / 2).min(PAUSE_MAX);
        match ask.await {
            Ok(answer) => {
                self.answered = Instant::now();
                Ok(Some(answer))
            }
            Err(ClientError::Unreachable { .. } | ClientError::Timeout { .. } | ClientError::Answer { .. })
                if self.answered.elapsed() < SILENCE_MAX =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// A step's word for people.
fn words(step: &StepRecord) -> String {
    step.name.replace('_', " ")
}

/// The step at work.
fn current(operation: &Operation) -> Option<&StepRecord> {
    let index = match operation.state {
        OperationState::Undoing => operation.steps_done.saturating_sub(1),
        _ => operation.steps_done,
    };
    operation.steps.get(index)
}

/// Whether the operation sits out its grace period: nothing will happen for days.
pub(crate) fn awaits_grace(operation: &Operation) -> bool {
    let grace = Step::AwaitGrace { until: jiff::Timestamp::UNIX_EPOCH };
    operation.state == OperationState::Running && current(operation).is_some_and(|step| step.name == grace.name())
}

/// Follows an operation until it ends, is stuck or waits out its grace period.
pub(crate) async fn operation(client: &Client, output: Output, first: Operation) -> anyhow::Result<Operation> {
    let progress = Progress::start(output, u64::try_from(first.steps.len()).ok());
    let mut watch = Watch::start();
    let mut operation = first;
    // On the way back, what was done before is no news.
    let mut shown = if operation.state == OperationState::Undoing { operation.steps_done } else { 0 };
    loop {
        show_steps(&progress, &operation, &mut shown)?;
        if !operation.state.is_live() || operation.state == OperationState::Stuck || awaits_grace(&operation) {
            return Ok(operation);
        }
        let doing = current(&operation).map(words).unwrap_or_default();
        let doing = match &operation.error {
            Some(error) => format!("{doing}: attempt {} after: {error}", operation.attempts + 1),
            None => doing,
        };
        progress.now(operation.steps_done as u64, &doing);
        if let Some(next) = watch.next(client.operation(operation.id)).await? {
            if next.steps_done != operation.steps_done {
                watch.pause = PAUSE_MIN;
            }
            operation = next;
        }
    }
}

fn show_steps(progress: &Progress, operation: &Operation, shown: &mut usize) -> anyhow::Result<()> {
    while *shown < operation.steps_done {
        if let Some(step) = operation.steps.get(*shown) {
            let time = step.duration_us.map_or_else(String::new, duration);
            progress.ended(Mark::Good, &format!("{:<20} {time:>10}", words(step)))?;
        }
        *shown += 1;
    }
    while *shown > operation.steps_done {
        *shown -= 1;
        if let Some(step) = operation.steps.get(*shown) {
            progress.ended(Mark::Caution, &format!("{:<20} {:>10}", words(step), "taken back"))?;
        }
    }
    Ok(())
}

/// What is wrong with how an operation ended, when something is.
pub(crate) fn refuse_bad_end(operation: &Operation) -> anyhow::Result<()> {
    let (kind, slug) = (operation.kind.as_str(), &operation.slug);
    let reason = operation.error.as_deref().unwrap_or("it was cancelled");
    match operation.state {
        OperationState::Running | OperationState::Undoing | OperationState::Done => Ok(()),
        OperationState::Undone => {
            Err(Failure::new(format!("the {kind} of `{slug}` was taken back, nothing of it is left: {reason}")).into())
        }
        OperationState::Stuck => {
            let step = current(operation).map(words).unwrap_or_default();
            Err(Failure::new(format!("the {kind} of `{slug}` is stuck at `{step}`: {reason}"))
                .advise(format!("mend what it names, then `guardian operation retry {}`", operation.id))
                .into())
        }
    }
}

/// Follows a run until it ends; a run that did not go through is an error.
pub(crate) async fn run(client: &Client, output: Output, first: Run) -> anyhow::Result<()> {
    let progress = Progress::start(output, u64::try_from(first.items.len()).ok());
    let mut watch = Watch::start();
    let mut run = first;
    let mut shown = Vec::new();
    while !show_items(&progress, &run, &mut shown)? {
        if let Some(next) = watch.next(client.run(run.id)).await? {
            run = next;
        }
    }
    drop(progress);
    output.result(&run, |_| Ok(()))?;
    let failed = run.items.iter().filter(|item| item.state == RunState::Failed).count();
    match run.state {
        RunState::Done => Ok(()),
        RunState::Interrupted => {
            Err(Failure::new(run.error.unwrap_or_else(|| "the control plane stopped in the middle of it".to_owned()))
                .advise("run the command again: it goes on from there")
                .into())
        }
        RunState::Waiting | RunState::Running | RunState::Failed => {
            let reason = run.error.unwrap_or_else(|| format!("{failed} of {} failed", run.items.len()));
            Err(Failure::new(reason).advise("mend it and run the command again: it goes on from there").into())
        }
    }
}

/// Shows what has ended since the last look; yields whether the run itself has ended.
fn show_items(progress: &Progress, run: &Run, shown: &mut Vec<bool>) -> anyhow::Result<bool> {
    shown.resize(run.items.len(), false);
    for (item, shown) in run.items.iter().zip(shown.iter_mut()) {
        let mark = match item.state {
            RunState::Waiting | RunState::Running => continue,
            RunState::Done => Mark::Good,
            RunState::Interrupted => Mark::Caution,
            RunState::Failed => Mark::Bad,
        };
        if !std::mem::replace(shown, true) {
            progress.ended(mark, &item_line(item))?;
        }
    }
    let done = shown.iter().filter(|shown| **shown).count() as u64;
    let doing = run.items.iter().find(|item| item.state == RunState::Running);
    progress.now(done, doing.map_or("", |item| &item.name));
    Ok(!matches!(run.state, RunState::Waiting | RunState::Running))
}

fn item_line(item: &RunItem) -> String {
    let time = item.duration_us.map_or_else(String::new, |us| format!(" ({})", duration(us)));
    format!("{}: {}{time}", item.name, item.detail)
}

#[cfg(test)]
mod tests;
