//! The tables and who refers to whom: by foreign key, or (weaker) by a column that is named after a table.

use std::collections::{BTreeMap, BTreeSet};

use guardian_model::KeyType;

use super::names;
use crate::facts::{Constraint, ConstraintKind, Facts, Oid, Relation};

/// Of a table to another, or to itself.
#[derive(Debug, Clone)]
pub(super) struct Reference<'f> {
    pub(super) from: Oid,
    /// By number, in the order of `target_columns`.
    pub(super) columns: Vec<i16>,
    pub(super) to: Oid,
    pub(super) target_columns: Vec<i16>,
    /// `None`: only the column's name says so.
    pub(super) constraint: Option<&'f Constraint>,
    /// No row is without it.
    pub(super) required: bool,
    /// Part of the primary key: the row does not exist without its parent.
    identifying: bool,
}

impl Reference<'_> {
    /// Smaller is a better parent: what the database enforces, for every row, as the row's own identity.
    pub(super) fn preference(&self) -> impl Ord + use<> {
        let cascades = self.constraint.is_some_and(|constraint| constraint.on_delete == Some('c'));
        (self.constraint.is_none(), !self.required, !self.identifying, !cascades, self.columns.clone(), self.to)
    }
}

/// The tables of people: no partitions and children (they go with their parent), no extension's, none of Guardian's own.
pub(super) struct Graph<'f> {
    pub(super) facts: &'f Facts,
    /// By schema and name.
    pub(super) tables: Vec<&'f Relation>,
    by_oid: BTreeMap<Oid, &'f Relation>,
    references: BTreeMap<Oid, Vec<Reference<'f>>>,
    /// Who refers to a table: the table, and which of its references.
    referrers: BTreeMap<Oid, Vec<(Oid, usize)>>,
    /// Partitions and children by parent.
    children: BTreeMap<Oid, Vec<Oid>>,
}

impl<'f> Graph<'f> {
    pub(super) fn of(facts: &'f Facts) -> Self {
        let is_ours = |relation: &&Relation| {
            relation.kind.is_table()
                && !relation.partition
                && relation.parents.is_empty()
                && relation.extension.is_none()
                && !matches!(relation.schema.as_str(), "guardian" | "pg_catalog" | "information_schema")
        };
        let mut tables: Vec<&Relation> = facts.relations.iter().filter(is_ours).collect();
        tables.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        let by_oid: BTreeMap<Oid, &Relation> = tables.iter().map(|table| (table.oid, *table)).collect();
        let mut children: BTreeMap<Oid, Vec<Oid>> = BTreeMap::new();
        for relation in &facts.relations {
            for parent in &relation.parents {
                children.entry(*parent).or_default().push(relation.oid);
            }
        }
        let mut graph = Self { facts, tables, by_oid, references: BTreeMap::new(), referrers: BTreeMap::new(), children };
        let by_name = graph.by_name();
        let references = graph.tables.iter().map(|table| {
            let mut references = graph.foreign_keys(table.oid);
            references.extend(graph.named(table, &references, &by_name));
            references.sort_by_key(Reference::preference);
            (table.oid, references)
        });
        graph.references = references.collect();
        for (from, references) in &graph.references {
            for (position, reference) in references.iter().enumerate() {
                graph.referrers.entry(reference.to).or_default().push((*from, position));
            }
        }
        graph
    }

    pub(super) fn table(&self, oid: Oid) -> Option<&'f Relation> {
        self.by_oid.get(&oid).copied()
    }

    /// What a table refers to, the best parent first.
    pub(super) fn references(&self, from: Oid) -> &[Reference<'f>] {
        self.references.get(&from).map_or(&[], Vec::as_slice)
    }

    pub(super) fn all_references(&self) -> impl Iterator<Item = &Reference<'f>> {
        self.references.values().flatten()
    }

    /// The references to a table, by the table they come from.
    pub(super) fn references_to(&self, to: Oid) -> impl Iterator<Item = &Reference<'f>> {
        let referrers = self.referrers.get(&to).into_iter().flatten();
        referrers.map(|(from, position)| &self.references[from][*position])
    }

    /// The name of a column; empty when it is gone.
    pub(super) fn column(&self, table: Oid, number: i16) -> &'f str {
        self.facts.column(table, number).map_or("", |column| column.name.as_str())
    }

    pub(super) fn columns(&self, table: Oid, numbers: &[i16]) -> Vec<String> {
        numbers.iter().map(|number| self.column(table, *number).to_owned()).collect()
    }

    /// The primary key, when it is one column.
    pub(super) fn single_key(&self, table: Oid) -> Option<i16> {
        let primary = self.facts.indexes_of(table).iter().find(|index| index.primary)?;
        <[i16; 1]>::try_from(primary.columns.as_slice()).ok().map(|[column]| column)
    }

    /// The column numbers of every unique key without a condition or an expression.
    pub(super) fn unique_keys(&self, table: Oid) -> impl Iterator<Item = BTreeSet<i16>> {
        let usable = self.facts.indexes_of(table).iter().filter(|index| index.unique && index.valid && !index.partial);
        usable.map(|index| index.columns.iter().copied().collect::<BTreeSet<i16>>()).filter(|columns| !columns.contains(&0))
    }

    /// The whole family of a table: itself, its partitions and its children, to any depth.
    pub(super) fn family(&self, table: Oid) -> BTreeSet<Oid> {
        let mut family = BTreeSet::new();
        let mut open = vec![table];
        while let Some(oid) = open.pop() {
            if family.insert(oid) {
                open.extend(self.children.get(&oid).into_iter().flatten());
            }
        }
        family
    }

    fn foreign_keys(&self, table: Oid) -> Vec<Reference<'f>> {
        let primary = self.facts.indexes_of(table).iter().find(|index| index.primary);
        let primary: &[i16] = primary.map_or(&[], |index| index.columns.as_slice());
        let foreign = self.facts.constraints_of(table).iter().filter(|constraint| {
            constraint.kind == ConstraintKind::Foreign && !constraint.inherited && !constraint.columns.is_empty()
        });
        foreign
            .filter_map(|constraint| {
                let to = constraint.target.filter(|target| self.by_oid.contains_key(target))?;
                let is_required = |number: &i16| self.facts.column(table, *number).is_some_and(|column| column.not_null);
                Some(Reference {
                    from: table,
                    columns: constraint.columns.clone(),
                    to,
                    target_columns: constraint.target_columns.clone(),
                    constraint: Some(constraint),
                    required: constraint.columns.iter().all(is_required),
                    identifying: constraint.columns.iter().all(|number| primary.contains(number)),
                })
            })
            .collect()
    }

    /// Tables by schema and singular name; a name that two have is nobody's.
    fn by_name(&self) -> BTreeMap<(&'f str, String), Option<Oid>> {
        let mut names = BTreeMap::new();
        for table in &self.tables {
            names
                .entry((table.schema.as_str(), names::singular(&table.name)))
                .and_modify(|oid| *oid = None)
                .or_insert(Some(table.oid));
        }
        names
    }

    /// `ticket_id` beside a table `tickets` with a key of the same type, where no foreign key says more.
    fn named(
        &self,
        table: &Relation,
        foreign: &[Reference<'f>],
        by_name: &BTreeMap<(&'f str, String), Option<Oid>>,
    ) -> Vec<Reference<'f>> {
        let columns = self.facts.columns_of(table.oid);
        let all: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let polymorphic: BTreeSet<&str> = all.iter().filter_map(|name| names::polymorphic_partner(name, &all)).collect();
        let free = columns.iter().filter(|column| {
            !polymorphic.contains(column.name.as_str())
                && !foreign.iter().any(|reference| reference.columns.contains(&column.number))
        });
        free.filter_map(|column| {
            let stem = names::stem(&column.name)?;
            let schema = self.by_oid.get(&table.oid)?.schema.as_str();
            let to = by_name.get(&(schema, stem)).copied().flatten().filter(|to| *to != table.oid)?;
            let key = self.facts.column(to, self.single_key(to)?)?;
            let fits = key_type(key.base_type).is_some() && key_type(key.base_type) == key_type(column.base_type);
            fits.then(|| Reference {
                from: table.oid,
                columns: vec![column.number],
                to,
                target_columns: vec![key.number],
                constraint: None,
                required: column.not_null,
                identifying: false,
            })
        })
        .collect()
    }
}

/// The kind of tenant key that a type (below any domain) can be.
pub(super) const fn key_type(base_type: Oid) -> Option<KeyType> {
    // OIDs of built-in types are the same on every server.
    match base_type {
        2950 => Some(KeyType::Uuid),
        20 | 21 | 23 => Some(KeyType::Bigint),
        25 | 1043 => Some(KeyType::Text),
        _ => None,
    }
}
