//! Which table is the tenants', and which column says whose a row is: candidates by names, references and policies.

use std::collections::{BTreeMap, BTreeSet};

use guardian_model::KeyType;
use serde::Serialize;

use super::{
    Confidence, Options, ProposeError,
    graph::{Graph, Reference, key_type},
    names,
};
use crate::{
    facts::{Column, Oid, Relation},
    finding::{readable, readable_in},
    tenancy::{Evidence, Tenancy},
};

/// What may be the tenants' table and column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The table; `None`: the schema has only the column.
    pub table: Option<String>,
    /// The column that the tables have, or will have.
    pub column: String,
    /// How many tables' rows lead to it.
    pub tables: usize,
    /// Why it may be.
    pub evidence: Vec<String>,
    #[serde(skip)]
    pub(super) oid: Option<Oid>,
    #[serde(skip)]
    score: usize,
}

/// The chosen one.
pub(super) struct Root<'f> {
    pub(super) candidate: Candidate,
    pub(super) table: Option<&'f Relation>,
    /// The key of the table that the column holds.
    pub(super) key: Option<&'f Column>,
    pub(super) key_type: KeyType,
    /// As SQL writes it.
    pub(super) column_type: String,
    pub(super) confidence: Confidence,
    pub(super) alternatives: Vec<Candidate>,
}

/// A runner-up this near (in percent of the best score) makes the choice uncertain.
const NEAR_PERCENT: usize = 75;
/// Below this rank a name alone makes no candidate.
const RANK_MIN: u32 = 2;
const ALTERNATIVES_MAX: usize = 5;
const WEIGHT_OF_NAME: usize = 10;
/// From this score on, and with nothing near, the choice is sure.
const SCORE_SURE: usize = 80;
const WEIGHT_OF_POLICIES: usize = 200;

/// Chooses; what the user named is taken without asking for evidence.
pub(super) fn find<'f>(graph: &Graph<'f>, options: &Options) -> Result<Root<'f>, ProposeError> {
    let named = options.tenant_root.as_deref().map(|name| table_named(graph, name)).transpose()?;
    let in_policies = in_policies(graph);
    let mut candidates = candidates(graph, in_policies.as_deref());
    if let Some(table) = named {
        let found = candidates.into_iter().find(|candidate| candidate.oid == Some(table.oid));
        let mut one = found.unwrap_or_else(|| of_table(graph, table, in_policies.as_deref()));
        one.evidence.insert(0, "named with --tenant-root".to_owned());
        candidates = vec![one];
    } else {
        // Something has to speak for it: not every table that much refers to is the tenants'.
        candidates.retain(|candidate| candidate.score >= WEIGHT_OF_POLICIES || is_named_so(graph, candidate));
    }
    if let Some(column) = &options.tenant_column {
        candidates = with_column(graph, candidates, column, named.is_some());
    }
    candidates.sort_by(|a, b| (b.score, &a.table, &a.column).cmp(&(a.score, &b.table, &b.column)));
    let mut candidates = candidates.into_iter();
    let Some(best) = candidates.next() else { return Err(ProposeError::NoTenant { hubs: hubs(graph) }) };
    let alternatives: Vec<Candidate> = candidates.filter(|one| one.tables > 0).take(ALTERNATIVES_MAX).collect();
    let near = alternatives.iter().any(|one| one.score * 100 >= best.score * NEAR_PERCENT);
    let is_named = options.tenant_root.is_some() || options.tenant_column.is_some();
    let confidence = if !is_named && near {
        Confidence::Low
    } else if !is_named && (best.tables < 2 || best.score < SCORE_SURE) {
        Confidence::Medium
    } else {
        Confidence::High
    };
    chosen(graph, best, confidence, alternatives)
}

fn chosen<'f>(
    graph: &Graph<'f>,
    candidate: Candidate,
    confidence: Confidence,
    alternatives: Vec<Candidate>,
) -> Result<Root<'f>, ProposeError> {
    let table = candidate.oid.and_then(|oid| graph.table(oid));
    let key = table.and_then(|table| key_of(graph, table, &candidate.column));
    let (base_type, column_type) = match (table, key) {
        (Some(table), None) => {
            return Err(ProposeError::NoKey { table: readable_in(&table.schema, &table.name) });
        }
        (_, Some(key)) => (key.base_type, key.written_type.clone()),
        (None, None) => most_common_type(graph, &candidate.column),
    };
    let Some(key_type) = key_type(base_type) else {
        let column = match (table, key) {
            (Some(table), Some(key)) => format!("{}.{}", readable_in(&table.schema, &table.name), readable(&key.name)),
            _ => readable(&candidate.column),
        };
        return Err(ProposeError::KeyType { column, found: column_type });
    };
    Ok(Root { candidate, table, key, key_type, column_type, confidence, alternatives })
}

/// The type that the most tables give the column.
fn most_common_type(graph: &Graph<'_>, column: &str) -> (Oid, String) {
    let mut types: BTreeMap<(Oid, &str), usize> = BTreeMap::new();
    for table in &graph.tables {
        if let Some(column) = graph.facts.column_named(table.oid, column) {
            *types.entry((column.base_type, &column.written_type)).or_default() += 1;
        }
    }
    let most = types.into_iter().max_by(|(a, left), (b, right)| left.cmp(right).then(b.cmp(a)));
    most.map_or_else(|| (0, "none".to_owned()), |((oid, written), _)| (oid, written.to_owned()))
}

/// The key that references by this column lead to; otherwise the column itself, or the primary key.
fn key_of<'f>(graph: &Graph<'f>, table: &Relation, column: &str) -> Option<&'f Column> {
    let led_to =
        graph.references_to(table.oid).find(|reference| reference.from != table.oid && is_by(graph, reference, column));
    let number = led_to.map(|reference| reference.target_columns[0]);
    let own = || graph.facts.column_named(table.oid, column).map(|column| column.number);
    let own = || own().filter(|number| graph.unique_keys(table.oid).any(|key| key == BTreeSet::from([*number])));
    let number = number.or_else(own).or_else(|| graph.single_key(table.oid))?;
    graph.facts.column(table.oid, number)
}

fn is_by(graph: &Graph<'_>, reference: &Reference<'_>, column: &str) -> bool {
    reference.columns.len() == 1 && graph.column(reference.from, reference.columns[0]) == column
}

fn candidates(graph: &Graph<'_>, in_policies: Option<&str>) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = graph
        .tables
        .iter()
        .map(|table| of_table(graph, table, in_policies))
        .filter(|candidate| candidate.tables > 0)
        .collect();
    let of_tables: BTreeSet<String> = candidates.iter().map(|candidate| candidate.column.clone()).collect();
    let names: BTreeSet<&str> = graph
        .tables
        .iter()
        .flat_map(|table| graph.facts.columns_of(table.oid))
        .map(|column| column.name.as_str())
        .filter(|name| names::column_rank(name) > 0 || in_policies == Some(name))
        .collect();
    let alone = names.into_iter().filter(|name| !of_tables.contains(*name));
    candidates.extend(alone.map(|name| of_column(graph, name, in_policies)));
    candidates
}

fn of_table(graph: &Graph<'_>, table: &Relation, in_policies: Option<&str>) -> Candidate {
    let mut columns: BTreeMap<&str, usize> = BTreeMap::new();
    for reference in graph.references_to(table.oid) {
        if reference.from != table.oid && reference.columns.len() == 1 {
            *columns.entry(graph.column(reference.from, reference.columns[0])).or_default() += 1;
        }
    }
    let own_name = names::singular(&table.name);
    let is_own = |column: &str| names::stem(column).is_some_and(|stem| stem == own_name);
    let most = columns.iter().max_by(|(a, left), (b, right)| (left, is_own(a)).cmp(&(right, is_own(b))).then(b.cmp(a)));
    let column = most.map_or_else(|| format!("{own_name}_id"), |(column, _)| (*column).to_owned());
    let direct = most.map_or(0, |(_, count)| *count);
    let tables = reaching(graph, |oid| oid == table.oid).len();
    let rank = names::tenant_rank(&table.name);
    let is_in_policies = in_policies == Some(column.as_str());
    let mut evidence = Vec::new();
    if rank >= RANK_MIN {
        evidence.push(format!("the name of {} is usual for customers", readable(&table.name)));
    }
    evidence.push(format!("{} of {} other tables lead to it", tables, graph.tables.len() - 1));
    if direct > 0 {
        evidence.push(format!("{direct} of them by a column `{column}` of their own"));
    }
    if is_in_policies {
        evidence.push(format!("policies compare `{column}`"));
    }
    let score = score(graph, rank.max(names::column_rank(&column)), tables, is_in_policies);
    let name = readable_in(&table.schema, &table.name);
    Candidate { table: Some(name), column, tables, evidence, oid: Some(table.oid), score }
}

fn of_column(graph: &Graph<'_>, column: &str, in_policies: Option<&str>) -> Candidate {
    let has = |oid: Oid| graph.facts.column_named(oid, column).is_some();
    let direct = graph.tables.iter().filter(|table| has(table.oid)).count();
    let tables = direct + reaching(graph, has).len();
    let is_in_policies = in_policies == Some(column);
    let mut evidence = vec![format!("{direct} of {} tables have a column `{column}`", graph.tables.len())];
    if names::column_rank(column) >= RANK_MIN {
        evidence.push("its name is usual for the tenant's".to_owned());
    }
    evidence.push("no table is referred to by it".to_owned());
    if is_in_policies {
        evidence.push(format!("policies compare `{column}`"));
    }
    let score = score(graph, names::column_rank(column), tables, is_in_policies);
    Candidate { table: None, column: column.to_owned(), tables, evidence, oid: None, score }
}

fn score(graph: &Graph<'_>, rank: u32, tables: usize, in_policies: bool) -> usize {
    let share = 100 * tables / graph.tables.len().max(1);
    rank as usize * WEIGHT_OF_NAME + share + if in_policies { WEIGHT_OF_POLICIES } else { 0 }
}

/// The tables outside the goal from which references lead into it.
fn reaching(graph: &Graph<'_>, is_goal: impl Fn(Oid) -> bool) -> BTreeSet<Oid> {
    let mut reached: BTreeSet<Oid> = BTreeSet::new();
    let mut open: Vec<Oid> = graph.tables.iter().map(|table| table.oid).filter(|oid| is_goal(*oid)).collect();
    while let Some(oid) = open.pop() {
        for reference in graph.references_to(oid) {
            if !is_goal(reference.from) && reached.insert(reference.from) {
                open.push(reference.from);
            }
        }
    }
    reached
}

fn is_named_so(graph: &Graph<'_>, candidate: &Candidate) -> bool {
    let table = candidate.oid.and_then(|oid| graph.table(oid));
    let by_table = table.map_or(0, |table| names::tenant_rank(&table.name));
    by_table.max(names::column_rank(&candidate.column)) >= RANK_MIN
}

/// Only those by this column. A table that the user named keeps its place, and the column is the one to add.
fn with_column(graph: &Graph<'_>, candidates: Vec<Candidate>, column: &str, table_is_named: bool) -> Vec<Candidate> {
    let mut kept: Vec<Candidate> = candidates
        .into_iter()
        .filter(|candidate| table_is_named || candidate.column == column)
        .map(|candidate| Candidate { column: column.to_owned(), ..candidate })
        .collect();
    let is_somewhere = graph.tables.iter().any(|table| graph.facts.column_named(table.oid, column).is_some());
    if kept.is_empty() && is_somewhere {
        // A table that all references by this column lead to, whatever its name.
        let led_to: BTreeSet<Oid> = graph
            .all_references()
            .filter(|reference| reference.from != reference.to && is_by(graph, reference, column))
            .map(|reference| reference.to)
            .collect();
        kept.push(match led_to.iter().copied().collect::<Vec<_>>().as_slice() {
            [one] => graph.table(*one).map_or_else(
                || of_column(graph, column, None),
                |table| Candidate { column: column.to_owned(), ..of_table(graph, table, None) },
            ),
            _ => of_column(graph, column, None),
        });
    }
    for candidate in &mut kept {
        candidate.evidence.insert(0, format!("`{column}` is named with --tenant-column"));
    }
    kept
}

fn table_named<'f>(graph: &Graph<'f>, name: &str) -> Result<&'f Relation, ProposeError> {
    let is_it = |table: &&&Relation| {
        table.name == name
            || format!("{}.{}", table.schema, table.name) == name
            || readable_in(&table.schema, &table.name) == name
    };
    let found: Vec<&&Relation> = graph.tables.iter().filter(is_it).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => Err(ProposeError::NoTable { name: name.to_owned() }),
        several => {
            let names = several.iter().map(|table| readable_in(&table.schema, &table.name)).collect();
            Err(ProposeError::AmbiguousTable { name: name.to_owned(), names })
        }
    }
}

/// The column that policies compare, when they agree on one.
fn in_policies(graph: &Graph<'_>) -> Option<String> {
    let tenancy = Tenancy::of(graph.facts, &[]);
    tenancy.columns.values().find(|column| column.evidence == Evidence::Policies).map(|column| column.name.clone())
}

/// The tables that the most others lead to, for a user who has to name one.
fn hubs(graph: &Graph<'_>) -> Vec<String> {
    let mut hubs: Vec<(usize, String)> = graph
        .tables
        .iter()
        .map(|table| (reaching(graph, |oid| oid == table.oid).len(), readable_in(&table.schema, &table.name)))
        .filter(|(tables, _)| *tables > 0)
        .collect();
    hubs.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    hubs.into_iter().take(ALTERNATIVES_MAX).map(|(tables, name)| format!("{name} ({tables} tables lead to it)")).collect()
}
