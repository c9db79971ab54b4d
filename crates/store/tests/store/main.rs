//! The store against a real PostgreSQL, each test in a database of its own.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod access;
mod adoption;
mod audit_log;
mod feed;
mod fixture;
mod http;
mod idempotency;
mod imports;
mod lists;
mod logins;
mod observations;
mod opening;
mod operations;
mod rotation;
mod runs;
mod tiers;
