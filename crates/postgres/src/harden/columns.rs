//! The tenant column: never NULL, and never a text that stands for no tenant.

use guardian_model::KeyType;

use super::{
    Stage,
    planner::{Planner, label, sql_name, statement},
};
use crate::{
    facts::{CheckFacts, RelationFacts},
    quote::ident,
};

/// Shows that the tenant is never NULL, until the column says so itself.
pub(crate) const NOT_NULL: &str = "guardian_tenant_not_null";
/// Shows that the tenant is never empty.
pub(crate) const NOT_EMPTY: &str = "guardian_tenant_not_empty";
/// Shows that another column of the row names the tenant as well: the key of the table of the tenants, for example.
pub(crate) const IS_OWN: &str = "guardian_tenant_is_own";

impl Planner<'_> {
    /// NOT NULL and CHECK, so that no statement holds a lock while rows are read.
    pub(super) fn harden_columns(&mut self) {
        for table in self.tenant_tables() {
            // Constraints on a parent reach its partitions and children.
            if !table.parents.iter().any(|parent| self.is_tenant_owned(*parent)) {
                self.forbid_null(table);
                self.forbid_empty(table);
                self.hold_equal(table);
            }
        }
    }

    fn forbid_null(&mut self, table: &RelationFacts) {
        let Some(tenant) = &table.tenant else { return };
        if tenant.not_null || tenant.nulls > 0 {
            return;
        }
        let column = ident(&self.declaration.tenant_column);
        // What is filled from a parent that every row has can never be NULL, so the application does not notice.
        let filled = self.is_always_filled(table);
        let checked = if filled { Stage::Prepare } else { Stage::Enforce };
        self.check(table, NOT_NULL, &format!("{column} IS NOT NULL"), "a row without a tenant is nobody's", checked);
        let (object, name) = (label(table), sql_name(table));
        // After it nobody knows whether the column was NOT NULL before.
        let set = if filled { Stage::Prepare } else { Stage::Finish };
        self.transaction(vec![
            statement(
                &object,
                format!("ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL"),
                "a row without a tenant is nobody's; the constraint has shown that there is none, so no row is read",
            )
            .at(set),
            statement(
                &object,
                format!("ALTER TABLE {name} DROP CONSTRAINT {NOT_NULL}"),
                "NOT NULL says the same from here on",
            )
            .at(set),
        ]);
    }

    fn is_always_filled(&self, table: &RelationFacts) -> bool {
        crate::adopt::parent(self.facts, self.declaration, table).is_ok_and(|parent| parent.is_some_and(|way| way.always))
    }

    fn forbid_empty(&mut self, table: &RelationFacts) {
        if self.declaration.tenant_key == KeyType::Text {
            let condition = format!("{} <> ''", ident(&self.declaration.tenant_column));
            self.check(table, NOT_EMPTY, &condition, "an empty text is no tenant's key", Stage::Enforce);
        }
    }

    /// Otherwise a tenant could write a row of its own that bears another's name.
    fn hold_equal(&mut self, table: &RelationFacts) {
        if let Some(own) = self.declared_own(table) {
            let condition = format!("{} = {}", ident(&self.declaration.tenant_column), ident(&own));
            let reason = format!("`{own}` names the tenant as well, and foreign keys lead to it or from it");
            self.check(table, IS_OWN, &condition, &reason, Stage::Enforce);
        }
    }

    fn declared_own(&self, table: &RelationFacts) -> Option<String> {
        crate::adopt::parent(self.facts, self.declaration, table).ok().flatten()?.own
    }

    /// Whether the column holds the row's tenant: it is the tenant's, or is held equal to it.
    pub(super) fn names_tenant(&self, table: &RelationFacts, column: &str) -> bool {
        let tenant = self.declaration.tenant_column.as_str();
        let mut equal = [tenant, column];
        equal.sort_unstable();
        let is_held = |check: &CheckFacts| check.name == IS_OWN && check.validated && check.columns == equal;
        column == tenant || table.checks.iter().any(is_held) || self.declared_own(table).is_some_and(|own| own == column)
    }

    /// A check constraint in two steps: new rows at once, old rows without a lock that anybody waits for.
    fn check(&mut self, table: &RelationFacts, constraint: &str, condition: &str, reason: &str, stage: Stage) {
        let (object, name) = (label(table), sql_name(table));
        let found = table.checks.iter().find(|check| check.name == constraint);
        if found.is_none() {
            let sql = format!("ALTER TABLE {name} ADD CONSTRAINT {constraint} CHECK ({condition}) NOT VALID");
            self.transaction(vec![statement(&object, sql, reason).at(stage)]);
        }
        if found.is_none_or(|check| !check.validated) {
            let sql = format!("ALTER TABLE {name} VALIDATE CONSTRAINT {constraint}");
            let reason = "the rows that are there already; writers go on meanwhile";
            self.transaction(vec![statement(&object, sql, reason).at(stage)]);
        }
    }
}
