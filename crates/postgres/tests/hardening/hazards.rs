//! Each hazard of a role that all tenants share (DESIGN §4) that `apply` closes: open before, closed after.
//!
//! Before means: the usual recipe, a policy over a setting that any SQL can write. After means: `apply` has run, and the
//! session has entered tenant A. The attack is the same SQL both times.

use guardian_model::KeyType;
use sqlx::PgConnection;

use crate::{
    application::{Application, execute, keys, text},
    forge::seen,
};

/// What the attack shows when the hazard is open.
const SECRET: &str = "secret of b";

/// The usual recipe. `{app}` is the application's name, `{a}` and `{b}` the tenants' keys.
const RECIPE: &str = "
CREATE ROLE {app}_app LOGIN;
GRANT USAGE ON SCHEMA public TO {app}_app;
CREATE TABLE note (tenant_id uuid NOT NULL, id bigint, body text, PRIMARY KEY (tenant_id, id));
INSERT INTO note VALUES ('{a}', 1, 'own of a'), ('{b}', 2, 'secret of b');
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY recipe ON note USING (tenant_id = current_setting('app.tenant_id')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON note TO {app}_app;
";

async fn recipe(more: &str, declarations: &str) -> Application {
    let mut app = Application::new("", declarations).await;
    let sql = named(&app, &format!("{RECIPE}{more}"));
    app.execute(&sql).await;
    app
}

fn named(app: &Application, sql: &str) -> String {
    let [a, b] = keys(KeyType::Uuid);
    sql.replace("{app}", &app.name).replace("{a}", &a.to_string()).replace("{b}", &b.to_string())
}

/// A session of tenant A by the usual recipe.
async fn before(app: &mut Application) -> PgConnection {
    let mut connection = app.connect().await;
    let set = named(app, "SET app.tenant_id = '{a}'");
    execute(&mut connection, &set).await.unwrap();
    connection
}

/// The attack shows the secret (or the word `open`) before, and neither after.
async fn closed_by_apply(hazard: &str, declarations: &str, attack: &str) {
    let mut app = recipe(hazard, declarations).await;
    let attack = named(&app, attack);
    let mut session = before(&mut app).await;
    // In a transaction, so that the attack finds the same database a second time.
    let shown = seen(&mut session, &format!("BEGIN; {attack}")).await;
    assert!(shown.contains(SECRET) || shown.contains("open"), "not open before, so nothing is shown: {shown}");
    drop(session);
    app.harden().await;
    app.admit().await;
    let mut session = app.enter(0).await;
    assert_eq!(seen(&mut session, "SELECT body FROM public.note ORDER BY id").await, "own of a", "the tenant's own rows");
    let shown = seen(&mut session, &attack).await;
    assert!(!shown.contains(SECRET) && !shown.contains("open"), "still open: {shown}");
}

macro_rules! closed_by_apply {
    ($($name:ident: $hazard:expr => $attack:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            closed_by_apply($hazard, "", $attack).await;
        }
    )+};
}

closed_by_apply! {
    forged_setting: "" => "SET app.tenant_id = '{b}'; SELECT body FROM note";
    owner_role: "ALTER TABLE note OWNER TO {app}_app" =>
        "ALTER TABLE note DISABLE ROW LEVEL SECURITY; SELECT body FROM note";
    bypassrls_role: "ALTER ROLE {app}_app BYPASSRLS" => "SELECT body FROM note";
    superuser_role: "ALTER ROLE {app}_app SUPERUSER" => "SELECT body FROM note";
    reachable_role: "CREATE ROLE {app}_boss BYPASSRLS; GRANT ALL ON note TO {app}_boss; GRANT {app}_boss TO {app}_app" =>
        "SET ROLE {app}_boss; SELECT body FROM note";
    granted_parameter: "GRANT SET ON PARAMETER backtrace_functions TO {app}_app" =>
        "SET backtrace_functions = 'x'; SELECT 'open'";
    rls_disabled: "ALTER TABLE note DISABLE ROW LEVEL SECURITY" => "SELECT body FROM note";
    truncate_privilege: "GRANT TRUNCATE ON note TO {app}_app" => "TRUNCATE note; SELECT 'open'";
    trigger_privilege: "GRANT TRIGGER ON note TO {app}_app; GRANT CREATE ON SCHEMA public TO {app}_app" =>
        "CREATE FUNCTION spy() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER spy BEFORE INSERT ON note FOR EACH ROW EXECUTE FUNCTION spy(); SELECT 'open'";
    trigger_privilege_alone: "GRANT TRIGGER ON note TO PUBLIC" =>
        "CREATE TRIGGER spy BEFORE UPDATE ON note FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
         SELECT 'open'";
    references_privilege: "GRANT REFERENCES ON note TO {app}_app; GRANT CREATE ON SCHEMA public TO {app}_app" =>
        "CREATE TABLE probe (tenant_id uuid, id bigint, FOREIGN KEY (tenant_id, id) REFERENCES note);
         INSERT INTO probe VALUES ('{b}', 2); SELECT 'open'";
    create_privilege: "GRANT CREATE ON SCHEMA public TO PUBLIC" => "CREATE TABLE public.mine (); SELECT 'open'";
    create_schema_privilege: "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO PUBLIC', current_database()); END $$" =>
        "CREATE SCHEMA mine; SELECT 'open'";
    temp_privilege: "" => "CREATE TEMP TABLE mine (); SELECT 'open'";
    column_privilege: "CREATE TABLE part (tenant_id uuid NOT NULL, body text) PARTITION BY LIST (body);
        CREATE TABLE part_1 PARTITION OF part DEFAULT; INSERT INTO part VALUES ('{b}', 'secret of b');
        GRANT SELECT (body) ON part_1 TO {app}_app" => "SELECT body FROM part_1";
    partition_granted_directly: "CREATE TABLE part (tenant_id uuid NOT NULL, body text) PARTITION BY LIST (body);
        CREATE TABLE part_1 PARTITION OF part DEFAULT; INSERT INTO part VALUES ('{b}', 'secret of b');
        ALTER TABLE part ENABLE ROW LEVEL SECURITY; GRANT SELECT ON part, part_1 TO {app}_app" => "SELECT body FROM part_1";
    partition_in_another_schema: "CREATE SCHEMA old; GRANT USAGE ON SCHEMA old TO {app}_app;
        CREATE TABLE part (tenant_id uuid NOT NULL, body text) PARTITION BY LIST (body);
        CREATE TABLE old.\"Part 1\" PARTITION OF part DEFAULT; INSERT INTO part VALUES ('{b}', 'secret of b');
        ALTER TABLE part ENABLE ROW LEVEL SECURITY; GRANT SELECT ON part, old.\"Part 1\" TO {app}_app" =>
        "SELECT body FROM old.\"Part 1\"";
    inheritance_child_granted_directly: "CREATE TABLE child () INHERITS (note);
        INSERT INTO child VALUES ('{b}', 3, 'secret of b'); GRANT SELECT ON child TO {app}_app" => "SELECT body FROM child";
    owner_rights_view: "CREATE VIEW every_note AS SELECT * FROM note; GRANT SELECT ON every_note TO {app}_app" =>
        "SELECT body FROM every_note";
    view_of_a_bypassrls_owner: "CREATE ROLE {app}_owner BYPASSRLS; GRANT USAGE, CREATE ON SCHEMA public TO {app}_owner;
        GRANT SELECT ON note TO {app}_owner; CREATE VIEW every_note AS SELECT * FROM note;
        ALTER VIEW every_note OWNER TO {app}_owner; GRANT SELECT ON every_note TO {app}_app" => "SELECT body FROM every_note";
    view_of_a_view: "CREATE VIEW inner_note AS SELECT * FROM note; CREATE VIEW \"Outer\" AS SELECT * FROM inner_note;
        GRANT SELECT ON \"Outer\", inner_note TO PUBLIC" => "SELECT body FROM \"Outer\"";
    materialised_view: "CREATE MATERIALIZED VIEW every_note AS SELECT * FROM note; GRANT SELECT ON every_note TO {app}_app" =>
        "SELECT body FROM every_note";
    foreign_table: "CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
        CREATE FOREIGN TABLE remote (body text) SERVER nowhere; GRANT SELECT ON remote TO {app}_app" =>
        "SELECT 'open' WHERE has_table_privilege('remote', 'SELECT')";
    security_definer_function: "CREATE FUNCTION every_note() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER
        AS 'SELECT body FROM public.note'" => "SELECT every_note()";
    security_definer_search_path: "CREATE FUNCTION every_note() RETURNS SETOF text LANGUAGE plpgsql SECURITY DEFINER
        AS 'BEGIN RETURN QUERY SELECT format(body) FROM public.note; END';
        CREATE SCHEMA theirs; GRANT USAGE, CREATE ON SCHEMA theirs TO {app}_app" =>
        "CREATE FUNCTION theirs.format(text) RETURNS text LANGUAGE sql AS 'SELECT ''open''';
         SET search_path = theirs, pg_catalog; SELECT public.every_note()";
    open_function: "CREATE FUNCTION note_count() RETURNS bigint LANGUAGE sql SECURITY DEFINER
        AS 'SELECT count(*) FROM public.note'" => "SELECT 'open' WHERE note_count() > 1";
    admin_or_tenant_policy: "CREATE POLICY support ON note USING (current_setting('app.admin', true) = 'on')" =>
        "SET app.admin = 'on'; SELECT body FROM note";
    false_leakproof: "CREATE FUNCTION tell(text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF COST 0.0001
        AS 'BEGIN IF $1 LIKE ''secret%'' THEN RAISE EXCEPTION ''%'', $1; END IF; RETURN true; END'" =>
        "SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT body FROM note WHERE tell(body)";
    sequence_select: "CREATE SEQUENCE counter; SELECT nextval('counter'); GRANT ALL ON counter TO {app}_app" =>
        "SELECT 'open' FROM counter WHERE last_value = 1";
    table_in_another_schema: "CREATE SCHEMA other; GRANT USAGE ON SCHEMA other TO {app}_app;
        CREATE TABLE other.copy AS SELECT * FROM note; GRANT SELECT ON other.copy TO {app}_app" => "SELECT body FROM other.copy";
    statements_of_others: "CREATE SCHEMA monitoring; GRANT USAGE ON SCHEMA monitoring TO PUBLIC;
        CREATE VIEW monitoring.pg_stat_statements AS SELECT body AS query FROM note;
        GRANT SELECT ON monitoring.pg_stat_statements TO PUBLIC" => "SELECT query FROM monitoring.pg_stat_statements";
    connections_of_dblink: "CREATE SCHEMA tools; GRANT USAGE ON SCHEMA tools TO PUBLIC;
        CREATE FUNCTION tools.dblink_get_connections() RETURNS SETOF text LANGUAGE sql
        AS 'SELECT ''open''::text'" => "SELECT tools.dblink_get_connections()";
    statements_of_others_by_function: "CREATE SCHEMA monitoring; GRANT USAGE ON SCHEMA monitoring TO PUBLIC;
        CREATE FUNCTION monitoring.pg_stat_statements(boolean) RETURNS SETOF text LANGUAGE sql
        AS 'SELECT ''secret of b''::text'" => "SELECT monitoring.pg_stat_statements(true)";
}

#[tokio::test]
async fn global_table_written() {
    closed_by_apply(
        "CREATE TABLE country (code text PRIMARY KEY); GRANT ALL ON country TO {app}_app",
        "[application.global]\ncountry = \"ISO 3166-1\"",
        "INSERT INTO country VALUES ('XX'); SELECT 'open'",
    )
    .await;
}

#[tokio::test]
async fn unique_key() {
    closed_by_apply(
        "CREATE TABLE person (tenant_id uuid NOT NULL, email text CONSTRAINT person_email_key UNIQUE);
         INSERT INTO person VALUES ('{b}', 'bob@example.com'); GRANT SELECT, INSERT ON person TO {app}_app",
        "[application.keys]\nperson_email_key = \"composite\"",
        "DO $$ BEGIN INSERT INTO person VALUES ('{a}', 'bob@example.com');
           EXCEPTION WHEN unique_violation THEN RAISE EXCEPTION 'open'; END $$",
    )
    .await;
}

#[tokio::test]
async fn foreign_key_oracle() {
    closed_by_apply(
        "CREATE TABLE thing (id bigint CONSTRAINT thing_pkey PRIMARY KEY, tenant_id uuid NOT NULL);
         CREATE TABLE part (tenant_id uuid NOT NULL, thing_id bigint REFERENCES thing (id));
         INSERT INTO thing VALUES (2, '{b}'); GRANT SELECT, INSERT ON part TO {app}_app",
        "[application.keys]\nthing_pkey = { global = \"for this test\" }",
        "INSERT INTO part VALUES ('{a}', 2); SELECT 'open'",
    )
    .await;
}

/// A row of B that refers to a row of A goes when A deletes its own: apply refuses to leave such a row, and such a key.
#[tokio::test]
async fn cascade_into_another_tenant() {
    let hazard = "CREATE TABLE thing (id bigint CONSTRAINT thing_pkey PRIMARY KEY, tenant_id uuid NOT NULL);
        CREATE TABLE part (tenant_id uuid NOT NULL, thing_id bigint REFERENCES thing (id) ON DELETE CASCADE);
        INSERT INTO thing VALUES (1, '{a}'); GRANT SELECT, INSERT, DELETE ON part, thing TO {app}_app";
    let mut app = recipe(hazard, "[application.keys]\nthing_pkey = \"composite\"").await;
    let plant = named(&app, "INSERT INTO part VALUES ('{b}', 1)");
    app.execute(&plant).await;
    let mut session = before(&mut app).await;
    let attack = "DELETE FROM thing WHERE id = 1";
    execute(&mut session, &format!("BEGIN; {attack}")).await.unwrap();
    let left = text(&mut session, "SELECT count(*)::text FROM part").await.unwrap();
    assert_eq!(left.as_deref(), Some("0"), "not open before");
    drop(session);
    app.execute("DELETE FROM part").await;
    app.harden().await;
    let refused = crate::application::sqlstate(&mut app.admin, &plant).await;
    assert_eq!(refused, "23503", "a row may only refer to rows of its own tenant");
    let columns =
        text(&mut app.admin, "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'part_thing_id_fkey'")
            .await
            .unwrap();
    assert_eq!(
        columns.as_deref(),
        Some("FOREIGN KEY (tenant_id, thing_id) REFERENCES thing(tenant_id, id) ON DELETE CASCADE")
    );
}

#[tokio::test]
async fn default_privileges() {
    let mut app = recipe("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO {app}_app", "").await;
    let create = |name: &str| {
        format!(
            "CREATE TABLE {name} (tenant_id uuid NOT NULL, body text); INSERT INTO {name} VALUES (gen_random_uuid(), '{SECRET}')"
        )
    };
    app.execute(&create("early")).await;
    let mut session = before(&mut app).await;
    assert_eq!(seen(&mut session, "SELECT body FROM early").await, SECRET);
    drop(session);
    app.harden().await;
    app.admit().await;
    app.execute(&create("late")).await;
    let mut session = app.enter(0).await;
    for table in ["early", "late"] {
        assert!(!seen(&mut session, &format!("SELECT body FROM {table}")).await.contains(SECRET), "{table}");
    }
    assert!(!app.plan().await.is_clean(), "the new table is drift");
}

#[tokio::test]
async fn rls_not_forced() {
    let hazard = "CREATE ROLE {app}_owner LOGIN; GRANT USAGE ON SCHEMA public TO {app}_owner;
        ALTER TABLE note OWNER TO {app}_owner";
    let mut app = recipe(hazard, "").await;
    let owner = format!("{}_owner", app.name);
    let mut session = app.connect_as(&owner).await;
    assert!(seen(&mut session, "SELECT body FROM note").await.contains(SECRET));
    app.harden().await;
    let shown = seen(&mut session, "SELECT body FROM note").await;
    assert!(shown.starts_with("ERROR"), "no tenant context is an error, also for the owner: {shown}");
}

#[tokio::test]
async fn activity_of_the_same_role() {
    let mut app = recipe("", "").await;
    let attack = "SELECT query FROM pg_stat_activity WHERE datname = current_database()";
    let function = "SELECT pg_stat_get_backend_activity(id) FROM pg_stat_get_backend_idset() AS id";
    let say = "SELECT 'secret of b'";
    {
        let mut b = before(&mut app).await;
        execute(&mut b, say).await.unwrap();
        let mut a = before(&mut app).await;
        assert!(seen(&mut a, attack).await.contains(SECRET));
        assert!(seen(&mut a, function).await.contains(SECRET));
    }
    app.harden().await;
    app.admit().await;
    let mut b = app.enter(1).await;
    execute(&mut b, say).await.unwrap();
    let mut a = app.enter(0).await;
    assert!(!seen(&mut a, attack).await.contains(SECRET));
    assert!(!seen(&mut a, function).await.contains(SECRET));
}

#[tokio::test]
async fn terminating_the_same_role() {
    let mut app = recipe("", "").await;
    let pid = "SELECT pg_backend_pid()::text";
    let mut b = before(&mut app).await;
    let victim = text(&mut b, pid).await.unwrap().unwrap();
    let mut a = before(&mut app).await;
    assert_eq!(seen(&mut a, &format!("SELECT pg_terminate_backend({victim})::text")).await, "true");
    app.harden().await;
    app.admit().await;
    let mut b = app.enter(1).await;
    let victim = text(&mut b, pid).await.unwrap().unwrap();
    let mut a = app.enter(0).await;
    for function in ["pg_terminate_backend", "pg_cancel_backend"] {
        let shown = seen(&mut a, &format!("SELECT {function}({victim})::text")).await;
        assert!(shown.contains("permission denied"), "{shown}");
    }
    assert_eq!(text(&mut b, pid).await.unwrap().as_deref(), Some(victim.as_str()));
}

#[tokio::test]
async fn large_objects() {
    let mut app = recipe("", "").await;
    let mut b = before(&mut app).await;
    let store = "SELECT lo_from_bytea(0, 'secret of b')::text";
    let object = text(&mut b, store).await.unwrap().unwrap();
    let read = format!("SELECT convert_from(lo_get({object}), 'utf8')");
    let mut a = before(&mut app).await;
    assert_eq!(seen(&mut a, &read).await, SECRET);
    app.harden().await;
    app.admit().await;
    let mut a = app.enter(0).await;
    assert!(seen(&mut a, &read).await.contains("permission denied"));
    assert!(seen(&mut a, store).await.contains("permission denied"));
}

/// A plan that caches the context of its first tenant shows it to the next.
#[tokio::test]
async fn immutable_context_function() {
    let hazard = "CREATE FUNCTION context() RETURNS uuid LANGUAGE plpgsql IMMUTABLE
          AS 'BEGIN RETURN current_setting(''app.tenant_id'')::uuid; END';
        DROP POLICY recipe ON note; CREATE POLICY recipe ON note USING (tenant_id = context())";
    let mut app = recipe(hazard, "").await;
    let mut session = app.connect().await;
    for tenant in ["{b}", "{a}"] {
        let set = named(&app, &format!("SET plan_cache_mode = force_generic_plan; SET app.tenant_id = '{tenant}'"));
        execute(&mut session, &set).await.unwrap();
        if tenant == "{b}" {
            execute(&mut session, "PREPARE p AS SELECT body FROM note").await.unwrap();
        }
        assert_eq!(seen(&mut session, "EXECUTE p").await, SECRET, "the plan keeps the first tenant");
    }
    app.harden().await;
    app.admit().await;
    let mut session = app.enter(1).await;
    // The old policy decides nothing any more, yet an IMMUTABLE function in it is still evaluated by the planner.
    let set = named(
        &app,
        "SET app.tenant_id = '{b}'; SET plan_cache_mode = force_generic_plan; PREPARE p AS SELECT body FROM note",
    );
    execute(&mut session, &set).await.unwrap();
    assert_eq!(seen(&mut session, "EXECUTE p").await, SECRET);
    crate::application::enter(&mut session, &keys(KeyType::Uuid)[0]).await.unwrap();
    assert_eq!(seen(&mut session, "EXECUTE p").await, "own of a");
    let hardening = app.plan().await;
    assert!(hardening.notes.iter().any(|note| note.text.contains("IMMUTABLE")));
}

#[tokio::test]
async fn bind_parameters_in_the_log() {
    let hazard =
        "ALTER ROLE {app}_app SET log_min_duration_statement = 0; ALTER ROLE {app}_app SET log_parameter_max_length = -1";
    let mut app = recipe(hazard, "").await;
    let bind = async |connection: &mut PgConnection, marker: &str| {
        sqlx::query("SELECT $1::text").bind(marker).execute(connection).await.unwrap();
    };
    let (loud, quiet) = (format!("{}-loud", app.name), format!("{}-quiet", app.name));
    bind(&mut before(&mut app).await, &loud).await;
    app.harden().await;
    bind(&mut app.connect().await, &quiet).await;
    let log = app.database.server().log();
    assert!(log.contains(&loud), "not open before");
    assert!(!log.contains(&quiet));
}

/// A tenant may poison its role's defaults for every later session; apply takes them back (and gateways pin them).
#[tokio::test]
async fn poisoned_role_settings() {
    let mut app = recipe("", "").await;
    app.harden().await;
    app.admit().await;
    let mut a = app.enter(0).await;
    execute(&mut a, "ALTER ROLE CURRENT_USER SET search_path = pg_temp").await.unwrap();
    execute(&mut a, "ALTER ROLE CURRENT_USER SET standard_conforming_strings = off").await.unwrap();
    execute(
        &mut a,
        &format!("ALTER ROLE CURRENT_USER IN DATABASE {} SET log_parameter_max_length_on_error = -1", app.database.name),
    )
    .await
    .unwrap();
    let mut b = app.enter(1).await;
    assert_eq!(seen(&mut b, "SHOW log_parameter_max_length_on_error").await, "-1", "not open before");
    assert!(seen(&mut b, "SELECT body FROM note").await.starts_with("ERROR"), "not open before");
    app.harden().await;
    let mut b = app.enter(1).await;
    assert_eq!(seen(&mut b, "SELECT body FROM note").await, SECRET);
    assert_eq!(seen(&mut b, "SHOW standard_conforming_strings").await, "on");
    assert_eq!(seen(&mut b, "SHOW log_parameter_max_length_on_error").await, "0");
}
