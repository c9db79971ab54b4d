//! Leaving Guardian: nothing of it is left, ordinary policies hold, and a later `apply` finds its way back.

use guardian_postgres::{Hardening, Mechanism, apply, collect, eject};
use guardian_testkit::{Server, TestDatabase};

use crate::application::{Application, execute, keys, number, sqlstate};

async fn plan(app: &mut Application) -> Hardening {
    let sessions = eject::session_roles(&mut app.admin, &app.declaration).await.unwrap();
    let facts = collect(&mut app.admin, &app.declaration).await.unwrap();
    eject::plan(&facts, &app.declaration, &sessions)
}

async fn leave(app: &mut Application) -> Hardening {
    let ejection = plan(app).await;
    apply(&mut app.admin, &ejection, &mut |_, _, _| {})
        .await
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)));
    let again = plan(app).await;
    assert!(again.batches.is_empty(), "not idempotent: {:#?}", again.batches);
    ejection
}

/// What the catalogs have that bears Guardian's name, or asks for its context.
const TRACES: &str = "
    SELECT count(*) FROM (
        SELECT nspname::text AS trace FROM pg_namespace
        UNION ALL SELECT relname FROM pg_class
        UNION ALL SELECT conname FROM pg_constraint
        UNION ALL SELECT proname FROM pg_proc
        UNION ALL SELECT prosrc FROM pg_proc WHERE pronamespace <> 'pg_catalog'::regnamespace
        UNION ALL SELECT polname FROM pg_policy
        UNION ALL SELECT pg_get_expr(polqual, polrelid) FROM pg_policy
        UNION ALL SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
    ) AS traces WHERE trace LIKE '%guardian%' OR trace LIKE '%backtrace_functions%'";

async fn is_left_and_comes_back(mut app: Application) {
    assert!(plan(&mut app).await.batches.is_empty(), "there is nothing of Guardian yet");
    app.harden().await;
    app.admit().await;
    let ticket = "SELECT 'tkt_' || substr(md5(random()::text), 1, 26)";
    let ticket = crate::application::text(&mut app.admin, ticket).await.unwrap().unwrap();
    app.execute(&format!("CREATE ROLE {ticket} LOGIN IN ROLE {}", app.declaration.roles.app())).await;
    let door = ticket.replace("tkt_", "door_");
    app.execute(&format!("CREATE ROLE {door} LOGIN IN ROLE {}", app.declaration.roles.door())).await;
    let [one, two] = keys(app.declaration.tenant_key);
    let mut tenant = app.enter(0).await;
    execute(&mut tenant, "INSERT INTO tag (name) VALUES ('mine')").await.unwrap();
    drop(tenant);
    assert!(number(&mut app.admin, TRACES).await.unwrap() > 0, "the search finds nothing");
    let rows = number(&mut app.admin, "SELECT count(*) FROM public.tag").await.unwrap();

    let ejection = leave(&mut app).await;
    assert!(ejection.notes.iter().any(|note| note.text.contains("any SQL can set it")), "{:#?}", ejection.notes);
    assert_eq!(number(&mut app.admin, TRACES).await.unwrap(), 0);
    assert_eq!(number(&mut app.admin, "SELECT count(*) FROM public.tag").await.unwrap(), rows, "rows were touched");
    let roles = app.declaration.roles.clone();
    let mut gone = vec![ticket.as_str(), &door];
    gone.extend([roles.enter(), roles.registry(), roles.door(), roles.door_write()]);
    let gone = gone.join("', '");
    let left = format!("SELECT count(*) FROM pg_roles WHERE rolname IN ('{gone}')");
    assert_eq!(number(&mut app.admin, &left).await.unwrap(), 0);

    // Ordinary isolation, for a session that is honest.
    let mut session = app.connect().await;
    assert_eq!(number(&mut session, "SELECT count(*) FROM tag").await.unwrap(), 0, "rows without a tenant");
    assert_eq!(sqlstate(&mut session, "INSERT INTO tag (name) VALUES ('nobody''s')").await, "42501");
    execute(&mut session, &format!("SET app.tenant_id = '{one}'")).await.unwrap();
    assert_eq!(number(&mut session, "SELECT count(*) FROM tag WHERE name = 'mine'").await.unwrap(), 1);
    execute(&mut session, &format!("SET app.tenant_id = '{two}'")).await.unwrap();
    assert_eq!(number(&mut session, "SELECT count(*) FROM tag WHERE name = 'mine'").await.unwrap(), 0);
    execute(&mut session, "INSERT INTO tag (name) VALUES ('theirs')").await.unwrap();
    let other = format!("INSERT INTO tag (tenant_id, name) VALUES ('{one}', 'forged')");
    assert_eq!(sqlstate(&mut session, &other).await, "42501");
    drop(session);

    app.harden().await;
    app.admit().await;
    let mut back = app.enter(1).await;
    assert_eq!(number(&mut back, "SELECT count(*) FROM tag WHERE name = 'theirs'").await.unwrap(), 1);
    assert_eq!(number(&mut back, "SELECT count(*) FROM tag WHERE name = 'mine'").await.unwrap(), 0);
    execute(&mut back, &format!("SET app.tenant_id = '{one}'")).await.unwrap();
    assert_eq!(number(&mut back, "SELECT count(*) FROM tag WHERE name = 'mine'").await.unwrap(), 0, "the old setting opens");
}

const TAGS: &str = "CREATE TABLE tag (tenant_id KEY NOT NULL, name text NOT NULL, PRIMARY KEY (tenant_id, name))";

#[tokio::test]
async fn a_database_is_left_and_comes_back() {
    is_left_and_comes_back(Application::of(TestDatabase::helpdesk().await, crate::helpdesk::DECIDED).await).await;
}

#[tokio::test]
async fn old_and_new_servers_are_left() {
    if let Some(server) = Server::of_version(18) {
        is_left_and_comes_back(Application::of(server.helpdesk().await, crate::helpdesk::DECIDED).await).await;
    }
    // The helpdesk needs 15.
    if let Some(server) = Server::of_version(13) {
        is_left_and_comes_back(Application::on(&server, &TAGS.replace("KEY N", "uuid N"), "").await).await;
    }
}

#[tokio::test]
async fn every_mechanism_and_type_of_key_is_left() {
    for (key_type, column) in [("text", "text"), ("bigint", "bigint")] {
        let declared = format!("tenant_key = \"{key_type}\"");
        let app = Application::new(&TAGS.replace("KEY N", &format!("{column} N")), &declared).await;
        let app = if key_type == "text" { app.force(Mechanism::CapabilityLookup) } else { app };
        is_left_and_comes_back(app).await;
    }
}

#[tokio::test]
async fn policies_of_the_application_open_nothing_afterwards() {
    let schema = "CREATE TABLE note (tenant_id bigint NOT NULL, body text);
        ALTER TABLE note ENABLE ROW LEVEL SECURITY;
        CREATE POLICY everybody ON note USING (true)";
    let mut app = Application::new(schema, "tenant_key = \"bigint\"").await;
    app.harden().await;
    app.execute("INSERT INTO note VALUES (1, 'a'), (2, 'b')").await;
    leave(&mut app).await;
    let mut session = app.connect().await;
    assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 0);
    execute(&mut session, "SET app.tenant_id = '2'").await.unwrap();
    assert_eq!(number(&mut session, "SELECT count(*) FROM note").await.unwrap(), 1);
}

#[tokio::test]
async fn what_hangs_on_guardian_is_named_and_not_dropped() {
    let mut app = Application::of(TestDatabase::helpdesk().await, crate::helpdesk::DECIDED).await;
    app.harden().await;
    app.execute("CREATE VIEW public.tenants_known AS SELECT count(*) FROM guardian.capability").await;
    let ejection = plan(&mut app).await;
    let error = apply(&mut app.admin, &ejection, &mut |_, _, _| {}).await.unwrap_err();
    let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(source.contains("depend"), "{error}: {source}");
    app.execute("DROP VIEW public.tenants_known").await;
    leave(&mut app).await;
}
