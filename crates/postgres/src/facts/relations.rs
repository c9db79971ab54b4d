//! The relations of the application's schema, with partitions and children wherever they are, and of Guardian's own schema.

use sqlx::PgConnection;

use super::{
    RelationFacts,
    collect::{CollectError, Scope, rows},
    server::grants,
};

/// `$1` roles, `$2` schema, `$3` tenant column. What belongs to a schema depends on it, by an index; `pg_class` has none for that.
const RELATIONS: &str = "
WITH RECURSIVE place AS (
  SELECT c.oid FROM pg_namespace AS n JOIN pg_depend AS d
      ON d.refclassid = 'pg_namespace'::regclass AND d.refobjid = n.oid AND d.classid = 'pg_class'::regclass
    JOIN pg_class AS c ON c.oid = d.objid AND c.relnamespace = n.oid
  WHERE n.nspname IN ($2, 'guardian') AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  UNION
  SELECT i.inhrelid FROM pg_inherits AS i JOIN place ON place.oid = i.inhparent
    JOIN pg_class AS c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p', 'f')
), size AS (
  SELECT place.oid, (SELECT coalesce(sum(leaf.relpages), 0) FROM pg_partition_tree(place.oid) AS t
                       JOIN pg_class AS leaf ON leaf.oid = t.relid WHERE t.isleaf) AS pages
  FROM place JOIN pg_class AS c ON c.oid = place.oid WHERE c.relkind = 'p'
)
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name,
  CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized_view'
                 WHEN 'f' THEN 'foreign_table' ELSE 'sequence' END AS kind,
  pg_get_userbyid(c.relowner) AS owner,
  EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    AS extension,
  c.relispartition AS partition,
  (SELECT coalesce(json_agg(i.inhparent::int8 ORDER BY i.inhseqno), '[]') FROM pg_inherits AS i WHERE i.inhrelid = c.oid)
    AS parents,
  c.relrowsecurity AS rls, c.relforcerowsecurity AS rls_forced,
  coalesce((SELECT option_value::bool FROM pg_options_to_table(c.reloptions) WHERE option_name = 'security_invoker'), false)
    AS security_invoker,
  CASE WHEN c.relkind = 'v' THEN pg_relation_is_updatable(c.oid, false) ELSE 0 END AS updatable,
  coalesce(serial.deptype = 'i', false) AS identity, serial.refobjid::int8 AS owned_by,
  coalesce(size.pages, c.relpages) AS pages,
  GRANTS,
  (SELECT coalesce(json_agg(DISTINCT r.rolname), '[]') FROM aclexplode(c.relacl) AS acl JOIN pg_roles AS r ON r.oid = acl.grantee
   WHERE acl.grantee <> c.relowner AND NOT r.rolname = ANY ($1::text[])) AS others,
  (SELECT coalesce(json_agg(DISTINCT r.rolname), '[]') FROM pg_attribute AS x, aclexplode(x.attacl) AS acl
     LEFT JOIN pg_roles AS r ON r.oid = acl.grantee
   WHERE x.attrelid = c.oid AND x.attnum > 0 AND NOT x.attisdropped AND x.attacl IS NOT NULL
     AND (acl.grantee = 0 OR r.rolname = ANY ($1::text[]))) AS column_grantees,
  CASE WHEN a.attname IS NOT NULL AND c.relkind IN ('r', 'p') THEN json_build_object(
    'written_type', format_type(a.atttypid, a.atttypmod),
    'base_type', coalesce((SELECT format_type(nullif(t.typbasetype, 0), NULL) FROM pg_type AS t WHERE t.oid = a.atttypid),
                          format_type(a.atttypid, NULL)),
    'not_null', a.attnotnull, 'generated', a.attgenerated <> '' OR a.attidentity <> '',
    'default', CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
    'nulls', 0, 'unfit', 0,
    'largest_share', (SELECT (s.most_common_freqs)[1] FROM pg_stats AS s
                      WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = a.attname
                      ORDER BY s.inherited = (c.relkind = 'p') DESC LIMIT 1)) END AS tenant,
  (SELECT coalesce(json_agg(json_build_object('name', k.conname, 'validated', k.convalidated, 'columns',
       (SELECT coalesce(json_agg(r.attname ORDER BY r.attname), '[]') FROM pg_attribute AS r
        WHERE r.attrelid = k.conrelid AND r.attnum = ANY (k.conkey))) ORDER BY k.conname), '[]')
   FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conname LIKE 'guardian\\_%') AS checks
FROM place JOIN pg_class AS c ON c.oid = place.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
  LEFT JOIN size ON size.oid = c.oid
  LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = $3 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
  LEFT JOIN pg_depend AS serial ON c.relkind = 'S' AND serial.classid = 'pg_class'::regclass AND serial.objid = c.oid
    AND serial.refclassid = 'pg_class'::regclass AND serial.deptype IN ('a', 'i')
ORDER BY n.nspname, c.relname";

pub(super) async fn relations(connection: &mut PgConnection, scope: &Scope<'_>) -> Result<Vec<RelationFacts>, CollectError> {
    // The default access list differs by kind only for sequences, and in what the owner holds, which is left out anyway.
    let sql = RELATIONS.replace("GRANTS", &grants("c.relacl", 'r', "c.relowner"));
    let declaration = scope.declaration;
    rows(connection, "the relations", &sql, |query| {
        query.bind(&scope.roles).bind(&declaration.schema).bind(&declaration.tenant_column)
    })
    .await
}
