//! The bodies of the control plane's API, shared by the server and the client so that they cannot drift apart.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::door::Door;
use crate::{
    AuditRunId, ClusterName, IncidentId, Isolation, Limits, Login, LoginName, LoginProof, Operation, OperationId,
    Permission, Pooling, Role, RunId, Slug, Switch, Tenant, TenantId, TicketId, TierName, TokenId,
};

/// One page of a list.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Page<T> {
    /// The rows of this page.
    pub items: Vec<T>,
    /// Pass as `cursor` for the next page; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// An RFC 9457 problem document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// Names the kind: `https://guardian.dev/problems/…`; a name, not an address to fetch.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong this time, and what to do about it.
    pub detail: String,
}

/// Asks for a new tenant.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateTenant {
    /// Its name.
    pub slug: Slug,
    /// Its tier.
    pub tier: TierName,
    /// Its value in the tenant column; left out: a new UUID, the next number, or the slug, by the column's type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A tenant and the operation at work on it.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TenantChange {
    /// The tenant as it stands now.
    pub tenant: Tenant,
    /// The operation; ended already when it needed no waiting.
    pub operation: Operation,
}

/// Asks for a deletion; travels in the query, because proxies drop the body of a DELETE.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteTenant {
    /// The tenant's slug again, so that nobody deletes the wrong one by a slip of the path.
    pub confirm: String,
    /// Skip the grace period.
    #[serde(default)]
    pub now: bool,
}

/// Moves a tenant to another tier of the same isolation.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetTier {
    /// The new tier.
    pub tier: TierName,
}

/// Creates or replaces a tier.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PutTier {
    /// Where its tenants' data lives; cannot change while the tier has tenants.
    pub isolation: Isolation,
    /// Relative share under contention, 1 to 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Bounds on one tenant.
    #[serde(default)]
    pub limits: Limits,
    /// How long the SQL gateway lends a server connection to a client.
    #[serde(default)]
    pub pooling: Pooling,
    /// Feature flags.
    #[serde(default)]
    pub features: BTreeMap<String, bool>,
}

/// How to reach a tenant's data: a secret, each reading of which is in the audit log.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Connection {
    /// Host name, address, or directory of the unix socket.
    pub host: String,
    /// TCP port, also part of the unix socket's name.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The schema that holds the tables.
    pub schema: String,
    /// The login role.
    pub user: String,
    /// Its password.
    pub password: String,
    /// `row` tenants: 64 hexadecimal digits; bind them as `bytea` to `SELECT guardian.enter($1)`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
}

/// A session bound to one tenant, open for a minute, once.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TicketGrant {
    /// Names the ticket in the audit log.
    pub id: TicketId,
    /// Host name, address, or directory of the unix socket.
    pub host: String,
    /// TCP port, also part of the unix socket's name.
    pub port: u16,
    /// The database.
    pub database: String,
    /// The schema that holds the tables.
    pub schema: String,
    /// A login role made for this one session.
    pub user: String,
    /// Its password.
    pub password: String,
    /// `row` tenants: 64 hexadecimal digits for `SELECT guardian.redeem('\x…')`; spent by the first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// After this instant neither password nor ticket opens anything.
    pub expires_at: Timestamp,
}

/// Asks for a bearer token.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateToken {
    /// What it is for, in words.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// The only tenant of a `tenant_admin`: slug or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A bearer token without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// What it is for.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// The only tenant of a `tenant_admin`.
    pub tenant: Option<TenantId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stopped working.
    pub revoked_at: Option<Timestamp>,
}

/// A new token with its secret, shown this once.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NewToken {
    /// The token.
    pub token: Token,
    /// Send as `Authorization: Bearer …`.
    pub secret: String,
}

/// Asks for a login of the SQL gateway.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateLogin {
    /// Its name, unique.
    pub name: LoginName,
    /// Whom it may serve.
    pub scope: AskedScope,
    /// How it proves itself.
    #[serde(default)]
    pub proof: LoginProof,
}

/// Whom a new login may serve.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AskedScope {
    /// One tenant.
    Tenant {
        /// Slug or id.
        tenant: String,
    },
    /// Any tenant.
    AnyTenant {
        /// Whether, and by what, an open connection may change its tenant.
        #[serde(default)]
        switch: Switch,
    },
    /// The gateway's admin database. With braces, so that serde refuses unknown fields here, too.
    Admin {},
}

/// A login with its new password, shown this once, and where to use it.
#[derive(Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub struct NewLogin {
    /// The login.
    pub login: Login,
    /// Its password; absent for one that proves itself by a certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The user to connect as; `TENANT` stands for the slug of a tenant.
    pub user: String,
    /// Where the SQL gateway listens, as `guardian.toml` says.
    pub address: String,
    /// The database to connect to.
    pub database: String,
}

/// Something that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Incident {
    /// Its id.
    pub id: IncidentId,
    /// The operation that is stuck.
    pub operation: Option<OperationId>,
    /// Whose.
    pub tenant: Option<TenantId>,
    /// What happened, and what to do.
    pub summary: String,
    /// When.
    pub opened_at: Timestamp,
    /// When it was over.
    pub closed_at: Option<Timestamp>,
}

/// One audit of the application's shared place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditRun {
    /// Its id.
    pub id: AuditRunId,
    /// What was audited: `cluster/database/schema`.
    pub place: String,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; absent while it runs, and for ever if it was cut off.
    pub finished_at: Option<Timestamp>,
    /// Why it came to no verdict.
    pub error: Option<String>,
    /// How many findings of each severity; a severity without any is left out.
    pub findings: Option<BTreeMap<String, u32>>,
    /// How many rules could not run.
    pub could_not_run: Option<u32>,
}

/// What audits of the application's shared place found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditFinding {
    /// Where: `cluster/database/schema`.
    pub place: String,
    /// The same in every audit.
    pub fingerprint: String,
    /// The rule, such as `GRD-PG-001`.
    pub rule: String,
    /// `note`, `low`, `medium`, `high` or `critical`.
    pub severity: String,
    /// The object.
    pub object: String,
    /// What is wrong.
    pub title: String,
    /// What the catalog says.
    pub evidence: String,
    /// When it was first seen.
    pub first_seen: Timestamp,
    /// When it was last seen.
    pub last_seen: Timestamp,
    /// When it was first seen to be gone.
    pub gone_at: Option<Timestamp>,
}

/// One line of the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditEntry {
    /// Position in the log; gaps are transactions that were rolled back.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// Who: `token:tok_…`, `system:…` or `anonymous`.
    pub actor: String,
    /// What: `tenant.create`, `secret.read` ….
    pub action: String,
    /// Which tenant, when it is about one.
    pub tenant: Option<TenantId>,
    /// `allowed`, `refused`, `done`, `undone` or `failed`.
    pub outcome: String,
    /// More, without secrets.
    pub detail: serde_json::Value,
}

/// What `audit-log verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AuditVerification {
    /// Whether every sealed entry is what it was when it was sealed.
    pub intact: bool,
    /// What is wrong, one line each.
    pub faults: Vec<String>,
    /// Sealed entries.
    pub sealed: i64,
    /// Entries after the last seal: a change to them would not show yet.
    pub unsealed: i64,
    /// Seals in the chain.
    pub seals: i64,
    /// The last seal's hash in hexadecimal: keep it elsewhere, and a log cut short at the end will show too.
    pub head: Option<String>,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunKind {
    /// Harden the application's shared place.
    Apply,
    /// Bring every place to the newest migration.
    Migrate,
    /// Take a step of the adoption of an application that runs already.
    Adopt,
    /// Seal every secret under a new master key.
    RotateKey,
    /// Give tenants new capabilities, or their roles new passwords.
    RotateSecrets,
}

impl RunKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [Self::Apply, Self::Migrate, Self::Adopt, Self::RotateKey, Self::RotateSecrets];

    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "apply",
            Self::Migrate => "migrate",
            Self::Adopt => "adopt",
            Self::RotateKey => "rotate_key",
            Self::RotateSecrets => "rotate_secrets",
        }
    }

    /// What starting one asks for.
    pub const fn permission(self) -> Permission {
        match self {
            Self::Apply | Self::Migrate | Self::Adopt => Permission::SchemaWrite,
            Self::RotateKey | Self::RotateSecrets => Permission::TokenWrite,
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Where a run, or one item of it, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Not begun.
    Waiting,
    /// At work.
    Running,
    /// Went through.
    Done,
    /// Went wrong; `detail` says how.
    Failed,
    /// Given up, because no process came to its end; start another run, which goes on from here.
    Interrupted,
}

impl RunState {
    /// Every state.
    pub const ALL: [Self; 5] = [Self::Waiting, Self::Running, Self::Done, Self::Failed, Self::Interrupted];

    /// The word in the database and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// One statement of `apply`, or one place of `migrate`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RunItem {
    /// The object or place.
    pub name: String,
    /// Where it stands.
    pub state: RunState,
    /// The reason, the SQL file, or the error.
    pub detail: String,
    /// How long it took.
    pub duration_us: Option<u64>,
}

/// One pass of `apply`, `migrate` or `adopt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What it does.
    pub kind: RunKind,
    /// Where it stands.
    pub state: RunState,
    /// Why it failed as a whole.
    pub error: Option<String>,
    /// Its parts, in order.
    pub items: Vec<RunItem>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Which secrets of tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretKind {
    /// Those that enter the tenants in shared tables.
    Capabilities,
    /// Those of the roles of tenants with a schema or a database of their own.
    Passwords,
}

impl SecretKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Capabilities, Self::Passwords];

    /// The word in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Capabilities => "capabilities",
            Self::Passwords => "passwords",
        }
    }

    /// Reads the word back.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

/// Asks for new secrets.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotateSecrets {
    /// Which.
    pub what: SecretKind,
    /// Of this tenant alone: slug or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// The master keys, by their ids. An id is a hash that tells nothing of its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MasterKeys {
    /// The key that seals.
    pub sealing: String,
    /// The key that some secrets may still be sealed under, while the key is being changed.
    pub previous: Option<String>,
    /// When the key was changed last.
    pub rotated_at: Option<Timestamp>,
    /// The control planes that run, or did until not long ago.
    pub nodes: Vec<ControlNode>,
}

/// A control plane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ControlNode {
    /// Its name: the machine and the process.
    pub name: String,
    /// The master keys it has.
    pub keys: Vec<String>,
    /// The one it seals with.
    pub sealing: String,
    /// When it said so last.
    pub seen_at: Timestamp,
}

/// Asks for a run of `migrate`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StartMigration {
    /// Places at once, 64 at most; left out: what the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u16>,
    /// This ring only; left out: every one, in their order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
    /// Stop when more than this share of a ring's places failed, 0 to 100; left out: what the configuration says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt_percent: Option<u8>,
}

/// What `migrate` would do, by ring.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MigrationPlan {
    /// The files in the migrations folder, in order.
    pub files: Vec<String>,
    /// The rings, in the order in which they are migrated.
    pub rings: Vec<RingPlan>,
    /// Every place with the files it lacks, in the order in which they are migrated.
    pub places: Vec<PlaceMigrations>,
    /// What the missing files do to tables that are there, found out by running them in a scratch database that was dropped again.
    pub advice: Vec<MigrationAdvice>,
    /// Why there is no advice, or not on all files.
    pub advice_lacks: Option<String>,
}

/// One ring of places.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct RingPlan {
    /// Its name.
    pub name: String,
    /// Its places.
    pub places: usize,
    /// Those that lack a file.
    pub behind: usize,
}

/// What one place lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlaceMigrations {
    /// `cluster/database/schema`, and whose it is.
    pub place: String,
    /// The ring it belongs to.
    pub ring: String,
    /// Files not applied yet.
    pub pending: Vec<String>,
    /// Why the place cannot be read or must not be migrated.
    pub error: Option<String>,
}

/// What one statement of a migration does to a table that is there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct MigrationAdvice {
    /// The file.
    pub file: String,
    /// The line on which the statement begins, from 1.
    pub line: usize,
    /// The table, or the index.
    pub relation: String,
    /// The strongest lock on it: `AccessExclusiveLock` stops readers as well, `ShareLock` and above stop writers.
    pub lock: String,
    /// Whether its rows are written anew, under that lock.
    pub rewrites: bool,
    /// What to do instead.
    pub advice: String,
}

/// Where places differ from the migrations folder, and from each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct FleetDrift {
    /// The place whose tables the others are held against; none when no tenant has a place of its own.
    pub reference: Option<String>,
    /// A page of places, those without a difference included.
    pub places: Vec<PlaceDrift>,
    /// Asks for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_cursor: Option<String>,
}

/// How one place differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PlaceDrift {
    /// `cluster/database/schema`, and whose it is.
    pub place: String,
    /// The ring it belongs to.
    pub ring: String,
    /// Files not applied yet.
    pub missing: Vec<String>,
    /// Files that were changed after they had been applied here.
    pub changed: Vec<String>,
    /// Files that were applied here and are gone from the folder.
    pub gone: Vec<String>,
    /// Tables and views that are not as in the reference.
    pub tables: Vec<TableDrift>,
    /// Why the place cannot be read.
    pub error: Option<String>,
}

impl PlaceDrift {
    /// A place that does not differ.
    pub fn of(place: String, ring: String) -> Self {
        let (missing, changed, gone, tables) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { place, ring, missing, changed, gone, tables, error: None }
    }

    /// Whether anything is to be told of it.
    pub fn differs(&self) -> bool {
        let Self { missing, changed, gone, tables, error, .. } = self;
        error.is_some() || !(missing.is_empty() && changed.is_empty() && gone.is_empty() && tables.is_empty())
    }
}

/// A table that is not as in the reference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TableDrift {
    /// The table or view.
    pub table: String,
    /// How it differs.
    pub kind: TableDriftKind,
}

/// How a table differs from the reference's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TableDriftKind {
    /// The reference has it, the place does not.
    Missing,
    /// The place has it, the reference does not.
    Extra,
    /// Columns, constraints, indexes or triggers are others.
    Differs,
}

impl TableDriftKind {
    /// The word that people read.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Differs => "differs",
        }
    }
}

/// What `apply` would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HardeningReport {
    /// `register` (granted), `register (superuser function)` or `capability lookup`.
    pub mechanism: String,
    /// Why that one.
    pub mechanism_reason: String,
    /// What must be decided first; `apply` refuses while there is any.
    pub refusals: Vec<HardeningRefusal>,
    /// What `apply` would run, in order.
    pub statements: Vec<HardeningStatement>,
    /// What no statement can mend: oracles that remain, indexes that RLS makes unusable.
    pub notes: Vec<HardeningNote>,
    /// The statements as one migration file.
    pub script: String,
}

/// A statement of the hardening.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HardeningStatement {
    /// The object it changes.
    pub object: String,
    /// The SQL.
    pub sql: String,
    /// Why.
    pub reason: String,
    /// Whether it must run outside a transaction (`CREATE INDEX CONCURRENTLY`).
    pub outside_transaction: bool,
}

/// Something that only the user can decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HardeningRefusal {
    /// The table, key or column.
    pub object: String,
    /// What is wrong.
    pub problem: String,
    /// The ways out.
    pub ways_out: Vec<String>,
}

/// Something that remains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct HardeningNote {
    /// The object.
    pub object: String,
    /// What remains.
    pub text: String,
    /// The ways out.
    pub ways_out: Vec<String>,
}

/// The state of the control plane and its clusters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Status {
    /// Guardian's version.
    pub version: String,
    /// The application's name.
    pub application: String,
    /// Tenants by state.
    pub tenants: BTreeMap<String, i64>,
    /// Operations that are not over.
    pub operations_live: i64,
    /// Incidents that are open.
    pub incidents_open: i64,
    /// How the tenant context is kept; absent before `apply`.
    pub mechanism: Option<String>,
    /// Sessions that may reach every tenant right now.
    #[serde(default)]
    pub doors: Vec<Door>,
    /// Each cluster of `guardian.toml`.
    pub clusters: Vec<ClusterStatus>,
}

/// One cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ClusterStatus {
    /// Its name.
    pub name: String,
    /// Whether it answers.
    pub reachable: bool,
    /// Its server version.
    pub server_version: Option<String>,
    /// Why it does not answer.
    pub error: Option<String>,
    /// The tenant it is reserved for.
    pub reserved_for: Option<String>,
    /// Prepared databases, where `guardian.toml` wants some.
    #[serde(default)]
    pub warm_databases: Option<WarmDatabases>,
}

/// The stock of prepared databases of a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct WarmDatabases {
    /// With the newest migrations, waiting for a tenant; `None` when they could not be counted.
    pub ready: Option<usize>,
    /// How many there should be.
    pub wanted: u8,
}

/// Something that a gateway saw and the control plane has to put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GatewayEvent {
    /// A session changed its own role: its password or its defaults may be another's choice now.
    RoleAltered {
        /// The cluster.
        cluster: ClusterName,
        /// The role.
        role: String,
        /// Whose session it was.
        #[serde(default)]
        tenant: Option<TenantId>,
    },
    /// A server refused the password that the snapshot has.
    PasswordRefused {
        /// The cluster.
        cluster: ClusterName,
        /// The role.
        role: String,
    },
}
