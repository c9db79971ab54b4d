//! The data plane: the SQL gateway.
//!
//! It runs on a snapshot of tenants, tiers and logins that somebody else hands in ([`Directory`]), and never asks the
//! control plane during a request. What it lacks, on purpose: any way to change a tenant, and a SQL parser: the tenant context
//! is PostgreSQL's to enforce.

pub mod directory;
pub mod identity;
pub mod sql;

pub use directory::{Directory, View};
