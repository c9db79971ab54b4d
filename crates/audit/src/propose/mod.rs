//! Proposes a tenancy model for a schema that has none yet, or half of one: what `guardian init` writes down.
//!
//! [`propose`] is pure: names, types, foreign keys and policies out of [`Facts`] make a [`Proposal`]; [`Proposal::config`]
//! writes it as `guardian.toml`, [`Proposal::migration`] as SQL that adds the tenant to every table, and
//! [`Proposal::foresee`] shows hardening the database as it will be after that, so that keys and policies come from the same
//! function as in `guardian apply`. What cannot be known is *undecided*, with what is missing: it is never guessed.

mod classes;
mod config;
mod foresee;
mod graph;
mod keys;
mod migration;
mod names;
mod notes;
mod root;

use guardian_model::KeyType;
use serde::Serialize;

pub use config::Surroundings;
pub use root::Candidate;

use crate::facts::{Facts, Oid};
use graph::Graph;

/// What the user knows already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// The tenants' table, `name` or `schema.name`.
    pub tenant_root: Option<String>,
    /// The column that says whose a row is.
    pub tenant_column: Option<String>,
    /// The application's name in `guardian.toml`; left out: made of the database's.
    pub application: Option<String>,
}

/// How sure a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// Look at it before you use it.
    Low,
    /// Something speaks against it, or little for it.
    Medium,
    /// The database itself says so.
    High,
}

impl Confidence {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// Whose rows a table holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Class {
    /// The table of the tenants themselves.
    Root,
    /// Each row says whose it is.
    Tenant,
    /// Each row is whose its parent is.
    Through {
        /// The ways to the tenant, the best first; the next is for the rows that the one before says nothing about.
        ways: Vec<Way>,
    },
    /// Nobody's: the same for everybody.
    Global {
        /// Why, as `guardian.toml` will say it.
        reason: String,
    },
    /// Not known.
    Undecided,
}

impl Class {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Root => "tenants",
            Self::Tenant => "tenant-owned",
            Self::Through { .. } => "through parent",
            Self::Global { .. } => "global",
            Self::Undecided => "undecided",
        }
    }

    /// Whether its rows are tenants'.
    pub const fn is_owned(&self) -> bool {
        matches!(self, Self::Root | Self::Tenant | Self::Through { .. })
    }
}

/// A step from a row to the parent that says whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Way {
    /// The foreign key; `None`: only the column's name says so.
    pub foreign_key: Option<String>,
    /// The columns of the row.
    pub columns: Vec<String>,
    /// The parent's schema.
    pub parent_schema: String,
    /// The parent.
    pub parent: String,
    /// The columns there, in the same order.
    pub parent_columns: Vec<String>,
    /// Every row has a parent.
    pub required: bool,
    /// All steps up to the tenant: `message.ticket_id → ticket.id, ticket.account_id → account.id`.
    pub path: String,
    #[serde(skip)]
    parent_oid: Oid,
}

/// A table with its class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whose rows.
    pub class: Class,
    /// How sure.
    pub confidence: Confidence,
    /// Why.
    pub evidence: Vec<String>,
    /// The migration adds the tenant column.
    pub gets_column: bool,
    #[serde(skip)]
    oid: Oid,
}

/// What becomes of a unique or primary key without the tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Key {
    /// Its name.
    pub name: String,
    /// Its table.
    pub table: String,
    /// `None`: the tenant comes in front; otherwise why it stays unique over all tenants.
    pub global: Option<String>,
    #[serde(skip)]
    table_oid: Oid,
}

/// Something to know or to decide that is about no one table's class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What it is about.
    pub object: String,
    /// What there is to know, and what to do.
    pub text: String,
}

/// The whole proposal. Everything in it is sorted; the same facts make the same proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proposal {
    /// The application's name: its roles are named after it.
    pub application: String,
    /// The database.
    pub database: String,
    /// The schema that Guardian will keep tenants apart in: the one with the most tenants' tables.
    pub schema: String,
    /// The tenants' table and column, with the evidence.
    pub tenant: Candidate,
    /// How sure the choice is.
    pub confidence: Confidence,
    /// What else it could be.
    pub alternatives: Vec<Candidate>,
    /// The kind of key.
    pub tenant_key: KeyType,
    /// The column's type as SQL writes it.
    pub column_type: String,
    /// The key's name in the tenants' table, where it is not the tenant column itself.
    pub root_key: Option<String>,
    /// Every table, by schema and name.
    pub tables: Vec<Table>,
    /// Keys of tenants' tables that lack the tenant.
    pub keys: Vec<Key>,
    /// What else there is to know.
    pub notes: Vec<Note>,
}

/// Why there is no proposal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// A fact is missing that everything rests on.
    #[error("cannot read {source_name}: {reason}")]
    Missing {
        /// Which.
        source_name: String,
        /// As the server said it.
        reason: String,
    },
    /// There is nothing to propose for.
    #[error("the database has no tables of its own")]
    NoTables,
    /// Nothing says that there are tenants.
    #[error("no table and no column looks like the tenants'{}", listed(.hubs))]
    NoTenant {
        /// The tables that the most others lead to.
        hubs: Vec<String>,
    },
    /// The table that the user named is not there.
    #[error("there is no table `{name}`")]
    NoTable {
        /// As given.
        name: String,
    },
    /// Several tables have the name.
    #[error("several tables are called `{name}`: {}", .names.join(", "))]
    AmbiguousTable {
        /// As given.
        name: String,
        /// With their schemas.
        names: Vec<String>,
    },
    /// Nothing tells one tenant from another.
    #[error("{table} has no primary key of one column that could say whose a row is")]
    NoKey {
        /// The tenants' table.
        table: String,
    },
    /// A key that no context can carry.
    #[error("{column} has the type {found}; a tenant's key is a uuid, a whole number or a text")]
    KeyType {
        /// The key.
        column: String,
        /// Its type.
        found: String,
    },
}

fn listed(hubs: &[String]) -> String {
    if hubs.is_empty() { String::new() } else { format!("; the most referred to: {}", hubs.join(", ")) }
}

/// Makes the proposal.
pub fn propose(facts: &Facts, options: &Options) -> Result<Proposal, ProposeError> {
    use crate::facts::Source;
    for source in [Source::Relations, Source::Columns, Source::Constraints, Source::Indexes] {
        if let Some(missing) = facts.missing(source) {
            return Err(ProposeError::Missing { source_name: source.to_string(), reason: missing.reason.clone() });
        }
    }
    let graph = Graph::of(facts);
    if graph.tables.is_empty() {
        return Err(ProposeError::NoTables);
    }
    let root = root::find(&graph, options)?;
    let tables = classes::classify(&graph, &root);
    let schema = main_schema(&tables);
    let keys = keys::decide(&graph, &tables, &schema, &root.candidate.column);
    let notes = notes::notes(&graph, &root, &tables, &schema);
    let root_key = root.key.map(|key| key.name.clone()).filter(|key| *key != root.candidate.column);
    Ok(Proposal {
        application: options.application.clone().unwrap_or_else(|| application_name(&facts.database.name)),
        database: facts.database.name.clone(),
        schema,
        confidence: root.confidence,
        alternatives: root.alternatives,
        tenant_key: root.key_type,
        column_type: root.column_type,
        root_key: root_key.filter(|_| tables.iter().any(|table| table.class == Class::Root)),
        tenant: root.candidate,
        tables,
        keys,
        notes,
    })
}

/// The schema of the most tenants' tables; of two alike, the first by name.
fn main_schema(tables: &[Table]) -> String {
    let mut counts: std::collections::BTreeMap<&str, (usize, usize)> = std::collections::BTreeMap::new();
    for table in tables {
        let count = counts.entry(&table.schema).or_default();
        count.0 += usize::from(table.class.is_owned());
        count.1 += 1;
    }
    let most = counts.into_iter().max_by(|(a, left), (b, right)| left.cmp(right).then(b.cmp(a)));
    most.map_or_else(|| "public".to_owned(), |(schema, _)| schema.to_owned())
}

/// 1 to 30 of a-z, 0-9 and _, starting with a letter, as `guardian.toml` wants it.
fn application_name(database: &str) -> String {
    let sound = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let name: String = database.chars().map(sound).take(30).collect();
    let name = name.trim_matches('_');
    match name.chars().next() {
        Some(first) if first.is_ascii_lowercase() => name.to_owned(),
        Some(_) => format!("app_{name}").chars().take(30).collect(),
        None => "app".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_database_name_makes_an_application_name() {
        for (database, wanted) in
            [("shop", "shop"), ("My Shop-2", "my_shop_2"), ("2024", "app_2024"), ("ü", "app"), ("", "app")]
        {
            assert_eq!(application_name(database), wanted);
        }
        assert_eq!(application_name(&"x".repeat(63)).len(), 30);
    }
}
