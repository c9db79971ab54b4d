//! All knowledge of users' PostgreSQL.
//!
//! [`facts`] collects what is true of a database, [`harden`] decides (purely) what to do about it, [`apply`] does it, [`eject`] takes it
//! back, and [`registry`] lets tenants in afterwards. [`connect`] reaches clusters, [`local`] runs one. Guardian's own database is the
//! business of `store`, and places for tenants that of `provision`.

pub mod activity;
pub mod adopt;
pub mod apply;
pub mod binaries;
pub mod connect;
pub mod eject;
pub mod facts;
pub mod harden;
pub mod local;
pub mod quote;
pub mod register;
pub mod registry;
mod run_as;
pub mod scram;

pub use apply::{ApplyError, StatementEvent, apply};
pub use facts::{CollectError, Facts, PlaceFacts, collect, collect_place};
pub use harden::{Declaration, Hardening, Statement, grant_place, plan};
pub use register::Mechanism;
