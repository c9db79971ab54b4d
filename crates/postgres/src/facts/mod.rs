//! What is true of a database: everything that hardening decides on, collected in a bounded number of catalog queries
//! however many tables there are, and serialisable, so that a plan can be made (and tested) away from the database.
//!
//! Nothing here judges. A fact says what the catalog says; `harden` says what ought to be.

mod collect;
mod counts;
mod keys;
mod objects;
mod relations;
mod server;

use serde::{Deserialize, Serialize};

pub use collect::{CollectError, PlaceFacts, collect, collect_place};
pub use keys::{ForeignKeyFacts, KeyFacts, LeakyIndex};

/// A catalog object's OID; only a reference between facts of one collection.
pub type Oid = u32;

/// Everything collected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The server and the administrator's standing on it.
    pub server: ServerFacts,
    /// The database.
    pub database: DatabaseFacts,
    /// Every schema but the system's.
    pub schemas: Vec<SchemaFacts>,
    /// The application's roles and every role that is special.
    pub roles: Vec<RoleFacts>,
    /// Who is a member of what, as far as the application's roles reach.
    pub memberships: Vec<Membership>,
    /// Objects, of this database or shared, that belong to the application's own role.
    pub owned_by_application: i64,
    /// Persistent settings of the application's roles.
    pub role_settings: Vec<RoleSetting>,
    /// The relations of the application's schema, with every partition and child wherever it is, and of Guardian's own schema.
    pub relations: Vec<RelationFacts>,
    /// Unique indexes and exclusion constraints.
    pub keys: Vec<KeyFacts>,
    /// Foreign keys from or to those relations.
    pub foreign_keys: Vec<ForeignKeyFacts>,
    /// Indexes whose operators may leak, with the columns concerned.
    pub leaky_indexes: Vec<LeakyIndex>,
    /// Policies.
    pub policies: Vec<PolicyFacts>,
    /// Rewrite rules other than those that make views.
    pub rules: Vec<RuleFacts>,
    /// The triggers that fill a tenant column, by table.
    pub fill_triggers: Vec<Oid>,
    /// Functions of the application's schema and Guardian's, and dangerous ones elsewhere.
    pub functions: Vec<FunctionFacts>,
    /// Default privileges that open new objects to the application.
    pub default_privileges: Vec<DefaultPrivilege>,
    /// System functions that PUBLIC may call although a shared role should not.
    pub open_system_functions: Vec<SystemFunction>,
    /// Publications that carry tenants' rows.
    pub publications: Vec<String>,
    /// Relations of other schemas that the application's role reaches.
    pub reachable_elsewhere: Vec<ReachableRelation>,
}

/// The server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerFacts {
    /// `server_version_num`: 150004 and so on.
    pub version: i32,
    /// The role that collects, and will apply.
    pub admin: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// Whether it may grant `SET` on the register (15+).
    pub may_grant_register: bool,
    /// Roles that hold `SET` on the register (15+); `None` is PUBLIC.
    pub register_grantees: Vec<Option<String>>,
    /// More than 0 lets a session leave a prepared transaction behind.
    pub max_prepared_transactions: i32,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// Grants to PUBLIC and the application's roles.
    pub grants: Vec<Grant>,
}

/// A privilege that PUBLIC or one of the application's roles holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// `None` is PUBLIC.
    pub grantee: Option<String>,
    /// `SELECT`, `EXECUTE` ….
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
}

/// A schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaFacts {
    /// Its name.
    pub name: String,
    /// Its owner.
    pub owner: String,
    /// Grants to PUBLIC and the application's roles.
    pub grants: Vec<Grant>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are the columns of pg_roles")]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// SUPERUSER
    pub superuser: bool,
    /// BYPASSRLS
    pub bypasses_rls: bool,
    /// CREATEROLE
    pub creates_roles: bool,
    /// CREATEDB
    pub creates_databases: bool,
    /// REPLICATION
    pub replicates: bool,
    /// LOGIN
    pub logs_in: bool,
    /// Owns at least one of the application's tables.
    pub owns_tables: bool,
    /// Whether the administrator is a member of it, and so may give objects to it.
    pub admin_is_member: bool,
}

/// A membership.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The role that is passed on.
    pub role: String,
    /// Who holds it.
    pub member: String,
}

/// `ALTER ROLE … [IN DATABASE …] SET …`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleSetting {
    /// The role.
    pub role: String,
    /// `None`: in every database.
    pub database: Option<String>,
    /// `name=value`.
    pub setting: String,
}

/// The kind of a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// A plain table.
    Table,
    /// A partitioned parent.
    Partitioned,
    /// A view.
    View,
    /// A materialised view.
    MaterializedView,
    /// A foreign table.
    ForeignTable,
    /// A sequence.
    Sequence,
}

/// A relation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of pg_class")]
pub struct RelationFacts {
    /// Its OID.
    pub oid: Oid,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its kind.
    pub kind: RelationKind,
    /// Its owner.
    pub owner: String,
    /// Part of an extension.
    pub extension: bool,
    /// A partition of something.
    pub partition: bool,
    /// What it inherits from.
    pub parents: Vec<Oid>,
    /// `ENABLE ROW LEVEL SECURITY`
    pub rls: bool,
    /// `FORCE ROW LEVEL SECURITY`
    pub rls_forced: bool,
    /// A view's `security_invoker` (15+).
    pub security_invoker: bool,
    /// A view's bits of `pg_relation_is_updatable`.
    pub updatable: i32,
    /// A sequence behind an identity column, which needs no privilege.
    pub identity: bool,
    /// The table that a sequence belongs to.
    pub owned_by: Option<Oid>,
    /// Pages, from the last VACUUM or ANALYZE; with a partitioned table, all partitions together.
    pub pages: i64,
    /// Grants to PUBLIC and the application's roles.
    pub grants: Vec<Grant>,
    /// Other roles that hold something on it, apart from its owner.
    pub others: Vec<String>,
    /// Grantees of single columns; `None` is PUBLIC.
    pub column_grantees: Vec<Option<String>>,
    /// The tenant column.
    pub tenant: Option<TenantColumn>,
    /// Check constraints on it, by name.
    pub checks: Vec<CheckFacts>,
}

/// The tenant column of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantColumn {
    /// Its type as written.
    pub written_type: String,
    /// The type below a domain.
    pub base_type: String,
    /// NOT NULL
    pub not_null: bool,
    /// A generated column takes no default.
    pub generated: bool,
    /// Its default.
    pub default: Option<String>,
    /// Rows without a tenant; counted only where the column is nullable.
    pub nulls: i64,
    /// Rows whose key the register cannot carry; counted only before the table is hardened.
    pub unfit: i64,
    /// The share of the rows that the largest tenant holds, from the statistics.
    pub largest_share: Option<f32>,
}

/// A check constraint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckFacts {
    /// Its name.
    pub name: String,
    /// Whether old rows are known to satisfy it.
    pub validated: bool,
    /// The columns that it reads, sorted.
    #[serde(default)]
    pub columns: Vec<String>,
}

/// A policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFacts {
    /// Its table.
    pub table: Oid,
    /// Its name.
    pub name: String,
    /// PERMISSIVE
    pub permissive: bool,
    /// `*` all, `r`, `a`, `w`, `d`.
    pub command: char,
    /// For PUBLIC, and nobody in particular.
    pub to_public: bool,
    /// For whom otherwise, in the order of their names.
    pub roles: Vec<String>,
    /// USING
    pub using: Option<String>,
    /// WITH CHECK
    pub check: Option<String>,
}

/// A rewrite rule: its action runs with the rights of the table's owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleFacts {
    /// Its table or view.
    pub table: Oid,
    /// Its name.
    pub name: String,
}

/// A function or procedure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "they are columns of pg_proc")]
pub struct FunctionFacts {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Its argument types, as `ALTER FUNCTION` wants them.
    pub arguments: String,
    /// `f` function, `p` procedure, `a` aggregate, `w` window.
    pub kind: char,
    /// Its owner.
    pub owner: String,
    /// Whether the owner is a superuser or bypasses row-level security.
    pub owner_bypasses_rls: bool,
    /// SECURITY DEFINER
    pub definer: bool,
    /// LEAKPROOF
    pub leakproof: bool,
    /// `i` immutable, `s` stable, `v` volatile.
    pub volatility: char,
    /// Its `SET` clauses.
    pub settings: Vec<String>,
    /// Whether its text mentions `current_setting`.
    pub reads_settings: bool,
    /// The body, of Guardian's own functions only.
    pub body: Option<String>,
    /// Grants to PUBLIC and the application's roles.
    pub grants: Vec<Grant>,
}

/// A default privilege for objects that do not exist yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultPrivilege {
    /// Whose new objects.
    pub owner: String,
    /// Where; `None`: everywhere.
    pub schema: Option<String>,
    /// `r` tables, `S` sequences, `f` functions.
    pub kind: char,
    /// `None` is PUBLIC.
    pub grantee: Option<String>,
}

/// A function of the system that PUBLIC may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemFunction {
    /// `pg_catalog.lo_create(oid)`, quoted.
    pub signature: String,
    /// Its bare name.
    pub name: String,
}

/// A relation outside the place that the application's role reaches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachableRelation {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it is `pg_stat_statements` or its kin, which show other sessions' statements.
    pub shows_statements: bool,
    /// Granted to PUBLIC; otherwise to the application's role by name.
    pub to_public: bool,
}
