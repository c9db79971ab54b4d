//! Plays attacks and judges them by their controls.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::{
    Judged,
    attack::{Attack, Control, Success},
    canary::{Marks, Tenant},
    context::{By, Context, Origin},
    session::{Entrance, Outcome, Session, Step},
};

/// The sessions of a campaign.
pub(crate) struct Runner<'f> {
    pub(crate) administrator: Session,
    /// In place there is only the administrator's session, which takes the role on.
    pub(crate) attacker: Option<Session>,
    pub(crate) victim: Option<PgConnection>,
    pub(crate) saw_sessions: bool,
    pub(crate) context: Context,
    marks: &'f Marks,
    /// Controls that were run already: most attacks on a table share them.
    controlled: HashMap<String, Result<(), String>>,
}

impl<'f> Runner<'f> {
    pub(crate) fn new(administrator: Session, marks: &'f Marks, context: Context) -> Self {
        let controlled = HashMap::new();
        Self { administrator, attacker: None, victim: None, saw_sessions: false, context, marks, controlled }
    }

    /// Ends the sessions of one role.
    pub(crate) async fn release(&mut self) {
        use sqlx::Connection as _;
        self.controlled.clear();
        if let Some(victim) = self.victim.take() {
            self.saw_sessions = true;
            let _ = victim.close().await;
        }
        if let Some(attacker) = self.attacker.take() {
            let _ = attacker.connection.close().await;
        }
    }

    pub(crate) async fn play(&mut self, steps: &[Step]) -> Outcome {
        let Self { administrator, attacker, context, marks, .. } = self;
        attacker.as_mut().unwrap_or(administrator).play(context, marks, steps).await
    }

    /// See [`Session::aftermath`]; by the administrator's session, which can go back.
    pub(crate) async fn aftermath(&mut self, tenant: Tenant, call: &str, question: &str) -> Outcome {
        let Self { administrator, attacker, context, marks, .. } = self;
        let Some(attacker) = attacker else { return Outcome::Unclear("there is no session for it".to_owned()) };
        let as_was = administrator.entrance;
        administrator.entrance = Entrance::Authorization;
        administrator.role.clone_from(&attacker.role);
        administrator.role_settings.clone_from(&attacker.role_settings);
        let outcome = administrator.aftermath(context, marks, tenant, call, question).await;
        administrator.entrance = as_was;
        outcome
    }

    /// Takes the first context in which tenant A sees a row of its own.
    pub(crate) async fn find_context(&mut self, proposals: Vec<Context>, probes: &[String]) {
        const PROBES_MAX: usize = 20;
        for proposal in proposals {
            // A login cannot set what only an administrator can; the session that takes the role on can do both.
            let previous = std::mem::replace(&mut self.context, proposal);
            for probe in probes.iter().take(PROBES_MAX) {
                let outcome = self.play(&[Step::Enter(Tenant::A), Step::Run(probe.clone())]).await;
                if Success::Positive.is_met(&outcome, self.marks) {
                    // Rows that show without any context are not the context's doing.
                    let bare = self.play(&[Step::Run(probe.clone())]).await;
                    if !Success::Positive.is_met(&bare, self.marks) {
                        return;
                    }
                }
            }
            self.context = previous;
        }
    }

    /// Plays an attack, and its controls when it did not succeed.
    pub(crate) async fn judge(&mut self, attack: &Attack) -> Judged {
        if let (true, Some(reason)) = (self.administrator.in_place, attack.not_in_place) {
            return Judged::NotShown { reason: format!("not in place: {reason}") };
        }
        let outcome = self.play(&attack.steps).await;
        if attack.success.is_met(&outcome, self.marks) {
            return Judged::Leaks { reproduce: self.script(&attack.steps), seen: outcome.describe() };
        }
        if let Outcome::Unclear(reason) = outcome {
            return Judged::NotShown { reason };
        }
        if let Err(reason) = self.control(attack).await {
            let reason = format!("no control shows that it could succeed: {reason}");
            return if attack.moot_without_control { Judged::Moot { reason } } else { Judged::NotShown { reason } };
        }
        if !outcome.is_refused() || !self.context.is_none() {
            for (steps, success) in &attack.requires {
                if let Err(reason) = self.own(steps, success).await {
                    return Judged::NotShown { reason };
                }
            }
        }
        Judged::Held { seen: outcome.describe() }
    }

    /// One control that holds is enough.
    async fn control(&mut self, attack: &Attack) -> Result<(), String> {
        let mut reasons = Vec::new();
        for control in &attack.controls {
            let Some(last) = attack.steps.last() else { continue };
            let held = match control {
                Control::Administrator => self.as_administrator(last, &attack.success).await,
                Control::AdministratorRuns(sql, success) => self.as_administrator(&Step::Run(sql.clone()), success).await,
                Control::Victim => self.steps(&[Step::Enter(Tenant::B), last.clone()], &attack.success).await,
                Control::Steps(steps, success) => self.steps(steps, success).await,
            };
            match held {
                Ok(()) => return Ok(()),
                Err(reason) => reasons.push(reason),
            }
        }
        Err(reasons.join("; "))
    }

    async fn as_administrator(&mut self, step: &Step, success: &Success) -> Result<(), String> {
        let key = format!("administrator {step:?} {success:?}");
        if let Some(known) = self.controlled.get(&key) {
            return known.clone();
        }
        let outcome = self.administrator.play_as_administrator(step).await;
        let held = if success.is_met(&outcome, self.marks) {
            Ok(())
        } else {
            Err(format!("to the administrator it {}", outcome.describe()))
        };
        self.controlled.insert(key, held.clone());
        held
    }

    async fn steps(&mut self, steps: &[Step], success: &Success) -> Result<(), String> {
        let key = format!("{steps:?} {success:?}");
        if let Some(known) = self.controlled.get(&key) {
            return known.clone();
        }
        let outcome = self.play(steps).await;
        let held = if success.is_met(&outcome, self.marks) {
            Ok(())
        } else {
            Err(format!("to a session in its own context it {}", outcome.describe()))
        };
        self.controlled.insert(key, held.clone());
        held
    }

    async fn own(&mut self, steps: &[Step], success: &Success) -> Result<(), String> {
        let held = self.steps(steps, success).await;
        held.map_err(|reason| format!("tenant A cannot do the same with its own row, so its context may be none: {reason}"))
    }

    /// The steps as SQL that a person can run.
    pub(crate) fn script(&self, steps: &[Step]) -> Vec<String> {
        let enter = |tenant: Tenant| match (self.context.origin, self.context.by) {
            (Origin::None, _) => None,
            (Origin::Guardian, _) => Some(format!("SELECT guardian.enter(<capability of tenant {tenant}>)")),
            (_, By::Application) => self.context.sql(tenant, self.marks),
            (_, By::Administrator) => self.context.sql(tenant, self.marks).map(|sql| format!("{sql} -- by a superuser")),
        };
        steps
            .iter()
            .filter_map(|step| match step {
                Step::Enter(tenant) => enter(*tenant),
                Step::Run(sql) | Step::CopyOut(sql) => Some(sql.clone()),
            })
            .collect()
    }
}
