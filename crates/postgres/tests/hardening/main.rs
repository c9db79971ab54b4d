//! Hardening on real PostgreSQL: what an application's SQL can do before, and cannot do after.

mod application;
mod forge;
mod hazards;
mod helpdesk;
mod show;
