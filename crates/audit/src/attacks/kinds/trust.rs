//! Policies that ask another table whose rows a session may see: who may write that table admits itself.

use std::collections::BTreeSet;

use guardian_postgres::quote;

use super::Field;
use crate::attacks::{
    attack::{Attack, Kind, Success},
    canary::Tenant,
    plant::is_systems,
    session::Step,
};
use crate::facts::{Catalog, Column, Policy, Privilege, Relation};
use crate::finding::Object;

/// Columns that a row of the attacker's varies in: which of them is the tenant, and which the person, nobody says.
const VARIED_MAX: usize = 4;

pub(super) fn attacks(field: &Field<'_>, attacks: &mut Vec<Attack>) {
    for table in field.tables().into_iter().filter(|table| table.rls && field.reach.relation(table).select().is_some()) {
        let mut trusted = BTreeSet::new();
        for policy in field.facts.policies_of(table.oid) {
            let references = field.facts.references_of(Catalog::Policy, policy.oid).iter();
            let others = references.filter(|one| one.to == Catalog::Relation && one.referenced != table.oid);
            for other in others.filter_map(|one| field.facts.relation(one.referenced)) {
                if other.kind.is_table() && !is_systems(&other.schema) && trusted.insert((other.oid, policy.oid)) {
                    admissions(field, table, policy, other, attacks);
                }
            }
        }
    }
}

/// Each way to write B's key into the columns that the policy looks at.
fn admissions(field: &Field<'_>, table: &Relation, policy: &Policy, trusted: &Relation, attacks: &mut Vec<Attack>) {
    let reach = field.reach.relation(trusted);
    let read = Step::Run(field.count(table, Tenant::B));
    let name = quote::qualified(&trusted.schema, &trusted.name);
    let looked_at: BTreeSet<i16> = field
        .facts
        .references_of(Catalog::Policy, policy.oid)
        .iter()
        .filter(|one| one.to == Catalog::Relation && one.referenced == trusted.oid)
        .filter_map(|one| i16::try_from(one.column).ok())
        .collect();
    let from = attacks.len();
    let attack = |sql: String| {
        let steps = vec![Step::Enter(Tenant::A), Step::Run(sql), read.clone()];
        Attack::new(Kind::TrustedWrite, Object::relation(table), steps, Success::Positive)
    };
    if reach.insert().is_some() {
        let columns = field.columns_with(trusted, Privilege::Insert);
        let columns: Vec<&Column> =
            columns.into_iter().filter(|column| column.generated.is_none() && column.identity.is_none()).collect();
        let varied: Vec<usize> = (0..columns.len()).filter(|at| looked_at.contains(&columns[*at].number)).collect();
        let varied = &varied[..varied.len().min(VARIED_MAX)];
        let insert = |of_b: usize| {
            let value = |(at, column): (usize, &&Column)| {
                let is_bs = varied.iter().position(|one| *one == at).is_some_and(|bit| of_b & (1 << bit) != 0);
                let tenant = if is_bs { Tenant::B } else { Tenant::A };
                field.planted.value(field.facts, column, field.marks, tenant)
            };
            let values: Option<Vec<String>> = columns.iter().enumerate().map(value).collect();
            let names: Vec<String> = columns.iter().map(|column| quote::ident(&column.name)).collect();
            Some(format!("INSERT INTO {name} ({}) VALUES ({})", names.join(", "), values?.join(", ")))
        };
        let own = insert(0).map(|sql| vec![Step::Enter(Tenant::A), Step::Run(sql)]);
        for of_b in 1..1_usize << varied.len() {
            if let (Some(sql), Some(own)) = (insert(of_b), &own) {
                // That the row is refused for its shape alone must not pass for protection.
                attacks.push(attack(sql).requires(own.clone(), Success::Inserts));
            }
        }
    }
    if reach.update().is_some() {
        for column in field.columns_with(trusted, Privilege::Update).iter().filter(|one| looked_at.contains(&one.number)) {
            let Some(value) = field.planted.value(field.facts, column, field.marks, Tenant::B) else { continue };
            let sql = format!("UPDATE {name} SET {} = {value}", quote::ident(&column.name));
            attacks.push(attack(sql).not_in_place("it would hit every row of the table"));
        }
    }
    field.keep_out_of_place(trusted, &mut attacks[from..]);
}
