//! How predicates are tried: what is run, with whose rights, and what is said when they cannot be.

use guardian_audit::{
    Facts, collect, collect_for,
    facts::{PredicateKind, Rows, Truth},
};
use sqlx::{AssertSqlSafe, Row as _};

use crate::bench::Bench;

/// The verdict on the USING of a policy of that name.
fn truth<'f>(facts: &'f Facts, policy: &str) -> &'f Truth {
    let policy = facts.policies.iter().find(|one| one.name == policy).unwrap();
    facts.truth(policy.oid, PredicateKind::Using).unwrap()
}

/// The verdicts on predicates, in their order, of one collection.
async fn tried<const N: usize>(predicates: [&str; N]) -> [Truth; N] {
    let bench = Bench::new().await;
    let create = |(number, sql): (usize, &&str)| format!("CREATE POLICY tried_{number} ON shop.orders USING ({sql});");
    let policies: Vec<String> = predicates.iter().enumerate().map(create).collect();
    bench.execute(&policies.concat()).await;
    let facts = bench.facts().await;
    std::array::from_fn(|number| truth(&facts, &format!("tried_{number}")).clone())
}

/// A session's advisory lock outlives the rollback: whoever ran `shop.trap` left a trace.
const TRAP: &str = "CREATE FUNCTION shop.trap(x text) RETURNS boolean IMMUTABLE LANGUAGE plpgsql \
      AS $$BEGIN PERFORM pg_advisory_lock(4711); RETURN true; END$$; \
    CREATE FUNCTION shop.trap(x text, y text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT shop.trap(x)'; \
    CREATE OPERATOR shop.=== (LEFTARG = text, RIGHTARG = text, FUNCTION = shop.trap); \
    CREATE DOMAIN shop.trapped AS text CHECK (shop.trap(VALUE)); \
    CREATE DOMAIN shop.twice AS shop.trapped; CREATE TYPE shop.pair AS (x shop.trapped)";

const TRAPS: [&str; 12] = [
    "shop.trap(note)",
    "note OPERATOR(shop.===) 'x'",
    "note = 'x'::shop.trapped",
    "note::shop.twice IS NULL",
    "note = ANY ('{x}'::shop.trapped[])",
    "ROW('x')::shop.pair IS NOT NULL",
    "'(x)'::shop.pair IS NOT NULL",
    "trapped = 'x'",
    "(SELECT shop.trap('x'))",
    "EXISTS (SELECT FROM shop.countries AS c WHERE shop.trap(c.code))",
    "table_to_xml('shop.orders'::regclass, true, false, '') IS NOT NULL",
    "txid_current() > 0",
];

#[tokio::test]
async fn no_code_of_a_users_is_run() {
    let bench = Bench::new().await;
    bench.execute(TRAP).await;
    // A column of the type is no reason to refuse: the made-up row has the type below.
    bench.execute("ALTER TABLE shop.orders ADD trapped shop.trapped").await;
    for (number, trap) in TRAPS.iter().enumerate() {
        bench.execute(&format!("CREATE POLICY \"trap {number}\" ON shop.orders USING ({trap})")).await;
    }
    let mut connection = bench.connect().await;
    let facts = collect(&mut connection).await.unwrap();
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
    let held: i64 = sqlx::raw_sql(locks).fetch_one(&mut connection).await.unwrap().get(0);
    assert_eq!(held, 0, "something of a user's was run");
    for (number, trap) in TRAPS.iter().enumerate() {
        let undecided = truth(&facts, &format!("trap {number}")).undecided.clone();
        assert_eq!(undecided.is_none(), *trap == "trapped = 'x'", "{trap}: {undecided:?}");
    }
    // The trap works.
    sqlx::raw_sql("SELECT shop.trap('x')").execute(&mut connection).await.unwrap();
    let held: i64 = sqlx::raw_sql(locks).fetch_one(&mut connection).await.unwrap().get(0);
    assert_eq!(held, 1);
}

#[tokio::test]
async fn settings_that_steer_the_server_are_left_alone() {
    let [steering, unnamed, claims] = tried([
        "current_setting('search_path') = 'x'",
        "current_setting('app.' || lower(note)) = 'x'",
        "current_setting('claims', true) = 'x'",
    ])
    .await;
    assert!(steering.undecided.unwrap().contains("search_path"));
    assert!(unnamed.undecided.unwrap().contains("not written out"));
    assert!(claims.undecided.is_some(), "a setting without a dot is the server's");
}

#[tokio::test]
async fn what_asks_for_the_role_is_tried_as_the_application() {
    let bench = Bench::new().await;
    bench.execute("CREATE POLICY tried ON shop.orders USING (current_user = '{app}')").await;
    let mut connection = bench.connect().await;
    let facts = collect(&mut connection).await.unwrap();
    assert_eq!(truth(&facts, "tried").undecided.as_deref(), Some("it depends on the role that runs it"));
    let facts = collect_for(&mut connection, &[bench.fill("{app}")]).await.unwrap();
    let tried = truth(&facts, "tried");
    assert!(tried.by_role && tried.always_true && tried.undecided.is_none(), "{tried:?}");
    let facts = collect_for(&mut connection, &[bench.fill("{staff}")]).await.unwrap();
    assert!(truth(&facts, "tried").holds_back());
    let user: String = sqlx::raw_sql("SELECT current_user::text").fetch_one(&mut connection).await.unwrap().get(0);
    assert_ne!(user, bench.fill("{staff}"));
}

#[tokio::test]
async fn a_collector_that_may_not_set_the_register_says_so() {
    let bench = Bench::new().await;
    let mut connection = bench.connect().await;
    let become_staff = bench.fill("SET SESSION AUTHORIZATION {staff}");
    sqlx::raw_sql(AssertSqlSafe(become_staff)).execute(&mut connection).await.unwrap();
    let facts = collect(&mut connection).await.unwrap();
    let undecided = truth(&facts, "tenant_only").undecided.clone();
    assert_eq!(undecided.as_deref(), Some("the collector may not set backtrace_functions"));
}

#[tokio::test]
async fn predicates_get_the_verdicts_that_they_deserve() {
    let own = "tenant_id = nullif(current_setting('app.t', true), '')::uuid";
    let [plain, wrapped, claim, spelled, nobodys, unset, some, flag, both, or_true, past, not_null] = tried([
        own,
        "tenant_id = (SELECT current_setting('app.t', true)::uuid)",
        "tenant_id = (current_setting('jwt.claims', true)::jsonb -> 'app' ->> 'tenant')::uuid",
        "tenant_id::text IN ('a', current_setting('app.t', true)) AND country <> 'x'",
        &format!("tenant_id IS NULL OR {own}"),
        &format!("coalesce(current_setting('app.t', true), '') = '' OR {own}"),
        "country <> 'archived'",
        &format!("current_setting('jwt.claims', true)::json ->> 'role' = 'boss' OR {own}"),
        &format!("{own} AND current_setting('app.mode', true) = 'boss'"),
        "tenant_id <> '00000000-0000-0000-0000-00000000dead' OR true",
        "now() > '2000-01-01'",
        "tenant_id IS NOT NULL",
    ])
    .await;
    for held in [&plain, &wrapped, &claim, &spelled] {
        assert!(held.holds_back() && held.own_tenant, "{held:?}");
    }
    assert!(!plain.raises_when_empty && wrapped.raises_when_empty, "{plain:?} {wrapped:?}");
    assert_eq!(plain.settings, ["app.t"]);
    assert!(nobodys.true_on_null && nobodys.other_tenant == Rows::None, "{nobodys:?}");
    assert!(unset.without_context == Rows::All && unset.other_tenant == Rows::None, "{unset:?}");
    assert!(some.other_tenant == Rows::Some && !some.always_true, "{some:?}");
    assert_eq!(flag.opened_by[0].setting, "jwt.claims", "{flag:?}");
    assert!(both.holds_back(), "{both:?}");
    assert!(or_true.always_true && past.always_true && !not_null.always_true);
}
