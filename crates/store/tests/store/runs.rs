use guardian_model::{
    Permission,
    api::{RunKind, RunState},
};
use guardian_store::RunError;

use crate::fixture::{Fixture, permit};

fn items() -> Vec<(String, String)> {
    ["a", "b", "c"].map(|name| (name.to_owned(), "because".to_owned())).to_vec()
}

#[tokio::test]
async fn a_run_can_be_watched_and_read_afterwards() {
    let fixture = Fixture::new("run").await;
    let permit = permit(Permission::SchemaWrite);
    let id = fixture.store.start_run(&permit, RunKind::Apply, &items()).await.unwrap();
    let busy = fixture.store.start_run(&permit, RunKind::Apply, &[]).await.unwrap_err();
    assert!(matches!(busy, RunError::Busy(live) if live == id), "{busy:?}");
    fixture.store.start_run(&permit, RunKind::Migrate, &[]).await.unwrap();
    fixture.store.run_item(id, 0, RunState::Done, None, Some(7)).await.unwrap();
    fixture.store.run_item(id, 1, RunState::Failed, Some("no"), None).await.unwrap();
    fixture.store.finish_run(id, Some("no")).await.unwrap();
    let run = fixture.store.run(id).await.unwrap().unwrap();
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
async fn a_killed_process_s_runs_are_interrupted() {
    let fixture = Fixture::new("run_killed").await;
    let permit = permit(Permission::SchemaWrite);
    let id = fixture.store.start_run(&permit, RunKind::Migrate, &items()).await.unwrap();
    fixture.store.run_item(id, 0, RunState::Done, None, Some(7)).await.unwrap();
    assert_eq!(fixture.store.interrupt_runs().await.unwrap(), 1);
    let run = fixture.store.run(id).await.unwrap().unwrap();
    assert_eq!(run.state, RunState::Interrupted);
    let states: Vec<_> = run.items.iter().map(|item| item.state).collect();
    assert_eq!(states, [RunState::Done, RunState::Interrupted, RunState::Interrupted]);
    fixture.store.start_run(&permit, RunKind::Migrate, &items()).await.unwrap();
}
