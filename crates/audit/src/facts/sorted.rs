//! Look-ups by binary search, which is why the lists are kept sorted.

use super::{
    Column, Constraint, Dependency, Extension, Facts, ForeignServer, Function, Index, Membership, Missing, Oid, PUBLIC,
    Policy, PredicateKind, Relation, RewriteRule, Role, Schema, Sequence, Setting, Source, Trigger, Truth,
    dependencies::Catalog,
};

/// The run of a sorted list whose key is this.
fn run<T, K: Ord + Copy>(list: &[T], key: K, of: impl Fn(&T) -> K) -> &[T] {
    let start = list.partition_point(|item| of(item) < key);
    let len = list[start..].partition_point(|item| of(item) == key);
    &list[start..start + len]
}

fn one<'l, T, K: Ord>(list: &'l [T], key: &K, of: impl Fn(&'l T) -> K) -> Option<&'l T> {
    list.binary_search_by(|item| of(item).cmp(key)).ok().map(|at| &list[at])
}

impl Facts {
    /// Puts every list into the order that the look-ups expect.
    pub fn sort(&mut self) {
        self.settings.sort_by(|a, b| a.name.cmp(&b.name));
        self.roles.sort_by_key(|item| item.oid);
        self.memberships.sort_by_key(|item| (item.member, item.role));
        self.schemas.sort_by(|a, b| a.name.cmp(&b.name));
        self.relations.sort_by_key(|item| item.oid);
        self.columns.sort_by_key(|item| (item.relation, item.number));
        self.sequences.sort_by_key(|item| item.oid);
        self.constraints.sort_by_key(|item| (item.table, item.oid));
        self.indexes.sort_by_key(|item| (item.table, item.oid));
        self.policies.sort_by(|a, b| (a.table, &a.name).cmp(&(b.table, &b.name)));
        self.rewrite_rules.sort_by_key(|item| (item.relation, item.oid));
        self.functions.sort_by_key(|item| item.oid);
        self.triggers.sort_by_key(|item| (item.table, item.oid));
        self.foreign_servers.sort_by_key(|item| item.oid);
        self.extensions.sort_by_key(|item| item.oid);
        self.dependencies.sort_unstable();
        self.truths.sort_by_key(|item| (item.policy, item.predicate));
    }

    /// A setting by name.
    pub fn setting(&self, name: &str) -> Option<&Setting> {
        one(&self.settings, &name, |item| item.name.as_str())
    }

    /// A role.
    pub fn role(&self, oid: Oid) -> Option<&Role> {
        one(&self.roles, &oid, |item| item.oid)
    }

    /// A role by name.
    pub fn role_named(&self, name: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.name == name)
    }

    /// A role's name for people: `PUBLIC`, or the number of a role that is gone.
    pub fn role_name(&self, oid: Oid) -> String {
        if oid == PUBLIC {
            return "PUBLIC".to_owned();
        }
        self.role(oid).map_or_else(|| format!("role {oid}"), |role| role.name.clone())
    }

    /// What a role is a member of.
    pub fn memberships_of(&self, member: Oid) -> &[Membership] {
        run(&self.memberships, member, |item| item.member)
    }

    /// A schema by name.
    pub fn schema(&self, name: &str) -> Option<&Schema> {
        one(&self.schemas, &name, |item| item.name.as_str())
    }

    /// A relation.
    pub fn relation(&self, oid: Oid) -> Option<&Relation> {
        one(&self.relations, &oid, |item| item.oid)
    }

    /// A relation by its schema and name.
    pub fn relation_named(&self, schema: &str, name: &str) -> Option<&Relation> {
        self.relations.iter().find(|relation| relation.schema == schema && relation.name == name)
    }

    /// A relation's columns, by number.
    pub fn columns_of(&self, relation: Oid) -> &[Column] {
        run(&self.columns, relation, |item| item.relation)
    }

    /// A column.
    pub fn column(&self, relation: Oid, number: i16) -> Option<&Column> {
        one(&self.columns, &(relation, number), |item| (item.relation, item.number))
    }

    /// A column by name.
    pub fn column_named(&self, relation: Oid, name: &str) -> Option<&Column> {
        self.columns_of(relation).iter().find(|column| column.name == name)
    }

    /// A sequence's own properties.
    pub fn sequence(&self, oid: Oid) -> Option<&Sequence> {
        one(&self.sequences, &oid, |item| item.oid)
    }

    /// A table's constraints.
    pub fn constraints_of(&self, table: Oid) -> &[Constraint] {
        run(&self.constraints, table, |item| item.table)
    }

    /// A table's indexes.
    pub fn indexes_of(&self, table: Oid) -> &[Index] {
        run(&self.indexes, table, |item| item.table)
    }

    /// A table's policies.
    pub fn policies_of(&self, table: Oid) -> &[Policy] {
        run(&self.policies, table, |item| item.table)
    }

    /// A relation's rewrite rules.
    pub fn rewrite_rules_of(&self, relation: Oid) -> &[RewriteRule] {
        run(&self.rewrite_rules, relation, |item| item.relation)
    }

    /// A function.
    pub fn function(&self, oid: Oid) -> Option<&Function> {
        one(&self.functions, &oid, |item| item.oid)
    }

    /// A table's triggers.
    pub fn triggers_of(&self, table: Oid) -> &[Trigger] {
        run(&self.triggers, table, |item| item.table)
    }

    /// A foreign server.
    pub fn foreign_server(&self, oid: Oid) -> Option<&ForeignServer> {
        one(&self.foreign_servers, &oid, |item| item.oid)
    }

    /// An extension.
    pub fn extension(&self, oid: Oid) -> Option<&Extension> {
        one(&self.extensions, &oid, |item| item.oid)
    }

    /// What an object refers to. For a view or a rewrite rule, ask with the relation's OID.
    pub fn references_of(&self, from: Catalog, dependent: Oid) -> &[Dependency] {
        run(&self.dependencies, (from, dependent), |item| (item.from, item.dependent))
    }

    /// The verdict on a policy's predicate.
    pub fn truth(&self, policy: Oid, predicate: PredicateKind) -> Option<&Truth> {
        one(&self.truths, &(policy, predicate), |item| (item.policy, item.predicate))
    }

    /// Why a source is missing, if it is.
    pub fn missing(&self, source: Source) -> Option<&Missing> {
        self.missing.iter().find(|missing| missing.source == source)
    }
}
