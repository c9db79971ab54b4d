//! Foreign keys between tenants' tables carry the tenant: otherwise a row can point into another tenant, a check tells
//! whether another tenant's row exists, and a cascade deletes it.

use std::collections::BTreeSet;

use super::{
    ForeignKeyMove, Stage, Statement,
    keys::{KeySwap, deferral, swap_name},
    planner::{Planner, label, sql_name, statement},
};
use crate::{
    facts::{ForeignKeyFacts, KeyFacts, Oid, RelationFacts, RelationKind},
    quote::{bounded_name, ident, idents, qualified},
};

/// A foreign key that becomes composite.
pub(super) struct Move<'a> {
    foreign_key: &'a ForeignKeyFacts,
    table: &'a RelationFacts,
    referenced: &'a RelationFacts,
    /// What stands after the constraint's name.
    definition: String,
    /// The partitioned table's key that has to change in the same transaction.
    waits_for: Option<Oid>,
}

impl Move<'_> {
    pub(super) fn waits_for(&self, key: Oid) -> bool {
        self.waits_for == Some(key)
    }

    pub(super) fn drop_old(&self, reason: &str) -> Statement {
        let sql = format!("ALTER TABLE {} DROP CONSTRAINT {}", sql_name(self.table), ident(&self.foreign_key.name));
        statement(&label(self.table), sql, reason)
    }

    /// Under the old name, checked at once.
    pub(super) fn add_in_place(&self) -> Statement {
        let sql = format!(
            "ALTER TABLE {} ADD CONSTRAINT {} {}",
            sql_name(self.table),
            ident(&self.foreign_key.name),
            self.definition
        );
        statement(&label(self.table), sql, self.reason())
    }

    pub(super) fn described(&self, tenant: &str) -> ForeignKeyMove {
        let Move { foreign_key, table, referenced, .. } = self;
        let pairs = foreign_key.columns.iter().zip(&foreign_key.referenced_columns);
        let joined: Vec<_> = pairs.map(|(own, other)| format!("p.{} = c.{}", ident(other), ident(own))).collect();
        let strays = format!(
            "SELECT count(*), min(c.ctid::pg_catalog.text) FROM {} AS c JOIN {} AS p ON {} WHERE p.{column} <> c.{column}",
            sql_name(table),
            sql_name(referenced),
            joined.join(" AND "),
            column = ident(tenant),
        );
        ForeignKeyMove { table: label(table), foreign_key: foreign_key.name.clone(), referenced: label(referenced), strays }
    }

    fn reason(&self) -> String {
        format!("a row of {} may only refer to rows of its own tenant in {}", self.table.name, self.referenced.name)
    }
}

impl<'a> Planner<'a> {
    /// The foreign keys to rewrite; builds the unique indexes they need besides those of `swaps`.
    pub(super) fn decide_foreign_keys(&mut self, swaps: &[KeySwap<'a>]) -> Vec<Move<'a>> {
        let facts = self.facts;
        let mut extra = BTreeSet::new();
        let mut moves = Vec::new();
        for foreign_key in &facts.foreign_keys {
            let (Some(table), Some(referenced)) = (self.relation(foreign_key.table), self.relation(foreign_key.referenced))
            else {
                continue;
            };
            let both_are_tenants = self.is_tenant_owned(table.oid) && self.is_tenant_owned(referenced.oid);
            if !both_are_tenants || self.carries_tenant(foreign_key, table, referenced) || !self.can_move(foreign_key, table)
            {
                continue;
            }
            let swapped = swaps
                .iter()
                .find(|swap| swap.key.oid == foreign_key.referenced_index && swap.table.kind == RelationKind::Partitioned);
            if swapped.is_none() {
                self.need_unique(foreign_key, referenced, swaps, &mut extra);
            }
            let definition = self.definition(foreign_key, referenced);
            let waits_for = swapped.map(|swap| swap.key.oid);
            moves.push(Move { foreign_key, table, referenced, definition, waits_for });
        }
        moves
    }

    /// Whether columns that hold the tenant face each other in the key.
    fn carries_tenant(&self, foreign_key: &ForeignKeyFacts, table: &RelationFacts, referenced: &RelationFacts) -> bool {
        let mut pairs = foreign_key.columns.iter().zip(&foreign_key.referenced_columns);
        pairs.any(|(own, other)| self.names_tenant(table, own) && self.names_tenant(referenced, other))
    }

    fn can_move(&mut self, foreign_key: &ForeignKeyFacts, table: &RelationFacts) -> bool {
        let tenant = &self.declaration.tenant_column;
        let drop = format!("ALTER TABLE {} DROP CONSTRAINT {}", sql_name(table), ident(&foreign_key.name));
        let sets = |action: char| matches!(action, 'n' | 'd');
        let problem = if foreign_key.columns.contains(tenant) || foreign_key.referenced_columns.contains(tenant) {
            "it compares the tenant with another column"
        } else if foreign_key.match_full && foreign_key.columns.len() > 1 {
            "MATCH FULL over several columns would forbid every NULL once the tenant is one of them"
        } else if sets(foreign_key.on_update) {
            "ON UPDATE SET NULL or SET DEFAULT would also change the tenant, and takes no list of columns"
        } else if sets(foreign_key.on_delete) && self.facts.server.version < 150_000 {
            "ON DELETE SET NULL or SET DEFAULT would also change the tenant; a list of columns needs PostgreSQL 15"
        } else {
            return true;
        };
        self.refuse(
            format!("{} on {}", foreign_key.name, label(table)),
            format!("this foreign key cannot simply carry the tenant: {problem}"),
            vec![
                format!("give it another action (ON DELETE CASCADE, RESTRICT or NO ACTION), or a trigger: {drop}"),
                "upgrade the server to PostgreSQL 15 or newer, where the action may name its columns".to_owned(),
            ],
        );
        false
    }

    /// Makes sure that the referenced table has, or will have, a unique index on the tenant and the referenced columns.
    fn need_unique(
        &mut self,
        foreign_key: &ForeignKeyFacts,
        referenced: &RelationFacts,
        swaps: &[KeySwap<'a>],
        extra: &mut BTreeSet<(Oid, Vec<String>)>,
    ) {
        let tenant = &self.declaration.tenant_column;
        let columns: BTreeSet<&str> = foreign_key.referenced_columns.iter().map(String::as_str).collect();
        let with_tenant: BTreeSet<&str> = columns.iter().copied().chain([tenant.as_str()]).collect();
        let is_there = self.facts.keys.iter().any(|key| key.table == referenced.oid && serves(key, &with_tenant));
        let will_be = swaps.iter().any(|swap| {
            swap.table.oid == referenced.oid && swap.table.kind == RelationKind::Table && serves(swap.key, &columns)
        });
        if is_there || will_be {
            return;
        }
        let sorted: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        if !extra.insert((referenced.oid, sorted)) {
            return;
        }
        let columns = &foreign_key.referenced_columns;
        let name = bounded_name(&format!("{}_{}_guardian_key", referenced.name, columns.join("_")));
        let on = format!("{} ON {} ({}, {})", ident(&name), sql_name(referenced), ident(tenant), idents(columns));
        let reason = "foreign keys that carry the tenant refer to it";
        if referenced.kind == RelationKind::Partitioned {
            let sql = format!("CREATE UNIQUE INDEX {on}");
            let reason = format!("{reason}; partitioned: no CONCURRENTLY");
            self.transaction(vec![statement(&label(referenced), sql, reason).last()]);
        } else {
            let sql = format!("CREATE UNIQUE INDEX CONCURRENTLY {on}");
            self.concurrently(&referenced.schema, &name, statement(&label(referenced), sql, reason).inert());
        }
    }

    fn definition(&self, foreign_key: &ForeignKeyFacts, referenced: &RelationFacts) -> String {
        let tenant = std::slice::from_ref(&self.declaration.tenant_column);
        let set_columns =
            if foreign_key.on_delete_columns.is_empty() { &foreign_key.columns } else { &foreign_key.on_delete_columns };
        let on_delete = match foreign_key.on_delete {
            'r' => " ON DELETE RESTRICT".to_owned(),
            'c' => " ON DELETE CASCADE".to_owned(),
            'n' => format!(" ON DELETE SET NULL ({})", idents(set_columns)),
            'd' => format!(" ON DELETE SET DEFAULT ({})", idents(set_columns)),
            _ => String::new(),
        };
        let on_update = match foreign_key.on_update {
            'r' => " ON UPDATE RESTRICT",
            'c' => " ON UPDATE CASCADE",
            _ => "",
        };
        format!(
            "FOREIGN KEY ({}) REFERENCES {} ({}){on_delete}{on_update}{}",
            idents(&[tenant, &foreign_key.columns].concat()),
            qualified(&referenced.schema, &referenced.name),
            idents(&[tenant, &foreign_key.referenced_columns].concat()),
            deferral(foreign_key.deferrable, foreign_key.deferred)
        )
    }

    /// New constraint, validation, old constraint gone: three short locks.
    pub(super) fn move_foreign_keys(&mut self, moves: &[Move<'a>]) {
        for moved in moves.iter().filter(|moved| moved.waits_for.is_none()) {
            let Move { foreign_key, table, referenced, definition, .. } = moved;
            let (object, name) = (label(table), sql_name(table));
            let (old, new) = (ident(&foreign_key.name), ident(&swap_name(&foreign_key.name)));
            if table.kind == RelationKind::Partitioned {
                // Before 18, a foreign key of a partitioned table cannot be NOT VALID.
                self.transaction(vec![
                    moved.drop_old("a composite one takes its place in this transaction").last(),
                    moved.add_in_place().last(),
                ]);
                continue;
            }
            let begun = self
                .facts
                .foreign_keys
                .iter()
                .find(|begun| begun.table == table.oid && begun.name == swap_name(&foreign_key.name));
            // What it refers to gets its key in the same stage.
            let stage = if referenced.kind == RelationKind::Partitioned { Stage::Finish } else { Stage::Enforce };
            if begun.is_none() {
                let sql = format!("ALTER TABLE {name} ADD CONSTRAINT {new} {definition} NOT VALID");
                self.transaction(vec![statement(&object, sql, moved.reason()).at(stage)]);
            }
            if begun.is_none_or(|begun| !begun.validated) {
                let sql = format!("ALTER TABLE {name} VALIDATE CONSTRAINT {new}");
                let reason = "the rows that are there already; writers go on meanwhile";
                self.transaction(vec![statement(&object, sql, reason).at(stage)]);
            }
            let rename = format!("ALTER TABLE {name} RENAME CONSTRAINT {new} TO {old}");
            self.transaction(vec![
                moved.drop_old("the composite one takes its place").last(),
                statement(&object, rename, "under the name it had").last(),
            ]);
        }
    }
}

/// Whether a foreign key may refer to exactly these columns of the key.
fn serves(key: &KeyFacts, columns: &BTreeSet<&str>) -> bool {
    let own: Option<BTreeSet<&str>> = key.columns.iter().map(Option::as_deref).collect();
    key.valid
        && !key.partial
        && !key.deferrable
        && key.constraint != Some('x')
        && key.columns.len() == columns.len()
        && own.as_ref() == Some(columns)
}
