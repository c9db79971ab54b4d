//! An application that others wrote is adopted while it runs: django-ledger (Django, its ORM and its migrations), with the
//! `guardian.toml` that a team would write (`examples/django-ledger`). Everything that the site does goes through its models.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
};

use guardian_testkit::{Installation, Server, Up};
use guardian_tests::{json as guardian_json, patiently, refusal};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection};

const OWNER: &str = "of the old application";
const PEOPLE: &str = "of the people";

/// Where the site connects.
#[derive(Clone, Copy)]
enum By<'a> {
    /// As ever: as the owner of the tables.
    Owner,
    /// Through the gateway, by this login: nothing else in the site has changed.
    Moved { login: &'a str, password: &'a str },
    /// The same, once the site has a connection of its own for people.
    Gateway { login: &'a str, password: &'a str },
}

/// A tenant of the site.
struct Entity {
    slug: &'static str,
    key: String,
    password: String,
}

impl Entity {
    fn by(&self) -> By<'_> {
        By::Gateway { login: self.slug, password: &self.password }
    }

    fn moved(&self) -> By<'_> {
        By::Moved { login: self.slug, password: &self.password }
    }
}

struct Site {
    /// What was asked of Guardian, and what it printed.
    transcript: Mutex<Vec<(String, String)>>,
    installation: Installation,
    up: Option<Up>,
    admin: PgConnection,
    python: PathBuf,
}

impl Site {
    /// The database of a site that runs, and a Guardian that knows nothing of it yet. `None` where there is no Django.
    async fn open() -> Option<Self> {
        let python = cached("drivers/django_ledger/venv/bin/python")?;
        let server = Server::shared();
        let installation = Installation::helpdesk(&server).await;
        configure(&installation);
        let app = installation.application.clone();
        let mut admin = server.connect("postgres").await;
        execute(
            &mut admin,
            &format!("CREATE ROLE {app}_owner LOGIN PASSWORD '{OWNER}'; CREATE ROLE {app}_people LOGIN PASSWORD '{PEOPLE}'"),
        )
        .await;
        execute(&mut admin, &format!("CREATE DATABASE {app} OWNER {app}_owner")).await;
        let admin = server.connect(&app).await;
        let mut site = Self { transcript: Mutex::default(), installation, up: None, admin, python };
        site.django(By::Owner, &["-m", "django", "migrate", "--verbosity", "0"]);
        let rights = format!(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON auth_user, auth_group, auth_group_permissions, auth_permission, auth_user_groups,
               auth_user_user_permissions, django_session TO {app}_people"
        );
        execute(&mut site.admin, &rights).await;
        Some(site)
    }

    /// Runs the binary as a person would, and keeps what it printed.
    fn guardian(&self, arguments: &[&str]) -> String {
        let printed = self.installation.run(arguments);
        let told = |text: &str| text.replace(&self.installation.application, "books");
        let asked = format!("guardian {}", arguments.join(" "));
        self.transcript.lock().expect("the transcript").push((told(&asked), told(&printed)));
        printed
    }

    fn entity(&self, slug: &'static str, keys: &Value) -> Entity {
        let url = self.guardian(&["login", "create", slug, "--tenant", slug]);
        let password = url.split_once(&format!("{slug}.{slug}:")).and_then(|(_, rest)| rest.split_once('@'));
        let password = password.expect("a password in the URL").0.to_owned();
        Entity { slug, key: keys[slug].as_str().expect("a key").to_owned(), password }
    }

    fn django(&self, by: By<'_>, arguments: &[&str]) -> String {
        let (user, password, port) = match by {
            By::Owner => (format!("{}_owner", self.installation.application), OWNER, self.installation.server().port()),
            By::Moved { login, password } | By::Gateway { login, password } => {
                (login.to_owned(), password, self.installation.sql_address().port())
            }
        };
        let mut command = Command::new(&self.python);
        command.args(arguments).current_dir(example()).stdin(Stdio::null());
        command.env("DJANGO_SETTINGS_MODULE", "settings").env("PYTHONPATH", example()).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string());
        command.env("PGUSER", user).env("PGPASSWORD", password).env("PGDATABASE", &self.installation.application);
        if matches!(by, By::Gateway { .. }) {
            command.env("PEOPLE_HOST", "127.0.0.1").env("PEOPLE_PORT", self.installation.server().port().to_string());
            command.env("PEOPLE_USER", format!("{}_people", self.installation.application)).env("PEOPLE_PASSWORD", PEOPLE);
            command.env("PEOPLE_DATABASE", &self.installation.application);
        }
        let output = command.output().expect("run Python");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{arguments:?}: {}{}\n{}",
            text(&output.stdout),
            text(&output.stderr),
            self.installation.log()
        );
        text(&output.stdout)
    }

    /// What people do on the site.
    fn drive(&self, by: By<'_>, arguments: &[&str]) -> Value {
        let text = self.django(by, &[&["drive.py"], arguments].concat());
        serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// How many rows each table has, of one tenant or of all.
    async fn counted(&mut self, tables: &[String], of: Option<&Entity>) -> Value {
        let mut counts = serde_json::Map::new();
        for table in tables {
            let only = of.map_or_else(String::new, |entity| format!(" WHERE entity_id = '{}'", entity.key));
            counts
                .insert(table.clone(), number(&mut self.admin, &format!("SELECT count(*) FROM {table}{only}")).await.into());
        }
        counts.into()
    }

    /// What the entity's people see is what a superuser counts, theirs alone or everybody's.
    async fn sees(&mut self, entity: &Entity, tables: &[String], only_theirs: bool) {
        let seen = self.drive(entity.by(), &["look"]);
        assert_eq!(seen["counts"], self.counted(tables, only_theirs.then_some(entity)).await, "{}", entity.slug);
        let entities = seen["entities"].as_array().expect("entities");
        assert_eq!(entities.len() == 1 && entities[0] == entity.key, only_theirs, "{seen}");
    }

    fn reach(&self, by: &Entity, other: &Entity) {
        let peeked = self.drive(by.by(), &["peek", &other.key]);
        for what in ["entity", "transactions", "by_sql"] {
            assert_eq!(peeked[what]["rows"], 0, "{peeked}");
        }
        assert_eq!(peeked["people"]["sqlstate"], "42501", "a tenant reads the table of the people: {peeked}");
        let reached = self.drive(by.by(), &["reach", &other.key]);
        for what in ["change", "delete"] {
            assert_eq!(reached[what]["rows"], 0, "{reached}");
        }
        for what in ["insert", "give_away"] {
            assert_eq!(reached[what]["sqlstate"], "42501", "{reached}");
        }
    }
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/django-ledger").canonicalize().expect("the example")
}

/// A file of the cache that `make drivers` fills.
#[expect(clippy::print_stderr, reason = "what is skipped has to be said where the person looks")]
fn cached(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("GUARDIAN_CACHE")
        .map_or_else(|| PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache/guardian"), PathBuf::from);
    let found = root.join(path);
    if !found.exists() {
        eprintln!("SKIPPED: {path} is not in the cache; fetch it with `make drivers`.");
        return None;
    }
    Some(found)
}

/// The example's `guardian.toml` with the test's servers and names.
fn configure(installation: &Installation) {
    let generated = fs::read_to_string(installation.config()).expect("read the configuration");
    let servers = generated.split_once("[application]").expect("the application").0;
    let example = fs::read_to_string(example().join("guardian.toml")).expect("read the example");
    let named = example.replace("\"books", &format!("\"{}", installation.application));
    fs::write(installation.config(), format!("{servers}{named}")).expect("write the configuration");
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{error} in {sql}"));
}

async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    let read = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(connection).await;
    read.unwrap_or_else(|error| panic!("{error} in {sql}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_django_application_is_adopted_and_released_and_finished() {
    let Some(mut site) = Site::open().await else { return };
    let keys = site.drive(By::Owner, &["sign-up", "acme", "globex"]);
    site.up = Some(site.installation.up());

    // Prepared: the site goes on as the owner, and does not know the new column.
    let dry = guardian_json(&site.installation, &["adopt", "prepare", "--dry-run"]);
    assert_eq!(dry["refusals"].as_array().map(Vec::len), Some(0), "{dry}");
    let shown: Vec<&str> =
        dry["statements"].as_array().expect("statements").iter().filter_map(|one| one["sql"].as_str()).collect();
    assert!(shown[0].starts_with("CREATE SCHEMA"), "what is shown cannot be run: {}", shown[0]);
    site.guardian(&["adopt", "prepare", "--yes"]);
    let query = "SELECT uuid AS key, name FROM django_ledger_entitymodel";
    let url = site.installation.server().url(&site.installation.application);
    site.guardian(&["tenant", "import", "--query", query, "--url", &url, "--tier", "standard"]);
    let [acme, globex] = ["acme", "globex"].map(|slug| site.entity(slug, &keys));
    site.drive(By::Owner, &["work", &acme.key]);
    let looked = site.drive(By::Owner, &["look"]);
    let tables: Vec<String> = looked["counts"].as_object().expect("counts").keys().cloned().collect();
    assert_eq!(tables.len(), 23);
    assert_eq!(looked["counts"], site.counted(&tables, None).await);
    for table in &tables {
        let strays = number(&mut site.admin, &format!("SELECT count(*) FROM {table} WHERE entity_id IS NULL")).await;
        assert_eq!(strays, 0, "{table}");
    }

    observed(&mut site, &acme, &globex, &tables).await;
    enforced_and_released(&mut site, &acme, &globex, &tables).await;
    finished(&mut site, &acme, &globex, &tables).await;
    assert!(site.up.take().is_some_and(Up::stop), "{}", site.installation.log());
}

/// The tables of each statement of this verdict.
fn one_of<'a>(items: &'a [Value], verdict: &str) -> Vec<&'a Vec<Value>> {
    let found = items.iter().filter(|one| one["verdict"] == verdict);
    found.map(|one| one["tables"].as_array().expect("tables")).collect()
}

/// Through the gateway nothing is refused or missing, and Guardian tells what would be.
async fn observed(site: &mut Site, acme: &Entity, globex: &Entity, tables: &[String]) {
    site.guardian(&["adopt", "observe", "--on"]);
    patiently(|| {
        let peeked = site.drive(acme.by(), &["peek", &globex.key]);
        if peeked["entity"]["rows"] == 1 { Ok(()) } else { Err(peeked) }
    })
    .expect("the positive control: what is tried below works while nothing is enforced");
    let peeked = site.drive(acme.by(), &["peek", &globex.key]);
    for what in ["transactions", "by_sql", "people"] {
        assert!(peeked[what]["rows"].as_i64() > Some(0), "{peeked}");
    }
    assert_eq!(site.drive(acme.moved(), &["work", &acme.key])["transactions"], 2);
    site.sees(acme, tables, false).await;
    let reported = patiently(|| {
        let all = guardian_json(&site.installation, &["adopt", "observations", "--all"]);
        let items = all["items"].as_array().expect("items");
        let is_there = |verdict: &str, named: &[&str]| {
            let all = one_of(items, verdict);
            all.iter().any(|tables| named.iter().all(|name| tables.contains(&json!(format!("public.{name}")))))
        };
        // Every page of the site joins the entity with who administers it: that has to be mended first.
        let is_whole = is_there("different", &["django_ledger_transactionmodel"])
            && is_there("refused", &["auth_user", "django_ledger_entitymodel"]);
        if is_whole { Ok(()) } else { Err(all) }
    });
    reported.unwrap_or_else(|all| panic!("{all:#}"));
    site.guardian(&["adopt", "observations"]);
    // Mended, nothing of it is refused any more.
    site.installation.run(["adopt", "observations", "--clear"]);
    site.drive(acme.by(), &["work", &acme.key]);
    site.drive(acme.by(), &["look"]);
    let again = patiently(|| {
        let all = guardian_json(&site.installation, &["adopt", "observations", "--all"]);
        if all["items"].as_array().is_some_and(|items| !items.is_empty()) { Ok(all) } else { Err(all) }
    });
    let again = again.unwrap_or_else(|all| panic!("{all:#}"));
    let refused: Vec<&Value> =
        again["items"].as_array().expect("items").iter().filter(|one| one["verdict"] == "refused").collect();
    assert!(refused.is_empty(), "{refused:#?}");
}

async fn enforced_and_released(site: &mut Site, acme: &Entity, globex: &Entity, tables: &[String]) {
    // One table at a time, and one back.
    let count = |seen: &Value, table: &str| seen["counts"][table].as_i64().expect("a count");
    let (customers, invoices) = ("django_ledger_customermodel", "django_ledger_invoicemodel");
    let all = site.drive(acme.by(), &["look"]);
    site.guardian(&["adopt", "enforce", customers, "--yes"]);
    site.guardian(&["adopt", "status"]);
    let some = site.drive(acme.by(), &["look"]);
    assert!(count(&some, customers) < count(&all, customers), "{some}");
    assert_eq!(count(&some, invoices), count(&all, invoices));
    site.guardian(&["adopt", "release", customers, "--yes"]);
    assert_eq!(site.drive(acme.by(), &["look"]), all);
    for table in tables {
        site.installation.run(["adopt", "enforce", table, "--yes"]);
        site.drive(acme.by(), &["work", &acme.key]);
    }
    site.guardian(&["adopt", "enforce", "--all", "--yes"]);
    for entity in [acme, globex] {
        site.sees(entity, tables, true).await;
        assert_eq!(site.drive(entity.by(), &["work", &entity.key])["transactions"], 2);
    }
    site.reach(acme, globex);
    // The old key over all tenants still stands, and each sees its own part of the tree only.
    let another = site.drive(acme.by(), &["chart", &acme.key]);
    assert_eq!(another["sqlstate"], "23505", "{another}");

    site.installation.run(["adopt", "release", "--all", "--yes"]);
    site.drive(By::Owner, &["work", &acme.key]);
    patiently(|| {
        let seen = site.drive(acme.by(), &["look"]);
        if seen["entities"].as_array().map(Vec::len) == Some(2) { Ok(()) } else { Err(seen) }
    })
    .expect("everything is seen again");
    site.sees(acme, tables, false).await;
}

/// The end, and the application's own migrations after it.
async fn finished(site: &mut Site, acme: &Entity, globex: &Entity, tables: &[String]) {
    site.installation.run(["adopt", "enforce", "--all", "--yes"]);
    site.guardian(&["adopt", "finish", "--yes"]);
    site.guardian(&["adopt", "status"]);
    let text = fs::read_to_string(site.installation.config()).expect("read the configuration");
    let (before, rest) = text.split_once("[adoption]").expect("the section");
    let after = rest.split_once("[application.keys]").expect("the next section").1;
    fs::write(site.installation.config(), format!("{before}[application.keys]{after}")).expect("write the configuration");
    for entity in [acme, globex] {
        assert_eq!(site.drive(entity.by(), &["chart", &entity.key])["rows"], 1);
    }
    let hardened = |site: &Site| {
        let left = guardian_json(&site.installation, &["plan"]);
        assert_eq!(left["statements"].as_array().map(Vec::len), Some(0), "{left:#}");
    };
    hardened(site);
    site.django(By::Owner, &["-m", "django", "migrate", "django_ledger", "0021", "--verbosity", "0"]);
    site.django(By::Owner, &["-m", "django", "migrate", "--verbosity", "0"]);
    hardened(site);
    for entity in [acme, globex] {
        site.sees(entity, tables, true).await;
        site.drive(entity.by(), &["work", &entity.key]);
    }
    site.reach(globex, acme);
    assert!(refusal(&site.installation, &["adopt", "release", "--all", "--yes"]).contains("existing_role"));
    the_guide_shows(&site.transcript.lock().expect("the transcript"));
}

const GUIDE: &str = include_str!("../../../docs/guide/adopt.md");

/// What the guide shows of each command is what it printed, in the guide's order.
fn the_guide_shows(transcript: &[(String, String)]) {
    let mut left = transcript.iter();
    let mut shown = 0;
    for block in GUIDE.split("```console\n").skip(1) {
        let block = block.split_once("```").expect("the block's end").0;
        for part in block.split("$ guardian ").skip(1) {
            let (command, output) = part.split_once('\n').expect("a line");
            let asked = format!("guardian {}", command.replace('\'', ""));
            let printed = left.find(|(one, _)| fits(&asked, one)).unwrap_or_else(|| panic!("nobody ran `{asked}` then"));
            let (output, lines): (Vec<_>, Vec<_>) = (output.lines().collect(), printed.1.lines().collect());
            assert!(fit(&output, &lines), "{asked}: the guide has\n{}\nand it printed\n{}", output.join("\n"), printed.1);
            shown += 1;
        }
    }
    assert!(shown > 10, "the guide shows {shown} commands");
}

/// Whether lines are those of the pattern, in which a line of … stands for any number.
fn fit(pattern: &[&str], lines: &[&str]) -> bool {
    match pattern.split_first() {
        None => lines.is_empty(),
        Some((&"…", rest)) => (0..=lines.len()).any(|skipped| fit(rest, &lines[skipped..])),
        Some((first, rest)) => lines.split_first().is_some_and(|(line, left)| fits(first, line) && fit(rest, left)),
    }
}

/// The same within a line.
fn fits(pattern: &str, line: &str) -> bool {
    let (line, mut pieces) = (line.trim_end(), pattern.trim_end().split('…'));
    let Some(mut left) = pieces.next().and_then(|start| line.strip_prefix(start)) else { return false };
    let mut open = false;
    for piece in pieces {
        let Some((_, rest)) = left.split_once(piece) else { return false };
        (left, open) = (rest, piece.is_empty());
    }
    open || left.is_empty() || pattern.contains('…') && line.ends_with(pattern.rsplit('…').next().unwrap_or_default())
}
