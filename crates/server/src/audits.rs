//! The audit of the application's shared place on a schedule: collects, judges, and notes in the store what came of it.
//!
//! It judges for the application's role, on the tables that tenants share. Tenants with a schema or a database of their own
//! are kept apart by privileges, which `guardian audit` judges on request.

use std::time::Duration;

use guardian_audit::{Options, Report, Severity, collect_for};
use guardian_model::{Config, IncidentId, Permission, access::Actor, placement::ApplicationRoles};
use guardian_store::FoundNow;
use jiff::{Timestamp, tz::TimeZone};
use sqlx::Connection as _;
use tokio_util::sync::CancellationToken;

use crate::{AppState, problem::chain};

/// From the start to the first look whether an audit is due: a process that fails and starts again and again audits nothing.
const FIRST_LOOK: Duration = Duration::from_mins(5);
/// From look to look.
const LOOK: Duration = Duration::from_mins(1);
/// What raises an incident when it is new.
const ALARMING: Severity = Severity::High;

/// What came of an audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audited {
    /// One was made not long ago.
    NotDue,
    /// There is nothing to judge yet, or it could not be read; the run has the reason.
    Failed(String),
    /// It was made.
    Done {
        /// How much was found.
        findings: usize,
        /// The incident that new findings raised.
        incident: Option<IncidentId>,
    },
}

/// Audits when it is due, until told to stop.
pub(crate) async fn run(state: AppState, stop: CancellationToken) {
    let hours = state.config.started_with().audit.every_hours;
    if hours == 0 {
        return;
    }
    let every = Duration::from_hours(u64::from(hours));
    let mut pause = FIRST_LOOK;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        pause = LOOK;
        // Cut off by a shutdown, the run has no end, and the next one is made when it is due.
        match stop.run_until_cancelled(audit(&state, every)).await {
            None | Some(Ok(Audited::NotDue)) => {}
            Some(Ok(Audited::Failed(reason))) => tracing::warn!(reason, "the scheduled audit came to no verdict"),
            Some(Ok(Audited::Done { findings, incident })) => {
                let incident = incident.map(|id| id.to_string());
                tracing::info!(audit.findings = findings, incident.id = incident, "audited the application's shared place");
            }
            Some(Err(error)) => tracing::warn!(error = chain(&error), "cannot note the scheduled audit"),
        }
    }
}

/// Audits the shared place unless that was done within the time.
pub async fn audit(state: &AppState, every: Duration) -> Result<Audited, guardian_store::StoreError> {
    let Ok(permit) = Actor::system("auditor").permit(Permission::SchemaWrite, None) else {
        return Ok(Audited::Failed("Guardian's own auditor may not audit".to_owned()));
    };
    let config = state.config.started_with();
    let place = config.shared_place();
    let Some(id) = state.store.begin_audit(&permit, &place, every).await? else { return Ok(Audited::NotDue) };
    match judge(state, config).await {
        Ok(report) => {
            let found: Vec<FoundNow> = report.findings.iter().map(found_now).collect();
            let incident = state.store.finish_audit(&permit, id, &place, &found, report.could_not_run.len()).await?;
            Ok(Audited::Done { findings: found.len(), incident })
        }
        Err(reason) => {
            state.store.fail_audit(&permit, id, &reason).await?;
            Ok(Audited::Failed(reason))
        }
    }
}

async fn judge(state: &AppState, config: &Config) -> Result<Report, String> {
    let place = config.shared_place();
    let mut connection = state.clusters.connect(&place.cluster, &place.database).await.map_err(|error| chain(&error))?;
    let app_roles = vec![ApplicationRoles::of(&config.application.name).app];
    let collected = collect_for(&mut connection, &app_roles).await;
    connection.close().await.ok();
    let facts = collected.map_err(|error| chain(&error))?;
    let options = Options { app_roles, tenant_columns: vec![config.application.tenant_column.clone()] };
    let failed = |error: guardian_audit::AuditError| error.to_string();
    let mut report = guardian_audit::audit(&facts, &options).map_err(failed)?;
    let exceptions = guardian_audit::exceptions_of(&facts, &options).map_err(failed)?;
    guardian_audit::exceptions::apply(&mut report, &exceptions, Timestamp::now().to_zoned(TimeZone::UTC).date());
    Ok(report)
}

fn found_now(finding: &guardian_audit::Finding) -> FoundNow {
    FoundNow {
        fingerprint: finding.fingerprint.clone(),
        rule: finding.rule.to_owned(),
        severity: finding.severity.as_str().to_owned(),
        object: finding.object.identity.clone(),
        title: finding.title.to_owned(),
        evidence: finding.evidence.clone(),
        alarming: finding.severity >= ALARMING,
    }
}
