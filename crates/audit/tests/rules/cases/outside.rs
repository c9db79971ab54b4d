//! 305 and 306: what connects to elsewhere.

use crate::bench::{Case, NearMiss};

pub(crate) const CASES: &[Case] = &[
    Case::new(
        "GRD-PG-305",
        "of its own, with a password",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER \"Ware house\" FOREIGN DATA WRAPPER postgres_fdw; \
         CREATE USER MAPPING FOR {app} SERVER \"Ware house\" OPTIONS (user 'reporting', password 'x'); \
         GRANT USAGE ON FOREIGN SERVER \"Ware house\" TO {app}",
        "\"Ware house\"",
    ),
    Case::new(
        "GRD-PG-305",
        "everybody's",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw; \
         CREATE USER MAPPING FOR PUBLIC SERVER there; GRANT USAGE ON FOREIGN SERVER there TO PUBLIC",
        "there",
    ),
    Case::new(
        "GRD-PG-306",
        "dblink",
        "CREATE EXTENSION dblink SCHEMA guard; GRANT EXECUTE ON FUNCTION guard.dblink(text), guard.dblink_connect(text) TO PUBLIC; \
         GRANT EXECUTE ON FUNCTION guard.dblink_exec(text) TO {app} WITH GRANT OPTION",
        "dblink",
    ),
];

pub(crate) const NEAR_MISSES: &[NearMiss] = &[
    NearMiss::new(
        "GRD-PG-305",
        "without USAGE",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw; \
         CREATE USER MAPPING FOR {app} SERVER there OPTIONS (password 'x')",
    ),
    NearMiss::new(
        "GRD-PG-305",
        "of another role",
        "CREATE EXTENSION postgres_fdw; CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw; \
         CREATE USER MAPPING FOR {staff} SERVER there OPTIONS (password 'x'); GRANT USAGE ON FOREIGN SERVER there TO {app}",
    ),
    NearMiss::new(
        "GRD-PG-306",
        "in a schema out of reach",
        "CREATE SCHEMA tools; CREATE EXTENSION dblink SCHEMA tools; GRANT EXECUTE ON FUNCTION tools.dblink(text) TO PUBLIC",
    ),
];

#[test]
fn outside() {
    crate::bench::run_all(CASES, NEAR_MISSES);
}
