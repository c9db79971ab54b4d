//! SQL that puts the tenant into keys and foreign keys, for remedies.

use std::collections::{BTreeMap, BTreeSet};

use guardian_postgres::quote::{bounded_name, ident, idents, qualified};

use crate::{
    Oid,
    facts::{Constraint, ConstraintKind, Facts, Index, Relation},
    rule::Audit,
};

/// A foreign key between tenant tables with the tenant added on both sides: what stands after its name, and the unique index
/// that it needs and that is not there yet. `None` when the tenant cannot simply be added.
pub(super) struct Composite {
    pub(super) definition: String,
    pub(super) index: Option<String>,
}

/// Whether columns that hold the tenant face each other in a foreign key.
pub(super) fn carries_tenant(audit: &Audit<'_>, foreign: &Constraint) -> bool {
    let mut pairs = foreign.columns.iter().zip(&foreign.target_columns);
    pairs.any(|(own, other)| {
        names_tenant(audit, foreign.table, *own) && foreign.target.is_some_and(|target| names_tenant(audit, target, *other))
    })
}

/// Whether the column is the tenant's, or a constraint holds it equal to that: the key of the table of the tenants.
pub(super) fn names_tenant(audit: &Audit<'_>, table: Oid, column: i16) -> bool {
    let Some(tenant) = audit.tenancy.column(table) else { return false };
    let equal = |one: &Constraint| {
        let Some([left, right]) =
            names(audit.facts, table, &one.columns).and_then(|names| <[String; 2]>::try_from(names).ok())
        else {
            return false;
        };
        let both = one.columns.contains(&column) && one.columns.contains(&tenant.number);
        let definition = one.definition.replace('"', "");
        both && [format!("CHECK (({left} = {right}))"), format!("CHECK (({right} = {left}))")].contains(&definition)
    };
    let mut checks = audit.facts.constraints_of(table).iter().filter(|one| one.kind == ConstraintKind::Check);
    column == tenant.number || checks.any(|one| one.validated && equal(one))
}

/// The foreign key with the tenant in it. `keyed` says that the target's key gets the tenant in the same transaction.
pub(super) fn with_tenant(audit: &Audit<'_>, foreign: &Constraint, keyed: bool) -> Option<Composite> {
    let facts = audit.facts;
    let target = facts.relation(foreign.target?)?;
    let (own, other) = (audit.tenancy.column(foreign.table)?, audit.tenancy.column(target.oid)?);
    let sets = |action: Option<char>| matches!(action, Some('n' | 'd'));
    let mixed = foreign.columns.contains(&own.number) || foreign.target_columns.contains(&other.number);
    let full = foreign.columns.len() > 1 && foreign.definition.contains(" MATCH FULL");
    // A list of the columns to set needs 15, and ON UPDATE takes none.
    if mixed || full || sets(foreign.on_update) || sets(foreign.on_delete) && facts.server.version < 150_000 {
        return None;
    }
    let columns = names(facts, foreign.table, &foreign.columns)?;
    let targets = names(facts, target.oid, &foreign.target_columns)?;
    let with = |tenant: &str, columns: &[String]| idents(&[&[tenant.to_owned()], columns].concat());
    let wanted: BTreeSet<i16> = foreign.target_columns.iter().copied().chain([other.number]).collect();
    let index = (!keyed && !is_unique(facts, target, &wanted)).then(|| {
        let name = bounded_name(&format!("{}_{}_guardian_key", target.name, targets.join("_")));
        let on = qualified(&target.schema, &target.name);
        format!("CREATE UNIQUE INDEX {} ON {on} ({});", ident(&name), with(&other.name, &targets))
    });
    let definition = format!(
        "FOREIGN KEY ({}) REFERENCES {} ({}){}",
        with(&own.name, &columns),
        qualified(&target.schema, &target.name),
        with(&other.name, &targets),
        actions(foreign, &columns)
    );
    Some(Composite { definition, index })
}

/// What stands after the columns of a foreign key; setting actions get these columns to set.
pub(super) fn actions(foreign: &Constraint, set: &[String]) -> String {
    let on_delete = match foreign.on_delete {
        Some('r') => " ON DELETE RESTRICT".to_owned(),
        Some('c') => " ON DELETE CASCADE".to_owned(),
        Some('n') => format!(" ON DELETE SET NULL ({})", idents(set)),
        Some('d') => format!(" ON DELETE SET DEFAULT ({})", idents(set)),
        _ => String::new(),
    };
    let on_update = match foreign.on_update {
        Some('r') => " ON UPDATE RESTRICT",
        Some('c') => " ON UPDATE CASCADE",
        _ => "",
    };
    let written = foreign.definition.trim_end_matches(" NOT VALID");
    let deferral = [" DEFERRABLE INITIALLY DEFERRED", " DEFERRABLE"].into_iter().find(|end| written.ends_with(end));
    format!("{on_delete}{on_update}{}", deferral.unwrap_or_default())
}

/// A unique or primary key, exclusion constraint or unique index with the tenant in front, the foreign keys that hang on it with
/// it, in one transaction. `None` when a foreign key hangs on it to which the tenant cannot be added.
pub(super) fn key_with_tenant(
    audit: &Audit<'_>,
    foreign_keys: &ForeignKeys<'_>,
    table: &Relation,
    index: &Index,
    tenant: &str,
) -> Option<String> {
    let facts = audit.facts;
    let hanging = foreign_keys.by_index.get(&index.oid).into_iter().flatten();
    let (mut before, mut after) = (vec!["BEGIN;".to_owned()], Vec::new());
    for foreign in hanging {
        let moved = with_tenant(audit, foreign, true)?;
        let (child, name) = (facts.relation(foreign.table)?, ident(&foreign.name));
        let child = qualified(&child.schema, &child.name);
        before.push(format!("ALTER TABLE {child} DROP CONSTRAINT {name};"));
        after.push(format!("ALTER TABLE {child} ADD CONSTRAINT {name} {};", moved.definition));
    }
    let (on, name) = (qualified(&table.schema, &table.name), ident(&index.name));
    let kinds = [ConstraintKind::Primary, ConstraintKind::Unique, ConstraintKind::Exclusion];
    let constraints = facts.constraints_of(table.oid).iter();
    if let Some(constraint) = constraints.filter(|one| kinds.contains(&one.kind)).find(|one| one.index == Some(index.oid)) {
        let exclusion = constraint.kind == ConstraintKind::Exclusion;
        if exclusion {
            before.push("CREATE EXTENSION IF NOT EXISTS btree_gist;".to_owned());
        }
        // Before the first parenthesis PostgreSQL writes key words only.
        let first = format!("({}{}, ", ident(tenant), if exclusion { " WITH =" } else { "" });
        let definition = constraint.definition.replacen('(', &first, 1);
        let name = ident(&constraint.name);
        before.push(format!("ALTER TABLE {on} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} {definition};"));
    } else {
        let rest = index.key_definition.as_deref()?;
        before.push(format!("DROP INDEX {};", qualified(&table.schema, &index.name)));
        let method = ident(&index.method);
        before.push(format!("CREATE UNIQUE INDEX {name} ON {on} USING {method} ({}, {rest};", ident(tenant)));
    }
    after.push("COMMIT;".to_owned());
    Some([before, after].concat().join("\n"))
}

/// Foreign keys by the index that they refer to.
pub(super) struct ForeignKeys<'f> {
    by_index: BTreeMap<Oid, Vec<&'f Constraint>>,
}

impl<'f> ForeignKeys<'f> {
    pub(super) fn of(facts: &'f Facts) -> Self {
        let mut by_index: BTreeMap<Oid, Vec<&Constraint>> = BTreeMap::new();
        for one in facts.constraints.iter().filter(|one| one.kind == ConstraintKind::Foreign && !one.inherited) {
            if let Some(index) = one.index {
                by_index.entry(index).or_default().push(one);
            }
        }
        Self { by_index }
    }
}

/// Column names by number.
pub(super) fn names(facts: &Facts, table: Oid, columns: &[i16]) -> Option<Vec<String>> {
    columns.iter().map(|number| Some(facts.column(table, *number)?.name.clone())).collect()
}

/// Whether a foreign key can refer to exactly these columns.
fn is_unique(facts: &Facts, table: &Relation, columns: &BTreeSet<i16>) -> bool {
    let deferrable = |index: &Index| {
        let mut constraints = facts.constraints_of(table.oid).iter().filter(|one| one.index == Some(index.oid));
        constraints.any(|one| one.kind != ConstraintKind::Foreign && one.definition.contains(" DEFERRABLE"))
    };
    facts.indexes_of(table.oid).iter().any(|index| {
        index.unique
            && index.valid
            && !index.partial
            && index.columns.len() == columns.len()
            && index.columns.iter().copied().collect::<BTreeSet<_>>() == *columns
            && !deferrable(index)
    })
}
