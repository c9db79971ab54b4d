//! SARIF 2.1.0, as code scanning reads it.
//!
//! A finding is about an object of a database, not about a line of a file, so the logical location is the true one. Services
//! that show only results with a physical location get a path that names the object; no such file exists.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{escape, json::harmless};
use crate::{
    Finding, Report, Severity,
    attacks::{Attacked, Verdict},
    exceptions::Excepted,
    finding::{Object, fingerprint},
    rule::Rule,
    rule_docs, rules,
};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// The id under which attacks stand among the rules.
const ATTACK: &str = "GRD-ATTACK";

/// The report as SARIF.
pub fn render(report: &Report) -> Result<String, serde_json::Error> {
    // Either every result says how it stands to the baseline, or none.
    let baseline = !report.known.is_empty() || !report.gone.is_empty();
    let state = |state: &'static str| baseline.then_some(state);
    let mut results: Vec<Value> = report.findings.iter().map(|finding| result(report, finding, state("new"))).collect();
    results.extend(report.known.iter().map(|finding| result(report, finding, state("unchanged"))));
    results.extend(report.excepted.iter().map(|excepted| {
        let mut result = result(report, &excepted.finding, state("new"));
        result["suppressions"] = json!([suppression(excepted)]);
        result
    }));
    let mut descriptors: Vec<Value> = rules::ALL.iter().map(descriptor).collect();
    let attacked_objects = report.attack.iter().flat_map(|attack| &attack.objects);
    if report.attack.is_some() {
        descriptors.push(attack_descriptor());
        // Services that ignore `kind` show every result as an alert: what is proven isolated stands among the properties.
        let open = attacked_objects.clone().filter(|one| one.verdict != Verdict::ProvenIsolated);
        results.extend(open.map(|one| attacked(report, one, state("new"))));
    }
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "guardian audit",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": descriptors,
            } },
            "columnKind": "unicodeCodePoints",
            "invocations": [{
                "executionSuccessful": true,
                "toolExecutionNotifications": notifications(report),
            }],
            "results": results,
            "properties": {
                "database": report.database,
                "serverVersion": report.server_version,
                "applicationRoles": report.app_roles,
                "rulesRun": report.rules_run,
                "attack": report.attack.as_ref().map(|attack| json!({
                    "mode": attack.mode,
                    "context": attack.context,
                    "contextOrigin": attack.context_origin,
                    "disclosed": attack.disclosed,
                    "provenIsolated": attacked_objects.filter(|one| one.verdict == Verdict::ProvenIsolated).map(|one| json!({
                        "kind": one.object.kind.as_str(),
                        "fullyQualifiedName": one.object.identity,
                        "role": one.role,
                        "attacks": one.attempts.iter().map(|attempt| attempt.tried).sum::<usize>(),
                    })).collect::<Vec<_>>(),
                })),
            },
        }],
    });
    Ok(harmless(&serde_json::to_string_pretty(&log)?))
}

const fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low | Severity::Note => "note",
    }
}

/// The number by which code scanning ranks: above 9 is critical, from 7 high, from 4 medium.
const fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.5",
        Severity::Low => "3.0",
        Severity::Note => "1.0",
    }
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "name": rule.name,
        "shortDescription": { "text": rule.title },
        "fullDescription": { "text": section(rule.docs, "## What") },
        "help": { "text": rule.docs.trim(), "markdown": rule_docs::page(rule) },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": {
            "tags": ["security", "tenant-isolation", format!("protects/{}", rule.protects.as_str())],
            "precision": "high",
            "security-severity": score(rule.severity),
        },
    })
}

/// The text of one section, as one line.
fn section(docs: &str, heading: &str) -> String {
    let text = docs.split_once(heading).map_or("", |(_, text)| text);
    let text = text.split_once("\n## ").map_or(text, |(text, _)| text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn result(report: &Report, finding: &Finding, state: Option<&str>) -> Value {
    let Finding { rule, title, severity, object, path, evidence, remedy, fingerprint } = finding;
    let kind = object.kind.as_str();
    let mut text = format!("{title}: {kind} {}. {evidence}", object.identity);
    if let Some(path) = path {
        let _ = write!(text, " Reached: {path}");
    }
    let mut result = json!({
        "ruleId": rule,
        "ruleIndex": rules::ALL.iter().position(|one| one.id == *rule),
        "kind": "fail",
        "level": level(*severity),
        "message": { "text": message(&text) },
        "locations": locations(report, object),
        "partialFingerprints": { "guardian/v1": fingerprint },
        "properties": { "severity": severity.as_str(), "security-severity": score(*severity), "evidence": evidence },
    });
    if let Some(path) = path {
        result["properties"]["path"] = json!(path.steps);
    }
    if let Some(remedy) = remedy {
        result["properties"]["remedy"] = json!(remedy);
    }
    if let Some(state) = state {
        result["baselineState"] = json!(state);
    }
    result
}

fn locations(report: &Report, object: &Object) -> Value {
    let kind = object.kind.as_str();
    json!([{
        "physicalLocation": {
            "artifactLocation": { "uri": uri(&["postgresql", &report.database, kind, &object.identity]) },
            "region": { "startLine": 1 },
        },
        "logicalLocations": [{
            "name": object.name,
            "fullyQualifiedName": object.identity,
            "kind": kind,
        }],
    }])
}

fn attack_descriptor() -> Value {
    let text =
        "Attacks were played as one synthetic tenant against another, each with a control that shows that it can succeed.";
    let help = "`fail`: the object leaks, and the statements reproduce it as the application's role. `open`: nothing is shown, for \
        the reason that is given. Objects that are proven isolated are listed in the run's properties.";
    json!({
        "id": ATTACK,
        "name": "attack",
        "shortDescription": { "text": "What attacks show of an object" },
        "fullDescription": { "text": text },
        "help": { "text": help, "markdown": help },
        "defaultConfiguration": { "level": "error" },
        "properties": {
            "tags": ["security", "tenant-isolation"],
            "precision": "very-high",
            "security-severity": score(Severity::Critical),
        },
    })
}

/// An object that leaks, or of which nothing is shown: then SARIF wants the kind `open`, and no level.
fn attacked(report: &Report, one: &Attacked, state: Option<&str>) -> Value {
    let leaks = one.verdict == Verdict::Leaks;
    let attempts = || one.attempts.iter().filter(|attempt| attempt.verdict == one.verdict);
    let said: Vec<String> = attempts().map(|attempt| format!("{}: {}", attempt.kind.as_str(), attempt.because)).collect();
    let (kind, name) = (one.object.kind.as_str(), &one.object.identity);
    let text = format!("{}: {kind} {name} (as {}). {}", one.verdict.as_str(), one.role, said.join("; "));
    let mut result = json!({
        "ruleId": ATTACK,
        "ruleIndex": rules::ALL.len(),
        "kind": if leaks { "fail" } else { "open" },
        "level": if leaks { "error" } else { "none" },
        "message": { "text": message(&text) },
        "locations": locations(report, &one.object),
        "partialFingerprints": { "guardian/v1": fingerprint(ATTACK, &one.object, &one.role) },
        "properties": {
            "verdict": one.verdict,
            "role": one.role,
            "rules": one.findings,
            "attempts": attempts().collect::<Vec<_>>(),
        },
    });
    if let Some(state) = state {
        result["baselineState"] = json!(state);
    }
    result
}

fn suppression(excepted: &Excepted) -> Value {
    let kind = if excepted.origin.starts_with("the comment on ") { "inSource" } else { "external" };
    json!({
        "kind": kind,
        "status": "accepted",
        "justification": format!("{} (until {}, {})", excepted.reason, excepted.until, excepted.origin),
    })
}

fn notifications(report: &Report) -> Vec<Value> {
    let not_run = report.could_not_run.iter().map(|not_run| {
        let reasons: Vec<_> =
            not_run.missing.iter().map(|missing| format!("{}: {}", missing.source, missing.reason)).collect();
        json!({
            "level": "error",
            "message": { "text": message(&format!("{} could not run: {}", not_run.rule, reasons.join("; "))) },
            "associatedRule": { "id": not_run.rule },
        })
    });
    let undecided = report.undecided.iter().map(|(policy, reason)| {
        json!({ "level": "warning", "message": { "text": message(&format!("undecided {policy}: {reason}")) } })
    });
    not_run.chain(undecided).collect()
}

/// A message's text, in which a name cannot make a link.
fn message(text: &str) -> String {
    let text = escape::line(text);
    if !text.contains("](") {
        return text;
    }
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '[' | ']' | '\\') {
            safe.push('\\');
        }
        safe.push(character);
    }
    safe
}

/// A relative reference; whatever is neither letter nor digit is written as `%XX`, so that no name can climb out.
fn uri(parts: &[&str]) -> String {
    let mut uri = String::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            uri.push('/');
        }
        if part.bytes().all(|byte| byte == b'.') {
            uri.push('_');
        }
        for byte in part.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.') {
                uri.push(char::from(byte));
            } else {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri
}
