//! Which tables are filled, in what order, and where each column's value is from.

use std::collections::{BTreeMap, BTreeSet};

use super::{Filling, Planted, Source, is_systems};
use crate::{
    attacks::values::literals,
    facts::{Column, Constraint, ConstraintKind, Facts, Oid, Relation},
    tenancy::Tenancy,
};

/// Of each partition the condition of its bounds, those of its parents included, and the names of the columns in them.
pub(super) const BOUNDS: &str = "WITH RECURSIVE up AS (SELECT inhrelid AS leaf, inhparent AS parent FROM pg_catalog.pg_inherits \
      UNION SELECT up.leaf, i.inhparent FROM up JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = up.parent) \
    SELECT coalesce(json_agg(json_build_array(b.leaf::int8, coalesce(pg_catalog.pg_get_partition_constraintdef(b.leaf), ''), \
      b.names)), '[]')::text FROM (SELECT up.leaf, json_agg(DISTINCT a.attname) AS names FROM up \
      JOIN pg_catalog.pg_partitioned_table AS p ON p.partrelid = up.parent \
      JOIN pg_catalog.pg_attribute AS a ON a.attrelid = up.parent AND a.attnum = ANY (p.partattrs::int2[]) GROUP BY up.leaf) AS b";

impl Planted {
    /// Tenants' tables, those that belong to a tenant's row, and all that they refer to.
    pub(super) fn choose(&mut self, facts: &Facts, tenancy: &Tenancy) {
        let usable =
            |relation: &Relation| relation.kind.is_table() && relation.extension.is_none() && !is_systems(&relation.schema);
        let tables: BTreeMap<Oid, &Relation> =
            facts.relations.iter().filter(|relation| usable(relation)).map(|relation| (relation.oid, relation)).collect();
        let foreign: Vec<&Constraint> = facts
            .constraints
            .iter()
            .filter(|k| k.kind == ConstraintKind::Foreign && tables.contains_key(&k.table))
            .collect();
        self.tenants = tables.keys().copied().filter(|oid| tenancy.is_tenants(*oid)).collect();
        self.roots = foreign
            .iter()
            .filter(|k| tenancy.column(k.table).is_some_and(|column| k.columns == [column.number]))
            .filter_map(|k| k.target)
            .filter(|root| !tenancy.is_tenants(*root))
            .collect();
        // A table that refers to a tenant's row belongs to the tenant; one that only names the tenant has the column.
        loop {
            let through = foreign
                .iter()
                .filter(|k| k.target.is_some_and(|target| self.tenants.contains(&target)) && !self.roots.contains(&k.table));
            let new: Vec<Oid> = through.map(|k| k.table).filter(|table| !self.tenants.contains(table)).collect();
            if new.is_empty() {
                break;
            }
            self.tenants.extend(new);
        }
        let mut wanted: BTreeSet<Oid> = self.tenants.union(&self.roots).copied().collect();
        loop {
            let parents = foreign.iter().filter(|k| wanted.contains(&k.table)).filter_map(|k| k.target);
            let new: Vec<Oid> = parents.filter(|target| !wanted.contains(target) && tables.contains_key(target)).collect();
            if new.is_empty() {
                break;
            }
            wanted.extend(new);
        }
        self.order = in_order(&wanted, &foreign);
    }

    pub(super) fn filling(&self, facts: &Facts, tenancy: &Tenancy, oid: Oid, bound: Option<(&str, &[String])>) -> Filling {
        let constraints = facts.constraints_of(oid);
        let tenant = tenancy.column(oid).map(|column| column.number);
        let before: BTreeSet<Oid> = self.order.iter().copied().take_while(|one| *one != oid).collect();
        let source_of = |column: &Column| {
            let keys = constraints.iter().filter(|k| k.kind == ConstraintKind::Foreign);
            let mut sources = keys.filter_map(|k| {
                let at = k.columns.iter().position(|number| *number == column.number)?;
                let (target, there) = (k.target?, *k.target_columns.get(at)?);
                Some(match (target == oid, column.not_null) {
                    _ if before.contains(&target) => Source::Parent(target, there),
                    (true, true) if there != column.number => Source::Itself(there),
                    (_, false) => Source::Later,
                    _ => Source::Own,
                })
            });
            sources.next().unwrap_or(Source::Own)
        };
        // The list of tenants: what tenant columns refer to is the key.
        let is_key = |number: i16| {
            facts.constraints.iter().any(|k| {
                k.target == Some(oid)
                    && k.target_columns == [number]
                    && tenancy.column(k.table).is_some_and(|column| k.columns == [column.number])
            })
        };
        let columns = facts.columns_of(oid).iter().filter(|column| column.generated.is_none()).map(|column| {
            let source = if tenant == Some(column.number) || self.roots.contains(&oid) && is_key(column.number) {
                Source::Key
            } else {
                source_of(column)
            };
            (column.clone(), source)
        });
        let columns: Vec<(Column, Source)> = columns.collect();
        let mut hints: BTreeMap<i16, Vec<String>> = BTreeMap::new();
        for check in constraints.iter().filter(|k| k.kind == ConstraintKind::Check) {
            for number in &check.columns {
                hints.entry(*number).or_default().extend(literals(&check.definition));
            }
        }
        let mut partition_keys = BTreeSet::new();
        if let Some((definition, keys)) = bound {
            partition_keys.extend(keys.iter().cloned());
            for (column, _) in columns.iter().filter(|(column, _)| partition_keys.contains(&column.name)) {
                hints.entry(column.number).or_default().extend(literals(definition));
            }
        }
        Filling { choice: vec![0; columns.len()], columns, hints, partition_keys }
    }
}

/// Parents first. A cycle is cut where it is met; its columns are then the table's own.
fn in_order(wanted: &BTreeSet<Oid>, foreign: &[&Constraint]) -> Vec<Oid> {
    let mut order: Vec<Oid> = Vec::new();
    let mut left: BTreeSet<Oid> = wanted.clone();
    while !left.is_empty() {
        let waits = |oid: &Oid| {
            foreign
                .iter()
                .any(|k| k.table == *oid && k.target.is_some_and(|target| target != *oid && left.contains(&target)))
        };
        let ready: Vec<Oid> = left.iter().copied().filter(|oid| !waits(oid)).collect();
        let ready = if ready.is_empty() { left.iter().copied().take(1).collect() } else { ready };
        for oid in ready {
            left.remove(&oid);
            order.push(oid);
        }
    }
    order
}
