//! 2xx: roles and privileges.

use crate::bench::{Case, NearMiss};

pub(crate) const CASES: &[Case] = &[
    Case::new("GRD-PG-201", "by itself", "ALTER ROLE {app} BYPASSRLS", "{app}"),
    Case::new("GRD-PG-201", "superuser", "ALTER ROLE {app} SUPERUSER", "{app}"),
    Case::new(
        "GRD-PG-201",
        "by SET ROLE without inheritance",
        "ALTER ROLE {staff} BYPASSRLS; ALTER ROLE {app} NOINHERIT; GRANT {staff} TO {app}",
        "{staff}",
    ),
];

pub(crate) const NEAR_MISSES: &[NearMiss] =
    &[NearMiss::new("GRD-PG-201", "no member of it", "ALTER ROLE {staff} BYPASSRLS; GRANT {app} TO {staff}")];

#[test]
fn roles() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
