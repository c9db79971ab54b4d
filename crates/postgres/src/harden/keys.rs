//! Unique and primary keys without the tenant column: never rewritten unless the user says so.
//!
//! A key over all tenants is an oracle (an insert that fails says that a value is taken) and a lock on a name. The order:
//! new unique indexes first, then foreign keys move over to them, then the keys themselves change places.

use std::{collections::BTreeSet, fmt::Write as _};

use guardian_model::config::KeyDecision;

use super::{
    Statement,
    classes::toml_key,
    planner::{Planner, label, sql_name, statement},
};
use crate::{
    facts::{KeyFacts, RelationFacts, RelationKind},
    quote::{bounded_name, ident, idents, qualified},
};

/// A key that becomes composite.
pub(super) struct KeySwap<'a> {
    pub(super) key: &'a KeyFacts,
    pub(super) table: &'a RelationFacts,
    /// The new index's name until the old key is gone.
    pub(super) new_index: String,
}

impl<'a> Planner<'a> {
    /// Keys and the foreign keys that hang on them.
    pub(super) fn harden_keys(&mut self) {
        let swaps = self.decide_keys();
        for swap in &swaps {
            if swap.table.kind == RelationKind::Table {
                self.build_index(swap);
            }
        }
        let moves = self.decide_foreign_keys(&swaps);
        self.move_foreign_keys(&moves);
        for swap in &swaps {
            if swap.table.kind == RelationKind::Partitioned {
                self.swap_partitioned(swap, &moves);
            } else {
                self.swap(swap);
            }
        }
    }

    /// The keys to rewrite. Refuses those without a decision, all at once; notes the oracles that stay.
    fn decide_keys(&mut self) -> Vec<KeySwap<'a>> {
        let facts = self.facts;
        let mut undecided: Vec<(&KeyFacts, &RelationFacts)> = Vec::new();
        let mut swaps = Vec::new();
        let mut known = BTreeSet::new();
        let swap_names: BTreeSet<String> = facts.keys.iter().map(|key| swap_name(&key.name)).collect();
        for key in &facts.keys {
            known.insert(key.name.as_str());
            let Some(table) = self.relation(key.table).filter(|table| self.is_tenant_owned(table.oid)) else { continue };
            let has_tenant = key.columns.iter().flatten().any(|column| *column == self.declaration.tenant_column);
            if has_tenant || (!key.valid && swap_names.contains(&key.name)) {
                continue;
            }
            match self.declaration.keys.get(&key.name) {
                // A value of such a key is one tenant's alone: nobody else's row may bear it.
                None if key.columns.iter().flatten().any(|column| self.names_tenant(table, column)) => {}
                None => undecided.push((key, table)),
                Some(KeyDecision::Global(reason)) => self.note_oracle(key, table, reason),
                Some(KeyDecision::Composite) => {
                    if self.can_become_composite(key, table) {
                        swaps.push(KeySwap { key, table, new_index: swap_name(&key.name) });
                    }
                }
            }
        }
        for name in self.declaration.keys.keys().filter(|name| !known.contains(name.as_str())) {
            self.note(
                format!("application.keys.{name}"),
                "no unique or primary key of the application's schema has this name",
                vec!["correct the name in guardian.toml, or take the line out".to_owned()],
            );
        }
        self.refuse_undecided_keys(&undecided);
        swaps
    }

    fn refuse_undecided_keys(&mut self, undecided: &[(&KeyFacts, &RelationFacts)]) {
        if undecided.is_empty() {
            return;
        }
        let column = &self.declaration.tenant_column;
        let mut problem = format!(
            "{} without `{column}`: an insert that fails tells a tenant that another one has the value\n",
            if undecided.len() == 1 { "a key".to_owned() } else { format!("{} keys", undecided.len()) }
        );
        let mut composite = String::from("put the tenant in front of each of them; in guardian.toml:\n[application.keys]\n");
        for (key, table) in undecided {
            // Writing to a string cannot fail.
            let _ = writeln!(problem, "  {} on {} ({})", key.name, label(table), key_columns(key));
            let _ = writeln!(composite, "{} = \"composite\"", toml_key(&key.name));
        }
        let first = toml_key(&undecided[0].0.name);
        let global = format!(
            "or keep one of them unique over all tenants, and say why:\n{first} = {{ global = \"ids are random: nobody can ask for one\" }}"
        );
        self.refuse("keys", problem.trim_end(), vec![composite.trim_end().to_owned(), global]);
    }

    fn note_oracle(&mut self, key: &KeyFacts, table: &RelationFacts, reason: &str) {
        self.note(
            format!("{} on {}", key.name, label(table)),
            format!(
                "unique over all tenants ({reason}): a tenant that inserts a value of ({}) learns whether another one has it, \
                 and can take it first",
                key_columns(key)
            ),
            vec![format!("{} = \"composite\" in [application.keys]", toml_key(&key.name))],
        );
    }

    fn can_become_composite(&mut self, key: &KeyFacts, table: &RelationFacts) -> bool {
        let object = format!("{} on {}", key.name, label(table));
        let column = ident(&self.declaration.tenant_column);
        if key.constraint == Some('x') {
            self.refuse(
                object,
                "an exclusion constraint cannot get another column without being built again under a lock",
                vec![
                    format!(
                        "CREATE EXTENSION IF NOT EXISTS btree_gist; ALTER TABLE {} DROP CONSTRAINT {}, ADD CONSTRAINT {} \
                         EXCLUDE USING gist ({column} WITH =, …)",
                        sql_name(table),
                        ident(&key.name),
                        ident(&key.name)
                    ),
                    format!("{} = {{ global = \"why\" }} in [application.keys]", toml_key(&key.name)),
                ],
            );
            return false;
        }
        if !key.dependent_views.is_empty() {
            self.refuse(
                object,
                format!("{} groups by this key and would have to be dropped with it", key.dependent_views.join(", ")),
                vec!["name every column in the view's GROUP BY, then run again".to_owned()],
            );
            return false;
        }
        let foreign = self
            .facts
            .foreign_keys
            .iter()
            .find(|foreign_key| foreign_key.referenced_index == key.oid && !self.is_tenant_owned(foreign_key.table));
        if let Some(foreign_key) = foreign {
            self.refuse(
                object,
                format!("the foreign key {} refers to it from a table without the tenant", foreign_key.name),
                vec![
                    "give that table the tenant column, or drop the foreign key".to_owned(),
                    format!("{} = {{ global = \"why\" }} in [application.keys]", toml_key(&key.name)),
                ],
            );
            return false;
        }
        true
    }

    fn build_index(&mut self, swap: &KeySwap<'_>) {
        let KeySwap { key, table, new_index } = swap;
        let is_built =
            self.facts.keys.iter().any(|built| built.table == table.oid && built.name == *new_index && built.valid);
        if is_built {
            return;
        }
        let sql = format!(
            "CREATE UNIQUE INDEX CONCURRENTLY {} ON {} USING {}",
            ident(new_index),
            sql_name(table),
            self.tenant_first(&key.definition)
        );
        let reason = format!("takes the place of {}; built while others write", key.name);
        self.concurrently(&table.schema, new_index, statement(&label(table), sql, reason).inert());
    }

    /// `btree (a, b) …` with the tenant column in front.
    pub(super) fn tenant_first(&self, definition: &str) -> String {
        definition.replacen('(', &format!("({}, ", ident(&self.declaration.tenant_column)), 1)
    }

    /// The new index takes the old key's place and name.
    fn swap(&mut self, swap: &KeySwap<'_>) {
        let KeySwap { key, table, new_index } = swap;
        let (object, table_name, name) = (label(table), sql_name(table), ident(&key.name));
        let reason = "unique within the tenant: no oracle, and no name that a tenant can take from another";
        let statements = match constraint_kind(key) {
            Some(kind) => vec![statement(
                &object,
                format!(
                    "ALTER TABLE {table_name} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {kind} USING INDEX {}{}",
                    ident(new_index),
                    deferral(key.deferrable, key.deferred)
                ),
                reason,
            )],
            None => vec![
                statement(&object, format!("DROP INDEX {}", qualified(&table.schema, &key.name)), reason),
                statement(
                    &object,
                    format!("ALTER INDEX {} RENAME TO {name}", qualified(&table.schema, new_index)),
                    "the new index takes the old one's name",
                ),
            ],
        };
        self.transaction(statements.into_iter().map(Statement::last).collect());
    }

    /// On a partitioned table nothing can be built concurrently: everything changes in one transaction.
    fn swap_partitioned(&mut self, swap: &KeySwap<'_>, moves: &[super::foreign_keys::Move<'_>]) {
        let KeySwap { key, table, .. } = swap;
        let (object, table_name, name) = (label(table), sql_name(table), ident(&key.name));
        let reason = "unique within the tenant; a partitioned table allows no CONCURRENTLY";
        let hanging: Vec<_> = moves.iter().filter(|moved| moved.waits_for(key.oid)).collect();
        let mut statements: Vec<_> = hanging.iter().map(|moved| moved.drop_old("the key it refers to changes")).collect();
        if let Some(kind) = constraint_kind(key) {
            let columns: Vec<&str> = std::iter::once(self.declaration.tenant_column.as_str())
                .chain(key.columns.iter().flatten().map(String::as_str))
                .collect();
            let include =
                if key.included.is_empty() { String::new() } else { format!(" INCLUDE ({})", idents(&key.included)) };
            let nulls = if key.nulls_not_distinct { " NULLS NOT DISTINCT" } else { "" };
            statements.push(statement(
                &object,
                format!(
                    "ALTER TABLE {table_name} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {kind}{nulls} ({}){include}{}",
                    idents(&columns),
                    deferral(key.deferrable, key.deferred)
                ),
                reason,
            ));
        } else {
            let definition = self.tenant_first(&key.definition);
            statements.push(statement(&object, format!("DROP INDEX {}", qualified(&table.schema, &key.name)), reason));
            let sql = format!("CREATE UNIQUE INDEX {name} ON {table_name} USING {definition}");
            statements.push(statement(&object, sql, reason));
        }
        statements.extend(hanging.iter().map(|moved| moved.add_in_place()));
        self.transaction(statements.into_iter().map(Statement::last).collect());
        self.note(
            object,
            format!("{} is built under a lock, because the table is partitioned: reads and writes wait", key.name),
            vec!["apply when the table is little used".to_owned()],
        );
    }
}

pub(crate) fn swap_name(key: &str) -> String {
    bounded_name(&format!("{key}_guardian"))
}

fn constraint_kind(key: &KeyFacts) -> Option<&'static str> {
    match key.constraint {
        Some('p') => Some("PRIMARY KEY"),
        Some('u') => Some("UNIQUE"),
        _ => None,
    }
}

pub(super) const fn deferral(deferrable: bool, deferred: bool) -> &'static str {
    match (deferrable, deferred) {
        (true, true) => " DEFERRABLE INITIALLY DEFERRED",
        (true, false) => " DEFERRABLE",
        (false, _) => "",
    }
}

fn key_columns(key: &KeyFacts) -> String {
    let names: Vec<&str> = key.columns.iter().map(|column| column.as_deref().unwrap_or("an expression")).collect();
    names.join(", ")
}
