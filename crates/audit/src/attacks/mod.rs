//! The dynamic side: attacks as tenant A, from the application's role, against rows of tenant B.
//!
//! [`attack`] plants canaries of two synthetic tenants, plays every attack that the facts suggest, and asks a positive control
//! of each: the same statement must show B's canary to somebody who may see it, or the attack proves nothing. Every attack is
//! rolled back. Where it runs is an [`Arena`]: a copy ([`clone`]), a scratch database, or the database itself.
//!
//! Deliberately absent: attacks through an application's own API, and denial of service.

mod attack;
mod campaign;
mod canary;
mod claims;
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
use sqlx::{ConnectOptions as _, postgres::PgConnectOptions};

pub use attack::Kind;
pub use canary::Tenant;
pub use context::{By, Origin};
pub use verdict::{AttackReport, Attacked, Attempt, Mode, Verdict};
pub(crate) use verdict::{Judged, Ledger, Objection};

use self::{
    campaign::{Campaign, signatures},
    canary::{KeyForm, Marks},
    plant::Planted,
};
use crate::{
    audit::AuditError,
    facts::{CollectError, Facts, Oid, collect},
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
    /// Unique keys that are meant to be unique over all tenants, as findings name them (`mailbox_pkey on public.mailbox`), with
    /// the reason.
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
    if arena.mode == Mode::InPlace
        && !options.yes
        && let Some(sign) = watch::production(&mut connection).await.map_err(failed("look whether this is production"))?
    {
        return Err(AttackError::Production(sign));
    }
    let facts = collect(&mut connection).await?;
    let roles = roles_named(&facts, &options.app_roles)?;
    let tenancy = Tenancy::of(&facts, &options.tenant_columns);
    let types = tenancy.columns.iter().filter_map(|(oid, column)| Some(facts.column(*oid, column.number)?.base_type));
    let types: Vec<u32> = types.collect();
    if types.is_empty() {
        return Err(AttackError::NoTenants);
    }
    let marks = Marks::new(u32::from_be_bytes(random()?), KeyForm::of(&types));
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

fn roles_named(facts: &Facts, names: &[String]) -> Result<Vec<Oid>, AuditError> {
    if names.is_empty() {
        return Err(AuditError::NoRole);
    }
    let find =
        |name: &String| facts.role_named(name).map(|role| role.oid).ok_or_else(|| AuditError::UnknownRole(name.clone()));
    names.iter().map(find).collect()
}

fn random<const N: usize>() -> Result<[u8; N], AttackError> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| AttackError::Random)?;
    Ok(bytes)
}
