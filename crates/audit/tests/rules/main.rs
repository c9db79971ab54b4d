//! Each rule on real PostgreSQL: provoke → exactly one finding, on the right object → run our remedy → none; and near misses
//! that must stay silent. The cases are in `cases/`, the machinery in `bench.rs`.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod bench;
mod cases;
mod meta;
mod tenancy;
mod truth;
mod versions;
