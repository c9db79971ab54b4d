use std::time::Duration;

use guardian_model::{
    OperationKind, OperationState, Permission, Plan, Step, TenantKey, TenantState,
    access::{Actor, Permit},
};
use guardian_store::{AuditFilter, BeginError, ClaimError, InterveneError, OperationFilter, Secrets, StoreError};

use crate::fixture::{Fixture, lease, lost, new_tenant, permit, place, plan};

fn write() -> Permit {
    permit(Permission::TenantWrite)
}

#[tokio::test]
async fn a_creation_goes_through_and_leaves_its_trace() {
    let fixture = Fixture::new("op_create").await;
    let mut claim = fixture.begin("acme").await.unwrap();
    assert_eq!((claim.state, claim.steps_done, claim.attempts), (OperationState::Running, 0, 1));
    fixture.store.record_step(&mut claim, 10).await.unwrap();
    assert!(matches!(fixture.store.finish(&claim, None).await, Err(ClaimError::StepsLeft(_))));
    let operation = fixture.store.finish(&claim, Some(20)).await.unwrap();
    assert_eq!(operation.state, OperationState::Done);
    assert_eq!(operation.steps.iter().map(|step| step.duration_us).collect::<Vec<_>>(), [Some(10), Some(20)]);
    assert_eq!(fixture.store.operation(claim.id).await.unwrap().unwrap(), operation);
    let tenant = fixture.store.tenant(&"acme".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!((tenant.id, tenant.state), (claim.tenant.id, TenantState::Active));
    assert_eq!(fixture.store.tenant(&tenant.id.into()).await.unwrap().unwrap(), tenant);
    let secrets = fixture.store.secrets(tenant.id).await.unwrap();
    assert_eq!(secrets.capability.unwrap().expose(), &[7; 32]);
    assert_eq!(secrets.password.as_deref(), Some("pass word"));
    let filter = AuditFilter { tenant: Some(tenant.id), ..Default::default() };
    let entries = fixture.store.audit_entries(&filter, None, None).await.unwrap().items;
    let told: Vec<_> = entries.iter().map(|entry| (entry.action.as_str(), entry.outcome.as_str())).collect();
    assert_eq!(told, [("operation.create", "done"), ("tenant.create", "allowed")]);
    // Over is over.
    assert!(matches!(fixture.store.finish(&claim, Some(20)).await, Err(ClaimError::Fenced(_))));
}

#[tokio::test]
async fn secrets_do_not_stand_in_clear() {
    let fixture = Fixture::new("op_sealed").await;
    let tenant = fixture.active("acme").await;
    let mut connection = fixture.superuser().await;
    let row: String =
        sqlx::query_scalar("SELECT row_to_json(t)::text FROM tenant t").fetch_one(&mut connection).await.unwrap();
    assert!(row.contains("sealed_password\":\"\\\\x01"), "{row}");
    assert!(!row.contains(&"07".repeat(8)) && !row.contains("pass word") && !row.contains("7061737320776f7264"), "{row}");
    // Moved to another tenant, it does not open.
    let other = fixture.active("globex").await;
    sqlx::query("UPDATE tenant SET sealed_password = (SELECT sealed_password FROM tenant WHERE id = $1) WHERE id = $2")
        .bind(tenant.id.uuid())
        .bind(other.id.uuid())
        .execute(&mut connection)
        .await
        .unwrap();
    assert!(matches!(fixture.store.secrets(other.id).await, Err(StoreError::Vault(_))));
}

#[tokio::test]
async fn what_is_taken_is_refused_and_nothing_is_half_done() {
    let fixture = Fixture::new("op_taken").await;
    let acme = fixture.active("acme").await;
    let begin = async |new| {
        fixture.store.begin_create(&write(), new, Secrets::default(), plan(1), None, &lease("worker-a")).await.unwrap_err()
    };
    assert!(matches!(begin(new_tenant("acme", "free")).await, BeginError::SlugTaken(_)));
    let mut same_key = new_tenant("globex", "free");
    same_key.key = TenantKey::Uuid(acme.id.uuid());
    assert!(matches!(begin(same_key).await, BeginError::KeyTaken(_)));
    assert!(matches!(begin(new_tenant("globex", "none")).await, BeginError::Tier(_)));
    // A tier of another isolation than the placement's.
    assert!(matches!(begin(new_tenant("globex", "silo")).await, BeginError::Tier(_)));
    assert_eq!(fixture.store.operations(&OperationFilter::default(), None, None).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_permit_covers_its_own_tenant_and_permission_only() {
    let fixture = Fixture::new("op_permit").await;
    let tenant = fixture.active("acme").await.id;
    let other = fixture.active("globex").await.id;
    let begin = async |permit: &Permit| {
        fixture.store.begin(permit, tenant, OperationKind::Suspend, plan(1), &[TenantState::Active], &lease("w")).await
    };
    let elsewhere = Actor::system("test").permit(Permission::TenantWrite, Some(other)).unwrap();
    assert!(matches!(begin(&elsewhere).await, Err(BeginError::Store(StoreError::Permit(_)))));
    assert!(matches!(begin(&permit(Permission::TenantRead)).await, Err(BeginError::Store(StoreError::Permit(_)))));
    let own = Actor::system("test").permit(Permission::TenantWrite, Some(tenant)).unwrap();
    let claim = begin(&own).await.unwrap();
    assert!(matches!(fixture.store.cancel(&elsewhere, claim.id).await, Err(InterveneError::Store(StoreError::Permit(_)))));
}

#[tokio::test]
async fn one_live_operation_a_tenant() {
    let fixture = Fixture::new("op_busy").await;
    let tenant = fixture.active("acme").await.id;
    let (permit, lease) = (write(), lease("worker-a"));
    let suspend = |expected: &'static [TenantState]| {
        fixture.store.begin(&permit, tenant, OperationKind::Suspend, plan(1), expected, &lease)
    };
    let wrong = suspend(&[TenantState::Suspended]).await.unwrap_err();
    assert_eq!(wrong.to_string(), "the tenant is active; this needs it to be suspended");
    let (a, b) = tokio::join!(suspend(&[TenantState::Active]), suspend(&[TenantState::Active]));
    let (won, lost) = match (a, b) {
        (Ok(won), lost) | (lost, Ok(won)) => (won, lost),
        neither => panic!("neither began: {neither:?}"),
    };
    assert!(matches!(lost, Err(BeginError::Busy(id)) if id == won.id), "{lost:?}");
    let mut connection = fixture.superuser().await;
    let second = sqlx::query(
        "INSERT INTO operation (id, kind, tenant, state, tenant_state_before, plan, durations, requested_by, next_at)
         SELECT gen_random_uuid(), kind, tenant, 'running', tenant_state_before, plan, durations, '', now()
         FROM operation WHERE id = $1",
    )
    .bind(won.id.uuid())
    .execute(&mut connection)
    .await
    .unwrap_err();
    assert!(second.to_string().contains("operation_live"), "{second}");
}

#[tokio::test]
async fn a_worker_whose_lease_was_lost_changes_nothing() {
    let fixture = Fixture::new("op_fence").await;
    let mut old = fixture.begin("acme").await.unwrap();
    assert!(fixture.store.claim_next(&lease("worker-b")).await.unwrap().is_none(), "leased, yet claimed");
    fixture.store.renew(&old, &lost("worker-a")).await.unwrap();
    let mut new = fixture.store.claim_next(&lease("worker-b")).await.unwrap().unwrap();
    assert_eq!((new.id, new.attempts, new.fence), (old.id, 2, old.fence + 1));
    assert_eq!(new.plan, old.plan);
    assert!(matches!(fixture.store.record_step(&mut old, 1).await, Err(ClaimError::Fenced(_))));
    assert!(matches!(fixture.store.renew(&old, &lease("worker-a")).await, Err(ClaimError::Fenced(_))));
    assert!(matches!(fixture.store.reschedule(&old, Duration::ZERO, None).await, Err(ClaimError::Fenced(_))));
    assert!(matches!(fixture.store.release(&old).await, Err(ClaimError::Fenced(_))));
    assert!(matches!(fixture.store.turn_back(&mut old, "x").await, Err(ClaimError::Fenced(_))));
    assert!(matches!(fixture.store.stick(&old, "x").await, Err(ClaimError::Fenced(_))));
    assert!(matches!(fixture.store.forget_secrets(&old).await, Err(ClaimError::Fenced(_))));
    old.steps_done = 1;
    assert!(matches!(fixture.store.finish(&old, Some(1)).await, Err(ClaimError::Fenced(_))));
    assert!(fixture.store.incidents(true, None, None).await.unwrap().items.is_empty());
    fixture.store.record_step(&mut new, 1).await.unwrap();
    assert_eq!((new.steps_done, new.attempts), (1, 1));
}

#[tokio::test]
async fn an_undone_creation_leaves_a_tombstone_without_secrets() {
    let fixture = Fixture::new("op_undo").await;
    let mut claim = fixture.begin("acme").await.unwrap();
    fixture.store.turn_back(&mut claim, "disk full").await.unwrap();
    // The step under way may have begun.
    assert_eq!((claim.state, claim.steps_done), (OperationState::Undoing, 1));
    let operation = fixture.store.finish(&claim, Some(5)).await.unwrap();
    assert_eq!((operation.state, operation.error.as_deref()), (OperationState::Undone, Some("disk full")));
    let tenant = fixture.store.tenant(&claim.tenant.id.into()).await.unwrap().unwrap();
    assert_eq!(tenant.state, TenantState::Deleted);
    assert!(fixture.store.tenant(&"acme".parse().unwrap()).await.unwrap().is_none());
    let secrets = fixture.store.secrets(tenant.id).await.unwrap();
    assert!(secrets.capability.is_none() && secrets.password.is_none());
    // The slug is free again.
    fixture.begin("acme").await.unwrap();
}

#[tokio::test]
async fn a_deletion_waits_can_be_cancelled_and_ends() {
    let fixture = Fixture::new("op_delete").await;
    let tenant = fixture.active("acme").await.id;
    let until = jiff::Timestamp::now();
    let plan = Plan {
        steps: vec![
            Step::AwaitGrace { until },
            Step::DeleteRows { place: place(), key: "1".to_owned() },
            Step::ForgetSecrets,
        ],
    };
    let (permit, lease) = (write(), lease("worker-a"));
    let delete =
        || fixture.store.begin(&permit, tenant, OperationKind::Delete, plan.clone(), &[TenantState::Active], &lease);
    let claim = delete().await.unwrap();
    assert_eq!(claim.tenant.state, TenantState::Deleting);
    fixture.store.reschedule(&claim, Duration::from_hours(1), None).await.unwrap();
    assert!(fixture.store.claim_next(&lease).await.unwrap().is_none(), "not due, yet claimed");
    let cancelled = fixture.store.cancel(&permit, claim.id).await.unwrap();
    assert_eq!(cancelled.state, OperationState::Undoing);
    assert_eq!(fixture.store.cancel(&permit, claim.id).await.unwrap().state, OperationState::Undoing, "a second time");
    let claim = fixture.store.claim_next(&lease).await.unwrap().unwrap();
    fixture.store.finish(&claim, Some(1)).await.unwrap();
    assert_eq!(fixture.store.tenant(&tenant.into()).await.unwrap().unwrap().state, TenantState::Active);
    assert!(fixture.store.secrets(tenant).await.unwrap().capability.is_some());
    let mut claim = delete().await.unwrap();
    fixture.store.record_step(&mut claim, 1).await.unwrap();
    assert!(matches!(fixture.store.turn_back(&mut claim, "no").await, Err(ClaimError::Irreversible(_))));
    assert!(matches!(fixture.store.cancel(&permit, claim.id).await, Err(InterveneError::Irreversible(_))));
    fixture.store.record_step(&mut claim, 1).await.unwrap();
    fixture.store.forget_secrets(&claim).await.unwrap();
    fixture.store.finish(&claim, Some(1)).await.unwrap();
    assert_eq!(fixture.store.tenant(&tenant.into()).await.unwrap().unwrap().state, TenantState::Deleted);
    assert!(matches!(fixture.store.cancel(&permit, claim.id).await, Err(InterveneError::Over { .. })));
}

#[tokio::test]
async fn a_cancellation_in_the_middle_of_a_step_reaches_the_worker() {
    let fixture = Fixture::new("op_cancel").await;
    let mut claim = fixture.begin("acme").await.unwrap();
    fixture.store.cancel(&write(), claim.id).await.unwrap();
    assert!(fixture.store.claim_next(&lease("worker-b")).await.unwrap().is_none(), "the worker still has it");
    fixture.store.record_step(&mut claim, 10).await.unwrap();
    assert_eq!((claim.state, claim.steps_done), (OperationState::Undoing, 1));
    assert_eq!(fixture.store.finish(&claim, Some(1)).await.unwrap().state, OperationState::Undone);

    let mut claim = fixture.begin("acme").await.unwrap();
    fixture.store.record_step(&mut claim, 10).await.unwrap();
    fixture.store.cancel(&write(), claim.id).await.unwrap();
    assert!(matches!(fixture.store.finish(&claim, Some(1)).await, Err(ClaimError::TurnedBack(_))));
    fixture.store.release(&claim).await.unwrap();
    let claim = fixture.store.claim_next(&lease("worker-b")).await.unwrap().unwrap();
    assert_eq!((claim.state, claim.steps_done), (OperationState::Undoing, 2));
}

#[tokio::test]
async fn a_stuck_operation_waits_for_a_person() {
    let fixture = Fixture::new("op_stuck").await;
    let mut wakeups = fixture.store.wakeups().await.unwrap();
    let mut claim = fixture.begin("acme").await.unwrap();
    fixture.store.turn_back(&mut claim, "first").await.unwrap();
    let incident = fixture.store.stick(&claim, "cannot drop").await.unwrap();
    assert!(fixture.store.claim_next(&lease("worker-b")).await.unwrap().is_none());
    let open = fixture.store.incidents(true, None, None).await.unwrap().items;
    assert_eq!(open.iter().map(|incident| incident.id).collect::<Vec<_>>(), [incident]);
    assert!(
        open[0].summary.contains("cannot drop") && open[0].summary.contains(&claim.id.to_string()),
        "{}",
        open[0].summary
    );
    assert_eq!(fixture.store.counts().await.unwrap().incidents_open, 1);
    let retried = fixture.store.retry(&write(), claim.id).await.unwrap();
    assert_eq!(retried.state, OperationState::Undoing, "it goes on the way it went");
    tokio::time::timeout(Duration::from_secs(10), wakeups.next()).await.expect("nobody was woken").unwrap();
    assert!(matches!(fixture.store.retry(&write(), claim.id).await, Err(InterveneError::NotStuck { .. })));
    assert!(fixture.store.incidents(true, None, None).await.unwrap().items.is_empty());
    assert!(fixture.store.incidents(false, None, None).await.unwrap().items[0].closed_at.is_some());
    assert_eq!(fixture.store.claim_next(&lease("worker-b")).await.unwrap().unwrap().attempts, 1);
}

#[tokio::test]
async fn many_workers_never_claim_the_same() {
    let fixture = Fixture::new("op_workers").await;
    for slug in ["a", "b", "c", "d", "e", "f"] {
        let claim = fixture.begin(slug).await.unwrap();
        fixture.store.release(&claim).await.unwrap();
    }
    let claims = ["w1", "w2", "w3", "w4", "w5", "w6"].map(|worker| {
        let store = fixture.store.clone();
        tokio::spawn(async move { store.claim_next(&lease(worker)).await.unwrap() })
    });
    let mut ids = Vec::new();
    for claim in claims {
        ids.extend(claim.await.unwrap().map(|claim| claim.id));
    }
    while let Some(claim) = fixture.store.claim_next(&lease("w7")).await.unwrap() {
        ids.push(claim.id);
    }
    ids.sort();
    let claimed = ids.len();
    ids.dedup();
    assert_eq!((claimed, ids.len()), (6, 6));
}

#[tokio::test]
async fn numbers_for_keys_skip_those_given_by_hand() {
    let fixture = Fixture::new("op_keys").await;
    assert_eq!(fixture.store.next_key().await.unwrap(), 1);
    for (slug, number) in [("two", 2), ("nine", 9)] {
        let mut new = new_tenant(slug, "free");
        new.key = TenantKey::Bigint(number);
        fixture.store.begin_create(&write(), new, Secrets::default(), plan(1), None, &lease("w")).await.unwrap();
    }
    assert_eq!(fixture.store.next_key().await.unwrap(), 10);
}
