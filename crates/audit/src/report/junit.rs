//! `JUnit`'s XML, as CI servers read it: a rule that found nothing is a passed test, each finding is a test of its own.
//!
//! Findings below the severity that fails pass and say so in their output; accepted and known ones are skipped; a rule that
//! could not run is an error. The finding about it is not told again.
//!
//! Each object under attack is a test too: it fails where it leaks, whatever the severity that fails, and passes where it is
//! proven isolated. What is not shown is skipped, and an error where nothing at all is proven.

use std::fmt::Write as _;

use super::escape;
use crate::{
    Finding, Report, Severity,
    attacks::{AttackReport, Attacked, Verdict},
    rules,
    rules::rule_not_run,
};

/// Text in XML, on one line: what XML cannot hold, and what a terminal would obey, is written as an escape.
fn xml(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in escape::line(text).chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&apos;"),
            // No XML document may have these, not even as a reference.
            '\u{fffe}' | '\u{ffff}' => safe.extend(character.escape_unicode()),
            _ => safe.push(character),
        }
    }
    safe
}

/// The same, with line breaks.
fn xml_block(text: &str) -> String {
    text.lines().map(xml).collect::<Vec<_>>().join("\n")
}

enum Outcome<'r> {
    Failed,
    /// Below the severity that fails.
    Told,
    Skipped(&'r str),
}

/// The report as XML.
pub fn render(report: &Report, fail_on: Option<Severity>) -> String {
    let mut cases = String::new();
    let (mut tests, mut failures, mut skipped) = (0, 0, 0);
    let findings = report.findings.iter().filter(|finding| finding.rule != rule_not_run::RULE.id);
    let findings: Vec<(&Finding, Outcome<'_>)> = findings
        .map(|finding| {
            let fails = fail_on.is_some_and(|at| finding.severity >= at);
            (finding, if fails { Outcome::Failed } else { Outcome::Told })
        })
        .chain(report.excepted.iter().map(|excepted| (&excepted.finding, Outcome::Skipped(&excepted.reason))))
        .chain(report.known.iter().map(|finding| (finding, Outcome::Skipped("it is in the baseline"))))
        .collect();
    for (finding, outcome) in &findings {
        tests += 1;
        failures += usize::from(matches!(outcome, Outcome::Failed));
        skipped += usize::from(matches!(outcome, Outcome::Skipped(_)));
        case(&mut cases, finding, outcome);
    }
    for not_run in &report.could_not_run {
        tests += 1;
        let reasons: Vec<_> = not_run.missing.iter().map(|it| format!("{}: {}", it.source, it.reason)).collect();
        let _ = writeln!(
            cases,
            "    <testcase classname=\"{0}\" name=\"{1}\">\n      <error message=\"could not run: {2}\"/>\n    </testcase>",
            not_run.rule,
            xml(not_run.title),
            xml(&reasons.join("; "))
        );
    }
    let told = |id: &str| {
        findings.iter().any(|(finding, _)| finding.rule == id)
            || report.could_not_run.iter().any(|not_run| not_run.rule == id)
    };
    for rule in rules::ALL.iter().filter(|rule| !told(rule.id) && rule.id != rule_not_run::RULE.id) {
        tests += 1;
        let left_out = report.left_out.contains(&rule.id);
        skipped += usize::from(left_out);
        let end = if left_out { "><skipped message=\"the server was a throwaway\"/></testcase>" } else { "/>" };
        let _ = writeln!(cases, "    <testcase classname=\"{}\" name=\"{}\"{end}", rule.id, xml(rule.title));
    }
    let mut errors = report.could_not_run.len();
    if let Some(attack) = &report.attack {
        tests += attack.objects.len();
        failures += attack.count(Verdict::Leaks);
        let not_shown = attack.count(Verdict::NotShown);
        if proves_nothing(attack) {
            errors += not_shown;
        } else {
            skipped += not_shown;
        }
        for one in &attack.objects {
            attacked(&mut cases, one, proves_nothing(attack));
        }
        told_of_attacks(&mut cases, attack);
    }
    let counts = format!("tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\"");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"guardian audit\" {counts}>\n  \
         <testsuite name=\"{}\" {counts} skipped=\"{skipped}\">\n{cases}  </testsuite>\n</testsuites>\n",
        xml(&report.database)
    )
}

fn case(text: &mut String, finding: &Finding, outcome: &Outcome<'_>) {
    let object = format!("{} {}", finding.object.kind.as_str(), finding.object.identity);
    // What tells two findings on one object apart is nothing for people, but CI servers go by the name.
    let name = format!("{}: {object} [{}]", finding.title, finding.fingerprint);
    let _ = writeln!(text, "    <testcase classname=\"{}\" name=\"{}\">", finding.rule, xml(&name));
    let body = xml_block(&body(finding));
    let severity = finding.severity.as_str();
    let _ = match outcome {
        Outcome::Failed => {
            writeln!(text, "      <failure type=\"{severity}\" message=\"{}\">{body}</failure>", xml(&finding.evidence))
        }
        Outcome::Told => writeln!(text, "      <system-out>{severity}: {body}</system-out>"),
        Outcome::Skipped(reason) => writeln!(text, "      <skipped message=\"{}\"/>", xml(reason)),
    };
    text.push_str("    </testcase>\n");
}

/// Nothing leaks, but that is no verdict.
fn proves_nothing(attack: &AttackReport) -> bool {
    attack.count(Verdict::Leaks) + attack.count(Verdict::ProvenIsolated) == 0
}

fn attacked(text: &mut String, one: &Attacked, is_error: bool) {
    let name = format!("{} {} (as {})", one.object.kind.as_str(), one.object.identity, one.role);
    let _ = write!(text, "    <testcase classname=\"attack\" name=\"{}\"", xml(&name));
    let because = || {
        let those = one.attempts.iter().filter(|attempt| attempt.verdict == one.verdict);
        let said: Vec<_> = those.map(|attempt| format!("{}: {}", attempt.kind.as_str(), attempt.because)).collect();
        xml(&said.join("; "))
    };
    let _ = match one.verdict {
        Verdict::ProvenIsolated => writeln!(text, "/>"),
        Verdict::NotShown if is_error => {
            writeln!(text, ">\n      <error message=\"not shown: {}\"/>\n    </testcase>", because())
        }
        Verdict::NotShown => {
            writeln!(text, ">\n      <skipped message=\"not shown: {}\"/>\n    </testcase>", because())
        }
        Verdict::Leaks => {
            let statements = one.attempts.iter().flat_map(|attempt| &attempt.reproduce);
            let body: Vec<_> = statements.map(|statement| format!("{};", xml(statement))).collect();
            let (because, body) = (because(), body.join("\n"));
            writeln!(text, ">\n      <failure type=\"leaks\" message=\"{because}\">{body}</failure>\n    </testcase>")
        }
    };
}

/// The suite's own output stands after its tests.
fn told_of_attacks(text: &mut String, attack: &AttackReport) {
    let mut lines = vec![format!("attacks in {}; tenant context: {}", attack.mode.as_str(), super::attack::context(attack))];
    lines.extend(attack.disclosed.iter().map(|line| format!("to know: {line}")));
    let lines: Vec<_> = lines.iter().map(|line| xml(line)).collect();
    let _ = writeln!(text, "    <system-out>{}</system-out>", lines.join("\n"));
}

fn body(finding: &Finding) -> String {
    let mut text = finding.evidence.clone();
    if let Some(path) = &finding.path {
        let _ = write!(text, "\nreached: {path}");
    }
    if let Some(remedy) = &finding.remedy {
        let _ = write!(text, "\nremedy:\n{}", remedy.sql);
        if let Some(note) = &remedy.note {
            let _ = write!(text, "\nnote: {note}");
        }
    }
    text
}
