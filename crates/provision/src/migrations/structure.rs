//! What the tables of a place look like, as one fingerprint a table: two places whose tables have the same are alike.

use std::collections::BTreeMap;

use guardian_postgres::quote::ident;
use sqlx::{Connection as _, PgConnection};

use crate::error::{ProvisionError, execute, failed};

/// Columns with type, nullability and default, constraints, indexes, triggers. The tenant column's default is each tenant's own.
/// `$1` schema, `$2` tenant column. The search path leaves the schema's own name out of every text.
const FINGERPRINTS: &str = "\
    WITH place AS ( \
      SELECT c.oid, c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
      WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
    ), line AS ( \
      SELECT a.attrelid AS oid, pg_catalog.format('column %s %s %s %s', a.attname, \
          pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull, \
          CASE WHEN a.attname <> $2 THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END) AS text \
      FROM place JOIN pg_catalog.pg_attribute AS a ON a.attrelid = place.oid AND a.attnum > 0 AND NOT a.attisdropped \
      LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
      UNION ALL \
      SELECT k.conrelid, 'constraint ' || k.conname || ' ' || pg_catalog.pg_get_constraintdef(k.oid, true) \
      FROM place JOIN pg_catalog.pg_constraint AS k ON k.conrelid = place.oid AND k.contype <> 'n' \
      UNION ALL \
      SELECT i.indrelid, 'index ' || pg_catalog.pg_get_indexdef(i.indexrelid, 0, true) || ' ' || i.indisvalid \
      FROM place JOIN pg_catalog.pg_index AS i ON i.indrelid = place.oid \
      UNION ALL \
      SELECT t.tgrelid, 'trigger ' || t.tgname || ' ' || t.tgenabled::text \
      FROM place JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = place.oid AND NOT t.tgisinternal \
      UNION ALL \
      SELECT place.oid, 'view ' || pg_catalog.pg_get_viewdef(place.oid, true) \
      FROM place JOIN pg_catalog.pg_rewrite AS r ON r.ev_class = place.oid AND r.rulename = '_RETURN' \
    ) \
    SELECT place.relname::text, pg_catalog.md5(pg_catalog.string_agg(line.text, E'\\n' ORDER BY line.text COLLATE \"C\")) \
    FROM place LEFT JOIN line ON line.oid = place.oid GROUP BY place.relname";

/// The place's tables and views, each with its fingerprint.
pub async fn fingerprints(
    connection: &mut PgConnection,
    schema: &str,
    tenant_column: &str,
) -> Result<BTreeMap<String, Option<String>>, ProvisionError> {
    let mut transaction = connection.begin().await.map_err(failed("begin a look at", schema))?;
    let path = format!("SET LOCAL search_path = {}", ident(schema));
    execute(&mut transaction, "set the path for", schema, path).await?;
    let rows: Vec<(String, Option<String>)> = sqlx::query_as(FINGERPRINTS)
        .bind(schema)
        .bind(tenant_column)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed("look at the tables of", schema))?;
    transaction.rollback().await.map_err(failed("end a look at", schema))?;
    Ok(rows.into_iter().collect())
}
