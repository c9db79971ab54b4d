//! `--attack`: what the rules say is tried, as tenant A against tenant B.

use std::sync::Arc;

use guardian_audit::{
    Facts, ObjectKind,
    attacks::{Arena, AttackOptions, AttackReport, attack, clone::Copy},
    exceptions::Excepted,
};
use sqlx::postgres::PgConnectOptions;

use super::source;
use crate::output::{Failure, Output};

/// How to attack.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Attacks")]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(super) struct AttackArguments {
    /// Also attack, as one synthetic tenant against another: proves each object isolated, or shows what leaks
    #[arg(long, requires = "url")]
    attack: bool,
    /// Attack a copy of schema and roles, without rows and passwords, on a PostgreSQL that is started for it (the default)
    #[arg(long, requires = "attack", conflicts_with_all = ["clone_url", "in_place"])]
    clone: bool,
    /// Copy into this empty scratch database instead of starting a server
    #[arg(long, value_name = "URL", requires = "attack")]
    clone_url: Option<String>,
    /// Attack the database itself, in one transaction that is rolled back; what needs more is not shown
    #[arg(long, requires = "attack", conflicts_with = "clone_url")]
    in_place: bool,
    /// How a session enters a tenant, with {tenant} for its key. Left out: read off the policies, and tried
    #[arg(long, value_name = "SQL", requires = "attack")]
    context_sql: Option<String>,
    /// Attack in place although the database looks like production
    #[arg(long, requires = "in_place")]
    yes_attack: bool,
}

impl AttackArguments {
    /// Attacks, if that was asked for.
    pub(super) async fn run(
        &self,
        database: Option<&PgConnectOptions>,
        facts: &Facts,
        app_roles: &[String],
        tenant_columns: &[String],
        accepted: &[Excepted],
        output: Output,
    ) -> anyhow::Result<Option<AttackReport>> {
        let Some(database) = database.filter(|_| self.attack) else { return Ok(None) };
        let options = AttackOptions {
            app_roles: app_roles.to_vec(),
            tenant_columns: tenant_columns.to_vec(),
            context_sql: self.context_sql.clone(),
            // A key that is meant to be unique over all tenants is an oracle on purpose.
            accepted_keys: accepted
                .iter()
                .filter(|one| matches!(one.finding.object.kind, ObjectKind::Constraint | ObjectKind::Index))
                .map(|one| (one.finding.object.identity.clone(), one.reason.clone()))
                .collect(),
            yes: self.yes_attack,
        };
        if self.in_place {
            return Ok(Some(attack(&Arena::in_place(database.clone()), &options).await?));
        }
        let copied = Arc::new(facts.clone());
        let copy = if let Some(url) = &self.clone_url {
            Copy::scratch(database, facts, &source::options(url, "--clone-url")?).await?
        } else {
            output.remark("copying schema and roles to a throwaway PostgreSQL");
            let (database, facts) = (database.clone(), Arc::clone(&copied));
            tokio::task::spawn_blocking(move || Copy::throwaway(&database, &facts)).await??
        };
        // Dropped, the server stops; without this a signal would leave it running.
        let report = tokio::select! {
            report = attack_copy(&copy, copied, &options) => report,
            _ = super::migrations::interrupted() => Err(Failure::new("interrupted").into()),
        };
        tokio::task::spawn_blocking(move || drop(copy)).await?;
        report.map(Some)
    }
}

async fn attack_copy(copy: &Copy, source: Arc<Facts>, options: &AttackOptions) -> anyhow::Result<AttackReport> {
    Ok(attack(&Arena::copy(copy, source), options).await?)
}
