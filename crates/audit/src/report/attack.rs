//! What the attacks showed, beside what the rules say of the same object.

use std::fmt::Write as _;

use super::escape;
use crate::attacks::{AttackReport, Attacked, Origin, Verdict};

/// The section of the text for people.
pub(super) fn render(report: &AttackReport) -> String {
    let mut text = format!("attacks in {}; tenant context: {}\n", report.mode.as_str(), context(report));
    for one in &report.objects {
        object(&mut text, one);
    }
    for line in &report.disclosed {
        let _ = writeln!(text, "to know: {}", escape::line(line));
    }
    let _ = writeln!(text, "attacks: {}\n", counts(report));
    text
}

/// How many objects have each verdict.
pub(super) fn counts(report: &AttackReport) -> String {
    let counts = [Verdict::Leaks, Verdict::NotShown, Verdict::ProvenIsolated];
    let counts: Vec<String> =
        counts.iter().map(|verdict| format!("{} {}", report.count(*verdict), verdict.as_str())).collect();
    counts.join(", ")
}

/// How many statements were tried on an object that held, of how many kinds.
pub(super) fn tried(one: &Attacked) -> String {
    let tried: usize = one.attempts.iter().map(|attempt| attempt.tried).sum();
    format!("{tried} attacks of {} kinds, each with its control", one.attempts.len())
}

/// How a session enters a tenant, and who says so, on one line that no terminal obeys.
pub(super) fn context(report: &AttackReport) -> String {
    let origin = match report.context_origin {
        Origin::Given => "given",
        Origin::Proposed => "read off the policies",
        Origin::Guardian => "Guardian's",
        Origin::None => return "none is known".to_owned(),
    };
    format!("{} ({origin})", escape::line(report.context.as_deref().unwrap_or_default()))
}

fn object(text: &mut String, one: &Attacked) {
    let rules = if one.findings.is_empty() { "no finding".to_owned() } else { one.findings.join(" ") };
    let name = format!("{} {} (as {})", one.object.kind.as_str(), one.object.identity, one.role);
    let _ = writeln!(text, "{:<15}  {}; rules: {rules}", one.verdict.as_str(), escape::line(&name));
    for attempt in one.attempts.iter().filter(|attempt| attempt.verdict != Verdict::ProvenIsolated) {
        let _ = writeln!(
            text,
            "                 {} {}: {}",
            if attempt.verdict == Verdict::Leaks { "✗" } else { "?" },
            attempt.kind.as_str(),
            escape::line(&attempt.because)
        );
        for statement in &attempt.reproduce {
            let _ = writeln!(text, "                     {};", escape::line(statement));
        }
    }
    if one.verdict == Verdict::ProvenIsolated {
        let _ = writeln!(text, "                 {}", tried(one));
    }
}
