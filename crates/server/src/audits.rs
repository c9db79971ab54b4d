//! The audit of Guardian's own places on a schedule: collects, judges, and notes in the store what came of it.
//!
//! The shared place is judged for the application's role. A tenant's own place is judged for the tenant's role, to which all
//! that lies there belongs: what it reaches elsewhere is found. Each time only some tenants' places are looked at, in turn, and
//! what lies in one database is collected once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use guardian_audit::{Facts, Finding, Options, Report, Severity, collect_for};
use guardian_model::{
    AuditRunId, Config, IncidentId, Isolation, Permission, Place, Placement,
    access::{Actor, Permit},
    placement::ApplicationRoles,
};
use guardian_store::{FoundNow, StoreError};
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
            None | Some(Ok(Audited::NotDue)) => continue,
            Some(Ok(Audited::Failed(reason))) => tracing::warn!(reason, "the scheduled audit came to no verdict"),
            Some(Ok(Audited::Done { findings, incident })) => {
                let incident = incident.map(|id| id.to_string());
                tracing::info!(audit.findings = findings, incident.id = incident, "audited the application's shared place");
            }
            Some(Err(error)) => tracing::warn!(error = chain(&error), "cannot note the scheduled audit"),
        }
        // Where there are fewer tenants than are looked at each time, each is due again, but for the minutes that audits take.
        match stop.run_until_cancelled(audit_tenants(&state, every / 2)).await {
            None => {}
            Some(Ok(came)) => {
                let failed = came.iter().filter(|(_, audited)| matches!(audited, Audited::Failed(_))).count();
                tracing::info!(audit.places = came.len(), audit.failed = failed, "audited places of tenants' own");
            }
            Some(Err(error)) => tracing::warn!(error = chain(&error), "cannot note the scheduled audit of tenants' places"),
        }
    }
}

/// Audits the places of tenants with one of their own, as many as the configuration wants, longest ago first: each with what
/// came of it.
pub async fn audit_tenants(state: &AppState, every: Duration) -> Result<Vec<(Place, Audited)>, StoreError> {
    let Ok(permit) = Actor::system("auditor").permit(Permission::SchemaWrite, None) else { return Ok(Vec::new()) };
    let config = state.config.started_with();
    state.store.leave_places(&permit, &config.shared_place()).await?;
    let mut databases: BTreeMap<_, Vec<Placement>> = BTreeMap::new();
    for placement in state.store.places_to_audit(config.audit.tenants_each_time).await? {
        let place = &placement.place;
        databases.entry((place.cluster.clone(), place.database.clone())).or_default().push(placement);
    }
    let mut came = Vec::new();
    for placements in databases.into_values() {
        let roles: Vec<String> = placements.iter().map(|placement| placement.role.clone()).collect();
        // A large catalog is read once, however many tenants live in it.
        let facts = facts(state, &placements[0].place, &roles).await.map(Arc::new);
        for placement in placements {
            let Some(id) = state.store.begin_audit(&permit, &placement.place, every).await? else { continue };
            let found = match &facts {
                Ok(facts) => judge_own(config, Arc::clone(facts), placement.clone()).await,
                Err(reason) => Err(reason.clone()),
            };
            let audited = note(state, &permit, id, &placement.place, found).await?;
            came.push((placement.place, audited));
        }
    }
    Ok(came)
}

/// Audits the shared place unless that was done within the time.
pub async fn audit(state: &AppState, every: Duration) -> Result<Audited, StoreError> {
    let Ok(permit) = Actor::system("auditor").permit(Permission::SchemaWrite, None) else {
        return Ok(Audited::Failed("Guardian's own auditor may not audit".to_owned()));
    };
    let config = state.config.started_with();
    let place = config.shared_place();
    let Some(id) = state.store.begin_audit(&permit, &place, every).await? else { return Ok(Audited::NotDue) };
    let app_roles = vec![ApplicationRoles::of(&config.application.name).app];
    let found = match facts(state, &place, &app_roles).await {
        Ok(facts) => judge(&facts, &options(config, app_roles)),
        Err(reason) => Err(reason),
    };
    note(state, &permit, id, &place, found).await
}

async fn note(
    state: &AppState,
    permit: &Permit,
    id: AuditRunId,
    place: &Place,
    found: Result<Report, String>,
) -> Result<Audited, StoreError> {
    match found {
        Ok(report) => {
            let found: Vec<FoundNow> = report.findings.iter().map(found_now).collect();
            let incident = state.store.finish_audit(permit, id, place, &found, report.could_not_run.len()).await?;
            Ok(Audited::Done { findings: found.len(), incident })
        }
        Err(reason) => {
            state.store.fail_audit(permit, id, &reason).await?;
            Ok(Audited::Failed(reason))
        }
    }
}

async fn facts(state: &AppState, place: &Place, roles: &[String]) -> Result<Facts, String> {
    let mut connection = state.clusters.connect(&place.cluster, &place.database).await.map_err(|error| chain(&error))?;
    let collected = collect_for(&mut connection, roles).await;
    connection.close().await.ok();
    collected.map_err(|error| chain(&error))
}

fn options(config: &Config, app_roles: Vec<String>) -> Options {
    Options { app_roles, tenant_columns: vec![config.application.tenant_column.clone()], own_schema: None }
}

fn judge(facts: &Facts, options: &Options) -> Result<Report, String> {
    let failed = |error: guardian_audit::AuditError| error.to_string();
    let mut report = guardian_audit::audit(facts, options).map_err(failed)?;
    let exceptions = guardian_audit::exceptions_of(facts, options).map_err(failed)?;
    guardian_audit::exceptions::apply(&mut report, &exceptions, Timestamp::now().to_zoned(TimeZone::UTC).date());
    Ok(report)
}

/// Judges a tenant's own place. Of many, each would repeat what is to be said of the server, and of the audit itself.
async fn judge_own(config: &Config, facts: Arc<Facts>, placement: Placement) -> Result<Report, String> {
    let Placement { isolation, place, role } = placement;
    let options = Options { own_schema: Some(place.schema), ..options(config, vec![role]) };
    let judging = tokio::task::spawn_blocking(move || judge(&facts, &options));
    let mut report = judging.await.map_err(|error| error.to_string())??;
    let is_places = |finding: &Finding| {
        let of_server = finding.rule.starts_with("GRD-PG-5") && isolation != Isolation::Cluster;
        !of_server && !finding.rule.starts_with("GRD-PG-9")
    };
    report.findings.retain(is_places);
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
