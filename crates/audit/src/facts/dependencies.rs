//! Who refers to whom, as `pg_depend` has it: no text is parsed.

use serde::{Deserialize, Serialize};

use super::Oid;

/// The catalog that an object is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the words say it")]
pub enum Catalog {
    Policy,
    /// A view or rewrite rule; the dependent is the relation that it belongs to.
    View,
    Relation,
    Function,
    Constraint,
    Trigger,
    Default,
    Type,
    Operator,
}

/// One reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependency {
    /// What kind of thing refers.
    pub from: Catalog,
    /// Which.
    pub dependent: Oid,
    /// What kind of thing it refers to.
    pub to: Catalog,
    /// Which.
    pub referenced: Oid,
    /// The column, when it is one; 0: the whole.
    pub column: i32,
}

/// References of policies, views, rules, SQL-standard function bodies, defaults, triggers and operators to relations and functions.
/// PostgreSQL records no dependency on what was there when the cluster was made, so system functions are not in it.
pub(super) const DEPENDENCIES: &str = "SELECT * FROM (SELECT DISTINCT \
      CASE d.classid WHEN 'pg_policy'::regclass THEN 'policy' WHEN 'pg_rewrite'::regclass THEN 'view' \
        WHEN 'pg_proc'::regclass THEN 'function' WHEN 'pg_attrdef'::regclass THEN 'default' \
        WHEN 'pg_constraint'::regclass THEN 'constraint' WHEN 'pg_trigger'::regclass THEN 'trigger' \
        WHEN 'pg_operator'::regclass THEN 'operator' END AS from, \
      coalesce(r.ev_class, a.adrelid, d.objid)::int8 AS dependent, \
      CASE d.refclassid WHEN 'pg_class'::regclass THEN 'relation' WHEN 'pg_proc'::regclass THEN 'function' \
        WHEN 'pg_operator'::regclass THEN 'operator' END AS to, \
      d.refobjid::int8 AS referenced, d.refobjsubid AS column \
    FROM pg_depend AS d LEFT JOIN pg_rewrite AS r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid \
      LEFT JOIN pg_attrdef AS a ON d.classid = 'pg_attrdef'::regclass AND a.oid = d.objid \
    WHERE d.deptype = 'n' AND d.refclassid IN ('pg_class'::regclass, 'pg_proc'::regclass, 'pg_operator'::regclass) \
      AND d.classid IN ('pg_policy'::regclass, 'pg_rewrite'::regclass, 'pg_proc'::regclass, 'pg_attrdef'::regclass, \
        'pg_trigger'::regclass, 'pg_operator'::regclass) AND d.objid >= 16384) AS f WHERE f.from <> 'view' OR f.dependent <> f.referenced \
    ORDER BY 1, 2, 3, 4, 5";
