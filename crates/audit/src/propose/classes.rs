//! Whose rows each table holds: from its own column, through a parent, nobody's, or not known.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Class, Confidence, Table, Way,
    graph::{Graph, Reference, key_type},
    names,
    root::Root,
};
use crate::{
    facts::{Oid, Relation, RelationKind},
    finding::{readable, readable_in},
};

/// Rows of a table that holds the same for everybody; more are seldom reference data.
const LOOKUP_ROWS_MAX: f64 = 20_000.0;
const LOOKUP_COLUMNS_MAX: usize = 8;

/// How a table's rows come to their tenant.
#[derive(Debug, Clone)]
enum Owned {
    Root,
    Column,
    Through(Vec<usize>),
}

struct Classifier<'a, 'f> {
    graph: &'a Graph<'f>,
    root: &'a Root<'f>,
    owned: BTreeMap<Oid, Owned>,
    /// Why a table is not owned although something points that way.
    doubts: BTreeMap<Oid, Vec<String>>,
}

pub(super) fn classify<'f>(graph: &Graph<'f>, root: &Root<'f>) -> Vec<Table> {
    let mut classifier = Classifier { graph, root, owned: BTreeMap::new(), doubts: BTreeMap::new() };
    classifier.own_by_column();
    classifier.own_through_required();
    classifier.doubt_shared();
    classifier.own_through_optional();
    graph.tables.iter().map(|table| classifier.table(table)).collect()
}

impl<'f> Classifier<'_, 'f> {
    fn is_root(&self, oid: Oid) -> bool {
        self.root.table.is_some_and(|root| root.oid == oid)
    }

    fn name(&self, oid: Oid) -> String {
        self.graph.table(oid).map_or_else(String::new, |table| short(table, self.graph))
    }

    fn doubt(&mut self, oid: Oid, why: String) {
        self.doubts.entry(oid).or_default().push(why);
    }

    /// The tenants' table itself, and tables that have the column.
    fn own_by_column(&mut self) {
        let column = &self.root.candidate.column;
        for table in &self.graph.tables {
            let own = self.graph.facts.column_named(table.oid, column);
            if self.is_root(table.oid) {
                let is_key = |own: i16| self.root.key.is_some_and(|key| key.number == own);
                match own {
                    Some(own) if !is_key(own.number) => {
                        let why = format!("its column `{column}` is not its key: name another with --tenant-column");
                        self.doubt(table.oid, why);
                    }
                    Some(_) | None => drop(self.owned.insert(table.oid, Owned::Root)),
                }
                continue;
            }
            let Some(own) = own else { continue };
            let elsewhere = self.graph.references(table.oid).iter().find(|reference| {
                reference.constraint.is_some()
                    && reference.columns == [own.number]
                    && self.root.table.is_some_and(|root| root.oid != reference.to)
            });
            if key_type(own.base_type) != Some(self.root.key_type) {
                let why = format!("its column `{column}` is of type {}, not {}", own.written_type, self.root.column_type);
                self.doubt(table.oid, why);
            } else if let Some(elsewhere) = elsewhere {
                let why = format!("its column `{column}` refers to {}, not to the tenants", self.name(elsewhere.to));
                self.doubt(table.oid, why);
            } else {
                self.owned.insert(table.oid, Owned::Column);
            }
        }
    }

    /// Tables of which every row has a parent that is owned, as far down as it goes.
    fn own_through_required(&mut self) {
        loop {
            let mut more = Vec::new();
            for table in self.open_tables() {
                let ways = self.ways(table.oid, |reference| reference.required);
                if ways.is_empty() || self.doubt_several_tenants(table.oid, &ways) {
                    continue;
                }
                more.push((table.oid, Owned::Through(ways[..1].to_vec())));
            }
            if more.is_empty() {
                return;
            }
            self.owned.extend(more);
        }
    }

    /// Tables of which some rows have an owned parent; then again those that all of their rows lead to.
    fn own_through_optional(&mut self) {
        loop {
            let next = self.open_tables().into_iter().find_map(|table| {
                let ways = self.ways(table.oid, |reference| !reference.required);
                (!ways.is_empty() && !names::is_lookup(&table.name)).then_some((table.oid, ways))
            });
            let Some((oid, ways)) = next else { return };
            if !self.doubt_several_tenants(oid, &ways) {
                self.owned.insert(oid, Owned::Through(ways));
            }
            self.own_through_required();
        }
    }

    fn open_tables(&self) -> Vec<&'f Relation> {
        let is_open = |table: &&&Relation| {
            !self.owned.contains_key(&table.oid) && !self.doubts.contains_key(&table.oid) && !names::is_ledger(&table.name)
        };
        self.graph.tables.iter().filter(is_open).copied().collect()
    }

    /// References to owned tables, the tenants' own table first.
    fn ways(&self, table: Oid, is_wanted: impl Fn(&Reference<'_>) -> bool) -> Vec<usize> {
        let references = self.graph.references(table).iter().enumerate();
        let mut ways: Vec<usize> = references
            .filter(|(_, reference)| reference.to != table && self.owned.contains_key(&reference.to) && is_wanted(reference))
            .map(|(position, _)| position)
            .collect();
        ways.sort_by_key(|position| !self.is_root(self.graph.references(table)[*position].to));
        ways
    }

    /// Two references to the tenants' table say two different things.
    fn doubt_several_tenants(&mut self, table: Oid, ways: &[usize]) -> bool {
        let references = self.graph.references(table);
        let to_root: Vec<String> = ways
            .iter()
            .map(|position| &references[*position])
            .filter(|reference| self.is_root(reference.to))
            .map(|reference| format!("`{}`", self.graph.columns(table, &reference.columns).join(", ")))
            .collect();
        if to_root.len() < 2 {
            return false;
        }
        let why = format!("{} all refer to the tenants: which of them is the row's own?", to_root.join(", "));
        self.doubt(table, why);
        true
    }

    /// Tables that a link table ties to several tenants, such as users with memberships.
    fn doubt_shared(&mut self) {
        let mut shared = Vec::new();
        for (link, owned) in &self.owned {
            let own: BTreeSet<i16> = match owned {
                Owned::Column => {
                    let column = self.graph.facts.column_named(*link, &self.root.candidate.column);
                    column.map(|column| column.number).into_iter().collect()
                }
                Owned::Through(ways) => {
                    let way = &self.graph.references(*link)[ways[0]];
                    if !self.is_root(way.to) {
                        continue;
                    }
                    way.columns.iter().copied().collect()
                }
                Owned::Root => continue,
            };
            for reference in self.graph.references(*link) {
                if self.owned.contains_key(&reference.to) || reference.to == *link {
                    continue;
                }
                let both: BTreeSet<i16> = own.iter().chain(&reference.columns).copied().collect();
                if self.graph.unique_keys(*link).any(|key| key == both) {
                    shared.push((reference.to, *link));
                }
            }
        }
        for (table, link) in shared {
            let why = format!("{} ties its rows to tenants, each to any number of them", self.name(link));
            if !self.doubts.get(&table).is_some_and(|doubts| doubts.contains(&why)) {
                self.doubt(table, why);
            }
        }
    }

    fn table(&self, table: &Relation) -> Table {
        let (class, confidence, mut evidence) = match self.owned.get(&table.oid) {
            Some(Owned::Root) => (Class::Root, self.root.confidence, self.root.candidate.evidence.clone()),
            Some(Owned::Column) => self.by_column(table),
            Some(Owned::Through(ways)) => self.through(table, ways),
            None => self.not_owned(table),
        };
        if table.kind == RelationKind::Partitioned {
            evidence.push("partitioned: its partitions go with it".to_owned());
        }
        let has_column = self.graph.facts.column_named(table.oid, &self.root.candidate.column).is_some();
        Table {
            schema: table.schema.clone(),
            name: table.name.clone(),
            gets_column: class.is_owned() && !has_column,
            class,
            confidence,
            evidence,
            oid: table.oid,
        }
    }

    fn by_column(&self, table: &Relation) -> (Class, Confidence, Vec<String>) {
        let column = &self.root.candidate.column;
        let mut evidence = vec![format!("it has the column `{column}`")];
        let own = self.graph.facts.column_named(table.oid, column);
        let leads = self
            .graph
            .references(table.oid)
            .iter()
            .any(|reference| self.is_root(reference.to) && own.is_some_and(|own| reference.columns == [own.number]));
        if leads {
            evidence.push("which refers to the tenants".to_owned());
        }
        let is_nullable = own.is_some_and(|own| !own.not_null);
        if is_nullable {
            evidence.push("the column may be NULL: rows without a tenant must be given one".to_owned());
        }
        let confidence = match (is_nullable, leads || self.root.table.is_none()) {
            (false, true) => Confidence::High,
            _ => Confidence::Medium,
        };
        (Class::Tenant, confidence, evidence)
    }

    fn through(&self, table: &Relation, positions: &[usize]) -> (Class, Confidence, Vec<String>) {
        let references = self.graph.references(table.oid);
        let ways: Vec<Way> = positions.iter().map(|position| self.way(&references[*position])).collect();
        let mut evidence: Vec<String> = ways.iter().map(|way| way.path.clone()).collect();
        let first = &references[positions[0]];
        let confidence = match (first.required, first.constraint.is_some()) {
            (true, true) => Confidence::High,
            (true, false) => Confidence::Medium,
            (false, _) => Confidence::Low,
        };
        if !first.required {
            evidence.push("not every row has a parent: those that have none must be given a tenant".to_owned());
        }
        if first.constraint.is_none() {
            evidence.push("no foreign key, only the column's name, says so".to_owned());
        }
        (Class::Through { ways }, confidence, evidence)
    }

    fn way(&self, reference: &Reference<'_>) -> Way {
        let parent = self.graph.table(reference.to);
        Way {
            foreign_key: reference.constraint.map(|constraint| constraint.name.clone()),
            columns: self.graph.columns(reference.from, &reference.columns),
            parent_schema: parent.map_or_else(String::new, |parent| parent.schema.clone()),
            parent: parent.map_or_else(String::new, |parent| parent.name.clone()),
            parent_columns: self.graph.columns(reference.to, &reference.target_columns),
            required: reference.required,
            path: self.path(reference),
            parent_oid: reference.to,
        }
    }

    /// Every step up to the tenant. It ends, because a table is owned only through tables that were owned before it.
    fn path(&self, reference: &Reference<'_>) -> String {
        let side = |table: Oid, columns: &[i16]| {
            let columns: Vec<String> = columns.iter().map(|column| readable(self.graph.column(table, *column))).collect();
            match columns.as_slice() {
                [one] => format!("{}.{one}", self.name(table)),
                several => format!("{} ({})", self.name(table), several.join(", ")),
            }
        };
        let step =
            format!("{} → {}", side(reference.from, &reference.columns), side(reference.to, &reference.target_columns));
        match self.owned.get(&reference.to) {
            Some(Owned::Through(ways)) => {
                format!("{step}, {}", self.path(&self.graph.references(reference.to)[ways[0]]))
            }
            Some(Owned::Column) => format!("{step}, {}.{}", self.name(reference.to), readable(&self.root.candidate.column)),
            Some(Owned::Root) | None => step,
        }
    }

    /// Global when much speaks for it and nothing against; what every tenant may read is no place for a guess.
    fn not_owned(&self, table: &Relation) -> (Class, Confidence, Vec<String>) {
        if names::is_ledger(&table.name) {
            let reason = "the ledger of a migration tool, the same for everybody".to_owned();
            return (Class::Global { reason }, Confidence::High, vec!["its name is that of a migration tool's".to_owned()]);
        }
        let against = self.against_global(table);
        let facts = self.graph.facts;
        let columns = facts.columns_of(table.oid);
        let is_referred_to = self.graph.references_to(table.oid).any(|reference| reference.from != table.oid);
        let is_natural = |number: &i16| {
            let column = facts.column(table.oid, *number);
            column.is_some_and(|column| key_type(column.base_type) == Some(guardian_model::KeyType::Text))
        };
        let has_natural_key = self.graph.unique_keys(table.oid).any(|key| key.iter().all(is_natural));
        let is_small = table.rows_estimated >= 0.0 && table.rows_estimated <= LOOKUP_ROWS_MAX;
        let signs = [
            (names::is_lookup(&table.name), 2, "its name is usual for reference data"),
            (is_referred_to, 1, "other tables refer to it"),
            (has_natural_key, 1, "its rows are told apart by a text, such as a code"),
            (columns.len() <= LOOKUP_COLUMNS_MAX, 1, "it has few columns"),
            (is_small && table.rows_estimated > 0.0, 1, "it has few rows"),
        ];
        let strength: u32 = signs.iter().filter(|(is_so, ..)| *is_so).map(|(_, weight, _)| weight).sum();
        let for_global = || signs.iter().filter(|(is_so, ..)| *is_so).map(|(.., text)| (*text).to_owned());
        if !against.is_empty() || strength < 3 || !(signs[0].0 || is_referred_to) {
            let mut evidence = against;
            if evidence.is_empty() {
                evidence.push(
                    "nothing leads from it to a tenant, and nothing shows that it is the same for everybody".to_owned(),
                );
            }
            let confidence = if evidence.len() > 1 { Confidence::High } else { Confidence::Medium };
            return (Class::Undecided, confidence, evidence);
        }
        let mut evidence = vec!["nothing leads from it to a tenant".to_owned()];
        evidence.extend(for_global());
        let confidence = if strength >= 4 && is_small { Confidence::High } else { Confidence::Medium };
        (Class::Global { reason: "reference data, the same for every tenant".to_owned() }, confidence, evidence)
    }

    fn against_global(&self, table: &Relation) -> Vec<String> {
        let columns = self.graph.facts.columns_of(table.oid);
        let all: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let mut against = self.doubts.get(&table.oid).cloned().unwrap_or_default();
        for column in &all {
            if let Some(partner) = names::polymorphic_partner(column, &all) {
                against.push(format!("`{column}` and `{partner}` refer to rows of any table: no foreign key says whose"));
            }
        }
        for reference in self.graph.references(table.oid).iter().filter(|reference| reference.to != table.oid) {
            let column = self.graph.columns(table.oid, &reference.columns).join(", ");
            if self.owned.contains_key(&reference.to) {
                against.push(format!("`{column}` refers to {}, whose rows are tenants'", self.name(reference.to)));
            } else if self.doubts.contains_key(&reference.to) {
                against.push(format!("`{column}` refers to {}, which is undecided", self.name(reference.to)));
            }
        }
        let personal: Vec<String> =
            all.iter().filter(|column| names::is_personal(column)).map(|column| format!("`{column}`")).collect();
        if !personal.is_empty() {
            against.push(format!("{} may belong to somebody", personal.join(", ")));
        }
        against
    }
}

/// A table's name, with its schema where that is not `public`.
fn short(table: &Relation, graph: &Graph<'_>) -> String {
    let is_plain = table.schema == "public" || graph.tables.iter().all(|other| other.schema == table.schema);
    if is_plain { readable(&table.name) } else { readable_in(&table.schema, &table.name) }
}
