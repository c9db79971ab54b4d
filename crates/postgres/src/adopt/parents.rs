//! The way from a row without a tenant column to the row that says whose it is.

use guardian_model::config::Parent;

use crate::{
    facts::{Facts, RelationFacts, TenantColumn},
    harden::{Declaration, Refusal, planner::label},
};

/// The way from a table to its parent.
#[derive(Debug, Clone, PartialEq)]
pub struct Way<'a> {
    /// The parent.
    pub parent: &'a RelationFacts,
    /// Columns of the child, each with the parent's column that it equals.
    pub columns: Vec<(String, String)>,
    /// Every row has a parent, and every parent a tenant: the database sees to it.
    pub always: bool,
    /// The tenant stands in this column of the row itself, and there is no parent.
    pub own: Option<String>,
    /// The column as the child will have it, when the parent has one already.
    pub(super) tenant: Option<TenantColumn>,
}

/// The declared way; `None` where none is declared.
///
/// # Errors
///
/// What is wrong with the declaration.
pub fn parent<'a>(facts: &'a Facts, declaration: &Declaration, relation: &RelationFacts) -> Result<Option<Way<'a>>, String> {
    let Some(adoption) = &declaration.adoption else { return Ok(None) };
    if relation.partition || relation.schema != declaration.schema {
        return Ok(None);
    }
    let Some(declared) = adoption.parents.get(&relation.name) else { return Ok(None) };
    let Some(name) = declared.table() else { return Ok(own_column(facts, declaration, relation, declared)) };
    let found = facts.relations.iter().find(|one| one.schema == declaration.schema && one.name == name);
    let parent = found.ok_or_else(|| format!("there is no table `{name}`"))?;
    let mut leading = facts.foreign_keys.iter().filter(|foreign_key| {
        foreign_key.table == relation.oid
            && foreign_key.referenced == parent.oid
            && !foreign_key.columns.contains(&declaration.tenant_column)
    });
    let (columns, foreign_key) = match declared {
        Parent::Columns { columns, .. } => {
            let columns: Vec<_> = columns.iter().map(|(own, other)| (own.clone(), other.clone())).collect();
            let key = leading.find(|key| {
                key.columns.len() == columns.len()
                    && key
                        .columns
                        .iter()
                        .zip(&key.referenced_columns)
                        .all(|(own, other)| columns.iter().any(|(a, b)| a == own && b == other))
            });
            (columns, key)
        }
        Parent::Own { .. } | Parent::Table(_) => {
            let table = name;
            let key = leading.next().ok_or_else(|| {
                format!("no foreign key leads to `{table}`; name the columns: {{ table = \"{table}\", columns = {{ {table}_id = \"id\" }} }}")
            })?;
            if let Some(other) = leading.next() {
                return Err(format!(
                    "two foreign keys lead to `{table}`: {} and {}; name the columns: {{ table = \"{table}\", columns = {{ {} = \"{}\" }} }}",
                    key.name, other.name, key.columns[0], key.referenced_columns[0]
                ));
            }
            (key.columns.iter().cloned().zip(key.referenced_columns.iter().cloned()).collect(), Some(key))
        }
    };
    let above = declared_always(facts, declaration, parent)?;
    let always = above && foreign_key.is_some_and(|key| key.not_null && key.validated);
    let tenant = parent.tenant.clone().map(|tenant| TenantColumn {
        not_null: false,
        generated: false,
        default: None,
        nulls: 0,
        unfit: 0,
        largest_share: None,
        ..tenant
    });
    Ok(Some(Way { parent, columns, always, own: None, tenant }))
}

fn own_column<'a>(
    facts: &'a Facts,
    declaration: &Declaration,
    relation: &RelationFacts,
    declared: &Parent,
) -> Option<Way<'a>> {
    let Parent::Own { own } = declared else { return None };
    let parent = facts.relations.iter().find(|one| one.oid == relation.oid)?;
    let in_key = facts.keys.iter().any(|key| {
        key.table == relation.oid && key.constraint == Some('p') && key.columns.iter().any(|one| one.as_ref() == Some(own))
    });
    let refers = facts.foreign_keys.iter().any(|key| key.table == relation.oid && key.not_null && key.columns.contains(own));
    let sql_type = declaration.tenant_key.sql_type();
    let tenant = TenantColumn {
        written_type: sql_type.to_owned(),
        base_type: sql_type.to_owned(),
        not_null: false,
        generated: false,
        default: None,
        nulls: 0,
        unfit: 0,
        largest_share: None,
    };
    Some(Way { parent, columns: Vec::new(), always: in_key || refers, own: Some(own.clone()), tenant: Some(tenant) })
}

/// Whether every row of the parent has a tenant.
fn declared_always(facts: &Facts, declaration: &Declaration, parent_table: &RelationFacts) -> Result<bool, String> {
    if parent_table.tenant.as_ref().is_some_and(|tenant| tenant.not_null) {
        return Ok(true);
    }
    // Bounded: a circle of parents is refused before anybody asks.
    if circle(declaration, &parent_table.name) {
        return Err(format!("`{}` is its own parent, through others", parent_table.name));
    }
    Ok(parent(facts, declaration, parent_table)?.is_some_and(|way| way.always))
}

fn circle(declaration: &Declaration, from: &str) -> bool {
    let Some(adoption) = &declaration.adoption else { return false };
    let mut at = from;
    for _ in 0..=adoption.parents.len() {
        match adoption.parents.get(at) {
            None => return false,
            Some(parent) => match parent.table() {
                None => return false,
                Some(table) => at = table,
            },
        }
    }
    true
}

/// Declarations that lead nowhere.
pub(super) fn refusals(facts: &Facts, declaration: &Declaration) -> Vec<Refusal> {
    let Some(adoption) = &declaration.adoption else { return Vec::new() };
    let refuse = |table: &str, problem: String| Refusal {
        object: format!("adoption.parents.{table}"),
        problem,
        ways_out: vec!["correct the line in guardian.toml, or take it out".to_owned()],
    };
    adoption
        .parents
        .keys()
        .filter_map(|name| {
            let table = facts.relations.iter().find(|one| one.schema == declaration.schema && one.name == *name);
            let Some(table) = table else { return Some(refuse(name, format!("there is no table `{name}`"))) };
            match parent(facts, declaration, table) {
                Err(problem) => Some(refuse(name, problem)),
                Ok(Some(way)) if way.tenant.is_none() && table.tenant.is_none() => {
                    let problem =
                        format!("its parent {} has no column `{}` either", label(way.parent), declaration.tenant_column);
                    Some(refuse(name, format!("{problem}; say where that one's tenant is to be found")))
                }
                Ok(_) => None,
            }
        })
        .collect()
}
