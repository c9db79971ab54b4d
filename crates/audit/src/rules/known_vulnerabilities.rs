//! GRD-PG-501

use super::{
    grants,
    vulnerabilities::{Need, VULNERABILITIES, Vulnerability},
};
use crate::{
    facts::{Privilege, Source},
    finding::{Hit, Object, ObjectKind},
    rule::{Audit, Protects, Rule, Severity},
};

pub(super) const RULE: Rule = Rule {
    id: "GRD-PG-501",
    name: "known_vulnerabilities",
    severity: Severity::High,
    protects: Protects::Rows,
    title: "The server's release has published flaws that SQL of a tenant can use",
    docs: "## What

By its version number the server lacks fixes for flaws with which SQL of an ordinary role gets past policies, privileges or the
database itself. Flaws that need something the application does not have here (an extension, the right to create objects) are only
counted. The severity is that of the worst one.

## Why

Policies and privileges are kept by the server. A flaw in it opens them all, however well they are written.

## Exploit

```sql
INSERT INTO orders (…) VALUES (…) ON CONFLICT (id) DO UPDATE SET …;   -- CVE-2026-120154: reads past the policies
```

## Remedy

Install the latest release of the major version; it needs a restart and no dump. No SQL helps. A vendor may have put fixes into an
older number: then record an exception that says so.

## Near miss

The latest release of a supported version has no finding; neither has one whose open flaws all need what is not here.
",
    needs: &[Source::Extensions, Source::Databases],
    check,
};

fn check(audit: &Audit<'_>) -> Vec<Hit> {
    let version = audit.facts.server.version;
    let (open, elsewhere): (Vec<&Vulnerability>, Vec<&Vulnerability>) = VULNERABILITIES
        .iter()
        .filter(|one| one.is_in(version))
        .partition(|one| one.needs.iter().all(|need| is_met(audit, *need)));
    let Some(worst) = open.iter().map(|one| one.severity).max() else { return Vec::new() };
    let major = version / 10_000;
    let mut evidence = vec![format!("by {major}.{} a tenant can {}", version % 10_000, told(&open).join("; "))];
    if !elsewhere.is_empty() {
        evidence.push(format!("{} more need what the application does not have here", elsewhere.len()));
    }
    let fixes = open.iter().flat_map(|one| one.fixed).filter(|fix| fix.0 == major).map(|fix| fix.1);
    let all_fixed = open.iter().all(|one| !one.unfixed.contains(&major));
    evidence.push(match fixes.max().filter(|_| all_fixed) {
        Some(minor) => format!("{major}.{minor} fixes all of them"),
        None => format!("{major} gets no more fixes"),
    });
    let ids: Vec<&str> = open.iter().map(|one| one.id).collect();
    let object = Object::named(ObjectKind::Server, "postgresql");
    vec![Hit::on(object, evidence.join("; ")).severity(worst).part(ids.join(" "))]
}

/// What the flaws let a tenant do, worst first, each with its ids.
fn told(open: &[&Vulnerability]) -> Vec<String> {
    let mut ways: Vec<(Severity, &str, Vec<&str>)> = Vec::new();
    for one in open {
        match ways.iter_mut().find(|(_, lets, _)| *lets == one.lets) {
            Some((severity, _, ids)) => {
                *severity = (*severity).max(one.severity);
                ids.push(one.id);
            }
            None => ways.push((one.severity, one.lets, vec![one.id])),
        }
    }
    ways.sort_by_key(|(severity, ..)| std::cmp::Reverse(*severity));
    ways.into_iter().map(|(_, lets, ids)| format!("{lets} ({})", ids.join(", "))).collect()
}

fn is_met(audit: &Audit<'_>, need: Need) -> bool {
    let facts = audit.facts;
    let database = &facts.database;
    let may = |privilege| audit.reach.by_acl(&database.acl, privilege, database.owner, None, "database").is_some();
    match need {
        Need::Policies => facts.relations.iter().any(|table| table.rls),
        Need::Extension(name) => facts.extensions.iter().any(|extension| extension.name == name),
        Need::Replication => audit.reach.sessions_as().any(|(role, _)| facts.role(role).is_some_and(|role| role.replicates)),
        Need::Schemas => may(Privilege::Create),
        Need::Objects => {
            let mut schemas = facts.schemas.iter().filter(|schema| !grants::is_system(&schema.name));
            may(Privilege::Create)
                || may(Privilege::Temporary)
                || schemas.any(|one| audit.reach.by_acl(&one.acl, Privilege::Create, one.owner, None, &one.name).is_some())
        }
    }
}
