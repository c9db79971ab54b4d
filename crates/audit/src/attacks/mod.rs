//! The dynamic side: attacks as tenant A, from the application's role, against rows of tenant B.
//!
//! [`attack`] plants canaries of two synthetic tenants, plays every attack that the facts suggest, and asks a positive control
//! of each: the same statement must show B's canary to somebody who may see it, or the attack proves nothing. Every attack is
//! rolled back. Where it runs is an [`Arena`]: a copy ([`clone`]), a scratch database, or the database itself.
//!
//! Deliberately absent: attacks through an application's own API, and denial of service.

mod attack;
mod canary;
pub mod clone;
mod context;
mod fidelity;
mod kinds;
mod plant;
mod play;
mod session;
mod values;
mod verdict;
mod watch;

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::rand;
use guardian_postgres::scram;
use sqlx::{ConnectOptions as _, PgConnection, postgres::PgConnectOptions};

pub use attack::Kind;
pub use canary::Tenant;
pub use context::{By, Origin};
pub use verdict::{AttackReport, Attacked, Attempt, Mode, Verdict};
pub(crate) use verdict::{Judged, Ledger, Objection};

use self::{
    canary::{KeyForm, Marks},
    context::Context,
    kinds::Field,
    plant::Planted,
    play::Runner,
    session::{Entrance, Session, execute, text_of},
};
use crate::{
    audit::AuditError,
    facts::{CollectError, Facts, Oid, collect},
    reach::Reach,
    tenancy::Tenancy,
};

/// Where attacks are run.
#[derive(Debug, Clone)]
pub struct Arena {
    administrator: PgConnectOptions,
    mode: Mode,
    logins: bool,
    /// What the copy is of, and what could not be copied.
    source: Option<(Arc<Facts>, Vec<String>)>,
}

impl Arena {
    /// A copy. On a throwaway server its roles get passwords, so that sessions log in as the application's do.
    pub fn copy(copy: &clone::Copy, source: Arc<Facts>) -> Self {
        let is_throwaway = copy.is_throwaway();
        Self {
            administrator: copy.administrator().clone(),
            mode: if is_throwaway { Mode::Clone } else { Mode::Scratch },
            logins: is_throwaway,
            source: Some((source, copy.remarks.clone())),
        }
    }

    /// A database that may be filled. Its server's roles are left as they are.
    pub fn scratch(administrator: PgConnectOptions) -> Self {
        Self { administrator, mode: Mode::Scratch, logins: false, source: None }
    }

    /// The database itself: one session, one transaction, rolled back.
    pub fn in_place(administrator: PgConnectOptions) -> Self {
        Self { administrator, mode: Mode::InPlace, logins: false, source: None }
    }
}

/// What to attack, and as whom.
#[derive(Debug, Clone, Default)]
pub struct AttackOptions {
    /// The application's roles.
    pub app_roles: Vec<String>,
    /// Names of tenant columns; empty: inferred.
    pub tenant_columns: Vec<String>,
    /// How a session enters a tenant, with `{tenant}` (or `{tenant_hex}`) for the key; `None`: proposed from the policies.
    pub context_sql: Option<String>,
    /// Unique keys, by constraint or index, that are meant to be unique over all tenants, with the reason.
    pub accepted_keys: BTreeMap<String, String>,
    /// Go on although the database looks like production.
    pub yes: bool,
}

/// Why there were no attacks.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// It is not known what to attack as whom.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Nothing is known of the database.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// A statement of our own failed.
    #[error("cannot {what}")]
    Query {
        /// What was to be done.
        what: &'static str,
        /// Why it was not.
        #[source]
        source: sqlx::Error,
    },
    /// Guardian's registry refused the two tenants.
    #[error("cannot register the two tenants")]
    Registry(#[from] guardian_postgres::registry::RegistryError),
    /// Somebody works there.
    #[error("this looks like production ({0}); attack a copy (--clone), or say --yes-attack")]
    Production(String),
    /// No tenant tables are known.
    #[error("no table with a tenant column was found; name the column with --tenant-column")]
    NoTenants,
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

fn failed(what: &'static str) -> impl FnOnce(sqlx::Error) -> AttackError {
    move |source| AttackError::Query { what, source }
}

/// Settings that a role's or a database's defaults must not decide for us. The search path is the application's own: functions
/// that pin none find by it what they read.
const PINNED: [(&str, &str); 5] = [
    ("statement_timeout", "60s"),
    ("lock_timeout", "5s"),
    ("default_transaction_read_only", "off"),
    ("row_security", "on"),
    ("client_min_messages", "error"),
];

fn administrators(arena: &Arena) -> PgConnectOptions {
    arena.administrator.clone().options(PINNED).application_name("guardian attack").disable_statement_logging()
}

/// Attacks, and says what that proves.
pub async fn attack(arena: &Arena, options: &AttackOptions) -> Result<AttackReport, AttackError> {
    let mut connection = administrators(arena).connect().await.map_err(failed("connect"))?;
    if arena.mode == Mode::InPlace && !options.yes {
        if let Some(sign) = watch::production(&mut connection).await.map_err(failed("look whether this is production"))? {
            return Err(AttackError::Production(sign));
        }
    }
    let facts = collect(&mut connection).await?;
    let roles = roles_named(&facts, &options.app_roles)?;
    let tenancy = Tenancy::of(&facts, &options.tenant_columns);
    let types = tenancy.columns.iter().filter_map(|(oid, column)| Some(facts.column(*oid, column.number)?.base_type));
    let types: Vec<u32> = types.collect();
    if types.is_empty() {
        return Err(AttackError::NoTenants);
    }
    let marks = Marks::new(u32::from_be_bytes(random()?), KeyForm::of(types.into_iter()));
    let mut campaign = Campaign {
        arena,
        options,
        facts: &facts,
        tenancy: &tenancy,
        marks: &marks,
        planted: Planted::plan(&mut connection, &facts, &tenancy).await.map_err(failed("read the types"))?,
        signatures: signatures(&mut connection).await.map_err(failed("read the functions' arguments"))?,
        disclosed: Vec::new(),
    };
    campaign.run(connection, &roles).await
}

struct Campaign<'f> {
    arena: &'f Arena,
    options: &'f AttackOptions,
    facts: &'f Facts,
    tenancy: &'f Tenancy,
    marks: &'f Marks,
    planted: Planted,
    signatures: BTreeMap<Oid, Vec<String>>,
    disclosed: Vec<String>,
}

impl Campaign<'_> {
    fn in_place(&self) -> bool {
        self.arena.mode == Mode::InPlace
    }

    async fn run(&mut self, mut connection: PgConnection, roles: &[Oid]) -> Result<AttackReport, AttackError> {
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
            let probes: Vec<String> =
                field.tables().iter().filter(|table| table.rls).map(|t| field.count(t, Tenant::A)).collect();
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
        match (self.options.accepted_keys.get(key), &judged) {
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
            "PostgreSQL keeps no role from learning how many rows there are (EXPLAIN, pg_class.reltuples, gaps in numbers              drawn from a shared sequence) or from hearing every NOTIFY of the database"
                .to_owned(),
        );
        self.disclosed.extend(disclosed);
    }
}

fn roles_named(facts: &Facts, names: &[String]) -> Result<Vec<Oid>, AuditError> {
    if names.is_empty() {
        return Err(AuditError::NoRole);
    }
    let find =
        |name: &String| facts.role_named(name).map(|role| role.oid).ok_or_else(|| AuditError::UnknownRole(name.clone()));
    names.iter().map(find).collect()
}

/// The argument types of functions with their owner's rights.
async fn signatures(connection: &mut PgConnection) -> Result<BTreeMap<Oid, Vec<String>>, sqlx::Error> {
    const SIGNATURES: &str = "SELECT coalesce(json_agg(json_build_array(p.oid::int8, (SELECT coalesce(json_agg(         pg_catalog.format_type(t, NULL) ORDER BY n), '[]') FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY AS u (t, n)))), '[]')::text         FROM pg_catalog.pg_proc AS p WHERE p.prosecdef";
    let text = text_of(connection, SIGNATURES).await?.unwrap_or_default();
    let list: Vec<(Oid, Vec<String>)> = serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(list.into_iter().collect())
}

fn random<const N: usize>() -> Result<[u8; N], AttackError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| AttackError::Random)?;
    Ok(bytes)
}
