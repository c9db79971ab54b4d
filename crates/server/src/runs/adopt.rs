//! The steps of an adoption as runs: the same statements as `apply`, those of one stage, with short waits for locks.
//!
//! A step that was cut off is computed anew from what is there; each leaves the application working wherever it ends.

use std::time::Instant;

use guardian_model::{
    AdoptionStage, Config,
    access::Permit,
    adoption::{AdoptionColumn, AdoptionOther, AdoptionStatus, AdoptionStep, AdoptionTable, StartAdoption},
    api::{Run, RunKind, RunState},
    config::Adoption,
    placement::ApplicationRoles,
};
use guardian_postgres::{
    Facts,
    adopt::{self, Step, backfill},
    apply::{Patience, hold},
    facts::collect,
    harden::{self, Declaration, Hardening},
    scram,
};
use guardian_provision::role;
use guardian_store::StageError;
use sqlx::{Connection as _, PgConnection};

use super::{
    apply::{Statements, connect},
    progress::Progress,
    shown,
};
use crate::{
    AppState,
    problem::{ApiError, ApiResult, Kind, chain},
};

/// Waits for a lock are short, so there are many of them.
const ATTEMPTS_MAX: u32 = 100;

/// What one look at the database says.
struct Look {
    config: Config,
    declaration: Declaration,
    facts: Facts,
    stage: AdoptionStage,
}

async fn look(state: &AppState) -> ApiResult<(PgConnection, Look)> {
    let config = state.config.current()?;
    let mut connection = connect(state, &config.shared_place()).await?;
    let look = look_by(state, config, &mut connection).await?;
    Ok((connection, look))
}

async fn look_by(state: &AppState, config: Config, connection: &mut PgConnection) -> ApiResult<Look> {
    let adoption = state.store.adoption(&config.application.name).await?;
    let declaration = Declaration::from(&config);
    let facts = collect(connection, &declaration).await.map_err(ApiError::internal)?;
    Ok(Look { config, declaration, facts, stage: adoption.stage })
}

impl Look {
    fn plan(&self, step: AdoptionStep, tables: &[String]) -> Hardening {
        let step = match step {
            AdoptionStep::Prepare => Step::Prepare { serve: self.stage != AdoptionStage::Enforced },
            AdoptionStep::Enforce => Step::Enforce(tables),
            AdoptionStep::Release => Step::Release(tables),
            AdoptionStep::Finish => Step::Finish,
        };
        adopt::plan(&self.facts, &self.declaration, step)
    }

    fn status(&self) -> AdoptionStatus {
        let Self { declaration, facts, stage, .. } = self;
        let ours = facts.relations.iter().filter(|one| !one.partition && !one.extension && one.schema != "guardian");
        let tables = ours
            .filter_map(|one| {
                let column = match &one.tenant {
                    Some(tenant) if tenant.nulls > 0 => AdoptionColumn::Filling,
                    Some(_) => AdoptionColumn::Full,
                    None if matches!(adopt::parent(facts, declaration, one), Ok(Some(_))) => AdoptionColumn::Missing,
                    None => return None,
                };
                let name = format!("{}.{}", one.schema, one.name);
                Some((AdoptionTable { name, column, enforced: adopt::is_enforced(facts, one) }, &one.others))
            })
            .collect::<Vec<_>>();
        let mut others: Vec<AdoptionOther> = Vec::new();
        for (table, roles) in &tables {
            for role in
                roles.iter().filter(|role| Some(*role) != declaration.adoption.as_ref().map(|one| &one.existing_role))
            {
                match others.iter_mut().find(|other| other.role == *role) {
                    Some(other) => other.tables.push(table.name.clone()),
                    None => others.push(AdoptionOther { role: role.clone(), tables: vec![table.name.clone()] }),
                }
            }
        }
        let finish = harden::plan(facts, declaration).only(|statement| statement.stage == harden::Stage::Finish);
        AdoptionStatus {
            stage: *stage,
            existing_role: declaration.adoption.as_ref().map(|adoption| adoption.existing_role.clone()),
            prepared: declaration.adoption.is_some() && adopt::is_prepared(facts, declaration),
            tables: tables.into_iter().map(|(table, _)| table).collect(),
            others,
            finish_statements: u32::try_from(finish.statements().count()).unwrap_or(u32::MAX),
        }
    }
}

/// How far it has come.
pub(crate) async fn status(state: &AppState) -> ApiResult<AdoptionStatus> {
    let (connection, look) = look(state).await?;
    connection.close().await.ok();
    Ok(look.status())
}

/// What a step would do now.
pub(crate) async fn plan(state: &AppState, step: AdoptionStep, tables: &[String]) -> ApiResult<Hardening> {
    let (connection, look) = look(state).await?;
    connection.close().await.ok();
    let hardening = look.plan(step, tables);
    Ok(match step {
        AdoptionStep::Prepare => backfill::shown(&backfill::tasks(&look.facts, &look.declaration), hardening),
        AdoptionStep::Enforce | AdoptionStep::Release | AdoptionStep::Finish => hardening,
    })
}

/// Begins or ends the observation.
pub(crate) async fn observe(state: &AppState, permit: &Permit, observing: bool) -> ApiResult<AdoptionStatus> {
    let application = &state.config.started_with().application.name;
    let (from, to) = if observing {
        (AdoptionStage::Prepared, AdoptionStage::Observing)
    } else {
        (AdoptionStage::Observing, AdoptionStage::Prepared)
    };
    if !observing {
        let (connection, look) = look(state).await?;
        connection.close().await.ok();
        if let Some(table) = look.status().tables.iter().find(|table| table.enforced) {
            let detail = format!("{} is enforced; `guardian adopt release --all` first", table.name);
            return Err(ApiError::new(Kind::WrongState, detail));
        }
    }
    state.store.set_stage(permit, application, &[from], to).await.map_err(out_of_order)?;
    status(state).await
}

fn out_of_order(error: StageError) -> ApiError {
    match error {
        StageError::OutOfOrder { now, wanted } => {
            let way = match (now, wanted) {
                (AdoptionStage::None, _) => "begin with `guardian adopt prepare`",
                (AdoptionStage::Enforced, _) => "`guardian adopt release --all` goes back to observing",
                (AdoptionStage::Prepared | AdoptionStage::Observing, _) => "`guardian adopt status` says what comes next",
            };
            ApiError::new(Kind::WrongState, format!("the adoption is in the stage `{now}`; {way}"))
        }
        StageError::Store(error) => error.into(),
    }
}

/// The stages in which a step may be taken.
const fn allowed(step: AdoptionStep) -> &'static [AdoptionStage] {
    use AdoptionStage::{Enforced, None, Observing, Prepared};
    match step {
        AdoptionStep::Prepare => &[None, Prepared, Observing, Enforced],
        AdoptionStep::Enforce | AdoptionStep::Release => &[Observing, Enforced],
        AdoptionStep::Finish => &[Enforced],
    }
}

/// Starts a step.
pub(crate) async fn start(state: &AppState, permit: &Permit, asked: StartAdoption) -> ApiResult<Run> {
    let (connection, look) = look(state).await?;
    let StartAdoption { step, tables } = asked;
    let hardening = look.plan(step, &tables);
    refuse(&look, step, &hardening)?;
    let work = Work::new(state, look, StartAdoption { step, tables })?;
    let arguments = serde_json::to_value(&work.asked).map_err(ApiError::internal)?;
    let progress = Progress::begin(state, permit, RunKind::Adopt, arguments, &work.items()).await?;
    let id = progress.id();
    progress.clone().spawn(state, work.run(progress, 0, connection));
    shown(state, id).await
}

/// Goes on with a run whose process ended: what was done stands, and a new plan has the rest.
pub(super) fn resume(state: &AppState, progress: Progress) {
    progress.clone().spawn(state, go_on(state.clone(), progress));
}

async fn go_on(state: AppState, progress: Progress) -> Result<(), String> {
    let told = |error: ApiError| error.detail().to_owned();
    let asked: StartAdoption = serde_json::from_value(progress.arguments().clone()).map_err(|error| chain(&error))?;
    let config = state.config.current().map_err(told)?;
    let mut connection = connect(&state, &config.shared_place()).await.map_err(told)?;
    // The session of the process that ended may still be in the middle of a statement.
    hold(&mut connection).await.map_err(|error| chain(&error))?;
    progress.confirm().await?;
    let look = look_by(&state, config, &mut connection).await.map_err(told)?;
    let work = Work::new(&state, look, asked).map_err(told)?;
    if let Some(refusal) = work.hardening.refusals.first() {
        return Err(format!("{}: {}", refusal.object, refusal.problem));
    }
    let first = progress.replan(&work.items()).await?;
    work.run(progress, first, connection).await
}

fn refuse(look: &Look, step: AdoptionStep, hardening: &Hardening) -> ApiResult<()> {
    if !hardening.refusals.is_empty() {
        let objects = hardening.refusals.iter().map(|refusal| refusal.object.as_str()).collect::<Vec<_>>().join(", ");
        let detail =
            format!("decide first about {objects}; `guardian adopt {} --dry-run` shows the ways out", step.as_str());
        return Err(ApiError::new(Kind::Undecided, detail));
    }
    if !allowed(step).contains(&look.stage) {
        let wanted = AdoptionStage::Observing;
        return Err(out_of_order(StageError::OutOfOrder { now: look.stage, wanted }));
    }
    if step == AdoptionStep::Enforce && !adopt::is_prepared(&look.facts, &look.declaration) {
        let detail = "something new is not prepared yet; `guardian adopt prepare` first".to_owned();
        return Err(ApiError::new(Kind::WrongState, detail));
    }
    Ok(())
}

struct Work {
    state: AppState,
    look: Look,
    adoption: Adoption,
    asked: StartAdoption,
    tasks: Vec<backfill::Task>,
    hardening: Hardening,
}

impl Work {
    fn new(state: &AppState, look: Look, asked: StartAdoption) -> ApiResult<Self> {
        let hardening = look.plan(asked.step, &asked.tables);
        let Some(adoption) = look.declaration.adoption.clone() else {
            return Err(ApiError::new(Kind::Undecided, "guardian.toml has no [adoption]".to_owned()));
        };
        let is_prepare = asked.step == AdoptionStep::Prepare;
        let tasks = if is_prepare { backfill::tasks(&look.facts, &look.declaration) } else { Vec::new() };
        Ok(Self { state: state.clone(), look, adoption, asked, tasks, hardening })
    }

    /// The parts of the run, as they are shown: tables to fill, statements, and what the step is for.
    fn items(&self) -> Vec<(String, String)> {
        let fills = self.tasks.iter().map(|task| (task.label.clone(), "its tenant column is filled".to_owned()));
        fills.chain(self.items_after(&self.hardening)).collect()
    }

    /// What comes after the filling.
    fn items_after(&self, hardening: &Hardening) -> Vec<(String, String)> {
        let statements = hardening.statements().map(|(statement, _)| (statement.object.clone(), statement.reason.clone()));
        let is_whole = self.asked.tables.is_empty();
        let last = match self.asked.step {
            AdoptionStep::Prepare => "the passwords of Guardian's roles are those that it keeps sealed",
            AdoptionStep::Enforce if is_whole => "the gateway serves the application by its own role",
            AdoptionStep::Release if is_whole => "the gateway serves the application as before",
            AdoptionStep::Enforce | AdoptionStep::Release => "these tables",
            AdoptionStep::Finish => "the adoption is over",
        };
        statements.chain([(self.asked.step.as_str().to_owned(), last.to_owned())]).collect()
    }

    async fn run(self, progress: Progress, first: usize, mut connection: PgConnection) -> Result<(), String> {
        let ended = self.go(&progress, first, &mut connection).await;
        connection.close().await.ok();
        ended
    }

    fn patience(&self) -> Patience {
        Patience { lock_wait_ms_max: self.adoption.lock_wait_ms_max, attempts_max: ATTEMPTS_MAX, rests: true }
    }

    async fn go(&self, progress: &Progress, first: usize, connection: &mut PgConnection) -> Result<(), String> {
        // Two runs at once would fill the same rows; the lock goes with the session.
        hold(connection).await.map_err(|error| chain(&error))?;
        self.backfill(progress, first, connection).await?;
        let (hardening, first) = self.planned_again(progress, first + self.tasks.len(), connection).await?;
        let is_whole = self.asked.tables.is_empty();
        if self.asked.step == AdoptionStep::Release && is_whole {
            // First the roles, then the gateway, so that nobody is served by a role without rights.
            self.reach(&[AdoptionStage::Enforced], AdoptionStage::Observing, connection).await?;
        }
        Statements { progress, hardening: &hardening, patience: self.patience(), first }.apply(connection).await?;
        let position = first + hardening.statements().count();
        progress.item(position, RunState::Running, None, None).await;
        let begun = Instant::now();
        let ended = self.conclude(connection, is_whole).await;
        let state = if ended.is_ok() { RunState::Done } else { RunState::Failed };
        let told = match &ended {
            Ok(remark) => remark.as_ref(),
            Err(error) => Some(error),
        };
        progress.item(position, state, told.map(String::as_str), Some(begun.elapsed())).await;
        ended.map(drop)
    }

    /// The plan was made for columns that were not there yet, and filling them took its time: the application may have
    /// made a table meanwhile, or the server new statistics. With the position of its first statement.
    async fn planned_again(
        &self,
        progress: &Progress,
        first: usize,
        connection: &mut PgConnection,
    ) -> Result<(Hardening, usize), String> {
        if self.tasks.is_empty() {
            return Ok((self.hardening.clone(), first));
        }
        let declaration = &self.look.declaration;
        let facts = collect(connection, declaration).await.map_err(|error| chain(&error))?;
        let plan =
            Look { facts, config: self.look.config.clone(), declaration: declaration.clone(), stage: self.look.stage }
                .plan(self.asked.step, &self.asked.tables);
        if let Some(refusal) = plan.refusals.first() {
            return Err(format!("{}: {}", refusal.object, refusal.problem));
        }
        let items = self.items_after(&plan);
        let first = if items == self.items_after(&self.hardening) { first } else { progress.replan(&items).await? };
        Ok((plan, first))
    }

    async fn backfill(&self, progress: &Progress, first: usize, connection: &mut PgConnection) -> Result<(), String> {
        for (position, task) in (first..).zip(&self.tasks) {
            progress.item(position, RunState::Running, None, None).await;
            let begun = Instant::now();
            let (tell, mut told) = tokio::sync::watch::channel(None);
            let bounds = &self.adoption.backfill;
            let patience = self.patience();
            let filling = async {
                let mut report = |filled| {
                    // Nobody misses what is not listened to any more.
                    let _ = tell.send(Some(filled));
                };
                let filled = backfill::fill(connection, task, bounds, patience, &mut report).await;
                drop(tell);
                filled
            };
            let noting = async {
                while told.changed().await.is_ok() {
                    let filled = *told.borrow_and_update();
                    if let Some(filled) = filled {
                        progress.item(position, RunState::Running, Some(&words(filled)), None).await;
                    }
                }
            };
            let (filled, ()) = tokio::join!(filling, noting);
            let error = filled.err().map(|error| chain(&error));
            let state = if error.is_none() { RunState::Done } else { RunState::Failed };
            progress.item(position, state, error.as_deref(), Some(begun.elapsed())).await;
            if let Some(error) = error {
                return Err(error);
            }
        }
        Ok(())
    }

    /// What a step is for: the stage. Gives what there is to say about it.
    async fn conclude(&self, connection: &mut PgConnection, is_whole: bool) -> Result<Option<String>, String> {
        match self.asked.step {
            AdoptionStep::Prepare => {
                self.keep_passwords(connection).await?;
                if self.look.stage == AdoptionStage::None {
                    self.stage(&[AdoptionStage::None], AdoptionStage::Prepared).await?;
                }
                return self.strays(connection).await;
            }
            AdoptionStep::Enforce if is_whole => {
                // First the gateway, then the right of those that it serves until it has heard.
                self.stage(&[AdoptionStage::Observing], AdoptionStage::Enforced).await?;
                self.roles(connection, Step::Retire).await?;
            }
            AdoptionStep::Finish => self.stage(&[AdoptionStage::Enforced], AdoptionStage::None).await?,
            AdoptionStep::Enforce | AdoptionStep::Release => {}
        }
        Ok(None)
    }

    /// What would keep a table from being enforced, while there is time to mend it.
    async fn strays(&self, connection: &mut PgConnection) -> Result<Option<String>, String> {
        let declaration = &self.look.declaration;
        let facts = collect(connection, declaration).await.map_err(|error| chain(&error))?;
        let found = adopt::strays(connection, &facts, declaration).await.map_err(|error| chain(&error))?;
        let lines: Vec<String> = found.iter().map(ToString::to_string).collect();
        Ok((!lines.is_empty()).then(|| format!("these tables cannot be enforced yet: {}", lines.join("; "))))
    }

    async fn reach(&self, from: &[AdoptionStage], to: AdoptionStage, connection: &mut PgConnection) -> Result<(), String> {
        if from.contains(&self.look.stage) {
            self.roles(connection, Step::Prepare { serve: true }).await?;
            self.stage(from, to).await?;
        }
        Ok(())
    }

    async fn stage(&self, from: &[AdoptionStage], to: AdoptionStage) -> Result<(), String> {
        let application = &self.look.config.application.name;
        self.state.store.reach_stage(application, from, to).await.map_err(|error| chain(&error))
    }

    /// The role that serves the application meanwhile, and nothing else of the step.
    async fn roles(&self, connection: &mut PgConnection, step: Step<'_>) -> Result<(), String> {
        let declaration = &self.look.declaration;
        let facts = collect(connection, declaration).await.map_err(|error| chain(&error))?;
        let adopt = declaration.roles.adopt();
        let plan = adopt::plan(&facts, declaration, step).only(|statement| statement.object == adopt);
        let plan = Hardening { refusals: Vec::new(), ..plan };
        guardian_postgres::apply::apply_patiently(connection, &plan, self.patience(), &mut |_, _, _| {})
            .await
            .map_err(|error| chain(&error))
    }

    /// Gives Guardian's login roles the passwords that the store keeps. The statements hold verifiers only.
    async fn keep_passwords(&self, connection: &mut PgConnection) -> Result<(), String> {
        let application = &self.look.config.application.name;
        let roles = ApplicationRoles::of(application);
        let store = &self.state.store;
        let secrets = [
            (&roles.app, store.application_secret(application).await),
            (&roles.adopt, store.adopt_secret(application).await),
        ];
        for (name, secret) in secrets {
            if *name == roles.adopt && self.look.stage == AdoptionStage::Enforced {
                continue;
            }
            let verifier = scram::verifier(&secret.map_err(|error| chain(&error))?);
            role::set_password(connection, name, &verifier).await.map_err(|error| chain(&error))?;
        }
        Ok(())
    }
}

fn words(filled: backfill::Filled) -> String {
    let backfill::Filled { rows, blocks, blocks_all, waits } = filled;
    let percent = if blocks_all == 0 { 100 } else { 100 * blocks / blocks_all };
    let waiting = if waits { "; waits for a standby" } else { "" };
    format!("{rows} rows filled, {percent} % of the table{waiting}")
}
