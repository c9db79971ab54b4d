//! Runs every rule over facts.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    attacks::AttackReport,
    exceptions::{self, Excepted, Exceptions},
    facts::{Facts, Missing, Oid, Source},
    finding::{Finding, Hit, Object, ObjectKind},
    reach::Reach,
    rule::{ALWAYS_NEEDED, Audit, Rule, Severity},
    rules::{self, rule_not_run},
    tenancy::Tenancy,
};

/// What to audit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The application's roles, by name.
    pub app_roles: Vec<String>,
    /// Names of tenant columns; empty: inferred.
    pub tenant_columns: Vec<String>,
    /// The schema that is a tenant's own, whose role is audited for: what it does there is its right. Everything else of
    /// tenants' is somebody else's.
    pub own_schema: Option<String>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Nobody to audit for.
    #[error("no application role was named")]
    NoRole,
    /// Not in the facts.
    #[error("there is no role `{0}` on the server")]
    UnknownRole(String),
    /// What every rule needs could not be read.
    #[error("cannot audit without {source_name}: {reason}")]
    Blind {
        /// What is missing.
        source_name: Source,
        /// Why.
        reason: String,
    },
    /// Facts of another format.
    #[error("the facts have format {0}, this Guardian reads {expected}; collect them again", expected = crate::facts::FORMAT)]
    Format(u32),
}

/// A rule that could not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotRun {
    /// Its id.
    pub rule: &'static str,
    /// Its title.
    pub title: &'static str,
    /// The facts that it needs and that are missing.
    pub missing: Vec<Missing>,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The version of this format.
    pub format: u32,
    /// The database audited.
    pub database: String,
    /// `server_version_num`
    pub server_version: i32,
    /// The roles audited for.
    pub app_roles: Vec<String>,
    /// Tenant columns, by table: `public.orders` → `tenant_id`.
    pub tenant_tables: BTreeMap<String, String>,
    /// Worst first, then by rule and object.
    pub findings: Vec<Finding>,
    /// Rules that could not run: what they would find is unknown.
    pub could_not_run: Vec<NotRun>,
    /// Policies of tenant tables whose predicates were not evaluated, with the reason: nothing is known of their truth.
    pub undecided: BTreeMap<String, String>,
    /// Findings that somebody accepts: they do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub excepted: Vec<Excepted>,
    /// Findings that the baseline has: they do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub known: Vec<Finding>,
    /// Rule and object of findings that the baseline has and that are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<String>,
    /// Facts that could not be read.
    pub missing: Vec<Missing>,
    /// Rules about the server, where the facts are of one that was thrown away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<&'static str>,
    /// Rules that ran.
    pub rules_run: usize,
    /// What attacks showed, if there were any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<AttackReport>,
}

impl Report {
    /// Findings of a severity.
    pub fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    /// Puts the findings in order: worst first, then by rule and object.
    pub(crate) fn sort(&mut self) {
        self.findings.sort_by(|a, b| {
            (b.severity, a.rule, &a.object, &a.fingerprint).cmp(&(a.severity, b.rule, &b.object, &b.fingerprint))
        });
    }

    /// Whether there is a finding at least as bad.
    pub fn fails(&self, at: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity >= at)
    }
}

/// Judges facts by every rule.
pub fn audit(facts: &Facts, options: &Options) -> Result<Report, AuditError> {
    if facts.format != crate::facts::FORMAT {
        return Err(AuditError::Format(facts.format));
    }
    for source in ALWAYS_NEEDED {
        if let Some(missing) = facts.missing(source) {
            return Err(AuditError::Blind { source_name: source, reason: missing.reason.clone() });
        }
    }
    let roles = application_roles(facts, options)?;
    let mut tenancy = Tenancy::of(facts, &options.tenant_columns);
    if let Some(own) = &options.own_schema {
        tenancy.leave_out(facts, own);
    }
    let audit = Audit { facts, reach: Reach::of(facts, &roles), tenancy };
    let mut findings = Vec::new();
    let mut could_not_run = Vec::new();
    let mut left_out = Vec::new();
    for rule in rules::ALL {
        if facts.throwaway && is_of_server(rule) {
            left_out.push(rule.id);
            continue;
        }
        let missing: Vec<Missing> = rule.needs.iter().filter_map(|source| facts.missing(*source)).cloned().collect();
        if missing.is_empty() {
            findings.extend((rule.check)(&audit).into_iter().map(|hit| Finding::new(rule, hit)));
        } else {
            findings.push(not_run(rule, &missing));
            could_not_run.push(NotRun { rule: rule.id, title: rule.title, missing });
        }
    }
    let tenant_tables = audit.tenancy.columns.iter().filter_map(|(oid, column)| {
        let relation = facts.relation(*oid)?;
        Some((crate::finding::readable_in(&relation.schema, &relation.name), column.name.clone()))
    });
    let undecided = facts.truths.iter().filter_map(|truth| {
        let policy = facts.policies.iter().find(|policy| policy.oid == truth.policy)?;
        let reason = truth.undecided.clone().filter(|_| audit.tenancy.is_tenants(policy.table))?;
        Some((crate::finding::Object::policy(facts, policy).identity, reason))
    });
    let mut report = Report {
        undecided: undecided.collect(),
        format: 1,
        database: facts.database.name.clone(),
        server_version: facts.server.version,
        app_roles: options.app_roles.clone(),
        tenant_tables: tenant_tables.collect(),
        rules_run: rules::ALL.len() - could_not_run.len() - left_out.len(),
        left_out,
        findings,
        could_not_run,
        excepted: Vec::new(),
        known: Vec::new(),
        gone: Vec::new(),
        missing: facts.missing.clone(),
        attack: None,
    };
    report.sort();
    Ok(report)
}

/// The exceptions that stand in comments of the database.
pub fn exceptions_of(facts: &Facts, options: &Options) -> Result<Exceptions, AuditError> {
    let roles = application_roles(facts, options)?;
    Ok(exceptions::of_comments(facts, &Reach::of(facts, &roles)))
}

/// A rule that could not run may hide what it would have found, so it counts as much.
fn not_run(rule: &Rule, missing: &[Missing]) -> Finding {
    let reasons: Vec<_> = missing.iter().map(|missing| format!("{} ({})", missing.source, missing.reason)).collect();
    let evidence = format!("`{}` needs what could not be read: {}", rule.title, reasons.join("; "));
    let object = Object { kind: ObjectKind::Audit, schema: None, name: rule.id.to_owned(), identity: rule.id.to_owned() };
    Finding::new(&rule_not_run::RULE, Hit::on(object, evidence).severity(rule.severity))
}

/// Rules about defaults of a database and a role that no migration made: nobody knows what the real ones are.
const OF_DATABASE_AND_LOGIN: [&str; 3] = ["GRD-PG-214", "GRD-PG-216", "GRD-PG-228"];

/// Whether a rule judges the server, and nothing of the schema.
fn is_of_server(rule: &Rule) -> bool {
    rule.id.starts_with("GRD-PG-5") || OF_DATABASE_AND_LOGIN.contains(&rule.id)
}

fn application_roles(facts: &Facts, options: &Options) -> Result<Vec<Oid>, AuditError> {
    if options.app_roles.is_empty() {
        return Err(AuditError::NoRole);
    }
    let find =
        |name: &String| facts.role_named(name).map(|role| role.oid).ok_or_else(|| AuditError::UnknownRole(name.clone()));
    options.app_roles.iter().map(find).collect()
}
