use guardian_model::{
    Permission,
    api::{RunKind, RunState},
};
use guardian_store::{RunClaim, RunClaimError, RunError};

use crate::fixture::{Fixture, lease, lost, permit};

fn items() -> Vec<(String, String)> {
    ["a", "b", "c"].map(|name| (name.to_owned(), "because".to_owned())).to_vec()
}

impl Fixture {
    async fn run(&self, kind: RunKind, lease: &guardian_store::Lease) -> RunClaim {
        let arguments = serde_json::json!({ "parallel": 3 });
        self.store.start_run(&permit(Permission::SchemaWrite), kind, arguments, &items(), lease).await.unwrap()
    }
}

#[tokio::test]
async fn a_run_can_be_watched_and_read_afterwards() {
    let fixture = Fixture::new("run").await;
    let permit = permit(Permission::SchemaWrite);
    let claim = fixture.run(RunKind::Apply, &lease("a")).await;
    let nothing = serde_json::json!({});
    let busy = fixture.store.start_run(&permit, RunKind::Apply, nothing, &[], &lease("b")).await.unwrap_err();
    assert!(matches!(busy, RunError::Busy(live) if live == claim.id), "{busy:?}");
    fixture.run(RunKind::Migrate, &lease("a")).await;
    fixture.store.run_item(&claim, 0, RunState::Done, None, Some(7)).await.unwrap();
    fixture.store.run_item(&claim, 1, RunState::Failed, Some("no"), None).await.unwrap();
    fixture.store.finish_run(&claim, Some("no")).await.unwrap();
    let run = fixture.store.run(claim.id).await.unwrap().unwrap();
    assert_eq!((run.state, run.error.as_deref(), run.finished_at.is_some()), (RunState::Failed, Some("no"), true));
    let told: Vec<_> =
        run.items.iter().map(|item| (item.name.as_str(), item.state, item.detail.as_str(), item.duration_us)).collect();
    assert_eq!(
        told,
        [
            ("a", RunState::Done, "because", Some(7)),
            ("b", RunState::Failed, "no", None),
            ("c", RunState::Waiting, "because", None)
        ]
    );
    assert_eq!(fixture.store.runs(None, Some(1)).await.unwrap().items[0].kind, RunKind::Migrate);
}

#[tokio::test]
async fn nobody_takes_up_a_run_that_is_kept_or_of_a_kind_unknown() {
    let fixture = Fixture::new("run_kept").await;
    let claim = fixture.run(RunKind::Migrate, &lease("a")).await;
    assert!(fixture.store.claim_run(&lease("b")).await.unwrap().is_none(), "the lease has not ended");
    fixture.store.renew_run(&claim, &lost("a")).await.unwrap();
    let mut superuser = fixture.superuser().await;
    let sql = "ALTER TABLE run DROP CONSTRAINT run_kind; UPDATE run SET kind = 'later'";
    sqlx::raw_sql(sql).execute(&mut superuser).await.unwrap();
    assert!(fixture.store.claim_run(&lease("b")).await.unwrap().is_none(), "a newer guardian's run was taken up");
    sqlx::raw_sql("UPDATE run SET kind = 'migrate'").execute(&mut superuser).await.unwrap();
    assert!(fixture.store.claim_run(&lease("b")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_killed_process_s_run_is_taken_up_once_and_its_own_writes_come_to_nothing() {
    let fixture = Fixture::new("run_killed").await;
    let store = &fixture.store;
    let killed = fixture.run(RunKind::Migrate, &lost("a")).await;
    store.run_item(&killed, 0, RunState::Done, Some("did it"), Some(7)).await.unwrap();
    store.run_item(&killed, 1, RunState::Done, None, Some(7)).await.unwrap();

    let (first, second) = (lease("b"), lease("c"));
    let (one, two) = tokio::join!(store.claim_run(&first), store.claim_run(&second));
    let mut taken = [one.unwrap(), two.unwrap()].into_iter().flatten();
    let claim = taken.next().expect("one takes it up");
    assert!(taken.next().is_none(), "two took it up");
    assert_eq!((claim.id, claim.fence, &claim.arguments["parallel"]), (killed.id, 2, &3.into()));

    let fenced = [
        store.run_item(&killed, 2, RunState::Done, None, None).await,
        store.renew_run(&killed, &lease("a")).await,
        store.release_run(&killed).await,
        store.replan_run(&killed, &[]).await.map(drop),
        store.finish_run(&killed, None).await,
        store.interrupt_run(&killed, "").await,
    ];
    for (write, result) in fenced.into_iter().enumerate() {
        assert!(matches!(result, Err(RunClaimError::Fenced(id)) if id == killed.id), "write {write}: {result:?}");
    }

    // `b` was rolled back with its batch, so that the work computed anew names it again.
    assert_eq!(store.replan_run(&claim, &items()[1..]).await.unwrap(), 1);
    store.run_item(&claim, 1, RunState::Done, None, None).await.unwrap();
    store.interrupt_run(&claim, "no more").await.unwrap();
    let run = store.run(claim.id).await.unwrap().unwrap();
    assert_eq!((run.state, run.error.as_deref()), (RunState::Interrupted, Some("no more")));
    let told: Vec<_> = run.items.iter().map(|item| (item.name.as_str(), item.state)).collect();
    assert_eq!(told, [("a", RunState::Done), ("b", RunState::Done), ("c", RunState::Interrupted)]);
    fixture.run(RunKind::Migrate, &lease("a")).await;
}

#[tokio::test]
async fn a_run_that_was_given_back_is_free_at_once() {
    let fixture = Fixture::new("run_back").await;
    let claim = fixture.run(RunKind::Apply, &lease("a")).await;
    fixture.store.release_run(&claim).await.unwrap();
    let again = fixture.store.claim_run(&lease("a")).await.unwrap().unwrap();
    let late = fixture.store.finish_run(&claim, None).await;
    assert!(matches!(late, Err(RunClaimError::Fenced(_))), "the same name does not make it the same claim: {late:?}");
    fixture.store.finish_run(&again, None).await.unwrap();
}

/// The statement is the one of the version before leases.
#[tokio::test]
async fn an_older_guardian_s_run_is_left_alone_for_a_while() {
    let fixture = Fixture::new("run_older").await;
    let mut superuser = fixture.superuser().await;
    let started = "INSERT INTO run (id, kind, requested_by) VALUES (gen_random_uuid(), 'apply', 'an older one')";
    sqlx::query(started).execute(&mut superuser).await.unwrap();
    assert!(fixture.store.claim_run(&lease("a")).await.unwrap().is_none(), "it was taken away at once");
    sqlx::query("UPDATE run SET lease_until = now()").execute(&mut superuser).await.unwrap();
    let claim = fixture.store.claim_run(&lease("a")).await.unwrap().expect("it is free in the end");
    assert_eq!(claim.arguments, serde_json::json!({}));
}
