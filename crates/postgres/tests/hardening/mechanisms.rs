//! How the tenant context is kept: the choice by server and administrator, tickets, and the functions under attack.

use guardian_model::{KeyType, Ticket};
use guardian_postgres::{Mechanism, registry};
use guardian_testkit::Server;
use sqlx::{ConnectOptions as _, PgConnection};

use crate::{
    application::{Application, enter, execute, keys, number, sqlstate, text},
    forge::seen,
};

const SCHEMA: &str = "
CREATE TABLE note (tenant_id uuid NOT NULL, id bigint, body text, PRIMARY KEY (tenant_id, id));
INSERT INTO note VALUES ('0190b6a0-0000-7000-8000-00000000000a', 1, 'own of a');
INSERT INTO note VALUES ('0190b6a0-0000-7000-8000-00000000000b', 1, 'secret of b');
CREATE VIEW every_note AS SELECT * FROM note;
CREATE FUNCTION notes() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS 'SELECT body FROM note';
";

const ALL: [Mechanism; 3] = [Mechanism::GrantedRegister, Mechanism::SuperuserFunction, Mechanism::CapabilityLookup];

#[tokio::test]
async fn what_is_installed_is_reported() {
    for mechanism in ALL {
        let mut app = Application::new(SCHEMA, "").await.force(mechanism);
        assert_eq!(registry::mechanism(&mut app.admin).await.unwrap(), None);
        app.harden().await;
        assert_eq!(registry::mechanism(&mut app.admin).await.unwrap(), Some(mechanism));
    }
}

/// Another mechanism than before rewrites policies, defaults and functions.
#[tokio::test]
async fn the_mechanism_can_be_changed() {
    let mut app = Application::new(SCHEMA, "").await;
    for mechanism in ALL.into_iter().chain([Mechanism::GrantedRegister]) {
        app = app.force(mechanism);
        app.harden().await;
        app.admit().await;
        let mut a = app.enter(0).await;
        assert_eq!(seen(&mut a, "SELECT body FROM note").await, "own of a", "{mechanism:?}");
    }
}

/// An administrator that is no superuser hardens what it owns, by the capability lookup; or by the register, once a superuser
/// has let it pass the right on.
#[tokio::test]
async fn an_administrator_without_superuser_rights() {
    let server = Server::shared();
    for (granted, expected) in [(false, Mechanism::CapabilityLookup), (true, Mechanism::GrantedRegister)] {
        if granted && server.major() < 15 {
            continue;
        }
        let mut app = Application::new("", "").await;
        let admin = format!("{}_dba", app.name);
        app.execute(&format!(
            "CREATE ROLE {admin} LOGIN CREATEROLE; ALTER DATABASE {} OWNER TO {admin}; ALTER SCHEMA public OWNER TO {admin}",
            app.database.name
        ))
        .await;
        if granted {
            app.execute(&format!("GRANT SET ON PARAMETER backtrace_functions TO {admin} WITH GRANT OPTION")).await;
        }
        let superuser = std::mem::replace(&mut app.admin, app.database.connect().await);
        app.admin = superuser;
        let dba = app.connect_as(&admin).await;
        let superuser = std::mem::replace(&mut app.admin, dba);
        app.execute(SCHEMA).await;
        let hardening = app.harden().await;
        assert_eq!(hardening.mechanism, expected, "{}", hardening.mechanism_reason);
        app.admit().await;
        app.admin = superuser;
        for (tenant, own) in [(0, "own of a"), (1, "secret of b")] {
            let mut session = app.enter(tenant).await;
            for read in ["SELECT body FROM note", "SELECT body FROM every_note", "SELECT notes()"] {
                assert_eq!(seen(&mut session, read).await, own, "{read}");
            }
        }
    }
}

/// 13 and 14 have no grant on parameters, no `security_invoker` and no column lists in SET NULL.
#[tokio::test]
async fn old_servers() {
    for major in [13, 14] {
        let Some(server) = Server::of_version(major) else { continue };
        let mut app = Application::on(&server, SCHEMA, "").await;
        let hardening = app.harden().await;
        assert_eq!(hardening.mechanism, Mechanism::SuperuserFunction);
        app.admit().await;
        for (tenant, own) in [(0, "own of a"), (1, "secret of b")] {
            let mut session = app.enter(tenant).await;
            for read in ["SELECT body FROM note", "SELECT body FROM every_note", "SELECT notes()"] {
                assert_eq!(seen(&mut session, read).await, own, "{major}: {read}");
            }
            let forged = sqlstate(&mut session, "SET backtrace_functions = 'x'").await;
            assert_eq!(forged, "42501", "{major}");
        }
        let schema = "CREATE TABLE t (tenant_id uuid NOT NULL, id int PRIMARY KEY);
            CREATE TABLE u (tenant_id uuid NOT NULL, t_id int REFERENCES t (id) ON DELETE SET NULL)";
        let mut app = Application::on(&server, schema, "keys = { t_pkey = \"composite\" }").await;
        let refusals = app.plan().await.refusals;
        assert!(refusals.iter().any(|refusal| refusal.problem.contains("PostgreSQL 15")), "{refusals:#?}");
    }
}

#[tokio::test]
async fn newer_servers() {
    for major in [16, 17, 18] {
        let Some(server) = Server::of_version(major) else { continue };
        let mut app = Application::of(server.helpdesk().await, crate::helpdesk::DECIDED).await;
        assert_eq!(app.harden().await.mechanism, Mechanism::GrantedRegister);
        app.admit().await;
        crate::helpdesk::use_it(&mut app).await;
    }
}

fn ticket(byte: u8) -> Ticket {
    Ticket::from_bytes([byte; 32])
}

async fn redeem(connection: &mut PgConnection, ticket: &Ticket) -> Option<String> {
    sqlx::query_scalar("SELECT guardian.redeem($1)").bind(&ticket.expose()[..]).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_ticket_opens_once_and_not_for_ever() {
    for mechanism in ALL {
        let mut app = Application::new(SCHEMA, "").await.force(mechanism);
        app.harden().await;
        let [a, b] = keys(KeyType::Uuid);
        registry::issue_ticket(&mut app.admin, &a, &ticket(1), 60).await.unwrap();
        registry::issue_ticket(&mut app.admin, &b, &ticket(2), 0).await.unwrap();
        let mut session = app.connect().await;
        assert_eq!(redeem(&mut session, &ticket(1)).await, Some(a.to_register()));
        assert_eq!(seen(&mut session, "SELECT body FROM note").await, "own of a");
        let mut thief = app.connect().await;
        assert_eq!(redeem(&mut thief, &ticket(1)).await, None, "spent");
        assert_eq!(redeem(&mut thief, &ticket(2)).await, None, "expired");
        sqlstate(&mut thief, "SELECT body FROM note").await;
        // A ticket that is refused also ends the context that was there.
        assert_eq!(redeem(&mut session, &ticket(3)).await, None);
        sqlstate(&mut session, "SELECT body FROM note").await;
        registry::issue_ticket(&mut app.admin, &a, &ticket(4), 60).await.unwrap();
        registry::revoke(&mut app.admin, &a).await.unwrap();
        assert_eq!(redeem(&mut session, &ticket(4)).await, None, "revoked with its tenant");
    }
}

#[tokio::test]
async fn a_revoked_capability_opens_nothing() {
    let mut app = Application::new(SCHEMA, "").await;
    app.harden().await;
    app.admit().await;
    let [a, b] = keys(KeyType::Uuid);
    let mut session = app.enter(1).await;
    registry::revoke(&mut app.admin, &a).await.unwrap();
    registry::revoke(&mut app.admin, &a).await.unwrap();
    assert_eq!(enter(&mut session, &a).await, None);
    sqlstate(&mut session, "SELECT body FROM note").await;
    assert_eq!(enter(&mut session, &b).await, Some(b.to_register()));
}

#[tokio::test]
async fn without_apply_the_registry_says_so() {
    let mut app = Application::new(SCHEMA, "").await;
    let error = registry::revoke(&mut app.admin, &keys(KeyType::Uuid)[0]).await.unwrap_err();
    assert!(error.to_string().contains("guardian apply"), "{error}");
}

/// With TEMP granted after all, `pg_temp` shadows nothing inside the functions: not a type, a table, a function or an operator.
#[tokio::test]
async fn pg_temp_shadows_nothing() {
    for mechanism in ALL {
        let mut app = Application::new(SCHEMA, "").await.force(mechanism);
        app.harden().await;
        app.admit().await;
        app.execute(&format!("GRANT TEMPORARY ON DATABASE {} TO {}_app", app.database.name, app.name)).await;
        let [a, b] = keys(KeyType::Uuid);
        let mut session = app.connect().await;
        let shadows = "
            CREATE FUNCTION pg_temp.spy(text) RETURNS boolean LANGUAGE plpgsql
              AS 'BEGIN RAISE EXCEPTION ''spied as %'', current_user; END';
            CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (pg_temp.spy(VALUE));
            CREATE DOMAIN pg_temp.bytea AS pg_catalog.bytea CHECK (pg_temp.spy('x'));
            CREATE DOMAIN pg_temp.uuid AS pg_catalog.uuid CHECK (pg_temp.spy('x'));
            CREATE TABLE pg_temp.capability (hash bytea, register text);
            CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql AS 'SELECT NULL::pg_catalog.bytea';
            CREATE FUNCTION pg_temp.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT NULL::pg_catalog.text';
            SET search_path = pg_temp, public";
        for shadow in shadows.split(";\n") {
            execute(&mut session, shadow).await.unwrap();
        }
        let found: Option<String> = sqlx::query_scalar("SELECT guardian.enter($1::pg_catalog.bytea)::pg_catalog.text")
            .bind(&crate::application::capability(&a).expose()[..])
            .fetch_one(&mut session)
            .await
            .unwrap();
        assert_eq!(found, Some(a.to_register()), "{mechanism:?}");
        assert_eq!(seen(&mut session, "SELECT body FROM public.note").await, "own of a");
        assert_eq!(enter(&mut app.connect().await, &b).await, Some(b.to_register()));
    }
}

/// A rollback takes `enter` back with the rest of its transaction: why a gateway never lets the two share one.
#[tokio::test]
async fn a_rollback_takes_enter_back() {
    let mut app = Application::new(SCHEMA, "").await;
    app.harden().await;
    app.admit().await;
    let mut session = app.enter(0).await;
    execute(&mut session, "BEGIN").await.unwrap();
    enter(&mut session, &keys(KeyType::Uuid)[1]).await.unwrap();
    execute(&mut session, "ROLLBACK").await.unwrap();
    assert_eq!(seen(&mut session, "SELECT body FROM note").await, "own of a");
}

/// The form of the policy follows the statistics, says why, and yields to `application.policy_form`.
#[tokio::test]
async fn the_form_follows_the_statistics() {
    let schema = "
        CREATE TABLE even (tenant_id uuid NOT NULL, body text);
        INSERT INTO even SELECT md5((n % 50)::text)::uuid, repeat('x', 200) FROM generate_series(1, 5000) AS n;
        CREATE TABLE skewed (tenant_id uuid NOT NULL, body text);
        INSERT INTO skewed SELECT md5((n % 3)::text)::uuid, repeat('x', 200) FROM generate_series(1, 5000) AS n;
        CREATE TABLE tiny (tenant_id uuid NOT NULL); INSERT INTO tiny SELECT md5(n::text)::uuid FROM generate_series(1, 20) AS n;
        CREATE TABLE empty (tenant_id uuid NOT NULL);
        CREATE TABLE asked (tenant_id uuid NOT NULL); ANALYZE";
    let mut app = Application::new(schema, "policy_form = { asked = \"wrapped\" }").await;
    let hardening = app.harden().await;
    let reason = |table: &str| {
        let wanted = format!("ON \"public\".\"{table}\" AS RESTRICTIVE");
        hardening.statements().find(|(statement, _)| statement.sql.contains(&wanted)).unwrap().0.reason.clone()
    };
    assert!(reason("even").ends_with("direct, because indexes serve it"));
    assert!(
        reason("skewed").ends_with("wrapped, because one tenant holds 33 % of the rows and is read by sequential scans")
    );
    assert!(reason("tiny").ends_with("wrapped, because a table of 1 page is read as a whole"));
    assert!(reason("empty").ends_with("direct, because indexes serve it"));
    assert!(reason("asked").ends_with("in the form that `application.policy_form` asks for"));
    // The forms stay as statistics drift a little, and follow a large table whose shares have changed.
    app.execute("INSERT INTO empty SELECT md5('1')::uuid; ANALYZE empty").await;
    assert!(app.plan().await.is_clean());
    app.execute("UPDATE even SET tenant_id = md5('1')::uuid; ANALYZE even").await;
    let again: Vec<_> = app.plan().await.statements().map(|(statement, _)| statement.sql.clone()).collect();
    assert_eq!(again.len(), 2, "{again:#?}");
    assert!(again[1].contains("(SELECT current_setting("));
    app.harden().await;
}

#[tokio::test]
async fn mixed_case_names_and_other_integer_types() {
    let schema = "CREATE SCHEMA \"Shop\"; SET search_path = \"Shop\";
        CREATE TABLE \"Order\" (\"Tenant Id\" integer NOT NULL, \"Id\" int CONSTRAINT \"Order PK\" PRIMARY KEY);
        CREATE TABLE \"Order USING btree (Line)\" (\"Tenant Id\" smallint, \"Order\" int REFERENCES \"Order\",
          name varchar(20) CONSTRAINT \"Line \"\"Name\"\"\" UNIQUE);
        RESET search_path";
    let declarations = "schema = \"Shop\"\ntenant_column = \"Tenant Id\"\ntenant_key = \"bigint\"\n\
        keys = { \"Order PK\" = \"composite\", 'Line \"Name\"' = \"composite\" }";
    let mut app = Application::new(schema, declarations).await;
    app.harden().await;
    app.admit().await;
    let keys = text(
        &mut app.admin,
        "SELECT string_agg(pg_get_constraintdef(oid), '; ' ORDER BY conname) FROM pg_constraint \
        WHERE connamespace = '\"Shop\"'::regnamespace AND contype IN ('p', 'u', 'f')",
    )
    .await
    .unwrap()
    .unwrap();
    assert_eq!(
        keys,
        "UNIQUE (\"Tenant Id\", name); PRIMARY KEY (\"Tenant Id\", \"Id\"); \
         FOREIGN KEY (\"Tenant Id\", \"Order\") REFERENCES \"Shop\".\"Order\"(\"Tenant Id\", \"Id\")"
    );
    assert_eq!(number(&mut app.admin, "SELECT count(*) FROM pg_policy").await.unwrap(), 8);
    // The application finds its schema, which is not `public`, without naming it.
    let mut session = app.enter(0).await;
    assert_eq!(number(&mut session, "SELECT count(*) FROM \"Order\"").await.unwrap(), 0);
}

/// A varchar key reads its text from the register, and an empty text is nobody's key.
#[tokio::test]
async fn text_keys() {
    let schema = "CREATE TABLE note (tenant_id varchar(40), body text)";
    for mechanism in ALL {
        let mut app = Application::new(schema, "tenant_key = \"text\"").await.force(mechanism);
        app.harden().await;
        app.admit().await;
        let mut session = app.enter(0).await;
        execute(&mut session, "INSERT INTO note (body) VALUES ('mine')").await.unwrap();
        let key = text(&mut app.admin, "SELECT tenant_id::text FROM note").await.unwrap();
        assert_eq!(key.as_deref(), Some("acme-corp.eu"));
        assert_eq!(sqlstate(&mut app.admin, "INSERT INTO note VALUES ('', 'nobody''s')").await, "23514");
        assert_eq!(sqlstate(&mut app.admin, "INSERT INTO note VALUES (NULL, 'nobody''s')").await, "23502");
    }
}

#[tokio::test]
async fn start_options_cannot_name_the_register() {
    let mut app = Application::new(SCHEMA, "").await;
    app.harden().await;
    app.admit().await;
    drop(app.enter(0).await);
    let register = keys(KeyType::Uuid)[1].to_register();
    let error = app.connect_options().options([("backtrace_functions", register)]).connect().await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().as_deref(), Some("42501"), "{error}");
}
