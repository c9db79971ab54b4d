//! Which tables hold tenants' rows, and in which column stands whose.
//!
//! A column's name is only the start: foreign keys lead from it to the table of tenants, from there to every table that refers to it
//! under another name, and from tenants' tables to those that hang on them without a column of their own.

use std::collections::{BTreeMap, BTreeSet};

use crate::facts::{Catalog, Constraint, ConstraintKind, Facts, Oid, Relation};

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

/// The tables that hold tenants' rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tenancy {
    /// Those with a tenant column, by table.
    pub columns: BTreeMap<Oid, TenantColumn>,
    /// Those without: their rows belong to the tenant of a row that they refer to.
    pub parents: BTreeMap<Oid, Parent>,
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

/// The way from a table without a tenant column to its tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The table that it refers to, which is a tenants' table itself.
    pub table: Oid,
    /// The foreign key.
    pub constraint: String,
    /// Its columns, none of which is nullable.
    pub columns: Vec<i16>,
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
    /// It refers to the table of tenants.
    ForeignKey,
    /// Its table has policies that depend on it, and its name is a usual one.
    OwnPolicies,
}

impl Tenancy {
    /// Of declared columns (`account_id`, or `orders.account_id` and `shop.orders.account_id` for one table), or inferred when none
    /// is declared by its name alone.
    pub fn of(facts: &Facts, declared: &[String]) -> Self {
        let (of_tables, names): (Vec<&String>, Vec<&String>) = declared.iter().partition(|one| one.contains('.'));
        let mut tenancy = Self::default();
        if names.is_empty() {
            if let Some((name, evidence)) = name_in_policies(facts).or_else(|| usual_name(facts)) {
                tenancy.add_by_name(facts, |one| one == name, &evidence);
            }
        } else {
            tenancy.add_by_name(facts, |one| names.iter().any(|name| *name == one), &Evidence::Declared);
        }
        for column in &facts.columns {
            let Some(relation) = facts.relation(column.relation) else { continue };
            if of_tables.iter().any(|one| is_named(one, relation, &column.name)) {
                tenancy.columns.insert(relation.oid, tenant(column.number, &column.name, &Evidence::Declared));
            }
        }
        tenancy.follow_keys_to_tenants(facts);
        if names.is_empty() {
            tenancy.add_by_own_policies(facts);
        }
        tenancy.follow_keys_to_parents(facts);
        tenancy
    }

    /// Takes no table of this schema for tenants'.
    pub(crate) fn leave_out(&mut self, facts: &Facts, schema: &str) {
        let stays = |oid: &Oid| facts.relation(*oid).is_none_or(|relation| relation.schema != schema);
        self.columns.retain(|oid, _| stays(oid));
        self.parents.retain(|oid, _| stays(oid));
    }

    /// A table's tenant column.
    pub fn column(&self, relation: Oid) -> Option<&TenantColumn> {
        self.columns.get(&relation)
    }

    /// Whether a relation holds tenants' rows.
    pub fn is_tenants(&self, relation: Oid) -> bool {
        self.columns.contains_key(&relation) || self.parents.contains_key(&relation)
    }

    /// The way to the tenant of a table without a tenant column.
    pub fn parent(&self, relation: Oid) -> Option<&Parent> {
        self.parents.get(&relation)
    }

    /// The columns that say whose a row is: the tenant column, or the reference to the row that has one.
    pub fn keys(&self, relation: Oid) -> Vec<i16> {
        match (self.columns.get(&relation), self.parents.get(&relation)) {
            (Some(column), _) => vec![column.number],
            (None, Some(parent)) => parent.columns.clone(),
            (None, None) => Vec::new(),
        }
    }

    fn add_by_name(&mut self, facts: &Facts, is: impl Fn(&str) -> bool, evidence: &Evidence) {
        let columns = facts.columns.iter().filter(|column| is(&column.name));
        self.columns.extend(columns.map(|column| (column.relation, tenant(column.number, &column.name, evidence))));
    }

    /// Tables that refer to the table of tenants, under whatever name. The table of tenants itself is not one: whether the list of
    /// tenants is a secret is for its own policies to say.
    fn follow_keys_to_tenants(&mut self, facts: &Facts) {
        let keys = || facts.constraints.iter().filter(|one| one.kind == ConstraintKind::Foreign && one.columns.len() == 1);
        let roots: BTreeSet<Oid> = keys()
            .filter(|one| self.columns.get(&one.table).is_some_and(|column| one.columns == [column.number]))
            .filter_map(|one| one.target.filter(|target| !self.columns.contains_key(target) && *target != one.table))
            .collect();
        for key in keys().filter(|one| one.target.is_some_and(|target| roots.contains(&target))) {
            let Some(column) = facts.column(key.table, key.columns[0]).filter(|column| column.not_null) else { continue };
            if !roots.contains(&key.table) {
                let tenant = || tenant(column.number, &column.name, &Evidence::ForeignKey);
                self.columns.entry(key.table).or_insert_with(tenant);
            }
        }
    }

    /// Tables of another name for the tenant than most: their own policies depend on a column with a usual name.
    fn add_by_own_policies(&mut self, facts: &Facts) {
        for policy in facts.policies.iter().filter(|policy| policy.using.is_some()) {
            let references = facts.references_of(Catalog::Policy, policy.oid).iter();
            let columns = references.filter(|one| one.referenced == policy.table).filter_map(|one| {
                facts
                    .column(policy.table, i16::try_from(one.column).ok()?)
                    .filter(|column| NAMES.contains(&column.name.as_str()))
            });
            for column in columns {
                let tenant = || tenant(column.number, &column.name, &Evidence::OwnPolicies);
                self.columns.entry(policy.table).or_insert_with(tenant);
            }
        }
    }

    fn follow_keys_to_parents(&mut self, facts: &Facts) {
        let required = |one: &&Constraint| {
            let not_null = |number: &i16| facts.column(one.table, *number).is_some_and(|column| column.not_null);
            one.kind == ConstraintKind::Foreign && one.columns.iter().all(not_null)
        };
        let keys: Vec<&Constraint> = facts.constraints.iter().filter(required).collect();
        loop {
            let new: Vec<(Oid, Parent)> = keys
                .iter()
                .filter(|one| !self.is_tenants(one.table))
                .filter_map(|one| {
                    let table = one.target.filter(|target| *target != one.table && self.is_tenants(*target))?;
                    let parent = Parent { table, constraint: one.name.clone(), columns: one.columns.clone() };
                    Some((one.table, parent))
                })
                .collect();
            if new.is_empty() {
                return;
            }
            for (table, parent) in new {
                self.parents.entry(table).or_insert(parent);
            }
        }
    }
}

fn tenant(number: i16, name: &str, evidence: &Evidence) -> TenantColumn {
    TenantColumn { number, name: name.to_owned(), evidence: evidence.clone() }
}

/// Whether `orders.account_id` or `shop.orders.account_id` is this column.
fn is_named(declared: &str, relation: &Relation, column: &str) -> bool {
    let Relation { schema, name, .. } = relation;
    declared == format!("{name}.{column}") || declared == format!("{schema}.{name}.{column}")
}

/// The column name that policies of the most tables depend on, by `pg_depend`.
fn name_in_policies(facts: &Facts) -> Option<(String, Evidence)> {
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for policy in &facts.policies {
        for reference in facts.references_of(Catalog::Policy, policy.oid) {
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
