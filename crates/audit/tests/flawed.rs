//! The project's own flawed schema: every flaw is found, nothing else is, and what can be exploited is.
//!
//! `tests/flawed/*.sql` are run in order of their names. Comments in them say what must come of what follows:
//!
//! - `-- flaw GRD-PG-001: shop.notes, leaks` must be found on that object, and attacks must show that it leaks; `leaks shop.x` when
//!   another object does, by statements that reproduce it. Without that it opens nothing by itself.
//! - `-- also GRD-PG-401: key on shop.notes` comes with a flaw that was named before.
//! - `-- near GRD-PG-001: shop.other` looks like the flaw and is none: no finding, and attacks show no leak.
//! - `-- as reports` says which role's application is meant from there on.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test has no better use for an error; the figures are its output"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use guardian_audit::{
    Facts, Options,
    attacks::{Arena, AttackOptions, Attacked, Attempt, Verdict, attack},
    audit, collect,
};
use guardian_testkit::{Server, TestDatabase};
use sqlx::AssertSqlSafe;

/// What a comment says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Planted {
    kind: Kind,
    rule: String,
    object: String,
    leaks: Option<String>,
    /// The application's role.
    role: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flaw,
    Also,
    NearMiss,
}

struct Schema {
    planted: Vec<Planted>,
    sql: Vec<(String, String)>,
}

impl Schema {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/flawed");
        let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let sql = paths.iter().map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap()));
        let sql: Vec<(String, String)> = sql.collect();
        let planted = sql.iter().flat_map(|(_, text)| planted(text)).collect();
        Self { planted, sql }
    }

    fn roles(&self) -> Vec<String> {
        let roles: BTreeSet<&String> = self.planted.iter().map(|one| &one.role).collect();
        roles.into_iter().cloned().collect()
    }

    fn count(&self, kind: Kind) -> usize {
        self.planted.iter().filter(|one| one.kind == kind).count()
    }

    /// A server of its own, since roles and their flaws belong to the whole server.
    async fn create(&self) -> TestDatabase {
        let database = Server::own().database("flawed").await;
        let mut connection = database.connect().await;
        for (path, sql) in &self.sql {
            let sql = sql.replace("{db}", &database.name);
            if let Err(error) = sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await {
                panic!("{path}: {error:#?}");
            }
        }
        database
    }
}

fn planted(text: &str) -> Vec<Planted> {
    let mut role = "app".to_owned();
    let mut all = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("-- as ") {
            name.clone_into(&mut role);
            continue;
        }
        let kinds = [("-- flaw ", Kind::Flaw), ("-- also ", Kind::Also), ("-- near ", Kind::NearMiss)];
        let Some((kind, rest)) = kinds.iter().find_map(|(prefix, kind)| Some((*kind, line.strip_prefix(prefix)?))) else {
            continue;
        };
        let (id, rest) = rest.split_once(": ").unwrap_or_else(|| panic!("not `RULE: object`: {line}"));
        let (object, leaks) = match rest.split_once(", leaks") {
            Some((object, "")) => (object, Some(object.to_owned())),
            Some((object, other)) => (object, Some(other.trim().to_owned())),
            None => (rest, None),
        };
        all.push(Planted { kind, rule: id.to_owned(), object: object.to_owned(), leaks, role: role.clone() });
    }
    all
}

/// The facts of a server that is well kept: it and its release are not the schema's flaws.
fn well_kept(facts: &mut Facts) {
    facts.server.version = facts.server.version / 10_000 * 10_000 + 99;
    "2021-01-01".clone_into(&mut facts.server.collected_on);
    facts.server.open_statistics.clear();
    for setting in facts.settings.iter_mut().filter(|setting| setting.name == "max_prepared_transactions") {
        "0".clone_into(&mut setting.value);
        "0".clone_into(&mut setting.reset_value);
    }
}

#[tokio::test]
async fn the_audit_finds_every_flaw_and_raises_no_false_alarm() {
    let schema = Schema::read();
    assert!(schema.count(Kind::Flaw) >= 60 && schema.count(Kind::NearMiss) >= 40, "as many as were promised");
    let database = schema.create().await;
    let mut facts = collect(&mut database.connect().await).await.unwrap();
    well_kept(&mut facts);
    let mut wrong = Vec::new();
    let (mut missed, mut alarms) = (0, 0);
    for role in schema.roles() {
        let report = audit(&facts, &Options { app_roles: vec![role.clone()], ..Options::default() }).unwrap();
        assert!(report.could_not_run.is_empty(), "a superuser sees everything: {:?}", report.could_not_run);
        let object = |object: &str| object.replace("{db}", &database.name);
        let expected: BTreeSet<(String, String)> = schema
            .planted
            .iter()
            .filter(|one| one.role == role && one.kind != Kind::NearMiss)
            .map(|one| (one.rule.clone(), object(&one.object)))
            .collect();
        let found: BTreeMap<(String, String), String> = report
            .findings
            .iter()
            .map(|finding| ((finding.rule.to_owned(), finding.object.identity.clone()), finding.evidence.clone()))
            .collect();
        for (rule, object) in expected.iter().filter(|one| !found.contains_key(*one)) {
            missed += 1;
            wrong.push(format!("MISSED as {role}: {rule}: {object}"));
        }
        for ((rule, object), evidence) in found.iter().filter(|(one, _)| !expected.contains(*one)) {
            alarms += 1;
            wrong.push(format!("FALSE ALARM as {role}: {rule}: {object} ({evidence})"));
        }
    }
    let (flaws, near) = (schema.count(Kind::Flaw), schema.count(Kind::NearMiss));
    let findings = flaws + schema.count(Kind::Also);
    eprintln!("{flaws} flaws ({findings} findings) and {near} near misses: {missed} missed, {alarms} false alarms");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn attacks_leak_where_a_flaw_of_the_schema_can_be_exploited_and_nowhere_near() {
    exploit(|role| role == "app").await;
}

// In two halves, which run beside each other: every role attacks every table.
#[tokio::test]
async fn attacks_leak_where_a_flaw_of_a_role_can_be_exploited_and_nowhere_near() {
    exploit(|role| role != "app" && role < HALFWAY).await;
}

#[tokio::test]
async fn attacks_leak_where_a_flaw_of_another_role_can_be_exploited_and_nowhere_near() {
    exploit(|role| role != "app" && role >= HALFWAY).await;
}

/// A letter with about as many roles before it as after.
const HALFWAY: &str = "h";

/// Attacks as these roles.
async fn exploit(is_attacked: impl Fn(&str) -> bool) {
    let mut schema = Schema::read();
    schema.planted.retain(|one| is_attacked(&one.role));
    let database = schema.create().await;
    let options = AttackOptions { app_roles: schema.roles(), ..AttackOptions::default() };
    let report = attack(&Arena::scratch(database.options()), &options).await.unwrap_or_else(|error| panic!("{error:?}"));
    let attacked = |role: &str, object: &str| {
        report.objects.iter().find(|one| one.role == role && one.object.identity == object.replace("{db}", &database.name))
    };
    let is_reproduced = |one: &Attacked| {
        let mut leaking = one.attempts.iter().filter(|attempt| attempt.verdict == Verdict::Leaks);
        one.verdict == Verdict::Leaks && leaking.any(|attempt| !attempt.reproduce.is_empty())
    };
    let mut wrong = Vec::new();
    let exploitable: Vec<_> = schema.planted.iter().filter_map(|one| Some((one, one.leaks.as_ref()?))).collect();
    for (one, object) in &exploitable {
        if !attacked(&one.role, object).is_some_and(is_reproduced) {
            let tried = attacked(&one.role, object).map(|one| one.attempts.iter().map(said).collect::<Vec<_>>());
            wrong.push(format!("NOT EXPLOITED as {}: {} on {object}: {tried:#?}", one.role, one.rule));
        }
    }
    for one in schema.planted.iter().filter(|one| one.kind == Kind::NearMiss) {
        if let Some(leak) = attacked(&one.role, &one.object).filter(|leak| leak.verdict == Verdict::Leaks) {
            let leaking = leak.attempts.iter().filter(|attempt| attempt.verdict == Verdict::Leaks);
            wrong.push(format!(
                "LEAKS as {}: near {} on {}: {:#?}",
                one.role,
                one.rule,
                one.object,
                leaking.collect::<Vec<_>>()
            ));
        }
    }
    // What leaks must be a flaw's, or the audit was silent on it.
    let known: BTreeSet<(&str, &str)> =
        exploitable.iter().map(|(one, object)| (one.role.as_str(), object.as_str())).collect();
    for leak in report.objects.iter().filter(|one| one.verdict == Verdict::Leaks) {
        if !known.contains(&(leak.role.as_str(), leak.object.identity.as_str())) {
            let leaking = leak.attempts.iter().filter(|attempt| attempt.verdict == Verdict::Leaks);
            wrong.push(format!(
                "LEAKS as {}, unlisted: {}: {:#?}",
                leak.role,
                leak.object.identity,
                leaking.map(said).collect::<Vec<_>>()
            ));
        }
    }
    eprintln!(
        "{} flaws leak, {} objects are proven isolated; the attack knows the context by {:?}",
        exploitable.len(),
        report.count(Verdict::ProvenIsolated),
        report.context
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn said(attempt: &Attempt) -> String {
    format!("{:?} {}: {} {:?}", attempt.kind, attempt.verdict.as_str(), attempt.because, attempt.reproduce)
}
