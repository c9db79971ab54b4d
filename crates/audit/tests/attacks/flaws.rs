//! One flaw after another in the sound schema, each found by the kind of attack that is meant to find it.

use guardian_audit::attacks::{AttackReport, Kind, Verdict};

use crate::bench::{Bench, attempt, open};

/// A flaw, and what must leak through it.
struct Flaw {
    name: &'static str,
    sql: &'static str,
    object: &'static str,
    kind: Kind,
}

const fn flaw(name: &'static str, kind: Kind, object: &'static str, sql: &'static str) -> Flaw {
    Flaw { name, sql, object, kind }
}

const FLAWS: &[Flaw] = &[
    flaw("rls_off", Kind::Read, "shop.orders", "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY"),
    flaw("rls_off_copy", Kind::Copy, "shop.orders", "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY"),
    flaw("update", Kind::Update, "shop.lines", "ALTER TABLE shop.lines DISABLE ROW LEVEL SECURITY"),
    flaw("delete_behind_a_foreign_key", Kind::Delete, "shop.orders", "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY"),
    flaw("bypassrls", Kind::Read, "shop.lines", "ALTER ROLE {app} BYPASSRLS"),
    flaw("open_without_context", Kind::WithoutContext, "shop.orders", "DROP POLICY tenant_only ON shop.orders;
        CREATE POLICY tenant_only ON shop.orders AS RESTRICTIVE USING (nullif(current_setting('backtrace_functions'), '') IS NULL
          OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)"),
    flaw("after_reset", Kind::AfterReset, "shop.orders", "DROP POLICY tenant_only ON shop.orders;
        CREATE POLICY tenant_only ON shop.orders AS RESTRICTIVE USING (nullif(current_setting('backtrace_functions'), '') IS NULL
          OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)"),
    flaw("forged_flag", Kind::ForgedContext, "shop.orders", "DROP POLICY tenant_only ON shop.orders;
        CREATE POLICY tenant_only ON shop.orders AS RESTRICTIVE USING (current_setting('app.support', true) = 'on'
          OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)"),
    flaw("granted_parameter", Kind::ForgedContext, "shop.orders", "GRANT SET ON PARAMETER backtrace_functions TO {app}"),
    flaw("reachable_role", Kind::SetRole, "shop.orders", "CREATE ROLE {other} BYPASSRLS; GRANT {other} TO {app};
        GRANT USAGE ON SCHEMA shop TO {other}; GRANT SELECT ON shop.orders TO {other}"),
    flaw("no_with_check", Kind::Insert, "shop.orders", "DROP POLICY tenant_only ON shop.orders;
        CREATE POLICY tenant_only ON shop.orders AS RESTRICTIVE
          USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid) WITH CHECK (true)"),
    flaw("move", Kind::Move, "shop.lines", "ALTER TABLE shop.lines DROP CONSTRAINT lines_tenant_id_order_id_fkey;
        DROP POLICY tenant_only ON shop.lines; CREATE POLICY tenant_only ON shop.lines AS RESTRICTIVE
          USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid) WITH CHECK (true)"),
    flaw("insert_only_policy", Kind::Insert, "shop.orders", "DROP POLICY tenant_only ON shop.orders;
        CREATE POLICY reads ON shop.orders AS RESTRICTIVE FOR SELECT
          USING (tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)"),
    flaw("delete_without_select", Kind::Delete, "shop.lines", "REVOKE SELECT ON shop.lines FROM {app};
        DROP POLICY tenant_only ON shop.lines"),
    flaw("upsert", Kind::Upsert, "shop.orders", "ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY;
        ALTER TABLE shop.orders ADD CONSTRAINT orders_id_key UNIQUE (id)"),
    flaw("truncate", Kind::Truncate, "shop.lines", "GRANT TRUNCATE ON shop.lines TO {app}"),
    flaw("unique_oracle", Kind::UniqueOracle, "shop.orders", "ALTER TABLE shop.orders ADD CONSTRAINT orders_note_key UNIQUE (note)"),
    flaw("unique_expression", Kind::UniqueOracle, "shop.orders", "CREATE UNIQUE INDEX orders_note ON shop.orders (lower(note))"),
    flaw("foreign_key_oracle", Kind::ForeignKeyOracle, "shop.lines", "ALTER TABLE shop.orders ADD CONSTRAINT orders_id_key UNIQUE (id);
        ALTER TABLE shop.lines ADD FOREIGN KEY (order_id) REFERENCES shop.orders (id);
        ALTER TABLE shop.lines DROP CONSTRAINT lines_tenant_id_order_id_fkey"),
    flaw("cascade", Kind::Cascade, "shop.lines", "ALTER TABLE shop.orders ADD CONSTRAINT orders_id_key UNIQUE (id);
        ALTER TABLE shop.lines DROP CONSTRAINT lines_tenant_id_order_id_fkey;
        ALTER TABLE shop.lines ADD FOREIGN KEY (order_id) REFERENCES shop.orders (id) ON DELETE CASCADE"),
    flaw("owner_view", Kind::Read, "shop.every_order", "CREATE VIEW shop.every_order AS SELECT * FROM shop.orders;
        GRANT SELECT ON shop.every_order TO {app}"),
    flaw("owner_view_written", Kind::Update, "shop.every_order", "CREATE VIEW shop.every_order AS SELECT * FROM shop.orders;
        GRANT SELECT, UPDATE ON shop.every_order TO {app}"),
    flaw("owner_view_without_the_column", Kind::Read, "shop.notes", "CREATE VIEW shop.notes AS SELECT note FROM shop.orders;
        GRANT SELECT ON shop.notes TO {app}"),
    flaw("counting_view", Kind::Difference, "shop.total", "CREATE VIEW shop.total AS SELECT count(*) FROM shop.orders;
        GRANT SELECT ON shop.total TO {app}"),
    flaw("materialized_view", Kind::Read, "shop.stored", "CREATE MATERIALIZED VIEW shop.stored AS SELECT * FROM shop.orders;
        GRANT SELECT ON shop.stored TO {app}"),
    flaw("definer_function", Kind::Function, "shop.notes()", "CREATE FUNCTION shop.notes() RETURNS SETOF text LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT note FROM shop.orders'; GRANT EXECUTE ON FUNCTION shop.notes() TO {app}"),
    flaw("definer_function_of_an_argument", Kind::Function, "shop.note(tenant uuid)", "CREATE FUNCTION shop.note(tenant uuid) RETURNS SETOF text
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT note FROM shop.orders WHERE tenant_id = tenant';
        GRANT EXECUTE ON FUNCTION shop.note TO {app}"),
    flaw("counting_function", Kind::Difference, "shop.total()", "CREATE FUNCTION shop.total() RETURNS bigint LANGUAGE sql STABLE
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT count(*) FROM shop.orders'; GRANT EXECUTE ON FUNCTION shop.total() TO {app}"),
    flaw("writing_function", Kind::FunctionWrite, "shop.purge(tenant uuid)", "CREATE FUNCTION shop.purge(tenant uuid) RETURNS void LANGUAGE sql
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'DELETE FROM shop.lines WHERE tenant_id = tenant';
        GRANT EXECUTE ON FUNCTION shop.purge TO {app}"),
    flaw("shadowed_table_read", Kind::Shadow, "shop.notes()", "CREATE FUNCTION shop.notes() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
        AS 'BEGIN RETURN (SELECT count(*) FROM orders WHERE quantity > 0); END'; ALTER TABLE shop.orders ADD quantity integer;
        GRANT TEMPORARY ON DATABASE \"{db}\" TO {app}; GRANT EXECUTE ON FUNCTION shop.notes() TO {app}"),
    flaw("shadowed_table_written", Kind::Shadow, "shop.add()", "CREATE FUNCTION shop.add() RETURNS void LANGUAGE plpgsql SECURITY DEFINER
        AS 'BEGIN INSERT INTO countries_seen DEFAULT VALUES; INSERT INTO orders DEFAULT VALUES; END'; CREATE TABLE shop.countries_seen (tenant_id uuid, n integer);
        GRANT TEMPORARY ON DATABASE \"{db}\" TO {app}; GRANT EXECUTE ON FUNCTION shop.add() TO {app}"),
    flaw("partition", Kind::Read, "shop.visits_2026", "CREATE TABLE shop.visits (tenant_id uuid NOT NULL, at date NOT NULL, note text)
        PARTITION BY RANGE (at); CREATE TABLE shop.visits_2026 PARTITION OF shop.visits FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
        ALTER TABLE shop.visits ENABLE ROW LEVEL SECURITY; GRANT SELECT ON shop.visits, shop.visits_2026 TO {app}"),
    flaw("child", Kind::Read, "shop.old_orders", "CREATE TABLE shop.old_orders () INHERITS (shop.orders);
        GRANT SELECT ON shop.old_orders TO {app}"),
    flaw("table_through_a_parent", Kind::Read, "shop.parts", "CREATE TABLE shop.parts (id bigint PRIMARY KEY, tenant uuid NOT NULL, line uuid NOT NULL,
        body text, FOREIGN KEY (tenant, line) REFERENCES shop.lines (tenant_id, id)); GRANT SELECT ON shop.parts TO {app}"),
    flaw("column_grant", Kind::Read, "shop.secrets", "CREATE TABLE shop.secrets (tenant_id uuid NOT NULL, body text);
        GRANT SELECT (body) ON shop.secrets TO {app}"),
    flaw("sequence_read", Kind::SequenceRead, "shop.ticket", "CREATE SEQUENCE shop.ticket; GRANT SELECT ON SEQUENCE shop.ticket TO {app}"),
    flaw("sequence_set", Kind::SequenceSet, "shop.ticket", "CREATE SEQUENCE shop.ticket; GRANT UPDATE ON SEQUENCE shop.ticket TO {app}"),
    flaw("immutable_context", Kind::PreparedPlan, "shop.orders", "CREATE FUNCTION guard.tenant() RETURNS uuid LANGUAGE plpgsql IMMUTABLE
        AS 'BEGIN RETURN nullif(current_setting(''backtrace_functions''), '''')::uuid; END'; GRANT EXECUTE ON FUNCTION guard.tenant() TO {app};
        DROP POLICY tenant_only ON shop.orders; CREATE POLICY tenant_only ON shop.orders AS RESTRICTIVE USING (tenant_id = guard.tenant())"),
];

fn check(report: &AttackReport, bench: &Bench, flaw: &Flaw) -> Result<(), String> {
    let object = bench.fill(flaw.object);
    match attempt(report, &object, flaw.kind) {
        Some(found) if found.verdict == Verdict::Leaks && !found.reproduce.is_empty() => Ok(()),
        other => Err(format!("{}: {object} {:?}: {other:#?}; open: {:#?}", flaw.name, flaw.kind, open(report))),
    }
}

#[test]
fn each_kind_leaks_where_its_flaw_is_planted() {
    let wanted = std::env::var("GUARDIAN_CASE").unwrap_or_default();
    let mut failures = Vec::new();
    let chosen: Vec<&'static Flaw> = FLAWS.iter().filter(|flaw| wanted.is_empty() || flaw.name == wanted).collect();
    for batch in chosen.chunks(4) {
        let running: Vec<_> = batch
            .iter()
            .map(|flaw| {
                let flaw = *flaw;
                std::thread::spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    runtime.block_on(async {
                        let bench = Bench::sound().await;
                        bench.execute(flaw.sql).await;
                        check(&bench.attack().await, &bench, flaw)
                    })
                })
            })
            .collect();
        for (thread, flaw) in running.into_iter().zip(batch) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(message)) => failures.push(message),
                Err(_) => failures.push(format!("{} panicked", flaw.name)),
            }
        }
    }
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), chosen.len(), failures.join("\n"));
}
