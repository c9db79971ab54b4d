//! An application that runs already, taken over in stages under a load of writes: nobody is refused anything and nobody waits
//! longer than a lock may be waited for, until tenants are kept apart.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use guardian_postgres::{
    Hardening,
    adopt::{self, Step, backfill},
    apply::{Patience, apply_patiently},
    collect, eject,
};
use guardian_testkit::Server;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};
use tokio::task::JoinHandle;

use crate::application::{Application, enter, execute, keys, number, sqlstate};

/// What every wait in these tests is held to.
const LOCK_WAIT: Duration = Duration::from_millis(150);
pub(crate) const PATIENCE: Patience = Patience { lock_wait_ms_max: 150, attempts_max: 100, rests: true };
/// What a statement takes on a machine that does much else, without any lock.
const SLACK: Duration = Duration::from_secs(2);

const SCHEMA: &str = "
CREATE TABLE account (id uuid PRIMARY KEY, name text NOT NULL);
CREATE TABLE ticket (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid REFERENCES account, subject text NOT NULL,
  CONSTRAINT ticket_subject_key UNIQUE (subject));
CREATE TABLE message (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, ticket_id bigint NOT NULL REFERENCES ticket ON DELETE CASCADE,
  body text NOT NULL, touched boolean NOT NULL DEFAULT false);
CREATE TABLE attachment (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_id bigint NOT NULL REFERENCES message, name text);
CREATE TABLE setting (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id uuid NOT NULL REFERENCES account, name text);
CREATE VIEW latest AS SELECT id, subject FROM ticket;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.touched := true; RETURN NEW; END $$;
CREATE TRIGGER a_touch BEFORE UPDATE ON message FOR EACH ROW EXECUTE FUNCTION touch();
CREATE FUNCTION subjects() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM public.ticket';
INSERT INTO account VALUES ('0190b6a0-0000-7000-8000-00000000000a', 'a'), ('0190b6a0-0000-7000-8000-00000000000b', 'b');
INSERT INTO setting (account_id, name) SELECT id, 'old' FROM account;
INSERT INTO ticket (tenant_id, subject) SELECT CASE WHEN n % 3 = 0 THEN '0190b6a0-0000-7000-8000-00000000000a'::uuid
  ELSE '0190b6a0-0000-7000-8000-00000000000b' END, 'ticket ' || n FROM generate_series(1, 3000) AS n;
INSERT INTO message (ticket_id, body) SELECT 1 + n % 3000, 'message ' || n FROM generate_series(1, 12000) AS n;
INSERT INTO attachment (message_id, name) SELECT 1 + n % 12000, 'file ' || n FROM generate_series(1, 12000) AS n;
";

fn declared(owner: &str) -> String {
    format!(
        "[application.global]\naccount = \"who the tenants are\"\n[application.keys]\nsetting_pkey = \"composite\"\nticket_pkey = \"composite\"\n\
         ticket_subject_key = \"composite\"\nmessage_pkey = \"composite\"\nattachment_pkey = \"composite\"\n\
         [adoption]\nexisting_role = \"{owner}\"\n[adoption.parents]\nsetting = {{ own = \"account_id\" }}\nmessage = \"ticket\"\nattachment = \"message\"\n\
         [adoption.backfill]\nbatch_rows = 500\nrows_per_second_max = 0\n"
    )
}

/// The application as it runs today: a role owns the tables, and a reporting role reads them.
pub(crate) struct Running {
    pub(crate) app: Application,
    pub(crate) owner: String,
    pub(crate) reporter: String,
}

impl Running {
    pub(crate) async fn new() -> Self {
        Self::on(&Server::shared()).await
    }

    async fn on(server: &Server) -> Self {
        let database = server.database("adoption").await;
        let mut app = Application::of(database, "").await;
        let (owner, reporter) = (format!("{}_owner", app.name), format!("{}_reporter", app.name));
        app.declare(&declared(&owner));
        app.execute(SCHEMA).await;
        app.execute(&format!(
            "CREATE ROLE {owner} LOGIN; CREATE ROLE {reporter} LOGIN; GRANT ALL ON SCHEMA public TO {owner};
             ALTER TABLE account OWNER TO {owner}; ALTER TABLE ticket OWNER TO {owner}; ALTER TABLE message OWNER TO {owner};
             ALTER TABLE attachment OWNER TO {owner}; ALTER TABLE setting OWNER TO {owner}; ALTER VIEW latest OWNER TO {owner};
             ALTER FUNCTION subjects() OWNER TO {owner}; GRANT SELECT ON ticket, message TO {reporter}"
        ))
        .await;
        Self { app, owner, reporter }
    }

    async fn plan(&mut self, step: Step<'_>) -> Hardening {
        let facts = collect(&mut self.app.admin, &self.app.declaration).await.unwrap();
        adopt::plan(&facts, &self.app.declaration, step)
    }

    /// Takes a step, and demands that nothing of it is left to do.
    pub(crate) async fn step(&mut self, step: Step<'_>) {
        if matches!(step, Step::Prepare { .. }) {
            self.fill().await;
        }
        let plan = self.plan(step).await;
        assert!(plan.refusals.is_empty(), "{:#?}", plan.refusals);
        apply_patiently(&mut self.app.admin, &plan, PATIENCE, &mut |_, _, _| {})
            .await
            .unwrap_or_else(|error| panic!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)));
        let left = self.plan(step).await;
        assert!(left.batches.is_empty(), "{step:?} left {:#?}", left.batches);
    }

    async fn fill(&mut self) {
        let facts = collect(&mut self.app.admin, &self.app.declaration).await.unwrap();
        let bounds = self.app.declaration.adoption.clone().unwrap().backfill;
        for task in backfill::tasks(&facts, &self.app.declaration) {
            backfill::fill(&mut self.app.admin, &task, &bounds, PATIENCE, &mut |_| {}).await.unwrap();
        }
        // Statistics choose the form of a policy: what autovacuum finds out later must be no news.
        self.app.execute("ANALYZE").await;
    }

    async fn serve(&mut self, tenant: usize) -> PgConnection {
        let role = self.app.declaration.roles.adopt().to_owned();
        let mut connection = self.app.connect_as(&role).await;
        enter(&mut connection, &keys(guardian_model::KeyType::Uuid)[tenant]).await.unwrap();
        connection
    }
}

/// Counts what a table shows.
async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    number(connection, &format!("SELECT count(*) FROM public.{table}")).await.unwrap()
}

#[tokio::test]
async fn preparation_is_noticed_by_nobody() {
    let mut running = Running::new().await;
    let (owner, reporter) = (running.owner.clone(), running.reporter.clone());
    running.step(Step::Prepare { serve: true }).await;
    running.app.admit().await;
    let mut old = running.app.connect_as(&owner).await;
    assert_eq!((count(&mut old, "ticket").await, count(&mut old, "message").await), (3000, 12000));
    assert_eq!(number(&mut old, "SELECT public.subjects()").await.unwrap(), 3000);
    assert_eq!(count(&mut old, "latest").await, 3000);
    // The keys of today: an upsert finds its conflict, another tenant's value too.
    execute(&mut old, "INSERT INTO ticket (tenant_id, subject) VALUES ('0190b6a0-0000-7000-8000-00000000000a', 'ticket 1') ON CONFLICT (subject) DO NOTHING").await.unwrap();
    // Columns that it does not know are filled from the parent, at every depth.
    execute(&mut old, "INSERT INTO message (ticket_id, body) VALUES (3, 'new'); INSERT INTO attachment (message_id, name) SELECT max(id), 'new' FROM message").await.unwrap();
    let strays = "SELECT (SELECT count(*) FROM message AS m JOIN ticket AS t ON t.id = m.ticket_id WHERE m.tenant_id IS DISTINCT FROM t.tenant_id)
        + (SELECT count(*) FROM attachment AS a JOIN message AS m ON m.id = a.message_id WHERE a.tenant_id IS DISTINCT FROM m.tenant_id)";
    assert_eq!(number(&mut old, strays).await.unwrap(), 0);
    execute(&mut old, "UPDATE message SET ticket_id = 1 WHERE id = 1").await.unwrap();
    assert_eq!(number(&mut old, strays).await.unwrap(), 0);
    // So is one that stands in another column of the row.
    execute(&mut old, "INSERT INTO setting (account_id, name) SELECT id, 'new' FROM account").await.unwrap();
    assert_eq!(number(&mut old, "SELECT count(*) FROM setting WHERE tenant_id = account_id").await.unwrap(), 4);
    // A row without a tenant is still the application's to write, as it was.
    execute(&mut old, "INSERT INTO ticket (subject) VALUES ('nobody''s'); DELETE FROM ticket WHERE tenant_id IS NULL")
        .await
        .unwrap();
    // The filling was nobody's update.
    assert_eq!(number(&mut old, "SELECT count(*) FROM message WHERE touched").await.unwrap(), 1);
    let mut reader = running.app.connect_as(&reporter).await;
    assert_eq!((count(&mut reader, "ticket").await, count(&mut reader, "message").await), (3000, 12001));
    // Guardian's own role is kept to its tenant already, which is what an observer tries statements as.
    let mut ours = running.app.enter(0).await;
    assert_eq!(count(&mut ours, "ticket").await, 1000);
    assert_eq!(count(&mut ours, "latest").await, 1000);
    // The role that serves meanwhile is the old role in effect.
    let mut session = running.serve(0).await;
    assert_eq!(count(&mut session, "ticket").await, 3000);
}

#[tokio::test]
async fn a_table_is_enforced_and_released_by_itself() {
    let mut running = Running::new().await;
    running.step(Step::Prepare { serve: true }).await;
    running.app.admit().await;
    let mut session = running.serve(0).await;
    let tables = ["ticket".to_owned()];
    for _ in 0..2 {
        running.step(Step::Enforce(&tables)).await;
        assert_eq!((count(&mut session, "ticket").await, count(&mut session, "message").await), (1000, 12000));
        execute(&mut session, "INSERT INTO ticket (subject) VALUES ('mine'); DELETE FROM ticket WHERE subject = 'mine'")
            .await
            .unwrap();
        let other = "INSERT INTO ticket (tenant_id, subject) VALUES ('0190b6a0-0000-7000-8000-00000000000b', 'theirs')";
        assert_eq!(sqlstate(&mut session, other).await, "42501");
        let reporter = running.reporter.clone();
        let mut reader = running.app.connect_as(&reporter).await;
        assert_eq!(count(&mut reader, "ticket").await, 0, "nobody but the application is let in");
        running.step(Step::Release(&tables)).await;
        assert_eq!(count(&mut session, "ticket").await, 3000);
        assert_eq!(count(&mut reader, "ticket").await, 3000);
    }
    let plan = running.plan(Step::Enforce(&["tickets".to_owned()])).await;
    assert_eq!(plan.refusals[0].object, "tickets");
}

#[tokio::test]
async fn everything_is_enforced_released_and_finished() {
    let mut running = Running::new().await;
    let owner = running.owner.clone();
    running.step(Step::Prepare { serve: true }).await;
    running.app.admit().await;
    let mut session = running.serve(0).await;
    running.step(Step::Enforce(&[])).await;
    running.step(Step::Retire).await;
    let mut ours = running.app.enter(0).await;
    for connection in [&mut session, &mut ours] {
        assert_eq!((count(connection, "ticket").await, count(connection, "message").await), (1000, 4000));
        assert_eq!(count(connection, "latest").await, 1000);
        assert_eq!(number(connection, "SELECT public.subjects()").await.unwrap(), 1000);
    }
    // The right of the owner is gone from sessions that are open, too.
    assert_eq!(sqlstate(&mut session, "ALTER TABLE ticket NO FORCE ROW LEVEL SECURITY").await, "42501");
    assert_eq!(sqlstate(&mut session, &format!("SET ROLE {owner}")).await, "42501");
    running.step(Step::Release(&[])).await;
    let mut old = running.app.connect_as(&owner).await;
    assert_eq!((count(&mut session, "ticket").await, count(&mut old, "ticket").await), (3000, 3000));
    assert_eq!(number(&mut old, "SELECT public.subjects()").await.unwrap(), 3000);
    execute(&mut old, "INSERT INTO message (ticket_id, body) VALUES (3, 'again')").await.unwrap();
    assert_eq!(number(&mut old, "SELECT count(*) FROM message WHERE tenant_id IS NULL").await.unwrap(), 0);
    running.step(Step::Enforce(&[])).await;
    running.step(Step::Retire).await;
    drop((session, old));
    running.step(Step::Finish).await;
    running.app.declaration.adoption = None;
    let plan = running.app.plan().await;
    assert!(plan.is_clean(), "{:#?} {:#?}", plan.refusals, plan.batches);
    let left = "SELECT count(*) FROM pg_roles WHERE rolname LIKE '%_adopt' AND rolname LIKE $$APP_%$$";
    assert_eq!(number(&mut running.app.admin, &left.replace("APP", &running.app.name)).await.unwrap(), 0);
    assert_eq!(
        number(&mut running.app.admin, "SELECT count(*) FROM pg_proc WHERE proname LIKE 'fill\\_%'").await.unwrap(),
        0
    );
    assert_eq!(count(&mut ours, "ticket").await, 1000);
}

#[tokio::test]
async fn rows_that_lead_to_no_tenant_are_reported_and_a_filling_goes_on() {
    let mut running = Running::new().await;
    running
        .app
        .execute("ALTER TABLE message ALTER COLUMN ticket_id DROP NOT NULL; INSERT INTO message (body) VALUES ('whose?')")
        .await;
    let facts = collect(&mut running.app.admin, &running.app.declaration).await.unwrap();
    let tasks = backfill::tasks(&facts, &running.app.declaration);
    let task = tasks.into_iter().find(|task| task.label.ends_with("message")).unwrap();
    let bounds = running.app.declaration.adoption.clone().unwrap().backfill;
    // Cut off after a few batches: what is done is done, and is not done again.
    let mut cut = running.app.database.options().connect().await.unwrap();
    let seen = Arc::new(AtomicU64::new(0));
    {
        let noted = Arc::clone(&seen);
        let mut progress = move |filled: backfill::Filled| noted.store(filled.rows.unsigned_abs(), Ordering::SeqCst);
        let slow = guardian_model::config::Backfill { rows_per_second_max: 2_000, ..bounds.clone() };
        let filling = backfill::fill(&mut cut, &task, &slow, PATIENCE, &mut progress);
        let enough = async {
            while seen.load(Ordering::SeqCst) < 1_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            filled = filling => panic!("it was not cut off: {filled:?}"),
            () = enough => {}
        }
    }
    cut.close_hard().await.ok();
    let before = number(&mut running.app.admin, "SELECT sum(filled)::int8 FROM guardian.backfill").await.unwrap();
    assert!((1_000..12_000).contains(&before), "{before}");
    let facts = collect(&mut running.app.admin, &running.app.declaration).await.unwrap();
    let tasks = backfill::tasks(&facts, &running.app.declaration);
    let task = tasks.into_iter().find(|task| task.label.ends_with("message")).unwrap();
    let mut first = None;
    let mut progress = |filled: backfill::Filled| first = first.or(Some(filled.rows));
    let refused = backfill::fill(&mut running.app.admin, &task, &bounds, PATIENCE, &mut progress).await.unwrap_err();
    assert!(first.unwrap() > before, "it began anew");
    assert!(matches!(&refused, backfill::BackfillError::Orphans { count: 1, .. }), "{refused}");
    assert_eq!(number(&mut running.app.admin, "SELECT count(*) FROM message WHERE tenant_id IS NULL").await.unwrap(), 1);
    running.app.execute("DELETE FROM message WHERE ticket_id IS NULL").await;
    running.step(Step::Prepare { serve: true }).await;
    // Without NOT NULL on the way the application may go on to write such rows until it is enforced.
    let owner = running.owner.clone();
    let mut old = running.app.connect_as(&owner).await;
    execute(&mut old, "INSERT INTO message (body) VALUES ('whose?'); DELETE FROM message WHERE ticket_id IS NULL")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_role_that_could_switch_protection_off_is_not_stood_in_for() {
    let mut running = Running::new().await;
    let owner = running.owner.clone();
    running.app.execute(&format!("ALTER ROLE {owner} SUPERUSER")).await;
    let plan = running.plan(Step::Prepare { serve: true }).await;
    assert_eq!(plan.refusals[0].object, "adoption.existing_role", "{:#?}", plan.refusals);
    running.app.declare(&declared("nobody_of_this_name"));
    assert!(running.plan(Step::Prepare { serve: true }).await.refusals[0].problem.contains("there is no role"));
}

/// Writers that time every statement of theirs.
struct Load {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Worst>>,
}

#[derive(Debug, Default)]
struct Worst {
    statements: u64,
    longest: Duration,
    failures: Vec<String>,
}

impl Load {
    fn start(connections: Vec<PgConnection>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let workers = connections
            .into_iter()
            .enumerate()
            .map(|(number, connection)| tokio::spawn(work(number, connection, Arc::clone(&stop))));
        Self { workers: workers.collect(), stop }
    }

    async fn end(self) -> Worst {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Worst::default();
        for task in self.workers {
            let one = task.await.unwrap();
            all.statements += one.statements;
            all.longest = all.longest.max(one.longest);
            all.failures.extend(one.failures);
        }
        all
    }
}

async fn work(worker: usize, mut connection: PgConnection, stop: Arc<AtomicBool>) -> Worst {
    let mut worst = Worst::default();
    // Of this worker's tenant alone, so that it is the same work before and after.
    let tenant = ["0190b6a0-0000-7000-8000-00000000000a", "0190b6a0-0000-7000-8000-00000000000b"][worker % 2];
    for round in 0_u64.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let subject = format!("load {worker} {round}");
        let statements = [
            format!(
                "INSERT INTO ticket (tenant_id, subject) VALUES ('{tenant}', '{subject}') ON CONFLICT (subject) DO NOTHING"
            ),
            format!("INSERT INTO message (ticket_id, body) SELECT id, 'load' FROM ticket WHERE subject = '{subject}'"),
            format!(
                "UPDATE message SET body = 'loaded' WHERE ticket_id = (SELECT id FROM ticket WHERE subject = '{subject}')"
            ),
            format!(
                "INSERT INTO attachment (message_id, name) SELECT m.id, 'load' FROM message AS m JOIN ticket AS t ON t.id = m.ticket_id WHERE t.subject = '{subject}'"
            ),
            format!("SELECT count(*) FROM latest WHERE subject = '{subject}'"),
        ];
        for statement in statements {
            let begun = Instant::now();
            let outcome = execute(&mut connection, &statement).await;
            worst.longest = worst.longest.max(begun.elapsed());
            worst.statements += 1;
            if let Err(error) = outcome {
                worst.failures.push(format!("{error} in {statement}"));
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    worst
}

/// The longest that anybody has waited for a lock, as the server says.
async fn watch(mut connection: PgConnection, stop: Arc<AtomicBool>) -> Duration {
    let mut since: std::collections::BTreeMap<(i32, String), Instant> = std::collections::BTreeMap::new();
    let mut longest = Duration::ZERO;
    while !stop.load(Ordering::SeqCst) {
        let waiting: Vec<(i32, String)> = sqlx::query_as(
            "SELECT pid, query_start::text || query FROM pg_stat_activity
             WHERE wait_event_type = 'Lock' AND wait_event = 'relation' AND datname = current_database()",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let now = Instant::now();
        since.retain(|key, _| waiting.contains(key));
        for key in waiting {
            let begun = *since.entry(key).or_insert(now);
            longest = longest.max(now - begun);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    longest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_of_writes_goes_on_throughout() {
    let mut running = Running::new().await;
    let owner = running.owner.clone();
    let stop = Arc::new(AtomicBool::new(false));
    let watched = tokio::spawn(watch(running.app.database.connect().await, Arc::clone(&stop)));
    let mut old = Vec::new();
    for _ in 0..4 {
        old.push(running.app.connect_as(&owner).await);
    }
    let load = Load::start(old);
    running.step(Step::Prepare { serve: true }).await;
    // The second time it finds nothing to do, under the same load.
    running.step(Step::Prepare { serve: true }).await;
    let prepared = load.end().await;
    assert_eq!(prepared.failures, Vec::<String>::new());
    assert!(prepared.statements > 100, "there was no load");

    running.app.admit().await;
    let mut session = Vec::new();
    for worker in 0..4 {
        session.push(running.serve(worker % 2).await);
    }
    let load = Load::start(session);
    for tables in [vec!["ticket".to_owned()], vec!["message".to_owned()], Vec::new()] {
        running.step(Step::Enforce(&tables)).await;
    }
    running.step(Step::Release(&[])).await;
    running.step(Step::Enforce(&[])).await;
    running.step(Step::Retire).await;
    let enforced = load.end().await;
    assert_eq!(enforced.failures, Vec::<String>::new());
    assert!(enforced.statements > 100, "there was no load");
    stop.store(true, Ordering::SeqCst);
    // Two looks apart, and one that came late.
    let waited = watched.await.unwrap();
    assert!(waited <= LOCK_WAIT + Duration::from_millis(100), "somebody waited {waited:?} for a lock");
    let longest = prepared.longest.max(enforced.longest);
    assert!(longest <= LOCK_WAIT + SLACK, "a statement took {longest:?}");
    let strays = "SELECT count(*) FROM message AS m JOIN ticket AS t ON t.id = m.ticket_id WHERE m.tenant_id IS DISTINCT FROM t.tenant_id";
    assert_eq!(number(&mut running.app.admin, strays).await.unwrap(), 0);
}

#[tokio::test]
async fn who_leaves_in_the_middle_leaves_nothing_of_it() {
    let mut running = Running::new().await;
    running.step(Step::Prepare { serve: true }).await;
    running.step(Step::Enforce(&["ticket".to_owned()])).await;
    let facts = collect(&mut running.app.admin, &running.app.declaration).await.unwrap();
    let ejection = eject::plan(&facts, &running.app.declaration, &[]);
    apply_patiently(&mut running.app.admin, &ejection, PATIENCE, &mut |_, _, _| {}).await.unwrap();
    let left = "SELECT (SELECT count(*) FROM pg_roles WHERE rolname = 'APP_adopt')
        + (SELECT count(*) FROM pg_trigger WHERE tgname = 'guardian_fill') + (SELECT count(*) FROM pg_namespace WHERE nspname = 'guardian')";
    assert_eq!(number(&mut running.app.admin, &left.replace("APP", &running.app.name)).await.unwrap(), 0);
    let owner = running.owner.clone();
    let mut old = running.app.connect_as(&owner).await;
    assert_eq!(count(&mut old, "message").await, 12_000, "a table that was not enforced is as it was for its owner");
}

#[tokio::test]
async fn it_goes_the_same_way_on_the_oldest_and_the_newest_server() {
    for version in [13, 18] {
        let Some(server) = Server::of_version(version) else { continue };
        let mut running = Running::on(&server).await;
        running.step(Step::Prepare { serve: true }).await;
        running.app.admit().await;
        let mut session = running.serve(0).await;
        running.step(Step::Enforce(&[])).await;
        running.step(Step::Retire).await;
        assert_eq!((count(&mut session, "ticket").await, count(&mut session, "latest").await), (1000, 1000), "{version}");
        running.step(Step::Release(&[])).await;
        assert_eq!((count(&mut session, "ticket").await, count(&mut session, "latest").await), (3000, 3000), "{version}");
        running.step(Step::Enforce(&[])).await;
        running.step(Step::Retire).await;
        drop(session);
        running.step(Step::Finish).await;
    }
}
