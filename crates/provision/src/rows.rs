//! Removing every row of a row tenant from the shared tables: in bounded batches, children first.
//!
//! Triggers fire, for they may keep derived values true. What it does not reach: tables that the user declared to belong to
//! no tenant, foreign tables, and large objects.

use std::collections::BTreeSet;

use guardian_model::TenantKey;
use guardian_postgres::quote::ident;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use crate::error::{ProvisionError, failed};

/// Rows of one DELETE: short enough to let others in between, long enough to be worth a round trip.
const BATCH_ROWS: usize = 5_000;
/// How often all tables are gone through when triggers write new rows meanwhile.
const ROUNDS_MAX: usize = 3;

/// The shared tables, as far as deletion is concerned.
#[derive(Debug, Clone)]
pub struct SharedTables<'a> {
    /// The schema that holds them.
    pub schema: &'a str,
    /// The column that names the tenant.
    pub column: &'a str,
    /// Tables that belong to no tenant although they may have such a column.
    pub global: &'a [String],
}

/// Deletes the tenant's rows and says how many went. Ends without any left, or with an error.
pub async fn remove(
    connection: &mut PgConnection,
    shared: &SharedTables<'_>,
    key: &TenantKey,
) -> Result<u64, ProvisionError> {
    prepare(connection, key).await?;
    let tables = Tables::collect(connection, shared).await?;
    let sweep = Sweep { column: ident(shared.column), key };
    let mut removed = 0;
    let mut left = Vec::new();
    for _ in 0..ROUNDS_MAX {
        for group in order(&tables) {
            removed += sweep.group(connection, &tables, &group).await?;
        }
        sweep.refresh(connection, &tables).await?;
        left = sweep.remaining(connection, &tables).await?;
        if left.is_empty() {
            return Ok(removed);
        }
    }
    Err(ProvisionError::RowsRemain { key: key.to_string(), tables: left.join(", "), rounds: ROUNDS_MAX })
}

/// The shared tables and materialised views that still hold rows of the tenant.
pub async fn remaining(
    connection: &mut PgConnection,
    shared: &SharedTables<'_>,
    key: &TenantKey,
) -> Result<Vec<String>, ProvisionError> {
    prepare(connection, key).await?;
    let tables = Tables::collect(connection, shared).await?;
    Sweep { column: ident(shared.column), key }.remaining(connection, &tables).await
}

async fn prepare(connection: &mut PgConnection, key: &TenantKey) -> Result<(), ProvisionError> {
    // An administrator under row-level security would see no rows and take that for none being left; so it is an error.
    sqlx::query("SET row_security = off")
        .execute(&mut *connection)
        .await
        .map_err(failed("see past the policies as", "the administrator"))?;
    // Triggers may insert with the column's default, which is the tenant context. Where the administrator may not set the
    // register, such a trigger's own error says what is missing.
    let register = sqlx::query("SELECT pg_catalog.set_config('backtrace_functions', $1, false)")
        .bind(key.to_register())
        .execute(connection)
        .await;
    match register {
        Err(error) if error.as_database_error().is_none() => Err(failed("enter tenant", key.to_string())(error)),
        _ => Ok(()),
    }
}

/// An ordinary table, or a partition that holds rows.
struct Table {
    /// Qualified and quoted.
    name: String,
    /// The table it is a partition of, or itself.
    root: i64,
}

/// A foreign key between two shared tables.
struct ForeignKey {
    child: i64,
    parent: i64,
    child_name: String,
    /// Joins the child `c` to the parent `t`.
    condition: String,
}

struct Tables {
    all: Vec<Table>,
    foreign_keys: Vec<ForeignKey>,
    /// Materialised views with the tenant column, and whether they can be refreshed beside their readers.
    views: Vec<(String, bool)>,
}

impl Tables {
    async fn collect(connection: &mut PgConnection, shared: &SharedTables<'_>) -> Result<Self, ProvisionError> {
        let look = |source| failed("look for the shared tables of schema", shared.schema)(source);
        let relations = sqlx::query(
            "SELECT format('%I.%I', $1, c.relname) AS name, c.relkind = 'm' AS is_view, \
                    coalesce(pg_partition_root(c.oid)::oid, c.oid)::bigint AS root, \
                    EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique AND i.indimmediate \
                            AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL) AS has_key \
             FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $2 AND NOT a.attisdropped \
             WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relkind IN ('r', 'm') \
               AND NOT c.relname = ANY($3) \
             ORDER BY c.oid",
        )
        .bind(shared.schema)
        .bind(shared.column)
        .bind(shared.global)
        .fetch_all(&mut *connection)
        .await
        .map_err(look)?;
        let mut found = Self { all: Vec::new(), foreign_keys: Vec::new(), views: Vec::new() };
        for relation in relations {
            let name: String = relation.get("name");
            if relation.get("is_view") {
                found.views.push((name, relation.get("has_key")));
            } else {
                found.all.push(Table { name, root: relation.get("root") });
            }
        }
        let keys = sqlx::query(
            "SELECT coalesce(pg_partition_root(k.conrelid)::oid, k.conrelid)::bigint AS child, \
                    coalesce(pg_partition_root(k.confrelid)::oid, k.confrelid)::bigint AS parent, \
                    format('%I.%I', n.nspname, child.relname) AS child_name, \
                    string_agg(format('c.%I = t.%I', ca.attname, pa.attname), ' AND ' ORDER BY pair.n) AS condition \
             FROM pg_constraint k JOIN pg_class child ON child.oid = k.conrelid \
             JOIN pg_namespace n ON n.oid = child.relnamespace \
             CROSS JOIN LATERAL unnest(k.conkey, k.confkey) WITH ORDINALITY AS pair (c, p, n) \
             JOIN pg_attribute ca ON ca.attrelid = k.conrelid AND ca.attnum = pair.c \
             JOIN pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = pair.p \
             WHERE k.contype = 'f' AND k.conparentid = 0 GROUP BY k.oid, k.conrelid, k.confrelid, n.nspname, child.relname ORDER BY k.oid",
        )
        .fetch_all(connection)
        .await
        .map_err(look)?;
        let roots: BTreeSet<i64> = found.all.iter().map(|table| table.root).collect();
        found.foreign_keys = keys
            .into_iter()
            .map(|key| ForeignKey {
                child: key.get("child"),
                parent: key.get("parent"),
                child_name: key.get("child_name"),
                condition: key.get("condition"),
            })
            .filter(|key| roots.contains(&key.child) && roots.contains(&key.parent))
            .collect();
        Ok(found)
    }
}

/// Tables that are emptied together.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    roots: BTreeSet<i64>,
    /// Whether its rows may refer to one another, so that they have to go leaf by leaf.
    knotted: bool,
}

/// Children before parents. What is left when every remaining table has a child among them contains a cycle.
fn order(tables: &Tables) -> Vec<Group> {
    let mut left: BTreeSet<i64> = tables.all.iter().map(|table| table.root).collect();
    let mut groups = Vec::new();
    while !left.is_empty() {
        let has_child = |root: i64| {
            tables.foreign_keys.iter().any(|key| key.parent == root && key.child != root && left.contains(&key.child))
        };
        let free: BTreeSet<i64> = left.iter().copied().filter(|&root| !has_child(root)).collect();
        if free.is_empty() {
            groups.push(Group { roots: std::mem::take(&mut left), knotted: true });
        }
        for root in free {
            left.remove(&root);
            let knotted = tables.foreign_keys.iter().any(|key| key.parent == root && key.child == root);
            groups.push(Group { roots: BTreeSet::from([root]), knotted });
        }
    }
    groups
}

/// Deletes one tenant's rows.
struct Sweep<'a> {
    column: String,
    key: &'a TenantKey,
}

impl Sweep<'_> {
    async fn group(&self, connection: &mut PgConnection, tables: &Tables, group: &Group) -> Result<u64, ProvisionError> {
        let members: Vec<&Table> = tables.all.iter().filter(|table| group.roots.contains(&table.root)).collect();
        let mut removed = 0;
        loop {
            let mut progress = 0;
            for table in &members {
                let free = if group.knotted { free_rows(tables, group, table) } else { String::new() };
                progress += self.in_batches(connection, table, &free).await?;
            }
            removed += progress;
            if !group.knotted {
                return Ok(removed);
            }
            if progress == 0 {
                break;
            }
        }
        Ok(removed + self.at_once(connection, &members).await?)
    }

    async fn in_batches(&self, connection: &mut PgConnection, table: &Table, free: &str) -> Result<u64, ProvisionError> {
        let Table { name, .. } = table;
        let mine = self.mine("t");
        let sql = format!(
            "DELETE FROM ONLY {name} AS t WHERE {mine} AND t.ctid = ANY (ARRAY(\
                 SELECT t.ctid FROM ONLY {name} AS t WHERE {mine}{free} LIMIT {BATCH_ROWS}))"
        );
        let mut removed = 0;
        loop {
            let batch = self.run(connection, name, &sql).await?;
            if batch == 0 {
                return Ok(removed);
            }
            removed += batch;
        }
    }

    /// Rows that refer to one another in a circle go in one statement, at whose end the foreign keys are checked.
    async fn at_once(&self, connection: &mut PgConnection, members: &[&Table]) -> Result<u64, ProvisionError> {
        let names: Vec<&str> = members.iter().map(|table| table.name.as_str()).collect();
        let (deletes, counts): (Vec<_>, Vec<_>) = names
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let delete = format!("d{index} AS (DELETE FROM ONLY {name} AS t WHERE {} RETURNING 1)", self.mine("t"));
                (delete, format!("(SELECT count(*) FROM d{index})"))
            })
            .unzip();
        let sql = format!("WITH {} SELECT ({})::bigint", deletes.join(", "), counts.join(" + "));
        let removed: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .persistent(false)
            .bind(self.key.to_string())
            .fetch_one(connection)
            .await
            .map_err(failed("delete rows of", names.join(", ")))?;
        Ok(removed.unsigned_abs())
    }

    /// Materialised views keep rows whose source is gone.
    async fn refresh(&self, connection: &mut PgConnection, tables: &Tables) -> Result<(), ProvisionError> {
        for (view, has_key) in &tables.views {
            if self.has_rows(connection, view).await? {
                let beside_readers = if *has_key { "CONCURRENTLY " } else { "" };
                let sql = format!("REFRESH MATERIALIZED VIEW {beside_readers}{view}");
                crate::error::execute(connection, "refresh materialised view", view, sql).await?;
            }
        }
        Ok(())
    }

    async fn remaining(&self, connection: &mut PgConnection, tables: &Tables) -> Result<Vec<String>, ProvisionError> {
        let mut remaining = Vec::new();
        let names = tables.all.iter().map(|table| &table.name).chain(tables.views.iter().map(|(name, _)| name));
        for name in names {
            if self.has_rows(connection, name).await? {
                remaining.push(name.clone());
            }
        }
        Ok(remaining)
    }

    async fn has_rows(&self, connection: &mut PgConnection, name: &str) -> Result<bool, ProvisionError> {
        sqlx::query_scalar(AssertSqlSafe(format!("SELECT EXISTS (SELECT FROM {name} AS t WHERE {})", self.mine("t"))))
            .persistent(false)
            .bind(self.key.to_string())
            .fetch_one(connection)
            .await
            .map_err(failed("look for rows of", name))
    }

    async fn run(&self, connection: &mut PgConnection, name: &str, sql: &str) -> Result<u64, ProvisionError> {
        sqlx::query(AssertSqlSafe(sql.to_owned()))
            .bind(self.key.to_string())
            .execute(connection)
            .await
            .map(|done| done.rows_affected())
            .map_err(failed("delete rows of", name))
    }

    fn mine(&self, alias: &str) -> String {
        format!("{alias}.{} = CAST($1 AS {})", self.column, self.key.key_type().sql_type())
    }
}

/// The condition that no other row of the group refers to row `t` of the table.
fn free_rows(tables: &Tables, group: &Group, table: &Table) -> String {
    tables
        .foreign_keys
        .iter()
        .filter(|key| key.parent == table.root && group.roots.contains(&key.child))
        .map(|ForeignKey { child_name, condition, .. }| {
            format!(
                " AND NOT EXISTS (SELECT FROM {child_name} AS c WHERE {condition} \
                 AND (c.tableoid, c.ctid) IS DISTINCT FROM (t.tableoid, t.ctid))"
            )
        })
        .collect::<Vec<_>>()
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables(roots: &[i64], keys: &[(i64, i64)]) -> Tables {
        Tables {
            all: roots.iter().map(|&root| Table { name: root.to_string(), root }).collect(),
            foreign_keys: keys
                .iter()
                .map(|&(child, parent)| ForeignKey {
                    child,
                    parent,
                    child_name: child.to_string(),
                    condition: String::new(),
                })
                .collect(),
            views: Vec::new(),
        }
    }

    fn ordered(roots: &[i64], keys: &[(i64, i64)]) -> Vec<(Vec<i64>, bool)> {
        order(&tables(roots, keys)).into_iter().map(|group| (group.roots.into_iter().collect(), group.knotted)).collect()
    }

    #[test]
    fn children_go_before_parents() {
        let expected = [(vec![3], false), (vec![2], false), (vec![1], false)];
        assert_eq!(ordered(&[1, 2, 3], &[(2, 1), (3, 2), (3, 1)]), expected);
    }

    #[test]
    fn a_table_that_refers_to_itself_is_knotted() {
        assert_eq!(ordered(&[1, 2], &[(1, 1), (2, 1)]), [(vec![2], false), (vec![1], true)]);
    }

    #[test]
    fn a_cycle_is_emptied_together() {
        assert_eq!(ordered(&[1, 2, 3], &[(1, 2), (2, 1), (3, 1)]), [(vec![3], false), (vec![1, 2], true)]);
    }
}
