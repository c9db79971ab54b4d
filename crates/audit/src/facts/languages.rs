//! Procedural languages.

use serde::{Deserialize, Serialize};

use super::{Acl, Oid};

/// A language of functions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Language {
    /// Its name: `plpgsql`, `plperlu`, `c` …
    pub name: String,
    /// Whoever has USAGE may make functions in it; otherwise only a superuser.
    pub trusted: bool,
    /// Its owner.
    pub owner: Oid,
    /// Its privileges; PUBLIC's built-in USAGE is written out.
    pub acl: Acl,
}

pub(super) fn languages() -> String {
    format!(
        "SELECT l.lanname AS name, l.lanpltrusted AS trusted, l.lanowner::int8 AS owner, {} AS acl \
         FROM pg_language AS l ORDER BY l.oid",
        super::collect::acl_or_default("l.lanacl", "l", "l.lanowner")
    )
}
