//! Hardening as one pure function: facts about a database → ordered statements with reasons, refusals and notes.
//!
//! `plan`, `apply`, drift and (later) the auditor's remedies share it. It reads no database: [`collect`](crate::facts::collect)
//! does, before; and [`apply`](crate::apply::apply) runs the statements, after. A database that is as it should be yields none.

mod classes;
pub(crate) mod columns;
mod context;
mod foreign_keys;
mod functions;
pub(crate) mod keys;
mod notes;
mod place;
pub(crate) mod planner;
pub(crate) mod policies;
mod privileges;
mod relations;
pub(crate) mod roles;
mod system;

use std::collections::BTreeMap;

use guardian_model::{
    Config, KeyType,
    api::{HardeningNote, HardeningRefusal, HardeningReport, HardeningStatement},
    config::{Adoption, KeyDecision, PolicyForm},
    placement::ApplicationRoles,
};

pub use place::grant_place;

use crate::{facts::Facts, register::Mechanism};
use planner::Planner;

/// The permissive policy: opens the table, so that the restrictive one alone decides.
pub const POLICY_OPEN: &str = "guardian_open";
/// The restrictive policy: the tenant's rows only, whatever other policies say.
pub const POLICY_TENANT: &str = "guardian_tenant";

/// Lets a reading session through the door see the rows of every tenant.
pub const POLICY_DOOR: &str = "guardian_door";
/// Lets a writing one see and change them.
pub const POLICY_DOOR_WRITE: &str = "guardian_door_write";
/// What the two ask of each row: the time of the session's own role, which Guardian writes down as its comment (seconds since
/// 1970), is not over. A role can change its own settings and password, never its comment. The lookup is made once a
/// statement and the clock read at each row, so that a cursor opened in time yields nothing later. A role without a comment
/// sees no row.
pub const DOOR_IS_OPEN: &str = "clock_timestamp() < (SELECT to_timestamp(shobj_description(r.oid, 'pg_authid'::name)::double precision) \
    AS until FROM pg_roles r WHERE r.rolname = SESSION_USER)";

/// What the user declared about the application.
#[derive(Debug, Clone, PartialEq)]
pub struct Declaration {
    /// The roles that hardening makes.
    pub roles: Roles,
    /// The schema of the shared tables.
    pub schema: String,
    /// The column that names the tenant.
    pub tenant_column: String,
    /// Its type.
    pub tenant_key: KeyType,
    /// Tables that belong to no tenant, with reasons.
    pub global: BTreeMap<String, String>,
    /// Tables that belong to no tenant and that none reads, with reasons.
    pub closed: BTreeMap<String, String>,
    /// What becomes of keys without the tenant.
    pub keys: BTreeMap<String, KeyDecision>,
    /// Forms of policies that statistics shall not choose.
    pub policy_form: BTreeMap<String, PolicyForm>,
    /// A mechanism other than the best the server allows.
    pub mechanism: Option<Mechanism>,
    /// An application that runs already, and must not notice anything before a table is enforced.
    pub adoption: Option<Adoption>,
}

/// The application's roles, in the order that queries number them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles(ApplicationRoles);

impl Roles {
    /// LOGIN: the application.
    pub fn app(&self) -> &str {
        &self.0.app
    }

    /// Owns SECURITY DEFINER functions.
    pub fn definer(&self) -> &str {
        &self.0.definer
    }

    /// Owns the functions that set the context.
    pub fn enter(&self) -> &str {
        &self.0.enter
    }

    /// Owns the registry.
    pub fn registry(&self) -> &str {
        &self.0.registry
    }

    /// LOGIN while an application is being adopted.
    pub fn adopt(&self) -> &str {
        &self.0.adopt
    }

    /// Reads across tenants.
    pub fn door(&self) -> &str {
        &self.0.door
    }

    /// Reads and writes across tenants.
    pub fn door_write(&self) -> &str {
        &self.0.door_write
    }

    /// All of them, the application's own first, then the door's two behind those that it keeps for itself.
    pub fn all(&self) -> [&str; 7] {
        [self.app(), self.definer(), self.enter(), self.registry(), self.door(), self.door_write(), self.adopt()]
    }
}

impl From<&Config> for Declaration {
    fn from(config: &Config) -> Self {
        let application = &config.application;
        Self {
            roles: Roles(ApplicationRoles::of(&application.name)),
            schema: application.schema.clone(),
            tenant_column: application.tenant_column.clone(),
            tenant_key: application.tenant_key,
            global: application.global.clone(),
            closed: application.closed.clone(),
            keys: application.keys.clone(),
            policy_form: application.policy_form.clone(),
            mechanism: None,
            adoption: config.adoption.clone(),
        }
    }
}

impl Declaration {
    /// The column types that hold such keys.
    pub(crate) const fn column_types(&self) -> &'static [&'static str] {
        match self.tenant_key {
            KeyType::Uuid => &["uuid"],
            KeyType::Bigint => &["bigint", "integer", "smallint"],
            KeyType::Text => &["text", "character varying"],
        }
    }
}

/// A statement with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The object it changes.
    pub object: String,
    /// The SQL, without a final semicolon.
    pub sql: String,
    /// Why.
    pub reason: String,
    /// When an adoption may run it.
    pub stage: Stage,
}

/// When an adoption may run a statement (docs/adr/0012-adoption-in-stages.md). `apply` runs all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// At any time: it changes nothing for the roles that use the database today.
    Prepare,
    /// When the object is enforced; it can be taken back in an instant.
    Enforce,
    /// At the end: what it changes is not known any more afterwards, or cannot be made again quickly.
    Finish,
}

impl Statement {
    /// Nobody who uses the database today notices it.
    #[must_use]
    pub(crate) fn inert(self) -> Self {
        self.at(Stage::Prepare)
    }

    /// There is no quick way back from it.
    #[must_use]
    pub(crate) fn last(self) -> Self {
        self.at(Stage::Finish)
    }

    /// Not before this stage.
    #[must_use]
    pub(crate) fn no_sooner(self, stage: Stage) -> Self {
        Self { stage: self.stage.max(stage), ..self }
    }

    #[must_use]
    pub(crate) fn at(self, stage: Stage) -> Self {
        Self { stage, ..self }
    }
}

/// Statements that take effect together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// One transaction.
    Transaction(Vec<Statement>),
    /// `CREATE INDEX CONCURRENTLY`, which refuses a transaction and leaves an invalid index when it fails.
    Concurrently {
        /// The statement.
        statement: Statement,
        /// The index's schema.
        schema: String,
        /// The index's name.
        index: String,
    },
}

impl Batch {
    /// Its statements, in order.
    pub fn statements(&self) -> &[Statement] {
        match self {
            Self::Transaction(statements) => statements,
            Self::Concurrently { statement, .. } => std::slice::from_ref(statement),
        }
    }
}

/// Something only the user can decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The object.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// The ways out.
    pub ways_out: Vec<String>,
}

/// Something that no statement can mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The object.
    pub object: String,
    /// What remains.
    pub text: String,
    /// The ways out.
    pub ways_out: Vec<String>,
}

/// What hardening would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hardening {
    /// How the tenant context is kept.
    pub mechanism: Mechanism,
    /// Why so.
    pub mechanism_reason: String,
    /// While there is any, nothing is applied.
    pub refusals: Vec<Refusal>,
    /// The statements in order, by transaction.
    pub batches: Vec<Batch>,
    /// What remains.
    pub notes: Vec<Note>,
}

/// Decides everything.
pub fn plan(facts: &Facts, declaration: &Declaration) -> Hardening {
    let mut planner = Planner::new(facts, declaration);
    planner.refuse_what_is_undecided();
    planner.harden_roles();
    planner.harden_default_privileges();
    planner.harden_context();
    planner.harden_columns();
    planner.harden_keys();
    planner.harden_schemas();
    planner.harden_functions();
    planner.harden_tables();
    planner.harden_relations();
    planner.harden_system();
    planner.forget_filling();
    planner.note_what_remains();
    planner.finish()
}

/// A foreign key between tables of tenants that does not carry the tenant yet.
pub(crate) struct ForeignKeyMove {
    pub(crate) table: String,
    pub(crate) foreign_key: String,
    pub(crate) referenced: String,
    /// Counts the rows that refer to another tenant's, and says where one is.
    pub(crate) strays: String,
}

/// The foreign keys that are to carry the tenant.
pub(crate) fn moves(facts: &Facts, declaration: &Declaration) -> Vec<ForeignKeyMove> {
    let mut planner = Planner::new(facts, declaration);
    planner.decide_foreign_keys(&[]).iter().map(|one| one.described(&declaration.tenant_column)).collect()
}

impl Hardening {
    /// Every statement in order, with whether it runs outside a transaction.
    pub fn statements(&self) -> impl Iterator<Item = (&Statement, bool)> {
        self.batches.iter().flat_map(|batch| {
            let outside = matches!(batch, Batch::Concurrently { .. });
            batch.statements().iter().map(move |statement| (statement, outside))
        })
    }

    /// Those statements only that `wanted` says, in their order.
    #[must_use]
    pub fn only(mut self, wanted: impl Fn(&Statement) -> bool) -> Self {
        self.batches = self
            .batches
            .into_iter()
            .filter_map(|batch| match batch {
                Batch::Transaction(mut statements) => {
                    statements.retain(&wanted);
                    (!statements.is_empty()).then_some(Batch::Transaction(statements))
                }
                Batch::Concurrently { statement, schema, index } => {
                    wanted(&statement).then_some(Batch::Concurrently { statement, schema, index })
                }
            })
            .collect();
        self
    }

    /// Whether the database is as it should be.
    pub const fn is_clean(&self) -> bool {
        self.refusals.is_empty() && self.batches.is_empty()
    }

    /// As the API shows it.
    pub fn report(&self) -> HardeningReport {
        HardeningReport {
            mechanism: self.mechanism.as_str().to_owned(),
            mechanism_reason: self.mechanism_reason.clone(),
            refusals: self
                .refusals
                .iter()
                .map(|Refusal { object, problem, ways_out }| HardeningRefusal {
                    object: object.clone(),
                    problem: problem.clone(),
                    ways_out: ways_out.clone(),
                })
                .collect(),
            statements: self
                .statements()
                .map(|(Statement { object, sql, reason, .. }, outside_transaction)| HardeningStatement {
                    object: object.clone(),
                    sql: sql.clone(),
                    reason: reason.clone(),
                    outside_transaction,
                })
                .collect(),
            notes: self
                .notes
                .iter()
                .map(|Note { object, text, ways_out }| HardeningNote {
                    object: object.clone(),
                    text: text.clone(),
                    ways_out: ways_out.clone(),
                })
                .collect(),
            script: self.script(),
        }
    }

    /// The statements as one file for psql, with reasons as comments and each batch in its transaction.
    pub fn script(&self) -> String {
        use std::fmt::Write;
        let mut script = String::from("\\set ON_ERROR_STOP on\nSET search_path = pg_catalog;\nSET lock_timeout = '2s';\n");
        for batch in &self.batches {
            let transaction = matches!(batch, Batch::Transaction(_));
            script.push_str(if transaction { "\nBEGIN;\n" } else { "\n" });
            for Statement { object, sql, reason, .. } in batch.statements() {
                // Writing to a string cannot fail.
                let _ = writeln!(script, "-- {}: {}\n{sql};", one_line(object), one_line(reason));
            }
            if transaction {
                script.push_str("COMMIT;\n");
            }
        }
        script
    }
}

/// A name may hold a line break, which would end the comment.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
