//! A place of one tenant's own: its role does what the application does, and nothing beside it.

use guardian_model::{KeyType, TenantKey};
use guardian_postgres::{collect_place, grant_place};

use crate::{
    application::{Application, execute, keys, number},
    forge::seen,
};

const TABLES: &str = "
CREATE TABLE note (tenant_id uuid NOT NULL, id bigserial PRIMARY KEY, body text);
CREATE TABLE country (code text PRIMARY KEY); INSERT INTO country VALUES ('AT');
CREATE TABLE person (password text);
CREATE TABLE counter (n int); INSERT INTO counter VALUES (0);
CREATE VIEW recent AS SELECT * FROM note;
CREATE MATERIALIZED VIEW daily AS SELECT count(*) AS notes FROM note;
CREATE FUNCTION bump() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'UPDATE counter SET n = n + 1 RETURNING n';
";

/// Applies what the place's role lacks, and says what that was.
async fn granted(app: &mut Application, schema: &str, role: &str, key: &TenantKey) -> Vec<String> {
    let facts = collect_place(&mut app.admin, &app.declaration, schema, role).await.unwrap();
    let statements: Vec<_> = grant_place(&facts, &app.declaration, key).into_iter().map(|found| found.sql).collect();
    for statement in &statements {
        app.execute(statement).await;
    }
    statements
}

#[tokio::test]
async fn a_schema_of_its_own() {
    let mut app = Application::new("", "global = { country = \"ISO\" }\nclosed = { person = \"passwords\" }").await;
    let [a, b] = keys(KeyType::Uuid);
    for (schema, key) in [("ten_a", &a), ("ten_b", &b)] {
        let role = format!("{}_{schema}", app.name);
        app.execute(&format!(
            "CREATE SCHEMA {schema}; SET search_path = {schema}; {TABLES}; RESET search_path; CREATE ROLE {role} LOGIN"
        ))
        .await;
        assert!(!granted(&mut app, schema, &role, key).await.is_empty());
        assert_eq!(granted(&mut app, schema, &role, key).await, Vec::<String>::new());
        // What PUBLIC was given since is taken back, and what the role lost or got is as it was.
        app.execute(&format!(
            "SET search_path = {schema}; GRANT SELECT ON note TO PUBLIC; GRANT SELECT ON person TO {role}; GRANT SELECT (body) ON note TO PUBLIC; \
             GRANT TRUNCATE, INSERT ON country TO {role}; GRANT UPDATE (code) ON country TO {role}; REVOKE SELECT ON recent FROM {role}; \
             GRANT CREATE ON SCHEMA {schema} TO {role}; GRANT EXECUTE ON FUNCTION bump() TO PUBLIC; RESET search_path"
        ))
        .await;
        assert_eq!(granted(&mut app, schema, &role, key).await.len(), 7);
        assert_eq!(granted(&mut app, schema, &role, key).await, Vec::<String>::new());
    }
    let role = format!("{}_ten_a", app.name);
    let mut session = app.connect_as(&role).await;
    execute(&mut session, "SET search_path = ten_a; INSERT INTO note (body) VALUES ('mine')").await.unwrap();
    assert_eq!(number(&mut session, "SELECT count(*) FROM recent").await.unwrap(), 1);
    assert_eq!(number(&mut session, "SELECT notes FROM daily").await.unwrap(), 0);
    assert_eq!(number(&mut session, "SELECT bump()::int8").await.unwrap(), 1);
    let tenant = crate::application::text(&mut app.admin, "SELECT tenant_id::text FROM ten_a.note").await.unwrap();
    assert_eq!(tenant, Some(a.to_string()));
    for refused in [
        "SELECT body FROM ten_b.note",
        "SELECT ten_b.bump()",
        "SET search_path = ten_b, ten_a; SELECT ten_a.bump() FROM ten_b.counter",
        "INSERT INTO country VALUES ('XX')",
        "SELECT password FROM person",
        "TRUNCATE note",
        "CREATE TABLE mine ()",
        "CREATE TEMP TABLE mine ()",
        "CREATE TRIGGER spy BEFORE UPDATE ON note FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "ALTER TABLE note ADD COLUMN x int",
        "DROP TABLE note",
    ] {
        let shown = seen(&mut session, refused).await;
        let closed = ["permission denied", "must be owner", "does not exist"];
        assert!(closed.iter().any(|words| shown.contains(words)), "{refused}: {shown}");
        execute(&mut session, "SET search_path = ten_a").await.unwrap();
    }
    // A function with its owner's rights would have followed this search path into the other place.
    let _ = seen(&mut session, "SET search_path = ten_b; SELECT ten_a.bump()").await;
    assert_eq!(number(&mut app.admin, "SELECT n::int8 FROM ten_b.counter").await.unwrap(), 0);
}
