//! The sound schema.

use guardian_audit::attacks::{By, Origin, Verdict};

use crate::bench::{Bench, open};

#[tokio::test]
async fn the_sound_schema_is_proven_isolated() {
    let bench = Bench::sound().await;
    let report = bench.attack().await;
    assert_eq!((report.context_origin, report.context_by), (Origin::Proposed, By::Administrator));
    assert_eq!(open(&report), Vec::<String>::new());
    for table in ["shop.orders", "shop.lines"] {
        assert_eq!(report.verdict(table), Some(Verdict::ProvenIsolated));
    }
    assert_eq!(report.verdict("shop.countries"), None, "what belongs to no tenant has no verdict");
}

#[tokio::test]
async fn a_view_of_the_callers_rights_is_proven_isolated_by_a_context_that_was_found() {
    let bench = Bench::sound().await;
    let view = "CREATE VIEW shop.mine WITH (security_invoker = on) AS SELECT * FROM shop.orders; GRANT SELECT ON shop.mine TO {app}";
    bench.execute(view).await;
    let report = bench.attack().await;
    assert_eq!(report.verdict("shop.mine"), Some(Verdict::ProvenIsolated), "{:#?}", open(&report));
}

#[tokio::test]
async fn rows_that_a_flag_shows_are_planted() {
    let bench = Bench::sound().await;
    let shared = "ALTER TABLE shop.orders ADD COLUMN open_to_all boolean NOT NULL DEFAULT false;
        ALTER POLICY tenant_only ON shop.orders
          USING (open_to_all OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)";
    bench.execute(shared).await;
    let report = bench.attack().await;
    assert_eq!(report.verdict("shop.orders"), Some(Verdict::Leaks), "{:#?}", open(&report));
}

#[tokio::test]
async fn a_table_whose_policies_look_at_more_than_the_tenant_is_not_called_proven() {
    let bench = Bench::sound().await;
    let shared = "ALTER POLICY tenant_only ON shop.orders
        USING (length(note) = 4711 OR tenant_id = nullif(current_setting('backtrace_functions'), '')::uuid)";
    bench.execute(shared).await;
    let report = bench.attack().await;
    assert_eq!(report.verdict("shop.orders"), Some(Verdict::NotShown), "{:#?}", open(&report));
}
