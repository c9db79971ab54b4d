//! Keys without the tenant: which get it in front, and which have to stay unique over all tenants.

use std::collections::BTreeMap;

use super::{Class, Key, Table, graph::Graph};
use crate::{
    facts::{ConstraintKind, Index, Oid},
    finding::{readable, readable_in},
};

pub(super) fn decide(graph: &Graph<'_>, tables: &[Table], schema: &str, column: &str) -> Vec<Key> {
    let facts = graph.facts;
    // Partitions and children too, each with the table that it goes with.
    let owned: BTreeMap<Oid, &Table> = tables
        .iter()
        .filter(|table| table.class.is_owned() && table.schema == schema)
        .flat_map(|table| graph.family(table.oid).into_iter().map(move |oid| (oid, table)))
        .collect();
    let from_outside: BTreeMap<Oid, String> = facts
        .constraints
        .iter()
        .filter(|constraint| constraint.kind == ConstraintKind::Foreign && !owned.contains_key(&constraint.table))
        .filter_map(|constraint| {
            let from = facts.relation(constraint.table)?;
            Some((constraint.index?, format!("{} of {}", readable(&constraint.name), readable_in(&from.schema, &from.name))))
        })
        .collect();
    let mut keys = Vec::new();
    for (oid, table) in &owned {
        let Some(relation) = facts.relation(*oid) else { continue };
        let tenant = facts.column_named(*oid, column).map(|column| column.number);
        let lacks_tenant = |index: &&Index| {
            (index.unique || index.exclusion)
                && !index.inherited
                && !tenant.is_some_and(|tenant| index.columns.contains(&tenant))
        };
        for index in facts.indexes_of(*oid).iter().filter(lacks_tenant) {
            let global = if index.exclusion {
                Some("an exclusion constraint cannot get the tenant while it is in use".to_owned())
            } else if let Some(foreign) = from_outside.get(&index.oid) {
                Some(format!("the foreign key {foreign}, a table without the tenant, refers to it"))
            } else if table.class == Class::Root {
                Some("it tells tenants apart, before one is entered".to_owned())
            } else {
                None
            };
            let table = readable_in(&relation.schema, &relation.name);
            keys.push(Key { name: index.name.clone(), table, global, table_oid: *oid });
        }
    }
    keys.sort_by(|a, b| (&a.table, &a.name).cmp(&(&b.table, &b.name)));
    keys
}
