//! What is true of a database, of everything that a role could reach: collected in a bounded number of queries however many
//! tables there are, and serialisable, so that an audit can be made (and tested) away from the database.
//!
//! Nothing here judges. Lists are sorted by OID (children by their parent's), so that a look-up is a binary search; whoever
//! makes or reads facts by hand calls [`Facts::sort`].

mod code;
mod collect;
mod comments;
mod constraints;
mod dependencies;
mod domains;
mod languages;
mod outside;
mod relations;
mod roles;
mod saved;
mod schemas;
mod server;
mod sorted;
mod trial;
mod truth;

use serde::{Deserialize, Serialize};

pub use code::{EventTrigger, Function, LEAKY, RewriteRule, Trigger, Volatility};
pub use collect::{CollectError, collect, collect_for};
pub use comments::Comment;
pub use constraints::{Constraint, ConstraintKind, Index};
pub use dependencies::{Catalog, Dependency};
pub use domains::Domain;
pub use languages::Language;
pub use outside::{Extension, ForeignServer, LargeObjects, Publication, ReplicationSlot, Subscription, UserMapping};
pub use relations::{Column, Command, Policy, Relation, RelationKind, Sequence};
pub use roles::{Membership, ParameterGrant, Role, RoleSetting};
pub use saved::FactsError;
pub use schemas::{DefaultPrivilege, Schema};
pub use server::{Database, HbaRule, Server, Setting};
pub use truth::{Flag, PredicateKind, Rows, Truth};

/// A catalog object's OID; only a reference between facts of one collection.
pub type Oid = u32;

/// The grantee that stands for every role.
pub const PUBLIC: Oid = 0;

/// The format of saved facts; another number is refused.
pub const FORMAT: u32 = 1;

/// Everything collected.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// [`FORMAT`]
    pub format: u32,
    /// Whether the server was started only to look at a schema: of itself, nothing is to be said.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub throwaway: bool,
    /// The server and the standing of the role that collected.
    pub server: Server,
    /// Settings as the collecting session sees them, by name.
    pub settings: Vec<Setting>,
    /// Lines of `pg_hba.conf`.
    pub hba_rules: Vec<HbaRule>,
    /// The database audited.
    pub database: Database,
    /// Every database of the server, this one too.
    pub databases: Vec<Database>,
    /// Every role, by OID.
    pub roles: Vec<Role>,
    /// Who is a member of what, by member.
    pub memberships: Vec<Membership>,
    /// `ALTER ROLE … SET` and `ALTER DATABASE … SET`.
    pub role_settings: Vec<RoleSetting>,
    /// `GRANT SET ON PARAMETER` (15+).
    pub parameter_grants: Vec<ParameterGrant>,
    /// Every schema but temporary and TOAST ones; `pg_catalog` and `information_schema` too.
    pub schemas: Vec<Schema>,
    /// Default privileges.
    pub default_privileges: Vec<DefaultPrivilege>,
    /// Relations outside the system's schemas, and in them the few whose privileges are not those of a new cluster.
    pub relations: Vec<Relation>,
    /// Columns of those relations, by relation and number.
    pub columns: Vec<Column>,
    /// Sequences' own properties, by OID.
    pub sequences: Vec<Sequence>,
    /// Constraints of those relations and of domains, by relation.
    pub constraints: Vec<Constraint>,
    /// Indexes, by table.
    pub indexes: Vec<Index>,
    /// Policies, by table.
    pub policies: Vec<Policy>,
    /// Rewrite rules other than those that make views, by relation.
    pub rewrite_rules: Vec<RewriteRule>,
    /// Functions outside the system's schemas; in them those with altered privileges, or dangerous ones.
    pub functions: Vec<Function>,
    /// Languages.
    #[serde(default)]
    pub languages: Vec<Language>,
    /// Domains.
    pub domains: Vec<Domain>,
    /// Triggers other than those of constraints, by table.
    pub triggers: Vec<Trigger>,
    /// Event triggers.
    pub event_triggers: Vec<EventTrigger>,
    /// Foreign servers.
    pub foreign_servers: Vec<ForeignServer>,
    /// User mappings, without their secrets.
    pub user_mappings: Vec<UserMapping>,
    /// Extensions.
    pub extensions: Vec<Extension>,
    /// Publications.
    pub publications: Vec<Publication>,
    /// Subscriptions of this database.
    pub subscriptions: Vec<Subscription>,
    /// Logical replication slots of this database.
    pub slots: Vec<ReplicationSlot>,
    /// Large objects, one entry an owner and privilege list.
    pub large_objects: Vec<LargeObjects>,
    /// What refers to what, by dependent.
    pub dependencies: Vec<Dependency>,
    /// Comments that grant exceptions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<Comment>,
    /// What PostgreSQL made of predicates.
    pub truths: Vec<Truth>,
    /// What could not be read.
    pub missing: Vec<Missing>,
}

/// A part of the facts that is read at once and can be missing on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the field of `Facts` of that name")]
pub enum Source {
    Settings,
    HbaRules,
    Databases,
    Roles,
    Memberships,
    RoleSettings,
    ParameterGrants,
    Schemas,
    DefaultPrivileges,
    Relations,
    Columns,
    Sequences,
    Constraints,
    Indexes,
    Policies,
    RewriteRules,
    Functions,
    Languages,
    /// How roles' passwords are kept: a part of [`Facts::roles`].
    Passwords,
    Domains,
    Triggers,
    EventTriggers,
    ForeignServers,
    UserMappings,
    Extensions,
    Publications,
    Subscriptions,
    Slots,
    LargeObjects,
    Dependencies,
    Comments,
    Truths,
}

/// The word that the facts have for it: `role_settings`.
impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}

/// A source that could not be read: the rules that need it cannot run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Missing {
    /// What.
    pub source: Source,
    /// Why not, as the server said it.
    pub reason: String,
}

/// What one grantee holds on one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The role, or [`PUBLIC`].
    pub to: Oid,
    /// What it may do.
    pub privileges: Vec<Privilege>,
    /// Those that it may pass on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grantable: Vec<Privilege>,
}

/// An object's privilege list. The owner's own rights need not be in it: an owner can always give them to itself.
pub type Acl = Vec<Grant>;

/// A privilege, by PostgreSQL's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "they are PostgreSQL's own words")]
pub enum Privilege {
    Select,
    Insert,
    Update,
    Delete,
    Truncate,
    References,
    Trigger,
    Maintain,
    Execute,
    Usage,
    Create,
    Connect,
    #[serde(alias = "TEMP")]
    Temporary,
    Set,
    #[serde(rename = "ALTER SYSTEM")]
    AlterSystem,
    /// One that a later PostgreSQL has.
    #[serde(other)]
    Unknown,
}

impl Privilege {
    /// PostgreSQL's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Truncate => "TRUNCATE",
            Self::References => "REFERENCES",
            Self::Trigger => "TRIGGER",
            Self::Maintain => "MAINTAIN",
            Self::Execute => "EXECUTE",
            Self::Usage => "USAGE",
            Self::Create => "CREATE",
            Self::Connect => "CONNECT",
            Self::Temporary => "TEMPORARY",
            Self::Set => "SET",
            Self::AlterSystem => "ALTER SYSTEM",
            Self::Unknown => "an unknown privilege",
        }
    }
}
