//! What is proposed for realistic schemas, and that the proposal works: its migration gives every row the right tenant on real
//! PostgreSQL, and hardening goes through with the configuration that it wrote.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod adopt;
mod applied;
mod classes;
mod guide;
mod large;
mod roots;
mod schemas;
