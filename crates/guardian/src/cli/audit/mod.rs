//! `guardian audit`: whether an application's role can reach other tenants' rows, on any PostgreSQL.
//!
//! Needs no control plane and changes nothing. The judgement is `guardian_audit`'s; here are the arguments, where the facts
//! come from (`source`) and where the report goes. Exit code 0: nothing as bad as `--fail-on`; 1: something is; 2: no verdict.

mod attack;
mod history;
mod migrations;
pub(super) mod source;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use guardian_audit::{
    Options, Report, Severity,
    attacks::Verdict,
    baseline::Baseline,
    exceptions::{self, Exception},
    report::{self, Format},
    rule_docs, rules,
};

use jiff::{Timestamp, tz::TimeZone};

use self::{
    attack::AttackArguments,
    source::{Source, SourceArguments},
};
use super::{Global, word_of};
use crate::output::{self, Failure, Output, counted};

/// Find what lets an application's role reach other tenants' rows, on any PostgreSQL
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It needs no control plane and changes nothing. The connection may be any role's that may connect; a superuser sees most.
A rule that could not run, because the role may not read what the rule needs, counts as a finding of the rule's severity.
Exits with 0 when nothing is as bad as --fail-on, with 1 when something is, with 2 when there is no verdict.

Examples:
  guardian audit --url postgres://admin@db.example.com/shop --app-role shop_app
  guardian audit --url postgres:///shop --app-role shop_app --tenant-column account_id --format sarif --output audit.sarif
  guardian audit --url postgres:///shop --app-role shop_app --save facts.json
  guardian audit --url postgres:///shop --app-role shop_app --attack
  guardian audit --facts facts.json --app-role shop_app --fail-on medium
  guardian audit --migrations migrations --app-role shop_app --exceptions guardian-audit.toml
  guardian audit --explain GRD-PG-001
  guardian audit --history
  guardian audit --history --place main/helpdesk/public")]
pub(crate) struct Audit {
    #[command(flatten)]
    source: SourceArguments,
    /// A role that the application connects as; may be given several times
    #[arg(long = "app-role", value_name = "ROLE", required_unless_present_any = ["explain", "history"])]
    app_roles: Vec<String>,
    /// The column that says whose a row is; may be given several times. Left out: found by policies and names
    #[arg(long = "tenant-column", value_name = "COLUMN")]
    tenant_columns: Vec<String>,
    /// The form of the report
    #[arg(long, value_name = "FORMAT", default_value = "terminal", value_parser = word_of!(Format))]
    format: Format,
    /// Write the report to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The mildest finding that makes the exit code 1
    #[arg(long, value_name = "SEVERITY", default_value = "high", value_parser = FailOn::parser())]
    fail_on: FailOn,
    /// Write the facts to this file, for an audit with --facts later or elsewhere
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Accept the findings that this file names, each with a reason and a date
    #[arg(long, value_name = "FILE")]
    exceptions: Option<PathBuf>,
    /// Count only what is not in this file, or worse than there
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write what is found now into this file, as a baseline for later
    #[arg(long, value_name = "FILE", conflicts_with = "baseline")]
    write_baseline: Option<PathBuf>,
    /// Print what a rule is about, why, and how it is put right
    #[arg(long, value_name = "RULE", conflicts_with_all = ["app_roles", "tenant_columns", "output", "save", "exceptions", "baseline", "write_baseline"])]
    explain: Option<String>,
    /// Show the audits that the control plane makes on its schedule, and when each finding was first and last seen
    #[arg(long, conflicts_with_all = ["app_roles", "tenant_columns", "output", "save", "exceptions", "baseline", "write_baseline"])]
    history: bool,
    /// With --history: only of this place, as the history names it
    #[arg(long, value_name = "CLUSTER/DATABASE/SCHEMA", requires = "history")]
    place: Option<String>,
    // The last, because its heading stands over whatever follows.
    #[command(flatten)]
    attack: AttackArguments,
}

/// What the exit code depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FailOn(Option<Severity>);

impl FailOn {
    const NEVER: &'static str = "never";

    fn parser() -> impl clap::builder::TypedValueParser<Value = Self> {
        use clap::builder::TypedValueParser as _;
        let words = Severity::ALL.iter().rev().map(|severity| severity.as_str()).chain([Self::NEVER]);
        clap::builder::PossibleValuesParser::new(words).map(|word| Self(Severity::from_word(&word)))
    }
}

impl Audit {
    pub(crate) async fn run(self, global: &Global, output: Output) -> anyhow::Result<()> {
        if self.history {
            return history::show(&global.client()?, self.place, output).await;
        }
        if let Some(id) = &self.explain {
            return explain(id);
        }
        // Whatever goes wrong before there is a verdict must not look like one.
        let report = self.judge(output).await.map_err(|error| Failure::of(&error).exit(2))?;
        self.verdict(&report)
    }

    async fn judge(&self, output: Output) -> anyhow::Result<Report> {
        let source = Source::of(&self.source)?;
        // Before anything is started or asked: a mistake in a file of ours is told at once.
        let granted = self.exceptions.as_deref().map(read_exceptions).transpose()?.unwrap_or_default();
        let baseline = self.baseline.as_deref().map(read_baseline).transpose()?;
        let facts = source.facts(&self.app_roles, output).await?;
        if let Some(path) = &self.save {
            write(path, &facts.to_text()?)?;
            output.remark(format!("wrote the facts to {}", path.display()));
        }
        let options =
            Options { app_roles: self.app_roles.clone(), tenant_columns: self.tenant_columns.clone(), ..Options::default() };
        let mut report = guardian_audit::audit(&facts, &options)?;
        let mut exceptions = guardian_audit::exceptions_of(&facts, &options)?;
        exceptions.granted.extend(granted);
        exceptions::apply(&mut report, &exceptions, Timestamp::now().to_zoned(TimeZone::UTC).date());
        let baseline = match &self.write_baseline {
            Some(path) => {
                let baseline = Baseline::of(&report);
                write(path, &baseline.to_text()?)?;
                output.remark(format!("wrote {} to {}", counted(baseline.findings.len(), "known finding"), path.display()));
                Some(baseline)
            }
            None => baseline,
        };
        if let Some(baseline) = baseline {
            baseline.apply(&mut report);
        }
        let Self { app_roles, tenant_columns, .. } = self;
        report.attack =
            self.attack.run(source.database(), &facts, app_roles, tenant_columns, &report.excepted, output).await?;
        if let Some(attack) = &mut report.attack {
            attack.join(&report.findings);
        }
        let format = if output.json { Format::Json } else { self.format };
        let text = report::render(&report, format, self.fail_on.0)?;
        match &self.output {
            Some(path) => {
                write(path, &text)?;
                output.remark(format!("wrote the report to {}: {}", path.display(), report::terminal::summary(&report)));
            }
            None => output::script(&text)?,
        }
        Ok(report)
    }

    fn verdict(&self, report: &Report) -> anyhow::Result<()> {
        attacked(report)?;
        let Some(at) = self.fail_on.0 else { return Ok(()) };
        match report.findings.iter().filter(|finding| finding.severity >= at).count() {
            0 => Ok(()),
            count => {
                let worse =
                    if at == Severity::Critical { "critical".to_owned() } else { format!("{} or worse", at.as_str()) };
                let advice = "`guardian audit --explain RULE` says what a rule is about";
                Err(Failure::new(format!("{}: {worse}", counted(count, "finding"))).advise(advice).into())
            }
        }
    }
}

/// What leaks fails, whatever the rules say; attacks that proved nothing at all are no verdict.
fn attacked(report: &Report) -> anyhow::Result<()> {
    let Some(attack) = &report.attack else { return Ok(()) };
    let leaks = attack.count(Verdict::Leaks);
    if leaks > 0 {
        let advice = "the report has the statements that show it";
        return Err(Failure::new(format!("{} leak to another tenant", counted(leaks, "object"))).advise(advice).into());
    }
    if attack.count(Verdict::ProvenIsolated) == 0 {
        let advice = "the report says why; --context-sql says how a session enters a tenant";
        return Err(Failure::new("the attacks proved nothing").advise(advice).exit(2).into());
    }
    Ok(())
}

fn explain(id: &str) -> anyhow::Result<()> {
    let Some(rule) = rules::by_id(id) else {
        let advice =
            format!("take one from {} to {}, such as a report names", rules::ALL[0].id, rules::ALL[rules::ALL.len() - 1].id);
        return Err(Failure::usage(format!("there is no rule `{id}`")).advise(advice).into());
    };
    output::script(&rule_docs::page(rule))
}

fn read_exceptions(path: &Path) -> anyhow::Result<Vec<Exception>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(exceptions::of_file(&path.display().to_string(), &text)?)
}

fn read_baseline(path: &Path) -> anyhow::Result<Baseline> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    Baseline::of_text(&text).with_context(|| format!("cannot use `{}`", path.display()))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}
