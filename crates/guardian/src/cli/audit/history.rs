//! `--history`: what the audits that the control plane makes on its schedule found over time.

use guardian_client::Client;
use guardian_model::{
    api::{AuditFinding, AuditRun},
    query::{AuditFindingQuery, AuditRunQuery},
};
use serde::Serialize;

use crate::output::{Cell, Output, Table, time};

/// Audits that are shown.
const AUDITS_SHOWN: u32 = 30;

#[derive(Serialize)]
struct History {
    audits: Vec<AuditRun>,
    findings: Vec<AuditFinding>,
}

pub(super) async fn show(client: &Client, place: Option<String>, output: Output) -> anyhow::Result<()> {
    let audits =
        client.audits(&AuditRunQuery { cursor: None, limit: Some(AUDITS_SHOWN), place: place.clone() }).await?.items;
    let findings = client.audit_findings(&AuditFindingQuery { gone: true, place: place.clone() }).await?;
    output.result(&History { audits, findings }, |History { audits, findings }| {
        match &place {
            Some(place) if audits.is_empty() => {
                return output.line(format!("no audit of `{place}` is kept; `guardian audit --history` names the places"));
            }
            None if audits.is_empty() => {
                return output.line("no audit was made yet; the first is some minutes after `guardian up`, if [audit] in guardian.toml wants any");
            }
            _ => {}
        }
        output.table(runs(audits))?;
        output.table(found(findings))
    })
}

fn runs(audits: &[AuditRun]) -> Table {
    let mut table =
        Table::new(["audit", "began (UTC)", "place", "critical", "high", "medium", "low", "note", "not run", "outcome"]);
    for audit in audits {
        let count = |severity: &str| {
            let counted = audit.findings.as_ref().map(|counts| counts.get(severity).copied().unwrap_or_default());
            counted.map_or_else(|| Cell::from("-"), Cell::number)
        };
        let outcome = match (&audit.error, audit.finished_at) {
            (Some(error), _) => error.as_str(),
            (None, Some(_)) => "done",
            (None, None) => "not ended",
        };
        table.row([
            audit.id.into(),
            time(audit.started_at).into(),
            (&audit.place).into(),
            count("critical"),
            count("high"),
            count("medium"),
            count("low"),
            count("note"),
            audit.could_not_run.map_or_else(|| Cell::from("-"), Cell::number),
            outcome.into(),
        ]);
    }
    table
}

fn found(findings: &[AuditFinding]) -> Table {
    let mut table = Table::new(["rule", "severity", "place", "object", "first seen (UTC)", "last seen (UTC)", "gone (UTC)"]);
    for finding in findings {
        table.row([
            (&finding.rule).into(),
            (&finding.severity).into(),
            (&finding.place).into(),
            (&finding.object).into(),
            time(finding.first_seen).into(),
            time(finding.last_seen).into(),
            Cell::maybe(finding.gone_at.map(time)),
        ]);
    }
    table
}
