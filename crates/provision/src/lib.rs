//! Places for tenants on users' PostgreSQL: roles, schemas, databases, rows, and the application's migrations in each.
//!
//! Every function means *ensure*: it observes, compares and acts, so that calling it twice is harmless; what removes
//! something treats absence as success. There is no order, no retry and no record here: that is the business of
//! `lifecycle`. What a role may do inside a place is decided by the hardening in `guardian-postgres`.

pub mod database;
pub mod door;
pub mod error;
pub mod lock;
pub mod migrations;
pub mod migrator;
pub mod role;
pub mod rows;
pub mod schema;
mod session_role;
pub mod ticket;
pub mod warm;

pub use error::ProvisionError;
pub use migrations::Migrations;
pub use warm::Warm;

/// The database on every cluster from which roles and databases are made: it is there from `initdb` on.
pub const MAINTENANCE_DATABASE: &str = "postgres";
