//! In place: nothing may be left, and what is not tried is not called proven.

use guardian_audit::attacks::{Arena, AttackError, AttackOptions, Kind, Verdict, attack};

use crate::bench::{Bench, attempt, open};

/// Everything in the database that an attack could leave behind, and of the server what is about the database or its roles:
/// other tests change the rest meanwhile.
const FINGERPRINT: &str = "SELECT md5(concat_ws('|', \
    (SELECT string_agg(query_to_xml(format('SELECT * FROM %I.%I ORDER BY 1, 2', n.nspname, c.relname), true, true, '')::text, '|' \
       ORDER BY n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
       WHERE c.relkind IN ('r', 'S', 'm') AND n.nspname IN ('shop', 'guard', 'public')), \
    (SELECT string_agg(c::text, '|' ORDER BY c.oid) FROM (SELECT oid, relname, relacl, relowner, relrowsecurity, relkind FROM pg_class \
       WHERE relkind <> 't' OR oid >= 16384) AS c), \
    (SELECT string_agg(p::text, '|' ORDER BY oid) FROM (SELECT oid, proname, proacl FROM pg_proc) AS p), \
    (SELECT string_agg(oid::text, '|' ORDER BY oid) FROM pg_largeobject_metadata), \
    (SELECT string_agg(s::text, '|' ORDER BY setdatabase, setrole) FROM pg_db_role_setting AS s \
       WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()) \
         OR setrole IN (SELECT oid FROM pg_roles WHERE rolname LIKE '%' || right('{app}', 10))), \
    (SELECT string_agg(rolname, '|' ORDER BY oid) FROM pg_roles WHERE rolname LIKE '%' || right('{app}', 10)), \
    (SELECT count(*)::text FROM pg_prepared_xacts WHERE database = current_database())))";

const ROWS: &str = "INSERT INTO shop.countries VALUES ('CH', 'Switzerland');
    INSERT INTO shop.orders VALUES ('0190b6a0-0000-7000-8000-000000000001', '0190b6a0-0000-7000-8000-000000000002', 'CH', 'mine');
    CREATE SEQUENCE shop.ticket; GRANT SELECT, USAGE ON SEQUENCE shop.ticket TO {app};
    CREATE TABLE shop.counted (tenant_id uuid NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, n integer DEFAULT nextval('shop.ticket'));
    GRANT SELECT, INSERT, UPDATE, DELETE ON shop.counted TO {app}";

fn yes(bench: &Bench) -> AttackOptions {
    AttackOptions { yes: true, ..bench.options() }
}

#[tokio::test]
async fn nothing_is_left_in_place() {
    let bench = Bench::sound().await;
    bench.execute(ROWS).await;
    let before = bench.text(FINGERPRINT).await;
    let report = bench.attack_with(&Arena::in_place(bench.database().options()), &yes(&bench)).await;
    assert_eq!(bench.text(FINGERPRINT).await, before, "something was left behind");
    for kind in [Kind::Read, Kind::Update, Kind::Insert] {
        let found = attempt(&report, "shop.counted", kind).map(|one| one.verdict);
        assert_eq!(found, Some(Verdict::Leaks), "{kind:?}: {:#?}", open(&report));
    }
    let truncate = attempt(&report, "shop.orders", Kind::Truncate).unwrap();
    assert_eq!(truncate.verdict, Verdict::NotShown);
    assert_eq!(report.verdict("shop.orders"), Some(Verdict::NotShown), "what was not tried is not proven");
    assert_eq!(attempt(&report, "shop.orders", Kind::Read).unwrap().verdict, Verdict::ProvenIsolated);
    // The fingerprint would tell, but nothing of what other tests do.
    bench.execute("CREATE ROLE {app}_x; ALTER ROLE {app}_x SET app.lasting = 'x'").await;
    let beside = bench.text(FINGERPRINT).await;
    bench.execute("DROP ROLE {app}_x").await;
    assert_eq!(beside, before);
    for left in [
        "ALTER ROLE {app} SET app.lasting = 'x'",
        "ALTER DATABASE \"{db}\" SET app.lasting = 'x'",
        "UPDATE shop.orders SET note = 'other'",
    ] {
        let before = bench.text(FINGERPRINT).await;
        bench.execute(left).await;
        assert_ne!(bench.text(FINGERPRINT).await, before, "{left}");
    }
}

#[tokio::test]
async fn what_looks_like_production_is_refused() {
    let bench = Bench::sound().await;
    bench.execute(ROWS).await;
    let refused = attack(&Arena::in_place(bench.database().options()), &bench.options()).await.unwrap_err();
    assert!(matches!(&refused, AttackError::Production(signs) if signs.contains("tables with rows")), "{refused}");
}
