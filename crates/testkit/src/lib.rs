//! Throwaway PostgreSQL for tests: real servers, nothing to set up, nothing left behind, also after a SIGKILL.
//!
//! Everything here panics with a reason instead of returning errors: a test has no better use for one. Not for product code.

mod database;
mod hold;
mod installation;
mod server;

use std::{
    hash::{BuildHasher as _, RandomState},
    sync::atomic::{AtomicU32, Ordering},
};

pub use database::TestDatabase;
pub use installation::{Installation, Up};
pub use server::Server;

/// The name with a random ending, at most 30 of `a-z`, `0-9` and `_`: for applications and roles, which all tests of one
/// server share.
pub fn unique(hint: &str) -> String {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let random = RandomState::new().hash_one((std::process::id(), CALLS.fetch_add(1, Ordering::Relaxed)));
    let sound = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let hint: String = hint.chars().map(sound).take(19).collect();
    let start = if hint.starts_with(|c: char| c.is_ascii_lowercase()) { "" } else { "t" };
    format!("{start}{hint}_{:09x}", random & 0xf_ffff_ffff)
}

/// Ends the test with what was tried and why it failed.
fn or_panic<T>(tried: &str, result: anyhow::Result<T>) -> T {
    result.unwrap_or_else(|error| panic!("testkit: {tried}: {error:#}"))
}
