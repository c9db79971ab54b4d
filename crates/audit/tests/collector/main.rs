//! The collector where it may not, or cannot, read everything: what is missing is said, and nothing passes for green.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod comments;
mod place;
mod pooler;
mod rights;
mod standby;
mod versions;
