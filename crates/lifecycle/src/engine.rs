//! Works through one claimed operation: forward to its end, or back to its beginning.
//!
//! Whatever happens here can be cut off at any instant. A step may then have been applied without being recorded; the next
//! worker applies it again. What a step does stands in [`crate::step`], what it consists of in [`crate::operations`].

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt as _;
use guardian_model::{Capability, Operation, OperationState, Step};
use guardian_store::{Claim, ClaimError, Lease, Store};
use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    grip::{Grip, Hands},
    step::{Progress, StepError, Steps},
};

/// Tries of one step before it is given up.
const ATTEMPTS_MAX: u32 = 8;
/// Claims of one step that ended with neither a success nor a failure: each time, the process was gone.
const CLAIMS_MAX: u32 = 20;
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The longest wait between two looks at the clock; a cancellation cuts it short anyway.
const WAIT_MAX: Duration = Duration::from_hours(24);

/// How the work on a claim ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is over.
    Ended(Box<Operation>),
    /// It goes on later, by whoever claims it then, or when a person has helped.
    Later,
}

/// Runs operations.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) store: Store,
    pub(crate) steps: Steps,
    pub(crate) lease: Lease,
    /// When cancelled, operations stop after the step at hand and are given back.
    pub(crate) stop: CancellationToken,
}

impl Engine {
    /// Works on the operation until it has ended or cannot go on now. An error means that the claim is lost, not the
    /// operation: another worker takes it up when the lease ends.
    pub(crate) async fn run(
        &self,
        mut claim: Claim,
        claimed_at: Instant,
        capability: Option<Capability>,
    ) -> Result<Outcome, ClaimError> {
        let hands = Hands::default();
        let mut confirmed_at = claimed_at;
        loop {
            if self.stop.is_cancelled() {
                self.store.release(&claim).await?;
                return Ok(Outcome::Later);
            }
            if confirmed_at.elapsed() > self.lease.duration / 3 {
                self.store.renew(&claim, &self.lease).await?;
                confirmed_at = Instant::now();
            }
            let begun = Instant::now();
            let grip = Grip {
                store: &self.store,
                clusters: &self.steps.clusters,
                lease: &self.lease,
                claim: &claim,
                confirmed_at,
                capability: capability.as_ref(),
                hands: &hands,
            };
            match self.step(&grip).await {
                Ok(None) => match self.store.finish(&claim, None).await {
                    Err(ClaimError::TurnedBack(_)) => {
                        self.store.reschedule(&claim, Duration::ZERO, None).await?;
                        return Ok(Outcome::Later);
                    }
                    ended => return ended.map(|operation| Outcome::Ended(Box::new(operation))),
                },
                Ok(Some(Progress::Wait { until })) => {
                    self.store.reschedule(&claim, wait(until, Timestamp::now()), None).await?;
                    return Ok(Outcome::Later);
                }
                Ok(Some(Progress::Done)) => {
                    let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
                    if is_last(&claim) {
                        match self.store.finish(&claim, Some(took_us)).await {
                            // Cancelled while the last step was at work: it is done, and is now undone.
                            Err(ClaimError::TurnedBack(_)) => self.store.record_step(&mut claim, took_us).await?,
                            ended => return ended.map(|operation| Outcome::Ended(Box::new(operation))),
                        }
                    } else {
                        self.store.record_step(&mut claim, took_us).await?;
                    }
                }
                Err(StepError::Lost(error)) => return Err(error),
                Err(error) => {
                    hands.release_all();
                    if !self.after_failure(&mut claim, &error).await? {
                        return Ok(Outcome::Later);
                    }
                }
            }
        }
    }

    /// The next step in the direction of travel; `None` when there is none left.
    async fn step(&self, grip: &Grip<'_>) -> Result<Option<Progress>, StepError> {
        let claim = grip.claim;
        let undoing = claim.state == OperationState::Undoing;
        let index = if undoing { claim.steps_done.checked_sub(1) } else { Some(claim.steps_done) };
        let Some(step) = index.and_then(|index| claim.plan.steps.get(index)) else { return Ok(None) };
        // Waiting is claimed again and again by its nature.
        if claim.attempts > CLAIMS_MAX && !matches!(step, Step::AwaitGrace { .. }) {
            return Err(StepError::Lethal(claim.attempts));
        }
        let act = async {
            if undoing {
                self.steps.undo(step, grip).await.map(|()| Progress::Done)
            } else {
                self.steps.apply(step, grip).await
            }
        };
        tokio::select! {
            // A bug in a step must not take the worker with it, nor leave the operation to be tried for ever.
            acted = AssertUnwindSafe(act).catch_unwind() => acted.unwrap_or_else(|panic| Err(StepError::panicked(&*panic))).map(Some),
            error = self.keep(claim) => Err(StepError::Lost(error)),
        }
    }

    /// Renews the lease while a step is at work; comes back when it is lost.
    async fn keep(&self, claim: &Claim) -> ClaimError {
        let mut renewed_at = Instant::now();
        loop {
            sleep(self.lease.duration / 3).await;
            match self.store.renew(claim, &self.lease).await {
                Ok(()) => renewed_at = Instant::now(),
                // A store that is away for a moment costs nothing as long as the lease stands.
                Err(ClaimError::Store(error)) if renewed_at.elapsed() < self.lease.duration => {
                    tracing::warn!(operation.id = %claim.id, %error, "lease not renewed; trying again");
                }
                Err(error) => return error,
            }
        }
    }

    /// Tries again, turns back, or leaves it to a person. Says whether this worker goes on at once.
    async fn after_failure(&self, claim: &mut Claim, error: &StepError) -> Result<bool, ClaimError> {
        let text = error.to_string();
        let undoing = claim.state == OperationState::Undoing;
        if error.is_transient() && claim.attempts < ATTEMPTS_MAX {
            let after = backoff(claim.attempts);
            tracing::warn!(operation.id = %claim.id, tenant.id = %claim.tenant.id, error = %text, after_ms = after.as_millis(),
                "step failed; it is tried again");
            self.store.reschedule(claim, after, Some(&text)).await?;
            return Ok(false);
        }
        let reversible = !undoing && claim.plan.is_reversible_at(claim.steps_done) && !error.is_bug();
        if reversible {
            tracing::warn!(operation.id = %claim.id, tenant.id = %claim.tenant.id, error = %text, "step failed; undoing");
            self.store.turn_back(claim, &text).await?;
            return Ok(true);
        }
        let incident = self.store.stick(claim, &text).await?;
        tracing::error!(operation.id = %claim.id, tenant.id = %claim.tenant.id, incident.id = %incident, error = %text,
            "operation is stuck and waits for a person");
        Ok(false)
    }
}

fn is_last(claim: &Claim) -> bool {
    match claim.state {
        OperationState::Undoing => claim.steps_done <= 1,
        _ => claim.steps_done + 1 >= claim.plan.steps.len(),
    }
}

fn backoff(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    (BACKOFF_MIN * 2_u32.pow(doublings)).min(BACKOFF_MAX)
}

fn wait(until: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(until.duration_since(now)).unwrap_or_default().min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_within_bounds() {
        let waits: Vec<u128> = (1..=ATTEMPTS_MAX).map(|attempts| backoff(attempts).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }

    #[test]
    fn a_wait_is_neither_negative_nor_for_ever() {
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(wait(now, now + jiff::SignedDuration::from_secs(1)), Duration::ZERO);
        assert_eq!(wait(now + jiff::SignedDuration::from_secs(5), now), Duration::from_secs(5));
        assert_eq!(wait(Timestamp::MAX, now), WAIT_MAX);
    }
}
