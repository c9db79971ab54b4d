//! What there is to know that is about no class of one table.

use std::collections::BTreeMap;

use super::{Class, Note, Table, graph::Graph, root::Root};
use crate::{
    facts::{Oid, RelationKind},
    finding::{readable, readable_in},
};

/// Tables that a note names one by one.
const NAMED_MAX: usize = 5;

/// The tables that are not in the schema that Guardian keeps tenants apart in, by theirs.
pub(super) fn elsewhere<'t>(tables: &'t [Table], schema: &str) -> BTreeMap<&'t str, Vec<&'t Table>> {
    let mut elsewhere: BTreeMap<&str, Vec<&Table>> = BTreeMap::new();
    for table in tables.iter().filter(|table| table.schema != schema) {
        elsewhere.entry(&table.schema).or_default().push(table);
    }
    elsewhere
}

fn of_schema(other: &str, tables: &[&Table], schema: &str) -> Note {
    let named = |wanted: fn(&Class) -> bool| {
        let names: Vec<String> =
            tables.iter().filter(|table| wanted(&table.class)).map(|table| readable(&table.name)).collect();
        let more = names.len().saturating_sub(NAMED_MAX);
        let shown = names[..names.len() - more].join(", ");
        (!names.is_empty()).then(|| if more == 0 { shown } else { format!("{shown} and {more} more") })
    };
    let mut has = Vec::new();
    has.extend(named(Class::is_owned).map(|names| format!("rows of tenants in {names}")));
    has.extend(named(|class| *class == Class::Undecided).map(|names| format!("rows of nobody knows whom in {names}")));
    has.extend(
        named(|class| matches!(class, Class::Global { .. })).map(|names| format!("rows for every tenant in {names}")),
    );
    let is_for_all = tables.iter().all(|table| matches!(table.class, Class::Global { .. }));
    let otherwise = if is_for_all {
        "or grant the application's role by hand what it shall read"
    } else {
        "or see to it that the application's role has no right there"
    };
    Note {
        object: format!("schema {}", readable(other)),
        text: format!(
            "it has {}. Guardian hardens one schema ({}), and does nothing in any other: move the tables there with \
             ALTER TABLE … SET SCHEMA and run `guardian init` again, {otherwise}",
            has.join(", "),
            readable(schema)
        ),
    }
}

/// What is about no class of one table: references from tenant to tenant, other schemas, what was not looked at.
pub(super) fn notes(graph: &Graph<'_>, root: &Root<'_>, tables: &[Table], schema: &str) -> Vec<Note> {
    let mut notes = Vec::new();
    let owned: BTreeMap<Oid, &Table> =
        tables.iter().filter(|table| table.class.is_owned()).map(|table| (table.oid, table)).collect();
    for reference in graph.all_references().filter(|reference| root.table.is_some_and(|root| root.oid == reference.to)) {
        let Some(from) = owned.get(&reference.from) else { continue };
        let columns = graph.columns(reference.from, &reference.columns);
        let is_own = match &from.class {
            Class::Through { ways } => ways.iter().any(|way| way.columns == columns),
            _ => columns.contains(&root.candidate.column),
        };
        if let Some(constraint) = reference.constraint.filter(|_| !is_own) {
            notes.push(Note {
                object: format!("{} on {}", readable(&constraint.name), readable_in(&from.schema, &from.name)),
                text: format!(
                    "`{}` refers to a tenant besides the row's own. The hardening lets it refer to the row's own tenant only; \
                     if it is meant to name another, drop this foreign key first",
                    columns.join(", ")
                ),
            });
        }
    }
    notes.extend(elsewhere(tables, schema).into_iter().map(|(other, tables)| of_schema(other, &tables, schema)));
    for relation in &graph.facts.relations {
        if relation.kind == RelationKind::ForeignTable && relation.extension.is_none() {
            notes.push(Note {
                object: readable_in(&relation.schema, &relation.name),
                text: "a foreign table has no row-level security: every tenant reads what it shows".to_owned(),
            });
        }
    }
    notes
}
