//! Markdown, for a comment on a pull request or a job's summary.
//!
//! Whatever comes from the database stands in a code span or block, where neither HTML nor links nor mentions are alive.

use std::fmt::Write as _;

use super::{attack, escape, terminal};
use crate::{
    Finding, Report, Severity,
    attacks::{AttackReport, Attacked, Verdict},
};

/// How many backticks stand together at most.
fn longest_run(text: &str) -> usize {
    text.split(|character| character != '`').map(str::len).max().unwrap_or_default()
}

/// A code span.
fn code(text: &str) -> String {
    let text = escape::line(text);
    let fence = "`".repeat(longest_run(&text) + 1);
    // A span may neither begin nor end with a backtick; one space on each side is taken off again.
    let pad = if text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']) || text.is_empty() { " " } else { "" };
    format!("{fence}{pad}{text}{pad}{fence}")
}

/// A code block.
fn block(language: &str, text: &str) -> String {
    let text = text.lines().map(escape::line).collect::<Vec<_>>().join("\n");
    let fence = "`".repeat(longest_run(&text).max(2) + 1);
    format!("{fence}{language}\n{text}\n{fence}\n")
}

/// The report as Markdown.
pub fn render(report: &Report) -> String {
    let mut text = format!("# Guardian audit\n\n{}\n", code(&terminal::summary(report)));
    for severity in Severity::ALL.into_iter().rev() {
        let those = report.findings.iter().filter(|finding| finding.severity == severity);
        for (at, finding) in those.enumerate() {
            if at == 0 {
                let _ = write!(text, "\n## {}\n", capital(severity.as_str()));
            }
            tell(&mut text, finding);
        }
    }
    if let Some(attack) = &report.attack {
        attacks(&mut text, attack);
    }
    list(
        &mut text,
        "Could not run",
        report.could_not_run.iter().map(|not_run| {
            let reasons: Vec<_> =
                not_run.missing.iter().map(|missing| format!("{}: {}", missing.source, missing.reason)).collect();
            format!("{} {}: {}", not_run.rule, not_run.title, code(&reasons.join("; ")))
        }),
    );
    list(&mut text, "Left out, because the server was a throwaway", report.left_out.iter().map(|rule| (*rule).to_owned()));
    list(
        &mut text,
        "Undecided",
        report.undecided.iter().map(|(policy, reason)| format!("{}: {}", code(policy), code(reason))),
    );
    list(
        &mut text,
        "Accepted",
        report.excepted.iter().map(|excepted| {
            let Finding { rule, object, .. } = &excepted.finding;
            format!("{rule} {}, until {}: {}", code(&object.identity), excepted.until, code(&excepted.reason))
        }),
    );
    list(
        &mut text,
        "In the baseline",
        report.known.iter().map(|finding| format!("{} {}", finding.rule, code(&finding.object.identity))),
    );
    list(&mut text, "In the baseline, but gone", report.gone.iter().map(|gone| code(gone)));
    text
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(characters).collect()
}

fn tell(text: &mut String, finding: &Finding) {
    let Finding { rule, title, object, path, evidence, remedy, .. } = finding;
    let _ = write!(text, "\n### {rule}: {title}\n\n- Object: {} {}\n", object.kind.as_str(), code(&object.identity));
    if let Some(path) = path {
        let _ = writeln!(text, "- Reached: {}", code(&path.to_string()));
    }
    let _ = writeln!(text, "- Evidence: {}", code(evidence));
    if let Some(remedy) = remedy {
        if let Some(note) = &remedy.note {
            let _ = writeln!(text, "- Note: {}", code(note));
        }
        let _ = write!(text, "\n{}", block("sql", &remedy.sql));
    }
}

fn attacks(text: &mut String, attack: &AttackReport) {
    let _ = write!(
        text,
        "\n## Attacks\n\n- Outcome: {}\n- Where: {}\n- Tenant context: {}\n",
        attack::counts(attack),
        attack.mode.as_str(),
        code(&attack::context(attack))
    );
    for line in &attack.disclosed {
        let _ = writeln!(text, "- To know: {}", code(line));
    }
    for one in &attack.objects {
        attacked(text, one);
    }
}

fn attacked(text: &mut String, one: &Attacked) {
    let (verdict, kind, name, role) =
        (capital(one.verdict.as_str()), one.object.kind.as_str(), code(&one.object.identity), code(&one.role));
    let _ = write!(text, "\n### {verdict}: {kind} {name} as {role}\n\n");
    let rules = if one.findings.is_empty() { "no finding".to_owned() } else { one.findings.join(", ") };
    let _ = writeln!(text, "- Rules: {rules}");
    if one.verdict == Verdict::ProvenIsolated {
        let _ = writeln!(text, "- {}", attack::tried(one));
    }
    for attempt in one.attempts.iter().filter(|attempt| attempt.verdict != Verdict::ProvenIsolated) {
        let _ = writeln!(text, "- {}, {}: {}", attempt.kind.as_str(), attempt.verdict.as_str(), code(&attempt.because));
    }
    let statements: Vec<_> = one.attempts.iter().flat_map(|attempt| &attempt.reproduce).collect();
    if !statements.is_empty() {
        // One a line: a line break inside a statement is shown as such.
        let sql: Vec<_> = statements.iter().map(|statement| format!("{};", escape::line(statement))).collect();
        let _ = write!(text, "\n{}", block("sql", &sql.join("\n")));
    }
}

fn list(text: &mut String, heading: &str, items: impl Iterator<Item = String>) {
    for (at, item) in items.enumerate() {
        if at == 0 {
            let _ = write!(text, "\n## {heading}\n\n");
        }
        let _ = writeln!(text, "- {item}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_a_code_span() {
        assert_eq!(code("public.orders"), "`public.orders`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`"), "`` ` ``");
        assert_eq!(code("a\n\n# b"), "`a\\n\\n# b`");
        assert_eq!(block("sql", "a\n```\nb"), "````sql\na\n```\nb\n````\n");
    }
}
