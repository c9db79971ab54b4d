//! Rows that refer to another tenant's: while they do, the foreign key that would carry the tenant cannot be made.

use sqlx::{AssertSqlSafe, PgConnection};

use crate::{
    facts::Facts,
    harden::{Declaration, ForeignKeyMove, moves},
};

/// Rows of one table that refer to another tenant's rows by one foreign key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strays {
    /// The table, as reports name it.
    pub table: String,
    /// The foreign key.
    pub foreign_key: String,
    /// What it refers to.
    pub referenced: String,
    /// How many.
    pub rows: i64,
    /// Where one of them is.
    pub example: String,
}

impl std::fmt::Display for Strays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { table, foreign_key, referenced, rows, example } = self;
        let verb = if *rows == 1 { "row of {} refers" } else { "rows of {} refer" }.replace("{}", table);
        write!(
            f,
            "{rows} {verb} to another tenant's in {referenced} by {foreign_key}, for example the one at ctid {example}"
        )
    }
}

/// Finds them, foreign key by foreign key. Tenant columns have to be full; it reads both tables and locks nothing.
///
/// # Errors
///
/// A query failed.
pub async fn strays(
    connection: &mut PgConnection,
    facts: &Facts,
    declaration: &Declaration,
) -> Result<Vec<Strays>, sqlx::Error> {
    let mut found = Vec::new();
    for ForeignKeyMove { table, foreign_key, referenced, strays } in moves(facts, declaration) {
        let (rows, example): (i64, Option<String>) =
            sqlx::query_as(AssertSqlSafe(strays)).fetch_one(&mut *connection).await?;
        if let Some(example) = example {
            found.push(Strays { table, foreign_key, referenced, rows, example });
        }
    }
    Ok(found)
}
