//! A hardened database that somebody changed: the plan is exactly the repair.

use crate::application::Application;

const SCHEMA: &str = "
CREATE TABLE note (tenant_id uuid NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, body text, PRIMARY KEY (tenant_id, id));
CREATE TABLE event (tenant_id uuid NOT NULL, n bigserial) PARTITION BY RANGE (n);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (1000);
CREATE VIEW recent AS SELECT * FROM note;
CREATE FUNCTION fresh() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM note';
";

/// The SQL of the plan after the change, with the application's name as `{app}`.
async fn repair(app: &mut Application, change: &str) -> Vec<String> {
    app.execute(&change.replace("{app}", &app.name.clone())).await;
    let hardening = app.plan().await;
    assert!(hardening.refusals.is_empty(), "{:#?}", hardening.refusals);
    let statements = hardening.statements().map(|(statement, _)| statement.sql.replace(&app.name, "{app}")).collect();
    app.harden().await;
    statements
}

macro_rules! drift {
    ($($name:ident: $change:expr => [$($repair:expr),+ $(,)?];)+) => {$(
        #[tokio::test]
        async fn $name() {
            let mut app = Application::new(SCHEMA, "").await;
            app.harden().await;
            assert_eq!(repair(&mut app, $change).await, [$($repair),+]);
        }
    )+};
}

const TENANT_POLICY: &str = "CREATE POLICY guardian_tenant ON \"public\".\"note\" AS RESTRICTIVE FOR ALL TO \"{app}_app\", \"{app}_definer\" \
     USING (\"tenant_id\" = current_setting('backtrace_functions')::uuid) \
     WITH CHECK (\"tenant_id\" = current_setting('backtrace_functions')::uuid)";

macro_rules! in_its_time {
    () => {
        "(clock_timestamp() < (SELECT to_timestamp(shobj_description(r.oid, 'pg_authid'::name)::double precision) AS until \
         FROM pg_roles r WHERE r.rolname = SESSION_USER))"
    };
}

const DOOR_POLICY: &str = concat!(
    "CREATE POLICY guardian_door ON \"public\".\"note\" AS PERMISSIVE FOR SELECT TO \"{app}_door\" USING ",
    in_its_time!()
);
const DOOR_WRITE_POLICY: &str = concat!(
    "CREATE POLICY guardian_door_write ON \"public\".\"note\" AS PERMISSIVE FOR ALL TO \"{app}_door_write\" USING ",
    in_its_time!(),
    " WITH CHECK ",
    in_its_time!()
);

drift! {
    rls_off: "ALTER TABLE note DISABLE ROW LEVEL SECURITY" =>
        ["ALTER TABLE \"public\".\"note\" ENABLE ROW LEVEL SECURITY"];
    rls_not_forced: "ALTER TABLE note NO FORCE ROW LEVEL SECURITY" =>
        ["ALTER TABLE \"public\".\"note\" FORCE ROW LEVEL SECURITY"];
    policy_gone: "DROP POLICY guardian_tenant ON note" => [TENANT_POLICY];
    policy_opened: "ALTER POLICY guardian_tenant ON note USING (tenant_id = current_setting('backtrace_functions')::uuid OR true)" =>
        ["DROP POLICY guardian_tenant ON \"public\".\"note\"", TENANT_POLICY];
    policy_narrowed_to_a_role: "ALTER POLICY guardian_tenant ON note TO pg_monitor" =>
        ["DROP POLICY guardian_tenant ON \"public\".\"note\"", TENANT_POLICY];
    policy_by_another_setting: "ALTER POLICY guardian_tenant ON note USING (tenant_id = current_setting('app.tenant_id')::uuid)" =>
        ["DROP POLICY guardian_tenant ON \"public\".\"note\"", TENANT_POLICY];
    policy_unchecked: "ALTER POLICY guardian_tenant ON note WITH CHECK (true)" =>
        ["DROP POLICY guardian_tenant ON \"public\".\"note\"", TENANT_POLICY];
    default_changed: "ALTER TABLE note ALTER COLUMN tenant_id SET DEFAULT gen_random_uuid()" =>
        ["ALTER TABLE \"public\".\"note\" ALTER COLUMN \"tenant_id\" SET DEFAULT current_setting('backtrace_functions')::uuid"];
    grant_added: "GRANT TRUNCATE, SELECT ON note TO {app}_app; GRANT SELECT ON note TO PUBLIC" => [
        "REVOKE SELECT ON TABLE \"public\".\"note\" FROM PUBLIC CASCADE",
        "REVOKE TRUNCATE ON TABLE \"public\".\"note\" FROM \"{app}_app\" CASCADE",
    ];
    grant_option_added: "GRANT SELECT ON note TO {app}_app WITH GRANT OPTION" =>
        ["REVOKE GRANT OPTION FOR SELECT ON TABLE \"public\".\"note\" FROM \"{app}_app\" CASCADE"];
    grant_gone: "REVOKE UPDATE ON note FROM {app}_app" => ["GRANT UPDATE ON TABLE \"public\".\"note\" TO \"{app}_app\""];
    column_grant: "GRANT SELECT (body) ON note TO {app}_app" => [
        "REVOKE ALL ON TABLE \"public\".\"note\" FROM \"{app}_app\" CASCADE",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON TABLE \"public\".\"note\" TO \"{app}_app\"",
    ];
    nullable: "ALTER TABLE event ALTER COLUMN tenant_id DROP NOT NULL" => [
        "ALTER TABLE \"public\".\"event\" ADD CONSTRAINT guardian_tenant_not_null CHECK (\"tenant_id\" IS NOT NULL) NOT VALID",
        "ALTER TABLE \"public\".\"event\" VALIDATE CONSTRAINT guardian_tenant_not_null",
        "ALTER TABLE \"public\".\"event\" ALTER COLUMN \"tenant_id\" SET NOT NULL",
        "ALTER TABLE \"public\".\"event\" DROP CONSTRAINT guardian_tenant_not_null",
    ];
    view_with_owner_rights: "ALTER VIEW recent SET (security_invoker = false)" =>
        ["ALTER VIEW \"public\".\"recent\" SET (security_invoker = true)"];
    sequence_grant: "GRANT SELECT ON SEQUENCE event_n_seq TO {app}_app" =>
        ["REVOKE SELECT ON SEQUENCE \"public\".\"event_n_seq\" FROM \"{app}_app\" CASCADE"];
    function_owner: "ALTER FUNCTION fresh() OWNER TO guardian_admin" => [
        "ALTER FUNCTION \"public\".\"fresh\"() OWNER TO \"{app}_definer\"",
    ];
    role_attribute: "ALTER ROLE {app}_app CREATEROLE" => ["ALTER ROLE \"{app}_app\" NOCREATEROLE"];
    membership: "GRANT pg_read_all_data TO {app}_app" => ["REVOKE \"pg_read_all_data\" FROM \"{app}_app\""];
    enter_role_given_away: "GRANT {app}_enter TO {app}_app" => ["REVOKE \"{app}_enter\" FROM \"{app}_app\""];
    door_given_to_the_application: "GRANT {app}_door TO {app}_app" => ["REVOKE \"{app}_door\" FROM \"{app}_app\""];
    door_given_to_somebody: "CREATE ROLE {app}_somebody; GRANT {app}_door_write TO {app}_somebody" =>
        ["REVOKE \"{app}_door_write\" FROM \"{app}_somebody\""];
    door_opened_to_the_application: "ALTER POLICY guardian_door ON note TO {app}_app" => [
        "DROP POLICY guardian_door ON \"public\".\"note\"",
        DOOR_POLICY,
    ];
    door_without_an_end: "ALTER POLICY guardian_door ON note USING (true)" =>
        ["DROP POLICY guardian_door ON \"public\".\"note\"", DOOR_POLICY];
    door_without_an_end_for_writing: "ALTER POLICY guardian_door_write ON note WITH CHECK (true)" =>
        ["DROP POLICY guardian_door_write ON \"public\".\"note\"", DOOR_WRITE_POLICY];
    policy_for_everybody: "ALTER POLICY guardian_tenant ON note TO PUBLIC" =>
        ["DROP POLICY guardian_tenant ON \"public\".\"note\"", TENANT_POLICY];
    registry_schema_given_away: "ALTER SCHEMA guardian OWNER TO {app}_definer" => [
        "ALTER SCHEMA guardian OWNER TO \"guardian_admin\"",
        "GRANT USAGE ON SCHEMA guardian TO \"{app}_definer\"",
    ];
    registry_grant: "GRANT SELECT ON guardian.capability TO {app}_app" =>
        ["REVOKE SELECT ON guardian.capability FROM \"{app}_app\" CASCADE"];
    register_granted: "GRANT SET ON PARAMETER backtrace_functions TO {app}_app" =>
        ["REVOKE SET ON PARAMETER backtrace_functions FROM \"{app}_app\""];
    schema_create: "GRANT CREATE ON SCHEMA public TO PUBLIC" => ["REVOKE CREATE ON SCHEMA \"public\" FROM PUBLIC CASCADE"];
    system_function: "GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC" =>
        ["REVOKE EXECUTE ON FUNCTION pg_catalog.lo_create(oid) FROM PUBLIC"];
    register_right_lost: "REVOKE SET ON PARAMETER backtrace_functions FROM {app}_enter" =>
        ["GRANT SET ON PARAMETER backtrace_functions TO \"{app}_enter\""];
}

#[tokio::test]
async fn a_new_table() {
    let mut app = Application::new(SCHEMA, "").await;
    app.harden().await;
    let statements = repair(&mut app, "CREATE TABLE late (tenant_id uuid, n int)").await;
    assert!(statements.iter().all(|sql| sql.contains("\"late\"")), "{statements:#?}");
    let wanted = [
        "SET NOT NULL",
        "guardian_open",
        "guardian_tenant",
        "guardian_door",
        "ENABLE ROW",
        "FORCE ROW",
        "SET DEFAULT",
        "GRANT SELECT",
    ];
    for wanted in wanted {
        assert!(statements.iter().any(|sql| sql.contains(wanted)), "{wanted}: {statements:#?}");
    }
}

#[tokio::test]
async fn a_new_partition() {
    let mut app = Application::new(SCHEMA, "").await;
    app.harden().await;
    let statements = repair(&mut app, "CREATE TABLE event_2 PARTITION OF event DEFAULT").await;
    assert_eq!(statements.len(), 4, "two policies, ENABLE, FORCE and no grant: {statements:#?}");
}

#[tokio::test]
async fn a_changed_function_body() {
    let mut app = Application::new(SCHEMA, "").await;
    app.harden().await;
    let backdoor =
        "CREATE OR REPLACE FUNCTION guardian.enter(capability bytea) RETURNS text LANGUAGE plpgsql SECURITY DEFINER
        AS $$ BEGIN RETURN set_config('backtrace_functions', encode(capability, 'hex'), false); END $$";
    let statements = repair(&mut app, backdoor).await;
    let [statement] = &statements[..] else { panic!("{statements:#?}") };
    assert!(statement.starts_with("CREATE OR REPLACE FUNCTION guardian.enter"));
}

#[tokio::test]
async fn facts_survive_a_file_and_give_the_same_plan() {
    let mut app = Application::new(SCHEMA, "").await;
    let facts = guardian_postgres::collect(&mut app.admin, &app.declaration).await.unwrap();
    let copy = serde_json::from_str(&serde_json::to_string(&facts).unwrap()).unwrap();
    assert_eq!(facts, copy);
    let (plan, again) =
        (guardian_postgres::plan(&facts, &app.declaration), guardian_postgres::plan(&copy, &app.declaration));
    assert_eq!(plan, again);
}
