//! Values beside those of the planted row: more rows of B's where policies look at more than whose a row is, and rows of tables
//! that hold no tenant's.

use std::collections::BTreeSet;

use sqlx::{Error, PgConnection};

use super::{Planted, Source, execute};
use crate::{
    attacks::{
        canary::{Marks, Tenant},
        values::literals,
    },
    facts::{Catalog, Column, ConstraintKind, Facts, Relation},
};

/// Rows beside the first, at most.
const VARIANTS_MAX: usize = 12;

impl Planted {
    /// Plants more rows of B's: one for each other value of a column that a policy of the table looks at. Any may be refused.
    pub(super) async fn vary(
        &self,
        connection: &mut PgConnection,
        facts: &Facts,
        relation: &Relation,
        marks: &Marks,
    ) -> Result<(), Error> {
        for sql in self.variants(facts, relation, marks) {
            execute(connection, "SAVEPOINT planting").await?;
            match execute(connection, &sql).await {
                Ok(()) => execute(connection, "RELEASE SAVEPOINT planting").await?,
                Err(Error::Database(_)) => {
                    execute(connection, "ROLLBACK TO SAVEPOINT planting; RELEASE SAVEPOINT planting").await?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn variants(&self, facts: &Facts, relation: &Relation, marks: &Marks) -> Vec<String> {
        let (Some(filling), Some(first)) = (self.fillings.get(&relation.oid), self.rows.get(&(relation.oid, Tenant::B)))
        else {
            return Vec::new();
        };
        let policies = facts.policies_of(relation.oid);
        let looked_at: BTreeSet<i32> = policies
            .iter()
            .flat_map(|policy| facts.references_of(Catalog::Policy, policy.oid))
            .filter(|one| one.to == Catalog::Relation && one.referenced == relation.oid)
            .map(|one| one.column)
            .collect();
        let texts = policies.iter().flat_map(|policy| policy.using.iter().chain(&policy.check));
        let hints: Vec<String> = texts.flat_map(|text| literals(text)).collect();
        let own = filling
            .columns
            .iter()
            .filter(|(column, source)| matches!(source, Source::Own) && looked_at.contains(&i32::from(column.number)));
        let mut rows = Vec::new();
        for (column, _) in own {
            for value in self.types.candidates(column, &hints, marks, Tenant::B, self.number()) {
                if first.get(&column.number) == Some(&value) || rows.len() == VARIANTS_MAX {
                    continue;
                }
                let Some(mut values) = self.row(relation.oid, marks, Tenant::B, self.number()) else { continue };
                values.insert(column.number, value);
                rows.push(self.insert(relation, &values));
            }
        }
        rows
    }

    /// A value of the column's type that has to do with the tenant: its key, its row of what the column refers to, or anything.
    pub(crate) fn value(&self, facts: &Facts, column: &Column, marks: &Marks, tenant: Tenant) -> Option<String> {
        let keys = facts.constraints_of(column.relation).iter().filter(|key| key.kind == ConstraintKind::Foreign);
        let mut parents = keys.filter_map(|key| {
            let at = key.columns.iter().position(|number| *number == column.number)?;
            self.parent(key.target?, *key.target_columns.get(at)?, tenant)
        });
        parents
            .next()
            .map(str::to_owned)
            .or_else(|| marks.key_literal(tenant, column.base_type, &column.written_type))
            .or_else(|| self.types.candidates(column, &[], marks, tenant, self.number()).into_iter().next())
    }
}
