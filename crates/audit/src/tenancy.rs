//! Which tables hold tenants' rows, and in which column stands whose.

use std::collections::BTreeMap;

use crate::facts::{Facts, Oid};

/// Names that nobody gives to anything but a tenant's key. Only a hint: see [`Evidence`].
const NAMES: [&str; 16] = [
    "tenant_id",
    "tenantid",
    "tenant",
    "tenant_key",
    "tenant_uuid",
    "account_id",
    "org_id",
    "organization_id",
    "organisation_id",
    "workspace_id",
    "company_id",
    "customer_id",
    "team_id",
    "client_id",
    "site_id",
    "school_id",
];

/// The tables that have a tenant column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tenancy {
    /// By table.
    pub columns: BTreeMap<Oid, TenantColumn>,
}

/// A table's tenant column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantColumn {
    /// Its number.
    pub number: i16,
    /// Its name.
    pub name: String,
    /// Why it is taken for one.
    pub evidence: Evidence,
}

/// Why a column is taken for the tenant's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Evidence {
    /// The person who asked for the audit named it.
    Declared,
    /// A policy depends on it, and its name is the one that most policies depend on.
    Policies,
    /// Its name is usual for it, and no other column of the database is likelier.
    Name,
}

impl Tenancy {
    /// Of declared column names, or inferred when there are none.
    pub fn of(facts: &Facts, declared: &[String]) -> Self {
        if !declared.is_empty() {
            return Self::by_name(facts, |name| declared.iter().any(|one| one == name), &Evidence::Declared);
        }
        match name_in_policies(facts).or_else(|| usual_name(facts)) {
            Some((name, evidence)) => Self::by_name(facts, |one| one == name, &evidence),
            None => Self::default(),
        }
    }

    fn by_name(facts: &Facts, is: impl Fn(&str) -> bool, evidence: &Evidence) -> Self {
        let columns = facts.columns.iter().filter(|column| is(&column.name)).map(|column| {
            let tenant = TenantColumn { number: column.number, name: column.name.clone(), evidence: evidence.clone() };
            (column.relation, tenant)
        });
        Self { columns: columns.collect() }
    }

    /// A table's tenant column.
    pub fn column(&self, relation: Oid) -> Option<&TenantColumn> {
        self.columns.get(&relation)
    }

    /// Whether a relation holds tenants' rows.
    pub fn is_tenants(&self, relation: Oid) -> bool {
        self.columns.contains_key(&relation)
    }
}

/// The column name that policies of the most tables depend on, by `pg_depend`.
fn name_in_policies(facts: &Facts) -> Option<(String, Evidence)> {
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for policy in &facts.policies {
        for reference in facts.references_of(crate::facts::Catalog::Policy, policy.oid) {
            let column = i16::try_from(reference.column).ok().filter(|number| *number > 0);
            if let Some(column) = column.and_then(|number| facts.column(policy.table, number))
                && reference.referenced == policy.table
            {
                *votes.entry(&column.name).or_default() += if NAMES.contains(&column.name.as_str()) { 4 } else { 1 };
            }
        }
    }
    let (name, votes) = votes.into_iter().max_by_key(|(_, votes)| *votes)?;
    // One policy on a column of no telling name may be about anything.
    (votes > 1).then(|| (name.to_owned(), Evidence::Policies))
}

/// The usual name that the most tables have.
fn usual_name(facts: &Facts) -> Option<(String, Evidence)> {
    let count = |name: &str| facts.columns.iter().filter(|column| column.name == name).count();
    let (name, tables) = NAMES.iter().rev().map(|name| (*name, count(name))).max_by_key(|(_, tables)| *tables)?;
    (tables > 0).then(|| (name.to_owned(), Evidence::Name))
}
