//! The door across tenants: its roles reach every row, each in its measure, and nobody reaches its roles.

use std::time::Duration;

use guardian_model::{DoorId, KeyType};
use guardian_postgres::quote::ident;
use sqlx::{PgConnection, types::Uuid};

use crate::{
    application::{Application, execute, keys, number, sqlstate},
    forge::seen,
};

const SCHEMA: &str = "
CREATE TABLE note (tenant_id uuid NOT NULL, id bigint GENERATED ALWAYS AS IDENTITY, body text, PRIMARY KEY (tenant_id, id));
CREATE TABLE event (tenant_id uuid NOT NULL, n bigserial) PARTITION BY RANGE (n);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (1000);
CREATE TABLE country (code text PRIMARY KEY);
CREATE VIEW recent AS SELECT * FROM note;
";
const DECLARED: &str = "[application.global]\ncountry = \"the same for all\"\n";
const REFUSED: &str = "42501";

/// With a row of each tenant in each table.
async fn hardened() -> Application {
    let mut app = Application::new(SCHEMA, DECLARED).await;
    app.harden().await;
    app.admit().await;
    for key in keys(KeyType::Uuid) {
        app.execute(&format!(
            "INSERT INTO note (tenant_id, body) VALUES ('{key}', 'a'); INSERT INTO event VALUES ('{key}')"
        ))
        .await;
    }
    app
}

/// A session as Guardian opens it: a role of its own that is a member of the door's.
async fn through(app: &mut Application, parent: &str) -> PgConnection {
    let role: String = sqlx::query_scalar::<_, Uuid>("SELECT gen_random_uuid()")
        .fetch_one(&mut app.admin)
        .await
        .map(|id| DoorId::from_uuid(id).to_string())
        .unwrap();
    app.execute(&format!("CREATE ROLE {role} LOGIN INHERIT IN ROLE {}", ident(parent))).await;
    until(app, &role, "+ 3600").await;
    app.connect_as(&role).await
}

/// Writes down until when the role sees rows, from now.
async fn until(app: &mut Application, role: &str, from_now: &str) {
    let comment = format!(
        "DO $do$ BEGIN EXECUTE format('COMMENT ON ROLE {role} IS %L', extract(epoch FROM clock_timestamp()) {from_now}); END $do$"
    );
    app.execute(&comment).await;
}

#[tokio::test]
async fn a_session_reaches_no_row_when_its_time_is_over_and_cannot_move_its_end() {
    let mut app = hardened().await;
    let (read, write) = (app.declaration.roles.door().to_owned(), app.declaration.roles.door_write().to_owned());
    for parent in [read, write] {
        let mut session = through(&mut app, &parent).await;
        let role = seen(&mut session, "SELECT session_user::text").await;
        until(&mut app, &role, "+ 4").await;
        execute(&mut session, "BEGIN; DECLARE c CURSOR FOR SELECT 1::bigint FROM note").await.unwrap();
        assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 2);
        assert_eq!(number(&mut session, "FETCH 1 FROM c").await.unwrap(), 1);
        while number(&mut session, "SELECT count(*) FROM note").await.unwrap() != 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // Neither a new statement nor one that began in time, nor as the role that it is a member of.
        let rest: Vec<i64> = sqlx::query_scalar("FETCH ALL FROM c").fetch_all(&mut session).await.unwrap();
        assert!(rest.is_empty(), "the cursor reads on");
        execute(&mut session, "COMMIT").await.unwrap();
        for attempt in [
            format!("COMMENT ON ROLE {role} IS '99999999999'"),
            format!("ALTER ROLE {role} VALID UNTIL 'infinity'"),
            "UPDATE pg_shdescription SET description = '99999999999'".to_owned(),
            format!("ALTER POLICY guardian_door ON note TO {role}"),
        ] {
            assert_eq!(sqlstate(&mut session, &attempt).await, REFUSED, "{attempt}");
        }
        let shadow = "CREATE TEMP VIEW pg_roles AS SELECT 1";
        assert_eq!(sqlstate(&mut session, shadow).await, REFUSED);
        execute(&mut session, "SET TimeZone = 'Pacific/Kiritimati'; SET DateStyle = 'German'").await.unwrap();
        execute(&mut session, &format!("SET ROLE {}", ident(&parent))).await.unwrap();
        assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 0);
        execute(&mut session, "RESET ROLE").await.unwrap();
        if parent.ends_with("_write") {
            assert_eq!(
                number(&mut session, "WITH d AS (DELETE FROM note RETURNING 1) SELECT count(*) FROM d").await.unwrap(),
                0
            );
            let key = &keys(KeyType::Uuid)[0];
            let insert = format!("INSERT INTO note (tenant_id, body) VALUES ('{key}', 'late')");
            assert_eq!(sqlstate(&mut session, &insert).await, REFUSED);
        }
        // The same session, given time again by somebody who may: it was the time that held it.
        until(&mut app, &role, "+ 3600").await;
        assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 2);
    }
    assert!(app.plan().await.statements().next().is_none(), "the policies are recognised as they are written back");
}

#[tokio::test]
async fn a_reading_session_sees_every_tenant_and_changes_nothing() {
    let mut app = hardened().await;
    let door = app.declaration.roles.door().to_owned();
    let mut session = through(&mut app, &door).await;
    let mut tables = vec![("note", 2), ("event", 2), ("country", 0)];
    // Before 15 a view reads as its owner, who is asked for a tenant: it stays closed.
    if app.database.server().major() >= 15 {
        tables.push(("recent", 2));
    }
    for (table, rows) in tables {
        assert_eq!(number(&mut session, &format!("SELECT count(*) FROM {table}")).await.unwrap(), rows, "{table}");
    }
    for attempt in [
        "INSERT INTO note (tenant_id, body) SELECT tenant_id, 'x' FROM note",
        "UPDATE note SET body = 'x'",
        "UPDATE recent SET body = 'x'",
        "DELETE FROM event",
        "TRUNCATE note",
        "SELECT nextval('event_n_seq')",
        "SELECT body FROM note FOR UPDATE",
        "SELECT n FROM event_1",
        "CREATE TABLE mine ()",
        "CREATE TEMP TABLE mine ()",
        "SELECT hash FROM guardian.capability",
    ] {
        assert_eq!(sqlstate(&mut session, attempt).await, REFUSED, "{attempt}");
    }
    // Rights, not the setting, make it read-only.
    execute(&mut session, "SET default_transaction_read_only = off").await.unwrap();
    assert_eq!(sqlstate(&mut session, "DELETE FROM note").await, REFUSED);
}

#[tokio::test]
async fn a_writing_session_changes_every_tenants_rows_and_no_table() {
    let mut app = hardened().await;
    let door = app.declaration.roles.door_write().to_owned();
    let mut session = through(&mut app, &door).await;
    execute(&mut session, "UPDATE note SET body = 'mended'").await.unwrap();
    execute(&mut session, "INSERT INTO event (tenant_id) SELECT DISTINCT tenant_id FROM note").await.unwrap();
    assert_eq!(number(&mut session, "SELECT count(*) FROM note WHERE body = 'mended'").await.unwrap(), 2);
    assert_eq!(number(&mut session, "SELECT count(*) FROM event").await.unwrap(), 4);
    for attempt in
        ["TRUNCATE note", "INSERT INTO country VALUES ('XX')", "ALTER TABLE note ADD x int", "CREATE TABLE mine ()"]
    {
        assert_eq!(sqlstate(&mut session, attempt).await, REFUSED, "{attempt}");
    }
    // Which tenant a new row is of, nobody guesses.
    assert!(execute(&mut session, "INSERT INTO note (body) VALUES ('whose?')").await.is_err());
}

#[tokio::test]
async fn a_tenant_does_not_reach_the_door() {
    let mut app = hardened().await;
    let (door, door_write) = (app.declaration.roles.door().to_owned(), app.declaration.roles.door_write().to_owned());
    let mut session = app.enter(0).await;
    for role in [&door, &door_write] {
        for attempt in [
            format!("SET ROLE {role}"),
            format!("SET SESSION AUTHORIZATION {role}"),
            format!("GRANT {role} TO CURRENT_USER"),
            format!("CREATE ROLE mine LOGIN IN ROLE {role}"),
            format!("ALTER POLICY guardian_door ON note TO {}_app", app.name),
        ] {
            let code = sqlstate(&mut session, &attempt).await;
            assert!([REFUSED, "22023"].contains(&code.as_str()), "{attempt}: {code}");
        }
    }
    assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 1, "its own row");
    // Were it a member by mistake, the restrictive policy still holds as long as it stays itself; the plan takes it away.
    app.execute(&format!("GRANT {door} TO {}_app", app.name)).await;
    let mut session = app.enter(0).await;
    assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 1, "its own row");
    // As the door's role it is held by the time, which is none: it came through no door.
    execute(&mut session, &format!("SET ROLE {door}")).await.unwrap();
    assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 0);
    let own = format!("{}_app", app.name);
    until(&mut app, &own, "+ 3600").await;
    assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 2, "nothing else held it");
    app.execute(&format!("COMMENT ON ROLE {own} IS NULL")).await;
    app.harden().await;
    let mut session = app.enter(0).await;
    assert_eq!(sqlstate(&mut session, &format!("SET ROLE {door}")).await, REFUSED);
}

#[tokio::test]
async fn a_new_table_is_behind_the_door_only_after_apply() {
    let mut app = hardened().await;
    let door = app.declaration.roles.door().to_owned();
    let mut session = through(&mut app, &door).await;
    app.execute("CREATE TABLE late (tenant_id uuid NOT NULL)").await;
    assert_eq!(sqlstate(&mut session, "SELECT * FROM late").await, REFUSED);
    app.harden().await;
    assert_eq!(number(&mut session, "SELECT count(*) FROM late").await.unwrap(), 0);
}

#[tokio::test]
async fn others_than_the_application_see_no_rows_and_an_owner_is_told_why() {
    let mut app = Application::new("", "").await;
    let owner = format!("{}_owner", app.name);
    app.execute(&format!("CREATE ROLE {owner} LOGIN; GRANT CREATE ON SCHEMA public TO {owner}")).await;
    let mut session = app.connect_as(&owner).await;
    execute(&mut session, "CREATE TABLE note (tenant_id uuid NOT NULL, body text)").await.unwrap();
    app.execute(&format!("INSERT INTO note VALUES ('{}', 'a')", keys(KeyType::Uuid)[0])).await;
    app.harden().await;
    // Invalid input for the type uuid: there is no tenant.
    assert_eq!(sqlstate(&mut session, "SELECT body FROM note").await, "22P02");
    let reporter = format!("{}_reporter", app.name);
    app.execute(&format!("CREATE ROLE {reporter} LOGIN; GRANT SELECT ON note TO {reporter}")).await;
    let mut session = app.connect_as(&reporter).await;
    assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 0);
}
