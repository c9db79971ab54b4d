//! The auditor: whether an application's role can reach rows that belong to another tenant, on any PostgreSQL.
//!
//! [`collect`] reads the catalogs into [`Facts`] (the only IO here), [`Reach`] says what the application's roles can get at
//! and by which path, [`Tenancy`] which tables are the tenants', each [`Rule`] of [`rules::ALL`] judges purely, and
//! [`audit()`] makes a [`Report`] of their [`Finding`]s. A fact that could not be read stops the rules that need it, and the
//! report says so: it is never silently green.
//!
//! What one application's hardening decides on is `guardian_postgres::facts`, not this: here every schema counts.

pub mod attacks;
pub mod audit;
pub mod baseline;
pub mod exceptions;
pub mod facts;
pub mod finding;
pub mod propose;
pub mod reach;
pub mod report;
pub mod rule;
pub mod rule_docs;
pub mod rules;
pub mod tenancy;

pub use audit::{AuditError, Options, Report, audit, exceptions_of};
pub use facts::{CollectError, Facts, Oid, collect, collect_for};
pub use finding::{Finding, Hit, Object, ObjectKind, Remedy};
pub use reach::{Path, Reach};
pub use rule::{Audit, Protects, Rule, Severity};
pub use tenancy::Tenancy;
