use std::time::Duration;

use guardian_model::{Isolation, Tenant, TenantState};
use guardian_store::{ListError, OperationFilter, Store, TenantFilter};
use sqlx::AssertSqlSafe;

use crate::fixture::{Fixture, lease, tier};

/// As many tenants as the goal names, and half as many tombstones among them.
const CROWD: &str = "
    INSERT INTO tenant (id, slug, key, tier, state, isolation, cluster, database, schema, role)
    SELECT (lpad(to_hex(n), 12, '0') || '70008000000000000000')::uuid, 'tenant-' || n, n::text,
           CASE WHEN n % 1000 = 0 THEN 'silo' WHEN n % 10 = 0 THEN 'pro' ELSE 'free' END,
           CASE WHEN n % 3 = 0 THEN 'deleted' WHEN n % 997 = 0 THEN 'suspended' ELSE 'active' END,
           CASE WHEN n % 1000 = 0 THEN 'database' ELSE 'row' END, 'local', 'helpdesk', 'public', 'helpdesk_app'
    FROM generate_series(1, 150000) AS n;
    ANALYZE tenant";

fn filters() -> Vec<TenantFilter> {
    let states = [
        None,
        Some(TenantState::Active),
        Some(TenantState::Suspended),
        Some(TenantState::Deleted),
        Some(TenantState::Creating),
    ];
    let tiers = [None, Some(tier("free")), Some(tier("pro")), Some(tier("silo")), Some(tier("none"))];
    let isolations = [None, Some(Isolation::Row), Some(Isolation::Database), Some(Isolation::Schema)];
    let prefixes = [None, Some("tenant"), Some("tenant-12345"), Some("x"), Some("%")];
    let mut filters = Vec::new();
    for state in states {
        for tier in &tiers {
            for isolation in isolations {
                for prefix in prefixes {
                    let slug_prefix = prefix.map(ToOwned::to_owned);
                    filters.push(TenantFilter { state, tier: tier.clone(), isolation, slug_prefix });
                }
            }
        }
    }
    filters
}

fn fits(filter: &TenantFilter, tenant: &Tenant) -> bool {
    filter.state.map_or(tenant.state != TenantState::Deleted, |state| tenant.state == state)
        && filter.tier.as_ref().is_none_or(|tier| tenant.tier == *tier)
        && filter.isolation.is_none_or(|isolation| tenant.placement.isolation == isolation)
        && filter.slug_prefix.as_ref().is_none_or(|prefix| tenant.slug.as_str().starts_with(prefix))
}

/// Every page of the list.
async fn list(fixture: &Fixture, filter: &TenantFilter) -> Vec<Tenant> {
    let (mut cursor, mut found) = (None, Vec::new());
    loop {
        let page = fixture.store.tenants(filter, cursor.as_deref(), Some(500)).await.unwrap();
        assert!(page.items.iter().all(|tenant| fits(filter, tenant)), "{filter:?}");
        found.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return found;
        }
    }
}

#[tokio::test]
async fn any_page_of_a_hundred_thousand_tenants() {
    let fixture = Fixture::new("lists").await;
    sqlx::raw_sql(CROWD).execute(&mut fixture.superuser().await).await.unwrap();
    pages_hold_every_tenant_that_fits_once(&fixture).await;
    no_filter_reads_much_more_than_it_shows(&fixture).await;
}

async fn pages_hold_every_tenant_that_fits_once(fixture: &Fixture) {
    let prefix = |prefix: &str, state| TenantFilter { slug_prefix: Some(prefix.to_owned()), state, ..Default::default() };
    let crowd = |deleted: bool, start: &str| {
        (1..=150_000).filter(|n| (n % 3 == 0) == deleted && n.to_string().starts_with(start)).count()
    };
    for (filter, expected) in [
        (TenantFilter { tier: Some(tier("pro")), ..Default::default() }, 9900),
        (prefix("tenant-1499", None), crowd(false, "1499")),
        (prefix("tenant-14", None), crowd(false, "14")),
        (prefix("tenant-14", Some(TenantState::Deleted)), crowd(true, "14")),
    ] {
        let mut found: Vec<_> = list(fixture, &filter).await.into_iter().map(|tenant| tenant.id).collect();
        let listed = found.len();
        found.sort();
        found.dedup();
        assert_eq!((listed, found.len()), (expected, expected), "{filter:?}");
    }
}

/// Counts the rows that the server read, which unlike the time does not depend on the machine's load.
async fn no_filter_reads_much_more_than_it_shows(fixture: &Fixture) {
    // A server process hands in its counts when it ends.
    fixture.store.close().await;
    let before = counted(fixture, "seq_tup_read + idx_tup_fetch").await;
    let store = Store::open(fixture.database.options(), fixture.vault.clone()).await.unwrap();
    let mut pages = 0;
    for filter in filters() {
        let first = store.tenants(&filter, None, None).await.unwrap();
        assert!(first.items.iter().all(|tenant| fits(&filter, tenant)), "{filter:?}");
        pages += 1;
        if first.next_cursor.is_some() {
            store.tenants(&filter, first.next_cursor.as_deref(), None).await.unwrap();
            pages += 1;
        }
    }
    store.close().await;
    let read = counted(fixture, "seq_tup_read + idx_tup_fetch").await - before;
    assert!(pages > 300 && read / pages < 200, "{read} rows read for {pages} pages");
}

/// What the server counted, once every process of the store has ended and handed in its counts.
async fn counted(fixture: &Fixture, of: &str) -> i64 {
    let mut connection = fixture.superuser().await;
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
                  AND backend_type = 'client backend'";
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&mut connection).await.unwrap() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sqlx::query_scalar(AssertSqlSafe(format!("SELECT sum({of})::bigint FROM pg_stat_user_tables")))
        .fetch_one(&mut connection)
        .await
        .unwrap()
}

#[tokio::test]
async fn plans_of_small_tables_do_not_read_them_whole_when_they_grow() {
    let fixture = Fixture::new("lists_plans").await;
    fixture.active("first").await;
    // As autovacuum does: from now on the planner knows how small the tables are.
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut fixture.superuser().await).await.unwrap();
    fixture.store.close().await;
    let before = counted(&fixture, "seq_scan").await;
    let store = Store::open(fixture.database.options(), fixture.vault.clone()).await.unwrap();
    let fixture = Fixture { store, ..fixture };
    let opening = 10;
    for number in 0..40 {
        fixture.active(&format!("t{number}")).await;
        fixture.store.claim_next(&lease("w")).await.unwrap();
    }
    fixture.store.close().await;
    let scans = counted(&fixture, "seq_scan").await - before;
    assert!(scans <= opening, "{scans} scans of whole tables for 40 creations");
}

#[tokio::test]
async fn tombstones_of_one_slug_are_all_listed() {
    let fixture = Fixture::new("lists_tombs").await;
    for _ in 0..5 {
        let mut claim = fixture.begin("acme").await.unwrap();
        fixture.store.turn_back(&mut claim, "no").await.unwrap();
        fixture.store.finish(&claim, Some(1)).await.unwrap();
    }
    let filter = TenantFilter { slug_prefix: Some("a".to_owned()), state: Some(TenantState::Deleted), ..Default::default() };
    let first = fixture.store.tenants(&filter, None, Some(2)).await.unwrap();
    let second = fixture.store.tenants(&filter, first.next_cursor.as_deref(), Some(2)).await.unwrap();
    let third = fixture.store.tenants(&filter, second.next_cursor.as_deref(), Some(2)).await.unwrap();
    let ids: std::collections::BTreeSet<_> =
        [first, second, third].into_iter().flat_map(|page| page.items).map(|tenant| tenant.id).collect();
    assert_eq!(ids.len(), 5);
}

#[tokio::test]
async fn a_cursor_or_limit_of_something_else_is_refused() {
    let fixture = Fixture::new("lists_refused").await;
    fixture.active("acme").await;
    fixture.active("globex").await;
    let page = fixture.store.tenants(&TenantFilter::default(), None, Some(1)).await.unwrap();
    let foreign = fixture.store.operations(&OperationFilter::default(), page.next_cursor.as_deref(), None).await;
    assert!(matches!(foreign, Err(ListError::Cursor)));
    assert!(matches!(fixture.store.tenants(&TenantFilter::default(), None, Some(501)).await, Err(ListError::Limit(501))));
    let hostile = TenantFilter { slug_prefix: Some("a\0%'_é".to_owned()), ..Default::default() };
    assert!(fixture.store.tenants(&hostile, None, None).await.unwrap().items.is_empty());
}
