//! The table of the tenants themselves, whose key is the tenant; and tables that no tenant reads.

use guardian_model::KeyType;
use guardian_postgres::{
    adopt::{self, Step, backfill},
    apply::{Patience, apply_patiently},
    collect,
};

use crate::application::{Application, execute, keys, number, sqlstate};

const PATIENCE: Patience = Patience { lock_wait_ms_max: 1_000, attempts_max: 20, rests: false };

const SCHEMA: &str = "
CREATE TABLE account (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE ticket (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES account, subject text);
CREATE TABLE contact (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id uuid NOT NULL REFERENCES account, number int,
  CONSTRAINT contact_number UNIQUE (account_id, number));
INSERT INTO account VALUES ('0190b6a0-0000-7000-8000-00000000000a', 'a'), ('0190b6a0-0000-7000-8000-00000000000b', 'b');
INSERT INTO ticket (tenant_id, subject) SELECT id, name FROM account;
INSERT INTO contact (account_id, number) SELECT id, 1 FROM account;
";

async fn step(app: &mut Application, step: Step<'_>) {
    let facts = collect(&mut app.admin, &app.declaration).await.unwrap();
    if matches!(step, Step::Prepare { .. }) {
        let bounds = app.declaration.adoption.clone().unwrap().backfill;
        for task in backfill::tasks(&facts, &app.declaration) {
            backfill::fill(&mut app.admin, &task, &bounds, PATIENCE, &mut |_| {}).await.unwrap();
        }
    }
    let plan = async |app: &mut Application| {
        let facts = collect(&mut app.admin, &app.declaration).await.unwrap();
        adopt::plan(&facts, &app.declaration, step)
    };
    let planned = plan(app).await;
    assert!(planned.refusals.is_empty(), "{:#?}", planned.refusals);
    apply_patiently(&mut app.admin, &planned, PATIENCE, &mut |_, _, _| {})
        .await
        .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)));
    let left = plan(app).await;
    assert!(left.batches.is_empty(), "{step:?} left {:#?}", left.batches);
}

#[tokio::test]
async fn the_tenants_own_table_is_kept_apart_and_referred_to_as_it_is() {
    let mut app = Application::new(SCHEMA, "").await;
    let owner = format!("{}_owner", app.name);
    let decided = "[application.keys]\nticket_pkey = \"composite\"\ncontact_pkey = \"composite\"\n";
    app.declare(&format!(
        "{decided}[adoption]\nexisting_role = \"{owner}\"\n[adoption.parents]\naccount = {{ own = \"id\" }}\n\
         contact = {{ own = \"account_id\" }}\n"
    ));
    app.execute(&format!(
        "CREATE ROLE {owner} LOGIN; GRANT ALL ON SCHEMA public TO {owner}; ALTER TABLE account OWNER TO {owner};
         ALTER TABLE ticket OWNER TO {owner}; ALTER TABLE contact OWNER TO {owner}"
    ))
    .await;
    step(&mut app, Step::Prepare { serve: true }).await;
    app.admit().await;
    let mut old = app.connect_as(&owner).await;
    let third = "0190b6a0-0000-7000-8000-00000000000c";
    execute(
        &mut old,
        &format!("INSERT INTO account VALUES ('{third}', 'c'); INSERT INTO contact (account_id) VALUES ('{third}')"),
    )
    .await
    .unwrap();
    step(&mut app, Step::Enforce(&[])).await;
    step(&mut app, Step::Retire).await;
    let constraint = "SELECT count(*) FROM pg_constraint WHERE conname = 'guardian_tenant_is_own' AND convalidated";
    assert_eq!(number(&mut app.admin, constraint).await.unwrap(), 2);
    step(&mut app, Step::Release(&[])).await;
    assert_eq!(number(&mut app.admin, constraint).await.unwrap(), 0);
    step(&mut app, Step::Enforce(&[])).await;
    step(&mut app, Step::Retire).await;
    drop(old);
    step(&mut app, Step::Finish).await;

    // Nothing of it is forgotten with the section of guardian.toml: the constraint says what it said.
    app.declare(decided);
    let plan = app.plan().await;
    assert!(plan.is_clean(), "{:#?} {:#?}", plan.refusals, plan.batches);
    let unchanged = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text IN ('ticket', 'contact') AND cardinality(conkey) = 1";
    assert_eq!(number(&mut app.admin, unchanged).await.unwrap(), 2, "the foreign keys carry the tenant as they are");
    app.execute("ALTER TABLE account DROP CONSTRAINT guardian_tenant_is_own").await;
    let refusals = app.plan().await.refusals;
    assert!(refusals.iter().any(|one| one.problem.contains("compares the tenant with another column")), "{refusals:#?}");
    app.execute("ALTER TABLE account ADD CONSTRAINT guardian_tenant_is_own CHECK (tenant_id = id)").await;

    let [one, two] = keys(KeyType::Uuid);
    let mut tenant = app.enter(0).await;
    assert_eq!(number(&mut tenant, "SELECT count(*) FROM account").await.unwrap(), 1);
    execute(&mut tenant, "UPDATE account SET name = 'mine'").await.unwrap();
    execute(&mut tenant, &format!("INSERT INTO contact (account_id, number) VALUES ('{one}', 2)")).await.unwrap();
    // Neither a row that bears another's name, nor an answer to whether there is one.
    for other in [two.to_string(), "0190b6a0-0000-7000-8000-0000000000ff".to_owned()] {
        for sql in [
            format!("INSERT INTO account (id, name) VALUES ('{other}', 'mine')"),
            format!("UPDATE account SET id = '{other}'"),
            format!("INSERT INTO contact (account_id, number) VALUES ('{other}', 1)"),
            format!("UPDATE contact SET account_id = '{other}'"),
        ] {
            assert_eq!(sqlstate(&mut tenant, &sql).await, "23514", "{sql}");
        }
        assert_eq!(sqlstate(&mut tenant, &format!("INSERT INTO ticket (tenant_id) VALUES ('{other}')")).await, "42501");
    }
}

#[tokio::test]
async fn a_closed_table_is_read_by_no_tenant_and_left_to_its_other_readers() {
    let schema = "CREATE TABLE person (id int PRIMARY KEY, password text); INSERT INTO person VALUES (1, 'secret');
        CREATE TABLE ticket (tenant_id uuid NOT NULL, requester int REFERENCES person)";
    let mut app = Application::new(schema, "").await;
    assert!(app.plan().await.refusals.iter().any(|one| one.ways_out.iter().any(|way| way.contains("[application.closed]"))));
    let (reader, roles) = (format!("{}_people", app.name), app.declaration.roles.clone());
    app.declare("[application.closed]\nperson = \"passwords\"\n");
    app.execute(&format!(
        "CREATE ROLE {reader} LOGIN; GRANT USAGE ON SCHEMA public TO {reader}; GRANT SELECT ON person TO {reader};
         GRANT SELECT (password) ON person TO PUBLIC"
    ))
    .await;
    app.harden().await;
    app.admit().await;
    let mut tenant = app.enter(0).await;
    assert_eq!(sqlstate(&mut tenant, "SELECT password FROM person").await, "42501");
    assert_eq!(sqlstate(&mut tenant, "UPDATE person SET password = ''").await, "42501");
    // What refers to it is checked with its owner's rights.
    execute(&mut tenant, "INSERT INTO ticket (requester) VALUES (1)").await.unwrap();
    assert_eq!(sqlstate(&mut tenant, "INSERT INTO ticket (requester) VALUES (2)").await, "23503");
    let mut other = app.connect_as(&reader).await;
    assert_eq!(number(&mut other, "SELECT count(*) FROM person").await.unwrap(), 1);
    // A grant to Guardian's roles is drift.
    for role in [roles.app(), roles.door(), roles.definer()] {
        app.execute(&format!("GRANT SELECT ON person TO {role}")).await;
        assert_eq!(app.plan().await.statements().count(), 1, "{role}");
        app.apply().await;
    }
    app.declare("[application.closed]\nticket = \"why\"\nperson = \"why\"\n");
    let refusals = app.plan().await.refusals;
    assert!(refusals[0].problem.contains("declared closed, but it has the column"), "{refusals:#?}");
}
