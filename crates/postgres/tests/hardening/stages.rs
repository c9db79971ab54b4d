//! What the stages of an adoption promise: bounds on the filling, strays found early, views that come back.

use guardian_postgres::{
    adopt::{self, Step, backfill},
    collect,
};

use crate::{
    adoption::{PATIENCE, Running},
    application::{number, text},
};

/// Fills `message`, slowly enough for the server to count the dead rows meanwhile; how often it was vacuumed.
async fn vacuums(dead_rows_percent_max: u8) -> i64 {
    let mut running = Running::new().await;
    running.app.execute("ALTER TABLE message SET (autovacuum_enabled = false)").await;
    let mut bounds = running.app.declaration.adoption.clone().unwrap().backfill;
    (bounds.batch_rows, bounds.rows_per_second_max) = (100, 3_000);
    bounds.dead_rows_percent_max = dead_rows_percent_max;
    let facts = collect(&mut running.app.admin, &running.app.declaration).await.unwrap();
    let tasks = backfill::tasks(&facts, &running.app.declaration);
    let task = tasks.into_iter().find(|task| task.label == "public.message").unwrap();
    backfill::fill(&mut running.app.admin, &task, &bounds, PATIENCE, &mut |_| {}).await.unwrap();
    assert_eq!(number(&mut running.app.admin, "SELECT count(*) FROM message WHERE tenant_id IS NULL").await.unwrap(), 0);
    number(&mut running.app.admin, "SELECT vacuum_count FROM pg_stat_all_tables WHERE relid = 'public.message'::regclass")
        .await
        .unwrap()
}

#[tokio::test]
async fn a_filling_vacuums_what_it_leaves_dead_and_only_above_the_bound() {
    assert!(vacuums(1).await > 0, "dead rows heap up");
    assert_eq!(vacuums(100).await, 0);
}

#[tokio::test]
async fn rows_that_refer_to_another_tenant_are_found_before_anything_is_enforced() {
    let mut running = Running::new().await;
    running.app.execute("ALTER TABLE ticket ADD COLUMN parent bigint CONSTRAINT of_parent REFERENCES ticket").await;
    running.step(Step::Prepare { serve: true }).await;
    let strays = async |running: &mut Running| {
        let facts = collect(&mut running.app.admin, &running.app.declaration).await.unwrap();
        adopt::strays(&mut running.app.admin, &facts, &running.app.declaration).await.unwrap()
    };
    assert_eq!(strays(&mut running).await, []);
    // 3 is the first tenant's, 4 and 5 the second's.
    running.app.execute("UPDATE ticket SET parent = CASE id WHEN 4 THEN 5 ELSE 3 END WHERE id IN (4, 5, 6)").await;
    let found = strays(&mut running).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].foreign_key.as_str(), found[0].rows), ("of_parent", 1));
    assert!(
        found[0].to_string().starts_with("1 row of public.ticket refers to another tenant's in public.ticket by of_parent")
    );
}

#[tokio::test]
async fn a_view_that_others_read_by_is_theirs_again_after_a_release() {
    let mut running = Running::new().await;
    let (owner, reporter) = (running.owner.clone(), running.reporter.clone());
    // By the rights of the view's owner alone.
    running.app.execute(&format!("REVOKE SELECT ON ticket FROM {reporter}; GRANT SELECT ON latest TO {reporter}")).await;
    let mut reader = running.app.connect_as(&reporter).await;
    let seen = async |reader: &mut _| number(reader, "SELECT count(*) FROM latest").await.ok().unwrap_or_default();
    running.step(Step::Prepare { serve: true }).await;
    running.app.admit().await;
    assert_eq!(seen(&mut reader).await, 3000);
    for _ in 0..2 {
        running.step(Step::Enforce(&[])).await;
        running.step(Step::Retire).await;
        assert_eq!(seen(&mut reader).await, 0);
        assert_eq!(seen(&mut running.app.enter(0).await).await, 1000);
        running.step(Step::Release(&[])).await;
        assert_eq!(seen(&mut reader).await, 3000);
        let found =
            "SELECT pg_get_userbyid(relowner) || coalesce(reloptions::text, '') FROM pg_class WHERE relname = 'latest'";
        assert_eq!(text(&mut running.app.admin, found).await.unwrap(), Some(owner.clone()));
    }
    running.step(Step::Enforce(&[])).await;
    running.step(Step::Retire).await;
    drop(reader);
    running.step(Step::Finish).await;
    assert_eq!(seen(&mut running.app.enter(0).await).await, 1000);
    running.app.declaration.adoption = None;
    let plan = running.app.plan().await;
    assert!(plan.is_clean(), "{:#?} {:#?}", plan.refusals, plan.batches);
}
