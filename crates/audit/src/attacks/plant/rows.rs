//! The values of a row, and the statement that inserts it.

use guardian_postgres::quote;

use super::{Planted, Source, Values};
use crate::{
    attacks::canary::{Marks, Tenant},
    facts::{Column, Oid, Relation},
};

impl Planted {
    /// The values of a row; `None` when a parent that it must have is not there.
    pub(super) fn row(&self, oid: Oid, marks: &Marks, tenant: Tenant, n: u32) -> Option<Values> {
        let filling = self.fillings.get(&oid)?;
        let mut values = Values::new();
        for (at, (column, source)) in filling.columns.iter().enumerate() {
            let choice = filling.choice[at];
            let value = match source {
                Source::Key => marks.key_literal(tenant, column.base_type, &column.written_type),
                Source::Parent(table, number) if choice == 0 => self.parent(*table, *number, tenant).map(str::to_owned),
                Source::Parent(..) | Source::Later => None,
                // Filled in below, when the whole row is there.
                Source::Itself(_) => Some(String::new()),
                Source::Own => {
                    let candidates = self.candidates(filling, column, marks, tenant, n);
                    Some(candidates.get(choice).or(candidates.last())?.clone())
                }
            };
            let value = match value {
                Some(value) => value,
                None if !column.not_null => "NULL".to_owned(),
                None => return None,
            };
            values.insert(column.number, value);
        }
        for (column, source) in &filling.columns {
            if let Source::Itself(there) = source {
                let value = values.get(there)?.clone();
                values.insert(column.number, value);
            }
        }
        Some(values)
    }

    pub(super) fn parent(&self, table: Oid, number: i16, tenant: Tenant) -> Option<&str> {
        let row = self.rows.get(&(table, tenant)).or_else(|| self.rows.get(&(table, Tenant::Shared)))?;
        row.get(&number).map(String::as_str)
    }

    pub(super) fn insert(&self, relation: &Relation, values: &Values) -> String {
        self.insert_some(relation, values, &|_| true)
    }

    /// An INSERT of the columns that `named` takes.
    pub(crate) fn insert_some(&self, relation: &Relation, values: &Values, named: &dyn Fn(i16) -> bool) -> String {
        let table = quote::qualified(&relation.schema, &relation.name);
        let Some(filling) = self.fillings.get(&relation.oid) else { return format!("INSERT INTO {table} DEFAULT VALUES") };
        let columns: Vec<&Column> = filling.columns.iter().map(|(column, _)| column).filter(|c| named(c.number)).collect();
        let list: Vec<String> = columns.iter().map(|column| quote::ident(&column.name)).collect();
        let literals: Vec<&str> =
            columns.iter().filter_map(|column| values.get(&column.number)).map(String::as_str).collect();
        let overriding =
            if columns.iter().any(|column| column.identity.is_some()) { " OVERRIDING SYSTEM VALUE" } else { "" };
        format!("INSERT INTO {table} ({}){overriding} VALUES ({})", list.join(", "), literals.join(", "))
    }
}
