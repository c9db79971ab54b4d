//! Attacks on real PostgreSQL: on a flawed schema each kind leaks, on the sound one everything is proven isolated, and what
//! cannot be shown is not called green.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod bench;
mod flaws;
mod helpdesk;
mod in_place;
mod limits;
mod sound;
