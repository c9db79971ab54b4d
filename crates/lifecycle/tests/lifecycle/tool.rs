//! Logins of a user's own migration tool: what they own, how they end, and whom they are refused to.

use guardian_lifecycle::LifecycleError;
use guardian_model::{
    Isolation, Permission, Tenant, TenantState, ToolLoginId,
    placement::{ApplicationRoles, migrator_of},
    tool::ToolLogin,
};
use guardian_store::{AuditFilter, StoreError};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, postgres::PgConnectOptions, types::Uuid};
use tokio::time::{Duration, Instant, sleep};

use super::{House, Workers, count, house::permit, permit_to};

async fn open(house: &House, tenant: Option<&Tenant>) -> ToolLogin {
    let opened = house.lifecycle("api").open_for_tool(&permit_to(Permission::SchemaWrite), tenant.cloned()).await;
    opened.unwrap_or_else(|error| panic!("{error}"))
}

async fn close(house: &House, login: &ToolLogin, exit_status: Option<i32>) {
    house.lifecycle("api").close_for_tool(&permit_to(Permission::SchemaWrite), login.id, exit_status).await.unwrap();
}

/// As a tool connects that knows nothing of Guardian.
fn way_in(house: &House, login: &ToolLogin) -> PgConnectOptions {
    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(house.server.port());
    options.username(&login.user).password(&login.password).database(&login.database)
}

async fn session(house: &House, login: &ToolLogin) -> PgConnection {
    way_in(house, login).connect().await.unwrap()
}

async fn run(session: &mut PgConnection, sql: &str) -> Result<(), String> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(session).await.map(drop).map_err(|error| error.to_string())
}

async fn text(session: &mut PgConnection, sql: &str) -> String {
    sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
        .fetch_one(session)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// How often the audit log has each of what is done with logins.
async fn entries(house: &House, action: &str, outcome: &str) -> usize {
    let filter = AuditFilter { action: Some(action.to_owned()), ..AuditFilter::default() };
    let page = house.store.audit_entries(&filter, None, Some(100)).await.unwrap();
    page.items.iter().filter(|entry| entry.outcome == outcome).count()
}

async fn role_is_gone(house: &House, login: &ToolLogin) -> bool {
    count(house, &format!("SELECT count(*) FROM pg_roles WHERE rolname = '{}'", login.user)).await == 0
}

/// The owner of a table, wherever it is in the login's database.
const OWNER: &str = "SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE oid = to_regclass('made')";

#[tokio::test]
async fn a_tool_owns_its_place_and_nothing_else() {
    let house = House::hardened().await;
    let (row, schema) = (house.create(Isolation::Row).await, house.create(Isolation::Schema).await);
    let (other, database) = (house.create(Isolation::Schema).await, house.create(Isolation::Database).await);
    let application = ApplicationRoles::of(&house.config.application.name);
    let shared_schema = house.config.shared_place().schema;
    for tenant in [None, Some(&schema), Some(&database)] {
        let migrator = tenant.map_or(application.migrator.clone(), |tenant| migrator_of(&tenant.placement.role));
        let login = open(&house, tenant).await;
        let mut tool = session(&house, &login).await;
        assert_eq!(text(&mut tool, "SELECT current_user::text").await, migrator);

        // It makes and changes what lies here, whoever made it.
        run(&mut tool, "CREATE TABLE made (tenant_id uuid, n int); ALTER TABLE note ADD COLUMN more int").await.unwrap();
        run(&mut tool, "CREATE INDEX CONCURRENTLY note_more ON note (more)").await.unwrap();
        run(&mut tool, "UPDATE note SET more = 1").await.unwrap();
        run(
            &mut tool,
            "DROP TABLE IF EXISTS gone; ALTER TABLE reply DROP COLUMN body; ALTER TABLE reply ADD COLUMN body text",
        )
        .await
        .unwrap();
        assert_eq!(text(&mut tool, OWNER).await, migrator);
        let rows = text(&mut tool, "SELECT count(*)::text FROM note WHERE more = 1").await;
        assert_eq!(rows, "1", "the rows of a place are there to be changed: {migrator}");

        // Leaving the role, however that is done, leads back to it or to nothing.
        run(&mut tool, "RESET ROLE; RESET ALL; CREATE TABLE again (n int)").await.unwrap();
        for way_out in ["SET ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT", "DISCARD ALL"] {
            let mut tool = session(&house, &login).await;
            run(&mut tool, way_out).await.unwrap();
            if text(&mut tool, "SELECT current_user::text").await != migrator {
                let made = run(&mut tool, &format!("CREATE TABLE {}.stray (n int)", login.schema)).await;
                assert!(made.is_err(), "{way_out} made a table that is the login's own");
            }
        }

        // And nothing beyond.
        let (own, its) = (&login.user, &other.placement);
        let beyond = [
            format!("CREATE TABLE {}.stray (n int)", its.place.schema),
            format!("SELECT count(*) FROM {}.note", its.place.schema),
            format!("SET ROLE {}", its.role),
            format!("SET ROLE {}", migrator_of(&its.role)),
            format!("SET ROLE {}", application.app),
            "SET SESSION AUTHORIZATION postgres".to_owned(),
            "CREATE ROLE stray".to_owned(),
            format!("CREATE DATABASE stray_{}", Uuid::now_v7().simple()),
            format!("ALTER ROLE {own} VALID UNTIL 'infinity'"),
            format!("ALTER ROLE {own} CREATEROLE"),
            format!("SET ROLE NONE; ALTER ROLE {own} VALID UNTIL 'infinity'"),
            format!("GRANT {migrator} TO {}", application.app),
            "SELECT pg_read_file('postgresql.conf')".to_owned(),
            "COPY note TO PROGRAM 'true'".to_owned(),
            "SELECT count(*) FROM guardian.capability".to_owned(),
            "DELETE FROM guardian.migration".to_owned(),
            "SET session_replication_role = replica".to_owned(),
        ];
        let in_shared = [format!("SELECT count(*) FROM {shared_schema}.note"), format!("DROP TABLE {shared_schema}.note")];
        for sql in beyond.iter().chain(in_shared.iter().filter(|_| tenant.is_some_and(|own| own.id == schema.id))) {
            let done = run(&mut session(&house, &login).await, sql).await;
            assert!(done.is_err(), "{migrator} was let do: {sql}");
        }

        // What a session can leave behind keeps no login from being dropped.
        // Hardening takes large objects from everybody, where it has been.
        run(&mut session(&house, &login).await, "SET ROLE NONE; SELECT lo_create(0)").await.ok();
        let leavings = format!(
            "GRANT ALL ON made TO {own} WITH GRANT OPTION; SET ROLE NONE; \
             ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC"
        );
        run(&mut session(&house, &login).await, &leavings).await.unwrap();
        run(&mut tool, "BEGIN; LOCK TABLE note").await.unwrap();
        close(&house, &login, Some(0)).await;
        assert!(role_is_gone(&house, &login).await, "{migrator}");
        assert!(run(&mut tool, "SELECT 1").await.is_err(), "the session outlived its login");
        assert!(way_in(&house, &login).connect().await.is_err(), "the password still opens");
        if let Some(tenant) = tenant {
            let mut bound = house.enter(tenant).await;
            run(&mut bound, "INSERT INTO made (n) VALUES (7)").await.expect("what is new is granted");
            house.use_it(tenant).await;
        }
    }
    // The shared place waits for `apply`.
    let refused = run(&mut house.enter(&row).await, "SELECT count(*) FROM made").await.unwrap_err();
    assert!(refused.contains("permission denied"), "{refused}");
    assert_eq!(
        (entries(&house, "migration.open", "allowed").await, entries(&house, "migration.close", "done").await),
        (3, 3)
    );
}

#[tokio::test]
async fn a_login_that_nobody_renews_ends_with_its_sessions() {
    let house = House::hardened().await;
    let tenant = house.create(Isolation::Schema).await;
    let (lifecycle, permit) = (house.lifecycle("api"), permit_to(Permission::SchemaWrite));
    let login = open(&house, Some(&tenant)).await;
    let mut tool = session(&house, &login).await;
    let busy = lifecycle.open_for_tool(&permit, Some(tenant.clone())).await.map(drop).unwrap_err();
    assert!(matches!(&busy, LifecycleError::ToolBusy { opened_by, .. } if opened_by == "system:test"), "{busy}");
    open(&house, None).await;
    let until = format!("SELECT rolvaliduntil::text FROM pg_roles WHERE rolname = '{}'", login.user);
    let first = text(&mut house.admin().await, &until).await;
    lifecycle.renew_for_tool(&permit, login.id).await.unwrap();
    assert!(text(&mut house.admin().await, &until).await > first, "the password works on");
    assert_eq!(entries(&house, "migration.renew", "allowed").await, 1);

    // The command line was killed; the tool goes on.
    run(&mut tool, "BEGIN; CREATE TABLE half (n int)").await.unwrap();
    let mut control = house.control.connect().await;
    let expire = "UPDATE guardian_store.tool_login SET expires_at = now()";
    run(&mut control, expire).await.unwrap();
    let late = lifecycle.renew_for_tool(&permit, login.id).await.unwrap_err();
    assert!(matches!(late, LifecycleError::NoToolLogin(_)), "{late}");
    let workers = Workers::start(house.lifecycle("worker"));
    let begun = Instant::now();
    while house.store.tool_login(login.id).await.unwrap().is_some() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the login stays");
        sleep(Duration::from_millis(20)).await;
    }
    workers.stop().await;
    assert!(role_is_gone(&house, &login).await);
    assert!(run(&mut tool, "COMMIT").await.is_err(), "the session outlived its login");
    assert_eq!(count(&house, "SELECT count(*) FROM pg_class WHERE relname = 'half'").await, 0);
    let closed = lifecycle.close_for_tool(&permit, login.id, Some(0)).await.unwrap_err();
    assert!(matches!(closed, LifecycleError::NoToolLogin(_)), "{closed}");

    // Whoever comes next need not wait for the reaper.
    let login = open(&house, Some(&tenant)).await;
    let mut tool = session(&house, &login).await;
    run(&mut control, expire).await.unwrap();
    let next = open(&house, Some(&tenant)).await;
    assert!(role_is_gone(&house, &login).await && run(&mut tool, "SELECT 1").await.is_err());
    close(&house, &next, None).await;
    assert_eq!(entries(&house, "migration.close", "failed").await, 4, "each end is told once");
}

#[tokio::test]
async fn a_place_that_is_not_to_be_migrated_is_refused() {
    let house = House::hardened().await;
    let (lifecycle, permit) = (house.lifecycle("api"), permit_to(Permission::SchemaWrite));
    let refusal = async |tenant: Option<&Tenant>| {
        lifecycle.open_for_tool(&permit, tenant.cloned()).await.map(drop).unwrap_err().to_string()
    };
    let row = house.create(Isolation::Row).await;
    assert!(refusal(Some(&row)).await.contains("has no place of its own"));
    let wrong = lifecycle.open_for_tool(&permit_to(Permission::TenantWrite), None).await.map(drop).unwrap_err();
    assert!(matches!(wrong, LifecycleError::Store(StoreError::Permit(_))), "{wrong}");
    let unknown = lifecycle.renew_for_tool(&permit, ToolLoginId::from_uuid(Uuid::now_v7())).await.unwrap_err();
    assert!(matches!(unknown, LifecycleError::NoToolLogin(_)), "{unknown}");

    // As a caller saw it that is slow.
    let leaving = house.create(Isolation::Schema).await;
    lifecycle.delete(&permit_to(Permission::TenantWrite), leaving.id, false).await.unwrap();
    assert!(refusal(Some(&leaving)).await.contains("is deleting"));

    let mut admin = house.admin().await;
    let migrator = ApplicationRoles::of(&house.config.application.name).migrator;
    run(&mut admin, &format!("CREATE ROLE \"{migrator}\" LOGIN")).await.unwrap();
    assert!(refusal(None).await.contains("which can log in or make roles"));
    run(&mut admin, &format!("DROP ROLE \"{migrator}\"")).await.unwrap();
    run(&mut admin, "CREATE TABLE theirs (tenant_id uuid); ALTER TABLE theirs OWNER TO pg_monitor").await.unwrap();
    let refused = refusal(None).await;
    assert!(refused.contains(&format!("ALTER TABLE \"public\".\"theirs\" OWNER TO \"{migrator}\"")), "{refused}");
    // A refusal keeps nobody else out, and leaves no role.
    run(&mut admin, "DROP TABLE theirs").await.unwrap();
    let login = open(&house, None).await;
    close(&house, &login, Some(3)).await;
    assert_eq!(
        count(
            &house,
            &format!(
                "SELECT count(*) FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid WHERE r.rolname = '{migrator}'"
            )
        )
        .await,
        0
    );
}

#[tokio::test]
async fn a_deletion_ends_the_tool_and_leaves_nothing() {
    let house = House::hardened().await;
    let _workers = Workers::start(house.lifecycle("worker"));
    let lifecycle = house.lifecycle("api");
    for isolation in [Isolation::Schema, Isolation::Database] {
        for suspended in [false, true] {
            let tenant = house.create(isolation).await;
            if suspended {
                lifecycle.suspend(&permit(), tenant.id).await.unwrap();
            }
            let login = open(&house, Some(&house.tenant(tenant.id).await)).await;
            let mut tool = session(&house, &login).await;
            run(&mut tool, "BEGIN; ALTER TABLE note ADD COLUMN more int").await.unwrap();
            let change = lifecycle.delete(&permit(), tenant.id, true).await.unwrap();
            house.ended(change.operation.id).await;
            assert_eq!(house.tenant(tenant.id).await.state, TenantState::Deleted, "{isolation}");
            assert_eq!(house.traces(&tenant).await, [""; 0]);
            let named =
                format!("SELECT count(*) FROM pg_roles WHERE rolname LIKE '{}%' OR rolname = '{}'", tenant.id, login.user);
            assert_eq!(count(&house, &named).await, 0, "{isolation}: roles are left");
            assert!(house.store.tenant_tool_logins(tenant.id).await.unwrap().is_empty());
            assert!(run(&mut tool, "COMMIT").await.is_err());
            tool.close().await.ok();
        }
    }
}
