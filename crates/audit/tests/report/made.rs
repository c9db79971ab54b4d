//! Reports made by hand, of facts that need no database.

use guardian_audit::{
    Facts, Finding, Hit, Object, ObjectKind, Options, Path, Report, Severity,
    attacks::{AttackReport, Attacked, Attempt, By, Kind, Mode, Origin, Verdict},
    audit,
    facts::{FORMAT, Role},
    rules,
};

/// Facts in which there is nothing but the application's role.
pub(crate) fn facts() -> Facts {
    let role = Role {
        oid: 17_000,
        name: "app".to_owned(),
        superuser: false,
        inherits: true,
        creates_roles: false,
        creates_databases: false,
        logs_in: true,
        replicates: false,
        bypasses_rls: false,
        connections_max: 10,
        valid_until: None,
        password: Some("scram-sha-256".to_owned()),
    };
    Facts { format: FORMAT, roles: vec![role], ..Facts::default() }
}

pub(crate) fn options() -> Options {
    Options { app_roles: vec!["app".to_owned()], ..Options::default() }
}

/// A report in which nothing was found.
pub(crate) fn empty() -> Report {
    let mut report = audit(&facts(), &options()).unwrap();
    report.findings.clear();
    "shop".clone_into(&mut report.database);
    report
}

/// A finding on a table; every text in it contains the name.
pub(crate) fn finding(rule: &str, severity: Severity, name: &str) -> Finding {
    let object = Object {
        kind: ObjectKind::Table,
        schema: Some("public".to_owned()),
        name: name.to_owned(),
        identity: format!("public.{name}"),
    };
    let path = Path { steps: vec!["app".to_owned(), format!("SELECT on {name}")] };
    let hit = Hit::on(object, format!("the table {name} is open"))
        .path(path)
        .remedy(format!("ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;"))
        .note(format!("think of {name}"))
        .severity(severity);
    Finding::new(rules::by_id(rule).unwrap(), hit)
}

/// Attacks on three tables, one of each verdict; every text contains the name.
pub(crate) fn attack(name: &str) -> AttackReport {
    let attempt = |kind, verdict, reproduce: &[&str]| Attempt {
        kind,
        verdict,
        tried: 2,
        reproduce: reproduce.iter().map(|sql| format!("{sql} {name}")).collect(),
        because: format!("it is of {name}"),
    };
    let held = attempt(Kind::Delete, Verdict::ProvenIsolated, &[]);
    let of = |table: &str, verdict, attempts| Attacked {
        object: Object {
            kind: ObjectKind::Table,
            schema: Some("public".to_owned()),
            name: name.to_owned(),
            identity: format!("{table}.{name}"),
        },
        role: format!("app {name}"),
        verdict,
        findings: vec!["GRD-PG-001"],
        attempts,
    };
    let leaks = attempt(Kind::Read, Verdict::Leaks, &["SET ROLE", "SELECT * FROM"]);
    AttackReport {
        mode: Mode::Clone,
        context: Some(format!("SET app.tenant = '{name}'")),
        context_origin: Origin::Given,
        context_by: By::Application,
        objects: vec![
            of("leaking", Verdict::Leaks, vec![leaks, held.clone()]),
            of("unknown", Verdict::NotShown, vec![attempt(Kind::Read, Verdict::NotShown, &[]), held.clone()]),
            of("isolated", Verdict::ProvenIsolated, vec![held]),
        ],
        disclosed: vec![format!("a sequence of {name} went on")],
    }
}
