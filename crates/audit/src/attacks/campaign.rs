//! The order of things: plant A, look, plant B, look again, attack.

use std::collections::BTreeMap;

use guardian_postgres::scram;
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

use super::{
    Arena, AttackError, AttackOptions, AttackReport, By, Judged, Ledger, Mode, Tenant, administrators, attack,
    canary::Marks,
    context::{self, Context},
    failed, fidelity,
    kinds::{self, Field},
    plant::{self, Planted},
    play::Runner,
    random,
    session::{Entrance, Session, execute, text_of},
    watch,
};
use crate::{
    facts::{Facts, Oid},
    finding::readable,
    reach::Reach,
    tenancy::Tenancy,
};

/// One run against one arena.
pub(super) struct Campaign<'f> {
    pub(super) arena: &'f Arena,
    pub(super) options: &'f AttackOptions,
    pub(super) facts: &'f Facts,
    pub(super) tenancy: &'f Tenancy,
    pub(super) marks: &'f Marks,
    pub(super) planted: Planted,
    pub(super) signatures: BTreeMap<Oid, Vec<String>>,
    pub(super) disclosed: Vec<String>,
}

impl Campaign<'_> {
    fn in_place(&self) -> bool {
        self.arena.mode == Mode::InPlace
    }

    /// Plants, attacks as each role, and sums up.
    pub(super) async fn run(&mut self, mut connection: PgConnection, roles: &[Oid]) -> Result<AttackReport, AttackError> {
        self.begin(&mut connection).await?;
        self.plant(&mut connection, &[Tenant::Shared, Tenant::A]).await?;
        let secrets = [random()?, random()?];
        let guardian = Context::guardian(&mut connection, self.facts, self.marks, secrets).await?;
        self.pause(&mut connection).await?;
        let entrance = if !self.in_place() {
            Entrance::Administrator
        } else if self.facts.server.superuser {
            Entrance::Authorization
        } else {
            Entrance::Membership
        };
        let again = (!self.in_place()).then(|| self.administrators_options());
        let administrator = Session {
            connection,
            again,
            out_of_step: false,
            entrance,
            role: String::new(),
            role_settings: Vec::new(),
            in_place: self.in_place(),
        };
        let mut runner = Runner::new(administrator, self.marks, self.context(guardian));
        // Each role first sees a database without B, so that what changes when B comes can be told.
        let mut watches = Vec::new();
        for role in roles {
            self.take_the_field(&mut runner, *role).await?;
            let context = runner.context.clone();
            let reach = Reach::of(self.facts, &[*role]);
            watches.push(watch::look(&mut runner, &self.field(&context, &reach)).await);
        }
        let connection = &mut runner.administrator.connection;
        self.resume(connection).await?;
        self.plant(connection, &[Tenant::B]).await?;
        self.pause(connection).await?;
        let mut objects = Vec::new();
        for (role, before) in roles.iter().zip(watches) {
            self.take_the_field(&mut runner, *role).await?;
            let reach = Reach::of(self.facts, &[*role]);
            let mut ledger = Ledger::default();
            let victim = self.victim(&mut runner).await;
            let context = runner.context.clone();
            let field = Field { victim, ..self.field(&context, &reach) };
            watch::compare(&mut runner, &field, before, &mut ledger).await;
            watch::writes(&mut runner, &field, &mut ledger).await;
            let (attacks, objections) = kinds::all(&field);
            for attack in attacks {
                let judged = runner.judge(&attack).await;
                let judged = self.accept(&attack, judged);
                ledger.enter(&attack.object, attack.kind, judged);
            }
            let differences = self.arena.source.as_ref().map(|(source, _)| fidelity::differences(source, self.facts));
            for objection in objections.into_iter().chain(differences.unwrap_or_default()) {
                ledger.object(objection);
            }
            objects.extend(ledger.close(&self.facts.role_name(*role)));
            runner.release().await;
        }
        if self.in_place() {
            execute(&mut runner.administrator.connection, "ROLLBACK").await.map_err(failed("roll back"))?;
        }
        objects.sort_by(|a, b| (a.verdict, &a.object, &a.role).cmp(&(b.verdict, &b.object, &b.role)));
        self.disclose(&runner);
        Ok(AttackReport {
            mode: self.arena.mode,
            context: runner.context.describe(),
            context_origin: runner.context.origin,
            context_by: runner.context.by,
            objects,
            disclosed: std::mem::take(&mut self.disclosed),
        })
    }

    fn administrators_options(&self) -> PgConnectOptions {
        administrators(self.arena)
    }

    fn context(&self, guardian: Option<Context>) -> Context {
        match (&self.options.context_sql, guardian) {
            (Some(template), _) => Context::given(template, By::Application),
            (None, Some(guardian)) => guardian,
            (None, None) => Context::none(),
        }
    }

    fn field<'f>(&'f self, context: &'f Context, reach: &'f Reach<'f>) -> Field<'f> {
        let Self { facts, tenancy, marks, planted, signatures, .. } = self;
        Field { facts, reach, tenancy, planted, marks, context, signatures, in_place: self.in_place(), victim: None }
    }

    /// Begins the one transaction in place, or one for planting.
    async fn begin(&self, connection: &mut PgConnection) -> Result<(), AttackError> {
        execute(connection, "BEGIN").await.map_err(failed("begin"))?;
        if self.in_place() {
            execute(connection, "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '5s'")
                .await
                .map_err(failed("set time limits"))?;
        }
        self.past_triggers(connection).await
    }

    /// Only a superuser may plant past triggers and foreign keys; others plant through them.
    async fn past_triggers(&self, connection: &mut PgConnection) -> Result<(), AttackError> {
        if !self.facts.server.superuser {
            return Ok(());
        }
        execute(connection, "SET LOCAL session_replication_role = 'replica'").await.map_err(failed("plant past triggers"))
    }

    async fn pause(&self, connection: &mut PgConnection) -> Result<(), AttackError> {
        let end = if self.in_place() { "SET LOCAL session_replication_role = 'origin'" } else { "COMMIT" };
        if self.in_place() && !self.facts.server.superuser {
            return Ok(());
        }
        execute(connection, end).await.map_err(failed("finish planting"))?;
        if !self.in_place() {
            self.refresh(connection).await;
        }
        Ok(())
    }

    async fn resume(&self, connection: &mut PgConnection) -> Result<(), AttackError> {
        if self.in_place() { self.past_triggers(connection).await } else { self.begin(connection).await }
    }

    async fn plant(&mut self, connection: &mut PgConnection, tenants: &[Tenant]) -> Result<(), AttackError> {
        for tenant in tenants {
            self.planted.plant(connection, self.facts, self.marks, *tenant).await.map_err(failed("plant rows"))?;
        }
        Ok(())
    }

    /// What is kept of the rows elsewhere: materialized views and the planner's statistics. Each may fail by itself.
    async fn refresh(&self, connection: &mut PgConnection) {
        use crate::facts::RelationKind;
        let name = |one: &crate::facts::Relation| guardian_postgres::quote::qualified(&one.schema, &one.name);
        let ours = |one: &&crate::facts::Relation| !plant::is_systems(&one.schema);
        for view in self.facts.relations.iter().filter(|one| one.kind == RelationKind::MaterializedView).filter(ours) {
            let _ = execute(connection, &format!("REFRESH MATERIALIZED VIEW {}", name(view))).await;
            let _ = execute(connection, &format!("ANALYZE {}", name(view))).await;
        }
        for oid in &self.planted.tenants {
            if let Some(table) = self.facts.relation(*oid) {
                let _ = execute(connection, &format!("ANALYZE {}", name(table))).await;
            }
        }
    }

    /// Puts the role's session into the runner, and finds out how it enters a tenant.
    async fn take_the_field(&mut self, runner: &mut Runner<'_>, role: Oid) -> Result<(), AttackError> {
        let name = self.facts.role_name(role);
        let mut settings: Vec<_> = self.facts.role_settings.iter().filter(|one| one.role == role || one.role == 0).collect();
        // What is set for the role outranks what is set for all, and for this database what is set for any.
        settings.sort_by_key(|one| (one.role != 0, one.this_database));
        let role_settings: Vec<_> = settings.into_iter().map(|one| (one.name.clone(), one.value.clone())).collect();
        if self.in_place() {
            runner.administrator.role = name;
            runner.administrator.role_settings = role_settings;
        } else {
            let options = self.administrators_options();
            let connection = options.connect().await.map_err(failed("connect once more"))?;
            let again = Some(options);
            let entrance = if self.facts.server.superuser { Entrance::Authorization } else { Entrance::Membership };
            runner.attacker = Some(Session {
                connection,
                again,
                out_of_step: false,
                entrance,
                role: name,
                role_settings,
                in_place: false,
            });
        }
        let reach = Reach::of(self.facts, &[role]);
        if runner.context.is_none() && self.options.context_sql.is_none() {
            let none = Context::none();
            let field = self.field(&none, &reach);
            // Before B has rows, too: the first look must be in the same context as the second.
            let is_planted = |table: &&crate::facts::Relation| self.planted.row_of(table.oid, Tenant::A).is_some();
            let tables = self.facts.relations.iter().filter(|table| table.rls).filter(is_planted);
            let read = tables.filter(|table| reach.relation(table).select().is_some());
            let probes: Vec<String> = read.map(|table| field.count(table, Tenant::A)).collect();
            runner.find_context(context::proposals(self.facts, &reach), &probes).await;
        }
        if self.arena.logins && runner.context.by == By::Application {
            let options = self.login(runner, role).await.map_err(failed("let the application's role log in"))?;
            let connection = options.connect().await.map_err(failed("log in as the application's role"))?;
            if let Some(attacker) = &mut runner.attacker {
                attacker.connection = connection;
                attacker.again = Some(options);
                attacker.entrance = Entrance::Login;
            }
        }
        Ok(())
    }

    /// A session as an application's would be: the role gets a password of this run's, on our own server.
    async fn login(&self, runner: &mut Runner<'_>, role: Oid) -> Result<PgConnectOptions, sqlx::Error> {
        let name = self.facts.role_name(role);
        let password = random::<16>().unwrap_or_default().map(|byte| format!("{byte:02x}")).concat();
        let sql = format!(
            "ALTER ROLE {} LOGIN CONNECTION LIMIT -1 VALID UNTIL 'infinity' PASSWORD '{}'",
            guardian_postgres::quote::ident(&name),
            scram::verifier(&password)
        );
        execute(&mut runner.administrator.connection, &sql).await?;
        let options = self.arena.administrator.clone().username(&name).password(&password);
        // The time limits hold for what RESET ALL goes back to, too.
        Ok(options.options([("statement_timeout", "5s"), ("lock_timeout", "1s")]).disable_statement_logging())
    }

    /// A second session, in B's context, which has just said something.
    async fn victim(&self, runner: &mut Runner<'_>) -> Option<i32> {
        runner.attacker.as_ref().filter(|attacker| attacker.entrance == Entrance::Login)?;
        // The attacker's own options: the role's password is of this run.
        let options = runner.attacker.as_ref()?.again.clone()?;
        let mut connection = options.connect().await.ok()?;
        if let Some(sql) = runner.context.sql(Tenant::B, self.marks) {
            execute(&mut connection, &sql).await.ok()?;
        }
        let pid = text_of(&mut connection, "SELECT pg_catalog.pg_backend_pid()").await.ok()??.parse().ok()?;
        execute(&mut connection, &format!("SELECT '{}'", self.marks.word(Tenant::B, 0))).await.ok()?;
        runner.victim = Some(connection);
        Some(pid)
    }

    /// A key that is meant to be unique over all tenants is an oracle on purpose.
    fn accept(&mut self, attack: &attack::Attack, judged: Judged) -> Judged {
        let attack::Success::Violates(key) = &attack.success else { return judged };
        let key = format!("{} on {}", readable(key), attack.object.identity);
        match (self.options.accepted_keys.get(&key), &judged) {
            (Some(reason), Judged::Leaks { .. }) => {
                let line = format!("{key} is unique over all tenants, which was accepted: {reason}");
                if !self.disclosed.contains(&line) {
                    self.disclosed.push(line.clone());
                }
                Judged::Held { seen: line }
            }
            _ => judged,
        }
    }

    fn disclose(&mut self, runner: &Runner<'_>) {
        let mut disclosed: Vec<String> = self
            .planted
            .unfilled_names(self.facts)
            .into_iter()
            .map(|(table, reason)| format!("{table} could not be filled: {reason}"))
            .collect();
        if let Some((_, remarks)) = &self.arena.source {
            disclosed.extend(remarks.iter().map(|remark| format!("copying: {remark}")));
        }
        if self.in_place() {
            disclosed.push("in place: OIDs and transaction numbers were used up; nothing else was changed".to_owned());
        }
        if runner.victim.is_none() && !runner.saw_sessions {
            disclosed.push(
                "what sessions of one role see of each other was not attacked: it takes logins of its own (--clone)"
                    .to_owned(),
            );
        }
        if runner.context.is_none() {
            disclosed
                .push("no tenant context is known (--context-sql says it), so the role was attacked as it is".to_owned());
        }
        disclosed.push(
            "PostgreSQL keeps no role from learning how many rows there are (EXPLAIN, pg_class.reltuples, gaps in numbers of a \
             shared sequence) or from hearing every NOTIFY of the database"
                .to_owned(),
        );
        self.disclosed.extend(disclosed);
    }
}

/// The argument types of functions with their owner's rights.
pub(super) async fn signatures(connection: &mut PgConnection) -> Result<BTreeMap<Oid, Vec<String>>, sqlx::Error> {
    const SIGNATURES: &str = "SELECT coalesce(json_agg(json_build_array(p.oid::int8, (SELECT coalesce(json_agg(         pg_catalog.format_type(t, NULL) ORDER BY n), '[]') FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS u (t, n)))), '[]')::text         FROM pg_catalog.pg_proc AS p WHERE p.prosecdef";
    let text = text_of(connection, SIGNATURES).await?.unwrap_or_default();
    let list: Vec<(Oid, Vec<String>)> = serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(list.into_iter().collect())
}
