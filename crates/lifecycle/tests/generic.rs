//! Every operation in every isolation: each step twice, a failure at each step, each undo twice, and a worker that dies
//! between an act and its record.
#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

mod house;

use std::time::Duration;

use guardian_model::{Isolation, OperationId, OperationKind, OperationState, Plan, Step, TenantState};
use house::{House, Subject, Workers, permit};
use sqlx::{AssertSqlSafe, PgConnection};
use tokio::{runtime::Runtime, time::sleep};
use tokio_util::sync::CancellationToken;

/// One test for each isolation, which run side by side.
macro_rules! in_every_isolation {
    ($($test:ident)+) => {$(
        mod $test {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn row() {
                super::$test(Isolation::Row).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn schema() {
                super::$test(Isolation::Schema).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn database() {
                super::$test(Isolation::Database).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cluster() {
                super::$test(Isolation::Cluster).await;
            }
        }
    )+};
}

in_every_isolation! {
    each_step_twice
    a_failure_at_each_step
    each_undo_twice
    a_worker_that_dies_at_each_step
    a_worker_that_dies_on_the_way_back
}

fn twice(plan: &Plan) -> Plan {
    Plan { steps: plan.steps.iter().flat_map(|step| [step.clone(), step.clone()]).collect() }
}

fn with(plan: &Plan, index: usize, step: Step) -> Plan {
    let mut plan = plan.clone();
    plan.steps.insert(index, step);
    plan
}

fn first_irreversible(plan: &Plan) -> usize {
    plan.steps.iter().position(Step::is_irreversible).unwrap_or(plan.steps.len())
}

/// The operation went through: what it promises is so, and nothing else.
async fn assert_done(house: &House, subject: &Subject, operation: OperationId) {
    let operation = house.ended(operation).await;
    assert_eq!(operation.state, OperationState::Done, "{operation:?}");
    assert!(operation.steps.iter().all(|step| step.duration_us.is_some()), "{operation:?}");
    let tenant = house.tenant(subject.id()).await;
    assert_eq!(tenant.state, operation.kind.state_when_done());
    match tenant.state {
        TenantState::Active => house.use_it(&tenant).await,
        TenantState::Suspended => assert!(!house.is_open(&tenant).await),
        TenantState::Deleted => assert_eq!(house.traces(&tenant).await, [""; 0]),
        state @ (TenantState::Creating | TenantState::Deleting) => panic!("{state}"),
    }
}

/// The operation was taken back: everything is as it was before.
async fn assert_undone(house: &House, subject: &Subject, operation: OperationId, before: &[String]) {
    let operation = house.ended(operation).await;
    assert_eq!(operation.state, OperationState::Undone, "{operation:?}");
    let tenant = house.tenant(subject.id()).await;
    assert_eq!(tenant.state, subject.state_before());
    assert_eq!(house.traces(&tenant).await, before);
    assert_eq!(house.is_open(&tenant).await, tenant.state == TenantState::Active);
    if tenant.state == TenantState::Active {
        house.use_it(&tenant).await;
    }
}

async fn traces_before(house: &House, subject: &Subject) -> Vec<String> {
    match subject {
        Subject::New(_) => Vec::new(),
        Subject::Old(tenant, _) => house.traces(tenant).await,
    }
}

async fn each_step_twice(isolation: Isolation) {
    let house = House::hardened().await;
    let _workers = Workers::start(house.lifecycle("worker"));
    for kind in OperationKind::ALL {
        let subject = house.subject(kind, isolation).await;
        let operation = house.begin(&subject, twice(&subject.plan())).await;
        assert_done(&house, &subject, operation).await;
        clear(&house, &subject).await;
    }
}

async fn a_failure_at_each_step(isolation: Isolation) {
    let house = House::hardened().await;
    let workers = Workers::start(house.lifecycle("worker"));
    let mut stuck = Vec::new();
    for kind in OperationKind::ALL {
        let mut index = 0;
        loop {
            let subject = house.subject(kind, isolation).await;
            let plan = subject.plan();
            if index > plan.steps.len() {
                clear(&house, &subject).await;
                break;
            }
            let before = traces_before(&house, &subject).await;
            let operation = house.begin(&subject, with(&plan, index, house.poison())).await;
            if index <= first_irreversible(&plan) {
                assert_undone(&house, &subject, operation, &before).await;
                clear(&house, &subject).await;
            } else {
                let ended = house.ended(operation).await;
                assert_eq!(ended.state, OperationState::Stuck, "{ended:?}");
                assert!(ended.error.unwrap().contains("there is no cluster `elsewhere`"));
                stuck.push((subject, operation));
                // The slug of a tenant with a cluster of its own is not free before it is gone.
                if isolation == Isolation::Cluster {
                    mend(&house, &mut stuck).await;
                }
            }
            index += 1;
        }
    }
    workers.stop().await;
    mend(&house, &mut stuck).await;
}

/// A person mends the cause and retries: what was stuck goes on to its end, and its incident is closed.
async fn mend(house: &House, stuck: &mut Vec<(Subject, OperationId)>) {
    for (subject, operation) in stuck.drain(..) {
        let open = house.store.incidents(true, None, None).await.unwrap().items;
        assert!(open.iter().any(|incident| incident.operation == Some(operation)), "{open:?}");
        house.lifecycle("person").retry(&permit(), operation).await.unwrap();
        // The worker that does not know the cluster may be faster, and gets stuck again.
        loop {
            let mended = Workers::start(house.mended());
            let ended = house.ended(operation).await;
            mended.stop().await;
            if ended.state == OperationState::Done {
                break;
            }
            house.lifecycle("person").retry(&permit(), operation).await.unwrap();
        }
        assert_done(house, &subject, operation).await;
        let open = house.store.incidents(true, None, None).await.unwrap().items;
        assert!(open.iter().all(|incident| incident.operation != Some(operation)), "{open:?}");
    }
}

async fn each_undo_twice(isolation: Isolation) {
    let house = House::hardened().await;
    let _workers = Workers::start(house.lifecycle("worker"));
    for kind in OperationKind::ALL {
        let subject = house.subject(kind, isolation).await;
        let before = traces_before(&house, &subject).await;
        let plan = twice(&subject.plan());
        let plan = with(&plan, first_irreversible(&plan), house.poison());
        let operation = house.begin(&subject, plan).await;
        assert_undone(&house, &subject, operation, &before).await;
        clear(&house, &subject).await;
    }
}

async fn a_worker_that_dies_at_each_step(isolation: Isolation) {
    let house = House::hardened().await;
    for kind in OperationKind::ALL {
        let mut steps = 1;
        loop {
            let subject = house.subject(kind, isolation).await;
            let plan = subject.plan();
            if steps > plan.steps.len() {
                clear(&house, &subject).await;
                break;
            }
            let operation = kill_at(&house, &subject, plan, &format!("NEW.steps_done = {steps}")).await;
            let workers = Workers::start(house.lifecycle("survivor"));
            assert_done(&house, &subject, operation).await;
            workers.stop().await;
            clear(&house, &subject).await;
            steps += 1;
        }
    }
}

async fn a_worker_that_dies_on_the_way_back(isolation: Isolation) {
    let house = House::hardened().await;
    let mut steps = 0;
    loop {
        let subject = house.subject(OperationKind::Create, isolation).await;
        let plan = subject.plan();
        if steps >= plan.steps.len() {
            break;
        }
        let plan = with(&plan, plan.steps.len(), house.poison());
        let at = format!("NEW.steps_done = {steps} AND OLD.steps_done > {steps}");
        let operation = kill_at(&house, &subject, plan, &at).await;
        let workers = Workers::start(house.lifecycle("survivor"));
        assert_undone(&house, &subject, operation, &[]).await;
        workers.stop().await;
        steps += 1;
    }
}

/// Begins the operation, and kills its worker when it has acted and is about to record the step.
async fn kill_at(house: &House, subject: &Subject, plan: Plan, at: &str) -> OperationId {
    const LOCK: &str = "4711";
    let mut control = house.control.connect().await;
    run(&mut control, &format!("SET search_path = guardian_store; SELECT pg_advisory_lock({LOCK})")).await;
    run(
        &mut control,
        &format!(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \
             $$ BEGIN PERFORM pg_advisory_lock({LOCK}); RETURN NEW; END $$; \
             CREATE TRIGGER hold BEFORE UPDATE ON operation FOR EACH ROW \
             WHEN (NEW.steps_done <> OLD.steps_done AND {at}) EXECUTE FUNCTION hold()"
        ),
    )
    .await;
    let doomed = Runtime::new().unwrap();
    let lifecycle = house.apart("doomed");
    doomed.spawn(async { lifecycle.await.work(CancellationToken::new()).await });
    let operation = house.begin(subject, plan).await;
    let held: i32 = loop {
        let held = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'";
        if let Some(pid) = sqlx::query_scalar(held).fetch_optional(&mut control).await.unwrap() {
            break pid;
        }
        sleep(Duration::from_millis(5)).await;
    };
    // A killed process does nothing more, and what its last statement was about to write is never written.
    doomed.shutdown_background();
    run(&mut control, &format!("SELECT pg_terminate_backend({held})")).await;
    let is_gone = format!("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {held})");
    while !sqlx::query_scalar::<_, bool>(AssertSqlSafe(is_gone.clone())).fetch_one(&mut control).await.unwrap() {
        sleep(Duration::from_millis(5)).await;
    }
    run(&mut control, "DROP TRIGGER hold ON operation; DROP FUNCTION hold()").await;
    // The lease of the dead has to end before anybody may take over.
    run(&mut control, "UPDATE operation SET next_at = now() WHERE state IN ('running', 'undoing')").await;
    operation
}

async fn run(connection: &mut PgConnection, sql: &str) {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Removes the tenant, so that its cluster and slug are free for the next.
async fn clear(house: &House, subject: &Subject) {
    if matches!(subject, Subject::New(_)) && house.store.tenant(&subject.id().into()).await.unwrap().is_none() {
        return;
    }
    if house.tenant(subject.id()).await.state != TenantState::Deleted {
        let change = house.lifecycle("clear").delete(&permit(), subject.id(), true).await.unwrap();
        assert_done(house, subject, change.operation.id).await;
    }
}
