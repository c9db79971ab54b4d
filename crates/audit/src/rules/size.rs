//! How large tables are, by the planner's own estimates.

use std::collections::BTreeMap;

use crate::{
    Oid,
    facts::{Facts, Relation, RelationKind},
};

/// The parts of every table that has any.
pub(super) struct Sizes<'f> {
    parts: BTreeMap<Oid, Vec<&'f Relation>>,
}

impl<'f> Sizes<'f> {
    pub(super) fn of(facts: &'f Facts) -> Self {
        let mut parts: BTreeMap<Oid, Vec<&Relation>> = BTreeMap::new();
        for relation in &facts.relations {
            for parent in &relation.parents {
                parts.entry(*parent).or_default().push(relation);
            }
        }
        Self { parts }
    }

    /// Rows, those of partitions and inheriting tables among them; `None` where nobody has counted yet.
    pub(super) fn rows(&self, table: &Relation) -> Option<f64> {
        self.sum(table, |table| (table.rows_estimated >= 0.0).then_some(table.rows_estimated))
    }

    /// Bytes, likewise, of the tables alone; a page has the usual 8 kB.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn bytes(&self, table: &Relation) -> f64 {
        self.sum(table, |table| Some(table.pages as f64 * 8192.0)).unwrap_or_default()
    }

    /// A partitioned table's own figure, where it has one, is already that of all its parts.
    fn sum(&self, table: &Relation, own: fn(&Relation) -> Option<f64>) -> Option<f64> {
        let parts = self.parts.get(&table.oid).into_iter().flatten();
        let parts = parts.filter_map(|part| self.sum(part, own)).reduce(|a, b| a + b);
        match (own(table), parts) {
            (own, None) => own,
            (Some(own), Some(parts)) if table.kind != RelationKind::Partitioned => Some(own + parts),
            (_, parts) => parts,
        }
    }
}
