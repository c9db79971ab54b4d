//! Random mutations of the hardened helpdesk: does what the rules say agree with what attacks show?
//!
//! A mutation of `tests/mutations/kinds.sql` is run in a copy; then the audit judges the catalogs, and attacks are played. The audit
//! calls it open by a new finding of medium severity or worse, the attacks by a new leak. Where they differ, [`DISAGREEMENTS`] must say
//! why, and what it says must still be so.
//!
//! `GUARDIAN_MUTATIONS=300` runs as many (`make bench-audit`), `GUARDIAN_MUTATION=17` the one of that number, or of a kind's name.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test has no better use for an error; the figures are its output"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use guardian_audit::{
    Options, Severity,
    attacks::{Arena, AttackOptions, Verdict, attack},
    audit, collect,
};
use guardian_model::Config;
use guardian_postgres::{Declaration, apply, plan};
use guardian_testkit::{Server, TestDatabase};
use sqlx::{AssertSqlSafe, PgConnection};

const SEED: u64 = 0x6775_6172_6469_616e;
/// In `make test`.
const BOUNDED: usize = 10;
/// Each on a server of its own.
const WORKERS: usize = 2;

/// Who alone calls a mutation open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Alone {
    Audit,
    Attack,
}

/// What the two differ on, each with the reason: rules whose findings no attack bears out, and kinds of attacks that
/// succeed where no rule speaks.
const DISAGREEMENTS: &[(Alone, &str, &str)] = &[
    (Alone::Audit, "GRD-PG-202", "what a role that is made could do is not attacked: attacks make no roles"),
    (Alone::Audit, "GRD-PG-203", "attacks neither read files nor run programs of the server"),
    (Alone::Audit, "GRD-PG-205", "attacks speak SQL, not the replication protocol"),
    (Alone::Audit, "GRD-PG-207", "an owner must first alter what it owns: attacks change no schema"),
    (Alone::Audit, "GRD-PG-210", "it takes a table of the attacker's own with a foreign key: attacks change no schema"),
    (Alone::Audit, "GRD-PG-212", "it takes objects of the attacker's own: attacks change no schema"),
    (Alone::Audit, "GRD-PG-213", "it takes a schema of the attacker's own: attacks change no schema"),
    (Alone::Audit, "GRD-PG-215", "it opens the table to roles that there are not yet; the policies hold for those, too"),
    (Alone::Audit, "GRD-PG-217", "it opens tables that there are not yet"),
    (Alone::Audit, "GRD-PG-220", "the catalog holds no tenants' rows, or has a view over it that is attacked instead"),
    (Alone::Audit, "GRD-PG-221", "attacks neither read files nor configure the server"),
    (Alone::Audit, "GRD-PG-224", "signals are attacked only where sessions log in of their own, in a throwaway copy"),
    (Alone::Audit, "GRD-PG-227", "what a parameter opens is not played through, but for the one of the tenant context"),
    (
        Alone::Audit,
        "GRD-PG-303",
        "an owner that the policies hold back refreshes it empty, as the copy was; what stood in it before is shown",
    ),
    (Alone::Audit, "GRD-PG-309", "the rule's own table is common to all, and attacks do not write to such"),
    (
        Alone::Audit,
        "GRD-PG-310",
        "a body that is kept as text is not judged, and the attack's arguments need not make it show anything",
    ),
    (Alone::Audit, "GRD-PG-311", "it takes objects of the attacker's own on the path: attacks change no schema"),
    (Alone::Audit, "GRD-PG-312", "it takes objects of the attacker's own on the path: attacks change no schema"),
    (Alone::Audit, "GRD-PG-314", "what the trigger does elsewhere is not looked at"),
    (Alone::Audit, "GRD-PG-315", "it tells something only where the planner runs it ahead of a policy"),
    (Alone::Audit, "GRD-PG-317", "it takes another body for the function: attacks change no schema"),
    (Alone::Audit, "GRD-PG-511", "sessions begin in a wrong context, and attacks enter one of their own"),
];

/// A kind of mutation, as it is written in the file.
#[derive(Debug, Clone, Default)]
struct Kind {
    name: String,
    first: String,
    sql: String,
    undo: String,
    once: bool,
}

fn kinds() -> Vec<Kind> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mutations/kinds.sql")).unwrap();
    let mut kinds: Vec<Kind> = Vec::new();
    let mut part = "sql";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("-- kind ") {
            kinds.push(Kind { name: name.to_owned(), ..Kind::default() });
            part = "sql";
            continue;
        }
        let Some(kind) = kinds.last_mut() else { continue };
        match line {
            "-- undo" => part = "undo",
            "-- first" => part = "first",
            "-- once" => kind.once = true,
            _ => {
                let text = match part {
                    "undo" => &mut kind.undo,
                    "first" => &mut kind.first,
                    _ => &mut kind.sql,
                };
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    kinds
}

/// Random numbers that are the same everywhere (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

#[derive(Debug, Clone)]
struct Mutation {
    number: usize,
    kinds: Vec<String>,
    sql: String,
    undo: String,
}

/// The mutation of a number: of one kind, or of two together. The same for every run.
fn mutation(number: usize, kinds: &[Kind], names: &BTreeMap<&'static str, Vec<String>>) -> Mutation {
    let mut random = Random(SEED ^ u64::try_from(number).unwrap().wrapping_mul(0x1000_0000_01b3));
    // Every kind is taken before one is taken again; 47 is no divisor of any number of kinds that we have.
    let first = &kinds[number * 47 % kinds.len()];
    let mut chosen = vec![first];
    if number >= kinds.len() && number.is_multiple_of(2) && !first.once {
        let others: Vec<&Kind> = kinds.iter().filter(|kind| !kind.once && kind.name != first.name).collect();
        chosen.push(others[random.below(others.len())]);
    }
    let mut sql = String::new();
    let mut undo = String::new();
    for (part, kind) in chosen.iter().enumerate() {
        // One table a kind, however often it is named.
        let values: Vec<(&str, String)> = names
            .iter()
            .map(|(name, all)| (*name, random.pick(all).clone()))
            .chain([("n", format!("{number}_{part}"))])
            .collect();
        sql.push_str(&fill(&format!("{}{}", kind.first, kind.sql), &values, &mut random));
        undo.push_str(&fill(&kind.undo, &values, &mut random));
    }
    Mutation { number, kinds: chosen.iter().map(|kind| kind.name.clone()).collect(), sql, undo }
}

fn fill(template: &str, values: &[(&str, String)], random: &mut Random) -> String {
    let mut text = template.to_owned();
    while let Some(start) = text.find('[') {
        let end = start + text[start..].find(']').unwrap();
        let options: Vec<String> = text[start + 1..end].split('|').map(str::to_owned).collect();
        text.replace_range(start..=end, &options[random.below(options.len())]);
    }
    for (name, value) in values {
        text = text.replace(&format!("{{{name}}}"), value);
        if *name == "table" {
            text = text.replace("{bare_table}", value.rsplit('.').next().unwrap());
        }
    }
    text
}

/// What two looks at a copy say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Verdicts {
    /// Rule, object and fingerprint.
    findings: BTreeSet<(String, String, String)>,
    /// Object and kind of attack.
    leaks: BTreeSet<(String, String)>,
}

/// The hardened helpdesk on a server of its own, to make copies of.
struct Laboratory {
    server: Server,
    template: TestDatabase,
    app: String,
    names: BTreeMap<&'static str, Vec<String>>,
    sound: Verdicts,
}

async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(|_| ())
}

async fn texts(connection: &mut PgConnection, sql: &str) -> Vec<String> {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await.unwrap()
}

impl Laboratory {
    async fn set_up() -> Self {
        let server = Server::own();
        let template = server.helpdesk().await;
        let text =
            std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/helpdesk/guardian.toml"));
        let declaration = Declaration::from(&Config::parse("guardian.toml", &text.unwrap()).unwrap());
        let mut admin = template.connect().await;
        let facts = guardian_postgres::collect(&mut admin, &declaration).await.unwrap();
        apply(&mut admin, &plan(&facts, &declaration), &mut |_, _, _| {}).await.unwrap();
        let roles = &declaration.roles;
        let tables = |kind: &str, schema: &str| {
            format!(
                "SELECT c.oid::regclass::text FROM pg_class AS c WHERE relnamespace = '{schema}'::regnamespace AND {kind} ORDER BY relname"
            )
        };
        let mut names: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        run(&mut admin, "SET search_path = pg_catalog").await.unwrap();
        let queries = [
            (
                "table",
                tables(
                    "relkind IN ('r', 'p') AND NOT relispartition AND relname NOT IN ('country', 'ticket_counter')",
                    "public",
                ),
            ),
            ("partition", tables("relkind = 'r' AND relispartition", "public")),
            ("sequence", tables("relkind = 'S'", "public")),
            ("registry_table", tables("relkind = 'r'", "guardian")),
            (
                "function",
                "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname"
                    .to_owned(),
            ),
        ];
        for (name, sql) in queries {
            names.insert(name, texts(&mut admin, &sql).await);
        }
        let single =
            [("app", roles.app()), ("definer", roles.definer()), ("enter", roles.enter()), ("registry", roles.registry())];
        names.extend(single.map(|(name, role)| (name, vec![role.to_owned()])));
        drop(admin);
        let app = roles.app().to_owned();
        let mut laboratory = Self { server, template, app, names, sound: Verdicts::default() };
        laboratory.sound = laboratory.verdicts(usize::MAX, "", "").await.unwrap();
        laboratory
    }

    /// Both verdicts on a copy, after this SQL; `Err` when PostgreSQL refuses it.
    async fn verdicts(&self, number: usize, sql: &str, undo: &str) -> Result<Verdicts, String> {
        let copy = self.copy(number).await;
        let sql = format!("SET search_path = public; {}", sql.replace("{db}", &copy));
        let mut connection = self.server.connect(&copy).await;
        let changed = run(&mut connection, &sql).await;
        let verdicts = match changed {
            Ok(()) => Ok(self.look(&copy).await),
            Err(error) => Err(format!("{error} in {sql}")),
        };
        // A statement at a time: what was refused has nothing to undo.
        for undo in undo.split(';').filter(|sql| !sql.trim().is_empty()) {
            if let Err(error) = run(&mut connection, undo).await {
                assert!(verdicts.is_err(), "{error} in {undo}");
            }
        }
        drop(connection);
        let mut connection = self.server.connect("postgres").await;
        run(&mut connection, &format!("DROP DATABASE \"{copy}\" WITH (FORCE)")).await.unwrap();
        verdicts
    }

    async fn look(&self, copy: &str) -> Verdicts {
        let facts = collect(&mut self.server.connect(copy).await).await.unwrap();
        let report = audit(&facts, &Options { app_roles: vec![self.app.clone()], ..Options::default() }).unwrap();
        let bad = report.findings.iter().filter(|finding| finding.severity >= Severity::Medium);
        let findings = bad.map(|finding| {
            let object = finding.object.identity.replace(copy, "{db}");
            (finding.rule.to_owned(), object, finding.title.to_owned())
        });
        let options = AttackOptions { app_roles: vec![self.app.clone()], ..AttackOptions::default() };
        let attacks =
            attack(&Arena::scratch(self.server.options(copy)), &options).await.unwrap_or_else(|error| panic!("{error:?}"));
        let leaks = attacks.objects.iter().flat_map(|one| {
            let leaking = one.attempts.iter().filter(|attempt| attempt.verdict == Verdict::Leaks);
            leaking.map(|attempt| (one.object.identity.replace(copy, "{db}"), format!("{:?}", attempt.kind)))
        });
        Verdicts { findings: findings.collect(), leaks: leaks.collect() }
    }

    /// What a template does not hand on, the database's privileges and settings, is copied by hand.
    async fn copy(&self, number: usize) -> String {
        let (from, to) = (&self.template.name, &format!("copy{number}"));
        let mut connection = self.server.connect("postgres").await;
        run(&mut connection, &format!("CREATE DATABASE \"{to}\" TEMPLATE \"{from}\"")).await.unwrap();
        let sql = format!(
            "UPDATE pg_database SET datacl = (SELECT datacl FROM pg_database WHERE datname = '{from}') WHERE datname = '{to}';
             INSERT INTO pg_db_role_setting SELECT (SELECT oid FROM pg_database WHERE datname = '{to}'), s.setrole, s.setconfig
             FROM pg_db_role_setting AS s WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = '{from}')"
        );
        run(&mut connection, &sql).await.unwrap();
        to.clone()
    }
}

/// What came of a mutation.
struct Outcome {
    mutation: Mutation,
    verdicts: Result<Verdicts, String>,
}

impl Outcome {
    /// Who alone calls it open, and why: rules or kinds of attacks.
    fn alone(&self, sound: &Verdicts) -> Option<(Alone, BTreeSet<String>)> {
        let verdicts = self.verdicts.as_ref().ok()?;
        let rules: BTreeSet<String> = verdicts.findings.difference(&sound.findings).map(|(rule, ..)| rule.clone()).collect();
        let leaks = verdicts.leaks.difference(&sound.leaks);
        let attacks: BTreeSet<String> = leaks.map(|(object, kind)| format!("{kind} {object}")).collect();
        match (rules.is_empty(), attacks.is_empty()) {
            (false, true) => Some((Alone::Audit, rules)),
            (true, false) => Some((Alone::Attack, attacks)),
            _ => None,
        }
    }

    fn is_open(&self, sound: &Verdicts) -> bool {
        self.verdicts.as_ref().is_ok_and(|verdicts| verdicts.findings.difference(&sound.findings).next().is_some())
    }

    fn said(&self, sound: &Verdicts) -> String {
        let Mutation { number, kinds, sql, .. } = &self.mutation;
        let Ok(verdicts) = &self.verdicts else { return format!("{number} {kinds:?}: {:?}", self.verdicts) };
        let findings: Vec<_> =
            verdicts.findings.difference(&sound.findings).map(|(rule, object, _)| format!("{rule} {object}")).collect();
        let leaks: Vec<_> =
            verdicts.leaks.difference(&sound.leaks).map(|(object, kind)| format!("{kind} {object}")).collect();
        format!("{number} {kinds:?}: findings {findings:?}, leaks {leaks:?}\n    {}", sql.trim().replace('\n', "\n    "))
    }
}

/// The worker's share of the mutations, one after another: roles belong to its server.
fn work(numbers: &[usize]) -> (Verdicts, Vec<Outcome>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let laboratory = Laboratory::set_up().await;
        let kinds = kinds();
        let mut outcomes = Vec::new();
        for number in numbers {
            let mutation = mutation(*number, &kinds, &laboratory.names);
            let verdicts = laboratory.verdicts(*number, &mutation.sql, &mutation.undo).await;
            let outcome = Outcome { mutation, verdicts };
            if std::env::var_os("GUARDIAN_MUTATION").is_some() {
                eprintln!("{}", outcome.said(&laboratory.sound));
            }
            outcomes.push(outcome);
        }
        (laboratory.sound, outcomes)
    })
}

#[test]
fn the_audit_and_the_attacks_agree_on_random_mutations() {
    let kinds = kinds();
    let wanted = std::env::var("GUARDIAN_MUTATION").unwrap_or_default();
    let count = std::env::var("GUARDIAN_MUTATIONS").ok().map_or(BOUNDED, |count| count.parse().unwrap());
    let all: Vec<usize> = match wanted.parse() {
        Ok(number) => vec![number],
        Err(_) => (0..count).filter(|number| wanted.is_empty() || kinds[number * 47 % kinds.len()].name == wanted).collect(),
    };
    let shares: Vec<Vec<usize>> =
        (0..WORKERS).map(|worker| all.iter().copied().skip(worker).step_by(WORKERS).collect()).collect();
    let running: Vec<_> = shares
        .into_iter()
        .filter(|share: &Vec<usize>| !share.is_empty())
        .map(|share| std::thread::spawn(move || work(&share)))
        .collect();
    let (mut agree, mut open, mut listed, mut refused) = (0, 0, 0, Vec::new());
    let mut unlisted = Vec::new();
    let mut seen: BTreeMap<(Alone, &str), usize> = BTreeMap::new();
    for worker in running {
        let (sound, outcomes) = worker.join().unwrap();
        assert!(sound.leaks.iter().all(|(_, kind)| kind == "UniqueOracle"), "the hardened helpdesk: {:?}", sound.leaks);
        for outcome in outcomes {
            if outcome.verdicts.is_err() {
                refused.push(outcome.said(&sound));
                continue;
            }
            open += usize::from(outcome.is_open(&sound));
            let Some((alone, why)) = outcome.alone(&sound) else {
                agree += 1;
                continue;
            };
            let is_of = |what: &str, why: &str| what == why || why.split(' ').next() == Some(what);
            let reasons: Vec<_> = why
                .iter()
                .map(|why| DISAGREEMENTS.iter().find(|(who, what, _)| *who == alone && is_of(what, why)))
                .collect();
            if reasons.iter().any(Option::is_none) {
                unlisted.push(format!("{alone:?} alone: {}", outcome.said(&sound)));
                continue;
            }
            listed += 1;
            for (who, what, _) in reasons.into_iter().flatten() {
                *seen.entry((*who, *what)).or_default() += 1;
            }
        }
    }
    let tried = all.len() - refused.len();
    eprintln!(
        "{tried} mutations of {} kinds: on {agree} the audit and the attacks agree ({open} are open to the audit), on {listed} they \
         differ for a reason that is listed, on {} for none",
        kinds.len(),
        unlisted.len()
    );
    for (who, what, reason) in DISAGREEMENTS {
        if let Some(times) = seen.get(&(*who, *what)) {
            eprintln!("  {who:?} alone, {times} times: {what}: {reason}");
        }
    }
    assert!(refused.is_empty(), "PostgreSQL refuses {}:\n{}", refused.len(), refused.join("\n"));
    assert!(unlisted.is_empty(), "{}", unlisted.join("\n"));
    if wanted.is_empty() && count >= 3 * kinds.len() {
        let stale: Vec<_> = DISAGREEMENTS.iter().filter(|(who, what, _)| !seen.contains_key(&(*who, *what))).collect();
        assert!(stale.is_empty(), "listed, and they do not differ: {stale:?}");
    }
}
