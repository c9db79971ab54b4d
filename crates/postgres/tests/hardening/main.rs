//! Hardening on real PostgreSQL: what an application's SQL can do before, and cannot do after.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod adoption;
mod application;
mod apply;
mod documentation;
mod door;
mod drift;
mod eject;
mod fastpath;
mod forge;
mod hazards;
mod helpdesk;
mod keys;
mod mechanisms;
mod place;
mod refusals;
mod stages;
mod tenants_table;
