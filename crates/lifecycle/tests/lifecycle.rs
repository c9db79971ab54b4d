//! What a caller of the lifecycle sees: refusals, waits, grace, tiers, tickets.
#![allow(clippy::unwrap_used, reason = "what fails in a test ends it")]

mod house;
#[path = "lifecycle/tool.rs"]
mod tool;

use std::time::Duration;

use guardian_lifecycle::LifecycleError;
use guardian_model::{
    Isolation, OperationKind, OperationState, Permission, Place, Plan, Step, Tenant, TenantState,
    access::{Actor, Permit},
    door::{DoorGrant, OpenDoor},
    import::{ImportTenant, ImportTenants},
};
use guardian_store::{
    AuditFilter, BeginError, DOORS_MAX, Idempotency, InterveneError, OperationFilter, TenantFilter, TenantRef,
};
use guardian_testkit::Server;
use house::{House, Subject, Workers, permit, request, tier};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, postgres::PgConnectOptions};
use tokio::time::{Instant, sleep};

fn permit_to(permission: Permission) -> Permit {
    Actor::system("test").permit(permission, None).unwrap()
}

async fn count(house: &House, sql: &str) -> i64 {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut house.admin().await).await.unwrap()
}

#[tokio::test]
async fn a_row_tenant_is_active_at_once_and_a_repeated_request_makes_no_second() {
    let house = House::hardened().await;
    let lifecycle = house.lifecycle("api");
    let key = Idempotency { key: "k".to_owned(), request_hash: [7; 32] };
    let request = request(Isolation::Row);
    let first = lifecycle.create(&permit(), request.clone(), Some(key.clone())).await.unwrap();
    assert_eq!(first.tenant.state, TenantState::Active);
    assert_eq!(first.operation.state, OperationState::Done);
    assert_eq!(first.tenant, house.tenant(first.tenant.id).await);
    house.use_it(&first.tenant).await;
    let second = lifecycle.create(&permit(), request.clone(), Some(key)).await.unwrap();
    assert_eq!((second.tenant.id, second.operation.id), (first.tenant.id, first.operation.id));
    let taken = lifecycle.create(&permit(), request, None).await.unwrap_err();
    assert!(matches!(taken, LifecycleError::Begin(BeginError::SlugTaken(_))), "{taken}");
}

#[tokio::test]
async fn refusals_say_what_to_do_and_begin_nothing() {
    let house = House::bare().await;
    let lifecycle = house.lifecycle("api");
    let refusal = async |request| lifecycle.create(&permit(), request, None).await.unwrap_err().to_string();
    assert!(refusal(request(Isolation::Row)).await.contains("run `guardian apply` first"));
    let mut other = request(Isolation::Schema);
    other.tier = tier(Isolation::Cluster);
    assert!(refusal(other).await.contains("no cluster is reserved for"));
    let mut other = request(Isolation::Schema);
    other.tier = "golden".parse().unwrap();
    assert!(refusal(other).await.contains("there is no tier `golden`"));
    let mut other = request(Isolation::Schema);
    other.key = Some("7".to_owned());
    assert!(refusal(other).await.contains("is not a UUID"));
    assert!(house.store.operations(&OperationFilter::default(), None, None).await.unwrap().items.is_empty());
}

fn import(tenants: &[(&str, Option<&str>, Option<&str>)]) -> ImportTenants {
    let tenants = tenants.iter().map(|(key, slug, name)| ImportTenant {
        key: (*key).to_owned(),
        slug: slug.map(str::to_owned),
        name: name.map(str::to_owned),
        tier: None,
    });
    ImportTenants { tier: tier(Isolation::Row), tenants: tenants.collect(), dry_run: false }
}

async fn by_slug(house: &House, slug: &str) -> Tenant {
    house.store.tenant(&TenantRef::Slug(slug.parse().unwrap())).await.unwrap().unwrap()
}

#[tokio::test]
async fn imported_tenants_can_be_entered_and_a_bad_one_hinders_no_other() {
    const KEYS: [&str; 3] = [
        "01890000-0000-7000-8000-000000000001",
        "01890000-0000-7000-8000-000000000002",
        "01890000-0000-7000-8000-000000000003",
    ];
    let house = House::hardened().await;
    let lifecycle = house.lifecycle("api");
    let request = import(&[
        (KEYS[0], Some("acme"), None),
        (KEYS[1], None, Some("Globex, Inc.")),
        ("7", Some("seven"), None),
        (KEYS[2], Some("Not a slug"), None),
        (KEYS[2], None, None),
    ]);
    let dry = lifecycle.import(&permit(), ImportTenants { dry_run: true, ..request.clone() }).await.unwrap();
    assert!(house.store.tenants(&TenantFilter::default(), None, None).await.unwrap().items.is_empty());
    let report = lifecycle.import(&permit(), request.clone()).await.unwrap();
    assert_eq!(dry, report);
    assert_eq!((report.created, report.unchanged, report.pending), (3, 0, 0));
    let told: Vec<_> = report.conflicts.iter().map(|conflict| (conflict.index, conflict.reason.as_str())).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].0 == 2 && told[0].1.contains("is not a UUID"), "{told:?}");
    assert!(told[1].0 == 3 && told[1].1.contains("the slug may not contain"), "{told:?}");
    for slug in ["acme", "globex-inc", KEYS[2]] {
        house.use_it(&by_slug(&house, slug).await).await;
    }
    let again = lifecycle.import(&permit(), request).await.unwrap();
    assert_eq!((again.created, again.unchanged, again.conflicts.len()), (0, 3, 2));

    let mut other = import(&[(KEYS[0], None, None)]);
    other.tier = tier(Isolation::Schema);
    let refused = lifecycle.import(&permit(), other).await.unwrap_err();
    assert!(refused.to_string().contains("no tier `schema` of row isolation"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_that_the_cluster_holds_up_is_finished_by_the_workers() {
    let house = House::hardened().await;
    let mut blocker = house.admin().await;
    let mut held = blocker.begin().await.unwrap();
    sqlx::query("LOCK TABLE guardian.capability IN EXCLUSIVE MODE").execute(&mut *held).await.unwrap();
    let request = import(&[("01890000-0000-7000-8000-000000000001", Some("acme"), None)]);
    let report = house.lifecycle("api").import(&permit(), request).await.unwrap();
    assert_eq!((report.created, report.pending), (1, 1));
    let tenant = by_slug(&house, "acme").await;
    assert_eq!(tenant.state, TenantState::Creating);
    held.rollback().await.unwrap();
    let _workers = Workers::start(house.lifecycle("worker"));
    let begun = Instant::now();
    while house.tenant(tenant.id).await.state != TenantState::Active {
        assert!(begun.elapsed() < Duration::from_mins(1), "the workers do not finish it");
        sleep(Duration::from_millis(20)).await;
    }
    house.use_it(&house.tenant(tenant.id).await).await;
}

/// What is asked of the door, by somebody who may.
async fn open_door(house: &House, write: bool) -> DoorGrant {
    let asked = OpenDoor { reason: "a report".to_owned(), write, minutes: Some(5) };
    house.lifecycle("api").open_door(&permit_to(Permission::DoorOpen), &asked).await.unwrap()
}

fn way_in(house: &House, grant: &DoorGrant) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(house.server.port());
    options.username(&grant.user).password(&grant.password).database(&grant.database)
}

async fn door_is_shut(house: &House, grant: &DoorGrant) {
    let begun = Instant::now();
    while !house.store.doors().await.unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_mins(1), "the door stays open");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(count(house, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{}'", grant.user)).await, 0);
    let filter = AuditFilter { action: Some("door.close".to_owned()), ..AuditFilter::default() };
    let entry = house.store.audit_entries(&filter, None, Some(1)).await.unwrap().items.pop().unwrap();
    assert_eq!(entry.detail["door"], grant.id.to_string());
    assert_eq!(entry.detail["reason"], "a report");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_opens_to_one_session_that_sees_every_tenant_and_ends_with_its_time() {
    let house = House::hardened().await;
    for _ in 0..2 {
        house.create(Isolation::Row).await;
    }
    let grant = open_door(&house, false).await;
    let mut session = way_in(&house, &grant).connect().await.unwrap();
    let tenants: i64 =
        sqlx::query_scalar("SELECT count(DISTINCT tenant_id) FROM note").fetch_one(&mut session).await.unwrap();
    assert_eq!(tenants, 2);
    let delete = sqlx::query("SET default_transaction_read_only = off").execute(&mut session).await;
    assert!(delete.is_ok());
    assert!(sqlx::query("DELETE FROM note").execute(&mut session).await.is_err(), "it reads only");
    assert!(way_in(&house, &grant).connect().await.is_err(), "one session, and no second");
    let open = house.store.doors().await.unwrap();
    assert_eq!((open.len(), open[0].door.reason.as_str(), open[0].door.write), (1, "a report", false));

    // Its time has come. No control plane runs yet: the server alone keeps it.
    let mut admin = house.admin().await;
    let noted = format!(
        "SELECT to_timestamp(shobj_description(oid, 'pg_authid')::float8) FROM pg_roles WHERE rolname = '{}'",
        grant.user
    );
    let off = format!("SELECT abs(extract(epoch FROM ({noted}) - to_timestamp({})))::bigint", grant.ends_at.as_second());
    assert!(count(&house, &off).await <= 60, "the server's end of it is the one that was told");
    let over = format!("COMMENT ON ROLE {} IS '{}'", grant.user, jiff::Timestamp::now().as_second() - 1);
    sqlx::raw_sql(AssertSqlSafe(over)).execute(&mut admin).await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM note").fetch_one(&mut session).await.unwrap();
    assert_eq!(left, 0, "the session is there, and reaches no row");
    let mut control = house.control.connect().await;
    sqlx::raw_sql("UPDATE guardian_store.door SET ends_at = now(), expires_at = now()").execute(&mut control).await.unwrap();
    let workers = Workers::start(house.lifecycle("worker"));
    door_is_shut(&house, &grant).await;
    assert!(sqlx::query("SELECT 1").execute(&mut session).await.is_err(), "the session was ended");
    workers.stop().await;

    // One whose session ended by itself, before its time.
    let grant = open_door(&house, true).await;
    let mut session = way_in(&house, &grant).connect().await.unwrap();
    let done = sqlx::query("UPDATE note SET body = 'mended'").execute(&mut session).await.unwrap();
    assert_eq!(done.rows_affected(), 2);
    session.close().await.unwrap();
    sqlx::raw_sql("UPDATE guardian_store.door SET expires_at = now()").execute(&mut control).await.unwrap();
    let _workers = Workers::start(house.lifecycle("worker"));
    door_is_shut(&house, &grant).await;
}

#[tokio::test]
async fn a_door_is_ended_before_its_time_with_its_session() {
    let house = House::hardened().await;
    house.create(Isolation::Row).await;
    let (grant, permit) = (open_door(&house, true).await, permit_to(Permission::DoorOpen));
    let mut session = way_in(&house, &grant).connect().await.unwrap();
    assert!(house.lifecycle("api").end_door(&permit_to(Permission::TenantWrite), grant.id).await.is_err());
    assert!(sqlx::query("SELECT 1").execute(&mut session).await.is_ok());
    house.lifecycle("api").end_door(&permit, grant.id).await.unwrap();
    assert!(sqlx::query("SELECT 1").execute(&mut session).await.is_err(), "the session was ended");
    assert!(way_in(&house, &grant).connect().await.is_err(), "no second one");
    door_is_shut(&house, &grant).await;
    let filter = AuditFilter { action: Some("door.end".to_owned()), ..AuditFilter::default() };
    let entry = house.store.audit_entries(&filter, None, Some(1)).await.unwrap().items.pop().unwrap();
    assert_eq!((&entry.actor, entry.detail["reason"].as_str()), (&permit.actor().name, Some("a report")));
    let refused = house.lifecycle("api").end_door(&permit, grant.id).await.unwrap_err();
    assert!(refused.to_string().contains("is not open"), "{refused}");
}

#[tokio::test]
async fn a_door_that_was_ended_before_its_role_was_made_leaves_no_role() {
    let house = House::hardened().await;
    let mut control = house.control.connect().await;
    // Ended at the very moment it is noted.
    sqlx::raw_sql(
        "CREATE FUNCTION over() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.ends_at := now(); RETURN NEW; END $$;
         CREATE TRIGGER over BEFORE INSERT ON guardian_store.door FOR EACH ROW EXECUTE FUNCTION over()",
    )
    .execute(&mut control)
    .await
    .unwrap();
    let asked = OpenDoor { reason: "a report".to_owned(), write: false, minutes: Some(5) };
    let refused = house.lifecycle("api").open_door(&permit_to(Permission::DoorOpen), &asked).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("is not open"), "{refused}");
    let id = house.store.doors().await.unwrap()[0].door.id;
    assert_eq!(count(&house, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{id}'")).await, 0);
}

#[tokio::test]
async fn doors_are_bounded_in_number_and_time_and_need_apply() {
    let bare = House::bare().await;
    let permit = permit_to(Permission::DoorOpen);
    let asked = |minutes| OpenDoor { reason: "why".to_owned(), write: false, minutes: Some(minutes) };
    let refused = bare.lifecycle("api").open_door(&permit, &asked(1)).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("run `guardian apply` first"), "{refused}");
    let house = House::hardened().await;
    for minutes in [0, 481] {
        let refused = house.lifecycle("api").open_door(&permit, &asked(minutes)).await.map(drop).unwrap_err();
        assert!(refused.to_string().contains("lasts 1 to 480"), "{refused}");
    }
    let wrong = house.lifecycle("api").open_door(&permit_to(Permission::TenantWrite), &asked(1)).await;
    assert!(wrong.is_err(), "a permit for something else");
    for _ in 0..DOORS_MAX {
        house.lifecycle("api").open_door(&permit, &asked(1)).await.unwrap();
    }
    let refused = house.lifecycle("api").open_door(&permit, &asked(1)).await.map(drop).unwrap_err();
    assert!(refused.to_string().contains("which is the limit"), "{refused}");
    // Nothing is left on a server that others use.
    let mut control = house.control.connect().await;
    sqlx::raw_sql("UPDATE guardian_store.door SET ends_at = now(), expires_at = now()").execute(&mut control).await.unwrap();
    let _workers = Workers::start(house.lifecycle("worker"));
    while !house.store.doors().await.unwrap().is_empty() {
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn suspending_ends_the_sessions_of_tickets() {
    let house = House::hardened().await;
    let _workers = Workers::start(house.lifecycle("worker"));
    let lifecycle = house.lifecycle("api");
    for isolation in [Isolation::Row, Isolation::Schema] {
        let tenant = house.create(isolation).await;
        let mut session = house.enter(&tenant).await;
        // What would keep the ticket's role from being dropped, and the suspension from going through.
        let leave_something = "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC";
        sqlx::query(leave_something).execute(&mut session).await.unwrap();
        let change = lifecycle.suspend(&permit(), tenant.id).await.unwrap();
        assert_eq!(change.tenant.state, TenantState::Suspended);
        assert!(session.ping().await.is_err(), "{isolation}");
        let enter = permit_to(Permission::TenantEnter);
        // Also for somebody who still believes that it is active.
        for seen in [&tenant, &change.tenant] {
            let refused = lifecycle.issue_ticket(&enter, seen).await.map(|_| ()).unwrap_err();
            assert!(matches!(refused, LifecycleError::NotActive { .. }), "{refused}");
        }
        assert!(house.store.tenant_tickets(tenant.id).await.unwrap().is_empty());
        let again = lifecycle.suspend(&permit(), tenant.id).await.unwrap_err();
        assert!(matches!(again, LifecycleError::Begin(BeginError::WrongState { .. })), "{again}");
        let change = lifecycle.resume(&permit(), tenant.id).await.unwrap();
        house.use_it(&change.tenant).await;
    }
}

#[tokio::test]
async fn a_deletion_can_be_taken_back_while_it_waits() {
    let house = House::hardened().await;
    let _workers = Workers::start(house.lifecycle("worker"));
    let lifecycle = house.lifecycle("api");
    for isolation in [Isolation::Row, Isolation::Schema] {
        let tenant = house.create(isolation).await;
        for suspended in [false, true] {
            if suspended {
                lifecycle.suspend(&permit(), tenant.id).await.unwrap();
            }
            let before = house.traces(&tenant).await;
            let change = lifecycle.delete(&permit(), tenant.id, false).await.unwrap();
            assert_eq!(change.tenant.state, TenantState::Deleting);
            while house.is_open(&tenant).await {
                sleep(Duration::from_millis(10)).await;
            }
            lifecycle.cancel(&permit(), change.operation.id).await.unwrap();
            assert_eq!(house.ended(change.operation.id).await.state, OperationState::Undone);
            let state = if suspended { TenantState::Suspended } else { TenantState::Active };
            assert_eq!(house.tenant(tenant.id).await.state, state, "{isolation}");
            assert_eq!(house.is_open(&tenant).await, !suspended, "{isolation}");
            assert_eq!(house.traces(&tenant).await, before, "{isolation}");
        }
        let change = lifecycle.delete(&permit(), tenant.id, true).await.unwrap();
        house.ended(change.operation.id).await;
        let late = lifecycle.cancel(&permit(), change.operation.id).await.unwrap_err();
        assert!(matches!(late, LifecycleError::Intervene(InterveneError::Over { .. })), "{late}");
        assert_eq!(house.traces(&tenant).await, [""; 0]);
    }
}

#[tokio::test]
async fn another_tier_bounds_the_role() {
    let house = House::hardened().await;
    let tenant = house.create(Isolation::Schema).await;
    let limit = format!("SELECT rolconnlimit::bigint FROM pg_roles WHERE rolname = '{}'", tenant.placement.role);
    assert_eq!(count(&house, &limit).await, 20);
    let lifecycle = house.lifecycle("api");
    let tenant = lifecycle.set_tier(&permit(), tenant.id, &"small".parse().unwrap()).await.unwrap();
    assert_eq!(count(&house, &limit).await, 1);
    let refused = lifecycle.set_tier(&permit(), tenant.id, &tier(Isolation::Row)).await.unwrap_err();
    assert!(matches!(refused, LifecycleError::SetTier(_)), "{refused}");
}

#[tokio::test]
async fn a_cluster_that_is_down_is_waited_for_and_its_error_shows() {
    let server = Server::own();
    // The control plane lives elsewhere, and stays up.
    let house = House::across(server.clone(), &Server::shared()).await;
    let _workers = Workers::start(house.lifecycle("worker"));
    server.kill();
    let lifecycle = house.lifecycle("api");
    let mut begun = Vec::new();
    for isolation in [Isolation::Row, Isolation::Schema, Isolation::Database] {
        let change = lifecycle.create(&permit(), request(isolation), None).await.unwrap();
        assert_eq!(change.tenant.state, TenantState::Creating);
        begun.push(change.operation.id);
    }
    for &operation in &begun {
        let waited = Instant::now();
        let error = loop {
            let operation = house.store.operation(operation).await.unwrap().unwrap();
            assert_eq!(operation.state, OperationState::Running);
            match operation.error {
                Some(error) => break error,
                None => sleep(Duration::from_millis(20)).await,
            }
            assert!(waited.elapsed() < Duration::from_secs(20), "no error shows");
        };
        assert!(error.contains("cannot connect") || error.contains("did not answer"), "{error}");
    }
    server.restart();
    for operation in begun {
        assert_eq!(house.ended(operation).await.state, OperationState::Done);
    }
}

#[tokio::test]
async fn an_undo_that_fails_waits_for_a_person() {
    let house = House::hardened().await;
    let workers = Workers::start(house.lifecycle("worker"));
    let subject = house.subject(OperationKind::Create, Isolation::Schema).await;
    let Step::Migrate { place } = house.poison() else { unreachable!() };
    let place = Place { schema: "nowhere".to_owned(), ..place };
    let mut plan = subject.plan();
    plan.steps.insert(3, Step::EnsureSchema { place: Place { database: house.control.name.clone(), ..place } });
    let operation = house.begin(&subject, plan).await;
    assert_eq!(house.ended(operation).await.state, OperationState::Stuck);
    let incidents = house.store.incidents(true, None, None).await.unwrap().items;
    assert!(incidents.iter().any(|incident| incident.operation == Some(operation)), "{incidents:?}");
    let busy = house.lifecycle("api").delete(&permit(), subject.id(), true).await.unwrap_err();
    assert!(matches!(busy, LifecycleError::Begin(BeginError::Busy(_))), "{busy}");
    workers.stop().await;
    let _mended = Workers::start(house.mended());
    house.lifecycle("person").retry(&permit(), operation).await.unwrap();
    assert_eq!(house.ended(operation).await.state, OperationState::Undone);
    let tenant = house.tenant(subject.id()).await;
    assert_eq!(tenant.state, TenantState::Deleted);
    assert_eq!(house.traces(&tenant).await, [""; 0]);
}

#[tokio::test]
async fn a_panic_in_a_step_harms_no_other_operation() {
    let house = House::hardened().await;
    let tenant = house.create(Isolation::Row).await;
    let plan = Plan { steps: vec![Step::ForgetSecrets] };
    let operation = house.begin(&Subject::Old(Box::new(tenant), OperationKind::Suspend), plan).await;
    // Somebody has changed the control database by hand, so that an irreversible step is to be undone.
    let sql =
        "UPDATE guardian_store.operation SET state = 'undoing', undoing = true, steps_done = 1 WHERE state = 'running'";
    sqlx::raw_sql(sql).execute(&mut house.control.connect().await).await.unwrap();
    let _workers = Workers::start(house.lifecycle("worker"));
    let ended = house.ended(operation).await;
    assert_eq!(ended.state, OperationState::Stuck);
    assert!(ended.error.unwrap().starts_with("a bug in Guardian"));
    let subject = house.subject(OperationKind::Create, Isolation::Row).await;
    let operation = house.begin(&subject, subject.plan()).await;
    assert_eq!(house.ended(operation).await.state, OperationState::Done);
}

#[tokio::test]
async fn a_step_that_kills_every_worker_is_left_to_a_person() {
    let house = House::hardened().await;
    let subject = house.subject(OperationKind::Create, Isolation::Row).await;
    let operation = house.begin(&subject, subject.plan()).await;
    let sql = "UPDATE guardian_store.operation SET attempts = 20";
    sqlx::raw_sql(sql).execute(&mut house.control.connect().await).await.unwrap();
    let _workers = Workers::start(house.lifecycle("worker"));
    let ended = house.ended(operation).await;
    assert_eq!(ended.state, OperationState::Stuck);
    assert!(ended.error.unwrap().contains("begun 21 times"));
    house.lifecycle("person").retry(&permit(), operation).await.unwrap();
    assert_eq!(house.ended(operation).await.state, OperationState::Done);
}

#[tokio::test]
async fn many_operations_are_shared_between_workers_and_none_is_lost() {
    let house = House::hardened().await;
    let workers = [Workers::start(house.lifecycle("a")), Workers::start(house.lifecycle("b"))];
    let lifecycle = house.lifecycle("api");
    let mut begun = Vec::new();
    for index in 0..24 {
        let isolation = if index % 4 == 0 { Isolation::Schema } else { Isolation::Row };
        begun.push(lifecycle.create(&permit(), request(isolation), None).await.unwrap().tenant.id);
    }
    for tenant in begun {
        let change = loop {
            match lifecycle.delete(&permit(), tenant, true).await {
                Ok(change) => break change,
                Err(LifecycleError::Begin(BeginError::Busy(operation))) => {
                    assert_eq!(house.ended(operation).await.state, OperationState::Done);
                }
                Err(error) => panic!("{error}"),
            }
        };
        assert_eq!(house.ended(change.operation.id).await.state, OperationState::Done);
    }
    assert_eq!(count(&house, "SELECT count(*) FROM guardian.capability").await, 0);
    assert_eq!(count(&house, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'ten%'").await, 0);
    for workers in workers {
        workers.stop().await;
    }
}

#[tokio::test]
async fn a_new_migration_reaches_a_tenant_with_its_grants() {
    let house = House::hardened().await;
    let tenant = house.create(Isolation::Schema).await;
    let sql = "CREATE TABLE more (tenant_id uuid NOT NULL, n int); SET ROLE pg_monitor; SET search_path = nowhere";
    house.add_migration("0002_more.sql", sql);
    let lifecycle = house.lifecycle("api");
    assert_eq!(lifecycle.migrate_tenant(&tenant).await.unwrap(), ["0002_more.sql"]);
    assert!(lifecycle.migrate_tenant(&tenant).await.unwrap().is_empty());
    let mut session = house.enter(&tenant).await;
    sqlx::raw_sql("INSERT INTO more (n) VALUES (1)").execute(&mut session).await.unwrap();
}

#[tokio::test]
async fn expired_tickets_are_dropped() {
    let house = House::hardened().await;
    let tenant = house.create(Isolation::Row).await;
    let issued = house.store.tenant_tickets(tenant.id).await.unwrap();
    assert!(!issued.is_empty());
    let mut control = house.control.connect().await;
    sqlx::raw_sql("UPDATE guardian_store.ticket SET expires_at = now() - interval '1s'")
        .execute(&mut control)
        .await
        .unwrap();
    let workers = Workers::start(house.lifecycle("worker"));
    let begun = Instant::now();
    while !house.store.tenant_tickets(tenant.id).await.unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the tickets stay");
        sleep(Duration::from_millis(20)).await;
    }
    for ticket in issued {
        assert_eq!(count(&house, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{}'", ticket.role)).await, 0);
    }
    workers.stop().await;
}

#[tokio::test]
async fn the_tickets_of_a_tenant_are_limited() {
    let house = House::hardened().await;
    let (tenant, other) = (house.create(Isolation::Row).await, house.create(Isolation::Row).await);
    let (lifecycle, enter) = (house.lifecycle("api"), permit_to(Permission::TenantEnter));
    let mut issued = house.store.tenant_tickets(tenant.id).await.unwrap().len();
    let refused = loop {
        match lifecycle.issue_ticket(&enter, &tenant).await {
            Ok(_) => issued += 1,
            Err(refused) => break refused,
        }
        assert!(issued < 100, "no limit");
    };
    assert!(matches!(refused, LifecycleError::TooManyTickets { limit, .. } if limit == issued), "after {issued}: {refused}");
    lifecycle.issue_ticket(&enter, &other).await.map(drop).expect("another tenant's tickets are its own");
}

#[tokio::test]
async fn no_secret_reaches_the_servers_log() {
    let server = Server::own_with(&[
        ("log_statement", "all"),
        ("log_min_duration_statement", "0"),
        ("log_min_error_statement", "error"),
    ]);
    let house = House::hardened_on(server.clone()).await;
    let mut secrets = Vec::new();
    for isolation in [Isolation::Row, Isolation::Schema] {
        let tenant = house.create(isolation).await;
        let lifecycle = house.lifecycle("api");
        let grant = lifecycle.issue_ticket(&permit_to(Permission::TenantEnter), &tenant).await.unwrap();
        let connection = lifecycle.connection(&permit_to(Permission::SecretRead), &tenant).await.unwrap();
        secrets.extend([Some(grant.password), grant.ticket, Some(connection.password), connection.capability]);
        let place = Some(tenant).filter(|_| isolation != Isolation::Row);
        let login = lifecycle.open_for_tool(&permit_to(Permission::SchemaWrite), place).await.unwrap();
        lifecycle.renew_for_tool(&permit_to(Permission::SchemaWrite), login.id).await.unwrap();
        secrets.push(Some(login.password));
    }
    let log = server.log();
    assert!(log.contains("CREATE ROLE") && log.contains("guardian.capability"), "the log shows what was done");
    let secrets: Vec<String> = secrets.into_iter().flatten().filter(|secret| !secret.is_empty()).collect();
    assert!(secrets.len() >= 5);
    for secret in secrets {
        assert!(!log.contains(&secret));
    }
}
