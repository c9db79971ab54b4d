//! An adoption whose control plane is killed again and again in the middle of each of its steps: whoever comes next finishes
//! it, and nothing is left half.

use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};

use guardian_testkit::{Installation, Server, Up};
use guardian_tests::{
    Barrier, Wire, json, refusal,
    wire::{message, query},
};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};

/// Kills of one step, about; a run that was taken up a dozen times is given up.
const KILLS: usize = 5;

const TENANTS: [&str; 2] = ["0190b6a0-0000-7000-8000-00000000000a", "0190b6a0-0000-7000-8000-00000000000b"];

/// The helpdesk as an application that knows nothing of Guardian: a role of its own owns everything, and one table does not
/// say whose its rows are.
async fn running(installation: &Installation) -> PgConnection {
    installation.run(["migrate"]);
    let mut admin = installation.server().connect(&installation.application).await;
    let owner = format!("{}_owner", installation.application);
    let mut sql = format!(
        "SET search_path = public; CREATE ROLE {owner} LOGIN; GRANT ALL ON SCHEMA public TO {owner};
         CREATE TABLE note (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ticket_id bigint NOT NULL REFERENCES ticket,
           text text NOT NULL);"
    );
    for (number, tenant) in TENANTS.iter().enumerate() {
        let rows = format!(
            "INSERT INTO contact (tenant_id, email, full_name) VALUES ('{tenant}', 'c{number}@example.com', 'C');
             INSERT INTO ticket (tenant_id, number, subject, requester_id)
               SELECT tenant_id, n, 'ticket ' || n, id FROM contact, generate_series(1, 300) AS n WHERE tenant_id = '{tenant}';"
        );
        sql.push_str(&rows);
    }
    let owners = format!(
        "INSERT INTO note (ticket_id, text) SELECT id, 'note ' || n FROM ticket, generate_series(1, 10) AS n;
         DO $$ DECLARE one record; BEGIN
           FOR one IN SELECT c.oid::regclass AS name, c.relkind FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace
                AND (c.relkind IN ('r', 'p', 'v') OR c.relkind = 'S' AND NOT EXISTS (SELECT FROM pg_depend AS d
                     WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i'))) LOOP
             EXECUTE format('ALTER %s %s OWNER TO {owner}', CASE one.relkind WHEN 'v' THEN 'VIEW' WHEN 'S' THEN 'SEQUENCE'
               ELSE 'TABLE' END, one.name);
           END LOOP;
           FOR one IN SELECT p.oid::regprocedure AS name FROM pg_proc AS p WHERE p.pronamespace = 'public'::regnamespace LOOP
             EXECUTE format('ALTER ROUTINE %s OWNER TO {owner}', one.name);
           END LOOP; END $$"
    );
    sql.push_str(&owners);
    execute(&mut admin, &sql).await;
    let text = fs::read_to_string(installation.config()).expect("read the configuration");
    let text = text.replace("ticket_pkey = \"composite\"", "ticket_pkey = \"composite\"\nnote_pkey = \"composite\"");
    let adoption = format!(
        "\n[adoption]\nexisting_role = \"{owner}\"\n[adoption.parents]\nnote = \"ticket\"\n[adoption.backfill]\nbatch_rows = 500\n"
    );
    fs::write(installation.config(), text + &adoption).expect("write the configuration");
    admin
}

async fn execute(connection: &mut PgConnection, sql: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await;
    done.unwrap_or_else(|error| panic!("{error} in {sql}"));
}

async fn number(connection: &mut PgConnection, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(connection)
        .await
        .unwrap_or_else(|error| panic!("{error} in {sql}"))
}

/// What the owner, who is no superuser, sees of a table.
async fn as_owner(admin: &mut PgConnection, installation: &Installation, table: &str) -> Result<i64, String> {
    execute(admin, &format!("SET ROLE {}_owner", installation.application)).await;
    let sql = format!("SELECT count(*) FROM public.{table}");
    let seen = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *admin).await.map_err(|error| error.to_string());
    execute(admin, "RESET ROLE").await;
    seen
}

/// The state of the run that was started last.
fn newest_run(installation: &Installation) -> String {
    let sql = "SELECT state FROM guardian_store.run ORDER BY started_at DESC LIMIT 1";
    let output = Command::new("psql").args([&installation.control().url(), "-XAtc", sql]).output().expect("run psql");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Takes a step, and kills Guardian whenever another part of it has acted and is not recorded yet.
async fn kill_along(installation: &Installation, mut up: Up, step: &[&str]) -> Up {
    let dry: Value = json(installation, &[&["adopt"], step, &["--dry-run"]].concat());
    let parts = dry["statements"].as_array().expect("statements").len() + 1;
    let stride = (parts / KILLS).max(1);
    let mut barrier = Barrier::at_item(installation.control(), 0).await;
    let mut command = installation.command([&["adopt"], step, &["--yes"]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the step");
    let mut kills = 0;
    loop {
        let mut begun = kills > 0;
        let reached = barrier.is_reached(|| {
            begun = begun || child.try_wait().expect("wait for the step").is_some();
            begun && newest_run(installation) != "running"
        });
        if !reached.await {
            barrier.lift().await;
            break;
        }
        up.kill();
        let _ = child.kill();
        barrier.lift().await;
        kills += 1;
        barrier = Barrier::at_item(installation.control(), kills * stride).await;
        up = installation.up();
    }
    let _ = child.wait();
    assert_eq!(newest_run(installation), "done", "{step:?} after {kills} kills: {}", installation.log());
    assert!(kills > 0, "{step:?} was never interrupted");
    up
}

fn enforced(installation: &Installation) -> (String, usize, usize) {
    let status = json(installation, &["adopt", "status"]);
    let tables = status["tables"].as_array().expect("tables");
    let enforced = tables.iter().filter(|table| table["enforced"] == true).count();
    (status["stage"].as_str().expect("a stage").to_owned(), enforced, tables.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_survives_kills_in_each_of_its_steps() {
    let installation = Installation::helpdesk(&Server::shared()).await;
    let mut up = installation.up();
    let mut admin = running(&installation).await;

    up = kill_along(&installation, up, &["prepare"]).await;
    let left = json(&installation, &["adopt", "prepare", "--dry-run"]);
    assert_eq!(left["statements"].as_array().map(Vec::len), Some(0), "{left}");
    let strays = "SELECT count(*) FROM public.note AS n JOIN public.ticket AS t ON t.id = n.ticket_id WHERE n.tenant_id IS DISTINCT FROM t.tenant_id";
    assert_eq!(number(&mut admin, strays).await, 0);
    assert_eq!(number(&mut admin, "SELECT count(*) FROM public.note WHERE tenant_id IS NULL").await, 0);
    assert_eq!(as_owner(&mut admin, &installation, "note").await, Ok(6000));
    let (stage, none, tables) = enforced(&installation);
    assert_eq!((stage.as_str(), none), ("prepared", 0));
    assert!(refusal(&installation, &["apply", "--yes"]).contains("is being adopted"));
    assert!(refusal(&installation, &["adopt", "enforce", "--all", "--yes"]).contains("stage `prepared`"));

    installation.run(["adopt", "observe", "--on"]);
    up = kill_along(&installation, up, &["enforce", "--all"]).await;
    assert_eq!(enforced(&installation), ("enforced".to_owned(), tables, tables));
    assert!(as_owner(&mut admin, &installation, "note").await.is_err(), "the owner reads without a context");
    let member = "SELECT count(*) FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member
        JOIN pg_roles AS o ON o.oid = m.roleid WHERE r.rolname = 'APP_adopt' AND o.rolname = 'APP_owner'";
    let member = member.replace("APP", &installation.application);
    assert_eq!(number(&mut admin, &member).await, 0);

    up = kill_along(&installation, up, &["release", "--all"]).await;
    assert_eq!(enforced(&installation), ("observing".to_owned(), 0, tables));
    assert_eq!(as_owner(&mut admin, &installation, "note").await, Ok(6000));
    assert_eq!(number(&mut admin, &member).await, 1);
    assert!(refusal(&installation, &["adopt", "finish", "--yes"]).contains("stage `observing`"));

    up = kill_along(&installation, up, &["enforce", "--all"]).await;
    up = kill_along(&installation, up, &["finish"]).await;
    assert_eq!(enforced(&installation).0, "none");
    let left = json(&installation, &["plan"]);
    assert_eq!(left["statements"].as_array().map(Vec::len), Some(0), "{left}");
    assert_eq!(number(&mut admin, "SELECT count(*) FROM public.note").await, 6000);
    assert!(up.stop(), "{}", installation.log());
}

/// Who speaks to the server as a standby does, and says whatever it likes about how far it is.
struct Standby(Wire);

impl Standby {
    fn connect(server: &Server) -> Self {
        let url = server.url("postgres");
        let (user, rest) = url.strip_prefix("postgres://").and_then(|rest| rest.split_once(':')).expect("a user");
        let (password, place) = rest.split_once('@').expect("a password");
        let address = place.split_once('/').expect("an address").0;
        let parameters = [("user", user), ("replication", "true"), ("application_name", "standby")];
        let mut wire = Wire::login(address, &parameters, password).expect("connect for replication");
        let told = wire.query("IDENTIFY_SYSTEM");
        let at = told.rows[0][2].clone().expect("a place in the log");
        wire.send(&query(&format!("START_REPLICATION PHYSICAL {at}")));
        let begun = wire.receive(Duration::from_secs(20)).ok().map(|message| message.tag);
        assert_eq!(begun, Some(b'W'), "replication does not begin");
        Self(wire)
    }

    /// It has written, flushed and replayed the log up to here.
    fn tell(&mut self, at: u64) {
        let places = [at; 3].map(u64::to_be_bytes).concat();
        self.0.send(&message(b'd', &[b"r", &places[..], &[0; 9]].concat()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filling_waits_for_a_standby_that_is_behind() {
    let server = Server::own_with(&[("wal_sender_timeout", "0")]);
    let installation = Installation::helpdesk(&server).await;
    let up = installation.up();
    let mut admin = running(&installation).await;
    let text = fs::read_to_string(installation.config()).expect("read the configuration");
    let text = text.replace("batch_rows = 500", "batch_rows = 500\nreplication_lag_mb_max = 1");
    fs::write(installation.config(), text).expect("write the configuration");
    let mut standby = Standby::connect(&server);
    standby.tell(1);
    while number(&mut admin, "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn = '0/1'").await == 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut command = installation.command(["adopt", "prepare", "--yes"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("start the step");
    let waits =
        "SELECT count(*) FROM guardian_store.run_item WHERE state = 'running' AND detail LIKE '%waits for a standby'";
    let mut control = installation.control().connect().await;
    while number(&mut control, waits).await == 0 {
        assert!(child.try_wait().expect("wait for the step").is_none(), "it did not wait: {}", installation.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let missing = number(&mut admin, "SELECT count(*) FROM public.note WHERE tenant_id IS NULL").await;
    assert!((1..6000).contains(&missing), "{missing} rows are left");
    standby.tell(u64::MAX >> 1);
    assert!(child.wait().expect("wait for the step").success(), "{}", installation.log());
    assert_eq!(number(&mut admin, "SELECT count(*) FROM public.note WHERE tenant_id IS NULL").await, 0);
    assert!(up.stop(), "{}", installation.log());
}
