//! Comments on objects that grant an exception from a rule.

use serde::{Deserialize, Serialize};

use super::Oid;

/// A comment in which `guardian:allow` stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Comment {
    /// The catalog that the object is in: `pg_class`, `pg_policy` …
    pub catalog: String,
    /// The object.
    pub oid: Oid,
    /// The column, by its number; 0: the object itself.
    pub column: i32,
    /// The comment; what is longer than any exception needs is cut off.
    pub text: String,
}

pub(super) const COMMENTS: &str = "SELECT c.relname AS catalog, d.objoid::int8 AS oid, d.column, left(d.description, 10000) AS text \
    FROM (SELECT classoid, objoid, objsubid AS column, description FROM pg_description \
      UNION ALL SELECT classoid, objoid, 0, description FROM pg_shdescription) AS d JOIN pg_class AS c ON c.oid = d.classoid \
    WHERE strpos(d.description, 'guardian:allow') > 0 ORDER BY 1, 2, 3";
