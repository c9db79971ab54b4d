//! How a hardening runs: on a busy database, and after an interruption at any point.

use std::time::Duration;

use guardian_postgres::{ApplyError, StatementEvent, apply, harden::Hardening, plan};
use guardian_testkit::TestDatabase;

use crate::application::{Application, execute, number};

/// After any number of batches, the next plan finishes the work.
#[tokio::test]
async fn an_interrupted_apply_is_finished_by_the_next() {
    let mut whole = Application::of(TestDatabase::helpdesk().await, crate::helpdesk::DECIDED).await;
    let batches = whole.plan().await.batches.len();
    for done in (0..batches).step_by(7) {
        let mut app = Application::of(TestDatabase::helpdesk().await, crate::helpdesk::DECIDED).await;
        let hardening = app.plan().await;
        let part = Hardening { batches: hardening.batches[..done].to_vec(), ..hardening };
        apply(&mut app.admin, &part, &mut |_, _, _| {}).await.unwrap();
        app.harden().await;
    }
}

#[tokio::test]
async fn a_lock_that_is_taken_is_waited_for_and_tried_again() {
    let mut app = Application::new("CREATE TABLE note (tenant_id uuid NOT NULL)", "").await;
    let hardening = app.plan().await;
    let mut writer = app.database.connect().await;
    execute(&mut writer, "BEGIN; LOCK TABLE public.note IN ACCESS SHARE MODE").await.unwrap();
    let release = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        execute(&mut writer, "COMMIT").await.unwrap();
    });
    let mut retries = 0;
    apply(&mut app.admin, &hardening, &mut |_, _, event| {
        retries += u32::from(matches!(event, StatementEvent::Retrying { .. }));
    })
    .await
    .unwrap();
    release.await.unwrap();
    assert!(retries > 0, "it did not meet the lock");
    assert!(app.plan().await.is_clean());
}

#[tokio::test]
async fn what_a_failed_concurrent_build_left_is_built_again() {
    let schema = "CREATE TABLE t (tenant_id uuid NOT NULL, id int CONSTRAINT t_id UNIQUE);
        INSERT INTO t SELECT gen_random_uuid(), 1";
    let mut app = Application::new(schema, "keys = { t_id = \"composite\" }").await;
    // A build that finds a duplicate leaves an invalid index of the name that apply is about to use.
    let mut other = app.database.options();
    other = other.options([("search_path", "public")]);
    let mut other = sqlx::ConnectOptions::connect(&other).await.unwrap();
    execute(&mut other, "CREATE TABLE twice (tenant_id uuid, id int); INSERT INTO twice VALUES (NULL, 1), (NULL, 1)")
        .await
        .unwrap();
    execute(&mut other, "DROP TABLE twice; ALTER TABLE t DROP CONSTRAINT t_id; INSERT INTO t SELECT tenant_id, 1 FROM t")
        .await
        .unwrap();
    execute(&mut other, "CREATE UNIQUE INDEX CONCURRENTLY t_id_guardian ON t (tenant_id, id)").await.unwrap_err();
    execute(&mut other, "DELETE FROM t; ALTER TABLE t ADD CONSTRAINT t_id UNIQUE (id)").await.unwrap();
    let invalid = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
    assert_eq!(number(&mut other, invalid).await.unwrap(), 1);
    app.harden().await;
    assert_eq!(number(&mut other, invalid).await.unwrap(), 0);
}

#[tokio::test]
async fn two_runs_do_not_meet() {
    let mut app = Application::new("CREATE TABLE note (tenant_id uuid NOT NULL)", "").await;
    let hardening = app.plan().await;
    let mut writer = app.database.connect().await;
    execute(&mut writer, "BEGIN; LOCK TABLE public.note IN ACCESS SHARE MODE").await.unwrap();
    let mut second = app.database.connect().await;
    let mut silent = |_, _: &_, _| {};
    let mut first = Box::pin(apply(&mut app.admin, &hardening, &mut silent));
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut first).await.is_err(), "it waits for the lock");
    let error = apply(&mut second, &hardening, &mut |_, _, _| {}).await.unwrap_err();
    assert!(matches!(error, ApplyError::Busy), "{error}");
    execute(&mut writer, "COMMIT").await.unwrap();
    first.await.unwrap();
}

#[tokio::test]
async fn a_failure_names_the_object_and_leaves_the_batch_undone() {
    let mut app = Application::new("CREATE TABLE note (tenant_id uuid NOT NULL)", "").await;
    let facts = guardian_postgres::collect(&mut app.admin, &app.declaration).await.unwrap();
    let hardening = plan(&facts, &app.declaration);
    app.execute("DROP TABLE note").await;
    let error = apply(&mut app.admin, &hardening, &mut |_, _, _| {}).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot change public.note with `"), "{error}");
    app.harden().await;
}

/// The file that `plan --out` writes does the same as `apply`.
#[tokio::test]
async fn the_script_runs_by_itself() {
    let mut app = Application::of(TestDatabase::helpdesk().await, crate::helpdesk::DECIDED).await;
    let script = app.plan().await.script();
    let mut child = tokio::process::Command::new("psql")
        .args(["-X", "-q", "-f", "-", &app.database.url()])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut child.stdin.take().unwrap(), script.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(app.plan().await.is_clean());
}
