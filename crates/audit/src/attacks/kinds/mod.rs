//! The attacks by kind, made from the facts: one file a family.

pub(crate) mod code;
mod keys;
mod read;
mod sessions;
mod shadow;
mod trust;
mod write;

use std::collections::BTreeMap;

use guardian_postgres::quote;

use super::{
    Objection,
    attack::Attack,
    canary::{Marks, Tenant},
    context::Context,
    plant::Planted,
};
use crate::{
    facts::{Column, Facts, Oid, Privilege, Relation, RelationKind},
    reach::Reach,
    tenancy::Tenancy,
};

/// What attacks are made from.
pub(crate) struct Field<'f> {
    pub(crate) facts: &'f Facts,
    pub(crate) reach: &'f Reach<'f>,
    pub(crate) tenancy: &'f Tenancy,
    pub(crate) planted: &'f Planted,
    pub(crate) marks: &'f Marks,
    pub(crate) context: &'f Context,
    /// The argument types of functions with their owner's rights.
    pub(crate) signatures: &'f BTreeMap<Oid, Vec<String>>,
    pub(crate) in_place: bool,
    /// The process of a session in B's context, logged in as the application's role.
    pub(crate) victim: Option<i32>,
}

/// Every attack, and what cannot be attacked.
pub(crate) fn all(field: &Field<'_>) -> (Vec<Attack>, Vec<Objection>) {
    let mut attacks = Vec::new();
    let mut objections = Vec::new();
    read::attacks(field, &mut attacks, &mut objections);
    trust::attacks(field, &mut attacks);
    write::attacks(field, &mut attacks);
    keys::attacks(field, &mut attacks);
    code::attacks(field, &mut attacks, &mut objections);
    shadow::attacks(field, &mut attacks);
    sessions::attacks(field, &mut attacks);
    objections.extend(field.tables().into_iter().filter_map(|table| looks_elsewhere(field, table)));
    (attacks, objections)
}

/// Policies that decide by more of a row than whose it is may show other rows than the one that was planted.
fn looks_elsewhere(field: &Field<'_>, table: &Relation) -> Option<Objection> {
    use crate::facts::Catalog;
    let keys = field.tenancy.keys(table.oid);
    let policies = field.facts.policies_of(table.oid).iter();
    let columns = policies.flat_map(|policy| field.facts.references_of(Catalog::Policy, policy.oid));
    let other = columns
        .filter(|one| one.referenced == table.oid)
        .filter_map(|one| i16::try_from(one.column).ok().filter(|number| *number > 0 && !keys.contains(number)))
        .find_map(|number| field.facts.column(table.oid, number))?;
    let name = crate::finding::readable(&other.name);
    Some(Objection::new(
        crate::finding::Object::relation(table),
        format!("its policies also look at {name}, of which a few values were tried"),
    ))
}

impl<'f> Field<'f> {
    /// Tables with planted rows of both tenants.
    pub(crate) fn tables(&self) -> Vec<&'f Relation> {
        let planted = |table: &&Relation| {
            self.planted.tenants.contains(&table.oid) && self.planted.row_of(table.oid, Tenant::B).is_some()
        };
        self.facts.relations.iter().filter(planted).collect()
    }

    /// Columns of the relation that the application has this privilege on; all of them when it has it on the whole.
    fn columns_with(&self, relation: &Relation, privilege: Privilege) -> Vec<&'f Column> {
        let held = |role| self.reach.role(role).is_some();
        let system = match privilege {
            Privilege::Select => "pg_read_all_data",
            _ => "pg_write_all_data",
        };
        let is_whole = held(relation.owner)
            || relation.acl.iter().any(|grant| grant.privileges.contains(&privilege) && held(grant.to))
            || self.facts.role_named(system).is_some_and(|role| held(role.oid));
        let columns = self.facts.columns_of(relation.oid).iter();
        let granted: Vec<_> = columns
            .clone()
            .filter(|column| column.acl.iter().any(|grant| grant.privileges.contains(&privilege) && held(grant.to)))
            .collect();
        // With neither, the statement is about the whole and the server refuses it.
        if is_whole || granted.is_empty() { columns.collect() } else { granted }
    }

    /// Marks writes on a table that may do more than what rolls back.
    fn keep_out_of_place(&self, table: &Relation, attacks: &mut [Attack]) {
        let triggers = self.facts.triggers_of(table.oid).iter().any(|trigger| trigger.enabled != 'D');
        let columns = self.facts.columns_of(table.oid).iter().filter(|column| column.generated.is_none()).count();
        // A default may draw from a sequence.
        let defaults = self.columns_with(table, Privilege::Insert).len() < columns;
        for attack in attacks {
            if triggers {
                attack.not_in_place.get_or_insert("its triggers would run, and what they do need not roll back");
            } else if defaults {
                attack.not_in_place.get_or_insert("columns that the role may not write would take their defaults");
            }
        }
    }

    /// `tenant_id = '…'::uuid`, where the relation has such a column and the application may read it.
    fn tenant_filter(&self, relation: &Relation, tenant: Tenant) -> Option<String> {
        let column = self.tenancy.column(relation.oid)?;
        let column = self.facts.column(relation.oid, column.number)?;
        let readable = self.columns_with(relation, Privilege::Select);
        readable.iter().find(|one| one.number == column.number)?;
        let key = self.marks.key_literal(tenant, column.base_type, &column.written_type)?;
        Some(format!("{} = {key}", quote::ident(&column.name)))
    }

    /// A query that counts the tenant's rows, as far as the application may read columns.
    pub(crate) fn count(&self, relation: &Relation, tenant: Tenant) -> String {
        let name = quote::qualified(&relation.schema, &relation.name);
        if let Some(filter) = self.tenant_filter(relation, tenant) {
            return format!("SELECT pg_catalog.count(*) FROM {name} WHERE {filter}");
        }
        let columns = self.columns_with(relation, Privilege::Select);
        let texts: Vec<String> = columns.iter().map(|column| format!("{}::text", quote::ident(&column.name))).collect();
        let pattern = quote::literal(&self.marks.pattern(tenant));
        let row = if texts.is_empty() { "''".to_owned() } else { texts.join(", ") };
        format!("SELECT pg_catalog.count(*) FROM {name} WHERE pg_catalog.concat_ws('|', {row}) ~* {pattern}")
    }

    /// The planted rows of tenant A that a statement on the table finds: those in it, and in its partitions and children.
    fn own_rows(&self, table: &Relation) -> u64 {
        let mut family = vec![table.oid];
        let mut at = 0;
        while at < family.len() {
            let parent = family[at];
            let children = self.facts.relations.iter().filter(|child| child.parents.contains(&parent));
            family.extend(children.map(|child| child.oid).collect::<Vec<_>>());
            at += 1;
        }
        u64::try_from(self.planted.rows_in(&family, Tenant::A)).unwrap_or(u64::MAX)
    }

    /// Views and the like that may show tenants' rows: they have the tenant's column, or read something that does.
    pub(crate) fn windows(&self) -> Vec<&'f Relation> {
        let kinds = [RelationKind::View, RelationKind::MaterializedView, RelationKind::ForeignTable];
        let all =
            self.facts.relations.iter().filter(|relation| kinds.contains(&relation.kind) && relation.extension.is_none());
        all.filter(|relation| self.tenancy.is_tenants(relation.oid) || self.reads_tenants(relation.oid, 0)).collect()
    }

    fn reads_tenants(&self, relation: u32, depth: u32) -> bool {
        use crate::facts::Catalog;
        const DEPTH_MAX: u32 = 16;
        let is_foreign = self.facts.relation(relation).is_some_and(|one| one.kind == RelationKind::ForeignTable);
        is_foreign
            || depth < DEPTH_MAX
                && self.facts.references_of(Catalog::View, relation).iter().any(|reference| match reference.to {
                    Catalog::Relation => {
                        self.planted.tenants.contains(&reference.referenced)
                            || self.reads_tenants(reference.referenced, depth + 1)
                    }
                    // What a function reads is not recorded.
                    Catalog::Function => true,
                    _ => false,
                })
    }
}
