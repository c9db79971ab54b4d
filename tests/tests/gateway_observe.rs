//! An application that is observed before anything is enforced: what would be refused or return something else is reported,
//! nothing is refused or changed, and no literal or parameter is told to anybody.

use std::fs;

use guardian_testkit::Server;
use guardian_tests::{
    Gateway, Tenant, Wire, json as guardian_json, patiently,
    wire::{execute, message, parse, sync},
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, Row as _};

/// A literal and a parameter that nobody may be told.
const LITERAL: &str = "zaunkoenig-4711";
const PARAMETER: &str = "rohrdommel-4712";

struct Shop {
    gateway: Gateway,
    a: Tenant,
    b: Tenant,
    /// Of the login `worker`, which may serve any tenant.
    password: String,
}

impl Shop {
    /// The helpdesk as an old application: its tables belong to the role that it uses, and nothing is forced on that.
    async fn open(server: &Server) -> Self {
        let gateway = Gateway::start(server, "").await;
        let (a, b) = (gateway.tenant("alpha", "free"), gateway.tenant("bravo", "free"));
        for (tenant, names) in [(&a, ["a1", "a2"]), (&b, ["b1", "b2"])] {
            let mut client = gateway.connect(tenant);
            for name in names {
                let answer = client.query(&format!("INSERT INTO tag (name) VALUES ('{name}')"));
                assert_eq!(answer.tags, ["INSERT 0 1"]);
            }
        }
        let password = gateway.login("worker", &json!({ "kind": "any_tenant", "switch": "tenant" }));
        let shop = Self { gateway, a, b, password };
        shop.make_old().await;
        shop
    }

    async fn make_old(&self) {
        let application = &self.gateway.installation.application;
        let owner = format!("{application}_old");
        let mut direct = self.gateway.direct().await;
        let sql = format!(
            "CREATE ROLE {owner} LOGIN PASSWORD 'of the old application';
             GRANT USAGE, CREATE ON SCHEMA public TO {owner};
             GRANT CONNECT ON DATABASE {application} TO {owner};
             DO $$ DECLARE t regclass; p record; BEGIN
                 FOR p IN SELECT polname, polrelid::regclass AS of FROM pg_policy WHERE polname LIKE 'guardian%' LOOP
                     EXECUTE format('DROP POLICY %I ON %s', p.polname, p.of);
                 END LOOP;
                 FOR t IN SELECT oid FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace LOOP
                     EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY', t);
                     EXECUTE format('ALTER TABLE %s OWNER TO {owner}', t);
                 END LOOP;
             END $$;
             CREATE TABLE ledger (id integer PRIMARY KEY, note text);
             INSERT INTO ledger VALUES (1, 'one');
             ALTER TABLE ledger OWNER TO {owner};
             CREATE TABLE touched (at timestamptz DEFAULT now());
             ALTER TABLE touched OWNER TO {owner};
             CREATE FUNCTION touch() RETURNS integer LANGUAGE sql VOLATILE SECURITY DEFINER
                 AS 'INSERT INTO public.touched DEFAULT VALUES; SELECT 1';
             GRANT EXECUTE ON FUNCTION touch() TO {owner}, {application}_app;"
        );
        direct.execute(AssertSqlSafe(sql)).await.expect("make the application an old one");
        let config = self.gateway.installation.config();
        let text = fs::read_to_string(&config).expect("read the configuration");
        let declared = format!(
            "\n[application.closed]\nledger = \"of no tenant\"\ntouched = \"of no tenant\"\n\n[adoption]\nexisting_role = \"{owner}\"\n"
        );
        fs::write(&config, text + &declared).expect("write the configuration");
    }

    fn prepare(&self) {
        self.gateway.installation.run(["adopt", "prepare", "--yes"]);
    }

    /// Begins to observe; the gateway has heard of it.
    fn observe(&self) {
        self.prepare();
        self.gateway.installation.run(["adopt", "observe", "--on"]);
        self.until_served_as("adopt");
    }

    fn until_served_as(&self, role: &str) {
        let role = format!("{}_{role}", self.gateway.installation.application);
        patiently(|| {
            let served =
                self.gateway.try_connect(&self.a.slug, &self.a.password).map_err(|failure| format!("{failure:?}"))?;
            let mut served = served;
            let found = served.query("SELECT session_user").first().unwrap_or_default().to_owned();
            if found == role { Ok(()) } else { Err(found) }
        })
        .unwrap_or_else(|found| panic!("served as {found}, not as {role}"));
    }

    fn worker(&self) -> Wire {
        self.gateway.connect_as("worker", &self.password)
    }

    /// Everything that was observed.
    fn observations(&self) -> Vec<Value> {
        let page = guardian_json(&self.gateway.installation, &["adopt", "observations", "--unknown", "--all"]);
        page["items"].as_array().expect("items").clone()
    }

    /// Waits until each of these statements is reported with its verdict on its table; everything that is reported then.
    fn until_reported(&self, expected: &[(&str, &str, &str)]) -> Vec<Value> {
        let is_found = |all: &[Value], (statement, verdict, table): &(&str, &str, &str)| {
            all.iter().any(|found| {
                let tables = found["tables"].as_array().expect("tables");
                found["statement"] == *statement
                    && found["verdict"] == *verdict
                    && (table.is_empty() || tables.iter().any(|name| name == table))
            })
        };
        let reported = patiently(|| {
            let all = self.observations();
            let missing: Vec<_> = expected.iter().filter(|expected| !is_found(&all, expected)).collect();
            if missing.is_empty() { Ok(all) } else { Err(format!("missing {missing:#?} in {all:#?}")) }
        });
        reported.unwrap_or_else(|missing| panic!("{missing}"))
    }

    async fn count(&self, sql: &str) -> i64 {
        self.gateway.direct().await.fetch_one(AssertSqlSafe(sql.to_owned())).await.expect("count").get(0)
    }
}

/// One statement with one parameter in text.
fn with_parameter(client: &mut Wire, sql: &str, parameter: &str) -> guardian_tests::Answer {
    let len = u32::try_from(parameter.len()).expect("a short one").to_be_bytes();
    let body = [&b"\0\0\0\0\0\x01"[..], &len, parameter.as_bytes(), b"\0\0"].concat();
    client.send(&[parse("", sql), message(b'B', &body), execute(""), sync()].concat());
    client.until_ready()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_fare_otherwise_is_reported_and_nothing_is_refused_or_told() {
    let server = &Server::shared();
    let shop = Shop::open(server).await;
    shop.observe();
    let mut client = shop.gateway.connect(&shop.a);
    let own = format!("SELECT name FROM tag WHERE tenant_id = '{}'", shop.a.key);
    let other = format!("SELECT name AS other FROM tag WHERE tenant_id = '{}'", shop.b.key);
    let all = |answer: &guardian_tests::Answer| (answer.failures.clone(), answer.rows.len());

    // A filter that somebody forgot.
    assert_eq!(all(&client.query(&format!("SELECT name FROM tag WHERE name <> '{LITERAL}'"))), (vec![], 4));
    assert_eq!(all(&with_parameter(&mut client, "SELECT * FROM tag WHERE name <> $1", PARAMETER)), (vec![], 4));
    assert_eq!(client.scalar("SELECT count(*) FROM tag"), "4");
    assert_eq!(all(&client.query(&other)), (vec![], 2));
    // A table without a policy, and statements that only an owner may run.
    assert_eq!(all(&client.query("SELECT note FROM ledger")), (vec![], 1));
    assert_eq!(client.query("UPDATE ledger SET note = 'two'").tags, ["UPDATE 1"]);
    assert_eq!(client.query("TRUNCATE touched").tags, ["TRUNCATE TABLE"]);
    assert_eq!(client.query("CREATE TABLE made (a integer)").tags, ["CREATE TABLE"]);
    // A correct one, and a write.
    assert_eq!(all(&client.query(&own)), (vec![], 2));
    assert_eq!(client.query(&format!("INSERT INTO tag (name) VALUES ('{LITERAL}')")).tags, ["INSERT 0 1"]);
    assert_eq!(with_parameter(&mut client, "INSERT INTO tag (name) VALUES ($1)", PARAMETER).tags, ["INSERT 0 1"]);
    // What must not be run twice.
    assert_eq!(client.scalar("SELECT touch()"), "1");
    // A client without a tenant.
    let mut worker = shop.worker();
    assert_eq!(all(&worker.query("SELECT name AS nobodys FROM tag WHERE name = 'a1'")), (vec![], 1));
    assert_eq!(
        all(&with_parameter(&mut worker, "SELECT count(*) AS nobodys FROM tag WHERE name <> $1", PARAMETER)),
        (vec![], 1)
    );
    assert_eq!(worker.scalar("SHOW guardian.tenant"), "");
    // It may name one still.
    worker.query("SET guardian.tenant = 'bravo'");
    assert_eq!(worker.scalar("SHOW guardian.tenant"), "bravo");

    let reported = shop.until_reported(&[
        ("SELECT name FROM tag WHERE name <> ?", "fewer", "public.tag"),
        ("SELECT * FROM tag WHERE name <> $1", "fewer", "public.tag"),
        ("SELECT count(*) FROM tag", "different", "public.tag"),
        ("SELECT name AS other FROM tag WHERE tenant_id = ?", "empty", "public.tag"),
        ("SELECT note FROM ledger", "refused", "public.ledger"),
        ("UPDATE ledger SET note = ?", "refused", "public.ledger"),
        ("TRUNCATE touched", "refused", "public.touched"),
        ("CREATE TABLE made (a integer)", "refused", ""),
        ("SELECT name AS nobodys FROM tag WHERE name = ?", "no_tenant", "public.tag"),
        ("SELECT count(*) AS nobodys FROM tag WHERE name <> $1", "no_tenant", "public.tag"),
        ("SELECT touch()", "not_looked_at", ""),
    ]);
    for well in [
        "SELECT name FROM tag WHERE tenant_id = ?",
        "INSERT INTO tag (name) VALUES (?)",
        "INSERT INTO tag (name) VALUES ($1)",
    ] {
        assert!(!reported.iter().any(|found| found["statement"] == well), "{well} in {reported:#?}");
    }
    let empty = reported.iter().find(|found| found["verdict"] == "empty").expect("an empty one");
    assert_eq!(empty["rows"], json!({ "enforced": 0, "now": 2 }));
    assert_eq!(empty["count"], 1);
    // The observer's looking changed nothing.
    assert_eq!(shop.count("SELECT count(*) FROM touched").await, 1);
    assert_eq!(shop.count("SELECT count(*) FROM ledger WHERE note = 'two'").await, 1);
    assert_eq!(shop.count("SELECT count(*) FROM tag").await, 6);

    // No literal and no parameter left the gateway.
    let mut told = format!("{reported:?}{}", shop.gateway.installation.log());
    told += &shop.gateway.installation.run(["adopt", "observations", "--unknown", "--all"]);
    told += &shop.gateway.installation.run(["audit-log", "list", "--all", "--json"]);
    let mut control = shop.gateway.installation.control().connect().await;
    for table in ["observation", "observed_session", "observation_total", "audit_entry"] {
        let rows = control
            .fetch_all(AssertSqlSafe(format!("SELECT t::text FROM guardian_store.{table} t")))
            .await
            .expect("read the store");
        told.extend(rows.iter().map(|row| row.get::<String, _>(0)));
    }
    assert!(told.contains("nobodys"), "the statements themselves are there: {told}");
    for secret in [LITERAL, PARAMETER] {
        assert!(!told.contains(secret), "{secret} in {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_goes_on_after_a_kill_and_begins_anew_after_a_fix() {
    let server = &Server::shared();
    let mut shop = Shop::open(server).await;
    shop.observe();
    shop.gateway.connect(&shop.a).query("SELECT note AS before FROM ledger");
    shop.until_reported(&[("SELECT note AS before FROM ledger", "refused", "public.ledger")]);

    let up = shop.gateway.up.lock().expect("the process").take();
    up.expect("a process").kill();
    *shop.gateway.up.lock().expect("the process") = Some(shop.gateway.installation.up());
    let address = shop.gateway.installation.sql_address().to_string();
    shop.gateway.address = address;
    shop.until_served_as("adopt");
    shop.gateway.connect(&shop.a).query("SELECT note AS after FROM ledger");
    shop.until_reported(&[
        ("SELECT note AS before FROM ledger", "refused", "public.ledger"),
        ("SELECT note AS after FROM ledger", "refused", "public.ledger"),
    ]);

    // Sessions of the old role that do not come through the gateway.
    let installation = &shop.gateway.installation;
    let old = format!("{}_old", installation.application);
    let url = server.url(&installation.application);
    let past: sqlx::postgres::PgConnectOptions = url.parse().expect("a URL");
    let past = past.username(&old).password("of the old application").application_name("nightly report");
    let _past = sqlx::ConnectOptions::connect(&past).await.expect("connect past the gateway");
    let summary = patiently(|| {
        let summary = shop.gateway.api("GET", "/v1/adoption/observations/summary", &Value::Null);
        let is_there = summary["direct"][0]["application_name"] == "nightly report";
        if is_there { Ok(summary) } else { Err(summary) }
    });
    let summary = summary.unwrap_or_else(|summary| panic!("{summary}"));
    assert_eq!((&summary["direct"][0]["role"], &summary["direct"][0]["sessions"]), (&json!(old), &json!(1)));
    assert_eq!(summary["tables"][0]["table"], "public.ledger");
    assert_eq!(summary["tables"][0]["need_work"], 2);

    // The fix: everything is forgotten, and what runs now is looked at as if for the first time.
    installation.run(["adopt", "observations", "--clear"]);
    assert_eq!(shop.observations(), Vec::<Value>::new());
    let again = patiently(|| {
        shop.gateway.connect(&shop.a).query("SELECT note AS after FROM ledger");
        let all = shop.observations();
        if all.is_empty() { Err(()) } else { Ok(all) }
    });
    assert_eq!(again.expect("it is reported again")[0]["statement"], "SELECT note AS after FROM ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_served_as_the_old_role_unless_the_application_is_observed() {
    let server = &Server::shared();
    let shop = Shop::open(server).await;
    let no_tenant = |worker: &mut Wire| worker.query("SELECT 1").code().to_owned();
    shop.until_served_as("app");
    let before = no_tenant(&mut shop.worker());
    assert_eq!(before, "28000");
    shop.prepare();
    shop.until_served_as("app");
    assert_eq!(no_tenant(&mut shop.worker()), before);

    shop.gateway.installation.run(["adopt", "observe", "--on"]);
    shop.until_served_as("adopt");
    let session = shop.gateway.tenant("charlie", "row-session");
    let mut of_session = shop.gateway.connect(&session);
    let mut bound = shop.gateway.connect(&shop.a);
    let mut unbound = shop.worker();
    assert_eq!(unbound.scalar("SELECT count(*) FROM tag"), "4");
    assert_eq!(bound.scalar("SELECT count(*) FROM tag"), "4");
    assert_eq!(of_session.scalar("SELECT count(*) FROM tag"), "4");

    shop.gateway.installation.run(["adopt", "enforce", "--all", "--yes"]);
    shop.until_served_as("app");
    // A client that stays is served under every policy; one without a tenant, or in a session of the old role, is not served.
    assert_eq!(bound.scalar("SELECT count(*) FROM tag"), "2");
    for client in [&mut unbound, &mut of_session] {
        let answer = client.query("SELECT count(*) FROM tag");
        assert!(answer.rows.is_empty() && (!answer.failures.is_empty() || answer.status.is_none()), "{answer:?}");
    }
    assert_eq!(no_tenant(&mut shop.worker()), before);
    let adopt = format!("{}_adopt", shop.gateway.installation.application);
    let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{adopt}'");
    for left in 0.. {
        if shop.count(&sql).await == 0 {
            break;
        }
        assert!(left < 200, "sessions of the old role are left");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}
