//! Rows of the two tenants in every table that holds tenants' rows.
//!
//! A superuser plants past triggers and foreign keys (`session_replication_role`), yet with values that keep every key; of
//! CHECKs nothing is parsed: values are tried until the table takes them. A table that takes none is named, with the reason.

mod choice;
mod rows;
mod variants;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicU32, Ordering},
};

use sqlx::{Error, PgConnection, postgres::PgDatabaseError};

use super::{
    canary::{Marks, Tenant},
    session::{execute, failure, text_of},
    values::{DOMAINS, TYPES, Types},
};
use crate::{
    facts::{Column, Facts, Oid, Relation, RelationKind},
    finding::readable_in,
    tenancy::Tenancy,
};

/// Tries a table's constraints are given.
const ATTEMPTS_MAX: u32 = 400;

/// Where a column's value is from.
#[derive(Debug, Clone)]
enum Source {
    /// The tenant's key.
    Key,
    /// A column of the row that a foreign key refers to.
    Parent(Oid, i16),
    /// Another column of the same row, which a foreign key of the table's on itself refers to.
    Itself(i16),
    /// Null: what it would refer to comes later.
    Later,
    /// A value by its type.
    Own,
}

/// How a table is filled.
#[derive(Debug, Clone)]
struct Filling {
    columns: Vec<(Column, Source)>,
    hints: BTreeMap<i16, Vec<String>>,
    /// The candidate taken, by position.
    choice: Vec<usize>,
    partition_keys: BTreeSet<String>,
}

/// A row: literals by column number.
pub(crate) type Values = BTreeMap<i16, String>;

/// What has been planted.
#[derive(Debug, Default)]
pub(crate) struct Planted {
    types: Types,
    fillings: BTreeMap<Oid, Filling>,
    rows: BTreeMap<(Oid, Tenant), Values>,
    /// Where each row went: a partition of the table that it was planted in, or that table.
    places: BTreeMap<(Oid, Tenant), Oid>,
    /// Tables that hold tenants' rows: by their own column, or through the row that they belong to.
    pub(crate) tenants: BTreeSet<Oid>,
    /// The list of tenants itself, if the tenant column refers to one.
    pub(crate) roots: BTreeSet<Oid>,
    /// In an order in which parents come first.
    order: Vec<Oid>,
    /// Why a table could not be filled.
    pub(crate) unfilled: BTreeMap<Oid, String>,
    next: AtomicU32,
}

impl Planted {
    /// Decides which tables are filled, and how.
    pub(crate) async fn plan(connection: &mut PgConnection, facts: &Facts, tenancy: &Tenancy) -> Result<Self, Error> {
        // Names as the facts have them, qualified unless a system's.
        execute(connection, "BEGIN; SET LOCAL search_path = pg_catalog").await?;
        let types = text_of(connection, TYPES).await?.unwrap_or_default();
        let domains = text_of(connection, DOMAINS).await?.unwrap_or_default();
        let types = Types::parse(&types, &domains).map_err(|error| Error::Decode(Box::new(error)))?;
        let bounds = text_of(connection, choice::BOUNDS).await?.unwrap_or_default();
        execute(connection, "COMMIT").await?;
        let bounds: Vec<(Oid, String, Vec<String>)> =
            serde_json::from_str(&bounds).map_err(|error| Error::Decode(Box::new(error)))?;
        let mut planted = Self { types, ..Self::default() };
        planted.choose(facts, tenancy);
        for oid in planted.order.clone() {
            let bound = bounds.iter().find(|bound| bound.0 == oid);
            let filling = planted.filling(facts, tenancy, oid, bound.map(|bound| (bound.1.as_str(), bound.2.as_slice())));
            planted.fillings.insert(oid, filling);
        }
        Ok(planted)
    }

    /// Plants a row of the tenant in every table; the connection is a superuser's (or may at least insert), in a transaction.
    pub(crate) async fn plant(
        &mut self,
        connection: &mut PgConnection,
        facts: &Facts,
        marks: &Marks,
        tenant: Tenant,
    ) -> Result<(), Error> {
        for oid in self.order.clone() {
            let is_tenants = self.tenants.contains(&oid) || self.roots.contains(&oid);
            if is_tenants == (tenant == Tenant::Shared) || self.unfilled.contains_key(&oid) {
                continue;
            }
            let Some(relation) = facts.relation(oid) else { continue };
            match self.fill(connection, facts, relation, marks, tenant).await? {
                Ok((values, place)) => {
                    self.rows.insert((oid, tenant), values);
                    self.places.insert((oid, tenant), place);
                    if tenant == Tenant::B {
                        self.vary(connection, facts, relation, marks).await?;
                    }
                }
                Err(reason) => {
                    self.unfilled.insert(oid, reason);
                }
            }
        }
        Ok(())
    }

    async fn fill(
        &mut self,
        connection: &mut PgConnection,
        facts: &Facts,
        relation: &Relation,
        marks: &Marks,
        tenant: Tenant,
    ) -> Result<Result<(Values, Oid), String>, Error> {
        let mut last = "no value was accepted".to_owned();
        for _ in 0..ATTEMPTS_MAX {
            let n = self.number();
            let Some(values) = self.row(relation.oid, marks, tenant, n) else {
                return Ok(Err("its foreign keys refer to a table that could not be filled".to_owned()));
            };
            let sql = self.insert(relation, &values);
            execute(connection, "SAVEPOINT planting").await?;
            let planted = if relation.kind == RelationKind::Partitioned && facts.server.superuser {
                // To tell needs SELECT, which an administrator that is no superuser need not have.
                text_of(connection, &format!("{sql} RETURNING tableoid")).await
            } else {
                execute(connection, &sql).await.map(|()| None)
            };
            let error = match planted {
                Ok(place) => {
                    execute(connection, "RELEASE SAVEPOINT planting").await?;
                    let place = place.and_then(|place| place.parse().ok()).unwrap_or(relation.oid);
                    return Ok(Ok((values, place)));
                }
                Err(Error::Database(error)) => error,
                Err(error) => return Err(error),
            };
            execute(connection, "ROLLBACK TO SAVEPOINT planting; RELEASE SAVEPOINT planting").await?;
            let Some(error) = error.try_downcast_ref::<PgDatabaseError>() else { return Ok(Err(last)) };
            failure(error).describe().clone_into(&mut last);
            if !self.try_others(facts, relation.oid, error, marks, tenant) {
                break;
            }
        }
        Ok(Err(last))
    }

    /// Takes other values for the columns that the refusal is about; false when all have been tried.
    fn try_others(&mut self, facts: &Facts, oid: Oid, error: &PgDatabaseError, marks: &Marks, tenant: Tenant) -> bool {
        let Some(filling) = self.fillings.get(&oid) else { return false };
        let own = |column: &Column, source: &Source| matches!(source, Source::Own) || !column.not_null;
        let named = error.constraint().and_then(|name| facts.constraints_of(oid).iter().find(|k| k.name == name));
        let is_duplicate = matches!(error.code(), "23505" | "23P01");
        let index = facts.indexes_of(oid).iter().find(|index| Some(index.name.as_str()) == error.constraint());
        // A value that does not depend on the row's number stays a duplicate.
        let is_fixed = |column: &Column| {
            let at = filling.columns.iter().position(|(one, _)| one.number == column.number);
            let taken =
                |n| at.and_then(|at| self.candidates(filling, column, marks, tenant, n).into_iter().nth(filling.choice[at]));
            taken(1) == taken(2)
        };
        let is_meant = |column: &Column| match (error.code(), named, error.column()) {
            ("23505" | "23P01", _, _) => index.is_some_and(|i| i.columns.contains(&column.number)) && is_fixed(column),
            (_, Some(constraint), _) => constraint.columns.contains(&column.number),
            (_, None, Some(name)) => column.name == name,
            ("23514", None, None) if error.constraint().is_some() => self.types.is_domain(column),
            ("23514", None, None) => filling.partition_keys.contains(&column.name),
            _ => true,
        };
        let counts: Vec<(usize, usize)> = filling
            .columns
            .iter()
            .enumerate()
            .filter(|(_, (column, source))| own(column, source) && is_meant(column))
            .map(|(at, (column, source))| match source {
                Source::Own => (at, self.candidates(filling, column, marks, tenant, 0).len()),
                // The parent's value, or null.
                Source::Parent(..) => (at, if column.not_null { 1 } else { 2 }),
                Source::Key | Source::Itself(_) | Source::Later => (at, 1),
            })
            .collect();
        if is_duplicate && counts.is_empty() {
            // The next number gives other values.
            return true;
        }
        let Some(filling) = self.fillings.get_mut(&oid) else { return false };
        for (at, count) in counts {
            filling.choice[at] += 1;
            if filling.choice[at] < count {
                return true;
            }
            filling.choice[at] = 0;
        }
        false
    }

    /// A number that no other row has.
    fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn candidates(&self, filling: &Filling, column: &Column, marks: &Marks, tenant: Tenant, n: u32) -> Vec<String> {
        let none = Vec::new();
        let hints = filling.hints.get(&column.number).unwrap_or(&none);
        self.types.candidates(column, hints, marks, tenant, n)
    }

    /// What was planted in the table for the tenant.
    pub(crate) fn row_of(&self, table: Oid, tenant: Tenant) -> Option<&Values> {
        self.rows.get(&(table, tenant))
    }

    /// How many rows of the tenant's were planted that now stand in one of these tables.
    pub(crate) fn rows_in(&self, tables: &[Oid], tenant: Tenant) -> usize {
        self.places.iter().filter(|((_, whose), place)| *whose == tenant && tables.contains(place)).count()
    }

    /// Another row of the tenant's, with values that the table's constraints accept.
    pub(crate) fn fresh(&self, table: Oid, marks: &Marks, tenant: Tenant) -> Option<Values> {
        self.rows.get(&(table, tenant))?;
        self.row(table, marks, tenant, self.number())
    }

    /// The literals that stand for the tenant's own: arguments for functions.
    pub(crate) fn values_of(&self, tenant: Tenant) -> impl Iterator<Item = (&Column, &str)> {
        self.order.iter().filter_map(move |oid| Some((self.fillings.get(oid)?, self.rows.get(&(*oid, tenant))?))).flat_map(
            |(filling, values)| {
                filling.columns.iter().filter_map(|(column, _)| Some((column, values.get(&column.number)?.as_str())))
            },
        )
    }

    /// Tables that could not be filled, in words.
    pub(crate) fn unfilled_names(&self, facts: &Facts) -> BTreeMap<String, String> {
        let named = |(oid, reason): (&Oid, &String)| {
            facts.relation(*oid).map(|relation| (readable_in(&relation.schema, &relation.name), reason.clone()))
        };
        self.unfilled.iter().filter_map(named).collect()
    }
}

/// Schemas whose tables are nobody's business here.
pub(crate) fn is_systems(schema: &str) -> bool {
    matches!(schema, "pg_catalog" | "information_schema" | "guardian")
}
