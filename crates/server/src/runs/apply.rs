//! The hardening of the shared place: the plan, and a run of its statements.

use std::time::Duration;

use guardian_model::{
    AdoptionStage, Config, Place,
    access::Permit,
    api::{Run, RunKind, RunState},
    placement::ApplicationRoles,
};
use guardian_postgres::{
    apply::{Patience, StatementEvent, apply_patiently, hold},
    facts::collect,
    harden::{self, Declaration, Hardening},
    scram,
};
use guardian_provision::role;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{is_absent, progress::Progress, shown};
use crate::{
    AppState,
    problem::{ApiError, ApiResult, Kind, chain},
};

/// What the hardening would do now.
pub(crate) async fn plan(state: &AppState) -> ApiResult<Hardening> {
    let config = state.config.current()?;
    let mut connection = connect(state, &config.shared_place()).await?;
    let hardening = look(&mut connection, &config).await?;
    connection.close().await.ok();
    Ok(hardening)
}

/// Starts a run of what the plan says.
pub(crate) async fn start(state: &AppState, permit: &Permit) -> ApiResult<Run> {
    let config = state.config.current()?;
    refuse_in_adoption(state, &config).await?;
    let mut connection = connect(state, &config.shared_place()).await?;
    let hardening = look(&mut connection, &config).await?;
    if !hardening.refusals.is_empty() {
        let objects = hardening.refusals.iter().map(|refusal| refusal.object.as_str()).collect::<Vec<_>>().join(", ");
        return Err(ApiError::new(
            Kind::Undecided,
            format!("decide first about {objects}; `guardian plan` shows the ways out"),
        ));
    }
    let role = ApplicationRoles::of(&config.application.name).app;
    let items = items(&hardening, &role);
    let progress = Progress::begin(state, permit, RunKind::Apply, serde_json::json!({}), &items).await?;
    let id = progress.id();
    let work = Work { state: state.clone(), progress: progress.clone(), hardening, role, first: 0 };
    progress.spawn(state, work.run(connection, config.application.name));
    shown(state, id).await
}

/// Goes on with a run whose process ended: what was applied stands, and a new plan has the rest.
pub(super) fn resume(state: &AppState, progress: Progress) {
    progress.clone().spawn(state, go_on(state.clone(), progress));
}

async fn go_on(state: AppState, progress: Progress) -> Result<(), String> {
    let told = |error: &ApiError| error.detail().to_owned();
    let config = state.config.current().map_err(|error| told(&error))?;
    let mut connection = connect(&state, &config.shared_place()).await.map_err(|error| told(&error))?;
    // The session of the process that ended may still be in the middle of a statement.
    hold(&mut connection).await.map_err(|error| chain(&error))?;
    progress.confirm().await?;
    let hardening = look(&mut connection, &config).await.map_err(|error| told(&error))?;
    let role = ApplicationRoles::of(&config.application.name).app;
    let first = progress.replan(&items(&hardening, &role)).await?;
    Work { state, progress, hardening, role, first }.run(connection, config.application.name).await
}

/// The parts of a run, as they are shown.
fn items(hardening: &Hardening, role: &str) -> Vec<(String, String)> {
    let statements = hardening.statements().map(|(statement, _)| (statement.object.clone(), statement.reason.clone()));
    let password = (format!("role {role}"), "its password is the one that Guardian keeps sealed".to_owned());
    statements.chain([password]).collect()
}

/// `apply` enforces everything at once, which an adoption exists to avoid.
async fn refuse_in_adoption(state: &AppState, config: &Config) -> ApiResult<()> {
    let adoption = state.store.adoption(&config.application.name).await?;
    if adoption.stage == AdoptionStage::None {
        return Ok(());
    }
    let detail = format!(
        "the application is being adopted (stage `{}`): `guardian adopt` goes on from there, and `guardian adopt finish` ends it",
        adoption.stage
    );
    Err(ApiError::new(Kind::WrongState, detail))
}

pub(super) async fn connect(state: &AppState, place: &Place) -> ApiResult<PgConnection> {
    state.clusters.connect(&place.cluster, &place.database).await.map_err(|error| {
        if is_absent(&error) {
            let detail = format!(
                "there is no database `{}` on cluster `{}` yet; `guardian migrate` makes it",
                place.database, place.cluster
            );
            ApiError::new(Kind::WrongState, detail)
        } else {
            ApiError::unavailable(error.to_string(), error)
        }
    })
}

async fn look(connection: &mut PgConnection, config: &Config) -> ApiResult<Hardening> {
    let declaration = Declaration::from(config);
    let facts = collect(connection, &declaration).await.map_err(ApiError::internal)?;
    Ok(harden::plan(&facts, &declaration))
}

struct Work {
    state: AppState,
    progress: Progress,
    hardening: Hardening,
    role: String,
    /// The position of the plan's first statement among the run's items.
    first: usize,
}

/// The statements of a run.
pub(super) struct Statements<'a> {
    pub(super) progress: &'a Progress,
    pub(super) hardening: &'a Hardening,
    pub(super) patience: Patience,
    /// The position of the first one among the run's items.
    pub(super) first: usize,
}

/// How far `apply` came: the statement it began last.
type Reached = Option<usize>;

impl Work {
    async fn run(self, mut connection: PgConnection, application: String) -> Result<(), String> {
        let ended = match self.apply(&mut connection).await {
            Ok(()) => self.keep_password(&mut connection, &application).await,
            Err(error) => Err(error),
        };
        connection.close().await.ok();
        ended
    }

    async fn item(&self, position: usize, state: RunState, detail: Option<&str>, took: Option<Duration>) {
        self.progress.item(self.first + position, state, detail, took).await;
    }

    async fn apply(&self, connection: &mut PgConnection) -> Result<(), String> {
        let Self { progress, hardening, first, .. } = self;
        Statements { progress, hardening, patience: Patience::default(), first: *first }.apply(connection).await
    }

    /// Gives the application's role the password that the store keeps. The statement holds a verifier only.
    async fn keep_password(&self, connection: &mut PgConnection, application: &str) -> Result<(), String> {
        let position = self.hardening.statements().count();
        self.item(position, RunState::Running, None, None).await;
        let begun = std::time::Instant::now();
        let kept = async {
            let password = self.state.store.application_secret(application).await.map_err(|error| chain(&error))?;
            let verifier = scram::verifier(&password);
            role::set_password(connection, &self.role, &verifier).await.map_err(|error| chain(&error))
        };
        let kept = kept.await;
        let state = if kept.is_ok() { RunState::Done } else { RunState::Failed };
        self.item(position, state, kept.as_ref().err().map(String::as_str), Some(begun.elapsed())).await;
        kept
    }
}

impl Statements<'_> {
    async fn item(&self, position: usize, state: RunState, detail: Option<&str>, took: Option<Duration>) {
        self.progress.item(self.first + position, state, detail, took).await;
    }

    pub(super) async fn apply(&self, connection: &mut PgConnection) -> Result<(), String> {
        // As many events as there are statements and retries of them, so the plan bounds the queue.
        let (events, seen) = unbounded_channel();
        let applying = async move {
            let mut report = |position: usize, _: &harden::Statement, event: StatementEvent| {
                // Fails only when nobody listens any more, and then nobody is there to miss it.
                let _ = events.send((position, event));
            };
            apply_patiently(connection, self.hardening, self.patience, &mut report).await
        };
        let (applied, reached) = tokio::join!(applying, self.note(seen));
        let Err(error) = applied else { return Ok(()) };
        let reason = chain(&error);
        if let Some(position) = reached {
            self.note_failure(position, &reason).await;
        }
        Err(reason)
    }

    async fn note(&self, mut seen: UnboundedReceiver<(usize, StatementEvent)>) -> Reached {
        let mut reached = None;
        while let Some((position, event)) = seen.recv().await {
            match event {
                StatementEvent::Started => {
                    reached = Some(position);
                    self.item(position, RunState::Running, None, None).await;
                }
                StatementEvent::Done { duration } => {
                    self.item(position, RunState::Done, None, Some(duration)).await;
                }
                StatementEvent::Retrying { attempts, error } => {
                    tracing::info!(run.id = %self.progress.id(), position, attempts, error, "a statement is tried again");
                }
            }
        }
        reached
    }

    /// The statement that failed, and those before it that its transaction took back.
    async fn note_failure(&self, position: usize, reason: &str) {
        let mut begin = 0;
        for batch in &self.hardening.batches {
            let end = begin + batch.statements().len();
            if (begin..end).contains(&position) {
                for taken_back in begin..position {
                    self.item(taken_back, RunState::Waiting, None, None).await;
                }
            }
            begin = end;
        }
        self.item(position, RunState::Failed, Some(reason), None).await;
    }
}
