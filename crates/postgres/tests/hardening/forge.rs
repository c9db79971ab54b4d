//! Attempts of tenant A's SQL to read tenant B's rows: every key type under every mechanism (DESIGN §4).

use guardian_model::{
    Capability,
    KeyType::{self, Bigint, Text, Uuid},
};
use guardian_postgres::{
    Mechanism::{self, CapabilityLookup, GrantedRegister, SuperuserFunction},
    registry::{self, Replacement},
};
use guardian_testkit::Server;
use sqlx::{AssertSqlSafe, ConnectOptions as _, PgConnection, Row as _};

use crate::application::{Application, capability, enter, execute, keys, number, sqlstate};

const SECRET: &str = "secret of b";

/// What a session of A sees: every first column of every result, and every error, of the statements.
pub(crate) async fn seen(connection: &mut PgConnection, sql: &str) -> String {
    match sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await {
        Ok(rows) => {
            let texts: Vec<String> = rows.iter().filter_map(|row| row.try_get_unchecked(0).ok()).collect();
            texts.join("\n")
        }
        Err(error) => format!("ERROR {error}"),
    }
}

async fn application(server: &Server, key_type: KeyType, mechanism: Mechanism) -> Application {
    let schema = format!(
        "CREATE TABLE note (tenant_id {0} NOT NULL, id bigint, body text, PRIMARY KEY (tenant_id, id));
         INSERT INTO note SELECT '{1}', n, 'own of a' FROM generate_series(1, 2000) AS n;
         INSERT INTO note SELECT '{2}', n, '{SECRET}' FROM generate_series(1, 2000) AS n",
        key_type.sql_type(),
        keys(key_type)[0],
        keys(key_type)[1],
    );
    let mut app =
        Application::on(server, &schema, &format!("tenant_key = \"{}\"", key_type.as_str())).await.force(mechanism);
    app.harden().await;
    app.admit().await;
    app
}

fn parameter(mechanism: Mechanism) -> &'static str {
    match mechanism {
        GrantedRegister | SuperuserFunction => "backtrace_functions",
        CapabilityLookup => "guardian.capability",
    }
}

/// Statements that must show nothing of B. `{p}` is the parameter that holds the context, `{v}` what B's register holds,
/// `{b}` B's key, `{app}` the application's name.
const ATTEMPTS: &[&str] = &[
    "SET {p} = '{v}'; SELECT body FROM note",
    "SET SESSION {p} TO '{v}'; SELECT body FROM note",
    "BEGIN; SET LOCAL {p} = '{v}'; SELECT body FROM note; COMMIT",
    "SELECT set_config('{p}', '{v}', false); SELECT body FROM note",
    "SELECT body FROM (SELECT set_config('{p}', '{v}', true) AS context) AS s, \
       LATERAL (SELECT body FROM note WHERE s.context IS NOT NULL) AS n",
    "WITH s AS MATERIALIZED (SELECT set_config('{p}', '{v}', false)) SELECT body FROM s, note",
    "UPDATE pg_settings SET setting = '{v}' WHERE name = '{p}'; SELECT body FROM note",
    "DO $$ BEGIN PERFORM set_config('{p}', '{v}', false); END $$; SELECT body FROM note",
    "DO $$ BEGIN EXECUTE 'SET {p} = ''{v}'''; EXCEPTION WHEN OTHERS THEN NULL; END $$; SELECT body FROM note",
    "CREATE FUNCTION peek() RETURNS SETOF text LANGUAGE sql SET {p} = '{v}' AS 'SELECT body FROM public.note'; SELECT peek()",
    "CREATE FUNCTION pg_temp.peek() RETURNS SETOF text LANGUAGE sql SET {p} = '{v}' \
       AS 'SELECT body FROM public.note'; SELECT pg_temp.peek()",
    "ROLLBACK; SELECT body FROM note",
    "COMMIT; SELECT body FROM note",
    "BEGIN; SAVEPOINT s; SELECT guardian.enter('\\x00'); ROLLBACK TO s; SELECT body FROM note; COMMIT",
    "BEGIN; SAVEPOINT s; SELECT guardian.enter('\\x00'); RELEASE s; ROLLBACK; SELECT body FROM note",
    "SELECT guardian.enter('\\x00'); SELECT body FROM note",
    "SELECT guardian.enter(NULL); SELECT body FROM note",
    "SELECT guardian.redeem('\\x00'); SELECT body FROM note",
    "SELECT register FROM guardian.capability",
    "INSERT INTO guardian.capability VALUES (sha256('\\x00'), '{v}'); SELECT guardian.enter('\\x00'); SELECT body FROM note",
    "UPDATE guardian.capability SET register = '{v}'; SELECT body FROM note",
    "SET SESSION AUTHORIZATION guardian_admin; SELECT body FROM note",
    "RESET SESSION AUTHORIZATION; SELECT body FROM note",
    "SET ROLE guardian_admin; SELECT body FROM note",
    "SET ROLE {app}_enter; SET {p} = '{v}'; RESET ROLE; SELECT body FROM note",
    "SET ROLE {app}_registry; SELECT register FROM guardian.capability",
    "RESET ROLE; SELECT body FROM note",
    "SET row_security = off; SELECT body FROM note",
    "SET session_replication_role = replica; SELECT body FROM note",
    "ALTER TABLE note DISABLE ROW LEVEL SECURITY; SELECT body FROM note",
    "ALTER TABLE note NO FORCE ROW LEVEL SECURITY; SELECT body FROM note",
    "DROP POLICY guardian_tenant ON note; SELECT body FROM note",
    "CREATE POLICY open ON note USING (true); SELECT body FROM note",
    "ALTER ROLE CURRENT_USER BYPASSRLS; SELECT body FROM note",
    "GRANT {app}_enter TO CURRENT_USER; SELECT body FROM note",
    "GRANT SET ON PARAMETER backtrace_functions TO CURRENT_USER; SELECT body FROM note",
    "CREATE OR REPLACE FUNCTION guardian.enter(capability bytea) RETURNS text LANGUAGE sql AS 'SELECT ''''::text'",
    "ALTER FUNCTION guardian.enter(bytea) SET backtrace_functions = '{v}'; SELECT body FROM note",
    "CREATE TEMP TABLE note (body text); SELECT body FROM note",
    "CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (false); SELECT body FROM note",
    "UPDATE note SET body = body WHERE id = 1 RETURNING body",
    "DELETE FROM note WHERE id = 2 AND body LIKE 'secret%' RETURNING body",
    "SELECT body FROM note WHERE tenant_id = '{b}'",
    "SELECT body FROM note WHERE tenant_id = '{b}' OR true",
    "SELECT body FROM note UNION ALL SELECT body FROM note",
    "SELECT n::text FROM ONLY note AS n",
    "SELECT body FROM note TABLESAMPLE SYSTEM (100)",
    "SELECT query_to_xml('SELECT body FROM public.note LIMIT 3000', true, false, '')::text",
    "INSERT INTO note (id, body) SELECT 5000 + id, body FROM note WHERE body LIKE 'secret%' RETURNING body",
    "INSERT INTO note (id, body) VALUES (1, 'x') ON CONFLICT (tenant_id, id) DO UPDATE SET body = note.body RETURNING body",
    "SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'note'",
];

async fn attempts_show_nothing(server: &Server, key_type: KeyType, mechanism: Mechanism) {
    let mut app = application(server, key_type, mechanism).await;
    let [a, b] = keys(key_type);
    execute(&mut app.admin, "ANALYZE public.note").await.unwrap();
    // The positive control: whoever is let in as B does see the secret, by the same statement.
    let mut as_b = app.enter(1).await;
    assert!(seen(&mut as_b, "SELECT body FROM note").await.contains(SECRET));
    for attempt in ATTEMPTS {
        let mut as_a = app.enter(0).await;
        let sql = attempt
            .replace("{p}", parameter(mechanism))
            .replace("{v}", &b.to_register())
            .replace("{b}", &b.to_string())
            .replace("{app}", &app.name);
        let shown = seen(&mut as_a, &sql).await;
        assert!(!shown.contains(SECRET) && !shown.contains(&b.to_string()), "{sql}\nshowed: {shown:.300}");
        // Nor does the session stand in B's context afterwards.
        let after = seen(&mut as_a, "ROLLBACK; SELECT body FROM note").await;
        assert!(!after.contains(SECRET), "after {sql}: {after:.300}");
        let mut other = app.enter(0).await;
        let own = number(&mut other, "SELECT count(*) FROM note WHERE body = 'own of a'").await.unwrap();
        assert_eq!(own, 2000, "after {sql}");
    }
    writes_stay_at_home(&mut app, &b.to_string()).await;
    the_end_of_the_context_is_loud(&mut app, mechanism).await;
    the_start_packet_cannot_forge(&mut app, mechanism, &b.to_register()).await;
    prepared_plans_follow_the_context(&mut app, &a, &b).await;
    parallel_workers_share_the_context(&mut app).await;
    assert_eq!(number(&mut as_b, "SELECT count(*) FROM note WHERE body = 'secret of b'").await.unwrap(), 2000);
    a_replaced_capability_enters_no_more(&mut app, &a, &b).await;
}

/// The new one does; sessions that are in go on, where policies look it up for a few minutes.
async fn a_replaced_capability_enters_no_more(
    app: &mut Application,
    a: &guardian_model::TenantKey,
    b: &guardian_model::TenantKey,
) {
    const OWN: &str = "SELECT count(*) FROM note WHERE body = 'own of a'";
    let mut is_in = app.enter(0).await;
    let new = Capability::from_bytes([42; 32]);
    let replacement = |old: Capability| [Replacement { key: a.clone(), old, new: new.clone() }];
    // Whoever does not know the present one replaces nothing.
    let stale = replacement(capability(b));
    assert_eq!(registry::replace(&mut app.admin, &stale).await.unwrap(), 0);
    for replaced in [1, 0] {
        assert_eq!(registry::replace(&mut app.admin, &replacement(capability(a))).await.unwrap(), replaced);
    }
    let mut session = app.connect().await;
    assert_eq!(enter(&mut session, a).await, None, "the old capability enters");
    let by_new = "SELECT guardian.enter(decode(repeat('2a', 32), 'hex'))";
    assert_eq!(seen(&mut session, by_new).await, a.to_register());
    assert_eq!(number(&mut session, OWN).await.unwrap(), 2000);
    assert_eq!(number(&mut is_in, OWN).await.unwrap(), 2000, "a session that was in");
    assert_eq!(enter(&mut session, b).await, Some(b.to_register()), "another tenant's is not touched");
    // One that an operation put back is found.
    registry::admit(&mut app.admin, a, &capability(a)).await.unwrap();
    let kept = [(a.clone(), new)];
    for mended in [1, 0] {
        assert_eq!(registry::hold_to(&mut app.admin, &kept).await.unwrap(), mended);
    }
    assert_eq!(enter(&mut session, a).await, None, "the old capability enters");
    // A tenant that is shut stays so.
    registry::revoke(&mut app.admin, a).await.unwrap();
    assert_eq!(registry::hold_to(&mut app.admin, &kept).await.unwrap(), 0);
    assert_eq!(seen(&mut session, by_new).await, "");
}

async fn writes_stay_at_home(app: &mut Application, b: &str) {
    let mut as_a = app.enter(0).await;
    let insert = format!("INSERT INTO note (tenant_id, id, body) VALUES ('{b}', 9000, 'planted')");
    assert_eq!(sqlstate(&mut as_a, &insert).await, "42501");
    assert_eq!(sqlstate(&mut as_a, &format!("UPDATE note SET tenant_id = '{b}' WHERE id = 3")).await, "42501");
    let touched = execute(&mut as_a, &format!("UPDATE note SET body = 'x' WHERE tenant_id = '{b}'")).await;
    assert!(touched.is_ok(), "rows that are not seen are not changed, and that is no error");
    execute(&mut as_a, "DELETE FROM note WHERE id = 4").await.unwrap();
    execute(&mut as_a, "INSERT INTO note (id, body) VALUES (4, 'own of a')").await.unwrap();
}

/// RESET ALL and DISCARD ALL clear the context without any privilege: the next statement must fail, or show nothing.
async fn the_end_of_the_context_is_loud(app: &mut Application, mechanism: Mechanism) {
    let reset = "RESET guardian.capability";
    let mut ends = vec!["RESET ALL", "DISCARD ALL", "DO $$ BEGIN EXECUTE 'RESET ALL'; END $$"];
    ends.extend((mechanism == CapabilityLookup).then_some(reset));
    for end in ends {
        let mut as_a = app.enter(0).await;
        execute(&mut as_a, end).await.unwrap();
        for statement in ["SELECT body FROM note", "DELETE FROM note", "INSERT INTO note (id, body) VALUES (1, 'x')"] {
            let state = sqlstate(&mut as_a, statement).await;
            // No uuid or bigint, no text of that length, or the capability lookup's own error.
            assert!(["22P02", "22011", "42501"].contains(&state.as_str()), "{end}; {statement}: {state}");
        }
    }
    let mut nobody = app.connect().await;
    sqlstate(&mut nobody, "SELECT body FROM note").await;
}

async fn the_start_packet_cannot_forge(app: &mut Application, mechanism: Mechanism, register: &str) {
    // A role may set defaults for itself, but none that it could not set in a session.
    let mut as_a = app.enter(0).await;
    let alter = format!("ALTER ROLE CURRENT_USER SET {} = '{register}'", parameter(mechanism));
    assert_eq!(sqlstate(&mut as_a, &alter).await, "42501", "{alter}");
    let mut later = app.connect().await;
    assert!(!seen(&mut later, "SELECT body FROM note").await.contains(SECRET));
    let options = app.connect_options().options([(parameter(mechanism), register)]);
    if let Ok(mut forged) = options.connect().await {
        assert!(!seen(&mut forged, "SELECT body FROM note").await.contains(SECRET));
    }
    execute(&mut app.admin, &format!("ALTER ROLE {}_app RESET ALL", app.name)).await.unwrap();
}

async fn prepared_plans_follow_the_context(
    app: &mut Application,
    a: &guardian_model::TenantKey,
    b: &guardian_model::TenantKey,
) {
    for mode in ["auto", "force_generic_plan", "force_custom_plan"] {
        let mut connection = app.connect().await;
        execute(&mut connection, &format!("SET plan_cache_mode = {mode}")).await.unwrap();
        execute(&mut connection, "PREPARE p AS SELECT body FROM note WHERE id = 1").await.unwrap();
        sqlstate(&mut connection, "EXECUTE p").await;
        for _ in 0..7 {
            for (key, body) in [(a, "own of a"), (b, SECRET)] {
                enter(&mut connection, key).await.unwrap();
                assert_eq!(seen(&mut connection, "EXECUTE p").await, body, "{mode}");
            }
        }
    }
}

async fn parallel_workers_share_the_context(app: &mut Application) {
    let mut as_a = app.enter(0).await;
    execute(
        &mut as_a,
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
         SET max_parallel_workers_per_gather = 2; SET enable_indexscan = off; SET enable_bitmapscan = off;
         SET enable_indexonlyscan = off",
    )
    .await
    .unwrap();
    let plan = seen(&mut as_a, "EXPLAIN SELECT count(*) FROM note").await;
    assert!(plan.contains("Gather"), "not parallel, so nothing is shown: {plan}");
    assert_eq!(number(&mut as_a, "SELECT count(*) FROM note WHERE body = 'own of a'").await.unwrap(), 2000);
    assert_eq!(number(&mut as_a, "SELECT count(*) FROM note WHERE body <> 'own of a'").await.unwrap(), 0);
}

macro_rules! forge {
    ($($name:ident: $key_type:expr, $mechanism:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let server = Server::shared();
            if $mechanism != GrantedRegister || server.major() >= 15 {
                attempts_show_nothing(&server, $key_type, $mechanism).await;
            }
        }
    )+};
}

forge! {
    granted_register_uuid: Uuid, GrantedRegister;
    granted_register_bigint: Bigint, GrantedRegister;
    granted_register_text: Text, GrantedRegister;
    superuser_function_uuid: Uuid, SuperuserFunction;
    superuser_function_bigint: Bigint, SuperuserFunction;
    superuser_function_text: Text, SuperuserFunction;
    capability_lookup_uuid: Uuid, CapabilityLookup;
    capability_lookup_bigint: Bigint, CapabilityLookup;
    capability_lookup_text: Text, CapabilityLookup;
}

/// Every version of the matrix, by the mechanism that it gets.
#[tokio::test]
async fn every_version() {
    for (major, mechanism) in [
        (13, SuperuserFunction),
        (14, SuperuserFunction),
        (16, GrantedRegister),
        (17, GrantedRegister),
        (18, GrantedRegister),
    ] {
        if let Some(server) = Server::of_version(major) {
            attempts_show_nothing(&server, Text, mechanism).await;
        }
    }
}
