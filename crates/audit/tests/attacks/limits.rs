//! What is not shown, hostile names, and the copy.

use std::sync::Arc;

use guardian_audit::{
    attacks::{Arena, AttackError, AttackOptions, By, Kind, Mode, Origin, Verdict, attack, clone::Copy},
    collect,
    finding::readable,
};

use sqlx::{ConnectOptions as _, Row as _};

use crate::bench::{Bench, attempt, open};

/// The usual recipe: a policy over a setting that any SQL can write.
const RECIPE: &str =
    "CREATE TABLE note (tenant_id bigint NOT NULL, id integer, body varchar(12), PRIMARY KEY (tenant_id, id));
    ALTER TABLE note ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; ALTER TABLE note OWNER TO {owner};
    CREATE POLICY recipe ON note USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::bigint);
    GRANT USAGE ON SCHEMA public TO {app}; GRANT SELECT, INSERT, UPDATE, DELETE ON note TO {app}";

#[tokio::test]
async fn a_control_that_fails_gives_not_shown() {
    let bench = Bench::sound().await;
    // A view that shows nobody anything; a table that takes no row; a function that fails for everybody.
    bench
        .execute(
            "CREATE VIEW shop.nothing AS SELECT * FROM shop.orders WHERE false; GRANT SELECT ON shop.nothing TO {app};
             CREATE TABLE shop.closed (tenant_id uuid NOT NULL, n integer CHECK (n IS NOT NULL AND n * 0 = 1));
             GRANT SELECT ON shop.closed TO {app};
             CREATE FUNCTION shop.fails() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
               AS 'BEGIN RAISE EXCEPTION ''no''; END'; GRANT EXECUTE ON FUNCTION shop.fails() TO {app};
             CREATE FUNCTION shop.outward() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
               AS 'BEGIN RETURN http_get(''x''); END'; GRANT EXECUTE ON FUNCTION shop.outward() TO {app}",
        )
        .await;
    let report = bench.attack().await;
    for object in ["shop.nothing", "shop.closed", "shop.fails()", "shop.outward()"] {
        assert_eq!(report.verdict(object), Some(Verdict::NotShown), "{object}: {:#?}", open(&report));
    }
    assert_eq!(report.verdict("shop.orders"), Some(Verdict::ProvenIsolated));
    let closed = report.objects.iter().find(|one| one.object.identity == "shop.closed").unwrap();
    assert!(closed.attempts[0].because.contains("could not be filled"), "{closed:?}");
}

#[tokio::test]
async fn a_context_that_is_none_proves_nothing() {
    let bench = Bench::sound().await;
    let options = AttackOptions { context_sql: Some("SET app.nothing = '{tenant}'".to_owned()), ..bench.options() };
    let report = bench.attack_with(&Arena::scratch(bench.database().options()), &options).await;
    assert_eq!(report.context_origin, Origin::Given);
    assert_eq!(report.verdict("shop.orders"), Some(Verdict::NotShown), "{:#?}", open(&report));
    let read = attempt(&report, "shop.orders", Kind::Read).unwrap();
    assert!(read.because.contains("its context may be none"), "{read:?}");
}

#[tokio::test]
async fn a_setting_that_anybody_writes_is_proposed_and_forged() {
    let bench = Bench::with(RECIPE).await;
    let report = bench.attack().await;
    assert_eq!((report.context_origin, report.context_by), (Origin::Proposed, By::Application));
    assert_eq!(report.context.as_deref(), Some("SET \"app\".\"tenant_id\" = '{tenant}'"));
    assert_eq!(
        attempt(&report, "public.note", Kind::Read).unwrap().verdict,
        Verdict::ProvenIsolated,
        "{:#?}",
        open(&report)
    );
    let forged = attempt(&report, "public.note", Kind::ForgedContext).unwrap();
    assert_eq!(forged.verdict, Verdict::Leaks);
    assert!(forged.reproduce.len() >= 3, "{forged:?}");
}

#[tokio::test]
async fn hostile_names_are_quoted() {
    let bench = Bench::with(
        "CREATE SCHEMA \"a\"\"b; DROP SCHEMA public\"; GRANT USAGE ON SCHEMA \"a\"\"b; DROP SCHEMA public\" TO {app};
         CREATE TABLE \"a\"\"b; DROP SCHEMA public\".\"t'\\\n\" (\"tenant_id\" text NOT NULL, \"x'y\"\"z\" text, \"r\" text);
         GRANT SELECT, UPDATE, DELETE, INSERT ON ALL TABLES IN SCHEMA \"a\"\"b; DROP SCHEMA public\" TO {app};
         CREATE FUNCTION \"a\"\"b; DROP SCHEMA public\".\"f'\"(\"p'q\" text) RETURNS SETOF text LANGUAGE sql STABLE SECURITY DEFINER
           AS $$ SELECT \"x'y\"\"z\" FROM \"a\"\"b; DROP SCHEMA public\".\"t'\\\n\" $$;
         CREATE TYPE \"e'\" AS ENUM ('it''s', 'b\\'); CREATE TABLE public.\"T\" (\"tenant_id\" text NOT NULL, \"E\" \"e'\" NOT NULL);
         GRANT USAGE ON SCHEMA public TO {app}; GRANT SELECT ON public.\"T\" TO {app}",
    )
    .await;
    let report = bench.attack().await;
    let table = "\"a\"\"b; DROP SCHEMA public\".\"t'\\\n\"";
    for kind in [Kind::Read, Kind::Update, Kind::Delete, Kind::Insert, Kind::Copy] {
        let found = attempt(&report, table, kind).map(|one| one.verdict);
        assert_eq!(found, Some(Verdict::Leaks), "{kind:?}: {:#?}", open(&report));
    }
    assert_eq!(
        attempt(&report, "public.\"T\"", Kind::Read).map(|one| one.verdict),
        Some(Verdict::Leaks),
        "{:#?}",
        open(&report)
    );
    let function = report.objects.iter().find(|one| one.object.name == "f'").unwrap();
    assert_eq!(function.verdict, Verdict::Leaks);
    let schemas = bench.text("SELECT count(*)::text FROM pg_namespace WHERE nspname = 'public'").await;
    assert_eq!(schemas, "1");
}

#[tokio::test]
async fn without_tenants_there_is_no_verdict() {
    let bench = Bench::with("CREATE TABLE country (code text)").await;
    let refused = attack(&Arena::scratch(bench.database().options()), &bench.options()).await.unwrap_err();
    assert!(matches!(refused, AttackError::NoTenants), "{refused}");
}

/// The copy has the schema and the roles, no rows and no passwords, and its sessions log in.
#[tokio::test]
async fn a_copy_is_attacked_and_the_source_is_left_alone() {
    let bench = Bench::sound().await;
    bench
        .execute(
            "INSERT INTO shop.countries VALUES ('CH', 'Switzerland');
             CREATE EXTENSION postgres_fdw; CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '127.0.0.1');
             CREATE USER MAPPING FOR {app} SERVER far OPTIONS (user 'x', password 'far secret');
             CREATE FOREIGN TABLE shop.far (tenant_id uuid, note text) SERVER far; GRANT SELECT ON shop.far TO {app};
             CREATE VIEW shop.every_order AS SELECT * FROM shop.orders; GRANT SELECT ON shop.every_order TO {app}",
        )
        .await;
    let facts = Arc::new(collect(&mut bench.database().connect().await).await.unwrap());
    let (options, source) = (bench.database().options(), Arc::clone(&facts));
    let copy = tokio::task::spawn_blocking(move || Copy::throwaway(&options, &source)).await.unwrap().unwrap();
    let report = bench.attack_with(&Arena::copy(&copy, facts), &bench.options()).await;
    assert_eq!(report.mode, Mode::Clone);
    let text = format!("{report:?}");
    assert!(!text.contains("far secret"));
    assert!(report.disclosed.iter().any(|line| line.contains("user mappings")), "{:?}", report.disclosed);
    assert_eq!(report.verdict("shop.every_order"), Some(Verdict::Leaks), "{:#?}", open(&report));
    assert_eq!(report.verdict("shop.far"), Some(Verdict::NotShown), "{:#?}", open(&report));
    assert_eq!(report.verdict("shop.lines"), Some(Verdict::ProvenIsolated), "{:#?} {:?}", open(&report), report.disclosed);
    let mut inside = copy.administrator().connect().await.unwrap();
    let kept = "SELECT (SELECT count(*) FROM pg_user_mapping) AS mappings, (SELECT count(*) FROM shop.countries WHERE code = 'CH') AS rows";
    let row = sqlx::raw_sql(sqlx::AssertSqlSafe(kept)).fetch_one(&mut inside).await.unwrap();
    assert_eq!((row.get_unchecked::<String, _>(0), row.get_unchecked::<String, _>(1)), ("0".to_owned(), "0".to_owned()));
    assert_eq!(bench.text("SELECT count(*)::text FROM shop.orders").await, "0", "nothing was planted in the source");
    drop(inside);
    tokio::task::spawn_blocking(move || drop(copy)).await.unwrap();
}

/// Sessions that log in as one role see, and cancel, each other's statements until somebody closes that.
#[tokio::test]
async fn sessions_of_one_role_see_each_other() {
    let bench = Bench::with(RECIPE).await;
    let facts = Arc::new(collect(&mut bench.database().connect().await).await.unwrap());
    let (options, source) = (bench.database().options(), Arc::clone(&facts));
    let copy = tokio::task::spawn_blocking(move || Copy::throwaway(&options, &source)).await.unwrap().unwrap();
    let report = bench.attack_with(&Arena::copy(&copy, facts), &bench.options()).await;
    let database = readable(&bench.database().name);
    for (kind, object) in [(Kind::Activity, &*database), (Kind::Signal, &database), (Kind::LargeObject, "\"large objects\"")]
    {
        assert_eq!(
            attempt(&report, object, kind).map(|one| one.verdict),
            Some(Verdict::Leaks),
            "{kind:?}: {:#?}",
            open(&report)
        );
    }
    assert_eq!(attempt(&report, "public.note", Kind::Read).unwrap().verdict, Verdict::ProvenIsolated);
    tokio::task::spawn_blocking(move || drop(copy)).await.unwrap();
}
