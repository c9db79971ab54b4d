//! Writing: changing, moving, deleting, adding, overwriting, emptying.

use guardian_postgres::quote;

use super::Field;
use crate::attacks::{
    attack::{Attack, Control, Kind, Success},
    canary::Tenant,
    plant::Values,
    session::Step,
};
use crate::facts::{Catalog, Column, ConstraintKind, Privilege, Relation, RelationKind};
use crate::finding::Object;

/// Bits of `pg_relation_is_updatable`.
const UPDATE: i32 = 4;
const INSERT: i32 = 8;
const DELETE: i32 = 16;

pub(super) fn attacks(field: &Field<'_>, attacks: &mut Vec<Attack>) {
    for table in field.tables() {
        let from = attacks.len();
        changes(field, table, attacks);
        inserts(field, table, attacks);
        field.keep_out_of_place(table, &mut attacks[from..]);
        let name = quote::qualified(&table.schema, &table.name);
        let truncate = vec![Step::Enter(Tenant::A), Step::Run(format!("TRUNCATE {name} CASCADE"))];
        let truncate = Attack::new(Kind::Truncate, Object::relation(table), truncate, Success::Completes);
        attacks.push(truncate.not_in_place("TRUNCATE locks everybody out"));
    }
    let views = field
        .facts
        .relations
        .iter()
        .filter(|view| view.kind == RelationKind::View && view.updatable & (UPDATE | INSERT | DELETE) != 0);
    for view in views.filter(|view| field.tenancy.is_tenants(view.oid) && !super::super::plant::is_systems(&view.schema)) {
        let from = attacks.len();
        if view.updatable & (UPDATE | DELETE) != 0 {
            changes(field, view, attacks);
        }
        if view.updatable & INSERT != 0 {
            inserts_through(field, view, attacks);
        }
        for attack in &mut attacks[from..] {
            attack.not_in_place.get_or_insert("the triggers of its tables would run, and what they do need not roll back");
        }
    }
}

fn changes(field: &Field<'_>, table: &Relation, attacks: &mut Vec<Attack>) {
    let name = quote::qualified(&table.schema, &table.name);
    let object = Object::relation(table);
    let reach = field.reach.relation(table);
    let read = vec![Step::Enter(Tenant::A), Step::Run(field.count(table, Tenant::A))];
    let entered = |sql: String| vec![Step::Enter(Tenant::A), Step::Run(sql)];
    let known = |attack: Attack, is_reached: bool| {
        if is_reached && reach.select().is_some() { attack.requires(read.clone(), Success::Positive) } else { attack }
    };
    let updatable = field.columns_with(table, Privilege::Update);
    let target = updatable.iter().find(|column| column.generated.is_none() && column.identity.is_none());
    let (found_b, found_a) = (found(field, table, Tenant::B), found(field, table, Tenant::A));
    if let Some(target) = target {
        let column = quote::ident(&target.name);
        let sql = format!("UPDATE {name} SET {column} = {column} WHERE {found_b}");
        attacks.push(known(
            Attack::new(Kind::Update, object.clone(), entered(sql), Success::Affects),
            reach.update().is_some(),
        ));
    }
    if let Some(tenant) = moved(field, table, &updatable) {
        let sql = format!("UPDATE {name} SET {tenant} WHERE {found_a}");
        let attack = Attack::new(Kind::Move, object.clone(), entered(sql), Success::Accepted);
        attacks.push(known(attack, reach.update().is_some()));
        // Without a condition nothing is read, and policies for SELECT do not look at the new row.
        let attack =
            Attack::new(Kind::Move, object.clone(), entered(format!("UPDATE {name} SET {tenant}")), Success::Accepted);
        attacks.push(known(attack, reach.update().is_some()).not_in_place("it would hit every row of the table"));
    }
    let sql = format!("DELETE FROM {name} WHERE {found_b}");
    attacks.push(known(Attack::new(Kind::Delete, object.clone(), entered(sql), Success::Affects), reach.delete().is_some()));
    // Who may not read cannot aim, but can hit everything.
    if reach.select().is_none() && table.kind.is_table() {
        let own = field.own_rows(table);
        let everything = "it would hit every row of the table";
        if reach.delete().is_some() {
            let attack =
                Attack::new(Kind::Delete, object.clone(), entered(format!("DELETE FROM {name}")), Success::AffectsOver(own));
            attacks.push(attack.not_in_place(everything));
        }
        let value = target.and_then(|c| Some((c, field.planted.row_of(table.oid, Tenant::A)?.get(&c.number)?)));
        if let (true, Some((column, value))) = (reach.update().is_some(), value) {
            let sql = format!("UPDATE {name} SET {} = {value}", quote::ident(&column.name));
            attacks
                .push(Attack::new(Kind::Update, object, entered(sql), Success::AffectsOver(own)).not_in_place(everything));
        }
    }
}

/// A condition that finds the tenant's planted row.
fn found(field: &Field<'_>, table: &Relation, tenant: Tenant) -> String {
    let count = field.count(table, tenant);
    count.split_once(" WHERE ").map_or_else(|| "true".to_owned(), |(_, condition)| condition.to_owned())
}

fn moved(field: &Field<'_>, table: &Relation, updatable: &[&Column]) -> Option<String> {
    let tenant = field.tenancy.column(table.oid)?;
    let column = updatable.iter().find(|column| column.number == tenant.number)?;
    let key = field.marks.key_literal(Tenant::B, column.base_type, &column.written_type)?;
    Some(format!("{} = {key}", quote::ident(&column.name)))
}

/// Adds a row for B through a view that the server passes on to its table.
fn inserts_through(field: &Field<'_>, view: &Relation, attacks: &mut Vec<Attack>) {
    let Some(table) = below(field, view) else { return };
    let named = field.columns_with(view, Privilege::Insert);
    let (there, name) = (field.facts.columns_of(table.oid), quote::qualified(&view.schema, &view.name));
    let insert = |tenant| {
        let row = field.planted.fresh(table.oid, field.marks, tenant)?;
        // A view's columns are its table's by name; where one has another name, what lacks it is refused, for B and A alike.
        let of = |column: &Column| {
            let source = there.iter().find(|one| one.name == column.name && one.base_type == column.base_type)?;
            Some((quote::ident(&column.name), row.get(&source.number)?.clone()))
        };
        let (columns, values): (Vec<_>, Vec<_>) = named.iter().filter_map(|column| of(column)).unzip();
        (!columns.is_empty()).then(|| format!("INSERT INTO {name} ({}) VALUES ({})", columns.join(", "), values.join(", ")))
    };
    let (Some(for_b), Some(for_a)) = (insert(Tenant::B), insert(Tenant::A)) else { return };
    let steps = |sql: String| vec![Step::Enter(Tenant::A), Step::Run(sql)];
    let attack =
        Attack::new(Kind::Insert, Object::relation(view), steps(for_b), Success::Accepted).or_control(Control::Victim);
    let is_reached = field.reach.relation(view).insert().is_some();
    attacks.push(if is_reached { attack.requires(steps(for_a), Success::Accepted) } else { attack });
}

/// The one table with planted rows that an updatable view stands on.
fn below<'f>(field: &Field<'f>, view: &Relation) -> Option<&'f Relation> {
    const DEPTH_MAX: u32 = 16;
    let mut at = view.oid;
    for _ in 0..DEPTH_MAX {
        if field.planted.row_of(at, Tenant::B).is_some() {
            return field.facts.relation(at);
        }
        let references = field.facts.references_of(Catalog::View, at).iter();
        let tenants = |oid: u32| field.tenancy.is_tenants(oid) || field.planted.tenants.contains(&oid);
        at = references.filter(|one| one.to == Catalog::Relation).map(|one| one.referenced).find(|oid| tenants(*oid))?;
    }
    None
}

fn inserts(field: &Field<'_>, table: &Relation, attacks: &mut Vec<Attack>) {
    let object = Object::relation(table);
    let insertable: Vec<i16> = field.columns_with(table, Privilege::Insert).iter().map(|column| column.number).collect();
    let named = |number: i16| insertable.contains(&number);
    let (Some(for_b), Some(for_a)) =
        (field.planted.fresh(table.oid, field.marks, Tenant::B), field.planted.fresh(table.oid, field.marks, Tenant::A))
    else {
        return;
    };
    let insert = |values: &Values| field.planted.insert_some(table, values, &named);
    let steps = |sql: String| vec![Step::Enter(Tenant::A), Step::Run(sql)];
    let attack = Attack::new(Kind::Insert, object.clone(), steps(insert(&for_b)), Success::Accepted);
    let is_reached = field.reach.relation(table).insert().is_some();
    attacks.push(if is_reached { attack.requires(steps(insert(&for_a)), Success::Accepted) } else { attack });
    // B's own row, as it is: overwritten where a unique key leads to it.
    let Some(of_b) = field.planted.row_of(table.oid, Tenant::B) else { return };
    let is_key = |kind| matches!(kind, ConstraintKind::Primary | ConstraintKind::Unique);
    for key in field.facts.constraints_of(table.oid).iter().filter(|key| is_key(key.kind)) {
        let mut values = for_a.clone();
        let tenant = field.tenancy.column(table.oid).map(|column| column.number);
        // Of a partitioned table the driver of a conflict is not told; its partitions are attacked themselves. A key that
        // is the tenant alone leads to nobody else's row.
        if table.kind == RelationKind::Partitioned || key.columns.iter().all(|number| Some(*number) == tenant) {
            continue;
        }
        for number in key.columns.iter().filter(|number| Some(**number) != tenant) {
            if let Some(value) = of_b.get(number) {
                values.insert(*number, value.clone());
            }
        }
        let updatable = field.columns_with(table, Privilege::Update);
        let Some(column) = updatable.iter().find(|column| column.generated.is_none() && column.identity.is_none()) else {
            continue;
        };
        let column = quote::ident(&column.name);
        let constraint = quote::ident(&key.name);
        // Only a row that was there before has been locked, which shows in xmax.
        let sql = |values: &Values| {
            format!(
                "{} ON CONFLICT ON CONSTRAINT {constraint} DO UPDATE SET {column} = {}.{column} RETURNING (xmax <> 0)::int",
                insert(values),
                quote::ident(&table.name)
            )
        };
        let own = field.planted.row_of(table.oid, Tenant::A).map(|own| steps(sql(own)));
        let control = own.map_or(Control::Administrator, |own| Control::Steps(own, Success::Positive));
        let attack = Attack::new(Kind::Upsert, object.clone(), steps(sql(&values)), Success::Positive).only_control(control);
        let sure = field.planted.row_of(table.oid, Tenant::A).map(sql);
        attacks.push(match sure {
            Some(sql) => attack.or_control(Control::AdministratorRuns(sql, Success::Positive)),
            None => attack,
        });
    }
}
