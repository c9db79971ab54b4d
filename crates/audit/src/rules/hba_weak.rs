//! GRD-PG-508

use super::hba;
use crate::{
    facts::{HbaRule, Source},
    finding::Hit,
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-508",
    name: "hba_weak",
    severity: Severity::Medium,
    protects: Protects::Secrets,
    title: "A line of pg_hba.conf asks too little of other machines",
    docs: "## What

A line of `pg_hba.conf` for addresses other than this machine's takes passwords in clear (`password` without TLS), believes the
client's machine (`ident`), does without TLS although the server has it (`host` in place of `hostssl`), or lets every role into
every database from everywhere. The severity is that of the worst of these.

## Why

What the line does not ask for, somebody on the way can read or pretend: the application's password opens every tenant.

## Exploit

```sh
tcpdump -A port 5432 | grep -a my_app
```

## Remedy

Write `hostssl`, `scram-sha-256`, and the databases, roles and networks that are meant; then reload. SQL cannot change the file.

## Near miss

`hostssl` with `scram-sha-256` from a network stays silent, and so do lines for this machine and lines that reject.
",
    needs: &[Source::HbaRules, Source::Settings],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let tls = audit.facts.setting("ssl").is_some_and(|setting| setting.value == "on");
    let far = audit.facts.hba_rules.iter().filter(|rule| !hba::is_near(rule));
    far.filter(|rule| !["trust", "reject"].contains(&rule.method.as_str()))
        .filter_map(|rule| {
            let found = weaknesses(rule, tls);
            let worst = found.iter().map(|(severity, _)| *severity).max()?;
            let told: Vec<&str> = found.iter().map(|(_, what)| *what).collect();
            Some(Hit::on(hba::object(rule), format!("line {}: {}", rule.line, told.join("; "))).severity(worst))
        })
        .collect()
}

fn weaknesses(rule: &HbaRule, tls: bool) -> Vec<(Severity, &'static str)> {
    let all = |names: &[String]| names.iter().any(|name| name == "all");
    let encrypted = rule.kind == "hostssl" || rule.kind == "hostgssenc";
    let judged = [
        (rule.method == "ident", Severity::High, "it believes what the client's machine says of its user"),
        (rule.method == "password" && !encrypted, Severity::Medium, "passwords cross the network in clear"),
        (tls && !encrypted, Severity::Low, "it lets connections without TLS in"),
        (
            hba::is_everywhere(rule) && all(&rule.databases) && all(&rule.users),
            Severity::Low,
            "it is for every role and every database from everywhere",
        ),
    ];
    judged.into_iter().filter(|(is, ..)| *is).map(|(_, severity, what)| (severity, what)).collect()
}
