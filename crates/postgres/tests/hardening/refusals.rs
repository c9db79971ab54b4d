//! What only the user can decide is refused, with the ways out, and nothing is changed.

use guardian_postgres::{ApplyError, harden::Refusal};

use crate::application::{Application, text};

async fn refusals(schema: &str, declarations: &str) -> Vec<Refusal> {
    let mut app = Application::new(schema, declarations).await;
    let hardening = app.plan().await;
    let error = guardian_postgres::apply(&mut app.admin, &hardening, &mut |_, _, _| {}).await.unwrap_err();
    assert!(matches!(error, ApplyError::Refused { .. }), "{error}");
    let made = text(&mut app.admin, "SELECT to_regnamespace('guardian')::text").await.unwrap();
    assert_eq!(made, None, "a refused hardening changes nothing");
    for refusal in &hardening.refusals {
        assert!(!refusal.ways_out.is_empty(), "{refusal:?}");
    }
    hardening.refusals
}

async fn refused(schema: &str, declarations: &str, object: &str, problem: &str) {
    let refusals = refusals(schema, declarations).await;
    assert!(
        refusals.iter().any(|refusal| refusal.object == object && refusal.problem.contains(problem)),
        "{object}: {problem}\n{refusals:#?}"
    );
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
}

macro_rules! refused {
    ($($name:ident: $schema:expr, $declarations:expr => $object:expr, $problem:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            refused($schema, $declarations, $object, $problem).await;
        }
    )+};
}

refused! {
    a_table_that_is_neither: "CREATE TABLE \"Order Line\" (id int)", "" =>
        "public.Order Line", "neither the column `tenant_id` nor a declaration";
    global_with_the_column: "CREATE TABLE t (tenant_id uuid NOT NULL)", "[application.global]\nt = \"why\"" =>
        "public.t", "declared global, but it has the column";
    null_keys: "CREATE TABLE t (tenant_id uuid); INSERT INTO t VALUES (NULL), (NULL), (gen_random_uuid())", "" =>
        "public.t.tenant_id", "2 rows have no tenant (NULL)";
    null_keys_in_partitions: "CREATE TABLE t (tenant_id uuid, n int) PARTITION BY LIST (n);
        CREATE TABLE t1 PARTITION OF t DEFAULT; INSERT INTO t VALUES (NULL, 1)", "" =>
        "public.t.tenant_id", "1 row has no tenant (NULL)";
    wrong_type: "CREATE TABLE t (tenant_id text NOT NULL)", "" => "public.t.tenant_id", "its type is text";
    negative_keys: "CREATE TABLE t (tenant_id bigint NOT NULL); INSERT INTO t VALUES (-1), (1), (-3)",
        "tenant_key = \"bigint\"" => "public.t.tenant_id", "2 rows have a key that the register cannot carry: it is negative";
    text_keys_outside_the_charset: "CREATE TABLE t (tenant_id text NOT NULL); INSERT INTO t VALUES ('a b'), ('ok-1'), (''), ('é')",
        "tenant_key = \"text\"" => "public.t.tenant_id", "3 rows have a key";
    a_key_without_the_tenant: "CREATE TABLE t (tenant_id uuid NOT NULL, id uuid PRIMARY KEY DEFAULT gen_random_uuid())", "" =>
        "keys", "t_pkey on public.t (id)";
    a_unique_index_on_an_expression: "CREATE TABLE t (tenant_id uuid NOT NULL, name text);
        CREATE UNIQUE INDEX t_name ON t (lower(name)) WHERE name <> ''", "" => "keys", "t_name on public.t (an expression)";
    an_exclusion_constraint: "CREATE TABLE t (tenant_id uuid NOT NULL, span int4range,
        CONSTRAINT t_span EXCLUDE USING gist (span WITH &&))", "keys = { t_span = \"composite\" }" =>
        "t_span on public.t", "an exclusion constraint";
    a_view_that_hangs_on_the_key: "CREATE TABLE t (tenant_id uuid NOT NULL, id int PRIMARY KEY, a int);
        CREATE VIEW v AS SELECT id, a, count(*) FROM t GROUP BY id", "keys = { t_pkey = \"composite\" }" =>
        "t_pkey on public.t", "groups by this key";
    a_global_table_that_refers_to_tenants: "CREATE TABLE t (tenant_id uuid NOT NULL, id int PRIMARY KEY);
        CREATE TABLE g (id int REFERENCES t (id))", "keys = { t_pkey = \"composite\" }\nglobal = { g = \"why\" }" =>
        "t_pkey on public.t", "from a table without the tenant";
    on_update_set_null: "CREATE TABLE t (tenant_id uuid NOT NULL, id int PRIMARY KEY);
        CREATE TABLE u (tenant_id uuid NOT NULL, t_id int REFERENCES t (id) ON UPDATE SET NULL)",
        "keys = { t_pkey = \"composite\" }" => "u_t_id_fkey on public.u", "ON UPDATE SET NULL";
    match_full: "CREATE TABLE t (tenant_id uuid NOT NULL, a int, b int, CONSTRAINT t_ab UNIQUE (a, b));
        CREATE TABLE u (tenant_id uuid NOT NULL, a int, b int, FOREIGN KEY (a, b) REFERENCES t (a, b) MATCH FULL)",
        "keys = { t_ab = \"composite\" }" => "u_a_b_fkey on public.u", "MATCH FULL";
    a_rewrite_rule: "CREATE TABLE t (tenant_id uuid NOT NULL, a int); CREATE TABLE log (tenant_id uuid NOT NULL);
        CREATE RULE copy AS ON INSERT TO t DO ALSO INSERT INTO log SELECT tenant_id FROM t", "" =>
        "rule copy on public.t", "runs with the rights of `guardian_admin`";
}

#[tokio::test]
async fn keys_are_named_all_at_once_and_ready_to_paste() {
    let schema = "CREATE TABLE a (tenant_id uuid NOT NULL, id uuid PRIMARY KEY DEFAULT gen_random_uuid());
        CREATE TABLE \"B\" (tenant_id uuid NOT NULL, id int PRIMARY KEY, mail text UNIQUE)";
    let mut app = Application::new(schema, "").await;
    let hardening = app.plan().await;
    let [refusal] = &hardening.refusals[..] else { panic!("{:#?}", hardening.refusals) };
    let snippet = refusal.ways_out[0].split_once(":\n").unwrap().1;
    assert_eq!(snippet, "[application.keys]\nB_mail_key = \"composite\"\nB_pkey = \"composite\"\na_pkey = \"composite\"",);
    app.declare(snippet);
    app.harden().await;
}

#[tokio::test]
async fn a_partition_of_a_global_table_needs_no_declaration_of_its_own() {
    let schema =
        "CREATE TABLE rate (day date, value int) PARTITION BY RANGE (day); CREATE TABLE rate_all PARTITION OF rate DEFAULT";
    Application::new(schema, "global = { rate = \"the same for all\" }").await.harden().await;
}

#[tokio::test]
async fn a_second_application_in_the_same_database() {
    let mut first = Application::new("CREATE TABLE t (tenant_id uuid NOT NULL)", "").await;
    first.harden().await;
    let name = std::mem::replace(&mut first.name, guardian_testkit::unique("second"));
    first.declare("");
    let refusals = first.plan().await.refusals;
    assert_eq!(refusals.len(), 1, "{refusals:#?}");
    assert_eq!(refusals[0].problem, format!("it belongs to the application `{name}` already"));
}
