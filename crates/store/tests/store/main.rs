//! The store against a real PostgreSQL, each test in a database of its own.

mod access;
mod audit_log;
mod fixture;
mod idempotency;
mod lists;
mod opening;
mod operations;
mod runs;
mod tiers;
mod scratch;
