//! Text for people. Colours are the caller's business.

use std::fmt::Write as _;

use super::escape;
use crate::{Report, Severity};

/// The report as text.
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    for finding in &report.findings {
        let object = format!("{} {}", finding.object.kind.as_str(), finding.object.identity);
        let _ = writeln!(text, "{:<8} {}  {}", finding.severity.as_str(), finding.rule, escape::line(&object));
        let _ = writeln!(text, "         {}", finding.title);
        if let Some(path) = &finding.path {
            let _ = writeln!(text, "         reached:  {}", escape::line(&path.to_string()));
        }
        let _ = writeln!(text, "         evidence: {}", escape::line(&finding.evidence));
        if let Some(remedy) = &finding.remedy {
            for (at, sql) in remedy.sql.lines().enumerate() {
                let _ = writeln!(text, "         {} {}", if at == 0 { "remedy:  " } else { "         " }, escape::line(sql));
            }
            if let Some(note) = &remedy.note {
                let _ = writeln!(text, "         note:     {}", escape::line(note));
            }
        }
        text.push('\n');
    }
    for not_run in &report.could_not_run {
        let reasons: Vec<_> =
            not_run.missing.iter().map(|missing| format!("{}: {}", missing.source, missing.reason)).collect();
        let _ = writeln!(text, "could not run {}  {} ({})", not_run.rule, not_run.title, escape::line(&reasons.join("; ")));
    }
    for excepted in &report.excepted {
        let finding = format!("{} {}", excepted.finding.rule, excepted.finding.object.identity);
        let why = format!("{} (until {}, {})", excepted.reason, excepted.until, excepted.origin);
        let _ = writeln!(text, "accepted {}: {}", escape::line(&finding), escape::line(&why));
    }
    for gone in &report.gone {
        let _ = writeln!(text, "gone since the baseline: {}", escape::line(gone));
    }
    if !report.left_out.is_empty() {
        let _ = writeln!(text, "left out, because the server was a throwaway: {}", report.left_out.join(" "));
    }
    if let Some(attack) = &report.attack {
        text.push_str(&super::attack::render(attack));
    }
    text.push_str(&summary(report));
    text.push('\n');
    text
}

/// One line: how many findings of each severity, and of what.
pub fn summary(report: &Report) -> String {
    let counts: Vec<_> = Severity::ALL
        .iter()
        .rev()
        .filter(|severity| report.count(**severity) > 0)
        .map(|severity| format!("{} {}", report.count(*severity), severity.as_str()))
        .collect();
    let found = if counts.is_empty() { "no findings".to_owned() } else { counts.join(", ") };
    let mut besides = String::new();
    for (count, what) in [(report.excepted.len(), "accepted"), (report.known.len(), "in the baseline")] {
        if count > 0 {
            let _ = write!(besides, ", {count} {what}");
        }
    }
    format!(
        "{found}{besides}: {} of {} rules ran on database {} for {}",
        report.rules_run,
        report.rules_run + report.could_not_run.len() + report.left_out.len(),
        escape::line(&report.database),
        escape::line(&report.app_roles.join(", "))
    )
}
