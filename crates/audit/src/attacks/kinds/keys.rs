//! Keys as oracles: what is refused, or goes through, only because another tenant has a row.

use std::collections::BTreeSet;

use guardian_postgres::quote;

use super::Field;
use crate::attacks::{
    attack::{Attack, Control, Kind, Success},
    canary::Tenant,
    plant::Values,
    session::Step,
};
use crate::facts::{Constraint, ConstraintKind, Index, Privilege, Relation};
use crate::finding::Object;

pub(super) fn attacks(field: &Field<'_>, attacks: &mut Vec<Attack>) {
    for table in field.tables() {
        let from = attacks.len();
        for index in field.facts.indexes_of(table.oid).iter().filter(|index| index.unique || index.exclusion) {
            unique(field, table, index, attacks);
        }
        for key in field.facts.constraints_of(table.oid).iter().filter(|key| key.kind == ConstraintKind::Foreign) {
            foreign(field, table, key, attacks);
        }
        field.keep_out_of_place(table, &mut attacks[from..]);
    }
}

fn insertable(field: &Field<'_>, table: &Relation) -> BTreeSet<i16> {
    field.columns_with(table, Privilege::Insert).iter().map(|column| column.number).collect()
}

fn unique(field: &Field<'_>, table: &Relation, index: &Index, attacks: &mut Vec<Attack>) {
    let Some(fresh) = field.planted.fresh(table.oid, field.marks, Tenant::A) else { return };
    let named = insertable(field, table);
    let tenant = field.tenancy.column(table.oid).map(|column| column.number);
    if index.columns.iter().all(|number| Some(*number) == tenant) {
        return;
    }
    // What a narrower key refuses never gets as far as this one.
    let narrower = |other: &&Index| {
        let is_within = other.columns.iter().all(|number| *number > 0 && index.columns.contains(number));
        other.oid != index.oid && other.unique && !other.partial && is_within && other.columns.len() < index.columns.len()
    };
    if field.facts.indexes_of(table.oid).iter().any(|other| narrower(&other)) {
        return;
    }
    // An expression's columns are not told apart: all of the other row's values then, but for keys of other indexes.
    let mut key: BTreeSet<i16> = index.columns.iter().copied().filter(|number| *number > 0).collect();
    if index.columns.contains(&0) || index.partial {
        let others = field.facts.indexes_of(table.oid).iter().filter(|other| other.oid != index.oid && other.unique);
        let others: BTreeSet<i16> = others.flat_map(|other| other.columns.iter().copied()).collect();
        let columns = field.facts.columns_of(table.oid).iter().map(|column| column.number);
        key.extend(columns.filter(|number| !others.contains(number)));
    }
    let with = |field: &Field<'_>, row: &Values| {
        let mut values = fresh.clone();
        for number in key.iter().filter(|number| Some(**number) != tenant) {
            if let Some(value) = row.get(number) {
                values.insert(*number, value.clone());
            }
        }
        field.planted.insert_some(table, &values, &|number| named.contains(&number))
    };
    let (Some(of_a), Some(of_b)) = (field.planted.row_of(table.oid, Tenant::A), field.planted.row_of(table.oid, Tenant::B))
    else {
        return;
    };
    // On a partitioned table the partition's index is the one that refuses; the partitions have attacks of their own.
    if table.kind == crate::facts::RelationKind::Partitioned {
        return;
    }
    let (attack, own) = (with(field, of_b), with(field, of_a));
    if attack == own {
        // Nothing in the key tells the tenants' rows apart but the tenant: there is nothing to probe.
        return;
    }
    let violates = Success::Violates(index.name.clone());
    let steps = vec![Step::Enter(Tenant::A), Step::Run(attack)];
    let control = Control::Steps(vec![Step::Enter(Tenant::A), Step::Run(own.clone())], violates.clone());
    attacks.push(
        Attack::new(Kind::UniqueOracle, Object::relation(table), steps, violates.clone())
            .only_control(control)
            .or_control(Control::AdministratorRuns(own, violates)),
    );
}

fn foreign(field: &Field<'_>, table: &Relation, key: &Constraint, attacks: &mut Vec<Attack>) {
    let Some(target) = key.target.and_then(|target| field.facts.relation(target)) else { return };
    // A reference to what all share, or to the tenant itself, tells nothing of another tenant's rows.
    if !field.planted.tenants.contains(&target.oid) {
        return;
    }
    let (Some(parent_a), Some(parent_b)) =
        (field.planted.row_of(target.oid, Tenant::A).cloned(), field.planted.row_of(target.oid, Tenant::B).cloned())
    else {
        return;
    };
    let tenant = field.tenancy.column(table.oid).map(|column| column.number);
    let named = insertable(field, table);
    // Where the planted row refers to nothing by this key, it is because a CHECK wants it to refer elsewhere, or nowhere.
    let others: Vec<i16> = field
        .facts
        .constraints_of(table.oid)
        .iter()
        .filter(|other| other.kind == ConstraintKind::Foreign && other.oid != key.oid)
        .flat_map(|other| other.columns.iter().copied())
        .filter(|number| !key.columns.contains(number) && Some(*number) != tenant)
        .filter(|number| field.facts.column(table.oid, *number).is_some_and(|column| !column.not_null))
        .collect();
    let is_null = |values: &Values, number: &i16| values.get(number).is_some_and(|value| value == "NULL");
    let refer = |field: &Field<'_>, fresh: &Values, parent: &Values| {
        let mut values = fresh.clone();
        if key.columns.iter().any(|number| is_null(fresh, number)) {
            values.extend(others.iter().map(|number| (*number, "NULL".to_owned())));
        }
        for (column, there) in key.columns.iter().zip(&key.target_columns) {
            if Some(*column) != tenant
                && let Some(value) = parent.get(there)
            {
                values.insert(*column, value.clone());
            }
        }
        field.planted.insert_some(table, &values, &|number| named.contains(&number))
    };
    let (Some(fresh_a), Some(fresh_b)) =
        (field.planted.fresh(table.oid, field.marks, Tenant::A), field.planted.fresh(table.oid, field.marks, Tenant::B))
    else {
        return;
    };
    let probe = refer(field, &fresh_a, &parent_b);
    let own = refer(field, &fresh_a, &parent_a);
    if probe == own {
        return;
    }
    let object = Object::relation(table);
    let steps = |sql: &String| vec![Step::Enter(Tenant::A), Step::Run(sql.clone())];
    // At the end of the statement, or not before the transaction's: that would tell too.
    let now = Step::Run("SET CONSTRAINTS ALL IMMEDIATE".to_owned());
    let mut immediate = steps(&probe);
    immediate.insert(1, now.clone());
    let mut own_steps = steps(&own);
    own_steps.insert(1, now);
    attacks.push(
        Attack::new(Kind::ForeignKeyOracle, object, immediate, Success::AffectsOver(0))
            .only_control(Control::Steps(own_steps, Success::Inserts))
            .or_control(Control::AdministratorRuns(own, Success::Inserts)),
    );
    if !matches!(key.on_delete, Some('c' | 'n' | 'd')) || field.context.is_none() {
        return;
    }
    // B refers to A's row, where it can; A deletes it.
    let refers = refer(field, &fresh_b, &parent_a);
    let Some((_, condition)) = key_of(field, target, &parent_a, key) else { return };
    let delete = format!("DELETE FROM {} WHERE {condition}", quote::qualified(&target.schema, &target.name));
    let Some((column, there)) = key.columns.iter().zip(&key.target_columns).find(|(column, _)| Some(**column) != tenant)
    else {
        return;
    };
    let (Some(column), Some(value)) = (field.facts.column(table.oid, *column), parent_a.get(there)) else { return };
    let name = quote::qualified(&table.schema, &table.name);
    let count = format!("SELECT pg_catalog.count(*) FROM {name} WHERE {} = {value}", quote::ident(&column.name));
    let filter = field.tenant_filter(table, Tenant::B).map_or_else(String::new, |filter| format!(" AND {filter}"));
    let count = format!("{count}{filter}");
    let begin = vec![Step::Enter(Tenant::B), Step::Run(refers.clone()), Step::Run(count.clone())];
    let mut steps = vec![Step::Enter(Tenant::B), Step::Run(refers)];
    steps.extend([Step::Enter(Tenant::A), Step::Run(delete), Step::Enter(Tenant::B), Step::Run(count)]);
    // Without B's reference there is nothing to cascade to, so only where it goes through is this an attack.
    let mut attack = Attack::new(Kind::Cascade, Object::relation(table), steps, Success::Zero);
    let refused = begin[..2].to_vec();
    attack.controls = vec![Control::Steps(begin, Success::Positive), Control::Steps(refused, Success::Refused)];
    attacks.push(attack);
}

fn key_of<'k>(field: &Field<'_>, target: &Relation, row: &Values, key: &'k Constraint) -> Option<(&'k Constraint, String)> {
    let mut parts = Vec::new();
    for number in &key.target_columns {
        let column = field.facts.column(target.oid, *number)?;
        parts.push(format!("{} = {}", quote::ident(&column.name), row.get(number)?));
    }
    Some((key, parts.join(" AND ")))
}
