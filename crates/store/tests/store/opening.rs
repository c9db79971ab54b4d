use guardian_model::{
    AdoptionStage, Isolation, OperationKind, OperationState, Role, TenantState,
    api::{RunKind, RunState},
};
use guardian_store::{OpenError, Outcome, Store, Vault};

use crate::fixture::Fixture;

#[tokio::test]
async fn a_second_start_finds_everything_and_a_newer_database_is_refused() {
    let fixture = Fixture::new("open").await;
    let again = Store::open(fixture.database.options(), fixture.vault.clone()).await.unwrap();
    assert_eq!(again.tiers().await.unwrap().len(), 3);
    let mut connection = fixture.superuser().await;
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, '', true, '', 0)")
        .execute(&mut connection)
        .await
        .unwrap();
    let refused = Store::open(fixture.database.options(), fixture.vault.clone()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { version: 9999 }), "{refused:?}");
    assert!(refused.to_string().contains("newer version"), "{refused}");
}

#[tokio::test]
async fn a_wrong_master_key_is_refused() {
    let fixture = Fixture::new("open_key").await;
    let (other, _) = Vault::generate().unwrap();
    let refused = Store::open(fixture.database.options(), other).await.unwrap_err();
    assert!(matches!(refused, OpenError::WrongKey), "{refused:?}");
}

#[tokio::test]
async fn two_processes_may_start_at_once() {
    let database = guardian_testkit::Server::shared().database("open_race").await;
    let (vault, _) = Vault::generate().unwrap();
    let open = || tokio::spawn(Store::open(database.options(), vault.clone()));
    let opening = [open(), open(), open()];
    for store in opening {
        store.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn connections_say_whose_they_are_and_do_not_run_for_ever() {
    let fixture = Fixture::new("open_pool").await;
    fixture.store.ping().await.unwrap();
    let mut connection = fixture.superuser().await;
    let pid: Vec<String> = sqlx::query_scalar(
        "SELECT DISTINCT application_name FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(pid, ["guardian"]);
}

/// The words of a column's CHECK, out of the catalogue.
async fn words(fixture: &Fixture, constraint: &str) -> Vec<String> {
    let mut connection = fixture.superuser().await;
    let definition: String = sqlx::query_scalar("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = $1")
        .bind(constraint)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let mut words: Vec<_> = definition.split('\'').skip(1).step_by(2).map(ToOwned::to_owned).collect();
    words.sort();
    words
}

#[tokio::test]
async fn the_database_knows_the_same_words_as_the_types() {
    let fixture = Fixture::new("open_words").await;
    let check = async |constraint: &str, mut expected: Vec<&str>| {
        expected.sort_unstable();
        assert_eq!(words(&fixture, constraint).await, expected, "{constraint}");
    };
    check("tenant_state", TenantState::ALL.map(TenantState::as_str).to_vec()).await;
    check("operation_state_before", TenantState::ALL.map(TenantState::as_str).to_vec()).await;
    check("tenant_isolation", Isolation::ALL.map(Isolation::as_str).to_vec()).await;
    check("tier_isolation", Isolation::ALL.map(Isolation::as_str).to_vec()).await;
    check("operation_kind", OperationKind::ALL.map(OperationKind::as_str).to_vec()).await;
    check("operation_state", OperationState::ALL.map(OperationState::as_str).to_vec()).await;
    check("token_role", Role::ALL.map(Role::as_str).to_vec()).await;
    check("run_kind", RunKind::ALL.map(RunKind::as_str).to_vec()).await;
    check("application_stage", AdoptionStage::ALL.map(AdoptionStage::as_str).to_vec()).await;
    check("run_item_state", RunState::ALL.map(RunState::as_str).to_vec()).await;
    check("audit_outcome", Outcome::ALL.map(Outcome::as_str).to_vec()).await;
    // A run as a whole never waits.
    let begun = RunState::ALL.into_iter().filter(|state| *state != RunState::Waiting);
    check("run_state", begun.map(RunState::as_str).collect()).await;
}

#[tokio::test]
async fn live_states_in_the_index_are_those_of_the_type() {
    let fixture = Fixture::new("open_live").await;
    let mut connection = fixture.superuser().await;
    let definition: String = sqlx::query_scalar(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'guardian_store' AND indexname = 'operation_live'",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    for state in OperationState::ALL {
        assert_eq!(definition.contains(&format!("'{}'", state.as_str())), state.is_live(), "{definition}");
    }
}
